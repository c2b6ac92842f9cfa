"""The command `lightly-aug embed`."""

from pathlib import Path
from typing import Annotated

from lightly_aug.cli.arguments import (
    BatchSize,
    Decode,
    Device,
    Folder,
    MaxPixels,
    Workers,
    find_device,
    find_images,
    prepare_out,
)
from lightly_aug.cli.backbone import Run, load_run
from lightly_aug.evaluate import check_features_file, extract_features
from lightly_aug.images import MAX_PIXELS
from lightly_aug.optional import extra
from lightly_aug.photographs import class_names
from lightly_aug.status import show_steps

with extra("train"):
    import typer

__all__ = ["embed"]


def embed(
    run: Run,
    folder: Folder,
    batch_size: BatchSize = 64,
    workers: Workers = 2,
    device: Device = "",
    decode: Decode = None,
    max_pixels: MaxPixels = MAX_PIXELS,
    out: Annotated[
        Path, typer.Option(help="File to write: .npz, .csv, .safetensors, or .parquet, which needs pyarrow.")
    ] = Path("features.npz"),
) -> None:
    """Write the features of the images in a folder, with their file names and, from class folders, their labels.

    A command that was stopped goes on when it is given again.
    """
    check_features_file("lightly-aug embed", out)
    prepare_out("embed", out)
    saved, files, target = load_run(run, decode, device, max_pixels), find_images(folder), find_device(device)
    labels = class_names(folder, files)
    with show_steps(f"embedding {len(files)} images", len(files)) as advance:
        count, width = extract_features(
            saved.network.to(target), files, saved.collate, out,
            names=[file.relative_to(folder).as_posix() for file in files], labels=labels, batch_size=batch_size,
            workers=workers, device=target, step=advance,
        )  # fmt: skip
    classes = f", {len(set(labels))} labels" if labels else ""
    print(f"{out}: {count} images, {width} features of each{classes}")
