"""Arguments that several commands of `lightly-aug` have, and their checks."""

from collections.abc import Callable, Iterable
from pathlib import Path
from tempfile import TemporaryFile
from typing import Annotated

import torch

from lightly_aug.images import image_files
from lightly_aug.optional import extra

with extra("train"):
    import typer

__all__ = [
    "BatchSize",
    "Decode",
    "Device",
    "Folder",
    "MaxPixels",
    "OutFolder",
    "Seed",
    "Size",
    "Workers",
    "complete",
    "find_decode",
    "find_device",
    "find_images",
    "prepare_folder",
    "prepare_out",
]

Folder = Annotated[Path, typer.Argument(help="Folder of images; subfolders are searched too.")]
Size = Annotated[int, typer.Option(min=8, help="Side of the views in pixels.")]
Seed = Annotated[int, typer.Option(help="Seed of everything random; the same seed gives the same views.")]
OutFolder = Annotated[Path, typer.Option("--out", help="Folder to write to.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Images in a batch.")]
Workers = Annotated[int, typer.Option(min=0, help="Processes that load images.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, mps …; by default an accelerator if there is one.")]
Decode = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Shrink large photographs by a whole factor while reading them, to at least this many pixels on the "
        "shorter side; by default twice the side of the views. 0 reads all pixels.",
    ),
]
MaxPixels = Annotated[
    int,
    typer.Option(min=0, help="Refuse images with more pixels, as they can fill the memory. 0 sets no bound."),
]


def complete(choices: Iterable[str]) -> Callable[[str], list[str]]:
    """Return the function that completes an option in a shell.

    Args:
        choices: What the option may be.

    Example:
        >>> complete(["moco", "moco-v3", "dino"])("mo")
        ['moco', 'moco-v3']
    """

    def find(incomplete: str) -> list[str]:
        return [choice for choice in choices if choice.startswith(incomplete)]

    return find


def find_decode(decode: int | None, size: int) -> int | None:
    """Return `decode` for a collate function: twice the size by default, None for 0.

    Args:
        decode: The option `--decode`.
        size: Side of the views in pixels.
    """
    return 2 * size if decode is None else decode or None


def find_device(name: str) -> torch.device:
    """Return the device of this name, after a test that it works; by default an accelerator if there is one.

    Args:
        name: The option `--device`.

    Raises:
        ValueError: This machine has no such device.
    """
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    name = name or str(accelerator or "cpu")
    try:
        torch.empty(0, device=name)
    except (AssertionError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"lightly-aug: --device must be a device of this machine, got {name!r}: {reason}") from None
    return torch.device(name)


def find_images(folder: Path) -> list[Path]:
    """Return the image files of a folder.

    Args:
        folder: The folder.

    Raises:
        NotADirectoryError: There is no such folder.
        ValueError: It holds no images.
    """
    files = image_files(folder)
    if not files:
        raise ValueError(f"lightly-aug: {folder} must hold images (jpg, png, tif, webp, bmp, gif), got none")
    return files


def prepare_out(command: str, out: Path) -> None:
    """Make the folder of an output file, and write to it before the work begins, so that no work is lost.

    Args:
        command: The command, for the message.
        out: The file.

    Raises:
        ValueError: The file cannot be written.
    """
    try:
        if out.is_dir():
            raise IsADirectoryError(f"{out} is a folder")
        out.parent.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=out.parent).close()
    except OSError as error:
        reason = error.strerror or str(error)
        raise ValueError(
            f"lightly-aug {command}: --out must be a file that can be written, got {out}: {reason}"
        ) from None


def prepare_folder(command: str, run: Path, out: Path | None) -> Path:
    """Make the folder that a command writes to, and write to it before the work begins.

    Args:
        command: The command, for the message, and for the name of the folder.
        run: Folder of the run that is measured, or a file of weights.
        out: The option `--out`; by default a folder in that of the run, or beside the file.

    Raises:
        ValueError: The folder cannot be written to.
    """
    folder = (run if run.is_dir() else run.parent) / command if out is None else out
    prepare_out(command, folder / "metrics.json")
    return folder
