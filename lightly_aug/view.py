"""The view: what happens to an image, in order."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from lightly_aug._html import describe_operations, head
from lightly_aug.invariances import Color, Shape, Texture
from lightly_aug.operations import (
    Floats,
    Ints,
    KorniaModule,
    Normalize,
    Operation,
    RandomResizedCrop,
    RandomRotation90,
    Resize,
    Window,
    walk,
)

__all__ = ["Shared", "View", "describe_views"]

_ROUNDING: Final = 1e-6
"""Pixels by which a point on the border of an image may be outside."""

Item = Shape | Texture | Color | Operation | nn.Module


class Shared:
    """Items that use the same random numbers in every view of a collate function in which this name occurs.

    Image by image they use the numbers of the first view with that name. So a shared flip happens in all of these
    views or in none, while everything else stays independent. Items of one name must consume the same number of random
    numbers in every view, and should follow the same operations, since a crop depends on the size of its input.

    Args:
        name: The name that the views have in common.
        *items: As in `View`.

    Raises:
        TypeError: An item that a view does not take, or a name that is not a string.
        ValueError: There are no items.

    Example:
        >>> from lightly_aug import RandomGrayscale, RandomHorizontalFlip
        >>> View(Shared("flip", RandomHorizontalFlip()), RandomGrayscale())
        View(Shared('flip', RandomHorizontalFlip(p=0.5)) → RandomGrayscale(p=0.1))
    """

    def __init__(self, name: str, *items: Item) -> None:
        if not isinstance(name, str):
            raise TypeError(f"Shared: name, the first argument, must be a string, got {name!r}")
        if not items:
            raise ValueError(f"Shared: {name!r} has no items, give some after the name")
        self.name = name
        self.operations = tuple(operation for item in items for operation in _operations(item))

    @property
    def uniforms(self) -> int:
        """How many uniform numbers of one image's draw are shared."""
        return sum(operation.uniforms for operation in self.operations)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Shared) and (self.name, self.operations) == (other.name, other.operations)

    def __hash__(self) -> int:
        return hash((self.name, self.operations))

    def __repr__(self) -> str:
        return f"Shared({', '.join(map(repr, (self.name, *self.operations)))})"


