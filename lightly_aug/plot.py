"""Pictures of views, of nearest neighbours, and of embeddings.

Figures are returned, not shown.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from itertools import groupby
from math import isqrt
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightly_aug.collate import BaseCollateFunction, MultiViewCollateFunction
from lightly_aug.images import to_array
from lightly_aug.operations import Floats, Normalize, Operation
from lightly_aug.optional import extra
from lightly_aug.view import Shared, View

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["embedding", "neighbours", "view_grid"]

Size = tuple[int, int]
"""Width and height in pixels."""

_COLOURS: Final = (
    *("#1f77b4", "#ff7f00", "#2ca02c", "#e41a1c", "#7b4173", "#17becf", "#f0027f", "#ffd92f", "#a6761d", "#666666"),
    *("#a6d854", "#de9ed6", "#66c2a5", "#843c39", "#5254a3", "#fdc086", "#637939", "#ff9896", "#9c9ede", "#999999"),
)
"""Colours of matplotlib's qualitative colormaps, chosen so that any two, and each and white, differ by 16 in CIEDE2000.

The colormaps themselves have pairs that differ by less than 10.
"""
_SHOWN: Final = 448
"""Shorter side in pixels, at least, to which photographs are shrunk that are drawn small."""
_HAIRLINE: Final = "#bbbbbb"
_SAME, _OTHER = "#2ca02c", "#e41a1c"
_GAP: Final = 0.12
_LINE: Final = 0.118
"""Height of a line of a caption, in inches as all lengths on the page."""


def view_grid(
    collate: BaseCollateFunction,
    images: Sequence[Any],
    *,
    draws: int = 1,
    captions: bool = True,
    title: str = "",
    heads: Sequence[str] = (),
) -> Figure:
    """Draw images and their views, with the drawn numbers as captions.

    The outline of a view's region on the image has the colour of the view's frame; dashes of several colours outline
    a region that several views share. Kornia's geometric modules draw only when they run, so their views have no
    outline. Views have their true relative sizes. If there are eight views or more, five or more successive views of
    one size are drawn in one cell, row by row and without captions.

    The views are those that a new collate function with the same seed makes of its first batch, not normalised.

    Args:
        collate: Makes the views. It is not called, so it makes the same batches afterwards.
        images: Images, one for each row, of any kind that `lightly_aug.images.to_array` takes.
        draws: Number of batches to draw, side by side.
        captions: Whether to write the drawn numbers under each view.
        title: Title of the figure.
        heads: Names of the views, written above them; by default "view 0", "view 1" and so on.

    Returns:
        A figure with an image and its views in each row.
    """
    shown = MultiViewCollateFunction(
        [_before_normalizing(view) for view in collate.views],
        seed=collate.seed,
        render="late",
        engine=collate.engine,
        mode=collate.mode,
        decode=collate.decode,
        background=collate.background,
    )
    batches = [shown(list(images)) for _ in range(draws)]
    originals = [to_array(image, collate.mode, collate.decode, collate.background) for image in images]
    sizes = [(view.shape[3], view.shape[2]) for view in batches[0].to("cpu")]
    cells = _group_views(sizes)
    side, widths = _measure_columns(originals, sizes, cells)
    tables = [batch.table.double().numpy() for batch in batches]
    texts = [_caption_cells(shown.views, table, originals, cells, widths) for table in tables]
    lines = max(text.count("\n") + 1 for rows in texts for row in rows for text in row) if captions else 0
    columns = ["image"] + [_name_cell(cell, heads) for cell in cells]
    figure, axes = _lay_out(len(images), widths, side, lines, sections=draws, heads=columns, title=title)
    colours = _choose_colours(len(sizes))
    for draw, (batch, table) in enumerate(zip(batches, tables, strict=True)):
        views = [view.float().permute(0, 2, 3, 1).numpy() for view in batch.to("cpu")]
        shapes = batch.images.shapes.numpy()
        regions = [_find_regions(*each, shapes) for each in zip(shown.views, table, sizes, strict=True)]
        frames = [_HAIRLINE if region is None else c for region, c in zip(regions, colours, strict=True)]
        for row, original in enumerate(originals):
            first, *others = axes[row][draw * len(widths) :][: len(widths)]
            _draw_block(first, [original], [_HAIRLINE], margin=0.02)
            outlined = {i: region[row] for i, region in enumerate(regions) if region is not None}
            _draw_outlines(first, list(outlined.values()), [colours[i] for i in outlined])
            for place, cell in zip(others, cells, strict=True):
                _draw_block(place, [views[i][row] for i in cell], [frames[i] for i in cell])
            for place, text in zip((first, *others), texts[draw][row], strict=True):
                _write_below(place, text if captions else "")
    return figure


def neighbours(
    images: Sequence[Any],
    features: Tensor,
    *,
    names: Sequence[str] | None = None,
    captions: Sequence[str] | None = None,
    queries: int = 6,
    count: int = 6,
    title: str = "",
) -> Figure:
    """Draw images and their nearest neighbours, with the cosine similarity under each.

    Args:
        images: The n images, of any kind that `lightly_aug.images.to_array` takes. Those that are not drawn are not
            read, and large photographs are shrunk while they are read.
        features: Features of the images, `(n, d)`.
        names: Class names of the n images. They are written under the images; frames are green around neighbours of
            the same class as the image, and red around others.
        captions: More text to write under each of the n images, such as the names of their files.
        queries: Number of images to find neighbours of, evenly spaced.
        count: Number of neighbours of each image.
        title: Title of the figure.

    Returns:
        A figure with an image and its nearest neighbours by cosine similarity in each row, the nearest first.
    """
    unit = torch.nn.functional.normalize(features.float(), dim=1)
    chosen = torch.linspace(0, len(images) - 1, min(queries, len(images))).long()
    similarity = unit[chosen] @ unit.T
    similarity[torch.arange(len(chosen)), chosen] = -2  # an image is not its own neighbour
    values, found = similarity.topk(min(count, len(images) - 1))
    side, columns = 1.3, found.shape[1] + 1
    texts = [[_shorten(text, side) for text in group] for group in (captions, names) if group is not None]
    figure, table = _lay_out(len(chosen), [side] * columns, side, 1 + len(texts), title=title)

    def draw(axes: Axes, i: int, last: str, frame: str) -> None:
        _draw_block(axes, [to_array(images[i], decode=_SHOWN)], [frame])
        _write_below(axes, "\n".join([text[i] for text in texts] + [last] * bool(last)))

    for axes, query, cosines, others in zip(table, chosen.tolist(), values.tolist(), found.tolist(), strict=True):
        draw(axes[0], query, "" if texts else "image", _HAIRLINE)
        for place, cosine, i in zip(axes[1:], cosines, others, strict=True):
            draw(
                place, i, f"{cosine:.2f}", _HAIRLINE if names is None else _SAME if names[i] == names[query] else _OTHER
            )
    return figure


def embedding(
    features: Tensor | Sequence[Tensor],
    labels: Tensor,
    classes: Sequence[str],
    *,
    title: str = "",
    titles: Sequence[str] = (),
    images: Sequence[Any] | None = None,
) -> Figure:
    """Draw features in two dimensions by t-SNE, coloured by label.

    Up to ten classes are named at the median of their points, more in a legend.

    Args:
        features: Features `(n, d)`, n > 2; or several of them, of the same images, to draw side by side.
        labels: Integers `(n,)` below len(classes).
        classes: Names of the labels.
        title: Title of the figure.
        titles: Titles of the scatter plots, one for each.
        images: The n images, to draw some of them at their places.

    Returns:
        A figure with a scatter plot for each tensor of features.

    Raises:
        ValueError: There are titles, but not one for each scatter plot.

    Example:
        >>> features = torch.randn(8, 16), torch.randn(8, 16)
        >>> labels = torch.tensor([0, 1] * 4)
        >>> figure = embedding(features, labels, ["cat", "dog"], titles=["untrained, 64 %", "trained, 78 %"])
        >>> [axes.get_title() for axes in figure.axes]
        ['untrained, 64 %', 'trained, 78 %']
    """
    with extra("plot"):
        from matplotlib.figure import Figure
    panels = [features] if isinstance(features, Tensor) else list(features)
    if titles and len(titles) != len(panels):
        raise ValueError(f"embedding: titles must be one for each of {len(panels)} features, got {len(titles)}")
    direct = len(classes) <= 10
    figure = Figure(figsize=(5.6 * len(panels) + (0 if direct else 1.4), 5.6 + 0.4 * bool(title)), layout="constrained")
    if title:
        figure.suptitle(title, fontsize=13)
    for i, (axes, panel) in enumerate(zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True)):
        places = _reduce(panel)
        _scatter(axes, places, labels.cpu().numpy(), classes, write_names=direct)
        if images is not None:
            _draw_thumbnails(axes, places, images, [_choose_colours(len(classes))[label] for label in labels.tolist()])
        axes.set(xticks=[], yticks=[], aspect="equal", xlim=(-1.08, 1.08), ylim=(-1.08, 1.08))
        axes.spines[:].set(color=_HAIRLINE, linewidth=0.5)
        axes.set_title(titles[i] if titles else "", fontsize=11)
    if not direct:
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=9)
    return figure


# --- views ------------------------------------------------------------------------------------------------------


def _before_normalizing(view: View) -> View:
    items: list[Operation | Shared] = []
    for item in view.items:
        if isinstance(item, Shared):
            rest = [operation for operation in item.operations if not isinstance(operation, Normalize)]
            items += [Shared(item.name, *rest)] if rest else []
        elif not isinstance(item, Normalize):
            items.append(item)
    return View(*items, dtype=view.dtype)


def _group_views(sizes: Sequence[Size]) -> list[list[int]]:
    """Return the views of each cell: one, or, if there are many views, a run of them with one size."""
    runs = [list(run) for _, run in groupby(range(len(sizes)), key=lambda i: sizes[i])]
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
    """Return the height of the rows and the widths of the columns; all views have one scale."""
    blocks = [_measure_block(sizes[cell[0]], len(cell)) for cell in cells]
    tallest = max(height for _, height in blocks)
    side = 2.0 if tallest == max(height for _, height in sizes) else 2.6  # blocks are full of small views
    shapes = [image.shape for image in originals]
    widest = max(min(side * width / height, 1.5 * side) for height, width, _ in shapes)
    return side, [widest] + [side * width / tallest for width, _ in blocks]


def _measure_block(size: Size, count: int) -> tuple[float, float]:
    columns, step = _count_columns(count), _step(size)
    return size[0] + step[0] * (columns - 1), size[1] + step[1] * ((count - 1) // columns)


def _step(size: Size) -> tuple[float, float]:
    """Return the distances from one view of a block to the next in either direction, in pixels."""
    gap = 0.08 * max(size)
    return size[0] + gap, size[1] + gap


def _count_columns(count: int) -> int:
    """Return the columns of a block that is nearly square, and has few empty places.

    Example:
        >>> [_count_columns(count) for count in (1, 6, 8, 9, 10, 49)]
        [1, 3, 4, 3, 5, 7]
    """
    root = isqrt(count - 1) + 1
    return min((root, root + 1), key=lambda columns: -count % columns)


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
    originals: Sequence[NDArray[Any]],
    cells: Sequence[Sequence[int]],
    widths: Sequence[float],
) -> list[list[str]]:
    """Return the text under each cell of each row, for cells of these widths."""
    words = [view.captions(drawn) for view, drawn in zip(views, table, strict=True)]
    rows = []
    for row, original in enumerate(originals):
        texts = [[f"{original.shape[1]} × {original.shape[0]}"]]
        texts += [words[cell[0]][row] if len(cell) == 1 else [] for cell in cells]
        rows.append([_wrap(text, width) for text, width in zip(texts, widths, strict=True)])
    return rows


def _wrap(words: Sequence[str], width: float) -> str:
    """Join words by commas, in lines of this width; a word and its number stay in one line."""
    text = re.sub(r"(?<=\s)-(?=\d)", "−", ", ".join(words))
    fixed = re.sub(r"(?<!,) ", "\xa0", text)
    lines = textwrap.wrap(fixed, max(1, int(18 * width)), break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines).replace("\xa0", " ")


def _shorten(text: str, width: float) -> str:
    """Leave out the middle of a text that is wider than a cell.

    Example:
        >>> _shorten("IMG_20240131_120000_003.jpg", 1.3)
        'IMG_2024013…00_003.jpg'
    """
    most = int(17 * width)
    return text if len(text) <= most else f"{text[: most // 2]}…{text[-(most - most // 2 - 1) :]}"


# --- points -----------------------------------------------------------------------------------------------------


def _reduce(features: Tensor) -> Floats:
    """Return places `(n, 2)` in [-1, 1] by t-SNE of the directions of the features."""
    with extra("plot"):
        from sklearn.manifold import TSNE  # type: ignore[import-untyped]
    unit = torch.nn.functional.normalize(features.float(), dim=1).cpu().numpy()
    flat = TSNE(init="pca", perplexity=min(30.0, (len(unit) - 1) / 3), random_state=0).fit_transform(unit)
    flat = flat - (flat.max(0) + flat.min(0)) / 2
    return np.asarray(flat / np.abs(flat).max(), dtype=np.float64)


def _scatter(axes: Axes, places: Floats, labels: NDArray[Any], classes: Sequence[str], *, write_names: bool) -> None:
    from matplotlib.patheffects import withStroke

    casing = [withStroke(linewidth=3, foreground="white")]
    for label, (name, colour) in enumerate(zip(classes, _choose_colours(len(classes)), strict=True)):
        here = places[labels == label]
        axes.scatter(here[:, 0], here[:, 1], s=26, color=colour, edgecolors="white", linewidths=0.4, label=name)
        if write_names and len(here):
            x, y = np.median(here, axis=0)
            axes.text(x, y, name, ha="center", va="center", fontsize=9, weight="bold", zorder=4, path_effects=casing)


def _draw_thumbnails(
    axes: Axes, places: Floats, images: Sequence[Any], colours: Sequence[str], side: float = 0.1
) -> None:
    """Draw images of this side at their places, in order, except those too near to an earlier one."""
    taken: list[int] = []
    for i, place in enumerate(places):
        if all(np.abs(place - places[j]).max() > 2.2 * side for j in taken):
            taken.append(i)
            _show(axes, to_array(images[i], decode=_SHOWN), (*(place - side / 2), *(place + side / 2)), colours[i])


# --- the page ---------------------------------------------------------------------------------------------------


def _lay_out(
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
    title_lines = textwrap.wrap(title, max(1, int(8.5 * width)))
    above = _GAP + 0.3 * bool(title) + 0.2 * max(0, len(title_lines) - 1) + 0.22 * bool(heads)
    pitch = side + lines * _LINE + 1.5 * _GAP
    height = above + rows * pitch
    figure = Figure(figsize=(width, height))
    if title:
        figure.suptitle(
            "\n".join(title_lines), x=_GAP / width, y=1 - _GAP / height, ha="left", va="top", fontsize=12, weight="bold"
        )
    cells = [
        (section * number + sum(widths[:i]) + _GAP * (i + 1), own)
        for number in range(sections)
        for i, own in enumerate(widths)
    ]
    for (left, own), text in zip(cells, [*heads] * sections, strict=False):
        figure.text((left + own / 2) / width, 1 - (above - 0.05) / height, text, ha="center", va="bottom", fontsize=10)
    bottoms = [1 - (above + row * pitch + side) / height for row in range(rows)]
    return figure, [
        [figure.add_axes((left / width, bottom, own / width, side / height)) for left, own in cells]
        for bottom in bottoms
    ]


def _draw_block(axes: Axes, images: Sequence[NDArray[Any]], frames: Sequence[str], margin: float = 0.0) -> None:
    """Draw images of one size row by row, at the top of the axes, with pixel (0, 0) of the first at (0, 0)."""
    size = images[0].shape[1], images[0].shape[0]
    columns, step, (width, height) = _count_columns(len(images)), _step(size), _measure_block(size, len(images))
    for i, (image, frame) in enumerate(zip(images, frames, strict=True)):
        left, top = step[0] * (i % columns) - 0.5, step[1] * (i // columns) - 0.5
        _show(axes, image, (left, top + size[1], left + size[0], top), frame)
    border = margin * max(size)
    axes.set(xlim=(-0.5 - border, width - 0.5 + border), ylim=(height - 0.5 + border, -0.5 - border))
    axes.set_aspect("equal", anchor="N")
    axes.axis("off")


def _show(axes: Axes, image: NDArray[Any], box: tuple[float, float, float, float], frame: str) -> None:
    """Draw an image `(h, w, c)`, uint8 or floats in [0, 1], in a box (left, bottom, right, top) with a frame."""
    from matplotlib.patches import Rectangle

    left, bottom, right, top = box
    image = image[..., :3] if image.shape[2] >= 3 else image[..., 0]
    limits = (0, 255) if image.dtype == np.uint8 else (0, 1)
    image = image if image.dtype == np.uint8 else image.clip(0, 1)
    axes.imshow(image, cmap="gray", vmin=limits[0], vmax=limits[1], extent=(left, right, bottom, top), zorder=2)
    width = 0.5 if frame == _HAIRLINE else 1.5
    place = (left, bottom), right - left, top - bottom
    axes.add_patch(Rectangle(*place, fill=False, edgecolor=frame, linewidth=width, clip_on=False, zorder=2))


def _write_below(axes: Axes, text: str) -> None:
    axes.set_title(text, fontsize=7, y=0, va="top", pad=-4, linespacing=1.15)


def _choose_colours(count: int) -> list[str]:
    """Return distinct colours; more than there are in `_COLOURS` are a gradient."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    if count <= len(_COLOURS):
        return list(_COLOURS[:count])
    return [to_hex(colour) for colour in colormaps["turbo"](np.linspace(0.05, 0.95, count))]
