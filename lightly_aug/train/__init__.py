"""Training."""

from lightly_aug.train.loop import Step, fit
from lightly_aug.train.progress import progress

__all__ = ["Step", "fit", "progress"]
