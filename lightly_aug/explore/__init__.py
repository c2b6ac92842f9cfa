"""The page of `lightly-aug explore`: recipes, their code and their views on images of a folder."""

from lightly_aug.explore.recipe import PRESETS, Recipe, choose
from lightly_aug.explore.rendering import render
from lightly_aug.explore.source import write_code

__all__ = ["PRESETS", "Recipe", "choose", "render", "write_code"]
