"""Accuracies and their intervals, compared with scikit-learn, SciPy and a bootstrap image by image."""

import math
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import (  # type: ignore[import-untyped]
    accuracy_score,
    balanced_accuracy_score,
    confusion_matrix,
    top_k_accuracy_score,
)
from torch import Tensor

from lightly_aug.evaluate import Estimate, accuracy


def draw(seed: int, n: int, classes: int) -> tuple[Tensor, Tensor]:
    """Draw scores without ties, and labels that they predict better than chance, of which some never occur."""
    rng = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, max(1, classes - 1), (n,), generator=rng)
    scores = torch.randn(n, classes, dtype=torch.float64, generator=rng)
    scores[torch.arange(n), labels] += 1
    return scores, labels


@pytest.mark.filterwarnings("ignore:(y_pred contains classes not in y_true|A single label was found)")
@given(seed=st.integers(0, 10**6), n=st.integers(1, 60), classes=st.integers(2, 12))
def test_accuracies_equal_scikit_learn(seed: int, n: int, classes: int) -> None:
    scores, labels = draw(seed, n, classes)
    found, predicted = accuracy(scores, labels), scores.argmax(1).numpy()
    every = list(range(classes))
    assert (found.confusion.numpy() == confusion_matrix(labels, predicted, labels=every)).all()
    assert found.balanced.value == pytest.approx(balanced_accuracy_score(labels, predicted), abs=1e-6)
    shares = [(found.top1, accuracy_score(labels, predicted))]
    if classes > 5:
        assert found.top5 is not None
        shares.append((found.top5, top_k_accuracy_score(labels, scores, k=5, labels=every)))
    else:
        assert found.top5 is None
    for score, share in shares:
        assert score.value == pytest.approx(share, abs=1e-12)
        interval = binomtest(round(share * n), n).proportion_ci(0.95, method="wilson")
        assert (score.low, score.high) == pytest.approx((interval.low, interval.high), abs=1e-9)
        assert score.low <= score.value <= score.high


def count_right(right: list[int], sizes: list[int]) -> Estimate:
    """Return the balanced accuracy of classes of so many images, of which so many are right."""
    labels = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    hits = torch.cat([torch.arange(n) < k for k, n in zip(right, sizes, strict=True)])
    return accuracy(torch.eye(len(sizes))[torch.where(hits, labels, (labels + 1) % len(sizes))], labels).balanced


@given(data=st.data(), classes=st.integers(2, 6))
def test_the_balanced_accuracy_always_has_an_interval(data: st.DataObject, classes: int) -> None:
    """Also if all images of each class are right, or all wrong, or there is one: resamples do not differ there."""
    sizes = data.draw(st.lists(st.integers(1, 30), min_size=classes, max_size=classes))
    right = [data.draw(st.integers(0, n)) for n in sizes]
    found = count_right(right, sizes)
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert found.high - found.low > 1 / sum(sizes)
    assert found.low < found.value or found.value == 0
    assert found.high > found.value or found.value == 1


@pytest.mark.parametrize(("hits", "each", "classes"), [(20, 20, 3), (0, 20, 3), (1, 1, 50), (7, 9, 4), (30, 60, 2)])
def test_of_equal_classes_it_is_the_interval_of_a_share(hits: int, each: int, classes: int) -> None:
    found = count_right([hits] * classes, [each] * classes)
    expected = binomtest(hits * classes, each * classes).proportion_ci(0.95, method="wilson")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-6)


@pytest.mark.parametrize(
    ("sizes", "recalls"),
    [
        ([20, 20], [0.95, 0.95]),
        ([10] * 10, [0.98] * 10),
        ([5] * 40, [0.9] * 40),
        ([1] * 50, [0.9] * 50),
        ([10, 400], [0.5, 0.99]),
        ([3, 30, 300], [0.7, 0.9, 0.99]),
        ([50, 50, 50], [0.9, 0.5, 1.0]),
    ],
)
def test_the_interval_covers_the_balanced_accuracy_of_all_images(sizes: list[int], recalls: list[float]) -> None:
    """In 19 of 20 samples of images. A bootstrap of the images covers it in 65 to 96 % of them."""
    rng = np.random.default_rng(0)
    found = [count_right(rng.binomial(sizes, recalls).tolist(), sizes) for _ in range(400)]
    assert np.mean([each.low <= np.mean(recalls) <= each.high for each in found]) >= 0.91


def test_equal_scores_are_in_the_order_of_the_labels() -> None:
    rng = torch.Generator().manual_seed(0)
    scores, labels = torch.randint(0, 3, (300, 40), generator=rng), torch.randint(0, 40, (300,), generator=rng)
    orders = [sorted(range(40), key=lambda c: (-row[c], c)) for row in scores.tolist()]
    found = accuracy(scores, labels)
    assert found.top5 is not None
    for score, count in ((found.top1, 1), (found.top5, 5)):
        assert score.value == sum(y in order[:count] for y, order in zip(labels.tolist(), orders, strict=True)) / 300


def test_random_generators_are_left_alone() -> None:
    scores, labels = draw(0, 50, 4)
    state = torch.random.get_rng_state()
    assert accuracy(scores, labels).balanced == accuracy(scores, labels).balanced
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.int64])
def test_scores_of_any_dtype(dtype: torch.dtype) -> None:
    scores = (10 * torch.eye(6)).to(dtype)
    found = accuracy(scores.requires_grad_(dtype.is_floating_point), torch.arange(6, dtype=torch.uint8))
    assert found.top1.value == found.balanced.value == found.balanced.high == 1
    assert found.confusion.tolist() == torch.eye(6).tolist()


def test_infinite_scores_have_an_order() -> None:
    assert accuracy(torch.tensor([[-math.inf, 0.0], [math.inf, 0.0]]), torch.tensor([1, 0])).top1.value == 1


def test_texts() -> None:
    assert f"{Estimate(0.8123, 0.789, 0.8334):.1%}" == "81.2 % (78.9–83.3)"
    found = accuracy(torch.eye(6), torch.arange(6))
    assert str(found) == ("top-1 100.0 % (61.0–100.0), top-5 100.0 % (61.0–100.0), balanced 100.0 % (61.0–100.0)")
    assert f"{Estimate(0.5, math.nan, math.nan):.0%}" == "50 % (no interval)"


def test_scores_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = torch.eye(3), torch.arange(3)
    for scores, labels in ((x, y[:2]), (x[0], y), (x[:, :1], y), (x[:0], y[:0])):
        with pytest.raises(ValueError, match=r"accuracy: scores and labels must be \(n, C\) and \(n,\), .* at least 2"):
            accuracy(scores, labels)
    for labels in (y + 1, y - 1, y.float()):
        with pytest.raises(ValueError, match="accuracy: labels must be integers from 0 to C - 1 = 2, got"):
            accuracy(x, labels)
    with pytest.raises(ValueError, match="accuracy: scores must be numbers, got NaN in row 1"):
        accuracy(torch.tensor([[0.0, 1.0], [math.nan, 1.0]]), y[:2])
    monkeypatch.setitem(sys.modules, "torchmetrics.functional.classification", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'lightly-aug\[train\]'"):
        accuracy(x, y)
