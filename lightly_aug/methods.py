"""One table of the methods: the views and the model of each, for small data and as in its paper."""

from collections.abc import Callable
from functools import partial
from typing import Any, Final, Literal, NamedTuple, Unpack

from torch import nn

from lightly_aug.collate import BaseCollateFunction
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
from lightly_aug.operations import Normalize
from lightly_aug.options import Options
from lightly_aug.recipes import (
    AMDIMCollateFunction,
    BarlowTwinsCollateFunction,
    BYOLCollateFunction,
    CPCCollateFunction,
    DINOCollateFunction,
    LooCCollateFunction,
    MoCoCollateFunction,
    NNCLRCollateFunction,
    PAWSCollateFunction,
    PIRLCollateFunction,
    SimCLRCollateFunction,
    SimSiamCollateFunction,
    SwaVCollateFunction,
)

__all__ = ["METHODS", "Method", "Task", "prototype_count", "queue_size"]

_SMALL: Final = 32
"""Side in pixels up to which views follow the papers' experiments on CIFAR, or ours; larger ones follow ImageNet's."""


class Task(NamedTuple):
    """Everything about the data and the backbone that a model depends on.

    Attributes:
        size: Side of the views in pixels.
        images: Number of images to train with.
        batch: Images in a batch.
        classes: Number of labels; 0 if unknown.
        maps: Names of the two modules of the backbone whose outputs are AMDIM's local features, the coarser first;
            by default those of torchvision's ResNets.
    """

    size: int
    images: int
    batch: int
    classes: int = 0
    maps: tuple[str, str] = ("layer3", "layer2")


class Method(NamedTuple):
    """One row of the table.

    Attributes:
        title: Name as in `docs/methods.md`.
        views: Builds the collate function from the side of the views and the options of `BaseCollateFunction`.
        small: Builds the model with heads and queues for small data: those that `docs/methods.md` measures.
        paper: Builds the model with the heads and queues of its paper.
        norm: Normalisation that the backbone needs, as in `lightly_aug.models.resnet`.
        labels: Whether the method needs labels of some images, in batches of a `SupportBatchSampler`.
    """

    title: str
    views: Callable[..., BaseCollateFunction]
    small: Callable[[nn.Module, Task], SSLModel]
    paper: Callable[[nn.Module, Task], SSLModel]
    norm: Literal["batch", "layer"] = "batch"
    labels: bool = False


