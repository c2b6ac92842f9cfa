"""The command `lightly-aug demo`."""

from pathlib import Path
from typing import Annotated

from lightly_aug.cli.arguments import Decode, Seed, Size, find_decode
from lightly_aug.cli.folders import prepare_out
from lightly_aug.optional import extra

with extra("train"):
    import typer

__all__ = ["demo"]


def demo(
    data: Annotated[Path | None, typer.Option(help="Folder of images; by default scikit-image's photographs.")] = None,
    size: Size = 48,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Passes over the images; by default about three minutes on two cores.")
    ] = None,
    decode: Decode = None,
    seed: Seed = 0,
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("runs/demo"),
) -> None:
    """Train MoCo for some minutes and show the result: accuracy, a grid of views, the embedding."""
    from lightly_aug.demo import run as run_demo

    prepare_out(out, folder=True)
    run_demo(data, out, size=size, epochs=epochs, seed=seed, decode=find_decode(decode, size))
