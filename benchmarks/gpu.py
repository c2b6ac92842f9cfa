"""Measure on a CUDA device: `python -m benchmarks.gpu [--only NAMES] [--batch N] [--rounds N] [--calls N] [--out DIR]`.

`python -m benchmarks.gpu --host` measures, on any machine, what the host does for a batch, without the launches.

From a batch of 256×256 8-bit photographs to bf16 views, SimCLR's 2×224 and DINO's 2×224 + 8×96, all on the device: with
ours and with the rivals that are installed (`pip install torchtransform triton-augment nvidia-dali-cuda130`). The
report has the time, the number of kernel launches, how long each kernel runs, how long the host takes, the memory that
is needed, whether the host waits, how long the first batch takes, and the distance from the floor that the memory sets:
the images read once, the views written once, as fast as this device copies in the same run. It is written after each
workload, so a run that is cut off leaves a report.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
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
        host_ms: Time until the call returns.
        kernels: Milliseconds of each kernel, by name.
    """

    launches: int
    kernels_ms: float
    extra_mb: float | None
    waits: bool | None
    host_ms: float = 0.0
    kernels: dict[str, float] = field(default_factory=dict)


def main() -> int:
    """Measure and write `gpu.md` and `gpu.json`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--only", help=f"rivals to measure beside ours, separated by commas: {', '.join(RIVALS)}; by default all"
    )
    parser.add_argument("--batch", type=int, default=256, help="images in a batch")
    parser.add_argument("--rounds", type=int, default=15, help="how often everything is timed")
    parser.add_argument("--calls", type=int, default=10, help="batches each time, enqueued in a row")
    parser.add_argument("--host", action="store_true", help="measure the host's part only, on any machine")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), help="folder to write to")
    chosen = parser.parse_args()
    only = list(RIVALS) if chosen.only is None else [name.strip() for name in chosen.only.split(",") if name.strip()]
    if unknown := [name for name in only if name not in RIVALS]:
        parser.error(f"--only must be some of {', '.join(RIVALS)}, got {', '.join(unknown)}")
    if chosen.host:
        for method, specs in WORKLOADS.items():
            print(
                f"{method}, {chosen.batch} images: {1e3 * measure_host(chosen.batch, specs):.2f} ms of the host a batch"
            )
        return 0
    if not torch.cuda.is_available():
        print("python -m benchmarks.gpu needs a CUDA device, and PyTorch sees none", file=sys.stderr)
        return 2
    rate = measure_copy_rate()
    name = torch.cuda.get_device_name()
    state = describe_device()
    tables, texts = [], [f"{name}{state}, which copies at {rate / 1e12:.2f} TB/s (read and written) in this run."]
    data: dict[str, Any] = {"device": name, "state": state, "copy_bytes_per_s": rate}
    report = ""
    for method in ("simclr", "dino"):
        specs, title = WORKLOADS[method], f"{method}, {chosen.batch} images of 256×256, bf16"
        entrants, skipped = prepare_contenders(chosen.batch, specs, only)
        firsts: dict[str, float] = {}
        sizes = [spec.size for spec in specs]
        results = measure_in_turns(entrants, title, chosen.rounds, chosen.calls, skipped, sizes, firsts)
        costs = {
            entrant.name: measure_cost(entrant.run, own=entrant.name in OWN)
            for entrant in entrants
            if entrant.name in results.rates
        }
        floor = floor_bytes(chosen.batch, 256, specs, DTYPE.itemsize)
        tables.append(results)
        texts.append(costs_table(results, costs, chosen.batch, floor, rate))
        texts += [describe_kernels(key, cost.kernels) for key, cost in costs.items() if 0 < len(cost.kernels) <= 8]
        texts.append("The first batch took " + ", ".join(f"{key} {taken:.1f} s" for key, taken in firsts.items()) + ".")
        packing = measure_packing(chosen.batch, specs)
        texts.append(f"In the worker our collate function packs and draws such a batch in {1e3 * packing:.1f} ms.")
        data[method] = {
            "floor_bytes": floor,
            "costs": {key: asdict(cost) for key, cost in costs.items()},
            "first_s": firsts,
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
        "| | ms a batch | ms of kernels | ms of the host | share of the floor's speed | launches | extra memory (MB) "
        "| waits |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, taken in costs.items():
        seconds = images / statistics.median(results.rates[name])
        waits = {True: "yes", False: "no", None: "?"}[taken.waits]
        extra = "?" if taken.extra_mb is None else f"{taken.extra_mb:,.0f}"
        lines.append(
            f"| {name} | {1e3 * seconds:.3f} | {taken.kernels_ms:.3f} | {taken.host_ms:.3f} | {least / seconds:.1%} "
            f"| {taken.launches} | {extra} | {waits} |"
        )
    return "\n".join(lines)


def describe_kernels(name: str, kernels: Mapping[str, float]) -> str:
    """Write the milliseconds of each kernel."""
    return f"Kernels of {name}: " + ", ".join(f"`{kernel}` {taken:.3f} ms" for kernel, taken in kernels.items()) + "."


def describe_device() -> str:
    """Return driver, clocks and power of the first device as it reports them; nothing where it cannot be asked."""
    query = ["nvidia-smi", "--query-gpu=driver_version,clocks.sm,clocks.mem,power.draw", "--format=csv,noheader"]
    with suppress(OSError, subprocess.SubprocessError):
        lines = subprocess.run(query, capture_output=True, text=True, check=True, timeout=20).stdout.splitlines()
        driver, clock, memory, power = lines[0].split(", ")
        return f" (driver {driver}, {clock}, memory {memory}, {power})"
    return ""


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
        "lightly_aug (images with black borders)": (
            partial(_ours, [_to_device(views) for views in pack_batches(images, specs, border=64)]),
            "speed must not depend on content",
        ),
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


def pack_batches(images: int, specs: Sequence[ViewSpec], count: int = 4, border: int = 0) -> list[Views]:
    """Pack batches with different draws, as a worker does, of photographs with black borders as wide as `border`."""
    collate = _collate(specs)
    photos = [image.numpy() for image in _photos(images)]
    for photo in photos:
        photo[:border] = photo[len(photo) - border :] = 0
        photo[:, :border] = photo[:, photo.shape[1] - border :] = 0
    return [collate(photos) for _ in range(count)]


def measure_packing(images: int, specs: Sequence[ViewSpec]) -> float:
    """Return the seconds that packing and drawing a batch takes in a worker."""
    collate, photos, taken = _collate(specs), [image.numpy() for image in _photos(images)], []
    for _ in range(5):
        start = time.perf_counter()
        collate(photos)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def measure_host(images: int, specs: Sequence[ViewSpec]) -> float:
    """Return the seconds that `Views.to` takes on the host, with kernels that nobody launches, the fastest of 30."""
    os.environ["TRITON_INTERPRET"] = "1"  # else the engine refuses to render without a device
    from lightly_aug.engines import gpu

    gpu._launch = lambda *_, **__: None
    (views,) = pack_batches(images, specs, 1)
    taken = []
    for _ in range(30):
        start = time.perf_counter()
        kept = views.to("cpu")
        taken.append(time.perf_counter() - start)
        del kept  # outside of the measurement: large memory takes long to free
    return min(taken)


def measure_copy_rate() -> float:
    """Return the bytes a second that the device reads and writes, the median over copies of 1 GiB."""
    source = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    seconds = [_events(lambda: target.copy_(source), 1) for _ in range(25)]
    return 2 * source.nbytes / statistics.median(seconds[5:])


def measure_in_turns(
    entrants: Sequence[Contender],
    title: str,
    rounds: int,
    calls: int,
    skipped: dict[str, str],
    sizes: Sequence[int],
    firsts: dict[str, float],
) -> Results:
    """Warm up, then time in turn, round by round.

    Args:
        entrants: The contenders, ours first.
        title: Title of the results.
        rounds: How often each is timed.
        calls: Batches each time.
        skipped: Why something is not measured, by name; a rival that fails, or makes other views, is added.
        sizes: Sides of the views.
        firsts: Gets the seconds that the first batch takes, by name.
    """
    rates: dict[str, list[float]] = {}
    for entrant in entrants:
        try:
            start = time.perf_counter()
            made = entrant.run()
            torch.cuda.synchronize()
            firsts[entrant.name] = time.perf_counter() - start
            if entrant.name not in OWN:
                check_views(made, entrant.images, sizes)
            del made
            for _ in range(5):  # fills the allocator's pools
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


def check_views(made: object, images: int, sizes: Sequence[int]) -> None:
    """Raise a ValueError unless these are finite views of the right shapes."""
    views = [view for view in made if isinstance(view, Tensor)] if isinstance(made, list) else []
    shapes, wanted = [tuple(view.shape) for view in views], [(images, 3, size, size) for size in sizes]
    if shapes != wanted:
        raise ValueError(f"views of {wanted} were expected, got {shapes}")
    if not all(bool(view.isfinite().all()) for view in views):
        raise ValueError("the views hold NaN or infinity")


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
    by_name: dict[str, float] = {}
    for event in kernels:
        by_name[event.name] = by_name.get(event.name, 0.0) + event.time_range.elapsed_us() / 1e3
    return Cost(
        len(kernels),
        sum(by_name.values()),
        None if own else extra / 1e6,
        None if own else check_waiting(run),
        _host(run),
        by_name,
    )


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


def _host(run: Run) -> float:
    """Milliseconds until a call returns, the median of 9."""
    taken = []
    for _ in range(9):
        torch.cuda.synchronize()
        start = time.perf_counter()
        run()
        taken.append(1e3 * (time.perf_counter() - start))
    torch.cuda.synchronize()
    return statistics.median(taken)


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
    """The packed batch as a loader pins it, with its pixels on the device, so that their copy is not measured."""
    views = views.pin_memory()
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
