"""The plan of a view: its operations cut into passes over the pixels, for the engines that fuse operations.

A pass moves the pixels once (a crop and resize or a rotation, with any flips and quarter turns and one window),
then changes colours step by step, blurs once, and changes colours again. Nearly every view is one pass.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from functools import cached_property, lru_cache
from typing import Final

import numpy as np

from lightly_aug.engines.program import Output, Program, lower_colours, lower_move
from lightly_aug.images import PackedImages
from lightly_aug.operations import (
    CenterCrop,
    ColorJitter,
    Crop,
    Floats,
    Ints,
    Normalize,
    Operation,
    RandomGaussianBlur,
    RandomGrayscale,
    RandomHorizontalFlip,
    RandomJigsawPatch,
    RandomResizedCrop,
    RandomRotation,
    RandomRotation90,
    RandomSolarize,
    RandomVerticalFlip,
    Resize,
    walk,
)
from lightly_aug.operations.base import check_draws

__all__ = ["Pass", "Plan", "Stage", "find_stage", "plan_passes"]


class Stage(Enum):
    """What an operation is in a pass."""

    PERMUTE = auto()
    RESIZE = auto()
    WINDOW = auto()
    ROTATE = auto()
    JITTER = auto()
    COLOUR = auto()
    BLUR = auto()
    NORMALIZE = auto()


_STAGES: Final[dict[type[Operation], Stage]] = {
    RandomHorizontalFlip: Stage.PERMUTE,
    RandomVerticalFlip: Stage.PERMUTE,
    RandomRotation90: Stage.PERMUTE,
    RandomResizedCrop: Stage.RESIZE,
    Resize: Stage.RESIZE,
    CenterCrop: Stage.WINDOW,
    Crop: Stage.WINDOW,
    RandomJigsawPatch: Stage.WINDOW,
    RandomRotation: Stage.ROTATE,
    ColorJitter: Stage.JITTER,
    RandomGrayscale: Stage.COLOUR,
    RandomSolarize: Stage.COLOUR,
    RandomGaussianBlur: Stage.BLUR,
    Normalize: Stage.NORMALIZE,
}

_EVERY: Final = frozenset(Stage)
_JOINS: Final[dict[Stage, frozenset[Stage]]] = {  # the stages that may come before it in one pass
    Stage.PERMUTE: _EVERY,  # flips and quarter turns commute with colours and blur
    Stage.RESIZE: frozenset({Stage.PERMUTE}),
    Stage.WINDOW: frozenset({Stage.PERMUTE, Stage.RESIZE}),
    Stage.ROTATE: frozenset(),
    Stage.JITTER: _EVERY - {Stage.JITTER, Stage.BLUR},
    Stage.COLOUR: _EVERY,
    Stage.BLUR: _EVERY - {Stage.BLUR},
    Stage.NORMALIZE: _EVERY - {Stage.NORMALIZE},
}


def find_stage(operation: Operation) -> Stage | None:
    """Find the stage of an operation; None leaves the operation to the reference engine.

    An operation has a stage only if it is listed here by its very type: a subclass may do anything.

    Args:
        operation: Any operation, also one of a user.
    """
    if isinstance(operation, ColorJitter) and operation.convention != "torchvision":
        return None
    if isinstance(operation, RandomGaussianBlur) and operation.border != "reflect":
        return None
    return _STAGES.get(type(operation))


@dataclass(frozen=True)
class Pass:
    """Consecutive operations of a view that can be done in one go, or one that the reference engine does.

    Attributes:
        operations: The operations.
        columns: Where their numbers are in a row of the view's draws.
        fused: Whether a fast engine does them.
    """

    operations: tuple[Operation, ...]
    columns: slice
    fused: bool

    @property
    def keeps_values(self) -> bool:
        """Whether it only moves whole pixels."""
        return all(find_stage(operation) in (Stage.PERMUTE, Stage.WINDOW) for operation in self.operations)

    @cached_property
    def _moves_pixels(self) -> tuple[bool, ...]:
        return tuple(find_stage(operation) in _MOVES for operation in self.operations)

    def output_sizes(self, height: Ints, width: Ints, drawn: Floats) -> tuple[Ints, Ints]:
        """Compute the heights and widths after the pass from those before it and the view's draws `(n, columns)`."""
        for operation, own in walk(self.operations, drawn, self.columns.start):
            height, width = operation.output_size(height, width, own)
        return height, width

    def lower(self, images: PackedImages, drawn: Floats, output: Output, views: int = 1) -> Program:
        """Turn the pass into numbers.

        Args:
            images: The images of a view.
            drawn: `(views * n, columns)`, the draws of the views, one behind the other.
            output: What is wanted.
            views: How many views have this pass.

        Raises:
            ValueError: Draws are not finite, or a box is not inside its image.
        """
        check_draws(self.operations, drawn[:, self.columns], len(images))
        images = images.repeat(views)
        moves: list[tuple[Operation, Floats]] = []
        colours: list[tuple[Operation, Floats]] = []
        for own, moves_pixels in zip(walk(self.operations, drawn, self.columns.start), self._moves_pixels, strict=True):
            (moves if moves_pixels else colours).append(own)
        move = lower_move(images, moves)
        return Program(images, move, lower_colours(images, move, colours), output, views)


