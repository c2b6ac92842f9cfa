"""The documentation site: built once, with warnings as errors; its links, its names, and that it needs no network."""

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

pytest.importorskip("mkdocs", reason="the site needs the extra docs")

pytestmark = pytest.mark.xdist_group("site")  # with --dist loadgroup, one process builds the site

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "lightly_aug"
CHROMIUM = shutil.which("chromium")

MODULES = [
    "lightly_aug",
    *(f"lightly_aug.{path.parent.name}" for path in sorted(PACKAGE.glob("*/__init__.py"))),
    *(f"lightly_aug.{name}" for name in ("distributed", "images", "methods", "photographs")),
]
"""The public modules: a user imports from these, and from no other."""

for program in ("cli", "explore"):  # commands, which nobody imports
    MODULES.remove(f"lightly_aug.{program}")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    folder = tmp_path_factory.mktemp("site")
    environment = {key: value for key, value in os.environ.items() if key not in ("REPO_URL", "SITE_URL")}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    faults = [line for line in built.stderr.splitlines() if not line.startswith("INFO")]
    assert built.returncode == 0, "\n".join(faults)
    return folder


class Page(HTMLParser):
    """What the tests need of a page.

    Attributes:
        anchors: Places in the page that links can name.
        links: Targets of links.
        navigation: Targets of the links of the navigation.
        loaded: Files that a browser loads to show the page.
        code: The blocks of code and of output.
        prose: Text outside of code.
    """

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.anchors, self.links, self.navigation, self.loaded = set[str](), set[str](), set[str](), set[str]()
        self.code, self.prose = list[str](), ""
        self._inside = list[str]()
        self.feed(file.read_text())

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {key: value or "" for key, value in attributes}
        if tag not in ("area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "wbr"):
            self._inside.append("navigation" if "md-nav" in given.get("class", "").split() else tag)
        if tag == "pre":
            self.code.append("")
        self.anchors |= {given[key] for key in ("id", "name") if given.get(key)}
        if tag == "a" and "href" in given:
            self.links.add(given["href"])
            if "navigation" in self._inside:
                self.navigation.add(given["href"])
        elif tag == "link":
            (self.links if given.get("rel") in ("canonical", "next", "prev") else self.loaded).add(given["href"])
        self.loaded |= {given[key] for key in ("src", "data", "poster") if given.get(key)}
        self.loaded |= {part.split()[0] for part in given.get("srcset", "").split(",") if part.strip()}

    def handle_endtag(self, tag: str) -> None:
        if self._inside:
            self._inside.pop()

    def handle_data(self, data: str) -> None:
        if "pre" in self._inside:
            self.code[-1] += data
        if not {"code", "pre", "script", "style"} & set(self._inside):
            self.prose += data


@cache
def parse(file: Path) -> Page:
    return Page(file)


def pages(site: Path) -> list[Path]:
    return sorted(site.rglob("*.html"))


def resolve(site: Path, page: Path, link: str) -> tuple[Path, str]:
    """Return the file and the anchor of a link."""
    parts = urlsplit(link)
    path = unquote(parts.path)
    if not path:
        return page, unquote(parts.fragment)
    target = site / path.lstrip("/") if path.startswith("/") else page.parent / path
    target = Path(os.path.normpath(target))
    return target / "index.html" if target.is_dir() else target, unquote(parts.fragment)


def leads_away(link: str) -> bool:
    return bool(urlsplit(link).scheme or urlsplit(link).netloc)


# --- links ------------------------------------------------------------------------------------------------------


def broken_links(site: Path) -> Iterator[str]:
    """The links and loaded files of all pages that lead nowhere."""
    for page in pages(site):
        for link in parse(page).links | parse(page).loaded:
            if not leads_away(link):
                target, anchor = resolve(site, page, link)
                name = page.relative_to(site)
                if not target.is_file():
                    yield f"{name}: {link}: no such file"
                elif anchor and target.suffix == ".html" and anchor not in parse(target).anchors:
                    yield f"{name}: {link}: no such place"


def test_every_link_leads_somewhere(site: Path) -> None:
    assert len(pages(site)) > 40
    assert not list(broken_links(site))


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    text = '<p id="here"><a href="#here">1</a><a href="#gone">2</a><a href="other.html">3</a><img src="lost.png"></p>'
    (tmp_path / "page.html").write_text(text)
    assert [line.split(": ")[1] for line in sorted(broken_links(tmp_path))] == ["#gone", "lost.png", "other.html"]


def test_no_link_of_the_repository_is_left(site: Path) -> None:
    for page in pages(site):
        assert "](" not in parse(page).prose, page
        assert not [link for link in parse(page).links if not leads_away(link) and urlsplit(link).path.endswith(".md")]


def test_the_navigation_leads_to_every_page(site: Path) -> None:
    found, new = set[Path](), {site / "index.html"}
    while new:
        found |= new
        links = {(page, link) for page in new for link in parse(page).navigation if not leads_away(link)}
        new = {resolve(site, page, link)[0] for page, link in links} - found
    assert found == set(pages(site)) - {site / "404.html"}


# --- no network -------------------------------------------------------------------------------------------------


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    for page in pages(site):
        assert not [file for file in parse(page).loaded if leads_away(file) and not file.startswith("data:")], page
        assert 'class="mermaid"' not in page.read_text()  # the theme would load a script for it
    for sheet in site.rglob("*.css"):
        assert not re.findall(r"""(?:url\(|@import)\s*["']?(?:https?:)?//[^)"']*""", sheet.read_text()), sheet


@pytest.mark.skipif(CHROMIUM is None, reason="needs the browser chromium")
def test_pages_that_are_opened_as_files_can_be_searched(site: Path) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as start:
        browser = start.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        requests, faults = list[str](), list[str]()
        page.on("request", lambda request: requests.append(request.url))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto((site / "index.html").as_uri())
        page.click("input[data-md-component=search-query]")
        page.keyboard.type("RandomSolarize")
        page.wait_for_selector("a.md-search-result__link", state="attached")
        hits = page.eval_on_selector_all("a.md-search-result__link", "links => links.map(link => link.href)")
        browser.close()
    assert any("reference/operations.html" in hit for hit in hits)
    assert not faults
    assert {urlsplit(request).scheme for request in requests} <= {"file", "data", "blob"}


# --- contents ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def entries(site: Path) -> dict[str, str]:
    """The names in the API reference, with their places."""
    inventory = pytest.importorskip("mkdocstrings").Inventory
    with (site / "objects.inv").open("rb") as file:
        return {name: item.uri.replace("$", name) for name, item in inventory.parse_sphinx(file).items()}


@pytest.mark.parametrize("module", MODULES)
def test_the_reference_has_every_public_name(module: str, site: Path, entries: dict[str, str]) -> None:
    names = [f"{module}.{name}" for name in importlib.import_module(module).__all__]
    assert not [name for name in names if name not in entries]
    for name in names:
        page, anchor = resolve(site, site / "index.html", entries[name])
        assert anchor in parse(page).anchors, name


def test_the_reference_has_every_name_that_the_documentation_imports(entries: dict[str, str]) -> None:
    files = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*.py"), *ROOT.glob("notebooks/*.ipynb")]
    imported = set[str]()
    for file in files:
        for module, names in re.findall(r"from (lightly_aug[.\w]*) import \(?([\w, ]+)", file.read_text()):
            imported |= {f"{module}.{name}" for name in re.findall(r"\w+", names)}
    assert len(imported) > 50
    assert not {name for name in imported - set(entries) if importlib.util.find_spec(name) is None}


def test_the_page_of_the_command_line_has_every_command_and_option(site: Path) -> None:
    typer = pytest.importorskip("typer")
    from lightly_aug.cli.app import app

    text = (site / "command_line.html").read_text()
    assert r"\|" not in text
    for name, command in typer.main.get_command(app).commands.items():
        section = re.search(rf'<h2 id="{name}">.*?(?=<h2|</article>)', text, re.DOTALL)
        assert section, name
        options = {option for parameter in command.params for option in parameter.opts if option.startswith("--")}
        assert not [option for option in options - {"--help"} if option not in section[0]], name


@pytest.mark.parametrize("notebook", sorted(ROOT.glob("notebooks/*.ipynb")), ids=lambda notebook: notebook.stem)
def test_a_tutorial_shows_its_code_its_pictures_and_its_formulas(notebook: Path, site: Path) -> None:
    cells = json.loads(notebook.read_text())["cells"]
    page = parse(site / f"tutorials/{notebook.stem}.html")
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    outputs = [output for cell in code for output in cell["outputs"]]
    printed = ["".join(output["text"]) for output in outputs if output["output_type"] == "stream"]
    shown = [block.strip() for block in page.code]
    assert not [text for cell in code if (text := "".join(cell["source"]).strip()) not in shown]
    assert not [text for text in printed if text.strip() not in shown]
    pictures = sum("image/png" in output.get("data", ()) for output in outputs)
    loaded = {file for file in page.loaded if file.endswith(".png")}
    assert len(loaded) == pictures
    assert loaded <= page.links  # to look at them in their full size
    assert not re.findall(r"\$|\\[(\[]", page.prose)  # formulas are MathML
    text = "\n\n".join("".join(cell["source"]) for cell in cells)
    numbers = re.findall(r"</details>\s+(\d+)\. ", text)  # of a list that goes on after a folded answer
    assert re.findall(r'<ol start="(\d+)">', (site / f"tutorials/{notebook.stem}.html").read_text()) == numbers


# --- the hooks --------------------------------------------------------------------------------------------------


def load_hooks(monkeypatch: pytest.MonkeyPatch, repo_url: str = "") -> tuple[Any, Any]:
    """The configuration of the site, and its hooks, with the address of the repository in the environment."""
    from mkdocs.config import load_config

    monkeypatch.setenv("NO_MKDOCS_2_WARNING", "1")
    monkeypatch.delenv("REPO_URL", raising=False)
    if repo_url:
        monkeypatch.setenv("REPO_URL", repo_url)
    config = load_config(str(ROOT / "mkdocs.yml"))
    config.plugins.run_event("config", config)
    return config, config["hooks"]["docs/_site/hooks.py"]


@pytest.fixture(scope="module")
def hooks() -> Any:
    with pytest.MonkeyPatch.context() as monkeypatch:
        return load_hooks(monkeypatch)[1]


@pytest.mark.parametrize(
    ("repo_url", "colab", "edit"),
    [
        ("", None, None),
        (
            "https://github.com/someone/some.name",
            "https://colab.research.google.com/github/someone/some.name/blob/main/notebooks/",
            "https://github.com/someone/some.name/edit/main/notebooks/",
        ),
        ("https://gitlab.com/someone/name", None, "https://gitlab.com/someone/name/edit/main/notebooks/"),
    ],
)
def test_tutorials_lead_to_colab_and_to_their_source_if_the_repository_has_an_address(
    repo_url: str, colab: str | None, edit: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mkdocs.structure.pages import Page as MkDocsPage

    config, hooks = load_hooks(monkeypatch, repo_url)
    tutorials = [file for file in hooks.add_tutorials(config) if file.src_uri.endswith(".md")]
    assert len(tutorials) == len(list(ROOT.glob("notebooks/*.ipynb")))
    for file in tutorials:
        name = Path(file.src_uri).stem + ".ipynb"
        assert (f"[Open in Colab]({colab}{name})" in file.content_string) == bool(colab)
        assert ("colab" in file.content_string.lower()) == bool(colab)
        assert MkDocsPage(None, file, config).edit_url == (f"{edit}{name}" if edit else None)


@pytest.mark.parametrize(
    ("origin", "page", "link", "moved"),
    [
        ("docs/methods.md", "methods.md", "[a](../README.md#train)", "[a](overview.md#train)"),
        ("docs/methods.md", "methods.md", "[a](../examples/plain_loop.py)", "[a](examples.md#plain_loop)"),
        ("docs/methods.md", "methods.md", "[a](../lightly_aug/models/dino.py)", "[a][lightly_aug.models.dino.DINO]"),
        ("docs/methods.md", "methods.md", "[a](training.md)", "[a](training.md)"),
        ("docs/methods.md", "methods.md", "[a](gallery.py)", "[a](gallery/operations.md)"),
        ("docs/methods.md", "methods.md", "[a](../lightly_aug/cli/app.py)", "[a](command_line.md)"),
        ("docs/methods.md", "methods.md", "[a](../lost.md)", "[a](../lost.md)"),
        ("docs/methods.md", "methods.md", "[a](https://x.org/README.md)", "[a](https://x.org/README.md)"),
        ("docs/methods.md", "methods.md", "[a](#here)", "[a](#here)"),
        ("docs/gallery/methods.md", "gallery/methods.md", "[a](../methods.md#b)", "[a](../methods.md#b)"),
        ("README.md", "overview.md", "![a](docs/views.png)", "![a](views.png)"),
        ("README.md", "overview.md", "[a](#train)", "[a](#train)"),
        ("README.md", "index.md", "[a](#train)", "[a](overview.md#train)"),
        ("README.md", "overview.md", "[a](notebooks/01_x.ipynb)", "[a](tutorials/01_x.md)"),
        ("notebooks/01_x.ipynb", "tutorials/01_x.md", "[a](02_y.ipynb#Why-so?)", "[a](02_y.md#why-so)"),
        ("notebooks/01_x.ipynb", "tutorials/01_x.md", "[a](#Why-so?)", "[a](#why-so)"),
        ("notebooks/01_x.ipynb", "tutorials/01_x.md", "[a](../docs/methods.md)", "[a](../methods.md)"),
        ("examples/README.md", "examples.md", "[a](plain_loop.py)", "[a](examples.md#plain_loop)"),
    ],
)
def test_links_move_to_the_pages_of_the_site(origin: str, page: str, link: str, moved: str, hooks: Any) -> None:
    assert hooks.move_links(link, origin, page) == moved


def test_a_part_of_the_readme_that_is_gone_is_an_error(hooks: Any) -> None:
    with pytest.raises(ValueError, match=r"docs/index.md: one line of README.md must start with 'No such line', got 0"):
        hooks.include_readme('<!-- README.md, from "No such line" to "## Train" -->', "index.md")
