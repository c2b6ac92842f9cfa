"""The operation: the base class of all augmentations, and what several of them share."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["Operation", "affine", "bernoulli", "between", "change_where", "check_draws", "to_device", "to_unit", "walk"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Interpolation = Literal["bilinear", "bicubic"]
Convention = Literal["torchvision", "tensorflow"]
Border = Literal["reflect", "zeros"]
Numbers = TypeVar("Numbers", npt.NDArray[Any], Tensor)


class Operation(ABC):
    """One augmentation. Subclass it for an operation of your own, as a frozen dataclass of ranges and probabilities.

    An operation holds no state. `draw` turns uniform random numbers into the numbers that describe what happens to
    each image, one row of `columns` an image; `apply` does it. A subclass implements both. If it moves pixels it also
    overrides `matrix` and, if the size changes, `output_size`; these let later operations, `Views.matrices` and
    the fast engines know where pixels are. The fast engines leave an operation that they do not know to `apply` and
    render the rest of the view themselves.

    Attributes:
        columns: Names of the numbers that `draw` returns.
        uniforms: How many uniform numbers `draw` takes for each image.
        takes_uint8: Whether `apply` takes uint8 images as they are; by default it gets floats in [0, 1].

    Raises:
        TypeError: A subclass overrides `output_size` without `matrix`.

    Example:
        >>> from dataclasses import dataclass
        >>> import torch
        >>> from lightly_aug import MultiViewCollateFunction, Shape, View
        >>> @dataclass(frozen=True)
        ... class RandomGamma(Operation):
        ...     low: float = 0.5
        ...     high: float = 2.0
        ...     columns = ("gamma",)
        ...     uniforms = 1
        ...
        ...     def draw(self, u, height, width):
        ...         return self.low + u * (self.high - self.low)
        ...
        ...     def apply(self, images, drawn):
        ...         return images ** drawn.to(images.device).view(-1, 1, 1, 1)
        >>> collate = MultiViewCollateFunction([View(Shape(8), RandomGamma())], seed=0)
        >>> views = collate([torch.rand(3, 9, 9)])
        >>> views.draws[0]["RandomGamma.gamma"]
        tensor([1.4246])
    """

    columns: ClassVar[tuple[str, ...]] = ()
    uniforms: ClassVar[int] = 0
    takes_uint8: ClassVar[bool] = False

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "output_size" in vars(cls) and "matrix" not in vars(cls):
            raise TypeError(f"{cls.__name__} overrides output_size: override matrix, too, as its pixels move")

    @property
    def needs_unit_range(self) -> bool:
        """Whether the operation has no meaning for pixel values outside [0, 1]."""
        return False

    @property
    def channels(self) -> tuple[int, ...] | None:
        """The numbers of channels that the operation is defined for, None for any."""
        return None

    @abstractmethod
    def draw(self, u: Floats, height: Ints, width: Ints) -> Floats:
        """Turn uniform numbers into the numbers that describe what happens to each image.

        Args:
            u: `(n, uniforms)` in [0, 1), a row for each image. Spend them whether or not the operation happens, so
                that no draw depends on another.
            height: `(n,)` heights of the images, in pixels.
            width: `(n,)` widths.

        Returns:
            `(n, len(columns))` numbers; float32 must hold them.
        """

    @abstractmethod
    def apply(self, images: Tensor, drawn: Tensor) -> Tensor:
        """Apply the operation.

        Args:
            images: `(n, c, h, w)` on the device to render on, floats in [0, 1], or uint8 if `takes_uint8`. Images of
                different sizes come one by one.
            drawn: `(n, len(columns))` in the precision to compute in. It is on the CPU, in pinned memory if the images
                are on a GPU, so it can be read, and be moved with `non_blocking=True`, without waiting for the device.

        Returns:
            `(n, c, h', w')`, with the size that `output_size` gives. `images` must not be overwritten.
        """

    def output_size(self, height: Ints, width: Ints, drawn: Floats) -> tuple[Ints, Ints]:
        """Return the heights and widths of n images after the operation, by default as before.

        Args:
            height: `(n,)` heights before it, in pixels.
            width: `(n,)` widths before it.
            drawn: `(n, len(columns))`.
        """
        return height, width

    def matrix(self, height: Ints, width: Ints, drawn: Floats) -> Floats:
        """Return `(n, 3, 3)` matrices from (x, y, 1) before the operation to (x, y, 1) after it, by default identities.

        Pixel centres are at integers.

        Args:
            height: `(n,)` heights before it, in pixels.
            width: `(n,)` widths before it.
            drawn: `(n, len(columns))`.

        Raises:
            ValueError: The operation moves pixels and does not know where until it is applied.
        """
        return np.broadcast_to(np.eye(3), (len(drawn), 3, 3))

    def caption(self, drawn: Sequence[float]) -> str:
        """Describe in a word or two what was drawn for one image; empty if nothing happens.

        Args:
            drawn: The image's `len(columns)` numbers.
        """
        return ""


def walk(operations: Iterable[Operation], drawn: Numbers, start: int = 0) -> Iterator[tuple[Operation, Numbers]]:
    """Yield each operation with its own columns of `drawn`.

    Args:
        operations: Consecutive operations of a view.
        drawn: `(n, columns)`, the draws of the view.
        start: The first column of the first operation.
    """
    for operation in operations:
        stop = start + len(operation.columns)
        yield operation, drawn[:, start:stop]
        start = stop


def check_draws(operations: Iterable[Operation], drawn: Floats, n: int) -> None:
    """Raise ValueError for draws that are not finite, which draws by hand may be.

    Args:
        operations: Consecutive operations of a view.
        drawn: `(views * n, columns)`, their draws for one or several views of n images.
        n: The number of images.
    """
    if np.isfinite(drawn).all():
        return
    for operation, own in walk(operations, drawn):
        for row, column in np.argwhere(~np.isfinite(own)):
            raise ValueError(
                f"{type(operation).__name__}: {operation.columns[column]} of image {row % n} of the batch must be "
                f"finite, got {own[row, column]}"
            )


# --- draws ------------------------------------------------------------------------------------------------------


def bernoulli(u: Floats, p: float) -> Floats:
    """Return `(n, 1)` ones with probability p, else zeros, from the first column of `u`."""
    return (u[:, :1] < p).astype(np.float64)


def between(u: Floats, interval: tuple[float, float]) -> Floats:
    """Scale numbers in [0, 1) to an interval (low, high)."""
    low, high = interval
    return low + u * (high - low)


def affine(*six: Floats | Ints | float) -> Floats:
    """Build `(n, 3, 3)` matrices from the six numbers of their two upper rows, each `(n,)` or one for all."""
    matrices = np.zeros((np.broadcast(*six).size, 9))
    for i, numbers in enumerate(six):
        matrices[:, i] = numbers
    matrices[:, 8] = 1
    return matrices.reshape(-1, 3, 3)


# --- pixels -----------------------------------------------------------------------------------------------------


def to_unit(images: Tensor, precision: torch.dtype) -> Tensor:
    """Convert to a floating dtype: uint8 values divided by 255, floats as they are."""
    return images.to(precision) / 255 if images.dtype == torch.uint8 else images.to(precision)


def to_device(small: Tensor, like: Tensor) -> Tensor:
    """Move a small tensor from the CPU to the device of another one without waiting for that device."""
    if like.device.type == "cuda" and not small.is_pinned():
        small = small.pin_memory()
    return small.to(like.device, non_blocking=True)


def change_where(
    mask: Tensor, images: Tensor, change: Callable[[Tensor, Tensor], Tensor], drawn: Tensor | None = None
) -> Tensor:
    """Change only some images.

    Args:
        mask: `(n,)` bool on the CPU: which images.
        images: `(n, c, h, w)`; overwritten if only some of them change, which is safe in `apply`: n images were copied
            together, a single one changes as a whole.
        change: Maps these images and their rows of `drawn`, moved to the images' device, to images of the same size.
        drawn: `(n, columns)` on the CPU; None gives `change` the mask.
    """
    drawn = mask[:, None] if drawn is None else drawn
    if not mask.any():
        return images
    if mask.all():
        return change(images, to_device(drawn, images))
    rows = mask.nonzero()[:, 0]
    chosen = to_device(rows, images)
    images[chosen] = change(images[chosen], to_device(drawn[rows], images))
    return images
