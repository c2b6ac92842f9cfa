"""All methods at a small size, with real images in the views of their papers: the rows of the contract."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from itertools import cycle, islice
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lightly_aug import (
    AMDIMCollateFunction,
    BarlowTwinsCollateFunction,
    BaseCollateFunction,
    BYOLCollateFunction,
    CPCCollateFunction,
    DINOCollateFunction,
    Indexed,
    LooCCollateFunction,
    MoCoCollateFunction,
    NNCLRCollateFunction,
    PAWSCollateFunction,
    PIRLCollateFunction,
    SimCLRCollateFunction,
    SimSiamCollateFunction,
    SwaVCollateFunction,
)
from lightly_aug.models import (
    AMDIM,
    BYOL,
    CPC,
    DINO,
    NNCLR,
    PAWS,
    PIRL,
    BarlowTwins,
    LooC,
    MoCo,
    MoCoV3,
    SimCLR,
    SimSiam,
    SSLModel,
    SwaV,
)
from lightly_aug.photographs import photograph_patches

IMAGES, BATCH, SIDE = 32, 8, 16


class Method(NamedTuple):
    """A row of the contract.

    Attributes:
        model: Builds the `SSLModel` from a backbone and keyword arguments; Any, as tests look at its attributes.
        collate: Builds the collate function of its views from options.
        targets: Prefixes of the names of parameters that are copies or fixed.
        alone: Text of the error for a batch of one image; empty if such a batch works.
        steps: Number of steps in which the loss falls, after `queue` steps that fill the queue.
        queue: Number of steps before them.
    """

    model: Callable[..., Any]
    collate: Callable[..., BaseCollateFunction]
    targets: tuple[str, ...] = ()
    alone: str = ""
    steps: int = 32
    queue: int = 4


CROPS: dict[str, Any] = {"size": SIDE, "local_size": 12, "local_views": 2}
HEADS = "views must have at least 2 images in training, for BatchNorm in the heads, got 1"

METHODS = {
    "SimCLR v1": Method(partial(SimCLR, dim=8), partial(SimCLRCollateFunction, SIDE)),
    "SimCLR v2": Method(partial(SimCLR, version=2, dim=8), partial(SimCLRCollateFunction, SIDE)),
    "MoCo v1": Method(
        partial(MoCo, version=1, dim=8, queue=12, momentum=0.9),
        partial(MoCoCollateFunction, SIDE, version=1),
        ("key_encoder.",),
    ),
    "MoCo v2": Method(
        partial(MoCo, version=2, dim=8, queue=12, momentum=0.9), partial(MoCoCollateFunction, SIDE), ("key_encoder.",)
    ),
    "MoCo v3": Method(
        partial(MoCoV3, hidden=32, dim=8, momentum=0.9),
        partial(MoCoCollateFunction, SIDE, version=3),
        ("key_encoder.",),
        HEADS,
    ),
    "BYOL": Method(
        partial(BYOL, hidden=32, dim=8, momentum=0.9), partial(BYOLCollateFunction, SIDE), ("target.",), HEADS
    ),
    "SimSiam": Method(
        partial(SimSiam, dim=16, bottleneck=8),
        partial(SimSiamCollateFunction, SIDE),
        ("projector.6.bias",),
        HEADS,
    ),
    "Barlow Twins": Method(partial(BarlowTwins, dim=16), partial(BarlowTwinsCollateFunction, SIDE), (), HEADS),
    "NNCLR": Method(
        partial(NNCLR, hidden=32, dim=8, predictor_hidden=32, queue=12), partial(NNCLRCollateFunction, SIDE), (), HEADS
    ),
    "SwAV": Method(partial(SwaV, hidden=32, dim=8, prototypes=10, queue=12), partial(SwaVCollateFunction, **CROPS)),
    "DINO": Method(
        partial(DINO, hidden=32, bottleneck=8, dim=16, momentum=0.9, frozen_until=0),
        partial(DINOCollateFunction, **CROPS),
        ("teacher.",),
        steps=12,  # before the centre catches up and spreads the targets
        queue=0,
    ),
    "PIRL": Method(
        partial(PIRL, images=IMAGES, patches=4, dim=8, negatives=20, momentum=0.97),
        partial(PIRLCollateFunction, SIDE, patch=12, jigsaw=32, grid=2),
    ),
    "PAWS": Method(
        partial(PAWS, classes=2, hidden=32, dim=16),
        partial(PAWSCollateFunction, **CROPS),
        (),
        "images with and without label",
    ),
    "AMDIM": Method(partial(AMDIM, maps=("4", "2"), size=SIDE), partial(AMDIMCollateFunction, SIDE)),
    "CPC v2": Method(
        partial(CPC, patch=12, stride=6, grid=3, context=16, blocks=2, dim=8), partial(CPCCollateFunction, 24, 12, 6)
    ),
    "LooC": Method(
        partial(LooC, groups=3, dim=8, queue=12, momentum=0.9), partial(LooCCollateFunction, SIDE), ("key_encoder.",)
    ),
}


@dataclass(frozen=True)
class Batch:
    """The arguments of a method's forward pass."""

    views: list[Tensor]
    targets: Tensor
    index: Tensor

    def loss(self, model: nn.Module) -> Tensor:
        loss: Tensor = model(self.views, targets=self.targets, index=self.index)
        return loss

    def rows(self, which: slice) -> "Batch":
        return Batch([x[which] for x in self.views], self.targets[which], self.index[which])

    def to(self, where: torch.dtype | torch.device | str) -> "Batch":
        index, targets = (x if isinstance(where, torch.dtype) else x.to(where) for x in (self.index, self.targets))
        return Batch([x.to(where) for x in self.views], targets, index)


def tiny() -> nn.Sequential:
    """Two convolutions with maps of 7x7 and 3x3 for images of 16x16, and 16 features `(n, 16, 1, 1)`."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, bias=False), nn.BatchNorm2d(16), nn.AdaptiveAvgPool2d(1),
    )  # fmt: skip


@cache
def _images() -> list[tuple[object, int]]:
    """Two patches of each of 16 photographs; of each four, two have a label, 0 or 1, and two have -1."""
    patches = [image for image, label in photograph_patches(side=32, train=2, test=0).train if label < IMAGES // 2]
    return [(image, i // 2 % 2 if i % 4 in (0, 3) else -1) for i, image in enumerate(patches)]


@cache
def _epochs(name: str, count: int) -> list[Batch]:
    collate = METHODS[name].collate(seed=0, render="worker")
    loader = DataLoader(Indexed(_images()), BATCH, collate_fn=collate)
    return [Batch(list(views), labels, views.index) for _ in range(count) for views, labels in loader]


def batches(name: str, epochs: int = 3) -> Iterator[Batch]:
    """Yield batches of the same images without end; a queue of 12 never holds the images of the next batch."""
    return cycle(_epochs(name, epochs))


def make_optimiser(model: nn.Module, lr: float = 0.02) -> torch.optim.Optimizer:
    return torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=lr, momentum=0.9)


def train(
    model: SSLModel, optimiser: torch.optim.Optimizer, data: Iterator[Batch], steps: int, total: int | None = None
) -> list[float]:
    """Train for a number of steps, the first of `total`, and return their losses."""
    losses = []
    for step, batch in enumerate(islice(data, steps)):
        loss = batch.loss(model)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        model.after_step((step + 1) / (total or steps))
        losses.append(loss.item())
    return losses
