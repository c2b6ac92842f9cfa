"""docs/training.md says what the code says."""

import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

from lightly_aug.methods import METHODS
from lightly_aug.pretrain_options import PYTHON_ONLY, PretrainOptions
from lightly_aug.train import PAPERS, SMALL, Optimization
from lightly_aug.train.optimization import Paper
from lightly_aug.train.watch import _WAITING

PAGE = (Path(__file__).parents[1] / "docs/training.md").read_text()


def test_every_option_is_in_the_table_with_its_default_and_help() -> None:
    rows = re.findall(r"^\| `(\w+)` \| `(.*?)` \| (.*) \|$", PAGE, re.M)
    assert rows == [(option.name, repr(option.default), option.metadata["help"]) for option in fields(PretrainOptions)]
    assert f"has no {', '.join(f'`{name}`' for name in PYTHON_ONLY[:-1])} and `{PYTHON_ONLY[-1]}`" in PAGE


def test_the_table_of_optimisers_is_that_of_the_code() -> None:
    table = PAGE.split("| least | source |\n")[1].split("\n\n")[0].splitlines()[1:]
    assert table == list(optimiser_rows())


def optimiser_rows() -> Iterator[str]:
    names = {"sgd": "SGD", "lars": "LARS", "adamw": "AdamW", "adam": "Adam"}
    for name, paper in PAPERS.items():
        title = METHODS[name].title
        yield optimiser_row(title, names[paper.optimization.optimizer], paper.optimization, paper)
        if paper.vit is not None:
            yield optimiser_row(f"{title}, ViT", names[paper.vit.optimizer], paper.vit, paper)


def optimiser_row(title: str, optimizer: str, chosen: Optimization, paper: Paper) -> str:
    decay = f"{chosen.weight_decay:g}"
    if chosen.final_weight_decay is not None:
        decay += f" → {chosen.final_weight_decay:g}"
    cells = [
        title, optimizer, f"{chosen.lr:g}", "yes" if chosen.scaled else "no", decay, f"{chosen.warmup:g}",
        f"{paper.batch:,}", f"{paper.epochs:,}", f"{paper.least}", chosen.source,
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def test_numbers_in_the_text_are_those_of_the_code() -> None:
    text = " ".join(PAGE.split())
    assert f"AdamW at a learning rate of {SMALL.lr:g}" in text
    assert SMALL.optimizer == "adamw"
    assert f"more than {_WAITING:.0%} of the time is spent waiting".replace("%", " %") in text
