"""A view as passes over the pixels, for the engines that fuse operations.

A pass moves the pixels once (a crop and resize or a rotation, with any flips and quarter turns and one window),
then changes colours step by step, blurs once, and changes colours again. Nearly every view is one pass.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lightly_aug.operations import (
    JITTER_ORDERS,
    ColorJitter,
    Floats,
    GeometricOperation,
    Ints,
    KorniaModule,
    Normalize,
    Operation,
    RandomEqualize,
    RandomGaussianBlur,
    RandomGrayscale,
    RandomHorizontalFlip,
    RandomResizedCrop,
    RandomRotation,
    RandomRotation90,
    RandomSolarize,
    RandomVerticalFlip,
    Resize,
    Window,
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
    "Pass",
    "Program",
    "fuses",
    "passes",
]

NOTHING: Final = 0
CLAMP: Final = 1
BRIGHTNESS: Final = 2
CONTRAST: Final = 3
SATURATION: Final = 4
HUE: Final = 5
GRAYSCALE: Final = 6
SOLARIZE: Final = 7
NORMALIZE: Final = 8

_JITTER: Final = {"brightness": BRIGHTNESS, "contrast": CONTRAST, "saturation": SATURATION, "hue": HUE}
_ORDERS: Final = np.array([[_JITTER[part] for part in order] for order in JITTER_ORDERS], dtype=np.int32)

_Permutation = RandomHorizontalFlip | RandomVerticalFlip | RandomRotation90
_Resize = RandomResizedCrop | Resize


@dataclass(frozen=True)
class Pass:
    """Some consecutive operations of a view that can be done in one go, or some that the reference has to do.

    Attributes:
        operations: the operations.
        columns: where their numbers stand in a row of the view's draws.
        fused: whether they can be done in one go.
    """

    operations: tuple[Operation, ...]
    columns: slice
    fused: bool

    @property
    def keeps_values(self) -> bool:
        """Whether it only moves pixels, whole, and changes none."""
        return all(isinstance(operation, _Permutation | Window) for operation in self.operations)

    def program(
        self,
        pixels: Tensor,
        shapes: Ints,
        channels: int,
        drawn: npt.NDArray[np.float32],
        raw: bool,
        dtype: torch.dtype,
        memory_format: torch.memory_format,
    ) -> "Program":
        """What an engine needs in order to run this pass.

        Args:
            pixels: 1-D buffer of images.
            shapes: (n, 3) offset, height and width of each image in it.
            channels: the number of channels.
            drawn: (n, columns) the view's draws.
            raw: whether the values are those of uint8 images.
            dtype: of the result.
            memory_format: of the result.
        """
        moves, colours = _Moves(shapes[:, 1], shapes[:, 2]), _Colours(len(shapes), raw)
        used = self.columns.start
        for operation in self.operations:
            own = drawn[:, used : used + len(operation.columns)].astype(np.float64)
            used += len(operation.columns)
            if isinstance(operation, GeometricOperation):
                moves.add(operation, own)
            else:
                colours.add(operation, own)
        codes, values = colours.steps()
        return Program(
            pixels=pixels,
            offsets=shapes[:, 0],
            sources=shapes[:, 1:],
            channels=channels,
            dtype=dtype,
            memory_format=memory_format,
            sizes=moves.sizes(),
            move=moves.move,
            antialias=moves.antialias,
            clamp=raw and moves.move == "bicubic",
            boxes=moves.boxes,
            resized=moves.resized,
            maps=moves.maps(),
            codes=codes,
            values=values,
            contrast=colours.contrast,
            blur=codes.shape[1] if colours.blur is None else colours.blur,
            sigma=colours.sigma.astype(np.float32),
            mean=colours.mean,
            std=colours.std,
        )


@dataclass(frozen=True)
class Program:
    """One pass over n images, as numbers. A row of any array is one image's; the arrays lie on the CPU.

    A pixel (y, x) of the result comes from (v, u) = map (y, x, 1). If `move` is "rotate", that is a place among the
    pixels of the source, else it is a pixel of the `resized` image, which is the part `box` of the source, resized by
    `move`. Outside of it all is zero. Then follow the `codes` in order, with a blur in front of code number `blur`.

    Attributes:
        pixels: 1-D, uint8 or float32: the sources, on the device to render on.
        offsets: (n,) int64, where each begins.
        sources: (n, 2) int64, height and width of each; it is laid out (height, width, channels).
        channels: the number of channels.
        dtype: of the result.
        memory_format: of the result.
        sizes: (n, 2) int64 height and width of the results, all the same.
        move: "bilinear", "bicubic" or "rotate" (bilinear, zeros outside).
        antialias: whether the resize is antialiased.
        clamp: whether the resized values are clamped to [0, 1].
        boxes: (n, 4) int64 top, left, height and width in the source.
        resized: (n, 2) int64 height and width of the resized image.
        maps: (n, 2, 3) float64; of whole numbers, unless `move` is "rotate".
        codes: (n, steps) int32, NOTHING for what does not happen.
        values: (n, steps) float32, the factor or threshold of each.
        contrast: (n,) int64 place of CONTRAST among the codes, -1 for none. It stands in front of the blur.
        blur: the place of the blur among the codes.
        sigma: (n,) float32 of the blur in pixels, 0 for none.
        mean: what NORMALIZE subtracts: one number, or one for each channel.
        std: what it divides by, likewise.
    """

    pixels: Tensor
    offsets: Ints
    sources: Ints
    channels: int
    dtype: torch.dtype
    memory_format: torch.memory_format
    sizes: Ints
    move: Literal["bilinear", "bicubic", "rotate"]
    antialias: bool
    clamp: bool
    boxes: Ints
    resized: Ints
    maps: Floats
    codes: npt.NDArray[np.int32]
    values: npt.NDArray[np.float32]
    contrast: Ints
    blur: int
    sigma: npt.NDArray[np.float32]
    mean: tuple[float, ...]
    std: tuple[float, ...]


def fuses(operation: Operation) -> bool:
    """Whether an operation can be part of a pass; the others are the reference's."""
    match operation:
        case KorniaModule() | RandomEqualize():
            return False
        case ColorJitter():
            return operation.convention == "torchvision"
        case RandomGaussianBlur():
            return operation.border == "reflect"
        case _:
            return True


