"""Nothing grows while loaders come and go: processes, threads, descriptors, shared memory, memory.

CYCLES=1000 .venv/bin/pytest -s tests/test_leaks.py prints the figures of docs/reliability.md.
"""

import gc
import os
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pytest
from helpers.processes import children, count_descriptors, count_shared_maps, count_threads, resident, shared_files
from torch.utils.data import DataLoader

from lightly_aug import SimCLRCollateFunction

CYCLES = int(os.environ.get("CYCLES", "20"))
WARM_UP = 5
GROWTH = 4.0  # MB that the allocator may keep, however many cycles there are

IMAGES = list(np.random.default_rng(0).integers(0, 256, (8, 40, 30, 3), dtype=np.uint8))


class Held(NamedTuple):
    """What this process holds."""

    processes: int
    threads: int
    descriptors: int
    shared_maps: int
    shared_files: int
    megabytes: float


def measure() -> Held:
    gc.collect()
    return Held(
        len(children()), count_threads(), count_descriptors(), count_shared_maps(),
        len(shared_files({os.getpid()})), resident(),
    )  # fmt: skip


def cycle(render: Literal["late", "worker"], function: Any = None) -> None:
    """Make a loader with a worker, read an epoch, render its views, and let go of all of it."""
    collate = function or SimCLRCollateFunction(16, seed=0, render=render)
    for views in DataLoader(IMAGES, 4, num_workers=1, collate_fn=collate):  # type: ignore[arg-type]
        assert [x.shape for x in views.to("cpu")] == [(4, 3, 16, 16)] * 2


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="reads /proc of Linux")
@pytest.mark.parametrize("render", ["late", "worker"])
def test_loaders_leave_nothing(render: Literal["late", "worker"], one_thread: None) -> None:
    for _ in range(WARM_UP):
        cycle(render)
    before = measure()
    for _ in range(CYCLES):
        cycle(render)
    after = measure()
    print(f"\n{CYCLES} cycles, render={render}\n  before {before}\n  after  {after}")
    assert after[:-1] == before[:-1]
    assert after.megabytes - before.megabytes < GROWTH
