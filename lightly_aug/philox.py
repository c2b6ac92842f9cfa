"""Counter-based random numbers, Philox 4x32-10: a pure function of the place where a number is used.

Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

__all__ = ["philox", "place_keys", "uniforms"]

U64 = npt.NDArray[np.uint64]

_MULTIPLIERS: Final = np.array([[0xD2511F53], [0xCD9E8D57]], dtype=np.uint64)
_WEYL: Final = (0x9E3779B9, 0xBB67AE85)
_LOW: Final = np.array(0xFFFFFFFF, dtype=np.uint64)  # arrays, which NumPy takes faster than its scalars
_SHIFT: Final = np.array(32, dtype=np.uint64)
_DROPPED: Final = np.array(8, dtype=np.uint64)  # bits of a word that float32 cannot hold
_ROUNDS: Final = 10


def philox(even: U64, odd: U64, key: tuple[int, int]) -> None:
    """Compute ten rounds of Philox 4x32 in place.

    Words 0 and 2 of a counter are multiplied, words 1 and 3 are not: so there are two arrays of two words each.
    Large batches take a quarter of the time in place.

    Args:
        even: `(2, n)` words 0 and 2 of n counters, 32 bits each, in uint64.
        odd: `(2, n)` words 1 and 3.
        key: Two 32-bit words.
    """
    products = np.empty_like(even)
    swapped = products[::-1]
    for round_key in _schedule(key):
        np.multiply(_MULTIPLIERS, even, out=products)
        np.right_shift(swapped, _SHIFT, out=even)
        np.bitwise_xor(even, odd, out=even)
        np.bitwise_xor(even, round_key, out=even)
        np.bitwise_and(swapped, _LOW, out=odd)


@lru_cache(64)
def _schedule(key: tuple[int, int]) -> U64:
    """Compute the `(10, 2, 1)` keys of the rounds."""
    rounds = [[(word + i * step) & 0xFFFFFFFF for word, step in zip(key, _WEYL, strict=True)] for i in range(_ROUNDS)]
    return np.array(rounds, dtype=np.uint64)[..., None]


def uniforms(seed: int, epoch: int | U64, images: U64, views: Sequence[int], count: int) -> npt.NDArray[np.float64]:
    """Draw `count` numbers for every image in every view.

    A number depends on its (seed, epoch, image, view, column) only: not on other views, the rest of the batch, the
    order, the process, or the state of a generator.

    Args:
        seed: Any integer, of which the low 64 bits are used.
        epoch: 0 to 2**32 - 1, one for all images or `(n,)` of them.
        images: `(n,)` the 64-bit key of each image: its index in the dataset, or see `place_keys`.
        views: The numbers of the views, each 0 to 65,535.
        count: How many numbers each image gets in a view.

    Returns:
        `(views, n, count)` uniform in [0, 1), multiples of 2**-24 (so that float32 holds them exactly).
    """
    shape = len(views), len(images), -(-count // 4)
    even, odd = np.empty((2, 2, *shape), dtype=np.uint64)
    even[0] = (images & _LOW)[:, None]
    odd[0] = (images >> _SHIFT)[:, None]
    even[1] = np.asarray(epoch, dtype=np.uint64)[..., None]
    odd[1] = np.arange(shape[2], dtype=np.uint64)
    odd[1] |= np.array([view << 16 for view in views], dtype=np.uint64)[:, None, None]
    philox(even.reshape(2, -1), odd.reshape(2, -1), (seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF))
    numbers = np.empty((*shape, 4))
    for word, results in enumerate((even[0], odd[0], even[1], odd[1])):
        numbers[..., word] = results >> _DROPPED
    numbers *= 2.0**-24
    return numbers.reshape(*shape[:2], -1)[..., :count]


def place_keys(rank: int, batch: int, count: int) -> U64:
    """Compute the keys of images that are known by their place in the epoch only.

    From the highest bit: 1, which no index of a dataset has; 15 bits of rank; 28 bits of batch; 20 bits of place.

    Args:
        rank: Of the process, 0 to 32,767.
        batch: Number of the batch in the epoch, 0 to 2**28 - 1.
        count: How many images the batch has, at most 2**20.

    Returns:
        `(count,)` one key for each image of the batch.
    """
    return np.arange(count, dtype=np.uint64) | np.uint64(1 << 63 | rank << 48 | batch << 20)
