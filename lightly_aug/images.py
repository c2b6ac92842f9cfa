"""Any image to an array of pixels, and many arrays into one buffer."""

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import get_worker_info

__all__ = ["MODES", "SUFFIXES", "ImageError", "empty", "image_files", "is_image", "pack", "to_array"]

Pixels = npt.NDArray[np.uint8] | npt.NDArray[np.float32]

MODES: Final = ("1", "L", "LA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV")
"""The PIL modes that images can be converted to."""

SUFFIXES: Final = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})


class ImageError(ValueError):
    """An image that cannot be read or used; the text names the sample and, where there is one, the file."""


def is_image(value: object) -> bool:
    """Whether `to_array` takes values of this type."""
    return isinstance(value, Image.Image | Tensor | np.ndarray | str | os.PathLike | bytes | bytearray)


def image_files(folder: str | os.PathLike[str]) -> list[Path]:
    """All image files in a folder and its subfolders, sorted; hidden files and folders are passed over.

    Raises:
        NotADirectoryError: there is no such folder.
    """
    root = Path(folder)
    if not root.is_dir():
        raise NotADirectoryError(f"no folder {folder}")
    files = (f for f in root.rglob("*") if f.suffix.lower() in SUFFIXES and f.is_file())
    return sorted(f for f in files if not any(part.startswith(".") for part in f.relative_to(root).parts))


def to_array(image: Any, mode: str | None = "RGB", decode: int | None = None) -> Pixels:
    """Turn an image of any kind into an array of shape (height, width, channels), uint8 or float32.

    Args:
        image: one of

            * a PIL image, the path of a file, or its encoded bytes: EXIF orientation is applied, then `mode`;
              16-bit images are scaled from [0, 65535], those of floats are in [0, 1]
            * a tensor, (channels, height, width) or (height, width), uint8, uint16 or floating
            * a NumPy array, (height, width, channels) or (height, width), likewise

        mode: the PIL mode that PIL images and files are converted to ("RGB", "L", "RGBA", "CMYK" …); None keeps the
            channels that they have (palettes become RGB or RGBA, 16-bit and float images become float32).
        decode: PIL images and files are shrunk by a whole factor, the largest that leaves the shorter side at least
            this long, by averaging; JPEG files mostly as they are decoded, which is faster, too. None keeps sizes.

    Raises:
        ImageError: the image is damaged, empty, or of another type or shape.
    """
    if isinstance(image, Tensor):
        tensor = image.detach().cpu()
        array = (tensor.float() if tensor.is_floating_point() else tensor).numpy()  # NumPy has no bfloat16
        return _checked(np.moveaxis(array, 0, -1) if array.ndim == 3 else array, image.dtype, image.shape)
    if isinstance(image, np.ndarray):
        if image.ndim == 3 and image.shape[0] in (1, 3, 4) and image.shape[2] > 32:
            raise ImageError(
                f"an array of shape {image.shape} looks like (channels, h, w); arrays are (h, w, channels)"
            )
        return _checked(image, image.dtype, image.shape)
    if isinstance(image, Image.Image):
        return _from_pil(image, mode, decode)
    if isinstance(image, str | os.PathLike | bytes | bytearray):
        try:
            with Image.open(io.BytesIO(image) if isinstance(image, bytes | bytearray) else image) as opened:
                if decode is not None:
                    opened.draft(None, (decode, decode))  # JPEGs heed it
                return _from_pil(opened, mode, decode)
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
    if array.dtype == np.uint16:
        return (array / np.float32(65535)).astype(np.float32, copy=False)
    if np.issubdtype(array.dtype, np.floating):
        return array.astype(np.float32, copy=False)
    raise ImageError(f"dtype {dtype} has no known range; make it uint8, uint16, or float scaled to [0, 1]")


def _from_pil(image: Image.Image, mode: str | None, decode: int | None) -> Pixels:
    try:
        image.load()
        image = _upright(image)
        if image.mode.startswith("I"):  # 16 bits a pixel; Pillow itself would cut off at 255
            image = Image.fromarray(np.asarray(image, dtype=np.float32) / np.float32(65535))
        if image.mode == "F":
            return _from_deep(np.asarray(_shrunk(image, decode)), mode)
        array = np.asarray(_shrunk(_converted(image, mode), decode))
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
    """One channel of more than 8 bits: as it is, or rounded to 8 bits and converted."""
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
    except Exception:  # damaged EXIF raises almost anything, and does not make the pixels worse
        return image


def _converted(image: Image.Image, mode: str | None) -> Image.Image:
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA" if image.mode == "PA" or "transparency" in image.info else "RGB")
    elif image.mode in ("La", "RGBa"):
        image = image.convert(image.mode.upper())
    elif image.mode == "LAB":
        profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        image = ImageCms.applyTransform(image, ImageCms.buildTransform(*profiles, "LAB", "RGB")) or image
    if mode is None:
        mode = {"1": "L", "CMYK": "RGB", "HSV": "RGB", "RGBX": "RGB", "YCbCr": "RGB"}.get(image.mode, image.mode)
    return image if image.mode == mode else image.convert(mode)


def pack(arrays: Sequence[Pixels], names: Sequence[str]) -> tuple[Tensor, Tensor, int]:
    """Copy arrays into one buffer; in a DataLoader worker it lies in shared memory, so that it is not copied again.

    Args:
        arrays: images, each (height, width, channels).
        names: how to speak of each of them in an error.

    Returns:
        pixels: 1-D, uint8 if all images are, else float32 (uint8 divided by 255).
        shapes: (n, 3) int64, the offset, height and width of each image in it; the layout is (height, width,
            channels).
        channels: the number of channels.

    Raises:
        ImageError: the images differ in their number of channels.
    """
    channels = arrays[0].shape[2]
    for array, name in zip(arrays, names, strict=True):
        if array.shape[2] != channels:
            raise ImageError(
                f"{name} has {array.shape[2]} channels and {names[0]} has {channels}: "
                "a batch needs one number of channels (for PIL images and files, mode= sets it)"
            )
    sizes = np.array([array.size for array in arrays], dtype=np.int64)
    dtype = torch.uint8 if all(array.dtype == np.uint8 for array in arrays) else torch.float32
    pixels = empty(int(sizes.sum()), dtype)
    shapes = torch.tensor([(0, *array.shape[:2]) for array in arrays], dtype=torch.int64)
    shapes[1:, 0] = torch.from_numpy(sizes.cumsum()[:-1])
    for array, start, size in zip(arrays, shapes[:, 0].tolist(), sizes.tolist(), strict=True):
        place = pixels[start : start + size].view(array.shape).numpy()
        if dtype == torch.float32 and array.dtype == np.uint8:
            np.divide(array, np.float32(255), out=place)
        else:
            np.copyto(place, array)
    return pixels, shapes, channels


def empty(size: int, dtype: torch.dtype) -> Tensor:
    """An uninitialised 1-D tensor; in a DataLoader worker in shared memory, so that it is not copied on its way out.

    Args:
        size: the number of elements.
        dtype: uint8 or float32.
    """
    if get_worker_info() is None:  # NumPy asks for huge pages, which come faster
        return torch.from_numpy(np.empty(size, dtype=np.uint8 if dtype == torch.uint8 else np.float32))
    storage = torch.UntypedStorage._new_shared(size * dtype.itemsize)  # type: ignore[no-untyped-call]
    return torch.empty(0, dtype=dtype).set_(storage)[:size]
