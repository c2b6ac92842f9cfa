"""The loss of PAWS."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightly_aug.checks import check_integer, check_positive, check_share
from lightly_aug.distributed import gather
from lightly_aug.loss._rows import dot, unit, wide

__all__ = ["PAWSLoss", "paws", "sharpen", "snn"]


def snn(z: Tensor, supports: Tensor, labels: Tensor, temperature: float = 0.1) -> Tensor:
    """Classify rows by their soft nearest neighbours: `softmax(z supportsᵀ / τ) labels`, rows normalised.

    The classifier of PAWS (Assran et al. 2021, arXiv 2104.13963).

    Args:
        z: `(n, d)`, any floating dtype; computed in float32, or float64 for float64.
        supports: `(m, d)`.
        labels: `(m, c)`, floating, a distribution over the c classes for each support.
        temperature: Temperature τ, above 0.

    Returns:
        `(n, c)`, distributions over the classes.

    Raises:
        ValueError: Shapes do not fit, or `temperature` is not above 0.
    """
    check_positive("snn", temperature=temperature)
    if z.ndim != 2 or supports.ndim != 2 or z.shape[1] != supports.shape[1]:
        raise ValueError(
            "snn: z and supports must be (n, d) and (m, d) with the same d, "
            f"got {tuple(z.shape)} and {tuple(supports.shape)}"
        )
    if labels.ndim != 2 or len(labels) != len(supports) or not labels.is_floating_point():
        raise ValueError(
            f"snn: labels must be ({len(supports)}, c) of a floating dtype for {len(supports)} supports, "
            f"got {tuple(labels.shape)} {labels.dtype}"
        )
    return dot((dot(unit(z), unit(supports)) / temperature).softmax(1), labels.T)


def sharpen(p: Tensor, temperature: float = 0.25) -> Tensor:
    """Sharpen distributions: `p^(1/T) / Σ p^(1/T)` (PAWS, Assran et al. 2021, arXiv 2104.13963).

    Args:
        p: `(n, c)`, distributions over c classes, any floating dtype.
        temperature: Temperature T, above 0; 1 changes nothing.

    Returns:
        `(n, c)` float32, or float64 for float64.

    Raises:
        ValueError: `temperature` is not above 0.
    """
    check_positive("sharpen", temperature=temperature)
    p = wide(p)
    p = p / p.detach().amax(1, keepdim=True)  # powers of small numbers would underflow
    power = p.clamp(min=torch.finfo(p.dtype).tiny).pow(1 / temperature) * (p > 0)  # at 0 the slope may be infinite
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
    """Compute the loss of PAWS (Assran et al. 2021, arXiv 2104.13963): views agree in their `snn` class predictions.

    The mean over all views and rows of the cross entropy of a target against the `snn` of an anchor, minus the entropy
    of the mean sharpened anchor prediction over all views and ranks. The targets are sharpened predictions without
    gradient: each of the two global views takes the target of the other, the small views take the mean of both. Target
    entries below 1e-4 become 0 and the rest is not rescaled, as in the official code.

    Args:
        anchors: For each view `(n, d)`, the two global views first, any floating dtype; the loss is computed in
            float32, or float64 for float64.
        targets: The two global views `(n, d')` through the target branch, in the same order; no gradient flows into
            them.
        anchor_supports: `(m, d)`, the labelled images in the anchors' space, joined over all ranks.
        target_supports: `(m, d')`, the same images in the targets' space, which may have another width.
        labels: `(m, c)`, floating, distributions over the classes. Without smoothing, an anchor's prediction is bounded
            below by the smallest normal number of its dtype.
        temperature: Temperature τ, above 0.
        sharpening: Temperature T of `sharpen`, above 0.

    Returns:
        A scalar, whose mean over ranks is the loss of the joined batch.

    Raises:
        ValueError: Shapes or numbers of views do not fit, or a temperature is not above 0.
    """
    check_positive("paws", temperature=temperature, sharpening=sharpening)
    if len(anchors) < 2 or len(targets) != 2:
        raise ValueError(f"paws: anchors must be 2 or more and targets 2, got {len(anchors)} and {len(targets)}")
    for name, views in (("anchors", anchors), ("targets", targets)):
        shapes = [tuple(x.shape) for x in views]
        if len(set(shapes)) > 1 or len(shapes[0]) != 2 or len(views[0]) != len(anchors[0]) or 0 in shapes[0]:
            raise ValueError(f"paws: {name} must all have one shape (n, d), n at least 1 as in anchors, got {shapes}")
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
    """`paws` for supports whose labels are class numbers.

    Args:
        classes: Number c of classes, at least 1.
        temperature: Temperature τ, above 0.
        sharpening: Temperature T of `sharpen`, above 0.
        smoothing: Label smoothing s, from 0 to 1, over the k classes that have supports on any rank: a label is
            `1 - s + s / k` for its class, `s / k` for the others of them, and 0 for classes without supports.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(
        self, classes: int, temperature: float = 0.1, sharpening: float = 0.25, smoothing: float = 0.1
    ) -> None:
        super().__init__()
        check_integer(self, least=1, classes=classes)
        check_positive(self, temperature=temperature, sharpening=sharpening)
        check_share(self, smoothing=smoothing)
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
        """Compute `paws`; `labels` are `(m,)` int64, classes from 0."""
        if labels.ndim != 1 or labels.dtype != torch.int64:
            raise ValueError(f"PAWSLoss: labels must be (m,) torch.int64, got {tuple(labels.shape)} {labels.dtype}")
        one_hot = F.one_hot(labels, self.classes).to(wide(anchor_supports).dtype)
        present = one_hot.new_zeros(self.classes).index_fill(0, gather(labels), 1)
        smooth = (1 - self.smoothing) * one_hot + self.smoothing * present / present.sum()
        return paws(anchors, targets, anchor_supports, target_supports, smooth, self.temperature, self.sharpening)

    def extra_repr(self) -> str:
        """Return the arguments as the constructor takes them."""
        return (
            f"classes={self.classes}, temperature={self.temperature}, "
            f"sharpening={self.sharpening}, smoothing={self.smoothing}"
        )


def _log(p: Tensor) -> Tensor:
    return p.clamp(min=torch.finfo(p.dtype).tiny).log()  # makes 0 log 0 and its gradient 0
