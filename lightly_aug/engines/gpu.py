"""The GPU engine, in Triton: every pixel of a view is computed once, from its sources to its place in the batch.

Views of one size are rendered together. One kernel resamples, changes colours, blurs and stores, one tile of one image
a program; operations that an image did not draw cost nothing. Blurred images are a launch of their own, since their
tiles overlap by the radius of the blur; contrast takes one launch before, for the means. All sums are taken in a fixed
order, so the views depend neither on scheduling nor on the rest of the batch.
"""

from contextlib import nullcontext
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
import triton
from torch import Tensor

from lightly_aug.engines.gpu_kernels import MOVES, draw_tiles, sum_grays
from lightly_aug.engines.plan import find_stage
from lightly_aug.engines.program import CLAMP, NOTHING, Program
from lightly_aug.operations import Floats, Ints, Operation, RandomGaussianBlur

__all__ = ["knows", "run"]

_TILES: Final = {
    0: {"TILE_Y": 16, "TILE_X": 32, "num_warps": 4, "enable_fp_fusion": True},
    8: {"TILE_Y": 32, "TILE_X": 64, "num_warps": 8, "enable_fp_fusion": True},
    24: {"TILE_Y": 64, "TILE_X": 64, "num_warps": 8, "enable_fp_fusion": True},
}
"""Tile shapes by halo: the margin that is computed for the blur and then discarded. Wider halos waste more, so each
image gets the narrowest that its blur fits in, whatever the other images need."""


def knows(operation: Operation) -> bool:
    """Whether this engine renders an operation; it leaves blurs of more than 24 pixels to the reference."""
    if isinstance(operation, RandomGaussianBlur) and _radii(np.array(operation.sigma)).max() > max(_TILES):
        return False
    return find_stage(operation) is not None


def run(programs: list[Program]) -> list[Tensor]:
    """Run programs, together where possible.

    Args:
        programs: Their images are on one CUDA device (on any device under Triton's interpreter).

    Returns:
        For each a tensor `(n, channels, height, width)` of its dtype and memory format.
    """
    views, groups = [], dict[tuple[object, ...], list[int]]()
    for i, (images, move, _, output) in enumerate(programs):
        view = torch.empty(
            (len(images), images.channels, *move.size),
            dtype=output.dtype,
            device=images.pixels.device,
            memory_format=output.memory_format,
        )
        views.append(view)
        if view.numel():
            same = images.pixels.data_ptr(), view.device, view.shape[1:], view.dtype, output.memory_format
            groups.setdefault((*same, move.kind, move.antialias), []).append(i)
    for group in groups.values():
        _run_group([programs[i] for i in group], [views[i] for i in group])
    return views


def _run_group(programs: list[Program], views: list[Tensor]) -> None:
    """Run programs that differ in nothing but numbers."""
    first, view = programs[0], views[0]
    channels, height, width = view.shape[1:]
    steps = max(program.move.clamp + program.colours.codes.shape[1] for program in programs)
    halos = np.searchsorted([*_TILES], _radii(np.concatenate([program.colours.sigma for program in programs])))
    rows = np.concatenate([_rows(program, own, view, steps) for program, own in zip(programs, views, strict=True)])
    order = np.lexsort((rows[:, 0], halos))  # images with one halo together, views of one image beside each other
    sorted_rows = torch.from_numpy(rows[order])
    if view.is_cuda:
        sorted_rows = sorted_rows.pin_memory().to(view.device, non_blocking=True)
    tiles = _count_tiles(height, width, 0)
    sums = torch.empty((len(rows), tiles), dtype=torch.float32, device=view.device)
    numbers = first.images.pixels, sorted_rows, sorted_rows.shape[1], steps, sums, tiles, height, width
    options = {"C": channels, "MOVE": MOVES[first.move.kind], "ANTIALIAS": first.move.antialias}
    with torch.cuda.device(view.device) if view.is_cuda else nullcontext():
        if any((program.colours.contrast >= 0).any() for program in programs):
            sum_grays[(len(rows) * tiles,)](*numbers, **options, **_TILES[0])
        start = 0
        for i, (halo, tile) in enumerate(_TILES.items()):
            images = int((halos == i).sum())
            if images:
                grid = images * _count_tiles(height, width, halo), 1 if channels == 3 else channels
                draw_tiles[grid](*numbers, view, *view.stride()[1:], start, HALO=halo, **options, **tile)
            start += images


def _count_tiles(height: int, width: int, halo: int) -> int:
    tile = _TILES[halo]
    return int(triton.cdiv(height, tile["TILE_Y"] - 2 * halo) * triton.cdiv(width, tile["TILE_X"] - 2 * halo))


def _radii(sigma: npt.NDArray[np.floating]) -> Ints:
    return (4 * sigma.astype(np.float32) + np.float32(0.5)).astype(np.int64)


def _rows(program: Program, view: Tensor, first: Tensor, steps: int) -> Floats:
    """Lay out the numbers of each image as the kernels read them, in float64, which holds all of them exactly."""
    images, move, colours, _ = program
    n, own = colours.codes.shape
    offsets, _, width = images.shapes.numpy().T
    top, left = move.boxes[:, :2].T
    clamp = int(move.clamp)  # one step more, at the front
    padding = (0, 0), (clamp, steps - own - clamp)
    columns = (
        offsets + (top * width + left) * images.channels,
        width,
        move.boxes[:, 2:],
        move.resized,
        move.maps.reshape(n, 6),
        colours.sigma,
        _radii(colours.sigma),
        np.full(n, colours.blur + clamp),
        np.where(colours.contrast < 0, -1, colours.contrast + clamp),
        # where the result begins, counted from that of the first program
        (view.data_ptr() - first.data_ptr()) // view.element_size() + np.arange(n) * view[0].numel(),
        *(np.broadcast_to(values, (n, images.channels)) for values in (colours.mean, colours.std)),
        np.pad(colours.codes, padding, constant_values=((0, 0), (CLAMP, NOTHING))),
        np.pad(colours.values, padding),
    )
    return np.concatenate([np.asarray(c, dtype=np.float64).reshape(n, -1) for c in columns], axis=1)
