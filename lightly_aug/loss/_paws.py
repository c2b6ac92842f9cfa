"""The loss of PAWS."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightly_aug.distributed import gather
from lightly_aug.loss._info_nce import check_temperature, dot, unit, wide

__all__ = ["PAWSLoss", "paws", "sharpen", "snn"]


def snn(z: Tensor, supports: Tensor, labels: Tensor, temperature: float = 0.1) -> Tensor:
    """Classify rows by their soft nearest neighbours: `softmax(z supportsᵀ / τ) labels`, rows of unit length.

    PAWS (Assran et al. 2021, arXiv 2104.13963).

    Args:
        z: `(n, d)`, any floating dtype; computed in float32, or float64 for float64.
        supports: `(m, d)`.
        labels: `(m, c)`, floating, a distribution over the c classes for each support.
        temperature: τ, above 0.

    Returns:
        `(n, c)`, distributions over the classes.

    Raises:
        ValueError: Shapes do not fit, or `temperature` is not above 0.
    """
    check_temperature(temperature)
    if z.ndim != 2 or supports.ndim != 2 or z.shape[1] != supports.shape[1]:
        raise ValueError(
            f"z is {tuple(z.shape)}, supports are {tuple(supports.shape)}: (n, d) and (m, d) of the same d"
        )
    if labels.ndim != 2 or len(labels) != len(supports) or not labels.is_floating_point():
        raise ValueError(
            f"labels are {tuple(labels.shape)} {labels.dtype}, "
            f"{len(supports)} supports need ({len(supports)}, c) of a floating dtype"
        )
    return dot((dot(unit(z), unit(supports)) / temperature).softmax(1), labels.T)


def sharpen(p: Tensor, temperature: float = 0.25) -> Tensor:
    """Distributions made harder, `p^(1/T) / Σ p^(1/T)` (PAWS, Assran et al. 2021, arXiv 2104.13963).

    Args:
        p: `(n, c)`, distributions over c classes, any floating dtype.
        temperature: T, above 0; 1 changes nothing.

    Returns:
        `(n, c)` float32, or float64 for float64.

    Raises:
        ValueError: `temperature` is not above 0.
    """
    check_temperature(temperature)
    p = wide(p)
    power = (p / p.detach().amax(1, keepdim=True)).pow(1 / temperature)  # a power of small numbers would vanish
    return power / power.sum(1, keepdim=True)


def paws(
    anchors: Sequence[Tensor],
    targets: Sequence[Tensor],
    anchor_supports: Tensor,
    target_supports: Tensor,
    labels: Tensor,
    temperature: float = 0.1,
    sharpening: float = 0.25,
) -> Tensor:
    """PAWS (Assran et al. 2021, arXiv 2104.13963): views of an image agree in how labelled images classify them.

    The mean over all views and rows of the cross entropy of a target against the `snn` of an anchor, minus the entropy
    of the mean sharpened anchor prediction, over all views and ranks. The targets are sharpened predictions without
    gradient: each of the two global views takes the other's, the small ones the mean of both. What is below 1e-4 in a
    target becomes 0, and the rest is not scaled up, as in the official code.

    Args:
        anchors: Of each view `(n, d)`, the two global ones first, any floating dtype; the loss is computed in float32,
            or float64 for float64.
        targets: The two global views `(n, d')` through the target branch, in the same order; no gradient flows into
            them.
        anchor_supports: `(m, d)`, the labelled images in the anchors' space; those of all ranks are taken together.
        target_supports: `(m, d')`, the same in the targets' space, which may have another width.
        labels: `(m, c)`, floating, distributions over the classes. Without smoothing, an anchor's prediction is bounded
            below by the smallest normal number of its dtype.
        temperature: τ, above 0.
        sharpening: T of `sharpen`, above 0.

    Returns:
        A scalar, whose mean over ranks is the loss of the joined batch.

    Raises:
        ValueError: Shapes or numbers of views do not fit, or a temperature is not above 0.
    """
    check_temperature(sharpening, "sharpening")
    if len(anchors) < 2 or len(targets) != 2:
        raise ValueError(f"{len(anchors)} anchors and {len(targets)} targets: PAWS needs 2 or more, and 2")
    for name, views in (("anchors", anchors), ("targets", targets)):
        shapes = [tuple(x.shape) for x in views]
        if len(set(shapes)) > 1 or len(shapes[0]) != 2 or len(views[0]) != len(anchors[0]) or 0 in shapes[0]:
            raise ValueError(f"{name} are {shapes}: all views need the same batch, as (n, d) with n >= 1")
    labels = gather(labels)
    p = snn(torch.cat(list(anchors)), gather(anchor_supports, grad=True), labels, temperature)  # (v n, c)
    with torch.no_grad():
        t = snn(torch.cat(list(targets)), gather(target_supports), labels, temperature)
        t0, t1 = sharpen(t, sharpening).chunk(2)
        t = torch.cat([t1, t0, *[(t0 + t1) / 2] * (len(anchors) - 2)])  # (v n, c)
        t = t.masked_fill(t < 1e-4, 0)
    mean = gather(sharpen(p, sharpening).mean(0, keepdim=True), grad=True).mean(0)  # (c,)
    return (mean * _log(mean)).sum() - (t * _log(p)).sum(1).mean()


class PAWSLoss(nn.Module):
    """`paws` for supports with classes.

    Args:
        classes: c, at least 1.
        temperature: τ, above 0.
        sharpening: T, above 0.
        smoothing: s, from 0 to 1: a label is `1 - s + s / c` for its class and `s / c` for all others.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(
        self, classes: int, temperature: float = 0.1, sharpening: float = 0.25, smoothing: float = 0.1
    ) -> None:
        super().__init__()
        check_temperature(temperature)
        check_temperature(sharpening, "sharpening")
        if classes < 1:
            raise ValueError(f"classes is {classes}, it must be at least 1")
        if not 0 <= smoothing <= 1:
            raise ValueError(f"smoothing is {smoothing}, it must lie in [0, 1]")
        self.classes = classes
        self.temperature = temperature
        self.sharpening = sharpening
        self.smoothing = smoothing

    def forward(
        self,
        anchors: Sequence[Tensor],
        targets: Sequence[Tensor],
        anchor_supports: Tensor,
        target_supports: Tensor,
        labels: Tensor,
    ) -> Tensor:
        """See `paws`; `labels` are `(m,)` int64, classes from 0."""
        if labels.ndim != 1 or labels.dtype != torch.int64:
            raise ValueError(f"labels are {tuple(labels.shape)} {labels.dtype}, PAWSLoss takes (m,) torch.int64")
        one_hot = F.one_hot(labels, self.classes).to(wide(anchor_supports).dtype)
        smooth = (1 - self.smoothing) * one_hot + self.smoothing / self.classes
        return paws(anchors, targets, anchor_supports, target_supports, smooth, self.temperature, self.sharpening)

    def extra_repr(self) -> str:
        """The arguments, as in the constructor."""
        return (
            f"classes={self.classes}, temperature={self.temperature}, "
            f"sharpening={self.sharpening}, smoothing={self.smoothing}"
        )


def _log(p: Tensor) -> Tensor:
    return p.clamp(min=torch.finfo(p.dtype).tiny).log()  # 0 log 0 is 0, and so is its gradient
