"""The stages of a batch as bars."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lightly_aug.optional import extra
from lightly_aug.plot._page import HAIRLINE, choose_colours

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_bars"]


def draw_bars(
    bars: Sequence[tuple[str, str, float, float]], places: Sequence[str], *, heading: str, title: str = ""
) -> Figure:
    """Draw stages as horizontal bars, from top to bottom.

    Args:
        bars: For each stage its name, the place where it happens, wall seconds and CPU seconds a batch.
        places: All places that there can be, so that each has the same colour in every picture.
        heading: Text above the bars.
        title: Title of the figure.
    """
    with extra("plot"):
        from matplotlib.figure import Figure
    colours = dict(zip(places, choose_colours(len(places)), strict=True))
    seen = {place for _, place, *_ in bars}
    figure = Figure(figsize=(6.4, 1.5 + 0.3 * len(bars) + 0.35 * bool(title)), layout="constrained")
    if title:
        figure.suptitle(title, fontsize=12, weight="bold")
    axes = figure.subplots()
    for i, (_, place, seconds, cpu_seconds) in enumerate(bars):
        axes.barh(i, seconds * 1e3, 0.7, color=colours[place], alpha=0.35)
        axes.barh(i, min(cpu_seconds, seconds) * 1e3, 0.7, color=colours[place])
        axes.text(seconds * 1e3, i, f" {seconds * 1e3:,.1f}", va="center", fontsize=8, color="#666666")
    for place in (place for place in places if place in seen):
        axes.barh(0, 0, color=colours[place], label=place)
    longest = max(seconds for _, _, seconds, _ in bars) * 1e3 or 1.0
    axes.set(xlim=(0, 1.12 * longest), xlabel="milliseconds a batch (dark: computing, light: waiting)")
    axes.set_yticks(range(len(bars)), [name for name, *_ in bars])
    axes.invert_yaxis()
    axes.grid(axis="x", color=HAIRLINE, linewidth=0.5)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", frameon=False, fontsize=9, ncols=len(seen))
    axes.set_title(heading, fontsize=10, loc="left")
    return figure
