"""Operations that move pixels: crops, flips, rotations, resizes, windows. Named as in torchvision."""

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import kornia
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from lightly_aug.checks import check_choice, check_integer, check_interval, check_share
from lightly_aug.operations.base import (
    Floats,
    Interpolation,
    Ints,
    Operation,
    affine,
    bernoulli,
    between,
    change_where,
    to_unit,
)

__all__ = [
    "CenterCrop",
    "Crop",
    "RandomHorizontalFlip",
    "RandomJigsawPatch",
    "RandomResizedCrop",
    "RandomRotation",
    "RandomRotation90",
    "RandomVerticalFlip",
    "Resize",
    "Window",
]


@dataclass(frozen=True)
class RandomResizedCrop(Operation):
    """Crop a random part of the image and resize it: `torchvision.transforms.v2.RandomResizedCrop`.

    Up to ten tries of an area uniform in `scale` and an aspect ratio log-uniform in `ratio`, else the largest
    centred crop within `ratio`. The resize is antialiased, as in torchvision and Pillow; `antialias=False` is
    Kornia's with `align_corners=False`. Bicubic results are clamped to [0, 1] where the image is uint8.

    Args:
        size: Output side, or (height, width), in pixels.
        scale: Area of the crop as a share of the image, 0 < low <= high.
        ratio: Aspect ratio width / height of the crop, 0 < low <= high.
        interpolation: "bilinear" or "bicubic", or torchvision's `InterpolationMode`.
        antialias: Whether to low-pass before shrinking.

    Raises:
        ValueError: An argument is outside its range.
    """

    size: int | tuple[int, int]
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    interpolation: Interpolation = "bilinear"
    antialias: bool = True

    columns: ClassVar[tuple[str, ...]] = ("top", "left", "height", "width")
    uniforms: ClassVar[int] = 22
    takes_uint8: ClassVar[bool] = True  # cuts before it converts

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", _pair(self, self.size))
        for name in ("scale", "ratio"):
            check_interval(self, 0, math.inf, open_low=True, **{name: getattr(self, name)})
            object.__setattr__(self, name, tuple(getattr(self, name)))
        # torchvision's InterpolationMode has these values
        object.__setattr__(self, "interpolation", getattr(self.interpolation, "value", self.interpolation))
        check_choice(self, ("bilinear", "bicubic"), interpolation=self.interpolation)

    def draw(self, u: Floats, height: Ints, width: Ints) -> Floats:
        area = (height * width)[:, None] * between(u[:, 0:20:2], self.scale)
        ratio = np.exp(between(u[:, 1:20:2], (math.log(self.ratio[0]), math.log(self.ratio[1]))))
        sides = np.array([height, width])
        tries = np.rint(np.sqrt([area / ratio, area * ratio]))  # (side, image, try)
        fits = np.all((tries > 0) & (tries <= sides[..., None]), axis=0)
        images, first = np.arange(len(u)), fits.argmax(axis=1)
        crop = tries[:, images, first]
        place = np.floor(u[:, 20:22].T * (sides - crop + 1))
        fails = ~fits[images, first]
        if fails.any():  # the whole image, cut to the nearest ratio allowed
            widest, highest = np.rint(height * self.ratio[1]), np.rint(width / self.ratio[0])
            whole = np.minimum(sides, np.maximum(1, [highest, widest]))
            crop = np.where(fails, whole, crop)
            place = np.where(fails, (sides - crop) // 2, place)
        return np.concatenate([place, crop]).T

    def check_boxes(self, height: Ints, width: Ints, drawn: Floats) -> None:
        """Raise ValueError for boxes that are not inside their images, which draws by hand may be.

        Args:
            height: `(n,)` heights of the images, in pixels.
            width: `(n,)` widths.
            drawn: `(n, 4)` top, left, height and width of each box.
        """
        top, left, h, w = drawn.T
        outside = (np.minimum(top, left) < 0) | (np.minimum(h, w) < 1) | (top + h > height) | (left + w > width)
        if outside.any():
            i = outside.argmax()
            box = dict(zip(self.columns, drawn[i].tolist(), strict=True))
            raise ValueError(
                f"RandomResizedCrop: the box of an image of {width[i]} x {height[i]} must be inside it, got {box}: "
                "draws fit images of the sizes that they were made for"
            )

    def apply(self, images: Tensor, drawn: Tensor) -> Tensor:
        assert isinstance(self.size, tuple)
        size = self.size
        height, width = (side.repeat(len(images)) for side in _sides(images))
        self.check_boxes(height, width, drawn.double().numpy())
        crops = (
            image[None, :, top : top + h, left : left + w]
            for image, (top, left, h, w) in zip(images, drawn.long().tolist(), strict=True)
        )
        return torch.cat([_resize(crop, size, self.interpolation, self.antialias, drawn.dtype) for crop in crops])

    def output_size(self, height: Ints, width: Ints, drawn: Floats) -> tuple[Ints, Ints]:
        return _full(self.size, height)

    def matrix(self, height: Ints, width: Ints, drawn: Floats) -> Floats:
        top, left, h, w = drawn.T
        out_h, out_w = self.output_size(height, width, drawn)
        return _scaling(out_w / w, out_h / h) @ _translation(-left, -top)

    def caption(self, drawn: Sequence[float]) -> str:
        return f"crop {drawn[3]:.0f} × {drawn[2]:.0f}"


@dataclass(frozen=True)
class RandomHorizontalFlip(Operation):
    """Mirror left and right, with probability `p`.

    Args:
        p: Probability.
    """

    p: float = 0.5

    columns: ClassVar[tuple[str, ...]] = ("applied",)
    uniforms: ClassVar[int] = 1
    takes_uint8: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_share(self, p=self.p)

    def draw(self, u: Floats, height: Ints, width: Ints) -> Floats:
        return bernoulli(u, self.p)

    def apply(self, images: Tensor, drawn: Tensor) -> Tensor:
        return change_where(drawn[:, 0] > 0, images, lambda some, _: kornia.geometry.hflip(some))

    def matrix(self, height: Ints, width: Ints, drawn: Floats) -> Floats:
        flip = drawn[:, 0] > 0
        return affine(np.where(flip, -1.0, 1.0), 0.0, np.where(flip, width - 1, 0), 0.0, 1.0, 0.0)

    def caption(self, drawn: Sequence[float]) -> str:
        return "flip" if drawn[0] else ""


@dataclass(frozen=True)
class RandomVerticalFlip(Operation):
    """Mirror top and bottom, with probability `p`.

    Args:
        p: Probability.
    """

    p: float = 0.5

    columns: ClassVar[tuple[str, ...]] = ("applied",)
    uniforms: ClassVar[int] = 1
    takes_uint8: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_share(self, p=self.p)

    def draw(self, u: Floats, height: Ints, width: Ints) -> Floats:
        return bernoulli(u, self.p)

    def apply(self, images: Tensor, drawn: Tensor) -> Tensor:
        return change_where(drawn[:, 0] > 0, images, lambda some, _: kornia.geometry.vflip(some))

    def matrix(self, height: Ints, width: Ints, drawn: Floats) -> Floats:
        flip = drawn[:, 0] > 0
        return affine(1.0, 0.0, 0.0, 0.0, np.where(flip, -1.0, 1.0), np.where(flip, height - 1, 0))

    def caption(self, drawn: Sequence[float]) -> str:
        return "vertical flip" if drawn[0] else ""


@dataclass(frozen=True)
class RandomRotation90(Operation):
    """Rotate by 0 to 3 quarter turns, equally likely, with probability `p`.

    The turns are exact and counter-clockwise, as in `torch.rot90`. The image must be square, or be cropped later.

    Args:
        p: Probability.
    """

    p: float = 0.5

    columns: ClassVar[tuple[str, ...]] = ("turns",)
    uniforms: ClassVar[int] = 2
    takes_uint8: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_share(self, p=self.p)

    def draw(self, u: Floats, height: Ints, width: Ints) -> Floats:
        return bernoulli(u, self.p) * np.floor(4 * u[:, 1:])

    def apply(self, images: Tensor, drawn: Tensor) -> Tensor:
        turns = drawn[:, 0]
        if images.shape[-2] != images.shape[-1]:
            turned = (torch.rot90(image, int(k), (-2, -1)) for image, k in zip(images, turns, strict=True))
            return torch.stack(list(turned))
        for k in (1, 2, 3):
            images = change_where(turns == k, images, lambda some, _, k=k: torch.rot90(some, k, (-2, -1)))  # type: ignore[misc]
        return images

    def output_size(self, height: Ints, width: Ints, drawn: Floats) -> tuple[Ints, Ints]:
        odd = drawn[:, 0] % 2 == 1
        return np.where(odd, width, height), np.where(odd, height, width)

    def matrix(self, height: Ints, width: Ints, drawn: Floats) -> Floats:
        turns = drawn[:, 0]
        cos, sin = np.select([turns == 0, turns == 2], [1.0, -1.0]), np.select([turns == 1, turns == 3], [1.0, -1.0])
        x = np.select([turns == 2, turns == 3], [width - 1, height - 1], 0)
        y = np.select([turns == 1, turns == 2], [width - 1, height - 1], 0)
        return affine(cos, sin, x, -sin, cos, y)

    def caption(self, drawn: Sequence[float]) -> str:
        return f"turn {90 * drawn[0]:.0f}°" if drawn[0] else ""


@dataclass(frozen=True)
class RandomRotation(Operation):
    """Rotate about the centre by an angle uniform in `degrees`, with probability `p`; bilinear, zeros outside.

    Args:
        degrees: Range of the angle, counter-clockwise, in degrees; one number d means (-d, d).
        p: Probability.
    """

    degrees: float | tuple[float, float]
    p: float = 1.0

    columns: ClassVar[tuple[str, ...]] = ("degrees",)
    uniforms: ClassVar[int] = 2

    def __post_init__(self) -> None:
        degrees = self.degrees if isinstance(self.degrees, Sequence) else (-self.degrees, self.degrees)
        check_interval(self, -math.inf, math.inf, degrees=degrees)
        object.__setattr__(self, "degrees", tuple(degrees))
        check_share(self, p=self.p)

    def draw(self, u: Floats, height: Ints, width: Ints) -> Floats:
        assert isinstance(self.degrees, tuple)
        return bernoulli(u, self.p) * between(u[:, 1:], self.degrees)

    def apply(self, images: Tensor, drawn: Tensor) -> Tensor:
        return change_where(drawn[:, 0] != 0, images, _rotate, drawn)

    def matrix(self, height: Ints, width: Ints, drawn: Floats) -> Floats:
        cos, sin = np.cos(np.deg2rad(drawn[:, 0])), np.sin(np.deg2rad(drawn[:, 0]))
        x, y = (width - 1) / 2, (height - 1) / 2
        return affine(cos, sin, x - cos * x - sin * y, -sin, cos, y + sin * x - cos * y)

    def caption(self, drawn: Sequence[float]) -> str:
        return f"turn {drawn[0]:.0f}°" if drawn[0] else ""


@dataclass(frozen=True)
class Resize(Operation):
    """Resize, antialiased: `torchvision.transforms.v2.Resize`.

    Args:
        size: Length of the shorter side (the ratio is kept), or (height, width), in pixels.
        interpolation: "bilinear" or "bicubic", or torchvision's `InterpolationMode`.
        antialias: Whether to low-pass before shrinking.
    """

    size: int | tuple[int, int]
    interpolation: Interpolation = "bilinear"
    antialias: bool = True

    takes_uint8: ClassVar[bool] = True

    def __post_init__(self) -> None:
        pair = _pair(self, self.size)
        object.__setattr__(self, "size", pair if isinstance(self.size, Sequence) else pair[0])
        # torchvision's InterpolationMode has these values
        object.__setattr__(self, "interpolation", getattr(self.interpolation, "value", self.interpolation))
        check_choice(self, ("bilinear", "bicubic"), interpolation=self.interpolation)

    def draw(self, u: Floats, height: Ints, width: Ints) -> Floats:
        return u

    def apply(self, images: Tensor, drawn: Tensor) -> Tensor:
        height, width = self.output_size(*_sides(images), drawn.numpy())
        return _resize(images, (int(height[0]), int(width[0])), self.interpolation, self.antialias, drawn.dtype)

    def output_size(self, height: Ints, width: Ints, drawn: Floats) -> tuple[Ints, Ints]:
        if isinstance(self.size, tuple):
            return _full(self.size, height)
        short = np.minimum(height, width)
        return self.size * height // short, self.size * width // short

    def matrix(self, height: Ints, width: Ints, drawn: Floats) -> Floats:
        out_h, out_w = self.output_size(height, width, drawn)
        return _scaling(out_w / width, out_h / height)


class Window(Operation):
    """An operation that cuts a window of one size out of the image, with zeros where it is outside.

    Attributes:
        size: (height, width) of the window, in pixels.
    """

    size: int | tuple[int, int]

    takes_uint8: ClassVar[bool] = True

    @abstractmethod
    def offset(self, height: Ints, width: Ints, drawn: Floats) -> tuple[Ints, Ints]:
        """Return the (tops, lefts) of the windows in n images, negative where they begin outside.

        Args:
            height: `(n,)` heights of the images, in pixels.
            width: `(n,)` widths.
            drawn: `(n, len(columns))`.
        """

    def apply(self, images: Tensor, drawn: Tensor) -> Tensor:
        assert isinstance(self.size, tuple)
        h, w = self.size
        windows = images.new_zeros((*images.shape[:2], h, w))
        height, width = (side.repeat(len(images)) for side in _sides(images))
        tops, lefts = self.offset(height, width, drawn.numpy())
        for image, window, top, left in zip(images, windows, tops.tolist(), lefts.tolist(), strict=True):
            part = image[:, max(0, top) : max(0, top + h), max(0, left) : max(0, left + w)]
            y, x = max(0, -top), max(0, -left)
            window[:, y : y + part.shape[-2], x : x + part.shape[-1]] = part
        return windows

    def output_size(self, height: Ints, width: Ints, drawn: Floats) -> tuple[Ints, Ints]:
        return _full(self.size, height)

    def matrix(self, height: Ints, width: Ints, drawn: Floats) -> Floats:
        top, left = self.offset(height, width, drawn)
        return _translation(-left, -top)


@dataclass(frozen=True)
class CenterCrop(Window):
    """Cut out the centre: `torchvision.transforms.v2.CenterCrop`. Images that are too small are padded with zeros.

    Args:
        size: Output side, or (height, width), in pixels.
    """

    size: int | tuple[int, int]

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", _pair(self, self.size))

    def draw(self, u: Floats, height: Ints, width: Ints) -> Floats:
        return u

    def offset(self, height: Ints, width: Ints, drawn: Floats) -> tuple[Ints, Ints]:
        def start(crop: int, side: Ints) -> Ints:
            return np.where(crop > side, -((crop - side) // 2), np.rint((side - crop) / 2)).astype(np.int64)

        assert isinstance(self.size, tuple)
        return start(self.size[0], height), start(self.size[1], width)


@dataclass(frozen=True)
class Crop(Window):
    """Cut out a window at a fixed place: `torchvision.transforms.v2.functional.crop`. Zeros outside the image.

    Args:
        size: Output side, or (height, width), in pixels.
        top: First row, in pixels of the image; it may be outside.
        left: First column, in pixels of the image; it may be outside.
    """

    size: int | tuple[int, int]
    top: int
    left: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", _pair(self, self.size))
        check_integer(self, top=self.top, left=self.left)

    def draw(self, u: Floats, height: Ints, width: Ints) -> Floats:
        return u

    def offset(self, height: Ints, width: Ints, drawn: Floats) -> tuple[Ints, Ints]:
        return np.full_like(height, self.top), np.full_like(width, self.left)


@dataclass(frozen=True)
class RandomJigsawPatch(Window):
    """Cut a patch out of one cell of a grid, as in the jigsaws of PIRL (Misra and van der Maaten 2019, 1912.01991).

    The image is cut into `grid` x `grid` cells of side // grid pixels (the remainder at the right and at the bottom is
    not used), and the cells are assigned at random to the numbers 0 to grid**2 - 1. The patch is anywhere in its
    cell, all places equally likely. A patch larger than its cell is centred on it and shows what surrounds
    the cell, and zeros outside the image.

    Views with the numbers 0 to grid**2 - 1 under one `Shared` name show every cell once, each at a place of its own.

    Args:
        size: Side of the patch, or (height, width), in pixels.
        number: Which of the shuffled cells to show, 0 to grid**2 - 1.
        grid: Cells along either side, >= 1.
    """

    size: int | tuple[int, int]
    number: int
    grid: int = 3

    columns: ClassVar[tuple[str, ...]] = ("top", "left", "cell")

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", _pair(self, self.size))
        check_integer(self, number=self.number)
        check_integer(self, least=1, grid=self.grid)
        cells = self.grid**2
        if not 0 <= self.number < cells:
            raise ValueError(
                f"RandomJigsawPatch: number must lie in [0, {cells}), there are {cells} cells, got {self.number}"
            )

    @property
    def uniforms(self) -> int:  # type: ignore[override]
        return 3 * self.grid**2  # the shuffle, then a place for each number, so that views that share them differ

    def draw(self, u: Floats, height: Ints, width: Ints) -> Floats:
        assert isinstance(self.size, tuple)
        count = self.grid**2
        cell = u[:, :count].argsort(axis=1, kind="stable")[:, self.number]
        place = u[:, count + 2 * self.number :]

        def start(crop: int, side: Ints, at: Ints, u: Floats) -> Ints:
            room = side // self.grid - crop
            return side // self.grid * at + np.where(room < 0, -(-room // 2), np.floor(u * (room + 1)))

        top = start(self.size[0], height, cell // self.grid, place[:, 0])
        left = start(self.size[1], width, cell % self.grid, place[:, 1])
        return np.stack([top, left, cell], axis=1)

    def offset(self, height: Ints, width: Ints, drawn: Floats) -> tuple[Ints, Ints]:
        return drawn[:, 0].astype(np.int64), drawn[:, 1].astype(np.int64)

    def caption(self, drawn: Sequence[float]) -> str:
        return f"cell {drawn[2]:.0f}"


# --- helpers ----------------------------------------------------------------------------------------------------


def _pair(operation: Operation, size: int | tuple[int, int]) -> tuple[int, int]:
    pair = tuple(size) if isinstance(size, Sequence) else (size, size)
    try:
        if len(pair) == 2:
            check_integer(operation, least=1, height=pair[0], width=pair[1])
            return int(pair[0]), int(pair[1])
    except ValueError:
        pass
    raise ValueError(f"{type(operation).__name__}: size must be one or two integers > 0, got {size!r}")


def _full(size: int | tuple[int, int], like: Ints) -> tuple[Ints, Ints]:
    """One size for n images."""
    assert isinstance(size, tuple)
    return np.full_like(like, size[0]), np.full_like(like, size[1])


def _translation(x: Floats | Ints, y: Floats | Ints) -> Floats:
    return affine(1.0, 0.0, x, 0.0, 1.0, y)


def _scaling(x: Floats, y: Floats) -> Floats:
    """Scale with half-pixel centres: the corner of the image, at -0.5, stays where it is."""
    return affine(x, 0.0, (x - 1) / 2, 0.0, y, (y - 1) / 2)


def _sides(images: Tensor) -> tuple[Ints, Ints]:
    return np.array(images.shape[-2:-1]), np.array(images.shape[-1:])


def _resize(
    x: Tensor, size: tuple[int, int], interpolation: Interpolation, antialias: bool, precision: torch.dtype
) -> Tensor:
    clamps = x.dtype == torch.uint8 and interpolation == "bicubic"  # a uint8 image cannot overshoot
    x = to_unit(x, precision)
    if x.shape[-2:] == size:
        return x
    resize = partial(interpolate, mode=interpolation, align_corners=False, antialias=antialias)
    # to a single column, torch's antialiased resize on the CPU can repeat the first row; to a single row it is right
    x = resize(x.mT, size[::-1]).mT if size[1] == 1 else resize(x, size)
    return x.clamp(0, 1) if clamps else x


def _rotate(x: Tensor, degrees: Tensor) -> Tensor:
    if 1 in x.shape[-2:]:  # where Kornia's normalised coordinates divide by zero; zeros surround the image anyway
        return kornia.geometry.rotate(pad(x, (1, 1, 1, 1)), degrees[:, 0])[..., 1:-1, 1:-1]
    return kornia.geometry.rotate(x, degrees[:, 0])
