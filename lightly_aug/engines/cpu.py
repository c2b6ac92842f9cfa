"""Speed on the CPU: one image at a time, row by row in float32, compiled by Numba, without the GIL.

A row is resampled, coloured, blurred and stored while it lies in the nearest caches; a second look at it is needed
only for contrast, which has to know the mean of the view. What an image did not draw costs nothing.

The kernel is compiled when this module is first imported, once on a machine (about 15 s), and kept on disk.
"""

import logging
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter

import numpy as np
import torch
from numba import njit
from torch import Tensor

from lightly_aug.engines.plan import (
    BRIGHTNESS,
    CLAMP,
    CONTRAST,
    GRAYSCALE,
    HUE,
    NORMALIZE,
    SATURATION,
    SOLARIZE,
    Program,
    fuses,
)
from lightly_aug.images import empty
from lightly_aug.operations import Operation

__all__ = ["knows", "run"]

_ZERO = np.float32(0)
_ONE = np.float32(1)
_TWO = np.float32(2)
_THREE = np.float32(3)
_FOUR = np.float32(4)
_FIVE = np.float32(5)
_SIX = np.float32(6)
_RED, _GREEN, _BLUE = np.float32(0.299), np.float32(0.587), np.float32(0.114)

_inner = njit(nogil=True, fastmath=True, error_model="numpy")
# Offsets into flat arrays are unsigned: for a signed one Numba asks whether it counts from the end, and slices it
# counts references to; either keeps the compiler from vectorising short loops well.
_u = np.uint64


def knows(operation: Operation) -> bool:
    """Whether this engine can do an operation: all that passes are made of."""
    return fuses(operation)


def run(programs: list[Program]) -> list[Tensor]:
    """Render each program: (n, channels, height, width), over as many threads as PyTorch uses."""
    return [_run(program) for program in programs]


def _run(p: Program) -> Tensor:
    n = len(p.offsets)
    height, width = p.sizes[0].tolist()
    out = empty(n * p.channels * height * width, torch.float32)
    pixels = p.pixels.numpy()
    images, floats = (pixels if pixels.dtype == kind else np.empty(0, dtype=kind) for kind in (np.uint8, np.float32))
    mean, std = (np.broadcast_to(np.array(v, dtype=np.float32), p.channels) for v in (p.mean, p.std))
    numbers = [p.offsets, p.sources, p.boxes, p.resized, p.maps, p.codes, p.values, p.contrast, p.sigma]
    kind = {"bilinear": 1, "bicubic": 2, "rotate": 3}[p.move]
    numbers = [np.require(array, requirements=["C", "W"]) for array in numbers]
    mean, scale = mean.copy(), 1 / std

    def part(first: int, last: int) -> None:
        _render(  # type: ignore[call-arg]
            images, floats, *numbers, kind, p.antialias, p.clamp, p.blur, mean, scale, out.numpy(), height, width,
            first, last,
        )  # fmt: skip

    threads = min(torch.get_num_threads(), n)
    if threads == 1:
        part(0, n)
    else:
        cuts = np.linspace(0, n, 4 * threads + 1).astype(int)
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(part, cuts[:-1], cuts[1:]))
    return out.view(n, p.channels, height, width).to(p.dtype, memory_format=p.memory_format)


# --- resampling: tables of weights, then rows -------------------------------------------------------------------


@_inner
def _cubic(x, a):
    x = abs(x)
    if x < 1:
        return ((a + 2) * x - (a + 3)) * x * x + 1
    if x < 2:
        return (((x - 5) * x + 8) * x - 4) * a
    return 0.0


@_inner
def _table(starts, size, resized, slope, shift, kind, antialias, gain, stride, outside):
    """The weights of one axis: result number x is resized number slope * x + shift, or nothing outside.

    Returns (taps * results) weights, and fills in where in the source each result's taps start, which is `outside` for
    nothing. The number of taps is even, since they are taken in pairs.
    """
    scale = size / resized
    stretch = max(scale, 1.0) if antialias else 1.0
    support = kind * stretch
    taps = min(int(np.ceil(2 * support)), size)
    taps += taps % 2
    a = -0.5 if antialias else -0.75
    n = starts.size
    weights = np.zeros(taps * n, dtype=np.float32)
    for x in range(n):
        starts[x] = outside
        i = slope * x + shift
        if i < 0 or i >= resized:
            continue
        center = scale * (i + 0.5)
        if antialias:
            low, high = max(int(center - support + 0.5), 0), min(int(center + support + 0.5), size)
            high = min(high, low + taps)  # what rounding lets in beyond that weighs nothing
        else:
            low = int(np.floor(center - 0.5)) - kind + 1
            high = low + 2 * kind
        start = min(max(low, 0), max(size - taps, 0))
        total = 0.0
        for j in range(low, high):
            distance = abs(j - center + 0.5) / stretch
            weight = _cubic(distance, a) if kind == 2 else max(1 - distance, 0.0)
            total += weight
            weights[(min(max(j, 0), size - 1) - start) * n + x] += weight * gain
        for j in range(taps):
            weights[j * n + x] /= total
        starts[x] = start * stride
    return weights


