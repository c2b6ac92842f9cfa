"""The kernels of the GPU engine, in Triton. `lightly_aug.engines.program` says what each code does to a pixel."""

# mypy: allow-untyped-decorators

from typing import Final

import triton
import triton.language as tl
from triton.language import constexpr, tensor

from lightly_aug.engines.program import (
    BRIGHTNESS,
    CLAMP,
    CONTRAST,
    GRAYSCALE,
    HUE,
    NORMALIZE,
    SATURATION,
    SOLARIZE,
)

__all__ = ["MOVES", "draw_tiles", "sum_grays"]

_RUNTIME: Final = "columns", "steps", "tiles", "height", "width", "start"  # one kernel for all of these

# where the numbers of an image begin in its row
_START, _WIDTH, _BOX, _RESIZED, _MAP, _SIGMA, _RADIUS = map(constexpr, (0, 1, 2, 4, 6, 12, 13))
_BLUR, _CONTRAST_AT, _RESULT, _MEAN = map(constexpr, (14, 15, 16, 17))

MOVES: Final = {"bilinear": 0, "bicubic": 1, "rotate": 2}
_BICUBIC, _ROTATE = constexpr(1), constexpr(2)

_CLAMP, _BRIGHTNESS, _CONTRAST, _SATURATION = map(constexpr, (CLAMP, BRIGHTNESS, CONTRAST, SATURATION))
_HUE, _GRAYSCALE, _SOLARIZE, _NORMALIZE = map(constexpr, (HUE, GRAYSCALE, SOLARIZE, NORMALIZE))


@triton.jit(do_not_specialize=_RUNTIME)
def sum_grays(
    pixels: tensor, rows: tensor, columns: tensor, steps: tensor, sums: tensor, tiles: tensor,
    height: tensor, width: tensor,
    C: constexpr, MOVE: constexpr, ANTIALIAS: constexpr, TILE_Y: constexpr, TILE_X: constexpr,
) -> None:  # fmt: skip
    """Sum the grays of one tile as they are before the contrast: one number of the image's row of `sums`."""
    at = tl.program_id(0) // tiles
    tile = tl.program_id(0) % tiles
    row = rows + at.to(tl.int64) * columns
    contrast = tl.load(row + _CONTRAST_AT).to(tl.int32)
    if contrast >= 0:
        tiles_x = tl.cdiv(width, TILE_X)
        y = tile // tiles_x * TILE_Y + tl.arange(0, TILE_Y)
        x = tile % tiles_x * TILE_X + tl.arange(0, TILE_X)
        r, g, b = _resample(pixels, row, y, x, height, width, 0, C, MOVE, ANTIALIAS)
        r, g, b = _run_steps(r, g, b, row, 0, contrast, steps, 0.0, 0, C)
        inside = (y < height)[:, None] & (x < width)[None, :]
        gray = tl.where(inside, _gray(r, g, b, C), 0.0)
        tl.store(sums + at.to(tl.int64) * tiles + tile, tl.sum(tl.sum(gray, 1), 0))


