"""What the documentation says of files and names is true, and docstrings have one form."""

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.methods import METHODS

import lightly_aug
from lightly_aug import models, recipes

ROOT = Path(__file__).parents[1]
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
README, TABLE = (ROOT / "README.md").read_text(), (ROOT / "docs/methods.md").read_text()

# --- links and tables -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for link in re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text()):
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


def test_every_method_has_a_row_with_its_lines() -> None:
    rows = re.findall(r"^\| ([^|]+) \| \[.*?\]\(\.\./(\S+?)\) \| (\d+) \|", TABLE, re.M)
    assert [name for name, _, _ in rows] == list(METHODS)
    for name, file, lines in rows:
        count = len((ROOT / file).read_text().splitlines())
        assert int(lines) == count, f"docs/methods.md says that {name}'s {file} has {lines} lines: it has {count}"


def test_the_readme_and_the_table_of_methods_name_the_same_papers_views_and_files() -> None:
    ours = re.findall(r"^\| [^|]+ \| `(\w+)[^|]* \| \[`(\w+)`\]\((\S+)\) \| (.*) \|$", README, re.M)
    rows = re.findall(r"^\| [^|]+ \| \[(\d+\.\d+)\]\(\S+\) \| \[.*?\]\(\.\./(\S+)\) \| \d+ \| ([^|]*) \|", TABLE, re.M)
    theirs: dict[str, tuple[str, str]] = {}
    for paper, file, text in rows:
        views = re.match(r"`(\w+)", text)
        theirs[paper] = file, views[1] if views else list(theirs.values())[-1][1]  # "the same" as the row above
    papers = {paper: (file, views) for views, _, file, cell in ours for paper in re.findall(r"\[([\d.]+)\]", cell)}
    assert papers == theirs
    for _, model, file, _ in ours:
        assert Path(inspect.getfile(getattr(models, model))) == ROOT / file


def test_every_collate_function_is_public_and_in_the_readme() -> None:
    tables = re.findall(r"^\| .* \|$", README, re.M)
    for name in recipes.__all__:
        assert name in lightly_aug.__all__
        assert any(f"`{name}" in row for row in tables), f"README.md has no row for {name}"


def test_every_operation_has_a_row() -> None:
    cells = re.findall(r"^\| (`[^|]+) \|", (ROOT / "docs/operations.md").read_text(), re.M)
    named = {name for cell in cells for name in re.findall(r"`(\w+)\(", cell)}
    exported = {name: getattr(lightly_aug, name) for name in lightly_aug.__all__}
    operations = {
        name for name, value in exported.items() if isinstance(value, type) and issubclass(value, lightly_aug.Operation)
    }
    missing = operations - {"Operation"} - named
    assert not missing, f"docs/operations.md has no row for {sorted(missing)}"


# --- docstrings -------------------------------------------------------------------------------------------------

MODULES = sorted((ROOT / "lightly_aug").rglob("*.py"))


@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.relative_to(ROOT / "lightly_aug")))
def test_entries_of_docstrings_begin_with_an_upper_case_letter(module: Path) -> None:
    wrong = [f"{module.relative_to(ROOT)}:{place}" for place in wrong_entries(module.read_text())]
    assert not wrong, "\n".join(wrong)


def wrong_entries(source: str) -> Iterator[str]:
    """The entries under Args, Attributes and Raises of public docstrings that do not read `name: Text`."""
    for node in public_nodes(ast.parse(source)):
        section = ""
        for line in (ast.get_docstring(node) or "").splitlines():
            if re.match(r"\S", line):
                section = line.removesuffix(":")
            elif section in ("Args", "Attributes", "Raises") and re.match(r" {4}\S", line):
                entry = re.match(r" {4}\*{0,2}[\w.]+: (\S)", line)
                first = entry[1] if entry else "a"
                if not (first.isupper() or first.isdigit() or first in "`\"'([{" or not first.isascii()):
                    name = getattr(node, "name", "module")
                    yield f"{getattr(node, 'lineno', 1)}, {name}, {section}: {line.strip()}"


def public_nodes(
    node: ast.Module | ast.ClassDef,
) -> Iterator[ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    """A module or class, and the public classes and functions in it."""
    yield node
    for child in node.body:
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not child.name.startswith("_"):
            if isinstance(child, ast.ClassDef):
                yield from public_nodes(child)
            else:
                yield child


@pytest.mark.parametrize(
    ("entry", "wrong"),
    [
        ("x: The number.", 0),
        ("x: the number.", 1),
        ("**options: as in `g`.", 1),
        ("x: `(n, d)`.", 0),
        ("x: 0 to 1.", 0),
        ('x: "a" or "b".', 0),
        ("x: (height, width).", 0),
        ("x: τ of the paper.", 0),
        ("a text without a name", 1),
        ("x: The number,\n            which goes on here.", 0),
    ],
)
@pytest.mark.parametrize("section", ["Args", "Attributes", "Raises"])
def test_the_check_of_docstrings_finds_what_it_should(section: str, entry: str, wrong: int) -> None:
    text = f'    """Do something.\n\n    {section}:\n        {entry}\n    """\n'
    assert len(list(wrong_entries(f"def f(x):\n{text}"))) == wrong
    assert len(list(wrong_entries(f"class C:\n{text}"))) == wrong
    assert not list(wrong_entries(f"def _f(x):\n{text}"))
