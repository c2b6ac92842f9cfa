"""The loss of Barlow Twins."""

import torch
from torch import Tensor, nn

from lightly_aug.distributed import gather
from lightly_aug.loss._info_nce import check_pair, dot, wide

__all__ = ["BarlowTwinsLoss", "barlow_twins"]


def barlow_twins(z0: Tensor, z1: Tensor, redundancy: float = 0.0051) -> Tensor:
    """Barlow Twins (Zbontar et al. 2021, arXiv 2103.03230, equation 1): `Σ_i (1 - C_ii)² + λ Σ_{i≠j} C_ij²`.

    C, `(d, d)`, correlates the columns of the two views over the batch of all ranks: each column has its mean taken off
    and is divided by its deviation (biased, 1e-5 added to the variance, as BatchNorm does), rows are not scaled. In the
    official code no gradient crosses its all_reduce, so with W ranks its gradient is 1/W of this one. solo-learn
    multiplies the loss by 0.025 or 0.1.

    Args:
        z0: First views, `(n, d)`, any floating dtype; the loss is computed in float32, or float64 for float64.
        z1: Second views, `(n, d)`, row i of the same image as row i of `z0`.
        redundancy: λ, at least 0.

    Returns:
        The loss of the joined batch, a scalar, the same on every rank.

    Raises:
        ValueError: Shapes differ or are not `(n, d)`, the ranks have one row together, or `redundancy` is below 0.
    """
    _check(redundancy)
    check_pair(z0=z0, z1=z1)
    x, y = gather(wide(z0), grad=True), gather(wide(z1), grad=True)  # (N, d)
    if len(x) < 2:
        raise ValueError(f"z0 and z1 are {tuple(z0.shape)}, one image in all: correlations need at least 2")
    c = dot(_standard(x).T, _standard(y).T) / len(x)  # (d, d)
    return (1 - c.diagonal()).square().sum() + redundancy * c.square().fill_diagonal_(0).sum()


class BarlowTwinsLoss(nn.Module):
    """`barlow_twins` with its weight.

    Args:
        redundancy: λ, at least 0.

    Raises:
        ValueError: `redundancy` is below 0.
    """

    def __init__(self, redundancy: float = 0.0051) -> None:
        super().__init__()
        _check(redundancy)
        self.redundancy = redundancy

    def forward(self, z0: Tensor, z1: Tensor) -> Tensor:
        """See `barlow_twins`."""
        return barlow_twins(z0, z1, self.redundancy)

    def extra_repr(self) -> str:
        """The arguments, as in the constructor."""
        return f"redundancy={self.redundancy}"


def _standard(x: Tensor) -> Tensor:
    variance, mean = torch.var_mean(x, 0, correction=0)
    return (x - mean) / (variance + 1e-5).sqrt()


def _check(redundancy: float) -> None:
    if not redundancy >= 0:
        raise ValueError(f"redundancy is {redundancy}, it must be at least 0")
