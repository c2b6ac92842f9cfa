"""Where the time of a loader goes: its stages, what it leaves alone, and its advice."""

import json
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import partial
from multiprocessing import active_children
from pathlib import Path
from typing import Any, NamedTuple

import kornia.augmentation as K
import numpy as np
import pytest
import torch
from helpers.photos import write_photos
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset, RandomSampler, default_collate
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from lightly_aug import (
    EpochSampler,
    Indexed,
    MultiViewCollateFunction,
    Normalize,
    Shape,
    SimCLRCollateFunction,
    View,
    prefetch,
)
from lightly_aug.bench import LoaderTimes, Stage, _advice, write_times
from lightly_aug.bench import loader as measure
from lightly_aug.bench._advice import advise
from lightly_aug.stages import Stopwatch, stage

pytestmark = pytest.mark.usefixtures("one_thread")

OURS = ("dataset", "decode", "pack", "draw", "render", "collate", "device")
LATE = ("dataset", "decode", "pack", "draw", "collate", "device")


def ours(**options: Any) -> SimCLRCollateFunction:
    return SimCLRCollateFunction(16, **{"seed": 0, "render": "worker", **options})


def names(times: LoaderTimes) -> tuple[str, ...]:
    return tuple(stage.name for stage in times.stages)


def load(data: Any, batch_size: int | None = 1, **options: Any) -> DataLoader[Any]:
    return DataLoader(data, batch_size, **options)


def tensors(count: int = 12) -> list[Any]:
    return [(torch.rand(3, 20, 24), label) for label in range(count)]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    write_photos(folder, classes=2, count=6)
    return folder


# --- the stopwatch --------------------------------------------------------------------------------------------------


def test_a_stage_within_another_is_counted_once() -> None:
    with Stopwatch() as watch, stage("outer"):
        time.sleep(0.02)
        with stage("inner"):
            time.sleep(0.05)
        time.sleep(0.02)
    assert 0.04 <= watch.seconds["outer"] < 1
    assert 0.05 <= watch.seconds["inner"] < 1
    assert sum(watch.cpu_seconds.values()) < 0.04  # it slept


def test_stages_of_other_threads_and_outside_of_a_stopwatch_are_not_counted() -> None:
    @stage("marked")
    def work() -> int:
        return 3

    assert work() == 3
    with Stopwatch() as watch:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert not watch.seconds
        assert work() == 3
    assert list(watch.seconds) == ["marked"]


def test_an_error_ends_its_stage() -> None:
    with Stopwatch() as watch, stage("outer"):
        with pytest.raises(ValueError, match="no"), stage("inner"):
            raise ValueError("no")
        time.sleep(0.02)
    assert watch.seconds["outer"] >= 0.02


# --- loaders --------------------------------------------------------------------------------------------------------


class Sample(NamedTuple):
    image: torch.Tensor
    label: int


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter(tensors(24))


class Wrapped:
    """A collate function of a user around one of ours."""

    def __init__(self) -> None:
        self.collate = ours()

    def __call__(self, samples: list[Any]) -> Any:
        return {"batch": self.collate(samples)}


def double(collate: Callable[[Any], Any], samples: Any) -> Any:
    return collate(samples * 2)


