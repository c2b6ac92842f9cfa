"""The operations: what may happen to an image, within which ranges, and how the numbers for it are drawn.

Arguments are spelt as torchvision spells them. An operation holds no pixels and no state: `draw` turns uniform
numbers into one row of the table for each image, and an engine (`lightly_aug.engines`) turns rows into pixels.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import permutations
from numbers import Integral
from typing import ClassVar, Final, Literal

import kornia.augmentation as K
import numpy as np
import numpy.typing as npt
from torch import nn

__all__ = [
    "CenterCrop",
    "ColorJitter",
    "Crop",
    "GeometricOperation",
    "KorniaModule",
    "Normalize",
    "Operation",
    "RandomEqualize",
    "RandomGaussianBlur",
    "RandomGrayscale",
    "RandomHorizontalFlip",
    "RandomJigsawPatch",
    "RandomResizedCrop",
    "RandomRotation",
    "RandomRotation90",
    "RandomSolarize",
    "RandomVerticalFlip",
    "Resize",
    "Window",
]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Interpolation = Literal["bilinear", "bicubic"]
Convention = Literal["torchvision", "tensorflow"]
Border = Literal["reflect", "zeros"]

JITTER_ORDERS: Final = tuple(permutations(("brightness", "contrast", "saturation", "hue")))
"""The 24 orders in which `ColorJitter` can apply its four parts; its column `order` is an index into them."""


class Operation(ABC):
    """One augmentation. Final subclasses are frozen dataclasses of ranges and probabilities.

    Attributes:
        columns: names of the numbers that one image's operation is made with, its part of a row of the table.
        uniforms: how many uniform numbers `draw` turns into them.
    """

    columns: ClassVar[tuple[str, ...]] = ()
    uniforms: ClassVar[int] = 0

    @property
    def needs_unit_range(self) -> bool:
        """Whether pixel values outside [0, 1] have no meaning for it."""
        return False

    @property
    def channels(self) -> tuple[int, ...] | None:
        """The numbers of channels it has a meaning for, None for any."""
        return None

    @abstractmethod
    def draw(self, u: Floats, height: Ints, width: Ints) -> Floats:
        """Turn (n, uniforms) numbers in [0, 1), for n images of the given sizes, into (n, len(columns)) numbers."""


class GeometricOperation(Operation):
    """An operation that moves pixels."""

    @abstractmethod
    def output_size(self, height: Ints, width: Ints, drawn: Floats) -> tuple[Ints, Ints]:
        """The (heights, widths) after it, for n images and their (n, len(columns)) numbers."""

    @abstractmethod
    def matrix(self, height: Ints, width: Ints, drawn: Floats) -> Floats:
        """The (n, 3, 3) matrices that map (x, y, 1) before it to (x, y, 1) after it, pixel centres at integers."""


# --- shape ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RandomResizedCrop(GeometricOperation):
    """Crop a random part of the image and resize it: `torchvision.transforms.v2.RandomResizedCrop`.

    Up to ten tries of an area uniform in `scale` and an aspect ratio log-uniform in `ratio`, else the largest
    centred crop within `ratio`. The resize is antialiased, as torchvision's and Pillow's; `antialias=False` is
    Kornia's with `align_corners=False`. Bicubic results are clamped to [0, 1] where the image is uint8.

    Args:
        size: output side, or (height, width), in pixels.
        scale: area of the crop as a share of the image, 0 < low <= high.
        ratio: aspect ratio width / height of the crop, 0 < low <= high.
        interpolation: "bilinear" or "bicubic".
        antialias: whether to low-pass before shrinking.

    Raises:
        ValueError: an argument outside its range.
    """

    size: int | tuple[int, int]
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    interpolation: Interpolation = "bilinear"
    antialias: bool = True

    columns: ClassVar[tuple[str, ...]] = ("top", "left", "height", "width")
    uniforms: ClassVar[int] = 22

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", _pair(self, "size", self.size))
        _interval(self, "scale", self.scale, 0, math.inf, open_low=True)
        _interval(self, "ratio", self.ratio, 0, math.inf, open_low=True)
        _choice(self, "interpolation", self.interpolation, ("bilinear", "bicubic"))

    def draw(self, u: Floats, height: Ints, width: Ints) -> Floats:
        area = (height * width)[:, None] * _between(u[:, 0:20:2], self.scale)
        ratio = np.exp(_between(u[:, 1:20:2], (math.log(self.ratio[0]), math.log(self.ratio[1]))))
        widths, heights = np.rint(np.sqrt(area * ratio)), np.rint(np.sqrt(area / ratio))
        fits = (widths > 0) & (widths <= width[:, None]) & (heights > 0) & (heights <= height[:, None])
        tries = fits.argmax(axis=1)[:, None]
        fits_once = fits.any(axis=1)
        # the fallback: the whole image, cut to the nearest ratio allowed
        w_whole = np.minimum(width, np.maximum(1, np.rint(height * self.ratio[1])))
        h_whole = np.minimum(height, np.maximum(1, np.rint(width / self.ratio[0])))
        w = np.where(fits_once, np.take_along_axis(widths, tries, 1)[:, 0], w_whole)
        h = np.where(fits_once, np.take_along_axis(heights, tries, 1)[:, 0], h_whole)
        top = np.where(fits_once, np.floor(u[:, 20] * (height - h + 1)), (height - h) // 2)
        left = np.where(fits_once, np.floor(u[:, 21] * (width - w + 1)), (width - w) // 2)
        return np.stack([top, left, h, w], axis=1)

    def output_size(self, height: Ints, width: Ints, drawn: Floats) -> tuple[Ints, Ints]:
        return _full_size(self.size, height)

    def matrix(self, height: Ints, width: Ints, drawn: Floats) -> Floats:
        top, left, h, w = drawn.T
        out_h, out_w = self.output_size(height, width, drawn)
        return _scaling(out_w / w, out_h / h) @ _translation(-left, -top)


@dataclass(frozen=True)
class RandomHorizontalFlip(GeometricOperation):
    """Mirror left and right, with probability `p`."""

    p: float = 0.5

    columns: ClassVar[tuple[str, ...]] = ("applied",)
    uniforms: ClassVar[int] = 1

    def __post_init__(self) -> None:
        _probability(self, self.p)

    def draw(self, u: Floats, height: Ints, width: Ints) -> Floats:
        return _applied(u, self.p)

    def output_size(self, height: Ints, width: Ints, drawn: Floats) -> tuple[Ints, Ints]:
        return height, width

    def matrix(self, height: Ints, width: Ints, drawn: Floats) -> Floats:
        flip = drawn[:, 0] > 0
        return _affine(np.where(flip, -1.0, 1.0), 0.0, np.where(flip, width - 1, 0), 0.0, 1.0, 0.0)


@dataclass(frozen=True)
class RandomVerticalFlip(GeometricOperation):
    """Mirror top and bottom, with probability `p`."""

    p: float = 0.5

    columns: ClassVar[tuple[str, ...]] = ("applied",)
    uniforms: ClassVar[int] = 1

    def __post_init__(self) -> None:
        _probability(self, self.p)

    def draw(self, u: Floats, height: Ints, width: Ints) -> Floats:
        return _applied(u, self.p)

    def output_size(self, height: Ints, width: Ints, drawn: Floats) -> tuple[Ints, Ints]:
        return height, width

    def matrix(self, height: Ints, width: Ints, drawn: Floats) -> Floats:
        flip = drawn[:, 0] > 0
        return _affine(1.0, 0.0, 0.0, 0.0, np.where(flip, -1.0, 1.0), np.where(flip, height - 1, 0))


@dataclass(frozen=True)
class RandomRotation90(GeometricOperation):
    """With probability `p` turn by a whole number of quarter turns, all four (none included) equally likely.

    The turns are `torch.rot90`'s, counter-clockwise, and exact. The image must be square, or be cropped later.
    """

    p: float = 0.5

    columns: ClassVar[tuple[str, ...]] = ("turns",)
    uniforms: ClassVar[int] = 2

    def __post_init__(self) -> None:
        _probability(self, self.p)

    def draw(self, u: Floats, height: Ints, width: Ints) -> Floats:
        return _applied(u, self.p) * np.floor(4 * u[:, 1:])

    def output_size(self, height: Ints, width: Ints, drawn: Floats) -> tuple[Ints, Ints]:
        odd = drawn[:, 0] % 2 == 1
        return np.where(odd, width, height), np.where(odd, height, width)

    def matrix(self, height: Ints, width: Ints, drawn: Floats) -> Floats:
        turns = drawn[:, 0]
        cos, sin = np.select([turns == 0, turns == 2], [1.0, -1.0]), np.select([turns == 1, turns == 3], [1.0, -1.0])
        x = np.select([turns == 2, turns == 3], [width - 1, height - 1], 0)
        y = np.select([turns == 1, turns == 2], [width - 1, height - 1], 0)
        return _affine(cos, sin, x, -sin, cos, y)


@dataclass(frozen=True)
class RandomRotation(GeometricOperation):
    """With probability `p` rotate about the centre by an angle uniform in `degrees`; bilinear, zeros outside.

    Args:
        degrees: range of the angle, counter-clockwise, in degrees; one number d means (-d, d).
        p: probability.
    """

    degrees: float | tuple[float, float]
    p: float = 1.0

    columns: ClassVar[tuple[str, ...]] = ("degrees",)
    uniforms: ClassVar[int] = 2

    def __post_init__(self) -> None:
        degrees = self.degrees if isinstance(self.degrees, Sequence) else (-self.degrees, self.degrees)
        _interval(self, "degrees", degrees, -math.inf, math.inf)
        object.__setattr__(self, "degrees", tuple(degrees))
        _probability(self, self.p)

    def draw(self, u: Floats, height: Ints, width: Ints) -> Floats:
        assert isinstance(self.degrees, tuple)
        return _applied(u, self.p) * _between(u[:, 1:], self.degrees)

    def output_size(self, height: Ints, width: Ints, drawn: Floats) -> tuple[Ints, Ints]:
        return height, width

    def matrix(self, height: Ints, width: Ints, drawn: Floats) -> Floats:
        cos, sin = np.cos(np.deg2rad(drawn[:, 0])), np.sin(np.deg2rad(drawn[:, 0]))
        x, y = (width - 1) / 2, (height - 1) / 2
        return _affine(cos, sin, x - cos * x - sin * y, -sin, cos, y + sin * x - cos * y)


@dataclass(frozen=True)
class Resize(GeometricOperation):
    """Resize, antialiased: `torchvision.transforms.v2.Resize`.

    Args:
        size: the length of the shorter side (the ratio is kept), or (height, width), in pixels.
        interpolation: "bilinear" or "bicubic".
        antialias: whether to low-pass before shrinking.
    """

    size: int | tuple[int, int]
    interpolation: Interpolation = "bilinear"
    antialias: bool = True

    def __post_init__(self) -> None:
        pair = _pair(self, "size", self.size)
        object.__setattr__(self, "size", pair if isinstance(self.size, Sequence) else pair[0])
        _choice(self, "interpolation", self.interpolation, ("bilinear", "bicubic"))

    def draw(self, u: Floats, height: Ints, width: Ints) -> Floats:
        return u

    def output_size(self, height: Ints, width: Ints, drawn: Floats) -> tuple[Ints, Ints]:
        if isinstance(self.size, tuple):
            return _full_size(self.size, height)
        short = np.minimum(height, width)
        return self.size * height // short, self.size * width // short

    def matrix(self, height: Ints, width: Ints, drawn: Floats) -> Floats:
        out_h, out_w = self.output_size(height, width, drawn)
        return _scaling(out_w / width, out_h / height)


class Window(GeometricOperation):
    """An operation that cuts a window of one size out of the image. What of it lies outside is zero.

    Attributes:
        size: (height, width) of the window, in pixels.
    """

    size: int | tuple[int, int]

    @abstractmethod
    def offset(self, height: Ints, width: Ints, drawn: Floats) -> tuple[Ints, Ints]:
        """The (tops, lefts) of the windows in n images, negative where they begin outside."""

    def output_size(self, height: Ints, width: Ints, drawn: Floats) -> tuple[Ints, Ints]:
        return _full_size(self.size, height)

    def matrix(self, height: Ints, width: Ints, drawn: Floats) -> Floats:
        top, left = self.offset(height, width, drawn)
        return _translation(-left, -top)


@dataclass(frozen=True)
class CenterCrop(Window):
    """Cut out the centre: `torchvision.transforms.v2.CenterCrop`. A side that is too small is padded with zeros.

    Args:
        size: output side, or (height, width), in pixels.
    """

    size: int | tuple[int, int]

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", _pair(self, "size", self.size))

    def draw(self, u: Floats, height: Ints, width: Ints) -> Floats:
        return u

    def offset(self, height: Ints, width: Ints, drawn: Floats) -> tuple[Ints, Ints]:
        def one(crop: int, side: Ints) -> Ints:
            return np.where(crop > side, -((crop - side) // 2), np.rint((side - crop) / 2)).astype(np.int64)

        assert isinstance(self.size, tuple)
        return one(self.size[0], height), one(self.size[1], width)


@dataclass(frozen=True)
class Crop(Window):
    """Cut out a window at a fixed place: `torchvision.transforms.v2.functional.crop`. Outside the image is zero.

    Args:
        size: output side, or (height, width), in pixels.
        top: the first row, in pixels of the image; it may lie outside.
        left: the first column, likewise.
    """

    size: int | tuple[int, int]
    top: int
    left: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", _pair(self, "size", self.size))
        for name in ("top", "left"):
            object.__setattr__(self, name, _integer(self, name, getattr(self, name)))

    def draw(self, u: Floats, height: Ints, width: Ints) -> Floats:
        return u

    def offset(self, height: Ints, width: Ints, drawn: Floats) -> tuple[Ints, Ints]:
        return np.full_like(height, self.top), np.full_like(width, self.left)


@dataclass(frozen=True)
class RandomJigsawPatch(Window):
    """Cut a patch out of one cell of a grid, as for the jigsaws of PIRL (Misra and van der Maaten 2019, 1912.01991).

    The image is cut into `grid` x `grid` cells of side // grid pixels (what remains at the right and at the bottom is
    not used), and the cells are dealt out at random to the numbers 0 to grid**2 - 1. The patch lies anywhere in its
    cell, all places equally likely. A cell that is smaller than the patch has it about its centre; what lies around
    the cell then shows, and zeros outside the image.

    Under one `Shared` name views of the numbers 0 to grid**2 - 1 show every cell once, each at a place of its own.

    Args:
        size: side of the patch, or (height, width), in pixels.
        number: which of the cells dealt out is this one's, 0 to grid**2 - 1.
        grid: cells along either side, >= 1.
    """

    size: int | tuple[int, int]
    number: int
    grid: int = 3

    columns: ClassVar[tuple[str, ...]] = ("top", "left", "cell")

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", _pair(self, "size", self.size))
        for name in ("grid", "number"):
            object.__setattr__(self, name, _integer(self, name, getattr(self, name)))
        if self.grid < 1:
            raise ValueError(f"RandomJigsawPatch: grid must be at least 1, got {self.grid}")
        if not 0 <= self.number < self.grid**2:
            cells = self.grid**2
            raise ValueError(
                f"RandomJigsawPatch: number must lie in [0, {cells}), there are {cells} cells, got {self.number}"
            )

    @property
    def uniforms(self) -> int:  # type: ignore[override]
        return 3 * self.grid**2  # the deal, then a place for each number: views that share them differ in theirs

    def draw(self, u: Floats, height: Ints, width: Ints) -> Floats:
        assert isinstance(self.size, tuple)
        count = self.grid**2
        cell = u[:, :count].argsort(axis=1, kind="stable")[:, self.number]
        place = u[:, count + 2 * self.number :]

        def one(crop: int, side: Ints, at: Ints, u: Floats) -> Ints:
            room = side // self.grid - crop
            return side // self.grid * at + np.where(room < 0, -(-room // 2), np.floor(u * (room + 1)))

        top = one(self.size[0], height, cell // self.grid, place[:, 0])
        left = one(self.size[1], width, cell % self.grid, place[:, 1])
        return np.stack([top, left, cell], axis=1)

    def offset(self, height: Ints, width: Ints, drawn: Floats) -> tuple[Ints, Ints]:
        return drawn[:, 0].astype(np.int64), drawn[:, 1].astype(np.int64)


# --- colour -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ColorJitter(Operation):
    """With probability `p` change brightness, contrast, saturation and hue: `torchvision.transforms.v2.ColorJitter`.

    Multiplicative brightness, contrast about the mean gray of the running view, saturation about each pixel's
    gray, hue in HSV; in a random order for every image, each clamped to [0, 1]. The convention "tensorflow" is that of
    the code of SimCLR, version 1, and BYOL: brightness adds the factor - 1, contrast is about the mean of each
    channel, saturation multiplies S in HSV; the rest is the same. It is left to the reference engine.

    Args:
        brightness: range of the factor, >= 0; one number b means (max(0, 1 - b), 1 + b).
        contrast: likewise.
        saturation: likewise; other than 0 it needs RGB.
        hue: range of the shift in turns within [-0.5, 0.5]; one number h means (-h, h); other than 0 it needs RGB.
        p: probability; torchvision writes it `RandomApply([ColorJitter(...)], p)`.
        convention: "torchvision" or "tensorflow".
    """

    brightness: float | tuple[float, float] = 0.0
    contrast: float | tuple[float, float] = 0.0
    saturation: float | tuple[float, float] = 0.0
    hue: float | tuple[float, float] = 0.0
    p: float = 1.0
    convention: Convention = "torchvision"

    columns: ClassVar[tuple[str, ...]] = ("applied", "brightness", "contrast", "saturation", "hue", "order")
    uniforms: ClassVar[int] = 6

    @property
    def needs_unit_range(self) -> bool:
        return True

    def __post_init__(self) -> None:
        for name in ("brightness", "contrast", "saturation", "hue"):
            self._ranges(name)
        _probability(self, self.p)
        _choice(self, "convention", self.convention, ("torchvision", "tensorflow"))

    def _ranges(self, name: str) -> tuple[float, float]:
        value = getattr(self, name)
        low, high = (-0.5, 0.5) if name == "hue" else (0.0, math.inf)
        if isinstance(value, Sequence):
            _interval(self, name, value, low, high)
            return value[0], value[1]
        if not 0 <= value <= high or math.isinf(value):
            raise ValueError(f"{type(self).__name__}: {name} must be a range or a number in [0, {high}], got {value!r}")
        return (-value, value) if name == "hue" else (max(0.0, 1.0 - value), 1.0 + value)

    @property
    def channels(self) -> tuple[int, ...] | None:
        if self._ranges("saturation") != (1.0, 1.0) or self._ranges("hue") != (0.0, 0.0):
            return (3,)
        grays = self._ranges("contrast") != (1.0, 1.0) and self.convention == "torchvision"
        return (1, 3) if grays else None

    def draw(self, u: Floats, height: Ints, width: Ints) -> Floats:
        applied = _applied(u, self.p)[:, 0] > 0
        drawn = [_between(u[:, i + 1], self._ranges(name)) for i, name in enumerate(self.columns[1:5])]
        neutral = (1.0, 1.0, 1.0, 0.0)
        factors = [np.where(applied, factor, none) for factor, none in zip(drawn, neutral, strict=True)]
        return np.stack([applied, *factors, np.floor(24 * u[:, 5])], axis=1)


@dataclass(frozen=True)
class RandomGrayscale(Operation):
    """Replace the colours by their BT.601 luma (.299, .587, .114), with probability `p`."""

    p: float = 0.1

    columns: ClassVar[tuple[str, ...]] = ("applied",)
    uniforms: ClassVar[int] = 1

    def __post_init__(self) -> None:
        _probability(self, self.p)

    @property
    def channels(self) -> tuple[int, ...] | None:
        return (1, 3)

    def draw(self, u: Floats, height: Ints, width: Ints) -> Floats:
        return _applied(u, self.p)


@dataclass(frozen=True)
class RandomEqualize(Operation):
    """Flatten the histogram of each channel, with probability `p`: `PIL.ImageOps.equalize`.

    It sees 256 levels, to which values are rounded, and it leaves 256. It is left to the reference engine.
    """

    p: float = 0.5

    columns: ClassVar[tuple[str, ...]] = ("applied",)
    uniforms: ClassVar[int] = 1

    @property
    def needs_unit_range(self) -> bool:
        return True

    def __post_init__(self) -> None:
        _probability(self, self.p)

    def draw(self, u: Floats, height: Ints, width: Ints) -> Floats:
        return _applied(u, self.p)


# --- texture ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RandomGaussianBlur(Operation):
    """Blur with a Gaussian, with probability `p`.

    The kernel ends int(4 * sigma + 0.5) pixels from its centre, as `scipy.ndimage.gaussian_filter`'s does (what is
    cut off weighs less than 1e-4).

    Args:
        sigma: range of the standard deviation in pixels of the view, 0 < low <= high.
        p: probability.
        border: what lies outside: "reflect" mirrors the view about its outermost pixels, as torchvision; "zeros"
            darkens the border, as the code of SimCLR and BYOL does, and is left to the reference engine.
    """

    sigma: tuple[float, float] = (0.1, 2.0)
    p: float = 0.5
    border: Border = "reflect"

    columns: ClassVar[tuple[str, ...]] = ("sigma",)
    uniforms: ClassVar[int] = 2

    def __post_init__(self) -> None:
        _interval(self, "sigma", self.sigma, 0, math.inf, open_low=True)
        _probability(self, self.p)
        _choice(self, "border", self.border, ("reflect", "zeros"))

    def draw(self, u: Floats, height: Ints, width: Ints) -> Floats:
        return _applied(u, self.p) * _between(u[:, 1:], self.sigma)


@dataclass(frozen=True)
class RandomSolarize(Operation):
    """Invert every value that is at least the threshold, with probability `p`.

    Args:
        threshold: in [0, 1], or a range that it is drawn from for every image.
        p: probability.
    """

    threshold: float | tuple[float, float] = 0.5
    p: float = 0.5

    columns: ClassVar[tuple[str, ...]] = ("applied", "threshold")
    uniforms: ClassVar[int] = 2

    @property
    def needs_unit_range(self) -> bool:
        return True

    def __post_init__(self) -> None:
        _interval(self, "threshold", self._range, 0, 1)
        _probability(self, self.p)

    @property
    def _range(self) -> tuple[float, float]:
        return self.threshold if isinstance(self.threshold, Sequence) else (self.threshold, self.threshold)

    def draw(self, u: Floats, height: Ints, width: Ints) -> Floats:
        return np.concatenate([_applied(u, self.p), _between(u[:, 1:], self._range)], axis=1)


# --- the rest ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Normalize(Operation):
    """Subtract `mean` and divide by `std`, channel by channel; the defaults are ImageNet's.

    Args:
        mean: one number a channel, or one for all channels.
        std: likewise, > 0.
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


