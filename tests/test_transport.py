"""Blocks of shared memory that come back: nothing is overwritten while anybody can see it, and nothing is left."""

import copy
import gc
import multiprocessing
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lightly_aug import MultiViewCollateFunction, Shape, View, Views, buffers, transport

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="only Linux has anonymous files")

SIDE = 40  # of images and views: a batch of four travels in blocks, not by value


class Gray(Dataset[Any]):
    """Images of one value each, which is their index modulo 251, so all views of an image have that value, too."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[np.ndarray[Any, Any], int]:
        return np.full((SIDE, SIDE + index % 3, 3), index % 251, dtype=np.uint8), index


def make_loader(
    count: int = 48, *, render: Any = "worker", workers: int = 2, views: int = 2, batch: int = 4, **options: Any
) -> DataLoader[Any]:
    collate = MultiViewCollateFunction([View(Shape(SIDE))] * views, seed=0, render=render)
    return DataLoader(Gray(count), batch, num_workers=workers, collate_fn=collate, **options)


def tensors_of(views: Views) -> list[Tensor]:
    return views.rendered or [views.images[i] for i in range(len(views.images))]


def check(tensor: Tensor, values: Tensor | float, *, rendered: bool) -> None:
    """Check that each image, or the one image, has the value of its index."""
    wanted = torch.as_tensor(values) % 251
    got = tensor if not rendered else tensor * 255
    wanted = wanted.float().view(-1, *[1] * (tensor.ndim - 1)).expand(tensor.shape)
    torch.testing.assert_close(got.float(), wanted, atol=1e-3, rtol=0)


def blocks_seen() -> int:
    return len(transport._mapped)


class Holder:
    """Keeps parts of batches in the ways that programs keep them, and checks them when it lets them go."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.kept: list[tuple[Any, float]] = []

    def keep(self, views: Views, index: Tensor) -> None:
        for tensor, i in self._parts(views, index):
            way = self.random.randrange(6)
            part: Any = tensor
            if way == 1:
                part = tensor[..., 3:7]
            elif way == 2:
                part = tensor.numpy()[..., ::2]
            elif way == 3 and tensor.is_floating_point():
                part = (torch.ones((), requires_grad=True) * tensor).grad_fn  # which saves the tensor
            elif way == 4:
                part = tensor.numpy().data
            elif way == 5:
                part = tensor.permute(1, 2, 0).unsqueeze(0).detach()
            self.kept.append((part, i))

    def _parts(self, views: Views, index: Tensor) -> Iterator[tuple[Tensor, float]]:
        for place, i in enumerate(index.tolist()):
            if views.rendered is None:
                yield views.images[place], i
            else:
                yield from ((view[place] * 1 if self.random.random() < 0.2 else view[place], i) for view in views)

    def let_go(self, share: float) -> None:
        for _ in range(int(len(self.kept) * share)):
            part, i = self.kept.pop(self.random.randrange(len(self.kept)))
            if hasattr(part, "next_functions"):
                part = part._saved_other
            tensor = part if isinstance(part, Tensor) else torch.from_numpy(np.asarray(part))
            check(tensor, float(i), rendered=tensor.is_floating_point())


@pytest.mark.parametrize("render", ["worker", "late"])
@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_nothing_is_overwritten_that_anybody_holds(render: str, start: str) -> None:
    workers = 2 if start == "fork" else 1
    loader = make_loader(
        96, render=render, workers=workers, multiprocessing_context=start, persistent_workers=start == "spawn"
    )
    holder = Holder(1)
    for epoch in range(3 if start == "fork" else 2):
        for number, (views, index) in enumerate(loader):
            holder.keep(views, index)
            holder.let_go(0.3)
            if epoch == 1 and number == 7:
                break
    holder.let_go(1)