LOADERS: dict[str, tuple[Callable[[Path], DataLoader[Any]], tuple[str, ...], str]] = {
    "pairs": (lambda _: load(tensors(), 4, collate_fn=ours()), OURS, "tensor"),
    "late": (lambda _: load(tensors(), 4, collate_fn=ours(render="late")), LATE, "tensor"),
    "bare arrays": (
        lambda _: load([np.zeros((20, 24, 3), np.uint8)] * 8, 4, collate_fn=ours()),
        OURS,
        "array",
    ),
    "named tuples": (
        lambda _: load([Sample(torch.rand(3, 9, 9), 1)] * 8, 4, collate_fn=ours()),
        OURS,
        "tensor",
    ),
    "mappings": (
        lambda _: load([{"front": torch.rand(3, 9, 9)}] * 8, 4, collate_fn=ours(image="front")),
        OURS,
        "tensor",
    ),
    "Pillow": (lambda folder: load(ImageFolder(folder), 4, collate_fn=ours()), OURS, "PIL"),
    "paths": (
        lambda folder: load(ImageFolder(folder, loader=str), 4, collate_fn=ours()),
        ("dataset", "read", *OURS[1:]),
        "path",
    ),
    "bytes": (
        lambda folder: load([next(folder.rglob("*.jpg")).read_bytes()] * 8, 4, collate_fn=ours()),
        OURS,
        "bytes",
    ),
    "indexed": (
        lambda folder: load(Indexed(ImageFolder(folder, loader=str)), 4, shuffle=True, collate_fn=ours()),
        ("dataset", "read", *OURS[1:]),
        "path",
    ),
    "a stream": (lambda _: load(Stream(), 4, collate_fn=ours()), OURS, "tensor"),
    "a batch sampler": (
        lambda _: load(tensors(), batch_sampler=[[0, 1], [2, 3], [4]], collate_fn=ours()),
        OURS,
        "tensor",
    ),
    "one by one": (
        lambda _: load([tensors(2)] * 8, batch_size=None, collate_fn=ours()),
        OURS,
        "tensor",
    ),
    "a wrapper": (lambda _: load(tensors(), 4, collate_fn=Wrapped()), OURS, ""),
    "a partial function": (lambda _: load(tensors(), 4, collate_fn=partial(double, ours())), OURS, "tensor"),
    "no collate function": (lambda _: load(tensors(), 4), ("dataset", "collate", "device"), ""),
}


@pytest.mark.parametrize("name", LOADERS)
def test_every_kind_of_loader_is_measured(name: str, photos: Path) -> None:
    make, stages, kind = LOADERS[name]
    loader = make(photos)
    times = measure(loader, "cpu", batches=2)
    assert names(times) == stages
    assert times.samples == kind
    assert times.workers == 0
    assert times.batches == 2
    assert times.batch_size == {"a batch sampler": 2, "one by one": 2}.get(name, 4)
    assert times.epoch == (None if name == "a stream" else len(loader))
    assert all(stage.seconds >= 0 and stage.cpu_seconds >= 0 for stage in times.stages)
    assert 0 < times.waited <= times.seconds
    if name in ("pairs", "late"):
        assert (times.render, times.image_side, times.view_side, times.dtype) == (
            *("late" if name == "late" else "worker", 20, 16, "torch.float32"),
        )


@pytest.mark.parametrize("render", ["worker", "late"])
def test_with_workers_there_is_a_transport(render: str) -> None:
    times = measure(load(tensors(), 4, num_workers=1, collate_fn=ours(render=render)), "cpu", batches=3)
    known = Path("/proc/self/task").exists()
    expected = [*(OURS if render == "worker" else LATE)]
    if known:
        expected.insert(-1, "transport")
    assert names(times) == tuple(expected)
    assert times.workers == 1


class Slow(Dataset[Any]):
    """A dataset that sleeps, or computes, for some time a sample."""

    def __init__(self, seconds: float, *, computes: bool = False) -> None:
        self.seconds, self.computes = seconds, computes

    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> Any:
        if not self.computes:
            time.sleep(self.seconds)
        end = time.thread_time() + self.seconds
        while self.computes and time.thread_time() < end:
            pass
        return torch.rand(3, 20, 24)


def test_the_times_are_those_that_were_made() -> None:
    """Sleep of 4 × 10 ms in the dataset, 30 ms in the collate function, 20 ms in the step."""

    def collate(samples: list[Any]) -> torch.Tensor:
        time.sleep(0.03)
        return default_collate(samples)  # type: ignore[no-any-return]

    times = measure(load(Slow(0.01), 4, collate_fn=collate), "cpu", step=lambda _: time.sleep(0.02), batches=3)
    assert names(times) == ("dataset", "collate", "device", "step")
    for name, least in {"dataset": 0.04, "collate": 0.03, "step": 0.02}.items():
        assert least <= times.seconds_of(name) < least + 0.5
    assert times.work == times.seconds_of("dataset", "collate")
    assert times.waited >= 0.07
    assert times.seconds >= 0.09
    assert times.seconds >= times.waited + times.seconds_of("step", "device")
    assert times.images_per_second == pytest.approx(4 / times.seconds)
    assert sum(stage.cpu_seconds for stage in times.stages) < 0.03
    if Path("/proc/thread-self/schedstat").exists():
        assert 0.03 <= times.blocked <= times.seconds_of("dataset")


