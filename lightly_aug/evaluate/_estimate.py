"""A number with its interval, by the bootstrap over images."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Estimate", "estimate", "resample_counts"]

Floats = NDArray[np.float64]


class Estimate(NamedTuple):
    """A number, and its 95 % interval, which covers the choice of the images, not the seed of the training.

    The interval is that of the percentiles of the bootstrap, for which the images are drawn again and again with
    replacement, except where a function says otherwise. A format, such as `.1%`, is that of all three numbers.

    Attributes:
        value: The number, of all images.
        low: Lower end of the interval.
        high: Upper end.

    Example:
        >>> str(Estimate(0.5, 0.45, 0.55))
        '0.50 (0.45–0.55)'
        >>> str(Estimate(0.02, -0.01, 0.05))
        '0.02 (-0.01 to 0.05)'
        >>> f"{Estimate(0.5, 0.45, 0.55):.1%}"
        '50.0 % (45.0–55.0)'
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return format(self, ".2f")

    def __format__(self, spec: str) -> str:
        value, low, high = (format(number, spec or ".2f") for number in self)
        percent = " %" if value.endswith("%") else ""
        between = "–" if self.low >= 0 else " to "  # a dash before a minus sign reads badly
        return f"{value.rstrip('%')}{percent} ({low.rstrip('%')}{between}{high.rstrip('%')})"


def resample_counts(images: int, resamples: int, seed: int) -> Floats:
    """Draw how often each image is in each resample, `(resamples, images)`; every row sums to `images`.

    Args:
        images: Number of images.
        resamples: Number of resamples.
        seed: Seed, 0 or more.
    """
    drawn = np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), size=resamples)
    return drawn.astype(np.float64)


def estimate(value: float, resampled: Floats) -> Estimate:
    """Return a number with the 2.5 and 97.5 percentiles of its resamples `(resamples,)`, of which some may be NaN."""
    known = resampled[np.isfinite(resampled)]
    low, high = np.percentile(known, (2.5, 97.5)) if len(known) else (value, value)
    return Estimate(float(value), float(low), float(high))