def passes(operations: tuple[Operation, ...], knows: Callable[[Operation], bool]) -> list[Pass]:
    """Cut a view's operations into as few passes as can be.

    Args:
        operations: of the view.
        knows: whether the engine knows an operation; the others become passes that are not fused.
    """
    found: list[Pass] = []
    own: list[Operation] = []
    start = used = 0
    for operation in operations:
        if own and not (knows(own[0]) and knows(operation) and _follows(operation, own)):
            found.append(Pass(tuple(own), slice(start, used), knows(own[0])))
            own, start = [], used
        own.append(operation)
        used += len(operation.columns)
    found.append(Pass(tuple(own), slice(start, used), not own or knows(own[0])))
    return found


def _follows(operation: Operation, own: list[Operation]) -> bool:
    """Whether an operation can be done in the same pass as these before it."""

    def after(*kinds: type) -> bool:
        return any(isinstance(o, kinds) for o in own)

    colours = ColorJitter, RandomGrayscale, RandomSolarize, Normalize, RandomGaussianBlur
    match operation:
        case RandomHorizontalFlip() | RandomVerticalFlip() | RandomRotation90():
            return True  # it makes no difference to a colour or a blur whether it comes before or after them
        case RandomResizedCrop() | Resize():
            return not after(RandomResizedCrop, Resize, Window, RandomRotation, *colours)
        case Window():
            return not after(Window, RandomRotation, *colours)  # which may pad what was turned out of the view
        case ColorJitter():
            return not after(ColorJitter, RandomGaussianBlur)
        case RandomGrayscale() | RandomSolarize():
            return True
        case RandomGaussianBlur() | Normalize():
            return not after(type(operation))
        case _:  # a rotation begins a pass
            return False


