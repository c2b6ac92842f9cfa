"""What one tab of the browser shows, and how it is drawn."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lightly_aug.explore.album import Damaged, Picture, read_pictures
from lightly_aug.explore.markup import Side
from lightly_aug.explore.recipe import Recipe
from lightly_aug.explore.rendering import compare, render
from lightly_aug.explore.source import find_decode
from lightly_aug.weights import Backbone

__all__ = ["State", "draw_sides", "find_cosines"]


@dataclass(frozen=True)
class State:
    """What one tab shows.

    Attributes:
        files: All images, in the order in which they are shown.
        recipes: One recipe, or two side by side.
        seed: Seed of the draws.
        start: Place of the first image that is shown.
        count: Number of images that are shown.
    """

    files: tuple[Path, ...]
    recipes: tuple[Recipe, ...]
    seed: int = 0
    start: int = 0
    count: int = 4

    @property
    def shown(self) -> tuple[Path, ...]:
        """The images that are shown."""
        return self.files[self.start : self.start + self.count]

    def turn(self, pages: int) -> "State":
        """Return the state some pages of images further, beginning again at the end."""
        last = (len(self.files) - 1) // self.count
        page = (self.start // self.count + pages) % (last + 1)
        return replace(self, start=page * self.count)

    def shuffle(self) -> "State":
        """Return the state with the images in another order, at the beginning."""
        files = random.sample(self.files, len(self.files))  # which images are shown is no part of the draws
        return replace(self, files=tuple(files), start=0)

    def set_recipe(self, side: int, recipe: Recipe) -> "State":
        """Return the state with another recipe on one side."""
        return replace(self, recipes=(*self.recipes[:side], recipe, *self.recipes[side + 1 :]))


def draw_sides(folder: Path, state: State) -> tuple[list[Damaged | None], list[Side]]:
    """Read the images of a state and render their views.

    Args:
        folder: Folder of the images.
        state: The state.

    Returns:
        For each image why it cannot be read, or None; and for each recipe the views of the readable ones.
    """
    read = [read_pictures(folder, state.shown, find_decode(recipe)) for recipe in state.recipes]
    rows = list(zip(*read, strict=True))
    damaged = [next((each for each in row if isinstance(each, Damaged)), None) for row in rows]
    sides = []
    for number, recipe in enumerate(state.recipes):
        own = (row[number] for row, bad in zip(rows, damaged, strict=True) if bad is None)
        pictures = [picture for picture in own if isinstance(picture, Picture)]
        views = render(recipe, state.seed, [picture.pixels for picture in pictures])
        sides.append(Side(recipe.title, pictures, views))
    return damaged, sides


def find_cosines(backbone: Backbone, sides: Sequence[Side]) -> list[list[list[float]]]:
    """Return for each side and image the cosines between the features of the image and of its views."""
    return [compare(backbone, [picture.pixels for picture in side.pictures], side.views) for side in sides]
