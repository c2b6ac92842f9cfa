"""The program: one pass over n images as numbers, which is all that a fast engine sees."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from lightly_aug.images import PackedImages
from lightly_aug.operations import (
    JITTER_ORDERS,
    ColorJitter,
    Floats,
    Ints,
    Normalize,
    Operation,
    RandomGaussianBlur,
    RandomGrayscale,
    RandomResizedCrop,
    RandomRotation,
    RandomSolarize,
    Resize,
)

__all__ = [
    "BRIGHTNESS",
    "CLAMP",
    "CONTRAST",
    "GRAYSCALE",
    "HUE",
    "NORMALIZE",
    "NOTHING",
    "SATURATION",
    "SOLARIZE",
    "Colours",
    "Move",
    "Output",
    "Program",
    "lower_colours",
    "lower_move",
]

# What the codes do to a pixel with channels x, or r, g, b; f is the step's value, clamp limits to [0, 1].
# gray = .299 r + .587 g + .114 b, or x where there is one channel.
NOTHING: Final = 0
CLAMP: Final = 1  # clamp(x)
BRIGHTNESS: Final = 2  # clamp(f x)
CONTRAST: Final = 3  # clamp(f x + (1 - f) m), with m the mean of gray over the image
SATURATION: Final = 4  # clamp(f x + (1 - f) gray)
HUE: Final = 5  # to HSV, H + f turns, and back
GRAYSCALE: Final = 6  # gray, in all channels
SOLARIZE: Final = 7  # x if x < f else 1 - x
NORMALIZE: Final = 8  # (x - mean) / std

_JITTER: Final = {"brightness": BRIGHTNESS, "contrast": CONTRAST, "saturation": SATURATION, "hue": HUE}
_CODES: Final = np.array([*_JITTER.values()], dtype=np.int32)
_NEUTRAL: Final = np.array([1.0, 1.0, 1.0, 0.0])
_ORDERS: Final = np.array([[[*_JITTER].index(part) for part in order] for order in JITTER_ORDERS])
_CONTRASTS: Final = np.array([order.index("contrast") for order in JITTER_ORDERS])
"""Of the parts of a jitter: code, factor that changes nothing, parts in each order, place of contrast in each order."""

_NO_NORMALIZE: Final = Normalize(0.0, 1.0)


class Output(NamedTuple):
    """What is wanted of rendering.

    Attributes:
        device: Where to render.
        dtype: Floating dtype of the views; None for each view's own.
        memory_format: Of the views.
        non_blocking: Whether the copy from pinned memory may overlap with what the host does next.
    """

    device: torch.device
    dtype: torch.dtype | None = None
    memory_format: torch.memory_format = torch.contiguous_format
    non_blocking: bool = True


class Move(NamedTuple):
    """How the pixels of n images move. A row of any array is one image's.

    A pixel (y, x) of the result comes from (v, u) = map (y, x, 1). If `kind` is "rotate", that is a place among the
    pixels of the source, else it is a pixel of the `resized` image, which is the part `box` of the source, resized by
    `kind`. Outside of it all is zero.

    Attributes:
        kind: "bilinear", "bicubic" or "rotate" (bilinear, zeros outside).
        antialias: Whether the resize is antialiased.
        boxes: `(n, 4)` int64 top, left, height and width in the source.
        resized: `(n, 2)` int64 height and width of the resized image.
        maps: `(n, 2, 3)` float64; whole numbers, unless `kind` is "rotate".
        sizes: `(n, 2)` int64 height and width of the results, all the same.
    """

    kind: Literal["bilinear", "bicubic", "rotate"]
    antialias: bool
    boxes: Ints
    resized: Ints
    maps: Floats
    sizes: Ints

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the results; (0, 0) for no images."""
        return (int(self.sizes[0, 0]), int(self.sizes[0, 1])) if len(self.sizes) else (0, 0)


