"""Every block of Python in README.md and docs/ runs, in order, as a reader would run it."""

import gc
import re
import shutil
import textwrap
from pathlib import Path
from typing import Final

import datasets
import pytest
import torch
from helpers.photos import write_photos

ROOT = Path(__file__).parents[1]
PAGES = {page.name: page.read_text() for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}
LONGEST: Final = 25
"""Lines of a program in a tab."""


def find_blocks(text: str) -> tuple[list[str], dict[str, list[str]]]:
    """Return the blocks of a page, and those of each tab by its name: they are indented below `=== "name"`."""
    page: list[str] = []
    tabs: dict[str, list[str]] = {}
    for name, indent, block in re.findall(
        r'^=== "([^"\n]+)"$|^( *)```python\n(.*?)^\2```$', text, re.DOTALL | re.MULTILINE
    ):
        if name:
            tabs[name] = []
        elif indent:
            list(tabs.values())[-1].append(textwrap.dedent(block))
        else:
            page.append(block)
    return page, tabs


BLOCKS = {name: find_blocks(text)[0] for name, text in PAGES.items()}
TABS = {(page, tab): blocks for page, text in PAGES.items() for tab, blocks in find_blocks(text)[1].items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with photos/, from which the blocks run."""
    folder = tmp_path_factory.mktemp("reader")
    write_photos(folder / "photos", classes=2, count=6)
    return folder


def run(page: str, folder: Path, monkeypatch: pytest.MonkeyPatch, tab: str | None = None) -> dict[str, object]:
    """Run the blocks of a page, or of one of its tabs, in one namespace, and return it."""
    monkeypatch.chdir(folder)
    names: dict[str, object] = {"__name__": "__main__"}  # as in a script
    for number, block in enumerate(BLOCKS[page] if tab is None else TABS[page, tab]):
        exec(compile(block, f"{page}, {tab or 'page'}, block {number}", "exec"), names)
    return names


@pytest.mark.filterwarnings("ignore:.*pin_memory.*:UserWarning")
@pytest.mark.filterwarnings("ignore:.*(wants batches of|knn accuracy|does not have many workers)")
@pytest.mark.filterwarnings("ignore:.*(The number of training batches|treespec, LeafSpec|set_vital)")
@pytest.mark.parametrize("page", [page for page, blocks in BLOCKS.items() if blocks])
def test_every_block_runs(page: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = run(page, folder, monkeypatch)
    for name in {"loss", "x0", "x1", "features"} & set(names):
        value = names[name]
        if isinstance(value, torch.Tensor):
            assert torch.isfinite(value).all(), name


@pytest.mark.filterwarnings("ignore:.*(does not have many workers|The number of training batches|treespec, LeafSpec)")
@pytest.mark.filterwarnings("ignore:.*unclosed file:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # where webdataset leaves files open
@pytest.mark.parametrize(("page", "tab"), TABS)
def test_every_tab_is_a_program(
    page: str, tab: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It runs alone, in a folder that holds nothing but photos/."""
    assert TABS[page, tab]
    shutil.copytree(folder / "photos", tmp_path / "photos")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    names = run(page, tmp_path, monkeypatch, tab)
    if isinstance(x := names.get("x"), torch.Tensor):
        assert torch.isfinite(x).all()
    gc.collect()  # the files that webdataset leaves open


@pytest.mark.parametrize("page", PAGES)
def test_no_block_is_overlooked(page: str) -> None:
    tabs = [block for (where, _), blocks in TABS.items() if where == page for block in blocks]
    assert len(BLOCKS[page]) + len(tabs) == PAGES[page].count("```python")


def test_blocks_are_found_on_the_page_and_in_tabs() -> None:
    text = """
```python
a
```

=== "One"

    ```python
    b

    c
    ```

    Then:

    ```python
    d
    ```

=== "Two"

    ```python
    e
    ```

```python
f
```
"""
    assert find_blocks(text) == (["a\n", "f\n"], {"One": ["b\n\nc\n", "d\n"], "Two": ["e\n"]})


def test_the_quickstart_has_a_short_program_for_every_way_to_train() -> None:
    tabs = {tab: blocks for (page, tab), blocks in TABS.items() if page == "quickstart.md"}
    assert list(tabs) == ["Plain loop", "Lightning", "Hugging Face datasets", "WebDataset"]
    for tab, blocks in tabs.items():
        assert sum(bool(line.strip()) for line in blocks[-1].splitlines()) <= LONGEST, tab
        assert re.findall(r"^x, labels = features\(", blocks[-1], re.M), tab


@pytest.mark.parametrize("page", PAGES)
def test_the_tests_that_a_page_names_exist(page: str) -> None:
    files = sorted((ROOT / "tests").glob("test_*.py"))
    known = {file.stem for file in files} | {
        name for file in files for name in re.findall(r"^ *def (test_\w+)", file.read_text(), re.M)
    }
    assert not set(re.findall(r"\btest_\w+", PAGES[page])) - known


def test_the_pages_with_examples_have_some() -> None:
    assert {page: len(BLOCKS[page]) for page in ("README.md", "operations.md", "methods.md")} == {
        "README.md": 10,
        "operations.md": 8,
        "methods.md": 4,
    }


def test_the_first_programs_and_the_custom_invariance_are_as_short_as_promised() -> None:
    lines = [sum(bool(line.strip()) for line in block.splitlines()) for block in BLOCKS["README.md"]]
    assert lines[0] <= 3
    assert lines[1] <= 12
    assert lines[2] <= 10


def test_the_shear_of_the_page_puts_pixels_where_its_matrix_says(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row y moves by shear * (y - middle), interpolated between neighbours, with zeros outside."""
    make = run("operations.md", folder, monkeypatch)["RandomShear"]
    assert callable(make)
    image, shear = torch.rand(1, 1, 7, 9, dtype=torch.float64), 0.37
    sheared = make(0.5).apply(image, torch.tensor([[shear]], dtype=torch.float64))
    for y in range(7):
        for x in range(9):
            place = x - shear * (y - 3)
            left, part = int(place // 1), place % 1
            taps = [(left, 1 - part), (left + 1, part)]
            expected = sum(w * float(image[0, 0, y, column]) for column, w in taps if 0 <= column < 9)
            assert abs(float(sheared[0, 0, y, x]) - expected) < 1e-6, (y, x)
