"""The program: one pass over n images as numbers, which is all that a fast engine sees."""

from collections.abc import Sequence
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
_ORDERS: Final = np.array([[[*_JITTER].index(part) for part in order] for order in JITTER_ORDERS])


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
        clamp: Whether the resized values are clamped to [0, 1].
        boxes: `(n, 4)` int64 top, left, height and width in the source.
        resized: `(n, 2)` int64 height and width of the resized image.
        maps: `(n, 2, 3)` float64; whole numbers, unless `kind` is "rotate".
        sizes: `(n, 2)` int64 height and width of the results, all the same.
    """

    kind: Literal["bilinear", "bicubic", "rotate"]
    antialias: bool
    clamp: bool
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
        return [
            Program(
                images.select(i, i + n),
                move._replace(
                    **{name: getattr(move, name)[i : i + n] for name in ("boxes", "resized", "maps", "sizes")}
                ),
                colours._replace(
                    **{name: getattr(colours, name)[i : i + n] for name in ("codes", "values", "contrast", "sigma")}
                ),
                output,
            )
            for i in range(0, n * views, n or 1)
        ]


def lower_move(images: PackedImages, moves: Sequence[tuple[Operation, Floats]]) -> Move:
    """Turn operations that move pixels, each with its draws `(n, columns)`, into one move."""
    _, height, width = images.shapes.numpy().T
    zeros = np.zeros_like(height)
    boxes = np.stack([zeros, zeros, height, width], axis=1)
    resized = np.stack([height, width], axis=1)
    kind: Literal["bilinear", "bicubic", "rotate"] = "bilinear"
    antialias = True
    turns: list[tuple[Operation, Floats]] = []  # what moves pixels after the resize
    for operation, drawn in moves:
        if isinstance(operation, RandomResizedCrop | Resize):
            # flips and turns before the crop: crop and resize the source, then flip and turn the result
            height, width, total = _follow(resized, turns)
            size = np.stack(operation.output_size(height, width, drawn), axis=1)
            whole = np.stack([zeros, zeros, height, width], axis=1)
            boxes = drawn.astype(np.int64) if isinstance(operation, RandomResizedCrop) else whole
            resized = size
            if turns:
                boxes, turned = _unturn(boxes, total)
                resized = np.where(turned[:, None], size[:, ::-1], size)
            kind, antialias = operation.interpolation, operation.antialias
            continue
        if isinstance(operation, RandomRotation):
            kind = "rotate"
        turns.append((operation, drawn))
    height, width, total = _follow(resized, turns)
    back = _invert(total)
    back = back if kind == "rotate" else np.rint(back)
    maps = np.ascontiguousarray(back[:, ::-1, [1, 0, 2]])  # from (x, y, 1) to (y, x, 1)
    clamp = images.raw and kind == "bicubic"
    return Move(kind, antialias, clamp, boxes, resized, maps, np.stack([height, width], axis=1))


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
    inverse: Floats = np.array([[d, -b, b * y - d * x], [-c, a, c * x - a * y]]) / (a * d - b * c)
    return inverse.transpose(2, 0, 1)


def _unturn(boxes: Ints, total: Floats) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """Find the boxes in the source of boxes in the turned images, and which images lie on their side."""
    top, left, h, w = boxes.T
    corners = np.stack([[left, top, np.ones_like(top)], [left + w - 1, top + h - 1, np.ones_like(top)]], axis=-1)
    x, y = np.rint(_invert(total) @ corners.transpose(1, 0, 2)).astype(np.int64).transpose(1, 0, 2)
    turned = np.abs(total[:, 0, 1]) > 0.5
    h, w = np.where(turned, (w, h), (h, w))
    return np.stack([y.min(axis=1), x.min(axis=1), h, w], axis=1), turned


def lower_colours(images: PackedImages, operations: Sequence[tuple[Operation, Floats]]) -> Colours:
    """Turn operations that change values, each with its draws `(n, columns)`, into steps."""
    n = len(images)
    codes, values = list[npt.NDArray[np.int32]](), list[npt.NDArray[np.float32]]()
    contrast = np.full(n, -1, dtype=np.int64)
    blur, sigma = None, np.zeros(n, dtype=np.float32)
    normalize = Normalize(0.0, 1.0)

    def step(
        applied: npt.NDArray[np.bool_] | bool, code: npt.NDArray[np.int32] | int, value: Floats | float = 0.0
    ) -> None:
        codes.append(np.broadcast_to(np.where(applied, code, NOTHING), n).astype(np.int32))
        values.append(np.broadcast_to(np.asarray(value, dtype=np.float32), n))

    for operation, drawn in operations:
        match operation:
            case ColorJitter():
                applied, order = drawn[:, 0] > 0, _ORDERS[drawn[:, 5].astype(np.int64)]
                if not images.raw:
                    step(applied, CLAMP)
                code, factor = _CODES[order], np.take_along_axis(drawn[:, 1:5], order, axis=1)  # (n, 4)
                code = np.where(applied[:, None] & (factor != np.where(code == HUE, 0, 1)), code, NOTHING)
                found = code == CONTRAST
                contrast = np.where(found.any(axis=1), len(codes) + found.argmax(axis=1), contrast)
                codes.extend(code.astype(np.int32).T)
                values.extend(factor.astype(np.float32).T)
            case RandomGrayscale():
                step(drawn[:, 0] > 0, GRAYSCALE)
            case RandomSolarize():
                step(drawn[:, 0] > 0, SOLARIZE, drawn[:, 1])
            case Normalize():
                normalize = operation
                step(True, NORMALIZE)
            case RandomGaussianBlur():
                blur, sigma = len(codes), drawn[:, 0].astype(np.float32)
            case _:
                raise TypeError(f"no step is known for {operation!r}: an operation without a stage joins no pass")
    assert isinstance(normalize.mean, tuple)
    assert isinstance(normalize.std, tuple)
    return Colours(
        np.stack(codes, axis=1) if codes else np.zeros((n, 0), dtype=np.int32),
        np.stack(values, axis=1) if values else np.zeros((n, 0), dtype=np.float32),
        contrast,
        len(codes) if blur is None else blur,
        sigma,
        normalize.mean,
        normalize.std,
    )