def test_workers_hide_the_work_behind_the_step() -> None:
    loader = load(Slow(0.01), 2, num_workers=2)
    alone = measure(loader, "cpu", batches=4)
    assert alone.waited / alone.seconds > 0.8
    assert alone.seconds_of("dataset") >= 0.02
    hidden = measure(loader, "cpu", step=lambda _: time.sleep(0.1), batches=4)
    assert hidden.seconds >= 0.1
    assert hidden.waited / hidden.seconds < 0.5


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs the CPU times of processes")
def test_the_transport_is_the_cpu_time_beyond_the_stages() -> None:
    """The collate function returns 8 MB, which is copied to shared memory, and the main process does nothing else."""

    def collate(samples: list[Any]) -> torch.Tensor:
        return torch.ones(2_000_000)

    small = measure(load(Slow(0.005, computes=True), 2, num_workers=1), "cpu", batches=6)
    large = measure(load(Slow(0.005, computes=True), 2, num_workers=1, collate_fn=collate), "cpu", batches=6)
    assert small.seconds_of("dataset") > 0.0095
    assert small.seconds_of("transport") < 0.01
    assert large.seconds_of("transport") > small.seconds_of("transport") + 0.001


def test_the_step_gets_rendered_views_on_the_device() -> None:
    seen: list[Any] = []
    loader = load(tensors(), 4, collate_fn=ours(render="late"))
    measure(loader, "cpu", step=seen.append, dtype=torch.float64, batches=2)
    assert len(seen) == 1 + 1 + 2  # to warm up, the first of the loader, and two with a clock
    for views, labels in seen:
        assert [view.dtype for view in views] == [torch.float64] * 2
        assert labels.shape == (4,)


# --- what measuring leaves alone ------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 1])
def test_measuring_changes_no_later_batch(workers: int) -> None:
    """Draws, order, and the states of all generators are those of a training that was not measured before."""

    def train(*, measured: bool) -> list[Any]:
        torch.manual_seed(0)
        collate = ours(seed=3, render="late")
        shuffled = load(
            tensors(), 4, shuffle=True, num_workers=workers, collate_fn=collate, generator=torch.Generator()
        )
        first = [batch[0].table for batch in shuffled]
        random.seed(1)
        np.random.seed(1)  # noqa: NPY002
        if measured:
            draws: list[Callable[[], Any]] = [random.random, np.random.random, lambda: torch.rand(3)]
            measure(shuffled, "cpu", step=lambda _: [draw() for draw in draws], batches=2)
        later = [batch for _ in range(2) for batch in shuffled]
        numbers = [random.random(), np.random.random(), torch.rand(()).item()]  # noqa: NPY002
        return [first, [views.table for views, _ in later], [labels for _, labels in later], numbers]

    assert str(train(measured=True)) == str(train(measured=False))


@pytest.mark.parametrize("workers", [0, 1])
def test_measuring_does_not_count_the_epochs_of_a_sampler(workers: int) -> None:
    images = Indexed(tensors())
    sampler = EpochSampler(images, shuffle=True)
    loader = load(images, 4, sampler=sampler, num_workers=workers, collate_fn=ours())
    measure(loader, "cpu", batches=2)
    found = [views.index.tolist() for views, _ in loader]
    assert [index for batch in found for index in batch] == sampler.order(0)


