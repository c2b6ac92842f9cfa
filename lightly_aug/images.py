"""Images of any kind as arrays of pixels, and many of them in one buffer."""

import io
import os
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import numpy.typing as npt
import torch
from PIL import ExifTags, Image, ImageCms, ImageOps, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile
from torch import Tensor

from lightly_aug import transport
from lightly_aug.buffers import borrow
from lightly_aug.choices import MAX_PIXELS
from lightly_aug.decoding import decode_jpeg, image_suffixes, open_image
from lightly_aug.user_warning import warn_user

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


class ImageError(ValueError):
    """An image cannot be read or used; the message names the sample and, if there is one, the file."""


def is_image(value: object) -> bool:
    """Whether `to_array` takes values of this type."""
    return isinstance(value, Image.Image | Tensor | np.ndarray | str | os.PathLike | bytes | bytearray)


def image_files(folder: str | os.PathLike[str]) -> list[Path]:
    """List the image files in a folder and its subfolders, sorted, by the suffixes of the formats that are decoded.

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
    suffixes = image_suffixes()
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
        warn_user(f"{folder}: passed over files that are not images: {kinds}")
    if unread:
        warn_user(f"{folder}: passed over what cannot be read: {'; '.join(unread)}")
    return sorted(found, key=lambda file: file.parts)


def to_array(
    image: Any,
    mode: str | None = "RGB",
    decode: int | None = None,
    background: Background = "white",
    max_pixels: int | None = MAX_PIXELS,
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
        decode: Shrink PIL images and files, by averaging, by the largest whole factor that leaves the shorter side at
            least this long. JPEG files are first shrunk by 2, 4 or 8 while they are decoded, which is faster, so their
            factor may be a smaller one (2, not 3). None keeps sizes.
        background: The colour behind transparent pixels of PIL images and files, if `mode` has no alpha channel: a
            name or "#rrggbb", or red, green and blue from 0 to 255. None drops transparency: what an editor left under
            it comes up.
        max_pixels: Refuse PIL images and files of more pixels, before any is decoded: small files can hold images that
            fill the memory. The size in the file counts, also if `decode` shrinks the image. None sets no bound.

    Raises:
        ImageError: The image is damaged, empty, too large, or of another type, format or shape.
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
        _check_size(image, max_pixels)
        return _from_pil(image, mode, decode, background)
    if isinstance(image, str | os.PathLike | bytes | bytearray):
        try:
            if isinstance(image, bytes | bytearray):
                return _from_file(io.BytesIO(image), "", mode, decode, background, max_pixels)
            with open(image, "rb") as stream:  # noqa: PTH123  (a path may be bytes)
                return _from_file(stream, os.fspath(image), mode, decode, background, max_pixels)
        except ImageError:
            raise
        except UnidentifiedImageError as error:
            raise ImageError(str(error)) from None
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


def _check_size(image: Image.Image, max_pixels: int | None) -> None:
    width, height = image.size
    if max_pixels is not None and width * height > max_pixels:
        raise ImageError(
            f"{width}x{height} are {width * height:,} pixels, max_pixels allows {max_pixels:,}; pass a larger "
            "max_pixels, in commands --max-pixels, if you trust the file and have the memory"
        )


def _from_file(
    stream: IO[bytes],
    name: str | bytes,
    mode: str | None,
    decode: int | None,
    background: Background,
    max_pixels: int | None,
) -> Pixels:
    image: Image.Image = open_image(stream, name)
    _check_size(image, max_pixels)
    if isinstance(image, JpegImageFile):
        if decode is not None:
            image.draft(None, (decode, decode))
        if _is_upright(image) and _factor(image, decode) == 1:
            stream.seek(0)
            pixels = decode_jpeg(image, stream.read(), mode)
            if pixels is not None:
                return pixels
    return _from_pil(image, mode, decode, background)


def _from_pil(image: Image.Image, mode: str | None, decode: int | None, background: Background) -> Pixels:
    try:
        _load(image)
        image = _upright(image)
        if image.mode.startswith("I"):  # 16 bits a pixel; Pillow itself would cut off at 255
            image = Image.fromarray(np.asarray(image, dtype=np.float32) / np.float32(65535))
        if image.mode == "F":
            return _from_deep(np.asarray(_shrunk(image, decode)), mode)
        image = _shrunk(_converted(image, mode, background), decode)
        array = _copy_pixels(image)
    except ImageError:
        raise
    except Exception as error:
        raise _unreadable(error) from error
    return _checked(array, array.dtype, array.shape)


def _load(image: Image.Image) -> None:
    """Decode an image that `max_pixels` allows, without a word of Pillow about its own bound."""
    if Image.MAX_IMAGE_PIXELS is None or image.width * image.height <= Image.MAX_IMAGE_PIXELS:
        image.load()
        return
    with warnings.catch_warnings():  # not for all images: it makes Python forget which warnings it has shown
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        image.load()


def _factor(image: Image.Image, decode: int | None) -> int:
    return 1 if decode is None else max(1, min(image.size) // decode)


def _copy_pixels(image: Image.Image) -> npt.NDArray[Any]:
    """Return the pixels of an image, those of 8 bits in memory that was used before: Pillow fills fresh memory only.

    So they are copied in strips of 100 kB, for which the allocator uses its memory again.
    """
    (width, height), channels = image.size, len(image.getbands())
    if image.mode not in MODES[1:]:
        return np.asarray(image)
    array = borrow(width * height * channels).reshape(height, width, channels)
    rows = max(100_000 // (width * channels), 1)
    for top in range(0, height, rows):
        strip = image.crop((0, top, width, min(top + rows, height)))
        array[top : top + rows] = np.asarray(strip).reshape(-1, width, channels)
    return array


def _shrunk(image: Image.Image, decode: int | None) -> Image.Image:
    factor = _factor(image, decode)
    return image.reduce(factor) if factor > 1 else image


def _unreadable(error: Exception) -> ImageError:
    if isinstance(error, Image.DecompressionBombError):  # of the few plugins of Pillow that check the size themselves
        return ImageError(
            f"cannot read it: {error} This is Pillow's own bound: if you trust the file, set "
            "PIL.Image.MAX_IMAGE_PIXELS = None, and max_pixels"
        )
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


def _is_upright(image: Image.Image) -> bool:
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1) not in range(2, 9)
    except Exception:  # damaged EXIF raises almost anything and leaves the pixels readable
        return True


def _upright(image: Image.Image) -> Image.Image:
    try:
        return image if _is_upright(image) else ImageOps.exif_transpose(image)
    except Exception:  # as above, when Pillow takes the orientation out
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
        raw: `(n,)` bool, whether an image's values are those of 8 bits; they may be floats that were only moved.
    """

    pixels: Tensor
    shapes: Tensor
    channels: int
    raw: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return self.shapes.shape[0]

    def replace_pixels(self, pixels: Tensor) -> "PackedImages":
        """Return the same images with another buffer, such as one on another device."""
        return PackedImages(pixels, self.shapes, self.channels, self.raw)

    def select(self, start: int, stop: int) -> "PackedImages":
        """Return the images from `start` to before `stop`, in the same buffer."""
        return PackedImages(self.pixels, self.shapes[start:stop], self.channels, self.raw[start:stop])

    def repeat(self, times: int) -> "PackedImages":
        """Return the images several times, in the same buffer."""
        shapes = self.shapes if times == 1 else torch.cat([self.shapes] * times)
        return PackedImages(self.pixels, shapes, self.channels, np.tile(self.raw, times))

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
    raw = np.array([array.dtype == np.uint8 for array in arrays])
    shapes, size = np.empty((len(arrays), 3), dtype=np.int64), 0
    for i, array in enumerate(arrays):
        shapes[i] = size, *array.shape[:2]
        size += array.size
    dtype = torch.uint8 if raw.all() else torch.float32
    pixels = transport.empty(size, dtype) if travels else torch.from_numpy(borrow(size * dtype.itemsize)).view(dtype)
    buffer = pixels.numpy()
    for array, start in zip(arrays, shapes[:, 0].tolist(), strict=True):
        place = buffer[start : start + array.size].reshape(array.shape)
        if place.dtype == array.dtype:
            np.copyto(place, array)
        else:
            np.divide(array, np.float32(255), out=place)
    return PackedImages(pixels, torch.from_numpy(shapes), channels, raw)
