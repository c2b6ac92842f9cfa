"""The kernels of the GPU engine, in Triton. `lightly_aug.engines.program` says what each code does to a pixel.

Every program of a grid works on one image, whose numbers are a column of a table, see `lightly_aug.engines.gpu_layout`.
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

_START, _RESULT, _CONTRAST_AT, _BLUR, _RADIUS, _SIGMA, _BELL = (constexpr(COLUMNS[name]) for name in NAMES[1:])
_AXIS_Y, _AXIS_X, _NORM = constexpr(COLUMNS["taps_y"]), constexpr(COLUMNS["taps_x"]), constexpr(len(COLUMNS))

MOVES: Final = {"bilinear": 0, "bicubic": 1, "rotate": 2}
_BICUBIC, _ROTATE = constexpr(1), constexpr(2)

_NOTHING, _CLAMP, _BRIGHTNESS, _CONTRAST = map(constexpr, (NOTHING, CLAMP, BRIGHTNESS, CONTRAST))
_SATURATION, _HUE, _GRAYSCALE, _SOLARIZE, _NORMALIZE = map(constexpr, (SATURATION, HUE, GRAYSCALE, SOLARIZE, NORMALIZE))

# one compiled kernel for all sizes and batches
_RUNTIME: Final = ("n", "steps", "tiles", "height", "width", "units", "first", "blurs")

# The bits of a small whole number k are those of the float32 k / 2^149. GPUs multiply such denormal numbers as fast as
# others, so this conversion costs nothing: weights are multiplied by _UP, sums by _DOWN and the unit of the numbers.
_UP, _DOWN = constexpr(2.0**126), constexpr(2.0**23)


# --- the table --------------------------------------------------------------------------------------------------


@triton.jit
def _image(table: tensor, at: tensor) -> tensor:
    """Find the image whose turn it is."""
    return table + tl.load(table + at)


@triton.jit
def _word(image: tensor, n: tensor, column: tensor) -> tensor:
    return tl.load(image + column * n)


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
    table: tensor, n: tensor, weights: tensor, offsets: tensor, height: tensor, width: tensor,
    MOVE: constexpr, ANTIALIAS: constexpr, INTEGERS: constexpr, BLOCK: constexpr,
) -> None:  # fmt: skip
    """Compute the weights of the taps of one axis of one view, in float64, and their offsets in the source."""
    image = _image(table, tl.program_id(0) // 2)
    if tl.program_id(0) % 2 == 0:
        if _word(image, n, _RADIUS) > 0:
            _weigh_bell(image, n, weights, BLOCK)
        if MOVE != _ROTATE:
            _weigh_axis(image + _AXIS_Y * n, n, weights, offsets, height, MOVE, ANTIALIAS, 1.0, BLOCK)
    elif MOVE != _ROTATE:
        gain: constexpr = _UP if INTEGERS else 1.0
        _weigh_axis(image + _AXIS_X * n, n, weights, offsets, width, MOVE, ANTIALIAS, gain, BLOCK)


@triton.jit
def _weigh_bell(image: tensor, n: tensor, weights: tensor, BLOCK: constexpr) -> None:
    """Compute one half of the blur's weights, from the centre outwards."""
    radius = _word(image, n, _RADIUS).to(tl.int32)
    bell = weights + _word(image, n, _BELL)
    sigma = _real(_word(image, n, _SIGMA))
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
def _weigh_axis(
    axis: tensor, n: tensor, weights: tensor, offsets: tensor, length: tensor,
    MOVE: constexpr, ANTIALIAS: constexpr, GAIN: constexpr, BLOCK: constexpr,
) -> None:  # fmt: skip
    """Compute the weights of one axis, tap by tap; a place outside of the resized image weighs nothing."""
    taps, table = _word(axis, n, 0).to(tl.int32), _word(axis, n, 1)
    side, resized = _word(axis, n, 2).to(tl.int32), _word(axis, n, 3)
    slope, shift, stride = _word(axis, n, 4), _word(axis, n, 5), _word(axis, n, 6).to(tl.int32)
    half: constexpr = 2 if MOVE == _BICUBIC else 1
    scale = side.to(tl.float64) / resized.to(tl.float64)
    stretch = tl.maximum(scale, 1.0) if ANTIALIAS else tl.full((), 1.0, tl.float64)
    shrink = 1.0 / stretch
    for begin in range(0, length, BLOCK):
        at = begin + tl.arange(0, BLOCK)
        place = slope * at + shift
        inside = (place >= 0) & (place < resized)
        center = scale * (tl.where(inside, place, 0).to(tl.float64) + 0.5)
        if ANTIALIAS:
            low = tl.maximum(center - half * stretch + 0.5, 0.0).to(tl.int32)
            high = tl.minimum((center + half * stretch + 0.5).to(tl.int32), side)
        else:
            low = tl.floor(center - 0.5).to(tl.int32) - (half - 1)
            high = low + 2 * half
        total = tl.zeros((BLOCK,), tl.float64)
        for k in range(0, taps):
            total += _weight(low + k, high, center, shrink, MOVE, ANTIALIAS)
        gain = GAIN / total
        for k in range(0, taps):
            weight = _weight(low + k, high, center, shrink, MOVE, ANTIALIAS) * gain
            pixel = tl.maximum(tl.minimum(low + k, tl.minimum(high, side) - 1), 0)
            to = table + k * length + at
            tl.store(weights + to, tl.where(inside, weight, 0.0).to(tl.float32), at < length)
            tl.store(offsets + to, tl.where(inside, pixel * stride, 0), at < length)


