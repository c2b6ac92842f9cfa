"""Faults that a training meets: ranks with uneven batches, workers that die or hang, Ctrl-C. Every process is real."""

import gc
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from helpers.methods import METHODS, batches, tiny
from helpers.processes import children, count_descriptors, shared_files
from helpers.ranks import Ranks, start_ranks
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from lightly_aug import EpochSampler, Indexed, SimCLRCollateFunction
from lightly_aug.distributed import _hosts, gather, in_step, rank
from lightly_aug.images import image_files

RANKS = 2
# methods whose losses exchange nothing, or averages, which have one shape whatever the batch
WITHOUT_ROWS = {"BYOL", "SimSiam", "DINO"}


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ranks]:
    with start_ranks(RANKS, tmp_path_factory.mktemp("ranks")) as started:
        yield started


def error_of(call: Callable[[], object]) -> str:
    """Return what a call raises, with the notes of the error; empty if it raises nothing."""
    try:
        call()
    except Exception as error:
        return "\n".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", [])])
    return ""


def take_uneven_step(name: str) -> tuple[str, float]:
    """Take a step with four images on the first rank and three on the others, and one with as many on each."""
    torch.manual_seed(0)
    model = METHODS[name].model(tiny())
    uneven, even = (batch.rows(slice(0, rows)) for batch, rows in zip(batches(name), (4 - min(rank(), 1), 4)))  # noqa: B905
    return error_of(lambda: uneven.loss(model)), even.loss(model).item()


@pytest.mark.parametrize("name", METHODS)
def test_an_uneven_batch_is_an_error_on_every_rank_and_the_ranks_go_on(ranks: Ranks, name: str) -> None:
    answers = ranks(take_uneven_step, name)
    for says, loss in answers:
        assert np.isfinite(loss)
        if name in WITHOUT_ROWS:
            assert says == ""
        else:
            assert says == answers[0][0]
            assert says.startswith("ValueError: gather: every rank must have a batch of the same shape, got ")
            assert "drop_last=True" in says


def gather_shapes(shapes: list[tuple[int, ...]]) -> str:
    return error_of(lambda: gather(torch.zeros(shapes[rank()]), grad=True))


@pytest.mark.parametrize(
    ("shapes", "says"),
    [
        ([(3, 4), (3, 4)], ""),
        ([(0, 4), (0, 4)], ""),
        ([(3, 4), (2, 4)], "got 3 rows of 4 values on rank 0 and 2 of 4 on rank 1"),
        ([(3, 4), (0, 4)], "got 3 rows of 4 values on rank 0 and 0 of 4 on rank 1"),
        ([(6, 2), (3, 4)], "got 6 rows of 2 values on rank 0 and 3 of 4 on rank 1"),  # as many values
    ],
)
def test_shapes_are_compared(ranks: Ranks, shapes: list[tuple[int, ...]], says: str) -> None:
    for answer in ranks(gather_shapes, shapes):
        assert says in answer if says else answer == ""


def walk_in_step(counts: list[int]) -> tuple[list[int], list[str]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        seen = [int(gather(torch.tensor([batch])).sum()) for batch in in_step(range(counts[rank()]))]
    return seen, [str(warning.message) for warning in caught]


@pytest.mark.parametrize("counts", [[3, 5], [5, 3], [4, 4], [0, 2]])
def test_in_step_ends_all_loops_with_the_shortest(ranks: Ranks, counts: list[int]) -> None:
    (here, told), (there, other) = ranks(walk_in_step, counts)
    assert here == there == [2 * batch for batch in range(min(counts))]
    assert other == []
    if counts[0] == counts[1]:
        assert told == []
    else:
        short = counts.index(min(counts))
        assert [text.split(":")[0:2] for text in told] == [
            ["in_step", f" rank {short} has {min(counts)} batches, and others have more, which are left out"]
        ]


def test_in_step_passes_one_process_through() -> None:
    assert list(in_step(iter("abc"))) == ["a", "b", "c"]


def work_on_rank(number: int, store: str, backend: str, seconds: float, job: Callable[[], Any], answers: Any) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        backend, init_method=f"file://{store}", rank=number, world_size=RANKS, timeout=timedelta(seconds=seconds)
    )
    answers.put((number, job()))
    dist.destroy_process_group()


