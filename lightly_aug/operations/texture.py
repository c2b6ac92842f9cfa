"""Operations that change texture: blur, solarize. Named as in torchvision."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import kornia
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from lightly_aug.checks import check_choice, check_interval, check_share
from lightly_aug.operations.base import Border, Floats, Ints, Operation, bernoulli, between, change_where

__all__ = ["RandomGaussianBlur", "RandomSolarize"]


@dataclass(frozen=True)
class RandomGaussianBlur(Operation):
    """Blur with a Gaussian, with probability `p`.

    The kernel ends int(4 * sigma + 0.5) pixels from its centre, as in `scipy.ndimage.gaussian_filter` (the rest
    weighs less than 1e-4).

    Args:
        sigma: Range of the standard deviation in pixels of the view, 0 < low <= high.
        p: Probability.
        border: What the blur sees outside the view: "reflect" mirrors the view about its outermost pixels, as
            torchvision; "zeros" darkens the border, as the code of SimCLR and BYOL does, and is left to the reference
            engine.
    """

    sigma: tuple[float, float] = (0.1, 2.0)
    p: float = 0.5
    border: Border = "reflect"

    columns: ClassVar[tuple[str, ...]] = ("sigma",)
    uniforms: ClassVar[int] = 2

    def __post_init__(self) -> None:
        check_interval(self, 0, math.inf, open_low=True, sigma=self.sigma)
        object.__setattr__(self, "sigma", tuple(self.sigma))
        check_share(self, p=self.p)
        check_choice(self, ("reflect", "zeros"), border=self.border)

    def draw(self, u: Floats, height: Ints, width: Ints) -> Floats:
        return bernoulli(u, self.p) * between(u[:, 1:], self.sigma)

    def apply(self, images: Tensor, drawn: Tensor) -> Tensor:
        sigma, x = drawn[:, 0], images
        radii = (4 * sigma + 0.5).long()
        for radius in set(radii.tolist()):
            if radius > 0:
                blur = partial(_blur, radius=radius, border=self.border)
                x = change_where(radii == radius, x, blur, sigma[:, None])
        return x

    def caption(self, drawn: Sequence[float]) -> str:
        return f"blur {drawn[0]:.1f}" if drawn[0] else ""


@dataclass(frozen=True)
class RandomSolarize(Operation):
    """Invert every value that is at least the threshold, with probability `p`.

    Args:
        threshold: In [0, 1], or a range from which it is drawn for every image.
        p: Probability.
    """

    threshold: float | tuple[float, float] = 0.5
    p: float = 0.5

    columns: ClassVar[tuple[str, ...]] = ("applied", "threshold")
    uniforms: ClassVar[int] = 2

    def __post_init__(self) -> None:
        check_interval(self, 0, 1, threshold=self._range)
        if isinstance(self.threshold, Sequence):
            object.__setattr__(self, "threshold", tuple(self.threshold))
        check_share(self, p=self.p)

    @property
    def needs_unit_range(self) -> bool:
        return True

    @property
    def _range(self) -> tuple[float, float]:
        return self.threshold if isinstance(self.threshold, Sequence) else (self.threshold, self.threshold)

    def draw(self, u: Floats, height: Ints, width: Ints) -> Floats:
        return np.concatenate([bernoulli(u, self.p), between(u[:, 1:], self._range)], axis=1)

    def apply(self, images: Tensor, drawn: Tensor) -> Tensor:
        return change_where(drawn[:, 0] > 0, images, lambda some, own: kornia.enhance.solarize(some, own[:, 1]), drawn)

    def caption(self, drawn: Sequence[float]) -> str:
        return "solarize" if drawn[0] else ""


def _blur(x: Tensor, sigma: Tensor, radius: int, border: Border) -> Tensor:
    """Blur images whose kernels have one radius, each with its own sigma `(n, 1)`."""
    kernel = kornia.filters.get_gaussian_kernel1d(2 * radius + 1, sigma, device=x.device, dtype=x.dtype)
    if border == "zeros":
        x = pad(x, (radius,) * 4)
        return kornia.filters.filter2d_separable(x, kernel, kernel, padding="valid")
    for dim in (-1, -2):  # by index: Kornia refuses a reflection longer than the image
        side = x.shape[dim]
        at = torch.arange(-radius, side + radius, device=x.device) % max(1, 2 * side - 2)
        x = x.index_select(dim, torch.minimum(at, (2 * side - 2 - at).abs()))
    return kornia.filters.filter2d_separable(x, kernel, kernel, padding="valid")
