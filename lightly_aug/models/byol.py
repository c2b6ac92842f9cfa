"""BYOL."""

from collections.abc import Sequence

from torch import Tensor, nn

from lightly_aug.checks import check_share
from lightly_aug.loss import BYOLLoss
from lightly_aug.models.backbones import feature_width
from lightly_aug.models.base import SSLModel, two_views
from lightly_aug.models.heads import mlp
from lightly_aug.models.momentum import MomentumEncoder, cosine

__all__ = ["BYOL"]


class BYOL(SSLModel):
    """Self-distillation without negatives: predict a moving-average target network's projection of the other view.

    Bootstrap Your Own Latent (Grill et al. 2020, arXiv 2006.07733). Symmetric; BatchNorm sees each view separately. The
    target network starts as a copy of the online network (the official code initialises it independently).

    Args:
        backbone: Maps images to features `(n, d)` or `(n, d, 1, 1)`, f_θ in the paper.
        width: Width d of the features; None measures it.
        hidden: Width of the heads' hidden layer.
        dim: Width of the space in which views are compared.
        momentum: Initial momentum τ of the target network; it rises to 1 along a cosine.

    Raises:
        ValueError: An argument is out of range, or the width cannot be measured.

    Example:
        >>> f = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        >>> model = BYOL(f, hidden=32, dim=16)
        >>> import torch
        >>> model(torch.rand(2, 4, 3, 32, 32)).shape
        torch.Size([])
    """

    scheduled = "momentum"

    def __init__(
        self,
        backbone: nn.Module,
        *,
        width: int | None = None,
        hidden: int = 4096,
        dim: int = 256,
        momentum: float = 0.996,
    ) -> None:
        super().__init__()
        check_share(self, momentum=momentum)
        width = feature_width(backbone) if width is None else width
        self.backbone = backbone
        self.projector = mlp(width, hidden, dim, last_bias=False)  # g_θ
        self.predictor = mlp(dim, hidden, dim, last_bias=False)  # q_θ
        self.target = MomentumEncoder(self._online())  # g_ξ f_ξ
        self.momentum = momentum
        self.loss = BYOLLoss()

    def forward(self, views: Sequence[Tensor], *, targets: Tensor | None = None, index: Tensor | None = None) -> Tensor:
        """Compute the sum of both directions, 0 to 8, as in the paper; views are `(n, c, h, w)`."""
        x0, x1 = two_views(self, views, images=2 if self.training else 1)
        p0, p1 = (self.predictor(self.projector(self.embed(x))) for x in (x0, x1))  # (n, dim)
        z0, z1 = self.target(x0), self.target(x1)  # (n, dim), no gradient
        return self.loss(p0, z1) + self.loss(p1, z0)

    def follow(self, before: float) -> None:
        """Update the target: ξ ← τξ + (1 - τ)θ, with τ = 1 - (1 - τ_0)(cos(π before) + 1)/2, at first τ_0."""
        self.target.update(self._online(), cosine(self.momentum, 1, before))

    def _online(self) -> nn.Sequential:
        return nn.Sequential(self.backbone, nn.Flatten(), self.projector)