@triton.jit(do_not_specialize=_RUNTIME)
def draw_tiles(
    pixels: tensor, rows: tensor, columns: tensor, steps: tensor, sums: tensor, tiles: tensor,
    height: tensor, width: tensor,
    views: tensor, stride_c: tensor, stride_y: tensor, stride_x: tensor, start: tensor, HALO: constexpr,
    C: constexpr, MOVE: constexpr, ANTIALIAS: constexpr, TILE_Y: constexpr, TILE_X: constexpr,
) -> None:  # fmt: skip
    """Render one tile of one image, from its source to its view: all channels if there are three, else one."""
    tiles_y = tl.cdiv(height, TILE_Y - 2 * HALO)
    tiles_x = tl.cdiv(width, TILE_X - 2 * HALO)
    at = start + tl.program_id(0) // (tiles_y * tiles_x)
    tile = tl.program_id(0) % (tiles_y * tiles_x)
    channel = tl.program_id(1)
    row = rows + at.to(tl.int64) * columns
    i = tl.arange(0, TILE_Y)
    j = tl.arange(0, TILE_X)
    y = tile // tiles_x * (TILE_Y - 2 * HALO) - HALO + i
    x = tile % tiles_x * (TILE_X - 2 * HALO) - HALO + j
    mean = _average_gray(sums + at.to(tl.int64) * tiles, row, tiles, height, width)
    r, g, b = _resample(pixels, row, y, x, height, width, channel, C, MOVE, ANTIALIAS)
    inside = ((y < height) & (i >= HALO) & (i < TILE_Y - HALO))[:, None]
    inside &= ((x < width) & (j >= HALO) & (j < TILE_X - HALO))[None, :]
    blur = tl.load(row + _BLUR).to(tl.int32)
    if HALO == 0:
        r, g, b = _run_steps(r, g, b, row, 0, steps, steps, mean, channel, C)
    else:
        r, g, b = _run_steps(r, g, b, row, 0, blur, steps, mean, channel, C)
        down = _toeplitz(row, TILE_Y, HALO)
        across = _toeplitz(row, TILE_X, HALO)
        r = _blur(r, down, across)
        if C == 3:
            g = _blur(g, down, across)
            b = _blur(b, down, across)
        r, g, b = _run_steps(r, g, b, row, blur, steps, steps, mean, channel, C)
    to = views + tl.load(row + _RESULT).to(tl.int64) + channel * stride_c
    to += y[:, None] * stride_y + x[None, :] * stride_x
    tl.store(to, r, inside)
    if C == 3:
        tl.store(to + stride_c, g, inside)
        tl.store(to + 2 * stride_c, b, inside)


@triton.jit
def _average_gray(sums: tensor, row: tensor, tiles: tensor, height: tensor, width: tensor) -> tensor:
    """Compute the mean gray of an image if it has a contrast, else 0."""
    total = tl.zeros((128,), tl.float32)
    if tl.load(row + _CONTRAST_AT) >= 0:
        lane = tl.arange(0, 128)
        for first in range(0, tiles, 128):
            total += tl.load(sums + first + lane, first + lane < tiles, 0.0)
    return tl.sum(total, 0) / (height.to(tl.float32) * width)


@triton.jit
def _resample(
    pixels: tensor, row: tensor, y: tensor, x: tensor, height: tensor, width: tensor, channel: tensor,
    C: constexpr, MOVE: constexpr, ANTIALIAS: constexpr,
) -> tuple[tensor, tensor, tensor]:  # fmt: skip
    """Resample three channels, or one three times, at the rows `y` and columns `x`, reflected into the view."""
    y = _reflect(y, height)
    x = _reflect(x, width)
    row_v, part_v = _locate(row + _MAP, y, x)
    row_u, part_u = _locate(row + _MAP + 3, y, x)
    box_h, box_w = tl.load(row + _BOX).to(tl.int32), tl.load(row + _BOX + 1).to(tl.int32)
    resized_h, resized_w = tl.load(row + _RESIZED).to(tl.int32), tl.load(row + _RESIZED + 1).to(tl.int32)
    before: constexpr = -1 if MOVE == _ROTATE else 0  # between the last pixel and the zeros around it
    inside = (row_v >= before) & (row_v < resized_h) & (row_u >= before) & (row_u < resized_w)
    first_v, away_v, taps_v, shrink_v = _taps(row_v, part_v, box_h, resized_h, MOVE, ANTIALIAS)
    first_u, away_u, taps_u, shrink_u = _taps(row_u, part_u, box_w, resized_w, MOVE, ANTIALIAS)
    source_w = tl.load(row + _WIDTH).to(tl.int64)
    source = pixels + tl.load(row + _START).to(tl.int64) + channel
    r = tl.zeros_like(part_v)
    g = r
    b = r
    total = r
    for k in range(0, taps_v):
        v, weight_v = _tap(first_v + k, away_v + k, box_h, shrink_v, MOVE, ANTIALIAS)
        weight_v = tl.where(inside, weight_v, 0.0)
        line = source + v * (source_w * C)
        for m in range(0, taps_u):
            u, weight = _tap(first_u + m, away_u + m, box_w, shrink_u, MOVE, ANTIALIAS)
            weight *= weight_v
            total += weight
            used = weight != 0  # a pixel of weight 0 is not read: it may be outside, or NaN
            # no load is that wide, as its mask is per pixel; but Triton 3.6 spreads a warp along x for it, not along y
            at = tl.max_contiguous(line + u * C, [1, 2])
            r += weight * tl.load(at, used, 0).to(tl.float32)
            if C == 3:
                g += weight * tl.load(at + 1, used, 0).to(tl.float32)
                b += weight * tl.load(at + 2, used, 0).to(tl.float32)
    if MOVE == _ROTATE:
        total = tl.full(total.shape, 1.0, tl.float32)
    total = tl.where(inside, total, 1.0)
    r = _to_unit(r, total, pixels)
    if C == 3:
        return r, _to_unit(g, total, pixels), _to_unit(b, total, pixels)
    return r, r, r


