"""Accuracies with confidence intervals."""

from typing import NamedTuple

import torch
from torch import Tensor

from lightly_aug.evaluate._estimate import Estimate, estimate_share
from lightly_aug.optional import extra

__all__ = ["Accuracy", "accuracy"]


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
def accuracy(scores: Tensor, labels: Tensor) -> Accuracy:
    """Compute top-1, top-5 and balanced accuracy of scores, each with a 95 % confidence interval.

    The intervals say how far the accuracy may change with other test images. They are the score intervals of Wilson
    (1927). That of the balanced accuracy is for an effective number of images (Korn & Graubard 1998): the number of
    which a plain share would have the same variance, at most that of the classes' sizes, C² / sum(1 / n_c), which it is
    if all images of each class are right or all are wrong. With as many images in each class it is at most n. Of
    classes with equal scores the one with the smaller label comes first.

    Args:
        scores: `(n, C)`, the higher the likelier: logits, probabilities, or the votes of `knn_votes`.
        labels: `(n,)` integers from 0 to C - 1.

    Raises:
        ValueError: Shapes do not fit, there are no images, labels are not integers from 0 to C - 1, or a score is NaN.
        ModuleNotFoundError: The package torchmetrics is not installed.

    Example:
        >>> scores = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.7, 0.3]])
        >>> print(accuracy(scores, torch.tensor([0, 0, 1, 1])))
        top-1 75.0 % (30.1–95.4), balanced 75.0 % (30.1–95.4)
    """
    _check(scores, labels)
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
        top5 = _estimate_top(multiclass_accuracy(ranks, labels, classes, average="micro", top_k=5), n)
    top1 = _estimate_top(multiclass_accuracy(order[:, 0], labels, classes, average="micro"), n)
    return Accuracy(top1, top5, _estimate_balanced(confusion), confusion)


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


def _estimate_top(share: Tensor, n: int) -> Estimate:
    return estimate_share(round(share.item() * n) / n, n)  # torchmetrics computes in float32


def _estimate_balanced(confusion: Tensor) -> Estimate:
    """Return the mean of the classes' accuracies; torchmetrics' own counts predicted classes without images."""
    total = confusion.sum(1).double()
    occurs = total > 0
    total, right = total[occurs], confusion.diagonal()[occurs].double()
    shares, classes = right / total, len(total)
    share = min(1.0, shares.mean().item())
    variance = (shares * (1 - shares) / total).sum().item() / classes**2
    n = classes**2 / (1 / total).sum().item()
    return estimate_share(share, min(n, share * (1 - share) / variance) if variance > 0 else n)
