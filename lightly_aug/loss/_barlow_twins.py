"""The loss of Barlow Twins."""

import torch
from torch import Tensor, nn

from lightly_aug.checks import check_least
from lightly_aug.distributed import gather
from lightly_aug.loss._rows import check_pair, dot, wide

__all__ = ["BarlowTwinsLoss", "barlow_twins"]


def barlow_twins(z0: Tensor, z1: Tensor, redundancy: float = 0.0051) -> Tensor:
    """Compute the loss of Barlow Twins (Zbontar et al. 2021, arXiv 2103.03230, equation 1).

    The loss is `Σ_i (1 - C_ii)² + λ Σ_{i≠j} C_ij²`, where C, `(d, d)`, is the cross-correlation of the columns of the
    two views over the batch of all ranks. Columns are standardised as BatchNorm does it: the mean is subtracted, and
    the rest divided by the biased standard deviation with 1e-5 added to the variance. Rows are not scaled. In the
    official code no gradient crosses the all_reduce, so with W ranks its gradient is 1/W of this one. solo-learn
    multiplies the loss by 0.025 or 0.1.

    Args:
        z0: First views, `(n, d)`, any floating dtype; the loss is computed in float32, or float64 for float64.
        z1: Second views, `(n, d)`, row i of the same image as row i of `z0`.
        redundancy: Weight λ of the off-diagonal correlations, at least 0.

    Returns:
        The loss of the joined batch, a scalar, the same on every rank.

    Raises:
        ValueError: Shapes differ or are not `(n, d)`, all ranks together have one row, or `redundancy` is below 0.
    """
    check_least("barlow_twins", 0, redundancy=redundancy)
    check_pair("barlow_twins", z0=z0, z1=z1)
    x, y = gather(wide(z0), grad=True), gather(wide(z1), grad=True)  # (N, d)
    if len(x) < 2:
        raise ValueError(f"barlow_twins: z0 and z1 must have at least 2 rows on all ranks, got {tuple(z0.shape)}")
    c = dot(_standardize(x).T, _standardize(y).T) / len(x)  # (d, d)
    return (1 - c.diagonal()).square().sum() + redundancy * c.square().fill_diagonal_(0).sum()


class BarlowTwinsLoss(nn.Module):
    """`barlow_twins` with its weight.

    Args:
        redundancy: Weight λ of the off-diagonal correlations, at least 0.

    Raises:
        ValueError: `redundancy` is below 0.
    """

    def __init__(self, redundancy: float = 0.0051) -> None:
        super().__init__()
        check_least(self, 0, redundancy=redundancy)
        self.redundancy = redundancy

    def forward(self, z0: Tensor, z1: Tensor) -> Tensor:
        """Compute `barlow_twins`."""
        return barlow_twins(z0, z1, self.redundancy)

    def extra_repr(self) -> str:
        """Return the arguments as the constructor takes them."""
        return f"redundancy={self.redundancy}"


def _standardize(x: Tensor) -> Tensor:
    variance, mean = torch.var_mean(x, 0, correction=0)
    return (x - mean) / (variance + 1e-5).sqrt()