def test_nothing_is_overwritten_with_several_loaders_and_threads() -> None:
    failed = list[BaseException]()

    def consume(seed: int, batches: Iterator[Any]) -> None:
        holder = Holder(seed)
        try:
            for views, index in batches:
                holder.keep(views, index)
                holder.let_go(0.4)
            holder.let_go(1)
        except BaseException as error:
            failed.append(error)

    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        # workers start before there are threads: PyTorch holds a lock while it receives, which a fork would copy
        loaders = [iter(make_loader(64, render=("worker", "late")[seed % 2], workers=1)) for seed in range(4)]
        threads = [threading.Thread(target=consume, args=pair) for pair in enumerate(loaders)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(switch)
    assert not failed


def test_blocks_are_used_again() -> None:
    loader = make_loader(400, workers=1, persistent_workers=True)
    places = set()
    for views, index in loader:
        for view in views:
            check(view, index, rendered=True)
            places.add(view.data_ptr())
    assert blocks_seen() <= 4  # two batches ahead, one here, one that is being made
    assert len(places) <= 2 * blocks_seen()  # two views


def test_the_blocks_of_workers_that_ended_are_forgotten() -> None:
    for render in ("worker", "late", "worker"):
        for views, _ in make_loader(render=render):  # noqa: B007 - the last one is held
            pass
    before = blocks_seen()
    del views
    gc.collect()
    assert before > 0
    deadline = time.monotonic() + 10
    while blocks_seen() and time.monotonic() < deadline:  # workers end after their loader
        time.sleep(0.05)
        transport._settle()
    assert blocks_seen() == 0


def test_more_views_can_be_held_than_there_are_blocks() -> None:
    kept = [(views, index) for views, index in make_loader(4 * 90, workers=1)]
    assert blocks_seen() <= transport._MOST < len(kept)
    for views, index in kept:
        for view in views:
            check(view, index, rendered=True)


def kill_a_worker() -> None:
    loader = make_loader(400, workers=1)
    iterator: Any = iter(loader)
    kept = [next(iterator) for _ in range(3)]
    failed = False
    try:
        os.kill(iterator._workers[0].pid, signal.SIGKILL)
        list(iterator)
    except (RuntimeError, OSError, EOFError):  # also from PyTorch, which asks the dead worker for the labels
        failed = True
    assert failed
    assert blocks_seen()
    del iterator
    places = set(transport._mapped)
    for views, index in make_loader(8, workers=1):
        check(views[0], index, rendered=True)
    assert not places & set(transport._mapped)
    for views, index in kept:
        check(views[0], index, rendered=True)


def test_views_of_a_killed_worker_stay() -> None:
    """In a process of its own, since the loader raises from a signal handler, at any time."""
    program = "import test_transport; test_transport.kill_a_worker()"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parent)


def test_a_forked_process_keeps_what_it_inherits() -> None:
    """Its parent lets a batch go and receives many more; the fork sees the first one all the same."""
    loader = make_loader(400, workers=1, persistent_workers=True)
    iterator = iter(loader)
    views, index = next(iterator)
    context = multiprocessing.get_context("fork")
    go, result = context.Event(), context.SimpleQueue()
    held = [views[0]]

    def look() -> None:
        go.wait()
        result.put(held[0].flatten(1).mean(dim=1).tolist())

    process = context.Process(target=look, daemon=True)
    process.start()
    place = held[0].data_ptr()
    del views
    held.clear()
    for other, _ in iterator:
        assert other[0].data_ptr() != place
    go.set()
    check(torch.tensor(result.get()), index, rendered=True)
    process.join()
    process.close()
    transport._settle()
    assert not transport._ended  # nobody sees it now, so it was given back


def test_a_forked_process_gives_nothing_back() -> None:
    loader = make_loader(400, workers=1, persistent_workers=True)
    iterator = iter(loader)
    kept = list(next(iterator)[0])
    context = multiprocessing.get_context("fork")
    process = context.Process(target=kept.clear)
    process.start()
    process.join()
    process.close()
    for _ in iterator:
        pass
    for view in kept:
        check(view, torch.arange(4), rendered=True)


def test_a_fork_of_a_fork_gives_nothing_back() -> None:
    """The fork, which has let go of its copy, forks a process that ends, while the parent still holds the batch."""
    loader = make_loader(400, workers=1, persistent_workers=True)
    iterator = iter(loader)
    kept = list(next(iterator)[0])
    context = multiprocessing.get_context("fork")

    def fork_again() -> None:
        kept.clear()
        inner = context.Process(target=int)
        inner.start()
        inner.join()

    process = context.Process(target=fork_again)
    process.start()
    process.join()
    process.close()
    for _ in iterator:
        pass
    for view in kept:
        check(view, torch.arange(4), rendered=True)


def test_a_fork_that_forks_keeps_what_it_inherits() -> None:
    loader = make_loader(400, workers=1, persistent_workers=True)
    iterator = iter(loader)
    views, index = next(iterator)
    context = multiprocessing.get_context("fork")
    forked, go, result = context.Event(), context.Event(), context.SimpleQueue()
    held = [views[0]]

    def look() -> None:
        inner = context.Process(target=int)
        inner.start()
        inner.join()
        forked.set()
        go.wait()
        result.put(held[0].flatten(1).mean(dim=1).tolist())

    process = context.Process(target=look)
    process.start()
    forked.wait()
    del views
    held.clear()
    for _ in iterator:
        pass
    go.set()
    check(torch.tensor(result.get()), index, rendered=True)
    process.join()
    process.close()


def test_sending_views_onwards_leaves_arrays_on_them_alone() -> None:
    loader = make_loader(400, workers=1)
    iterator = iter(loader)
    views, index = next(iterator)
    arrays = [view.numpy() for view in views.rendered]
    ForkingPickler.dumps(views)
    del views
    for _ in iterator:
        pass
    for array in arrays:
        check(torch.from_numpy(array), index, rendered=True)


