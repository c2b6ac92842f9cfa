"""Arguments that several commands of `lightly-aug` have, and their checks."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from lightly_aug.optional import extra

with extra("train"):
    import typer

if TYPE_CHECKING:
    import torch

__all__ = [
    "BatchSize",
    "Decode",
    "Device",
    "Folder",
    "MaxPixels",
    "OnUnreadable",
    "Overwrite",
    "Run",
    "Seed",
    "Size",
    "Workers",
    "check_folder",
    "complete",
    "find_decode",
    "find_device",
    "find_images",
]

Folder = Annotated[Path, typer.Argument(help="Folder of images; subfolders are searched too.")]
Run = Annotated[
    Path, typer.Argument(help="Folder of a run of `lightly-aug train`, or a file of weights of `save_backbone`.")
]
Size = Annotated[int, typer.Option(min=8, help="Side of the views in pixels.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of everything random; the same seed gives the same views.")]
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
OnUnreadable = Annotated[
    Literal["raise", "skip"],
    typer.Option(
        "--on-error",
        help="For images that cannot be read: raise ends the command, skip leaves them out, and names and counts them, "
        "for which it reads all images once before.",
    ),
]
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite", help="Replace results of another network or other images, and a training with other settings."
    ),
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


def find_device(name: str) -> "torch.device":
    """Return the device of this name, after a test that it works; by default an accelerator if there is one.

    Args:
        name: The option `--device`.

    Raises:
        ValueError: This machine has no such device.
    """
    import torch

    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    name = name or str(accelerator or "cpu")
    try:
        torch.empty(0, device=name)
    except (AssertionError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"--device must be a device of this machine, got {name!r}: {reason}") from None
    return torch.device(name)


def check_folder(folder: Path) -> None:
    """Raise NotADirectoryError if there is no such folder."""
    if folder.is_file():
        raise NotADirectoryError(f"{folder} is a file: give the folder that it is in")
    if not folder.is_dir():
        raise NotADirectoryError(f"no folder {folder}")


def find_images(folder: Path) -> list[Path]:
    """Return the image files of a folder.

    Args:
        folder: The folder.

    Raises:
        NotADirectoryError: There is no such folder.
        ValueError: It holds no images.
    """
    from lightly_aug.images import image_files

    check_folder(folder)
    files = image_files(folder)
    if not files:
        raise ValueError(f"{folder} must hold images (jpg, png, tif, webp, bmp, gif), got none")
    return files
