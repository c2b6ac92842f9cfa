"""Measure on a CUDA device: `python -m benchmarks.gpu [--only NAMES] [--batch N] [--rounds N] [--calls N] [--out DIR]`.

From a batch of 256×256 8-bit photographs to bf16 views, SimCLR's 2×224 and DINO's 2×224 + 8×96, all on the device: with
ours and with the rivals that are installed (`pip install torchtransform triton-augment nvidia-dali-cuda130`). The
report has the time, the number of kernel launches, how long the kernels run, the memory they take, whether the host
waits, and the distance from the floor that the memory sets: the images read once, the views written once, as fast as
this device copies in the same run. It is written after each workload, so a run that is cut off leaves a report.
"""

import argparse
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib import import_module
from itertools import cycle
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from lightly_aug import MultiViewCollateFunction, Views
from lightly_aug.bench import (
    MEAN,
    STD,
    WORKLOADS,
    Contender,
    Results,
    ViewSpec,
    batch_transform,
    build_view,
    dali_view,
    write_report,
)
from lightly_aug.photographs import photographs

__all__ = ["Cost", "costs_table", "floor_bytes", "main"]

DTYPE: Final = torch.bfloat16
RIVALS: Final = ("kornia", "kornia (compiled)", "torchtransform", "torchvision v2", "triton-augment", "dali")
OWN: Final = ("dali",)
"""Contenders with streams and memory of their own, of which PyTorch knows nothing."""

Run = Callable[[], object]


@dataclass
class Cost:
    """The cost of one batch.

    Attributes:
        launches: Number of kernels.
        kernels_ms: Time that the kernels run.
        extra_mb: Peak memory beyond the images and the views; None if PyTorch does not manage it.
        waits: Whether the host waits for the device; None if unknown.
    """

    launches: int
    kernels_ms: float
    extra_mb: float | None
    waits: bool | None


