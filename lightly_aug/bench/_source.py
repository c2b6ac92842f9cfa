"""The batches of a loader, step by step and through a loader of the same settings."""

import warnings
from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import partial
from itertools import cycle, islice, repeat
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset

__all__ = ["Source"]


class Source:
    """The batches of a loader, for this process and for a loader of the same settings, without a trace in the first.

    Args:
        loader: The loader.
        count: How many batches are wanted; those of a small dataset are repeated.

    Raises:
        ValueError: The sampler yields nothing.
    """

    def __init__(self, loader: DataLoader[Any], count: int) -> None:
        self.loader = loader
        self.collate = _copy(loader.collate_fn)
        self.streams = isinstance(loader.dataset, IterableDataset)
        self.batched = loader.batch_sampler is not None
        self.indices: list[Any] = []
        if self.streams:
            return
        sampler = loader.batch_sampler if self.batched else loader.sampler
        copied = _copy(sampler, loader.dataset)
        if copied is sampler and not isinstance(sampler, list | tuple | range):
            warnings.warn(
                f"loader: the {type(sampler).__name__} cannot be copied, so measuring takes a pass over it",
                stacklevel=3,
            )
        found = list(islice(copied, count))
        if self.batched:  # the last batch may be smaller
            found = [indices for indices in found if len(indices) == len(found[0])]
        self.indices = list(islice(cycle(found), count))
        if not self.indices:
            raise ValueError("loader: loader must yield at least one batch, its sampler yields none")

    def fetch(self) -> Iterator[Callable[[], Any]]:
        """Return for each batch a function that gets its samples as a worker does; it returns None after a stream."""
        data: Any = self.loader.dataset
        if self.streams:
            stream = iter(data)
            size = self.loader.batch_size or 1
            least = size if self.loader.drop_last else 1

            def take() -> list[Any] | None:
                samples = list(islice(stream, size))
                return samples if len(samples) >= least else None

            return repeat(take if self.batched else partial(next, stream, None))
        return (partial(_get, data, indices, batched=self.batched) for indices in self.indices)

    def rebuild(self, start: int) -> DataLoader[Any]:
        """Return a loader of the same settings that begins with batch `start`."""
        old = self.loader
        options: dict[str, Any] = {
            "collate_fn": self.collate,
            "num_workers": old.num_workers,
            "pin_memory": old.pin_memory,
            "timeout": old.timeout,
            "worker_init_fn": old.worker_init_fn,
            "multiprocessing_context": old.multiprocessing_context,
            "prefetch_factor": old.prefetch_factor,
            "in_order": getattr(old, "in_order", True),
            "generator": torch.Generator(),
        }
        if self.streams:
            options |= {"batch_size": old.batch_size, "drop_last": old.drop_last}
        elif self.batched:
            options["batch_sampler"] = self.indices[start:]
        else:
            options |= {"batch_size": None, "sampler": self.indices[start:]}
        return DataLoader(old.dataset, **options)


def _get(data: Any, indices: Any, *, batched: bool) -> Any:
    if not batched:
        return data[indices]
    if getattr(data, "__getitems__", None):
        return data.__getitems__(indices)
    return [data[index] for index in indices]


def _copy(value: Any, dataset: Any = None) -> Any:
    """Return a deep copy, which shares the dataset and those within it; the value itself if it cannot be copied."""
    memo = {}
    while dataset is not None:
        memo[id(dataset)] = dataset
        dataset = getattr(dataset, "dataset", None)
    try:
        return deepcopy(value, memo)
    except Exception:  # locks, generators and open files raise almost anything
        return value
