"""Checks of arguments. Every message names the owner, the argument, the allowed values, and the value given."""

import math
from collections.abc import Sequence
from difflib import get_close_matches
from numbers import Integral

from PIL import ImageColor

__all__ = [
    "check_choice",
    "check_color",
    "check_integer",
    "check_interval",
    "check_least",
    "check_positive",
    "check_share",
]


def check_share(owner: object, **values: float) -> None:
    """Raise ValueError for values outside [0, 1].

    Args:
        owner: The object whose arguments these are, named by its class, or the name of a function.
        **values: The values by argument name.

    Example:
        >>> check_share("sharpen", p=3)
        Traceback (most recent call last):
            ...
        ValueError: sharpen: p must lie in [0, 1], got 3
    """
    for name, value in values.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{_name(owner)}: {name} must lie in [0, 1], got {value!r}")


def check_positive(owner: object, **values: float) -> None:
    """Raise ValueError for values that are not above 0; arguments as in `check_share`."""
    for name, value in values.items():
        if not value > 0:
            raise ValueError(f"{_name(owner)}: {name} must be above 0, got {value!r}")


def check_least(owner: object, least: float, **values: float) -> None:
    """Raise ValueError for values below `least`; other arguments as in `check_share`."""
    for name, value in values.items():
        if not value >= least:
            raise ValueError(f"{_name(owner)}: {name} must be at least {least}, got {value!r}")


def check_integer(owner: object, *, least: int | None = None, **values: int) -> None:
    """Raise ValueError for values that are not integers, or are below `least`; other arguments as in `check_share`."""
    for name, value in values.items():
        if not isinstance(value, Integral) or isinstance(value, bool) or (least is not None and value < least):
            bound = "" if least is None else f" >= {least}"
            raise ValueError(f"{_name(owner)}: {name} must be an integer{bound}, got {value!r}")


def check_color(owner: object, **values: str | Sequence[int]) -> None:
    """Raise ValueError for values that are neither a colour that PIL names nor three integers from 0 to 255.

    Other arguments as in `check_share`.
    """
    for name, value in values.items():
        try:
            bands = ImageColor.getrgb(value)[:3] if isinstance(value, str) else tuple(value)
        except (ValueError, TypeError):
            bands = ()
        if len(bands) != 3 or not all(isinstance(band, Integral) and 0 <= band <= 255 for band in bands):
            raise ValueError(
                f'{_name(owner)}: {name} must be a colour, such as "white", "#ffffff" or (255, 255, 255), got {value!r}'
            )


def check_interval(
    owner: object, low: float, high: float, *, open_low: bool = False, **values: Sequence[float]
) -> None:
    """Raise ValueError for values that are not a pair (a, b) with low <= a <= b <= high.

    Args:
        owner: As in `check_share`.
        low: Lower bound; may be infinite, the pair must be finite.
        high: Upper bound; may be infinite, the pair must be finite.
        open_low: Exclude `low` itself.
        **values: The pairs by argument name.
    """
    for name, value in values.items():
        pair = isinstance(value, Sequence) and len(value) == 2
        inside = pair and low <= value[0] <= value[1] <= high and not (open_low and value[0] == low)
        if not inside or not all(math.isfinite(v) for v in value):
            allowed = f"{'(' if open_low else '['}{low}, {high}]"
            raise ValueError(f"{_name(owner)}: {name} must lie in {allowed}, low <= high, got {value!r}")


def check_choice(owner: object, allowed: Sequence[object], **values: object) -> None:
    """Raise ValueError for values that are not in `allowed`, and name the nearest one if there is any.

    Other arguments as in `check_share`.
    """
    for name, value in values.items():
        if value not in allowed:
            near = get_close_matches(str(value).lower(), [choice for choice in allowed if isinstance(choice, str)], n=1)
            raise ValueError(
                f"{_name(owner)}: {name} must be one of {', '.join(map(repr, allowed))}, got {value!r}"
                + (f"; did you mean {near[0]!r}?" if near else "")
            )


def _name(owner: object) -> str:
    return owner if isinstance(owner, str) else type(owner).__name__
