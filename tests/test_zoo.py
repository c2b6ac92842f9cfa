"""A zoo of image files: every format and mode that Pillow writes, as path, bytes and opened image, against Pillow."""

import io
import struct
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageCms, ImageOps

from lightly_aug import ImageError, MultiViewCollateFunction, Shape, View
from lightly_aug.images import to_array

W, H = 23, 17
RANDOM = np.random.default_rng(0)


def picture(mode: str = "RGB", size: tuple[int, int] = (W, H)) -> Image.Image:
    """Return a smooth picture with some noise."""
    w, h = size
    y, x = np.mgrid[:h, :w]
    planes = [120 + 100 * np.sin(x / 7 + k) * np.cos(y / 5 - k) + RANDOM.normal(0, 4, (h, w)) for k in range(4)]
    rgba = Image.fromarray(np.clip(np.stack(planes, axis=-1), 0, 255).astype(np.uint8))
    return rgba if mode == "RGBA" else rgba.convert("RGB").convert(mode)


def deep(dtype: str = "uint16") -> npt.NDArray[Any]:
    return RANDOM.integers(0, 65536, (H, W)).astype(dtype)


def save(image: Image.Image, kind: str, **options: Any) -> bytes:
    image.save(file := io.BytesIO(), kind, **options)
    return file.getvalue()


def of_mode(mode: str, kind: str, **options: Any) -> bytes:
    return save(picture(mode), kind, **options)


def clear_palette() -> Image.Image:
    image = picture().quantize(16)
    image.info["transparency"] = 3
    return image


ADAM7 = (0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)


def interlaced_png() -> bytes:
    """Write an RGB PNG in the seven passes of Adam7, which Pillow reads and does not write."""
    pixels = np.asarray(picture())
    rows = []
    for top, left, down, across in ADAM7:
        rows += [b"\0" + row.tobytes() for row in pixels[top::down, left::across]]

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", W, H, 8, 2, 0, 0, 1)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"".join(rows))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def rotated(orientation: int, kind: str = "JPEG") -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return (
        save(picture(), kind, exif=exif.tobytes(), quality=95) if kind == "JPEG" else save(picture(), kind, exif=exif)
    )


def frames(kind: str, **options: Any) -> bytes:
    more = [picture() for _ in range(3)]
    return save(picture(), kind, save_all=True, append_images=more, **options)


def tiff(image: Image.Image, **options: Any) -> bytes:
    return save(image, "TIFF", **options)


SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


class Animal(NamedTuple):
    """A kind of file.

    Attributes:
        make: Makes the bytes of the file.
        exact: Whether Pillow's own conversion is the oracle: not where it cuts 16 bits off, drops transparency or
            takes LAB for something else; `test_images.py` has oracles for these.
        says: Text of the error if the image is refused as RGB; empty if it is taken.
    """

    make: Callable[[], bytes]
    exact: bool = True
    says: str = ""


