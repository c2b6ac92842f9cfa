"""What networks ignore, as a radar."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from lightly_aug.evaluate import Curve, InvarianceComparison
from lightly_aug.optional import extra
from lightly_aug.plot._page import HAIRLINE, choose_colours

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["invariance_radar"]

_MARKERS: Final = "osD^vP"
"""One for each network; more than these cannot be followed."""


def invariance_radar(comparison: InvarianceComparison, *, title: str = "") -> Figure:
    """Draw the scores of operations as a radar, one colour and marker a network, with their 95 % intervals.

    A spoke is an operation, and spokes are ordered by group. The radius is the score: 1, full invariance, at the rim,
    and 0, as different as another image, in the centre. A score below 0 is drawn in the centre, with a hollow marker.
    Intervals are lines along the spokes. Without three operations, spokes are groups.

    The shape depends on the order of the spokes, and its area means nothing, so it is not filled. `invariance_bars`
    shows the same scores on one scale, those below 0, too, and suits a comparison of numbers better.

    Args:
        comparison: What the networks ignore, 6 networks at most.
        title: Title of the figure.

    Returns:
        A figure with one radar.

    Raises:
        ValueError: There are more than 6 networks, or neither three operations nor three groups.
    """
    networks = comparison.networks
    if len(networks) > len(_MARKERS):
        raise ValueError(
            f"invariance_radar: comparison must have at most {len(_MARKERS)} networks, got {len(networks)}: "
            "invariance_bars draws more"
        )
    curves = [network.operations for network in networks]
    if len(_order(curves)) < 3:
        curves = [network.groups for network in networks]
    spokes = _order(curves)
    if len(spokes) < 3:
        raise ValueError(
            f"invariance_radar: comparison must have at least 3 operations or 3 groups, got {len(spokes)}: "
            "invariance_bars draws fewer"
        )
    with extra("plot"):
        from matplotlib.figure import Figure
    rows = -(-len(networks) // 3)
    below, width, height = 1.0 + 0.2 * rows, 6.2, 6.0 + 0.2 * rows + 0.35 * bool(title)
    figure = Figure(figsize=(width, height))
    if title:
        figure.suptitle(title, y=1 - 0.1 / height, va="top", fontsize=12, weight="bold")
    axes: Any = figure.add_axes(((width - 4) / 2 / width, below / height, 4 / width, 4 / height), projection="polar")
    axes.set_theta_zero_location("N")
    axes.set_theta_direction(-1)
    angles = np.arange(len(spokes)) * 2 * np.pi / len(spokes)
    for i, (network, own) in enumerate(zip(networks, curves, strict=True)):
        by_name = {(curve.group, curve.name): curve.score for curve in own}
        scores = np.array([by_name.get(spoke, (np.nan,) * 3) for spoke in spokes])
        # Intervals of several networks stand side by side, a little off the spoke.
        shift = (i - (len(networks) - 1) / 2) * min(0.03, 0.5 / len(spokes) / len(networks))
        _draw_network(axes, angles, scores, shift, network.name, choose_colours(len(networks))[i], _MARKERS[i])
    axes.set(ylim=(0, 1), yticks=[0, 0.25, 0.5, 0.75, 1], xticks=angles)
    axes.set_yticklabels(["0", "", "0.5", "", "1"], fontsize=8, color="#666666")
    axes.set_rlabel_position(float(np.degrees(angles[1])) / 2)
    axes.set_xticklabels([])
    axes.grid(color=HAIRLINE, linewidth=0.5)
    axes.spines["polar"].set(color=HAIRLINE)
    _write_spokes(axes, spokes, angles)
    figure.legend(loc="lower center", frameon=False, fontsize=9, ncols=min(3, len(networks)))
    return figure


def _order(curves: list[tuple[Curve, ...]]) -> list[tuple[str, str]]:
    """Return the groups and names of all curves, group by group, both in the order in which they first occur."""
    found = dict.fromkeys((curve.group, curve.name) for own in curves for curve in own)
    groups = list(dict.fromkeys(group for group, _ in found))
    return sorted(found, key=lambda spoke: groups.index(spoke[0]))


def _draw_network(axes: Any, angles: Any, scores: Any, shift: float, name: str, colour: str, marker: str) -> None:
    drawn = scores.clip(0, 1)
    ring = np.append(np.arange(len(angles)), 0)
    axes.plot(angles[ring], drawn[ring, 0], color=colour, linewidth=1.5, zorder=3)
    axes.plot([], [], color=colour, marker=marker, markersize=5, label=name)
    axes.vlines(angles + shift, drawn[:, 1], drawn[:, 2], color=colour, linewidth=1.2, zorder=3)
    below = scores[:, 0] < 0
    for hollow, here in ((False, ~below), (True, below)):
        face = "white" if hollow else colour
        axes.plot(
            angles[here] + shift * (not hollow), drawn[here, 0], marker, color=colour, markerfacecolor=face,
            markersize=5, zorder=4, clip_on=False,
        )  # fmt: skip


def _write_spokes(axes: Any, spokes: list[tuple[str, str]], angles: Any) -> None:
    """Write the names of the spokes around the rim, and those of their groups beyond, along arcs."""
    half = np.pi / len(spokes)
    for (_, name), angle in zip(spokes, angles, strict=True):
        side = np.sin(angle)
        across = "center" if abs(side) < 0.05 else "left" if side > 0 else "right"
        up = "bottom" if np.cos(angle) > 0.9 else "top" if np.cos(angle) < -0.9 else "center"
        axes.text(angle, 1.04, name.replace(" ", "\n"), ha=across, va=up, fontsize=8, linespacing=1.0)
    if all(group == name for group, name in spokes):
        return
    place = 0
    for group, members in groupby(spokes, key=lambda spoke: spoke[0]):
        count = len(list(members))
        first, last = angles[place] - 0.8 * half, angles[place + count - 1] + 0.8 * half
        axes.plot(np.linspace(first, last, 60), np.full(60, 1.36), color="#666666", linewidth=1.5, clip_on=False)
        middle = (first + last) / 2
        turn = -np.degrees(middle) % 360
        turn = turn - 180 if 90 < turn < 270 else turn
        axes.text(middle, 1.44, group, ha="center", va="center", rotation=turn, fontsize=10, weight="bold")
        place += count
