"""A number with its interval: of shares that of Wilson, of other numbers by the bootstrap over images."""

from math import isnan, sqrt
from statistics import NormalDist
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Estimate", "estimate", "estimate_share", "resample_counts"]

Floats = NDArray[np.float64]

_Z2: Final = NormalDist().inv_cdf(0.975) ** 2


class Estimate(NamedTuple):
    """A number, and its 95 % interval, which covers the choice of the images, not the seed of the training.

    The interval is that of the percentiles of the bootstrap, for which the images are drawn again and again with
    replacement, except where a function says otherwise. A format, such as `.1%`, is that of all three numbers. The ends
    are NaN if no resample has a value.

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
        if isnan(self.low):
            return f"{value.rstrip('%')}{percent} (no interval)"
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


def estimate(
    value: float, resampled: Floats, *, images: float = 0.0, bounds: tuple[float, float] | None = None
) -> Estimate:
    """Return a number with the 2.5 and 97.5 percentiles of its resamples.

    If all n images have the same value, then so do all resamples, and their percentiles say that no other image can
    have another one. With `bounds` the interval is then that of Wilson for 0 of n images: a share of up to z² / (n +
    z²) of all images, z = 1.96, may have any other value within the bounds.

    Args:
        value: The number.
        resampled: `(resamples,)`, of which some may be NaN.
        images: Number n of images that the value is a mean of.
        bounds: Least and greatest value that an image can have.
    """
    known = resampled[np.isfinite(resampled)]
    if len(known) == 0:
        return Estimate(float(value), float("nan"), float("nan"))
    if bounds is not None and np.ptp(known) < 1e-12:
        (least, most), other = bounds, _Z2 / (images + _Z2)
        return Estimate(float(value), float(value - other * (value - least)), float(value + other * (most - value)))
    low, high = np.percentile(known, (2.5, 97.5))
    return Estimate(float(value), float(low), float(high))


def estimate_share(share: float, n: float) -> Estimate:
    """Return a share of n images with the score interval of Wilson (1927).

    Args:
        share: The share, 0 to 1.
        n: Number of images, above 0; no integer where it is an effective one.
    """
    middle = (share + _Z2 / (2 * n)) / (1 + _Z2 / n)
    half = sqrt(_Z2 * (share * (1 - share) + _Z2 / (4 * n)) / n) / (1 + _Z2 / n)
    low, high = max(0.0, middle - half), min(1.0, middle + half)
    return Estimate(share, low if share > 0 else 0.0, high if share < 1 else 1.0)