def test_a_dataset_is_not_copied_with_its_sampler() -> None:
    class Kept(Dataset[Any]):
        def __len__(self) -> int:
            return 8

        def __getitem__(self, index: int) -> torch.Tensor:
            return torch.rand(3, 20, 24)

        def __deepcopy__(self, memo: Any) -> Any:
            raise AssertionError("copied")

    kept = Kept()
    for dataset in (kept, Indexed(kept)):
        measure(load(dataset, 4, sampler=RandomSampler(kept), collate_fn=ours()), "cpu", batches=1)


def test_what_cannot_be_copied_is_said() -> None:
    collate = ours()
    with pytest.warns(UserWarning, match="collate function cannot be copied, so its epochs count on by one"):
        measure(load(tensors(), 4, collate_fn=lambda samples: (collate(samples), 1)), "cpu", batches=1)

    class Locked(RandomSampler):
        def __init__(self, source: Any) -> None:
            super().__init__(source)
            self.lock = threading.Lock()

    images = tensors()
    with pytest.warns(UserWarning, match="the BatchSampler cannot be copied, so measuring takes a pass over it"):
        measure(load(images, 4, sampler=Locked(images), collate_fn=collate), "cpu", batches=1)


def test_the_number_of_threads_is_restored() -> None:
    before = torch.get_num_threads()
    with pytest.raises(ZeroDivisionError):
        measure(load(tensors(), 4, num_workers=1, collate_fn=lambda _: 1 // 0), "cpu", batches=1)
    assert torch.get_num_threads() == before


# --- errors ---------------------------------------------------------------------------------------------------------


def test_what_is_no_loader_is_refused() -> None:
    loader = load(tensors(), 4, collate_fn=ours())
    with pytest.raises(TypeError, match=r"loader must be a torch.utils.data.DataLoader, got a list$"):
        measure(tensors(), "cpu")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"got a _Prefetched, which has one: pass its \.loader"):
        measure(prefetch(loader, "cpu"), "cpu")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="batches must be an integer >= 1, got 0"):
        measure(loader, "cpu", batches=0)
    with pytest.raises(ValueError, match="its sampler yields none"):
        measure(load(tensors(2), 4, drop_last=True, collate_fn=ours()), "cpu")
    with pytest.raises(ValueError, match=r"loader must yield at least 9 batches for batches=8 and 0 workers, got 6"):
        measure(load(Stream(), 4, collate_fn=ours()), "cpu", batches=8)
    with pytest.raises(ValueError, match=r"at least 3 batches for batches=2, got 2: lower batches$"):
        measure(load(Stream(), 12, collate_fn=ours()), "cpu", batches=2)
    with pytest.raises(ValueError, match=r"at least 5 batches for batches=16, got 4: lower batches$"):
        measure(load(Stream(), 5, drop_last=True, collate_fn=ours()), "cpu")  # of 24 images


def test_wrong_arguments_are_refused_before_measuring() -> None:
    def collate(samples: Any) -> Any:
        raise AssertionError("measured")

    loader = load(tensors(), 4, collate_fn=collate)
    with pytest.raises(ValueError, match="loader: device must be a device of this machine, got 'gpu': "):
        measure(loader, "gpu")
    with pytest.raises(TypeError, match="loader: step must be a function of a batch, got 3"):
        measure(loader, "cpu", step=3)  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore:.*leaves out")
def test_images_that_are_left_out_are_not_counted(photos: Path) -> None:
    good, bad = next(photos.rglob("*.jpg")).read_bytes(), b"no image"
    loader = load([good, bad] * 6, 4, collate_fn=ours(on_error="skip"))
    times = measure(loader, "cpu", batches=2)
    assert times.batch_size == 2
    assert times.images_per_second == pytest.approx(2 / times.seconds)


def test_the_sides_and_bytes_are_those_of_all_batches() -> None:
    images = [torch.rand(3, side, side) for side in (9, 9, 40, 40, 40, 40, 9, 9)]  # the first batch warms up
    times = measure(load(images, 2, collate_fn=ours()), "cpu", batches=3)
    assert times.image_side == 40
    assert times.sent_bytes >= 2 * 2 * 3 * 16 * 16 * 4
    assert times.sent_bytes < 2 * 2 * 3 * 16 * 16 * 4 + 1000


