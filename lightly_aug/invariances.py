"""Groups of operations, by what they teach a network to ignore."""

from dataclasses import dataclass

from lightly_aug.operations import (
    Border,
    ColorJitter,
    Convention,
    Interpolation,
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

__all__ = ["Color", "Shape", "Texture"]


@dataclass(frozen=True)
class Shape:
    """Ignore where a thing is, how large it is and which way it is turned: crop, flips, rotations.

    Args:
        size: output side, or (height, width), in pixels.
        scale: area of the crop as a share of the image.
        ratio: aspect ratio of the crop.
        hflip: probability of a horizontal flip.
        vflip: probability of a vertical flip.
        rot90: probability of a random number of quarter turns.
        degrees: range of a free rotation, in degrees; 0 for none.
        interpolation: "bilinear" or "bicubic".
    """

    size: int | tuple[int, int]
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    hflip: float = 0.5
    vflip: float = 0.0
    rot90: float = 0.0
    degrees: float | tuple[float, float] = 0.0
    interpolation: Interpolation = "bilinear"

    def __post_init__(self) -> None:
        _check(self)

    @property
    def operations(self) -> tuple[Operation, ...]:
        """Those that can happen, in order."""
        crop = RandomResizedCrop(self.size, self.scale, self.ratio, self.interpolation)
        flips = RandomHorizontalFlip(self.hflip), RandomVerticalFlip(self.vflip), RandomRotation90(self.rot90)
        free = () if self.degrees in (0, (0, 0)) else (RandomRotation(self.degrees),)
        return (crop, *(flip for flip in flips if flip.p > 0), *free)


@dataclass(frozen=True)
class Texture:
    """Ignore fine detail and the sign of edges: blur, solarize.

    Args:
        blur: probability of a Gaussian blur.
        sigma: range of its standard deviation, in pixels of the view.
        solarize: probability of a solarization.
        threshold: values from here on are inverted; a range, to draw it from.
        border: what the blur sees outside the view, "reflect" or "zeros", see `RandomGaussianBlur`.
    """

    blur: float = 0.5
    sigma: tuple[float, float] = (0.1, 2.0)
    solarize: float = 0.0
    threshold: float | tuple[float, float] = 0.5
    border: Border = "reflect"

    def __post_init__(self) -> None:
        _check(self)

    @property
    def operations(self) -> tuple[Operation, ...]:
        """Those that can happen, in order."""
        both = RandomGaussianBlur(self.sigma, self.blur, self.border), RandomSolarize(self.threshold, self.solarize)
        return tuple(operation for operation in both if operation.p > 0)


@dataclass(frozen=True)
class Color:
    """Ignore light and colour: jitter, grayscale.

    Args:
        brightness: range of the factor, or b for (1 - b, 1 + b).
        contrast: likewise.
        saturation: likewise.
        hue: range of the shift in turns, or h for (-h, h).
        jitter: probability that the four happen.
        grayscale: probability that the colours are dropped.
        convention: of the jitter, "torchvision" or "tensorflow", see `ColorJitter`.
    """

    brightness: float | tuple[float, float] = 0.4
    contrast: float | tuple[float, float] = 0.4
    saturation: float | tuple[float, float] = 0.4
    hue: float | tuple[float, float] = 0.1
    jitter: float = 0.8
    grayscale: float = 0.2
    convention: Convention = "torchvision"

    def __post_init__(self) -> None:
        _check(self)

    @property
    def operations(self) -> tuple[Operation, ...]:
        """Those that can happen, in order."""
        jitter = ColorJitter(self.brightness, self.contrast, self.saturation, self.hue, self.jitter, self.convention)
        both = jitter, RandomGrayscale(self.grayscale)
        return tuple(operation for operation in both if operation.p > 0)


def _check(group: Shape | Texture | Color) -> None:
    """Nonsense is refused by the operations: make them now, not in the view."""
    try:
        _ = group.operations
    except ValueError as error:
        raise ValueError(f"{type(group).__name__}: {error}") from None
