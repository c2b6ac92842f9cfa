"""Pictures of what networks ignore."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from lightly_aug.evaluate import CHANGES, Change, Curve, InvarianceComparison
from lightly_aug.optional import extra
from lightly_aug.plot._page import HAIRLINE, choose_colours
from lightly_aug.plot._sweep import insert_neutral, render_change

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["invariance_bars", "invariance_curves"]


def invariance_bars(comparison: InvarianceComparison, *, title: str = "") -> Figure:
    """Draw the scores of groups and operations as bars, one colour a network, with their 95 % intervals.

    Args:
        comparison: What the networks ignore.
        title: Title of the figure.

    Returns:
        A figure with a panel of the groups, and one of the operations of each group.
    """
    with extra("plot"):
        from matplotlib.figure import Figure
    networks = comparison.networks
    groups = list(dict.fromkeys(curve.name for network in networks for curve in network.groups))
    panels = {"groups, as drawn": groups}
    for network in networks:
        for curve in network.operations:
            own = panels.setdefault(curve.group, [])
            if curve.name not in own:
                own.append(curve.name)
    panels = {name: own for name, own in panels.items() if own}
    sizes = [len(own) + 0.6 for own in panels.values()]
    height = 0.14 * len(networks) + 0.16
    figure = Figure(figsize=(6.4, height * sum(sizes) + 1.0), layout="constrained")
    if title:
        figure.suptitle(title, fontsize=12, weight="bold")
    rows = figure.subplots(len(panels), 1, sharex=True, squeeze=False, height_ratios=sizes)[:, 0]
    colours = choose_colours(len(networks))
    known = [{curve.name: curve for curve in (*network.operations, *network.groups)} for network in networks]
    for axes, (panel, names) in zip(rows, panels.items(), strict=True):
        for i, (network, curves) in enumerate(zip(networks, known, strict=True)):
            found = [(place, curves[name].score) for place, name in enumerate(names) if name in curves]
            places = np.array([place for place, _ in found]) + (i + 0.5) / len(networks) * 0.8 - 0.4
            values = np.array([score for _, score in found]).reshape(-1, 3)
            axes.barh(places, values[:, 0], 0.8 / len(networks), color=colours[i], label=network.name)
            axes.hlines(places, values[:, 1], values[:, 2], color="#333333", linewidth=1)
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.set_title(panel, fontsize=10, loc="left")
        _finish(axes, "x")
    rows[-1].set_xlabel("invariance: 1 is full, 0 as different as another image")
    handles, labels = rows[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", frameon=False, fontsize=9, ncols=min(3, len(networks)))
    return figure


def invariance_curves(
    comparison: InvarianceComparison, *, image: Any = None, changes: Sequence[Change] = CHANGES, title: str = ""
) -> Figure:
    """Draw the scores over the strengths of each operation, one colour a network, with bands of 95 % intervals.

    The unchanged image has the score 1, and stands at its place among the strengths.

    Args:
        comparison: What the networks ignore.
        image: An image to show changed by each strength, below the axes, of any kind that
            `lightly_aug.images.to_array` takes.
        changes: The changes that were measured, to change the image with.
        title: Title of the figure.

    Returns:
        A figure with a panel for each operation.

    Raises:
        ValueError: No operation was measured.
    """
    with extra("plot"):
        from matplotlib.figure import Figure
    operations = {curve.name: curve for network in comparison.networks for curve in network.operations}
    if not operations:
        raise ValueError("invariance_curves: comparison must have operations, got groups only")
    columns = min(3, len(operations))
    count = -(-len(operations) // columns)
    figure = Figure(figsize=(4.4 * columns, 2.9 * count + 0.8), layout="constrained")
    if title:
        figure.suptitle(title, fontsize=12, weight="bold")
    panels = figure.subplots(count, columns, sharey=True, squeeze=False).ravel()
    by_name = {change.name: change for change in changes}
    for axes, (name, first) in zip(panels, operations.items(), strict=False):
        for network, colour in zip(comparison.networks, choose_colours(len(comparison.networks)), strict=True):
            for curve in network.operations:
                if curve.name == name:
                    _draw_curve(axes, curve, network.name, colour)
        strengths = _with_neutral(first)
        axes.set_xticks(range(len(strengths)), [f"{strength:g}" for strength in strengths], fontsize=8)
        axes.set_title(name, fontsize=10, loc="left")
        if image is None:
            axes.set_xlabel(first.unit, fontsize=8, labelpad=2)
        else:  # below the pictures
            axes.text(0.5, -0.41, first.unit, ha="center", va="top", fontsize=8, transform=axes.transAxes)
        axes.set_xlim(-0.5, len(strengths) - 0.5)
        _finish(axes, "y")
        if image is not None and name in by_name:
            _draw_samples(axes, by_name[name], strengths, image)
    for axes in panels[len(operations) :]:
        axes.set_axis_off()
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", frameon=False, fontsize=9, ncols=len(labels))
    figure.draw_without_rendering()  # the layout takes two passes to leave room for the legend
    return figure


def _with_neutral(curve: Curve) -> list[float]:
    assert curve.neutral is not None
    return insert_neutral(curve.strengths, curve.neutral)


def _draw_curve(axes: Axes, curve: Curve, label: str, colour: str) -> None:
    points = dict(zip(curve.strengths, curve.points, strict=True))
    values = np.array([points.get(strength, (1.0, 1.0, 1.0)) for strength in _with_neutral(curve)])
    axes.plot(values[:, 0], marker="o", markersize=3, color=colour, label=label)
    axes.fill_between(range(len(values)), values[:, 1], values[:, 2], color=colour, alpha=0.2, linewidth=0)


def _draw_samples(axes: Axes, change: Change, strengths: Sequence[float], image: Any, size: int = 64) -> None:
    """Draw an image changed by each strength below the ticks."""
    side = 0.9 / len(strengths)
    for place, shown in enumerate(render_change(change, strengths, image, size)):
        left = (place + 0.5) / len(strengths) - side / 2
        small = axes.inset_axes((left, -0.38, side, 0.24))
        small.imshow(shown)
        small.set_axis_off()
        small.set_in_layout(False)  # as dozens of them make the layout slow; the label leaves them room


def _finish(axes: Axes, along: Literal["x", "y"]) -> None:
    axes.grid(axis=along, color=HAIRLINE, linewidth=0.5)
    axes.set_axisbelow(True)
    (axes.axvline if along == "x" else axes.axhline)(0, color="#666666", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
