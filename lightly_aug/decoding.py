"""Open image files of common formats with Pillow, and decode JPEG files faster than Pillow."""

import struct
from contextlib import suppress
from typing import IO, Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile, UnidentifiedImageError

from lightly_aug.buffers import borrow

__all__ = ["FORMATS", "decode_jpeg", "image_suffixes", "open_image"]

FORMATS: Final = (
    *("JPEG", "MPO", "PNG", "WEBP", "TIFF", "GIF", "BMP", "PPM", "JPEG2000", "AVIF", "QOI", "DDS", "DIB"),
    "TGA",  # the last one: it has no signature to know it by
)
"""The formats that are decoded. Pillow's others are rare, start another program (EPS), or decode while they are opened,
before their size can be checked (ICO)."""

_OF_ANOTHER_FORMAT = (SyntaxError, IndexError, TypeError, struct.error)  # what plugins of Pillow raise then

# What to ask of the decoder for a mode of the file and the mode it is converted to, and how many channels that are.
_COLORS: Final = {("RGB", "RGB"): ("RGB", 3), ("L", "RGB"): ("RGB", 3), ("L", "L"): ("GRAY", 1)}


def image_suffixes() -> set[str]:
    """Return the suffixes of files of these formats, in lower case with the dot."""
    Image.init()
    return {suffix for suffix, name in Image.registered_extensions().items() if name in FORMATS}


def open_image(stream: IO[bytes], name: str | bytes = "") -> ImageFile.ImageFile:
    """Read the header of an image file, as `PIL.Image.open` does, but without Pillow's bound on the size.

    That bound is one for the whole process and lets images of twice its size pass with a warning; callers have their
    own.

    Args:
        stream: The file.
        name: Its path, from which Pillow maps uncompressed pixels into memory.

    Raises:
        UnidentifiedImageError: The file is in none of `FORMATS`; the message names the format, if Pillow knows it.
    """
    Image.init()
    prefix = stream.read(16)
    for known in FORMATS:
        if known in Image.OPEN and _is_like(known, prefix) is True:
            stream.seek(0)
            with suppress(*_OF_ANOTHER_FORMAT):
                return Image.OPEN[known][0](stream, name)
    for known in Image.OPEN:
        found = _is_like(known, prefix)
        if isinstance(found, str):
            raise UnidentifiedImageError(f"not an image in a format that Pillow reads: {found}")
        if found and known not in FORMATS and Image.OPEN[known][1] is not None:
            raise UnidentifiedImageError(
                f"it looks like {known}, which is not decoded, as it is rare, or cannot be decoded safely; "
                "if you trust the file, convert it with PIL.Image.open(file).save('image.png')"
            )
    raise UnidentifiedImageError("not an image in a format that Pillow reads")


def _is_like(known: str, prefix: bytes) -> bool | str:
    """Whether a file may be in a format, by its first 16 bytes; or why this build of Pillow cannot read it."""
    accept = Image.OPEN[known][1]
    with suppress(*_OF_ANOTHER_FORMAT):
        found = accept is None or accept(prefix)
        return found if isinstance(found, str) else bool(found)
    return False


def decode_jpeg(image: ImageFile.ImageFile, data: bytes | bytearray, mode: str | None) -> npt.NDArray[np.uint8] | None:
    """Decode a JPEG file to the pixels that Pillow gives, in two thirds to four fifths of its time.

    Args:
        image: The opened file. If its `draft` was called, the file is shrunk to the image's size while it is decoded.
        data: The content of the file.
        mode: The PIL mode to convert to; None keeps the channels.

    Returns:
        Array of shape (height, width, channels). None where Pillow has to decode: files in CMYK, to be converted to
        another mode, tiny, or damaged, since Pillow then decides what can be saved.
    """
    import simplejpeg  # here, as other files do not need it

    width, height = image.size
    colors, channels = _COLORS.get((image.mode, mode or image.mode), ("", 0))
    if not colors or max(width, height) < 8:  # below 8 pixels, several scales give one size
        return None
    pixels = borrow(height * width * channels).reshape(height, width, channels)
    try:
        simplejpeg.decode_jpeg(data, colors, min_height=height, min_width=width, buffer=pixels, strict=True)
    except ValueError:  # an error of the decoder, or one of its warnings
        return None
    return pixels
