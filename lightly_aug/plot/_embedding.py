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
from lightly_aug.plot._page import HAIRLINE, SHOWN, choose_colours, shorten, show

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["embedding"]


def embedding(
    features: Tensor | Sequence[Tensor],
    labels: Tensor | None = None,
    classes: Sequence[str] = (),
    *,
    values: Tensor | None = None,
    value_name: str = "",
    title: str = "",
    titles: Sequence[str] = (),
    images: Sequence[Any] | None = None,
) -> Figure:
    """Draw features in two dimensions by t-SNE, coloured by label, by a number of each image, or in one colour.

    Up to ten classes are named at the median of their points, more in a legend. Numbers have a bar of colours.

    Args:
        features: Features `(n, d)`, d >= 2; or several of them, of the same images, to draw side by side.
        labels: Integers `(n,)` from 0 to len(classes) - 1, and -1 for single images without a label, which are gray;
            None for images without labels.
        classes: Names of the labels; the middle of long ones is left out.
        values: Numbers `(n,)`, such as a brightness or a loss, to colour images without labels by.
        value_name: Text at the bar of colours.
        title: Title of the figure.
        titles: Titles of the scatter plots, one for each.
        images: The n images, to draw some of them at their places: so many that none overlap and no free place that
            has points is left.

    Returns:
        A figure with a scatter plot for each tensor of features.

    Raises:
        ValueError: Labels, classes, values, images or titles do not fit the features or each other, or features are
            not finite.

    Example:
        >>> features = torch.randn(8, 16), torch.randn(8, 16)
        >>> labels = torch.tensor([0, 1] * 4)
        >>> figure = embedding(features, labels, ["cat", "dog"], titles=["untrained, 64 %", "trained, 78 %"])
        >>> [axes.get_title() for axes in figure.axes]
        ['untrained, 64 %', 'trained, 78 %']
        >>> len(embedding(features[0], values=torch.arange(8.0), value_name="loss").axes)  # and the bar of colours
        2
    """
    with extra("plot"):
        from matplotlib.figure import Figure
    panels = [features] if isinstance(features, Tensor) else list(features)
    if titles and len(titles) != len(panels):
        raise ValueError(f"embedding: titles must be one for each of {len(panels)} features, got {len(titles)}")
    _check(panels, labels, classes, values, images)
    classes, in_legend = [shorten(name) for name in classes], len(classes) > 10
    aside = 1.4 * in_legend + 0.9 * (values is not None)
    figure = Figure(figsize=(5.6 * len(panels) + aside, 5.6 + 0.4 * bool(title)), layout="constrained")
    if title:
        figure.suptitle(title, fontsize=13, parse_math=False)
    row = figure.subplots(1, len(panels), squeeze=False)[0]
    for i, (axes, panel) in enumerate(zip(row, panels, strict=True)):
        places = _reduce(panel)
        if labels is not None:
            _scatter(axes, places, labels.cpu().numpy(), classes, write_names=not in_legend)
            frames = [HAIRLINE if y < 0 else choose_colours(len(classes))[y] for y in labels.tolist()]
        else:
            frames = _scatter_values(axes, places, values)
        if images is not None:
            _draw_thumbnails(axes, places, images, frames)
        axes.set(xticks=[], yticks=[], aspect="equal", xlim=(-1.08, 1.08), ylim=(-1.08, 1.08))
        axes.spines[:].set(color=HAIRLINE, linewidth=0.5)
        axes.set_title(titles[i] if titles else "", fontsize=11)
    if in_legend:
        legend = row[-1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=9)
        for text in legend.get_texts():
            text.set_parse_math(False)
    if values is not None:
        figure.colorbar(row[-1].collections[0], ax=row, shrink=0.7, label=value_name)
    return figure


