"""Accuracy against the number of labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lightly_aug.operations import Floats
from lightly_aug.optional import extra
from lightly_aug.plot._page import HAIRLINE, choose_colours

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["label_curve"]


def label_curve(
    labels: Sequence[int], accuracies: Mapping[str, Floats], *, chance: float | None = None, title: str = ""
) -> Figure:
    """Draw accuracy against the number of labels per class, on a logarithmic axis.

    Args:
        labels: Numbers of labels per class, ascending.
        accuracies: By name, the accuracies `(len(labels), draws)`, 0 to 1, of classifiers that were fitted to several
            draws of so many labels. The line is their mean, the band is from the lowest to the highest.
        chance: Accuracy of a guess, 0 to 1, to draw as a line.
        title: Title of the figure.

    Returns:
        A figure with a line and a band for each name.

    Raises:
        ValueError: Accuracies are not `(len(labels), draws)`.

    Example:
        >>> import numpy as np
        >>> figure = label_curve([1, 10], {"kNN": np.array([[0.3, 0.4], [0.7, 0.8]])}, chance=0.1)
        >>> figure.axes[0].lines[0].get_ydata().round(2).tolist()
        [0.35, 0.75]
    """
    for name, values in accuracies.items():
        if values.ndim != 2 or len(values) != len(labels):
            raise ValueError(f"label_curve: {name} must be ({len(labels)}, draws), got {values.shape}")
    with extra("plot"):
        from matplotlib.figure import Figure
        from matplotlib.ticker import PercentFormatter
    figure = Figure(figsize=(5.6, 4.0), layout="constrained")
    if title:
        figure.suptitle(title, fontsize=12, weight="bold")
    axes = figure.subplots()
    for (name, values), colour in zip(accuracies.items(), choose_colours(len(accuracies)), strict=True):
        axes.plot(labels, values.mean(1), marker="o", markersize=4, color=colour, label=name)
        axes.fill_between(labels, values.min(1), values.max(1), color=colour, alpha=0.2, linewidth=0)
    if chance is not None:
        axes.axhline(chance, color="#666666", linestyle=(0, (3, 3)), linewidth=1)
        axes.text(labels[-1], chance, "chance", ha="right", va="bottom", fontsize=8, color="#666666")
    axes.set_xscale("log")
    later = [*labels[1:], float("inf")]
    ticks = [count for count, following in zip(labels, later, strict=True) if following > 1.3 * count]  # room for text
    axes.set_xticks(ticks, [str(count) for count in ticks])
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set(xlabel="labels per class", ylabel="accuracy", ylim=(0, 1))
    axes.grid(color=HAIRLINE, linewidth=0.5)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="upper left")
    return figure
