"""Pictures look as they did when they were last looked at, and colour-blind readers can read them.

After a change that is meant, `UPDATE_PICTURES=1 pytest tests/test_plot_pictures.py` writes the pictures in
tests/pictures anew: look at each before you commit it.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from matplotlib import rc_context
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.testing.compare import compare_images
from skimage.color import deltaE_ciede2000, rgb2lab
from torch import Tensor

from lightly_aug import Color, MultiViewCollateFunction, Shape, View
from lightly_aug.evaluate import Curve, Estimate, Invariance, InvarianceComparison, compare_invariance
from lightly_aug.photographs import photographs
from lightly_aug.plot import (
    _embedding,
    confusion,
    embedding,
    invariance_bars,
    invariance_curves,
    invariance_radar,
    label_curve,
    neighbours,
    sweep,
    training_curves,
)
from lightly_aug.plot._neighbours import _OTHER, _SAME
from lightly_aug.plot._page import choose_colours

PICTURES = Path(__file__).parent / "pictures"
TOLERANCE = 4.0
"""Root mean square difference of pixels, of 255: above that of fonts on another machine, below that of a lost line."""


# --- figures ----------------------------------------------------------------------------------------------------

PHOTOS = photographs(4, 16)


def draw_confusion() -> Figure:
    return confusion(torch.tensor([[7, 1, 0], [2, 5, 1], [0, 0, 3]]), ["cat", "dog", "owl"], title="kNN")


def draw_label_curve() -> Figure:
    rising = np.array([[0.2, 0.3], [0.5, 0.55], [0.7, 0.8]])
    return label_curve([1, 10, 100], {"kNN": rising, "linear": rising**0.7}, chance=0.1, title="few labels")


def draw_embedding() -> Figure:
    labels = torch.arange(3).repeat_interleave(8)
    return embedding(places(24), labels, ["cat", "dog", "owl"], images=PHOTOS * 6, title="by class")


def draw_embedding_of_values() -> Figure:
    return embedding(places(24), values=torch.arange(24.0), value_name="loss", images=PHOTOS * 6)


def draw_embedding_without_labels() -> Figure:
    return embedding([places(24), places(24).flip(1)], images=PHOTOS * 6, titles=["before", "after"])


def draw_neighbours() -> Figure:
    angles = torch.tensor([0.0, 0.1, 1.0, 1.3])
    features = torch.stack([angles.cos(), angles.sin()], 1)
    return neighbours(PHOTOS, features, names=["a", "a", "b", "a"], queries=2, count=3, title="neighbours")


def draw_bars() -> Figure:
    return invariance_bars(compare(2), title="two networks")


def draw_curves() -> Figure:
    few = [replace(network, operations=network.operations[2:4]) for network in compare(2).networks]
    return invariance_curves(compare_invariance(few), image=PHOTOS[2])


def draw_radar() -> Figure:
    return invariance_radar(compare(3), title="three networks")


def draw_sweep() -> Figure:
    return sweep(PHOTOS[2], "hue", [-0.25, 0, 0.25], size=16)


def draw_training() -> Figure:
    with TemporaryDirectory() as folder:
        for name, spreads in {"fine": (0.5, 0.6, 0.7, 0.7), "collapsed": (0.4, 0.1, 0.03, 0.01)}.items():
            rows = [
                f"{i},{10 * i + 9},{4 - spread * i},{0.3 + spread / 10 * i},{spread}"
                for i, spread in enumerate(spreads)
            ]
            lines = ["epoch,step,loss,knn_accuracy,spread", ",0,,0.28,", *rows, ""]
            (Path(folder) / f"{name}.csv").write_text("\n".join(lines))
        return training_curves({name: f"{folder}/{name}.csv" for name in ("fine", "collapsed")}, title="two runs")


def draw_views() -> Figure:
    views = [View(Shape(16), Color()), View(Shape(8))]
    return MultiViewCollateFunction(views, seed=3, engine="reference").show(PHOTOS[:1], title="views")


def places(count: int) -> Tensor:
    """Places on a spiral, which are drawn as they are."""
    angle = torch.arange(float(count))
    return torch.stack([(angle / 3).cos(), (angle / 3).sin()], 1) * (0.3 + 0.6 * angle[:, None] / count)


def compare(count: int) -> InvarianceComparison:
    return compare_invariance(
        [network(name, 0.15 * i) for i, name in enumerate(["untrained", "SimCLR", "MoCo"][:count])]
    )


def network(name: str, lift: float) -> Invariance:
    def curve(name: str, group: str, neutral: float | None, strengths: tuple[float, ...], value: float) -> Curve:
        points = tuple(
            Estimate(value - 0.1 * i, value - 0.1 * i - 0.1, value - 0.1 * i + 0.05) for i in range(len(strengths))
        )
        return Curve(
            name,
            group,
            "unit",
            neutral,
            strengths,
            points,
            Estimate(value, value - 0.1, value + 0.05),
            {},
            {},
            (),
            None,
        )

    operations = (
        curve("crop scale", "Shape", 1.0, (0.5, 0.2), 0.5 + lift),
        curve("rotation", "Shape", 0.0, (30.0, 90.0), 0.2 + lift),
        curve("blur", "Texture", 0.0, (1.0, 2.0), 0.65),
        curve("hue", "Color", 0.0, (-0.25, 0.25), 0.9 - lift),
        curve("grayscale", "Color", 0.0, (1.0,), -0.2 + lift),
    )  # fmt: skip
    groups = curve("Shape", "Shape", None, (), 0.5 + lift), curve("Color", "Color", None, (), 0.8)
    return Invariance(name, 9, operations, groups, {}, {})


FIGURES: dict[str, Callable[[], Figure]] = {
    name.removeprefix("draw_"): value for name, value in list(globals().items()) if name.startswith("draw_")
}


@pytest.mark.parametrize("name", FIGURES)
def test_a_picture_looks_as_before(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # t-SNE's places differ from machine to machine
    monkeypatch.setattr(_embedding, "_reduce", lambda features: features.double().numpy())
    with rc_context({"font.family": ["DejaVu Sans"]}):  # which matplotlib brings
        FIGURES[name]().savefig(tmp_path / f"{name}.png", dpi=50)
    wanted = PICTURES / f"{name}.png"
    if os.environ.get("UPDATE_PICTURES"):
        wanted.write_bytes((tmp_path / f"{name}.png").read_bytes())
    different = compare_images(str(wanted), str(tmp_path / f"{name}.png"), tol=TOLERANCE)
    assert different is None, different


def test_pictures_are_small_and_none_is_left_over() -> None:
    files = sorted(PICTURES.glob("*.png"))
    assert [file.stem for file in files] == sorted(FIGURES)
    sizes = [file.stat().st_size for file in files]
    assert max(sizes) < 40_000
    assert sum(sizes) < 400_000


# --- colours ----------------------------------------------------------------------------------------------------

SIGHT = {
    "normal": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900],
    ],
}  # fmt: skip
"""What linear RGB looks like, from Machado, Oliveira and Fernandes 2009, "A Physiologically-based Model for Simulation
of Color Vision Deficiency", table 1, severity 1."""


