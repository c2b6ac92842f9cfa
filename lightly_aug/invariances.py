"""Groups of operations, named for what they teach a network to ignore."""

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
    """Operations that teach a network to ignore position, size and orientation: crop, flips, rotations.

    Args:
        size: Output side, or (height, width), in pixels.
        scale: Area of the crop as a share of the image.
        ratio: Aspect ratio width / height of the crop.
        hflip: Probability of a horizontal flip.
        vflip: Probability of a vertical flip.
        rot90: Probability of a random number of quarter turns.
        degrees: Range of a free rotation in degrees, 0 for none.
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
        """The operations that can happen, in order."""
        crop = RandomResizedCrop(self.size, self.scale, self.ratio, self.interpolation)
        flips = RandomHorizontalFlip(self.hflip), RandomVerticalFlip(self.vflip), RandomRotation90(self.rot90)
        free = () if self.degrees in (0, (0, 0)) else (RandomRotation(self.degrees),)
        return (crop, *(flip for flip in flips if flip.p > 0), *free)


@dataclass(frozen=True)
class Texture:
    """Operations that teach a network to ignore fine detail and the sign of edges: blur, solarize.

    Args:
        blur: Probability of a Gaussian blur.
        sigma: Range of the standard deviation of the blur, in pixels of the view.
        solarize: Probability of a solarization.
        threshold: Value from which on the solarization inverts, or a range from which it is drawn for every image.
        border: "reflect" or "zeros": the pixels that the blur sees outside the view, see `RandomGaussianBlur`.
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
        """The operations that can happen, in order."""
        both = RandomGaussianBlur(self.sigma, self.blur, self.border), RandomSolarize(self.threshold, self.solarize)
        return tuple(operation for operation in both if operation.p > 0)


@dataclass(frozen=True)
class Color:
    """Operations that teach a network to ignore light and colour: jitter, grayscale.

    Args:
        brightness: Range of the factor; one number b means (max(0, 1 - b), 1 + b).
        contrast: Range of the factor, in the same form.
        saturation: Range of the factor, in the same form.
        hue: Range of the shift in turns; one number h means (-h, h).
        jitter: Probability that these four change.
        grayscale: Probability of dropping the colours.
        convention: "torchvision" or "tensorflow", the meaning of the jitter, see `ColorJitter`.
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
        """The operations that can happen, in order."""
        jitter = ColorJitter(self.brightness, self.contrast, self.saturation, self.hue, self.jitter, self.convention)
        both = jitter, RandomGrayscale(self.grayscale)
        return tuple(operation for operation in both if operation.p > 0)


def _check(group: Shape | Texture | Color) -> None:
    """Build the operations, which check the arguments, when the group is made instead of when a view uses it."""
    try:
        _ = group.operations
    except ValueError as error:
        raise ValueError(f"{type(group).__name__}: {error}") from None