@triton.jit
def _reflect(at: tensor, side: tensor) -> tensor:
    """Reflect places about the first and the last pixel until they are between them."""
    at = tl.abs(at) % tl.maximum(2 * side - 2, 1)
    return tl.minimum(at, tl.abs(2 * side - 2 - at))


@triton.jit
def _locate(row: tensor, y: tensor, x: tensor) -> tuple[tensor, tensor]:
    """Compute one coordinate of a map as a whole number and a rest in [0, 1]; doubles only along the two axes.

    Triton may compute the same number twice, in one layout for addresses and in another for weights, and the compiler
    fuses multiplications and additions as it likes. So every number that is rounded to a whole one is written with an
    explicit `fma`: else address and weight can belong to neighbouring pixels.
    """
    down = tl.fma(tl.load(row), y.to(tl.float64), tl.load(row + 2))
    slope = tl.load(row + 1)
    across = slope * x
    whole = tl.floor(down).to(tl.int32)[:, None] + tl.floor(across).to(tl.int32)[None, :]
    rest = tl.fma(slope, x.to(tl.float64), -tl.floor(across))
    part = (down - tl.floor(down)).to(tl.float32)[:, None] + rest.to(tl.float32)[None, :]
    over = part >= 1
    return tl.where(over, whole + 1, whole), tl.where(over, part - 1, part)


@triton.jit
def _taps(
    at: tensor, part: tensor, side: tensor, resized: tensor, MOVE: constexpr, ANTIALIAS: constexpr
) -> tuple[tensor, tensor, tensor, tensor]:
    """Find along one axis each pixel's first tap, its distance from the centre, the number of taps, their density."""
    if MOVE == _ROTATE:
        return at, -part, 2, 1.0
    scale = tl.div_rn(side.to(tl.float32), resized.to(tl.float32))
    wide = tl.maximum(scale, 1.0) if ANTIALIAS else tl.full((), 1.0, tl.float32)
    support = 2 * wide if MOVE == _BICUBIC else wide
    place = at.to(tl.float32) + 0.5
    first = tl.floor(tl.fma(scale, place, 0.5 - support))  # explicit: see `_locate`
    away = tl.fma(-scale, place, first + 0.5)
    return first.to(tl.int32), away, tl.ceil(2 * support).to(tl.int32), tl.div_rn(1.0, wide)


@triton.jit
def _tap(
    at: tensor, away: tensor, side: tensor, shrink: tensor, MOVE: constexpr, ANTIALIAS: constexpr
) -> tuple[tensor, tensor]:
    """Find a place in the box and its weight; beyond the edge it weighs 0 or, without antialias, is the edge."""
    t = tl.abs(away) * shrink
    if MOVE == _BICUBIC:
        A: constexpr = -0.5 if ANTIALIAS else -0.75
        near = ((A + 2) * t - (A + 3)) * t * t + 1
        far = ((A * t - 5 * A) * t + 8 * A) * t - 4 * A
        weight = tl.where(t < 1, near, tl.where(t < 2, far, 0.0))
    else:
        weight = tl.maximum(1 - t, 0.0)
    if ANTIALIAS or MOVE == _ROTATE:
        weight = tl.where((at >= 0) & (at < side), weight, 0.0)
    else:
        at = tl.minimum(tl.maximum(at, 0), side - 1)
    return at, weight


@triton.jit
def _to_unit(x: tensor, total: tensor, pixels: tensor) -> tensor:
    x = tl.div_rn(x, total)
    if pixels.dtype.element_ty == tl.uint8:
        x = tl.div_rn(x, 255.0)
    return x


