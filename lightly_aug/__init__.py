"""Many views of every image, rendered on the device that uses them, grouped by what they teach a network to ignore."""

from lightly_aug._prefetch import prefetch
from lightly_aug.batch import Views
from lightly_aug.collate import BaseCollateFunction, MultiViewCollateFunction
from lightly_aug.images import ImageError
from lightly_aug.indexed import EpochSampler, Indexed
from lightly_aug.invariances import Color, Shape, Texture
from lightly_aug.memory_bank import MemoryBank
from lightly_aug.operations import (
    Batched,
    CenterCrop,
    ColorJitter,
    Crop,
    Normalize,
    Operation,
    PerImage,
    RandomEqualize,
    RandomGaussianBlur,
    RandomGrayscale,
    RandomHorizontalFlip,
    RandomJigsawPatch,
    RandomResizedCrop,
    RandomRotation,
    RandomRotation90,
    RandomSolarize,
    RandomVerticalFlip,
    Resize,
)
from lightly_aug.options import Options
from lightly_aug.recipes import (
    AMDIMCollateFunction,
    BarlowTwinsCollateFunction,
    BYOLCollateFunction,
    ColorCollateFunction,
    CPCCollateFunction,
    DINOCollateFunction,
    ImageCollateFunction,
    LooCCollateFunction,
    MoCoCollateFunction,
    NNCLRCollateFunction,
    PAWSCollateFunction,
    PIRLCollateFunction,
    ShapeCollateFunction,
    SimCLRCollateFunction,
    SimSiamCollateFunction,
    SwaVCollateFunction,
    TextureCollateFunction,
)
from lightly_aug.support import SupportBatchSampler, SupportDataset
from lightly_aug.view import Shared, View

__version__ = "0.1.0"

__all__ = [
    "AMDIMCollateFunction",
    "BYOLCollateFunction",
    "BarlowTwinsCollateFunction",
    "BaseCollateFunction",
    "Batched",
    "CPCCollateFunction",
    "CenterCrop",
    "Color",
    "ColorCollateFunction",
    "ColorJitter",
    "Crop",
    "DINOCollateFunction",
    "EpochSampler",
    "ImageCollateFunction",
    "ImageError",
    "Indexed",
    "LooCCollateFunction",
    "MemoryBank",
    "MoCoCollateFunction",
    "MultiViewCollateFunction",
    "NNCLRCollateFunction",
    "Normalize",
    "Operation",
    "Options",
    "PAWSCollateFunction",
    "PIRLCollateFunction",
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
    "Shape",
    "ShapeCollateFunction",
    "Shared",
    "SimCLRCollateFunction",
    "SimSiamCollateFunction",
    "SupportBatchSampler",
    "SupportDataset",
    "SwaVCollateFunction",
    "Texture",
    "TextureCollateFunction",
    "View",
    "Views",
    "__version__",
    "prefetch",
]
