"""A linear classifier on features."""

from torch import Tensor

from lightly_aug.checks import check_positive
from lightly_aug.optional import extra

__all__ = ["linear_accuracy"]


def linear_accuracy(
    train_features: Tensor, train_labels: Tensor, test_features: Tensor, test_labels: Tensor, *, c: float = 1.0
) -> float:
    """Compute the share of test images, 0 to 1, that a linear classifier on the features labels correctly.

    The classifier is scikit-learn's multinomial logistic regression with an L2 penalty, solved to convergence. Every
    feature is first standardised to mean 0 and variance 1 over the training images, so its scale does not matter.
    Unlike the linear evaluation of papers, this does not train by SGD on augmented images, and it does not choose `c`.

    Args:
        train_features: `(N, d)`.
        train_labels: `(N,)`, any integers, at least two different ones.
        test_features: `(M, d)`.
        test_labels: `(M,)`.
        c: Inverse strength of the penalty, above 0, scikit-learn's C: it weights the sum of the training losses.

    Raises:
        ValueError: `c` is not above 0, there is only one label, or shapes do not fit.
        ModuleNotFoundError: The package scikit-learn is not installed.

    Example:
        >>> import torch
        >>> x, y = torch.tensor([[0.0], [1.0], [2.0], [3.0]]), torch.tensor([5, 5, 7, 7])
        >>> linear_accuracy(x, y, torch.tensor([[0.9], [2.1]]), torch.tensor([5, 7]))
        1.0
    """
    check_positive("linear_accuracy", c=c)
    tensors = train_features, train_labels, test_features, test_labels
    fit = train_features.ndim == test_features.ndim == 2 and train_features.shape[1] == test_features.shape[1]
    if not fit or train_labels.shape != train_features.shape[:1] or test_labels.shape != test_features.shape[:1]:
        came = ", ".join(str(tuple(x.shape)) for x in tensors)
        raise ValueError(f"linear_accuracy: features and labels must be (N, d), (N,), (M, d) and (M,), got {came}")
    if len({*train_labels.tolist()}) < 2:
        raise ValueError(
            f"linear_accuracy: train_labels must have two classes or more, got one in {len(train_labels)} rows"
        )
    with extra("train"):
        from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]
        from sklearn.pipeline import make_pipeline  # type: ignore[import-untyped]
        from sklearn.preprocessing import StandardScaler  # type: ignore[import-untyped]

    x, y, x_test, y_test = (tensor.detach().cpu().double().numpy() for tensor in tensors)
    # Standardised and penalised, it converges in hundreds of iterations; the high bound avoids warnings.
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=100_000))
    return float(classifier.fit(x, y).score(x_test, y_test))
