"""The command `lightly-aug views`."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final

from lightly_aug import (
    BaseCollateFunction,
    ColorCollateFunction,
    ImageCollateFunction,
    ShapeCollateFunction,
    TextureCollateFunction,
)
from lightly_aug.checks import check_choice
from lightly_aug.cli.arguments import Folder, Seed, complete, find_images, prepare_out
from lightly_aug.methods import METHODS
from lightly_aug.optional import extra
from lightly_aug.status import show_wait

with extra("demo"):
    import typer

__all__ = ["views"]

_VIEWS: Final[dict[str, Callable[..., BaseCollateFunction]]] = {
    **{name: method.views for name, method in METHODS.items()},
    "image": ImageCollateFunction,
    "shape": ShapeCollateFunction,
    "texture": TextureCollateFunction,
    "color": ColorCollateFunction,
}


def views(
    folder: Folder,
    method: Annotated[
        str, typer.Option(help=f"Views to draw: {', '.join(_VIEWS)}.", autocompletion=complete(_VIEWS))
    ] = "simclr",
    size: Annotated[int, typer.Option(min=1, help="Side of the views in pixels.")] = 224,
    rows: Annotated[int, typer.Option(min=1, help="Number of images.")] = 6,
    draws: Annotated[int, typer.Option(min=1, help="How often to draw the views of each image.")] = 2,
    seed: Seed = 0,
    out: Annotated[Path, typer.Option(help="PNG file to write.")] = Path("views.png"),
) -> None:
    """Draw images and their views, with the drawn numbers as captions."""
    check_choice("lightly-aug views", list(_VIEWS), **{"--method": method})
    prepare_out("views", out)
    files = find_images(folder)
    chosen = files[:: max(1, len(files) // rows)][:rows]
    name = METHODS[method].title if method in METHODS else method
    title = f"{name}, views of {size} pixels, seed {seed}"
    with show_wait(f"drawing {len(chosen)} images and their views"):
        _VIEWS[method](size, seed=seed).show(chosen, draws=draws, title=title).savefig(out, dpi=110)
    print(f"{out}: {len(chosen)} images, views of {method} at {size} pixels, seed {seed}")
