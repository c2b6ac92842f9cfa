"""MoCo v3."""

from collections.abc import Sequence

from torch import Tensor, nn

from lightly_aug.checks import check_share
from lightly_aug.loss import InfoNCELoss
from lightly_aug.models.backbones import feature_width, is_vit
from lightly_aug.models.base import SSLModel, two_views
from lightly_aug.models.heads import mlp
from lightly_aug.models.momentum import MomentumEncoder, cosine

__all__ = ["MoCoV3"]


class MoCoV3(SSLModel):
    """Contrastive learning within the batch, without a queue: a moving-average key encoder, and a predictor on queries.

    An Empirical Study of Training Self-Supervised Vision Transformers (Chen et al. 2021, arXiv 2104.02057). Symmetric;
    BatchNorm sees each view separately. For a ViT, use `vit(moco_v3=True)`, which fixes the patch projection.

    Args:
        backbone: Maps images to features `(n, d)` or `(n, d, 1, 1)`, the encoder in the paper.
        vit: Use the heads for a ViT (a projector of three layers, BatchNorm at the end of the predictor) instead of
            those for a ResNet (two layers, no BatchNorm at the end). None does so if the backbone is a
            `VisionTransformer` of timm or torchvision.
        width: Width d of the features; None measures it.
        hidden: Width of the heads' hidden layers.
        dim: Width of the space in which views are compared.
        momentum: Initial momentum of the key encoder; it rises to 1 along a cosine.
        temperature: Temperature τ, above 0; None takes the paper's value, 1 for a ResNet and 0.2 for a ViT.

    Raises:
        ValueError: An argument is out of range, or the width cannot be measured.

    Example:
        >>> encoder = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        >>> model = MoCoV3(encoder, hidden=32, dim=16)
        >>> import torch
        >>> model(torch.rand(2, 4, 3, 32, 32)).shape
        torch.Size([])
    """

    scheduled = "momentum"
    waits = True  # for the momentum of the next forward pass, in which the official code updates

    def __init__(
        self,
        backbone: nn.Module,
        *,
        vit: bool | None = None,
        width: int | None = None,
        hidden: int = 4096,
        dim: int = 256,
        momentum: float = 0.99,
        temperature: float | None = None,
    ) -> None:
        super().__init__()
        check_share(self, momentum=momentum)
        width = feature_width(backbone) if width is None else width
        if vit is None:
            vit = is_vit(backbone)
        self.backbone = backbone
        self.projector = mlp(width, *[hidden] * (2 if vit else 1), dim, bias=False, last_norm="plain")
        self.predictor = mlp(dim, hidden, dim, bias=False, last_norm="plain" if vit else None)
        self.key_encoder = MomentumEncoder(self._encoder())
        self.momentum = momentum
        self.loss = InfoNCELoss((0.2 if vit else 1.0) if temperature is None else temperature)

    def forward(self, views: Sequence[Tensor], *, targets: Tensor | None = None, index: Tensor | None = None) -> Tensor:
        """Compute 2τ times the sum of both directions' InfoNCE, as the paper does; views are `(n, c, h, w)`."""
        x0, x1 = two_views(self, views, images=2 if self.training else 1)
        q0, q1 = (self.predictor(self.projector(self.embed(x))) for x in (x0, x1))  # (n, dim)
        k0, k1 = self.key_encoder(x0), self.key_encoder(x1)  # (n, dim), no gradient
        return 2 * self.loss.temperature * (self.loss(q0, k1) + self.loss(q1, k0))

    def follow(self, before: float) -> None:
        """Update the key encoder as an exponential moving average of the encoder."""
        self.key_encoder.update(self._encoder(), cosine(self.momentum, 1, self.progress))

    def _encoder(self) -> nn.Sequential:
        return nn.Sequential(self.backbone, nn.Flatten(), self.projector)
