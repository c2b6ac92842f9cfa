"""The page: rows of cells with images in them, and the colours that all pictures share."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from math import isqrt
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from lightly_aug.optional import extra

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "HAIRLINE",
    "SHOWN",
    "Size",
    "choose_colours",
    "count_columns",
    "draw_block",
    "lay_out",
    "measure_block",
    "shorten",
    "show",
    "shrink",
    "wrap_title",
    "write_below",
]

Size = tuple[int, int]
"""Width and height in pixels."""

COLOURS: Final = (
    *("#1f77b4", "#ff7f00", "#7b4173", "#17becf", "#e41a1c", "#fdc086", "#2ca02c", "#f0027f", "#ffd92f", "#a6761d"),
    *("#666666", "#a6d854", "#de9ed6", "#66c2a5", "#843c39", "#5254a3", "#637939", "#ff9896", "#9c9ede", "#999999"),
)
"""Colours of matplotlib's qualitative colormaps, chosen so that any two, and each and white, differ by 16 in CIEDE2000.

The colormaps themselves have pairs that differ by less than 10. Any two of the first six differ by 13 for readers with
protanopia, deuteranopia or tritanopia, too.
"""
SHOWN: Final = 448
"""Shorter side in pixels, at least, to which photographs are shrunk that are drawn small."""
HAIRLINE: Final = "#bbbbbb"
_PAGE: Final = 9.0
"""Width of a page, which most screens and notebooks show as it is, in inches as all lengths."""
_LEAST: Final = 0.9
"""Height of cells below which they are not shrunk."""
_GAP: Final = 0.12
_LINE: Final = 0.118
"""Height of a line of a caption."""


def lay_out(
    rows: int,
    widths: Sequence[float],
    side: float,
    lines: int,
    *,
    sections: int = 1,
    heads: Sequence[str] = (),
    title: str = "",
) -> tuple[Figure, list[list[Axes]]]:
    """Make a figure of rows of cells, all of one height, with as many lines of text below each.

    Args:
        rows: Number of rows.
        widths: Widths of the cells of a section.
        side: Height of the cells.
        lines: Lines of text.
        sections: Number of sections side by side.
        heads: Text above each column of a section.
        title: Title of the figure.

    Returns:
        The figure, and the axes of the cells by row and column.
    """
    with extra("plot"):
        from matplotlib.figure import Figure
    section = sum(widths) + _GAP * (len(widths) + 2)
    width = section * sections
    title_lines = wrap_title(title, width)
    heads = ["\n".join(textwrap.wrap(head, max(1, int(12 * own)))) for head, own in zip(heads, widths, strict=False)]
    head_lines = max((head.count("\n") + 1 for head in heads), default=0)
    above = _GAP + 0.3 * bool(title) + 0.2 * max(0, len(title_lines) - 1) + 0.05 * bool(heads) + 0.17 * head_lines
    pitch = side + lines * _LINE + 1.5 * _GAP
    height = above + rows * pitch
    figure = Figure(figsize=(width, height))
    if title:
        figure.suptitle(
            "\n".join(title_lines), x=_GAP / width, y=1 - _GAP / height, ha="left", va="top", fontsize=12,
            weight="bold", parse_math=False,
        )  # fmt: skip
    cells = [
        (section * number + sum(widths[:i]) + _GAP * (i + 1), own)
        for number in range(sections)
        for i, own in enumerate(widths)
    ]
    for (left, own), text in zip(cells, heads * sections, strict=False):
        figure.text((left + own / 2) / width, 1 - (above - 0.05) / height, text, ha="center", va="bottom", fontsize=10)
    bottoms = [1 - (above + row * pitch + side) / height for row in range(rows)]
    return figure, [
        [figure.add_axes((left / width, bottom, own / width, side / height)) for left, own in cells]
        for bottom in bottoms
    ]


def shrink(widths: Sequence[float], side: float) -> tuple[float, list[float]]:
    """Return the height and widths of cells that are shrunk until a section is a page wide, or they are small.

    Args:
        widths: Widths of the cells of a section.
        side: Height of the cells.
    """
    room = _PAGE - _GAP * (len(widths) + 2)
    scale = min(1.0, max(room / sum(widths), _LEAST / side))
    return scale * side, [scale * width for width in widths]


def draw_block(axes: Axes, images: Sequence[NDArray[Any]], frames: Sequence[str], margin: float = 0.0) -> None:
    """Draw images of one size row by row, at the top of the axes, with pixel (0, 0) of the first at (0, 0)."""
    size = images[0].shape[1], images[0].shape[0]
    columns, step, (width, height) = count_columns(len(images)), _step(size), measure_block(size, len(images))
    for i, (image, frame) in enumerate(zip(images, frames, strict=True)):
        left, top = step[0] * (i % columns) - 0.5, step[1] * (i // columns) - 0.5
        show(axes, image, (left, top + size[1], left + size[0], top), frame)
    border = margin * max(size)
    axes.set(xlim=(-0.5 - border, width - 0.5 + border), ylim=(height - 0.5 + border, -0.5 - border))
    axes.set_aspect("equal", anchor="N")
    axes.axis("off")


def show(axes: Axes, image: NDArray[Any], box: tuple[float, float, float, float], frame: str) -> None:
    """Draw an image `(h, w, c)`, uint8 or floats in [0, 1], in a box (left, bottom, right, top) with a frame."""
    from matplotlib.patches import Rectangle

    left, bottom, right, top = box
    image = image[..., :3] if image.shape[2] >= 3 else image[..., 0]
    limits = (0, 255) if image.dtype == np.uint8 else (0, 1)
    image = image if image.dtype == np.uint8 else image.clip(0, 1)
    axes.imshow(image, cmap="gray", vmin=limits[0], vmax=limits[1], extent=(left, right, bottom, top), zorder=2)
    width = 0.5 if frame == HAIRLINE else 1.5
    place = (left, bottom), right - left, top - bottom
    axes.add_patch(Rectangle(*place, fill=False, edgecolor=frame, linewidth=width, clip_on=False, zorder=2))


def write_below(axes: Axes, text: str) -> None:
    # names of files and classes are no formulas, whatever they hold
    axes.set_title(text, fontsize=7, y=0, va="top", pad=-4, linespacing=1.15, parse_math=False)


def wrap_title(title: str, width: float) -> list[str]:
    """Return the lines of a bold title of size 12 on a figure so many inches wide."""
    return textwrap.wrap(title, max(1, int(8.5 * width)))


def shorten(text: str, most: int = 20) -> str:
    """Leave out the middle of a text that is longer.

    Example:
        >>> shorten("n02101006 Gordon setter")
        'n02101006 …on setter'
    """
    return text if len(text) <= most else f"{text[: most // 2]}…{text[-(most - most // 2 - 1) :]}"


def choose_colours(count: int) -> list[str]:
    """Return distinct colours; more than there are in `COLOURS` are a gradient."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    if count <= len(COLOURS):
        return list(COLOURS[:count])
    return [to_hex(colour) for colour in colormaps["turbo"](np.linspace(0.05, 0.95, count))]


def measure_block(size: Size, count: int) -> tuple[float, float]:
    columns, step = count_columns(count), _step(size)
    return size[0] + step[0] * (columns - 1), size[1] + step[1] * ((count - 1) // columns)


def _step(size: Size) -> tuple[float, float]:
    """Return the distances from one view of a block to the next in either direction, in pixels."""
    gap = 0.08 * max(size)
    return size[0] + gap, size[1] + gap


def count_columns(count: int) -> int:
    """Return the columns of a block that is nearly square, and has few empty places.

    Example:
        >>> [count_columns(count) for count in (1, 6, 8, 9, 10, 49)]
        [1, 3, 4, 3, 5, 7]
    """
    root = isqrt(count - 1) + 1
    return min((root, root + 1), key=lambda columns: -count % columns)
