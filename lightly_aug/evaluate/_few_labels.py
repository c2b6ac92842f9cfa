"""Accuracy with few labels, and the choice of the images that have one."""

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightly_aug.checks import check_choice, check_integer
from lightly_aug.evaluate._knn import knn_accuracy
from lightly_aug.evaluate._linear import linear_accuracy
from lightly_aug.optional import extra

__all__ = ["FewLabelCurve", "few_label_curve", "labelled_subset"]

_COUNTS: Final = (1, 2, 5, 10, 20, 50, 100)


def labelled_subset(
    labels: Sequence[int] | NDArray[np.integer] | Tensor,
    *,
    share: float | None = None,
    per_class: int | None = None,
    seed: int = 0,
) -> Tensor:
    """Choose some images of every class at random, as experiments with 1 % or 10 % of the labels do.

    A choice depends on the seed and the labels only. With one seed, a smaller subset is part of a larger one.

    Args:
        labels: Labels of n images, any integers; every value is a class, so leave out images without a label first.
        share: Share of the images of each class, above 0 and at most 1, rounded to whole images, at least one.
        per_class: Number of images of each class, instead of a share.
        seed: Seed of the choice, 0 or more.

    Returns:
        Indices of the chosen images, `(m,)` int64, in increasing order.

    Raises:
        ValueError: Not exactly one of `share` and `per_class` is given, one is out of range, a class has fewer images
            than `per_class`, or `labels` is not `(n,)` with n at least 1.

    Example:
        >>> labels = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
        >>> labels[labelled_subset(labels, share=0.5)]
        tensor([0, 0, 1, 1])
    """
    known = np.asarray(labels.detach().cpu() if isinstance(labels, Tensor) else labels)
    if known.ndim != 1 or len(known) == 0 or not np.issubdtype(known.dtype, np.integer):
        raise ValueError(
            f"labelled_subset: labels must be (n,) integers, n at least 1, got {known.dtype} of shape {known.shape}"
        )
    if (share is None) == (per_class is None):
        raise ValueError(f"labelled_subset: give either share or per_class, got {share} and {per_class}")
    if share is not None and not 0 < share <= 1:
        raise ValueError(f"labelled_subset: share must be above 0 and at most 1, got {share}")
    if per_class is not None:
        check_integer("labelled_subset", least=1, per_class=per_class)
    check_integer("labelled_subset", least=0, seed=seed)
    chosen = []
    for number, label in enumerate(np.unique(known)):
        images = np.flatnonzero(known == label)
        count = per_class if per_class is not None else max(1, round((share or 0.0) * len(images)))
        if count > len(images):
            raise ValueError(
                f"labelled_subset: per_class must be at most the images of a class, got {per_class}: class {label} "
                f"has {len(images)}"
            )
        chosen.append(np.random.default_rng([seed, number]).permutation(images)[:count])
    return torch.from_numpy(np.sort(np.concatenate(chosen)))


