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
from lightly_aug.engines.program import CLAMP, NORMALIZE, Colours, Program
from lightly_aug.operations import Ints, Operation

__all__ = ["knows", "run"]

_WEIGH: Final = {"BLOCK": 256, "num_warps": 4}
_DRAW: Final = {"TILE_Y": 32, "TILE_X": 32, "num_warps": 4}
_FINISH: Final = {"TILE_Y": 32, "TILE_X": 32, "num_warps": 4}
_BLUR: Final = {"TILE_Y": 32, "TILE_X": 32, "num_warps": 4}

_ALIGN: Final = 8
"""Views whose rows are a multiple of this are read and written in wide accesses."""

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
        For each a tensor `(n, channels, height, width)` of its dtype and memory format.
    """
    views, groups = [], dict[tuple[object, ...], list[int]]()
    for i, program in enumerate(programs):
        images, move, _, output = program
        view = torch.empty(
            (len(images), images.channels, *move.size),
            dtype=output.dtype if _may_wait(program) else torch.float32,
            device=images.pixels.device,
            memory_format=output.memory_format,
        )
        views.append(view)
        if view.numel():
            same = images.pixels.data_ptr(), view.device, view.shape[1:], view.dtype, output.memory_format
            groups.setdefault((*same, move.kind, move.antialias), []).append(i)
    for group in groups.values():
        _run_group([programs[i] for i in group], [views[i] for i in group])
    return [view.to(program.output.dtype) for view, program in zip(views, programs, strict=True)]


def _may_wait(program: Program) -> bool:
    """Whether what waits for a mean or a blur is in [0, 1], so that it can wait in a view of 16 bits."""
    images, _, colours, _ = program
    waits = np.where(_radii(colours.sigma) > 0, colours.blur, colours.contrast).max(initial=-1)
    return images.pixels.dtype == torch.uint8 and not (colours.codes[:, : max(waits, 0)] == NORMALIZE).any()


def _run_group(programs: list[Program], views: list[Tensor]) -> None:
    """Run programs that differ in nothing but numbers."""
    first, view = programs[0], views[0]
    channels, height, width = view.shape[1:]
    kind, pixels = first.move.kind, first.images.pixels
    rows, steps = _lay_out(programs, views)
    radius, contrasts = rows[:, COLUMNS["radius"]], rows[:, COLUMNS["contrast"]] >= 0
    size = int(rows[-1, COLUMNS["bell"]])  # of all weights; the last row is no image
    turn = np.where(radius > 0, 2, contrasts)[:-1]
    order = np.lexsort((rows[:-1, COLUMNS["start"]], turn))  # those of one image together: they read the same pixels
    n, blurs = len(order), len(order) - int((turn == 2).sum())
    table = torch.from_numpy(rows[order])
    if view.is_cuda:
        table = table.pin_memory().to(view.device, non_blocking=True)

    empty = dict[str, Any](device=view.device)
    weights, offsets = torch.empty(size, dtype=torch.float32, **empty), torch.empty(size, dtype=torch.int32, **empty)
    tiles = _count_tiles(height, width, _DRAW)
    sums = torch.empty(n * tiles, dtype=torch.float32, **empty)
    numbers = table, table.shape[1], steps
    waiting = view if view.dtype == torch.float32 else view.view(torch.uint16)
    last = first.output.memory_format == torch.channels_last
    aligned = not last and width % _ALIGN == 0
    units = width // _ALIGN if aligned else width
    options = {"C": channels, "LAST": last, "FINITE": pixels.dtype == torch.uint8}
    together = 1 if channels == 3 else channels
    with torch.cuda.device(view.device) if view.is_cuda else nullcontext():
        weigh[(2 * n,)](
            table, table.shape[1], weights, offsets, height, width,
            MOVE=MOVES[kind], ANTIALIAS=first.move.antialias, INTEGERS=pixels.dtype == torch.uint8, **_WEIGH,
        )  # fmt: skip
        draw_tiles[(n * tiles, together)](
            pixels, weights, offsets, *numbers, sums, tiles, view, waiting, height, width,
            MOVE=MOVES[kind], **options, **_DRAW,
        )  # fmt: skip
        options["ALIGN"] = _ALIGN if aligned else 1
        pitch = triton.cdiv(width, _BLUR["TILE_X"]) * _BLUR["TILE_X"]
        most = max(1, _SCRATCH // (4 * channels * height * pitch))
        blurred = torch.empty(min(most, n - blurs) * channels * height * pitch, dtype=torch.float32, **empty)
        start, strips, tiles_down = int((turn == 0).sum()), triton.cdiv(height, _FINISH["TILE_Y"]), _count_tiles(height, width, _BLUR)
        while start < n:
            stop = min(n, blurs + most)
            finish_rows[((stop - start) * strips, together)](
                weights, *numbers, sums, tiles, view, waiting, height, units, blurred, pitch, start, blurs,
                **options, **_FINISH,
            )  # fmt: skip
            if stop > blurs:
                blur_down[((stop - blurs) * tiles_down, together)](
                    weights, *numbers, tiles_down, view, height, units, blurred, pitch, blurs, **options, **_BLUR
                )
            start = blurs = stop


def _count_tiles(height: int, width: int, tile: dict[str, int]) -> int:
    return int(triton.cdiv(height, tile["TILE_Y"]) * triton.cdiv(width, tile["TILE_X"]))


def _radii(sigma: npt.NDArray[np.floating]) -> Ints:
    return (4 * sigma.astype(np.float32) + np.float32(0.5)).astype(np.int64)


def _lay_out(programs: list[Program], views: list[Tensor]) -> tuple[npt.NDArray[np.int64], int]:
    """Lay out the numbers of all images as the kernels read them, and count the steps of their colours.

    The last row is no image: its `bell` is where the weights end.
    """
    first, (channels, height, width) = programs[0], views[0].shape[1:]
    counts = [len(program.images) for program in programs]
    steps = max(program.move.clamp + program.colours.codes.shape[1] for program in programs)
    rows = np.zeros((sum(counts) + 1, len(COLUMNS) + 2 * (channels + steps)), dtype=np.int64)
    n = len(rows) - 1
    column = {name: rows[:n, i] for name, i in COLUMNS.items()}
    reals = rows.view(np.float32)[:n, ::2]  # the lower halves
    shapes = np.concatenate([program.images.shapes.numpy() for program in programs])
    boxes = np.concatenate([program.move.boxes for program in programs])
    line = shapes[:, 2] * channels
    column["start"][:] = shapes[:, 0] + boxes[:, 0] * line + boxes[:, 1] * channels
    sigma = np.concatenate([program.colours.sigma for program in programs])
    reals[:, COLUMNS["sigma"]] = sigma
    column["radius"][:] = _radii(sigma)
    begin, colours = 0, len(COLUMNS) + 2 * channels
    for program, view, count in zip(programs, views, counts, strict=True):
        own, own_reals, clamp = rows[begin : begin + count], reals[begin : begin + count], int(program.move.clamp)
        # counted from the result of the first program
        result = (view.data_ptr() - views[0].data_ptr()) // view.element_size()
        own[:, COLUMNS["result"]] = result + np.arange(count) * (channels * height * width)
        _lay_out_colours(program.colours, clamp, own, own_reals, colours, steps, channels)
        begin += count
    maps = np.concatenate([program.move.maps for program in programs])
    after = column["radius"] + 1
    if first.move.kind == "rotate":
        rows.view(np.float64)[:n, COLUMNS["taps_y"] :][:, :6] = maps.reshape(n, 6)
        rows[:n, COLUMNS["taps_y"] + 6 :][:, :2] = boxes[:, 2:]
    else:
        resized = np.concatenate([program.move.resized for program in programs])
        turned = maps[:, 0, 0] == 0  # rows of the view are columns of the resized image
        for axis, length, i in (("y", height, 0), ("x", width, 1)):
            down = turned == bool(i)  # whether the axis is that of the rows of the source
            side, to = np.where(down, boxes[:, 2], boxes[:, 3]), np.where(down, resized[:, 0], resized[:, 1])
            map = np.where(down[:, None], maps[:, 0], maps[:, 1])
            taps = _count_taps(side, to, first.move.kind, antialias=first.move.antialias)
            numbers = taps, after, side, to, map[:, i], map[:, 2], np.where(down, line, channels)
            for name, values in zip(("taps", "table", "side", "resized", "slope", "shift", "stride"), numbers, strict=True):
                column[f"{name}_{axis}"][:] = values
            after = after + taps * length
        ...
    ends = np.cumsum(after)
    rows[1:, COLUMNS["bell"]] = ends
    if first.move.kind != "rotate":
        for axis in "yx":
            column[f"table_{axis}"][:] += rows[:n, COLUMNS["bell"]]
    return rows, steps


def _count_taps(side: Ints, resized: Ints, kind: str, *, antialias: bool) -> Ints:
    half = 2 if kind == "bicubic" else 1
    if not antialias:
        return np.full_like(side, 2 * half)
    return np.minimum(np.ceil(2 * half * np.maximum(side / resized, 1)).astype(np.int64), side)


def _lay_out_colours(
    colours: Colours, clamp: int, rows: Any, reals: Any, start: int, steps: int, channels: int
) -> None:
    """Lay out the steps of one program, with a clamp in front of them if `clamp`."""
    own = colours.codes.shape[1]
    rows[:, COLUMNS["blur"]] = colours.blur + clamp
    rows[:, COLUMNS["contrast"]] = np.where(colours.contrast < 0, -1, colours.contrast + clamp)
    scale = 1 / np.full(channels, colours.std)
    reals[:, start - 2 * channels : start - channels] = scale
    reals[:, start - channels : start] = -np.full(channels, colours.mean) * scale
    if clamp:
        rows[:, start] = CLAMP
    rows[:, start + clamp : start + clamp + own] = colours.codes
    reals[:, start + steps + clamp : start + steps + clamp + own] = colours.values
