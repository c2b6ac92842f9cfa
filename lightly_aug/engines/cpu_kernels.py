"""The kernels of the CPU engine, in Numba. `lightly_aug.engines.program` says what each code does to a pixel.

Images are flat arrays of planes: the pixel (c, y, x) of view i is number ((i * channels + c) * height + y) * width + x.
Signed offsets make Numba check for negative indices, and slices are reference-counted; both keep LLVM from vectorising
short loops, so inner loops use unsigned offsets into flat arrays.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

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

Array = npt.NDArray[Any]

__all__ = ["BICUBIC", "BILINEAR", "OPTIONS", "ROTATE", "Moves", "Source", "Steps", "Views", "render"]

BILINEAR, BICUBIC, ROTATE = 1, 2, 3  # of the first two it is half the width of the filter, too

_ZERO = np.float32(0)
_ONE = np.float32(1)
_NO_CHROMA = np.float32(1e-30)  # below it, the compiler's reciprocal may be infinite
_TWO = np.float32(2)
_THREE = np.float32(3)
_FOUR = np.float32(4)
_FIVE = np.float32(5)
_SIX = np.float32(6)
# bits of float32, bfloat16 (its upper half) and float16, for rounding
_MAGNITUDE, _INFINITY, _LAST_BIT = np.uint32(0x7FFFFFFF), np.uint32(0x7F800000), np.uint32(1)
_HALF_SHIFT, _BELOW_HALF, _NAN_OF_BFLOAT16 = np.uint32(16), np.uint32(0x7FFF), np.uint32(0x7FC0)
_FLOAT16_SHIFT = np.uint32(13)
_FLOAT16_BIAS = np.uint32(((127 - 15) << 23) - 0xFFF)  # of the exponents, less what rounds up
_LEAST_NORMAL = np.uint32((127 - 14) << 23)  # of float16
_INFINITY_OF_FLOAT16, _NAN_OF_FLOAT16, _SIGN_OF_FLOAT16 = np.uint32(0x7C00), np.uint32(0x7E00), np.uint32(0x8000)
_HALF, _HALF_BITS = np.float32(0.5), np.uint32(0x3F000000)
_RED, _GREEN, _BLUE = np.float32(0.299), np.float32(0.587), np.float32(0.114)

OPTIONS: dict[str, Any] = {"nogil": True, "fastmath": True, "error_model": "numpy"}
_allocating = njit(**OPTIONS)
# without counts of references to each argument, and without calls, in every row: 1.8 times as fast
_INLINED: dict[str, Any] = {"_nrt": False, "forceinline": True, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
_inner = njit(**OPTIONS, **_INLINED)
_rounding = njit(nogil=True, error_model="numpy", **_INLINED)  # to the last bit, NaN included
_u = np.uint64


class Source(NamedTuple):
    """The images, uint8 or float32; the buffer of the other dtype is empty, since Numba needs one type for each name.

    Attributes:
        integers: 1-D uint8.
        floats: 1-D float32.
        offsets: `(n,)` int64, where each image begins.
        sizes: `(n, 2)` int64, height and width.
    """

    integers: Array
    floats: Array
    offsets: Array
    sizes: Array


class Moves(NamedTuple):
    """As `lightly_aug.engines.program.Move`."""

    kind: int
    antialias: bool
    boxes: Array
    resized: Array
    maps: Array


class Steps(NamedTuple):
    """As `lightly_aug.engines.program.Colours`; `scale` is 1 / std."""

    codes: Array
    values: Array
    contrast: Array
    blur: int
    sigma: Array
    mean: Array
    scale: Array


class Views(NamedTuple):
    """The results, and their size; the buffer of the other dtype is empty, as in `Source`.

    Attributes:
        floats: 1-D float32.
        halves: 1-D uint16, the bits of bfloat16 or float16.
        brain: Whether they are those of bfloat16.
        last: Whether the channels of a pixel are next to each other, instead of the pixels of a channel.
        channels: The number of channels.
        height: The number of rows.
        width: The number of columns.
    """

    floats: Array
    halves: Array
    brain: bool
    last: bool
    channels: int
    height: int
    width: int


class _Size(NamedTuple):
    """The size of a view; `plane` is height * width."""

    channels: int
    height: int
    width: int
    plane: int


class _Box(NamedTuple):
    """Where a box is in the buffer of the source: its first number, from row to row, rows, numbers in a row."""

    begin: int
    stride: int
    rows: int
    numbers: int


# --- resampling: weights, then rows -----------------------------------------------------------------------------


@_inner
def _cubic(x, a):
    """Keys' cubic filter with the parameter a."""
    x = abs(x)
    if x < 1:
        return ((a + 2) * x - (a + 3)) * x * x + 1
    if x < 2:
        return (((x - 5) * x + 8) * x - 4) * a
    return 0.0


