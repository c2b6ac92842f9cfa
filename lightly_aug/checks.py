"""Checks of arguments. Every message says whose argument it is, what it must be, and what came."""

import math
from collections.abc import Sequence
from numbers import Integral

__all__ = ["check_choice", "check_integer", "check_interval", "check_positive", "check_share"]


def check_share(owner: object, **values: float) -> None:
    """Raise ValueError for values outside [0, 1].

    Args:
        owner: Whose arguments they are: an object, named by its class, or the name of a function.
        **values: By name.

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
    """Raise ValueError for values that are not above 0; see `check_share` for the arguments."""
    for name, value in values.items():
        if not value > 0:
            raise ValueError(f"{_name(owner)}: {name} must be above 0, got {value!r}")


def check_integer(owner: object, *, least: int | None = None, **values: int) -> None:
    """Raise ValueError for values that are no integers, or are below `least`; see `check_share` for the arguments."""
    for name, value in values.items():
        if not isinstance(value, Integral) or isinstance(value, bool) or (least is not None and value < least):
            bound = "" if least is None else f" >= {least}"
            raise ValueError(f"{_name(owner)}: {name} must be an integer{bound}, got {value!r}")


def check_interval(
    owner: object, low: float, high: float, *, open_low: bool = False, **values: Sequence[float]
) -> None:
    """Raise ValueError for values that are not a pair (a, b) with low <= a <= b <= high.

    Args:
        owner: As in `check_share`.
        low: The lower bound; the pair must be finite where it is infinite.
        high: The upper bound, likewise.
        open_low: Exclude `low` itself.
        **values: By name.
    """
    for name, value in values.items():
        pair = isinstance(value, Sequence) and len(value) == 2
        inside = pair and low <= value[0] <= value[1] <= high and not (open_low and value[0] == low)
        if not inside or not all(math.isfinite(v) for v in value):
            allowed = f"{'(' if open_low else '['}{low}, {high}]"
            raise ValueError(f"{_name(owner)}: {name} must lie in {allowed}, low <= high, got {value!r}")


def check_choice(owner: object, allowed: Sequence[object], **values: object) -> None:
    """Raise ValueError for values that are not among the allowed ones; see `check_share` for the arguments."""
    for name, value in values.items():
        if value not in allowed:
            raise ValueError(f"{_name(owner)}: {name} must be one of {', '.join(map(repr, allowed))}, got {value!r}")


def _name(owner: object) -> str:
    return owner if isinstance(owner, str) else type(owner).__name__
