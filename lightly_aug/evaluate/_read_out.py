"""What a linear model reads from features about the draws that their images were changed with."""

from collections.abc import Iterator
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lightly_aug.checks import check_integer
from lightly_aug.evaluate._estimate import Estimate, Floats, estimate, resample_counts
from lightly_aug.optional import extra

__all__ = ["ReadOut", "read_out"]

_CATEGORIES: Final = ("applied", "turns", "order", "cell")
"""Columns that hold a number of a thing, not a quantity; so does any column with two values."""
_PERIODS: Final = {"hue": 1.0, "degrees": 360.0}
_ZERO_IS_NONE: Final = ("sigma", "degrees")
"""Columns without an `applied` beside them, in which 0 says that nothing happened."""
_FOLDS: Final = 5


class ReadOut(NamedTuple):
    """How well one column of the draws is read, an item of the result of `read_out`.

    Attributes:
        column: Name of the column, such as `"ColorJitter.hue"`, or `"RandomGaussianBlur.sigma > 0"`.
        measure: "R²", 1 for a perfect prediction and 0 for that of the mean, or "balanced accuracy".
        estimate: Its value.
        chance: Its value if the features say nothing: 0, or 1 / number of values.
        rows: Number of copies that it was measured on.
    """

    column: str
    measure: Literal["R²", "balanced accuracy"]
    estimate: Estimate
    chance: float
    rows: int


class _Target(NamedTuple):
    column: str
    rows: NDArray[np.intp]
    values: Floats
    categories: bool


def read_out(
    features: Tensor, draws: dict[str, Tensor], images: Tensor, *, resamples: int = 1000, seed: int = 0
) -> tuple[ReadOut, ...]:
    """Measure how well a linear model predicts each column of the draws from the features.

    Quantities are predicted by ridge regression, whose penalty leave-one-out error chooses among ten; things, such as
    whether an operation was applied, the number of quarter turns and the order of the jitter, by logistic regression
    with balanced classes. Each copy is predicted by a model that has seen no copy of its image (5 folds), on features
    standardised by the training folds.

    Values are read from the copies that they were applied to: jitter, solarization, blur and rotation that did not
    happen are left out, and whether they happened is a column of its own. Hue and rotation are angles: their cosine and
    sine are predicted together, so 359° is near 1°. A column with one value is left out, and so is one with fewer than
    20 copies, or fewer than 5 images for a value.

    Args:
        features: `(n, d)`, of the changed copies.
        draws: The columns by name, each `(n,)`, as an item of `Views.draws`.
        images: `(n,)` integers: which image a row is a copy of.
        resamples: Number of resamples of the images for the intervals.
        seed: Seed of the folds and the resamples, 0 or more.

    Returns:
        One item for each column, in order.

    Raises:
        ValueError: Shapes do not fit, or there are fewer than 5 images.
        ModuleNotFoundError: The package scikit-learn is not installed.

    Example:
        >>> import torch
        >>> sigma = torch.linspace(1, 2, 40)
        >>> found = read_out(torch.stack([sigma, sigma**2], 1), {"Blur.sigma": sigma}, torch.arange(40))
        >>> found[0].column, round(found[0].estimate.value, 2)
        ('Blur.sigma', 1.0)
    """
    check_integer("read_out", least=1, resamples=resamples)
    x = features.detach().cpu().double().numpy()
    shapes = {name: tuple(column.shape) for name, column in ({"images": images} | draws).items()}
    if x.ndim != 2 or any(shape != x.shape[:1] for shape in shapes.values()):
        raise ValueError(f"read_out: features must be (n, d), images and columns (n,), got {x.shape} and {shapes}")
    _, members = np.unique(images.cpu().numpy(), return_inverse=True)
    count = int(members.max(initial=-1)) + 1
    if count < _FOLDS:
        raise ValueError(f"read_out: images must be at least {_FOLDS} different ones, got {count}")
    folds = np.random.default_rng(seed).permutation(count) % _FOLDS
    counts = resample_counts(count, resamples, seed)
    columns = {name: column.detach().cpu().double().numpy() for name, column in draws.items()}
    found = []
    for target in _targets(columns):
        own = members[target.rows]
        if not _is_enough(target, own, folds):
            continue
        measure = _classify if target.categories else _regress
        found.append(measure(target, x[target.rows], own, folds, counts))
    return tuple(found)


