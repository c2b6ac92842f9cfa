"""InfoNCE: classify the key of each query among other keys."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightly_aug.checks import check_positive
from lightly_aug.distributed import gather, rank
from lightly_aug.loss._rows import check_pair, dot, unit

__all__ = ["InfoNCELoss", "info_nce"]


def info_nce(
    query: Tensor,
    key: Tensor,
    negatives: Tensor | None = None,
    valid: Tensor | None = None,
    temperature: float = 0.1,
    *,
    own: Tensor | None = None,
) -> Tensor:
    """Compute InfoNCE of every query against its key and the negatives (van den Oord et al. 2018, arXiv 1807.03748).

    `mean_i -log( exp(q_i k_i / τ) / (exp(q_i k_i / τ) + Σ_j exp(q_i n_j / τ)) )` with all rows normalised. This is one
    direction; a symmetric loss is the mean of two calls. The official code of MoCo v3 (Chen et al. 2021, arXiv
    2104.02057) multiplies this value by 2τ and adds both directions.

    Args:
        query: `(n, d)`, any floating dtype; the loss is computed in float32, or float64 for float64.
        key: `(n, d)`, row i is the positive of query i. Gradients flow into it; detach it where the method requires.
        negatives: `(m, d)`, shared by all queries. None takes the keys of the other rows on all ranks: an N-way
            classification, with gradients across ranks.
        valid: `(m,)` bool, True for the negatives that count. None: all of them.
        temperature: Temperature τ, above 0.
        own: `(n, m', d)`, row i holds additional negatives of query i alone. Gradients flow into it.

    Returns:
        The mean over the n queries of this rank, a scalar.

    Raises:
        ValueError: Shapes do not fit, or `temperature` is not above 0.
    """
    check_positive("info_nce", temperature=temperature)
    check_pair("info_nce", query=query, key=key)
    q, k = unit(query), unit(key)  # (n, d)
    n = len(q)
    if negatives is None:
        if valid is not None:
            raise ValueError("info_nce: negatives must be given with valid, got None: give both or neither")
        logits = dot(q, gather(k, grad=True))  # (n, N)
        target = rank() * n + torch.arange(n, device=q.device)
    else:
        if negatives.ndim != 2 or negatives.shape[1] != q.shape[1]:
            raise ValueError(
                "info_nce: negatives must be (m, d) with the d of query, "
                f"got {tuple(negatives.shape)} and query {tuple(q.shape)}"
            )
        others = dot(q, unit(negatives))  # (n, m)
        if valid is not None:
            if valid.shape != negatives.shape[:1] or valid.dtype != torch.bool:
                raise ValueError(
                    f"info_nce: valid must be ({len(negatives)},) torch.bool for {len(negatives)} negatives, "
                    f"got {tuple(valid.shape)} {valid.dtype}"
                )
            others = others.masked_fill(~valid, -torch.inf)
        logits = torch.cat([(q * k).sum(1, keepdim=True), others], dim=1)  # (n, 1 + m)
        target = torch.zeros(n, dtype=torch.int64, device=q.device)
    if own is not None:
        if own.ndim != 3 or own.shape[::2] != q.shape:
            raise ValueError(
                "info_nce: own must be (n, m', d) with the n and d of query, "
                f"got {tuple(own.shape)} and query {tuple(q.shape)}"
            )
        alone = unit(own.flatten(0, 1)).view_as(own)  # (n, m', d)
        logits = torch.cat([logits, (q[:, None] * alone).sum(2)], dim=1)
    return F.cross_entropy(logits / temperature, target)


class InfoNCELoss(nn.Module):
    """`info_nce` with its temperature.

    Args:
        temperature: Temperature τ, above 0.

    Raises:
        ValueError: `temperature` is not above 0.
    """

    def __init__(self, temperature: float = 0.1) -> None:
        super().__init__()
        check_positive(self, temperature=temperature)
        self.temperature = temperature

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        negatives: Tensor | None = None,
        valid: Tensor | None = None,
        *,
        own: Tensor | None = None,
    ) -> Tensor:
        """Compute `info_nce`."""
        return info_nce(query, key, negatives, valid, self.temperature, own=own)

    def extra_repr(self) -> str:
        """Return the arguments as the constructor takes them."""
        return f"temperature={self.temperature}"
