"""The commands `embed` and `neighbours` of `lightly-aug`, for a backbone that was trained."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from torch import Tensor
from torch.utils.data import DataLoader

from lightly_aug.arguments import (
    BatchSize,
    Decode,
    Device,
    Folder,
    Workers,
    find_decode,
    find_device,
    find_images,
    prepare_out,
)
from lightly_aug.evaluate import check_features_file, features, write_features
from lightly_aug.optional import extra
from lightly_aug.photographs import class_names
from lightly_aug.plot import neighbours as draw_neighbours
from lightly_aug.status import show_steps, show_wait
from lightly_aug.weights import SavedBackbone, load_backbone, read_metadata

with extra("demo"):
    import typer

__all__ = ["embed", "neighbours"]

Run = Annotated[
    Path, typer.Argument(help="Folder of a run of `lightly-aug train`, or a file of weights of `save_backbone`.")
]


def embed(
    run: Run,
    folder: Folder,
    batch_size: BatchSize = 64,
    workers: Workers = 2,
    device: Device = "",
    decode: Decode = None,
    out: Annotated[Path, typer.Option(help="File to write: .npz, .csv, or .parquet, which needs pyarrow.")] = Path(
        "features.npz"
    ),
) -> None:
    """Write the features of the images in a folder, with their file names and, from class folders, their labels."""
    check_features_file("lightly-aug embed", out)
    prepare_out("embed", out)
    saved = _load(run, decode, device)
    files = find_images(folder)
    x = _embed(saved, files, batch_size, workers, device)
    labels = class_names(folder, files)
    write_features(out, x, [file.relative_to(folder).as_posix() for file in files], labels)
    classes = f", {len(set(labels))} labels" if labels else ""
    print(f"{out}: {len(files)} images, {x.shape[1]} features of each{classes}")


def neighbours(
    run: Run,
    folder: Folder,
    rows: Annotated[int, typer.Option(min=1, help="Number of images to find neighbours of.")] = 6,
    count: Annotated[int, typer.Option(min=1, help="Number of neighbours of each.")] = 6,
    batch_size: BatchSize = 64,
    workers: Workers = 2,
    device: Device = "",
    decode: Decode = None,
    out: Annotated[Path, typer.Option(help="PNG file to write.")] = Path("neighbours.png"),
) -> None:
    """Draw images of a folder and those that the backbone finds most similar to them, among all images of the folder.

    Class folders are labels: neighbours of the same class have green frames, others red ones.
    """
    prepare_out("neighbours", out)
    saved = _load(run, decode, device)
    files = find_images(folder)
    if len(files) < 2:
        raise ValueError(f"lightly-aug neighbours: {folder} must hold at least 2 images, got {len(files)}")
    x = _embed(saved, files, batch_size, workers, device)
    labels = class_names(folder, files)
    title = f"{_name(saved)}: images of {folder.resolve().name} and their nearest neighbours"
    title += ", green if of the same class" if labels else ""
    with show_wait("drawing"):
        figure = draw_neighbours(
            files, x, names=labels, captions=[file.name for file in files], queries=rows, count=count, title=title
        )
        figure.savefig(out, dpi=110)
    print(f"{out}: {min(rows, len(files))} of {len(files)} images and their nearest neighbours")


def _load(run: Path, decode: int | None, device: str) -> SavedBackbone:
    size = read_metadata(run)["size"]
    # render="auto" would render late on any machine with an accelerator, even if --device is cpu
    render: Literal["worker", "late"] = "worker" if find_device(device).type == "cpu" else "late"
    return load_backbone(run, decode=find_decode(decode, size), render=render)


def _embed(saved: SavedBackbone, files: list[Path], batch_size: int, workers: int, device: str) -> Tensor:
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


def _name(saved: SavedBackbone) -> str:
    backbone, method = saved.metadata["backbone"], saved.metadata["notes"].get("method")
    name = backbone["name"] if backbone else "backbone"
    return f"{name} trained with {method}" if method else str(name)