@triton.jit
def _weight(
    pixel: tensor, high: tensor, center: tensor, shrink: tensor, MOVE: constexpr, ANTIALIAS: constexpr
) -> tensor:
    t = tl.abs(pixel.to(tl.float64) + 0.5 - center) * shrink
    if MOVE == _BICUBIC:
        A: constexpr = -0.5 if ANTIALIAS else -0.75
        near = ((A + 2) * t - (A + 3)) * t * t + 1
        far = ((A * t - 5 * A) * t + 8 * A) * t - 4 * A
        weight = tl.where(t < 1, near, tl.where(t < 2, far, 0.0))
    else:
        weight = tl.maximum(1 - t, 0.0)
    return tl.where(pixel < high, weight, 0.0)


# --- from the source to the view --------------------------------------------------------------------------------


@triton.jit(do_not_specialize=_RUNTIME)
def draw_tiles(
    pixels: tensor, weights: tensor, offsets: tensor,
    table: tensor, n: tensor, steps: tensor, sums: tensor, tiles: tensor,
    views: tensor, waiting: tensor, height: tensor, width: tensor,
    C: constexpr, LAST: constexpr, FINITE: constexpr, MOVE: constexpr, TILE_Y: constexpr, TILE_X: constexpr,
) -> None:  # fmt: skip
    """Resample one tile of one image, and change its colours as far as neither mean nor neighbours are needed.

    A view that has to wait for its mean or its blur waits where it will be. Three channels are drawn together, else
    one.
    """
    at = tl.program_id(0) // tiles
    tile = tl.program_id(0) % tiles
    channel = tl.program_id(1)
    image = _image(table, at)
    tiles_x = tl.cdiv(width, TILE_X)
    y = tile // tiles_x * TILE_Y + tl.arange(0, TILE_Y)
    x = tile % tiles_x * TILE_X + tl.arange(0, TILE_X)
    source = pixels + _word(image, n, _START) + channel
    if MOVE == _ROTATE:
        r, g, b = _rotate(source, image, n, y, x, C)
    else:
        r, g, b = _resample(source, weights, offsets, image, n, y, x, height, width, C)
    contrast = _word(image, n, _CONTRAST_AT).to(tl.int32)
    blurs = _word(image, n, _RADIUS) > 0
    stop = tl.where(blurs, _word(image, n, _BLUR).to(tl.int32), steps)
    stop = tl.where(contrast >= 0, contrast, stop)
    r, g, b = _run_steps(r, g, b, image, n, 0, stop, 0.0, channel, C, FINITE)
    inside = (y < height)[:, None] & (x < width)[None, :]
    if contrast >= 0:
        gray = tl.where(inside, _gray(r, g, b, C), 0.0)
        tl.store(sums + at.to(tl.int64) * tiles + tile, tl.sum(tl.sum(gray, 1), 0))
    stride_c, stride_y = _strides(height, width, C, LAST)
    result = _word(image, n, _RESULT) + channel * stride_c
    to = _places(y[:, None] * stride_y, x[None, :], C, LAST)
    if (contrast >= 0) | blurs:
        _store(waiting + result, stride_c, to, r, g, b, inside, C)
    else:
        _store(views + result, stride_c, to, r, g, b, inside, C)