@_inner
def _read(images, floats, begin, line, count):
    """One row of the source, as float32."""
    if floats.size:
        for x in range(_u(count)):
            line[x] = floats[begin + x]
    else:
        for x in range(_u(count)):
            line[x] = images[begin + x]


@_inner
def _across(line, weights, starts, taps, width, channels, ring, to):
    """Resample one row of the source, its channels interleaved, into planes."""
    for j in range(0, taps, 2):
        one, here = _u(j * width), _u(j * channels)
        other, there = _u((j + 1) * width), _u((j + 1) * channels)
        if channels == 3:
            _across_rgb(line, weights, starts, one, other, here, there, _u(width), ring, _u(to), j == 0)
            continue
        for c in range(channels):
            target = _u(to + c * width)
            for x in range(_u(width)):
                at = _u(starts[x] + c)
                before = _ZERO if j == 0 else ring[target + x]
                ring[target + x] = before + weights[one + x] * line[here + at] + weights[other + x] * line[there + at]


@_inner
def _across_rgb(line, weights, starts, one, other, here, there, width, ring, red, begins):
    green = red + width
    blue = green + width
    for x in range(width):
        at, w, v = _u(starts[x]), weights[one + x], weights[other + x]
        r = w * line[here + at] + v * line[there + at]
        g = w * line[here + at + _u(1)] + v * line[there + at + _u(1)]
        b = w * line[here + at + _u(2)] + v * line[there + at + _u(2)]
        if begins:
            ring[red + x] = r
            ring[green + x] = g
            ring[blue + x] = b
        else:
            ring[red + x] += r
            ring[green + x] += g
            ring[blue + x] += b


@_inner
def _down(ring, weights, start, taps, y, rows, width, channels, out, to, plane, clamp):
    """Resample the rows in the ring into row y of the result."""
    for j in range(0, taps, 2):
        one, other = weights[j * rows + y], weights[(j + 1) * rows + y]
        if j > 0 and one == 0 and other == 0:
            continue
        here, there = (start + j) % taps * channels * width, (start + j + 1) % taps * channels * width
        for c in range(channels):
            a, b, target = _u(here + c * width), _u(there + c * width), _u(to + c * plane)
            if j == 0:
                for x in range(_u(width)):
                    out[target + x] = one * ring[a + x] + other * ring[b + x]
            else:
                for x in range(_u(width)):
                    out[target + x] += one * ring[a + x] + other * ring[b + x]
    if clamp:
        for c in range(channels):
            _limit(out, _u(to + c * plane), _u(width))


@_inner
def _resize(images, floats, offset, stride, box, done, down, first_row, across, first_column, line, ring, clamp, y,
            width, channels, out, to, plane):  # fmt: skip
    """Row y of the result; `done` rows of the box have been resampled already, the last of them are in the ring."""
    rows = first_row.size
    depth, start = down.size // rows, first_row[y]
    if start < 0:
        for c in range(channels):
            for x in range(_u(width)):
                out[_u(to + c * plane) + x] = 0
        return done
    done = max(done, start)
    while done < min(start + depth, box[2]):
        begin = offset + (box[0] + done) * stride + box[1] * channels
        _read(images, floats, _u(begin), line, box[3] * channels)
        _across(line, across, first_column, across.size // width, width, channels, ring,
                done % depth * channels * width)  # fmt: skip
        done += 1
    _down(ring, down, start, depth, y, rows, width, channels, out, to, plane, clamp)
    return done


