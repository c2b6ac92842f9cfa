"""The command `lightly-aug`: `views`, `demo`, `bench`, and those of `train_command.py` and `after_training.py`."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final

from lightly_aug import (
    BaseCollateFunction,
    ColorCollateFunction,
    ImageCollateFunction,
    ShapeCollateFunction,
    TextureCollateFunction,
    __version__,
)
from lightly_aug.after_training import embed, neighbours
from lightly_aug.arguments import (
    Decode,
    Folder,
    OutFolder,
    Seed,
    Size,
    complete,
    find_decode,
    find_images,
    prepare_out,
)
from lightly_aug.bench import WORKLOADS
from lightly_aug.bench import run as run_bench
from lightly_aug.checks import check_choice
from lightly_aug.demo import run as run_demo
from lightly_aug.methods import METHODS
from lightly_aug.optional import extra
from lightly_aug.plot import view_grid
from lightly_aug.status import show_wait
from lightly_aug.train_command import train

with extra("demo"):
    import typer
    from rich.console import Console
    from rich.markdown import Markdown

__all__ = ["app", "bench", "demo", "views"]

_VIEWS: Final[dict[str, Callable[..., BaseCollateFunction]]] = {
    **{name: method.views for name, method in METHODS.items()},
    "image": ImageCollateFunction,
    "shape": ShapeCollateFunction,
    "texture": TextureCollateFunction,
    "color": ColorCollateFunction,
}

app = typer.Typer(
    name="lightly-aug",
    help="Draw views for self-supervised learning, train with them, and use what was trained.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)


def _print_version(asked: bool) -> None:
    if asked:
        print(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command(epilog="Example: `lightly-aug views photos --method simclr --rows 4 --out views.png`")
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
        view_grid(_VIEWS[method](size, seed=seed), chosen, draws=draws, title=title).savefig(out, dpi=110)
    print(f"{out}: {len(chosen)} images, views of {method} at {size} pixels, seed {seed}")


app.command(epilog="Example: `lightly-aug train photos --method byol --size 96 --epochs 100 --out runs/byol`")(train)
app.command(epilog="Example: `lightly-aug embed runs/train photos --out features.csv`")(embed)
app.command(epilog="Example: `lightly-aug neighbours runs/train photos --out neighbours.png`")(neighbours)


@app.command(epilog="Example: `lightly-aug demo --data photos --out runs/photos`")
def demo(
    data: Annotated[Path | None, typer.Option(help="Folder of images; by default scikit-image's photographs.")] = None,
    size: Size = 48,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Passes over the images; by default about three minutes on two cores.")
    ] = None,
    decode: Decode = None,
    seed: Seed = 0,
    out: OutFolder = Path("runs/demo"),
) -> None:
    """Train MoCo for some minutes and show the result: accuracy, a grid of views, the embedding."""
    run_demo(data, out, size=size, epochs=epochs, seed=seed, decode=find_decode(decode, size))


@app.command(epilog="Example: `lightly-aug bench --method dino`")
def bench(
    method: Annotated[
        str, typer.Option(help=f"Views to measure: {', '.join(WORKLOADS)}.", autocompletion=complete(WORKLOADS))
    ] = "simclr",
    batch: Annotated[int, typer.Option(min=1, help="Images in a batch.")] = 32,
    rounds: Annotated[int, typer.Option(min=1, help="How often each library is measured, in turn.")] = 5,
    seconds: Annotated[float, typer.Option(min=0.0, help="How long each time.")] = 1.0,
    out: Annotated[Path, typer.Option(help="File to write, without suffix: .md and .json.")] = Path("runs/bench"),
) -> None:
    """Measure images a second on one core of this machine, with every library that is installed."""
    check_choice("lightly-aug bench", list(WORKLOADS), **{"--method": method})
    Console().print(Markdown(run_bench(out, method=method, batch=batch, rounds=rounds, seconds=seconds)))
    print(f"{out.with_suffix('.md')}, {out.with_suffix('.json')}")
