"""Optimisers and schedules as plain data: those of the papers, and one for small data."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

import torch
from torch import nn

from lightly_aug.checks import check_choice
from lightly_aug.status import count_of
from lightly_aug.train.lars import LARS

__all__ = ["PAPERS", "SMALL", "Optimization", "Paper", "choose_optimization"]


@dataclass(frozen=True)
class Optimization:
    """An optimiser and the schedules of its learning rate and weight decay.

    Attributes:
        optimizer: `"sgd"`, `"lars"`, `"adamw"` or `"adam"`.
        lr: Highest learning rate: at a batch of 256 images if `scaled`, otherwise at any batch.
        weight_decay: Weight decay at the beginning.
        source: Where the numbers are from.
        scaled: Multiply the learning rate by the images of an optimiser step / 256.
        momentum: Momentum of `"sgd"` and `"lars"`.
        betas: Decay rates of `"adamw"` and `"adam"`.
        warmup: Epochs in which the learning rate rises linearly; at most a tenth of the training.
        start_lr: Learning rate at the beginning of the warm-up, as a share of `lr`.
        final_lr: Learning rate at the end of the cosine, as a share of `lr`.
        drops: Shares of the training after which the learning rate is multiplied by `drop`, in place of the cosine.
        drop: See `drops`.
        final_weight_decay: Weight decay at the end of its cosine; by default it is constant.
        exclude: Biases and the parameters of normalisation layers, which are those of one dimension, get no weight
            decay, and LARS does not adapt them.
        excluded_lr: Learning rate of the excluded parameters, as a share of `lr`.
        fixed: Names of submodules of the method whose learning rate stays at `lr`.
        clip: Largest norm of the gradient of each parameter, clipped separately; 0 for none.
        sync_batchnorm: Whether the paper computes BatchNorm statistics over all devices.
    """

    optimizer: Literal["sgd", "lars", "adamw", "adam"]
    lr: float
    weight_decay: float
    source: str = ""
    scaled: bool = True
    momentum: float = 0.9
    betas: tuple[float, float] = (0.9, 0.999)
    warmup: float = 0.0
    start_lr: float = 0.0
    final_lr: float = 0.0
    drops: tuple[float, ...] = ()
    drop: float = 0.1
    final_weight_decay: float | None = None
    exclude: bool = False
    excluded_lr: float = 1.0
    fixed: tuple[str, ...] = ()
    clip: float = 0.0
    sync_batchnorm: bool = False

    def __post_init__(self) -> None:
        check_choice("Optimization", ("sgd", "lars", "adamw", "adam"), optimizer=self.optimizer)
        least = {"weight_decay": 0.0, "momentum": 0.0, "warmup": 0.0, "start_lr": 0.0, "final_lr": 0.0, "clip": 0.0}
        for name, low in least.items():
            if getattr(self, name) < low:
                raise ValueError(f"Optimization: {name} must be at least {low:g}, got {getattr(self, name)}")
        if self.lr <= 0:
            raise ValueError(f"Optimization: lr must be above 0, got {self.lr}")

    def peak_lr(self, batch: int) -> float:
        """Return the highest learning rate for a number of images in an optimiser step, on all devices together.

        Example:
            >>> round(Optimization("sgd", lr=0.03, weight_decay=1e-4).peak_lr(batch=1024), 6)
            0.12
        """
        return self.lr * batch / 256 if self.scaled else self.lr

    def warmup_steps(self, total: int, epochs: float) -> int:
        """Return the length of the warm-up in optimiser steps, of `total` in `epochs`."""
        return round(min(self.warmup / epochs, 0.1) * total)

    def lr_share(self, step: int, total: int, warmup: int = 0) -> float:
        """Return the learning rate of an optimiser step, as a share of the highest.

        Args:
            step: Number of the step, from 0.
            total: Steps of the training.
            warmup: Steps of the warm-up.
        """
        if step < warmup:
            return self.start_lr + (1 - self.start_lr) * step / warmup
        if self.drops:
            return self.drop ** sum(step >= round(share * total) for share in self.drops)
        return _cosine(1.0, self.final_lr, (step - warmup) / max(1, total - warmup))

    def decay(self, step: int, total: int) -> float:
        """Return the weight decay of an optimiser step, from 0, of `total`."""
        last = self.final_weight_decay
        return self.weight_decay if last is None else _cosine(self.weight_decay, last, step / total)

    def groups(self, model: nn.Module, batch: int) -> list[dict[str, Any]]:
        """Divide the trained parameters of a model into the groups of an optimiser.

        Args:
            model: The method.
            batch: Images in an optimiser step, on all devices together.

        Returns:
            Parameter groups with `params`, `lr`, `weight_decay`, `fixed` and, for LARS, `adapt`.

        Raises:
            ValueError: The model has no submodule of a name in `fixed`, or nothing to train.
        """
        for name in self.fixed:
            if not isinstance(getattr(model, name, None), nn.Module):
                raise ValueError(f"Optimization: {type(model).__name__} has no submodule {name!r} to fix the rate of")
        groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                excluded = self.exclude and parameter.ndim <= 1
                fixed = name.split(".")[0] in self.fixed
                groups.setdefault((excluded, fixed), []).append(parameter)
        if not groups:
            raise ValueError(f"Optimization: no parameter of {type(model).__name__} requires a gradient")
        peak = self.peak_lr(batch)
        return [
            {
                "params": parameters,
                "lr": peak * (self.excluded_lr if excluded else 1.0),
                "weight_decay": 0.0 if excluded else self.weight_decay,
                "fixed": fixed,
            }
            | ({"adapt": not excluded} if self.optimizer == "lars" else {})
            for (excluded, fixed), parameters in groups.items()
        ]

    def build(self, groups: Iterable[dict[str, Any]]) -> torch.optim.Optimizer:
        """Make the optimiser of parameter groups, as from `groups`."""
        match self.optimizer:
            case "sgd":
                return torch.optim.SGD(groups, lr=self.lr, momentum=self.momentum)
            case "lars":
                return LARS(groups, lr=self.lr, momentum=self.momentum)
            case "adamw":
                return torch.optim.AdamW(groups, lr=self.lr, betas=self.betas)
            case "adam":
                return torch.optim.Adam(groups, lr=self.lr, betas=self.betas)

    def describe(self, batch: int, total: int, epochs: float) -> str:
        """Say in one line what a run trains with.

        Args:
            batch: Images in an optimiser step, on all devices together.
            total: Optimiser steps of the run.
            epochs: Epochs of the run.

        Example:
            >>> MoCo = Optimization("sgd", lr=0.03, weight_decay=1e-4)
            >>> MoCo.describe(batch=64, total=700, epochs=100)
            'SGD, learning rate 0.0075 (0.03 x 64 / 256) to 0, weight decay 0.0001'
        """
        peak, warmup = self.peak_lr(batch), self.warmup_steps(total, epochs)
        scale = f" ({self.lr:g} x {batch} / 256)" if self.scaled else ""
        path = f"times {self.drop:g} at {', '.join(f'{s:.0%}' for s in self.drops)}" if self.drops else ""
        path = path or f"to {self.final_lr * peak:g}"
        rise = ""
        if self.warmup:
            rise = f", warm-up {count_of(warmup, 'step')}"
            if self.warmup > epochs / 10:
                rise += f" (a tenth of the run, not {self.warmup:g} epochs)"
        decay = f"weight decay {self.weight_decay:g}"
        if self.final_weight_decay is not None:
            decay += f" to {self.final_weight_decay:g}"
        name = {"sgd": "SGD", "lars": "LARS", "adamw": "AdamW", "adam": "Adam"}[self.optimizer]
        return f"{name}, learning rate {peak:g}{scale} {path}{rise}, {decay}"


def _cosine(first: float, last: float, share: float) -> float:
    return last + (first - last) * (1 + math.cos(math.pi * min(1.0, share))) / 2


class Paper(NamedTuple):
    """The optimisation of a method's paper.

    Attributes:
        optimization: With a convolutional backbone.
        batch: Images in a batch of the paper.
        epochs: Epochs of the paper.
        vit: With a vision transformer, where the paper has another.
        least: A smaller batch is too small for the method.
        reason: Why.
    """

    optimization: Optimization
    batch: int
    epochs: int
    vit: Optimization | None = None
    least: int = 2
    reason: str = ""


SMALL: Final = Optimization(
    "adamw", lr=1e-3, weight_decay=1e-4, scaled=False, warmup=10, source="measured: docs/methods.md"
)
"""For small data and small batches, with any method."""

_LEAST: Final = {
    "negatives": "its negatives are the other images of the batch",
    "heads": "its heads normalise over the batch",
    "correlations": "it estimates correlations between all outputs from the batch",
    "clusters": "it divides each batch evenly among its prototypes",
    "centre": "it centres and sharpens with statistics of the batch",
}

PAPERS: Final[dict[str, Paper]] = {
    "simclr": Paper(
        Optimization(
            "lars", 0.3, 1e-6, warmup=10, exclude=True, sync_batchnorm=True,
            source="google-research/simclr; there the learning rate is inside the momentum",
        ),
        batch=4096, epochs=1000, least=32, reason=_LEAST["negatives"],
    ),
    "simclr-v2": Paper(
        Optimization(
            "lars", 0.4, 1e-4, warmup=40, exclude=True, sync_batchnorm=True,
            source="6.4 at 4096 images and 5 % of warm-up, from memory of the paper, section 3; decay: its code",
        ),
        batch=4096, epochs=800, least=32, reason=_LEAST["negatives"],
    ),
    "moco-v1": Paper(
        Optimization("sgd", 0.03, 1e-4, drops=(0.6, 0.8), source="facebookresearch/moco"), batch=256, epochs=200
    ),
    "moco": Paper(
        Optimization("sgd", 0.03, 1e-4, source="facebookresearch/moco, whose cosine moves once an epoch"),
        batch=256, epochs=200,
    ),
    "moco-v3": Paper(
        Optimization(
            "lars", 0.3, 1e-6, warmup=10, exclude=True, sync_batchnorm=True,
            source="facebookresearch/moco-v3, 300 epochs (.6 for 100)",
        ),
        batch=4096, epochs=300, least=32, reason=_LEAST["negatives"],
        vit=Optimization("adamw", 1.5e-4, 0.1, warmup=40, source="facebookresearch/moco-v3, ViT"),
    ),
    "byol": Paper(
        Optimization(
            "lars", 0.2, 1.5e-6, warmup=10, exclude=True, sync_batchnorm=True,
            source="deepmind-research/byol, 1000 epochs (.3 and 1e-6 for 300, .45 and 1e-6 for 100)",
        ),
        batch=4096, epochs=1000, least=16, reason=_LEAST["heads"],
    ),
    "simsiam": Paper(
        Optimization(
            "sgd", 0.05, 1e-4, fixed=("predictor",), sync_batchnorm=True,
            source="facebookresearch/simsiam with --fix-pred-lr",
        ),
        batch=512, epochs=100, least=16, reason=_LEAST["heads"],
    ),
    "barlow-twins": Paper(
        Optimization(
            "lars", 0.2, 1e-6, warmup=10, final_lr=1e-3, exclude=True, excluded_lr=0.024, sync_batchnorm=True,
            source="facebookresearch/barlowtwins: .2 for weights, .0048 for biases and BatchNorm",
        ),
        batch=2048, epochs=1000, least=32, reason=_LEAST["correlations"],
    ),
    "nnclr": Paper(
        Optimization(
            "lars", 0.3, 1e-6, warmup=10, exclude=True, source="from memory of the paper, section 4; no official code"
        ),
        batch=4096, epochs=1000, least=32, reason=_LEAST["negatives"],
    ),
    "swav": Paper(
        Optimization(
            "lars", 0.3, 1e-6, warmup=10, start_lr=0.0625, final_lr=1e-3, sync_batchnorm=True,
            source="facebookresearch/swav, 4.8 at 4096 images; there LARC of apex",
        ),
        batch=4096, epochs=800, least=32, reason=_LEAST["clusters"],
    ),
    "dino": Paper(
        Optimization(
            "sgd", 0.03, 1e-4, warmup=10, exclude=True, clip=3.0, sync_batchnorm=True,
            source="facebookresearch/dino, ResNet-50",
        ),
        batch=1024, epochs=100, least=16, reason=_LEAST["centre"],
        vit=Optimization(
            "adamw", 5e-4, 0.04, final_weight_decay=0.4, warmup=10, final_lr=5e-4, exclude=True, clip=3.0,
            source="facebookresearch/dino, ViT: 1e-6 at the end",
        ),
    ),
    "pirl": Paper(
        Optimization("sgd", 0.03, 1e-4, final_lr=1e-3, exclude=True, source="facebookresearch/vissl"),
        batch=1024, epochs=800,
    ),
    "paws": Paper(
        Optimization(
            "lars", 0.4, 1e-6, warmup=10, start_lr=0.047, final_lr=0.01, exclude=True, sync_batchnorm=True,
            source="facebookresearch/suncet, .3 to 6.4 to .064 at 4096 images; there inside the momentum",
        ),
        batch=4096, epochs=300, least=16, reason=_LEAST["centre"],
    ),
    "amdim": Paper(
        Optimization(
            "adam", 2e-4, 1e-5, scaled=False, betas=(0.8, 0.999), warmup=0.4, drops=(250 / 300, 280 / 300), drop=0.2,
            source="Philip-Bachman/amdim-public; 500 steps of warm-up",
        ),
        batch=1008, epochs=300, least=16, reason=_LEAST["negatives"],
    ),
    "cpc": Paper(
        Optimization("adam", 4e-4, 0.0, scaled=False, source="from memory of the paper; no official code"),
        batch=512, epochs=200,
    ),
    "looc": Paper(
        Optimization("sgd", 0.03, 1e-4, drops=(0.6, 0.8), source="the paper, section 4; no official code"),
        batch=256, epochs=500,
    ),
}  # fmt: skip
"""The papers' optimisation by the names of `lightly_aug.methods.METHODS`, each with its source."""


def choose_optimization(method: str, *, paper: bool, vit: bool) -> Optimization:
    """Return the optimisation of a method.

    Args:
        method: A name of `lightly_aug.methods.METHODS`.
        paper: The paper's; otherwise `SMALL`.
        vit: Whether the backbone is a vision transformer.
    """
    check_choice("choose_optimization", list(PAPERS), method=method)
    row = PAPERS[method]
    return SMALL if not paper else (row.vit or row.optimization) if vit else row.optimization
