"""The GPU engine, in Triton: views of one size are rendered together, in four launches.

`weigh` computes the weights of every row and column, and of every blur. `draw_tiles` resamples each pixel once and
changes its colours as far as it can. A view whose contrast needs its mean, or that is blurred, waits where it will be;
`finish_rows` goes on with it, and blurs it across; `blur_down` blurs it downwards. Operations that an image did not
draw cost nothing. All sums are taken in a fixed order, so the views depend neither on scheduling nor on the rest of the
batch.

The kernels are compiled when the first batch with views of their kind is rendered: all that any draw can need, so that
none is compiled in the middle of an epoch. Triton keeps them on disk.
"""

import logging
from collections.abc import Callable
from contextlib import nullcontext
from itertools import accumulate
from math import prod
from threading import Timer
from typing import Any, Final

import torch
from torch import Tensor
from triton import JITFunction

from lightly_aug.engines.gpu_kernels import MOVES, blur_down, draw_tiles, finish_rows, weigh
from lightly_aug.engines.gpu_layout import BLOCK, TILE_X, TILE_Y, Group, Layout, lay_out
from lightly_aug.engines.plan import find_stage
from lightly_aug.engines.program import Output, Program
from lightly_aug.operations import Operation

__all__ = ["draw", "knows", "run"]

_OPTIONS: Final = {"num_warps": 4, "enable_fp_fusion": True}  # Triton 3.10 multiplies and adds apart by default
_WEIGH: Final = {"TILE_Y": TILE_Y, "BLOCK": BLOCK, **_OPTIONS}
_DRAW: Final = {"TILE_Y": TILE_Y, "TILE_X": TILE_X, **_OPTIONS, "num_warps": 1}  # a thread for each column
_FINISH: Final = {"TILE_Y": 32, "TILE_X": 32, **_OPTIONS}
_BLUR: Final = {"TILE_Y": 32, "TILE_X": 32, **_OPTIONS}

_SCRATCH: Final = 1 << 28
"""Bytes for views between the two halves of a blur. More views are blurred in turns, if need be one at a time.

All blurred views of a SimCLR batch of 256 images fit in. On an H200 its kernels took 10 % less time than with a quarter
of this memory, and there were four launches fewer.
"""

_MOST: Final = (1 << 16) - 1
"""How many images one launch draws at most: CUDA's bound of the third axis of a grid, as of the second."""

_compiled: Final = dict[tuple[object, ...], tuple[Any, list[Any]]]()
"""Kernels as they were compiled, and the values of their constants."""

_ready: Final = set[tuple[object, ...]]()
"""Kinds of groups whose kernels are compiled."""


def knows(operation: Operation) -> bool:
    """Whether this engine renders an operation."""
    return find_stage(operation) is not None


def run(programs: list[Program]) -> list[Tensor]:
    """Run programs, together where possible.

    Args:
        programs: Their images are on one CUDA device (on any device under Triton's interpreter).

    Returns:
        For each view of each program a tensor `(n, channels, height, width)` of its dtype and memory format.
    """
    ends = list(accumulate(program.views for program in programs))
    made = dict[int, Tensor]()
    buffers = dict[int, list[int]]()
    for i, program in enumerate(programs):
        if program.images.channels * prod(program.move.size):
            buffers.setdefault(program.images.pixels.data_ptr(), []).append(i)
        else:
            shape = len(program.images) // program.views, program.images.channels, *program.move.size
            empty = program.images.pixels.new_empty(shape, dtype=program.output.dtype)
            made |= dict.fromkeys(range(ends[i] - program.views, ends[i]), empty)
    for which in buffers.values():
        joined = [programs[i] for i in which]
        layout = lay_out(joined, [range(ends[i] - programs[i].views, ends[i]) for i in which])
        made |= draw(layout, joined[0].images.pixels, joined[0].output._replace(dtype=None))
    return [made[i] for i in range(len(made))]


def draw(layout: Layout, pixels: Tensor, output: Output) -> dict[int, Tensor]:
    """Render the views of a layout.

    Args:
        layout: The numbers; its words may be in pinned memory, else they are copied there first.
        pixels: The images, on a CUDA device (on any device under Triton's interpreter).
        output: What is wanted; its dtype may be None for that of each group.

    Returns:
        Each view by its number, `(n, channels, height, width)`. Views of one group share an allocation.
    """
    words = layout.words.pin_memory() if pixels.is_cuda else layout.words
    words = words.to(pixels.device, non_blocking=True)
    made = dict[int, Tensor]()
    with torch.cuda.device(pixels.device) if pixels.is_cuda else nullcontext():
        _compile_ahead(layout, words, pixels, output)
        for group in layout.groups:
            dtype = output.dtype or group.dtype
            size = len(group.views) * group.pitch
            flat = torch.empty(size, dtype=_find_dtype(group, output), device=pixels.device)
            _draw_group(group, words[group.begin :], pixels, flat, last=output.memory_format == torch.channels_last)
            made |= zip(group.views, _cut(flat.to(dtype), group, output.memory_format), strict=True)
    return made


def _find_dtype(group: Group, output: Output) -> torch.dtype:
    """Return the dtype that the kernels write the views of a group in."""
    return (output.dtype or group.dtype) if group.rounds else torch.float32