@triton.jit
def _resample(
    source: tensor, weights: tensor, offsets: tensor, image: tensor, n: tensor, y: tensor, x: tensor,
    height: tensor, width: tensor, C: constexpr,
) -> tuple[tensor, tensor, tensor]:  # fmt: skip
    """Sum the taps of each pixel: three channels, or one three times."""
    y, x = tl.minimum(y, height - 1), tl.minimum(x, width - 1)
    taps_y, table_y = _word(image, n, _AXIS_Y).to(tl.int32), _word(image, n, _AXIS_Y + 1) + y
    taps_x, table_x = _word(image, n, _AXIS_X).to(tl.int32), _word(image, n, _AXIS_X + 1) + x
    r = tl.zeros((y.shape[0], x.shape[0]), tl.float32)
    g = r
    b = r
    for k in range(0, taps_y):
        weight_y = tl.load(weights + table_y + k * height)[:, None]
        line = source + tl.load(offsets + table_y + k * height)[:, None]
        for m in range(0, taps_x):
            weight = weight_y * tl.load(weights + table_x + m * width)[None, :]
            at = _along_x(line, tl.load(offsets + table_x + m * width)[None, :])
            r += weight * _read(at, weight)
            if C == 3:
                g += weight * _read(at + 1, weight)
                b += weight * _read(at + 2, weight)
    r, g, b = _to_unit(r, g, b, source, C)
    return r, g, b


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
def _rotate(
    source: tensor, image: tensor, n: tensor, y: tensor, x: tensor, C: constexpr
) -> tuple[tensor, tensor, tensor]:
    """Rotate: bilinear, zeros outside."""
    top, below = _locate(image + _AXIS_Y * n, n, y, x)
    left, beside = _locate(image + (_AXIS_Y + 3) * n, n, y, x)
    height, width = _word(image, n, _AXIS_Y + 6).to(tl.int32), _word(image, n, _AXIS_Y + 7).to(tl.int32)
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
def _locate(map: tensor, n: tensor, y: tensor, x: tensor) -> tuple[tensor, tensor]:
    """Compute one coordinate of a map as a whole number and a rest in [0, 1); doubles only along the two axes.

    Triton may compute the same number twice, in one layout for addresses and in another for weights, and the compiler
    fuses multiplications and additions as it likes. So every number that is rounded to a whole one is written with an
    explicit `fma`: else address and weight can belong to neighbouring pixels.
    """
    steep, slope = _double(_word(map, n, 0)), _double(_word(map, n, 1))
    down = tl.fma(steep, y.to(tl.float64), _double(_word(map, n, 2)))
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
    weights: tensor, table: tensor, n: tensor, steps: tensor, sums: tensor, tiles: tensor,
    views: tensor, waiting: tensor, height: tensor, units: tensor,
    blurred: tensor, pitch: tensor, first: tensor, blurs: tensor,
    C: constexpr, LAST: constexpr, FINITE: constexpr, ALIGN: constexpr, TILE_Y: constexpr, TILE_X: constexpr,
) -> None:  # fmt: skip
    """Change the colours of some rows of one waiting view from its contrast on, and blur them across.

    Images up to number `blurs` are finished, those from there on go to `blurred`, in float32. `units` of `ALIGN` pixels
    are one row.
    """
    width = units * ALIGN
    strips = tl.cdiv(height, TILE_Y)
    at = first + tl.program_id(0) // strips
    channel = tl.program_id(1)
    image = _image(table, at)
    top = tl.program_id(0) % strips * TILE_Y
    radius = _word(image, n, _RADIUS).to(tl.int32)
    contrast = _word(image, n, _CONTRAST_AT).to(tl.int32)
    stride_c, stride_y = _strides(height, width, C, LAST)
    result = _word(image, n, _RESULT) // ALIGN * ALIGN + channel * stride_c
    if contrast >= 0:
        mean = _average_gray(sums + at.to(tl.int64) * tiles, tiles, height, width)
        stop = tl.where(radius > 0, _word(image, n, _BLUR).to(tl.int32), steps)
        end = tl.minimum(top + TILE_Y, height) * width
        for begin in range(top * width, end, TILE_Y * TILE_X):
            place = begin + tl.arange(0, TILE_Y * TILE_X)  # rows are one behind the other
            to = place * C if LAST else place
            r, g, b = _load(waiting + result, stride_c, to, place < end, C)
            r, g, b = _run_steps(r, g, b, image, n, contrast, stop, mean, channel, C, FINITE)
            if radius > 0:
                _store(waiting + result, stride_c, to, r, g, b, place < end, C)
            else:
                _store(views + result, stride_c, to, r, g, b, place < end, C)
    if radius > 0:
        tl.debug_barrier()  # these rows are complete, and no other program reads or writes them
        bell = weights + _word(image, n, _BELL)
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
    weights: tensor, table: tensor, n: tensor, steps: tensor, tiles: tensor,
    views: tensor, height: tensor, units: tensor, blurred: tensor, pitch: tensor, first: tensor,
    C: constexpr, LAST: constexpr, FINITE: constexpr, ALIGN: constexpr, TILE_Y: constexpr, TILE_X: constexpr,
) -> None:  # fmt: skip
    """Blur one tile of one view downwards, and change its colours to the end."""
    width = units * ALIGN
    number = tl.program_id(0) // tiles
    tile = tl.program_id(0) % tiles
    channel = tl.program_id(1)
    image = _image(table, first + number)
    tiles_x = tl.cdiv(width, TILE_X)
    y = tile // tiles_x * TILE_Y + tl.arange(0, TILE_Y)
    x = tile % tiles_x * TILE_X + tl.arange(0, TILE_X)
    radius = _word(image, n, _RADIUS).to(tl.int32)
    bell = weights + _word(image, n, _BELL)
    plane = height.to(tl.int64) * pitch
    source = blurred + (number * C + channel) * plane
    r, g, b = _blur_down(source, plane, pitch, y, x, height, bell, radius, C)
    r, g, b = _run_steps(r, g, b, image, n, _word(image, n, _BLUR).to(tl.int32), steps, 0.0, channel, C, FINITE)
    stride_c, stride_y = _strides(height, width, C, LAST)
    result = _word(image, n, _RESULT) // ALIGN * ALIGN + channel * stride_c
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
    r: tensor, g: tensor, b: tensor, image: tensor, n: tensor, first: tensor, last: tensor, mean: tensor,
    channel: tensor, C: constexpr, FINITE: constexpr,
) -> tuple[tensor, tensor, tensor]:  # fmt: skip
    """Change the colours by the steps from `first` up to `last`."""
    for i in range(first, last):
        step = _word(image, n, _NORM + C + i)
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
                r = _normalize(r, _word(image, n, _NORM + channel))
                if C == 3:
                    g = _normalize(g, _word(image, n, _NORM + 1))
                    b = _normalize(b, _word(image, n, _NORM + 2))
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
    """Shift the hue, in sextants of the circle; value and chroma stay."""
    value = tl.maximum(r, tl.maximum(g, b))
    chroma = value - tl.minimum(r, tl.minimum(g, b))
    above = tl.where(value == r, g - b, tl.where(value == g, b - r, r - g))
    sector = tl.where(value == r, 0.0, tl.where(value == g, 2.0, 4.0))
    hue = 6 * turns + sector + above / tl.where(chroma > 1e-30, chroma, 1.0)  # its reciprocal is finite
    hue -= 6 * tl.floor(hue * (1 / 6))
    r = value - chroma * _clamp(2 - tl.abs(hue - 3), True)  # where this was NaN, chroma is
    g = value - chroma * _clamp(tl.abs(hue - 2) - 1, True)
    b = value - chroma * _clamp(tl.abs(hue - 4) - 1, True)
    return r, g, b
