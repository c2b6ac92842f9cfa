"""A dataset whose samples know their index, and a sampler whose indices know their epoch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

import numpy as np
from torch.utils.data import Dataset, DistributedSampler, IterableDataset

from lightly_aug import distributed
from lightly_aug.checks import check_integer
from lightly_aug.epochs import EPOCHS

__all__ = ["EpochIndex", "EpochPass", "EpochSampler", "Indexed", "IndexedSample"]


@dataclass(frozen=True)
class IndexedSample:
    """A sample, its index in the dataset, and the epoch if the index knew it; the collate function separates them."""

    index: int
    sample: Any
    epoch: int | None = None


class Indexed(Dataset[IndexedSample]):
    """A dataset whose samples know their index, so that an image gets the same views wherever it occurs.

    Draws then do not depend on the batch size, the order, the number of workers or the rank. The collate function
    removes the index again, so batches look the same with and without `Indexed`, and `Views.index` holds the indices.
    An image that a sampler repeats within an epoch gets the same views each time.

    Args:
        dataset: Any dataset with integer indices.

    Raises:
        TypeError: The dataset is `Indexed` already, or an `IterableDataset`, which has no indices.

    Example:
        >>> from PIL import Image
        >>> from lightly_aug import SimCLRCollateFunction
        >>> dataset = Indexed([(Image.new("RGB", (40, 30)), 0), (Image.new("RGB", (30, 40)), 1)])
        >>> collate = SimCLRCollateFunction(size=32, seed=0)
        >>> views, labels = collate([dataset[1], dataset[0]])
        >>> views.index
        tensor([1, 0])
    """

    def __init__(self, dataset: Any) -> None:
        if isinstance(dataset, Indexed):
            raise TypeError("Indexed: dataset is Indexed already, use it as it is")
        if isinstance(dataset, IterableDataset):
            raise TypeError(
                f"Indexed: a {type(dataset).__name__} is a stream and has no indices; pass it to the DataLoader as it "
                "is: its images are known by their place in the epoch"
            )
        self.dataset = dataset

    def __getitem__(self, index: int) -> IndexedSample:
        try:
            sample = self.dataset[int(index)]
        except IndexError:
            raise
        except Exception as error:
            error.add_note(f"raised by sample {index} of the dataset")
            raise
        return _with_index(index, sample)

    def __getitems__(self, indices: Sequence[int]) -> list[IndexedSample]:
        """Return the samples of a batch, in one call if the dataset can, as those of `datasets` do."""
        if not callable(getattr(self.dataset, "__getitems__", None)):
            return [self[index] for index in indices]
        samples = self.dataset.__getitems__([int(index) for index in indices])
        return [_with_index(index, sample) for index, sample in zip(indices, samples, strict=True)]

    def __len__(self) -> int:
        return len(self.dataset)

    def __repr__(self) -> str:
        return f"Indexed({self.dataset!r})"


class EpochIndex(int):
    """An index that knows the epoch for which it was drawn; any dataset takes it for the integer it is.

    Args:
        index: The index.
        epoch: The epoch, 0 to 2**24 - 1.
    """

    epoch: int

    def __new__(cls, index: int, epoch: int) -> "EpochIndex":  # noqa: D102
        self = super().__new__(cls, index)
        self.epoch = epoch
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return EpochIndex, (int(self), self.epoch)


def _with_index(index: int, sample: Any) -> IndexedSample:
    return IndexedSample(int(index), sample, getattr(index, "epoch", None))


class EpochSampler(DistributedSampler[int]):
    """A sampler that counts epochs and tells each image the one it is drawn for, so that a run can be resumed exactly.

    One pass over the sampler is one epoch. It is counted in the main process and travels with the indices, so workers
    cannot disagree about it: of any kind and number, persistent, in threads, or in a pass that is left early. Without
    this sampler the collate function counts by itself, and a new process begins at epoch 0.

    - **PyTorch**: to resume, call `set_epoch(epoch)`, or `set_epoch(epoch, start=batches * batch_size)` in the middle
      of an epoch. With `DistributedDataParallel` every rank gets its own part of the images.
    - **Lightning** calls `set_epoch` itself, in a resumed run, too.
    - **torchdata**'s `StatefulDataLoader` keeps the epoch and the place in it in its `state_dict`.
    - **Accelerate** calls `set_epoch` itself; to resume, call it on the prepared loader. It divides the batches
      between processes, so the sampler must not: pass `num_replicas=1, rank=0`.

    Args:
        dataset: The dataset of the loader.
        shuffle: Draw a new order in every epoch: a function of the seed and the epoch only.
        seed: 0 or more, the seed of the order; the same on all ranks.
        num_replicas: The number of processes that share the images; by default, that of the process group.
        rank: The number of this process; by default, its rank in the process group. All ranks get the same number of
            images: if need be, the first images of the order are repeated.

    Raises:
        TypeError: The dataset is not `Indexed`, so the epoch would be lost.
        ValueError: A number is out of range.

    Example:
        >>> import torch
        >>> from torch.utils.data import DataLoader
        >>> from lightly_aug import SimCLRCollateFunction
        >>> photos = Indexed([torch.rand(3, 40, 30) for _ in range(8)])
        >>> sampler = EpochSampler(photos, shuffle=True)
        >>> sampler.set_epoch(2)  # a run that ended after two epochs goes on
        >>> loader = DataLoader(photos, 4, sampler=sampler, collate_fn=SimCLRCollateFunction(size=32, seed=0))
        >>> [views.index.tolist() for views in loader]
        [[5, 2, 6, 0], [7, 1, 4, 3]]
    """

    # A DistributedSampler, because trainers put one of their own in the place of any other sampler. Rank and number of
    # processes are looked up late: a loader is often made before the process group.
    def __init__(
        self,
        dataset: Indexed,
        *,
        shuffle: bool = False,
        seed: int = 0,
        num_replicas: int | None = None,
        rank: int | None = None,
    ) -> None:
        if not isinstance(dataset, Indexed):
            raise TypeError(
                f"EpochSampler: dataset must be Indexed, got a {type(dataset).__name__}; "
                "wrap it, and pass the result to the sampler and to the DataLoader"
            )
        check_integer(self, least=0, seed=seed)
        if (num_replicas is None) != (rank is None):
            raise ValueError(f"EpochSampler: num_replicas and rank go together, got {num_replicas} and {rank}")
        if num_replicas is not None and rank is not None:
            check_integer(self, least=1, num_replicas=num_replicas)
            if not 0 <= rank < num_replicas:
                raise ValueError(f"EpochSampler: rank must be between 0 and {num_replicas - 1}, got {rank}")
        self.images = dataset
        self.shuffle = shuffle
        self.seed = seed
        self._ranks = None if num_replicas is None or rank is None else (rank, num_replicas)
        self._next = (0, 0)  # the epoch of the next pass, and where it starts

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Set the number of the next epoch; later epochs count on from there.

        Args:
            epoch: 0 to 2**24 - 1.
            start: How many images of this rank the next pass leaves out, because the epoch was left after them.

        Raises:
            ValueError: A number is out of range.
        """
        if not 0 <= epoch < EPOCHS:
            raise ValueError(f"EpochSampler: epoch must be between 0 and {EPOCHS - 1}, got {epoch}")
        if not 0 <= start <= len(self):
            raise ValueError(
                f"EpochSampler: start must be between 0 and {len(self)}, the images of a rank, got {start}"
            )
        self._next = (epoch, start)

    def __len__(self) -> int:
        _, ranks = self._ranks or (0, distributed.world_size())
        return (len(self.images) + ranks - 1) // ranks

    def __iter__(self) -> Iterator[int]:
        return EpochPass(self)

    def pass_over(self, epoch: int) -> Iterator[int]:
        """Yield the indices of an epoch, each of which knows it; those of this rank only."""
        return (EpochIndex(index, epoch) for index in self.order(epoch))

    def order(self, epoch: int) -> list[int]:
        """Return the indices of an epoch, in order; those of this rank only."""
        rank, ranks = self._ranks or (distributed.rank(), distributed.world_size())
        count = len(self.images)
        indices = np.random.default_rng([self.seed, epoch]).permutation(count) if self.shuffle else np.arange(count)
        mine: list[int] = np.resize(indices, len(self) * ranks)[rank::ranks].tolist()
        return mine

    def __repr__(self) -> str:
        return f"EpochSampler({len(self)} images, shuffle={self.shuffle}, seed={self.seed}, epoch={self._next[0]})"


