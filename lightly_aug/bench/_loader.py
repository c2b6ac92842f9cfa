"""Measure where the time of a loader's batches goes."""

import random
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from multiprocessing import active_children
from os import PathLike
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from lightly_aug.batch import Views
from lightly_aug.bench._advice import advise
from lightly_aug.bench._processes import count_cores, cpu_seconds, run_delay
from lightly_aug.bench._source import Source
from lightly_aug.bench._times import LoaderTimes, Stage
from lightly_aug.checks import check_integer
from lightly_aug.collate import BaseCollateFunction
from lightly_aug.engines import plan_views
from lightly_aug.samples import batch_members, map_members, take_images
from lightly_aug.stages import Stopwatch, stage
from lightly_aug.status import show_steps

__all__ = ["loader"]

_STAGES: Final = ("dataset", "read", "decode", "pack", "draw", "render", "collate")
_KINDS: Final[dict[str, Any]] = {
    "path": str | PathLike, "bytes": bytes | bytearray, "PIL": Image.Image, "tensor": Tensor, "array": np.ndarray,
}  # fmt: skip
_MOST_STAGED: Final = 4
"""Batches whose stages are timed, at most, after one to warm up."""


def loader(
    loader: DataLoader[Any],
    device: torch.device | str | int | None = None,
    *,
    step: Callable[[Any], object] | None = None,
    dtype: torch.dtype | None = None,
    batches: int = 16,
) -> LoaderTimes:
    """Measure where the time of a loader's batches goes, and say what to change.

    First it makes some batches in this process, with one thread as workers have, and times each stage alone: the
    dataset, reading, decoding, packing, drawing and rendering. Then it runs a loader of the same settings with its
    workers, moves each batch to the device as `prefetch` does, and calls `step`. The difference in CPU time between
    both is the transport.

    Any collate function can be measured. The stages within it are known if it is of this library or calls one that is.

    The training is not disturbed: sampler and collate function are copied, and the states of the global random
    generators are restored. A dataset that counts what is read from it counts on, and an `IterableDataset` is iterated
    over twice. A collate function that is a plain function around one of this library cannot be copied, so its epochs
    count on by one, which a warning says.

    Args:
        loader: The loader as it is used for training.
        device: Device to move to, and to render on; by default an accelerator if there is one, else the CPU.
        step: What the training does with a batch, whose views are rendered. With it, waiting is that of real steps,
            and a loader that keeps up with them gets no advice to become faster.
        dtype: Floating dtype of the views, as in `Views.to`.
        batches: Number of batches to measure end to end; with fewer than 8 the transport is not reliable. A small
            dataset is passed over several times, but not an `IterableDataset`: it must yield some batches more.

    Raises:
        TypeError: `loader` is not a DataLoader, or `step` cannot be called.
        ValueError: The loader yields too few batches, `batches` is below 1, or this machine has no such device.

    Example:
        >>> from torch.utils.data import DataLoader
        >>> from lightly_aug import SimCLRCollateFunction, bench
        >>> images = [torch.rand(3, 40, 40) for _ in range(8)]
        >>> data = DataLoader(images, batch_size=4, collate_fn=SimCLRCollateFunction(32, seed=0, render="worker"))
        >>> times = bench.loader(data, "cpu", batches=2)
        >>> [stage.name for stage in times.stages]
        ['dataset', 'decode', 'pack', 'draw', 'render', 'collate', 'device']
    """
    if not isinstance(loader, DataLoader):
        inner = ", which has one: pass its .loader" if isinstance(getattr(loader, "loader", None), DataLoader) else ""
        raise TypeError(f"loader: loader must be a torch.utils.data.DataLoader, got a {type(loader).__name__}{inner}")
    check_integer("loader", least=1, batches=batches)
    if step is not None and not callable(step):
        raise TypeError(f"loader: step must be a function of a batch, got {step!r}")
    receiver = _Receiver(_find_device(device), dtype, step)
    staged, warm = min(batches, _MOST_STAGED), max(1, loader.num_workers)
    ahead = loader.num_workers * (loader.prefetch_factor or 0)  # so that no worker runs out of work
    title = f"{batches} batches of a loader with {loader.num_workers} workers"
    with _keep_random_states(), show_steps(title, 1 + staged + warm + batches) as advance:
        source = Source(loader, 1 + staged + warm + batches + ahead)
        seen = _time_stages(source, staged, batches, receiver, advance)
        if "draw" in seen.stages and source.collate is loader.collate_fn:
            warnings.warn(
                "loader: the collate function cannot be copied, so its epochs count on by one: measure before the "
                "training begins, and then call set_epoch(0) of the collate function of lightly_aug in it",
                stacklevel=2,
            )
        whole = _time_whole(source.rebuild(1 + staged), warm, batches, receiver, advance)
    stages = [Stage(name, "loader", *seen.stages[name]) for name in _STAGES if name in seen.stages]
    if whole.workers_cpu is not None:
        beyond = whole.workers_cpu - sum(stage.cpu_seconds for stage in stages)
        sent = max(0.0, beyond) + whole.waiting_cpu
        stages.append(Stage("transport", "transport", sent, sent))
    stages += [Stage(name, "main", *took) for name, took in whole.stages.items()]
    views = seen.views
    times = LoaderTimes(
        tuple(stages),
        batch_size=seen.images,
        batches=batches,
        seconds=whole.seconds,
        waited=whole.waited,
        starting=max(0.0, whole.first - whole.seconds),
        workers=loader.num_workers,
        cores=count_cores(),
        blocked=seen.blocked,
        waited_cpu=whole.waiting_cpu,
        sent_bytes=seen.bytes,
        epoch=_length(loader),
        device=str(receiver.device),
        render="" if views is None else "late" if views.rendered is None else "worker",
        samples=seen.kind if views is not None else "",
        image_side=int(statistics.median(seen.sides)) if seen.sides else 0,
        view_side=max((min(view.shape[-2:]) for view in seen.tensors), default=0),
        dtype=str(seen.tensors[0].dtype) if seen.tensors else "",
        pin_memory=loader.pin_memory,
        persistent_workers=loader.persistent_workers,
        unfused="" if views is None else plan_views(views.views, views.engine).slow_names,
    )
    return replace(times, advice=advise(times))