def queue_size(task: Task, most: int) -> int:
    """Return how many keys a queue holds, or how many negatives PIRL draws.

    That is the largest power of two up to half the images, but at least a batch and at most the paper's number.

    Args:
        task: The task.
        most: The paper's number.

    Example:
        >>> queue_size(Task(size=32, images=3000, batch=128), most=65536)
        1024
    """
    return min(most, max(task.batch, _power_of_two(task.images // 2)))


def prototype_count(task: Task) -> int:
    """Return how many prototypes SwAV has: the largest power of two up to a 32nd of the images, but 16 to 3000."""
    return min(3000, max(16, _power_of_two(task.images // 32)))


def _power_of_two(most: int) -> int:
    return 1 << (max(1, most).bit_length() - 1)


def _small_side(size: int) -> int:
    """Return the side of small views: near 96 for 224, and a multiple of 16, for the patches of ViTs.

    Example:
        >>> [_small_side(size) for size in (64, 96, 224, 448)]
        [32, 48, 96, 192]
    """
    return max(16, round(size * 96 / 224 / 16) * 16)


def _simclr_views(size: int, **options: Unpack[Options]) -> BaseCollateFunction:
    if size <= _SMALL:
        return SimCLRCollateFunction(size, strength=0.5, blur=0, normalize=Normalize(), **options)
    return SimCLRCollateFunction(size, **options)


def _swav_views(size: int, **options: Unpack[Options]) -> BaseCollateFunction:
    if size <= _SMALL:
        return SwaVCollateFunction(size, max(1, size // 2), 4, **options)
    return SwaVCollateFunction(size, _small_side(size), **options)


def _dino_views(size: int, **options: Unpack[Options]) -> BaseCollateFunction:
    if size <= _SMALL:
        return DINOCollateFunction(size, max(1, size // 2), 4, **options)
    return DINOCollateFunction(size, _small_side(size), **options)


def _pirl_views(size: int, **options: Unpack[Options]) -> BaseCollateFunction:
    if size <= _SMALL:
        return PIRLCollateFunction(size, max(1, size * 3 // 8), size * 3 // 2, **options)
    return PIRLCollateFunction(size, size * 64 // 224, size * 255 // 224, **options)


def _paws_views(size: int, **options: Unpack[Options]) -> BaseCollateFunction:
    if size <= _SMALL:
        return PAWSCollateFunction(size, max(1, size * 9 // 16), 4, recipe="cifar", normalize=Normalize(), **options)
    return PAWSCollateFunction(size, _small_side(size), **options)


def _cpc_grid(size: int) -> tuple[int, int, int]:
    """Return CPC's patches in a row, their side and their stride: 4 x 4 from small images, else the paper's 7 x 7.

    Small patches are half of `size`, cut from images a quarter larger; the paper's are a quarter of it.
    """
    grid, stride = (4, max(1, size // 4)) if size <= _SMALL else (7, size // 8)
    return grid, 2 * stride, stride


def _cpc_views(size: int, **options: Unpack[Options]) -> BaseCollateFunction:
    grid, patch, stride = _cpc_grid(size)
    return CPCCollateFunction((grid + 1) * stride, patch, stride, **options)


def _cpc(backbone: nn.Module, task: Task, **options: Any) -> CPC:
    grid, patch, stride = _cpc_grid(task.size)
    return CPC(backbone, patch=patch, stride=stride, grid=grid, **options)


METHODS: Final[dict[str, Method]] = {
    "simclr": Method(
        "SimCLR v1",
        _simclr_views,
        small=lambda f, t: SimCLR(f, version=1, temperature=0.5),
        paper=lambda f, t: SimCLR(f, version=1),
    ),
    "simclr-v2": Method(
        "SimCLR v2",
        _simclr_views,
        small=lambda f, t: SimCLR(f, version=2, temperature=0.5),
        paper=lambda f, t: SimCLR(f, version=2),
    ),
    "moco-v1": Method(
        "MoCo v1",
        partial(MoCoCollateFunction, version=1),
        small=lambda f, t: MoCo(f, version=1, queue=queue_size(t, 65536), momentum=0.99),
        paper=lambda f, t: MoCo(f, version=1),
    ),
    "moco": Method(
        "MoCo v2",
        partial(MoCoCollateFunction, version=2),
        small=lambda f, t: MoCo(f, version=2, queue=queue_size(t, 65536), momentum=0.99),
        paper=lambda f, t: MoCo(f, version=2),
    ),
    "moco-v3": Method(
        "MoCo v3",
        partial(MoCoCollateFunction, version=3),
        small=lambda f, t: MoCoV3(f, hidden=512, dim=128, momentum=0.99),
        paper=lambda f, t: MoCoV3(f),
    ),
    "byol": Method(
        "BYOL",
        BYOLCollateFunction,
        small=lambda f, t: BYOL(f, hidden=512, dim=128, momentum=0.99),
        paper=lambda f, t: BYOL(f),
    ),
    "simsiam": Method(
        "SimSiam",
        SimSiamCollateFunction,
        small=lambda f, t: SimSiam(f, dim=512, bottleneck=128),
        paper=lambda f, t: SimSiam(f),
    ),
    "barlow-twins": Method(
        "Barlow Twins",
        BarlowTwinsCollateFunction,
        small=lambda f, t: BarlowTwins(f, dim=512),
        paper=lambda f, t: BarlowTwins(f),
    ),
    "nnclr": Method(
        "NNCLR",
        NNCLRCollateFunction,
        small=lambda f, t: NNCLR(f, hidden=512, predictor_hidden=512, dim=128, queue=queue_size(t, 98304)),
        paper=lambda f, t: NNCLR(f),
    ),
    "swav": Method(
        "SwAV",
        _swav_views,
        small=lambda f, t: SwaV(f, hidden=512, prototypes=prototype_count(t)),
        paper=lambda f, t: SwaV(f),
    ),
    "dino": Method(
        "DINO",
        _dino_views,
        small=lambda f, t: DINO(f, hidden=512, bottleneck=128, dim=256, momentum=0.99, frozen_until=0),
        paper=lambda f, t: DINO(f),
    ),
    "pirl": Method(
        "PIRL",
        _pirl_views,
        small=lambda f, t: PIRL(f, images=t.images, negatives=queue_size(t, 32000), temperature=0.1, loss="info_nce"),
        paper=lambda f, t: PIRL(f, images=t.images),
    ),
    "paws": Method(
        "PAWS",
        _paws_views,
        small=lambda f, t: PAWS(f, classes=t.classes, hidden=128, dim=128, predictor=False, support_views=2),
        paper=lambda f, t: PAWS(f, classes=t.classes),
        labels=True,
    ),
    "amdim": Method(
        "AMDIM",
        AMDIMCollateFunction,
        small=lambda f, t: AMDIM(f, maps=t.maps, size=t.size),
        paper=lambda f, t: AMDIM(f, maps=t.maps, size=t.size),
    ),
    "cpc": Method(
        "CPC v2",
        _cpc_views,
        small=partial(_cpc, context=64, blocks=2),
        paper=_cpc,
        norm="layer",
    ),
    "looc": Method(
        "LooC",
        LooCCollateFunction,
        small=lambda f, t: LooC(f, queue=queue_size(t, 16384), momentum=0.99),
        paper=lambda f, t: LooC(f),
    ),
}
"""The methods by their names on the command line, in the order of `docs/methods.md`.

Arguments that are left out are the paper's, which are the defaults of the classes.
"""
