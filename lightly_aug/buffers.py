"""Memory of this process that is used again, since memory that is touched for the first time arrives slowly."""

import weakref
from collections import defaultdict, deque
from contextlib import suppress
from typing import Final

import numpy as np
import numpy.typing as npt

__all__ = ["borrow", "capacity_of"]

Bytes = npt.NDArray[np.uint8]

_SMALL: Final = 1 << 16
"""Below this many bytes, the allocator of the process is as fast."""

_MOST: Final = 2 << 30
"""How many bytes that nobody uses are kept at most."""

# Memory that nobody uses, by capacity. There is no lock, since finalizers may run at any time: single operations of
# deques and dicts cannot be interrupted.
_kept: defaultdict[int, deque[Bytes]] = defaultdict(deque)


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
    capacity = capacity_of(size)
    try:
        memory = _kept[capacity].pop()
    except IndexError:
        memory = np.empty(capacity, dtype=np.uint8)
    array = np.frombuffer(memory.data, dtype=np.uint8, count=size)  # slices of `memory` would not refer to it
    weakref.finalize(array, _take_back, memory).atexit = False
    return array


def capacity_of(size: int) -> int:
    """Round up to one of four sizes between powers of two: sizes that differ a little share memory.

    Args:
        size: The number of bytes, at least 8.

    Example:
        >>> [capacity_of(size) for size in (1000, 1024, 1025, 1300)]
        [1024, 1024, 1280, 1536]
    """
    step = (1 << (size - 1).bit_length()) // 8
    return -(-size // step) * step


def _take_back(memory: Bytes) -> None:
    _kept[len(memory)].append(memory)
    free = sum(capacity * len(_kept[capacity]) for capacity in list(_kept))
    for capacity in list(_kept):
        with suppress(IndexError):
            while free > _MOST:
                _kept[capacity].popleft()
                free -= capacity
