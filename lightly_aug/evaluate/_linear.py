"""Labels by a linear classifier."""

from torch import Tensor

from lightly_aug.optional import extra

__all__ = ["linear_accuracy"]


def linear_accuracy(
    train_features: Tensor, train_labels: Tensor, test_features: Tensor, test_labels: Tensor, *, c: float = 1.0
) -> float:
    """The share of test images, 0 to 1, that a linear classifier of the training features labels rightly.

    Multinomial logistic regression with an L2 penalty, by scikit-learn, solved until it converges. Every feature is
    first shifted and scaled to mean 0 and variance 1 over the training images, so its scale is of no importance. This
    is neither SGD on augmented images, by which papers measure, nor does it choose `c`.

    Args:
        train_features: `(N, d)`.
        train_labels: `(N,)`, any integers, two different ones at least.
        test_features: `(M, d)`.
        test_labels: `(M,)`.
        c: The inverse strength of the penalty, above 0, as scikit-learn's C: it weighs the sum of the training losses.

    Raises:
        ValueError: `c` is not above 0, there is but one label, or shapes do not fit.
        ModuleNotFoundError: scikit-learn is not installed.

    Example:
        >>> import torch
        >>> x, y = torch.tensor([[0.0], [1.0], [2.0], [3.0]]), torch.tensor([5, 5, 7, 7])
        >>> linear_accuracy(x, y, torch.tensor([[0.9], [2.1]]), torch.tensor([5, 7]))
        1.0
    """
    if not c > 0:
        raise ValueError(f"c is {c}, it must be above 0")
    tensors = train_features, train_labels, test_features, test_labels
    fit = train_features.ndim == test_features.ndim == 2 and train_features.shape[1] == test_features.shape[1]
    if not fit or train_labels.shape != train_features.shape[:1] or test_labels.shape != test_features.shape[:1]:
        came = ", ".join(str(tuple(x.shape)) for x in tensors)
        raise ValueError(f"features and labels are {came}: they must be (N, d), (N,), (M, d), (M,)")
    if len({*train_labels.tolist()}) < 2:
        raise ValueError(f"all {len(train_labels)} training rows have one label: there is nothing to tell apart")
    with extra("train"):
        from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]
        from sklearn.pipeline import make_pipeline  # type: ignore[import-untyped]
        from sklearn.preprocessing import StandardScaler  # type: ignore[import-untyped]

    x, y, x_test, y_test = (tensor.detach().cpu().double().numpy() for tensor in tensors)
    # Standardised and penalised it converges in hundreds of iterations; so high a bound lets no warning escape.
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=100_000))
    return float(classifier.fit(x, y).score(x_test, y_test))
