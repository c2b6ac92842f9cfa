"""InfoNCE: find your key among others."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightly_aug.distributed import gather, rank

__all__ = ["InfoNCELoss", "check_pair", "check_temperature", "dot", "info_nce", "unit", "wide"]


def info_nce(
    query: Tensor,
    key: Tensor,
    negatives: Tensor | None = None,
    valid: Tensor | None = None,
    temperature: float = 0.1,
    *,
    own: Tensor | None = None,
) -> Tensor:
    """InfoNCE of every query against its key and the negatives (van den Oord et al. 2018, arXiv 1807.03748).

    `mean_i -log( exp(q_i k_i / τ) / (exp(q_i k_i / τ) + Σ_j exp(q_i n_j / τ)) )` with all rows of unit length.
    One direction only: for a symmetric loss take the mean of both calls. The official code of MoCo v3 (Chen et al.
    2021, arXiv 2104.02057) takes 2τ times this value and adds both directions.

    Args:
        query: `(n, d)`, any floating dtype; the loss is computed in float32, or float64 for float64.
        key: `(n, d)`, row i is the positive of query i. Gradients flow into it: detach it where the method says so.
        negatives: `(m, d)`, shared by all queries. None takes the keys of the other rows, on all ranks: an N-way
            classification, with gradients across ranks.
        valid: `(m,)` bool, which negatives count. None: all of them.
        temperature: τ, above 0.
        own: `(n, m', d)`, row i holds negatives of query i alone, besides all others. Gradients flow into it.

    Returns:
        The mean over the n queries of this rank, a scalar.

    Raises:
        ValueError: Shapes do not fit, or `temperature` is not above 0.
    """
    check_temperature(temperature)
    check_pair(query=query, key=key)
    q, k = unit(query), unit(key)  # (n, d)
    n = len(q)
    if negatives is None:
        if valid is not None:
            raise ValueError("valid says which negatives count, but negatives is None: give both or neither")
        logits = dot(q, gather(k, grad=True))  # (n, N)
        target = rank() * n + torch.arange(n, device=q.device)
    else:
        if negatives.ndim != 2 or negatives.shape[1] != q.shape[1]:
            raise ValueError(f"negatives are {tuple(negatives.shape)}, query is {tuple(q.shape)}: (m, d) of the same d")
        others = dot(q, unit(negatives))  # (n, m)
        if valid is not None:
            if valid.shape != negatives.shape[:1] or valid.dtype != torch.bool:
                raise ValueError(
                    f"valid is {tuple(valid.shape)} {valid.dtype}, "
                    f"{len(negatives)} negatives need ({len(negatives)},) torch.bool"
                )
            others = others.masked_fill(~valid, -torch.inf)
        logits = torch.cat([(q * k).sum(1, keepdim=True), others], dim=1)  # (n, 1 + m)
        target = torch.zeros(n, dtype=torch.int64, device=q.device)
    if own is not None:
        if own.ndim != 3 or own.shape[::2] != q.shape:
            raise ValueError(f"own is {tuple(own.shape)}, query is {tuple(q.shape)}: (n, m', d) of the same n and d")
        alone = unit(own.flatten(0, 1)).view_as(own)  # (n, m', d)
        logits = torch.cat([logits, (q[:, None] * alone).sum(2)], dim=1)
    return F.cross_entropy(logits / temperature, target)


class InfoNCELoss(nn.Module):
    """`info_nce` with its temperature.

    Args:
        temperature: τ, above 0.

    Raises:
        ValueError: `temperature` is not above 0.
    """

    def __init__(self, temperature: float = 0.1) -> None:
        super().__init__()
        check_temperature(temperature)
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
        """See `info_nce`."""
        return info_nce(query, key, negatives, valid, self.temperature, own=own)

    def extra_repr(self) -> str:
        """The arguments, as in the constructor."""
        return f"temperature={self.temperature}"


def wide(x: Tensor) -> Tensor:
    """The dtype that losses are computed in: float64 stays, all else becomes float32."""
    return x if x.dtype == torch.float64 else x.float()


def unit(x: Tensor) -> Tensor:
    """Rows scaled to length 1, in float32 or wider. A zero row stays zero and its gradient stays finite."""
    x = wide(x)
    length: Tensor = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    return x / length.masked_fill(length == 0, 1)


def dot(x: Tensor, y: Tensor) -> Tensor:
    """All products of rows, `(n, d), (m, d) -> (n, m)`; autocast would round them to 8 bits before τ divides."""
    dtype = torch.promote_types(x.dtype, y.dtype)
    with torch.autocast(x.device.type, enabled=False):
        return x.to(dtype) @ y.to(dtype).T


def check_temperature(temperature: float, name: str = "temperature") -> None:
    """Refuse what cannot divide logits."""
    if not temperature > 0:
        raise ValueError(f"{name} is {temperature}, it must be above 0")


def check_pair(**views: Tensor) -> None:
    """Refuse two views whose rows cannot be paired, by name."""
    shapes = [tuple(x.shape) for x in views.values()]
    if shapes[0] != shapes[1] or len(shapes[0]) != 2 or shapes[0][0] == 0:
        what_came = ", ".join(f"{name} is {shape}" for name, shape in zip(views, shapes, strict=True))
        raise ValueError(f"{what_came}: both views need the same batch, as (n, d) with n >= 1")
