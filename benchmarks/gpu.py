"""On a CUDA device: `python -m benchmarks.gpu [--batch N] [--rounds N] [--calls N] [--out FOLDER]`.

From a batch of 256×256 8-bit photographs to bf16 views, two of 224 as SimCLR's and DINO's 2×224 + 8×96: by ours and by
the peers that are installed (`pip install torchtransform triton-augment nvidia-dali-cuda130`), on the device from the
first byte to the last. How often kernels are launched, how long they run, what memory they take, whether the host has
to wait; and how far each is from the least that the memory allows: the images read once, the views written once, as
fast as this device copies in the same run.
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
from lightly_aug.bench import Results, report
from lightly_aug.peers import MEAN, STD, WORKLOADS, Contender, Crop, dali_view, eager, photographs, view

__all__ = ["Cost", "costs_table", "floor_bytes", "main"]

DTYPE: Final = torch.bfloat16
OWN: Final = ("dali",)  # these have streams and memory of their own
Run = Callable[[], object]


@dataclass
class Cost:
    """What one batch takes.

    Attributes:
        launches: kernels.
        kernels_ms: the time that they run.
        extra_mb: peak memory beyond the images and the views; None if PyTorch does not manage it.
        waits: whether the host waits for the device; None if it cannot be told.
    """

    launches: int
    kernels_ms: float
    extra_mb: float | None
    waits: bool | None


def main() -> int:
    """Measure and write `gpu.md` and `gpu.json`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=256, help="images in a batch")
    parser.add_argument("--rounds", type=int, default=15, help="how often everything is timed")
    parser.add_argument("--calls", type=int, default=10, help="batches each time, one behind the other")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), help="folder to write to")
    chosen = parser.parse_args()
    if not torch.cuda.is_available():
        print("python -m benchmarks.gpu needs a CUDA device, and PyTorch sees none", file=sys.stderr)
        return 2
    rate = copy_rate()
    name = torch.cuda.get_device_name()
    tables, texts = [], [f"{name}, which copies at {rate / 1e12:.2f} TB/s (read and written) in this run."]
    data: dict[str, Any] = {"device": name, "copy_bytes_per_s": rate}
    for method in ("simclr", "dino"):
        crops, title = WORKLOADS[method], f"{method}, {chosen.batch} images of 256×256, bf16"
        entrants, skipped = everyone(chosen.batch, crops)
        results = timed(entrants, title, chosen.rounds, chosen.calls, skipped)
        costs = {
            entrant.name: cost(entrant.run, own=entrant.name in OWN)
            for entrant in entrants
            if entrant.name in results.rates
        }
        floor = floor_bytes(chosen.batch, 256, crops, DTYPE.itemsize)
        tables.append(results)
        texts.append(costs_table(results, costs, chosen.batch, floor, rate))
        host = host_seconds(chosen.batch, crops)
        texts.append(f"In the worker our collate function packs and draws such a batch in {1e3 * host:.1f} ms.")
        data[method] = {"floor_bytes": floor, "costs": {key: asdict(c) for key, c in costs.items()}, "collate_s": host}
    print(report(chosen.out / "gpu", f"Images a second on {name}", tables, texts=texts, data=data))
    return 0


def floor_bytes(images: int, side: int, crops: Sequence[Crop], itemsize: int) -> int:
    """The bytes that have to be moved: RGB images of 8 bits read once, the views written once."""
    return images * 3 * (side**2 + itemsize * sum(crop.size**2 for crop in crops))


