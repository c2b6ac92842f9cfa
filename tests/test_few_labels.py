"""Subsets of labels, accuracy by their number, and scores of the linear classifier."""

import itertools
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]
from sklearn.model_selection import StratifiedKFold  # type: ignore[import-untyped]
from torch import Tensor

from lightly_aug.evaluate import (
    few_label_curve,
    knn_accuracy,
    labelled_subset,
    linear_accuracy,
    linear_scores,
)

LABELS = st.lists(st.integers(-3, 4), min_size=1, max_size=60)


def draw_clouds(count: int, seed: int, classes: int = 3, spread: float = 1.0) -> tuple[Tensor, Tensor]:
    """Draw overlapping clouds on a line, one a class."""
    rng = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % classes
    noise = torch.randn(count, 4, generator=rng) * spread
    return torch.cat([noise[:, :3], labels[:, None] * 2 + noise[:, 3:]], 1), labels * 3 - 1


# --- subsets ------------------------------------------------------------------------------------------------------


@given(labels=LABELS, share=st.floats(0.001, 1), seed=st.integers(0, 1000))
def test_a_share_is_taken_of_each_class(labels: list[int], share: float, seed: int) -> None:
    rows = labelled_subset(labels, share=share, seed=seed)
    assert rows.dtype == torch.int64
    assert rows.tolist() == sorted(set(rows.tolist()))
    assert Counter(labels[i] for i in rows) == {
        label: max(1, round(share * count)) for label, count in Counter(labels).items()
    }
    assert torch.equal(rows, labelled_subset(torch.tensor(labels), share=share, seed=seed))
    assert torch.equal(rows, labelled_subset(np.array(labels, dtype=np.int16), share=share, seed=seed))


@given(labels=LABELS, seed=st.integers(0, 1000))
def test_a_smaller_subset_is_part_of_a_larger_one(labels: list[int], seed: int) -> None:
    fewest = min(Counter(labels).values())
    subsets = [set(labelled_subset(labels, per_class=count, seed=seed).tolist()) for count in range(1, fewest + 1)]
    assert all(small < large for small, large in itertools.pairwise(subsets))
    for count, subset in enumerate(subsets, 1):
        assert Counter(labels[i] for i in subset) == dict.fromkeys(labels, count)


def test_all_images_are_chosen_equally_often() -> None:
    """Over 2,000 seeds: 5 standard deviations of the binomial distribution."""
    labels = [0] * 5 + [1] * 10
    counts: Counter[int] = Counter()
    for seed in range(2000):
        counts.update(labelled_subset(labels, per_class=2, seed=seed).tolist())
    for image, label in enumerate(labels):
        p = 2 / labels.count(label)
        assert abs(counts[image] - 2000 * p) < 5 * (2000 * p * (1 - p)) ** 0.5
    classes = [labelled_subset([0] * 50 + [1] * 50, per_class=5, seed=seed) for seed in range(5)]
    assert all(rows[:5].tolist() != (rows[5:] - 50).tolist() for rows in classes)  # classes are independent


def test_subset_errors() -> None:
    wrong: list[tuple[str, Any, dict[str, Any]]] = [
        (r"labels must be \(n,\) integers, .* got float64 of shape \(0,\)", [], {"share": 1}),
        (r"got float32 of shape \(2,\)", torch.rand(2), {"share": 1}),
        (r"got int64 of shape \(2, 1\)", [[1], [2]], {"share": 1}),
        ("give either share or per_class, got None and None", [1], {}),
        ("give either share or per_class, got 1 and 1", [1], {"share": 1, "per_class": 1}),
        ("share must be above 0 and at most 1, got 0", [1], {"share": 0}),
        ("share must be above 0 and at most 1, got nan", [1], {"share": float("nan")}),
        ("per_class must be an integer >= 1, got 0", [1], {"per_class": 0}),
        ("per_class must be at most the images of a class, got 2: class 7 has 1", [4, 4, 7], {"per_class": 2}),
        ("seed must be an integer >= 0, got -1", [1], {"share": 1, "seed": -1}),
    ]
    for text, labels, given_ in wrong:
        with pytest.raises(ValueError, match=f"labelled_subset: .*{text}"):
            labelled_subset(labels, **given_)


# --- the curve ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("classifier", ["linear", "knn"])
def test_the_curve_is_that_of_each_subset(classifier: Any) -> None:
    (x, y), (x_test, y_test) = draw_clouds(60, seed=0), draw_clouds(200, seed=1)
    curve = few_label_curve(
        x, y, x_test, y_test, counts=[1, 4], draws=3, classifier=classifier, k=5, c=0.1, confidence=0.9, seed=7
    )
    assert curve.labels.tolist() == [1, 4, 20]
    for row, count in zip(curve.accuracy, [1, 4, 20], strict=True):
        for draw, value in enumerate(row):
            rows = labelled_subset(y, per_class=count, seed=7 + draw)
            data = x[rows], y[rows], x_test, y_test
            expected = linear_accuracy(*data, c=0.1) if classifier == "linear" else knn_accuracy(*data, k=min(5, count))
            assert value == expected
    # Student's t with two degrees of freedom, of a table: 2.920 at 90 %
    for i in range(2):
        a = curve.accuracy[i]
        half = 2.9199856 * np.sqrt(((a - a.mean()) ** 2).sum() / 2) / np.sqrt(3)
        np.testing.assert_allclose(curve.mean[i], sum(a) / 3)
        np.testing.assert_allclose([curve.low[i], curve.high[i]], np.clip([a.mean() - half, a.mean() + half], 0, 1))
    np.testing.assert_allclose([curve.low[2], curve.high[2]], [curve.mean[2]] * 2)
    assert curve.mean[0] < curve.mean[2]