class View:
    """One view of an image: invariances and operations, in order.

    Args:
        items: `Shape`, `Texture`, `Color`, single operations, and modules of `kornia.augmentation`, which run
            unchanged at their place in the order (they must keep the size of the image); any of them `Shared`. None is
            skipped.
        dtype: Floating dtype of the view.

    Attributes:
        items: All items as operations, some of them `Shared`; a `View` of them equals this one.
        operations: All items as operations.
        columns: Names of the numbers that describe one view of one image.
        uniforms: How many uniform numbers one image's draw takes.
        shared: For each `Shared` its name and which of the uniform numbers it has in common with other views.
        dtype: Floating dtype of the view.

    Raises:
        TypeError: An item is none of the above.
        ValueError: Items that do not go together.

    Example:
        >>> View(Shape(96, hflip=0), Color(jitter=0), Normalize(0.5, 0.5))
        View(RandomResizedCrop(size=(96, 96), scale=(0.08, 1.0), ratio=(0.75, 1.3333333333333333), \
interpolation='bilinear', antialias=True) → RandomGrayscale(p=0.2) → Normalize(mean=(0.5,), std=(0.5,)))
    """

    def __init__(self, *items: Item | Shared | None, dtype: torch.dtype = torch.float32) -> None:
        self.items: tuple[Operation | Shared, ...] = tuple(
            step
            for item in items
            if item is not None
            for step in ((item,) if isinstance(item, Shared) else _operations(item))
        )
        self.operations = tuple(
            operation for step in self.items for operation in (step.operations if isinstance(step, Shared) else (step,))
        )
        if not dtype.is_floating_point:
            raise ValueError(f"View: dtype must be a floating dtype, got {dtype}")
        self.dtype = dtype
        self.uniforms = sum(operation.uniforms for operation in self.operations)
        self.columns = _name_columns(self.operations)
        self.shared = self._find_shared()
        self._check_order()

    def _find_shared(self) -> tuple[tuple[str, range], ...]:
        found, used = dict[str, range](), 0
        for step in self.items:
            if isinstance(step, Shared):
                if step.name in found:
                    raise ValueError(f"View: {step.name!r} is shared twice in one view, give one of them another name")
                found[step.name] = range(used, used + step.uniforms)
            used += step.uniforms
        return tuple(found.items())

    def _check_order(self) -> None:
        normalized: Operation | None = None
        size: int | tuple[int, int] | None = None
        turned = False
        for operation in self.operations:
            if normalized and operation.needs_unit_range:
                raise ValueError(f"View: {operation!r} works on values in [0, 1], move it in front of {normalized!r}")
            if isinstance(operation, Normalize):
                normalized = operation
            if isinstance(operation, RandomResizedCrop | Resize | Window):
                size, turned = operation.size, False
            turned = turned or isinstance(operation, RandomRotation90)
        if turned and isinstance(size, tuple) and size[0] != size[1]:
            raise ValueError(f"View: RandomRotation90 turns a view of {size[0]}x{size[1]} on its side, make it square")

    @property
    def needs_unit_range(self) -> bool:
        """Whether the view has no meaning for pixel values outside [0, 1]."""
        return any(operation.needs_unit_range for operation in self.operations)

    def draw(self, u: Floats, height: Ints, width: Ints) -> tuple[Floats, Ints, Ints]:
        """Turn uniform numbers into draws.

        Args:
            u: `(n, uniforms)` in [0, 1).
            height: `(n,)` heights of the images, in pixels.
            width: `(n,)` widths.

        Returns:
            `(n, len(columns))` numbers, and the `(n,)` heights and widths of the views.

        Raises:
            ValueError: An operation draws anything but numbers for each image and column.
        """
        drawn, used = [u[:, :0]], 0
        for operation in self.operations:
            own = operation.draw(u[:, used : used + operation.uniforms], height, width)
            _check_array(f"{type(operation).__name__}: draw", own, (len(u), len(operation.columns)))
            drawn.append(own)
            used += operation.uniforms
            height, width = operation.output_size(height, width, own)
        return np.concatenate(drawn, axis=1), height, width

    def matrix(self, drawn: Floats, height: Ints, width: Ints) -> Floats:
        """Compute the `(n, 3, 3)` matrices from (x, y, 1) in the image to (x, y, 1) in the view.

        Pixel centres are at integers.

        Args:
            drawn: `(n, len(columns))`.
            height: `(n,)` heights of the images, in pixels.
            width: `(n,)` widths.

        Raises:
            ValueError: A geometric module of Kornia, or a function that may move pixels, is in the view: it draws only
                when the view is rendered.
        """
        total = np.broadcast_to(np.eye(3), (len(drawn), 3, 3))
        for operation, own in walk(self.operations, drawn):
            total = _find_matrix(operation, height, width, own) @ total
            height, width = operation.output_size(height, width, own)
        return total

    def transform_points(
        self, points: Floats, drawn: Floats, height: Ints, width: Ints
    ) -> tuple[Floats, npt.NDArray[np.bool_]]:
        """Find where points of n images are in the view, and which of them it shows.

        Args:
            points: `(n, k, 2)`, (x, y) in the image, with pixel centres at integers.
            drawn: `(n, len(columns))`.
            height: `(n,)` heights of the images, in pixels.
            width: `(n,)` widths.

        Returns:
            `(n, k, 2)`, (x, y) in the view, also of points outside of it; and `(n, k)`, whether a point is inside the
            image and stays inside after each operation, so that no operation cuts it off.

        Raises:
            ValueError: As `matrix`.
        """
        places = np.concatenate([points, np.ones_like(points[..., :1])], axis=2)
        shown = _are_inside(places, height, width)
        for operation, own in walk(self.operations, drawn):
            with np.errstate(divide="ignore", invalid="ignore"):  # what is on the horizon becomes infinite
                places = places @ _find_matrix(operation, height, width, own).swapaxes(1, 2)
                shown &= places[..., 2] > 0  # 1, unless an operation of a user changes the perspective
                places /= places[..., 2:]
            height, width = operation.output_size(height, width, own)
            shown &= _are_inside(places, height, width)
        return places[..., :2], shown

    def without_normalize(self) -> "View":
        """Return the same view, not normalised; it has the same draws."""
        items = list[Operation | Shared]()
        for item in self.items:
            if isinstance(item, Shared):
                rest = [operation for operation in item.operations if not isinstance(operation, Normalize)]
                items += [Shared(item.name, *rest)] if rest else []
            elif not isinstance(item, Normalize):
                items.append(item)
        return View(*items, dtype=self.dtype)

    def captions(self, drawn: Floats) -> list[list[str]]:
        """Describe what was drawn for each of n images: a few words for each operation that changes the image.

        Args:
            drawn: `(n, len(columns))`.
        """
        rows: list[list[str]] = [[] for _ in drawn]
        for operation, own in walk(self.operations, drawn):
            for words, numbers in zip(rows, own.tolist(), strict=True):
                words.extend(filter(None, [operation.caption(numbers)]))
        return rows

    def __eq__(self, other: object) -> bool:
        return isinstance(other, View) and (self.items, self.dtype) == (other.items, other.dtype)

    def __hash__(self) -> int:
        return hash((self.items, self.dtype))

    def __repr__(self) -> str:
        steps = " → ".join(map(repr, self.items))
        dtype = "" if self.dtype == torch.float32 else f"{', ' * bool(steps)}dtype={self.dtype}"
        return f"View({steps}{dtype})"

    def _repr_html_(self) -> str:
        count = len(self.operations)
        return head(f"View of {count} operation{'s' * (count != 1)}, {self.dtype}") + _describe(self, "")