@dataclass(frozen=True, repr=False)
class KorniaModule(Operation):
    """Any module of `kornia.augmentation` that keeps the size of the image.

    Its random numbers are drawn by Kornia itself, when the view is rendered, from a seed that the first image of
    the batch draws.
    """

    module: nn.Module

    columns: ClassVar[tuple[str, ...]] = ("seed",)
    uniforms: ClassVar[int] = 1

    def __repr__(self) -> str:
        return repr(self.module)

    @property
    def moves_pixels(self) -> bool:
        """Whether some of it is geometric, so that no matrix can be told before rendering."""
        rigid = K.RigidAffineAugmentationBase2D, K.MixAugmentationBaseV2
        flat = K.IntensityAugmentationBase2D
        return any(isinstance(m, rigid) and not isinstance(m, flat) for m in self.module.modules())

    def draw(self, u: Floats, height: Ints, width: Ints) -> Floats:
        return np.floor(u * 2**24)


# --- helpers ----------------------------------------------------------------------------------------------------


def _applied(u: Floats, p: float) -> Floats:
    return (u[:, :1] < p).astype(np.float64)


def _between(u: Floats, interval: tuple[float, float]) -> Floats:
    low, high = interval
    return low + u * (high - low)


def _full_size(size: int | tuple[int, int], like: Ints) -> tuple[Ints, Ints]:
    assert isinstance(size, tuple)
    return np.full_like(like, size[0]), np.full_like(like, size[1])


