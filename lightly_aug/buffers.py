"""Memory of this process that is used again, since memory that is touched for the first time arrives slowly."""

import os
import weakref
from collections import deque
from threading import Lock
from typing import Final

import numpy as np
import numpy.typing as npt

__all__ = ["borrow", "capacity_of"]

Bytes = npt.NDArray[np.uint8]

_SMALL: Final = 1 << 16
"""Below this many bytes, the allocator of the process is as fast."""

_MOST: Final = 2 << 30
"""How many bytes are kept for later at most."""

_returned: deque[Bytes] = deque()  # what finalizers give back: they may run at any time, also while the lock is held
_kept: list[Bytes] = []  # the longest unused first
_lock = Lock()


def borrow(size: int) -> Bytes:
    """Return an array of undefined bytes; when nothing refers to it any more, its memory is lent again.

    Slices, views and tensors of the array refer to it. At most 2 GB that nobody uses are kept.

    Args:
        size: The number of bytes.

    Returns:
        `(size,)` uint8.
    """
    if size < _SMALL:
        return np.empty(size, dtype=np.uint8)
    memory = _take(capacity_of(size))
    array = np.frombuffer(memory.data, dtype=np.uint8, count=size)  # slices of `memory` would not refer to it
    weakref.finalize(array, _returned.append, memory).atexit = False
    return array


def capacity_of(size: int) -> int:
    """Return the next power of two: sizes that differ a little share memory, and what is not touched costs nothing.

    Args:
        size: The number of bytes.
    """
    return 1 << (size - 1).bit_length()


def _take(capacity: int) -> Bytes:
    with _lock:
        while _returned:
            _kept.append(_returned.popleft())
        found = next((i for i in reversed(range(len(_kept))) if len(_kept[i]) == capacity), None)
        memory = None if found is None else _kept.pop(found)
        free = sum(map(len, _kept))
        while free > _MOST:
            free -= len(_kept.pop(0))
    return np.empty(capacity, dtype=np.uint8) if memory is None else memory


def _reset() -> None:
    global _lock  # noqa: PLW0603 - another thread may have held it
    _lock = Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset)
