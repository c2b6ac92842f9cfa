"""Pictures of views, of features, and of what was measured on them.

Figures are returned, not shown.
"""

from lightly_aug.plot._confusion import confusion
from lightly_aug.plot._embedding import embedding
from lightly_aug.plot._invariance import invariance_bars, invariance_curves
from lightly_aug.plot._label_curve import label_curve
from lightly_aug.plot._neighbours import neighbours
from lightly_aug.plot._radar import invariance_radar
from lightly_aug.plot._sweep import sweep
from lightly_aug.plot._training import training_curves

__all__ = [
    "confusion",
    "embedding",
    "invariance_bars",
    "invariance_curves",
    "invariance_radar",
    "label_curve",
    "neighbours",
    "sweep",
    "training_curves",
]
