"""A grid of images and their views."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lightly_aug.images import PackedImages
from lightly_aug.operations import Floats
from lightly_aug.plot._page import (
    HAIRLINE,
    Size,
    choose_colours,
    draw_block,
    lay_out,
    measure_block,
    shrink,
    write_below,
)
from lightly_aug.view import View

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Drawn", "draw_grid"]


class Drawn(NamedTuple):
    """Some samples of a batch, as a grid shows them.

    Attributes:
        images: Their images: the first ones of all samples, the second ones and so on; without pixels, no image is
            drawn.
        table: `(views, samples, columns)`, the draws.
        views: The views.
        sources: For each view the number of the image of a sample that it shows.
        tensors: The views, not normalised, on the CPU.
    """

    images: PackedImages
    table: Tensor
    views: tuple[View, ...]
    sources: tuple[int, ...]
    tensors: list[Tensor]


def draw_grid(batches: Sequence[Drawn], *, captions: bool = True, title: str = "", heads: Sequence[str] = ()) -> Figure:
    """Draw images and their views as `BaseCollateFunction.show` describes.

    Args:
        batches: Batches of the same images and views, side by side.
        captions: Whether to write the drawn numbers under each view.
        title: Title of the figure.
        heads: Names of the views, written above them; by default "view 0", "view 1" and so on.

    Returns:
        A figure with the images of a sample and its views in each row.

    Raises:
        ValueError: There are heads, but not one for each view.
    """
    first = batches[0]
    if heads and len(heads) != len(first.views):
        raise ValueError(f"show: heads must be one for each of {len(first.views)} views, got {len(heads)}: {heads!r}")
    rows = first.table.shape[1]
    sizes = [(view.shape[3], view.shape[2]) for view in first.tensors]
    groups = _group_views(sizes, first.sources)
    places = sorted(set(first.sources)) if len(first.images.pixels) else []
    originals = {place: _list_images(first.images, place * rows, rows) for place in places}
    side, widths = _measure_columns([image for images in originals.values() for image in images], sizes, groups)
    side, widths = shrink(widths[:1] * len(places) + widths[1:], side)
    tables = [batch.table.double().numpy() for batch in batches]
    texts = [_caption_cells(first.views, table, list(originals.values()), groups, widths) for table in tables]
    lines = max(text.count("\n") + 1 for rows in texts for row in rows for text in row) if captions else 0
    names = ["image" if len(places) == 1 else f"image {place}" for place in places]
    names += [_name_cell(cell, heads) for cell in groups]
    figure, axes = lay_out(rows, widths, side, lines, sections=len(batches), heads=names, title=title)
    colours = choose_colours(len(sizes))
    for number, (batch, table) in enumerate(zip(batches, tables, strict=True)):
        views = [view.float().permute(0, 2, 3, 1).numpy() for view in batch.tensors]
        shapes = [batch.images.shapes[source * rows :][:rows].numpy() for source in batch.sources]
        regions = [_find_regions(*each) for each in zip(batch.views, table, sizes, shapes, strict=True)]
        frames = [HAIRLINE if region is None else c for region, c in zip(regions, colours, strict=True)]
        for row in range(rows):
            cells = axes[row][number * len(widths) :][: len(widths)]
            for place, cell in zip(places, cells, strict=False):
                draw_block(cell, [originals[place][row]], [HAIRLINE], margin=0.02)
                own = {i: r[row] for i, r in enumerate(regions) if r is not None and batch.sources[i] == place}
                _draw_outlines(cell, list(own.values()), [colours[i] for i in own])
            for cell, group in zip(cells[len(places) :], groups, strict=True):
                draw_block(cell, [views[i][row] for i in group], [frames[i] for i in group])
            for cell, text in zip(cells, texts[number][row], strict=True):
                write_below(cell, text if captions else "")
    return figure


def _list_images(images: PackedImages, start: int, count: int) -> list[NDArray[Any]]:
    return [images[i].permute(1, 2, 0).cpu().numpy() for i in range(start, start + count)]


def _group_views(sizes: Sequence[Size], sources: Sequence[int]) -> list[list[int]]:
    """Return the views of each cell: one, or, if there are many views, a run of them with one size and source."""
    runs = [list(run) for _, run in groupby(range(len(sizes)), key=lambda i: (sizes[i], sources[i]))]
    many = len(sizes) >= 8
    return [cell for run in runs for cell in ([run] if many and len(run) > 4 else [[i] for i in run])]


def _name_cell(cell: Sequence[int], heads: Sequence[str]) -> str:
    first, last = cell[0], cell[-1]
    if first == last:
        return heads[first] if heads else f"view {first}"
    return f"{heads[first]} … {heads[last]}" if heads else f"views {first}–{last}"


def _measure_columns(
    originals: Sequence[NDArray[Any]], sizes: Sequence[Size], cells: Sequence[Sequence[int]]
) -> tuple[float, list[float]]:
    """Return the height of the rows, and the widths of the images and of each cell; all views have one scale."""
    blocks = [measure_block(sizes[cell[0]], len(cell)) for cell in cells]
    tallest = max(height for _, height in blocks)
    side = 2.0 if tallest == max(height for _, height in sizes) else 2.6  # blocks are full of small views
    shapes = [image.shape for image in originals]
    widest = max((min(side * width / height, 1.5 * side) for height, width, _ in shapes), default=side)
    return side, [widest] + [side * width / tallest for width, _ in blocks]


def _find_regions(view: View, drawn: Floats, size: Size, shapes: NDArray[np.int64]) -> Floats | None:
    """Return the corners `(n, 4, 2)` of the regions that a view shows of n images; None for a view without a matrix.

    Mirrored and turned regions have their corners in the same order: by the angle about the centre.

    Args:
        view: The view.
        drawn: Its draws, `(n, columns)`.
        size: Its width and height.
        shapes: Channels, heights and widths of the images, `(n, 3)`.
    """
    try:
        matrices = view.matrix(drawn, shapes[:, 1], shapes[:, 2])
    except ValueError:  # a geometric module of Kornia draws only when it runs
        return None
    corners = np.array([[0, 0, 1], [size[0], 0, 1], [*size, 1], [0, size[1], 1]]) - [0.5, 0.5, 0]
    corners = corners @ np.linalg.inv(matrices).swapaxes(1, 2)
    corners = corners[..., :2] / corners[..., 2:]
    x, y = np.moveaxis(corners - corners.mean(1, keepdims=True), 2, 0)
    return np.take_along_axis(corners, np.arctan2(y, x).argsort(1)[..., None], 1)


def _draw_outlines(axes: Axes, regions: Sequence[Floats], colours: Sequence[str]) -> None:
    """Outline regions by their corners `(4, 2)`; equal regions share one outline, in dashes of their colours."""
    from matplotlib.patches import Polygon
    from matplotlib.patheffects import withStroke

    few = len(regions) <= 10
    for i, region in enumerate(regions):
        equal = [j for j, other in enumerate(regions) if np.allclose(other, region, atol=0.5)]
        outline = Polygon(region, fill=False, edgecolor=colours[i], linewidth=1.5 if few else 0.8, zorder=3)
        if len(equal) > 1:
            outline.set_linestyle((8 * equal.index(i), (8, 8 * (len(equal) - 1))))
        if few:
            outline.set_path_effects([withStroke(linewidth=3.5, foreground="white", alpha=0.8)])
        axes.add_patch(outline)


def _caption_cells(
    views: Sequence[View],
    table: Floats,
    originals: Sequence[Sequence[NDArray[Any]]],
    cells: Sequence[Sequence[int]],
    widths: Sequence[float],
) -> list[list[str]]:
    """Return the text under each cell of each row, for cells of these widths."""
    words = [view.captions(drawn) for view, drawn in zip(views, table, strict=True)]
    rows = []
    for row in range(table.shape[1]):
        texts = [[f"{images[row].shape[1]} × {images[row].shape[0]}"] for images in originals]
        texts += [words[cell[0]][row] if len(cell) == 1 else [] for cell in cells]
        rows.append([_wrap(text, width) for text, width in zip(texts, widths, strict=True)])
    return rows


def _wrap(words: Sequence[str], width: float) -> str:
    """Join words by commas, in lines of this width; a word and its number stay in one line."""
    text = re.sub(r"(?<=\s)-(?=\d)", "−", ", ".join(words))
    fixed = re.sub(r"(?<!,) ", "\xa0", text)
    lines = textwrap.wrap(fixed, max(1, int(18 * width)), break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines).replace("\xa0", " ")
