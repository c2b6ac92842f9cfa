"""The command `lightly-aug embed`."""

from pathlib import Path
from typing import Annotated

from lightly_aug.cli.arguments import BatchSize, Decode, Device, Folder, Workers, find_images, prepare_out
from lightly_aug.cli.backbone import Run, embed_files, load_run
from lightly_aug.evaluate import check_features_file, write_features
from lightly_aug.optional import extra
from lightly_aug.photographs import class_names

with extra("demo"):
    import typer

__all__ = ["embed"]


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
    saved = load_run(run, decode, device)
    files = find_images(folder)
    x = embed_files(saved, files, batch_size, workers, device)
    labels = class_names(folder, files)
    write_features(out, x, [file.relative_to(folder).as_posix() for file in files], labels)
    classes = f", {len(set(labels))} labels" if labels else ""
    print(f"{out}: {len(files)} images, {x.shape[1]} features of each{classes}")
