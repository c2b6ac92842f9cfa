"""Accuracies with confidence intervals."""

from math import sqrt
from statistics import NormalDist
from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lightly_aug.checks import check_integer
from lightly_aug.evaluate._estimate import Estimate
from lightly_aug.optional import extra

__all__ = ["Accuracy", "accuracy"]

_LEVEL: Final = 0.95
_RESAMPLES: Final = 10_000


class Accuracy(NamedTuple):
    """Accuracies of a classifier on n test images of C classes.

    Attributes:
        top1: Share of images whose label has the highest score.
        top5: Share of images whose label is among the five highest scores; None if C is 5 or less, since it is then 1
            for any classifier.
        balanced: Mean over the classes that occur of the share of their images whose label has the highest score.
        confusion: `(C, C)` int64, the number of images by label (row) and prediction (column).
    """

    top1: Estimate
    top5: Estimate | None
    balanced: Estimate
    confusion: Tensor

    def __str__(self) -> str:
        names = ("top-1", self.top1), ("top-5", self.top5), ("balanced", self.balanced)
        return ", ".join(f"{name} {score:.1%}" for name, score in names if score is not None)


@torch.no_grad()
def accuracy(scores: Tensor, labels: Tensor, *, seed: int = 0) -> Accuracy:
    """Compute top-1, top-5 and balanced accuracy of scores, each with a 95 % confidence interval.

    The intervals say how far the accuracy may change with other test images. Those of top-1 and top-5 are Wilson's
    (1927); that of the balanced accuracy is the percentile interval of 10,000 bootstrap resamples of the images (Efron
    1979). Of classes with equal scores the one with the smaller label comes first.

    Args:
        scores: `(n, C)`, the higher the likelier: logits, probabilities, or the votes of `knn_votes`.
        labels: `(n,)` integers from 0 to C - 1.
        seed: Seed of the bootstrap, 0 or more.

    Raises:
        ValueError: Shapes do not fit, there are no images, labels are not integers from 0 to C - 1, or a score is NaN.
        ModuleNotFoundError: The package torchmetrics is not installed.

    Example:
        >>> scores = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.7, 0.3]])
        >>> print(accuracy(scores, torch.tensor([0, 0, 1, 1])))
        top-1 75.0 % (30.1–95.4), balanced 75.0 % (50.0–100.0)
    """
    _check(scores, labels)
    check_integer("accuracy", least=0, seed=seed)
    with extra("train"):
        from torchmetrics.functional.classification import multiclass_accuracy, multiclass_confusion_matrix
    labels = labels.cpu().long()
    n, classes = scores.shape
    order = scores.detach().cpu().argsort(dim=1, descending=True, stable=True)
    confusion = multiclass_confusion_matrix(order[:, 0], labels, classes)
    top5 = None
    if classes > 5:
        # places in the order, since torchmetrics breaks ties of scores arbitrarily
        ranks = torch.empty(n, classes).scatter_(1, order, -torch.arange(classes).float().expand(n, classes))
        top5 = _wilson(multiclass_accuracy(ranks, labels, classes, average="micro", top_k=5).item(), n)
    recalls = multiclass_accuracy(order[:, 0], labels, classes, average="none")
    return Accuracy(
        _wilson(multiclass_accuracy(order[:, 0], labels, classes, average="micro").item(), n),
        top5,
        # torchmetrics' own mean counts a class without images, as 0, if it is predicted
        Estimate(recalls[confusion.sum(1) > 0].double().mean().item(), *_resample_balanced(confusion, seed)),
        confusion,
    )


def _check(scores: Tensor, labels: Tensor) -> None:
    if scores.ndim != 2 or labels.shape != scores.shape[:1] or len(scores) == 0 or scores.shape[1] < 2:
        raise ValueError(
            "accuracy: scores and labels must be (n, C) and (n,), n at least 1 and C at least 2, got "
            f"{tuple(scores.shape)} and {tuple(labels.shape)}"
        )
    if labels.is_floating_point() or labels.min() < 0 or labels.max() >= scores.shape[1]:
        raise ValueError(
            f"accuracy: labels must be integers from 0 to C - 1 = {scores.shape[1] - 1}, got {labels.dtype} from "
            f"{labels.min().item()} to {labels.max().item()}"
        )
    broken = scores.isnan().any(1)
    if broken.any():
        raise ValueError(f"accuracy: scores must be numbers, got NaN in row {int(broken.int().argmax())}")


def _wilson(share: float, n: int) -> Estimate:
    """Return a share of n images with the score interval of Wilson (1927)."""
    hits = round(share * n)  # torchmetrics computes in float32
    p, z2 = hits / n, NormalDist().inv_cdf((1 + _LEVEL) / 2) ** 2
    middle, half = (p + z2 / (2 * n)) / (1 + z2 / n), sqrt(z2 * (p * (1 - p) + z2 / (4 * n)) / n) / (1 + z2 / n)
    return Estimate(p, max(0.0, middle - half) if hits else 0.0, min(1.0, middle + half) if hits < n else 1.0)


def _resample_balanced(confusion: Tensor, seed: int) -> tuple[float, float]:
    """Return the interval of the balanced accuracy over resamples of the images."""
    # The accuracy depends only on how many images of each class are right and wrong, and a resample draws these numbers
    # from a multinomial distribution.
    total, right = confusion.sum(1).numpy(), confusion.diagonal().numpy()
    occurs = total > 0
    counts = np.stack([right, total - right])[:, occurs]
    n, classes = counts.sum(), counts.shape[1]
    rng, values = np.random.default_rng(seed), []
    for _ in range(10):  # a tenth at a time, for thousands of classes
        drawn = rng.multinomial(n, counts.ravel() / n, size=_RESAMPLES // 10).reshape(-1, 2, classes)
        drawn_total = drawn.sum(1)
        recalls = drawn[:, 0] / np.maximum(drawn_total, 1)
        values.append(recalls.sum(1) / (drawn_total > 0).sum(1))  # classes that a resample misses do not count
    low, high = np.quantile(np.concatenate(values), [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return float(low), float(high)
