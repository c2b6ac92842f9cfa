"""The page of `lightly-aug explore`: recipes, their code and their views on images of a folder."""

from lightly_aug.explore.recipe import PRESETS, Kind, Preset, Recipe, choose
from lightly_aug.explore.rendering import Drawn, render
from lightly_aug.explore.source import write_code

__all__ = ["PRESETS", "Drawn", "Kind", "Preset", "Recipe", "choose", "render", "write_code"]
