"""Operations that change colours: jitter, grayscale, equalize. Named as in torchvision."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from typing import ClassVar, Final

import kornia
import numpy as np
import torch
from torch import Tensor

from lightly_aug.checks import check_choice, check_interval, check_share
from lightly_aug.operations.base import Convention, Floats, Ints, Operation, bernoulli, change_where

__all__ = ["JITTER_ORDERS", "ColorJitter", "RandomEqualize", "RandomGrayscale"]

JITTER_ORDERS: Final = tuple(permutations(("brightness", "contrast", "saturation", "hue")))
"""The 24 orders in which `ColorJitter` can apply its four parts; its column `order` is an index into them."""

_NEUTRAL: Final = {"brightness": 1.0, "contrast": 1.0, "saturation": 1.0, "hue": 0.0}


@dataclass(frozen=True)
class ColorJitter(Operation):
    """Change brightness, contrast, saturation and hue, with probability `p`: `torchvision.transforms.v2.ColorJitter`.

    Multiplicative brightness, contrast about the mean gray of the running view, saturation about each pixel's
    gray, hue in HSV; in a random order for every image, each clamped to [0, 1]. The convention "tensorflow" is that of
    the code of SimCLR v1 and BYOL: brightness adds the factor - 1, contrast is about the mean of each
    channel, saturation multiplies S in HSV; the rest is the same. The fast engines leave it to the reference.

    Args:
        brightness: Range of the factor, >= 0; one number b means (max(0, 1 - b), 1 + b).
        contrast: Range of the factor, in the same form.
        saturation: Range of the factor, in the same form; anything but 0 needs RGB.
        hue: Range of the shift in turns within [-0.5, 0.5]; one number h means (-h, h); anything but 0 needs RGB.
        p: Probability; torchvision writes it `RandomApply([ColorJitter(...)], p)`.
        convention: "torchvision" or "tensorflow".

    Attributes:
        ranges: The four ranges as (low, high), by name.
    """

    brightness: float | tuple[float, float] = 0.0
    contrast: float | tuple[float, float] = 0.0
    saturation: float | tuple[float, float] = 0.0
    hue: float | tuple[float, float] = 0.0
    p: float = 1.0
    convention: Convention = "torchvision"
    ranges: dict[str, tuple[float, float]] = field(init=False, repr=False, compare=False)

    columns: ClassVar[tuple[str, ...]] = ("applied", *_NEUTRAL, "order")
    uniforms: ClassVar[int] = 6

    def __post_init__(self) -> None:
        object.__setattr__(self, "ranges", {name: self._range(name) for name in _NEUTRAL})
        check_share(self, p=self.p)
        check_choice(self, ("torchvision", "tensorflow"), convention=self.convention)

    def _range(self, name: str) -> tuple[float, float]:
        value = getattr(self, name)
        low, high = (-0.5, 0.5) if name == "hue" else (0.0, math.inf)
        if isinstance(value, Sequence):
            check_interval(self, low, high, open_low=False, **{name: value})
            object.__setattr__(self, name, tuple(value))
            return value[0], value[1]
        if not 0 <= value <= high or math.isinf(value):
            raise ValueError(f"ColorJitter: {name} must be a range or a number in [0, {high}], got {value!r}")
        return (-value, value) if name == "hue" else (max(0.0, 1.0 - value), 1.0 + value)

    @property
    def needs_unit_range(self) -> bool:
        return True

    @property
    def channels(self) -> tuple[int, ...] | None:
        if self.ranges["saturation"] != (1.0, 1.0) or self.ranges["hue"] != (0.0, 0.0):
            return (3,)
        grays = self.ranges["contrast"] != (1.0, 1.0) and self.convention == "torchvision"
        return (1, 3) if grays else None

    def draw(self, u: Floats, height: Ints, width: Ints) -> Floats:
        low, high = np.array([*self.ranges.values()]).T
        applied = u[:, :1] < self.p
        factors = np.where(applied, low + u[:, 1:5] * (high - low), [*_NEUTRAL.values()])
        return np.concatenate([applied, factors, np.floor(24 * u[:, 5:])], axis=1)

    def apply(self, images: Tensor, drawn: Tensor) -> Tensor:
        applied, *factors, order = drawn.T
        x = change_where(applied > 0, images, lambda some, _: some.clamp(0, 1))
        orders = [JITTER_ORDERS[int(i)] for i in order]
        for step in range(4):
            for (name, adjust), factor in zip(_ADJUST[self.convention].items(), factors, strict=True):
                now = torch.tensor([parts[step] == name for parts in orders])
                now &= (applied > 0) & (factor != _NEUTRAL[name])
                x = change_where(now, x, lambda some, own, adjust=adjust: adjust(some, own[:, 0]), factor[:, None])  # type: ignore[misc]
        return x

    def caption(self, drawn: Sequence[float]) -> str:
        applied, *factors, order = drawn
        if not applied:
            return ""
        values = dict(zip(_NEUTRAL, factors, strict=True))
        changing = [part for part in JITTER_ORDERS[int(order)] if self.ranges[part] != (_NEUTRAL[part],) * 2]
        return ", ".join(f"{part} {values[part]:.2f}" for part in changing)


@dataclass(frozen=True)
class RandomGrayscale(Operation):
    """Replace the colours by their BT.601 luma (.299, .587, .114), with probability `p`.

    Args:
        p: Probability.
    """

    p: float = 0.1

    columns: ClassVar[tuple[str, ...]] = ("applied",)
    uniforms: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_share(self, p=self.p)

    @property
    def channels(self) -> tuple[int, ...] | None:
        return (1, 3)

    def draw(self, u: Floats, height: Ints, width: Ints) -> Floats:
        return bernoulli(u, self.p)

    def apply(self, images: Tensor, drawn: Tensor) -> Tensor:
        return images if images.shape[1] == 1 else change_where(drawn[:, 0] > 0, images, _grayscale)

    def caption(self, drawn: Sequence[float]) -> str:
        return "gray" if drawn[0] else ""


@dataclass(frozen=True)
class RandomEqualize(Operation):
    """Flatten the histogram of each channel, with probability `p`: `PIL.ImageOps.equalize`.

    Values are rounded to 256 levels first, and the results are such levels. The fast engines leave it to the reference.

    Args:
        p: Probability.
    """

    p: float = 0.5

    columns: ClassVar[tuple[str, ...]] = ("applied",)
    uniforms: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_share(self, p=self.p)

    @property
    def needs_unit_range(self) -> bool:
        return True

    def draw(self, u: Floats, height: Ints, width: Ints) -> Floats:
        return bernoulli(u, self.p)

    def apply(self, images: Tensor, drawn: Tensor) -> Tensor:
        return change_where(drawn[:, 0] > 0, images, _equalize)

    def caption(self, drawn: Sequence[float]) -> str:
        return "equalize" if drawn[0] else ""


# --- pixels -----------------------------------------------------------------------------------------------------


def _adjust_contrast(x: Tensor, factor: Tensor) -> Tensor:
    gray = kornia.color.rgb_to_grayscale(x) if x.shape[1] == 3 else x
    factor = factor.view(-1, 1, 1, 1)
    return (factor * x + (1 - factor) * gray.mean((1, 2, 3), keepdim=True)).clamp(0, 1)


def _adjust_contrast_by_channel(x: Tensor, factor: Tensor) -> Tensor:
    factor = factor.view(-1, 1, 1, 1)
    return (factor * x + (1 - factor) * x.mean((2, 3), keepdim=True)).clamp(0, 1)


def _adjust_hue(x: Tensor, turns: Tensor) -> Tensor:
    return kornia.enhance.adjust_hue(x, turns * (2 * torch.pi))


_ADJUST: Final[dict[Convention, dict[str, Callable[[Tensor, Tensor], Tensor]]]] = {
    "torchvision": {
        "brightness": kornia.enhance.adjust_brightness_accumulative,
        "contrast": _adjust_contrast,
        "saturation": kornia.enhance.adjust_saturation_with_gray_subtraction,
        "hue": _adjust_hue,
    },
    "tensorflow": {
        "brightness": lambda x, factor: (x + (factor - 1).view(-1, 1, 1, 1)).clamp(0, 1),
        "contrast": _adjust_contrast_by_channel,
        "saturation": kornia.enhance.adjust_saturation,
        "hue": _adjust_hue,
    },
}


def _grayscale(x: Tensor, _: Tensor) -> Tensor:
    return kornia.color.rgb_to_grayscale(x).repeat(1, 3, 1, 1)


def _equalize(x: Tensor, _: Tensor) -> Tensor:
    """Map level v to the number of pixels below it, in steps that take all but the last level to 255, as Pillow."""
    levels = (x.clamp(0, 1) * 255).round().long().flatten(2)
    counts = torch.zeros((*levels.shape[:2], 256), dtype=torch.long, device=x.device)
    counts.scatter_add_(-1, levels, torch.ones_like(levels))
    step = (levels.shape[-1] - counts.gather(-1, levels.amax(-1, keepdim=True))) // 255
    below = counts.cumsum(-1) - counts
    table = ((below + step // 2) // step.clamp(min=1)).clamp(max=255)
    equal = table.gather(-1, levels).view_as(x).to(x.dtype) / 255
    return torch.where(step[..., None] > 0, equal, x)  # images of few pixels or of one level stay as they are
