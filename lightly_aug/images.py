"""Images of any kind as arrays of pixels, and many of them in one buffer."""

import io
import os
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError
from torch import Tensor

from lightly_aug import transport
from lightly_aug.buffers import borrow

__all__ = [
    "MODES",
    "Background",
    "ImageError",
    "PackedImages",
    "image_files",
    "is_image",
    "pack",
    "to_array",
]

Pixels = npt.NDArray[np.uint8] | npt.NDArray[np.float32]
Background = str | tuple[int, int, int] | None

MODES: Final = ("1", "L", "LA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV")
"""The PIL modes that images can be converted to."""

_NOT_DECODED: Final = frozenset({"BUFR", "EPS", "FPX", "GRIB", "HDF5", "MIC", "MPEG", "WMF"})
"""Formats that Pillow knows, but for which it starts another program (Ghostscript) or needs one."""


class ImageError(ValueError):
    """An image cannot be read or used; the message names the sample and, if there is one, the file."""


def is_image(value: object) -> bool:
    """Whether `to_array` takes values of this type."""
    return isinstance(value, Image.Image | Tensor | np.ndarray | str | os.PathLike | bytes | bytearray)


def image_files(folder: str | os.PathLike[str]) -> list[Path]:
    """List the image files in a folder and its subfolders, sorted, by the suffixes that Pillow registers.

    Links to folders are followed. Hidden files and folders are skipped; a warning counts other files, and names folders
    that cannot be read.

    Args:
        folder: The folder.

    Raises:
        NotADirectoryError: There is no such folder.
    """
    root = Path(folder)
    if not root.is_dir():
        raise NotADirectoryError(f"no folder {folder}")
    suffixes = _suffixes()
    found: list[Path] = []
    others: Counter[str] = Counter()
    unread: list[str] = []
    seen = {root.resolve()}
    for place, folders, names in os.walk(root, onerror=lambda error: unread.append(str(error)), followlinks=True):
        here = Path(place)
        real = {name: (here / name).resolve() for name in folders if not name.startswith(".")}
        folders[:] = [name for name, path in real.items() if path not in seen]  # a link may lead back
        seen.update(real.values())
        for file in (here / name for name in names if not name.startswith(".")):
            suffix = file.suffix.lower()
            if suffix in suffixes:
                found.append(file)
            else:
                others[suffix or "without suffix"] += 1
    if others:
        kinds = ", ".join(f"{count} {kind}" for kind, count in others.most_common())
        warnings.warn(f"{folder}: passed over files that are not images: {kinds}", stacklevel=2)
    if unread:
        warnings.warn(f"{folder}: passed over what cannot be read: {'; '.join(unread)}", stacklevel=2)
    return sorted(found, key=lambda file: file.parts)


def _formats() -> list[str]:
    Image.init()
    return [name for name in Image.ID if name not in _NOT_DECODED]


def _suffixes() -> set[str]:
    formats = set(_formats())
    return {suffix for suffix, name in Image.registered_extensions().items() if name in formats}