def test_sizes_that_are_not_asked_for_any_more_are_given_up() -> None:
    """One worker, whose batches become small: the large blocks go, in the worker and here."""
    sides = [120] * 20 + [40] * 300

    class Shrinking(Gray):
        def __getitem__(self, index: int) -> tuple[np.ndarray[Any, Any], int]:
            return np.full((sides[index // 4], 40, 3), index % 251, dtype=np.uint8), index

    collate = MultiViewCollateFunction([View(Shape(SIDE))], seed=0, render="late")
    for views, _ in DataLoader(Shrinking(4 * len(sides)), 4, num_workers=1, collate_fn=collate):
        views.images[0]
    sizes = {len(memory) for memory in transport._mapped.values()}
    assert len(sizes) == 1


def test_nothing_is_left_behind() -> None:
    def look() -> tuple[set[str], int]:
        gc.collect()
        transport._settle()
        return set(os.listdir("/dev/shm")), len(os.listdir("/proc/self/fd"))  # noqa: PTH208

    for _ in make_loader():  # what the first loader starts once
        pass
    files, descriptors = look()
    for _ in range(2):
        for _ in make_loader(16):
            pass
        next(iter(make_loader(16)))
    left, now = look()
    assert left <= files
    assert now <= descriptors + 2


@pytest.mark.parametrize("render", ["worker", "late"])
def test_without_anonymous_files_pytorch_sends_the_views(render: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create")
    before = blocks_seen()
    for views, index in make_loader(render=render):
        check(tensors_of(views)[0], index if views.rendered else float(index[0]), rendered=views.rendered is not None)
    assert blocks_seen() <= before


class Reference(MultiViewCollateFunction):
    """Replaces the rendered views in the worker by tensors that are not on its blocks."""

    def __call__(self, samples: Any) -> Any:
        views, index = super().__call__(samples)
        views.rendered[0] = views.rendered[0].to(torch.bfloat16).to(memory_format=torch.channels_last)
        views.rendered[1] = views.rendered[1][:, 1:, ::2]
        return views, index


def test_other_tensors_keep_dtype_and_strides() -> None:
    collate = Reference([View(Shape(SIDE))] * 2, seed=0, render="worker")
    alone = [collate([Gray(8)[i] for i in range(4)])]
    first, second = alone[0][0].rendered
    views, _ = next(iter(DataLoader(Gray(8), 4, num_workers=1, collate_fn=collate)))
    for one, wanted in zip(views.rendered, (first, second), strict=True):
        assert (one.dtype, one.shape) == (wanted.dtype, wanted.shape)
        assert torch.equal(one, wanted)
    assert views.rendered[0].stride() == first.stride()


def test_views_can_be_pickled_and_copied_where_they_are() -> None:
    for views, index in make_loader(8, workers=1):
        others = [pickle.loads(pickle.dumps(views)), copy.deepcopy(views)]
        assert views[0].data_ptr() not in {other[0].data_ptr() for other in others}
        others.append(ForkingPickler.loads(ForkingPickler.dumps(views)))
        for other in others:
            check(other[0], index, rendered=True)
            assert torch.equal(other.table, views.table)


class Pickled(MultiViewCollateFunction):
    """Sends its batches as bytes, which can be received more than once."""

    def __call__(self, samples: Any) -> Any:
        views, index = super().__call__(samples)
        return bytes(ForkingPickler.dumps(views)), index


def test_a_message_is_received_once() -> None:
    collate = Pickled([View(Shape(SIDE))], seed=0, render="worker")
    for number, (message, index) in enumerate(DataLoader(Gray(80), 4, num_workers=1, collate_fn=collate)):
        views = ForkingPickler.loads(message)
        check(views[0], index, rendered=True)
        if number > 10:  # its block is known
            with pytest.raises(RuntimeError, match="unpickled twice"):
                ForkingPickler.loads(message)


@given(st.lists(st.tuples(st.integers(0, 300_000), st.booleans()), max_size=30))
def test_borrowed_memory_is_nobody_elses(asked: list[tuple[int, bool]]) -> None:
    kept = list[tuple[np.ndarray[Any, Any], int]]()
    for number, (size, keeps) in enumerate(asked):
        array = buffers.borrow(size)
        assert array.shape == (size,)
        assert array.dtype == np.uint8
        array[:] = number
        if keeps:
            kept.append((array[size // 3 :], number))
    for part, number in kept:
        assert (part == number).all()


def test_borrowed_memory_is_used_again() -> None:
    place = buffers.borrow(1 << 20).ctypes.data
    array = buffers.borrow((1 << 20) - 5)
    assert array.ctypes.data == place
    tensor = torch.from_numpy(array)[3:].view(-1)
    del array
    assert buffers.borrow(1 << 20).ctypes.data != place
    del tensor
    assert buffers.borrow(1 << 20).ctypes.data == place


def test_little_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buffers, "_MOST", 3 << 20)
    arrays = [buffers.borrow(1 << 20) for _ in range(6)]
    del arrays
    assert 0 < sum(capacity * len(kept) for capacity, kept in buffers._kept.items()) <= 3 << 20
