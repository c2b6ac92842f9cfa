"""Noise-contrastive estimation, the loss of PIRL."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightly_aug.distributed import gather
from lightly_aug.loss._info_nce import check_pair, check_temperature, dot, unit

__all__ = ["NCELoss", "log_normalizer", "nce"]


def nce(query: Tensor, key: Tensor, negatives: Tensor, images: int, log_z: Tensor, temperature: float = 0.07) -> Tensor:
    """Noise-contrastive estimation (Wu et al. 2018, arXiv 1805.01978), the loss of PIRL (arXiv 1912.01991).

    Is a key the query's own, or one of the m that were drawn from N images? With `p = exp(cos / τ) / Z`,
    `mean_i -[ log( p⁺ / (p⁺ + m/N) ) + Σ_j log( (m/N) / (p⁻_j + m/N) ) ]`, rows of unit length.

    Args:
        query: `(n, d)`, any floating dtype; the loss is computed in float32, or float64 for float64.
        key: `(n, d)`, row i is the positive of query i. Gradients flow into it and into the negatives.
        negatives: `(m, d)`, shared by all queries, m at least 1.
        images: N, how many images there are in the dataset, at least 1.
        log_z: log Z, a 0-d tensor, see `log_normalizer`.
        temperature: τ, above 0.

    Returns:
        The mean over the n queries of this rank, a scalar.

    Raises:
        ValueError: Shapes do not fit, `images` is below 1, or `temperature` is not above 0.
    """
    check_pair(query=query, key=key)
    _check(query, negatives, images, temperature)
    if log_z.ndim != 0:
        raise ValueError(f"log_z is {tuple(log_z.shape)}, a 0-d tensor is needed")
    q, k = unit(query), unit(key)
    noise = math.log(len(negatives) / images)
    positive = (q * k).sum(1) / temperature - log_z - noise  # (n,), log of p⁺ / (m/N)
    negative = dot(q, unit(negatives)) / temperature - log_z - noise  # (n, m)
    return -(F.logsigmoid(positive) + F.logsigmoid(-negative).sum(1)).mean()  # softplus would round beyond 20


@torch.no_grad()
def log_normalizer(query: Tensor, negatives: Tensor, images: int, temperature: float = 0.07) -> Tensor:
    """An estimate of log Z for `nce`: N times the mean of `exp(cos / τ)` over all queries and negatives of all ranks.

    Args:
        query: `(n, d)`.
        negatives: `(m, d)`, a sample of the N images, m at least 1.
        images: N, at least 1.
        temperature: τ, above 0.

    Returns:
        A 0-d tensor, float32, or float64 for float64, no gradient; the same on every rank.

    Raises:
        ValueError: Shapes do not fit, `images` is below 1, or `temperature` is not above 0.
    """
    _check(query, negatives, images, temperature)
    logits = dot(unit(query), unit(negatives)) / temperature
    means = gather(logits.flatten().logsumexp(0, keepdim=True)) - math.log(logits.numel() / images)  # (ranks,)
    return means.logsumexp(0) - math.log(len(means))


class NCELoss(nn.Module):
    """`nce` with the normaliser of the first batch.

    Args:
        images: N, how many images there are in the dataset, at least 1.
        temperature: τ, above 0.

    Attributes:
        log_z: 0-d float32, log Z as the first call in training mode estimates it, NaN before.

    Raises:
        ValueError: `images` is below 1, or `temperature` is not above 0.
    """

    log_z: Tensor

    def __init__(self, images: int, temperature: float = 0.07) -> None:
        super().__init__()
        check_temperature(temperature)
        _check_images(images)
        self.images = images
        self.temperature = temperature
        self.register_buffer("log_z", torch.tensor(torch.nan))

    def forward(self, query: Tensor, key: Tensor, negatives: Tensor) -> Tensor:
        """See `nce`. While there is no normaliser, one is estimated; only training mode keeps it."""
        # Asking whether it is there would wait for the device: it is estimated always and chosen there.
        estimate = log_normalizer(query, negatives, self.images, self.temperature)
        log_z = torch.where(self.log_z.isnan(), estimate, self.log_z.to(estimate.dtype))
        if self.training:
            self.log_z.copy_(log_z)
        return nce(query, key, negatives, self.images, log_z, self.temperature)

    def extra_repr(self) -> str:
        """The arguments, as in the constructor."""
        return f"images={self.images}, temperature={self.temperature}"


def _check(query: Tensor, negatives: Tensor, images: int, temperature: float) -> None:
    check_temperature(temperature)
    _check_images(images)
    if query.ndim != 2 or negatives.ndim != 2 or query.shape[1] != negatives.shape[1] or len(negatives) == 0:
        raise ValueError(
            f"negatives are {tuple(negatives.shape)}, query is {tuple(query.shape)}: (m, d) of the same d with m >= 1"
        )


def _check_images(images: int) -> None:
    if images < 1:
        raise ValueError(f"images is {images}, it must be at least 1")
