"""A k-nearest-neighbour classifier on features."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightly_aug.checks import check_positive
from lightly_aug.optional import extra

__all__ = ["knn", "knn_accuracy"]


def knn(
    train_features: Tensor, train_labels: Tensor, test_features: Tensor, *, k: int = 20, temperature: float = 0.07
) -> Tensor:
    """Classify images by a vote of their k nearest training images, as in DINO (Caron et al. 2021, arXiv 2104.14294).

    Neighbours are nearest by cosine similarity s, and a vote has the weight `exp(s / τ)`. Among classes with equal
    votes the smallest label wins.

    Args:
        train_features: `(N, d)`, rows of any length.
        train_labels: `(N,)`, any integers.
        test_features: `(M, d)`.
        k: Number of neighbours that vote, from 1 to N.
        temperature: Temperature τ, above 0.

    Returns:
        The predicted labels, `(M,)`, on the CPU.

    Raises:
        ValueError: `k` is not from 1 to N, `temperature` is not above 0, or shapes do not fit.
        ModuleNotFoundError: The package scikit-learn is not installed.

    Example:
        >>> knn(torch.eye(2), torch.tensor([5, 7]), torch.tensor([[0.1, 0.9]]), k=1)
        tensor([7])
    """
    if not 1 <= k <= len(train_features):
        raise ValueError(f"knn: k must be from 1 to the {len(train_features)} training rows, got {k}")
    check_positive("knn", temperature=temperature)
    if train_labels.shape != train_features.shape[:1] or train_features.shape[1:] != test_features.shape[1:]:
        raise ValueError(
            "knn: train_features, train_labels and test_features must be (N, d), (N,) and (M, d), "
            f"got {tuple(train_features.shape)}, {tuple(train_labels.shape)} and {tuple(test_features.shape)}"
        )
    with extra("train"):
        from sklearn.neighbors import KNeighborsClassifier  # type: ignore[import-untyped]

    def weigh(distance: NDArray[np.floating]) -> NDArray[np.floating]:
        # The distance is 1 - s. A common factor changes no vote: that of the nearest keeps exp from overflowing.
        weights: NDArray[np.floating] = np.exp((distance.min(1, keepdims=True) - distance) / temperature)
        return weights

    classifier = KNeighborsClassifier(k, metric="cosine", algorithm="brute", weights=weigh)
    classifier.fit(_to_numpy(train_features), train_labels.cpu().numpy())
    return torch.from_numpy(classifier.predict(_to_numpy(test_features)))


def knn_accuracy(
    train_features: Tensor,
    train_labels: Tensor,
    test_features: Tensor,
    test_labels: Tensor,
    *,
    k: int = 20,
    temperature: float = 0.07,
) -> float:
    """Compute the share of test images, 0 to 1, for which `knn` predicts the label in `test_labels` `(M,)`."""
    predicted = knn(train_features, train_labels, test_features, k=k, temperature=temperature)
    return (predicted == test_labels.cpu()).float().mean().item()


def _to_numpy(x: Tensor) -> NDArray[np.floating]:
    return x.detach().double().cpu().numpy()
