"""The methods built from lightly's heads, losses, memory banks and momentum utilities.

This needs lightly 1.6 (`pip install lightly`). Each class takes the arguments of the class of the same name in
`lightly_aug.models`, and follows lightly's own example of the method. Three things differ from ours for that reason:
BatchNorm sees each view as a batch of its own in SimCLR, SwAV and DINO, NNCLR has both directions in one softmax, and
queues begin with random keys. SimCLR v2 and MoCo v3 could be built from these parts too; they are not here.
"""

from collections.abc import Sequence
from copy import deepcopy
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from lightly_aug.models import SSLModel, feature_width

__all__ = ["BYOL", "DINO", "NNCLR", "BarlowTwins", "MoCo", "SimCLR", "SimSiam", "SwaV"]


class _Peer(SSLModel):
    """A backbone and a head; the momentum of their copies, if there are any, moves to `end` along a cosine."""

    def __init__(self, backbone: nn.Module, head: nn.Module, *, momentum: float = 1.0, end: float = 1.0) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head
        self.momentum, self.end = momentum, end
        self.copies: nn.Sequential | None = None

    def copy_networks(self, head: nn.Module | None = None) -> None:
        """Copy the backbone, and the head unless a copy is given."""
        self.copies = nn.Sequential(
            deepcopy(self.backbone), nn.Flatten(), deepcopy(self.head) if head is None else head
        )
        _utils().deactivate_requires_grad(self.copies)

    @torch.no_grad()
    def target(self, x: Tensor) -> Tensor:
        """Compute the output of the copies for `x`."""
        assert self.copies is not None
        output: Tensor = self.copies(x)
        return output

    def follow(self, before: float) -> None:
        """Move the copies towards the networks, as an exponential moving average."""
        if self.copies is not None:
            schedule = import_module("lightly.utils.scheduler").cosine_schedule
            m = schedule(round(10_000 * self.progress), 10_001, self.momentum, self.end)
            for network, copy in ((self.backbone, self.copies[0]), (self.head, self.copies[2])):
                _utils().update_momentum(network, copy, m)


class SimCLR(_Peer):
    """SimCLR v1."""

    def __init__(self, backbone: nn.Module, *, dim: int, temperature: float) -> None:
        width = feature_width(backbone)
        super().__init__(backbone, _heads().SimCLRProjectionHead(width, width, dim))
        self.loss = _loss("NTXentLoss", temperature)

    def forward(self, views: Sequence[Tensor], *, targets: Tensor | None = None, index: Tensor | None = None) -> Tensor:
        """Compute NT-Xent of two views."""
        z0, z1 = (self.head(self.embed(x)) for x in views)
        loss: Tensor = self.loss(z0, z1)
        return loss


class MoCo(_Peer):
    """MoCo v2."""

    def __init__(self, backbone: nn.Module, *, dim: int, queue: int, momentum: float, temperature: float) -> None:
        width = feature_width(backbone)
        super().__init__(backbone, _heads().MoCoProjectionHead(width, width, dim), momentum=momentum, end=momentum)
        self.copy_networks()
        self.loss = _loss("NTXentLoss", temperature, memory_bank_size=(queue, dim))

    def forward(self, views: Sequence[Tensor], *, targets: Tensor | None = None, index: Tensor | None = None) -> Tensor:
        """Compute InfoNCE of the first view against the second and the memory bank."""
        loss: Tensor = self.loss(self.head(self.embed(views[0])), self.target(views[1]))
        return loss


class BYOL(_Peer):
    """BYOL; the loss is a quarter of ours minus a constant."""

    def __init__(self, backbone: nn.Module, *, hidden: int, dim: int, momentum: float) -> None:
        head = _heads().BYOLProjectionHead(feature_width(backbone), hidden, dim)
        super().__init__(backbone, head, momentum=momentum)
        self.predictor = _heads().BYOLPredictionHead(dim, hidden, dim)
        self.copy_networks()
        self.loss = _loss("NegativeCosineSimilarity")

    def forward(self, views: Sequence[Tensor], *, targets: Tensor | None = None, index: Tensor | None = None) -> Tensor:
        """Compute half the sum of both directions."""
        p0, p1 = (self.predictor(self.head(self.embed(x))) for x in views)
        z0, z1 = (self.target(x) for x in views)
        loss: Tensor = 0.5 * (self.loss(p0, z1) + self.loss(p1, z0))
        return loss