def to_array(
    image: Any, mode: str | None = "RGB", decode: int | None = None, background: Background = "white"
) -> Pixels:
    """Convert an image of any kind to an array of shape (height, width, channels), uint8 or float32.

    Args:
        image: One of

            * a PIL image, the path of a file, or its encoded bytes: EXIF orientation is applied, then `mode`;
              16-bit images are scaled from [0, 65535], float images are in [0, 1]
            * a tensor, (channels, height, width) or (height, width), uint8, uint16 or floating
            * a NumPy array, (height, width, channels) or (height, width), uint8, uint16 or floating

        mode: The PIL mode to convert PIL images and files to ("RGB", "L", "RGBA", "CMYK" …); None keeps the
            channels that they have (palettes become RGB or RGBA, 16-bit and float images become float32).
        decode: Shrink PIL images and files by the largest whole factor that leaves the shorter side at least this
            long, by averaging; JPEG files mostly while they are decoded, which is also faster. None keeps sizes.
        background: The colour behind transparent pixels of PIL images and files, if `mode` has no alpha channel: a
            name or "#rrggbb", or red, green and blue from 0 to 255. None drops transparency: what an editor left under
            it comes up.

    Raises:
        ImageError: The image is damaged, empty, or of another type or shape.
    """
    if isinstance(image, Tensor):
        try:
            tensor = image.detach().cpu().resolve_neg()
            array = (tensor.float() if tensor.is_floating_point() else tensor).numpy()  # NumPy has no bfloat16
        except Exception as error:  # tensors without plain numbers: sparse, nested, quantized, on meta
            raise ImageError(f"a tensor on {image.device} of layout {image.layout} has no pixels to read") from error
        return _checked(np.moveaxis(array, 0, -1) if array.ndim == 3 else array, image.dtype, image.shape)
    if isinstance(image, np.ndarray):
        if isinstance(image, np.ma.MaskedArray):
            raise ImageError("a masked array has pixels without values; give them some, as in image.filled(0)")
        if image.ndim == 3 and image.shape[0] in (1, 3, 4) and image.shape[2] > 32:
            raise ImageError(
                f"an array of shape {image.shape} looks like (channels, h, w); arrays are (h, w, channels)"
            )
        return _checked(image, image.dtype, image.shape)
    if isinstance(image, Image.Image):
        return _from_pil(image, mode, decode, background)
    if isinstance(image, str | os.PathLike | bytes | bytearray):
        try:
            file = io.BytesIO(image) if isinstance(image, bytes | bytearray) else image
            with Image.open(file, formats=_formats()) as opened:
                if decode is not None:
                    opened.draft(None, (decode, decode))  # has an effect on JPEG files only
                return _from_pil(opened, mode, decode, background)
        except ImageError:
            raise
        except UnidentifiedImageError:
            raise ImageError("not an image in a format that Pillow reads") from None
        except Exception as error:  # damaged files make Pillow raise almost anything
            raise _unreadable(error) from error
    raise ImageError(f"a {type(image).__name__} is not an image; wants a PIL image, tensor, array, path or bytes")


def _checked(array: npt.NDArray[Any], dtype: object, shape: Sequence[int]) -> Pixels:
    array = array[..., None] if array.ndim == 2 else array
    if array.ndim != 3 or 0 in array.shape:
        raise ImageError(f"shape {tuple(shape)} is not that of one image, (channels, h, w), (h, w, channels) or (h, w)")
    if array.dtype == np.uint8:
        return array
    if np.issubdtype(array.dtype, np.uint16):  # in either order of bytes
        return (array / np.float32(65535)).astype(np.float32, copy=False)
    if np.issubdtype(array.dtype, np.floating):
        with np.errstate(over="ignore"):  # what is too large becomes infinite
            return array.astype(np.float32, copy=False)
    raise ImageError(f"dtype {dtype} has no known range; make it uint8, uint16, or float scaled to [0, 1]")


def _from_pil(image: Image.Image, mode: str | None, decode: int | None, background: Background) -> Pixels:
    try:
        image.load()
        image = _upright(image)
        if image.mode.startswith("I"):  # 16 bits a pixel; Pillow itself would cut off at 255
            image = Image.fromarray(np.asarray(image, dtype=np.float32) / np.float32(65535))
        if image.mode == "F":
            return _from_deep(np.asarray(_shrunk(image, decode)), mode)
        array = np.asarray(_shrunk(_converted(image, mode, background), decode))
    except ImageError:
        raise
    except Exception as error:
        raise _unreadable(error) from error
    return _checked(array, array.dtype, array.shape)


def _shrunk(image: Image.Image, decode: int | None) -> Image.Image:
    factor = 1 if decode is None else min(image.size) // decode
    return image.reduce(factor) if factor > 1 else image


def _unreadable(error: Exception) -> ImageError:
    return ImageError(f"cannot read it: {str(error) or type(error).__name__}")


def _from_deep(values: npt.NDArray[np.float32], mode: str | None) -> Pixels:
    """Keep one channel of more than 8 bits as it is, or round it to 8 bits and convert it."""
    if mode is None:
        return values[..., None]
    if not (values.min() >= 0 and values.max() <= 1):
        raise ImageError(
            f"values from {values.min():g} to {values.max():g} of the range; mode=None takes them as they are"
        )
    array = np.asarray(Image.fromarray(np.rint(values * 255).astype(np.uint8)).convert(mode))
    return array if array.ndim == 3 else array[..., None]


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # damaged EXIF raises almost anything and leaves the pixels readable
        return image


