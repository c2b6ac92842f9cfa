"""Which epoch, and which batch of it, a collate function is being called for."""

import os
import sys
import weakref
from multiprocessing import current_process
from typing import Any

import torch
from torch.utils.data import get_worker_info
from torch.utils.data._utils.fetch import _BaseDatasetFetcher

__all__ = ["Clock", "loader_rank"]

_EPOCH_BITS = 24
_EPOCH_MASK = (1 << _EPOCH_BITS) - 1
_TOKEN_MASK = (1 << (63 - _EPOCH_BITS)) - 1


class Clock:
    """Counts epochs and batches by itself, in the main process and in any kind of DataLoader worker.

    A DataLoader does not tell its collate function when an epoch begins. What it does do, in every mode, is to
    make one fetcher an epoch and to call the collate function from it: a new caller is a new pass over the data.
    The number of the pass is agreed on between workers, and between the workers of one epoch and those of the
    next, through one word of shared memory that holds (name of the pass, its number). The name is the same in all
    workers of a pass, so the first to arrive counts on and the others find the word as they would have written
    it: no lock is needed, and a race writes the same word twice.
    """

    def __init__(self) -> None:
        self._shared = torch.full((2,), -1, dtype=torch.int64)  # [epoch set by the user, pass word]
        self._shared.share_memory_()  # type: ignore[no-untyped-call]
        self._fetcher: weakref.ref[_BaseDatasetFetcher] | None = None
        self._passes = 0
        self._epoch = 0
        self._batches = 0

    def set_epoch(self, epoch: int) -> None:
        """Name the epoch from now on; running workers see it, too."""
        if not 0 <= epoch <= _EPOCH_MASK:
            raise ValueError(f"epoch must be between 0 and {_EPOCH_MASK}, got {epoch}")
        if epoch != int(self._shared[0]):
            self._batches = 0
        self._shared[0] = epoch

    def tick(self) -> tuple[int, int]:
        """Count one batch.

        Returns:
            (epoch, batch): the number of the epoch, and of the batch in it. With workers, batches are dealt out in
            turn, so that a batch has the same number for any number of workers.
        """
        worker = get_worker_info()
        fetcher = _calling_fetcher()
        if fetcher is not None and (self._fetcher is None or self._fetcher() is not fetcher):
            self._fetcher = weakref.ref(fetcher)
            self._passes += 1
            self._batches = 0
            # the two differences are new for each set of workers (the first unless the user seeds torch again), and the
            # same in all of them, as they are started one after another
            workers = () if worker is None else (worker.seed - worker.id, _process_number() - worker.id)
            self._epoch = self._join((*workers, self._passes))
        named = int(self._shared[0])
        batch = self._batches if worker is None else worker.id + worker.num_workers * self._batches
        self._batches += 1
        return (self._epoch if named < 0 else named), batch

    def _join(self, name: tuple[int, ...]) -> int:
        token = hash(name) & _TOKEN_MASK
        word = int(self._shared[1])
        if word >= 0 and word >> _EPOCH_BITS == token:
            return word & _EPOCH_MASK
        epoch = 0 if word < 0 else (word + 1) & _EPOCH_MASK
        self._shared[1] = token << _EPOCH_BITS | epoch
        return epoch

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_fetcher": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        # a copy gets a word of its own; a worker started by `spawn` gets the same one
        self._shared.share_memory_()  # type: ignore[no-untyped-call]


def loader_rank() -> int:
    """The rank of this process; a worker has no process group, but the environment of the process that made it."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank()
    return int(os.environ.get("RANK", "0"))


def _process_number() -> int:
    """How many processes the parent of this one had started before it, and itself."""
    return next(reversed(current_process()._identity), 0)


def _calling_fetcher() -> _BaseDatasetFetcher | None:
    frame = sys._getframe(1)
    while frame.f_back is not None:
        frame = frame.f_back
        if frame.f_code.co_name == "fetch":
            owner = frame.f_locals.get("self")
            if isinstance(owner, _BaseDatasetFetcher):
                return owner
    return None
