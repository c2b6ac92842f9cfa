"""The numbers that the GPU engine renders a batch from, laid out as its kernels read them, in one tensor.

They depend on the images' sizes, the draws and the views only, and are laid out without Triton: so workers can do it,
beside the draws. The n views of a group are one table of 64-bit words, `(n, columns)`: whole numbers, the bits of a
float64, or the bits of a float32 in the lower half.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lightly_aug.engines.program import NORMALIZE, NOTHING, Program
from lightly_aug.operations import Ints

__all__ = ["BLOCK", "COLUMNS", "NAMES", "TILE_X", "TILE_Y", "Group", "Layout", "lay_out"]

_AXIS: Final = "taps", "table", "side", "resized", "slope", "shift", "stride"
NAMES: Final = "start", "result", "contrast", "blur", "radius", "sigma", "bell"

COLUMNS: Final = {
    name: i
    for i, name in enumerate([*NAMES, *(f"{name}_y" for name in _AXIS), "weights_y", *(f"{name}_x" for name in _AXIS)])
}
"""The columns of the table; behind them scale and bias of each channel in one word, then code and value of each step.

`start` is the first number of the box in the source, `result` that of the view. Position i on an axis shows place
`slope` i + `shift` of the `resized` places, into which the `side` pixels of the box are resized; pixels are `stride`
apart in the source. `taps` is how many pixels of the source a column of the view shows at most, or a group of rows as
high as a tile. `bell` and `weights_y` are where the weights of the blur and of the rows begin, `table` where the taps
of an axis do: for each group how many rows of the source it shows (upper 32 bits), and the first one; for each tap and
column an offset (upper 32 bits) and its weight. For a rotation the columns from `taps_y` on are the map in float64,
height and width of the source.
"""

TILE_Y: Final = 8
TILE_X: Final = 32
"""The tiles that views are drawn in."""

BLOCK: Final = 128
"""How many rows or columns are weighed together."""

_ALIGN: Final = 16
"""Every table begins at a multiple of 16 words, and every view at a multiple of 16 numbers."""


class Group(NamedTuple):
    """Views that differ in nothing but numbers, and are rendered together.

    Attributes:
        views: The numbers of the views.
        images: How many images each of them has.
        channels: The number of channels.
        size: Height and width of the views, in pixels.
        pitch: How many numbers one view begins behind the other.
        kind: As in `Move`.
        antialias: As in `Move`.
        dtype: Dtype of the views, unless another is asked for.
        rounds: Whether the colours that wait for a mean or a blur are in [0, 1], so that they can wait in 16 bits.
        begin: The word that the table begins at.
        steps: The number of steps of the colours.
        weights: The number of weights of rows and of blurs.
        taps: The number of words for the taps of columns and of groups of rows.
        waits: How many images come before those that wait for a mean or a blur.
        blurs: How many images come before those that are blurred.
    """

    views: tuple[int, ...]
    images: int
    channels: int
    size: tuple[int, int]
    pitch: int
    kind: str
    antialias: bool
    dtype: torch.dtype
    rounds: bool
    begin: int
    steps: int
    weights: int
    taps: int
    waits: int
    blurs: int

    @property
    def n(self) -> int:
        """The number of images of all views."""
        return self.images * len(self.views)

    @property
    def columns(self) -> int:
        """The number of columns of the table."""
        return len(COLUMNS) + self.channels + self.steps


class Layout(NamedTuple):
    """The numbers of all views of a batch.

    Attributes:
        words: 1-D int64: the table of each group.
        groups: What the engine has to know of each.
    """

    words: Tensor
    groups: tuple[Group, ...]


def lay_out(programs: Sequence[Program], views: Sequence[Sequence[int]]) -> Layout:
    """Lay out programs whose images are in one buffer.

    Args:
        programs: At least one; each has images, and its views have pixels.
        views: For each program the numbers of its views.
    """
    together = dict[tuple[object, ...], list[int]]()
    for i, program in enumerate(programs):
        images, move, _, output, count = program
        alike = len(images) // count, move.size, move.kind, move.antialias, output.dtype, _may_round(program)
        together.setdefault(alike, []).append(i)
    plans, parts, begin = list[Group](), list[npt.NDArray[np.int64]](), 0
    for which in together.values():
        numbers = tuple(number for i in which for number in views[i])
        group, table = _lay_out_group([programs[i] for i in which], numbers, begin)
        parts += [table.ravel(), np.zeros(-table.size % _ALIGN, dtype=np.int64)]
        begin += table.size + len(parts[-1])
        plans.append(group)
    return Layout(torch.from_numpy(np.concatenate(parts)), tuple(plans))


def _may_round(program: Program) -> bool:
    colours = program.colours
    waits = max(colours.contrast.max(initial=-1), colours.blur if colours.sigma.any() else 0)
    normalized = (colours.codes[:1, : max(waits, 0)] == NORMALIZE).any()  # all images are, or none
    return program.images.pixels.dtype == torch.uint8 and not normalized


def _lay_out_group(programs: list[Program], views: tuple[int, ...], begin: int) -> tuple[Group, Ints]:
    """Lay out programs that differ in nothing but numbers, as one table."""
    first = programs[0]
    images, move, channels = len(first.images) // first.views, first.move, first.images.channels
    height, width = move.size
    numbers = channels * height * width
    pitch = images * numbers + -images * numbers % _ALIGN
    n, steps = images * len(views), max(_count_steps(program) for program in programs)
    words = np.zeros((len(COLUMNS) + channels + steps, n), dtype=np.int64)
    column = {name: words[i] for name, i in COLUMNS.items()}

    shapes = np.concatenate([program.images.shapes.numpy() for program in programs])
    top, left = np.concatenate([program.move.boxes[:, :2] for program in programs]).T
    line = shapes[:, 2] * channels
    column["start"][:] = shapes[:, 0] + top * line + left * channels
    column["result"][:] = np.add.outer(np.arange(len(views)) * pitch, np.arange(images) * numbers).ravel()
    sigma = np.concatenate([program.colours.sigma for program in programs])
    column["sigma"].view(np.float32)[::2] = sigma
    radius = column["radius"]
    radius[:] = _radii(sigma)
    start = 0
    for program in programs:
        stop = start + len(program.images)
        _lay_out_colours(program, words[:, start:stop], channels)
        start = stop

    weights, taps = _lay_out_move(programs, words, line)
    ends, ends_of_taps = np.cumsum(weights), np.cumsum(taps)
    column["bell"][:] = ends - weights
    if move.kind != "rotate":
        column["weights_y"] += column["bell"]
        column["table_y"] += ends_of_taps - taps
        column["table_x"] += ends_of_taps - taps
    turn = np.where(radius > 0, 2, column["contrast"] >= 0)  # 0 waits for nothing, 1 for a mean, 2 for a blur
    # images that wait for the same are beside each other, and so are those of one source
    table = np.take(words.T, np.lexsort((column["start"], turn)), axis=0)
    waits, blurs = int((turn == 0).sum()), int((turn < 2).sum())
    shape = images, channels, move.size, pitch
    how = move.kind, move.antialias, first.output.dtype or torch.float32, _may_round(first)
    return Group(views, *shape, *how, begin, steps, int(ends[-1]), int(ends_of_taps[-1]), waits, blurs), table


def _lay_out_move(programs: list[Program], words: Ints, line: Ints) -> tuple[Ints, Ints]:
    """Lay out where pixels come from; return how many weights and how many taps each image needs.

    Args:
        programs: The programs.
        words: Their table, in which the radii of the blurs are.
        line: How far the rows of each source are apart.
    """
    move, channels = programs[0].move, programs[0].images.channels
    height, width = (_round_up(side, BLOCK) for side in move.size)
    boxes, maps = (np.concatenate([getattr(p.move, name) for p in programs]) for name in ("boxes", "maps"))
    weights, axis = _round_up(words[COLUMNS["radius"]] + 1, TILE_Y), COLUMNS["taps_y"]
    if move.kind == "rotate":
        words[axis : axis + 6].view(np.float64)[:] = maps.reshape(-1, 6).T
        words[axis + 6 : axis + 8] = boxes.T[2:]
        return weights, np.zeros_like(weights)
    resized = np.concatenate([program.move.resized for program in programs]).T
    upright = maps[:, 0, 0] != 0  # else rows of the view are columns of the resized image
    place = np.where(upright, maps[:, 0].T, maps[:, 1].T), np.where(upright, maps[:, 1].T, maps[:, 0].T)
    sides, stride = np.where(upright, boxes.T[2:], boxes.T[:1:-1]), np.where(upright, line, channels)
    resized, other = np.where(upright, resized, resized[::-1]), np.where(upright, channels, line)
    rows = _count_taps(sides[0], resized[0], TILE_Y, move.kind, antialias=move.antialias)
    columns = _count_taps(sides[1], resized[1], 1, move.kind, antialias=move.antialias)
    few = 4 if move.kind == "bicubic" else 2
    columns = np.where(columns < few + 4, np.maximum(columns, few), _round_up(columns, 4))  # as the kernels sum them
    groups = height // TILE_Y
    words[axis : axis + 7] = rows, 0 * rows, sides[0], resized[0], place[0][0], place[0][2], stride
    words[axis + 7] = weights
    axis = COLUMNS["taps_x"]
    words[axis : axis + 7] = columns, groups + 0 * rows, sides[1], resized[1], place[1][1], place[1][2], other
    return weights + rows * height, groups + columns * width


def _radii(sigma: npt.NDArray[np.floating[Any]]) -> Ints:
    return (4 * sigma.astype(np.float32) + np.float32(0.5)).astype(np.int64)


def _count_taps(side: Ints, resized: Ints, tile: int, kind: str, *, antialias: bool) -> Ints:
    """Bound how many pixels of the source are shown by neighbours in one tile."""
    half = 2 if kind == "bicubic" else 1
    if not antialias and tile == 1:
        return np.full_like(side, 2 * half)  # beyond the border the last pixel is repeated
    scale = side / resized
    reach = 2 * half * np.maximum(scale, 1) if antialias else 2 * half
    taps: Ints = np.ceil((tile - 1) * scale + reach).astype(np.int64) + (tile > 1)  # the sum is rounded
    return np.minimum(taps, side)


def _round_up(x: Any, to: int) -> Any:
    return x + -x % to


def _count_steps(program: Program) -> int:
    return int(program.colours.codes.shape[1])


def _lay_out_colours(program: Program, words: Ints, channels: int) -> None:
    """Lay out the colours of one program."""
    colours = program.colours
    words[COLUMNS["blur"]] = colours.blur
    words[COLUMNS["contrast"]] = colours.contrast
    scale = 1 / np.full(channels, colours.std)
    pairs = np.stack([scale, -np.full(channels, colours.mean) * scale], axis=1).astype(np.float32)
    start = len(COLUMNS)
    words[start : start + channels] = pairs.view(np.int64)
    steps = words[start + channels :]
    values = colours.values.T.astype(np.float32).view(np.uint32)
    steps[: len(values)] = values | colours.codes.T.astype(np.int64) << 32
    steps[len(values) :] = NOTHING
