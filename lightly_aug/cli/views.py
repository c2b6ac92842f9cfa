"""The command `lightly-aug views`."""

from pathlib import Path
from typing import Annotated

from lightly_aug.checks import check_choice
from lightly_aug.cli.arguments import Folder, Seed, complete, find_images, prepare_out
from lightly_aug.explore import PRESETS
from lightly_aug.optional import extra
from lightly_aug.status import show_wait

with extra("train"):
    import typer

__all__ = ["views"]


def views(
    folder: Folder,
    method: Annotated[
        str, typer.Option(help=f"Views to draw: {', '.join(PRESETS)}.", autocompletion=complete(PRESETS))
    ] = "simclr",
    size: Annotated[int, typer.Option(min=1, help="Side of the views in pixels.")] = 224,
    rows: Annotated[int, typer.Option(min=1, help="Number of images.")] = 6,
    draws: Annotated[int, typer.Option(min=1, help="How often to draw the views of each image.")] = 2,
    seed: Seed = 0,
    out: Annotated[Path, typer.Option(help="PNG file to write.")] = Path("views.png"),
) -> None:
    """Draw images and their views, with the drawn numbers as captions."""
    check_choice("lightly-aug views", list(PRESETS), **{"--method": method})
    prepare_out("views", out)
    files = find_images(folder)
    chosen = files[:: max(1, len(files) // rows)][:rows]
    preset = PRESETS[method]
    title = f"{preset.title}, views of {size} pixels, seed {seed}"
    with show_wait(f"drawing {len(chosen)} images and their views"):
        preset.views(size, seed=seed).show(chosen, draws=draws, title=title).savefig(out, dpi=110)
    print(f"{out}: {len(chosen)} images, views of {method} at {size} pixels, seed {seed}")
