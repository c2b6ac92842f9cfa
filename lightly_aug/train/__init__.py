"""A training loop, a progress bar, and batches with labelled images."""

from lightly_aug.train._progress import progress
from lightly_aug.train.loop import Step, fit
from lightly_aug.train.sampler import SupportBatchSampler

__all__ = ["Step", "SupportBatchSampler", "fit", "progress"]
