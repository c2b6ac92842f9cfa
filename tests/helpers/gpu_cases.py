"""Random views, rendered by the compiled kernels of the GPU engine and by the reference, without a device.

Run as a program, in a process whose Triton compiles: `python -m helpers.gpu_cases CASES NAME …` prints what was done
as JSON, or fails and names the first wrong view. A case is a list of operations, with its draws, on two images.
"""

import json
import random
import sys
from collections import Counter
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks.ptx import driver
from helpers.cases import Array, noise
from lightly_aug import (
    CenterCrop,
    ColorJitter,
    Crop,
    MultiViewCollateFunction,
    Normalize,
    RandomGaussianBlur,
    RandomGrayscale,
    RandomHorizontalFlip,
    RandomJigsawPatch,
    RandomResizedCrop,
    RandomRotation,
    RandomRotation90,
    RandomSolarize,
    RandomVerticalFlip,
    Resize,
    View,
    Views,
)
from lightly_aug.engines import Output, render
from lightly_aug.operations import Operation

__all__ = ["SETTINGS", "Setting", "main"]

CPU: Final = torch.device("cpu")


class Setting(NamedTuple):
    """What kernels are compiled for.

    Attributes:
        capability: Compute capability, 90 for 9.0.
        channels: The number of channels.
        pixels: Dtype of the images.
        dtype: Dtype of the views.
        last: Whether channels are last.
        sizes: Of views.
    """

    capability: int
    channels: int
    pixels: type
    dtype: torch.dtype
    last: bool
    sizes: tuple[tuple[int, int], ...]


WIDE: Final = (16, 16), (8, 24), (40, 32), (1, 8)
ODD: Final = (1, 1), (7, 13), (33, 35), (19, 19), (2, 41)
"""Sizes of views: of widths that are multiples of 8, whose rows are read 16 bytes at a time, and of others."""

SETTINGS: Final = {
    "photographs": Setting(90, 3, np.uint8, torch.bfloat16, last=False, sizes=WIDE + ODD),
    "channels last": Setting(80, 3, np.uint8, torch.bfloat16, last=True, sizes=WIDE + ODD),
    "float32": Setting(86, 3, np.uint8, torch.float32, last=False, sizes=WIDE + ODD),
    "floats": Setting(100, 3, np.float32, torch.float16, last=False, sizes=ODD),
    "gray": Setting(89, 1, np.float32, torch.bfloat16, last=False, sizes=WIDE),
    "four channels": Setting(100, 4, np.uint8, torch.float32, last=True, sizes=WIDE + ODD),
}

VIEWS: Final = 170
"""Views of a batch: as many as possible are rendered in one launch."""


def main() -> None:
    """Check the cases of settings."""
    cases, *names = sys.argv[1:]
    torch.set_num_threads(1)
    done = Counter[str]()
    for name in names:
        check_setting(name, int(cases), done)
    done["launches"] = len(driver.LAUNCHES)
    print(json.dumps(done))


def check_setting(name: str, cases: int, done: Counter[str]) -> None:
    """Check the cases of one setting."""
    setting = SETTINGS[name]
    driver.install(setting.capability)
    for seed, start in enumerate(range(0, cases, VIEWS)):
        check_batch(setting, min(VIEWS, cases - start), f"{name} {seed}", done)
        if setting.pixels is np.float32:
            check_what_is_not_finite(setting, f"{name} {seed}", done)


def check_batch(setting: Setting, count: int, seed: str, done: Counter[str]) -> None:
    """Check one case for each of the views of one batch."""
    rng = random.Random(seed)
    sizes = rng.sample(setting.sizes, 3)
    images = [draw_image(rng, setting) for _ in range(2)]
    views = [View(*draw_operations(rng, setting.channels, rng.choice(sizes))) for _ in range(count)]
    batch = pack(views, images, rng.randrange(2**32))
    ours = draw(batch, setting)
    truths = render(batch.images, batch.table, batch.views, Output(CPU, torch.float64), "reference")
    for view, fast, truth in zip(views, ours, truths, strict=True):
        normalize = [operation for operation in view.operations if isinstance(operation, Normalize)]
        unit = min([float(np.min(operation.std)) for operation in normalize], default=1.0)
        allowed = 1e-4 / unit + truth.abs() * (0 if fast.dtype == torch.float32 else torch.finfo(fast.dtype).eps / 2)
        assert fast.dtype == setting.dtype
        assert fast.shape == truth.shape
        assert fast.is_contiguous(memory_format=format_of(setting))
        off = ((fast.double() - truth).abs() - allowed).amax()  # NaN is too far off, too
        assert off <= 0, f"{seed!r}: {view!r} of images {[x.shape for x in images]} is off by {float(off)} more"
        done["cases"] += 1
        done["values"] += fast.numel()


