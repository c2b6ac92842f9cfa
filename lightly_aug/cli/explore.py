"""The command `lightly-aug explore`."""

from pathlib import Path
from typing import Annotated

from lightly_aug.choices import MAX_PIXELS
from lightly_aug.cli.arguments import Folder, find_images
from lightly_aug.cli.backbone import load_run
from lightly_aug.optional import extra
from lightly_aug.status import show_wait

with extra("train"):
    import typer

__all__ = ["explore"]


def explore(
    folder: Folder,
    size: Annotated[int, typer.Option(min=48, max=320, help="Side of the views at first, in pixels.")] = 160,
    backbone: Annotated[
        Path | None,
        typer.Option(
            help="Folder of a run of `lightly-aug train`, or a file of weights of `save_backbone`: the page then shows "
            "how similar this network finds each image and its views."
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(min=1024, max=65535, help="Port of this machine; by default 8080, or a free one if it is taken."),
    ] = None,
    open_page: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in the browser.")] = True,
) -> None:
    """Show what augmentation does to your images on a page of this machine, change it, and copy its code.

    Only this machine can open the page, and nothing leaves it. Ctrl-C ends it.
    """
    with extra("explore"):
        import nicegui  # noqa: F401  # missing packages are named before anything else happens
    import numpy as np

    from lightly_aug.explore import choose, render
    from lightly_aug.explore.server import listen, serve

    files = find_images(folder)
    saved = None if backbone is None else load_run(backbone, None, "cpu", MAX_PIXELS).freeze()
    listening = listen(port)
    with show_wait("preparing the engine"):
        render(choose("simclr", size), 0, [np.zeros((size, size, 3), np.uint8)])  # Numba compiles it once on a machine
    serve(folder, files, listening, size=size, backbone=saved, show=open_page)
