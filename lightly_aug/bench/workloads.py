"""The views that the benchmarks measure: those of SimCLR, DINO and SwAV, specified for every library.

A batch of 8-bit photographs becomes stacked, normalised float32 views.
"""

from typing import Final, NamedTuple

import torch

from lightly_aug.invariances import Color, Shape, Texture
from lightly_aug.operations import Normalize
from lightly_aug.view import View

__all__ = ["MEAN", "SIGMA", "STD", "WORKLOADS", "ViewSpec", "build_view"]

MEAN: Final = (0.485, 0.456, 0.406)
STD: Final = (0.229, 0.224, 0.225)
SIGMA: Final = (0.1, 2.0)
"""Range of a blur's standard deviation, in pixels of the view."""


class ViewSpec(NamedTuple):
    """One view: random resized crop, flip, jitter with probability .8, grayscale with .2, blur, solarize, normalise.

    Attributes:
        size: Side of the view in pixels.
        scale: Area of the crop as a share of the image.
        jitter: Brightness, contrast, saturation and hue.
        blur: Probability of a blur with a standard deviation in `SIGMA`.
        solarize: Probability of a solarization.
    """

    size: int = 224
    scale: tuple[float, float] = (0.08, 1.0)
    jitter: tuple[float, float, float, float] = (0.8, 0.8, 0.8, 0.2)
    blur: float = 0.5
    solarize: float = 0.0


_WEAK: Final = (0.4, 0.4, 0.2, 0.1)

WORKLOADS: Final = {
    "simclr": (ViewSpec(),) * 2,
    "dino": (
        ViewSpec(224, (0.4, 1.0), _WEAK, blur=1.0),
        ViewSpec(224, (0.4, 1.0), _WEAK, blur=0.1, solarize=0.2),
        *(ViewSpec(96, (0.05, 0.4), _WEAK),) * 8,
    ),
    "swav": (ViewSpec(224, (0.14, 1.0)),) * 2 + (ViewSpec(96, (0.05, 0.14)),) * 6,
}
"""The views of each method."""


def build_view(spec: ViewSpec, dtype: torch.dtype = torch.float32) -> View:
    """Build the view with this library.

    Args:
        spec: The view.
        dtype: Floating dtype of the result.
    """
    texture = Texture(spec.blur, SIGMA, spec.solarize)
    return View(Shape(spec.size, spec.scale), Color(*spec.jitter), texture, Normalize(), dtype=dtype)