def describe_views(views: Sequence[View]) -> str:
    """Return the recipe of each view as an HTML table; equal views share one.

    Args:
        views: The views.
    """
    numbers = dict[View, list[int]]()
    for i, view in enumerate(views):
        numbers.setdefault(view, []).append(i)
    titles = [f"view{'s' * (len(own) > 1)} {', '.join(map(str, own))}" for own in numbers.values()]
    return "".join(map(_describe, numbers, titles))


def _find_matrix(operation: Operation, height: Ints, width: Ints, drawn: Floats) -> Floats:
    matrices = operation.matrix(height, width, drawn)
    _check_array(f"{type(operation).__name__}: matrix", matrices, (len(drawn), 3, 3))
    return matrices


def _check_array(name: str, array: object, shape: tuple[int, ...]) -> None:
    """Raise ValueError if what an operation, which may be a user's, returned is not numbers of this shape."""
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
        kind = f"one of {array.dtype}" if isinstance(array, np.ndarray) else f"a {type(array).__name__}"
        raise ValueError(f"{name} must return a NumPy array of numbers, {shape} for {shape[0]} images, got {kind}")
    if array.shape != shape:
        raise ValueError(f"{name} must return {shape} numbers for {shape[0]} images, got {array.shape}")


def _are_inside(places: Floats, height: Ints, width: Ints) -> npt.NDArray[np.bool_]:
    """Whether places `(n, k, 3)` are inside images of these sizes, which end half a pixel beyond their outer pixels."""
    x, y, _ = np.moveaxis(places, 2, 0)
    inside: npt.NDArray[np.bool_] = (
        (y <= height[:, None] - 0.5 + _ROUNDING)
        & (np.minimum(x, y) >= -0.5 - _ROUNDING)
        & (x <= width[:, None] - 0.5 + _ROUNDING)
    )
    return inside


def _describe(view: View, title: str) -> str:
    rows = list[tuple[Operation, str]]()
    for item in view.items:
        rows += [(o, f"shared: {item.name}") for o in item.operations] if isinstance(item, Shared) else [(item, "")]
    return describe_operations(rows, title)


def _name_columns(operations: tuple[Operation, ...]) -> tuple[str, ...]:
    """Name the columns of a view `Operation.column`, and those of the second of its kind `Operation_2.column`."""
    seen: Counter[str] = Counter()
    names = []
    for operation in operations:
        kind = type(operation).__name__
        seen[kind] += 1
        number = f"_{seen[kind]}" if seen[kind] > 1 else ""
        names += [f"{kind}{number}.{column}" for column in operation.columns]
    return tuple(names)


def _operations(item: object) -> tuple[Operation, ...]:
    if isinstance(item, Shape | Texture | Color):
        return item.operations
    if isinstance(item, Operation):
        try:
            hash(item)
        except TypeError as error:
            raise TypeError(
                f"View: {item!r} cannot be hashed ({error}): make it a frozen dataclass of tuples"
            ) from None
        return (item,)
    if isinstance(item, nn.Module) and any(c.__module__.startswith("kornia.augmentation.") for c in type(item).__mro__):
        return (KorniaModule(item),)
    if isinstance(item, Mapping) and {"mean", "std"} <= item.keys():
        raise TypeError(f"View: got {item!r} to normalise, write Normalize(mean={item['mean']}, std={item['std']})")
    raise TypeError(
        f"View: got {type(item).__module__}.{type(item).__qualname__}, wants Shape, Texture, Color, Shared, "
        "an Operation or a module of kornia.augmentation; other functions and modules go in PerImage or Batched"
    )