@_allocating
def _weigh_axis(starts, size, resized, slope, shift, kind, antialias, gain, stride, outside):
    """Compute the weights of one axis: result number x is resized number slope * x + shift, or nothing outside.

    Return (results * taps) weights, and fill in where in the source the taps of each result start; `outside` for
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
            high = min(high, low + taps)  # rounding can let in one more, which weighs nothing
        else:
            low = int(np.floor(center - 0.5)) - kind + 1
            high = low + 2 * kind
        start = min(max(low, 0), max(size - taps, 0))
        total = 0.0
        for j in range(low, high):
            distance = abs(j - center + 0.5) / stretch
            weight = _cubic(distance, a) if kind == BICUBIC else max(1 - distance, 0.0)
            total += weight
            weights[x * taps + min(max(j, 0), size - 1) - start] += weight * gain
        for j in range(taps):
            weights[x * taps + j] /= total
        starts[x] = start * stride
    return weights


@_allocating
def _plan_resize(first_row, first_column, box, resized, to_source, kind, antialias, gain, channels):
    """Compute the weights of both axes of one image, times `gain`, and make room for its rows.

    Return the weights down and across, one row of the source, and as many resampled rows as there are taps down.
    """
    axis = 1 if to_source[0, 0] == 0 else 0  # on its side, rows of the view are columns of the resized image
    slope, shift = to_source[0, axis], to_source[0, 2]
    down = _weigh_axis(first_row, box[2], resized[0], slope, shift, kind, antialias, 1.0, 1, -1)
    slope, shift = to_source[1, 1 - axis], to_source[1, 2]
    across = _weigh_axis(first_column, box[3], resized[1], slope, shift, kind, antialias, gain, channels, 0)
    line = np.zeros((box[3] + 2) * channels, dtype=np.float32)
    ring = np.zeros(down.size // first_row.size * channels * first_column.size, dtype=np.float32)
    return down, across, line, ring


@_inner
def _read_line(integers, floats, begin, line, count):
    """Read `count` numbers of the source as float32."""
    if floats.size:
        for x in range(_u(count)):
            line[x] = floats[begin + x]
    else:
        for x in range(_u(count)):
            line[x] = integers[begin + x]


@_inner
def _mix_rows(source, box, weights, start, y, rows, line):
    """Resample the rows of the box down, from number `start` on, into row y of `rows` in the result."""
    for j in range(0, weights.size // rows, 4):
        w0, a = _find_row(box, weights, start, y, rows, j)
        w1, b = _find_row(box, weights, start, y, rows, j + 1)
        w2, c = _find_row(box, weights, start, y, rows, j + 2)
        w3, d = _find_row(box, weights, start, y, rows, j + 3)
        if j > 0 and w0 == 0 and w1 == 0 and w2 == 0 and w3 == 0:
            continue
        for x in range(_u(box.numbers)):
            before = _ZERO if j == 0 else line[x]
            near = w0 * np.float32(source[a + x]) + w1 * np.float32(source[b + x])
            line[x] = before + near + w2 * np.float32(source[c + x]) + w3 * np.float32(source[d + x])


@_inner
def _find_row(box, weights, start, y, rows, j):
    """Return the weight of tap j of row y, and where its row begins in the source."""
    taps = weights.size // rows
    weight = weights[y * taps + j] if j < taps else _ZERO
    return weight, _u(box.begin + min(start + j, box.rows - 1) * box.stride)


@intrinsic
def _weigh_pixels(typing, line, at, weights, w, taps):
    """Sum `taps` pixels of three channels, from `line[at]` on, times the weights from `weights[w]` on.

    The channels of a pixel are the lanes of a vector. The fourth lane is the first channel of the next pixel and is
    ignored. Without this, LLVM computes them one after the other.
    """
    single = types.float32
    signature = types.UniTuple(single, 3)(line, at, weights, w, taps)

    def generate(context, builder, signature, arguments):
        line, at, weights, w, taps = arguments
        data = [
            context.make_array(kind)(context, builder, value).data
            for kind, value in ((signature.args[0], line), (signature.args[2], weights))
        ]
        number = ir.FloatType()
        pixel = ir.VectorType(number, 4)
        total = cgutils.alloca_once_value(builder, ir.Constant(pixel, [0.0] * 4))
        with cgutils.for_range(builder, taps, intp=taps.type) as loop:
            place = builder.add(at, builder.mul(loop.index, ir.Constant(at.type, 3)))
            address = builder.bitcast(builder.gep(data[0], [place]), pixel.as_pointer())
            values = builder.load(address, align=4)
            weight = builder.load(builder.gep(data[1], [builder.add(w, loop.index)]))
            lanes = builder.insert_element(ir.Constant(pixel, ir.Undefined), weight, ir.IntType(32)(0))
            lanes = builder.shuffle_vector(lanes, lanes, ir.Constant(ir.VectorType(ir.IntType(32), 4), [0] * 4))
            product = builder.fmul(lanes, values, flags=("fast",))
            builder.store(builder.fadd(builder.load(total), product, flags=("fast",)), total)
        whole = builder.load(total)
        channels = [builder.extract_element(whole, ir.IntType(32)(c)) for c in range(3)]
        return context.make_tuple(builder, signature.return_type, channels)

    return signature, generate


@_inner
def _resample_across(line, weights, starts, out, row, channels, plane):
    """Resample one line, its channels interleaved, into planes, from `row` on."""
    n = _u(starts.size)
    taps = _u(weights.size) // n
    if channels == 3:
        red, green, blue = _u(row), _u(row + plane), _u(row + 2 * plane)
        for x in range(n):
            r, g, b = _weigh_pixels(line, _u(starts[x]), weights, x * taps, taps)
            out[red + x] = r
            out[green + x] = g
            out[blue + x] = b
        return
    for c in range(channels):
        target = _u(row + c * plane)
        for x in range(n):
            at, total = _u(starts[x] + c), _ZERO
            for j in range(taps):
                total += weights[x * taps + j] * line[at + j * _u(channels)]
            out[target + x] = total


@_inner
def _resample_down(ring, weights, start, y, taps, out, row, width, channels, plane):
    """Resample the rows in the ring, from number `start` of the box on, into row y of the result, at `row`."""
    for j in range(0, taps, 2):
        w0, w1 = weights[y * taps + j], weights[y * taps + j + 1]
        if j > 0 and w0 == 0 and w1 == 0:
            continue
        row0, row1 = (start + j) % taps * channels * width, (start + j + 1) % taps * channels * width
        for c in range(channels):
            a, b, target = _u(row0 + c * width), _u(row1 + c * width), _u(row + c * plane)
            if j == 0:
                for x in range(_u(width)):
                    out[target + x] = w0 * ring[a + x] + w1 * ring[b + x]
            else:
                for x in range(_u(width)):
                    out[target + x] += w0 * ring[a + x] + w1 * ring[b + x]


@_inner
def _resize_row(
    integers, floats, box, shrinks, done, down, first_row, across, first_column, line, ring, y, out, row, size
):
    """Resize one row, number y of the result, which begins at `row`.

    Where the result has fewer rows than the box, the rows of the box are resampled down first, since that reads
    consecutive numbers, and then only one line is resampled across. Else each row of the box is resampled across once:
    the ring holds them, one for each tap of the weights down, the last of the `done` rows that have been read so far.

    Return how many rows have been read now.
    """
    start, taps, width = first_row[y], down.size // first_row.size, first_column.size
    if start < 0:  # outside of the resized image
        for c in range(size.channels):
            for x in range(_u(width)):
                out[_u(row + c * size.plane) + x] = 0
        return done
    if shrinks:
        if floats.size:
            _mix_rows(floats, box, down, start, y, first_row.size, line)
        else:
            _mix_rows(integers, box, down, start, y, first_row.size, line)
        _resample_across(line, across, first_column, out, row, size.channels, size.plane)
        return done
    done = max(done, start)
    while done < min(start + taps, box.rows):
        _read_line(integers, floats, _u(box.begin + done * box.stride), line, box.numbers)
        _resample_across(line, across, first_column, ring, done % taps * size.channels * width, size.channels, width)
        done += 1
    _resample_down(ring, down, start, y, taps, out, row, width, size.channels, size.plane)
    return done


@_inner
def _rotate_row(integers, floats, offset, height, width, to_source, y, out, row, size):
    """Rotate one row, number y of the result, which begins at `row`: bilinear in the source, zeros outside."""
    gain = _ONE if floats.size else _ONE / np.float32(255)
    for x in range(size.width):
        v = to_source[0, 0] * y + to_source[0, 1] * x + to_source[0, 2]
        u = to_source[1, 0] * y + to_source[1, 1] * x + to_source[1, 2]
        top, left = int(np.floor(v)), int(np.floor(u))
        below, beside = np.float32(v - top), np.float32(u - left)
        for c in range(size.channels):
            total = _ZERO
            for j in range(2):
                for k in range(2):
                    if 0 <= top + j < height and 0 <= left + k < width:
                        at = offset + ((top + j) * width + left + k) * size.channels + c
                        value = floats[at] if floats.size else integers[at] * gain
                        total += value * (below if j else _ONE - below) * (beside if k else _ONE - beside)
            out[row + c * size.plane + x] = total


# --- colours: one row of all planes at a time -------------------------------------------------------------------


@_inner
def _clamp(value):
    return min(max(value, _ZERO), _ONE)


@_inner
def _run_steps(out, row, size, codes, values, first, last, average, mean, scale):
    """Change one row of all planes, which begins at `row`, by the steps from `first` up to `last`."""
    n, red = _u(size.width), _u(row)
    green, blue = _u(row + size.plane), _u(row + 2 * size.plane)
    for k in range(first, last):
        code, value = codes[k], values[k]
        if code == SATURATION:
            _saturate_row(out, red, green, blue, n, value)
        elif code == HUE:
            _shift_hue_row(out, red, green, blue, n, value)
        elif code == GRAYSCALE:
            if size.channels == 3:
                _gray_row(out, red, green, blue, n)
        elif code:
            for c in range(size.channels):
                _change_row(out, _u(row + c * size.plane), n, code, value, average, mean[c], scale[c])


@_inner
def _change_row(out, row, n, code, value, average, mean, scale):
    """Run a step that looks at one channel only."""
    if code == BRIGHTNESS:
        for x in range(n):
            out[row + x] = _clamp(out[row + x] * value)
    elif code == CONTRAST:
        rest = (_ONE - value) * average
        for x in range(n):
            out[row + x] = _clamp(out[row + x] * value + rest)
    elif code == SOLARIZE:
        for x in range(n):
            out[row + x] = out[row + x] if out[row + x] < value else _ONE - out[row + x]
    elif code == NORMALIZE:
        for x in range(n):
            out[row + x] = (out[row + x] - mean) * scale
    elif code == CLAMP:
        for x in range(n):
            out[row + x] = _clamp(out[row + x])


@_inner
def _saturate_row(out, red, green, blue, n, factor):
    for x in range(n):
        r, g, b = out[red + x], out[green + x], out[blue + x]
        rest = (_ONE - factor) * (_RED * r + _GREEN * g + _BLUE * b)
        out[red + x] = _clamp(factor * r + rest)
        out[green + x] = _clamp(factor * g + rest)
        out[blue + x] = _clamp(factor * b + rest)


@_inner
def _gray_row(out, red, green, blue, n):
    for x in range(n):
        gray = _RED * out[red + x] + _GREEN * out[green + x] + _BLUE * out[blue + x]
        out[red + x] = gray
        out[green + x] = gray
        out[blue + x] = gray


@_inner
def _shift_hue_row(out, red, green, blue, n, turns):
    """Convert to HSV, shift, and convert back in closed form: a channel is value - chroma * clamp(min(k, 4 - k))."""
    shift = _SIX * turns
    for x in range(n):
        r, g, b = out[red + x], out[green + x], out[blue + x]
        high, low = max(r, g, b), min(r, g, b)
        chroma = high - low
        above = g - b if high == r else (b - r if high == g else r - g)
        sector = _ZERO if high == r else (_TWO if high == g else _FOUR)
        hue = sector + above / (chroma if chroma > _NO_CHROMA else _ONE) + shift
        out[red + x] = _shade(hue + _FIVE, high, chroma)
        out[green + x] = _shade(hue + _THREE, high, chroma)
        out[blue + x] = _shade(hue + _ONE, high, chroma)


@_inner
def _shade(k, high, chroma):
    k -= _SIX * np.floor(k * (_ONE / _SIX))
    return high - chroma * _clamp(min(k, _FOUR - k))


@_inner
def _sum_grays(out, row, size):
    """Sum the grays of the row that begins at `row`."""
    total, red = _ZERO, _u(row)
    if size.channels == 3:
        green, blue = _u(row + size.plane), _u(row + 2 * size.plane)
        for x in range(_u(size.width)):
            total += _RED * out[red + x] + _GREEN * out[green + x] + _BLUE * out[blue + x]
    else:
        for x in range(_u(size.width)):
            total += out[red + x]
    return np.float64(total)


# --- blur -------------------------------------------------------------------------------------------------------


@_allocating
def _plan_blur(sigma, radius, channels, height, width):
    """Compute the kernel of one image and make room for its rows.

    Return half the kernel from its centre outwards, with a zero at the end, since taps are taken in pairs; one padded
    row; a ring of as many rows as the kernel is high; and the places in it of the rows above and below one row.
    """
    weights = np.zeros(radius + 2, dtype=np.float32)
    total = 0.0
    for t in range(radius + 1):
        weights[t] = np.exp(-0.5 * (t / sigma) ** 2)
        total += weights[t] if t == 0 else 2 * weights[t]
    for t in range(radius + 1):
        weights[t] /= total
    padded = np.empty(width + 2 * weights.size, dtype=np.float32)
    ring = np.empty(channels * min(2 * radius + 1, height) * width, dtype=np.float32)
    return weights, padded, ring, np.empty(radius + 2, dtype=np.uint64), np.empty(radius + 2, dtype=np.uint64)


@_inner
def _reflect(i, side):
    """Reflect a place about the first and the last pixel until it is between them."""
    if i < 0:
        i = -i
    if i < side:
        return i
    if side == 1:
        return 0
    i %= 2 * side - 2
    return min(i, 2 * side - 2 - i)


@_inner
def _add_four_taps(out, row, n, weights, t, source, center, near0, near1, far0, far1):
    """Add tap t on both sides (`near`) and tap t + 1 on both sides (`far`); with t = 1, begin with the centre."""
    w0, w1 = weights[t], weights[t + 1]
    if t == 1:
        middle = weights[0]
        for x in range(n):
            out[row + x] = (
                middle * source[center + x]
                + w0 * (source[near0 + x] + source[near1 + x])
                + w1 * (source[far0 + x] + source[far1 + x])
            )
    else:
        for x in range(n):
            out[row + x] += w0 * (source[near0 + x] + source[near1 + x])
            out[row + x] += w1 * (source[far0 + x] + source[far1 + x])


@_inner
def _blur_across(source, begin, width, weights, padded, ring, target):
    """Blur one row of one plane into the ring, from `target` on."""
    margin = weights.size - 1  # one more than the radius
    for x in range(_u(width)):
        padded[_u(margin) + x] = source[_u(begin) + x]
    for t in range(1, margin + 1):
        padded[margin - t] = source[begin + _reflect(-t, width)]
        padded[margin + width - 1 + t] = source[begin + _reflect(width - 1 + t, width)]
    for t in range(1, margin, 2):
        _add_four_taps(
            ring, _u(target), _u(width), weights, t, padded, _u(margin),
            _u(margin - t), _u(margin + t), _u(margin - t - 1), _u(margin + t + 1),
        )  # fmt: skip


@_inner
def _locate_rows(i, height, width, depth, radius, above, below):
    """Find where in the ring the rows above and below row number i begin, reflected at the border."""
    center = i % depth
    for t in range(radius + 1):
        for places, j in ((above, _reflect(i - t, height)), (below, _reflect(i + t, height))):
            place = center + j - i  # which is off by one turn of the ring at most
            places[t] = _u((place + depth if place < 0 else place - depth if place >= depth else place) * width)
    above[radius + 1], below[radius + 1] = above[radius], below[radius]  # of the weight zero


@_inner
def _blur_down(ring, plane, above, below, width, weights, out, row):
    """Blur one row of one plane from the rows around it in the ring."""
    plane = _u(plane)
    for t in range(1, weights.size - 1, 2):
        _add_four_taps(
            out, _u(row), _u(width), weights, t, ring, plane + above[0],
            plane + above[t], plane + below[t], plane + above[t + 1], plane + below[t + 1],
        )  # fmt: skip


@_inner
def _copy_first_channel(out, row, size):
    for c in range(1, size.channels):
        target = _u(row + c * size.plane)
        for x in range(_u(size.width)):
            out[target + x] = out[_u(row) + x]


@_inner
def _is_gray(codes, blur):
    """Whether the channels are equal in front of the blur, in an image of three channels."""
    gray = False
    for k in range(blur):
        gray = codes[k] == GRAYSCALE or (gray and codes[k] != NORMALIZE)
    return gray


@_inner
def _blur_row(out, begin, k, upwards, size, gray, weights, padded, ring, above, below):
    """Take in the k-th row of a view, in the order in which rows come, and blur the rows that waited for it.

    Of a gray image one channel is blurred. Return the first and the last of them, in the same order.
    """
    height, width, radius, channels = size.height, size.width, weights.size - 2, 1 if gray else size.channels
    depth = min(2 * radius + 1, height)
    row = _row_number(k, upwards, height) * width + begin
    for c in range(channels):
        _blur_across(out, row + c * size.plane, width, weights, padded, ring, (c * depth + k % depth) * width)
    first, last = max(k - radius, 0), height if k == height - 1 else k - radius + 1
    for j in range(first, last):
        row = _row_number(j, upwards, height) * width + begin
        _locate_rows(j, height, width, depth, radius, above, below)
        for c in range(channels):
            _blur_down(ring, c * depth * width, above, below, width, weights, out, row + c * size.plane)
        if gray:
            _copy_first_channel(out, row, size)
    return first, last


# --- views of 16 bits, and with the channels last ---------------------------------------------------------------


@_rounding
def _round_to_bfloat16(value):
    """The bits of the nearest bfloat16, or the even one of two."""
    bits = np.float32(value).view(np.uint32)
    above = np.uint32(np.uint32(bits >> _HALF_SHIFT) & _LAST_BIT)
    rounded = np.uint32(bits + np.uint32(above + _BELOW_HALF)) >> _HALF_SHIFT
    return np.uint16(_NAN_OF_BFLOAT16 if np.uint32(bits & _MAGNITUDE) > _INFINITY else rounded)


@_rounding
def _round_to_float16(value):
    """The bits of the nearest float16, or the even one of two; infinity from 65,520 on."""
    bits = np.float32(value).view(np.uint32)
    magnitude = np.uint32(bits & _MAGNITUDE)
    # adding 0.5 moves the last bit of a subnormal float16 to the last bit of a float32, where the sum is rounded
    subnormal = np.uint32(np.float32(magnitude.view(np.float32) + _HALF).view(np.uint32) - _HALF_BITS)
    above = np.uint32(np.uint32(magnitude >> _FLOAT16_SHIFT) & _LAST_BIT)
    normal = np.uint32(magnitude - np.uint32(_FLOAT16_BIAS - above)) >> _FLOAT16_SHIFT
    rounded = subnormal if magnitude < _LEAST_NORMAL else min(normal, _INFINITY_OF_FLOAT16)
    rounded = _NAN_OF_FLOAT16 if magnitude > _INFINITY else rounded
    return np.uint16(np.uint32(rounded) | np.uint32(np.uint32(bits >> _HALF_SHIFT) & _SIGN_OF_FLOAT16))


@_inner
def _round(canvas, rounded, begin, n, brain):
    """Round the n numbers of a finished view to 16 bits."""
    if brain:
        for x in range(_u(n)):
            rounded[_u(begin) + x] = _round_to_bfloat16(canvas[x])
    else:
        for x in range(_u(n)):
            rounded[_u(begin) + x] = _round_to_float16(canvas[x])


@_inner
def _interleave(planes, out, begin, channels, plane):
    """Copy a view with the channels last."""
    if channels == 3:
        green, blue = _u(plane), _u(2 * plane)
        for x in range(_u(plane)):
            at = _u(begin) + _u(3) * x
            out[at] = planes[x]
            out[at + _u(1)] = planes[green + x]
            out[at + _u(2)] = planes[blue + x]
        return
    for c in range(channels):
        for x in range(_u(plane)):
            out[_u(begin + c) + _u(channels) * x] = planes[_u(c * plane) + x]


# --- one image after the other ----------------------------------------------------------------------------------


@_inner
def _row_number(k, upwards, height):
    """The number of the k-th row, if rows are rendered from the last to the first, or from the first on."""
    return height - 1 - k if upwards else k


@_inner
def _transpose(turned, out, begin, size):
    """Copy the view that was rendered on its side."""
    for c in range(size.channels):
        for y in range(size.height):
            for x in range(size.width):
                out[begin + c * size.plane + y * size.width + x] = turned[c * size.plane + x * size.height + y]


@_inner
def _finish_rows(out, begin, ready, upwards, size, codes, values, blur, mean, scale):
    """Run the steps behind the blur on the rows that `_blur_row` returned."""
    for k in range(ready[0], ready[1]):
        row = begin + _row_number(k, upwards, size.height) * size.width
        _run_steps(out, row, size, codes, values, blur, codes.size, _ZERO, mean, scale)


@_inner
def _store(canvas, rounded, singles, halves, begin, brain, channels_last, size):
    """Store a finished view where it will be, from `begin` on, if that is not where it was rendered."""
    numbers = size.channels * size.plane
    if halves.size == 0:
        _interleave(canvas, singles, begin, size.channels, size.plane)
    elif channels_last:
        _round(canvas, rounded, 0, numbers, brain)
        _interleave(rounded, halves, begin, size.channels, size.plane)
    else:
        _round(canvas, halves, begin, numbers, brain)


def render(source, moves, steps, views, first, last):
    """Render the images from `first` up to `last`; the engine compiles it."""
    integers, floats, offsets, sizes = source  # once: an array that leaves a tuple is counted, which slows rows down
    kind, antialias, boxes, resized, maps = moves
    all_codes, all_values, contrast, blur, sigma, mean, scale = steps
    singles, halves, brain, channels_last, channels, height, width = views
    size = _Size(channels, height, width, height * width)
    numbers = channels * size.plane
    in_place = halves.size == 0 and not channels_last
    out = singles if in_place else np.empty(numbers, dtype=np.float32)
    rounded = np.empty(numbers if channels_last and halves.size else 0, dtype=np.uint16)
    for i in range(first, last):
        begin, codes, values, to_source = i * numbers if in_place else 0, all_codes[i], all_values[i], maps[i]
        turned = kind != ROTATE and to_source[0, 0] == 0  # rows of the view are columns of the resized image
        radius = int(4 * sigma[i] + 0.5)
        end = blur if radius > 0 else codes.size
        contrasts = contrast[i] >= 0
        stop = contrast[i] if contrasts else end

        weights, padded, blurred, above, below = _plan_blur(sigma[i], radius, channels, height, width)
        rows, columns = (width, height) if turned else (height, width)
        first_row, first_column = np.empty(rows, dtype=np.int32), np.empty(columns, dtype=np.int32)
        stride = sizes[i, 1] * channels
        box = _Box(
            offsets[i] + boxes[i, 0] * stride + boxes[i, 1] * channels, stride, boxes[i, 2], boxes[i, 3] * channels
        )
        if kind != ROTATE:
            down, across, line, ring = _plan_resize(
                first_row, first_column, boxes[i], resized[i], to_source, kind, antialias,
                1.0 if floats.size else 1 / 255, channels,
            )  # fmt: skip
        gray = channels == 3 and _is_gray(codes, blur)
        shrinks = boxes[i, 2] > resized[i, 0]
        target = np.empty(numbers if turned else 0, dtype=np.float32)
        done, grays, average = 0, 0.0, _ZERO
        for look in range(-1 if turned else 0, 2 if contrasts else 1):
            # rows are needed from the last to the first where the view is upside down
            upwards = kind != ROTATE and to_source[0, 1 if look < 0 else 0] < 0
            side = width if look < 0 else height
            for k in range(side):
                y = _row_number(k, upwards, side)
                row = y * height if look < 0 else begin + y * width
                if look == 0 and kind == ROTATE:
                    _rotate_row(integers, floats, offsets[i], sizes[i, 0], sizes[i, 1], to_source, y, out, row, size)
                elif look < 0 or (look == 0 and not turned):
                    done = _resize_row(integers, floats, box, shrinks, done, down, first_row, across, first_column,
                                       line, ring, y, target if turned else out, row, size)  # fmt: skip
                if look < 0:
                    continue
                _run_steps(out, row, size, codes, values, 0 if look == 0 else stop, stop if look == 0 else end,
                           average, mean, scale)  # fmt: skip
                if look == 0 and contrasts:
                    grays += _sum_grays(out, row, size)
                elif radius > 0:
                    ready = _blur_row(out, begin, k, upwards, size, gray, weights, padded, blurred, above, below)
                    _finish_rows(out, begin, ready, upwards, size, codes, values, blur, mean, scale)
            if look < 0:
                _transpose(target, out, begin, size)
            average = np.float32(grays / size.plane)
        if not in_place:
            _store(out, rounded, singles, halves, i * numbers, brain, channels_last, size)
