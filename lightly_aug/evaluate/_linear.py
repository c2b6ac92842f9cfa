"""A linear classifier on features."""

from typing import Any, Final, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lightly_aug.checks import check_positive
from lightly_aug.optional import extra

__all__ = ["LinearScores", "linear_accuracy", "linear_scores"]

_GRID: Final = tuple(10.0**power for power in range(-4, 3))
"""The values of `c` that cross-validation compares."""

_FOLDS: Final = 5
_SMALL: Final = 5_000_000
"""Numbers in the features, below which one thread is as fast as several."""


class LinearScores(NamedTuple):
    """The result of `linear_scores`.

    Attributes:
        scores: Log-probabilities of the classes, `(M, C)` float64 on the CPU.
        classes: Labels of the columns, `(C,)`, in increasing order.
        c: Inverse strength of the penalty, given or chosen.
    """

    scores: Tensor
    classes: Tensor
    c: float


def linear_scores(
    train_features: Tensor, train_labels: Tensor, test_features: Tensor, *, c: float | Literal["cv"] = 1.0
) -> LinearScores:
    """Fit a linear classifier to features, and score images for every class.

    The classifier is scikit-learn's multinomial logistic regression with an L2 penalty, solved to convergence. Every
    feature is first standardised to mean 0 and variance 1 over the training images, so its scale does not matter.
    Unlike the linear evaluation of papers, this does not train by SGD on augmented images:
    `lightly_aug.classify.linear_probe` does.

    Args:
        train_features: `(N, d)`.
        train_labels: `(N,)`, any integers, at least two different ones.
        test_features: `(M, d)`.
        c: Inverse strength of the penalty, above 0, scikit-learn's C: it weights the sum of the training losses. `"cv"`
            takes the value of 1e-4, 1e-3 ... 100 with the highest accuracy in a cross-validation on the training
            images, of equal ones the smallest. There are five folds, or fewer if a class has fewer images, with the
            same shares of the classes; standardisation is a part of each fit. It takes about 35 times as long.

    Raises:
        ValueError: `c` is neither above 0 nor `"cv"`, there is only one label, shapes do not fit, or features are not
            finite; or with `"cv"`, a class has only one image.
        ModuleNotFoundError: The package scikit-learn is not installed.

    Example:
        >>> import torch
        >>> x, y = torch.tensor([[0.0], [1.0], [2.0], [3.0]]), torch.tensor([5, 5, 7, 7])
        >>> scores, classes, c = linear_scores(x, y, torch.tensor([[0.9], [2.1]]))
        >>> classes[scores.argmax(1)]
        tensor([5, 7])
    """
    _check_shapes("linear_scores", train_features, train_labels, test_features)
    return _fit("linear_scores", train_features, train_labels, test_features, c)


def linear_accuracy(
    train_features: Tensor,
    train_labels: Tensor,
    test_features: Tensor,
    test_labels: Tensor,
    *,
    c: float | Literal["cv"] = 1.0,
) -> float:
    """Compute the share of test images, 0 to 1, that the classifier of `linear_scores` labels correctly.

    Args:
        train_features: `(N, d)`.
        train_labels: `(N,)`, any integers, at least two different ones.
        test_features: `(M, d)`.
        test_labels: `(M,)`.
        c: As in `linear_scores`.

    Raises:
        ValueError: As in `linear_scores`.
        ModuleNotFoundError: The package scikit-learn is not installed.

    Example:
        >>> import torch
        >>> x, y = torch.tensor([[0.0], [1.0], [2.0], [3.0]]), torch.tensor([5, 5, 7, 7])
        >>> linear_accuracy(x, y, torch.tensor([[0.9], [2.1]]), torch.tensor([5, 7]))
        1.0
    """
    _check_shapes("linear_accuracy", train_features, train_labels, test_features, test_labels)
    scores, classes, _ = _fit("linear_accuracy", train_features, train_labels, test_features, c)
    return float((classes[scores.argmax(1)] == test_labels.cpu()).double().mean())


def _check_shapes(owner: str, train: Tensor, labels: Tensor, test: Tensor, test_labels: Tensor | None = None) -> None:
    fit = train.ndim == test.ndim == 2 and train.shape[1] == test.shape[1] and labels.shape == train.shape[:1]
    if fit and (test_labels is None or test_labels.shape == test.shape[:1]):
        return
    wanted = "(N, d), (N,) and (M, d)" if test_labels is None else "(N, d), (N,), (M, d) and (M,)"
    tensors = (train, labels, test) if test_labels is None else (train, labels, test, test_labels)
    came = ", ".join(str(tuple(x.shape)) for x in tensors)
    raise ValueError(f"{owner}: features and labels must be {wanted}, got {came}")


def _fit(owner: str, train: Tensor, labels: Tensor, test: Tensor, c: float | Literal["cv"]) -> LinearScores:
    if isinstance(c, str) and c != "cv":
        raise ValueError(f'{owner}: c must be a number above 0 or "cv", got {c!r}')
    if not isinstance(c, str):
        check_positive(owner, c=c)
    classes, counts = np.unique(labels.detach().cpu().numpy(), return_counts=True)
    if len(classes) < 2:
        raise ValueError(f"{owner}: train_labels must have two classes or more, got one in {len(labels)} rows")
    with extra("train"):
        from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]
        from sklearn.pipeline import make_pipeline  # type: ignore[import-untyped]
        from sklearn.preprocessing import StandardScaler  # type: ignore[import-untyped]
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    x, y, x_test = (tensor.detach().cpu().double().numpy() for tensor in (train, labels, test))
    # Standardised and penalised, it converges in hundreds of iterations; the high bound avoids warnings.
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=100_000))
    # On a busy machine, BLAS threads that wait for each other made small fits a hundred times slower.
    with threadpool_limits(1 if x.size < _SMALL else None, "blas"):
        chosen = _choose_c(owner, classifier, x, y, fewest=int(counts.min())) if isinstance(c, str) else float(c)
        classifier.set_params(logisticregression__C=chosen).fit(x, y)
    logits = torch.from_numpy(classifier.decision_function(x_test))
    if len(classes) == 2:  # scikit-learn gives the logit of the second class
        logits = torch.stack([torch.zeros_like(logits), logits], 1)
    return LinearScores(logits.log_softmax(1), torch.from_numpy(classes), chosen)


def _choose_c(owner: str, classifier: Any, x: Any, y: Any, *, fewest: int) -> float:
    """Return the value of the grid with the highest accuracy in a cross-validation."""
    from sklearn.model_selection import GridSearchCV, StratifiedKFold  # type: ignore[import-untyped]

    if fewest < 2:
        raise ValueError(
            f'{owner}: c="cv" needs two training images of every class or more, got one of some: give c=a number'
        )
    folds = StratifiedKFold(min(_FOLDS, fewest), shuffle=True, random_state=0)
    search = GridSearchCV(classifier, {"logisticregression__C": _GRID}, cv=folds, refit=False).fit(x, y)
    return float(search.best_params_["logisticregression__C"])
