"""The gallery shows every operation and every method, with pictures that a page can load."""

import importlib.util
import inspect
import re
from dataclasses import MISSING, fields
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

import lightly_aug
from lightly_aug import Operation, RandomHorizontalFlip, RandomResizedCrop
from lightly_aug.evaluate import CHANGES
from lightly_aug.methods import METHODS
from lightly_aug.operations import KorniaModule

pytestmark = pytest.mark.xdist_group("gallery")  # with --dist loadgroup, one process draws it

FILE = Path(__file__).parents[1] / "docs/gallery.py"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gallery", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GALLERY = load()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gallery") / "made"
    GALLERY.build(folder)
    return folder


def sections(page: Path, level: str) -> dict[str, str]:
    """The text under each heading of a level, down to the next heading."""
    parts = re.split(rf"^{level} (.*)$", page.read_text(encoding="utf-8"), flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_every_operation_has_a_section(folder: Path) -> None:
    exported = [getattr(lightly_aug, name) for name in lightly_aug.__all__]
    operations = {value for value in exported if isinstance(value, type) and issubclass(value, Operation)} - {Operation}
    assert {entry.operation for entry in GALLERY.ENTRIES} == operations | {KorniaModule}
    found = sections(folder / "operations.md", "###")
    assert list(found) == [entry.operation.__name__ for entry in GALLERY.ENTRIES]
    for name, text in found.items():
        assert "eaches" in text, f"{name}: what does it teach?"
        assert re.search(r"```python\n.*?```\n\n!\[", text, re.S), f"{name} has no code with a picture"


def test_groups_are_in_the_order_of_the_invariances(folder: Path) -> None:
    assert list(sections(folder / "operations.md", "##")) == ["Shape", "Texture", "Color", "Other"]
    for name, text in list(sections(folder / "operations.md", "##").items())[:3]:
        assert str(inspect.getdoc(getattr(lightly_aug, name))).splitlines()[0] in text


def test_the_lines_of_code_draw_the_pictures_after_the_lines_above_them(folder: Path) -> None:
    first, *lines = re.findall(r"```python\n(.*?)\n```", (folder / "operations.md").read_text(), re.S)
    names: dict[str, Any] = {}
    exec(first, names)
    assert len(lines) == sum(len(entry.pictures) for entry in GALLERY.ENTRIES)
    assert eval(lines[0], names).axes


def test_every_argument_is_in_the_table_of_its_operation(folder: Path) -> None:
    found = sections(folder / "operations.md", "###")
    for entry in GALLERY.ENTRIES:
        names = [field.name for field in fields(entry.operation) if field.init]
        rows = re.findall(r"^\| `(\w+)` \|", found[entry.operation.__name__], re.M)
        assert rows == names or (entry.operation is KorniaModule and set(names) <= {"module"}), entry.operation


def test_every_default_is_in_the_table_of_its_operation(folder: Path) -> None:
    """As code, whose fractions are those of a hundredth or less."""
    found = sections(folder / "operations.md", "###")
    for entry in GALLERY.ENTRIES:
        defaults: dict[str, Any] = {field.name: field.default for field in fields(entry.operation)}
        shown = re.findall(r"^\| `(\w+)` \| (.*?) \| ([^|]+) \|$", found[entry.operation.__name__], re.M)
        described = " ".join(f"{name}: {meaning}" for name, _, meaning in shown)
        assert f"Args: {described}" in " ".join(str(entry.operation.__doc__).split()) or not shown
        for name, text, _ in shown:
            default = defaults.get(name, MISSING)
            assert (text == "") == (default is MISSING), (entry.operation, name)
            if text:
                assert np.ravel(eval(text.strip("`"))) == pytest.approx(np.ravel(default)), (entry.operation, name)


def test_every_strength_is_swept(folder: Path) -> None:
    swept = re.findall(r'^sweep\(\w+, "([\w ]+)"\)$', (folder / "operations.md").read_text(), re.M)
    assert set(swept) == {change.name for change in CHANGES} - {"horizontal shift", "vertical shift"}  # of the crop


def test_what_operations_teach_is_what_the_page_of_invariances_says(folder: Path) -> None:
    known = GALLERY._read_invariances()
    used = {row for entry in GALLERY.ENTRIES for row in entry.rows}
    assert used == set(known)
    page = sections(folder / "operations.md", "###")
    for entry in GALLERY.ENTRIES:
        for row in entry.rows:
            taught, wrong = known[row]
            assert taught in page[entry.operation.__name__]
            assert wrong in page[entry.operation.__name__]
            assert (f"ignore, by {row}:" in page[entry.operation.__name__]) == (len(entry.rows) > 1)
            assert "the same" not in wrong


def test_every_method_has_a_section(folder: Path) -> None:
    found = sections(folder / "methods.md", "##")
    assert list(found) == [method.title for method in METHODS.values()]
    for (name, method), text in zip(METHODS.items(), found.values(), strict=True):
        assert f'METHODS["{name}"].views(224' in text
        assert GALLERY._write_call(method.views(224).views[0].operations[0]) in text
        assert str(inspect.getdoc(type(method.views(224)))).splitlines()[0] in text
        counts = [int(count) for count in re.findall(r"^\* (\d+) × `", text, re.M)]
        more = [int(count) for count in re.findall(r"^\* and (\d+) more of this kind$", text, re.M)]
        assert sum(counts + more) == len(method.views(224).views)
        assert len(counts) <= 5


def test_numbers_are_written_as_people_write_them(folder: Path) -> None:
    for page in folder.glob("*.md"):
        assert not re.findall(r"\d\.\d{7,}", page.read_text(encoding="utf-8"))


def test_calls_are_written_without_defaults() -> None:
    assert (
        GALLERY._write_call(RandomResizedCrop(8, ratio=(0.5, 5 / 3)))
        == "RandomResizedCrop(size=(8, 8), ratio=(0.5, 5/3))"
    )
    assert GALLERY._write_call(RandomHorizontalFlip()) == "RandomHorizontalFlip()"
    everything = {name: getattr(lightly_aug, name) for name in lightly_aug.__all__}
    for name, method in METHODS.items():
        for view in method.views(64).views:
            for operation in view.operations:
                assert eval(GALLERY._write_call(operation), everything) == operation, (name, operation)


@pytest.mark.parametrize("page", ["operations.md", "methods.md"])
def test_pictures_have_texts_and_are_small(folder: Path, page: str) -> None:
    pictures = re.findall(r"!\[(.*?)\]\((.*?)\)", (folder / page).read_text())
    assert pictures
    for text, name in pictures:
        assert len(text) > 10
        with Image.open(folder / name) as opened:
            assert opened.width <= 1100
            opened.load()


def test_all_files_are_used_and_are_small(folder: Path) -> None:
    text = "".join(page.read_text() for page in folder.glob("*.md"))
    files = [file for file in folder.iterdir() if file.suffix != ".md"]
    assert {file.name for file in files} == set(re.findall(r"\]\(([\w-]+\.\w+)\)", text)) - {"operations.md"}
    sizes = [file.stat().st_size for file in files]
    assert max(sizes) < 200_000
    assert sum(sizes) < 4_000_000


def test_links_to_other_pages_exist(folder: Path) -> None:
    text = "".join(page.read_text() for page in folder.glob("*.md"))
    for link in re.findall(r"\]\(\.\./(.*?)\)", text):
        assert (FILE.parent / link).exists(), link