@dataclass(frozen=True, repr=False)
class Plan:
    """Which operations the fast engines fuse, and which the reference engine does, on Kornia and torch.

    Attributes:
        views: For each view its passes.
    """

    views: tuple[tuple[Pass, ...], ...]

    @property
    def slow(self) -> tuple[Operation, ...]:
        """The operations that the reference engine does."""
        passes = (part for view in self.views for part in view if not part.fused)
        return tuple(dict.fromkeys(operation for part in passes for operation in part.operations))

    @property
    def slow_names(self) -> str:
        """Their names, separated by commas."""
        return _name(self.slow)

    def __repr__(self) -> str:
        lines = [f"Plan of {len(self.views)} view{'s' * (len(self.views) != 1)}"]
        for i, passes in enumerate(self.views):
            own = [str(j) for j, other in enumerate(self.views) if other == passes]
            if own[0] != str(i):
                continue
            lines.append(f"  view{'s' * (len(own) > 1)} {', '.join(own)}: {len(passes)} pass{'es' * (len(passes) > 1)}")
            for part in passes:
                lines.append(f"    {'fused' if part.fused else 'reference'}: {_name(part.operations)}")
            if _keeps_sizes_apart(passes):
                lines.append("    images of several sizes in one batch: all by the reference")
        return "\n".join(lines)


def _name(operations: Iterable[Operation]) -> str:
    """Return the names of operations, those of Kornia's modules by their module."""
    return ", ".join(repr(operation).split("(")[0] for operation in operations)


def _keeps_sizes_apart(passes: Sequence[Pass]) -> bool:
    """Whether images of different sizes can still differ in size between two passes."""
    height, width = np.array([40, 60]), np.array([70, 50])
    for part in passes[:-1]:
        height, width = part.output_sizes(height, width, np.zeros((2, part.columns.stop)))
        if height[0] != height[1] or width[0] != width[1]:
            return True
    return False


_MOVES: Final = (Stage.PERMUTE, Stage.RESIZE, Stage.WINDOW, Stage.ROTATE)


@lru_cache(256)
def plan_passes(operations: tuple[Operation, ...], knows: Callable[[Operation], bool] | None) -> tuple[Pass, ...]:
    """Cut a view's operations into as few passes as possible.

    Args:
        operations: The view's.
        knows: Whether the engine knows an operation; the reference does the others. None: it does all, in one pass.
    """
    if knows is None:
        return (_join(operations, 0, fused=False),)
    found: list[Pass] = []
    own: list[Operation] = []
    start = 0
    for operation in operations:
        if own and not (knows(own[0]) and knows(operation) and _may_join(operation, own)):
            found.append(_join(own, start, fused=knows(own[0])))
            own, start = [], found[-1].columns.stop
        own.append(operation)
    found.append(_join(own, start, fused=not own or knows(own[0])))
    return tuple(found)


def _join(operations: Iterable[Operation], start: int, *, fused: bool) -> Pass:
    operations = tuple(operations)
    return Pass(operations, slice(start, start + sum(len(o.columns) for o in operations)), fused)


def _may_join(operation: Operation, held: Iterable[Operation]) -> bool:
    own = find_stage(operation)
    return own is not None and all(find_stage(other) in _JOINS[own] for other in held)
