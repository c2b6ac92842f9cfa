"""The command `lightly-aug neighbours`."""

from pathlib import Path
from typing import Annotated

from lightly_aug.atomic import replace_file
from lightly_aug.choices import MAX_PIXELS
from lightly_aug.cli.arguments import (
    BatchSize,
    Decode,
    Device,
    Folder,
    MaxPixels,
    OnUnreadable,
    Run,
    Workers,
    find_images,
)
from lightly_aug.cli.backbone import embed_files, load_run, name_run, take_readable
from lightly_aug.cli.folders import prepare_out
from lightly_aug.optional import extra
from lightly_aug.status import count_of, show_wait

with extra("train"):
    import typer

__all__ = ["neighbours"]


def neighbours(
    run: Run,
    folder: Folder,
    rows: Annotated[int, typer.Option(min=1, help="Number of images to find neighbours of.")] = 6,
    count: Annotated[int, typer.Option(min=1, help="Number of neighbours of each.")] = 6,
    batch_size: BatchSize = 64,
    workers: Workers = 2,
    device: Device = "",
    decode: Decode = None,
    max_pixels: MaxPixels = MAX_PIXELS,
    on_error: OnUnreadable = "raise",
    out: Annotated[Path, typer.Option(help="PNG file to write.")] = Path("neighbours.png"),
) -> None:
    """Draw images of a folder and those that the backbone finds most similar to them, among all images of the folder.

    Class folders are labels: neighbours of the same class have green frames, others red ones.
    """
    from lightly_aug.photographs import class_names
    from lightly_aug.plot import neighbours as draw_neighbours

    prepare_out(out)
    saved = load_run(run, decode, device, max_pixels)
    files = take_readable(find_images(folder), saved, on_error, workers)
    if len(files) < 2:
        raise ValueError(f"{folder} must hold at least 2 images, got {len(files)}")
    x = embed_files(saved, files, batch_size, workers, device)
    labels = class_names(folder, files)
    title = f"{name_run(saved)}: images of {folder.resolve().name} and their nearest neighbours"
    title += ", green if of the same class" if labels else ""
    with show_wait("drawing"), replace_file(out) as new:
        figure = draw_neighbours(
            files, x, names=labels, captions=[file.name for file in files], queries=rows, count=count, title=title
        )
        figure.savefig(new, dpi=110)
    print(f"{out}: {min(rows, len(files))} of {count_of(len(files), 'image')} and their nearest neighbours")
