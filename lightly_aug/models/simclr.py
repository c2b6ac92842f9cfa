"""SimCLR."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from lightly_aug.checks import check_choice
from lightly_aug.loss import NTXentLoss
from lightly_aug.models.backbones import feature_width
from lightly_aug.models.base import SSLModel, two_views
from lightly_aug.models.heads import mlp

__all__ = ["SimCLR"]


class SimCLR(SSLModel):
    """Contrastive learning of two views of each image against all other views of the batch.

    A Simple Framework for Contrastive Learning of Visual Representations (Chen et al. 2020, arXiv 2002.05709); SimCLR
    v2, with its deeper head, is Big Self-Supervised Models are Strong Semi-Supervised Learners (Chen et al. 2020, arXiv
    2006.10029); that paper fine-tunes from the head's first layer on, `model.head[:3]`, and its larger networks have
    selective kernels, which are not here. BatchNorm sees both views as one batch; over several processes the papers
    synchronise it.

    Args:
        backbone: Maps images to features `(n, d)` or `(n, d, 1, 1)`, f in the paper.
        version: 1 for a head of two layers, 2 for three.
        width: Width d of the features; None measures it.
        dim: Width of the space in which views are compared.
        temperature: Temperature τ of NT-Xent, above 0; the papers take 0.1, and 0.5 on CIFAR-10.

    Raises:
        ValueError: An argument is out of range, or the width cannot be measured.

    Example:
        >>> f = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        >>> model = SimCLR(f, dim=16)
        >>> x0, x1 = torch.rand(2, 4, 3, 32, 32)
        >>> model([x0, x1]).shape, model.embed(x0).shape
        (torch.Size([]), torch.Size([4, 8]))
    """

    def __init__(
        self,
        backbone: nn.Module,
        *,
        version: Literal[1, 2] = 1,
        width: int | None = None,
        dim: int = 128,
        temperature: float = 0.1,
    ) -> None:
        super().__init__()
        check_choice(self, (1, 2), version=version)
        width = feature_width(backbone) if width is None else width
        self.backbone = backbone
        self.head = mlp(width, *[width] * version, dim, bias=False, last_norm="scale")
        self.loss = NTXentLoss(temperature)

    def forward(self, views: Sequence[Tensor], *, targets: Tensor | None = None, index: Tensor | None = None) -> Tensor:
        """Compute NT-Xent of two views, each `(n, c, h, w)`."""
        x = torch.cat(two_views(self, views))  # (2n, c, h, w)
        h = self.embed(x)  # (2n, d)
        z0, z1 = self.head(h).chunk(2)  # (n, dim) each
        return self.loss(z0, z1)
