"""NNCLR."""

from collections.abc import Sequence

from torch import Tensor, nn

from lightly_aug.loss import InfoNCELoss
from lightly_aug.loss._rows import unit
from lightly_aug.memory_bank import MemoryBank
from lightly_aug.models.backbones import feature_width
from lightly_aug.models.base import SSLModel, two_views
from lightly_aug.models.heads import mlp

__all__ = ["NNCLR"]


class NNCLR(SSLModel):
    """Contrastive learning whose positive is the other view's nearest neighbour in a queue of past embeddings.

    With a Little Help from My Friends: Nearest-Neighbor Contrastive Learning (Dwibedi et al. 2021, arXiv 2104.14548).
    Symmetric; BatchNorm sees each view separately; negatives are the predictions for the other images of the batch on
    all ranks. No official code exists: this follows the paper's pseudo-code, with its widths from memory. At the first
    step, while the queue is empty, an embedding is its own neighbour.

    Args:
        backbone: Maps images to features `(n, d)` or `(n, d, 1, 1)`, f in the paper.
        width: Width d of the features; None measures it.
        hidden: Width of the projector's hidden layers.
        dim: Width of the space in which views are compared.
        predictor_hidden: Width of the predictor's hidden layer.
        queue: Number of embeddings to search for neighbours.
        temperature: Temperature τ, above 0.

    Raises:
        ValueError: An argument is out of range, or the width cannot be measured.

    Example:
        >>> f = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        >>> model = NNCLR(f, hidden=32, dim=16, predictor_hidden=32, queue=64)
        >>> import torch
        >>> model(torch.rand(2, 4, 3, 32, 32)).shape, model.queue.filled
        (torch.Size([]), tensor(4))
    """

    def __init__(
        self,
        backbone: nn.Module,
        *,
        width: int | None = None,
        hidden: int = 2048,
        dim: int = 256,
        predictor_hidden: int = 4096,
        queue: int = 98304,
        temperature: float = 0.1,
    ) -> None:
        super().__init__()
        width = feature_width(backbone) if width is None else width
        self.backbone = backbone
        self.projector = mlp(width, hidden, hidden, dim, last_norm="affine")
        self.predictor = mlp(dim, predictor_hidden, dim)
        self.queue = MemoryBank(queue, dim)
        self.loss = InfoNCELoss(temperature)

    def forward(self, views: Sequence[Tensor], *, targets: Tensor | None = None, index: Tensor | None = None) -> Tensor:
        """Compute the mean of both directions' InfoNCE; views are `(n, c, h, w)`."""
        x0, x1 = two_views(self, views, images=2 if self.training else 1)
        z0, z1 = self.projector(self.embed(x0)), self.projector(self.embed(x1))  # (n, dim)
        p0, p1 = self.predictor(z0), self.predictor(z1)  # (n, dim)
        nn0, nn1 = self.queue.nearest(z0), self.queue.nearest(z1)  # (n, dim), no gradient
        loss = (self.loss(nn0, p1) + self.loss(nn1, p0)) / 2
        self.queue.update(unit(z0.detach()))  # view 0 only, after the loss
        return loss
