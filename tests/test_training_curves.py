"""Curves of runs: every value at its epoch, what a collapse is, and logs that are not complete."""

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lightly_aug.plot import training_curves
from lightly_aug.train import Collapse

Row = tuple[int | str, int, Mapping[str, float]]
"""Epoch, step, and what was measured."""


def write(folder: Path, rows: Sequence[Row], end: str = "\r\n") -> Path:
    """Write a log as Lightning's CSVLogger does."""
    names = sorted({"epoch", "step"}.union(*(measured for _, _, measured in rows)))
    lines = [
        ",".join(str(({"epoch": epoch, "step": step} | dict(measured)).get(name, "")) for name in names)
        for epoch, step, measured in rows
    ]
    file = folder / "logs" / "metrics.csv"
    file.parent.mkdir(parents=True)
    file.write_text("\r\n".join([",".join(names), *lines]) + end, newline="")
    return folder


def run(folder: Path, *, epochs: int = 3, batches: int = 10, collapse: float = 0.5) -> Path:
    """A run that logs at the fifth and the last batch of each epoch, and measures at its end."""
    rows: list[Row] = [("", 0, {"knn_accuracy": 0.2})]
    for epoch in range(epochs):
        first, last = epoch * batches + 4, (epoch + 1) * batches - 1
        rows += [(epoch, step, {"loss": 5 - step / 10}) for step in (first, last)]
        rows += [(epoch, last, {"knn_accuracy": 0.3 + epoch / 10, "spread": collapse ** (epoch + 1)})]
    return write(folder, rows)


def panel(figure: Figure, title: str) -> Axes:
    (found,) = [axes for axes in figure.axes if axes.get_title(loc="left").startswith(title)]
    return found


def curves(axes: Axes) -> dict[str, list[tuple[float, float]]]:
    lines = [line for line in axes.lines if not str(line.get_label()).startswith("_")]
    return {str(line.get_label()): [(x, y) for x, y in np.asarray(line.get_xydata()).tolist()] for line in lines}


def crosses(axes: Axes) -> list[tuple[float, float]]:
    return [
        (x, y) for line in axes.lines if line.get_marker() == "x" for x, y in np.asarray(line.get_xydata()).tolist()
    ]


def test_values_stand_at_the_epochs_that_were_done(tmp_path: Path) -> None:
    figure = training_curves(run(tmp_path / "moco"), title="MoCo")
    assert figure.get_suptitle() == "MoCo"
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "loss", "kNN accuracy", "spread (1 is even, 0 collapsed)",
    ]  # fmt: skip
    wanted = [(0.5, 4.6), (1, 4.1), (1.5, 3.6), (2, 3.1), (2.5, 2.6), (3, 2.1)]
    np.testing.assert_allclose(curves(panel(figure, "loss"))["moco"], wanted)
    np.testing.assert_allclose(curves(panel(figure, "kNN"))["moco"], [(0, 0.2), (1, 0.3), (2, 0.4), (3, 0.5)])
    assert {axes.get_xlabel() for axes in figure.axes} == {"epoch"}
    assert not figure.legends


def test_an_incomplete_epoch_is_as_long_as_those_before_it(tmp_path: Path) -> None:
    log = (run(tmp_path / "moco") / "logs/metrics.csv").read_text().splitlines()
    rest = tmp_path / "stopped/logs/metrics.csv"
    rest.parent.mkdir(parents=True)
    rest.write_text("\n".join(log[:9]) + "\n")  # to the fifth batch of the third epoch
    points = curves(panel(training_curves(tmp_path / "stopped"), "loss"))["stopped"]
    np.testing.assert_allclose(points, [(0.5, 4.6), (1, 4.1), (1.5, 3.6), (2, 3.1), (2.5, 2.6)])


def test_a_line_that_is_being_written_is_left_out(tmp_path: Path) -> None:
    rows: list[Row] = [(0, 9, {"loss": 3.0}), (1, 19, {"loss": 2.0}), (2, 29, {"loss": 1.2345})]
    whole, torn = write(tmp_path / "a", rows), write(tmp_path / "b", rows, end="")
    assert len(curves(panel(training_curves(whole), "loss"))["a"]) == 3
    assert curves(panel(training_curves(torn), "loss"))["b"] == [(1, 3.0), (2, 2.0)]