def main() -> int:
    """Measure and write `gpu.md` and `gpu.json`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--only", help=f"rivals to measure beside ours, separated by commas: {', '.join(RIVALS)}; by default all"
    )
    parser.add_argument("--batch", type=int, default=256, help="images in a batch")
    parser.add_argument("--rounds", type=int, default=15, help="how often everything is timed")
    parser.add_argument("--calls", type=int, default=10, help="batches each time, enqueued in a row")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), help="folder to write to")
    chosen = parser.parse_args()
    only = list(RIVALS) if chosen.only is None else [name.strip() for name in chosen.only.split(",") if name.strip()]
    if unknown := [name for name in only if name not in RIVALS]:
        parser.error(f"--only must be some of {', '.join(RIVALS)}, got {', '.join(unknown)}")
    if not torch.cuda.is_available():
        print("python -m benchmarks.gpu needs a CUDA device, and PyTorch sees none", file=sys.stderr)
        return 2
    rate = measure_copy_rate()
    name = torch.cuda.get_device_name()
    tables, texts = [], [f"{name}, which copies at {rate / 1e12:.2f} TB/s (read and written) in this run."]
    data: dict[str, Any] = {"device": name, "copy_bytes_per_s": rate}
    report = ""
    for method in ("simclr", "dino"):
        specs, title = WORKLOADS[method], f"{method}, {chosen.batch} images of 256×256, bf16"
        entrants, skipped = prepare_contenders(chosen.batch, specs, only)
        results = measure_in_turns(entrants, title, chosen.rounds, chosen.calls, skipped)
        costs = {
            entrant.name: measure_cost(entrant.run, own=entrant.name in OWN)
            for entrant in entrants
            if entrant.name in results.rates
        }
        floor = floor_bytes(chosen.batch, 256, specs, DTYPE.itemsize)
        tables.append(results)
        texts.append(costs_table(results, costs, chosen.batch, floor, rate))
        packing = measure_packing(chosen.batch, specs)
        texts.append(f"In the worker our collate function packs and draws such a batch in {1e3 * packing:.1f} ms.")
        data[method] = {
            "floor_bytes": floor,
            "costs": {key: asdict(cost) for key, cost in costs.items()},
            "collate_s": packing,
        }
        report = write_report(chosen.out / "gpu", f"Images a second on {name}", tables, texts=texts, data=data)
    print(report)
    return 0


def floor_bytes(images: int, side: int, specs: Sequence[ViewSpec], itemsize: int) -> int:
    """Return the bytes that have to be moved: 8-bit RGB images read once, the views written once."""
    return images * 3 * (side**2 + itemsize * sum(spec.size**2 for spec in specs))


def costs_table(results: Results, costs: dict[str, Cost], images: int, floor: int, rate: float) -> str:
    """Write launches, memory and the distance from the floor as Markdown.

    Args:
        results: Rates by name.
        costs: Costs by name.
        images: Images in a batch.
        floor: Bytes that have to be moved.
        rate: Bytes a second that the device copies.
    """
    least = floor / rate
    lines = [
        f"## {results.title}: costs\n",
        f"The floor is {floor / 1e6:.1f} MB, {1e6 * least:.0f} µs.\n",
        "| | ms a batch | ms of kernels | share of the floor's speed | launches | extra memory (MB) | waits |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, taken in costs.items():
        seconds = images / statistics.median(results.rates[name])
        waits = {True: "yes", False: "no", None: "?"}[taken.waits]
        extra = "?" if taken.extra_mb is None else f"{taken.extra_mb:,.0f}"
        lines.append(
            f"| {name} | {1e3 * seconds:.3f} | {taken.kernels_ms:.3f} | {least / seconds:.1%} | {taken.launches} "
            f"| {extra} | {waits} |"
        )
    return "\n".join(lines)


def prepare_contenders(
    images: int, specs: Sequence[ViewSpec], only: Sequence[str] = RIVALS
) -> tuple[list[Contender], dict[str, str]]:
    """Prepare ours and the rivals that can make the views on the device, ours first.

    Args:
        images: Images in a batch.
        specs: The views.
        only: Rivals to prepare.

    Returns:
        The contenders, and for rivals that cannot be measured, by name, the reason.
    """
    batches = pack_batches(images, specs)
    photos = torch.stack([image.permute(2, 0, 1) for image in _photos(images)]).cuda()
    makers: dict[str, tuple[Callable[[], Run], str]] = {
        "lightly_aug": (partial(_ours, [_to_device(views) for views in batches]), ""),
        "lightly_aug (from pinned memory)": (partial(_ours, [v.pin_memory() for v in batches]), "with the copy"),
        "kornia": (partial(_batched, "kornia", photos, specs), "no antialias, one order of the jitter a batch"),
        "kornia (compiled)": (partial(_compiled, photos, specs), "no antialias, fixed order, the crop not compiled"),
        "torchtransform": (partial(_batched, "torchtransform", photos, specs), "approximate colour, coarse antialias"),
        "torchvision v2": (partial(_batched, "torchvision", photos, specs), "one draw a batch"),
        "triton-augment": (partial(_triton_augment, photos, specs), "no resize, hue, blur, solarize; fp16"),
        "dali": (partial(_dali, photos, specs), "approximate colour, fp16"),
    }
    found, skipped = [], {}
    for name, (make, remarks) in makers.items():
        if name in RIVALS and name not in only:
            continue
        try:
            found.append(Contender(name, make(), images, remarks))
        except Exception as error:
            if not found:
                raise
            skipped[name] = f"{type(error).__name__}: {error}".splitlines()[0]
    return found, skipped


def pack_batches(images: int, specs: Sequence[ViewSpec], count: int = 4) -> list[Views]:
    """Pack batches with different draws, as a worker does."""
    collate = _collate(specs)
    photos = [image.numpy() for image in _photos(images)]
    return [collate(photos) for _ in range(count)]


def measure_packing(images: int, specs: Sequence[ViewSpec]) -> float:
    """Return the seconds that packing and drawing a batch takes in a worker."""
    collate, photos, taken = _collate(specs), [image.numpy() for image in _photos(images)], []
    for _ in range(5):
        start = time.perf_counter()
        collate(photos)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def measure_copy_rate() -> float:
    """Return the bytes a second that the device reads and writes, the median over copies of 1 GiB."""
    source = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    seconds = [_events(lambda: target.copy_(source), 1) for _ in range(25)]
    return 2 * source.nbytes / statistics.median(seconds[5:])


def measure_in_turns(
    entrants: Sequence[Contender], title: str, rounds: int, calls: int, skipped: dict[str, str]
) -> Results:
    """Warm up, then time in turn, round by round.

    Args:
        entrants: The contenders, ours first.
        title: Title of the results.
        rounds: How often each is timed.
        calls: Batches each time.
        skipped: Why something is not measured, by name; a rival that fails is added.
    """
    rates: dict[str, list[float]] = {}
    for entrant in entrants:
        try:
            for _ in range(6):  # compiles, and fills the allocator's pools
                entrant.run()
            torch.cuda.synchronize()
        except Exception as error:
            if entrant is entrants[0]:
                raise
            skipped[entrant.name] = f"{type(error).__name__}: {error}".splitlines()[0]
            continue
        rates[entrant.name] = []
    for _ in range(rounds):
        for entrant in entrants:
            if entrant.name in rates:
                clock = _wall if entrant.name in OWN else _events
                rates[entrant.name].append(entrant.images / clock(entrant.run, calls))
    remarks = {entrant.name: entrant.remarks for entrant in entrants}
    return Results(title, entrants[0].name, rates, remarks, skipped)


def measure_cost(run: Run, *, own: bool) -> Cost:
    """Measure launches, kernel time, memory and waiting of one batch.

    Args:
        run: Makes the views of one batch.
        own: Whether it has memory and streams of its own, so that memory and waiting are unknown.
    """
    from torch.profiler import ProfilerActivity, profile

    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    out = run()
    torch.cuda.synchronize()
    views = [item for item in out if isinstance(item, Tensor)] if isinstance(out, list) else []
    extra = torch.cuda.max_memory_allocated() - before - sum(item.nbytes for item in views)
    del out, views
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiled:
        run()
        torch.cuda.synchronize()
    kernels = [
        event
        for event in profiled.events() or []
        if event.device_type.name == "CUDA" and not event.name.startswith(("Memcpy", "Memset", "ProfilerStep"))
    ]
    busy = sum(event.time_range.elapsed_us() for event in kernels)
    return Cost(len(kernels), busy / 1e3, None if own else extra / 1e6, None if own else check_waiting(run))


def check_waiting(run: Run) -> bool | None:
    """Return whether the host waits for the device while it makes a batch; None if it fails for another reason."""
    torch.cuda.synchronize()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch warns that the mode is a prototype
            torch.cuda.set_sync_debug_mode("error")
        run()
    except RuntimeError as error:
        return True if "synchroniz" in str(error) else None
    finally:
        torch.cuda.set_sync_debug_mode("default")
        torch.cuda.synchronize()
    return False


def _events(run: Run, calls: int) -> float:
    """Seconds a call by the device's clock."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    for _ in range(calls):
        run()
    end.record()
    torch.cuda.synchronize()
    return float(start.elapsed_time(end)) / 1e3 / calls


