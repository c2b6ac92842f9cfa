"""The kernels of the GPU engine, in Triton. `lightly_aug.engines.program` says what each code does to a pixel.

Every program of a grid works on one image, whose numbers are a row of a table, see `lightly_aug.engines.gpu_layout`.
"""

# mypy: allow-untyped-decorators

from typing import Final

import triton
import triton.language as tl
from triton.language import constexpr, tensor

from lightly_aug.engines.gpu_layout import COLUMNS, NAMES
from lightly_aug.engines.program import (
    BRIGHTNESS,
    CLAMP,
    CONTRAST,
    GRAYSCALE,
    HUE,
    NORMALIZE,
    NOTHING,
    SATURATION,
    SOLARIZE,
)

__all__ = ["MOVES", "blur_down", "draw_tiles", "finish_rows", "weigh"]

_START, _RESULT, _CONTRAST_AT, _BLUR, _RADIUS, _SIGMA, _BELL = (constexpr(COLUMNS[name]) for name in NAMES)
_AXIS_Y, _AXIS_X, _NORM = constexpr(COLUMNS["taps_y"]), constexpr(COLUMNS["taps_x"]), constexpr(len(COLUMNS))

MOVES: Final = {"bilinear": 0, "bicubic": 1, "rotate": 2}
_BICUBIC, _ROTATE = constexpr(1), constexpr(2)

_NOTHING, _CLAMP, _BRIGHTNESS, _CONTRAST = map(constexpr, (NOTHING, CLAMP, BRIGHTNESS, CONTRAST))
_SATURATION, _HUE, _GRAYSCALE, _SOLARIZE, _NORMALIZE = map(constexpr, (SATURATION, HUE, GRAYSCALE, SOLARIZE, NORMALIZE))

# one compiled kernel for all sizes and batches
_RUNTIME: Final = ("columns", "tiles", "height", "width", "units", "first", "blurs")

# The bits of a small whole number k are those of the float32 k / 2^149. GPUs multiply such denormal numbers as fast as
# others, so this conversion costs nothing: weights are multiplied by _UP, sums by _DOWN and the unit of the numbers.
_UP, _DOWN = constexpr(2.0**126), constexpr(2.0**23)


# --- the table --------------------------------------------------------------------------------------------------


@triton.jit
def _image(table: tensor, at: tensor, columns: tensor) -> tensor:
    """Find the row of an image."""
    return table + at.to(tl.int64) * columns


@triton.jit
def _word(image: tensor, column: tensor) -> tensor:
    return tl.load(image + column)


@triton.jit
def _real(word: tensor) -> tensor:
    """Take the float32 in the lower half of a word."""
    return word.to(tl.int32).to(tl.float32, bitcast=True)


@triton.jit
def _double(word: tensor) -> tensor:
    return word.to(tl.float64, bitcast=True)


# --- weights: once for every row and column of a view, and for every blur ---------------------------------------