class FewLabelCurve(NamedTuple):
    """Accuracies by the number of labels, the result of `few_label_curve`.

    Attributes:
        labels: Labels of a class, `(s,)` int64; the last is that of all labels, the mean over the classes, rounded.
        accuracy: Accuracy of each draw, 0 to 1, `(s, draws)`; all draws of all labels are equal.
        mean: Mean over the draws, `(s,)`.
        low: Lower end of the confidence interval of the mean, `(s,)`.
        high: Upper end, `(s,)`.
    """

    labels: NDArray[np.int64]
    accuracy: NDArray[np.float64]
    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def few_label_curve(
    train_features: Tensor,
    train_labels: Tensor,
    test_features: Tensor,
    test_labels: Tensor,
    *,
    counts: Sequence[int] | None = None,
    draws: int = 5,
    classifier: Literal["linear", "knn"] = "linear",
    k: int = 20,
    c: float = 1.0,
    confidence: float = 0.95,
    seed: int = 0,
) -> FewLabelCurve:
    """Measure the accuracy of fixed features for growing numbers of labels, with several draws of the labelled images.

    The interval is that of Student's t for the mean of the draws, cut to [0, 1]. It covers the choice of the labelled
    images only, not that of the test images. With all labels there is one choice, and the interval is empty.

    Args:
        train_features: `(N, d)`.
        train_labels: `(N,)`, any integers, at least two different ones.
        test_features: `(M, d)`.
        test_labels: `(M,)`.
        counts: Numbers of labels of each class, increasing; by default those of 1, 2, 5, 10, 20, 50 and 100 that the
            smallest class has. All labels follow in any case.
        draws: How often the labelled images are drawn, at least 2.
        classifier: `"linear"` is `linear_accuracy`, `"knn"` is `knn_accuracy`.
        k: Neighbours that vote, at most as many as a class has labels: more would be of other classes.
        c: Inverse strength of the penalty of the linear classifier.
        confidence: Confidence level of the interval, between 0 and 1.
        seed: Seed of the first draw; the others count on from it.

    Raises:
        ValueError: An argument is out of range, a class has fewer images than a number of `counts`, or shapes do not
            fit.
        ModuleNotFoundError: The package scikit-learn is not installed.

    Example:
        >>> x, y = torch.tensor([[0.0], [1.0], [8.0], [9.0]]), torch.tensor([0, 0, 1, 1])
        >>> curve = few_label_curve(x, y, x, y, counts=[1], draws=2)
        >>> curve.labels.tolist(), curve.mean.tolist()
        ([1, 2], [1.0, 1.0])
    """
    check_choice("few_label_curve", ("linear", "knn"), classifier=classifier)
    check_integer("few_label_curve", least=2, draws=draws)
    check_integer("few_label_curve", least=1, k=k)
    if not 0 < confidence < 1:
        raise ValueError(f"few_label_curve: confidence must be between 0 and 1, got {confidence}")
    if train_labels.shape != train_features.shape[:1] or len(train_labels) == 0:
        raise ValueError(
            "few_label_curve: train_features and train_labels must be (N, d) and (N,), got "
            f"{tuple(train_features.shape)} and {tuple(train_labels.shape)}"
        )
    sizes = np.unique(train_labels.cpu().numpy(), return_counts=True)[1]
    if counts is None:
        counts = [count for count in _COUNTS if count <= sizes.min() and count < sizes.mean()]
    if list(counts) != sorted(set(counts)):
        raise ValueError(f"few_label_curve: counts must increase, got {list(counts)}")

    def measure(rows: Tensor, most: int) -> float:
        data = train_features[rows], train_labels[rows], test_features, test_labels
        return knn_accuracy(*data, k=min(k, most)) if classifier == "knn" else linear_accuracy(*data, c=c)

    subsets = [
        [labelled_subset(train_labels, per_class=count, seed=seed + draw) for draw in range(draws)] for count in counts
    ]
    accuracy = [[measure(rows, count) for rows in drawn] for count, drawn in zip(counts, subsets, strict=True)]
    accuracy.append([measure(torch.arange(len(train_labels)), int(sizes.max()))] * draws)
    return _summarise(np.array([*counts, round(float(sizes.mean()))]), np.array(accuracy), confidence)


def _summarise(labels: NDArray[np.int64], accuracy: NDArray[np.float64], confidence: float) -> FewLabelCurve:
    """Add the mean of the draws and its confidence interval."""
    with extra("train"):
        from scipy.stats import t
    draws, mean = accuracy.shape[1], accuracy.mean(1)
    half = t.ppf((1 + confidence) / 2, draws - 1) * accuracy.std(1, ddof=1) / np.sqrt(draws)
    return FewLabelCurve(labels, accuracy, mean, np.clip(mean - half, 0, 1), np.clip(mean + half, 0, 1))
