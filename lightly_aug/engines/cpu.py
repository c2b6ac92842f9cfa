"""The CPU engine, compiled by Numba: one image at a time, row by row in float32, in threads that leave the GIL.

A row is resampled, coloured, blurred and stored while it is in the nearest caches; a second look at it is needed
only for contrast, which has to know the mean of the view. Operations that an image did not draw cost nothing.

The kernels are compiled when this module is first imported, once on a machine (about 15 s), and kept on disk.
"""

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from math import prod
from threading import Timer
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numba import njit
from torch import Tensor

from lightly_aug.engines import cpu_kernels as kernels
from lightly_aug.engines.plan import find_stage
from lightly_aug.engines.program import Output, Program, lower_colours, lower_move
from lightly_aug.images import PackedImages
from lightly_aug.operations import Operation
from lightly_aug.transport import empty
from lightly_aug.user_warning import warn_user

__all__ = ["Compiled", "find_compiled", "knows", "run"]

_LINE: Final = 32
"""Views begin at multiples of this many values, so at lines of the cache."""

_KINDS: Final = {"bilinear": kernels.BILINEAR, "bicubic": kernels.BICUBIC, "rotate": kernels.ROTATE}


class Compiled(NamedTuple):
    """Where the compiled kernel of this process came from.

    Attributes:
        folder: Where it is kept on disk, None if it could not be kept.
        found: Whether it was there already.
    """

    folder: str | None
    found: bool


def find_compiled() -> Compiled:
    """Find out where the compiled kernel is kept, and whether it was compiled by another process before."""
    stats = _RENDER.stats
    return Compiled(stats.cache_path, bool(stats.cache_hits))


def knows(operation: Operation) -> bool:
    """Whether this engine renders an operation."""
    return find_stage(operation) is not None


def run(programs: list[Program]) -> list[Tensor]:
    """Run programs over as many threads as PyTorch uses.

    Args:
        programs: Their images are on the CPU.

    Returns:
        For each view of each program a tensor `(n, channels, height, width)` of its dtype and memory format.
    """
    parts = [part for program in programs for part in program.split()]
    results = _allocate(parts)
    arguments = [_arguments(part, result) for part, result in zip(parts, results, strict=True)]
    threads = min(torch.get_num_threads(), sum(len(part.images) for part in parts))
    if threads <= 1:
        for part, own in zip(parts, arguments, strict=True):
            _RENDER(*own, 0, len(part.images))
    else:
        with ThreadPoolExecutor(threads) as pool:
            tasks = [
                pool.submit(partial(_RENDER, *own, first, last))
                for own, cuts in zip(arguments, _cut(parts, 4 * threads), strict=True)
                for first, last in pairwise(cuts)
            ]
        for task in tasks:
            task.result()
    return [_shaped(part, result) for part, result in zip(parts, results, strict=True)]


def _shape(program: Program) -> tuple[int, int, int, int]:
    return len(program.images), program.images.channels, *program.move.size


def _allocate(programs: list[Program]) -> list[Tensor]:
    """Allocate the values of views, those of one dtype together: what travels from a worker is then one block."""
    sizes = [prod(_shape(program)) for program in programs]
    room = [-(-size // _LINE) * _LINE for size in sizes]
    found: dict[torch.dtype, Iterator[Tensor]] = {}
    for dtype in {program.output.dtype or torch.float32 for program in programs}:
        own = [n for n, program in zip(room, programs, strict=True) if (program.output.dtype or torch.float32) == dtype]
        found[dtype] = iter(empty(sum(own), dtype).split(own))
    return [
        next(found[program.output.dtype or torch.float32])[:size] for program, size in zip(programs, sizes, strict=True)
    ]


def _cut(programs: list[Program], pieces: int) -> list[list[int]]:
    """Cut the images of programs into about as many pieces in all, each with about as many values as the others."""
    values = [prod(_shape(program)) for program in programs]
    cuts = list[list[int]]()
    for program, own in zip(programs, values, strict=True):
        n = len(program.images)
        count = min(max(round(pieces * own / max(sum(values), 1)), 1), n)
        cuts.append(np.linspace(0, n, count + 1).astype(int).tolist())
    return cuts


def _shaped(program: Program, result: Tensor) -> Tensor:
    n, channels, height, width = _shape(program)
    if _is_channels_last(program.output):
        return result.view(n, height, width, channels).permute(0, 3, 1, 2)
    return result.view(n, channels, height, width)


def _is_channels_last(output: Output) -> bool:
    return output.memory_format == torch.channels_last


def _arguments(program: Program, result: Tensor) -> tuple[Any, ...]:
    """Return the arguments of the kernel."""
    return _source(program), _moves(program), _steps(program), _views(program, result)


def _views(program: Program, result: Tensor) -> kernels.Views:
    halves = result.dtype != torch.float32
    return kernels.Views(
        np.empty(0, dtype=np.float32) if halves else result.numpy(),
        result.view(torch.int16).numpy().view(np.uint16) if halves else np.empty(0, dtype=np.uint16),
        result.dtype == torch.bfloat16,
        _is_channels_last(program.output),
        program.images.channels,
        *program.move.size,
    )


def _source(program: Program) -> kernels.Source:
    images = program.images
    pixels, shapes = images.pixels.numpy(), np.ascontiguousarray(images.shapes.numpy().T)
    integers = pixels if pixels.dtype == np.uint8 else np.empty(0, dtype=np.uint8)
    floats = pixels if pixels.dtype == np.float32 else np.empty(0, dtype=np.float32)
    return kernels.Source(integers, floats, shapes[0], np.stack([shapes[1], shapes[2]], axis=1))


def _moves(program: Program) -> kernels.Moves:
    move = program.move
    return kernels.Moves(_KINDS[move.kind], move.antialias, move.boxes, move.resized, move.maps)


def _steps(program: Program) -> kernels.Steps:
    codes, values, contrast, blur, sigma, mean, std = program.colours
    channels = program.images.channels
    scale = 1 / np.full(channels, std, dtype=np.float32)
    return kernels.Steps(codes, values, contrast, blur, sigma, np.full(channels, mean, dtype=np.float32), scale)


def _compile() -> Any:
    """Compile the kernel, or load it from disk; from then on, arguments of other types are an error."""
    nothing = PackedImages(
        torch.empty(0, dtype=torch.uint8), torch.empty((0, 3), dtype=torch.int64), 3, np.empty(0, dtype=bool)
    )
    output = Output(torch.device("cpu"), torch.float32)
    move = lower_move(nothing, [])
    program = Program(nothing, move, lower_colours(nothing, move, []), output)
    message = "compiling the CPU engine of lightly_aug: once on this machine, about 15 s"
    notice = Timer(2.0, logging.getLogger(__name__).warning, [message])  # loading takes less
    notice.daemon = True
    notice.start()
    try:
        return _try(program, keep=True)
    except Exception as error:  # no folder for it can be written, the disk is full, or what is on it was cut off
        compiled = _try(program, keep=False)
        warn_user(
            f"the compiled CPU engine cannot be kept on disk, or read from it ({type(error).__name__}: {error}): each "
            "process compiles it again, in about 15 s. Set NUMBA_CACHE_DIR to a new folder that can be written"
        )
        return compiled
    finally:
        notice.cancel()


def _try(program: Program, *, keep: bool) -> Any:
    render = njit(**kernels.OPTIONS, cache=keep)(kernels.render)
    render(*_arguments(program, torch.empty(0)), 0, 0)
    render.disable_compile()
    return render


_RENDER: Final = _compile()
