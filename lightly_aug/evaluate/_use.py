"""What classes lose if a property of images becomes random."""

from typing import Final, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightly_aug.checks import check_integer, check_positive
from lightly_aug.evaluate._estimate import Estimate, Floats, estimate, resample_counts

__all__ = ["Use", "class_use"]

_MARGIN: Final = 0.02
"""Fall of the accuracy that counts as none: 2 points."""


class Use(NamedTuple):
    """How much class information a group of operations destroys, the result of `class_use`.

    Attributes:
        name: Name of the group.
        plain: Accuracy, 0 to 1, if all images are unchanged.
        changed: Accuracy if all images are changed at random, those to classify as well as their neighbours.
        fall: `plain` - `changed`, image by image: its interval is narrower than theirs.
        images: Number of images.
        k: Number of neighbours.
    """

    name: str
    plain: Estimate
    changed: Estimate
    fall: Estimate
    images: int
    k: int

    @property
    def verdict(self) -> Literal["carries", "helps", "carries none", "undecided"]:
        """What the interval of the fall supports.

        "carries": all of it is above 2 points. "helps": all of it is below -2 points. "carries none": all of it is
        within 2 points. "undecided": anything else.
        """
        if self.fall.low > _MARGIN:
            return "carries"
        if self.fall.high < -_MARGIN:
            return "helps"
        return "carries none" if self.fall.low >= -_MARGIN and self.fall.high <= _MARGIN else "undecided"

    def __str__(self) -> str:
        """Return the verdict as a sentence with its numbers, in points of accuracy."""
        value, low, high = (round(100 * number) for number in self.fall)
        fall, rise = f"{value} points ({low} to {high})", f"{-value} points ({-high} to {-low})"
        change = f"accuracy changes by {-value:+} points ({-high:+} to {-low:+})"
        name, when = self.name, f"when {self.name} is random"
        return {
            "carries": f"{name} carries class information here: accuracy falls by {fall} {when}. Do not train it away.",
            "helps": f"{name} distracts these features: accuracy rises by {rise} {when}. It can be trained away.",
            "carries none": f"{name} carries no class information that these features use: {change} {when}. It can be "
            "trained away.",
            "undecided": f"{name} is undecided with {self.images} images: {change} {when}.",
        }[self.verdict]


def class_use(
    name: str,
    features: Tensor,
    changed: Tensor,
    labels: Tensor,
    *,
    k: int = 10,
    temperature: float = 0.07,
    resamples: int = 1000,
    seed: int = 0,
) -> Use:
    """Measure how much accuracy is lost if all images are changed at random.

    Each image is classified by its k nearest neighbours among all other images, with the votes of `knn`: once all
    images are unchanged, and once all are changed, the image by one draw and its neighbours by the next. The random
    property can then tell nothing of the class, so a network that uses it loses. What is measured is the use that these
    features make of it: a network that was trained to ignore colours loses nothing if they are random. Changes that
    such a network was not trained for, such as small crops, can also make its features worse for other reasons.

    Args:
        name: Name of the group of operations, for the sentence.
        features: Features of the unchanged images, `(n, d)`.
        changed: Features of changed copies, `(m, n, d)`, m draws of at least 2.
        labels: `(n,)` integers, at least two different ones.
        k: Number of neighbours, 1 to n - 1.
        temperature: Temperature of the votes, above 0.
        resamples: Number of resamples of the images for the intervals.
        seed: Seed of the resamples, 0 or more.

    Raises:
        ValueError: An argument is out of range, or shapes do not fit.

    Example:
        >>> x = torch.eye(2).repeat_interleave(4, 0)
        >>> noise = torch.randn(4, 8, 2, generator=torch.Generator().manual_seed(0))
        >>> use = class_use("Color", x, noise, torch.tensor([0] * 4 + [1] * 4), k=3)
        >>> use.plain.value, use.verdict
        (1.0, 'carries')
    """
    check_integer("class_use", least=1, k=k, resamples=resamples)
    check_positive("class_use", temperature=temperature)
    n = len(features)
    if features.ndim != 2 or changed.ndim != 3 or changed.shape[1:] != features.shape or labels.shape != (n,):
        raise ValueError(
            "class_use: features, changed and labels must be (n, d), (m, n, d) and (n,), "
            f"got {tuple(features.shape)}, {tuple(changed.shape)} and {tuple(labels.shape)}"
        )
    if len(changed) < 2 or k >= n or len(labels.unique()) < 2:
        raise ValueError(
            "class_use: there must be at least 2 draws, more than k images and 2 classes, got "
            f"{len(changed)} draws, {n} images for k={k} and {len(labels.unique())} classes"
        )
    counts = resample_counts(n, resamples, seed)
    plain = _right(features, features, labels, k, temperature)
    pairs = zip(changed, changed.roll(-1, 0), strict=True)
    random = np.mean([_right(own, others, labels, k, temperature) for own, others in pairs], axis=0)

    def mean(values: Floats, least: float = 0.0) -> Estimate:
        return estimate(values.mean(), counts @ values / n, images=n, bounds=(least, 1.0))

    return Use(name, mean(plain), mean(random), mean(plain - random, least=-1.0), n, k)


def _right(own: Tensor, others: Tensor, labels: Tensor, k: int, temperature: float) -> NDArray[np.float64]:
    """Return 1 for each image that the k nearest of the other images classify correctly, else 0."""
    x, y = (torch.nn.functional.normalize(f.detach().cpu().double(), dim=1) for f in (own, others))
    similarity = (x @ y.T).fill_diagonal_(-torch.inf)
    nearest, which = similarity.topk(k)
    weights = ((nearest - nearest[:, :1]) / temperature).exp()
    classes, label = labels.cpu().unique(return_inverse=True)
    votes = torch.zeros(len(x), len(classes), dtype=torch.float64).scatter_add_(1, label[which], weights)
    right: NDArray[np.float64] = (votes.argmax(1) == label).double().numpy()
    return right