@_inner
def _rotated(images, floats, offset, source, ahead, y, width, channels, out, to, plane):
    """Row y of the result, bilinear among the pixels of the source, zeros outside."""
    gain = _ONE if floats.size else _ONE / np.float32(255)
    for x in range(width):
        v = ahead[0, 0] * y + ahead[0, 1] * x + ahead[0, 2]
        u = ahead[1, 0] * y + ahead[1, 1] * x + ahead[1, 2]
        top, left = int(np.floor(v)), int(np.floor(u))
        below, beside = np.float32(v - top), np.float32(u - left)
        for c in range(channels):
            total = _ZERO
            for j in range(2):
                for i in range(2):
                    if 0 <= top + j < source[0] and 0 <= left + i < source[1]:
                        at = offset + ((top + j) * source[1] + left + i) * channels + c
                        value = floats[at] if floats.size else images[at] * gain
                        total += value * (below if j else _ONE - below) * (beside if i else _ONE - beside)
            out[to + c * plane + x] = total


# --- colours: one row of all planes at a time -------------------------------------------------------------------


@_inner
def _unit(value):
    return min(max(value, _ZERO), _ONE)


@_inner
def _recolour(out, to, plane, width, channels, codes, values, first, last, average, mean, scale):
    """Apply the steps from `first` to `last` to the row that begins at `to`."""
    n, red = _u(width), _u(to)
    green, blue = _u(to + plane), _u(to + 2 * plane)
    for i in range(first, last):
        code, value = codes[i], values[i]
        if code == SATURATION:
            _saturate(out, red, green, blue, n, value)
        elif code == HUE:
            _shift_hue(out, red, green, blue, n, value)
        elif code == GRAYSCALE:
            if channels == 3:
                _drop_colour(out, red, green, blue, n)
        elif code:
            for c in range(channels):
                _change(out, _u(to + c * plane), n, code, value, average, mean[c], scale[c])


@_inner
def _change(out, to, n, code, value, average, mean, scale):
    """The steps that look at one channel."""
    if code == BRIGHTNESS:
        for x in range(n):
            out[to + x] = _unit(out[to + x] * value)
    elif code == CONTRAST:
        rest = (_ONE - value) * average
        for x in range(n):
            out[to + x] = _unit(out[to + x] * value + rest)
    elif code == SOLARIZE:
        for x in range(n):
            out[to + x] = out[to + x] if out[to + x] < value else _ONE - out[to + x]
    elif code == NORMALIZE:
        for x in range(n):
            out[to + x] = (out[to + x] - mean) * scale
    elif code == CLAMP:
        _limit(out, to, n)


@_inner
def _limit(out, to, n):
    for x in range(n):
        out[to + x] = _unit(out[to + x])


@_inner
def _saturate(out, red, green, blue, n, factor):
    for x in range(n):
        r, g, b = out[red + x], out[green + x], out[blue + x]
        rest = (_ONE - factor) * (_RED * r + _GREEN * g + _BLUE * b)
        out[red + x] = _unit(factor * r + rest)
        out[green + x] = _unit(factor * g + rest)
        out[blue + x] = _unit(factor * b + rest)


@_inner
def _drop_colour(out, red, green, blue, n):
    for x in range(n):
        gray = _RED * out[red + x] + _GREEN * out[green + x] + _BLUE * out[blue + x]
        out[red + x] = gray
        out[green + x] = gray
        out[blue + x] = gray


@_inner
def _shift_hue(out, red, green, blue, n, turns):
    """To HSV, around and back, in closed form: a channel is value - chroma * clip(min(k, 4 - k), 0, 1)."""
    shift = _SIX * turns
    for x in range(n):
        r, g, b = out[red + x], out[green + x], out[blue + x]
        high, low = max(r, g, b), min(r, g, b)
        chroma = high - low
        above = g - b if high == r else (b - r if high == g else r - g)
        sector = _ZERO if high == r else (_TWO if high == g else _FOUR)
        hue = sector + above / (chroma if chroma > 0 else _ONE) + shift
        out[red + x] = _channel(hue + _FIVE, high, chroma)
        out[green + x] = _channel(hue + _THREE, high, chroma)
        out[blue + x] = _channel(hue + _ONE, high, chroma)


@_inner
def _channel(k, high, chroma):
    k -= _SIX * np.floor(k * (_ONE / _SIX))
    return high - chroma * _unit(min(k, _FOUR - k))


