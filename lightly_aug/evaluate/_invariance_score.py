"""How little features change with the image: the score of invariance."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lightly_aug.checks import check_integer
from lightly_aug.evaluate._estimate import Estimate, Floats, estimate, resample_counts

__all__ = ["InvarianceScore", "invariance_score"]


class InvarianceScore(NamedTuple):
    """How invariant features are, the result of `invariance_score`.

    Attributes:
        mean: Mean over images and changes.
        changes: One for each of the m changes: the mean over images.
        images: Scores of single images, `(m, n)`.
        classes: By label: the mean over its images and the changes.
    """

    mean: Estimate
    changes: tuple[Estimate, ...]
    images: NDArray[np.float64]
    classes: dict[int, Estimate]


def invariance_score(
    features: Tensor,
    changed: Tensor,
    labels: Sequence[int] | Tensor | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> InvarianceScore:
    """Compute how little the features of images change when the images do.

    With the cosine similarity s of an image and its changed copy, and the mean similarity s̄ of two different images,
    unchanged, the score of the image is 1 - (1 - s) / (1 - s̄). It is 1 for full invariance, 0 where a changed copy is
    as different as another image, and negative where it is more different than that.

    Cosines are not centred. 1 - s is half the squared distance of two features of length 1, so the score compares two
    squared distances, and a part that all features have in common, such as the positive mean that ReLU leaves, cancels.
    Subtracting the mean first would weight most the images whose features are nearest to it, which have the least to
    say. The denominator is one number for all images and classes, because an image that resembles many others would
    divide by nearly nothing.

    Args:
        features: Features of the unchanged images, `(n, d)`.
        changed: Features of the changed copies, `(n, d)` or, for m changes, `(m, n, d)`.
        labels: Labels of the images, `(n,)`, for scores of classes.
        resamples: Number of resamples for the intervals. In each, the pairs of two different images are counted again.
        seed: Seed of the resamples, 0 or more.

    Raises:
        ValueError: Shapes do not fit, there are fewer than 2 images, features are not finite, or all are equal.

    Example:
        >>> import torch
        >>> x = torch.eye(3)
        >>> score = invariance_score(x, torch.stack([x, x.roll(1, 0)]))
        >>> [round(change.value, 3) for change in score.changes], round(score.mean.value, 3)
        ([1.0, 0.0], 0.5)
    """
    check_integer("invariance_score", least=1, resamples=resamples)
    many = changed[None] if changed.ndim == 2 else changed
    n = len(features)
    if features.ndim != 2 or many.ndim != 3 or many.shape[1:] != features.shape or n < 2 or len(many) == 0:
        raise ValueError(
            "invariance_score: features and changed must be (n, d) and (n, d) or (m, n, d) with n at least 2, "
            f"got {tuple(features.shape)} and {tuple(changed.shape)}"
        )
    groups = None if labels is None else np.asarray(labels)
    if groups is not None and groups.shape != (n,):
        raise ValueError(f"invariance_score: labels must be one for each of {n} images, got {groups.shape}")
    unit, units = _normalise(features), _normalise(many)
    counts = resample_counts(n, resamples, seed)
    distance = 1 - np.einsum("nd,mnd->mn", unit, units)
    other = _between(unit, np.ones((1, n)))[0]
    if not other > 1e-10:
        raise ValueError(
            f"invariance_score: features of different images must have different directions, got one of {n} "
            "images: the network has collapsed, or d is 1"
        )
    others = _between(unit, counts)
    means = counts @ distance.T / n  # (resamples, m)
    images = 1 - distance / other
    classes = {}
    for label in () if groups is None else np.unique(groups):
        here = groups == label
        held = counts[:, here].sum(1)
        with np.errstate(invalid="ignore"):  # a resample without this class is left out
            resampled = 1 - counts[:, here] @ distance.mean(0)[here] / held / others
        classes[int(label)] = estimate(images[:, here].mean(), resampled)
    return InvarianceScore(
        estimate(images.mean(), 1 - means.mean(1) / others),
        tuple(estimate(row.mean(), 1 - mean / others) for row, mean in zip(images, means.T, strict=True)),
        images,
        classes,
    )


def _normalise(x: Tensor) -> Floats:
    """Scale rows to length 1, in float64; a row of zeros stays one."""
    values: Floats = x.detach().cpu().double().numpy()
    if not np.isfinite(values).all():
        raise ValueError("invariance_score: features must be finite, got NaN or infinity")
    length = np.linalg.norm(values, axis=-1, keepdims=True)
    return values / np.where(length > 0, length, 1)


def _between(unit: Floats, counts: Floats) -> Floats:
    """Return the mean of 1 - cosine over pairs of different images, each pair as often as the counts say.

    The sum over all pairs is the squared length of the weighted sum; that of images with themselves is left out.

    Args:
        unit: `(n, d)` of length 1.
        counts: `(resamples, n)`.
    """
    total = counts @ unit
    squares = counts**2
    with_themselves = squares @ (unit**2).sum(1)
    pairs = counts.sum(1) ** 2 - squares.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):  # a resample of one image only has no pairs
        mean: Floats = 1 - ((total**2).sum(1) - with_themselves) / pairs
    return mean
