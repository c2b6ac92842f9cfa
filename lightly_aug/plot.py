"""Pictures of what a collate function does to images, and of what a network makes of them.

Figures are returned, not shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from lightly_aug.collate import BaseCollateFunction
from lightly_aug.epochs import Clock
from lightly_aug.images import to_array
from lightly_aug.operations import JITTER_ORDERS, Normalize
from lightly_aug.optional import extra
from lightly_aug.view import View

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["embedding", "neighbours", "view_grid"]


def view_grid(collate: BaseCollateFunction, images: Sequence[Any], *, captions: bool = True) -> Figure:
    """Images and their views, captioned with what was drawn.

    Args:
        collate: makes the views; they are shown before normalising.
        images: one a row, of any kind that `lightly_aug.images.to_array` takes.
        captions: whether to write what was drawn under each view.

    Returns:
        A figure: in each row an image and its views.
    """
    shown = copy(collate)
    shown._clock = Clock()  # looking moves no draw of the training
    shown.views = tuple(_before_normalizing(view) for view in collate.views)
    views = shown(list(images))
    grid = _Grid(len(images), len(views) + 1, 2.0, 0.45 if captions else 0.0)
    rendered = [view.float().permute(0, 2, 3, 1).cpu().numpy() for view in views.to("cpu")]
    for row, image in enumerate(images):
        original = to_array(image, collate.mode, collate.decode)
        grid.show(row, 0, original, f"{original.shape[1]} × {original.shape[0]}" if captions else "")
        for i, view in enumerate(rendered):
            drawn = {name: float(values[row]) for name, values in views.draws[i].items()}
            grid.show(row, i + 1, view[row], _caption(drawn) if captions else "")
    return grid.figure


def neighbours(images: Sequence[Any], features: Tensor, *, queries: int = 6, count: int = 6) -> Figure:
    """Images, and those that a network finds most alike.

    Args:
        images: n images of any kind that `lightly_aug.images.to_array` takes.
        features: (n, d), of the images.
        queries: how many images to ask for, taken at even distances.
        count: how many neighbours to show of each.

    Returns:
        A figure: in each row an image and its nearest neighbours by cosine similarity, nearest first.
    """
    unit = torch.nn.functional.normalize(features.float(), dim=1)
    asked = torch.linspace(0, len(images) - 1, min(queries, len(images))).long()
    similarity = unit[asked] @ unit.T
    similarity[torch.arange(len(asked)), asked] = -2  # not itself
    values, found = similarity.topk(min(count, len(images) - 1))
    grid = _Grid(len(asked), found.shape[1] + 1, 1.4, 0.25)
    for row, query in enumerate(asked.tolist()):
        grid.show(row, 0, to_array(images[query]), "image")
        for column, (value, i) in enumerate(zip(values[row].tolist(), found[row].tolist(), strict=True)):
            grid.show(row, column + 1, to_array(images[i]), f"{value:.2f}")
    return grid.figure


def embedding(features: Tensor, labels: Tensor, classes: Sequence[str]) -> Figure:
    """Features in two dimensions by t-SNE, coloured by label.

    Args:
        features: (n, d), n > 2.
        labels: (n,) integers below len(classes).
        classes: names of the labels.

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
    """A figure of square cells, each with an image and a line or two of text."""

    def __init__(self, rows: int, columns: int, side: float, text: float) -> None:
        with extra("plot"):
            from matplotlib.figure import Figure
        self.figure = Figure(figsize=(columns * side, rows * (side + text)), layout="constrained")
        self._axes: Any = self.figure.subplots(rows, columns, squeeze=False)
        for axes in self._axes.flat:
            axes.axis("off")

    def show(self, row: int, column: int, image: np.typing.NDArray[Any], text: str) -> None:
        axes: Axes = self._axes[row, column]
        image = image[..., :3] if image.shape[2] >= 3 else image[..., 0]
        limits = (0, 255) if image.dtype == np.uint8 else (0, 1)
        image = image if image.dtype == np.uint8 else image.clip(0, 1)
        axes.imshow(image, cmap="gray", vmin=limits[0], vmax=limits[1])
        axes.set_title(text, fontsize=7, y=0, va="top", pad=-3)


def _before_normalizing(view: View) -> View:
    return View(*(item for item in view.items if not isinstance(item, Normalize)), dtype=view.dtype)


_NAMES = {
    "RandomHorizontalFlip": "flip",
    "RandomVerticalFlip": "vertical flip",
    "RandomGrayscale": "gray",
    "RandomSolarize": "solarize",
    "RandomEqualize": "equalize",
}


def _caption(drawn: dict[str, float]) -> str:
    """What was drawn, in a few words; what had no effect is left out."""
    words = []
    for name, value in drawn.items():
        match name.split("."):
            case ["RandomResizedCrop", "height"]:
                words.append(f"crop {drawn['RandomResizedCrop.width']:.0f} × {value:.0f}")
            case [kind, "applied"] if value and kind in _NAMES:
                words.append(_NAMES[kind])
            case ["RandomJigsawPatch", "cell"]:
                words.append(f"cell {value:.0f}")
            case ["RandomRotation90" | "RandomRotation", _] if value:
                words.append(f"turn {value * (90 if 'turns' in name else 1):.0f}°")
            case ["ColorJitter", "order"] if drawn["ColorJitter.applied"]:
                parts = [f"{part[0]} {drawn[f'ColorJitter.{part}']:.2g}" for part in JITTER_ORDERS[int(value)]]
                words.append("jitter " + " ".join(parts))
            case ["RandomGaussianBlur", _] if value:
                words.append(f"blur {value:.1f}")
    lines = [""]
    for word in words:
        if lines[-1] and len(lines[-1]) + len(word) > 32:
            lines.append("")
        lines[-1] += (", " if lines[-1] else "") + word
    return "\n".join(lines)