@dataclass(frozen=True)
class _Receiver:
    """What the main process does with a batch."""

    device: torch.device
    dtype: torch.dtype | None
    step: Callable[[Any], object] | None

    def move(self, batch: Any) -> Any:
        """Return the batch on the device, its views rendered."""
        if isinstance(batch, Views):
            return batch.to(self.device, self.dtype)
        if isinstance(batch, Tensor):
            return batch.to(self.device, non_blocking=True)
        return map_members(self.move, batch)

    def take(self, batch: Any, clock: "_Clock") -> Any:
        """Move the batch and take a step, and wait until the device has finished each; return it as it was moved."""
        moved = clock.time("device", partial(self._finish, self.move, batch))
        if self.step is not None:
            clock.time("step", partial(self._finish, self.step, moved))
        return moved

    def _finish(self, run: Any, batch: Any) -> Any:
        done = run(batch)
        if self.device.type != "cpu":
            torch.accelerator.synchronize(self.device)
        return done


class _Clock:
    """The wall and CPU seconds of the main process by what it does."""

    def __init__(self) -> None:
        self.seconds: dict[str, tuple[float, float]] = {}

    def time(self, name: str, run: Callable[[], Any]) -> Any:
        """Call a function, add its time, and return its result."""
        start = time.perf_counter(), time.process_time()
        done = run()
        wall, cpu = self.seconds.get(name, (0.0, 0.0))
        self.seconds[name] = wall + time.perf_counter() - start[0], cpu + time.process_time() - start[1]
        return done


@dataclass(frozen=True)
class _Staged:
    """The stages of the loader: wall and CPU seconds a batch by name; and what the batches consist of.

    `blocked` are the seconds a batch in which the dataset neither computed nor waited for a core, `bytes` those of the
    tensors in a batch, and `sides` the shorter sides of all images. `views` and `tensors` are those of the last batch.
    """

    stages: dict[str, tuple[float, float]]
    blocked: float
    images: float
    bytes: float
    sides: list[int]
    kind: str
    views: Views | None
    tensors: list[Tensor]


def _time_stages(source: Source, count: int, batches: int, receiver: _Receiver, advance: Callable[[], None]) -> _Staged:
    """Make batches in this process, one to warm up and `count` others; `batches` is what the caller asked for."""
    batch: Any = None
    samples: Any = None
    images: list[int] = []
    sizes: list[int] = []
    sides: list[int] = []
    kind, delayed = "", 0.0
    with _one_thread(source.loader.num_workers > 0), Stopwatch() as watch:
        for number, fetch in enumerate(islice(source.fetch(), 1 + count)):
            before = run_delay()
            with stage("dataset"):
                samples = fetch()
            if samples is None:
                raise ValueError(
                    f"loader: loader must yield at least {1 + count} batches for batches={batches}, got {number}: "
                    "lower batches"
                )
            found = _find_images(samples, source.collate)
            kind = next((name for name, kinds in _KINDS.items() if found and isinstance(found[0], kinds)), "")
            if kind == "path":
                with stage("read"):
                    for path in found:
                        Path(path).read_bytes()
            delayed += run_delay() - before
            with stage("collate"):
                batch = source.collate(samples)
            if number == 0:
                watch.reset()
                delayed = 0.0
            else:
                images.append(_count_images(samples, batch, batched=source.batched))
                sizes.append(_count_bytes(batch))
                views = _find_views(batch)
                sides += [] if views is None else views.images.shapes[:, 1:].amin(1).tolist()
            advance()
    took = {name: (watch.seconds[name] / count, watch.cpu_seconds[name] / count) for name in watch.seconds}
    slept = sum(took[name][0] - took[name][1] for name in ("dataset", "read") if name in took)
    moved = receiver.take(batch, _Clock())  # to warm up
    views = _find_views(batch)
    tensors = [] if views is None else list(_find_rendered(batch, moved))
    blocked = max(0.0, slept - delayed / count)
    return _Staged(took, blocked, statistics.mean(images), statistics.mean(sizes), sides, kind, views, tensors)


