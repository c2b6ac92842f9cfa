"""Memory that compiled kernels read and write, and what is wrong about how they do."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["AccessError", "Array", "Memory", "Region"]

Array = npt.NDArray[Any]


_TURN_BITS = 20


class AccessError(Exception):
    """A kernel reads or writes where, or when, it must not."""


class Region:
    """Some bytes at an address.

    Args:
        name: What they are.
        address: Where they begin.
        data: The bytes.
    """

    def __init__(self, name: str, address: int, data: npt.NDArray[np.uint8]) -> None:
        self.name = name
        self.address = address
        self.data = data
        self.writers: npt.NDArray[np.int64] | None = None
        """For each byte, who wrote it in this launch, and when: see `Memory`."""

    def view(self, dtype: str) -> Array:
        """Return the bytes as whole numbers; the last ones may be too few for one."""
        size = np.dtype(dtype).itemsize
        return self.data[: len(self.data) // size * size].view(dtype)


class _Place(NamedTuple):
    region: Region
    lanes: Array | None
    numbers: Array


class Memory:
    """All memory that a launch may use, with checks of every access.

    An address must be in one of the regions, and a multiple of the size of the access. What a block reads, no other
    block has written in the same launch; what a warp reads or overwrites, no other warp of its block has written since
    both were at a barrier. (That a block overwrites what another reads is not found.)

    Args:
        regions: Global memory.
        shared: The number of bytes of shared memory of a block.
        kernel: The name of the kernel, for errors.
    """

    which: npt.NDArray[np.int64]
    """The numbers of the blocks that run at the moment."""

    def __init__(self, regions: list[Region], shared: int, kernel: str = "kernel") -> None:
        self._regions = regions
        self._shared_bytes = shared
        self._kernel = kernel

    def start(self, blocks: int, threads: int) -> None:
        """Start a launch."""
        self._warps = threads // 32
        self._lanes = np.arange(threads)[None, :] // 32
        self._turn = np.zeros(blocks, dtype=np.int64)
        garbage = np.full(blocks * self._shared_bytes, 255, dtype=np.uint8)
        self._shared = Region("shared memory", 0, garbage)
        for region in self._regions:
            region.writers = None

    def wait(self) -> None:
        """Let all warps of the blocks that run meet at a barrier."""
        self._turn[self.which] += 1

    def load(self, space: str, address: Array, dtype: str, count: int, guard: Array | None) -> list[Array]:
        """Load `count` numbers that are beside each other; lanes without guard get zeros."""
        place = self._find(space, address, dtype, count, guard)
        if place is None:
            return [np.zeros((1, 1), dtype=dtype)] * count
        region, lanes, index = place
        if region.writers is not None:
            self._check_writers(region, lanes, index, np.dtype(dtype).itemsize, address)
        numbers = region.view(dtype)
        loaded = [numbers[index + i] for i in range(count)]
        if lanes is None:
            return loaded
        spread = [np.zeros(lanes.shape, dtype=dtype) for _ in loaded]
        for whole, part in zip(spread, loaded, strict=True):
            whole[lanes] = part
        return spread

    def store(self, space: str, address: Array, values: list[Array], guard: Array | None) -> None:
        """Store numbers beside each other."""
        dtype = values[0].dtype.str[1:]
        place = self._find(space, address, dtype, len(values), guard)
        if place is None:
            return
        region, lanes, index = place
        size = np.dtype(dtype).itemsize
        if region.writers is None:
            region.writers = np.zeros(len(region.data), dtype=np.int64)
        else:
            self._check_writers(region, lanes, index, size, address)
        numbers = region.view(dtype)
        me = self._pick(self._who(), lanes, address)
        for i, value in enumerate(values):
            own = self._pick(value, lanes, address)
            where = np.broadcast_to(index + i, np.broadcast_shapes(own.shape, me.shape))
            numbers[where] = own
            for byte in range(size):
                region.writers[where * size + byte] = me
            if (numbers[where] != own).any() or (region.writers[where * size] != me).any():
                raise AccessError(f"{self._kernel}: a race for {region.name}: two threads write one place")

    def _find(self, space: str, address: Array, dtype: str, count: int, guard: Array | None) -> _Place | None:
        """Find the region of an access, which lanes take part (None for all), and the number that each begins at."""
        lanes = None
        if guard is not None and not guard.all():
            shape = len(self.which), self._lanes.shape[1]
            lanes = np.broadcast_to(guard, shape)
            address = np.broadcast_to(address, shape)[lanes]
            if not address.size:
                return None
        size = np.dtype(dtype).itemsize
        if space == "shared":
            region = self._shared
            last = int(address.max()) + size * count
            if last > self._shared_bytes:
                raise AccessError(f"{self._kernel}: byte {last} of {self._shared_bytes} bytes of shared memory")
            blocks = np.arange(len(self._turn))[self.which][:, None] * self._shared_bytes
            address = address.astype(np.int64) + self._pick(blocks, lanes, address)
        else:
            region = self._find_region(int(address.flat[0]))
        offset = (address - np.uint64(region.address) if space == "global" else address).astype(np.uint64)
        end = int(offset.max()) + size * count
        if end > len(region.data):
            raise AccessError(
                f"{self._kernel}: an access of {count} x {size} bytes is {end - len(region.data)} bytes behind the end "
                f"of {region.name}, or in front of it"
            )
        if size * count > 1 and (address % (size * count)).any():
            raise AccessError(f"{self._kernel}: an access of {count} x {size} bytes in {region.name} is not aligned")
        return _Place(region, lanes, (offset // np.uint64(size)).astype(np.int64))

    def _find_region(self, address: int) -> Region:
        for region in self._regions:
            if region.address <= address < region.address + len(region.data):
                return region
        raise AccessError(f"{self._kernel}: no argument has memory at {address:#x}")

    def _who(self) -> Array:
        """Return a number for each running warp: its block, itself, and how often it was at a barrier."""
        warps = self.which[:, None] * self._warps + self._lanes
        return (warps + 1) << _TURN_BITS | self._turn[self.which][:, None]

    def _pick(self, values: Array, lanes: Array | None, address: Array) -> Array:
        """Return the values of the lanes that take part."""
        if lanes is None:
            return np.broadcast_to(values, np.broadcast_shapes(values.shape, address.shape))
        return np.broadcast_to(values, lanes.shape)[lanes]

    def _check_writers(self, region: Region, lanes: Array | None, index: Array, size: int, address: Array) -> None:
        """Check that nobody else wrote these bytes, except warps of the same block before a barrier."""
        assert region.writers is not None
        writer = region.writers[index * size]
        if not writer.any():
            return
        me = self._pick(self._who(), lanes, address)
        warp, my_warp = writer >> _TURN_BITS, me >> _TURN_BITS
        foreign = (warp - 1) // self._warps != (my_warp - 1) // self._warps
        unseen = (warp != my_warp) & (writer % (1 << _TURN_BITS) == me % (1 << _TURN_BITS))
        if ((writer != 0) & (foreign | unseen)).any():
            raise AccessError(f"{self._kernel}: a race for {region.name}: others write what is read or overwritten")
