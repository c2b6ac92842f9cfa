"""What networks ignore: scores against loops in float64, changes against torchvision, networks built to ignore."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binomtest
from sklearn.metrics import balanced_accuracy_score, r2_score  # type: ignore[import-untyped]
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as tv

from lightly_aug import Color, Normalize, Operation, RandomHorizontalFlip, RandomResizedCrop, Shape, Texture
from lightly_aug.batch import Views
from lightly_aug.evaluate import (
    CHANGES,
    Change,
    Estimate,
    Invariance,
    InvarianceComparison,
    Use,
    class_use,
    compare_invariance,
    count_passes,
    firing_score,
    invariance_score,
    knn,
    measure_invariance,
    read_out,
)
from lightly_aug.evaluate._estimate import estimate, resample_counts
from lightly_aug.evaluate._read_out import _balanced_accuracy, _r_squared
from lightly_aug.images import pack, to_array
from lightly_aug.photographs import photograph_patches, photographs

BY_NAME = {change.name: change for change in CHANGES}
SEEDS = st.integers(0, 2**32 - 1)


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# --- the score --------------------------------------------------------------------------------------------------


def cosine(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    return float(sum(x * y for x, y in zip(a, b, strict=True)) / np.sqrt(sum(a * a) * sum(b * b)))


def score_by_loops(x: NDArray[np.float64], changed: NDArray[np.float64], chosen: list[int]) -> float:
    """The score of a list of images, some of them several times; pairs of copies of one image do not count."""
    own = [1 - cosine(x[i], changed[i]) for i in chosen]
    other = [1 - cosine(x[i], x[j]) for i in chosen for j in chosen if i != j]
    return float(1 - np.mean(own) / np.mean(other))


@given(seed=SEEDS, n=st.integers(3, 7), d=st.integers(2, 4), m=st.integers(1, 3))
def test_the_score_and_its_interval_are_those_of_loops(seed: int, n: int, d: int, m: int) -> None:
    x = normal(seed, n, d)
    changed = x + normal(seed + 1, m, n, d)
    found = invariance_score(x, changed, resamples=7, seed=3)
    a, b = x.double().numpy(), changed.double().numpy()
    whole = [score_by_loops(a, own, list(range(n))) for own in b]
    assert [change.value for change in found.changes] == pytest.approx(whole, abs=1e-9)
    assert found.mean.value == pytest.approx(np.mean(whole), abs=1e-9)
    assert found.images.mean(1) == pytest.approx(whole, abs=1e-9)

    counts = resample_counts(n, 7, 3).astype(int)
    assert (counts.sum(1) == n).all()
    again = []
    for row in counts:
        chosen = [i for i, count in enumerate(row) for _ in range(count)]
        if len(set(chosen)) > 1:
            again.append(np.mean([score_by_loops(a, own, chosen) for own in b]))
    low, high = np.percentile(again, (2.5, 97.5))
    assert (found.mean.low, found.mean.high) == pytest.approx((low, high), abs=1e-8)


@given(seed=SEEDS)
def test_lengths_and_rotations_of_features_do_not_matter(seed: int) -> None:
    x, changed = normal(seed, 6, 4), normal(seed + 1, 6, 4)
    turn = torch.linalg.qr(normal(seed + 2, 4, 4).double())[0]
    lengths = normal(seed + 3, 6, 1).abs().double() + 0.1
    one = invariance_score(x, changed, resamples=20)
    two = invariance_score(x.double() * lengths @ turn, changed.double() @ turn, resamples=20)
    np.testing.assert_allclose(one.images, two.images, atol=1e-5)
    np.testing.assert_allclose(one.mean, two.mean, atol=1e-5)


def test_scores_are_one_for_equal_copies_and_zero_for_those_of_other_images() -> None:
    x = normal(0, 40, 8)
    assert invariance_score(x, x).mean == pytest.approx((1, 1, 1))
    others = torch.stack([x.roll(shift, 0) for shift in range(1, 40)])
    assert invariance_score(x, others).mean.value == pytest.approx(0, abs=1e-9)
    assert invariance_score(x, -x).mean.value < -0.8


def test_a_common_offset_of_relu_features_does_not_look_like_invariance() -> None:
    x = normal(0, 50, 16)
    lifted, changed = x + 30, x.roll(1, 0) + 30
    assert torch.cosine_similarity(lifted, changed).min() > 0.99
    assert abs(invariance_score(lifted, changed).mean.value) < 0.1


def test_classes_share_the_denominator() -> None:
    x = normal(0, 12, 5)
    labels = [0] * 5 + [7] * 7
    found = invariance_score(x, x + 0.5 * normal(1, 12, 5), labels)
    assert list(found.classes) == [0, 7]
    assert found.classes[7].value == pytest.approx(found.images[0, 5:].mean())
    weighted = (5 * found.classes[0].value + 7 * found.classes[7].value) / 12
    assert weighted == pytest.approx(found.mean.value)
    assert found.classes[0].low < found.classes[0].value < found.classes[0].high


def test_intervals_cover_the_score_of_all_images_as_often_as_they_say() -> None:
    everything = normal(0, 4000, 6) + 1
    changed = everything + 0.7 * normal(1, 4000, 6)
    truth = invariance_score(everything, changed, resamples=1).mean.value
    inside = 0
    for start in range(0, 4000, 40):
        part = slice(start, start + 40)
        found = invariance_score(everything[part], changed[part], resamples=300).mean
        inside += found.low <= truth <= found.high
    assert 86 <= inside <= 100


def test_what_cannot_be_scored_is_refused() -> None:
    x = normal(0, 4, 3)
    with pytest.raises(ValueError, match="collapsed"):
        invariance_score(torch.ones(4, 3), torch.ones(4, 3))
    with pytest.raises(ValueError, match="must be finite"):
        invariance_score(x, x / 0)
    with pytest.raises(ValueError, match="n at least 2"):
        invariance_score(x, x[:3])
    with pytest.raises(ValueError, match="n at least 2"):
        invariance_score(x[:1], x[:1])
    with pytest.raises(ValueError, match="one for each of 4 images"):
        invariance_score(x, x, [0, 1])


def test_resamples_without_a_value_are_left_out_of_the_interval() -> None:
    assert estimate(0.5, np.array([0.0, np.nan, 1.0])) == (0.5, 0.025, 0.975)
    assert str(estimate(0.5, np.array([np.nan]))) == "0.50 (no interval)"


# --- changes ----------------------------------------------------------------------------------------------------

PHOTOS = photographs(4, 40)
IMAGES = [PHOTOS[0].crop((0, 0, 40, 30)), *PHOTOS[1:3], PHOTOS[3].crop((2, 0, 37, 40))]


def render(change: Change, strength: float, *, size: int = 24, engine: str = "auto") -> Tensor:
    packed = pack([to_array(image) for image in IMAGES], [str(i) for i in range(4)])
    view = change.view(size, None)
    _, height, width = packed.shapes.numpy().T
    rows = change.rows(view, strength, height, width)
    return Views(packed, torch.from_numpy(rows).float()[None], (view,), engine=engine)[0]


def crop(image: Any, top: int, left: int, height: int, width: int, size: int) -> Tensor:
    pixels = tv.to_dtype(tv.to_image(image), torch.float32, scale=True)
    resized: Tensor = tv.resized_crop(pixels, top, left, height, width, [size, size], antialias=True)
    return resized


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.name)
def test_the_neutral_strength_changes_nothing_but_the_crop(change: Change) -> None:
    share = {"aspect ratio": 0.5**0.5, "horizontal shift": 0.5, "vertical shift": 0.5}.get(change.name, 1.0)
    expected = []
    for image in IMAGES:
        side = round(share * min(image.size))
        left, top = ((whole - side) // 2 for whole in image.size)
        larger = crop(image, top, left, side, side, 34 if change.rotates else 24)
        expected.append(tv.center_crop(larger, [24, 24]))
    torch.testing.assert_close(render(change, change.neutral), torch.stack(expected), atol=2e-3, rtol=0)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.name)
def test_each_strength_changes_the_view_and_engines_agree(change: Change) -> None:
    still = render(change, change.neutral)
    for strength in change.strengths:
        view = render(change, strength)
        assert view.shape == (4, 3, 24, 24)
        assert (view - still).abs().max() > 0.01
        torch.testing.assert_close(view, render(change, strength, engine="reference"), atol=1e-3, rtol=0)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.name)
def test_a_change_writes_its_own_columns_only(change: Change) -> None:
    view, sides = change.view(24, None), np.array([40, 31])
    still = change.rows(view, change.neutral, sides, sides[::-1])
    for strength in change.strengths:
        different = (change.rows(view, strength, sides, sides[::-1]) != still).any(0)
        names = {name for name, other in zip(view.columns, different, strict=True) if other}
        assert len({name.split(".")[0] for name in names}) == 1, names


EXPECTED: dict[str, Callable[[Tensor, float], Tensor]] = {
    "horizontal flip": lambda x, _: x.flip(-1),
    "vertical flip": lambda x, _: x.flip(-2),
    "quarter turns": lambda x, degrees: torch.rot90(x, int(degrees) // 90, (-2, -1)),
    "solarize": tv.solarize,
    "brightness": tv.adjust_brightness,
    "contrast": tv.adjust_contrast,
    "saturation": tv.adjust_saturation,
    "hue": tv.adjust_hue,
    "grayscale": lambda x, _: tv.rgb_to_grayscale(x, 3),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_strength_is_that_of_torchvision(name: str) -> None:
    change = BY_NAME[name]
    still = render(change, change.neutral)
    for strength in change.strengths:
        difference = (render(change, strength) - EXPECTED[name](still, strength)).abs()
        assert difference.mean() < 1e-3, strength
        assert (difference > 0.02).float().mean() < 5e-3  # a value at the threshold of solarize, or a gray in HSV


def test_crops_are_where_they_should_be() -> None:
    square = np.array([40])

    def box(name: str, strength: float) -> list[float]:
        view = BY_NAME[name].view(24, None)
        return BY_NAME[name].rows(view, strength, square, square)[0, :4].tolist()  # type: ignore[no-any-return]

    assert box("crop scale", 0.25) == [10, 10, 20, 20]
    assert box("horizontal shift", 0.5) == [10, 20, 20, 20]
    assert box("horizontal shift", -0.5) == [10, 0, 20, 20]
    assert box("vertical shift", 0.25) == [15, 10, 20, 20]
    assert box("aspect ratio", 2.0) == [10, 0, 20, 40]
    assert box("aspect ratio", 0.5) == [0, 10, 40, 20]


def test_rotation_leaves_no_corner_empty() -> None:
    white = torch.ones(3, 50, 50)
    change = BY_NAME["rotation"]
    for size in (15, 24):
        view = change.view(size, None)
        for degrees in (0, 15, 45, 120):
            rows = change.rows(view, degrees, np.array([50]), np.array([50]))
            packed = pack([to_array(white)], ["white"])
            assert Views(packed, torch.from_numpy(rows).float()[None], (view,))[0].min() > 0.999


@dataclass(frozen=True)
class Gamma(Operation):
    """An operation of a user."""

    low: float = 0.5
    high: float = 2.0
    columns = ("gamma",)
    uniforms = 1

    def draw(self, u: NDArray[np.float64], height: Any, width: Any) -> NDArray[np.float64]:
        return self.low + u * (self.high - self.low)

    def apply(self, images: Tensor, drawn: Tensor) -> Tensor:
        return images ** drawn.to(images.device).view(-1, 1, 1, 1)


GAMMA = Change(
    "gamma", "Light", "exponent", (0.5, 2.0), 1.0, lambda s, height, width: {"Gamma.gamma": s}, operation=Gamma()
)


def test_an_operation_of_ones_own_has_strengths() -> None:
    torch.testing.assert_close(render(GAMMA, 2.0), render(GAMMA, 1.0) ** 2, atol=1e-4, rtol=0)
    with pytest.raises(ValueError, match=r"must write Gamma\.gamma, got nothing"):
        render(replace(GAMMA, write=lambda s, height, width: {"nothing": s}), 2.0)
    with pytest.raises(ValueError, match=r"column must be one of .*, got 'Gama.gamma'"):
        render(replace(GAMMA, write=lambda s, h, w: {"Gamma.gamma": s, "Gama.gamma": s}), 2.0)
    with pytest.raises(ValueError, match="other than the neutral"):
        replace(GAMMA, strengths=(0.5, 1.0))
    with pytest.raises(ValueError, match="other than the neutral"):
        replace(GAMMA, strengths=())


# --- firing rates -----------------------------------------------------------------------------------------------


def firing_by_loops(x: NDArray[np.float64], sets: list[int], labels: list[int], units: int) -> float:
    """The steps of the paper's code, one unit and one set at a time."""
    n, d = x.shape
    names = sorted(set(labels))
    percent = min((1 - 1 / len(names)) * 100, 95)
    scores = np.zeros((len(names), d))
    for unit in range(d):
        rising = sorted(x[:, unit])
        upper, lower = rising[int(n * percent // 100)], rising[::-1][int(n * percent // 100)]
        overall = np.mean([value >= upper for value in x[:, unit]])
        for c, name in enumerate(names):
            shares = []
            for one in sorted({s for s, label in zip(sets, labels, strict=True) if label == name}):
                own = [x[i, unit] for i in range(n) if sets[i] == one]
                fire = max(sum(value > upper for value in own), sum(value < lower for value in own))
                if len(own) >= 3 and fire:
                    shares.append(fire / len(own))
            scores[c, unit] = np.mean(shares) / overall if shares else 0
    best = [np.mean(sorted(row, reverse=True)[:units]) for row in scores]
    return float(np.mean(best) * (100 - percent))


@given(seed=SEEDS, labelled=st.booleans(), relu=st.booleans(), units=st.integers(1, 6))
def test_the_firing_score_is_that_of_loops(seed: int, labelled: bool, relu: bool, units: int) -> None:
    sizes = torch.tensor([3, 4, 2, 5, 3, 1])
    sets = torch.arange(6).repeat_interleave(sizes)
    labels = torch.tensor([0, 1, 0, 1, 2, 2])[sets]
    x = normal(seed, len(sets), 5)
    x = x.relu() if relu else x
    found = firing_score(x, sets, labels if labelled else None, units=units)
    expected = firing_by_loops(x.double().numpy(), sets.tolist(), (labels if labelled else sets).tolist(), units)
    assert found.score == pytest.approx(expected, abs=1e-9)
    assert 0 < found.noise <= 125


def test_units_that_fire_for_all_copies_score_high_and_random_ones_as_noise() -> None:
    sets = torch.arange(40).repeat_interleave(5)
    perfect = torch.eye(40)[sets] + 1e-3 * normal(0, 200, 40)
    found = firing_score(perfect, sets, units=1)
    assert found.score > 85
    assert found.noise < 60
    random = firing_score(normal(1, 200, 40), sets)
    assert random.score == pytest.approx(random.noise, abs=3)


def test_what_has_no_firing_score_is_refused() -> None:
    x, sets = normal(0, 6, 2), torch.tensor([0, 0, 0, 1, 1, 1])
    with pytest.raises(ValueError, match="at least 3 copies, the largest has 2"):
        firing_score(x, torch.tensor([0, 0, 1, 1, 2, 2]))
    with pytest.raises(ValueError, match="equal within a set"):
        firing_score(x, sets, torch.tensor([0, 0, 1, 1, 1, 1]))
    with pytest.raises(ValueError, match="at least 2 classes"):
        firing_score(x, sets, torch.zeros(6, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"must be \(n, d\), \(n,\) and \(n,\)"):
        firing_score(x, sets[:5])


# --- what is read out -------------------------------------------------------------------------------------------


@given(seed=SEEDS, columns=st.integers(1, 2))
def test_weighted_r_squared_and_accuracy_are_those_of_scikit_learn(seed: int, columns: int) -> None:
    rng = np.random.default_rng(seed)
    y, predicted = rng.normal(size=(12, columns)), rng.normal(size=(12, columns))
    weights = rng.integers(1, 4, size=(2, 12)).astype(float)
    label, right = rng.permutation(12) % 3, rng.integers(0, 2, size=12).astype(float)
    guess = np.where(right > 0, label, (label + 1) % 3)
    r_squared, balanced = _r_squared(y, predicted, weights), _balanced_accuracy(label, right, weights)
    for i, own in enumerate(weights):
        expected = r2_score(y, predicted, sample_weight=own, multioutput="variance_weighted")
        assert r_squared[i] == pytest.approx(expected)
        assert balanced[i] == pytest.approx(balanced_accuracy_score(label, guess, sample_weight=own))


def test_a_property_of_the_image_cannot_be_read_from_its_other_copies() -> None:
    images = torch.arange(60).repeat_interleave(4)
    of_image, identity = normal(0, 60), normal(1, 60, 30)
    (found,) = read_out(identity[images], {"Own.value": of_image[images]}, images, resamples=50)
    assert found.estimate.value < 0.2  # 1 if folds divided the copies of an image


def test_quantities_are_read_from_the_copies_they_were_applied_to() -> None:
    n = 400
    applied, sigma, noise = torch.arange(n) % 2.0, 1 + torch.rand(n), normal(0, n, 3)
    seen = torch.stack([applied * sigma, applied], 1)
    draws = {
        "Blur.sigma": applied * sigma,
        "Jitter.applied": applied,
        "Jitter.factor": sigma,
        "Jitter.other": noise[:, 0],
    }
    found = {item.column: item for item in read_out(torch.cat([seen, noise[:, 1:]], 1), draws, torch.arange(n))}
    assert list(found) == ["Blur.sigma > 0", "Blur.sigma", "Jitter.applied", "Jitter.factor", "Jitter.other"]
    assert found["Blur.sigma > 0"].estimate.value == 1
    assert (found["Blur.sigma > 0"].rows, found["Blur.sigma > 0"].chance) == (n, 0.5)
    for name in ("Blur.sigma", "Jitter.factor"):
        assert found[name].rows == n // 2
        assert found[name].estimate.value > 0.99
    other = found["Jitter.other"].estimate
    assert other.low < 0.05
    assert other.value < 0.05


def test_hue_is_an_angle() -> None:
    n = 300
    hue = torch.rand(n) - 0.5
    circle = torch.stack([(2 * torch.pi * hue).cos(), (2 * torch.pi * hue).sin()], 1)
    draws = {"ColorJitter.applied": torch.ones(n), "ColorJitter.hue": hue, "Other.value": hue}
    found = {item.column: item for item in read_out(circle, draws, torch.arange(n), resamples=50)}
    assert list(found) == ["ColorJitter.hue", "Other.value"]  # what was applied to all has one value
    assert found["ColorJitter.hue"].estimate.value > 0.999
    assert found["Other.value"].estimate.value < 0.8


def test_numbers_of_things_are_classified_with_balanced_accuracy() -> None:
    rng = np.random.default_rng(0)
    turns = torch.tensor(rng.choice(4, size=400, p=[0.7, 0.1, 0.1, 0.1]))
    (random,) = read_out(normal(0, 400, 3), {"RandomRotation90.turns": turns.float()}, torch.arange(400))
    assert (random.measure, random.chance) == ("balanced accuracy", 0.25)
    assert random.estimate.low < 0.25 < random.estimate.high
    known = torch.eye(4)[turns] + 0.1 * normal(0, 400, 4)
    (perfect,) = read_out(known, {"RandomRotation90.turns": turns.float()}, torch.arange(400))
    assert perfect.estimate.value == 1
    images = 16 / (1 / torch.bincount(turns)).sum().item()
    assert perfect.estimate.low == pytest.approx(images / (images + 1.959964**2))  # Wilson's, if all are right
    copies = torch.arange(400) // 40  # 10 images
    (few,) = read_out(known, {"RandomRotation90.turns": turns.float()}, copies)
    expected = binomtest(10, 10).proportion_ci(0.95, method="wilson")
    assert (few.estimate.low, few.estimate.high) == pytest.approx((expected.low, 1), rel=1e-6)


def test_what_cannot_be_read_is_left_out_or_refused() -> None:
    few = torch.zeros(40)
    few[:4] = 1
    draws = {"Rare.applied": few, "Constant.value": torch.ones(40)}
    assert read_out(normal(0, 40, 2), draws, torch.arange(40)) == ()
    with pytest.raises(ValueError, match="at least 5 different ones, got 2"):
        read_out(normal(0, 40, 2), draws, torch.arange(40) % 2)
    with pytest.raises(ValueError, match=r"columns \(n,\)"):
        read_out(normal(0, 39, 2), draws, torch.arange(40))


# --- what classes lose ------------------------------------------------------------------------------------------


@given(seed=SEEDS, k=st.integers(1, 6))
def test_each_image_is_classified_by_the_others(seed: int, k: int) -> None:
    x, changed = normal(seed, 9, 3), normal(seed + 1, 3, 9, 3)
    labels = torch.tensor([4, 4, 4, 2, 2, 2, 9, 9, 9])

    def accuracy(own: Tensor, others: Tensor) -> float:
        right = 0
        for i in range(9):
            rest = [j for j in range(9) if j != i]
            right += int(knn(others[rest], labels[rest], own[i : i + 1], k=k)[0] == labels[i])
        return right / 9

    found = class_use("Color", x, changed, labels, k=k, resamples=10)
    assert found.plain.value == pytest.approx(accuracy(x, x))
    expected = np.mean([accuracy(changed[i], changed[(i + 1) % 3]) for i in range(3)])
    assert found.changed.value == pytest.approx(expected)
    assert found.fall.value == pytest.approx(accuracy(x, x) - expected)


def test_the_interval_of_the_fall_is_paired() -> None:
    labels = torch.arange(200) % 2
    x = torch.nn.functional.one_hot(labels).float() * 0.6 + normal(0, 200, 2)
    found = class_use("Color", x, x.repeat(2, 1, 1), labels)
    none = binomtest(0, 200).proportion_ci(0.95, method="wilson").high
    assert found.fall == pytest.approx((0, -none, none))  # no fall of 200 images is no proof of none
    assert found.verdict == "carries none"
    assert found.plain.high > found.plain.low + 0.05


def test_few_images_that_all_stay_right_prove_nothing() -> None:
    labels = torch.arange(12) % 2
    x = torch.nn.functional.one_hot(labels).float()
    found = class_use("Color", x, x.repeat(2, 1, 1), labels, k=3)
    all_right = binomtest(12, 12).proportion_ci(0.95, method="wilson")
    assert found.plain == found.changed == pytest.approx((1, all_right.low, 1))
    assert str(found) == (
        "Color is undecided with 12 images: accuracy changes by +0 points (-24 to +24) when Color is random."
    )


@pytest.mark.parametrize(
    ("fall", "verdict", "words"),
    [
        ((0.12, 0.09, 0.15), "carries", "falls by 12 points (9 to 15) when Color is random. Do not train it away."),
        ((0.03, 0.021, 0.04), "carries", "falls by 3 points"),
        ((0.03, 0.02, 0.04), "undecided", "undecided with 80 images: accuracy changes by -3 points (-4 to -2)"),
        ((0.12, -0.01, 0.3), "undecided", "changes by -12 points (-30 to +1)"),
        ((0.0, -0.02, 0.02), "carries none", "carries no class information that these features use"),
        ((0.0, -0.03, 0.02), "undecided", "undecided"),
        ((-0.05, -0.07, -0.03), "helps", "rises by 5 points (3 to 7) when Color is random. It can be trained away."),
    ],
)
def test_the_sentence_says_what_the_interval_supports(fall: Any, verdict: str, words: str) -> None:
    any_estimate = Estimate(0.5, 0.4, 0.6)
    use = Use("Color", any_estimate, any_estimate, Estimate(*fall), 80, 10)
    assert use.verdict == verdict
    assert words in str(use)


def test_what_has_no_classes_to_lose_is_refused() -> None:
    x, labels = normal(0, 6, 2), torch.tensor([0, 0, 0, 1, 1, 1])
    with pytest.raises(ValueError, match="2 draws, 6 images for k=6 and 2 classes"):
        class_use("Color", x, torch.stack([x, x]), labels, k=6)
    with pytest.raises(ValueError, match="1 draws"):
        class_use("Color", x, x[None], labels, k=2)
    with pytest.raises(ValueError, match="1 classes"):
        class_use("Color", x, torch.stack([x, x]), torch.zeros(6), k=2)
    with pytest.raises(ValueError, match=r"must be \(n, d\), \(m, n, d\)"):
        class_use("Color", x, x, labels, k=2)


# --- networks ---------------------------------------------------------------------------------------------------


class Luma(nn.Module):
    """Knows the gray levels of 4 x 4 places, and nothing of the colours."""

    def __init__(self) -> None:
        super().__init__()
        self.gray = nn.Conv2d(3, 1, 1, bias=False)
        self.gray.weight.data = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
        self.pool = nn.AdaptiveAvgPool2d(4)

    def forward(self, x: Tensor) -> Tensor:
        pooled: Tensor = self.pool(self.gray(x))
        return pooled.flatten(1)


class Palette(nn.Module):
    """Knows the mean colour and its strength, and nothing of places."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x.mean((2, 3)), (x.amax(1) - x.amin(1)).mean((1, 2))[:, None]], 1)


MANY = photograph_patches(side=40, train=0, test=4)
LABELS = [MANY.classes[label] for _, label in MANY.test]


def measure(network: Callable[[Tensor], Tensor], **options: Any) -> Invariance:
    arguments: dict[str, Any] = {"size": 16, "normalize": None, "resamples": 50, "draws": 3}
    return measure_invariance(network, [image for image, _ in MANY.test], **arguments | options)


def test_networks_ignore_what_they_are_built_to_ignore() -> None:
    luma, palette = measure(Luma(), name="luma"), measure(Palette(), name="palette")
    found = {n.name: {c.name: c.score.value for c in (*n.groups, *n.operations)} for n in (luma, palette)}
    assert found["luma"]["grayscale"] == pytest.approx(1, abs=1e-3)
    assert found["luma"]["saturation"] > 0.98
    assert found["luma"]["horizontal flip"] < 0.8
    for name in ("horizontal flip", "vertical flip", "quarter turns"):
        assert found["palette"][name] == pytest.approx(1, abs=1e-4)
    assert found["palette"]["grayscale"] < 0.8
    assert found["palette"]["Shape"] > found["luma"]["Shape"]
    assert found["palette"]["Color"] < found["luma"]["Color"]
    read = {n.name: {item.column: item.estimate for item in n.read_out["Color"]} for n in (luma, palette)}
    assert read["palette"]["RandomGrayscale.applied"].low > 0.5
    assert read["palette"]["ColorJitter.saturation"].value > read["luma"]["ColorJitter.saturation"].value
    assert {item.column for item in luma.read_out["Shape"]} >= {"RandomResizedCrop.height"}
    assert compare_invariance([luma, palette]).networks == (luma, palette)


def test_curves_have_all_their_parts() -> None:
    network = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(3), nn.Flatten())
    found = measure(network, labels=LABELS, layers=["0", "1"], changes=[BY_NAME["blur"], BY_NAME["horizontal flip"]])
    blur, flip = found.operations
    assert blur.strengths == BY_NAME["blur"].strengths
    assert blur.score.value == pytest.approx(np.mean([point.value for point in blur.points]))
    assert [point.value for point in blur.points] == sorted((p.value for p in blur.points), reverse=True)
    assert len(blur.images) == found.images == 68
    assert blur.score.value == pytest.approx(np.mean(blur.images))
    assert list(blur.classes) == sorted(set(LABELS))
    assert list(flip.layers) == ["0", "1"]
    assert flip.layers["0"].value > flip.score.value  # a mean over all places
    assert blur.firing is not None
    assert flip.firing is None  # two copies
    assert [curve.name for curve in found.groups] == ["Shape", "Texture", "Color"]
    assert all(curve.points == () and curve.firing is not None for curve in found.groups)
    assert list(found.use) == ["Shape", "Texture", "Color"]


def test_groups_are_drawn_by_their_own_recipe() -> None:
    groups: dict[str, Any] = {
        "flip": RandomHorizontalFlip(1.0),
        "none": RandomHorizontalFlip(0.0),
        "crop": RandomResizedCrop(16, (1, 1), (1, 1)),
        "gamma": Gamma(),
        "strong": Color(hue=0.5, jitter=1.0),
        "weak": Color(0.01, 0.01, 0.01, 0.0, grayscale=0.0),
    }
    found = measure(Luma(), groups=groups, changes=[BY_NAME["horizontal flip"], GAMMA])
    score = {curve.name: curve.score.value for curve in (*found.groups, *found.operations)}
    assert score["flip"] == pytest.approx(score["horizontal flip"], abs=1e-4)
    assert score["none"] == pytest.approx(1, abs=1e-6)
    assert score["crop"] == pytest.approx(1, abs=1e-6)
    assert score["strong"] < score["weak"]
    assert score["gamma"] < 1
    assert found.read_out["gamma"][0].column == "Gamma.gamma"
    assert found.read_out["none"] == ()


def test_the_same_seed_repeats_and_the_mode_of_the_network_is_kept() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.BatchNorm1d(3 * 16 * 16)).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    steps: list[int] = []
    changes = CHANGES[:2]
    first = measure(network, changes=changes, advance=lambda: steps.append(1))
    assert len(steps) == count_passes(changes, groups=3, draws=3)
    assert first == measure(network, changes=changes, batch_size=17)
    assert first != measure(network, changes=changes, seed=1)
    assert all(module.training for module in network.modules())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_methods_and_functions_are_networks_and_normalisation_is_applied() -> None:
    class Method(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = Luma()

        def embed(self, x: Tensor) -> Tensor:
            return self.backbone(x)  # type: ignore[no-any-return]

    plain = measure(Luma(), changes=CHANGES[:1], groups={})
    assert measure(Method().embed, changes=CHANGES[:1], groups={}).operations == plain.operations
    assert measure(lambda x: x.mean((2, 3)), changes=CHANGES[:1], groups={}).groups == ()
    normalized = measure(Luma(), changes=CHANGES[:1], groups={}, normalize=Normalize(0.5, 0.25))
    undo: Callable[[Tensor], Tensor] = lambda x: Luma()(x * 0.25 + 0.5)  # noqa: E731
    undone = measure(undo, changes=CHANGES[:1], groups={}, normalize=Normalize(0.5, 0.25))
    assert normalized.operations[0].score != plain.operations[0].score
    np.testing.assert_allclose(undone.operations[0].score, plain.operations[0].score, atol=1e-4)


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(ValueError, match="near it are 'gray'"):
        measure(Luma(), layers=["grey"])
    with pytest.raises(ValueError, match="at least 5, and labels one for each, got 68 images and 1 labels"):
        measure(Luma(), labels=["cat"])
    with pytest.raises(ValueError, match="group small must make views of 16 pixels, got 8 x 8"):
        measure(Luma(), groups={"small": Shape(8)}, changes=[])
    with pytest.raises(ValueError, match="draws must be an integer >= 3"):
        measure(Luma(), draws=2)
    with pytest.raises(ValueError, match="has 1 channel, ColorJitter"):
        measure_invariance(Luma(), [torch.rand(1, 8, 8)] * 5, size=8, normalize=None)
    with pytest.raises(ValueError, match=r"output must be a tensor .*, got \(64,\)"):
        measure(lambda x: x.mean((1, 2, 3)), changes=[], groups={})

    class Skips(Luma):
        def forward(self, x: Tensor) -> Tensor:
            return x.mean((2, 3))

    with pytest.raises(ValueError, match=r"must be called by the network, \['gray'\] are not"):
        measure(Skips(), layers=["gray"], groups={})


# --- comparison -------------------------------------------------------------------------------------------------


def test_comparisons_survive_json_and_are_tables() -> None:
    groups = {"Texture": Texture(), "Gamma": Gamma()}
    one = measure(Luma(), name="one", labels=LABELS, groups=groups, changes=[BY_NAME["blur"]])
    two = measure(Palette(), name="two", labels=LABELS, changes=[BY_NAME["blur"], BY_NAME["hue"]])
    both = compare_invariance([one, two])
    assert InvarianceComparison.from_json(both.to_json()) == both
    assert json.loads(both.to_json())[0]["name"] == "one"
    some = both.select("hue", "Gamma")
    assert [[curve.name for curve in (*n.groups, *n.operations)] for n in some.networks] == [
        ["Gamma"],
        [curve.name for curve in two.operations if curve.name == "hue"],
    ]
    assert len(some.rows()) == 3
    with pytest.raises(ValueError, match=r"select: names must be among .*blur.*, got \['blurr'\]"):
        both.select("hue", "blurr")
    lines = both.table().splitlines()
    assert lines[0] == "| group | operation | one | two |"
    assert [line.split(" | ")[:2] for line in lines[2:]] == [
        ["| **Texture**", "**all, as drawn**"],
        ["| Texture", "blur"],
        ["| **Gamma**", "**all, as drawn**"],
        ["| **Shape**", "**all, as drawn**"],
        ["| **Color**", "**all, as drawn**"],
        ["| Color", "hue"],
    ]
    assert str(two.operations[0].score) in lines[3]
    assert "## What classes lose" in both.report()
    assert f"- one: {one.use['Gamma']}" in both.report()
    assert "RandomGaussianBlur.sigma" in both.report()
    with pytest.raises(ValueError, match="different names, got \\['one', 'one'\\]"):
        compare_invariance([one, one])
    with pytest.raises(ValueError, match="different names"):
        compare_invariance([])
    for damaged in ("{", "[1]", '[{"name": "a"}]'):
        with pytest.raises(ValueError, match="must be JSON of to_json"):
            InvarianceComparison.from_json(damaged)
