"""The command `lightly-aug warm-up`."""

import os
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["render_small", "warm_up"]


def warm_up() -> None:
    """Compile the fast engines ahead, so that no process waits for it: once on a machine, or in a Dockerfile."""
    import torch

    from lightly_aug.engines import choose, load

    _round_time_of_kernels()
    began = perf_counter()
    engine = load("cpu")
    assert engine is not None
    folder, found = engine.find_compiled()
    seconds = perf_counter() - began
    if folder is None:
        raise OSError("the CPU engine was compiled, but cannot be kept: see the warning above")
    asked = os.environ.get("NUMBA_CACHE_DIR")
    if asked and not Path(folder).resolve().is_relative_to(Path(asked).resolve()):
        raise OSError(
            f"NUMBA_CACHE_DIR must be a folder that can be written, got {asked}: the CPU engine is kept in {folder}"
        )
    done = "was compiled before: it loads in" if found else "is compiled: it took"
    print(f"The CPU engine {done} {seconds:.1f} s, and is kept in {folder}")
    if torch.cuda.is_available() and choose("auto", torch.device("cuda")) == "gpu":
        began = perf_counter()
        render_small(torch.device("cuda"))
        print(f"The GPU engine is compiled for {torch.cuda.get_device_name()}: it took {perf_counter() - began:.1f} s")


def _round_time_of_kernels() -> None:
    """Drop fractions of a second from the time of the file that Numba compiles, where it can be written.

    Older releases of Numba compile again if that time changed, and layers of container images keep whole seconds only.
    """
    spec = find_spec("lightly_aug.engines.cpu_kernels")
    assert spec is not None
    assert spec.origin is not None
    seconds = int(Path(spec.origin).stat().st_mtime)
    with suppress(OSError):
        os.utime(spec.origin, (seconds, seconds))


def render_small(device: "torch.device") -> None:
    """Render small views with the GPU engine, which makes Triton compile its kernels for each dtype of views.

    Args:
        device: Where to render.
    """
    import numpy as np
    import torch

    from lightly_aug import (
        ColorJitter,
        MultiViewCollateFunction,
        Normalize,
        RandomGaussianBlur,
        RandomResizedCrop,
        View,
    )

    colours = ColorJitter(0.4, 0.4, 0.4, 0.1, p=1.0), RandomGaussianBlur((1.0, 1.0), 1.0), Normalize(0.5, 0.5)
    views = [
        View(RandomResizedCrop(16, interpolation="bilinear"), *colours),
        View(RandomResizedCrop(16, interpolation="bicubic"), *colours),
    ]
    batch = MultiViewCollateFunction(views, seed=0, render="late", engine="gpu")([np.zeros((16, 16, 3), np.uint8)])
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        batch.to(device, dtype)