def run_ranks(folder: Path, job: Callable[[], Any], backend: str = "gloo", seconds: float = 60) -> list[Any]:
    """Return what a job returns on each of some fresh ranks, which end after it."""
    context = mp.get_context("forkserver")
    context.set_forkserver_preload(["lightly_aug.train"])
    answers = context.SimpleQueue()
    processes = [
        context.Process(target=work_on_rank, args=(number, str(folder / "store"), backend, seconds, job, answers))
        for number in range(RANKS)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    return [answer for _, answer in sorted(answers.get() for _ in processes)]


def gather_once_more_on_the_first_rank() -> str:
    gather(torch.zeros(2, 3))
    return error_of(lambda: gather(torch.zeros(2, 3))) if rank() == 0 else ""


def test_a_rank_that_has_ended_is_named_as_the_cause_at_once(tmp_path: Path) -> None:
    start = time.monotonic()
    says, _ = run_ranks(tmp_path, gather_once_more_on_the_first_rank)
    assert "one of them ended or had no batch" in says
    assert time.monotonic() - start < 50  # not the timeout of 60


def gather_while_the_other_rank_waits() -> str:
    gather(torch.zeros(2, 3))
    if rank() == 0:
        return error_of(lambda: gather(torch.zeros(2, 3)))
    time.sleep(4)
    return ""


def test_a_rank_without_a_batch_is_named_as_the_cause_after_the_timeout(tmp_path: Path) -> None:
    says, _ = run_ranks(tmp_path, gather_while_the_other_rank_waits, seconds=1.5)
    assert "one of them ended or had no batch" in says


def compare_shapes_beside_the_default_group() -> tuple[list[str], bool]:
    errors = [error_of(lambda: gather(torch.zeros(2 + rank(), 3))) for _ in range(2)]
    return errors, _hosts() is _hosts()


def test_shapes_are_compared_where_the_default_group_is_for_devices_only(tmp_path: Path) -> None:
    for answers, made_once in run_ranks(tmp_path, compare_shapes_beside_the_default_group, backend="cuda:gloo"):
        assert ["2 rows of 3 values on rank 0 and 3 of 3 on rank 1" in says for says in answers] == [True, True]
        assert made_once


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", METHODS)
def test_a_batch_without_images_is_refused(name: str, training: bool) -> None:
    model = METHODS[name].model(tiny()).train(training)
    empty = next(iter(batches(name))).rows(slice(0, 0))
    with pytest.raises(ValueError, match=r"views must have at least (one|1|2) images?"):
        empty.loss(model)


def kill_itself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def hang() -> None:
    time.sleep(3600)


class Faulty(Dataset[npt.NDArray[np.uint8]]):
    """Images, of which one does something else first."""

    def __init__(self, act: Callable[[], None] | None = None, bad: int = 5) -> None:
        self.act, self.bad = act, bad

    def __len__(self) -> int:
        return 24

    def __getitem__(self, index: int) -> npt.NDArray[np.uint8]:
        if self.act is not None and index == self.bad:
            self.act()
        return np.full((24, 30, 3), index, dtype=np.uint8)


Render = Literal["late", "worker"]


def load(data: Faulty, render: Render = "late", **options: Any) -> DataLoader[Any]:
    return DataLoader(data, 4, num_workers=2, collate_fn=SimCLRCollateFunction(16, seed=0, render=render), **options)


def wait_until_gone(pids: set[int]) -> set[int]:
    """Return those of some processes that have not ended after a while."""
    deadline = time.monotonic() + 10
    while (left := {pid for pid in pids if Path(f"/proc/{pid}").exists()}) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


linux = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="reads /proc of Linux")


