"""Trained backbones on the command line: loading them, naming them, and the features of images by them."""

import hashlib
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lightly_aug.cli.arguments import find_decode, find_device
from lightly_aug.status import count_of, show_steps

if TYPE_CHECKING:
    from torch import Tensor

    from lightly_aug.weights import Backbone

__all__ = ["embed_files", "hash_weights", "load_run", "name_run", "take_readable"]


def load_run(run: Path, decode: int | None, device: str, max_pixels: int) -> "Backbone":
    """Load the backbone of a run, with a collate function that renders on the device that embeds.

    Args:
        run: The argument `Run`.
        decode: The option `--decode`.
        device: The option `--device`.
        max_pixels: The option `--max-pixels`.
    """
    from lightly_aug.options import Options
    from lightly_aug.weights import Backbone, read_metadata

    size = read_metadata(run)["size"]  # which takes files only, so that a wrong name asks no hub
    # render="auto" would render late on any machine with an accelerator, even if --device is cpu
    render: Literal["worker", "late"] = "worker" if find_device(device).type == "cpu" else "late"
    options = Options(decode=find_decode(decode, size), max_pixels=max_pixels or None, render=render)
    return Backbone.from_pretrained(run, **options)


def hash_weights(run: Path) -> str:
    """Return the SHA-256 of the file of weights that the argument `Run` names."""
    from lightly_aug.weights import BACKBONE

    with (run / BACKBONE if run.is_dir() else run).open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def name_run(saved: "Backbone") -> str:
    """Return the name of a backbone for titles: its network, and the method that trained it."""
    backbone, method = saved.metadata["backbone"], saved.metadata["notes"].get("method")
    name = backbone["name"] if backbone else "backbone"
    return f"{name} trained with {method}" if method else str(name)


def take_readable(files: list[Path], saved: "Backbone", on_error: str, workers: int) -> list[Path]:
    """Return the files that can be read, and name the others; all files unless they are to be skipped.

    A file that is left out before the work needs no row in tables of features, and no place in a split.

    Args:
        files: Image files.
        saved: The backbone, which reads them.
        on_error: The option `--on-error`.
        workers: The option `--workers`; here threads, since decoding needs no more.

    Raises:
        ValueError: None can be read.
    """
    if on_error == "raise":
        return files
    from lightly_aug.images import ImageError, to_array

    collate: Any = saved.collate

    def find_problem(file: Path) -> str:
        try:
            to_array(file, collate.mode, collate.decode, collate.background, collate.max_pixels)
        except ImageError as error:
            return str(error)
        return ""

    problems = list[str]()
    with (
        ThreadPoolExecutor(max(1, workers)) as pool,
        show_steps(f"reading {count_of(len(files), 'image')}", len(files)) as advance,
    ):
        for problem in pool.map(find_problem, files):
            problems.append(problem)
            advance()
    readable = [file for file, problem in zip(files, problems, strict=True) if not problem]
    for file, problem in zip(files, problems, strict=True):
        if problem:
            print(f"Warning: leaves out {file}: {problem}", file=sys.stderr)
    if not readable:
        raise ValueError(f"no image of {len(files)} can be read; the first is {files[0]}: {problems[0]}")
    if len(readable) < len(files):
        print(f"left out {len(files) - len(readable)} of {count_of(len(files), 'image')}", file=sys.stderr)
    return readable


def embed_files(saved: "Backbone", files: list[Path], batch_size: int, workers: int, device: str) -> "Tensor":
    """Embed image files in their order, with a progress bar.

    Args:
        saved: The backbone.
        files: The n files.
        batch_size: Images in a batch.
        workers: Processes that load images.
        device: The option `--device`.

    Returns:
        Features `(n, d)` in float32, on the CPU.
    """
    from torch.utils.data import DataLoader

    from lightly_aug.evaluate import features

    target = find_device(device)
    loader: DataLoader[Any] = DataLoader(
        files,  # type: ignore[arg-type]  # a sequence is a dataset
        batch_size,
        num_workers=workers,
        collate_fn=saved.collate,
        pin_memory=target.type == "cuda",
    )
    with show_steps(f"embedding {count_of(len(files), 'image')}", len(loader)) as advance:

        def batches() -> Iterator[Any]:
            for batch in loader:
                yield batch
                advance()

        x, _ = features(saved.network.to(target), batches(), target)
    return x
