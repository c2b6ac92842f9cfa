"""Engines render: `(packed images, draws) -> views`. Nothing in them is random."""

from lightly_aug.engines.program import Output
from lightly_aug.engines.rendering import ENGINES, Lowered, choose, load, lower, may_use_gpu, render

__all__ = ["ENGINES", "Lowered", "Output", "choose", "load", "lower", "may_use_gpu", "render"]
