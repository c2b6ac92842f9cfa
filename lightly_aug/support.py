"""A dataset and a batch sampler that mix images with and without a label, for PAWS."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from torch.utils.data import Dataset, Sampler

from lightly_aug.checks import check_integer
from lightly_aug.distributed import rank, world_size
from lightly_aug.epochs import EPOCHS
from lightly_aug.indexed import EpochIndex, EpochPass

__all__ = ["SupportBatchSampler", "SupportDataset"]


class SupportDataset(Dataset[tuple[Any, int]]):
    """Images for PAWS, each as an image without label, and those with a known label a second time with it.

    PAWS predicts the class of an image from labelled images in the same batch. Here every image is predicted, the
    labelled ones, too, as in the official code, and no image serves as both at once: item i of the first
    `len(dataset)` is (image i, -1); the items after them are the labelled images with their labels.

    Args:
        dataset: Images, alone or as the first member of a tuple or list, whose other members are ignored.
        labels: Labels of all images, -1 where unknown.

    Attributes:
        labels: Labels of all items, for `SupportBatchSampler`.

    Raises:
        ValueError: `labels` has another length than the dataset.
        TypeError: An item of the dataset is a mapping; raised when it is loaded.

    Example:
        >>> items = SupportDataset(["a.jpg", "b.jpg", "c.jpg"], labels=[-1, 4, -1])
        >>> list(items)
        [('a.jpg', -1), ('b.jpg', -1), ('c.jpg', -1), ('b.jpg', 4)]
    """

    def __init__(self, dataset: Any, labels: Sequence[int]) -> None:
        if len(labels) != len(dataset):
            raise ValueError(
                f"SupportDataset: labels must be one for each of {len(dataset)} images, -1 where unknown, "
                f"got {len(labels)}"
            )
        known = np.asarray(labels)
        self.dataset = dataset
        self.places = np.concatenate([np.arange(len(known)), np.flatnonzero(known >= 0)])
        self.labels = np.concatenate([np.full(len(known), -1), known[known >= 0]])

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        sample = self.dataset[int(self.places[index])]
        if isinstance(sample, Mapping):
            raise TypeError(
                "SupportDataset: dataset must return an image, or a tuple that begins with it, "
                f"got a mapping of {list(sample)}: wrap it in a dataset that returns the image"
            )
        image = sample[0] if isinstance(sample, tuple | list) else sample
        return image, int(self.labels[index])


class SupportBatchSampler(Sampler[list[int]]):
    """Batches for PAWS: the same number of labelled images of each class, followed by images without label.

    A pass shows every image without label once, except those that do not fill a batch; labelled images are drawn again
    for each batch. Pass it to a `DataLoader` as `batch_sampler`, best over an `Indexed` dataset: each batch then counts
    as an epoch of its own for the draws, so that a labelled image has new views in each, and a run can be resumed as
    with `EpochSampler`, at the beginning of a pass and in its middle.

    Every rank has its own images without label. With `classes_per_batch`, the ranks together go through the classes in
    random order, each rank with different ones, and begin another order when too few are left for a batch. The paper's
    setting for ImageNet is `batch_size=169, per_class=7, classes_per_batch=15` on each of 64 GPUs. The sampler may be
    made before the process group.

    Args:
        labels: Labels of all images, -1 for images without one; those of a `SupportDataset` to predict the labelled
            images, too.
        batch_size: Number of images in a batch on one rank, labelled and unlabelled.
        per_class: Number of labelled images of a class in a batch.
        seed: 0 or more, the seed of the order, which is a function of it, the pass and the rank.
        classes_per_batch: Number of classes in a batch on one rank; None for all.

    Raises:
        ValueError: A batch cannot hold so many images, or there are too few of one kind. What depends on the number of
            ranks is raised when a pass begins: each rank needs a batch of images without label, and the ranks
            together must draw at most each class once, or each equally often.

    Example:
        >>> sampler = SupportBatchSampler([0, 0, 1, 1, -1, -1, -1, -1], batch_size=4, per_class=1)
        >>> len(sampler), [len(batch) for batch in sampler]
        (2, [4, 4])
    """

    def __init__(
        self,
        labels: Sequence[int] | npt.NDArray[np.int64],
        batch_size: int,
        per_class: int,
        seed: int = 0,
        *,
        classes_per_batch: int | None = None,
    ) -> None:
        check_integer(self, least=0, seed=seed)
        known = np.asarray(labels)
        self.supports = [np.flatnonzero(known == label) for label in np.unique(known[known >= 0])]
        self.others = np.flatnonzero(known < 0)
        self.per_class = per_class
        self.seed = seed
        classes = len(self.supports)
        if classes_per_batch is not None:
            check_integer(self, least=1, classes_per_batch=classes_per_batch)
            if classes_per_batch > classes:
                raise ValueError(
                    f"SupportBatchSampler: classes_per_batch must be at most the {classes} classes of the labels, "
                    f"got {classes_per_batch}"
                )
        self.classes = classes if classes_per_batch is None else classes_per_batch
        self.free = batch_size - per_class * self.classes
        fewest = min(map(len, self.supports), default=0)
        if per_class < 1 or not 1 <= self.free <= len(self.others) or fewest < per_class:
            raise ValueError(
                f"SupportBatchSampler: batch_size must have room for per_class images of each of {self.classes} "
                f"classes (the smallest has {fewest}) and some of {len(self.others)} without label, "
                f"got batch_size={batch_size} and per_class={per_class}"
                + (": classes_per_batch takes fewer classes" if self.free < 1 < self.classes else "")
            )
        self._next = (0, 0)  # the number of the next pass, and where it starts

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Set the number of the next pass; later ones count on from there.

        Args:
            epoch: The number, 0 or more; all batches up to its end are less than 2**24.
            start: How many batches the next pass leaves out, because it was left after them.

        Raises:
            ValueError: A number is out of range.
        """
        if not 0 <= epoch < EPOCHS // max(1, len(self)) or not 0 <= start <= len(self):
            raise ValueError(
                f"SupportBatchSampler: epoch must be at least 0 and start between 0 and {len(self)}, got {epoch} and "
                f"{start}"
            )
        self._next = (epoch, start)

    def __len__(self) -> int:
        return len(self.others) // world_size() // self.free

    def __iter__(self) -> Iterator[list[int]]:
        self._check_ranks()
        return EpochPass(self)

    def pass_over(self, epoch: int) -> Iterator[list[int]]:
        """Yield the batches of a pass; indices know the number of their batch, counted over all passes."""
        drawn = self._draw_classes(np.random.default_rng([self.seed, epoch]))
        rng = np.random.default_rng([self.seed, epoch, 1 + rank()])
        others = rng.permutation(self.others[rank() :: world_size()]).tolist()
        for step, classes in zip(range(len(self)), drawn, strict=False):
            supports = [rng.choice(self.supports[i], self.per_class, replace=False) for i in classes]
            indices = [*np.concatenate(supports).tolist(), *others[step * self.free : (step + 1) * self.free]]
            yield [EpochIndex(index, epoch * len(self) + step) for index in indices]

    def _draw_classes(self, rng: np.random.Generator) -> Iterator[list[int]]:
        """Yield this rank's classes of each batch: its part of what all ranks take from an order that is common."""
        total, taken = len(self.supports), self.classes * world_size()
        own = rank() * self.classes + np.arange(self.classes)
        while True:
            order = rng.permutation(total)
            for first in range(0, max(1, total - taken + 1), taken):
                yield sorted(order[(first + own) % total].tolist())

    def _check_ranks(self) -> None:
        ranks, total = world_size(), len(self.supports)
        if len(self) == 0:
            raise ValueError(
                f"SupportBatchSampler: batch_size must leave at most {len(self.others) // ranks} places for images "
                f"without label on each of {ranks} ranks, got {self.free}"
            )
        taken = self.classes * ranks
        if taken > total and taken % total:
            raise ValueError(
                f"SupportBatchSampler: classes_per_batch on {ranks} ranks must draw at most each of {total} classes "
                f"once, or each equally often, got {self.classes} on a rank"
            )
