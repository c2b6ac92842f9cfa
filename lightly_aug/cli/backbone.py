"""Trained backbones on the command line: the argument that names one, and the features of images by it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from torch import Tensor
from torch.utils.data import DataLoader

from lightly_aug.cli.arguments import find_decode, find_device
from lightly_aug.evaluate import features
from lightly_aug.optional import extra
from lightly_aug.options import Options
from lightly_aug.status import show_steps
from lightly_aug.weights import Backbone, read_metadata

with extra("train"):
    import typer

__all__ = ["Run", "embed_files", "load_run", "name_run"]

Run = Annotated[
    Path, typer.Argument(help="Folder of a run of `lightly-aug train`, or a file of weights of `save_backbone`.")
]


def load_run(run: Path, decode: int | None, device: str, max_pixels: int) -> Backbone:
    """Load the backbone of a run, with a collate function that renders on the device that embeds.

    Args:
        run: The argument `Run`.
        decode: The option `--decode`.
        device: The option `--device`.
        max_pixels: The option `--max-pixels`.
    """
    size = read_metadata(run)["size"]  # which takes files only, so that a wrong name asks no hub
    # render="auto" would render late on any machine with an accelerator, even if --device is cpu
    render: Literal["worker", "late"] = "worker" if find_device(device).type == "cpu" else "late"
    options = Options(decode=find_decode(decode, size), max_pixels=max_pixels or None, render=render)
    return Backbone.from_pretrained(run, **options)


def embed_files(saved: Backbone, files: list[Path], batch_size: int, workers: int, device: str) -> Tensor:
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
    target = find_device(device)
    loader: DataLoader[Any] = DataLoader(
        files,  # type: ignore[arg-type]  # a sequence is a dataset
        batch_size,
        num_workers=workers,
        collate_fn=saved.collate,
        pin_memory=target.type == "cuda",
    )
    with show_steps(f"embedding {len(files)} images", len(loader)) as advance:

        def batches() -> Iterator[Any]:
            for batch in loader:
                yield batch
                advance()

        x, _ = features(saved.network.to(target), batches(), target)
    return x


def name_run(saved: Backbone) -> str:
    """Return the name of a backbone for titles: its network, and the method that trained it."""
    backbone, method = saved.metadata["backbone"], saved.metadata["notes"].get("method")
    name = backbone["name"] if backbone else "backbone"
    return f"{name} trained with {method}" if method else str(name)