@_inner
def _gray_sum(out, to, plane, width, channels):
    total, red = _ZERO, _u(to)
    if channels == 3:
        green, blue = _u(to + plane), _u(to + 2 * plane)
        for x in range(_u(width)):
            total += _RED * out[red + x] + _GREEN * out[green + x] + _BLUE * out[blue + x]
    else:
        for x in range(_u(width)):
            total += out[red + x]
    return np.float64(total)


# --- blur -------------------------------------------------------------------------------------------------------


@_inner
def _gaussian(sigma, radius):
    """The half of the kernel from its centre outwards, and a zero at the end, since taps are taken in pairs."""
    weights = np.zeros(radius + 2, dtype=np.float32)
    total = 0.0
    for t in range(radius + 1):
        weights[t] = np.exp(-0.5 * (t / sigma) ** 2)
        total += weights[t] if t == 0 else 2 * weights[t]
    for t in range(radius + 1):
        weights[t] /= total
    return weights


@_inner
def _reflected(i, side):
    if i < 0:
        i = -i
    if i < side:
        return i
    if side == 1:
        return 0
    i %= 2 * side - 2
    return min(i, 2 * side - 2 - i)


@_inner
def _weigh(out, to, n, weights, t, source, center, near, far, nearer, farther):
    """Add two taps to either side; with t = 1, begin with the centre."""
    one, other = weights[t], weights[t + 1]
    if t == 1:
        middle = weights[0]
        for x in range(n):
            out[to + x] = (
                middle * source[center + x]
                + one * (source[near + x] + source[far + x])
                + other * (source[nearer + x] + source[farther + x])
            )
    else:
        for x in range(n):
            out[to + x] += one * (source[near + x] + source[far + x])
            out[to + x] += other * (source[nearer + x] + source[farther + x])


@_inner
def _blur_across(source, at, width, weights, padded, out, to):
    margin = weights.size - 1  # one more than the radius
    for x in range(_u(width)):
        padded[_u(margin) + x] = source[_u(at) + x]
    for t in range(1, margin + 1):
        padded[margin - t] = source[at + _reflected(-t, width)]
        padded[margin + width - 1 + t] = source[at + _reflected(width - 1 + t, width)]
    for t in range(1, margin, 2):
        _weigh(
            out, _u(to), _u(width), weights, t, padded, _u(margin),
            _u(margin - t), _u(margin + t), _u(margin - t - 1), _u(margin + t + 1),
        )  # fmt: skip


@_inner
def _places(i, height, width, depth, radius, above, below):
    """Where in the ring the rows around row number i begin, reflected at the border."""
    center = i % depth
    for t in range(radius + 1):
        for places, j in ((above, _reflected(i - t, height)), (below, _reflected(i + t, height))):
            place = center + j - i  # which is off by one turn of the ring at most
            places[t] = _u((place + depth if place < 0 else place - depth if place >= depth else place) * width)
    above[radius + 1], below[radius + 1] = above[radius], below[radius]  # for the zero at the end of the weights


@_inner
def _blur_down(ring, plane, above, below, width, weights, out, to):
    """One row of one blurred plane, from the rows around it."""
    plane = _u(plane)
    for t in range(1, weights.size - 1, 2):
        _weigh(
            out, _u(to), _u(width), weights, t, ring, plane + above[0],
            plane + above[t], plane + below[t], plane + above[t + 1], plane + below[t + 1],
        )  # fmt: skip


@_inner
def _blur(out, at, plane, k, upwards, height, width, channels, weights, padded, ring, above, below, codes, values, blur,
          mean, scale):  # fmt: skip
    """Take in the k-th row of the view, in the order in which rows come, and finish the rows that waited for it."""
    radius = weights.size - 2
    depth = min(2 * radius + 1, height)
    row = at + (height - 1 - k if upwards else k) * width
    for c in range(channels):
        _blur_across(out, row + c * plane, width, weights, padded, ring, (c * depth + k % depth) * width)
    for i in range(max(k - radius, 0), height if k == height - 1 else k - radius + 1):
        row = at + (height - 1 - i if upwards else i) * width
        _places(i, height, width, depth, radius, above, below)
        for c in range(channels):
            _blur_down(ring, c * depth * width, above, below, width, weights, out, row + c * plane)
        _recolour(out, row, plane, width, channels, codes, values, blur, codes.size, _ZERO, mean, scale)


# --- one image after the other ----------------------------------------------------------------------------------


