"""Damaged image files: 100,000 seeded mutants, of which none may do more than raise an ImageError.

The mutants are the same in every run. HYPOTHESIS_PROFILE=full, as in CI, tries all of them, "quick" a tenth.
"""

import io
import resource
import time
import warnings
from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

from lightly_aug import ImageError, MultiViewCollateFunction, Shape, View
from lightly_aug.images import to_array

MUTANTS = 100_000 if settings().max_examples >= 50 else 10_000
PATIENCE = 0.5  # CPU seconds for one mutant
MEGABYTES = 300  # what the peak of this process may grow by
PIXELS = 4_000_000  # a size that no mutant needs; larger ones are errors, so that the peak measures leaks

RANDOM = np.random.default_rng(0)


def picture(mode: str = "RGB") -> Image.Image:
    y, x = np.mgrid[:24, :32]
    planes = [x * 7, y * 9, (x * y) % 256]
    pixels = np.clip(np.stack(planes, axis=-1) + RANDOM.integers(0, 12, (24, 32, 3)), 0, 255)
    return Image.fromarray(pixels.astype(np.uint8)).convert(mode)


def save(image: Image.Image, kind: str, **options: Any) -> bytes:
    image.save(file := io.BytesIO(), kind, **options)
    return file.getvalue()


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "a camera"
    return save(picture(), "JPEG", exif=exif)


def clear_palette() -> bytes:
    return save(picture().quantize(16), "PNG", transparency=bytes(range(16)))


SEEDS: dict[str, Callable[[], bytes]] = {
    "jpeg": lambda: save(picture(), "JPEG"),
    "progressive": lambda: save(picture(), "JPEG", progressive=True),
    "cmyk": lambda: save(picture("CMYK"), "JPEG"),
    "turned": turned,
    "png": lambda: save(picture(), "PNG"),
    "png16": lambda: save(Image.fromarray(RANDOM.integers(0, 65536, (24, 32)).astype("uint16")), "PNG"),
    "palette": clear_palette,
    "gif": lambda: save(picture(), "GIF", save_all=True, append_images=[picture()]),
    "webp": lambda: save(picture(), "WEBP"),
    "tiff": lambda: save(picture(), "TIFF", compression="tiff_lzw"),
    "bmp": lambda: save(picture(), "BMP"),
    "ppm": lambda: save(picture(), "PPM"),
}


def flip_bits(data: bytearray, random: Random) -> None:
    for _ in range(random.choice((1, 2, 8, 32))):
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)


def stuff_integer(data: bytearray, random: Random) -> None:
    """Write a number at which sizes overflow, mostly near the beginning, where headers are."""
    width = random.choice((1, 2, 4))
    value = random.choice((0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF))
    place = random.randrange(min(len(data), random.choice((64, 10**6))))
    data[place : place + width] = (value % (1 << 8 * width)).to_bytes(width, random.choice(("big", "little")))


def cut(data: bytearray, random: Random) -> None:
    del data[random.randrange(len(data)) :]


def take_out(data: bytearray, random: Random) -> None:
    start = random.randrange(len(data))
    del data[start : start + random.randint(1, 64)]


def insert(data: bytearray, random: Random) -> None:
    place = random.randrange(len(data))
    data[place:place] = random.randbytes(random.randint(1, 64))


def copy(data: bytearray, random: Random) -> None:
    """Copy a piece to another place."""
    start, place = random.randrange(len(data)), random.randrange(len(data))
    piece = data[start : start + random.randint(1, 256)]
    data[place : place + random.choice((0, len(piece)))] = piece


MUTATIONS = (flip_bits, stuff_integer, cut, take_out, insert, copy)


def mutate(content: bytes, random: Random) -> bytes:
    data = bytearray(content)
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        random.choice(MUTATIONS)(data, random)
        if not data:
            break
    return bytes(data)


def read(mutant: bytes, mode: str | None, decode: int | None) -> tuple[bool, float]:
    """Return whether a mutant was read, rather than refused, and the CPU seconds that it took."""
    start = time.process_time()
    try:
        pixels = to_array(mutant, mode=mode, decode=decode)
    except ImageError:
        return False, time.process_time() - start
    assert pixels.ndim == 3
    assert pixels.size > 0
    assert pixels.dtype in (np.uint8, np.float32)
    return True, time.process_time() - start


@pytest.mark.parametrize("name", SEEDS)
def test_mutants_are_read_or_raise_an_image_error(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", PIXELS // 2)  # twice as many are an error
    warnings.simplefilter("ignore")  # of Pillow, about damaged EXIF data and large images
    count, random, content = -(-MUTANTS // len(SEEDS)), Random(name), SEEDS[name]()
    assert read(content, "RGB", None)[0]
    refused, slowest, peak = 0, 0.0, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(count):
        mutant, mode, decode = mutate(content, random), random.choice(("RGB", None)), random.choice((None, 8))
        done, seconds = read(mutant, mode, decode)
        if seconds > PATIENCE:  # once more, as a pause of the machine does not last
            done, seconds = read(mutant, mode, decode)
        assert seconds < PATIENCE, f"mutant {number} took {seconds:.2f} s"
        refused, slowest = refused + (not done), max(slowest, seconds)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) / 1024
    print(f"\n{name}: {count:,} mutants, {refused:,} refused, slowest {slowest:.3f} s, peak {grown:+.0f} MB")
    assert count * len(SEEDS) >= MUTANTS
    assert 0 < refused < count
    assert grown < MEGABYTES


@pytest.mark.parametrize("name", SEEDS)
def test_a_damaged_file_is_named_and_its_neighbour_is_not_touched(name: str) -> None:
    """The same through a batch, which is slower, so with fewer of them."""
    warnings.simplefilter("ignore")
    random, content, good = Random(name), SEEDS[name](), picture()
    collate = MultiViewCollateFunction([View(Shape(8))], seed=0, on_error="skip", mode="RGB")
    for _ in range(20):
        mutant = mutate(content, random)
        (views,) = collate([good, mutant]).to("cpu")
        assert 1 <= len(views) <= 2
        assert views.isfinite().all()