@linux
@pytest.mark.parametrize("render", ["late", "worker"])
@pytest.mark.parametrize(
    ("act", "options", "says"),
    [
        (kill_itself, {}, r"DataLoader worker \(pid\(s\) {pid}\) exited unexpectedly"),
        (hang, {"timeout": 1}, r"DataLoader timed out after 1 seconds"),
    ],
)
def test_a_worker_that_dies_or_hangs_ends_the_loop_and_leaves_nothing(
    act: Callable[[], None], options: dict[str, Any], says: str, render: Render
) -> None:
    next(iter(load(Faulty(), render)))  # what is made once, such as torch's own threads
    mine, descriptors = children(), count_descriptors()
    iterator = iter(load(Faulty(act), render, **options))
    workers = [worker.pid for worker in iterator._workers]  # type: ignore[attr-defined]
    start = time.monotonic()
    with pytest.raises(RuntimeError, match=says.format(pid=workers[1])):  # the second has sample 5
        list(iterator)
    assert time.monotonic() - start < 10
    del iterator
    gc.collect()
    assert wait_until_gone(set(workers)) == set()
    assert children() == mine
    assert count_descriptors() <= descriptors
    assert shared_files({os.getpid(), *workers}) == []


FOR_EVER = """
import multiprocessing, numpy, signal, torch
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it for what it runs in the background
from torch.utils.data import DataLoader
from lightly_aug import SimCLRCollateFunction
images = [numpy.zeros((24, 30, 3), numpy.uint8)] * 24
collate = SimCLRCollateFunction(16, seed=0, render="{render}")
loader = DataLoader(images, 4, num_workers=2, collate_fn=collate, persistent_workers=True)
for epoch in range(10**9):
    for batch in loader:
        if epoch == 1:
            print(*(worker.pid for worker in multiprocessing.active_children()), flush=True)
"""


@linux
@pytest.mark.parametrize("render", ["late", "worker"])
def test_ctrl_c_ends_the_process_and_its_workers(render: Render) -> None:
    script = [sys.executable, "-c", FOR_EVER.format(render=render)]
    pipe = subprocess.PIPE
    with subprocess.Popen(script, stdout=pipe, stderr=pipe, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        workers = {int(pid) for pid in process.stdout.readline().split()}
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        try:
            _, errors = process.communicate(timeout=30)
        finally:
            process.kill()
    assert len(workers) == 2
    assert process.returncode == -signal.SIGINT
    assert "KeyboardInterrupt" in errors
    assert wait_until_gone(workers) == set()
    assert shared_files({process.pid, *workers}) == []


def test_an_empty_rank_in_the_environment_is_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    images = [np.zeros((24, 30, 3), np.uint8)] * 2
    monkeypatch.delenv("RANK", raising=False)
    expected = SimCLRCollateFunction(16, seed=0)(images).table
    monkeypatch.setenv("RANK", "")
    assert torch.equal(SimCLRCollateFunction(16, seed=0)(images).table, expected)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="has no rights of users")
def test_a_folder_that_cannot_be_read_is_named() -> None:
    with TemporaryDirectory() as top:
        folder, closed = Path(top), Path(top) / "closed"
        closed.mkdir()
        for place in (folder, closed):
            Image.new("RGB", (4, 4)).save(place / "photo.png")
        folder.chmod(0o755)
        closed.chmod(0)
        root = os.geteuid() == 0  # who may read everything
        if root:
            os.seteuid(65534)
        try:
            with pytest.warns(UserWarning, match=r"passed over what cannot be read: .*Permission denied.*closed"):
                assert image_files(folder) == [folder / "photo.png"]
        finally:
            if root:
                os.seteuid(0)
            closed.chmod(0o700)


def test_set_epoch_of_a_sampler_undoes_a_glance_at_a_batch() -> None:
    """A glance is an epoch, for a sampler and for a collate function that counts by itself."""
    images = Indexed([np.full((24, 30, 3), i, np.uint8) for i in range(8)])

    def draw(sampler: EpochSampler | None, glance: bool) -> list[torch.Tensor]:
        loader = DataLoader(images, 4, sampler=sampler, collate_fn=SimCLRCollateFunction(16, seed=0))
        if glance:
            next(iter(loader))
            if sampler is not None:
                sampler.set_epoch(0)
        return [batch.table for _ in range(2) for batch in loader]

    counted = draw(EpochSampler(images, shuffle=True, seed=1), glance=False)
    assert all(map(torch.equal, draw(EpochSampler(images, shuffle=True, seed=1), glance=True), counted))
    assert not any(map(torch.equal, draw(None, glance=True), draw(None, glance=False)))
