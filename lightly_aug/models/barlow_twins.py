"""Barlow Twins."""

from collections.abc import Sequence

from torch import Tensor, nn

from lightly_aug.loss import BarlowTwinsLoss
from lightly_aug.models.backbones import feature_width
from lightly_aug.models.base import SSLModel, two_views
from lightly_aug.models.heads import mlp

__all__ = ["BarlowTwins"]


class BarlowTwins(SSLModel):
    """Redundancy reduction: the cross-correlation matrix of the features of two views becomes the identity.

    Barlow Twins: Self-Supervised Learning via Redundancy Reduction (Zbontar et al. 2021, arXiv 2103.03230). BatchNorm
    sees each view separately.

    Args:
        backbone: Maps images to features `(n, d)` or `(n, d, 1, 1)`.
        width: Width d of the features; None measures it.
        dim: Width of the projector's layers and of its output; the paper recommends a large one.
        redundancy: Weight λ of the correlations between different features, at least 0.

    Raises:
        ValueError: An argument is out of range, or the width cannot be measured.

    Example:
        >>> f = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        >>> model = BarlowTwins(f, dim=32)
        >>> import torch
        >>> model(torch.rand(2, 4, 3, 32, 32)).shape
        torch.Size([])
    """

    def __init__(
        self, backbone: nn.Module, *, width: int | None = None, dim: int = 8192, redundancy: float = 0.0051
    ) -> None:
        super().__init__()
        width = feature_width(backbone) if width is None else width
        self.backbone = backbone
        self.projector = mlp(width, dim, dim, dim, bias=False)
        self.loss = BarlowTwinsLoss(redundancy)  # standardises the features itself

    def forward(self, views: Sequence[Tensor], *, targets: Tensor | None = None, index: Tensor | None = None) -> Tensor:
        """Compute the distance of the cross-correlation from the identity; views are `(n, c, h, w)`."""
        x0, x1 = two_views(self, views, images=2 if self.training else 1)
        z0, z1 = self.projector(self.embed(x0)), self.projector(self.embed(x1))  # (n, dim)
        return self.loss(z0, z1)
