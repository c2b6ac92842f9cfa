"""Python code of the collate function of a recipe."""

from dataclasses import fields
from typing import Any, Final

from lightly_aug.explore.recipe import PRESETS, Item, Recipe, is_active

__all__ = ["find_decode", "write_code"]

_WIDTH: Final = 62
"""Characters of a line, so that the code fits beside the views."""


def find_decode(recipe: Recipe) -> int:
    """Return the argument `decode` of the collate function: twice the side of the largest views, in pixels."""
    return 2 * recipe.size


def write_code(recipe: Recipe, seed: int) -> str:
    """Write the collate function of a recipe as a program that defines `collate`.

    Args:
        recipe: The recipe.
        seed: The seed.

    Example:
        >>> from lightly_aug.explore.recipe import choose
        >>> print(write_code(choose("looc", 96), seed=0))
        # LooC
        from lightly_aug import LooCCollateFunction
        <BLANKLINE>
        collate = LooCCollateFunction(96, decode=192, seed=0)
    """
    title = f"# {recipe.title}"
    options = [f"decode={find_decode(recipe)}", f"seed={seed}"]
    if not recipe.kinds:
        return "\n".join([title, *_write_preset(recipe, options)])
    imported = {"MultiViewCollateFunction", "View"}
    lines, names = [], []
    for number, kind in enumerate(recipe.kinds):
        name = f"view_{number}" if len(recipe.kinds) > 1 else "view"
        items: list[Item] = [item for item in kind.items if is_active(item)]
        items += [] if recipe.normalize is None else [recipe.normalize]
        imported |= {type(item).__name__ for item in items}
        lines += [f"{name} = View(", *(line for item in items for line in _write_item(item)), ")"]
        names.append((name, kind.count))
    if len(names) == 1:
        views = "[view]" + (f" * {names[0][1]}" if names[0][1] > 1 else "")
    else:
        views = f"[{', '.join(name if count == 1 else f'*[{name}] * {count}' for name, count in names)}]"
    call = _call("collate = MultiViewCollateFunction(", [views, *options])
    return "\n".join([title, *_write_import(sorted(imported)), "", *lines, *call])


def _write_preset(recipe: Recipe, options: list[str]) -> list[str]:
    views = PRESETS[recipe.preset].views
    if recipe.normalize is None:
        options = ["normalize=None", *options]
    package, name, start = "lightly_aug.methods", "METHODS", f'METHODS["{recipe.preset}"].views('
    if isinstance(views, type):
        package, name, start = "lightly_aug", views.__name__, f"{views.__name__}("
    return [f"from {package} import {name}", "", *_call(f"collate = {start}", [str(recipe.size), *options])]


def _write_import(names: list[str]) -> list[str]:
    line = f"from lightly_aug import {', '.join(names)}"
    if len(line) <= _WIDTH:
        return [line]
    return ["from lightly_aug import (", *(f"    {name}," for name in names), ")"]


def _write_item(item: Item) -> list[str]:
    arguments = [
        f"{field.name}={_write_value(field.name, getattr(item, field.name))}"
        for field in fields(item)  # type: ignore[arg-type]  # all of ours are dataclasses
        if field.init and getattr(item, field.name) != field.default
    ]
    return _call(f"    {type(item).__name__}(", arguments, end="),")


def _write_value(name: str, value: Any) -> str:
    if isinstance(value, str):
        return f'"{value}"'
    return repr(value[0] if name == "size" and isinstance(value, tuple) and value[0] == value[1] else value)


def _call(start: str, arguments: list[str], end: str = ")") -> list[str]:
    """Return a call as formatters write it: in one line, with the arguments in one line, or with a line for each."""
    whole = f"{start}{', '.join(arguments)}{end}"
    if len(whole) <= _WIDTH:
        return [whole]
    indent = " " * (len(start) - len(start.lstrip()))
    inner = f"{indent}    {', '.join(arguments)}"
    lines = [inner] if len(inner) <= _WIDTH else [f"{indent}    {argument}," for argument in arguments]
    return [start, *lines, f"{indent}{end}"]
