"""Pictures of invariance: bars and curves where the scores say, samples changed by each strength."""

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from lightly_aug.evaluate import (
    CHANGES,
    Curve,
    Estimate,
    Invariance,
    InvarianceComparison,
    compare_invariance,
    invariance_score,
)
from lightly_aug.photographs import photographs
from lightly_aug.plot import invariance_bars, invariance_curves, invariance_radar


def curve(name: str, group: str, *points: float, neutral: float | None, strengths: tuple[float, ...] = ()) -> Curve:
    estimates = tuple(Estimate(point, point - 0.1, point + 0.05) for point in points)
    mean = float(np.mean(points))
    score = Estimate(mean, mean - 0.1, mean + 0.05)
    return Curve(name, group, "unit", neutral, strengths, estimates if strengths else (), score, {}, {}, (), None)


def network(name: str, lift: float) -> Invariance:
    operations = (
        curve("blur", "Texture", 0.8 + lift, 0.4 + lift, neutral=0.0, strengths=(1.0, 2.0)),
        curve("hue", "Color", 0.3, 0.7, neutral=0.0, strengths=(-0.25, 0.25)),
        curve("solarize", "Texture", 0.5, 0.2 + lift, neutral=1.0, strengths=(0.9, 0.1)),
    )
    groups = curve("Texture", "Texture", 0.6 + lift, neutral=None), curve("Color", "Color", -0.2, neutral=None)
    return Invariance(name, 9, operations, groups, {}, {})


BOTH = compare_invariance([network("first", 0.0), network("second", 0.15)])


def text(figure: Figure) -> list[str]:
    return [label.get_text() for legend in figure.legends for label in legend.get_texts()]


def test_bars_have_the_scores_and_intervals_of_every_network() -> None:
    figure = invariance_bars(BOTH, title="two networks")
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["groups, as drawn", "Texture", "Color"]
    assert [[label.get_text() for label in axes.get_yticklabels()] for axes in figure.axes] == [
        ["Texture", "Color"], ["blur", "solarize"], ["hue"],
    ]  # fmt: skip
    groups = figure.axes[0]
    assert [bar.get_width() for bar in groups.patches] == pytest.approx([0.6, -0.2, 0.75, -0.2])  # type: ignore[attr-defined]
    middles = [bar.get_y() + bar.get_height() / 2 for bar in groups.patches]  # type: ignore[attr-defined]
    assert middles == pytest.approx([-0.2, 0.8, 0.2, 1.2])
    lines = [segment for lines in groups.collections for segment in lines.get_segments()]  # type: ignore[attr-defined]
    assert lines[0][:, 0].tolist() == pytest.approx([0.5, 0.65])
    assert lines[0][:, 1].tolist() == pytest.approx([-0.2, -0.2])
    assert text(figure) == ["first", "second"]
    assert figure.get_suptitle() == "two networks"


def test_bars_leave_out_what_a_network_was_not_measured_on() -> None:
    less = Invariance("less", 9, network("", 0).operations[1:2], (), {}, {})
    figure = invariance_bars(compare_invariance([network("first", 0.0), less]))
    assert len(figure.axes[0].patches) == 2
    assert len(figure.axes[2].patches) == 2


def test_curves_pass_through_one_at_the_neutral_strength() -> None:
    figure = invariance_curves(BOTH)
    blur, hue, solarize = figure.axes
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["blur", "hue", "solarize"]
    assert [label.get_text() for label in blur.get_xticklabels()] == ["0", "1", "2"]
    assert [label.get_text() for label in hue.get_xticklabels()] == ["-0.25", "0", "0.25"]
    assert [label.get_text() for label in solarize.get_xticklabels()] == ["1", "0.9", "0.1"]
    assert np.asarray(blur.lines[0].get_ydata()).tolist() == pytest.approx([1, 0.8, 0.4])
    assert np.asarray(hue.lines[1].get_ydata()).tolist() == pytest.approx([0.3, 1, 0.7])
    band = blur.collections[0].get_paths()[0].vertices
    assert np.asarray(band)[:, 1].min() == pytest.approx(0.3)
    assert text(figure) == ["first", "second"]


def test_curves_show_a_photograph_changed_by_each_strength() -> None:
    photo = photographs(1, 80)[0]
    figure = invariance_curves(BOTH, image=photo)
    hue = figure.axes[1]
    shown = [np.asarray(small.images[0].get_array()) for small in hue.child_axes]
    assert [image.shape for image in shown] == [(64, 64, 3)] * 3
    still = torch.from_numpy(shown[1])
    assert (still - torch.from_numpy(shown[0])).abs().mean() > 0.02
    centres = [small.get_position().x0 + small.get_position().width / 2 for small in hue.child_axes]
    assert centres == sorted(centres)
    blurred = [
        np.abs(np.diff(np.asarray(small.images[0].get_array()), axis=1)).mean() for small in figure.axes[0].child_axes
    ]
    assert blurred == sorted(blurred, reverse=True)
    figure.draw_without_rendering()


