"""The GPU engine, in Triton: views of one size are rendered together, in four launches.

`weigh` computes the weights of every row and column, and of every blur. `draw_tiles` resamples each pixel once and
changes its colours as far as it can. A view whose contrast needs its mean, or that is blurred, waits where it will be;
`finish_rows` goes on with it, and blurs it across; `blur_down` blurs it downwards. Operations that an image did not
draw cost nothing. All sums are taken in a fixed order, so the views depend neither on scheduling nor on the rest of the
batch.
"""

from contextlib import nullcontext
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
import triton
from torch import Tensor

from lightly_aug.engines.gpu_kernels import COLUMNS, MOVES, blur_down, draw_tiles, finish_rows, weigh
from lightly_aug.engines.plan import find_stage
from lightly_aug.engines.program import CLAMP, NORMALIZE, NOTHING, Program
from lightly_aug.operations import Ints, Operation

__all__ = ["knows", "run"]

_WEIGH: Final = {"BLOCK": 256, "num_warps": 4}
_DRAW: Final = {"TILE_Y": 32, "TILE_X": 32, "num_warps": 4}
_FINISH: Final = {"TILE_Y": 32, "TILE_X": 32, "num_warps": 4}
_BLUR: Final = {"TILE_Y": 32, "TILE_X": 32, "num_warps": 4}

_SCRATCH: Final = 1 << 26
"""Bytes for views between the two halves of a blur. More views are blurred in turns, if need be one at a time."""


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
    made, groups = list[list[Tensor]](), dict[tuple[object, ...], list[int]]()
    for i, program in enumerate(programs):
        images, move, _, output, count = program
        shape = len(images) // count, images.channels, *move.size
        dtype = output.dtype if _may_wait(program) else torch.float32
        how = dict[str, Any](dtype=dtype, device=images.pixels.device, memory_format=output.memory_format)
        made.append([torch.empty(shape, **how) for _ in range(count)])
        if made[-1][0].numel():
            same = images.pixels.data_ptr(), shape[1:], output.memory_format, dtype, move.kind, move.antialias
            groups.setdefault(same, []).append(i)
    for group in groups.values():
        _run_group([programs[i] for i in group], [made[i] for i in group])
    return [view.to(program.output.dtype) for program, views in zip(programs, made, strict=True) for view in views]


def _may_wait(program: Program) -> bool:
    """Whether what waits for a mean or a blur is in [0, 1], so that it can wait in a view of 16 bits."""
    colours = program.colours
    waits = max(colours.contrast.max(initial=-1), colours.blur if colours.sigma.any() else 0)
    normalized = (colours.codes[:1, : max(waits, 0)] == NORMALIZE).any()  # all images are, or none
    return program.images.pixels.dtype == torch.uint8 and not normalized


