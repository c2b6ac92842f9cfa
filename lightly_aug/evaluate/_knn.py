"""Labels by nearest neighbours."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightly_aug.optional import extra

__all__ = ["knn", "knn_accuracy"]


def knn(
    train_features: Tensor, train_labels: Tensor, test_features: Tensor, *, k: int = 20, temperature: float = 0.07
) -> Tensor:
    """Let the k nearest training images vote, as in DINO (Caron et al. 2021, arXiv 2104.14294).

    Near is by cosine similarity s, and a vote weighs `exp(s / τ)`. Of classes with equal votes the smallest wins.

    Args:
        train_features: `(N, d)`, any length of rows.
        train_labels: `(N,)`, any integers.
        test_features: `(M, d)`.
        k: How many neighbours vote, at most N.
        temperature: τ, above 0.

    Returns:
        The predicted labels, `(M,)`, on the CPU.

    Raises:
        ValueError: `k` is not between 1 and N, `temperature` is not above 0, or shapes do not fit.
        ModuleNotFoundError: scikit-learn is not installed.

    Example:
        >>> knn(torch.eye(2), torch.tensor([5, 7]), torch.tensor([[0.1, 0.9]]), k=1)
        tensor([7])
    """
    if not 1 <= k <= len(train_features):
        raise ValueError(f"k is {k}, it must lie between 1 and the {len(train_features)} training rows")
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}, it must be above 0")
    if train_labels.shape != train_features.shape[:1] or train_features.shape[1:] != test_features.shape[1:]:
        raise ValueError(
            f"train_features are {tuple(train_features.shape)}, train_labels {tuple(train_labels.shape)}, "
            f"test_features {tuple(test_features.shape)}: they must be (N, d), (N,), (M, d)"
        )
    with extra("train"):
        from sklearn.neighbors import KNeighborsClassifier  # type: ignore[import-untyped]

    def votes(distance: NDArray[np.floating]) -> NDArray[np.floating]:
        # The distance is 1 - s. A common factor changes no vote, and the nearest's keeps exp from overflowing.
        weights: NDArray[np.floating] = np.exp((distance.min(1, keepdims=True) - distance) / temperature)
        return weights

    classifier = KNeighborsClassifier(k, metric="cosine", algorithm="brute", weights=votes)
    classifier.fit(_array(train_features), train_labels.cpu().numpy())
    return torch.from_numpy(classifier.predict(_array(test_features)))


def knn_accuracy(
    train_features: Tensor,
    train_labels: Tensor,
    test_features: Tensor,
    test_labels: Tensor,
    *,
    k: int = 20,
    temperature: float = 0.07,
) -> float:
    """The share of test images, 0 to 1, that `knn` labels as `test_labels` `(M,)` do."""
    predicted = knn(train_features, train_labels, test_features, k=k, temperature=temperature)
    return (predicted == test_labels.cpu()).float().mean().item()


def _array(x: Tensor) -> NDArray[np.floating]:
    return x.detach().double().cpu().numpy()
