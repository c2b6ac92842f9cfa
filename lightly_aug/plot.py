"""Pictures of views, of nearest neighbours, and of embeddings.

Figures are returned, not shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from lightly_aug.collate import BaseCollateFunction, MultiViewCollateFunction
from lightly_aug.images import to_array
from lightly_aug.operations import Normalize, Operation
from lightly_aug.optional import extra
from lightly_aug.view import Shared, View

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["embedding", "neighbours", "view_grid"]


def view_grid(collate: BaseCollateFunction, images: Sequence[Any], *, captions: bool = True) -> Figure:
    """Draw images and their views, with the drawn numbers as captions.

    The views are those that a new collate function with the same seed makes of its first batch, not normalised.

    Args:
        collate: Makes the views. It is not called, so it makes the same batches afterwards.
        images: Images, one for each row, of any kind that `lightly_aug.images.to_array` takes.
        captions: Whether to write the drawn numbers under each view.

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
    )
    views = shown(list(images))
    grid = _Grid(len(images), len(views) + 1, 2.0, 0.45 if captions else 0.0)
    rendered = [view.float().permute(0, 2, 3, 1).cpu().numpy() for view in views.to("cpu")]
    words = [view.captions(drawn.double().numpy()) for view, drawn in zip(views.views, views.table, strict=True)]
    for row, image in enumerate(images):
        original = to_array(image, collate.mode, collate.decode)
        grid.show(row, 0, original, f"{original.shape[1]} × {original.shape[0]}" if captions else "")
        for i, view in enumerate(rendered):
            grid.show(row, i + 1, view[row], _wrap(words[i][row]) if captions else "")
    return grid.figure


def neighbours(images: Sequence[Any], features: Tensor, *, queries: int = 6, count: int = 6) -> Figure:
    """Draw images and their nearest neighbours.

    Args:
        images: The n images, of any kind that `lightly_aug.images.to_array` takes.
        features: Features of the images, `(n, d)`.
        queries: Number of images to find neighbours of, evenly spaced.
        count: Number of neighbours of each image.

    Returns:
        A figure with an image and its nearest neighbours by cosine similarity in each row, the nearest first.
    """
    unit = torch.nn.functional.normalize(features.float(), dim=1)
    chosen = torch.linspace(0, len(images) - 1, min(queries, len(images))).long()
    similarity = unit[chosen] @ unit.T
    similarity[torch.arange(len(chosen)), chosen] = -2  # an image is not its own neighbour
    values, found = similarity.topk(min(count, len(images) - 1))
    grid = _Grid(len(chosen), found.shape[1] + 1, 1.4, 0.25)
    for row, query in enumerate(chosen.tolist()):
        grid.show(row, 0, to_array(images[query]), "image")
        for column, (value, i) in enumerate(zip(values[row].tolist(), found[row].tolist(), strict=True)):
            grid.show(row, column + 1, to_array(images[i]), f"{value:.2f}")
    return grid.figure


def embedding(features: Tensor, labels: Tensor, classes: Sequence[str]) -> Figure:
    """Draw features in two dimensions by t-SNE, coloured by label.

    Args:
        features: Features `(n, d)`, n > 2.
        labels: Integers `(n,)` below len(classes).
        classes: Names of the labels.

    Returns:
        A figure with one scatter plot.
    """
    with extra("plot"):
        from matplotlib import colormaps
        from matplotlib.figure import Figure
        from sklearn.manifold import TSNE  # type: ignore[import-untyped]
    unit = torch.nn.functional.normalize(features.float(), dim=1).cpu().numpy()
    flat = TSNE(init="pca", perplexity=min(30.0, (len(unit) - 1) / 3), random_state=0).fit_transform(unit)
    figure = Figure(figsize=(8, 6), layout="constrained")
    axes = figure.add_subplot()
    colours = colormaps["tab20"](np.arange(len(classes)) % 20)
    for label, name in enumerate(classes):
        here = flat[(labels == label).cpu().numpy()]
        axes.scatter(here[:, 0], here[:, 1], s=9, color=colours[label], label=name)
    axes.set(xticks=[], yticks=[])
    figure.legend(loc="outside right upper", frameon=False, markerscale=2)
    return figure


class _Grid:
    """A figure of square cells, each with an image and some lines of text."""

    def __init__(self, rows: int, columns: int, side: float, text: float) -> None:
        with extra("plot"):
            from matplotlib.figure import Figure
        self.figure = Figure(figsize=(columns * side, rows * (side + text)), layout="constrained")
        self._axes: Any = self.figure.subplots(rows, columns, squeeze=False)
        for axes in self._axes.flat:
            axes.axis("off")

    def show(self, row: int, column: int, image: np.typing.NDArray[Any], text: str) -> None:
        """Draw an image `(h, w, c)`, uint8 or floats in [0, 1], and the text below it."""
        axes: Axes = self._axes[row, column]
        image = image[..., :3] if image.shape[2] >= 3 else image[..., 0]
        limits = (0, 255) if image.dtype == np.uint8 else (0, 1)
        image = image if image.dtype == np.uint8 else image.clip(0, 1)
        axes.imshow(image, cmap="gray", vmin=limits[0], vmax=limits[1])
        axes.set_title(text, fontsize=7, y=0, va="top", pad=-3)


def _before_normalizing(view: View) -> View:
    items: list[Operation | Shared] = []
    for item in view.items:
        if isinstance(item, Shared):
            rest = [operation for operation in item.operations if not isinstance(operation, Normalize)]
            items += [Shared(item.name, *rest)] if rest else []
        elif not isinstance(item, Normalize):
            items.append(item)
    return View(*items, dtype=view.dtype)


def _wrap(words: Sequence[str], width: int = 32) -> str:
    """Join words by commas, in lines of about this width; a word is never split."""
    lines = [""]
    for word in words:
        if lines[-1] and len(lines[-1]) + len(word) > width:
            lines.append("")
        lines[-1] += (", " if lines[-1] else "") + word
    return "\n".join(lines)
