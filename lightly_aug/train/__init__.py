"""Training."""

from lightly_aug.train.loop import Step, fit
from lightly_aug.train.progress import progress
from lightly_aug.train.supports import SupportBatchSampler

__all__ = ["Step", "SupportBatchSampler", "fit", "progress"]
