"""The controls of an item: one for each of its fields, with the text of its docstring."""

import inspect
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Any, Final, get_args, get_type_hints

from lightly_aug.explore.recipe import Item

__all__ = ["Control", "Value", "list_controls", "set_field"]

Value = float | str | bool | tuple[float, float]

_LIMITS: Final[dict[str, tuple[float, float, float]]] = {
    "size": (16, 320, 16),
    "scale": (0.01, 1, 0.01),
    "ratio": (0.25, 4, 0.05),
    "degrees": (0, 180, 5),
    "sigma": (0.1, 6, 0.1),
    "hue": (0, 0.5, 0.01),
}
"""Lowest value, highest value and step of a slider; all others go from 0 to 1 in steps of .05."""


@dataclass(frozen=True)
class Control:
    """What the page needs to draw the control of one field.

    Attributes:
        name: Name of the field.
        help: Its text in the docstring.
        value: The value: a number, a range (low, high), or one of the choices.
        low: Lowest value of a slider.
        high: Highest value of a slider.
        step: Step of a slider.
        choices: The values to choose from; empty for a slider.
    """

    name: str
    help: str
    value: Value
    low: float
    high: float
    step: float
    choices: tuple[Value, ...]

    @property
    def text(self) -> str:
        """The value as text.

        Example:
            >>> from lightly_aug import Shape
            >>> [control.text for control in list_controls(Shape(96, degrees=30))]
            ['96', '0.08 – 1', '0.75 – 1.33', '0.5', '0', '0', '30', 'bilinear']
        """
        values = self.value if isinstance(self.value, tuple) else (self.value,)
        return " – ".join(value if isinstance(value, str) else f"{value:.3g}" for value in values)


def list_controls(item: Item) -> list[Control]:
    """Return the controls of an item, in the order of its fields."""
    texts, hints = _read_arguments(inspect.getdoc(item) or ""), get_type_hints(type(item))
    made = []
    for field in fields(item):  # type: ignore[arg-type]  # all items are dataclasses
        if field.init:
            value = getattr(item, field.name)
            if field.name == "size" and isinstance(value, Sequence):
                value = value[0]  # all views of the page are square
            low, high, step = _LIMITS.get(field.name, (0, 1, 0.05))
            numbers = value if isinstance(value, tuple) else (value,)
            choices = (False, True) if isinstance(value, bool) else ()
            if isinstance(value, str):
                choices = get_args(hints[field.name])
            else:
                low, high = min(low, *numbers), max(high, *numbers)
            made.append(Control(field.name, texts[field.name], value, low, high, step, choices))
    return made


def set_field(item: Item, name: str, value: Value) -> Item:
    """Return the item with another value of a field.

    Args:
        item: The item.
        name: Name of the field.
        value: The value; numbers are rounded to four decimals, as sliders add up their steps in binary, except for an
            end of a range that stays as it is.

    Example:
        >>> from lightly_aug import Texture
        >>> set_field(Texture(), "solarize", 0.1 + 0.2)
        Texture(blur=0.5, sigma=(0.1, 2.0), solarize=0.3, threshold=0.5, border='reflect')
    """
    made: Any = value
    if isinstance(value, tuple):
        before = getattr(item, name)
        made = tuple(
            old if abs(new - old) < 1e-9 else round(float(new), 4) for old, new in zip(before, value, strict=True)
        )
    elif not isinstance(value, str | bool):
        made = int(value) if name == "size" else round(float(value), 4)
    changed: Item = replace(item, **{name: made})  # type: ignore[type-var]  # as above
    return changed


@cache
def _read_arguments(docstring: str) -> dict[str, str]:
    """Return the texts of the arguments in a docstring, by name."""
    found = re.findall(r"^    (\w+): (.+(?:\n {8}.+)*)", docstring, re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in found}