# --- advice ---------------------------------------------------------------------------------------------------------


def stages(**seconds: float) -> tuple[Stage, ...]:
    places: dict[str, Any] = {"transport": "transport", "device": "main", "step": "main"}
    return tuple(Stage(name, places.get(name, "loader"), s, s) for name, s in seconds.items())


PARTS = {"dataset": 0.001, "read": 0.004, "decode": 0.03, "pack": 0.004, "draw": 0.002, "collate": 0.001}
BALANCED = LoaderTimes(
    stages(**PARTS, transport=0.005, device=0.01, step=0.1),
    batch_size=64,
    batches=16,
    seconds=0.111,
    waited=0.001,
    starting=1.0,
    workers=2,
    cores=8,
    epoch=1000,
    device="cuda:0",
    render="late",
    samples="path",
    image_side=375,
    view_side=224,
    dtype="torch.float32",
    pin_memory=True,
    persistent_workers=True,
    sent_bytes=77e6,
)
SLOW = replace(BALANCED, stages=stages(**PARTS, device=0.001), seconds=0.042, waited=0.041, workers=8)
RENDERS = stages(dataset=0.001, decode=0.02, draw=0.002, render=0.03, collate=0.001, transport=0.03)

CASES: dict[str, tuple[LoaderTimes, str]] = {
    "_wait_for_files": (replace(SLOW, blocked=0.03), r"A worker waits 30 of 42 ms a batch for files"),
    "_decode_smaller": (replace(SLOW, image_side=2000), r"decode=448: images of 2000 pixels .* views of 224"),
    "_return_paths": (
        replace(SLOW, stages=stages(dataset=0.1, pack=0.01), samples="PIL", image_side=2000),
        r"Return paths .* 100 of 110 ms a batch.*, and decode=448 shrinks them\.",
    ),
    "_add_workers": (replace(SLOW, workers=0), r"num_workers=8: one process takes 42 ms"),
    "_drop_workers": (replace(SLOW, workers=20), r"num_workers=8: workers compute"),
    "_send_less": (replace(SLOW, stages=RENDERS, render="worker"), r"dtype=torch.bfloat16.* 30 ms a batch now"),
    "_render_late": (replace(SLOW, stages=RENDERS, render="worker"), r'render="late" renders on cuda:0.* 30 of 54 ms'),
    "_render_in_workers": (
        replace(SLOW, stages=stages(**PARTS, device=0.1), seconds=0.11, device="cpu"),
        r'render="worker": the main process renders 100 ms a batch, while 8 workers need 5.2 ms',
    ),
    "_fuse": (
        replace(SLOW, stages=RENDERS, render="worker", unfused="RandomPlasmaShadow"),
        r"in place of RandomPlasmaShadow: .* 30 ms a batch",
    ),
    "_enlarge_batches": (
        replace(SLOW, stages=stages(decode=0.004, draw=0.004, collate=0.001), batch_size=2),
        r"Batches of 16 or more: .* 5.0 of 9.0 ms in batches of 2",
    ),
    "_pin": (replace(BALANCED, pin_memory=False), r"pin_memory=True: .* 10 ms a batch"),
    "_keep_workers": (
        replace(BALANCED, persistent_workers=False, epoch=20),
        r"persistent_workers=True: workers start in 1.0 s, and an epoch takes 2.2 s",
    ),
}


def test_a_balanced_loader_gets_no_advice() -> None:
    assert advise(BALANCED) == ()
    assert advise(replace(BALANCED, image_side=4000)) == ()  # it keeps up with the step
    assert advise(replace(BALANCED, workers=1, device="cpu", samples="PIL", image_side=4000)) == ()


def test_every_rule_has_a_case() -> None:
    rules = {name for name in vars(_advice) if name.startswith("_") and name[1:2].islower()}
    assert rules - {"_too_slow", "_decodes_too_much", "_sent", "_ms"} == set(CASES)