ZOO: dict[str, Animal] = {
    **{f"png {m}": Animal(partial(of_mode, m, "PNG"), m in ("1", "L", "RGB", "P"))
        for m in ("1", "L", "LA", "P", "RGB", "RGBA")},
    "png 16 bits": Animal(lambda: save(Image.fromarray(deep()), "PNG"), exact=False),
    "png of 1 bit, palette": Animal(lambda: save(picture().quantize(2), "PNG", bits=1)),
    "png of 4 bits, palette": Animal(lambda: save(picture().quantize(16), "PNG", bits=4)),
    "png palette, transparent": Animal(lambda: save(clear_palette(), "PNG"), exact=False),
    "png transparent colour": Animal(lambda: save(picture(), "PNG", transparency=(1, 2, 3)), exact=False),
    "png interlaced": Animal(interlaced_png),
    "png with profile": Animal(lambda: save(picture(), "PNG", icc_profile=SRGB)),
    "png with gamma and text": Animal(lambda: save(picture(), "PNG", dpi=(72, 72), optimize=True)),
    "apng": Animal(lambda: frames("PNG", duration=50)),
    "jpeg L": Animal(lambda: save(picture("L"), "JPEG")),
    "jpeg RGB": Animal(lambda: save(picture(), "JPEG")),
    "jpeg CMYK": Animal(lambda: save(picture("CMYK"), "JPEG")),
    "jpeg YCbCr": Animal(lambda: save(picture("YCbCr"), "JPEG")),
    "jpeg progressive": Animal(lambda: save(picture(), "JPEG", progressive=True)),
    "jpeg 4:4:4": Animal(lambda: save(picture(), "JPEG", subsampling=0, quality=100)),
    "jpeg 4:2:0, optimised": Animal(lambda: save(picture(), "JPEG", subsampling=2, optimize=True, quality=10)),
    "jpeg kept as RGB": Animal(lambda: save(picture(), "JPEG", keep_rgb=True)),
    "jpeg with restarts": Animal(lambda: save(picture(), "JPEG", restart_marker_blocks=1)),
    "jpeg with profile": Animal(lambda: save(picture(), "JPEG", icc_profile=SRGB)),
    **{f"jpeg turned {o}": Animal(partial(rotated, o)) for o in range(1, 9)},
    **{f"{k.lower()} turned 6": Animal(partial(rotated, 6, k)) for k in ("PNG", "WEBP", "TIFF")},
    "mpo": Animal(lambda: frames("MPO")),
    "gif L": Animal(lambda: save(picture("L"), "GIF")),
    "gif P": Animal(lambda: save(picture().quantize(64), "GIF")),
    "gif interlaced": Animal(lambda: save(picture().quantize(64), "GIF", interlace=1)),
    "gif transparent": Animal(lambda: save(clear_palette(), "GIF", transparency=3), exact=False),
    "gif frames": Animal(lambda: frames("GIF", duration=50, loop=0)),
    "webp": Animal(lambda: save(picture(), "WEBP")),
    "webp lossless": Animal(lambda: save(picture(), "WEBP", lossless=True)),
    "webp alpha": Animal(lambda: save(picture("RGBA"), "WEBP"), exact=False),
    "webp frames": Animal(lambda: frames("WEBP", lossless=True)),
    **{f"tiff {m}": Animal(partial(of_mode, m, "TIFF"), m not in ("LA", "RGBA"))
        for m in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr")},
    "tiff LAB": Animal(lambda: tiff(picture("LAB")), exact=False),
    "tiff 16 bits": Animal(lambda: tiff(Image.fromarray(deep())), exact=False),
    "tiff float": Animal(lambda: tiff(Image.fromarray(RANDOM.random((H, W), np.float32))), exact=False),
    "tiff float out of range": Animal(
        lambda: tiff(Image.fromarray(RANDOM.random((H, W), np.float32) * 9 - 4)), says="values from -"
    ),
    "tiff 32 bits": Animal(lambda: tiff(Image.fromarray(deep("int32") * 3)), says="values from 0"),
    **{f"tiff {c}": Animal(partial(of_mode, "RGB", "TIFF", compression=c))
        for c in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")},
    "tiff group4": Animal(lambda: tiff(picture("1"), compression="group4")),
    "tiff strips": Animal(lambda: tiff(picture(), strip_size=3 * W * 2)),
    "tiff big": Animal(lambda: tiff(picture(), big_tiff=True)),
    "tiff pages": Animal(lambda: frames("TIFF")),
    **{f"bmp {m}": Animal(partial(of_mode, m, "BMP"), m != "RGBA") for m in ("1", "L", "P", "RGB", "RGBA")},
    "dib": Animal(lambda: save(picture(), "DIB")),
    **{f"ppm {m}": Animal(partial(of_mode, m, "PPM")) for m in ("1", "L", "RGB")},
    "pgm 16 bits": Animal(lambda: save(Image.fromarray(deep()), "PPM"), exact=False),
    "ppm in letters": Animal(
        lambda: f"P3 {W} {H} 255 ".encode() + " ".join(map(str, np.asarray(picture()).ravel())).encode()
    ),
    "rgb 1x1": Animal(lambda: save(picture(size=(1, 1)), "PNG")),
    "rgb 1xN": Animal(lambda: save(picture(size=(1, 61)), "PNG")),
    "rgb Nx1": Animal(lambda: save(picture(size=(61, 1)), "PNG")),
    "jpeg 1x1": Animal(lambda: save(picture(size=(1, 1)), "JPEG")),
    "jpeg 1xN": Animal(lambda: save(picture(size=(1, 61)), "JPEG")),
    "jpeg Nx1": Animal(lambda: save(picture(size=(61, 1)), "JPEG")),
    "jpeg larger": Animal(lambda: save(picture(size=(203, 151)), "JPEG")),
    "empty file": Animal(lambda: b"", says="not an image"),
    "text": Animal(lambda: b"not an image at all", says="not an image"),
    "cut off png": Animal(lambda: save(picture(), "PNG")[:200], says="cannot read it"),
    "zeros after a header": Animal(lambda: b"\xff\xd8\xff\xe0" + bytes(100), says=""),
}  # fmt: skip
ZOO["zeros after a header"] = ZOO["zeros after a header"]._replace(says="(not an image|cannot read it)")

# formats that few data sets use: taken or refused by name, as the library decides, but nothing else
RARE: dict[str, Callable[[], bytes]] = {
    "jpeg2000": lambda: save(picture(), "JPEG2000"),
    "avif": lambda: save(picture(), "AVIF"),
    "tga": lambda: save(picture(), "TGA"),
    "ico": lambda: save(picture("RGBA", (32, 32)), "ICO"),
    "icns": lambda: save(picture("RGBA", (32, 32)), "ICNS"),
    "pcx": lambda: save(picture(), "PCX"),
    "sgi": lambda: save(picture(), "SGI"),
    "spider": lambda: save(Image.fromarray(RANDOM.random((H, W), np.float32)), "SPIDER"),
    "msp": lambda: save(picture("1"), "MSP"),
    "xbm": lambda: save(picture("1"), "XBM"),
    "dds": lambda: save(picture(), "DDS"),
    "blp": lambda: save(picture().quantize(256), "BLP"),
    "qoi": lambda: save(picture(), "QOI"),
    "eps": lambda: save(picture(), "EPS"),
    "pdf": lambda: save(picture(), "PDF"),
}

WAYS: dict[str, Callable[[bytes, Path], Any]] = {
    "bytes": lambda content, path: content,
    "bytearray": lambda content, path: bytearray(content),
    "path": lambda content, path: path,
    "text": lambda content, path: str(path),
    "opened": lambda content, path: Image.open(io.BytesIO(content)),
}


def arrays(content: bytes, path: Path, **options: Any) -> list[Any]:
    """Return what comes of a file in each way: the pixels, or the text of the error."""
    path.write_bytes(content)
    results: list[Any] = []
    for way, give in WAYS.items():
        try:
            image = give(content, path)
        except Exception:
            assert way == "opened", "this way opens nothing"
            continue  # Pillow itself refuses it before we see it
        try:
            results.append(to_array(image, **options))
        except ImageError as error:
            results.append(str(error))
    return results


def assert_sound(results: list[Any]) -> None:
    """Every way gives the same pixels, which are an image, or the same kind of answer."""
    first = results[0]
    for result in results:
        assert isinstance(result, str) == isinstance(first, str)
        if not isinstance(result, str):
            assert result.dtype == first.dtype
            assert np.array_equal(result, first)
            assert result.ndim == 3
            assert 0 not in result.shape
            assert np.isfinite(result).all()


@pytest.mark.parametrize("name", ZOO)
def test_a_file_is_read_as_pillow_reads_it_or_refused_by_name(name: str, tmp_path: Path) -> None:
    animal = ZOO[name]
    content, path = animal.make(), tmp_path / "animal"
    results = arrays(content, path)
    assert_sound(results)
    if animal.says:
        assert isinstance(results[0], str), f"{name} was taken"
        collate = MultiViewCollateFunction([View(Shape(8))], seed=0)
        with pytest.raises(ImageError, match=rf"sample 1, .*animal: {animal.says}"):
            collate([picture(), str(path)])
        return
    assert not isinstance(results[0], str), results[0]
    assert results[0].dtype == np.uint8
    assert results[0].shape[2] == 3
    with Image.open(io.BytesIO(content)) as opened:
        expected = np.asarray(ImageOps.exif_transpose(opened).convert("RGB"))
    assert results[0].shape == expected.shape
    if animal.exact:
        assert np.array_equal(results[0], expected)


@pytest.mark.parametrize("name", ZOO)
def test_channels_and_sizes_of_every_file(name: str, tmp_path: Path) -> None:
    """The channels that a file has, and shrinking by a whole factor, whichever way it comes."""
    content, path = ZOO[name].make(), tmp_path / "animal"
    whole = arrays(content, path, mode=None)
    assert_sound(whole)
    full, shrunk = arrays(content, path), arrays(content, path, decode=4)
    assert_sound(shrunk[:4])  # Pillow has decoded an opened image, unless it is a JPEG file
    for before, after in zip(full, shrunk, strict=True):
        if isinstance(before, str):
            assert isinstance(after, str)
            continue
        h, w = before.shape[:2]
        factor = max(min(h, w) // 4, 1)
        if "jpeg" in name or name == "mpo":  # shrunk by 2, 4 or 8 while it is decoded
            assert min(4, h, w) <= min(after.shape[:2]) <= 8
        else:
            assert after.shape[:2] == (-(-h // factor), -(-w // factor))


@pytest.mark.parametrize("name", RARE)
def test_rare_formats_are_read_or_refused(name: str, tmp_path: Path) -> None:
    try:
        content = RARE[name]()
    except (KeyError, OSError) as error:  # this Pillow cannot write it
        pytest.skip(f"Pillow: {error}")
    for options in ({}, {"mode": None}, {"decode": 4}):
        results = arrays(content, tmp_path / "animal", **options)
        results = results[:4]  # of an opened image, Pillow has chosen the format
        assert_sound(results)
        if isinstance(results[0], str):
            assert results[0]


def test_the_zoo_is_large() -> None:
    assert len(ZOO) >= 40
