"""Links between files of the repository, as links between pages of the site."""

import re
from importlib import import_module
from pathlib import PurePosixPath
from posixpath import dirname, join, normpath, relpath
from urllib.parse import unquote

from pymdownx.slugs import slugify

PAGES = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "README.md": "overview.md",
    "SECURITY.md": "security.md",
    "examples/README.md": "examples.md",
}
"""Pages that are one file outside of docs/."""

LINK = re.compile(r"\]\((?!\w+:)(?P<path>[^)#\s]*)(?P<anchor>#[^)\s]*)?\)")


def place(path: str) -> str | None:
    """Return which page or file of the site shows a file of the repository; None if none does.

    Args:
        path: From the root of the repository.

    Returns:
        The path that a page in docs/ would link to, with an anchor if the file is only a part of a page.
    """
    file = PurePosixPath(path)
    match file.parts:
        case _ if path in PAGES:
            return PAGES[path]
        case ("docs", "gallery.py"):
            return "gallery/operations.md"
        case ("lightly_aug", "cli", "app.py"):
            return "command_line.md"
        case ("docs", *parts):
            return "/".join(parts)
        case ("notebooks", _) if file.suffix == ".ipynb":
            return f"tutorials/{file.stem}.md"
        case ("examples", _) if file.suffix == ".py":
            return f"examples.md#{file.stem}"
        case ("benchmarks", "results", name):
            return f"measurements/{name}"
    return None


def move_links(text: str, origin: str, page: str) -> str:
    """Point the links of a text to the pages of the site.

    A heading of a notebook gets the anchor that it has in its page. A module of the package becomes the entry of its
    first public name in the API reference. A link to a file that the site does not show stays as it is, for MkDocs to
    report.

    Args:
        text: Markdown.
        origin: The file that the text stands in, from the root of the repository: links start there.
        page: The page that will show it, from the root of the site's sources.
    """

    def move(link: re.Match[str]) -> str:
        path = normpath(join(dirname(origin), link["path"])) if link["path"] else origin
        target, anchor = place(path), link["anchor"] or ""
        if target is None and path.startswith("lightly_aug/") and path.endswith(".py"):
            module = path.removesuffix(".py").replace("/", ".")
            return f"][{module}.{import_module(module).__all__[0]}]"
        if path.endswith(".ipynb") and anchor:  # Jupyter's anchors are headings with hyphens
            anchor = "#" + slugify(case="lower")(unquote(anchor), "-")
        if target is None:
            return link[0]
        return f"]({'' if target == page and anchor else relpath(target, dirname(page) or '.')}{anchor})"

    return LINK.sub(move, text)