def test_default_counts_are_those_that_every_class_has() -> None:
    x, y = draw_clouds(40, seed=0, classes=2)
    y = torch.cat([y, y[:3]])
    curve = few_label_curve(torch.cat([x, x[:3]]), y, x, y[:40], draws=2, classifier="knn")
    assert curve.labels.tolist() == [1, 2, 5, 10, 20, 22]
    assert few_label_curve(x, y[:40], x, y[:40], draws=2, classifier="knn").labels.tolist() == [1, 2, 5, 10, 20]


def test_curve_errors() -> None:
    x, y = draw_clouds(12, seed=0)
    wrong: list[tuple[str, dict[str, Any]]] = [
        ("few_label_curve: draws must be an integer >= 2, got 1", {"draws": 1}),
        ("few_label_curve: k must be an integer >= 1, got 0", {"k": 0}),
        ("few_label_curve: classifier must be one of 'linear', 'knn', got 'svm'", {"classifier": "svm"}),
        ("few_label_curve: confidence must be between 0 and 1, got 1", {"confidence": 1}),
        (r"few_label_curve: counts must increase, got \[2, 1\]", {"counts": [2, 1]}),
        ("per_class must be at most the images of a class, got 5: class -1 has 4", {"counts": [5]}),
        (r"must be \(N, d\) and \(N,\), got \(12, 4\) and \(11,\)", {"train_labels": y[1:]}),
    ]
    for text, changed in wrong:
        data: dict[str, Any] = {"train_features": x, "train_labels": y, "test_features": x, "test_labels": y}
        with pytest.raises(ValueError, match=text):
            few_label_curve(**data | changed)


# --- scores of the linear classifier --------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("c", [0.01, 1.0])
def test_scores_are_log_probabilities_of_the_regression(classes: int, c: float) -> None:
    """The minimum of |W|²/2 + c Σ loss, without penalty on the bias; two classes have one logit."""
    (x, y), (x_test, y_test) = draw_clouds(60, 0, classes), draw_clouds(40, 1, classes)
    result = linear_scores(x, y, x, c=c)
    assert result.c == c
    assert result.classes.tolist() == sorted({*y.tolist()})
    points, rows = x.double().numpy(), np.searchsorted(result.classes.numpy(), y.numpy())
    points = (points - points.mean(0)) / points.std(0)
    logits = 1 if classes == 2 else classes

    def score(parameters: NDArray[np.float64]) -> NDArray[np.float64]:
        weights = parameters.reshape(logits, 5)
        own = points @ weights[:, :4].T + weights[:, 4]
        return np.asarray(log_softmax(np.hstack([np.zeros((60, 1)), own]) if logits == 1 else own, 1))

    def loss(parameters: NDArray[np.float64]) -> float:
        penalty = (parameters.reshape(logits, 5)[:, :4] ** 2).sum() / 2
        return float(penalty - c * score(parameters)[range(60), rows].sum())

    expected = score(minimize(loss, np.zeros(logits * 5), method="BFGS").x)
    np.testing.assert_allclose(result.scores.numpy(), expected, atol=0.01)
    tested = linear_scores(x, y, x_test, c=c)
    predicted = tested.classes[tested.scores.argmax(1)]
    assert linear_accuracy(x, y, x_test, y_test, c=c) == (predicted == y_test).double().mean().item()


def test_scores_of_far_points_are_finite_without_warnings() -> None:
    x, y = draw_clouds(20, seed=0, classes=2)
    scores = linear_scores(x, y, x * 1e6, c=100.0).scores
    assert scores.isfinite().all()
    assert scores.min() < -1000


@pytest.mark.parametrize(("spread", "seed"), [(0.3, 3), (0.7, 3), (0.7, 5)])
def test_cross_validation_takes_the_best_c(spread: float, seed: int) -> None:
    """By a loop over folds and values, with each fold standardised by its own training part."""
    x, y = draw_clouds(60, seed, spread=spread)
    x = torch.cat([x, torch.randn(60, 30, generator=torch.Generator().manual_seed(4))], 1)
    points, labels = x.double().numpy(), y.numpy()
    grid = [1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0]
    right = dict.fromkeys(grid, 0.0)
    for train, test in StratifiedKFold(5, shuffle=True, random_state=0).split(points, labels):
        mean, sd = points[train].mean(0), points[train].std(0)
        for c in grid:
            model = LogisticRegression(C=c, max_iter=10_000).fit((points[train] - mean) / sd, labels[train])
            right[c] += (model.predict((points[test] - mean) / sd) == labels[test]).mean()
    best = max(grid, key=lambda c: round(right[c], 9))
    result = linear_scores(x, y, x, c="cv")
    assert result.c == best
    assert 1e-4 < best < 100  # neither end
    torch.testing.assert_close(result.scores, linear_scores(x, y, x, c=best).scores)
    assert linear_accuracy(x, y, x, y, c="cv") == linear_accuracy(x, y, x, y, c=best)


def test_scores_errors() -> None:
    x, y = draw_clouds(7, seed=0)
    with pytest.raises(ValueError, match="linear_scores: c must be a number above 0 or \"cv\", got 'auto'"):
        linear_scores(x, y, x, c="auto")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="linear_scores: c must be above 0, got -1"):
        linear_scores(x, y, x, c=-1)
    with pytest.raises(
        ValueError, match=r"linear_scores: .* must be \(N, d\), \(N,\) and \(M, d\), got \(7, 4\), \(6,"
    ):
        linear_scores(x, y[:6], x)
    with pytest.raises(ValueError, match="two classes or more, got one in 7 rows"):
        linear_scores(x, y * 0, x)
    with pytest.raises(ValueError, match='c="cv" needs two training images of every class or more'):
        linear_scores(x[:4], y[:4], x, c="cv")
