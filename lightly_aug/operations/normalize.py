"""Normalisation by mean and standard deviation."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import kornia
import torch
from torch import Tensor

from lightly_aug.operations.base import Floats, Ints, Operation, to_device

__all__ = ["Normalize"]


@dataclass(frozen=True)
class Normalize(Operation):
    """Subtract `mean` and divide by `std`, channel by channel; the defaults are ImageNet's.

    Args:
        mean: One number a channel, or one for all channels.
        std: One number a channel, or one for all channels, > 0.
    """

    mean: float | tuple[float, ...] = (0.485, 0.456, 0.406)
    std: float | tuple[float, ...] = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            value = getattr(self, name)
            values = tuple(map(float, value)) if isinstance(value, Iterable) else (float(value),)
            object.__setattr__(self, name, values)
            if not all(math.isfinite(v) and (name == "mean" or v > 0) for v in values):
                raise ValueError(f"Normalize: {name} must be finite{' and > 0' * (name == 'std')}, got {value!r}")
        if len({len(v) for v in (self.mean, self.std) if isinstance(v, tuple) and len(v) > 1}) > 1:
            raise ValueError(f"Normalize: mean {self.mean} and std {self.std} are for different numbers of channels")

    @property
    def needs_unit_range(self) -> bool:
        return self == Normalize()  # ImageNet's numbers are of such values

    @property
    def channels(self) -> tuple[int, ...] | None:
        count = max(len(v) for v in (self.mean, self.std) if isinstance(v, tuple))
        return None if count == 1 else (count,)

    def draw(self, u: Floats, height: Ints, width: Ints) -> Floats:
        return u

    def apply(self, images: Tensor, drawn: Tensor) -> Tensor:
        mean, std = (to_device(torch.tensor(v, dtype=images.dtype), images) for v in (self.mean, self.std))
        return kornia.enhance.normalize(images, mean, std)
