"""A batch sampler that mixes labelled and unlabelled images."""

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler

from lightly_aug.distributed import rank, world_size

__all__ = ["SupportBatchSampler"]


class SupportBatchSampler(Sampler[list[int]]):
    """Batches for PAWS: the same number of labelled images of every class, followed by unlabelled images.

    A pass shows every unlabelled image once, except those that do not fill a batch; labelled images are drawn again for
    each batch. Pass it to a `DataLoader` as `batch_sampler`, over a dataset that is not `Indexed`: an indexed image has
    the same views every time it is repeated in an epoch. Every rank has its own unlabelled images.

    Args:
        labels: Labels of all images, -1 for images without one.
        batch_size: Number of images in a batch, labelled and unlabelled.
        per_class: Number of labelled images of every class in a batch.
        seed: Seed of the order; each pass continues its random numbers.

    Raises:
        ValueError: A batch cannot hold so many images, or there are too few of one kind.

    Example:
        >>> sampler = SupportBatchSampler([0, 0, 1, 1, -1, -1, -1, -1], batch_size=4, per_class=1)
        >>> len(sampler), [len(batch) for batch in sampler]
        (2, [4, 4])
    """

    def __init__(self, labels: Sequence[int], batch_size: int, per_class: int, seed: int = 0) -> None:
        known = np.array(labels)
        self.supports = [np.flatnonzero(known == label) for label in np.unique(known[known >= 0])]
        self.others = np.flatnonzero(known < 0)[rank() :: world_size()]
        self.per_class = per_class
        self.free = batch_size - per_class * len(self.supports)
        self.count = int((known < 0).sum()) // world_size()  # the same on every rank
        fewest = min(map(len, self.supports), default=0)
        if per_class < 1 or not 1 <= self.free <= self.count or fewest < per_class:
            raise ValueError(
                f"SupportBatchSampler: batch_size must have room for per_class images of each of {len(self.supports)} "
                f"classes (the smallest has {fewest}) and some of {self.count} without label, "
                f"got batch_size={batch_size} and per_class={per_class}"
            )
        self.rng = np.random.default_rng(seed + (rank() << 32))

    def __len__(self) -> int:
        return self.count // self.free

    def __iter__(self) -> Iterator[list[int]]:
        others = self.rng.permutation(self.others).tolist()
        for step in range(len(self)):
            supports = [self.rng.choice(images, self.per_class, replace=False) for images in self.supports]
            yield [*np.concatenate(supports).tolist(), *others[step * self.free : (step + 1) * self.free]]
