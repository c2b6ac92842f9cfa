"""The stored outputs of the tutorials: complete, of one run from top to bottom, and equal to what the code outputs now.

`make test` runs the tutorials themselves, which takes minutes. Here only the cells with the tag "deterministic" run.
"""

import ast
import io
import json
import re
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from copy import deepcopy
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest
import torch

ROOT = Path(__file__).parents[1]
NOTEBOOKS = {page.stem: json.loads(page.read_text()) for page in sorted((ROOT / "notebooks").glob("*.ipynb"))}
MOCO = NOTEBOOKS["01_moco_memory_bank"]
LARGEST = 1_200_000
"""Bytes of a notebook that may be stored."""
LARGEST_OUTPUT = 300_000
"""Bytes of one output."""

Notebook = dict[str, Any]
Cell = dict[str, Any]


def code_cells(notebook: Notebook) -> list[Cell]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def texts(value: Any) -> Iterator[str]:
    """All strings in a notebook, except images."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        lines = all(isinstance(part, str) for part in value)
        yield from ["".join(value)] if lines else (text for part in value for text in texts(part))
    elif isinstance(value, dict):
        yield from (text for key, part in value.items() if not key.startswith("image/") for text in texts(part))


def find_faults(notebook: Notebook) -> list[str]:
    """Find what a stored run must not have."""
    faults = []
    for number, cell in enumerate(code_cells(notebook), 1):
        name, outputs = cell["id"], cell["outputs"]
        if cell["execution_count"] != number:
            faults.append(f"{name}: executed as number {cell['execution_count']}, it is code cell {number}")
        if not outputs and speaks("".join(cell["source"])):
            faults.append(f"{name}: no output")
        if any(len(json.dumps(output)) > LARGEST_OUTPUT for output in outputs):
            faults.append(f"{name}: an output of more than {LARGEST_OUTPUT // 1000} kB")
        if any(output["output_type"] == "error" for output in outputs):
            faults.append(f"{name}: an error")
        if any(output.get("name") == "stderr" for output in outputs):
            faults.append(f"{name}: a warning")
        if "execution" in cell["metadata"]:
            faults.append(f"{name}: execution times")
    paths = {
        path
        for text in texts(notebook)
        for path in re.findall(r"(?<![\w.:/~-])/(?:\w[\w.-]*/)+[\w.-]*|\b[A-Z]:\\+\w+", text)
    }
    return faults + [f"the absolute path {path}" for path in sorted(paths)]


def speaks(source: str) -> bool:
    """Whether a cell prints, draws, or ends in a value."""
    source = "".join(line for line in source.splitlines(keepends=True) if not line.startswith("%"))
    body = ast.parse(source).body
    return bool(body) and (
        isinstance(body[-1], ast.Expr) or re.search(r"^(print|plt\.show)\(", source, re.M) is not None
    )


def find_stale(notebook: Notebook) -> list[str]:
    """Run the cells with the tag "deterministic" in one namespace, and return the ids of those with other outputs."""
    names: dict[str, Any] = {}
    stale = []
    for cell in code_cells(notebook):
        if "deterministic" in cell["metadata"].get("tags", []):
            source = "".join(line for line in cell["source"] if not line.startswith("%"))
            if run(source, names) != read_text(cell):
                stale.append(cell["id"])
    return stale


def run(source: str, names: dict[str, Any]) -> str:
    """Run a cell, and return what it prints and the repr of its last expression."""
    tree, printed = ast.parse(source), io.StringIO()
    last = tree.body[-1]
    value = None
    with redirect_stdout(printed):
        if isinstance(last, ast.Expr):
            exec(compile(ast.Module(tree.body[:-1], []), "cell", "exec"), names)
            value = eval(compile(ast.Expression(last.value), "cell", "eval"), names)
        else:
            exec(compile(tree, "cell", "exec"), names)
    return printed.getvalue() + ("" if value is None else repr(value))


def read_text(cell: Cell) -> str:
    outputs = cell["outputs"]
    return "".join("".join(output["text"] if "text" in output else output["data"]["text/plain"]) for output in outputs)


@pytest.fixture
def apart(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep random state and settings from other tests, and take the CPU, which the outputs are from."""
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    with torch.random.fork_rng(devices=[]), mpl.rc_context():
        yield


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_was_run_once_from_top_to_bottom(name: str) -> None:
    assert find_faults(NOTEBOOKS[name]) == []


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_is_small(name: str) -> None:
    assert (ROOT / "notebooks" / f"{name}.ipynb").stat().st_size < LARGEST