def seen(colour: str, sight: str) -> np.ndarray:
    """The colour in CIELAB, as readers with this sight see it."""
    encoded = np.array(to_rgb(colour))
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    linear = (np.array(SIGHT[sight]) @ linear).clip(0, 1)
    again = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.asarray(rgb2lab(again))


def difference(one: str, other: str, sight: str) -> float:
    return float(deltaE_ciede2000(seen(one, sight), seen(other, sight)))  # type: ignore[no-untyped-call]


def test_the_simulation_confuses_what_the_eye_confuses() -> None:
    assert difference("#2ca02c", "#ff7f00", "normal") > 50
    assert difference("#2ca02c", "#ff7f00", "protanopia") < 5
    for sight in SIGHT:
        np.testing.assert_allclose(seen("#808080", sight), seen("#808080", "normal"), atol=0.1)  # no grey gets a tint


@pytest.mark.parametrize("sight", SIGHT)
def test_up_to_six_colours_can_be_distinguished(sight: str) -> None:
    for one, other in combinations(choose_colours(6), 2):
        assert difference(one, other, sight) > 13, (one, other)
    for colour in choose_colours(6):
        assert difference(colour, "white", sight) > 13, colour
    assert difference(_SAME, _OTHER, sight) > 20


def test_networks_of_a_radar_differ_in_their_markers_too() -> None:
    lines = invariance_radar(compare(3)).legends[0].get_lines()
    assert len({line.get_marker() for line in lines}) == len({line.get_color() for line in lines}) == 3