@pytest.mark.parametrize("rule", CASES)
def test_every_advice_is_given_for_its_reason(rule: str) -> None:
    times, text = CASES[rule]
    found = [advice for advice in advise(times) if re.search(text, advice)]
    assert len(found) == 1, advise(times)
    assert getattr(_advice, rule)(times) == found[0]


@pytest.mark.parametrize(
    ("rule", "changes"),
    [
        ("_decode_smaller", {"image_side": 800}),  # below four times the view, so that no factor fits
        ("_return_paths", {"waited": 0.001}),
        ("_add_workers", {"cores": 1}),
        ("_drop_workers", {"blocked": 0.02}),  # they wait for a disk
        ("_send_less", {"dtype": "torch.bfloat16"}),
        ("_send_less", {"sent_bytes": 1.3e6}),  # which cannot take 30 ms
        ("_send_less", {"batches": 3}),  # whose noise is as large
        ("_render_late", {"device": "cpu"}),
        ("_render_in_workers", {"cores": 2}),
        ("_fuse", {"unfused": ""}),
        ("_enlarge_batches", {"batch_size": 16}),
        ("_pin", {"device": "cpu"}),
        ("_keep_workers", {"epoch": None}),
        ("_wait_for_files", {"blocked": 0.01}),
    ],
)
def test_no_advice_without_its_reason(rule: str, changes: dict[str, Any]) -> None:
    assert getattr(_advice, rule)(replace(CASES[rule][0], **changes)) is None


SECONDS = st.floats(0, 10)


@given(
    st.dictionaries(st.sampled_from([*PARTS, "render", "transport", "device", "step"]), SECONDS),
    st.fixed_dictionaries(
        {
            "seconds": st.floats(1e-6, 10),
            "waited": SECONDS,
            "blocked": SECONDS,
            "starting": SECONDS,
            "workers": st.integers(0, 64),
            "cores": st.integers(1, 64),
            "batch_size": st.integers(1, 512),
            "render": st.sampled_from(["", "late", "worker"]),
            "device": st.sampled_from(["cpu", "cuda:0"]),
            "samples": st.sampled_from(["", "path", "PIL"]),
            "image_side": st.integers(0, 5000),
            "view_side": st.integers(0, 500),
            "pin_memory": st.booleans(),
            "persistent_workers": st.booleans(),
            "epoch": st.none() | st.integers(0, 100),
        }
    ),
)
def test_advice_never_contradicts_itself(seconds: dict[str, float], changes: dict[str, Any]) -> None:
    """Of any times: at most one number of workers, another than there is, and one place to render, another than now."""
    found = advise(replace(BALANCED, stages=stages(**seconds), **changes))
    workers = [text for text in found if "num_workers=" in text]
    assert len(workers) <= 1
    for text in workers:
        wanted = re.search(r"num_workers=(\d+)", text)
        assert wanted
        assert int(wanted[1]) != changes["workers"]
        assert int(wanted[1]) <= changes["cores"]
    places = [text for text in found if text.startswith("render=")]
    assert len(places) <= 1
    assert not any(text.startswith(f'render="{changes["render"]}"') for text in places)
    assert not any("nan" in text or "inf " in text for text in found)


