"""MoCo."""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from lightly_aug.checks import check_choice, check_share
from lightly_aug.distributed import shuffle, unshuffle
from lightly_aug.loss import InfoNCELoss
from lightly_aug.loss._rows import unit
from lightly_aug.memory_bank import MemoryBank
from lightly_aug.models.backbones import feature_width
from lightly_aug.models.base import SSLModel, two_views
from lightly_aug.models.heads import mlp
from lightly_aug.models.momentum import MomentumEncoder

__all__ = ["MoCo"]


class MoCo(SSLModel):
    """Contrastive learning against a long queue of past keys from a moving-average key encoder.

    Momentum Contrast for Unsupervised Visual Representation Learning (He et al. 2020, arXiv 1911.05722); MoCo v2 is
    Improved Baselines with Momentum Contrastive Learning (Chen et al. 2020, arXiv 2003.04297). One-directional: the
    first view is the query. Key images are shuffled across ranks, for BatchNorm. The queue starts empty, so the first
    step has loss 0, and the loss rises until the queue is full.

    Args:
        backbone: Maps images to features `(n, d)` or `(n, d, 1, 1)`, the encoder in the papers.
        version: 1 for a linear head, 2 for an MLP of two layers.
        width: Width d of the features; None measures it.
        dim: Width of the space in which views are compared.
        queue: Number K of keys in the queue.
        momentum: Momentum m of the key encoder, from 0 to 1.
        temperature: Temperature τ, above 0; None takes the paper's value, 0.07 in v1 and 0.2 in v2.

    Raises:
        ValueError: An argument is out of range, or the width cannot be measured.

    Example:
        >>> encoder = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        >>> model = MoCo(encoder, dim=16, queue=64)
        >>> import torch
        >>> x0, x1 = torch.rand(2, 4, 3, 32, 32)
        >>> loss = model([x0, x1])  # then the step of the optimiser, which the key encoder follows by itself
        >>> model.queue.filled, model.embed(x0).shape
        (tensor(4), torch.Size([4, 8]))
    """

    def __init__(
        self,
        backbone: nn.Module,
        *,
        version: Literal[1, 2] = 2,
        width: int | None = None,
        dim: int = 128,
        queue: int = 65536,
        momentum: float = 0.999,
        temperature: float | None = None,
    ) -> None:
        super().__init__()
        check_choice(self, (1, 2), version=version)
        check_share(self, momentum=momentum)
        width = feature_width(backbone) if width is None else width
        self.backbone = backbone
        self.head = mlp(width, *[width] * (version - 1), dim, norm=False)
        self.key_encoder = MomentumEncoder(self._query_encoder())
        self.queue = MemoryBank(queue, dim)
        self.momentum = momentum
        self.loss = InfoNCELoss((0.07 if version == 1 else 0.2) if temperature is None else temperature)

    def forward(self, views: Sequence[Tensor], *, targets: Tensor | None = None, index: Tensor | None = None) -> Tensor:
        """Compute InfoNCE of the first view against the key of the second and the queue; views are `(n, c, h, w)`."""
        x_q, x_k = two_views(self, views)
        q = self.head(self.embed(x_q))  # (n, dim)
        shuffled, order = shuffle(x_k)
        k = unit(unshuffle(self.key_encoder(shuffled), order))  # (n, dim), no gradient
        loss = self.loss(q, k, *self.queue.negatives())  # (n, 1 + K) logits
        self.queue.update(k)  # after the loss, so that a query's own key is never among its negatives
        return loss

    def follow(self, before: float) -> None:
        """Update the key encoder as an exponential moving average of the query encoder.

        The official code does this in the next forward pass, between query and keys. No parameter changes in between,
        and before the first step both encoders are equal, so every key comes from the same parameters.
        """
        self.key_encoder.update(self._query_encoder(), self.momentum)

    def _query_encoder(self) -> nn.Sequential:
        return nn.Sequential(self.backbone, nn.Flatten(), self.head)
