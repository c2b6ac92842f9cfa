"""Warnings that point at the code of the user, however deep in libraries they arise."""

import sys
import warnings
from typing import Final

__all__ = ["warn_user"]

_PASSED_OVER: Final = ("lightly_aug", "huggingface_hub", "lightning", "torch", "torchdata")
"""Packages between the code of a user and a warning, such as the loops that call back."""


def warn_user(text: str) -> None:
    """Warn, with the innermost line as the place that is neither of this library nor of those that call it back.

    Args:
        text: The warning.
    """
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _PASSED_OVER:
        level, frame = level + 1, frame.f_back
    warnings.warn(text, stacklevel=level)