@pytest.mark.usefixtures("apart")
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_stored_text_is_what_the_code_outputs_now(name: str) -> None:
    assert find_stale(NOTEBOOKS[name]) == []


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_the_cells_that_can_run_quickly_are_tagged(name: str) -> None:
    tagged = [cell for cell in code_cells(NOTEBOOKS[name]) if "deterministic" in cell["metadata"].get("tags", [])]
    assert tagged[:1] == code_cells(NOTEBOOKS[name])[:1]
    assert len(tagged) >= 3


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_tutorial_has_exercises_with_answers_and_says_where_to_go_on(name: str) -> None:
    pages = ["".join(cell["source"]) for cell in NOTEBOOKS[name]["cells"] if cell["cell_type"] == "markdown"]
    text = "\n".join(pages)
    assert pages[0].startswith("# ")
    assert "pip install '.[notebooks]'" in pages[0]
    assert text.index("## Exercises") < text.index("<summary>") < text.index("## Where to go on")
    for link in re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", text):
        assert (ROOT / "notebooks" / link).exists(), link


def set_count(cell: Cell) -> None:
    cell["execution_count"] = 7


def remove_outputs(cell: Cell) -> None:
    cell["outputs"] = []


def fail(cell: Cell) -> None:
    cell["outputs"] = [{"output_type": "error", "ename": "ValueError", "evalue": "", "traceback": []}]


def warn(cell: Cell) -> None:
    cell["outputs"].append({"output_type": "stream", "name": "stderr", "text": ["UserWarning: slow\n"]})


def print_path(cell: Cell) -> None:
    cell["outputs"].append({"output_type": "stream", "name": "stdout", "text": ["saved in /home/me/runs/\n"]})


def read_path(cell: Cell) -> None:
    cell["source"] = [r"open('C:\photos')"]


def draw_too_much(cell: Cell) -> None:
    cell["outputs"].append({"output_type": "display_data", "data": {"image/png": "A" * 300_000}})


def add_times(cell: Cell) -> None:
    cell["metadata"]["execution"] = {"iopub.execute_input": "2020-01-01T00:00:00Z"}


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (set_count, "collate: executed as number 7, it is code cell 2"),
        (remove_outputs, "collate: no output"),
        (fail, "collate: an error"),
        (warn, "collate: a warning"),
        (print_path, "the absolute path /home/me/runs/"),
        (read_path, "the absolute path C:\\photos"),
        (add_times, "collate: execution times"),
        (draw_too_much, "collate: an output of more than 300 kB"),
    ],
)
def test_faults_are_found(damage: Callable[[Cell], None], fault: str) -> None:
    notebook = deepcopy(MOCO)
    damage(code_cells(notebook)[1])
    assert find_faults(notebook) == [fault]


def change_output(notebook: Notebook, name: str, old: str, new: str) -> None:
    (cell,) = (cell for cell in notebook["cells"] if cell["id"] == name)
    text = json.dumps(cell["outputs"])
    assert text.count(old) >= 1, f"{name} does not output {old}"
    cell["outputs"] = json.loads(text.replace(old, new))


@pytest.mark.usefixtures("apart")
def test_stale_outputs_are_found() -> None:
    notebook = deepcopy(MOCO)
    change_output(notebook, "setup", "1530 patches", "1531 patches")
    change_output(notebook, "collate", "hue=0.1", "hue=0.4")
    change_output(notebook, "first-batch", "share of images with jitter in view 0: 0.8", "share of images: 0.9")
    change_output(notebook, "bank-updates", "next slot 3", "next slot 4")
    change_output(notebook, "loss-by-hand", "logits (8, 17)", "logits (8, 16)")
    assert find_stale(notebook) == ["setup", "collate", "first-batch", "bank-updates", "loss-by-hand"]


@pytest.mark.usefixtures("apart")
def test_changed_code_makes_outputs_stale() -> None:
    """The same as a change in the library: the first batch has other draws, and the bank's cell is not affected."""
    notebook = deepcopy(MOCO)
    cell = code_cells(notebook)[1]
    cell["source"] = [line.replace("seed=0", "seed=1") for line in cell["source"]]
    assert find_stale(notebook) == ["collate", "first-batch"]
