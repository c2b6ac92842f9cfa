"""What was measured while a network trained."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from lightly_aug.operations import Floats
from lightly_aug.optional import extra
from lightly_aug.plot._page import HAIRLINE, choose_colours

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["training_curves"]

Folder = str | PathLike[str]

_SHARES: Final = ("knn_accuracy", "linear_accuracy", "pair_accuracy")
_SHOWN: Final = ("loss", "lr", *_SHARES, "spread", "effective_rank")
_DASHES: Final = ("-", "--", ":")
_ALARM: Final = "#e41a1c"


class _Run(NamedTuple):
    """The log of a run.

    Attributes:
        points: By name of the measure: optimiser steps that were done, `(n,)`, and values, `(n,)`.
        ends: Steps `(m,)` and epochs `(m,)` that were done at the ends of epochs, from 0; epochs in between are
            interpolated, and those after the last one extrapolated.
    """

    points: dict[str, tuple[Floats, Floats]]
    ends: tuple[Floats, Floats]


def training_curves(
    runs: Folder | Sequence[Folder] | Mapping[str, Folder],
    *,
    measures: Sequence[str] = _SHOWN,
    least_spread: float = 0.05,
    least_rank: float = 2.0,
    title: str = "",
) -> Figure:
    """Draw the measures of runs over their epochs: the loss, accuracies, and the signs of a collapse.

    Each measure has a panel, each run a colour. Runs need not be complete. Dots on the left are the accuracies of the
    untrained networks, which dotted lines continue. A collapse is a spread or an effective rank in the red region; the
    first such value of a run has a cross, and so has the last value before one that is not finite, such as a loss of
    NaN. If a run has one epoch only, as streams without a length have, all are drawn over optimiser steps.

    Args:
        runs: Folder of a run of `pretrain`, or several of them, or their names and folders. A `metrics.csv` of
            Lightning's `CSVLogger` serves, too.
        measures: Names of the measures, in order; those that no run has are left out. Names are those in `metrics.csv`,
            such as "waiting"; "lr" is the learning rate of the first group of parameters.
        least_spread: A smaller spread is a collapse, as in `lightly_aug.train.Collapse`.
        least_rank: A smaller effective rank is one, too.
        title: Title of the figure.

    Returns:
        A figure with a panel for each measure.

    Raises:
        FileNotFoundError: A run has no log.
        ValueError: There is no run, two have the same name, or none has one of the measures.
    """
    with extra("plot"):
        from matplotlib.figure import Figure
    logs = {name: _read(file) for name, file in _name_runs(runs).items()}
    shown = [measure for measure in measures if any(measure in run.points for run in logs.values())]
    if not shown:
        known = sorted({measure for run in logs.values() for measure in run.points})
        raise ValueError(
            f"training_curves: runs must have measured one of {', '.join(measures)}, got {', '.join(known) or 'none'}"
        )
    in_epochs = all(run.ends[1][-1] >= 2 for run in logs.values())
    columns = 2 if len(shown) == 4 else min(3, len(shown))
    rows = -(-len(shown) // columns)
    several = len(logs) > 1
    height = 2.6 * rows + 0.3 * bool(title) + 0.25 * several
    figure = Figure(figsize=(max(3.6 * columns, 5.2), height), layout="constrained")
    if title:
        figure.suptitle(title, fontsize=12, weight="bold")
    panels = figure.subplots(rows, columns, sharex=True, squeeze=False).ravel()
    limits = {"spread": least_spread, "effective_rank": least_rank}
    for axes, measure in zip(panels, shown, strict=False):
        for i, ((name, run), colour) in enumerate(zip(logs.items(), choose_colours(len(logs)), strict=True)):
            if measure in run.points:
                steps, values = run.points[measure]
                places = _to_epochs(steps, run.ends) if in_epochs else steps
                _draw_run(axes, places, values, name, colour, _DASHES[i // 6 % len(_DASHES)], limits.get(measure))
        if measure in _SHARES:
            _draw_untrained(axes, logs, measure)
        _finish(axes, measure, limits.get(measure))
        axes.set_xlabel("epoch" if in_epochs else "optimiser step", fontsize=9)
        axes.tick_params(labelsize=8, labelbottom=True)
    for axes in panels[len(shown) :]:
        axes.set_axis_off()
    if several:
        _write_legend(figure, list(logs), columns)
    return figure


def _name_runs(runs: Folder | Sequence[Folder] | Mapping[str, Folder]) -> dict[str, Path]:
    """Return the log of each run by its name: that of its folder, or the whole path where folders share a name."""
    if isinstance(runs, Mapping):
        named = {str(name): Path(folder) for name, folder in runs.items()}
    else:
        folders = [Path(runs)] if isinstance(runs, str | PathLike) else [Path(folder) for folder in runs]
        names = [folder.resolve().name for folder in folders]
        if len(set(names)) < len(names):
            names = [fspath(folder) for folder in folders]
        if len(set(names)) < len(names):
            raise ValueError(f"training_curves: runs must be different folders, got {', '.join(names)}")
        named = dict(zip(names, folders, strict=True))
    if not named:
        raise ValueError("training_curves: runs must be one folder or more, got none")
    return {name: _find_log(folder) for name, folder in named.items()}


def _find_log(folder: Path) -> Path:
    for file in (folder / "logs" / "metrics.csv", folder / "metrics.csv", folder):
        if file.is_file():
            return file
    raise FileNotFoundError(
        f"training_curves: runs must be folders with logs/metrics.csv, got {folder}: give the out= of pretrain"
    )


def _read(file: Path) -> _Run:
    """Read a log, of a run that may still be running, and that may have been resumed.

    Rows of steps that a later row repeats are left out: a run that goes on repeats what came after its checkpoint.
    """
    text = file.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]  # without a line that is being written
    rows: list[tuple[int, dict[str, str]]] = []
    for row in csv.DictReader(whole.splitlines()):
        if row.get("step"):
            step = int(float(row["step"]))
            if rows and step < rows[-1][0]:
                if not row.get("epoch"):
                    continue  # an accuracy from before the resumed part, which Lightning notes at step 0
                rows = [known for known in rows if known[0] < step]
            rows.append((step, row))
    found: dict[str, list[tuple[float, float]]] = {}
    ends = {0: 0.0}
    for step, row in rows:
        done = step + 1 if row.get("epoch") else step  # without an epoch, it was measured before this step, from 0
        if row.get("epoch"):
            ends[int(float(row["epoch"])) + 1] = done
        measured = {name: float(cell) for name, cell in row.items() if name not in ("step", "epoch") and cell}
        rates = [name for name in measured if name.startswith("lr-")]  # one for each group of parameters
        if rates:
            measured["lr"] = measured[rates[0]]
        for name, value in measured.items():
            found.setdefault(name, []).append((done, value))
    points = {name: (np.array(pairs)[:, 0], np.array(pairs)[:, 1]) for name, pairs in found.items()}
    return _Run(points, (np.array([*ends.values()]), np.array([*ends], dtype=np.float64)))


def _to_epochs(steps: Floats, ends: tuple[Floats, Floats]) -> Floats:
    """Return the epochs that were done at some steps; the last one may be incomplete, and is as long as the others."""
    marks, epochs = ends
    whole = -2 if len(marks) > 2 else -1
    length = (marks[whole] - marks[0]) / (epochs[whole] - epochs[0])
    if len(marks) > 2:
        last = epochs[-2] + min(1.0, (marks[-1] - marks[-2]) / length)
        epochs = np.array([*epochs[:-1], last])
    after: Floats = np.maximum(0, steps - marks[-1]) / length
    return np.interp(steps, marks, epochs) + after


def _draw_run(
    axes: Axes, places: Floats, values: Floats, name: str, colour: str, dashes: str, least: float | None
) -> None:
    few = len(values) <= 40
    axes.plot(
        places, values, color=colour, label=name, linestyle=dashes, linewidth=1.5,
        marker="o" if few else None, markersize=2.5, zorder=3,
    )  # fmt: skip
    finite = np.isfinite(values)
    bad = np.flatnonzero(values < least) if least is not None else np.array([], dtype=int)
    marked = [int(bad[0])] if len(bad) else []
    if not finite.all() and finite[: int(np.argmin(finite))].any():
        marked.append(int(np.argmin(finite)) - 1)
    axes.plot(places[marked], values[marked], "x", color="black", markersize=8, markeredgewidth=2, zorder=4)


def _draw_untrained(axes: Axes, logs: Mapping[str, _Run], measure: str) -> None:
    """Continue the accuracies of the untrained networks as dotted lines."""
    for run, colour in zip(logs.values(), choose_colours(len(logs)), strict=True):
        steps, values = run.points.get(measure, (np.zeros(1), np.full(1, math.nan)))
        if steps[0] == 0:
            axes.axhline(values[0], color=colour, linestyle=(0, (1, 2)), linewidth=1)
            if len(logs) == 1:
                axes.annotate(
                    f"untrained: {values[0]:.1%}", (0.99, values[0]), (0, 2), xycoords=("axes fraction", "data"),
                    textcoords="offset points", ha="right", va="bottom", fontsize=8, color="#666666",
                )  # fmt: skip


def _finish(axes: Axes, measure: str, least: float | None) -> None:
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    heads = {"lr": "learning rate", "knn_accuracy": "kNN accuracy", "spread": "spread (1 is even, 0 collapsed)"}
    axes.set_title(heads.get(measure, measure.replace("_", " ")), fontsize=10, loc="left")
    axes.grid(color=HAIRLINE, linewidth=0.5)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6))
    axes.set_xlim(left=0)
    if measure in _SHARES:
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.margins(y=0.15)
    if measure in ("lr", "effective_rank", "spread"):
        axes.set_ylim(bottom=0)
    if least is not None:
        axes.axhspan(0, least, color=_ALARM, alpha=0.15, linewidth=0)
        axes.axhline(least, color=_ALARM, linestyle=(0, (3, 3)), linewidth=1)
        axes.annotate(
            f"collapse below {least:g}", (0.99, least), (0, 2), xycoords=("axes fraction", "data"),
            textcoords="offset points", ha="right", va="bottom", fontsize=8, color=_ALARM,
        )  # fmt: skip


def _write_legend(figure: Figure, names: Sequence[str], columns: int) -> None:
    """Write the names of the runs below the panels; not all panels have all runs."""
    from matplotlib.lines import Line2D

    handles: list[Any] = [
        Line2D([], [], color=colour, linestyle=_DASHES[i // 6 % len(_DASHES)], label=name)
        for i, (name, colour) in enumerate(zip(names, choose_colours(len(names)), strict=True))
    ]
    figure.legend(
        handles=handles, loc="outside lower center", frameon=False, fontsize=9, ncols=min(len(names), columns)
    )