@triton.jit(do_not_specialize=_RUNTIME)
def weigh(
    table: tensor, columns: tensor, weights: tensor, taps: tensor, height: tensor, width: tensor,
    MOVE: constexpr, ANTIALIAS: constexpr, INTEGERS: constexpr, TILE_Y: constexpr, BLOCK: constexpr,
) -> None:  # fmt: skip
    """Compute the weights of one axis of one view, in float64, and where in the source they apply; or of a blur."""
    image = _image(table, tl.program_id(0) // 2, columns)
    if tl.program_id(0) % 2 == 0:
        if _word(image, _RADIUS) > 0:
            _weigh_bell(image, weights, BLOCK)
        if MOVE != _ROTATE:
            unit: constexpr = _DOWN / 255 if INTEGERS else 1.0
            _weigh_rows(image + _AXIS_Y, weights, taps, height, MOVE, ANTIALIAS, unit, TILE_Y, BLOCK // TILE_Y)
    elif MOVE != _ROTATE:
        gain: constexpr = _UP if INTEGERS else 1.0
        _weigh_columns(image + _AXIS_X, taps, width, MOVE, ANTIALIAS, gain, BLOCK)


@triton.jit
def _weigh_bell(image: tensor, weights: tensor, BLOCK: constexpr) -> None:
    """Compute one half of the blur's weights, from the centre outwards."""
    radius = _word(image, _RADIUS).to(tl.int32)
    bell = weights + _word(image, _BELL)
    sigma = _real(_word(image, _SIGMA))
    total = tl.full((), -1.0, tl.float32)  # the centre is counted twice
    for first in range(0, radius + 1, BLOCK):
        t = first + tl.arange(0, BLOCK)
        total += 2 * tl.sum(tl.where(t <= radius, _bell(t, sigma), 0.0), 0)
    for first in range(0, radius + 1, BLOCK):
        t = first + tl.arange(0, BLOCK)
        tl.store(bell + t, _bell(t, sigma) / total, t <= radius)


@triton.jit
def _bell(t: tensor, sigma: tensor) -> tensor:
    t = t / sigma
    return tl.exp(-0.5 * t * t)


@triton.jit
def _weigh_rows(
    axis: tensor, weights: tensor, taps: tensor, height: tensor,
    MOVE: constexpr, ANTIALIAS: constexpr, GAIN: constexpr, ROWS: constexpr, BLOCK: constexpr,
) -> None:  # fmt: skip
    """For each group of rows of a view find the rows of the source that any of them shows, and all their weights."""
    most, table = _word(axis, 0).to(tl.int32), _word(axis, 1)
    weights += _word(axis, 7)
    row = tl.arange(0, ROWS)[None, :]
    for begin in range(0, height, BLOCK * ROWS):
        group = begin // ROWS + tl.arange(0, BLOCK)
        inside, side, low, size, rest, shrink = _reach(axis, group[:, None] * ROWS + row, height, MOVE, ANTIALIAS)
        first = tl.min(tl.where(inside, tl.maximum(tl.minimum(low, side - 1), 0), side), 1)
        last = tl.max(tl.where(inside, tl.maximum(tl.minimum(low + size, side) - 1, 0), -1), 1)
        gain = tl.where(inside, GAIN / _sum_weights(size, rest, shrink, MOVE, ANTIALIAS), 0.0)
        count = tl.maximum(last - first + 1, 0)
        tl.store(taps + table + group, count.to(tl.int64) << 32 | first)
        for k in range(0, most):
            if ANTIALIAS:
                weight = _weight(first[:, None] + k - low, size, rest, shrink, MOVE, ANTIALIAS)
            else:  # the outer rows stand for all beyond them, too
                weight = tl.zeros((BLOCK, ROWS), tl.float32)
                for m in tl.static_range(4 if MOVE == _BICUBIC else 2):
                    same = tl.maximum(tl.minimum(low + m, side - 1), 0) == first[:, None] + k
                    weight += tl.where(same, _weight(m, size, rest, shrink, MOVE, ANTIALIAS), 0.0)
            to = (group * most + k)[:, None] * ROWS + row
            tl.store(weights + to, weight * gain)


@triton.jit
def _weigh_columns(
    axis: tensor, taps: tensor, width: tensor,
    MOVE: constexpr, ANTIALIAS: constexpr, GAIN: constexpr, BLOCK: constexpr,
) -> None:  # fmt: skip
    """Compute weight and offset of each tap of each column, tap by tap; a place outside of the image weighs nothing."""
    most, table, stride = _word(axis, 0).to(tl.int32), _word(axis, 1), _word(axis, 6)
    pitch = tl.cdiv(width, BLOCK) * BLOCK
    for begin in range(0, width, BLOCK):
        at = begin + tl.arange(0, BLOCK)
        inside, side, low, size, rest, shrink = _reach(axis, at, width, MOVE, ANTIALIAS)
        gain = tl.where(inside, GAIN / _sum_weights(size, rest, shrink, MOVE, ANTIALIAS), 0.0)
        for k in range(0, most):
            weight = _weight(k, size, rest, shrink, MOVE, ANTIALIAS) * gain
            pixel = tl.maximum(tl.minimum(low + tl.minimum(k, size - 1), side - 1), 0)
            word = pixel * stride << 32 | weight.to(tl.uint32, bitcast=True).to(tl.int64)
            tl.store(taps + table + k * pitch + at, word)


@triton.jit
def _reach(
    axis: tensor, at: tensor, length: tensor, MOVE: constexpr, ANTIALIAS: constexpr
) -> tuple[tensor, tensor, tensor, tensor, tensor, tensor]:
    """Find the pixels of the source that some positions show.

    Returns:
        Whether they show any; the side of the source; the first pixel of each and their number; where the centre is,
        from the first pixel on; one over the width of the filter.
    """
    half: constexpr = 2 if MOVE == _BICUBIC else 1
    side, resized = _word(axis, 2).to(tl.int32), _word(axis, 3)
    place = _word(axis, 4) * at + _word(axis, 5)
    inside = (at < length) & (place >= 0) & (place < resized)
    scale = side.to(tl.float64) / resized.to(tl.float64)
    stretch = tl.maximum(scale, 1.0) if ANTIALIAS else tl.full((), 1.0, tl.float64)
    center = scale * (tl.where(inside, place, 0).to(tl.float64) + 0.5)
    if ANTIALIAS:
        low = tl.maximum(center - half * stretch + 0.5, 0.0).to(tl.int32)
        size = tl.minimum((center + half * stretch + 0.5).to(tl.int32), side) - low
    else:
        low = tl.floor(center - 0.5).to(tl.int32) - (half - 1)
        size = tl.full(low.shape, 2 * half, tl.int32)
    return inside, side, low, size, (center - low).to(tl.float32), (1.0 / stretch).to(tl.float32)


@triton.jit
def _sum_weights(size: tensor, rest: tensor, shrink: tensor, MOVE: constexpr, ANTIALIAS: constexpr) -> tensor:
    most = tl.max(size, 0) if len(size.shape) == 1 else tl.max(tl.max(size, 1), 0)
    total = tl.zeros(size.shape, tl.float32)
    for k in range(0, most):
        total += _weight(k, size, rest, shrink, MOVE, ANTIALIAS)
    return total


@triton.jit
def _weight(k: tensor, size: tensor, rest: tensor, shrink: tensor, MOVE: constexpr, ANTIALIAS: constexpr) -> tensor:
    """Compute the weight of pixel number k."""
    t = tl.abs(k + (0.5 - rest)) * shrink
    if MOVE == _BICUBIC:
        A: constexpr = -0.5 if ANTIALIAS else -0.75
        near = ((A + 2) * t - (A + 3)) * t * t + 1
        far = ((A * t - 5 * A) * t + 8 * A) * t - 4 * A
        weight = tl.where(t < 1, near, tl.where(t < 2, far, 0.0))
    else:
        weight = tl.maximum(1 - t, 0.0)
    return tl.where((k >= 0) & (k < size), weight, 0.0)


# --- from the source to the view --------------------------------------------------------------------------------


@triton.jit(do_not_specialize=(*_RUNTIME, "pitch"))
def draw_tiles(
    pixels: tensor, weights: tensor, taps: tensor,
    table: tensor, columns: tensor, sums: tensor, tiles: tensor, first: tensor,
    views: tensor, waiting: tensor, height: tensor, width: tensor, pitch: tensor,
    C: constexpr, LAST: constexpr, FINITE: constexpr, MOVE: constexpr, WHOLE: constexpr,
    TILE_Y: constexpr, TILE_X: constexpr,
) -> None:  # fmt: skip
    """Resample one tile of one image, and change its colours as far as neither mean nor neighbours are needed.

    A view that has to wait for its mean or its blur waits where it will be. Three channels are drawn together, else
    one. If tiles are `WHOLE`, all of their pixels are in the view.
    """
    at = first + tl.program_id(2)
    image = _image(table, at, columns)
    column, tiles_x, channel = _split_columns(C)
    group = tl.program_id(1)
    y = group * TILE_Y + tl.arange(0, TILE_Y)
    x = column * TILE_X + tl.arange(0, TILE_X)
    source = pixels + _word(image, _START) + channel
    if MOVE == _ROTATE:
        r, g, b = _rotate(source, image, y, x, C)
    else:
        r, g, b = _resample(source, weights, taps, image, group, x, pitch, C, MOVE, TILE_Y)
    contrast = _word(image, _CONTRAST_AT).to(tl.int32)
    blurs = _word(image, _RADIUS) > 0
    stop = tl.where(blurs, _word(image, _BLUR).to(tl.int32), columns - _NORM - C)
    stop = tl.where(contrast >= 0, contrast, stop)
    r, g, b = _run_steps(r, g, b, image, 0, stop, 0.0, channel, C, FINITE)
    inside = None if WHOLE else (y < height)[:, None] & (x < width)[None, :]
    if contrast >= 0:
        gray = _gray(r, g, b, C)
        if not WHOLE:
            gray = tl.where(inside, gray, 0.0)
        tl.store(sums + at.to(tl.int64) * tiles + group * tiles_x + column, tl.sum(tl.sum(gray, 0), 0))
    stride_c, stride_y = _strides(height, width, C, LAST)
    result = _word(image, _RESULT) + channel * stride_c
    if (contrast >= 0) | blurs:
        to = _places(y[:, None] * stride_y, x[None, :], C, LAST)
        _store(waiting + result, stride_c, to, r, g, b, inside, C)
    else:
        # in 64 bits: the compiler would take the same expression out of both branches, and then addresses cost twice
        place = _places((y.to(tl.int64) * stride_y)[:, None], x[None, :], C, LAST)
        _store(views + result, stride_c, place, r, g, b, inside, C)


@triton.jit
def _split_columns(C: constexpr) -> tuple[tensor, tensor, tensor]:
    """Find the column of tiles, their number, and the channel, of which three are one."""
    if C == 3:
        return tl.program_id(0), tl.num_programs(0), 0
    columns = tl.num_programs(0) // C
    return tl.program_id(0) % columns, columns, tl.program_id(0) // columns


@triton.jit
def _resample(
    source: tensor, weights: tensor, taps: tensor, image: tensor, group: tensor, x: tensor,
    pitch: tensor, C: constexpr, MOVE: constexpr, ROWS: constexpr,
) -> tuple[tensor, tensor, tensor]:  # fmt: skip
    """Resize a group of rows: three channels, or one three times."""
    axis_y, axis_x = image + _AXIS_Y, image + _AXIS_X
    most, taps_x = _word(axis_y, 0).to(tl.int32), _word(axis_x, 0).to(tl.int32)
    stride = _word(axis_y, 6).to(tl.int32)
    found = tl.load(taps + _word(axis_y, 1) + group)
    source += found.to(tl.int32).to(tl.int64) * stride
    count = (found >> 32).to(tl.int32)
    column = taps + _word(axis_x, 1) + x
    rows = weights + tl.multiple_of(_word(axis_y, 7) + group * most * ROWS, ROWS) + tl.arange(0, ROWS)
    few: constexpr = 4 if MOVE == _BICUBIC else 2  # the taps of an image that is enlarged
    if taps_x == few:
        r, g, b = _sum_taps(source, stride, count, rows, column, pitch, few, few, False, C, ROWS)
    elif taps_x == few + 1:
        r, g, b = _sum_taps(source, stride, count, rows, column, pitch, few + 1, few + 1, False, C, ROWS)
    elif taps_x == few + 2:
        r, g, b = _sum_taps(source, stride, count, rows, column, pitch, few + 2, few + 2, False, C, ROWS)
    elif taps_x == few + 3:
        r, g, b = _sum_taps(source, stride, count, rows, column, pitch, few + 3, few + 3, False, C, ROWS)
    else:
        r, g, b = _sum_taps(source, stride, count, rows, column, pitch, taps_x, 4, True, C, ROWS)
    return (r, g, b) if C == 3 else (r, r, r)


@triton.jit
def _sum_taps(
    line: tensor, stride: tensor, count: tensor, rows: tensor, column: tensor, pitch: tensor,
    taps: tensor, TOGETHER: constexpr, MORE: constexpr, C: constexpr, ROWS: constexpr,
) -> tuple[tensor, tensor, tensor]:  # fmt: skip
    """Sum the taps along x, row by row of the source, and let each row of the view weigh that sum.

    A thread has all rows of its column, so it reads no pixel twice. Taps along x are summed `TOGETHER`; unless there
    are `MORE`, their weights and offsets stay in registers.
    """
    r = tl.zeros((ROWS, column.shape[0]), tl.float32)
    g = r
    b = r
    first = ()
    for m in tl.static_range(TOGETHER):
        first += (tl.load(column + m * pitch),)  # type: ignore[assignment]
    for k in range(0, count):
        down = (k * stride).to(tl.uint32)
        across_r = tl.zeros(column.shape, tl.float32)
        across_g = across_r
        across_b = across_r
        for m in tl.static_range(TOGETHER):
            across_r, across_g, across_b = _add_tap(across_r, across_g, across_b, line, down, first[m], C)
        if MORE:
            for begin in range(TOGETHER, taps, TOGETHER):
                for m in tl.static_range(TOGETHER):
                    word = tl.load(column + (begin + m) * pitch)
                    across_r, across_g, across_b = _add_tap(across_r, across_g, across_b, line, down, word, C)
        weight = tl.load(rows + k * ROWS)[:, None]
        r = _add(r, weight, across_r[None, :], line)
        if C == 3:
            g = _add(g, weight, across_g[None, :], line)
            b = _add(b, weight, across_b[None, :], line)
    return r, g, b


@triton.jit
def _add_tap(
    r: tensor, g: tensor, b: tensor, line: tensor, down: tensor, word: tensor, C: constexpr
) -> tuple[tensor, tensor, tensor]:
    weight = _real(word)
    at = line + ((word >> 32).to(tl.uint32) + down)  # without a sign its 64 bits cost an instruction less
    r += weight * _read(at, weight)
    if C == 3:
        g += weight * _read(at + 1, weight)
        b += weight * _read(at + 2, weight)
    return r, g, b


@triton.jit
def _add(total: tensor, weight: tensor, value: tensor, source: tensor) -> tensor:
    if source.dtype.element_ty == tl.uint8:
        return total + weight * value
    return total + tl.where(weight != 0, weight * value, 0.0)


@triton.jit
def _along_x(line: tensor, offsets: tensor) -> tensor:
    """Add, so that a warp reads or writes along x; Triton 3.6 takes it along y where it sees no order in the offsets.

    No access becomes as wide as the hint says unless it is: nothing is known about where the offsets begin.
    """
    return tl.max_contiguous(line + offsets, [1, 2])


@triton.jit
def _read(at: tensor, weight: tensor) -> tensor:
    """Read pixels as floats, 8 bits as they are; one of weight 0 may be NaN, which no sum must see."""
    value = tl.load(at)
    if value.dtype == tl.uint8:
        return value.to(tl.int32).to(tl.float32, bitcast=True)
    return tl.where(weight != 0, value, 0.0)


@triton.jit
def _to_unit(r: tensor, g: tensor, b: tensor, source: tensor, C: constexpr) -> tuple[tensor, tensor, tensor]:
    if source.dtype.element_ty == tl.uint8:
        r *= _DOWN / 255
        g *= _DOWN / 255
        b *= _DOWN / 255
    if C == 3:
        return r, g, b
    return r, r, r


@triton.jit
def _rotate(source: tensor, image: tensor, y: tensor, x: tensor, C: constexpr) -> tuple[tensor, tensor, tensor]:
    """Rotate: bilinear, zeros outside."""
    top, below = _locate(image + _AXIS_Y, y, x)
    left, beside = _locate(image + _AXIS_Y + 3, y, x)
    height, width = _word(image, _AXIS_Y + 6).to(tl.int32), _word(image, _AXIS_Y + 7).to(tl.int32)
    gain: constexpr = _UP if source.dtype.element_ty == tl.uint8 else 1.0
    r = tl.zeros_like(below)
    g = r
    b = r
    for j in tl.static_range(2):
        for k in tl.static_range(2):
            inside = (top + j >= 0) & (top + j < height) & (left + k >= 0) & (left + k < width)
            weight = (below if j else 1 - below) * (beside if k else 1 - beside) * gain
            weight = tl.where(inside, weight, 0.0)
            at = _along_x(source, tl.where(inside, ((top + j) * width + left + k) * C, 0))
            r += weight * _read(at, weight)
            if C == 3:
                g += weight * _read(at + 1, weight)
                b += weight * _read(at + 2, weight)
    r, g, b = _to_unit(r, g, b, source, C)
    return r, g, b


@triton.jit
def _locate(map: tensor, y: tensor, x: tensor) -> tuple[tensor, tensor]:
    """Compute one coordinate of a map as a whole number and a rest in [0, 1); doubles only along the two axes.

    Triton may compute the same number twice, in one layout for addresses and in another for weights, and the compiler
    fuses multiplications and additions as it likes. So every number that is rounded to a whole one is written with an
    explicit `fma`: else address and weight can belong to neighbouring pixels.
    """
    steep, slope = _double(_word(map, 0)), _double(_word(map, 1))
    down = tl.fma(steep, y.to(tl.float64), _double(_word(map, 2)))
    across = slope * x
    whole = tl.floor(down).to(tl.int32)[:, None] + tl.floor(across).to(tl.int32)[None, :]
    rest = tl.fma(slope, x.to(tl.float64), -tl.floor(across))
    part = (down - tl.floor(down)).to(tl.float32)[:, None] + rest.to(tl.float32)[None, :]
    over = part >= 1
    return tl.where(over, whole + 1, whole), tl.where(over, part - 1, part)


# --- from the mean to the view, or to the rows of a blur --------------------------------------------------------


# `pitch`, too: if its factors were known, each thread would take several neighbours for the sake of the last store, and
# the reads of the blur, which cannot be wide, would be scattered
@triton.jit(do_not_specialize=(*_RUNTIME, "pitch"))
def finish_rows(
    weights: tensor, table: tensor, columns: tensor, sums: tensor, tiles: tensor,
    views: tensor, waiting: tensor, height: tensor, units: tensor,
    blurred: tensor, pitch: tensor, first: tensor, blurs: tensor,
    C: constexpr, LAST: constexpr, FINITE: constexpr, ALIGN: constexpr, TILE_Y: constexpr, TILE_X: constexpr,
) -> None:  # fmt: skip
    """Change the colours of some rows of one waiting view from its contrast on, and blur them across.

    Images up to number `blurs` are finished, those from there on go to `blurred`, in float32. `units` of `ALIGN` pixels
    are one row.
    """
    width = units * ALIGN
    at = first + tl.program_id(2)
    channel = tl.program_id(1)
    image = _image(table, at, columns)
    top = tl.program_id(0) * TILE_Y
    radius = _word(image, _RADIUS).to(tl.int32)
    contrast = _word(image, _CONTRAST_AT).to(tl.int32)
    stride_c, stride_y = _strides(height, width, C, LAST)
    result = _word(image, _RESULT) // ALIGN * ALIGN + channel * stride_c
    if contrast >= 0:
        mean = _average_gray(sums + at.to(tl.int64) * tiles, tiles, height, width)
        stop = tl.where(radius > 0, _word(image, _BLUR).to(tl.int32), columns - _NORM - C)
        end = tl.minimum(top + TILE_Y, height) * width
        for begin in range(top * width, end, TILE_Y * TILE_X):
            place = begin + tl.arange(0, TILE_Y * TILE_X)  # rows are one behind the other
            to = place * C if LAST else place
            r, g, b = _load(waiting + result, stride_c, to, place < end, C)
            r, g, b = _run_steps(r, g, b, image, contrast, stop, mean, channel, C, FINITE)
            if radius > 0:
                _store(waiting + result, stride_c, to, r, g, b, place < end, C)
            else:
                _store(views + result, stride_c, to, r, g, b, place < end, C)
    if radius > 0:
        tl.debug_barrier()  # these rows are complete, and no other program reads or writes them
        bell = weights + _word(image, _BELL)
        plane = height.to(tl.int64) * pitch
        blurred += ((at - blurs) * C + channel) * plane
        y = top + tl.arange(0, TILE_Y)
        line = tl.minimum(y, height - 1)[:, None] * stride_y
        for begin in range(0, width, TILE_X):
            x = begin + tl.arange(0, TILE_X)
            r, g, b = _blur_across(waiting + result, stride_c, line, x, width, bell, radius, C, LAST)
            # to the end of the pitch, where `blur_down` reads, too
            _store(blurred, plane, y[:, None] * pitch + x[None, :], r, g, b, (y < height)[:, None], C)


@triton.jit
def _strides(height: tensor, width: tensor, C: constexpr, LAST: constexpr) -> tuple[tensor, tensor]:
    """Compute how far channels and rows of a view are apart; if channels are `LAST`, columns are, too."""
    if LAST:
        return 1, width * C
    return height * width, width


@triton.jit
def _places(line: tensor, x: tensor, C: constexpr, LAST: constexpr) -> tensor:
    """Find the places of columns of a view whose rows begin at `line`."""
    if LAST:
        return _along_x(line, x * C)
    return line + x


@triton.jit
def _average_gray(sums: tensor, tiles: tensor, height: tensor, width: tensor) -> tensor:
    lane = tl.arange(0, 128)
    total = tl.zeros((128,), tl.float32)
    for first in range(0, tiles, 128):
        total += tl.load(sums + first + lane, first + lane < tiles, 0.0)
    return tl.sum(total, 0) / (height.to(tl.float32) * width)


@triton.jit
def _blur_across(
    view: tensor, stride_c: tensor, line: tensor, x: tensor, width: tensor, bell: tensor, radius: tensor,
    C: constexpr, LAST: constexpr,
) -> tuple[tensor, tensor, tensor]:  # fmt: skip
    levels: constexpr = view.dtype.element_ty == tl.uint16
    x = tl.minimum(x, width - 1)
    weight = tl.load(bell) * (_UP if levels else 1.0)
    step: constexpr = C if LAST else 1
    at = _along_x(line, x[None, :] * step)
    r = weight * _as_float(_count(view + at))
    g = r
    b = r
    if C == 3:
        g = weight * _as_float(_count(view + stride_c + at))
        b = weight * _as_float(_count(view + 2 * stride_c + at))
    for t in range(1, radius + 1):
        weight = tl.load(bell + t) * (_UP if levels else 1.0)
        left = _along_x(line, (_reflect(x - t, width, radius) * step)[None, :])
        right = _along_x(line, (_reflect(x + t, width, radius) * step)[None, :])
        r += weight * _as_float(_count(view + left) + _count(view + right))
        if C == 3:
            g += weight * _as_float(_count(view + stride_c + left) + _count(view + stride_c + right))
            b += weight * _as_float(_count(view + 2 * stride_c + left) + _count(view + 2 * stride_c + right))
    if levels:
        r, g, b = r * (_DOWN / 65535), g * (_DOWN / 65535), b * (_DOWN / 65535)
    return r, g, b


@triton.jit(do_not_specialize=_RUNTIME)
def blur_down(
    weights: tensor, table: tensor, columns: tensor,
    views: tensor, height: tensor, units: tensor, blurred: tensor, pitch: tensor, first: tensor,
    C: constexpr, LAST: constexpr, FINITE: constexpr, ALIGN: constexpr, TILE_Y: constexpr, TILE_X: constexpr,
) -> None:  # fmt: skip
    """Blur one tile of one view downwards, and change its colours to the end."""
    width = units * ALIGN
    number = tl.program_id(2)
    column, _, channel = _split_columns(C)
    image = _image(table, first + number, columns)
    y = tl.program_id(1) * TILE_Y + tl.arange(0, TILE_Y)
    x = column * TILE_X + tl.arange(0, TILE_X)
    radius = _word(image, _RADIUS).to(tl.int32)
    bell = weights + _word(image, _BELL)
    plane = height.to(tl.int64) * pitch
    source = blurred + (number * C + channel) * plane
    r, g, b = _blur_down(source, plane, pitch, y, x, height, bell, radius, C)
    r, g, b = _run_steps(r, g, b, image, _word(image, _BLUR).to(tl.int32), columns - _NORM - C, 0.0, channel, C, FINITE)
    stride_c, stride_y = _strides(height, width, C, LAST)
    result = _word(image, _RESULT) // ALIGN * ALIGN + channel * stride_c
    to = _places(y[:, None] * stride_y, x[None, :], C, LAST)
    _store(views + result, stride_c, to, r, g, b, (y < height)[:, None] & (x < width)[None, :], C)


@triton.jit
def _blur_down(
    source: tensor, plane: tensor, pitch: tensor, y: tensor, x: tensor, height: tensor, bell: tensor, radius: tensor,
    C: constexpr,
) -> tuple[tensor, tensor, tensor]:  # fmt: skip
    y = tl.minimum(y, height - 1)
    weight = tl.load(bell)
    at = (y * pitch)[:, None] + x[None, :]
    r = weight * tl.load(source + at)
    g = r
    b = r
    if C == 3:
        g = weight * tl.load(source + plane + at)
        b = weight * tl.load(source + 2 * plane + at)
    for t in range(1, radius + 1):
        weight = tl.load(bell + t)
        above = (_reflect(y - t, height, radius) * pitch)[:, None] + x[None, :]
        below = (_reflect(y + t, height, radius) * pitch)[:, None] + x[None, :]
        r += weight * (tl.load(source + above) + tl.load(source + below))
        if C == 3:
            g += weight * (tl.load(source + plane + above) + tl.load(source + plane + below))
            b += weight * (tl.load(source + 2 * plane + above) + tl.load(source + 2 * plane + below))
    return r, g, b


@triton.jit
def _reflect(at: tensor, side: tensor, reach: tensor) -> tensor:
    """Reflect places that are up to `reach` outside about the first and the last pixel until they are between them."""
    at = tl.abs(at)
    if reach >= side:
        at = at % tl.maximum(2 * side - 2, 1)
    return tl.minimum(at, tl.abs(2 * side - 2 - at))


# --- what waits: float32 in a view of float32, else 65,535 levels in its 16 bits --------------------------------


@triton.jit
def _store(
    view: tensor, stride_c: tensor, to: tensor, r: tensor, g: tensor, b: tensor, inside: tensor, C: constexpr
) -> None:
    tl.store(view + to, _to_levels(r, view), inside)
    if C == 3:
        tl.store(view + stride_c + to, _to_levels(g, view), inside)
        tl.store(view + 2 * stride_c + to, _to_levels(b, view), inside)


@triton.jit
def _to_levels(x: tensor, view: tensor) -> tensor:
    if view.dtype.element_ty == tl.uint16:
        x = (x * 65535 + 8388608).to(tl.int32, bitcast=True).to(tl.uint16)  # 2^23 rounds, and leaves the level below
    return x


@triton.jit
def _load(
    view: tensor, stride_c: tensor, at: tensor, inside: tensor, C: constexpr
) -> tuple[tensor, tensor, tensor]:  # fmt: skip
    r = _from_levels(_count(view + at, inside))
    if C == 3:
        g = _from_levels(_count(view + stride_c + at, inside))
        b = _from_levels(_count(view + 2 * stride_c + at, inside))
        return r, g, b
    return r, r, r


@triton.jit
def _from_levels(count: tensor) -> tensor:
    x = _as_float(count)
    return x * _UP * (_DOWN / 65535) if count.dtype == tl.int32 else x


@triton.jit
def _count(at: tensor, inside: tensor = None) -> tensor:
    """Read what waits, levels as whole numbers, so that the sum of two is exact."""
    value = tl.load(at, inside)
    return value.to(tl.int32) if value.dtype == tl.uint16 else value


@triton.jit
def _as_float(count: tensor) -> tensor:
    return count.to(tl.float32, bitcast=True) if count.dtype == tl.int32 else count


# --- colours ----------------------------------------------------------------------------------------------------


@triton.jit
def _run_steps(
    r: tensor, g: tensor, b: tensor, image: tensor, first: tensor, last: tensor, mean: tensor,
    channel: tensor, C: constexpr, FINITE: constexpr,
) -> tuple[tensor, tensor, tensor]:  # fmt: skip
    """Change the colours by the steps from `first` up to `last`."""
    for i in range(first, last):
        step = _word(image, _NORM + C + i)
        code = (step >> 32).to(tl.int32)
        if code != _NOTHING:
            f = _real(step)
            if code == _CLAMP:
                r, g, b = _clamp(r, FINITE), _clamp(g, FINITE), _clamp(b, FINITE)
            elif code == _BRIGHTNESS:
                r, g, b = _clamp(r * f, FINITE), _clamp(g * f, FINITE), _clamp(b * f, FINITE)
            elif code == _CONTRAST:
                r, g, b = _mix_gray(r, mean, f, FINITE), _mix_gray(g, mean, f, FINITE), _mix_gray(b, mean, f, FINITE)
            elif code == _SATURATION:
                gray = _gray(r, g, b, C)
                r, g, b = _mix_gray(r, gray, f, FINITE), _mix_gray(g, gray, f, FINITE), _mix_gray(b, gray, f, FINITE)
            elif code == _HUE:
                r, g, b = _shift_hue(r, g, b, f)
            elif code == _GRAYSCALE:
                gray = _gray(r, g, b, C)
                r, g, b = gray, gray, gray
            elif code == _SOLARIZE:
                r, g, b = tl.where(r < f, r, 1 - r), tl.where(g < f, g, 1 - g), tl.where(b < f, b, 1 - b)
            elif code == _NORMALIZE:
                r = _normalize(r, _word(image, _NORM + channel))
                if C == 3:
                    g = _normalize(g, _word(image, _NORM + 1))
                    b = _normalize(b, _word(image, _NORM + 2))
    return r, g, b


@triton.jit
def _clamp(x: tensor, FINITE: constexpr) -> tensor:
    """Clamp to [0, 1]; NaN stays NaN, unless it cannot be there: then the instruction that computed x clamps it."""
    if FINITE:
        return tl.minimum(tl.maximum(x, 0.0), 1.0)
    return tl.clamp(x, 0.0, 1.0, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def _mix_gray(x: tensor, gray: tensor, f: tensor, FINITE: constexpr) -> tensor:
    return _clamp(f * x + (1 - f) * gray, FINITE)


@triton.jit
def _normalize(x: tensor, word: tensor) -> tensor:
    return x * _real(word) + _real(word >> 32)


@triton.jit
def _gray(r: tensor, g: tensor, b: tensor, C: constexpr) -> tensor:
    if C == 3:
        r = 0.299 * r + 0.587 * g + 0.114 * b
    return r


@triton.jit
def _shift_hue(r: tensor, g: tensor, b: tensor, turns: tensor) -> tuple[tensor, tensor, tensor]:
    """Shift the hue, in sextants of the circle; value and chroma stay.

    Which channel is the greatest is not decided by equality with `value`: Triton may compute a channel twice, and round
    it differently.
    """
    value = tl.maximum(r, tl.maximum(g, b))
    chroma = value - tl.minimum(r, tl.minimum(g, b))
    red, green = (r >= g) & (r >= b), g >= b
    above = tl.where(red, g - b, tl.where(green, b - r, r - g))
    sector = tl.where(red, 0.0, tl.where(green, 2.0, 4.0))
    hue = 6 * turns + sector + above / tl.where(chroma > 1e-30, chroma, 1.0)  # its reciprocal is finite
    hue -= 6 * tl.floor(hue * (1 / 6))
    r = value - chroma * _clamp(2 - tl.abs(hue - 3), True)  # where this was NaN, chroma is
    g = value - chroma * _clamp(tl.abs(hue - 2) - 1, True)
    b = value - chroma * _clamp(tl.abs(hue - 4) - 1, True)
    return r, g, b