def _run_group(programs: list[Program], views: list[list[Tensor]]) -> None:
    """Run programs that differ in nothing but numbers."""
    first, view = programs[0], views[0][0]
    channels, height, width = view.shape[1:]
    pixels, kind = first.images.pixels, first.move.kind
    words, steps, size, turn = _lay_out(programs, views)
    n, waits, blurs = len(turn), int((turn == 0).sum()), int((turn < 2).sum())
    table = words.to(view.device, non_blocking=True)

    empty = dict[str, Any](device=view.device)
    weights, offsets = torch.empty(size, dtype=torch.float32, **empty), torch.empty(size, dtype=torch.int32, **empty)
    tiles = _count_tiles(height, width, _DRAW)
    sums = torch.empty(n * tiles, dtype=torch.float32, **empty)
    waiting = view if view.dtype == torch.float32 else view.view(torch.uint16)
    last = first.output.memory_format == torch.channels_last
    integers = pixels.dtype == torch.uint8
    align, blur_align = (1, 1) if last or width % 8 else (8, 4)  # 16 bytes of what waits, and of the float32 of a blur
    options = {"C": channels, "LAST": last, "FINITE": integers}
    together = 1 if channels == 3 else channels
    with torch.cuda.device(view.device) if view.is_cuda else nullcontext():
        weigh[(2 * n,)](
            table, n, weights, offsets, height, width,
            MOVE=MOVES[kind], ANTIALIAS=first.move.antialias, INTEGERS=integers, **_WEIGH,
        )  # fmt: skip
        draw_tiles[(n * tiles, together)](
            pixels, weights, offsets, table, n, steps, sums, tiles, view, waiting, height, width,
            MOVE=MOVES[kind], **options, **_DRAW,
        )  # fmt: skip
        pitch = triton.cdiv(width, _BLUR["TILE_X"]) * _BLUR["TILE_X"]
        most = max(1, _SCRATCH // (4 * channels * height * pitch))
        blurred = torch.empty(min(most, n - blurs) * channels * height * pitch, dtype=torch.float32, **empty)
        strips, blur_tiles = triton.cdiv(height, _FINISH["TILE_Y"]), _count_tiles(height, width, _BLUR)
        while waits < n:
            stop = min(n, blurs + most)
            finish_rows[((stop - waits) * strips, together)](
                weights, table, n, steps, sums, tiles, view, waiting, height, width // align,
                blurred, pitch, waits, blurs, ALIGN=align, **options, **_FINISH,
            )  # fmt: skip
            if stop > blurs:
                blur_down[((stop - blurs) * blur_tiles, together)](
                    weights, table, n, steps, blur_tiles, view, height, width // blur_align,
                    blurred, pitch, blurs, ALIGN=blur_align, **options, **_BLUR,
                )  # fmt: skip
            waits = blurs = stop


def _count_tiles(height: int, width: int, tile: dict[str, int]) -> int:
    return int(triton.cdiv(height, tile["TILE_Y"]) * triton.cdiv(width, tile["TILE_X"]))


def _radii(sigma: npt.NDArray[np.floating]) -> Ints:
    return (4 * sigma.astype(np.float32) + np.float32(0.5)).astype(np.int64)


def _lay_out(programs: list[Program], views: list[list[Tensor]]) -> tuple[Tensor, int, int, Ints]:
    """Lay out the numbers of all images as the kernels read them.

    Returns:
        The table, pinned for a GPU; the number of steps of the colours; the number of weights; and, for the images in
        the order of their turns, what each waits for: 0 nothing, 1 its mean, 2 its blur.
    """
    move, first = programs[0].move, views[0][0]
    channels, height, width = first.shape[1:]
    n, steps = sum(len(program.images) for program in programs), max(_count_steps(program) for program in programs)
    table = torch.empty((len(COLUMNS) + channels + steps, n), dtype=torch.int64, pin_memory=first.is_cuda)
    words = table.numpy()
    column = {name: words[i] for name, i in COLUMNS.items()}

    shapes = np.concatenate([program.images.shapes.numpy() for program in programs])
    top, left, rows, columns = np.concatenate([program.move.boxes for program in programs]).T
    line = shapes[:, 2] * channels
    column["start"][:] = shapes[:, 0] + top * line + left * channels
    # counted from the first view
    begins = [(view.data_ptr() - first.data_ptr()) // view.element_size() for own in views for view in own]
    numbers = np.arange(len(first)) * first[0].numel()
    column["result"][:] = (np.array(begins)[:, None] + numbers).ravel()
    sigma = np.concatenate([program.colours.sigma for program in programs])
    column["sigma"].view(np.float32)[::2] = sigma
    radius = column["radius"]
    radius[:] = _radii(sigma)
    begin = 0
    for program in programs:
        end = begin + len(program.images)
        _lay_out_colours(program, words[:, begin:end], channels)
        begin = end

    sizes = radius + 1
    maps = np.concatenate([program.move.maps for program in programs])
    start = COLUMNS["taps_y"]
    if move.kind == "rotate":
        words[start : start + 6].view(np.float64)[:] = maps.reshape(n, 6).T
        words[start + 6], words[start + 7] = rows, columns
    else:
        resized = np.concatenate([program.move.resized for program in programs]).T
        upright = maps[:, 0, 0] != 0  # else rows of the view are columns of the resized image
        for axis, length, i, along in (("y", height, 0, upright), ("x", width, 1, ~upright)):
            side, resized_side = np.where(along, (rows, resized[0]), (columns, resized[1]))
            place = np.where(along, maps[:, 0].T, maps[:, 1].T)
            taps = _count_taps(side, resized_side, move.kind, antialias=move.antialias)
            stride = np.where(along, line, channels)
            start = COLUMNS[f"taps_{axis}"]
            words[start : start + 7] = taps, sizes, side, resized_side, place[i], place[2], stride
            sizes = sizes + taps * length
    ends = np.cumsum(sizes)
    column["bell"][:] = ends - sizes
    if move.kind != "rotate":
        column["table_y"] += column["bell"]
        column["table_x"] += column["bell"]
    turn = np.where(radius > 0, 2, column["contrast"] >= 0)
    # images that wait for the same are beside each other, and so are those of one source
    column["order"][:] = np.lexsort((column["start"], turn))
    return table, steps, int(ends[-1]), turn[column["order"]]


def _count_taps(side: Ints, resized: Ints, kind: str, *, antialias: bool) -> Ints:
    half = 2 if kind == "bicubic" else 1
    if not antialias:
        return np.full_like(side, 2 * half)
    taps: Ints = np.minimum(np.ceil(2 * half * np.maximum(side / resized, 1)).astype(np.int64), side)
    return taps


def _count_steps(program: Program) -> int:
    return int(program.move.clamp + program.colours.codes.shape[1])


def _lay_out_colours(program: Program, words: Ints, channels: int) -> None:
    """Lay out the colours of one program, with a clamp in front of them if its move asks for one."""
    colours, clamp = program.colours, int(program.move.clamp)
    words[COLUMNS["blur"]] = colours.blur + clamp
    words[COLUMNS["contrast"]] = np.where(colours.contrast < 0, -1, colours.contrast + clamp)
    scale = 1 / np.full(channels, colours.std)
    pairs = np.stack([scale, -np.full(channels, colours.mean) * scale], axis=1).astype(np.float32)
    start = len(COLUMNS)
    words[start : start + channels] = pairs.view(np.int64)
    steps = words[start + channels :]
    steps[:clamp] = CLAMP << 32
    values = colours.values.T.astype(np.float32).view(np.uint32)
    steps[clamp : clamp + len(values)] = values | colours.codes.T.astype(np.int64) << 32
    steps[clamp + len(values) :] = NOTHING
