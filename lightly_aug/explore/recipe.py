"""Recipes that the page edits: kinds of views, each a list of invariances and operations."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import groupby
from typing import Any, Final

from lightly_aug.collate import BaseCollateFunction
from lightly_aug.invariances import Color, Shape, Texture
from lightly_aug.methods import METHODS
from lightly_aug.operations import (
    CenterCrop,
    ColorJitter,
    Crop,
    Normalize,
    Operation,
    RandomEqualize,
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
)
from lightly_aug.recipes import (
    ColorCollateFunction,
    ImageCollateFunction,
    ShapeCollateFunction,
    TextureCollateFunction,
)
from lightly_aug.view import Shared, View

__all__ = ["PRESETS", "Item", "Kind", "Preset", "Recipe", "choose", "is_active"]

Item = Shape | Texture | Color | Operation


@dataclass(frozen=True)
class Preset:
    """A recipe to begin with.

    Attributes:
        title: Name for people.
        views: Builds the collate function from the side of the views and the options of `BaseCollateFunction`.
    """

    title: str
    views: Callable[..., BaseCollateFunction]


PRESETS: Final[dict[str, Preset]] = {
    **{name: Preset(method.title, method.views) for name, method in METHODS.items()},
    "image": Preset("All invariances", ImageCollateFunction),
    "shape": Preset("Shape only", ShapeCollateFunction),
    "texture": Preset("Texture only", TextureCollateFunction),
    "color": Preset("Color only", ColorCollateFunction),
}
"""The views of every method, and of the collate functions by invariance."""

_FLIPS: Final = (RandomHorizontalFlip, RandomVerticalFlip, RandomRotation90)


@dataclass(frozen=True)
class Kind:
    """Views that are made in the same way.

    Attributes:
        items: The items of the view in order, also those that are switched off.
        count: Number of such views.
    """

    items: tuple[Item, ...]
    count: int = 1


@dataclass(frozen=True)
class Recipe:
    """The views that one side of the page shows.

    Attributes:
        preset: Name of the preset that it began as, a key of `PRESETS`.
        size: Side of the largest views in pixels.
        kinds: The kinds of views in order; empty for a preset that the controls cannot express.
        normalize: Normalisation at the end of every view; None for none.
    """

    preset: str
    size: int
    kinds: tuple[Kind, ...]
    normalize: Normalize | None

    @property
    def views(self) -> list[View]:
        """The views before the normalisation, as the page shows them."""
        if not self.kinds:
            return [view.without_normalize() for view in _build(self.preset, self.size)]
        return [view for kind in self.kinds for view in [View(*filter(is_active, kind.items))] * kind.count]

    @property
    def changed(self) -> bool:
        """Whether it differs from its preset at this size."""
        return self != choose(self.preset, self.size)

    @property
    def title(self) -> str:
        """The title of its preset, and whether it was changed."""
        return f"{PRESETS[self.preset].title}{', changed' if self.changed else ''}"

    def set_item(self, kind: int, place: int, item: Item) -> "Recipe":
        """Return the recipe with another item.

        Args:
            kind: Number of the kind.
            place: Place of the item in the kind.
            item: The item.
        """
        old = self.kinds[kind]
        items = (*old.items[:place], item, *old.items[place + 1 :])
        return self.set_kind(kind, replace(old, items=items))

    def set_kind(self, number: int, kind: Kind) -> "Recipe":
        """Return the recipe with another kind in place of kind `number`."""
        kinds = (*self.kinds[:number], kind, *self.kinds[number + 1 :])
        return replace(self, kinds=kinds, size=max(_side(item) for kind in kinds for item in kind.items))


@lru_cache
def choose(preset: str, size: int) -> Recipe:
    """Return the recipe of a preset.

    Args:
        preset: A key of `PRESETS`.
        size: Side of its largest views in pixels.

    Example:
        >>> recipe = choose("simsiam", 96)
        >>> [type(item).__name__ for item in recipe.kinds[0].items]
        ['Shape', 'Color', 'Texture', 'RandomEqualize', 'RandomHorizontalFlip']
    """
    views = _build(preset, size)
    normalize = next((step for step in views[0].operations if isinstance(step, Normalize)), None)
    kinds = []
    for view, equal in groupby(views):
        items = _group(view.without_normalize().items)
        if items is None:
            return Recipe(preset, size, (), normalize)
        kinds.append(Kind(_complete(items), len(list(equal))))
    return Recipe(preset, size, tuple(kinds), normalize)


def is_active(item: Item) -> bool:
    """Return whether an item can change an image; an item with a probability of 0 cannot."""
    if isinstance(item, Shape | Texture | Color):
        return bool(item.operations)
    return getattr(item, "p", 1) > 0


@lru_cache
def _build(preset: str, size: int) -> tuple[View, ...]:
    return PRESETS[preset].views(size, seed=0, render="late").views  # "late" loads no engine


def _side(item: Item) -> int:
    size: int | tuple[int, int] = getattr(item, "size", 0)
    return max(size) if isinstance(size, tuple) else size


def _group(steps: Sequence[Operation | Shared]) -> list[Item] | None:
    """Return the invariances and operations of exactly these steps; None if there is no control for one."""
    items: list[Item] = []
    rest = list(steps)
    while rest:
        if isinstance(rest[0], Shared | Crop | RandomJigsawPatch):
            return None
        item = _read_shape(rest) or _read_color(rest) or _read_texture(rest) or rest[0]
        assert isinstance(item, Item)
        taken = item.operations if isinstance(item, Shape | Texture | Color) else (item,)
        assert tuple(rest[: len(taken)]) == taken
        rest = rest[len(taken) :]
        items.append(item)
    return items


def _take(steps: Iterable[Any], *types: type[Any]) -> dict[type[Any], Any]:
    """Return the first steps, by type, as far as they are of these types and in this order."""
    found: dict[type[Any], Any] = {}
    left = list(types)
    for step in steps:
        if type(step) not in left:
            break
        left = left[left.index(type(step)) + 1 :]
        found[type(step)] = step
    return found


def _read_shape(steps: list[Any]) -> Shape | None:
    crop = steps[0]
    if not isinstance(crop, RandomResizedCrop) or not crop.antialias:
        return None
    found = _take(steps[1:], RandomHorizontalFlip, RandomVerticalFlip, RandomRotation90, RandomRotation)
    hflip, vflip, rot90 = (found[step].p if step in found else 0.0 for step in _FLIPS)
    low, high = found[RandomRotation].degrees if RandomRotation in found else (0.0, 0.0)
    return Shape(
        _side(crop),
        crop.scale,
        crop.ratio,
        hflip,
        vflip,
        rot90,
        high if low == -high else (low, high),
        crop.interpolation,
    )


def _read_color(steps: list[Any]) -> Color | None:
    found = _take(steps, ColorJitter, RandomGrayscale)
    jitter, gray = found.get(ColorJitter), found.get(RandomGrayscale)
    grayscale = gray.p if gray else 0.0
    if jitter is None:
        return Color(jitter=0.0, grayscale=grayscale) if gray else None
    four = jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue
    return Color(*four, jitter=jitter.p, grayscale=grayscale, convention=jitter.convention)


def _read_texture(steps: list[Any]) -> Texture | None:
    found = _take(steps, RandomGaussianBlur, RandomSolarize)
    blur, solarize = found.get(RandomGaussianBlur), found.get(RandomSolarize)
    texture = Texture(blur=0.0)
    if blur:
        texture = replace(texture, blur=blur.p, sigma=blur.sigma, border=blur.border)
    if solarize:
        texture = replace(texture, solarize=solarize.p, threshold=solarize.threshold)
    return texture if found else None


def _complete(items: list[Item]) -> tuple[Item, ...]:
    """Add the items that are missing, switched off, so that there is a control for every operation."""
    made = list(items)
    after: tuple[type[Any], ...] = (Shape, Resize, CenterCrop)
    for item in (Color(jitter=0.0, grayscale=0.0), Texture(blur=0.0), RandomEqualize(0.0)):
        if not any(isinstance(other, type(item)) for other in made):
            place = max((i for i, other in enumerate(made) if isinstance(other, after)), default=-1) + 1
            made.insert(place, item)
        after = (*after, type(item))
    return tuple(made)
