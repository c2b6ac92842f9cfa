"""What the site needs besides the configuration of MkDocs: pages from outside of docs/, links, formulas, pictures."""

import atexit
import importlib.util
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from commands import describe_commands
from formulas import show_formulas
from links import PAGES, move_links, place
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from tutorials import convert

ROOT = Path(__file__).parents[2]


def on_config(config: MkDocsConfig) -> None:
    """Edit pages on the branch main; MkDocs assumes master."""
    if config.repo_url:
        config.edit_uri = (config.edit_uri or "").replace("/master/", "/main/")


# --- pages that are not in docs/ --------------------------------------------------------------------------------


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Add the pages of files outside of docs/, and those that are generated; list them in the navigation."""
    for file in [*add_files(config), *add_tutorials(config), *add_gallery(config)]:
        files.append(file)
    command_line = File.generated(config, "command_line.md", content=describe_commands())
    files.append(command_line)
    for entry in config.nav or []:
        expand(entry, files)


def add_page(config: MkDocsConfig, origin: str, text: str) -> File:
    """Make the page of a file of the repository, with the given text and a link to edit that file."""
    page = place(origin)
    assert page is not None, origin
    file = File.generated(config, page, content=move_links(text, origin, page))
    file.edit_uri = f"../{origin}"
    return file


def add_files(config: MkDocsConfig) -> Iterator[File]:
    """Make the pages of Markdown files as they are; that of the examples has the programs, too."""
    for origin in PAGES:
        text = (ROOT / origin).read_text()
        if origin == "examples/README.md":
            text += "".join(show_program(program) for program in sorted(ROOT.glob("examples/*.py")))
        yield add_page(config, origin, text)
    for result in sorted(ROOT.glob("benchmarks/results/*.*")):
        origin = result.relative_to(ROOT).as_posix()
        if result.suffix == ".md":
            yield add_page(config, origin, result.read_text())
        else:
            yield File.generated(config, str(place(origin)), abs_src_path=str(result))


def show_program(program: Path) -> str:
    """Show a program under a heading whose anchor is its name."""
    return f"\n## {program.name} {{ #{program.stem} }}\n\n```python\n{program.read_text()}```\n"


def add_tutorials(config: MkDocsConfig) -> Iterator[File]:
    """Make a page of each notebook, with its pictures, and the notebook as a file to download."""
    for notebook in sorted(ROOT.glob("notebooks/*.ipynb")):
        origin = f"notebooks/{notebook.name}"
        text, pictures = convert(notebook)
        title, _, rest = text.lstrip().partition("\n")
        links = f"[Download the notebook]({notebook.name}){{ download }}"
        if github := re.match(r"https://github\.com/([^/]+/[^/]+?)(\.git|/)?$", config.repo_url or ""):
            address = f"https://colab.research.google.com/github/{github[1]}/blob/main/{origin}"
            links += f" · [Open in Colab]({address})"
        yield add_page(config, origin, f"{title}\n\n{links}\n{rest}")
        yield File.generated(config, f"tutorials/{notebook.name}", abs_src_path=str(notebook))
        for name, picture in pictures.items():
            yield File.generated(config, f"tutorials/{name}", content=picture)


def add_gallery(config: MkDocsConfig) -> Iterator[File]:
    """Make the pages of the gallery, with their pictures."""
    folder = draw_gallery()
    for file in sorted(folder.rglob("*.*")):
        yield File.generated(config, f"gallery/{file.relative_to(folder).as_posix()}", abs_src_path=str(file))


@cache
def draw_gallery() -> Path:
    """Draw the gallery, once while the site is served; the folder is removed at the end."""
    folder = TemporaryDirectory(prefix="lightly_aug_gallery_")
    atexit.register(folder.cleanup)
    spec = importlib.util.spec_from_file_location("gallery", ROOT / "docs/gallery.py")
    assert spec is not None
    assert spec.loader is not None
    gallery = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(gallery)
    gallery.build(Path(folder.name))
    return Path(folder.name)


def expand(entry: dict[str, Any] | str, files: Files) -> None:
    """Replace `folder/*` in an entry of the navigation by the pages in that folder, in place."""
    if not isinstance(entry, dict):
        return
    for title, value in entry.items():
        if isinstance(value, str) and value.endswith("/*"):
            pages = [file.src_uri for file in files.documentation_pages()]
            entry[title] = sorted(page for page in pages if page.startswith(value.removesuffix("*")))
        elif isinstance(value, list):
            for child in value:
                expand(child, files)


# --- text -------------------------------------------------------------------------------------------------------


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Include parts of the README, point links that leave docs/ to the pages of the site, and read folded text."""
    name = page.file.src_uri
    text = include_readme(move_links(markdown, f"docs/{name}", name), name)
    return text.replace("<details>", '<details markdown="1">')  # elsewhere, Markdown in HTML needs no mark


def include_readme(markdown: str, page: str) -> str:
    """Replace `<!-- README.md, from "A" to "B" -->` by the lines of the README from A to before B."""
    readme = (ROOT / "README.md").read_text()

    def include(comment: re.Match[str]) -> str:
        ends = []
        for start in (comment["start"], comment["stop"]):
            if readme.count(f"\n{start}") != 1:
                raise ValueError(
                    f"docs/{page}: one line of README.md must start with {start!r}, got {readme.count(start)}"
                )
            ends.append(readme.index(f"\n{start}") + 1)
        return move_links(readme[slice(*ends)], "README.md", page)

    return re.sub(r'<!-- README\.md, from "(?P<start>.*?)" to "(?P<stop>.*?)" -->', include, markdown)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Show formulas, and link pictures to their files, since captions can be too small to read in a page."""
    return re.sub(r'<img [^>]*src="(?!data:)([^"]+)"[^>]*>', r'<a href="\1">\g<0></a>', show_formulas(html))
