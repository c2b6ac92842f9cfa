"""MoCo."""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from lightly_aug.distributed import shuffle, unshuffle
from lightly_aug.loss import InfoNCELoss
from lightly_aug.loss._info_nce import unit
from lightly_aug.memory_bank import MemoryBank
from lightly_aug.models.backbones import feature_width
from lightly_aug.models.base import SSLModel, two_views
from lightly_aug.models.heads import mlp
from lightly_aug.models.momentum import MomentumEncoder, check_share

__all__ = ["MoCo"]


class MoCo(SSLModel):
    """A query finds its key, made by a slowly following encoder, among a long queue of past keys.

    Momentum Contrast for Unsupervised Visual Representation Learning (He et al. 2020, arXiv 1911.05722); version 2 is
    Improved Baselines with Momentum Contrastive Learning (Chen et al. 2020, arXiv 2003.04297). One-directional: the
    first view is the query. Keys are shuffled over the ranks before BatchNorm sees them. The queue starts empty, so
    the first step has loss 0 and the loss rises until the queue is full.

    Args:
        backbone: The encoder, maps images to features `(n, d)` or `(n, d, 1, 1)`.
        version: 1 ends in a linear layer, 2 in an MLP of two layers.
        width: d; None measures it.
        dim: Width of the space in which views are compared.
        queue: K, how many keys to remember.
        momentum: m of the key encoder, from 0 to 1.
        temperature: τ, above 0; None takes the paper's, 0.07 in version 1 and 0.2 in version 2.

    Raises:
        ValueError: An argument is out of range, or the width cannot be measured.

    Example:
        >>> encoder = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        >>> model = MoCo(encoder, dim=16, queue=64)
        >>> import torch
        >>> x0, x1 = torch.rand(2, 4, 3, 32, 32)
        >>> loss = model([x0, x1])  # then the step of the optimiser, then:
        >>> model.after_step(progress=0.01)
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
        if version not in (1, 2):
            raise ValueError(f"MoCo has versions 1 and 2, got {version!r}")
        check_share(momentum=momentum)
        width = feature_width(backbone) if width is None else width
        self.backbone = backbone
        self.head = mlp(width, *[width] * (version - 1), dim, norm=False)
        self.key_encoder = MomentumEncoder(self._query_encoder())
        self.queue = MemoryBank(queue, dim)
        self.momentum = momentum
        self.loss = InfoNCELoss((0.07 if version == 1 else 0.2) if temperature is None else temperature)

    def forward(self, views: Sequence[Tensor], *, targets: Tensor | None = None, index: Tensor | None = None) -> Tensor:
        """InfoNCE of the first view against the key of the second and the queue; views are `(n, c, h, w)`."""
        x_q, x_k = two_views(views)
        q = self.head(self.embed(x_q))  # (n, dim)
        shuffled, order = shuffle(x_k)
        k = unit(unshuffle(self.key_encoder(shuffled), order))  # (n, dim), no gradient
        loss: Tensor = self.loss(q, k, *self.queue.negatives())  # (n, 1 + K) logits
        self.queue.update(k)  # after the loss: a query's own key is never among its negatives
        return loss

    def after_step(self, progress: float) -> None:
        """Let the key encoder follow.

        The official code does this at the start of the next forward, between query and keys. No parameter changes in
        between, and before the first step both encoders are equal, so every key is made by the same parameters.
        """
        super().after_step(progress)
        if self.training:
            self.key_encoder.update(self._query_encoder(), self.momentum)

    def _query_encoder(self) -> nn.Sequential:
        return nn.Sequential(self.backbone, nn.Flatten(), self.head)