def _check(
    panels: Sequence[Tensor],
    labels: Tensor | None,
    classes: Sequence[str],
    values: Tensor | None,
    images: Sequence[Any] | None,
) -> None:
    if not panels:
        raise ValueError("embedding: features must be one tensor or more, got none")
    n = panels[0].shape[0] if panels[0].ndim else 1
    for panel in panels:
        if panel.ndim != 2 or len(panel) != n or panel.shape[1] < 2:
            raise ValueError(f"embedding: features must be ({n}, d) with d >= 2, got {tuple(panel.shape)}")
        if not panel.isfinite().all():
            raise ValueError("embedding: features must be finite, got NaN or infinity")
    if labels is not None and values is not None:
        raise ValueError("embedding: labels and values both colour the images, give one of them")
    if labels is None and classes:
        raise ValueError(f"embedding: classes are names of labels, got {len(classes)} and no labels")
    for name, numbers in (("labels", labels), ("values", values)):
        if numbers is not None and numbers.shape != (n,):
            raise ValueError(f"embedding: {name} must be one for each of {n} images, got {tuple(numbers.shape)}")
    if labels is not None and n and not (labels.min() >= -1 and labels.max() < len(classes)):
        raise ValueError(
            f"embedding: labels must be from -1 (no label) to {len(classes) - 1}, the last of the classes, got "
            f"{int(labels.min())} to {int(labels.max())}"
        )
    if values is not None and not values.isfinite().all():
        raise ValueError("embedding: values must be finite, got NaN or infinity")
    if images is not None and len(images) != n:
        raise ValueError(f"embedding: images must be one for each of {n} features, got {len(images)}")


def _reduce(features: Tensor) -> Floats:
    """Return places `(n, 2)` in [-1, 1] by t-SNE of the directions of the features."""
    with extra("plot"):
        from sklearn.manifold import TSNE  # type: ignore[import-untyped]
    unit = torch.nn.functional.normalize(features.detach().float(), dim=1).cpu().numpy()
    if (unit == unit[:1]).all():  # one image, or a collapse
        return np.zeros((len(unit), 2))
    flat = TSNE(init="pca", perplexity=min(30.0, (len(unit) - 1) / 3), random_state=0).fit_transform(unit)
    flat = flat - (flat.max(0) + flat.min(0)) / 2
    return np.asarray(flat / np.abs(flat).max(), dtype=np.float64)


def _scatter(axes: Axes, places: Floats, labels: NDArray[Any], classes: Sequence[str], *, write_names: bool) -> None:
    from matplotlib.patheffects import withStroke

    casing = [withStroke(linewidth=3, foreground="white")]
    unknown = places[labels < 0]
    if len(unknown):
        axes.scatter(unknown[:, 0], unknown[:, 1], s=26, color=HAIRLINE, edgecolors="white", linewidths=0.4)
    for label, (name, colour) in enumerate(zip(classes, choose_colours(len(classes)), strict=True)):
        here = places[labels == label]
        axes.scatter(here[:, 0], here[:, 1], s=26, color=colour, edgecolors="white", linewidths=0.4, label=name)
        if write_names and len(here):
            x, y = np.median(here, axis=0)
            axes.text(
                x,
                y,
                name,
                ha="center",
                va="center",
                fontsize=9,
                weight="bold",
                zorder=4,
                path_effects=casing,
                parse_math=False,
            )


def _scatter_values(axes: Axes, places: Floats, values: Tensor | None) -> list[str]:
    """Draw points by their values, and return the colours of the frames of their images."""
    from matplotlib.colors import to_hex

    if values is None:
        axes.scatter(places[:, 0], places[:, 1], s=26, color=choose_colours(1)[0], edgecolors="white", linewidths=0.4)
        return [HAIRLINE] * len(places)
    numbers = values.detach().cpu().double().numpy()
    points = axes.scatter(places[:, 0], places[:, 1], s=26, c=numbers, edgecolors="white", linewidths=0.4)
    return [to_hex(colour) for colour in points.to_rgba(numbers)]


def _draw_thumbnails(
    axes: Axes, places: Floats, images: Sequence[Any], colours: Sequence[str], side: float = 0.1
) -> None:
    """Draw images of this side at their places, in order, except those too near to an earlier one."""
    taken: list[int] = []
    for i, place in enumerate(places):
        if all(np.abs(place - places[j]).max() > 2.2 * side for j in taken):
            taken.append(i)
            show(axes, to_array(images[i], decode=SHOWN), (*(place - side / 2), *(place + side / 2)), colours[i])