def _wall(run: Run, calls: int) -> float:
    """Seconds a call by the host's clock."""
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(calls):
        run()
    torch.cuda.synchronize()
    return (time.perf_counter() - start) / calls


def _photos(images: int) -> list[Tensor]:
    distinct = photographs(4)
    arrays = [torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).view(256, 256, 3) for image in distinct]
    return [arrays[i % len(arrays)].clone() for i in range(images)]


def _collate(specs: Sequence[ViewSpec]) -> MultiViewCollateFunction:
    views = [build_view(spec, DTYPE) for spec in specs]
    return MultiViewCollateFunction(views, seed=0, render="late", engine="gpu")


def _to_device(views: Views) -> Views:
    """The packed batch with its pixels on the device, so that the copy is not measured."""
    return views._with(images=views.images.replace_pixels(views.images.pixels.cuda()))


def _ours(batches: Sequence[Views]) -> Run:
    turns = cycle(batches)
    return lambda: next(turns).to("cuda")


def _batched(library: str, photos: Tensor, specs: Sequence[ViewSpec]) -> Run:
    """The conversions to and from float are part of the time, since the library needs them."""
    transforms = [batch_transform(library, spec, "cuda") for spec in specs]

    def run() -> list[Tensor]:
        x = photos if library == "torchvision" else photos.float().div_(255)
        return [transform(x).to(DTYPE) for transform in transforms]

    return run


def _compiled(photos: Tensor, specs: Sequence[ViewSpec]) -> Run:
    """The crop is not compiled: it slices, so every batch would be compiled again."""
    pairs: list[tuple[Any, Any]] = []
    for spec in dict.fromkeys(specs):
        steps = batch_transform("kornia", spec, "cuda", order=(0, 1, 2, 3))
        assert isinstance(steps, nn.Sequential)
        pairs += [(steps[0], torch.compile(steps[1:]))] * specs.count(spec)

    def run() -> list[Tensor]:
        x = photos.float().div_(255)
        return [rest(crop(x)).to(DTYPE) for crop, rest in pairs]

    return run


def _triton_augment(photos: Tensor, specs: Sequence[ViewSpec]) -> Run:
    """The part of the work that it can do: crop without resize, flip, jitter without hue, grayscale, normalise."""
    os.environ["TRITON_AUGMENT_SUPPRESS_FIRST_RUN_MESSAGE"] = "1"
    make = import_module("triton_augment").TritonFusedAugment
    transforms = []
    for spec in specs:
        names = dict(zip(("brightness", "contrast", "saturation"), spec.jitter[:3], strict=True))
        transforms.append(make(spec.size, 0.5, grayscale_p=0.2, mean=MEAN, std=STD, **names))

    def run() -> list[Tensor]:
        x = photos.half().div_(255)
        return [transform(x) for transform in transforms]

    return run


def _dali(photos: Tensor, specs: Sequence[ViewSpec]) -> Run:
    dali = import_module("nvidia.dali")
    batch = photos.permute(0, 2, 3, 1).contiguous()

    def views() -> tuple[Any, ...]:
        source = dali.fn.external_source(source=lambda: batch, device="gpu", layout="HWC", dtype=dali.types.UINT8)
        return tuple(dali_view(dali, spec, source, "FLOAT16") for spec in specs)

    how = {"batch_size": len(batch), "num_threads": os.cpu_count(), "device_id": torch.cuda.current_device()}
    pipeline = dali.pipeline_def(**how, enable_conditionals=True)(views)()

    def run() -> object:
        return pipeline.run()

    return run


if __name__ == "__main__":
    sys.exit(main())