def check_what_is_not_finite(setting: Setting, seed: str, done: Counter[str]) -> None:
    """Check that NaN and infinities spread as far as a blur reaches, and stay in their image in any case."""
    rng = random.Random(seed)
    height, width = rng.choice(setting.sizes)
    images = [noise(height, width, setting.channels, seed=i, dtype=np.float32) for i in range(2)]
    blur = RandomGaussianBlur((0.3, 1.5), p=1)
    views = [View(blur), View(RandomHorizontalFlip(1), blur, Normalize(0.5, 0.5))]
    views.append(View(Crop((height + 3, width + 3), top=-2, left=-1)))  # what is outside reads a pixel of weight 0
    views += [View(*draw_operations(rng, setting.channels, (7, 13))) for _ in range(4)]
    batch = pack(views, images, 0)
    before = draw(batch, setting)
    value = rng.choice([np.nan, np.inf, -np.inf])
    batch.images.pixels[rng.choice([0, rng.randrange(images[0].size)])] = (
        value  # a collate function refuses such an image
    )
    ours = draw(batch, setting)
    truths = render(batch.images, batch.table, batch.views, Output(CPU, torch.float64), "reference")
    for fast, truth in zip(ours[:3], truths[:3], strict=True):
        assert torch.equal(fast.isfinite(), truth.isfinite()), f"{value} spreads further, {seed!r}"
        assert not truth.isfinite().all()
    for view, fast, expected in zip(views, ours, before, strict=True):
        assert torch.equal(fast[1], expected[1]), f"{value} leaves its image in {view!r}, {seed!r}"
        done["not finite"] += 1


def pack(views: list[View], images: list[Array], seed: int) -> Views:
    """Draw views of images, for any engine to render."""
    collate = MultiViewCollateFunction(views, seed=seed, render="late", engine="reference", mode=None)
    made: Views = collate(images)
    return made


def draw(batch: Views, setting: Setting) -> list[Tensor]:
    """Render with the engine "gpu"; memory that it does not write to is full of NaN."""
    output = Output(CPU, setting.dtype, format_of(setting))
    torch._C._set_deterministic_algorithms(True)  # as the public function, which imports TorchDynamo, for seconds
    try:
        return render(batch.images, batch.table, batch.views, output, "gpu")
    finally:
        torch._C._set_deterministic_algorithms(False)


def format_of(setting: Setting) -> torch.memory_format:
    """Return the memory format of the views."""
    return torch.channels_last if setting.last else torch.contiguous_format


# --- what is drawn ----------------------------------------------------------------------------------------------


def draw_image(rng: random.Random, setting: Setting) -> Array:
    """Draw an image: noise, noise in a black frame, of two levels, of one level, or black."""
    height, width = rng.choice([(1, 1), (1, 9), (30, 2), (20, 24), (33, 17), (12, 40)])
    image = noise(height, width, setting.channels, seed=rng.randrange(1000), dtype=setting.pixels)
    most = 255 if setting.pixels is np.uint8 else 1
    match rng.choice(["noise", "noise", "frame", "levels", "level", "black"]):
        case "frame":
            frame = np.zeros_like(image)
            frame[height // 4 : -(height // 4) or None, width // 4 : -(width // 4) or None] = 1
            image *= frame
        case "levels":
            image = ((image > most // 2) * most).astype(setting.pixels)
        case "level":
            image[:] = image[0, 0]
        case "black":
            image[:] = 0
    return image


def draw_operations(rng: random.Random, channels: int, size: tuple[int, int]) -> list[Operation]:
    """Draw operations in any order that end in a size."""
    operations = [*draw_move(rng, size), *draw_colours(rng, channels)]
    if rng.random() < 0.04:  # a second pass
        operations += [*draw_move(rng, size), *draw_colours(rng, channels)]
    if rng.random() < 0.5:
        operations.append(Normalize(0.5, rng.choice([0.25, 0.5])))
    return operations


def draw_move(rng: random.Random, size: tuple[int, int]) -> list[Operation]:
    """Draw what moves pixels."""
    turns: list[Operation] = [RandomHorizontalFlip(0.5), RandomVerticalFlip(0.5)]
    if size[0] == size[1]:
        turns.append(RandomRotation90(0.7))
    turns = rng.sample(turns, rng.randint(0, 2))
    kind: Literal["bilinear", "bicubic"] = rng.choice(["bilinear", "bicubic"])
    antialias = rng.random() < 0.7
    move: list[Operation]
    match rng.choice(["crop", "crop", "crop", "resize", "rotation", "window", "patch"]):
        case "crop":
            scale = rng.choice([(0.08, 1.0), (0.5, 0.6), (1.0, 1.0)])
            move = [RandomResizedCrop(size, scale=scale, interpolation=kind, antialias=antialias)]
        case "resize":
            move = [Resize(size, kind, antialias=antialias)]
        case "rotation":
            degrees: Any = rng.choice([10, 180, (30, 60), (90, 90)])
            move = [RandomRotation(degrees), CenterCrop(size)]
        case "window":
            move = [Crop(size, top=rng.randint(-20, 20), left=rng.randint(-20, 20))]
        case _:
            move = [RandomJigsawPatch((9, 12), number=rng.randint(0, 3), grid=2), CenterCrop(size)]
    return [*move, *turns] if rng.random() < 0.5 else [*turns, *move] if size[0] == size[1] else [*move, *turns]


def draw_colours(rng: random.Random, channels: int) -> list[Operation]:
    """Draw what changes colours, and blurs."""
    strength: Any = rng.choice([0.3, 0.8, (0, 2)])
    if channels == 3:
        jitter = ColorJitter(strength, strength, strength, rng.choice([0, 0.1, 0.5]), p=0.8)
    else:
        jitter = ColorJitter(strength, strength if channels == 1 else 0, p=0.8)
    every: list[Operation] = [
        jitter,
        RandomSolarize(0.5, 0.5),
        RandomGaussianBlur(rng.choice([(0.1, 2.0), (2.0, 5.0)])),
    ]
    if channels == 3:
        every.append(RandomGrayscale(0.4))
    return rng.sample(every, rng.randint(0, 3))


if __name__ == "__main__":
    main()
