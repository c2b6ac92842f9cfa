"""Changes of images by one operation at a time, over its range of strengths, as rows of the table of draws."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lightly_aug.checks import check_choice
from lightly_aug.operations import (
    CenterCrop,
    ColorJitter,
    Floats,
    Ints,
    Normalize,
    Operation,
    RandomGaussianBlur,
    RandomGrayscale,
    RandomHorizontalFlip,
    RandomResizedCrop,
    RandomRotation,
    RandomRotation90,
    RandomSolarize,
    RandomVerticalFlip,
)
from lightly_aug.view import View

__all__ = ["CHANGES", "Change", "crop_columns"]

Columns = Mapping[str, float | NDArray[Any]]


@dataclass(frozen=True)
class Change:
    """One way to change images, over a range of strengths.

    A change is a few columns of the table of draws. All other operations of the view have draws that do nothing, and
    the crop is the largest centred square. So an image and its changed copy differ in these columns only.

    Attributes:
        name: Name, such as "rotation".
        group: Name of the group that it belongs to: "Shape", "Texture", "Color", or any other.
        unit: Unit of the strengths.
        strengths: The strengths to measure, in order, without the neutral one.
        neutral: Strength of the unchanged image.
        write: From a strength and the heights and widths `(n,)` of the images, in pixels, to columns by name, one
            number for all images or `(n,)`.
        operation: Operation of your own, which joins the view before the normalisation; `write` must write all of its
            columns, which are named `Class.column`.
        rotates: Whether the view rotates. It then shows the middle half of the square, so that no corner of the rotated
            square is empty.

    Raises:
        ValueError: There are no strengths, or one of them is the neutral one.

    Example:
        >>> from lightly_aug.evaluate import Change
        >>> blur = Change(
        ...     "blur", "Texture", "pixels", (1.0, 2.0), 0.0, lambda s, h, w: {"RandomGaussianBlur.sigma": s}
        ... )
        >>> blur.strengths
        (1.0, 2.0)
    """

    name: str
    group: str
    unit: str
    strengths: tuple[float, ...]
    neutral: float
    write: Callable[[float, Ints, Ints], Columns]
    operation: Operation | None = None
    rotates: bool = False

    def __post_init__(self) -> None:
        if not self.strengths or self.neutral in self.strengths:
            raise ValueError(
                f"Change: strengths of {self.name} must be some numbers other than the neutral {self.neutral}, "
                f"got {self.strengths}"
            )

    def view(self, size: int, normalize: Normalize | None) -> View:
        """Return the view that the columns are of.

        Args:
            size: Side of the view in pixels.
            normalize: Normalisation of the images that the network expects; None for none.
        """
        # The square is resized to √2 times the side, rotated about its centre, and cut to the side, evenly all around.
        larger = size + 2 * math.ceil(size * (math.sqrt(2) - 1) / 2)
        rotation = (RandomResizedCrop(larger), RandomRotation(180), CenterCrop(size))
        return View(
            *(rotation if self.rotates else [RandomResizedCrop(size)]),
            RandomHorizontalFlip(),
            RandomVerticalFlip(),
            RandomRotation90(),
            ColorJitter(1.0, 1.0, 1.0, 0.5),
            RandomGrayscale(),
            RandomSolarize(),
            RandomGaussianBlur(),
            self.operation,
            normalize,
        )

    def rows(self, view: View, strength: float, height: Ints, width: Ints) -> Floats:
        """Return the draws `(n, columns)` that change n images with one strength.

        Args:
            view: The view, of `Change.view`.
            strength: The strength; the neutral one leaves the images as they are.
            height: `(n,)` heights of the images, in pixels.
            width: `(n,)` widths.

        Raises:
            ValueError: `write` writes a column that there is not, or leaves out one of the operation.
        """
        written = self.write(strength, height, width)
        operation = self.operation
        own = [] if operation is None else [f"{type(operation).__name__}.{column}" for column in operation.columns]
        for name in own:
            if name not in written:
                raise ValueError(f"Change: write of {self.name} must write {', '.join(own)}, got {', '.join(written)}")
        rows = np.zeros((len(height), len(view.columns)))  # zero does nothing in all columns but these
        for name, value in (_NEUTRAL | crop_columns(height, width) | dict(written)).items():
            check_choice(f"Change: {self.name}", view.columns, column=name)
            rows[:, view.columns.index(name)] = value
        return rows


_NEUTRAL: Final = dict.fromkeys([f"ColorJitter.{part}" for part in ("brightness", "contrast", "saturation")], 1.0)


def crop_columns(
    height: Ints, width: Ints, side: float = 1.0, ratio: float = 1.0, right: float = 0.0, down: float = 0.0
) -> dict[str, Floats]:
    """Return the columns of `RandomResizedCrop` for a crop about the centre, or beside it.

    Args:
        height: `(n,)` heights of the images, in pixels.
        width: `(n,)` widths.
        side: Side of a square of the crop's area, as a share of the shorter side of the image.
        ratio: Aspect ratio width / height of the crop.
        right: Shift to the right, in widths of the crop.
        down: Shift down, in heights of the crop.
    """
    short = np.minimum(height, width)
    h = np.clip(np.rint(side * short / math.sqrt(ratio)), 1, height)
    w = np.clip(np.rint(side * short * math.sqrt(ratio)), 1, width)
    top = np.clip((height - h) // 2 + np.rint(down * h), 0, height - h)
    left = np.clip((width - w) // 2 + np.rint(right * w), 0, width - w)
    return {f"RandomResizedCrop.{name}": value for name, value in zip(_CROP, (top, left, h, w), strict=True)}


_CROP: Final = ("top", "left", "height", "width")


def _scale(area: float, height: Ints, width: Ints) -> Columns:
    return crop_columns(height, width, math.sqrt(area))


def _stretch(ratio: float, height: Ints, width: Ints) -> Columns:
    return crop_columns(height, width, math.sqrt(0.5), ratio)


def _shift_right(share: float, height: Ints, width: Ints) -> Columns:
    return crop_columns(height, width, 0.5, right=share)


def _shift_down(share: float, height: Ints, width: Ints) -> Columns:
    return crop_columns(height, width, 0.5, down=share)


def _turn(degrees: float, height: Ints, width: Ints) -> Columns:
    return {"RandomRotation90.turns": degrees / 90}


def _solarize(threshold: float, height: Ints, width: Ints) -> Columns:
    return {"RandomSolarize.applied": float(threshold < 1), "RandomSolarize.threshold": threshold}


def _jitter(part: str, value: float, height: Ints, width: Ints) -> Columns:
    return {"ColorJitter.applied": 1.0, f"ColorJitter.{part}": value}


def _one(column: str, value: float, height: Ints, width: Ints) -> Columns:
    return {column: value}


_SHIFTS: Final = (-0.5, -0.25, -0.125, 0.125, 0.25, 0.5)
_FACTORS: Final = (0.4, 0.6, 0.8, 1.2, 1.4, 1.6)

CHANGES: Final = (
    Change("crop scale", "Shape", "share of the area", (0.75, 0.5, 0.35, 0.2, 0.08), 1.0, _scale),
    Change("aspect ratio", "Shape", "width / height", (0.5, 0.67, 0.8, 1.25, 1.5, 2.0), 1.0, _stretch),
    Change("horizontal shift", "Shape", "widths of the crop", _SHIFTS, 0.0, _shift_right),
    Change("vertical shift", "Shape", "heights of the crop", _SHIFTS, 0.0, _shift_down),
    Change("horizontal flip", "Shape", "", (1.0,), 0.0, partial(_one, "RandomHorizontalFlip.applied")),
    Change("vertical flip", "Shape", "", (1.0,), 0.0, partial(_one, "RandomVerticalFlip.applied")),
    Change("quarter turns", "Shape", "degrees", (90.0, 180.0, 270.0), 0.0, _turn),
    Change(
        "rotation", "Shape", "degrees", (15.0, 30.0, 45.0, 90.0, 135.0, 180.0), 0.0,
        partial(_one, "RandomRotation.degrees"), rotates=True,
    ),
    Change("blur", "Texture", "σ in pixels", (0.5, 1.0, 1.5, 2.0, 3.0), 0.0, partial(_one, "RandomGaussianBlur.sigma")),
    Change("solarize", "Texture", "threshold", (0.9, 0.7, 0.5, 0.3, 0.1), 1.0, _solarize),
    Change("brightness", "Color", "factor", _FACTORS, 1.0, partial(_jitter, "brightness")),
    Change("contrast", "Color", "factor", _FACTORS, 1.0, partial(_jitter, "contrast")),
    Change("saturation", "Color", "factor", (0.0, 0.4, 0.7, 1.3, 1.6, 2.0), 1.0, partial(_jitter, "saturation")),
    Change("hue", "Color", "turns", (-0.25, -0.1, -0.05, 0.05, 0.1, 0.25, 0.5), 0.0, partial(_jitter, "hue")),
    Change("grayscale", "Color", "", (1.0,), 0.0, partial(_one, "RandomGrayscale.applied")),
)  # fmt: skip
"""The operations of `Shape`, `Texture` and `Color` with strengths around and beyond those of the papers.

Crops that are stretched have half of the square's area, crops that are shifted a quarter of it, so that there is room.
"""
