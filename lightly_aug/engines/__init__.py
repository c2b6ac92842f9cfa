"""Engines render: `(packed images, draws) -> views`. Nothing in them is random."""

from lightly_aug.engines.plan import Plan
from lightly_aug.engines.program import Output
from lightly_aug.engines.rendering import ENGINES, Lowered, choose, load, lower, may_use_gpu, plan_views, render

__all__ = [
    "ENGINES",
    "Lowered",
    "Output",
    "Plan",
    "choose",
    "load",
    "lower",
    "may_use_gpu",
    "plan_views",
    "render",
]
