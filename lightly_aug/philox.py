"""Random numbers as a pure function of where they are used: counter-based Philox 4x32-10.

Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

__all__ = ["philox", "uniforms"]

U64 = npt.NDArray[np.uint64]

_MULTIPLIERS: Final = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL: Final = (0x9E3779B9, 0xBB67AE85)
_LOW: Final = np.uint64(0xFFFFFFFF)
_SHIFT: Final = np.uint64(32)


def philox(counter: tuple[U64, U64, U64, U64], key: tuple[int, int]) -> tuple[U64, U64, U64, U64]:
    """Ten rounds of Philox 4x32.

    Args:
        counter: four arrays that broadcast together; each holds 32-bit words in uint64.
        key: two 32-bit words.

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


def uniforms(seed: int, epoch: int, images: U64, view: int, count: int) -> npt.NDArray[np.float64]:
    """Draw `count` numbers for every image of one view.

    A number depends on its own (seed, epoch, image, view, column) and on nothing else: not on the rest of the
    batch, nor on the order, the process or the generator state in which it is asked for.

    Args:
        seed: any integer; its low 64 bits count.
        epoch: 0 to 2**32 - 1.
        images: (n,) the 64-bit key of each image.
        view: 0 to 65,535, the number of the view.
        count: how many numbers each image gets.

    Returns:
        (n, count) uniform in [0, 1), multiples of 2**-24 (so that float32 holds them exactly).
    """
    blocks = np.arange(-(-count // 4), dtype=np.uint64)
    keys = images[:, None]
    counter = (
        keys & _LOW,
        keys >> _SHIFT,
        np.array(epoch, dtype=np.uint64),
        np.uint64(view << 16) | blocks,
    )
    words = np.stack(np.broadcast_arrays(*philox(counter, (seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF))), axis=-1)
    drawn: npt.NDArray[np.float64] = (words >> np.uint64(8)).astype(np.float64) * 2.0**-24
    return drawn.reshape(len(images), -1)[:, :count]
