"""Tensors on their way from a worker to the process that loads batches, in shared memory that is used again.

A page of shared memory that is touched for the first time costs more than rendering what is written to it. So a worker
keeps its blocks of shared memory. It sends the number of a block; the receiver maps each block once, and clears a byte
in it when its last tensor on the block is gone; then the worker uses the block again. Nobody waits: if all blocks are
held, or there are no anonymous files (`memfd_create`), as on macOS and Windows, PyTorch sends the tensors.

The first page of a block is a row of bytes, none of which is written by two processes at a time:

* Slots, one for each time that the block was sent. The worker sets a slot to `_SENT`, the receiver to `_HELD`, and back
  to `_FREE`.
* `_KNOWN`: the receiver has mapped the block, so that its descriptor need not be sent any more.
* `_ENDED`: the worker has ended.
"""

import mmap
import os
import select
import weakref
from collections import deque
from collections.abc import Callable
from functools import partial
from multiprocessing.reduction import DupFd
from multiprocessing.util import Finalize
from pathlib import Path
from threading import RLock
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from lightly_aug.buffers import borrow, capacity_of

__all__ = ["Sent", "empty", "receive", "send"]

_MOST: Final = 64
"""How many blocks a worker keeps: three batches of 20 views."""

_SMALL: Final = 1 << 14
"""Up to this many bytes, a tensor travels in the message itself."""

_PAGE: Final = mmap.PAGESIZE
_SLOTS, _KNOWN, _ENDED = 64, 64, 65
_FREE, _SENT, _HELD = 0, 1, 2
_ALL_FREE: Final = bytes(_SLOTS)

Origin = tuple[int, str]
"""A process: its number and the time when it started, since numbers are given again."""


class _Block:
    """A block of this process.

    Attributes:
        number: Its place among the blocks.
        capacity: The number of bytes behind the first page.
        file: Its descriptor.
        memory: All of it.
        address: Where the bytes behind the first page begin.
        is_here: Whether a tensor of this process is on it.
    """

    def __init__(self, number: int, capacity: int) -> None:
        self.number = number
        self.capacity = capacity
        self.file = os.memfd_create("lightly_aug", os.MFD_CLOEXEC)
        try:
            os.ftruncate(self.file, _PAGE + capacity)
            self.memory = mmap.mmap(self.file, _PAGE + capacity)
        except OSError:
            os.close(self.file)
            raise
        self.address = _bytes_on(self.memory, 1).ctypes.data
        self.is_here = False

    def is_free(self) -> bool:
        # in this order: `send` takes a slot while the tensor is still here
        return not self.is_here and self.memory[:_SLOTS] == _ALL_FREE

    def lend(self, size: int) -> Tensor:
        """Return a tensor of bytes on the block."""
        self.is_here = True
        return _lend(self.memory, size, self._take_back)

    def _take_back(self) -> None:
        self.is_here = False


class _Fork:
    """A process that was forked from this one, with those forked from it: a pipe tells when all of them have ended."""

    def __init__(self) -> None:
        try:
            self.here, self.there = os.pipe()
        except OSError:  # no descriptor is left, so nobody will know
            self.here = self.there = -1

    def has_ended(self) -> bool:
        """Whether the other end of the pipe is closed in every process."""
        if self.here < 0:
            return False
        poll = select.poll()
        poll.register(self.here, select.POLLIN)
        return bool(poll.poll(0))

    def __del__(self) -> None:
        if self.here >= 0:
            os.close(self.here)


class _Loan:
    """A holder of a block, until its last tensor on it is gone.

    A forked process sees the same memory, so a block that was held then is given back when that process has ended, too.
    The fork has a copy of this object, which waits for the fork itself, so it never gives anything back.
    """

    def __init__(self, give_back: Callable[[], None]) -> None:
        self.give_back = give_back
        self.forks: list[_Fork] = []

    def end(self) -> None:
        _loans.discard(self)
        _ended.append(self)
        _settle()

    def wait_for(self, fork: _Fork) -> None:
        self.forks = [*self.open_forks(), fork]

    def open_forks(self) -> list[_Fork]:
        return [fork for fork in self.forks if not fork.has_ended()]