def test_operations_without_known_changes_have_no_samples() -> None:
    figure = invariance_curves(BOTH, image=photographs(1, 64)[0], changes=CHANGES[:2])
    assert all(not axes.child_axes for axes in figure.axes)


def test_a_comparison_of_groups_only_has_no_curves() -> None:
    only = Invariance("only", 9, (), network("", 0).groups, {}, {})
    with pytest.raises(ValueError, match="must have operations"):
        invariance_curves(InvarianceComparison((only,)))


def test_scores_of_real_features_can_be_drawn() -> None:
    x = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
    found = invariance_score(x, x + 0.1, resamples=20)
    drawn = Curve("blur", "Texture", "", 0.0, (1.0,), found.changes, found.mean, {}, {}, (), None)
    comparison = compare_invariance([Invariance("real", 9, (drawn,), (), {}, {})])
    invariance_bars(comparison).draw_without_rendering()
    invariance_curves(comparison).draw_without_rendering()


def test_a_radar_has_a_spoke_for_each_operation_by_group() -> None:
    (axes,) = invariance_radar(BOTH, title="two networks").axes
    spokes = [text for text in axes.texts if text.get_fontweight() != "bold"]
    assert [text.get_text() for text in spokes] == ["blur", "solarize", "hue"]
    assert [text.get_text() for text in axes.texts if text not in spokes] == ["Texture", "Color"]
    first, second = (line for line in axes.lines if len(np.asarray(line.get_xdata())) == 4)
    angles = np.array([0, 1, 2, 0]) * 2 * np.pi / 3  # it is closed
    for line, scores in ((first, [0.6, 0.35, 0.5, 0.6]), (second, [0.75, 0.425, 0.5, 0.75])):
        np.testing.assert_allclose(np.asarray(line.get_xydata()), np.stack([angles, scores], 1))
    assert axes.get_ylim() == (0, 1)
    intervals = [segment for lines in axes.collections for segment in lines.get_segments()]  # type: ignore[attr-defined]
    np.testing.assert_allclose([segment[:, 1] for segment in intervals[:3]], [[0.5, 0.65], [0.25, 0.4], [0.4, 0.55]])
    np.testing.assert_allclose([segment[0, 0] for segment in intervals[:3]], angles[:3], atol=0.05)


def test_a_radar_draws_negative_scores_hollow_in_the_centre_and_leaves_out_what_was_not_measured() -> None:
    def of(name: str, *scores: float) -> Invariance:
        names = ["blur", "hue", "rotation", "flip"]
        curves = [curve(n, "Shape", score, neutral=None) for n, score in zip(names, scores, strict=False)]
        return Invariance(name, 9, tuple(curves), (), {}, {})

    (axes,) = invariance_radar(compare_invariance([of("four", 0.5, -0.4, 0.2, 1.0), of("three", 0.5, 0.4, 0.2)])).axes
    dots = [line for line in axes.lines if line.get_linestyle() == "None"]
    hollow = [line for line in dots if line.get_markerfacecolor() == "white" and len(np.asarray(line.get_xdata()))]
    assert [np.asarray(line.get_xydata()).tolist() for line in hollow] == [[[pytest.approx(np.pi / 2), 0.0]]]
    rings = [np.asarray(line.get_ydata()) for line in axes.lines if len(np.asarray(line.get_xdata())) == 5]
    np.testing.assert_allclose(rings, [[0.5, 0, 0.2, 1.0, 0.5], [0.5, 0.4, 0.2, np.nan, 0.5]])


def test_a_radar_without_three_operations_is_of_groups() -> None:
    groups = tuple(curve(name, name, 0.5, neutral=None) for name in ("Shape", "Texture", "Color"))
    (axes,) = invariance_radar(compare_invariance([Invariance("one", 9, (), groups, {}, {})])).axes
    assert [text.get_text() for text in axes.texts] == ["Shape", "Texture", "Color"]


def test_a_radar_that_cannot_be_read_is_refused() -> None:
    few = Invariance("few", 9, network("", 0).operations[:2], network("", 0).groups, {}, {})
    with pytest.raises(ValueError, match="at least 3 operations or 3 groups, got 2: invariance_bars draws fewer"):
        invariance_radar(compare_invariance([few]))
    many = [network(str(i), 0.0) for i in range(7)]
    with pytest.raises(ValueError, match="at most 6 networks, got 7: invariance_bars draws more"):
        invariance_radar(compare_invariance(many))
    assert len(invariance_radar(compare_invariance(many[:6])).axes) == 1