class Colours(NamedTuple):
    """How the values of n images change, step by step, with a blur in front of step number `blur`.

    Attributes:
        codes: `(n, steps)` int32, NOTHING for a step that does not happen.
        values: `(n, steps)` float32, the factor or threshold of each step.
        contrast: `(n,)` int64 number of the step CONTRAST, -1 for none. It is in front of the blur.
        blur: Number of the step that the blur is in front of.
        sigma: `(n,)` float32 of the blur in pixels, 0 for none.
        mean: What NORMALIZE subtracts: one number, or one for each channel.
        std: What it divides by: one number, or one for each channel.
    """

    codes: npt.NDArray[np.int32]
    values: npt.NDArray[np.float32]
    contrast: Ints
    blur: int
    sigma: npt.NDArray[np.float32]
    mean: tuple[float, ...]
    std: tuple[float, ...]


class Program(NamedTuple):
    """One pass over n images: first the move, then the colours.

    Attributes:
        images: The sources, on the device to render on.
        move: How their pixels move.
        colours: How their values change.
        output: What is wanted; its dtype is set.
        views: How many views they make: the first ones are those of the first view, and so on.
    """

    images: PackedImages
    move: Move
    colours: Colours
    output: Output
    views: int = 1

    def split(self) -> "list[Program]":
        """Return a program for each view."""
        images, move, colours, output, views = self
        n = len(images) // views
        kind, antialias, boxes, resized, maps, sizes = move
        codes, values, contrast, blur, sigma, mean, std = colours
        return [
            Program(
                images.select(i, j),
                Move(kind, antialias, boxes[i:j], resized[i:j], maps[i:j], sizes[i:j]),
                Colours(codes[i:j], values[i:j], contrast[i:j], blur, sigma[i:j], mean, std),
                output,
            )
            for i, j in ((view * n, (view + 1) * n) for view in range(views))
        ]


def lower_move(images: PackedImages, moves: Sequence[tuple[Operation, Floats]]) -> Move:
    """Turn operations that move pixels, each with its draws `(n, columns)`, into one move."""
    sizes = images.shapes.numpy()[:, 1:].copy()
    boxes, resized = None, sizes
    kind: Literal["bilinear", "bicubic", "rotate"] = "bilinear"
    antialias = True
    turns: list[tuple[Operation, Floats]] = []  # what moves pixels after the resize
    for operation, drawn in moves:
        if isinstance(operation, RandomResizedCrop | Resize):
            # flips and turns before the crop: crop and resize the source, then flip and turn the result
            height, width, total = _follow(sizes, turns)
            resized = _pair_up(*operation.output_size(height, width, drawn))
            if isinstance(operation, RandomResizedCrop):
                operation.check_boxes(height, width, drawn)
                boxes = drawn.astype(np.int64)
            if turns:
                boxes, turned = _unturn(_cover(_pair_up(height, width)) if boxes is None else boxes, total)
                resized = np.where(turned[:, None], resized[:, ::-1], resized)
            kind, antialias = operation.interpolation, operation.antialias
            continue
        if isinstance(operation, RandomRotation):
            kind = "rotate"
        turns.append((operation, drawn))
    height, width, total = _follow(resized, turns)
    back = _invert(total)
    back = back if kind == "rotate" else np.rint(back)
    maps = np.ascontiguousarray(back[:, ::-1, [1, 0, 2]])  # from (x, y, 1) to (y, x, 1)
    boxes = _cover(sizes) if boxes is None else boxes
    return Move(kind, antialias, boxes, resized, maps, _pair_up(height, width))


def _pair_up(height: Ints, width: Ints) -> Ints:
    """Return `(n, 2)` heights and widths."""
    return np.array([height, width]).T.copy()


def _cover(sizes: Ints) -> Ints:
    """Return the boxes of whole images."""
    return np.concatenate([np.zeros_like(sizes), sizes], axis=1)


def _follow(sizes: Ints, moves: Sequence[tuple[Operation, Floats]]) -> tuple[Ints, Ints, Floats]:
    """Heights and widths after some moves of images of these sizes, and the matrices of all moves together."""
    height, width = sizes.T
    total = np.broadcast_to(np.eye(3), (len(height), 3, 3))
    for i, (operation, drawn) in enumerate(moves):
        matrix = operation.matrix(height, width, drawn)
        total = matrix @ total if i > 0 else matrix
        height, width = operation.output_size(height, width, drawn)
    return height, width, total


