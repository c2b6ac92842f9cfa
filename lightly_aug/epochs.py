"""The epoch, and the batch in it, for which a collate function is called."""

import os
import sys
from dataclasses import dataclass
from multiprocessing import parent_process
from threading import main_thread
from typing import Any
from weakref import WeakKeyDictionary
from zlib import crc32

import torch
from torch.utils.data import get_worker_info
from torch.utils.data._utils.fetch import _BaseDatasetFetcher

from lightly_aug.user_warning import warn_user

__all__ = ["EPOCHS", "EpochCounter"]

EPOCHS = 1 << 24
_COUNT_BITS = 32
_COUNT_MASK = (1 << _COUNT_BITS) - 1
_NAME_MASK = (1 << (63 - _COUNT_BITS)) - 1
_SET_BY_HAND = 1  # in place of the name of an epoch; names are greater
_ROWS, _REMEMBERED = 4096, 8


@dataclass
class _Epoch:
    epoch: int
    batches: int = 0


class EpochCounter:
    """Count epochs and batches, in the main process and in any kind of DataLoader worker, without being told.

    A DataLoader does not tell its collate function when an epoch begins. But in every mode it creates one fetcher per
    epoch and calls the collate function from it, so a new caller means a new epoch. Workers agree on the number of the
    epoch, with each other and with the workers of the next epoch, through a few words of shared memory, each of which
    holds (name of an epoch, how many epochs there were up to it). The name is the same in all workers of an epoch, so
    the first to arrive counts on and the others find its word. No lock is needed: two that arrive at once write the
    same word to the same place. Each process that has loaders has a row of words of its own, so ranks and trials that
    were forked from one process count each for itself.
    """

    def __init__(self) -> None:
        self._words = torch.zeros(_ROWS, _REMEMBERED, dtype=torch.int64)
        self._is_shared = _share(self._words)
        self._running: WeakKeyDictionary[_BaseDatasetFetcher, _Epoch] = WeakKeyDictionary()
        self._without_fetcher: _Epoch | None = None
        self._first = 0  # the number of the first epoch of a process that has no words yet
        self._process, self._count = 0, 0  # how many epochs this process began
        self._parent_rank = 0

    def set_epoch(self, epoch: int) -> None:
        """Set the number of the next epoch; later epochs count on. Workers that are running see it, too."""
        if not 0 <= epoch < EPOCHS:
            raise ValueError(f"set_epoch: epoch must be between 0 and {EPOCHS - 1}, got {epoch}")
        self._first = epoch
        self._without_fetcher = None
        row = self._row()
        row.fill_(0)
        row[0] = _SET_BY_HAND << _COUNT_BITS | epoch

    def count_batch(self) -> tuple[int, int]:
        """Count one batch.

        Returns:
            (epoch, batch): The number of the epoch, and of the batch in it. Workers take batches in turn, so a batch
            has the same number for any number of workers.
        """
        worker = get_worker_info()
        fetcher = _calling_fetcher()
        if self._process != os.getpid():
            self._process, self._count, self._without_fetcher = os.getpid(), 0, None
        if fetcher is not None and fetcher in self._running:
            running = self._running[fetcher]
        elif fetcher is not None:
            running = self._running[fetcher] = self._begin()
        else:  # called by hand; or in a thread of a worker, all of whose calls count as one epoch
            if self._without_fetcher is None:
                self._without_fetcher = _Epoch(self._first) if worker is None else self._begin()
            running = self._without_fetcher
        batch = running.batches if worker is None else worker.id + worker.num_workers * running.batches
        running.batches += 1
        return running.epoch, batch

    def rank(self) -> int:
        """Return the rank of this process, or of the one that started this worker."""
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            return torch.distributed.get_rank()
        return self._parent_rank or int(os.environ.get("RANK") or 0)

    def _begin(self) -> _Epoch:
        self._count += 1
        worker = get_worker_info()
        if worker is not None and not self._is_shared:
            warn_user(
                "there is no shared memory, so workers cannot agree on the epoch and may repeat views: let an "
                "EpochSampler count the epochs, or take num_workers=0"
            )
        workers = () if worker is None else (worker.seed - worker.id, _name_of_workers())
        return _Epoch(self._join(max(hash((*workers, self._count)) & _NAME_MASK, _SET_BY_HAND + 1)))

    def _join(self, name: int) -> int:
        row = self._row()
        words: list[int] = [word for word in row.tolist() if word]
        for word in words:
            if word >> _COUNT_BITS == name:
                return (word & _COUNT_MASK) - 1
        epoch = max((word & _COUNT_MASK for word in words), default=self._first)
        row[epoch % _REMEMBERED] = name << _COUNT_BITS | epoch + 1
        return epoch

    def _row(self) -> torch.Tensor:
        parent = None if get_worker_info() is None else parent_process()
        return self._words[(os.getpid() if parent is None else parent.pid or 0) % _ROWS]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_running": None, "_without_fetcher": None, "_parent_rank": self.rank()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state | {"_running": WeakKeyDictionary()})
        # a copy gets words of its own; a worker started by `spawn` gets the same ones
        self._is_shared = _share(self._words)


def _share(words: torch.Tensor) -> bool:
    """Move words to shared memory, and return whether there is any."""
    try:
        words.share_memory_()
    except RuntimeError:
        return False
    return True


def _name_of_workers() -> int:
    """Return a number that the workers of one loader have in common, and with no other: that of their result queue."""
    frame = sys._current_frames().get(main_thread().ident or 0)
    while frame is not None:
        if frame.f_code.co_name == "_worker_loop" and "data_queue" in frame.f_locals:
            queue = frame.f_locals["data_queue"]
            name = queue._rlock._semlock.name  # None if the worker was forked; then the pipe of the queue tells it
            return os.fstat(queue._reader.fileno()).st_ino if name is None else crc32(name.encode())
        frame = frame.f_back
    return 0


def _calling_fetcher() -> _BaseDatasetFetcher | None:
    frame = sys._getframe(1)
    while frame.f_back is not None:
        frame = frame.f_back
        if frame.f_code.co_name == "fetch":
            owner = frame.f_locals.get("self")
            if isinstance(owner, _BaseDatasetFetcher):
                return owner
    return None