def _affine(*six: Floats | Ints | float) -> Floats:
    """(n, 3, 3) from the two upper rows, any of them a number for all."""
    rows = np.broadcast_arrays(*six, 0.0, 0.0, 1.0)
    return np.stack(rows, axis=-1).reshape(-1, 3, 3).astype(np.float64)


def _translation(x: Floats | Ints, y: Floats | Ints) -> Floats:
    return _affine(1.0, 0.0, x, 0.0, 1.0, y)


def _scaling(x: Floats, y: Floats) -> Floats:
    """Scale with half-pixel centres: the corner of the image, at -0.5, stays where it is."""
    return _affine(x, 0.0, (x - 1) / 2, 0.0, y, (y - 1) / 2)


def _pair(operation: Operation, name: str, value: int | tuple[int, int]) -> tuple[int, int]:
    pair = tuple(value) if isinstance(value, Sequence) else (value, value)
    if len(pair) != 2 or not all(isinstance(v, Integral) and not isinstance(v, bool) and v > 0 for v in pair):
        raise ValueError(f"{type(operation).__name__}: {name} must be one or two integers > 0, got {value!r}")
    return int(pair[0]), int(pair[1])


def _integer(operation: Operation, name: str, value: int) -> int:
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise ValueError(f"{type(operation).__name__}: {name} must be an integer, got {value!r}")
    return int(value)


def _interval(
    operation: Operation, name: str, value: Sequence[float], low: float, high: float, *, open_low: bool = False
) -> None:
    pair = isinstance(value, Sequence) and len(value) == 2
    inside = pair and low <= value[0] <= value[1] <= high and not (open_low and value[0] == low)
    if not inside or not all(math.isfinite(v) for v in value):
        allowed = f"{'(' if open_low else '['}{low}, {high}]"
        raise ValueError(f"{type(operation).__name__}: {name} must lie in {allowed}, low <= high, got {value!r}")
    if isinstance(getattr(operation, name), list):
        object.__setattr__(operation, name, tuple(value))  # so that it can be hashed


def _probability(operation: Operation, p: float) -> None:
    if not 0 <= p <= 1:
        raise ValueError(f"{type(operation).__name__}: p must lie in [0, 1], got {p!r}")


def _choice(operation: Operation, name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{type(operation).__name__}: {name} must be one of {', '.join(allowed)}, got {value!r}")
