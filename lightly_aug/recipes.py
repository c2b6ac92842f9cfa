"""The views of the papers, as data."""

from typing import Any, Literal

from lightly_aug.collate import BaseCollateFunction
from lightly_aug.invariances import Color, Shape, Texture, View
from lightly_aug.operations import (
    ColorJitter,
    Normalize,
    RandomGrayscale,
    RandomHorizontalFlip,
    RandomResizedCrop,
)

__all__ = ["MoCoCollateFunction", "SimCLRCollateFunction"]


class SimCLRCollateFunction(BaseCollateFunction):
    """Two views as in SimCLR, versions 1 and 2 (Chen et al. 2020, arXiv 2002.05709 and 2006.10029).

    Bicubic crop of .08 to 1 of the image, flip, jitter (.8, .8, .8, .2) x strength with probability .8, grayscale
    .2, blur .5; the paper does not normalise. For CIFAR it takes `strength=0.5, blur=0`.

    Args:
        size: side of the views, or (height, width), in pixels.
        strength: of the colour jitter.
        blur: probability of a Gaussian blur.
        normalize: how to normalise, None for values in [0, 1].
        **options: as in `BaseCollateFunction`.
    """

    def __init__(
        self,
        size: int | tuple[int, int] = 224,
        *,
        strength: float = 1.0,
        blur: float = 0.5,
        normalize: Normalize | None = None,
        **options: Any,
    ) -> None:
        s = strength
        view = View(
            Shape(size, interpolation="bicubic"),
            Color(0.8 * s, 0.8 * s, 0.8 * s, 0.2 * s),
            Texture(blur),
            normalize,
        )
        super().__init__([view, view], **options)


class MoCoCollateFunction(BaseCollateFunction):
    """Two views as in MoCo, version 1 (He et al. 2019, arXiv 1911.05722) or 2 (Chen et al. 2020, arXiv 2003.04297).

    Both crop .2 to 1 of the image, bilinear. Version 1: grayscale .2, then always jitter (.4, .4, .4, .4), flip.
    Version 2: jitter (.4, .4, .4, .1) with probability .8, grayscale .2, blur .5, flip.

    Args:
        size: side of the views, or (height, width), in pixels.
        version: 1 or 2.
        normalize: how to normalise, None for values in [0, 1].
        **options: as in `BaseCollateFunction`.
    """

    def __init__(
        self,
        size: int | tuple[int, int] = 224,
        *,
        version: Literal[1, 2] = 2,
        normalize: Normalize | None = Normalize(),
        **options: Any,
    ) -> None:
        crop, flip = RandomResizedCrop(size, scale=(0.2, 1.0)), RandomHorizontalFlip()
        if version == 1:
            view = View(crop, RandomGrayscale(0.2), ColorJitter(0.4, 0.4, 0.4, 0.4), flip, normalize)
        elif version == 2:
            view = View(crop, Color(0.4, 0.4, 0.4, 0.1), Texture(), flip, normalize)
        else:
            raise ValueError(f"version must be 1 or 2, got {version!r}")
        super().__init__([view, view], **options)