def _converted(image: Image.Image, mode: str | None, background: Background) -> Image.Image:
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA" if image.mode == "PA" or "transparency" in image.info else "RGB")
    elif image.mode in ("La", "RGBa"):
        image = image.convert(image.mode.upper())
    elif image.mode == "LAB":
        profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        image = ImageCms.applyTransform(image, ImageCms.buildTransform(*profiles, "LAB", "RGB")) or image
    if background is not None and mode not in (None, "LA", "RGBA") and image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, background), image).convert("RGB")
    if mode is None:
        mode = {"1": "L", "CMYK": "RGB", "HSV": "RGB", "RGBX": "RGB", "YCbCr": "RGB"}.get(image.mode, image.mode)
    return image if image.mode == mode else image.convert(mode)


@dataclass(frozen=True)
class PackedImages:
    """Images of any sizes in one buffer.

    Attributes:
        pixels: 1-D, uint8 or float32: the images one behind the other, each laid out (height, width, channels).
        shapes: `(n, 3)` int64 on the CPU: offset, height and width of each image.
        channels: The number of channels.
        raw: Whether the values are those of 8-bit images; they may be floats that were only moved.
    """

    pixels: Tensor
    shapes: Tensor
    channels: int
    raw: bool

    def __len__(self) -> int:
        return len(self.shapes)

    def replace_pixels(self, pixels: Tensor) -> "PackedImages":
        """Return the same images with another buffer, such as one on another device."""
        return PackedImages(pixels, self.shapes, self.channels, self.raw)

    def select(self, start: int, stop: int) -> "PackedImages":
        """Return the images from `start` to before `stop`, in the same buffer."""
        return PackedImages(self.pixels, self.shapes[start:stop], self.channels, self.raw)

    def repeat(self, times: int) -> "PackedImages":
        """Return the images several times, in the same buffer."""
        return self if times == 1 else PackedImages(self.pixels, self.shapes.repeat(times, 1), self.channels, self.raw)

    def __getitem__(self, i: int) -> Tensor:
        """Return image i, `(channels, height, width)`, without a copy."""
        offset, h, w = self.shapes[i].tolist()
        return self.pixels[offset : offset + h * w * self.channels].view(h, w, self.channels).permute(2, 0, 1)


def pack(arrays: Sequence[Pixels], names: Sequence[str], *, travels: bool = True) -> PackedImages:
    """Copy arrays into one buffer.

    Args:
        arrays: Images, each (height, width, channels).
        names: What to call each of them in error messages.
        travels: Whether they leave the process, if it is a DataLoader worker: the buffer is then in shared memory.

    Returns:
        The images, uint8 if all of them are, else float32 (uint8 divided by 255).

    Raises:
        ImageError: The images differ in their number of channels.
    """
    channels = arrays[0].shape[2]
    for array, name in zip(arrays, names, strict=True):
        if array.shape[2] != channels:
            raise ImageError(
                f"{name} has {array.shape[2]} channels and {names[0]} has {channels}: "
                "a batch needs one number of channels (for PIL images and files, mode= sets it)"
            )
    sizes = np.array([array.size for array in arrays], dtype=np.int64)
    raw = all(array.dtype == np.uint8 for array in arrays)
    size, dtype = int(sizes.sum()), torch.uint8 if raw else torch.float32
    pixels = transport.empty(size, dtype) if travels else torch.from_numpy(borrow(size * dtype.itemsize)).view(dtype)
    shapes = torch.tensor([(0, *array.shape[:2]) for array in arrays], dtype=torch.int64)
    shapes[1:, 0] = torch.from_numpy(sizes.cumsum()[:-1])
    for array, start, size in zip(arrays, shapes[:, 0].tolist(), sizes.tolist(), strict=True):
        place = pixels[start : start + size].view(array.shape).numpy()
        if not raw and array.dtype == np.uint8:
            np.divide(array, np.float32(255), out=place)
        else:
            np.copyto(place, array)
    return PackedImages(pixels, shapes, channels, raw)
