"""SimSiam."""

from collections.abc import Sequence

from torch import Tensor, nn

from lightly_aug.loss import NegativeCosineLoss
from lightly_aug.models.backbones import feature_width
from lightly_aug.models.base import SSLModel, two_views
from lightly_aug.models.heads import mlp

__all__ = ["SimSiam"]


class SimSiam(SSLModel):
    """Siamese learning without negatives: predict the other view's projection, with a stop-gradient against collapse.

    Exploring Simple Siamese Representation Learning (Chen & He 2021, arXiv 2011.10566). Symmetric; BatchNorm sees each
    view separately. The paper keeps the learning rate of `predictor` constant: give it a parameter group of its own.

    Args:
        backbone: Maps images to features `(n, d)` or `(n, d, 1, 1)`.
        width: Width d of the features; None measures it.
        dim: Width of all layers of the projector, as in the paper; in the official code the hidden ones have width d.
        bottleneck: Width of the predictor's hidden layer.

    Raises:
        ValueError: An argument is out of range, or the width cannot be measured.

    Example:
        >>> f = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        >>> model = SimSiam(f, dim=32, bottleneck=8)
        >>> import torch
        >>> model(torch.rand(2, 4, 3, 32, 32)).shape
        torch.Size([])
    """

    def __init__(
        self, backbone: nn.Module, *, width: int | None = None, dim: int = 2048, bottleneck: int = 512
    ) -> None:
        super().__init__()
        width = feature_width(backbone) if width is None else width
        self.backbone = backbone
        self.projector = mlp(width, dim, dim, dim, bias=False, last_bias=True, last_norm="plain")
        self.projector[-2].bias.requires_grad_(False)  # the BatchNorm that follows cancels it
        self.predictor = mlp(dim, bottleneck, dim, bias=False, last_bias=True)
        self.loss = NegativeCosineLoss()

    def forward(self, views: Sequence[Tensor], *, targets: Tensor | None = None, index: Tensor | None = None) -> Tensor:
        """Compute the mean of both directions, -1 to 1; views are `(n, c, h, w)`."""
        x0, x1 = two_views(self, views, images=2 if self.training else 1)
        z0, z1 = self.projector(self.embed(x0)), self.projector(self.embed(x1))  # (n, dim)
        p0, p1 = self.predictor(z0), self.predictor(z1)  # (n, dim)
        return (self.loss(p0, z1) + self.loss(p1, z0)) / 2  # the loss stops the gradient at z
