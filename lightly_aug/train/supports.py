"""Batches of images with and without label."""

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler

from lightly_aug.distributed import rank, world_size

__all__ = ["SupportBatchSampler"]


class SupportBatchSampler(Sampler[list[int]]):
    """Batches for PAWS: in each as many labelled images of every class, in front of unlabelled ones.

    Labelled images are drawn anew for each batch, unlabelled ones come again when all have come. Give it to a
    `DataLoader` as `batch_sampler`. Every rank has unlabelled images of its own.

    Args:
        labels: Of all images, -1 where there is none.
        batch_size: Images in a batch, labelled and unlabelled.
        per_class: Labelled images of every class in a batch.
        seed: Of the order; each pass continues it.

    Raises:
        ValueError: A batch cannot hold so many, or there are not enough images of one kind.

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
        fewest = min(map(len, self.supports), default=0)
        if per_class < 1 or not 1 <= self.free <= len(self.others) or fewest < per_class:
            raise ValueError(
                f"a batch of {batch_size} cannot hold {per_class} images of each of {len(self.supports)} classes (the "
                f"smallest has {fewest}) and some of {len(self.others)} without label: change batch_size or per_class"
            )
        self.steps = len(known) // (batch_size * world_size())
        self.rng = np.random.default_rng(seed + (rank() << 32))

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[int]]:
        others: list[int] = []
        for _ in range(self.steps):
            if len(others) < self.free:
                others = self.rng.permutation(self.others).tolist()
            supports = [self.rng.choice(images, self.per_class, replace=False) for images in self.supports]
            yield [*np.concatenate(supports).tolist(), *others[: self.free]]
            others = others[self.free :]
