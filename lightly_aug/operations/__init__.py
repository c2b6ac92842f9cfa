"""Operations: what may happen to an image, within which ranges, how its numbers are drawn, and how it is applied."""

from lightly_aug.operations.base import Border, Convention, Floats, Interpolation, Ints, Operation, walk
from lightly_aug.operations.color import JITTER_ORDERS, ColorJitter, RandomEqualize, RandomGrayscale
from lightly_aug.operations.functions import Batched, PerImage
from lightly_aug.operations.kornia_module import KorniaModule
from lightly_aug.operations.normalize import Normalize
from lightly_aug.operations.shape import (
    CenterCrop,
    Crop,
    RandomHorizontalFlip,
    RandomJigsawPatch,
    RandomResizedCrop,
    RandomRotation,
    RandomRotation90,
    RandomVerticalFlip,
    Resize,
    Window,
)
from lightly_aug.operations.texture import RandomGaussianBlur, RandomSolarize

__all__ = [
    "JITTER_ORDERS",
    "Batched",
    "Border",
    "CenterCrop",
    "ColorJitter",
    "Convention",
    "Crop",
    "Floats",
    "Interpolation",
    "Ints",
    "KorniaModule",
    "Normalize",
    "Operation",
    "PerImage",
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
    "walk",
]
