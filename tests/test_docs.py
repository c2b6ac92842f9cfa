"""What the documentation says of files is true."""

import re
from pathlib import Path

import pytest
from helpers.methods import METHODS

ROOT = Path(__file__).parents[1]
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_every_method_has_a_row_with_its_lines() -> None:
    rows = re.findall(
        r"^\| ([^|]+) \| \[.*?\]\(\.\./(\S+?)\) \| (\d+) \|", (ROOT / "docs/methods.md").read_text(), re.M
    )
    assert [name for name, _, _ in rows] == list(METHODS)
    for name, file, lines in rows:
        count = len((ROOT / file).read_text().splitlines())
        assert int(lines) == count, f"docs/methods.md says that {name}'s {file} has {lines} lines: it has {count}"