def _targets(columns: dict[str, Floats]) -> Iterator[_Target]:
    for name, values in columns.items():
        operation, _, part = name.rpartition(".")
        applied = columns.get(f"{operation}.applied")
        happened = np.ones(len(values), dtype=np.bool_)
        if part in _ZERO_IS_NONE:
            happened = values != 0
            yield _Target(f"{name} ≠ 0" if part == "degrees" else f"{name} > 0", _all(values), happened * 1.0, True)
        elif applied is not None and part != "applied":
            happened = applied > 0
        rows = happened.nonzero()[0]
        yield _Target(name, rows, values[rows], part in _CATEGORIES or len(np.unique(values[rows])) <= 2)


def _all(values: Floats) -> NDArray[np.intp]:
    return np.arange(len(values))


def _is_enough(target: _Target, members: NDArray[np.int64], folds: NDArray[np.int64]) -> bool:
    """Whether there are two values or more, in enough images, and in the training images of every fold."""
    values = np.unique(target.values)
    if len(values) < 2 or len(target.values) < 20 or len(np.unique(folds[members])) < _FOLDS:
        return False
    if not target.categories:
        return True
    of_value = [members[target.values == value] for value in values]
    return all(len(np.unique(own)) >= _FOLDS and len(np.unique(folds[own])) >= 2 for own in of_value)


def _regress(
    target: _Target, x: Floats, members: NDArray[np.int64], folds: NDArray[np.int64], counts: Floats
) -> ReadOut:
    with extra("train"):
        from sklearn.linear_model import RidgeCV  # type: ignore[import-untyped]
        from sklearn.pipeline import make_pipeline  # type: ignore[import-untyped]
        from sklearn.preprocessing import StandardScaler  # type: ignore[import-untyped]
    part = target.column.rpartition(".")[2]
    y = target.values[:, None]
    if part in _PERIODS:
        angle = 2 * np.pi / _PERIODS[part] * y
        y = np.concatenate([np.cos(angle), np.sin(angle)], axis=1)
    predicted = np.empty_like(y)
    for fold in range(_FOLDS):
        test = folds[members] == fold
        model = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-2, 7, 10)))
        predicted[test] = model.fit(x[~test], y[~test]).predict(x[test]).reshape(-1, y.shape[1])
    value, resampled = (_r_squared(y, predicted, weights) for weights in (np.ones((1, len(y))), counts[:, members]))
    return ReadOut(target.column, "R²", estimate(value[0], resampled), 0.0, len(y))


def _r_squared(y: Floats, predicted: Floats, weights: Floats) -> Floats:
    """Return 1 - squared error / variance, both summed over the columns of y, for each row of weights."""
    total = weights.sum(1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):  # a resample may hold no row
        error = (weights @ (y - predicted) ** 2).sum(1)
        spread = (weights @ y**2 - (weights @ y) ** 2 / total).sum(1)
        value: Floats = 1 - error / spread
    return value


def _classify(
    target: _Target, x: Floats, members: NDArray[np.int64], folds: NDArray[np.int64], counts: Floats
) -> ReadOut:
    with extra("train"):
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
    values, y = np.unique(target.values, return_inverse=True)
    right = np.empty(len(y))
    for fold in range(_FOLDS):
        test = folds[members] == fold
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, class_weight="balanced", max_iter=1000))
        right[test] = model.fit(x[~test], y[~test]).predict(x[test]) == y[test]
    value, resampled = (_balanced_accuracy(y, right, weights) for weights in (np.ones((1, len(y))), counts[:, members]))
    # Copies of an image are no more images, also where they have different values.
    sizes = [len(np.unique(members[y == number])) for number in range(len(values))]
    images = min(len(np.unique(members)), len(values) ** 2 / sum(1 / size for size in sizes))
    found = estimate(value[0], resampled, images=images, bounds=(0.0, 1.0))
    return ReadOut(target.column, "balanced accuracy", found, 1 / len(values), len(y))


def _balanced_accuracy(y: NDArray[np.intp], right: Floats, weights: Floats) -> Floats:
    """Return the mean over classes of the share of rows that are right, for each row of weights."""
    member = (y[:, None] == np.arange(y.max() + 1)) * 1.0
    with np.errstate(invalid="ignore"):  # a resample may lack a class
        mean: Floats = (weights @ (member * right[:, None]) / (weights @ member)).mean(1)
    return mean