def test_steps_that_a_resumed_run_repeats_count_once(tmp_path: Path) -> None:
    rows: list[Row] = [(epoch, 10 * epoch + 9, {"loss": float(epoch)}) for epoch in (0, 1, 2, 1, 2, 3)]
    rows[3:] = [(epoch, step, {"loss": value["loss"] + 10}) for epoch, step, value in rows[3:]]
    points = curves(panel(training_curves(write(tmp_path / "a", rows)), "loss"))["a"]
    assert points == [(1, 0.0), (2, 11.0), (3, 12.0), (4, 13.0)]


def test_an_accuracy_before_the_resumed_part_is_not_that_of_the_untrained_network(tmp_path: Path) -> None:
    rows: list[Row] = [("", 0, {"knn_accuracy": 0.2}), (0, 9, {"knn_accuracy": 0.3}), (1, 19, {"knn_accuracy": 0.4})]
    rows += [("", 0, {"knn_accuracy": 0.4}), (2, 29, {"knn_accuracy": 0.5})]
    points = curves(panel(training_curves(write(tmp_path / "a", rows)), "kNN"))["a"]
    np.testing.assert_allclose(points, [(0, 0.2), (1, 0.3), (2, 0.4), (3, 0.5)])


def test_a_run_of_one_epoch_is_drawn_over_steps(tmp_path: Path) -> None:
    rows: list[Row] = [(0, step, {"loss": float(step)}) for step in (49, 99)]
    figure = training_curves([write(tmp_path / "stream", rows), run(tmp_path / "moco")])
    assert {axes.get_xlabel() for axes in figure.axes} == {"optimiser step"}
    assert curves(panel(figure, "loss"))["stream"] == [(50, 49.0), (100, 99.0)]
    assert curves(panel(figure, "loss"))["moco"][0] == (5, 4.6)


def test_runs_have_a_colour_each_and_their_names_in_the_legend(tmp_path: Path) -> None:
    labelled = run(tmp_path / "labelled")
    rows: list[Row] = [(epoch, 10 * epoch + 9, {"loss": 1.0, "pair_accuracy": 0.5}) for epoch in range(2)]
    figure = training_curves({"with labels": labelled, "without": write(tmp_path / "other", rows)})
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["with labels", "without"]
    loss = {line.get_label(): line.get_color() for line in panel(figure, "loss").lines if line.get_marker() != "x"}
    assert len(loss) == len(set(loss.values())) == 2
    assert set(curves(panel(figure, "kNN"))) == {"with labels"}
    assert set(curves(panel(figure, "pair"))) == {"without"}
    assert panel(figure, "pair").lines[0].get_color() == loss["without"]
    assert [line.get_color() for line in legend.get_lines()] == list(loss.values())


def test_a_collapse_is_marked_where_it_began(tmp_path: Path) -> None:
    figure = training_curves(run(tmp_path / "fine"))
    assert crosses(panel(figure, "spread")) == []
    spread = panel(training_curves(run(tmp_path / "collapsed", collapse=0.2)), "spread")
    np.testing.assert_allclose(crosses(spread), [(2, 0.04)])  # the third, at 0.008, is later
    (region,) = spread.patches
    assert region.get_extents().transformed(spread.transData.inverted()).y1 == pytest.approx(0.05)
    assert [text.get_text() for text in spread.texts] == ["collapse below 0.05"]
    spread = panel(training_curves(tmp_path / "collapsed", least_spread=0.3), "spread")
    np.testing.assert_allclose(crosses(spread), [(1, 0.2)])


def test_the_limits_are_those_at_which_training_warns() -> None:
    ours, theirs = inspect.signature(training_curves).parameters, inspect.signature(Collapse).parameters
    assert ours["least_spread"].default == theirs["least_spread"].default
    assert ours["least_rank"].default == theirs["least_rank"].default


