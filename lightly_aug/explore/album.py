"""The images of a folder, read when they are shown."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from lightly_aug.images import ImageError, to_array

__all__ = ["Damaged", "Picture", "read_pictures"]

_THUMBNAIL: Final = 400
"""Longest side of the picture of an original, in pixels."""


@dataclass(frozen=True, eq=False)
class Picture:
    """An image that was read.

    Attributes:
        name: Path within the folder.
        pixels: `(height, width, 3)` uint8.
        thumbnail: A small JPEG of it.
    """

    name: str
    pixels: npt.NDArray[np.uint8]
    thumbnail: bytes


@dataclass(frozen=True)
class Damaged:
    """An image that cannot be read.

    Attributes:
        name: Path within the folder.
        reason: Text of the error.
    """

    name: str
    reason: str


def read_pictures(folder: Path, files: Sequence[Path], decode: int) -> list[Picture | Damaged]:
    """Read images; those that are read again come from memory, unless their file has changed.

    Args:
        folder: The folder, which names are relative to.
        files: Files in it.
        decode: As in `BaseCollateFunction`.
    """
    read: list[Picture | Damaged] = []
    for file in files:
        name = file.relative_to(folder).as_posix()
        try:
            state = file.stat()
            read.append(_read(file, name, decode, state.st_mtime_ns, state.st_size))
        except ImageError as error:
            read.append(Damaged(name, str(error)))
        except OSError as error:
            read.append(Damaged(name, error.strerror or str(error)))
    return read


@lru_cache(maxsize=32)  # two recipes with the most images that the page shows
def _read(file: Path, name: str, decode: int, changed: int, size: int) -> Picture:
    pixels = to_array(file, "RGB", decode).astype(np.uint8, copy=False)  # as files in this mode are
    small = Image.fromarray(pixels)
    small.thumbnail((_THUMBNAIL, _THUMBNAIL))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=88)
    return Picture(name, pixels, buffer.getvalue())
