"""Recipes and pictures as HTML, which notebooks show in place of a repr."""

import base64
import html
import io
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from lightly_aug.operations import Operation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["describe_operations", "embed_figure", "head"]


def head(text: str) -> str:
    """Return a line of text, its first word in bold."""
    return re.sub(r"^(\w+)", r"<b>\1</b>", html.escape(text, quote=False)) + "<br>"


def describe_operations(operations: Iterable[tuple[Operation, str]], title: str = "") -> str:
    """Return a table of operations, in order, with their arguments.

    Args:
        operations: The operations, each with a note, which stands behind its arguments.
        title: Text above the table.
    """
    rows = list[str]()
    for operation, note in operations:
        arguments = f"<code>{html.escape(_arguments(operation), quote=False)}</code>"
        cells = f"<b>{type(operation).__name__}</b>", f"{arguments} <i>{html.escape(note)}</i>"
        rows.append("<tr>" + "".join(f"<td style='text-align: left'>{cell}</td>" for cell in cells) + "</tr>")
    return f"{html.escape(title)}<table>{''.join(rows)}</table>"


def _arguments(operation: Operation) -> str:
    """Return what stands in the parentheses of the repr, numbers to four digits; all of a repr of another form."""
    text = repr(operation)
    inside = re.fullmatch(r"\w+\((.*)\)", text, re.DOTALL)
    return re.sub(r"\d+\.\d{5,}", lambda number: f"{float(number[0]):.4g}", inside[1] if inside else text)


def embed_figure(figure: "Figure", dpi: int = 80) -> str:
    """Return a figure as an image element that holds its pixels."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return f"<img alt='views' src='data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}'>"
