"""The commands of `lightly-aug` together."""

from collections.abc import Callable
from typing import Annotated, Any, Final

from lightly_aug import __version__
from lightly_aug.cli.bench import bench
from lightly_aug.cli.demo import demo
from lightly_aug.cli.embed import embed
from lightly_aug.cli.evaluate import evaluate
from lightly_aug.cli.explore import explore
from lightly_aug.cli.export import export
from lightly_aug.cli.finetune import finetune
from lightly_aug.cli.invariance import invariance
from lightly_aug.cli.knn import knn
from lightly_aug.cli.linear import linear
from lightly_aug.cli.neighbours import neighbours
from lightly_aug.cli.train import train
from lightly_aug.cli.views import views
from lightly_aug.cli.warm_up import warm_up
from lightly_aug.optional import extra

with extra("train"):
    import typer

__all__ = ["app"]

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


_COMMANDS: Final[dict[Callable[..., Any], str]] = {
    views: "lightly-aug views photos --method simclr --rows 4 --out views.png",
    explore: "lightly-aug explore photos",
    train: "lightly-aug train photos --method byol --size 96 --epochs 100 --out runs/byol",
    embed: "lightly-aug embed runs/train photos --out features.csv",
    neighbours: "lightly-aug neighbours runs/train photos --out neighbours.png",
    evaluate: "lightly-aug evaluate runs/train --data labelled",
    knn: "lightly-aug knn runs/train --data labelled --k 10",
    linear: "lightly-aug linear runs/train --data labelled --protocol papers",
    finetune: "lightly-aug finetune runs/train --data labelled --share 0.1 --epochs 50",
    export: "lightly-aug export runs/train --format onnx --out backbone.onnx",
    invariance: "lightly-aug invariance runs/color runs/shape --data photos --out invariance",
    demo: "lightly-aug demo --data photos --out runs/photos",
    bench: "lightly-aug bench --method dino",
    warm_up: "lightly-aug warm-up",
}
for command, example in _COMMANDS.items():
    app.command(epilog=f"Example: `{example}`")(command)
