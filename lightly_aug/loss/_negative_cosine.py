"""The negative cosine of SimSiam."""

from torch import Tensor, nn

from lightly_aug.loss._rows import check_pair, unit

__all__ = ["NegativeCosineLoss", "negative_cosine"]


def negative_cosine(p: Tensor, z: Tensor) -> Tensor:
    """Compute one direction of SimSiam (Chen & He 2020, arXiv 2011.10566, equation 1): `mean_i -cos(p_i, z_i)`.

    The value is in [-1, 1]. The method takes the mean of both directions (equation 2).

    Args:
        p: Predictions, `(n, d)`, any floating dtype; the loss is computed in float32, or float64 for float64.
        z: Projections to predict, `(n, d)`; no gradient flows into them.

    Returns:
        The mean over the n rows of this rank, a scalar.

    Raises:
        ValueError: Shapes differ or are not `(n, d)`.
    """
    check_pair("negative_cosine", p=p, z=z)
    return -(unit(p) * unit(z.detach())).sum(1).mean()


class NegativeCosineLoss(nn.Module):
    """`negative_cosine` as a module."""

    def forward(self, p: Tensor, z: Tensor) -> Tensor:
        """Compute `negative_cosine`."""
        return negative_cosine(p, z)