def test_a_loss_that_is_not_finite_is_marked_at_its_last_value(tmp_path: Path) -> None:
    losses = [3.0, 2.5, float("nan"), float("nan")]
    rows: list[Row] = [(epoch, 10 * epoch + 9, {"loss": loss}) for epoch, loss in enumerate(losses)]
    assert crosses(panel(training_curves(write(tmp_path / "a", rows)), "loss")) == [(2, 2.5)]


def test_the_untrained_accuracy_is_continued(tmp_path: Path) -> None:
    figure = training_curves(run(tmp_path / "moco"))
    (dotted,) = [line for line in panel(figure, "kNN").lines if len(set(np.ravel(line.get_ydata()).tolist())) == 1
                 and line.get_marker() != "x"]  # fmt: skip
    assert np.ravel(dotted.get_ydata()).tolist() == [0.2, 0.2]
    assert [text.get_text() for text in panel(figure, "kNN").texts] == ["untrained: 20.0%"]


def test_measures_are_chosen_and_ordered(tmp_path: Path) -> None:
    rows: list[Row] = [(e, 10 * e + 9, {"loss": 1.0, "waiting": 0.1}) for e in range(2)]
    figure = training_curves(write(tmp_path / "a", rows), measures=["waiting", "loss", "spread"])
    assert [axes.get_title(loc="left") for axes in figure.axes if axes.axison] == ["waiting", "loss"]


def test_the_learning_rate_is_that_of_the_first_group_before_each_step(tmp_path: Path) -> None:
    rows: list[Row] = []
    for step in (0, 5, 10, 15):  # as Lightning's LearningRateMonitor writes it, without an epoch
        rows.append(("", step, {"lr-AdamW/pg1": 0.01 * step, "lr-AdamW/pg2": 1.0}))
        rows.append((step // 10, step + 4, {"loss": 1.0}))
    points = curves(panel(training_curves(write(tmp_path / "a", rows)), "learning rate"))["a"]
    np.testing.assert_allclose(points, [(0, 0), (0.5, 0.05), (1, 0.1), (1.5, 0.15)])


def test_rates_after_the_last_loss_of_a_running_run_are_at_their_epochs(tmp_path: Path) -> None:
    rows: list[Row] = [(epoch, 10 * epoch + 9, {"loss": 1.0}) for epoch in range(2)]
    rows += [("", step, {"lr-AdamW": 0.01}) for step in (20, 25, 30)]
    points = curves(panel(training_curves(write(tmp_path / "a", rows)), "learning rate"))["a"]
    np.testing.assert_allclose(points, [(2, 0.01), (2.5, 0.01), (3, 0.01)])


@pytest.mark.parametrize("place", ["", "logs", "logs/metrics.csv"])
def test_a_run_is_found_by_its_folder_or_its_log(tmp_path: Path, place: str) -> None:
    run(tmp_path / "moco")
    assert len(training_curves(str(tmp_path / "moco" / place)).axes) == 3


def test_folders_of_one_name_are_named_by_their_paths(tmp_path: Path) -> None:
    both = [run(tmp_path / "a/moco"), run(tmp_path / "b/moco")]
    assert set(curves(panel(training_curves(both), "loss"))) == {str(folder) for folder in both}
    with pytest.raises(ValueError, match="runs must be different folders"):
        training_curves([both[0], both[0]])


def test_many_runs_differ_in_their_lines_too(tmp_path: Path) -> None:
    figure = training_curves([run(tmp_path / f"run {i}") for i in range(8)])
    styles = [(line.get_color(), line.get_linestyle()) for line in figure.legends[0].get_lines()]
    assert len(set(styles)) == 8
    assert styles[0][1] != styles[6][1]


@pytest.mark.parametrize(
    ("runs", "error", "message"),
    [
        ([], ValueError, "runs must be one folder or more, got none"),
        ("nowhere", FileNotFoundError, "runs must be folders with logs/metrics.csv, got nowhere: give the out="),
    ],
)
def test_no_run_is_refused(runs: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        training_curves(runs)


def test_a_log_without_the_measures_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", [(0, 9, {"waiting": 0.1})])
    with pytest.raises(ValueError, match=r"must have measured one of loss, lr, .*, got waiting"):
        training_curves(folder)
    with pytest.raises(ValueError, match="got none"):
        training_curves(write(tmp_path / "b", []))
