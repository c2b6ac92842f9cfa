"""Noise-contrastive estimation, the loss of PIRL."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightly_aug.checks import check_integer, check_positive
from lightly_aug.distributed import gather
from lightly_aug.loss._rows import check_pair, dot, unit

__all__ = ["NCELoss", "log_normalizer", "nce"]


def nce(query: Tensor, key: Tensor, negatives: Tensor, images: int, log_z: Tensor, temperature: float = 0.07) -> Tensor:
    """Compute noise-contrastive estimation (Wu et al. 2018, arXiv 1805.01978), the loss of PIRL (arXiv 1912.01991).

    A binary classification of keys: the query's own, or one of the m drawn from N images. With `p = exp(cos / τ) / Z`
    the loss is `mean_i -[ log( p⁺ / (p⁺ + m/N) ) + Σ_j log( (m/N) / (p⁻_j + m/N) ) ]`, rows normalised.

    Args:
        query: `(n, d)`, any floating dtype; the loss is computed in float32, or float64 for float64.
        key: `(n, d)`, row i is the positive of query i. Gradients flow into it and into the negatives.
        negatives: `(m, d)`, shared by all queries, m at least 1.
        images: Number N of images in the dataset, at least 1.
        log_z: Logarithm of Z, a 0-d tensor, see `log_normalizer`.
        temperature: Temperature τ, above 0.

    Returns:
        The mean over the n queries of this rank, a scalar.

    Raises:
        ValueError: Shapes do not fit, `images` is below 1, or `temperature` is not above 0.
    """
    check_pair("nce", query=query, key=key)
    _check("nce", query, negatives, images, temperature)
    if log_z.ndim != 0:
        raise ValueError(f"nce: log_z must be a 0-d tensor, got {tuple(log_z.shape)}")
    q, k = unit(query), unit(key)
    noise = math.log(len(negatives) / images)
    positive = (q * k).sum(1) / temperature - log_z - noise  # (n,), log of p⁺ / (m/N)
    negative = dot(q, unit(negatives)) / temperature - log_z - noise  # (n, m)
    return -(F.logsigmoid(positive) + F.logsigmoid(-negative).sum(1)).mean()  # softplus would round beyond 20


@torch.no_grad()
def log_normalizer(query: Tensor, negatives: Tensor, images: int, temperature: float = 0.07) -> Tensor:
    """Estimate log Z for `nce`: Z is N times the mean of `exp(cos / τ)` over all queries and negatives of all ranks.

    Args:
        query: `(n, d)`.
        negatives: `(m, d)`, a sample of the N images, m at least 1.
        images: Number N of images in the dataset, at least 1.
        temperature: Temperature τ, above 0.

    Returns:
        A 0-d tensor, float32, or float64 for float64, without gradient; the same on every rank.

    Raises:
        ValueError: Shapes do not fit, `images` is below 1, or `temperature` is not above 0.
    """
    _check("log_normalizer", query, negatives, images, temperature)
    logits = dot(unit(query), unit(negatives)) / temperature
    means = gather(logits.flatten().logsumexp(0, keepdim=True)) - math.log(logits.numel() / images)  # (ranks,)
    return means.logsumexp(0) - math.log(len(means))


class NCELoss(nn.Module):
    """`nce` with the normaliser of the first batch.

    Args:
        images: Number N of images in the dataset, at least 1.
        temperature: Temperature τ, above 0.

    Attributes:
        log_z: 0-d float32, the estimate of log Z from the first call in training mode whose estimate is finite; NaN
            before.

    Raises:
        ValueError: `images` is below 1, or `temperature` is not above 0.
    """

    log_z: Tensor

    def __init__(self, images: int, temperature: float = 0.07) -> None:
        super().__init__()
        check_integer(self, least=1, images=images)
        check_positive(self, temperature=temperature)
        self.images = images
        self.temperature = temperature
        self.register_buffer("log_z", torch.tensor(torch.nan))

    def forward(self, query: Tensor, key: Tensor, negatives: Tensor) -> Tensor:
        """Compute `nce`; estimate the normaliser if there is none yet, and keep it in training mode."""
        # To ask whether there is one would wait for the device: always estimate it, and let the device choose.
        estimate = log_normalizer(query, negatives, self.images, self.temperature)
        log_z = torch.where(self.log_z.isfinite(), self.log_z.to(estimate.dtype), estimate)
        if self.training:
            self.log_z.copy_(log_z)
        return nce(query, key, negatives, self.images, log_z, self.temperature)

    def extra_repr(self) -> str:
        """Return the arguments as the constructor takes them."""
        return f"images={self.images}, temperature={self.temperature}"


def _check(owner: str, query: Tensor, negatives: Tensor, images: int, temperature: float) -> None:
    check_integer(owner, least=1, images=images)
    check_positive(owner, temperature=temperature)
    if query.ndim != 2 or negatives.ndim != 2 or query.shape[1] != negatives.shape[1] or len(negatives) == 0:
        raise ValueError(
            f"{owner}: negatives must be (m, d) with the d of query and m at least 1, "
            f"got {tuple(negatives.shape)} and query {tuple(query.shape)}"
        )