def test_workers_are_as_many_as_the_step_needs() -> None:
    slow = replace(BALANCED, workers=1, stages=stages(decode=0.3, step=0.1), waited=0.2, seconds=0.3)
    assert advise(slow)[0].startswith("num_workers=3: one process takes 300 ms")
    idle = replace(BALANCED, workers=8)
    assert advise(idle)[0].startswith("num_workers=1 is enough: the step takes 100 ms")
    tiny = replace(BALANCED, workers=2, stages=stages(decode=0.001, transport=0.003), waited=0.003, seconds=0.003)
    assert advise(tiny)[0].startswith("num_workers=0: making a batch takes 1.0 ms, and sending it")


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of JPEG files of 1200×900 pixels."""
    folder = tmp_path_factory.mktemp("large")
    noise = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    (folder / "class").mkdir()
    for number in range(4):
        Image.fromarray(noise).resize((1200, 900)).save(folder / "class" / f"{number}.jpg", quality=90)
    return folder


def test_large_files_ask_for_decode_and_get_it(large: Path) -> None:
    view = View(Shape(32), Normalize())

    def advice(decode: int | None) -> tuple[str, ...]:
        collate = MultiViewCollateFunction([view], seed=0, render="worker", decode=decode)
        return measure(load(ImageFolder(large, loader=str), 2, collate_fn=collate), "cpu", batches=2).advice

    assert any(text.startswith("decode=64: images of 900 pixels") for text in advice(None))
    assert not any(text.startswith("decode=") for text in advice(64))


def test_a_dataset_that_decodes_is_told_to_return_paths(large: Path) -> None:
    collate = MultiViewCollateFunction([View(Shape(32))], seed=0, render="worker")
    times = measure(load(ImageFolder(large), 2, collate_fn=collate), "cpu", batches=2)
    assert any(text.startswith("Return paths") and "decode=64" in text for text in times.advice)
    foreign = ImageFolder(large, transform=v2.Compose([v2.Resize((32, 32)), v2.ToImage()]))
    times = measure(load(foreign, 2), "cpu", batches=2)
    assert not any("paths" in text or "decode=" in text for text in times.advice)


def test_a_slow_loader_without_workers_is_told_to_take_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightly_aug.bench._loader.count_cores", lambda: 4)
    slow = load(Slow(0.003, computes=True), 4, collate_fn=ours())
    assert any(text.startswith("num_workers=4: ") for text in measure(slow, "cpu", batches=2).advice)
    needed = measure(slow, "cpu", step=lambda _: time.sleep(0.5), batches=1).advice
    assert not any(text.startswith("num_workers") for text in needed)  # 12 of 512 ms


@pytest.mark.skipif(not Path("/proc/thread-self/schedstat").exists(), reason="needs the waiting times of threads")
def test_waiting_for_files_is_told_from_computing() -> None:
    waits = measure(load(Slow(0.01), 4, collate_fn=ours()), "cpu", batches=2)
    computes = measure(load(Slow(0.01, computes=True), 4, collate_fn=ours()), "cpu", batches=2)
    assert any("for files, not for the processor" in text for text in waits.advice)
    assert not any("for files, not for the processor" in text for text in computes.advice)


def test_an_operation_that_is_not_fused_is_named() -> None:
    view = View(Shape(128), K.RandomGamma(p=1.0), Normalize())
    loader = load(tensors(), 4, collate_fn=MultiViewCollateFunction([view], seed=0, render="worker"))
    times = measure(loader, "cpu", batches=2)
    assert "Gamma" in times.unfused
    assert any(f"in place of {times.unfused}" in text for text in times.advice)


# --- how it is shown ------------------------------------------------------------------------------------------------


def test_the_table_is_shown_as_text_markdown_and_html() -> None:
    times = replace(SLOW, workers=2, advice=("Do <this>.",))
    text = repr(times)
    assert text.splitlines()[0] == "LoaderTimes of batches of 64 images, 2 workers, 8 cores"
    assert "decode   worker        30.0    30.0    70%" in text
    assert "End to end: 1,524 images/s (762 a worker), a batch every 42.0 ms" in text
    assert "waits for the loader 41.0 ms (98%)" in text
    assert text.endswith("\n- Do <this>.")
    assert "| decode | worker | 30.0 | 30.0 | 70% |" in times.to_markdown()
    assert "\n\n* Do <this>.\n" in times.to_markdown()
    page = times._repr_html_()
    assert "<td style='text-align: right'>30.0</td>" in page
    assert "<li>Do &lt;this&gt;.</li>" in page
    assert "<ul>" not in replace(times, advice=())._repr_html_()
    alone = repr(replace(SLOW, workers=0))
    assert "no workers" in alone
    assert "decode   main " in alone
    assert "of which loading in the main process takes 41.0 ms (98%)" in alone


def test_without_advice_nothing_stands_out() -> None:
    times = replace(BALANCED, advice=())
    assert repr(times).endswith("\nNothing stands out.")
    assert times.to_markdown().endswith("\n\nNothing stands out.\n")
    assert times._repr_html_().endswith("<p>Nothing stands out.</p>")


def test_a_transport_that_is_not_believable_is_marked() -> None:
    assert "transport  worker to main, inferred " in repr(BALANCED)
    for doubtful in (replace(BALANCED, batches=3), replace(BALANCED, sent_bytes=1e6)):
        assert "transport  worker to main, not reliable " in repr(doubtful)
        legend = [text.get_text() for text in doubtful.show().legends[0].get_texts()]
        assert legend == ["loader", "from workers to main, not reliable", "main process"]
    tiny = replace(BALANCED, workers=2, stages=stages(decode=0.001, transport=0.03), waited=0.03, seconds=0.03)
    assert advise(tiny)
    assert not advise(replace(tiny, sent_bytes=1e6))


def test_it_is_json(tmp_path: Path) -> None:
    times = replace(BALANCED, advice=("Do this.",))
    text = write_times(times, tmp_path / "new" / "times", "Mine")
    assert (tmp_path / "new" / "times.md").read_text() == text
    assert text.startswith("# Mine\n\nLoaderTimes of batches of 64 images")
    record = json.loads((tmp_path / "new" / "times.json").read_text())
    read = record["times"]
    made = LoaderTimes(**read | {"stages": tuple(Stage(**one) for one in read["stages"]), "advice": ("Do this.",)})
    assert made == times
    assert json.loads(json.dumps(asdict(times)))["stages"][2]["name"] == "decode"
    with Image.open(tmp_path / "new" / "times.png") as picture:
        assert picture.width > 300


def test_the_picture_has_a_bar_for_each_stage_and_for_waiting() -> None:
    half = tuple(replace(stage, cpu_seconds=stage.seconds / 2) for stage in BALANCED.stages)
    figure = replace(BALANCED, stages=half).show(title="Mine")
    axes = figure.axes[0]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == [*PARTS, "transport", "device", "step", "main waits"]
    widths = [patch.get_width() for patch in axes.patches if isinstance(patch, Rectangle)][: 2 * len(labels)]
    assert widths[0::2] == pytest.approx([*(1e3 * stage.seconds for stage in BALANCED.stages), 1.0])
    assert widths[1::2] == pytest.approx([*(500 * stage.seconds for stage in BALANCED.stages), 0.0])
    colours = [to_hex(patch.get_facecolor()) for patch in axes.patches][: 2 * len(labels) : 2]
    assert len(set(colours)) == 3
    assert figure.get_suptitle() == "Mine"


def test_colours_of_the_picture_keep_their_meaning() -> None:
    """Without workers there is no transport, and loading in the main process is work, not waiting."""

    def colours(times: LoaderTimes) -> dict[str, str]:
        handles, labels = times.show().axes[0].get_legend_handles_labels()
        return {label: to_hex(handle[0].get_facecolor()) for handle, label in zip(handles, labels, strict=True)}  # type: ignore[index]

    alone = replace(SLOW, workers=0, waited_cpu=0.04)
    both, one = colours(BALANCED), colours(alone)
    assert one == {place: both[place] for place in ("loader", "main process")}
    axes = alone.show().axes[0]
    assert axes.get_yticklabels()[-1].get_text() == "main loads"
    count = len(axes.get_yticklabels())
    assert [bar.get_width() for bar in axes.patches[2 * count - 2 : 2 * count]] == pytest.approx([41, 40])  # type: ignore[attr-defined]


def test_progress_is_shown_at_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    measure(load(tensors(), 4, collate_fn=ours()), "cpu", batches=1)
    out, err = capsys.readouterr()
    assert not out
    assert "1 batches of a loader with 0 workers" in err


def test_workers_are_gone_afterwards() -> None:
    measure(load(tensors(), 4, num_workers=2, collate_fn=ours()), "cpu", batches=2)
    end = time.monotonic() + 10
    while active_children() and time.monotonic() < end:
        time.sleep(0.05)
    assert not active_children()
