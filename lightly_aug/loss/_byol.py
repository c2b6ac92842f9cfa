"""The loss of BYOL."""

from torch import Tensor, nn

from lightly_aug.loss._rows import check_pair, unit

__all__ = ["BYOLLoss", "byol"]


def byol(p: Tensor, z: Tensor) -> Tensor:
    """Compute one direction of BYOL (Grill et al. 2020, arXiv 2006.07733, equation 2): `mean_i |p_i - z_i|²`.

    Rows are normalised, so each term is `2 - 2 cos`, in [0, 4]; against a row of zeros it is 1, as in the official
    code. The method adds both directions, 0 to 8.

    Args:
        p: Predictions of the online network, `(n, d)`, any floating dtype; the loss is computed in float32, or float64
            for float64.
        z: Projections of the target network, `(n, d)`; no gradient flows into them.

    Returns:
        The mean over the n rows of this rank, a scalar.

    Raises:
        ValueError: Shapes differ or are not `(n, d)`.
    """
    check_pair("byol", p=p, z=z)
    return (unit(p) - unit(z.detach())).square().sum(1).mean()


class BYOLLoss(nn.Module):
    """`byol` as a module."""

    def forward(self, p: Tensor, z: Tensor) -> Tensor:
        """Compute `byol`."""
        return byol(p, z)
