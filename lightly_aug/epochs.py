"""The epoch, and the batch in it, for which a collate function is called."""

import os
import sys
from dataclasses import dataclass
from multiprocessing import current_process
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch.utils.data import get_worker_info
from torch.utils.data._utils.fetch import _BaseDatasetFetcher

__all__ = ["EpochCounter"]

_EPOCH_BITS = 24
_EPOCH_MASK = (1 << _EPOCH_BITS) - 1
_NAME_MASK = (1 << (63 - _EPOCH_BITS)) - 1
_REMEMBERED = 16


@dataclass
class _Epoch:
    epoch: int
    batches: int = 0


class EpochCounter:
    """Count epochs and batches, in the main process and in any kind of DataLoader worker, without being told.

    A DataLoader does not tell its collate function when an epoch begins. But in every mode it creates one fetcher per
    epoch and calls the collate function from it, so a new caller means a new epoch. Workers agree on the number of the
    epoch, with each other and with the workers of the next epoch, through a few words of shared memory, each of which
    holds (name of an epoch, its number). The name is the same in all workers of an epoch, so the first to arrive
    counts on and the others find its word. No lock is needed: two that arrive at once write the same word to the same
    place.
    """

    def __init__(self) -> None:
        self._words = torch.full((_REMEMBERED,), -1, dtype=torch.int64)
        self._words.share_memory_()
        self._running: WeakKeyDictionary[_BaseDatasetFetcher, _Epoch] = WeakKeyDictionary()
        self._by_hand = _Epoch(0)
        self._count = 0
        self._parent_rank = 0

    def set_epoch(self, epoch: int) -> None:
        """Set the number of the next epoch; later epochs count on. Workers that are running see it, too."""
        if not 0 <= epoch <= _EPOCH_MASK:
            raise ValueError(f"set_epoch: epoch must be between 0 and {_EPOCH_MASK}, got {epoch}")
        self._words.fill_(-1)
        self._words[0] = epoch - 1  # the epoch before it, under a name that no epoch has
        self._by_hand = _Epoch(epoch)

    def count_batch(self) -> tuple[int, int]:
        """Count one batch.

        Returns:
            (epoch, batch): The number of the epoch, and of the batch in it. Workers take batches in turn, so a batch
            has the same number for any number of workers.
        """
        worker = get_worker_info()
        fetcher = _calling_fetcher()
        if fetcher is None:
            running = self._by_hand
        elif fetcher in self._running:
            running = self._running[fetcher]
        else:
            self._count += 1
            # the two differences differ between sets of workers (the first unless the user seeds torch again), and are
            # the same within a set, as its workers are started one after another
            workers = () if worker is None else (worker.seed - worker.id, _process_number() - worker.id)
            name = hash((*workers, self._count)) & _NAME_MASK or 1
            running = self._running[fetcher] = _Epoch(self._join(name))
        batch = running.batches if worker is None else worker.id + worker.num_workers * running.batches
        running.batches += 1
        return running.epoch, batch

    def rank(self) -> int:
        """Return the rank of this process, or of the one that started this worker."""
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            return torch.distributed.get_rank()
        return self._parent_rank or int(os.environ.get("RANK", "0"))

    def _join(self, name: int) -> int:
        words: list[int] = self._words.tolist()
        for word in words:
            if word >> _EPOCH_BITS == name:
                return word & _EPOCH_MASK
        epoch = (max(word & _EPOCH_MASK if word >= 0 else -1 for word in words) + 1) & _EPOCH_MASK
        self._words[epoch % _REMEMBERED] = name << _EPOCH_BITS | epoch
        return epoch

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_running": None, "_parent_rank": self.rank()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state | {"_running": WeakKeyDictionary()})
        # a copy gets words of its own; a worker started by `spawn` gets the same ones
        self._words.share_memory_()


def _process_number() -> int:
    """Count the processes that the parent of this one had started, this one included."""
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