@triton.jit
def _run_steps(
    r: tensor, g: tensor, b: tensor, row: tensor, first: tensor, last: tensor, steps: tensor, mean: tensor,
    channel: tensor, C: constexpr,
) -> tuple[tensor, tensor, tensor]:  # fmt: skip
    """Change the colours by the steps from `first` up to `last`."""
    codes = row + _MEAN + 2 * C
    for i in range(first, last):
        code = tl.load(codes + i).to(tl.int32)
        f = tl.load(codes + steps + i).to(tl.float32)
        if code == _CLAMP:
            r, g, b = _clamp(r), _clamp(g), _clamp(b)
        elif code == _BRIGHTNESS:
            r, g, b = _clamp(r * f), _clamp(g * f), _clamp(b * f)
        elif code == _CONTRAST:
            r, g, b = _mix_gray(r, mean, f), _mix_gray(g, mean, f), _mix_gray(b, mean, f)
        elif code == _SATURATION:
            gray = _gray(r, g, b, C)
            r, g, b = _mix_gray(r, gray, f), _mix_gray(g, gray, f), _mix_gray(b, gray, f)
        elif code == _HUE:
            r, g, b = _shift_hue(r, g, b, f)
        elif code == _GRAYSCALE:
            gray = _gray(r, g, b, C)
            r, g, b = gray, gray, gray
        elif code == _SOLARIZE:
            r, g, b = tl.where(r < f, r, 1 - r), tl.where(g < f, g, 1 - g), tl.where(b < f, b, 1 - b)
        elif code == _NORMALIZE:
            r = _normalize(r, row + _MEAN + channel, C)
            if C == 3:
                g = _normalize(g, row + _MEAN + 1, C)
                b = _normalize(b, row + _MEAN + 2, C)
    return r, g, b


@triton.jit
def _clamp(x: tensor) -> tensor:
    return tl.where(x > 1, 1.0, tl.where(x < 0, 0.0, x))  # NaN stays NaN


@triton.jit
def _mix_gray(x: tensor, gray: tensor, f: tensor) -> tensor:
    return _clamp(f * x + (1 - f) * gray)


@triton.jit
def _normalize(x: tensor, mean: tensor, C: constexpr) -> tensor:
    return tl.div_rn(x - tl.load(mean).to(tl.float32), tl.load(mean + C).to(tl.float32) + tl.zeros_like(x))


@triton.jit
def _gray(r: tensor, g: tensor, b: tensor, C: constexpr) -> tensor:
    if C == 3:
        r = 0.299 * r + 0.587 * g + 0.114 * b
    return r


@triton.jit
def _shift_hue(r: tensor, g: tensor, b: tensor, turns: tensor) -> tuple[tensor, tensor, tensor]:
    """Shift the hue; value and chroma stay."""
    value = tl.maximum(r, tl.maximum(g, b))
    chroma = value - tl.minimum(r, tl.minimum(g, b))
    d = tl.where(chroma > 0, chroma, 1.0)
    of_red, of_green, of_blue = tl.div_rn(g - b, d), 2 + tl.div_rn(b - r, d), 4 + tl.div_rn(r - g, d)
    sextant = 6 * turns + tl.where(value == r, of_red, tl.where(value == g, of_green, of_blue))
    return _shade(5, sextant, value, chroma), _shade(3, sextant, value, chroma), _shade(1, sextant, value, chroma)


@triton.jit
def _shade(n: constexpr, sextant: tensor, value: tensor, chroma: tensor) -> tensor:
    k = n + sextant
    k -= 6 * tl.floor(k * (1 / 6))
    return value - chroma * _clamp(tl.minimum(k, 4 - k))


@triton.jit
def _toeplitz(row: tensor, SIDE: constexpr, HALO: constexpr) -> tensor:
    """Build the matrix that blurs along one axis, correct except for `HALO` pixels at both ends."""
    sigma = tl.load(row + _SIGMA).to(tl.float32)
    radius = tl.load(row + _RADIUS).to(tl.int32)
    i = tl.arange(0, SIDE)
    total = tl.sum(_bell(i - HALO, sigma, radius), 0)
    return _bell(i[:, None] - i[None, :], sigma, radius) / total


@triton.jit
def _bell(t: tensor, sigma: tensor, radius: tensor) -> tensor:
    return tl.where(tl.abs(t) <= radius, tl.exp(-(t * t) / (2 * sigma * sigma)), 0.0)


@triton.jit
def _blur(x: tensor, down: tensor, across: tensor) -> tensor:
    x = tl.dot(x, across, input_precision="tf32x3")  # three products of tensor cores, as exact as float32
    return tl.dot(down, x, input_precision="tf32x3")
