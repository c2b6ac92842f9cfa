"""A confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from lightly_aug.optional import extra
from lightly_aug.plot._page import HAIRLINE, shorten, wrap_title

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["confusion"]

_WRITTEN = 20
"""Up to so many classes, numbers are written into the cells."""


def confusion(counts: Tensor, classes: Sequence[str], *, title: str = "") -> Figure:
    """Draw a confusion matrix: a row for each true class, a column for each predicted one.

    The colour of a cell is its share of the row. Up to 20 classes, its number of images is written into it.

    Args:
        counts: Numbers of images `(c, c)` by true and predicted class.
        classes: Names of the c classes; the middle of long ones is left out.
        title: Title of the figure.

    Returns:
        A figure with the matrix and the scale of its colours.

    Raises:
        ValueError: `counts` is not `(c, c)` for c classes.

    Example:
        >>> import torch
        >>> figure = confusion(torch.tensor([[8, 2], [1, 9]]), ["cat", "dog"])
        >>> [text.get_text() for text in figure.axes[0].texts]
        ['8', '2', '1', '9']
    """
    if counts.shape != (len(classes), len(classes)):
        raise ValueError(f"confusion: counts must be (c, c) for c = {len(classes)} classes, got {tuple(counts.shape)}")
    with extra("plot"):
        from matplotlib.figure import Figure
    numbers = counts.cpu().numpy()
    shares = numbers / np.maximum(numbers.sum(1, keepdims=True), 1)
    side = 2.2 + min(0.36 * len(classes), 9.0)
    lines = wrap_title(title, side + 1.0)  # that of two classes is narrow
    figure = Figure(figsize=(side + 1.0, side + 0.2 * bool(title) + 0.2 * len(lines)), layout="constrained")
    if title:
        figure.suptitle("\n".join(lines), fontsize=12, weight="bold", parse_math=False)
    axes = figure.subplots()
    picture = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    step = max(1, len(classes) // 50)
    ticks = range(0, len(classes), step)
    names = [shorten(classes[i]) for i in ticks]
    axes.set_xticks(ticks, names, rotation=90, fontsize=8, parse_math=False)
    axes.set_yticks(ticks, names, fontsize=8, parse_math=False)
    axes.set(xlabel="predicted", ylabel="true")
    axes.spines[:].set(color=HAIRLINE, linewidth=0.5)
    if len(classes) <= _WRITTEN:
        for (row, column), count in np.ndenumerate(numbers):
            if count:
                colour = "white" if shares[row, column] > 0.5 else "black"
                axes.text(column, row, str(count), ha="center", va="center", fontsize=7, color=colour)
    figure.colorbar(picture, ax=axes, shrink=0.6, label="share of the true class")
    return figure