class Sent(NamedTuple):
    """A tensor on its way.

    Attributes:
        data: Its bytes; or the worker, the number and the slot of the block that they are on, and their number.
        file: What the block's descriptor is duplicated from, and the size of the block; None if it is known.
        layout: Dtype, shape, strides and offset of the tensor.
    """

    data: npt.NDArray[np.uint8] | tuple[Origin, int, int, int]
    file: tuple[Any, int] | None
    layout: tuple[torch.dtype, torch.Size, tuple[int, ...], int]


_lock = RLock()  # finalizers do not take it: they may run at any time
_blocks: list[_Block] = []  # of this process, if it is a worker
_mapped: dict[Origin, dict[int, mmap.mmap]] = {}  # of workers whose batches this process receives
_loans: set[_Loan] = set()
_ended: deque[_Loan] = deque()  # loans whose tensors are gone; who takes one out gives its block back


def empty(size: int, dtype: torch.dtype) -> Tensor:
    """Allocate a 1-D tensor of undefined values; its memory is used again when nothing refers to it any more.

    In a DataLoader worker it is in shared memory, so that it is not copied on its way out.

    Args:
        size: The number of elements.
        dtype: Any dtype.
    """
    count = size * dtype.itemsize
    if get_worker_info() is None:
        return torch.from_numpy(borrow(count)).view(dtype)
    with _lock:
        if block := _find_block(count):
            return block.lend(count).view(dtype)
    return torch.empty(0, dtype=dtype).set_(torch.UntypedStorage._new_shared(count))[:size]


def send(tensor: Tensor) -> Sent | Tensor:
    """Return what represents a tensor in a message to another process, to be called when the message is pickled.

    Args:
        tensor: If it is not small, and not on a block of this worker, it is copied to one.

    Returns:
        The tensor itself, if PyTorch has to send it.
    """
    if tensor.device.type != "cpu" or tensor.requires_grad:
        return tensor
    if tensor.nbytes <= _SMALL:
        tensor = tensor.contiguous()
        return Sent(tensor.view(-1).view(torch.uint8).numpy().copy(), None, _layout(tensor))
    if get_worker_info() is None:
        return tensor
    with _lock:
        address = tensor.untyped_storage().data_ptr()
        block = next((block for block in _blocks if block.address == address), None)
        if block is None:
            if (block := _find_block(tensor.nbytes)) is None:
                return tensor
            strides = torch.empty_like(tensor, device="meta").stride()
            tensor = block.lend(tensor.nbytes).view(tensor.dtype).as_strided(tensor.shape, strides).copy_(tensor)
        if (slot := block.memory[:_SLOTS].find(_FREE)) < 0:
            return tensor
        block.memory[slot] = _SENT
    file = None if block.memory[_KNOWN] else (DupFd(block.file), _PAGE + block.capacity)
    return Sent((_origin(), block.number, slot, tensor.untyped_storage().nbytes()), file, _layout(tensor))


def receive(sent: Sent | Tensor) -> Tensor:
    """Return the tensor that `send` represented, on the same memory.

    Args:
        sent: A message is received once.

    Raises:
        RuntimeError: The message was received before, or its worker sent the block to another process.
    """
    if isinstance(sent, Tensor):
        return sent
    dtype, shape, strides, offset = sent.layout
    if isinstance(sent.data, np.ndarray):
        return torch.from_numpy(sent.data).view(dtype).view(shape)
    origin, number, slot, size = sent.data
    with _lock:
        _settle()
        memory = _map(origin, number, sent.file)
        if memory[slot] != _SENT:
            raise RuntimeError("a batch from a worker was unpickled twice: pickle it again in the process that has it")
        memory[slot] = _HELD
        storage = _lend(memory, size, partial(memory.__setitem__, slot, _FREE))
    return storage.view(dtype).as_strided(shape, strides, offset)


