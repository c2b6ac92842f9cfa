"""The command `lightly-aug bench`."""

from pathlib import Path
from typing import Annotated

from lightly_aug.bench import WORKLOADS
from lightly_aug.bench import run as run_bench
from lightly_aug.checks import check_choice
from lightly_aug.cli.arguments import complete
from lightly_aug.optional import extra

with extra("train"):
    import typer
    from rich.console import Console
    from rich.markdown import Markdown

__all__ = ["bench"]


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