def _compile_ahead(layout: Layout, words: Tensor, pixels: Tensor, output: Output) -> None:
    """Compile the kernels of a layout, launching none; say so if it takes more than two seconds."""
    last = output.memory_format == torch.channels_last
    new = dict[tuple[object, ...], Group]()
    for group in layout.groups:
        kind = group.channels, group.kind, group.antialias, _find_dtype(group, output)
        new.setdefault((pixels.device, pixels.dtype, last, *kind, group.size[1] % 8 == 0, _is_whole(group)), group)
    new = {kind: group for kind, group in new.items() if kind not in _ready}
    if not new or not isinstance(weigh, JITFunction):  # as under the interpreter
        return
    message = "compiling the GPU engine of lightly_aug: once on this machine, some seconds"
    notice = Timer(2.0, logging.getLogger(__name__).warning, [message])  # loading takes less
    notice.daemon = True
    notice.start()
    try:
        for group in new.values():
            one = group._replace(views=group.views[:1], images=1, waits=0, blurs=0)  # as if it waited, and were blurred
            flat = torch.empty(group.pitch, dtype=_find_dtype(group, output), device=pixels.device)
            _draw_group(one, words[group.begin :], pixels, flat, last=last, launch=_warm_up)
    finally:
        notice.cancel()
    _ready.update(new)


def _is_whole(group: Group) -> bool:
    """Whether views consist of whole tiles."""
    return group.size[0] % TILE_Y == 0 and group.size[1] % TILE_X == 0


def _warm_up(kernel: Any, grid: tuple[int, int, int], *arguments: Tensor | int, **constants: Any) -> None:
    """Compile a kernel as `_launch` would."""
    kernel.warmup(*arguments, grid=grid, **constants)


def _cut(flat: Tensor, group: Group, memory_format: torch.memory_format) -> list[Tensor]:
    """Cut the views of a group from their memory."""
    channels, (height, width) = group.channels, group.size
    shape = group.images, channels, height, width
    strides = channels * height * width, height * width, width, 1
    if memory_format == torch.channels_last:
        strides = channels * height * width, 1, width * channels, channels
    # `data`: to write in one view is no change of the others to autograd
    return [flat.as_strided(shape, strides, i * group.pitch).data for i in range(len(group.views))]


def _draw_group(
    group: Group,
    table: Tensor,
    pixels: Tensor,
    views: Tensor,
    *,
    last: bool,
    launch: Callable[..., None] | None = None,
) -> None:
    launch = launch or _launch
    (height, width), channels, n, columns = group.size, group.channels, group.n, group.columns
    empty = dict[str, Any](device=pixels.device)
    weights = torch.empty(group.weights, dtype=torch.float32, **empty)
    taps = torch.empty(group.taps, dtype=torch.int64, **empty)
    rows, (blur_rows, blur_columns) = -(-height // _FINISH["TILE_Y"]), _count_tiles(group, _BLUR)
    tiles_y, tiles_x = _count_tiles(group, _DRAW)
    sums = torch.empty(n * tiles_y * tiles_x, dtype=torch.float32, **empty)
    waiting = views if views.dtype == torch.float32 else views.view(torch.uint16)
    integers = pixels.dtype == torch.uint8
    align, blur_align = (1, 1) if last or width % 8 else (8, 4)  # 16 bytes of what waits, and of the float32 of a blur
    options = {"C": channels, "LAST": last, "FINITE": integers}
    together = 1 if channels == 3 else channels
    launch(
        weigh, (2 * n, 1, 1), table, columns, weights, taps, height, width,
        MOVE=MOVES[group.kind], ANTIALIAS=group.antialias, INTEGERS=integers, **_WEIGH,
    )  # fmt: skip
    for first in range(0, n, _MOST):
        launch(
            draw_tiles, (tiles_x * together, tiles_y, min(n - first, _MOST)),
            pixels, weights, taps, table, columns, sums, tiles_y * tiles_x, first, views, waiting,
            height, width, -(-width // BLOCK) * BLOCK,
            MOVE=MOVES[group.kind], WHOLE=_is_whole(group), **options, **_DRAW,
        )  # fmt: skip
    first, blurs = group.waits, group.blurs
    pitch = blur_columns * _BLUR["TILE_X"]
    most = max(1, _SCRATCH // (4 * channels * height * pitch))
    blurred = torch.empty(min(most, n - blurs) * channels * height * pitch, dtype=torch.float32, **empty)
    while first < n:
        stop = min(n, blurs + most, first + _MOST)
        launch(
            finish_rows, (rows, together, stop - first),
            weights, table, columns, sums, tiles_y * tiles_x, views, waiting, height, width // align,
            blurred, pitch, first, blurs, ALIGN=align, **options, **_FINISH,
        )  # fmt: skip
        if stop > blurs:
            launch(
                blur_down, (blur_columns * together, blur_rows, stop - blurs),
                weights, table, columns, views, height, width // blur_align,
                blurred, pitch, blurs, ALIGN=blur_align, **options, **_BLUR,
            )  # fmt: skip
        first, blurs = stop, max(blurs, stop)


def _launch(kernel: Any, grid: tuple[int, int, int], *arguments: Tensor | int, **constants: Any) -> None:
    """Launch a kernel, from the second time on without Triton's dispatch, which takes three times as long.

    Triton compiles a kernel once for every combination of what is in the key. Whole numbers are not in it: kernels are
    not specialized to them, except to a pitch, which is always a multiple of 32.
    """
    tensors = [argument for argument in arguments if isinstance(argument, Tensor)]
    alignments = [(x.dtype, x.data_ptr() % 16) for x in tensors]
    key = kernel, tensors[0].device, *alignments, *constants.values()
    if found := _compiled.get(key):
        compiled, values = found
        compiled[grid](*arguments, *values)
        return
    compiled = kernel[grid](*arguments, **constants)
    if compiled is not None:  # as under the interpreter
        _compiled[key] = compiled, [constants[name] for name in kernel.arg_names[len(arguments) :]]


def _count_tiles(group: Group, tile: dict[str, int]) -> tuple[int, int]:
    height, width = group.size
    return -(-height // tile["TILE_Y"]), -(-width // tile["TILE_X"])