class _CountsEpochs(Protocol):
    """A sampler that counts epochs: `EpochSampler`, `SupportBatchSampler`."""

    _next: tuple[int, int]

    def set_epoch(self, epoch: int, start: int = 0) -> None: ...
    def pass_over(self, epoch: int) -> Iterator[Any]: ...


class EpochPass(Iterator[Any]):
    """One epoch of a sampler. It begins when the first item is taken: loaders make passes that they throw away.

    Args:
        sampler: The sampler, which yields the items of an epoch in `pass_over`.
    """

    def __init__(self, sampler: _CountsEpochs) -> None:
        self._sampler = sampler
        self._place: tuple[int, int] | None = None
        self._items: Iterator[Any] = iter(())

    def __next__(self) -> Any:
        if self._place is None:
            self._begin(*self._sampler._next)
        assert self._place is not None
        epoch, place = self._place
        item = next(self._items)
        self._place = (epoch, place + 1)
        return item

    def _begin(self, epoch: int, start: int) -> None:
        self._place = (epoch, start)
        self._items = islice(self._sampler.pass_over(epoch), start, None)
        self._sampler._next = (epoch + 1, 0)

    def state_dict(self) -> dict[str, int]:
        """Return the epoch and the number of items taken from it."""
        epoch, place = self._place or self._sampler._next
        return {"epoch": epoch, "start": place}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue from a state: the rest of its epoch in this pass, and the epochs after it in the next ones."""
        self._sampler.set_epoch(state["epoch"], state["start"])
        self._begin(*self._sampler._next)