class _Colours:
    """All that changes colours in a pass, as steps, and its blur."""

    def __init__(self, n: int, raw: bool) -> None:
        self.raw = raw
        self.blur: int | None = None
        self.sigma = np.zeros(n)
        self.contrast = np.full(n, -1, dtype=np.int64)
        self.mean: tuple[float, ...] = (0.0,)
        self.std: tuple[float, ...] = (1.0,)
        self._codes = [np.zeros((n, 0), dtype=np.int32)]
        self._values = [np.zeros((n, 0), dtype=np.float32)]

    @property
    def count(self) -> int:
        return len(self._codes) - 1

    def add(self, operation: Operation, drawn: Floats) -> None:
        match operation:
            case ColorJitter():
                applied, order = drawn[:, 0] > 0, _ORDERS[drawn[:, 5].astype(np.int64)]
                if not self.raw:
                    self._step(applied, CLAMP)
                for code in order.T:
                    factor = np.take_along_axis(drawn, (code - BRIGHTNESS + 1)[:, None], 1)[:, 0]
                    happens = applied & (factor != np.where(code == HUE, 0, 1))
                    self.contrast[happens & (code == CONTRAST)] = self.count
                    self._step(happens, code, factor)
            case RandomGrayscale():
                self._step(drawn[:, 0] > 0, GRAYSCALE)
            case RandomSolarize():
                self._step(drawn[:, 0] > 0, SOLARIZE, drawn[:, 1])
            case Normalize():
                assert isinstance(operation.mean, tuple)
                assert isinstance(operation.std, tuple)
                self.mean, self.std = operation.mean, operation.std
                self._step(True, NORMALIZE)
            case RandomGaussianBlur():
                self.blur, self.sigma = self.count, drawn[:, 0]
            case _:
                raise TypeError(f"no fast engine knows {operation!r}")

    def _step(
        self, applied: npt.NDArray[np.bool_] | bool, code: npt.NDArray[np.int32] | int, value: Floats | float = 0.0
    ) -> None:
        n = len(self.sigma)
        self._codes.append(np.broadcast_to(np.where(applied, code, NOTHING), n)[:, None].astype(np.int32))
        self._values.append(np.broadcast_to(np.asarray(value, dtype=np.float32), n)[:, None])

    def steps(self) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
        return np.concatenate(self._codes, axis=1), np.concatenate(self._values, axis=1)


class _Moves:
    """All that moves pixels in a pass: a box, its new size, and what turns the resized image into the result."""

    def __init__(self, height: Ints, width: Ints) -> None:
        zeros = np.zeros_like(height)
        self.boxes = np.stack([zeros, zeros, height, width], axis=1)
        self.resized = np.stack([height, width], axis=1)
        self.move: Literal["bilinear", "bicubic", "rotate"] = "bilinear"
        self.antialias = True
        self.moves: list[tuple[GeometricOperation, Floats]] = []  # after the resize

    def _walk(self) -> tuple[Ints, Ints, Floats]:
        """Heights and widths of the result, and the matrices from the resized image to it."""
        height, width = self.resized.T
        total = np.broadcast_to(np.eye(3), (len(height), 3, 3))
        for operation, drawn in self.moves:
            total = operation.matrix(height, width, drawn) @ total
            height, width = operation.output_size(height, width, drawn)
        return height, width, total

    def add(self, operation: GeometricOperation, drawn: Floats) -> None:
        if not isinstance(operation, _Resize):
            if isinstance(operation, RandomRotation):
                self.move = "rotate"
            self.moves.append((operation, drawn))
            return
        # what was flipped and turned before is cropped and resized as it lies in the source, and turned after that
        height, width, total = self._walk()
        size = np.stack(operation.output_size(height, width, drawn), axis=1)
        whole = np.zeros_like(height), np.zeros_like(width), height, width
        top, left, h, w = drawn.astype(np.int64).T if isinstance(operation, RandomResizedCrop) else whole
        corners = np.stack([[left, top, np.ones_like(top)], [left + w - 1, top + h - 1, np.ones_like(top)]], axis=-1)
        x, y, _ = np.rint(np.linalg.inv(total) @ corners.transpose(1, 0, 2)).astype(np.int64).transpose(1, 0, 2)
        turned = np.abs(total[:, 0, 1]) > 0.5
        h, w = np.where(turned, (w, h), (h, w))
        self.boxes = np.stack([y.min(axis=1), x.min(axis=1), h, w], axis=1)
        self.resized = np.where(turned[:, None], size[:, ::-1], size)
        self.move, self.antialias = operation.interpolation, operation.antialias

    def sizes(self) -> Ints:
        return np.stack(self._walk()[:2], axis=1)

    def maps(self) -> Floats:
        back: Floats = np.linalg.inv(self._walk()[2]).astype(np.float64)
        back = back if self.move == "rotate" else np.rint(back)
        return back[:, 1::-1][:, :, [1, 0, 2]]  # from (x, y, 1) to (y, x, 1)