def _find_block(size: int) -> _Block | None:
    """Find a free block of this worker, or make one, or return None."""
    if not hasattr(os, "memfd_create"):
        return None
    _settle()
    capacity = capacity_of(max(size, _PAGE))
    for block in _blocks:
        if block.capacity == capacity and block.is_free():
            return block
    if len(_blocks) == _MOST:
        return None
    if not _blocks:
        Finalize(None, _announce_end, exitpriority=0)
    try:
        _blocks.append(_Block(len(_blocks), capacity))
    except OSError:  # no memory or no descriptor is left
        return None
    return _blocks[-1]


def _map(origin: Origin, number: int, file: tuple[Any, int] | None) -> mmap.mmap:
    """Return the memory of a worker's block."""
    if origin not in _mapped:
        for other in list(_mapped):
            if not _is_alive(other):
                _mapped.pop(other, None)
    blocks = _mapped.setdefault(origin, {})
    if file is not None:
        try:
            descriptor = file[0].detach()
        except (OSError, EOFError) as error:
            if number not in blocks:
                raise RuntimeError(f"worker {origin[0]} ended before its batch was received") from error
            return blocks[number]
        try:
            if number not in blocks:
                blocks[number] = mmap.mmap(descriptor, file[1])
                blocks[number][_KNOWN] = 1
        finally:
            os.close(descriptor)
    if number not in blocks:
        raise RuntimeError("a worker sent a batch to two processes: let one process receive the batches of a worker")
    return blocks[number]


def _settle() -> None:
    """Give back what nobody holds any more, and forget the blocks of workers that have ended."""
    for _ in range(len(_ended)):
        try:
            loan = _ended.popleft()
        except IndexError:  # another thread was faster
            break
        loan.forks = loan.open_forks()
        if loan.forks:
            _ended.append(loan)
        else:
            loan.give_back()
    for origin, blocks in list(_mapped.items()):
        if any(memory[_ENDED] for memory in list(blocks.values())):
            _mapped.pop(origin, None)


def _lend(memory: mmap.mmap, size: int, give_back: Callable[[], None]) -> Tensor:
    """Return a tensor of bytes on a block; slices, arrays and whatever else looks at it count as the tensor."""
    array = _bytes_on(memory, size)
    loan = _Loan(give_back)
    _loans.add(loan)
    weakref.finalize(array, loan.end).atexit = False
    return torch.from_numpy(array)


def _announce_end() -> None:
    for block in _blocks:
        block.memory[_ENDED] = 1


def _bytes_on(memory: mmap.mmap, size: int) -> npt.NDArray[np.uint8]:
    return np.frombuffer(memory, dtype=np.uint8, count=size, offset=_PAGE)


def _layout(tensor: Tensor) -> tuple[torch.dtype, torch.Size, tuple[int, ...], int]:
    return tensor.dtype, tensor.shape, tensor.stride(), int(tensor.storage_offset())


def _origin() -> Origin:
    return os.getpid(), _read_status(os.getpid())[1]


def _is_alive(origin: Origin) -> bool:
    try:
        state, start = _read_status(origin[0])
    except (FileNotFoundError, ProcessLookupError):
        return False
    except OSError:  # not for this process to see
        return True
    return state != "Z" and start == origin[1]


def _read_status(process: int) -> tuple[str, str]:
    """Read the state of a process and the time when it started."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()  # a name may hold anything
    return fields[0], fields[19]


def _before_fork() -> None:
    global _fork  # noqa: PLW0603
    _lock.acquire()
    loans = [*_loans, *_ended]
    if not loans:
        return
    _fork = _Fork()
    for loan in loans:
        loan.wait_for(_fork)


def _after_fork_here() -> None:
    global _fork  # noqa: PLW0603
    if _fork is not None and _fork.there >= 0:
        os.close(_fork.there)
    _fork = None
    _lock.release()


def _after_fork_there() -> None:
    """Begin without blocks; those that this process has copies of belong to the other one."""
    global _lock  # noqa: PLW0603 - a new one, as the forking thread holds this one
    _lock = RLock()
    for block in _blocks:
        os.close(block.file)
    for known in (_blocks, _mapped, _loans, _ended):
        known.clear()


_fork: _Fork | None = None
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_here, after_in_child=_after_fork_there)
