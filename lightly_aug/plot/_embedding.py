"""Features in two dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightly_aug.images import to_array
from lightly_aug.operations import Floats
from lightly_aug.optional import extra
from lightly_aug.plot._page import HAIRLINE, SHOWN, choose_colours, show

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["embedding"]


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
        features: Features `(n, d)`; or several of them, of the same images, to draw side by side.
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
            _draw_thumbnails(axes, places, images, [choose_colours(len(classes))[label] for label in labels.tolist()])
        axes.set(xticks=[], yticks=[], aspect="equal", xlim=(-1.08, 1.08), ylim=(-1.08, 1.08))
        axes.spines[:].set(color=HAIRLINE, linewidth=0.5)
        axes.set_title(titles[i] if titles else "", fontsize=11)
    if not direct:
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=9)
    return figure


def _reduce(features: Tensor) -> Floats:
    """Return places `(n, 2)` in [-1, 1] by t-SNE of the directions of the features."""
    with extra("plot"):
        from sklearn.manifold import TSNE  # type: ignore[import-untyped]
    if len(features) < 2:
        return np.zeros((len(features), 2))
    unit = torch.nn.functional.normalize(features.float(), dim=1).cpu().numpy()
    flat = TSNE(init="pca", perplexity=min(30.0, (len(unit) - 1) / 3), random_state=0).fit_transform(unit)
    flat = flat - (flat.max(0) + flat.min(0)) / 2
    return np.asarray(flat / np.abs(flat).max(), dtype=np.float64)


def _scatter(axes: Axes, places: Floats, labels: NDArray[Any], classes: Sequence[str], *, write_names: bool) -> None:
    from matplotlib.patheffects import withStroke

    casing = [withStroke(linewidth=3, foreground="white")]
    for label, (name, colour) in enumerate(zip(classes, choose_colours(len(classes)), strict=True)):
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
            show(axes, to_array(images[i], decode=SHOWN), (*(place - side / 2), *(place + side / 2)), colours[i])
