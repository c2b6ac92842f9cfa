"""Tensors on their way from a worker to the process that loads batches, in shared memory that is used again.

A page of shared memory that is touched for the first time costs more than rendering what is written to it. So a worker
keeps its blocks of shared memory. It sends the number of a block; the receiver maps each block once, and clears a byte
in it when its last tensor on the block is gone; then the worker uses the block again. Nobody waits: if all blocks are
held, or there are no anonymous files (`memfd_create`), as on macOS and Windows, PyTorch sends the tensors.

The first page of a block is a row of bytes, none of which is written by two processes at a time:

* Slots, one for each time that the block was sent. The worker sets a slot to `_SENT`, the receiver to `_HELD`, and back
  to `_FREE`.
* `_KNOWN`: the receiver has mapped the block, so that its descriptor need not be sent any more.
* `_ENDED`: the block is not sent again.
"""

import mmap
import os
import select
import sys
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import count
from multiprocessing.reduction import DupFd
from multiprocessing.util import Finalize
from pathlib import Path
from threading import Lock, RLock, local
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from lightly_aug.buffers import borrow, capacity_of

__all__ = ["Sent", "empty", "receive", "send"]

_MOST: Final = 64
"""How many blocks a worker keeps; a batch takes one or two."""

_LONG: Final = 256
"""A block that was not used when this many were lent is given up."""

_SMALL: Final = 1 << 14
"""Up to this many bytes, a tensor travels in the message itself."""

_PAGE: Final = mmap.PAGESIZE
_SLOTS, _KNOWN, _ENDED = 64, 64, 65
_FREE, _SENT, _HELD = 0, 1, 2
_FREE_SLOT: Final = bytes(1)
_ALL_FREE: Final = bytes(_SLOTS)

Origin = tuple[int, str]
"""A process: its number and the time when it started, since numbers are given again."""