def _invert(matrices: Floats) -> Floats:
    """Return the two upper rows of the inverses of affine matrices, `(n, 2, 3)`; LAPACK takes one after the other."""
    (a, b, x), (c, d, y) = matrices[:, :2].transpose(1, 2, 0)
    determinant = a * d - b * c
    if not determinant.all():  # of a draw by hand
        i = (determinant == 0).argmax()
        raise ValueError(
            f"matrix of image {i} must be invertible, got {matrices[i].tolist()}: its draws move no pixels"
        )
    inverse: Floats = np.array([[d, -b, b * y - d * x], [-c, a, c * x - a * y]]) / determinant
    return inverse.transpose(2, 0, 1)


def _unturn(boxes: Ints, total: Floats) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """Find the boxes in the source of boxes in the turned images, and which images lie on their side."""
    top, left, h, w = boxes.T
    corners = np.stack([[left, top, np.ones_like(top)], [left + w - 1, top + h - 1, np.ones_like(top)]], axis=-1)
    x, y = np.rint(_invert(total) @ corners.transpose(1, 0, 2)).astype(np.int64).transpose(1, 0, 2)
    turned = np.abs(total[:, 0, 1]) > 0.5
    h, w = np.where(turned, (w, h), (h, w))
    return np.stack([y.min(axis=1), x.min(axis=1), h, w], axis=1), turned


def lower_colours(images: PackedImages, move: Move, operations: Sequence[tuple[Operation, Floats]]) -> Colours:
    """Turn operations that change values, each with its draws `(n, columns)`, into steps.

    Two clamps depend on whether an image has 8 bits, image by image, so that no view depends on the rest of its batch:
    a bicubic resize can leave [0, 1], which an 8-bit image cannot; and a jitter clamps its input, unless it has 8 bits.

    Args:
        images: The images.
        move: What happens before.
        operations: The operations and their draws.
    """
    n, raw, all_raw = len(images), images.raw[:, None], bool(images.raw.all())
    overshoots = move.kind == "bicubic" and bool(images.raw.any())
    *begins, steps = accumulate(
        (_count_steps(operation, all_raw) for operation, _ in operations), initial=int(overshoots)
    )
    codes, values = np.zeros((n, steps), dtype=np.int32), np.zeros((n, steps), dtype=np.float32)
    contrast = np.full(n, -1, dtype=np.int64)
    blur, sigma = steps, np.zeros(n, dtype=np.float32)
    normalize = _NO_NORMALIZE
    if overshoots:
        codes[:, :1] = CLAMP * raw
    for i, (operation, drawn) in zip(begins, operations, strict=True):
        match operation:
            case ColorJitter():
                applied, factors = drawn[:, :1] > 0, drawn[:, 1:5]
                if not all_raw:
                    codes[:, i : i + 1] = CLAMP * (applied & ~raw)
                number, first = drawn[:, 5].astype(np.int64), i + (not all_raw)
                order, rows = _ORDERS[number], np.arange(n)[:, None]
                happens = applied & (factors != _NEUTRAL)
                codes[:, first : first + 4] = (_CODES * happens)[rows, order]
                values[:, first : first + 4] = factors[rows, order]
                contrast = np.where(happens[:, 1], first + _CONTRASTS[number], contrast)
            case RandomGrayscale():
                codes[:, i] = GRAYSCALE * (drawn[:, 0] > 0)
            case RandomSolarize():
                codes[:, i] = SOLARIZE * (drawn[:, 0] > 0)
                values[:, i] = drawn[:, 1]
            case Normalize():
                normalize = operation
                codes[:, i] = NORMALIZE
            case RandomGaussianBlur():
                blur, sigma = i, drawn[:, 0].astype(np.float32)
            case _:
                raise TypeError(f"no step is known for {operation!r}: an operation without a stage joins no pass")
    assert isinstance(normalize.mean, tuple)
    assert isinstance(normalize.std, tuple)
    return Colours(codes, values, contrast, blur, sigma, normalize.mean, normalize.std)


def _count_steps(operation: Operation, all_raw: bool) -> int:
    """Count the steps of an operation; a jitter clamps first, unless all images have 8 bits."""
    if isinstance(operation, ColorJitter):
        return len(_CODES) + (not all_raw)
    return 0 if isinstance(operation, RandomGaussianBlur) else 1