@njit(nogil=True, fastmath=True, error_model="numpy", cache=True)
def _render(
    images, floats, offsets, sources, boxes, resized, maps, codes, values, contrast, sigma,
    kind, antialias, clamp, blur, mean, scale, out, height, width, first, last,
):  # fmt: skip
    channels, steps = mean.size, codes.shape[1]
    plane = height * width
    for i in range(first, last):
        at, ahead, code, value = i * channels * plane, maps[i], codes[i], values[i]
        turned = kind != 3 and ahead[0, 0] == 0  # then a row of the view is a column of the resized image
        upwards = kind != 3 and ahead[0, 0] < 0  # then the rows are needed from the last to the first
        radius = int(4 * sigma[i] + 0.5)
        end = blur if radius > 0 else steps
        contrasts = contrast[i] >= 0
        stop = contrast[i] if contrasts else end
        weights = _gaussian(sigma[i], radius)
        padded = np.empty(width + 2 * weights.size, dtype=np.float32)
        blurred = np.empty(channels * min(2 * radius + 1, height) * width, dtype=np.float32)
        above, below = np.empty(radius + 2, dtype=np.uint64), np.empty(radius + 2, dtype=np.uint64)

        rows, columns = (width, height) if turned else (height, width)
        axis = 1 if turned else 0
        gain = 1.0 if floats.size else 1 / 255
        stride = sources[i, 1] * channels
        first_row, first_column = np.empty(rows, dtype=np.int32), np.empty(columns, dtype=np.int32)
        if kind != 3:
            down = _table(
                first_row, boxes[i, 2], resized[i, 0], ahead[0, axis], ahead[0, 2], kind, antialias, 1.0, 1, -1
            )
            across = _table(first_column, boxes[i, 3], resized[i, 1], ahead[1, 1 - axis], ahead[1, 2], kind, antialias,
                            gain, channels, 0)  # fmt: skip
            line = np.zeros((boxes[i, 3] + 2) * channels, dtype=np.float32)
            ring = np.zeros(down.size // rows * channels * columns, dtype=np.float32)
        done = 0
        if turned:
            target = np.empty(channels * plane, dtype=np.float32)
            for k in range(width):
                y = k if ahead[0, 1] > 0 else width - 1 - k
                done = _resize(images, floats, offsets[i], stride, boxes[i], done, down, first_row, across,
                               first_column, line, ring, clamp, y, height, channels, target, y * height,
                               plane)  # fmt: skip
            for c in range(channels):
                for y in range(height):
                    for x in range(width):
                        out[at + c * plane + y * width + x] = target[c * plane + x * height + y]
        gray = 0.0
        for k in range(height):
            y = height - 1 - k if upwards else k
            row = at + y * width
            if kind == 3:
                _rotated(images, floats, offsets[i], sources[i], ahead, y, width, channels, out, row, plane)
            elif not turned:
                done = _resize(images, floats, offsets[i], stride, boxes[i], done, down, first_row, across,
                               first_column, line, ring, clamp, y, width, channels, out, row, plane)  # fmt: skip
            _recolour(out, row, plane, width, channels, code, value, 0, stop, _ZERO, mean, scale)
            if contrasts:
                gray += _gray_sum(out, row, plane, width, channels)
            elif radius > 0:
                _blur(out, at, plane, k, upwards, height, width, channels, weights, padded, blurred, above, below,
                      code, value, blur, mean, scale)  # fmt: skip
        if contrasts:
            average = np.float32(gray / plane)
            for k in range(height):
                row = at + (height - 1 - k if upwards else k) * width
                _recolour(out, row, plane, width, channels, code, value, stop, end, average, mean, scale)
                if radius > 0:
                    _blur(out, at, plane, k, upwards, height, width, channels, weights, padded, blurred, above, below,
                          code, value, blur, mean, scale)  # fmt: skip


_began = perf_counter()
_render.compile(
    "void(uint8[::1], float32[::1], int64[::1], int64[:, ::1], int64[:, ::1], int64[:, ::1], float64[:, :, ::1],"
    "int32[:, ::1], float32[:, ::1], int64[::1], float32[::1], int64, boolean, boolean, int64,"
    "float32[::1], float32[::1], float32[::1], int64, int64, int64, int64)"
)
if not _render.stats.cache_hits:
    logging.getLogger(__name__).info("compiled the CPU engine, once, in %.0f s", perf_counter() - _began)
