"""Counter-based random numbers, Philox 4x32-10: a pure function of the place where a number is used.

Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

__all__ = ["philox", "place_keys", "uniforms"]

U64 = npt.NDArray[np.uint64]

_MULTIPLIERS: Final = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL: Final = (0x9E3779B9, 0xBB67AE85)
_LOW: Final = np.uint64(0xFFFFFFFF)
_SHIFT: Final = np.uint64(32)


def philox(counter: tuple[U64, U64, U64, U64], key: tuple[int, int]) -> tuple[U64, U64, U64, U64]:
    """Compute ten rounds of Philox 4x32.

    Args:
        counter: Four arrays that broadcast together; each holds 32-bit words in uint64.
        key: Two 32-bit words.

    Returns:
        Four arrays of 32-bit words in uint64.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        left, right = _MULTIPLIERS[0] * c0, _MULTIPLIERS[1] * c2
        c0 = (right >> _SHIFT) ^ c1 ^ np.uint64(k0)
        c2 = (left >> _SHIFT) ^ c3 ^ np.uint64(k1)
        c1, c3 = right & _LOW, left & _LOW
        k0, k1 = (k0 + _WEYL[0]) & 0xFFFFFFFF, (k1 + _WEYL[1]) & 0xFFFFFFFF
    return c0, c1, c2, c3


def uniforms(seed: int, epoch: int | U64, images: U64, view: int, count: int) -> npt.NDArray[np.float64]:
    """Draw `count` numbers for every image of one view.

    A number depends on its (seed, epoch, image, view, column) only: not on the rest of the batch, the order, the
    process, or the state of a generator.

    Args:
        seed: Any integer, of which the low 64 bits are used.
        epoch: 0 to 2**32 - 1, one for all images or `(n,)` of them.
        images: `(n,)` the 64-bit key of each image: its index in the dataset, or see `place_keys`.
        view: 0 to 65,535, the number of the view.
        count: How many numbers each image gets.

    Returns:
        `(n, count)` uniform in [0, 1), multiples of 2**-24 (so that float32 holds them exactly).
    """
    blocks = np.arange(-(-count // 4), dtype=np.uint64)
    keys = images[:, None]
    counter = (
        keys & _LOW,
        keys >> _SHIFT,
        np.asarray(epoch, dtype=np.uint64)[..., None],
        np.uint64(view << 16) | blocks,
    )
    words = np.stack(np.broadcast_arrays(*philox(counter, (seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF))), axis=-1)
    drawn: npt.NDArray[np.float64] = (words >> np.uint64(8)).astype(np.float64) * 2.0**-24
    return drawn.reshape(len(images), -1)[:, :count]


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