class SimSiam(_Peer):
    """SimSiam."""

    def __init__(self, backbone: nn.Module, *, dim: int, bottleneck: int) -> None:
        super().__init__(backbone, _heads().SimSiamProjectionHead(feature_width(backbone), dim, dim))
        self.predictor = _heads().SimSiamPredictionHead(dim, bottleneck, dim)
        self.loss = _loss("NegativeCosineSimilarity")

    def forward(self, views: Sequence[Tensor], *, targets: Tensor | None = None, index: Tensor | None = None) -> Tensor:
        """Compute half the sum of both directions."""
        z0, z1 = (self.head(self.embed(x)) for x in views)
        p0, p1 = self.predictor(z0), self.predictor(z1)
        loss: Tensor = 0.5 * (self.loss(z0.detach(), p1) + self.loss(z1.detach(), p0))
        return loss


class BarlowTwins(_Peer):
    """Barlow Twins."""

    def __init__(self, backbone: nn.Module, *, dim: int, redundancy: float) -> None:
        super().__init__(backbone, _heads().BarlowTwinsProjectionHead(feature_width(backbone), dim, dim))
        self.loss = _loss("BarlowTwinsLoss", lambda_param=redundancy)

    def forward(self, views: Sequence[Tensor], *, targets: Tensor | None = None, index: Tensor | None = None) -> Tensor:
        """Compute the loss of two views."""
        z0, z1 = (self.head(self.embed(x)) for x in views)
        loss: Tensor = self.loss(z0, z1)
        return loss


class NNCLR(_Peer):
    """NNCLR; lightly's loss has both directions in one softmax."""

    def __init__(
        self, backbone: nn.Module, *, hidden: int, predictor_hidden: int, dim: int, queue: int, temperature: float
    ) -> None:
        super().__init__(backbone, _heads().NNCLRProjectionHead(feature_width(backbone), hidden, dim))
        self.predictor = _heads().NNCLRPredictionHead(dim, predictor_hidden, dim)
        self.bank = import_module("lightly.models.modules").NNMemoryBankModule(size=(queue, dim))
        self.loss = _loss("NTXentLoss", temperature)

    def forward(self, views: Sequence[Tensor], *, targets: Tensor | None = None, index: Tensor | None = None) -> Tensor:
        """Compute half the sum of both directions; the bank takes the second view's embeddings."""
        z0, z1 = (self.head(self.embed(x)) for x in views)
        p0, p1 = self.predictor(z0), self.predictor(z1)
        nearest0, nearest1 = self.bank(z0.detach(), update=False), self.bank(z1.detach(), update=True)
        loss: Tensor = 0.5 * (self.loss(nearest0, p1) + self.loss(nearest1, p0))
        return loss


class SwaV(_Peer):
    """SwAV without a queue; BatchNorm sees each view as a batch of its own."""

    def __init__(
        self, backbone: nn.Module, *, hidden: int, dim: int, prototypes: int, temperature: float, epsilon: float
    ) -> None:
        super().__init__(backbone, _heads().SwaVProjectionHead(feature_width(backbone), hidden, dim))
        self.prototypes = _heads().SwaVPrototypes(dim, prototypes)
        self.loss = _loss("SwaVLoss", temperature, sinkhorn_epsilon=epsilon)

    def forward(self, views: Sequence[Tensor], *, targets: Tensor | None = None, index: Tensor | None = None) -> Tensor:
        """Compute the swapped prediction of the first two views' assignments."""
        self.prototypes.normalize()
        unit = nn.functional.normalize
        scores = [self.prototypes(unit(self.head(self.embed(x)), dim=1)) for x in views]
        loss: Tensor = self.loss(scores[:2], scores[2:])
        return loss


class DINO(_Peer):
    """DINO."""

    def __init__(
        self, backbone: nn.Module, *, hidden: int, bottleneck: int, dim: int, momentum: float, temperature: float
    ) -> None:
        widths = feature_width(backbone), hidden, bottleneck, dim
        head, copy = (_heads().DINOProjectionHead(*widths) for _ in range(2))  # weight_norm forbids deepcopy
        copy.load_state_dict(head.state_dict())
        super().__init__(backbone, head, momentum=momentum)
        self.copy_networks(copy)
        self.loss = _loss("DINOLoss", dim, student_temp=temperature)

    def forward(self, views: Sequence[Tensor], *, targets: Tensor | None = None, index: Tensor | None = None) -> Tensor:
        """Compare the student on all views with the teacher on the first two, at the teacher's temperature .04."""
        teacher = [self.target(x) for x in views[:2]]
        student = [self.head(self.embed(x)) for x in views]
        loss: Tensor = self.loss(teacher, student, teacher_temp=0.04)
        return loss


def _heads() -> Any:
    return import_module("lightly.models.modules.heads")


def _utils() -> Any:
    return import_module("lightly.models.utils")


def _loss(name: str, *args: Any, **options: Any) -> Any:
    return getattr(import_module("lightly.loss"), name)(*args, **options)
