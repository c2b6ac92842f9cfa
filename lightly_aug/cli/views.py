"""The command `lightly-aug views`."""

from pathlib import Path
from typing import Annotated, Final

from lightly_aug.atomic import replace_file
from lightly_aug.checks import check_choice
from lightly_aug.choices import METHOD_NAMES
from lightly_aug.cli.arguments import Folder, Seed, complete, find_images
from lightly_aug.cli.folders import prepare_out
from lightly_aug.optional import extra
from lightly_aug.status import count_of, show_wait

with extra("train"):
    import typer

__all__ = ["views"]

_NAMES: Final = (*METHOD_NAMES, "image", "shape", "texture", "color")
"""The keys of `lightly_aug.explore.PRESETS`."""


def views(
    folder: Folder,
    method: Annotated[
        str, typer.Option(help=f"Views to draw: {', '.join(_NAMES)}.", autocompletion=complete(_NAMES))
    ] = "simclr",
    size: Annotated[int, typer.Option(min=1, help="Side of the views in pixels.")] = 224,
    rows: Annotated[int, typer.Option(min=1, max=16, help="Number of images.")] = 6,
    draws: Annotated[int, typer.Option(min=1, help="How often to draw the views of each image.")] = 2,
    seed: Seed = 0,
    out: Annotated[Path, typer.Option(help="PNG file to write.")] = Path("views.png"),
) -> None:
    """Draw images and their views, with the drawn numbers as captions."""
    check_choice("lightly-aug", _NAMES, **{"--method": method})
    prepare_out(out)
    files = find_images(folder)
    chosen = files[:: max(1, len(files) // rows)][:rows]
    from lightly_aug.explore import PRESETS

    preset, images = PRESETS[method], count_of(len(chosen), "image")
    title = f"{preset.title}, views of {size} pixels, seed {seed}"
    with show_wait(f"drawing {images} and their views"), replace_file(out) as new:
        preset.views(size, seed=seed).show(chosen, draws=draws, title=title).savefig(new, dpi=110)
    print(f"{out}: {images}, views of {method} at {size} pixels, seed {seed}")