@dataclass(frozen=True)
class _Whole:
    """Seconds a batch of a loader with its workers: those of the main process by stage, wall and CPU; and of it all."""

    stages: dict[str, tuple[float, float]]
    seconds: float
    waited: float
    waiting_cpu: float
    workers_cpu: float | None
    first: float


def _time_whole(
    loader: DataLoader[Any], warm: int, count: int, receiver: _Receiver, advance: Callable[[], None]
) -> _Whole:
    """Iterate over a loader, over `warm` batches without a clock and over `count` with one."""
    others = set(active_children())
    began = time.perf_counter()
    batches = iter(loader)
    workers = [child.pid for child in active_children() if child not in others and child.pid is not None]
    first, before, clock = 0.0, None, _Clock()
    for number in range(warm + count):
        batch = clock.time("wait", partial(next, batches, batches))
        if batch is batches:
            raise ValueError(
                f"loader: loader must yield at least {warm + count} batches for batches={count} and "
                f"{loader.num_workers} workers, got {number}: lower batches"
            )
        if number == 0:
            first = time.perf_counter() - began
        receiver.take(batch, clock)
        advance()
        if number == warm - 1:
            before, began, clock = cpu_seconds(workers), time.perf_counter(), _Clock()
    seconds, after = time.perf_counter() - began, cpu_seconds(workers)
    del batches  # ends the workers
    took = {name: (wall / count, cpu / count) for name, (wall, cpu) in clock.seconds.items()}
    waited, waiting_cpu = took.pop("wait")
    used = None if not workers or before is None or after is None else (after - before) / count
    return _Whole(took, seconds / count, waited, waiting_cpu, used, first)


def _find_images(samples: Any, collate: Any) -> Sequence[Any]:
    """Return the images of samples, where a collate function of this library looks for them; nothing if unknown."""
    places = collate._places if isinstance(collate, BaseCollateFunction) else ()
    try:
        return take_images(samples, *places).images
    except (TypeError, ValueError):
        return ()


def _find_device(device: torch.device | str | int | None) -> torch.device:
    """Return the device, by default an accelerator if there is one, after a test that it works."""
    if device is None:
        device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    try:
        found = torch.device("cpu" if device is None else device)
        torch.empty(0, device=found)
    except (AssertionError, NotImplementedError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"loader: device must be a device of this machine, got {device!r}: {reason}") from None
    return found


def _count_images(samples: Any, batch: Any, *, batched: bool) -> int:
    """Return the images in a batch; there are fewer than samples if some were left out."""
    views = _find_views(batch)
    counts = ([len(samples)] if batched else []) + ([] if views is None else [views.batch_size])
    return min(counts, default=1)


def _count_bytes(batch: Any) -> int:
    """Return the bytes of the tensors in a batch, as the loader yields it."""
    if isinstance(batch, Tensor):
        return batch.nbytes
    if isinstance(batch, Views):
        return sum(tensor.nbytes for tensor in (batch.images.pixels, batch.table, *(batch.rendered or ())))
    return sum(_count_bytes(member) for member in batch_members(batch).values() if member is not batch)


def _find_views(batch: Any) -> Views | None:
    if isinstance(batch, Views):  # a dataclass, too
        return batch
    return next((member for member in batch_members(batch).values() if isinstance(member, Views)), None)


def _find_rendered(batch: Any, moved: Any) -> Sequence[Tensor]:
    """Return the rendered views of a batch that has been moved."""
    if isinstance(batch, Views):
        return moved  # type: ignore[no-any-return]
    pairs = zip(batch_members(batch).values(), batch_members(moved).values(), strict=False)
    return next(after for member, after in pairs if isinstance(member, Views))


def _length(loader: DataLoader[Any]) -> int | None:
    try:
        return len(loader)
    except TypeError:
        return None


@contextmanager
def _one_thread(limited: bool) -> Iterator[None]:
    """Compute with one thread, as workers do."""
    before = torch.get_num_threads()
    torch.set_num_threads(1 if limited else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _keep_random_states() -> Iterator[None]:
    """Restore the states of the global generators of Python, NumPy and torch at the end."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002