def costs_table(results: Results, costs: dict[str, Cost], images: int, floor: int, rate: float) -> str:
    """Launches, memory and distance from the floor as Markdown; `rate` is in bytes a second."""
    least = floor / rate
    lines = [
        f"## {results.title}: what it takes\n",
        f"The floor is {floor / 1e6:.1f} MB, {1e6 * least:.0f} µs.\n",
        "| | ms a batch | of them kernels run | share of the floor's speed | launches | extra memory (MB) | waits |",
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


def everyone(images: int, crops: Sequence[Crop]) -> tuple[list[Contender], dict[str, str]]:
    """Everything that can make the views on the device, ours first."""
    batches = prepared(images, crops)
    photos = torch.stack([image.permute(2, 0, 1) for image in _photos(images)]).cuda()
    makers: dict[str, tuple[Callable[[], Run], str]] = {
        "lightly_aug": (partial(_ours, [_on_device(views) for views in batches]), ""),
        "lightly_aug, from pinned memory": (partial(_ours, [views.pin_memory() for views in batches]), "with the copy"),
        "kornia": (partial(_batched, "kornia", photos, crops), "no antialias, one order of the jitter a batch"),
        "kornia, compiled": (partial(_compiled, photos, crops), "no antialias, fixed order, the crop not compiled"),
        "torchtransform": (partial(_batched, "torchtransform", photos, crops), "approximate colour, coarse antialias"),
        "torchvision v2": (partial(_batched, "torchvision", photos, crops), "one draw a batch"),
        "triton-augment": (partial(_triton_augment, photos, crops), "no resize, hue, blur, solarize; fp16"),
        "dali": (partial(_dali, photos, crops), "approximate colour, fp16"),
    }
    found, skipped = [], {}
    for name, (make, remarks) in makers.items():
        try:
            found.append(Contender(name, make(), images, remarks))
        except Exception as error:
            if not found:
                raise
            skipped[name] = f"{type(error).__name__}: {error}".splitlines()[0]
    return found, skipped


def prepared(images: int, crops: Sequence[Crop], count: int = 4) -> list[Views]:
    """Batches with different draws, packed, as they come out of a worker."""
    collate = _collate(crops)
    photos = [image.numpy() for image in _photos(images)]
    return [collate(photos) for _ in range(count)]


def host_seconds(images: int, crops: Sequence[Crop]) -> float:
    """What packing and drawing a batch takes in a worker."""
    collate, photos, taken = _collate(crops), [image.numpy() for image in _photos(images)], []
    for _ in range(5):
        start = time.perf_counter()
        collate(photos)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def copy_rate() -> float:
    """Bytes a second that the device reads and writes while it copies, the median of some copies of 1 GiB."""
    source = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    seconds = [_events(lambda: target.copy_(source), 1) for _ in range(25)]
    return 2 * source.nbytes / statistics.median(seconds[5:])


def timed(entrants: Sequence[Contender], title: str, rounds: int, calls: int, skipped: dict[str, str]) -> Results:
    """Warm up, then time in turns; what fails is left out, with the reason."""
    rates: dict[str, list[float]] = {}
    for entrant in entrants:
        try:
            for _ in range(6):  # also compiles, and fills the allocator
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


def cost(run: Run, *, own: bool) -> Cost:
    """Launches, kernel time, memory and waiting of one batch; `own`: it has memory and streams of its own."""
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
    return Cost(len(kernels), busy / 1e3, None if own else extra / 1e6, None if own else waits(run))


def waits(run: Run) -> bool | None:
    """Whether the host waits for the device somewhere in it."""
    torch.cuda.synchronize()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the mode is a prototype
            torch.cuda.set_sync_debug_mode("error")
        run()
    except RuntimeError as error:
        return True if "synchroniz" in str(error) else None
    finally:
        torch.cuda.set_sync_debug_mode("default")
        torch.cuda.synchronize()
    return False


def _events(run: Run, calls: int) -> float:
    """Seconds a call, by the device's own clock."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    torch.cuda.synchronize()
    start.record()
    for _ in range(calls):
        run()
    end.record()
    torch.cuda.synchronize()
    return float(start.elapsed_time(end)) / 1e3 / calls


def _wall(run: Run, calls: int) -> float:
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


def _collate(crops: Sequence[Crop]) -> MultiViewCollateFunction:
    return MultiViewCollateFunction([view(crop, DTYPE) for crop in crops], seed=0, render="late", engine="gpu")


def _on_device(views: Views) -> Views:
    return Views(**views.__dict__ | {"pixels": views.pixels.cuda()})


def _ours(batches: Sequence[Views]) -> Run:
    turns = cycle(batches)
    return lambda: next(turns).to("cuda")


def _batched(library: str, photos: Tensor, crops: Sequence[Crop]) -> Run:
    """Its conversions to and from float are in the time, since it needs them."""
    transforms = [eager(library, crop, "cuda") for crop in crops]

    def run() -> list[Tensor]:
        x = photos if library == "torchvision" else photos.float().div_(255)
        return [transform(x).to(DTYPE) for transform in transforms]

    return run


def _compiled(photos: Tensor, crops: Sequence[Crop]) -> Run:
    """The crop stays outside: cut out by slices it would be compiled anew for every batch."""
    pairs: list[tuple[Any, Any]] = []
    for crop in dict.fromkeys(crops):
        steps = eager("kornia", crop, "cuda", order=(0, 1, 2, 3))
        assert isinstance(steps, nn.Sequential)
        pairs += [(steps[0], torch.compile(steps[1:]))] * crops.count(crop)

    def run() -> list[Tensor]:
        x = photos.float().div_(255)
        return [rest(cut(x)).to(DTYPE) for cut, rest in pairs]

    return run


def _triton_augment(photos: Tensor, crops: Sequence[Crop]) -> Run:
    """What it has of the work: a crop that is not resized, flip, three parts of the jitter, grayscale, normalise."""
    os.environ["TRITON_AUGMENT_SUPPRESS_FIRST_RUN_MESSAGE"] = "1"
    make = import_module("triton_augment").TritonFusedAugment
    transforms = []
    for crop in crops:
        names = dict(zip(("brightness", "contrast", "saturation"), crop.jitter[:3], strict=True))
        transforms.append(make(crop.size, 0.5, grayscale_p=0.2, mean=MEAN, std=STD, **names))

    def run() -> list[Tensor]:
        x = photos.half().div_(255)
        return [transform(x) for transform in transforms]

    return run


def _dali(photos: Tensor, crops: Sequence[Crop]) -> Run:
    dali = import_module("nvidia.dali")
    batch = photos.permute(0, 2, 3, 1).contiguous()

    def views() -> tuple[Any, ...]:
        source = dali.fn.external_source(source=lambda: batch, device="gpu", layout="HWC", dtype=dali.types.UINT8)
        return tuple(dali_view(dali, crop, source, "FLOAT16") for crop in crops)

    how = {"batch_size": len(batch), "num_threads": os.cpu_count(), "device_id": torch.cuda.current_device()}
    pipeline = dali.pipeline_def(**how, enable_conditionals=True)(views)()

    def run() -> object:
        return pipeline.run()

    return run


if __name__ == "__main__":
    sys.exit(main())
