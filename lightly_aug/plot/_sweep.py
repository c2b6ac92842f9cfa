"""One image, changed by one operation from weak to strong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch import nn

from lightly_aug.batch import Views
from lightly_aug.checks import check_choice, check_integer
from lightly_aug.collate import MultiViewCollateFunction
from lightly_aug.evaluate import CHANGES, Change
from lightly_aug.images import Pixels, pack, to_array
from lightly_aug.operations import CenterCrop, Operation, Resize
from lightly_aug.plot._page import HAIRLINE, choose_colours, draw_block, lay_out, write_below
from lightly_aug.view import Item, View

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["insert_neutral", "render_change", "sweep"]

Build = Callable[[float], Item]
"""From a strength to an operation, or another item of a view."""

_STEPS: Final = (
    *("RandomHorizontalFlip.applied", "RandomVerticalFlip.applied", "RandomGrayscale.applied"),
    "RandomRotation90.turns",
)
"""Columns of the table of draws that have no values between whole numbers."""


def sweep(
    image: Any,
    change: str | Change | Build,
    strengths: Sequence[float] = (),
    *,
    neutral: float | None = None,
    size: int = 160,
    columns: int = 8,
    seed: int = 0,
    title: str = "",
) -> Figure:
    """Draw one image, changed by one operation with several strengths, and the strength under each.

    Strengths are those of `lightly_aug.evaluate.CHANGES`, in their units: `ColorJitter(brightness=0.4)` draws a factor
    from 0.6 to 1.4, so these are the ends of its range. The strength that leaves the image unchanged is marked.

    Args:
        image: Image of any kind that `lightly_aug.images.to_array` takes. Its largest centred square is shown; for
            "rotation" the middle half of it, so that no corner is empty.
        change: Name of one of `CHANGES`, such as "brightness"; a `Change` of your own; or a function from a strength to
            an operation, such as `lambda sigma: RandomGaussianBlur((sigma, sigma), p=1)`.
        strengths: The strengths, in the order to draw them; by default those of the `Change`, with the neutral one. A
            `Change` takes others between them; a function takes any.
        neutral: Strength at which a function's operation leaves the image unchanged, to mark it; a `Change` has its
            own.
        size: Side of the pictures in pixels. Operations that depend on it, such as a blur, look stronger in a smaller
            picture.
        columns: Most pictures in a row.
        seed: Seed of what a function's operation draws beside its strength. All strengths have the same random numbers.
        title: Title of the figure; by default the name and the unit of the `Change`.

    Returns:
        A figure with a picture for each strength.

    Raises:
        TypeError: `change` is none of these.
        ValueError: There is no change of this name, a strength is beyond those of the `Change`, a function has no
            strengths, or its operation is not always applied.

    Example:
        >>> figure = sweep(torch.rand(3, 20, 30), "brightness", [0.6, 0.8, 1.4], size=20)
        >>> [axes.get_title() for axes in figure.axes]
        ['0.6', '0.8', '1.4']
    """
    check_integer("sweep", least=1, size=size, columns=columns)
    check_integer("sweep", least=0, seed=seed)
    if isinstance(change, str):
        by_name = {each.name: each for each in CHANGES}
        check_choice("sweep", list(by_name), change=change)
        change = by_name[change]
    if isinstance(change, Change):
        if neutral is not None:
            raise ValueError(f"sweep: neutral must be left out, as {change.name} has its own, got {neutral}")
        neutral, title = change.neutral, title or f"{change.name}, {change.unit}".removesuffix(", ")
        known = insert_neutral(change.strengths, neutral)
        chosen = _check_strengths(strengths or known)
        for strength in chosen:
            if not min(known) <= strength <= max(known):
                raise ValueError(
                    f"sweep: strengths of {change.name} must be from {min(known):g} to {max(known):g}, got "
                    f"{strength:g}: give a function from a strength to an operation for others"
                )
        pictures = render_change(change, chosen, image, size)
    elif callable(change) and not isinstance(change, nn.Module):
        chosen = _check_strengths(strengths)
        pictures = [_render_built(change, strength, image, size, seed) for strength in chosen]
    else:
        advice = ""
        if isinstance(change, Operation | nn.Module):
            advice = f": write lambda strength: {type(change).__name__}(...)"
        raise TypeError(
            "sweep: change must be a name, a Change, or a function from a strength to an operation, got a "
            f"{type(change).__name__}{advice}"
        )
    width = min(columns, len(chosen))
    lines = 1 + (neutral in chosen)
    figure, table = lay_out(-(-len(chosen) // width), [1.3] * width, 1.3, lines, title=title)
    cells = [axes for row in table for axes in row]
    for axes, strength, picture in zip(cells, chosen, pictures, strict=False):
        unchanged = strength == neutral
        draw_block(axes, [picture], [choose_colours(1)[0] if unchanged else HAIRLINE])
        write_below(axes, f"{strength:g}".replace("-", "−") + "\nunchanged" * unchanged)
    for axes in cells[len(chosen) :]:
        axes.remove()
    return figure


def insert_neutral(strengths: Sequence[float], neutral: float) -> list[float]:
    """Return the strengths with the neutral one at its place: first, or where strengths go through it.

    Args:
        strengths: The strengths, in order.
        neutral: The neutral one, which is none of them.

    Example:
        >>> insert_neutral([0.6, 1.4], 1.0), insert_neutral([0.75, 0.5], 1.0)
        ([0.6, 1.0, 1.4], [1.0, 0.75, 0.5])
    """
    below = [strength for strength in strengths if strength < neutral]
    above = [strength for strength in strengths if strength > neutral]
    return [neutral, *strengths] if not below or not above else [*below, neutral, *above]


def render_change(change: Change, strengths: Sequence[float], image: Any, size: int) -> list[Pixels]:
    """Return an image changed by each strength, `(size, size, 3)`, floats in [0, 1].

    Args:
        change: The change.
        strengths: The strengths.
        image: The image.
        size: Side of the pictures in pixels.

    Raises:
        ValueError: The image has not 3 channels, or a strength is between two steps, such as half a flip.
    """
    array = to_array(image)
    if array.shape[2] != 3:
        raise ValueError(f"Change: image must have 3 channels, got {array.shape[2]}: convert it to RGB")
    packed = pack([array], ["image"])
    view = change.view(size, None)
    _, height, width = packed.shapes.numpy().T
    tables = [change.rows(view, strength, height, width) for strength in strengths]
    whole = [i for i, column in enumerate(view.columns) if column in _STEPS]
    for strength, table in zip(strengths, tables, strict=True):
        if (table[:, whole] % 1).any():
            raise ValueError(f"Change: strengths of {change.name} are steps, as {change.strengths}, got {strength:g}")
    return [
        Views(packed, torch.from_numpy(table).float()[None], (view,))[0][0].permute(1, 2, 0).clamp(0, 1).numpy()
        for table in tables
    ]


def _check_strengths(strengths: Sequence[float]) -> list[float]:
    numbers = [float(strength) for strength in strengths]
    if not numbers or not np.isfinite(numbers).all() or len(set(numbers)) < len(numbers):
        raise ValueError(f"sweep: strengths must be some different numbers, got {list(strengths)}: pass them")
    return numbers


def _render_built(build: Build, strength: float, image: Any, size: int, seed: int) -> Pixels:
    view = View(Resize(size), CenterCrop(size), build(strength))
    for operation in view.operations:
        if getattr(operation, "p", 1) != 1:
            raise ValueError(f"sweep: the operation must always be applied, got {operation!r}: give it p=1")
    views = MultiViewCollateFunction([view], seed=seed, render="late")([image])
    shown: Pixels = views.to("cpu")[0][0].permute(1, 2, 0).clamp(0, 1).numpy()
    return shown
