"""SwAV."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lightly_aug.checks import check_integer, check_share
from lightly_aug.distributed import rank, world_size
from lightly_aug.loss import SwaVLoss
from lightly_aug.loss._rows import dot, unit
from lightly_aug.memory_bank import MemoryBank
from lightly_aug.models.backbones import feature_width
from lightly_aug.models.base import SSLModel, embed_views, several_views
from lightly_aug.models.heads import mlp

__all__ = ["SwaV"]


class SwaV(SSLModel):
    """Online clustering: every view predicts the prototype assignments of the two large views of its image.

    Unsupervised Learning of Visual Features by Contrasting Cluster Assignments (Caron et al. 2020, arXiv 2006.09882).
    BatchNorm sees all views of one size as one batch. If the loss stays at ln(prototypes), use a smaller epsilon, or
    freeze the prototypes for longer.

    Args:
        backbone: Maps images of all the views' sizes to features `(n, d)` or `(n, d, 1, 1)`.
        width: Width d of the features; None measures it.
        hidden: Width of the projector's hidden layer.
        dim: Width of the space in which views are compared.
        prototypes: Number K of prototypes.
        temperature: Temperature τ of the predictions, above 0.
        epsilon: Regularisation ε of the assignments, above 0.
        queue: Number of past embeddings to assign together with the batch, 0 for none: small batches need them, the
            paper takes 3840 with batches of 256. They are used once the queue is full.
        queue_from: Progress from which the queue is filled, 0 to 1 (epoch 15 of 200 in the paper).
        frozen_until: Progress until which the prototypes are frozen, 0 to 1 (one epoch in the paper). Under
            `DistributedDataParallel` this needs `find_unused_parameters=True`.

    Raises:
        ValueError: An argument is out of range, or the width cannot be measured.

    Example:
        >>> f = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        >>> model = SwaV(f, hidden=32, dim=16, prototypes=10)
        >>> model([torch.rand(4, 3, side, side) for side in (32, 32, 16, 16)]).shape
        torch.Size([])
    """

    queues: Sequence[MemoryBank]

    def __init__(
        self,
        backbone: nn.Module,
        *,
        width: int | None = None,
        hidden: int = 2048,
        dim: int = 128,
        prototypes: int = 3000,
        temperature: float = 0.1,
        epsilon: float = 0.05,
        queue: int = 0,
        queue_from: float = 0.0,
        frozen_until: float = 0.0,
    ) -> None:
        super().__init__()
        check_share(self, queue_from=queue_from, frozen_until=frozen_until)
        check_integer(self, least=1, prototypes=prototypes)
        width = feature_width(backbone) if width is None else width
        self.backbone = backbone
        self.projector = mlp(width, hidden, dim)
        self.prototypes = nn.Linear(dim, prototypes, bias=False)  # rows of unit length
        self.queues = nn.ModuleList(MemoryBank(queue, dim) for _ in range(2 if queue else 0))  # type: ignore[assignment]
        self.queue_from = queue_from
        self.frozen_until = frozen_until
        self.scheduled = ", ".join(name for name in ("queue_from", "frozen_until") if getattr(self, name) > 0)
        self.loss = SwaVLoss(temperature, epsilon)
        self._normalize()

    def forward(self, views: Sequence[Tensor], *, targets: Tensor | None = None, index: Tensor | None = None) -> Tensor:
        """Compute the swapped prediction of two views of one size and any number of others, each `(n, c, h, w)`."""
        several_views(self, views, same_shape=2)
        weight = self.prototypes.weight.detach() if self.progress < self.frozen_until else self.prototypes.weight
        z = unit(self.projector(embed_views(self.embed, views)))  # (v n, dim)
        scores = dot(z, weight).chunk(len(views))  # (n, K) each
        queued, full = [], []
        if self.progress >= self.queue_from:
            for queue in self.queues:
                keys, valid = queue.negatives()
                own = slice(rank(), None, world_size())  # all ranks have the same queue: each takes a part
                queued.append(dot(keys[own], weight.detach()))
                full.append(valid.all().expand(len(queued[-1])))
        loss = self.loss(scores, queued or None, full or None)
        for queue, embeddings in zip(self.queues, z.detach().chunk(len(views)), strict=False):
            if self.progress >= self.queue_from:
                queue.update(embeddings)
        return loss

    def follow(self, before: float) -> None:
        """Normalise the prototypes."""
        self._normalize()

    @torch.no_grad()
    def _normalize(self) -> None:
        self.prototypes.weight.copy_(unit(self.prototypes.weight))
