"""Every block of Python in README.md and docs/ runs, in order, as a reader would run it."""

import re
from pathlib import Path

import pytest
import torch
from helpers.photos import write_photos

ROOT = Path(__file__).parents[1]
PAGES = {page.name: page.read_text() for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}
BLOCKS = {name: re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE) for name, text in PAGES.items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with photos/, from which the blocks run."""
    folder = tmp_path_factory.mktemp("reader")
    write_photos(folder / "photos", classes=2, count=6)
    return folder


def run(page: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """Run the blocks of a page in one namespace, and return it."""
    monkeypatch.chdir(folder)
    names: dict[str, object] = {}
    for number, block in enumerate(BLOCKS[page]):
        exec(compile(block, f"{page}, block {number}", "exec"), names)
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


@pytest.mark.parametrize("page", PAGES)
def test_no_block_is_overlooked(page: str) -> None:
    assert len(BLOCKS[page]) == PAGES[page].count("```python")


def test_the_pages_with_examples_have_some() -> None:
    assert {page: len(BLOCKS[page]) for page in ("README.md", "operations.md", "methods.md")} == {
        "README.md": 10,
        "operations.md": 5,
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