class _Block:
    """A block of this process.

    Attributes:
        number: A number that no other block of this process has or had.
        capacity: The number of bytes behind the first page.
        memory: All of it.
        file: Its descriptor, until the receiver knows the block.
        address: Where the bytes behind the first page begin.
        here: Held while a tensor of this process is on it.
        used: When it was lent, in blocks that were lent before.
    """

    def __init__(self, capacity: int) -> None:
        self.number = next(_numbers)
        self.capacity = capacity
        self.file = os.memfd_create("lightly_aug", os.MFD_CLOEXEC)
        try:
            os.ftruncate(self.file, _PAGE + capacity)
            self.memory = _open(self.file, _PAGE + capacity)
        except OSError:
            os.close(self.file)
            raise
        self.address = _bytes_on(self.memory, 1).ctypes.data
        self.here = Lock()
        self.used = 0

    def take(self) -> bool:
        """Take the block, if nobody holds it."""
        if not self.here.acquire(blocking=False):
            return False
        if self.memory[:_SLOTS] == _ALL_FREE:
            return True
        self.here.release()
        return False

    def lend(self, size: int) -> Tensor:
        """Return a tensor of bytes on the block, which was taken."""
        self.used = next(_lent)
        return _lend(self.memory, size, self.here.release)

    def duplicate_file(self) -> tuple[Any, int] | None:
        """Return what the receiver maps the block from; None if it has done so."""
        if not self.memory[_KNOWN]:
            return DupFd(self.file), _PAGE + self.capacity
        self.close()
        return None

    def close(self) -> None:
        """Close the descriptor."""
        file, self.file = self.file, -1
        if file >= 0:
            os.close(file)

    def end(self) -> None:
        """Tell the receiver that the block is not sent again."""
        self.memory[_ENDED] = 1
        self.close()


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
    The fork has a copy of this object, and never gives anything back.
    """

    def __init__(self, give_back: Callable[[], None]) -> None:
        self.process = os.getpid()
        self.give_back = give_back
        self.forks: list[_Fork] = []

    def end(self) -> None:
        if self.process == os.getpid():
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


# Finalizers and signal handlers run at any time, and finalizers of others may wait for a thread that receives. So
# there is no lock around anything that could run them; single operations of lists, dicts and sets are not interrupted.
_slots = RLock()
_numbers, _lent = count(), count()
_blocks: list[_Block] = []  # of this process, if it is a worker; the one that was lent last is the last
_mapped: dict[tuple[Origin, int], mmap.mmap] = {}  # of workers whose batches this process receives, by number
_loans: set[_Loan] = set()
_ended: deque[_Loan] = deque()  # loans whose tensors are gone; who takes one out gives its block back
_forking = local()  # the process that this thread forks


def empty(size: int, dtype: torch.dtype) -> Tensor:
    """Allocate a 1-D tensor of undefined values; its memory is used again when nothing refers to it any more.

    In a DataLoader worker it is in shared memory, so that it is not copied on its way out.

    Args:
        size: The number of elements.
        dtype: Any dtype.
    """
    total = size * dtype.itemsize
    if get_worker_info() is None:
        return torch.from_numpy(borrow(total)).view(dtype)
    if block := _take_block(total):
        return block.lend(total).view(dtype)
    return torch.empty(0, dtype=dtype).set_(torch.UntypedStorage._new_shared(total))[:size]


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
        return _copy(tensor)
    address = tensor.untyped_storage().data_ptr()
    block = next((block for block in _blocks[:] if block.address == address), None)
    if block is None:
        if (block := _take_block(tensor.nbytes)) is None:
            return _copy(tensor)
        strides = torch.empty_like(tensor, device="meta").stride()
        tensor = block.lend(tensor.nbytes).view(tensor.dtype).as_strided(tensor.shape, strides).copy_(tensor)
    with _slots:  # nothing in here runs finalizers
        if (slot := block.memory.find(_FREE_SLOT, 0, _SLOTS)) >= 0:
            block.memory[slot] = _SENT
    if slot < 0:
        return _copy(tensor)
    try:
        file = block.duplicate_file()
    except OSError:  # no descriptor is left
        block.memory[slot] = _FREE
        return _copy(tensor)
    size = tensor.untyped_storage().nbytes() // tensor.itemsize * tensor.itemsize
    return Sent((_origin(), block.number, slot, size), file, _layout(tensor))


def _copy(tensor: Tensor) -> Tensor:
    """Copy a tensor that PyTorch would move to shared memory, away from the arrays that look at it."""
    return tensor if tensor.is_shared() else tensor.clone()


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
    _settle()
    memory = _map(origin, number, sent.file)
    if memory[slot] != _SENT:
        raise RuntimeError("a batch from a worker was unpickled twice: pickle it again in the process that has it")
    memory[slot] = _HELD
    storage = _lend(memory, size, partial(memory.__setitem__, slot, _FREE))
    return storage.view(dtype).as_strided(shape, strides, offset)


def _take_block(size: int) -> _Block | None:
    """Take a free block of this worker, or a new one; None if there is none."""
    if not hasattr(os, "memfd_create"):
        return None
    _settle()
    capacity = capacity_of(max(size, _PAGE))
    block = next((block for block in _blocks[::-1] if block.capacity == capacity and block.take()), None)
    _retire(make_room=block is None)
    if block is None and len(_blocks) < _MOST:
        with suppress(OSError):  # no memory or no descriptor is left
            block = _Block(capacity)
            block.take()
            if not _blocks:
                Finalize(None, _announce_end, exitpriority=-10)  # when the last message is sent
    elif block is not None:
        _blocks.remove(block)
    if block is not None:
        _blocks.append(block)
    return block


def _retire(*, make_room: bool) -> None:
    """Give up a free block that was not used for long, or the one that was not used for longest if there are many."""
    now = _blocks[-1].used if _blocks else 0
    for block in _blocks[:]:
        if now - block.used < _LONG and not (make_room and len(_blocks) >= _MOST):
            break
        if block.take():  # for ever
            _blocks.remove(block)
            block.end()


def _map(origin: Origin, number: int, file: tuple[Any, int] | None) -> mmap.mmap:
    """Return the memory of a worker's block."""
    known = _mapped.get((origin, number))
    if known is None:
        for place in list(_mapped):
            if place[0] != origin and not _is_alive(place[0]):
                _mapped.pop(place, None)
    if file is not None:
        try:
            descriptor = file[0].detach()
        except (OSError, EOFError) as error:
            if known is None:
                raise RuntimeError(
                    f"a batch of worker {origin[0]} cannot be received: {error or 'it ended'}"
                ) from error
            return known
        try:
            known = known or _mapped.setdefault((origin, number), _open(descriptor, file[1]))
            known[_KNOWN] = 1
        finally:
            os.close(descriptor)
    if known is None:
        raise RuntimeError("a worker sent a batch to two processes: let one process receive the batches of a worker")
    return known


def _settle() -> None:
    """Give back what nobody holds any more, and forget the blocks that are not sent again."""
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
    for place in list(_mapped):
        if (memory := _mapped.get(place)) and memory[_ENDED] and memory.find(bytes([_SENT]), 0, _SLOTS) < 0:
            _mapped.pop(place, None)


def _lend(memory: mmap.mmap, size: int, give_back: Callable[[], None]) -> Tensor:
    """Return a tensor of bytes on a block; slices, arrays and whatever else looks at it count as the tensor."""
    array = _bytes_on(memory, size)
    loan = _Loan(give_back)
    _loans.add(loan)
    weakref.finalize(array, loan.end).atexit = False
    return torch.from_numpy(array)


def _announce_end() -> None:
    for block in _blocks:
        block.end()


def _open(file: int, size: int) -> mmap.mmap:
    """Map a file, before Python 3.13 with a descriptor for as long as it is mapped."""
    options: dict[str, Any] = {"trackfd": False} if sys.version_info >= (3, 13) else {}
    return mmap.mmap(file, size, **options)


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
    _forking.fork = None
    if loans := [*_loans, *_ended]:
        _forking.fork = fork = _Fork()
        for loan in loans:
            loan.wait_for(fork)


def _after_fork_here() -> None:
    fork, _forking.fork = _forking.fork, None
    if fork is not None and fork.there >= 0:
        os.close(fork.there)


def _after_fork_there() -> None:
    """Begin without blocks; those that this process has copies of belong to the other one.

    The end of the pipe stays open until this process ends.
    """
    global _slots
    _slots, _forking.fork = RLock(), None
    for block in _blocks:
        block.close()
    for known in (_blocks, _mapped, _loans, _ended):
        known.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_here, after_in_child=_after_fork_there)
