"""Engines render: `(packed images, draws) -> views`. Nothing in them is random."""

from lightly_aug.engines.program import Output
from lightly_aug.engines.rendering import ENGINES, choose, load, render

__all__ = ["ENGINES", "Output", "choose", "load", "render"]
