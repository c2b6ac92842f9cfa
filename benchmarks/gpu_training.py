"""Measure whole training steps on a CUDA device: `python -m benchmarks.gpu_training [--batch N] [--steps N]`.

SimCLR trains a ResNet-50 and a ViT-S/16 in bf16 autocast on 256×256 8-bit photographs, which are in memory: no file is
read or decoded. Its two views of 224 pixels come from a `DataLoader` with one of these:

- `made once`: the same views at every step, on the device; no step can be faster.
- `lightly_aug, on the GPU`: workers pack and draw, `prefetch` renders.
- `lightly_aug, in workers`: workers render, too.
- `kornia, on the GPU`: workers stack the images, Kornia makes the views of a batch.
- `torchvision v2, in workers`: workers make the views, image by image.

Each takes its steps in turn, in several rounds. The report has the median time of a step, and the share of it that the
views add to a step whose views are made once.
"""

import argparse
import itertools
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from lightly_aug import MultiViewCollateFunction, prefetch
from lightly_aug.bench import WORKLOADS, Results, batch_transform, build_view, write_report
from lightly_aug.models import SimCLR
from lightly_aug.photographs import photographs
from lightly_aug.weights import build_backbone

__all__ = ["NETWORKS", "main"]

NETWORKS: Final = ("resnet50", "vit_small_patch16_224")
SPECS: Final = WORKLOADS["simclr"]
LEAST: Final = "made once"
WARM: Final = 5
"""Steps before the clock starts: they compile, and fill the queues of the workers."""

Batches = Iterator[list[Tensor]]


class Photographs(Dataset[Any]):
    """Four photographs in turn, each `(256, 256, 3)` uint8, as many as a pass needs.

    Args:
        count: Number of images.
        convert: What is done to each in a worker.
    """

    def __init__(self, count: int, convert: Callable[[Any], Any]) -> None:
        self.images = [
            torch.frombuffer(bytearray(p.tobytes()), dtype=torch.uint8).view(256, 256, 3) for p in photographs(4)
        ]
        self.count = count
        self.convert = convert

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        return self.convert(self.images[index % len(self.images)])


def main() -> int:
    """Measure and write `gpu_training.md` and `gpu_training.json`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_training", description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=256, help="images in a batch")
    parser.add_argument("--steps", type=int, default=20, help="steps of each round that are timed")
    parser.add_argument("--rounds", type=int, default=3, help="how often everything is timed")
    parser.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 1) - 1), help="processes of a loader")
    parser.add_argument("--only", default=",".join(NETWORKS), help="networks, separated by commas")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), help="folder to write to")
    chosen = parser.parse_args()
    if not torch.cuda.is_available():
        print("python -m benchmarks.gpu_training needs a CUDA device, and PyTorch sees none", file=sys.stderr)
        return 2
    tables, texts, data = [], list[str](), dict[str, Any]()
    report = ""
    for arch in chosen.only.split(","):
        step = prepare_step(arch)
        rates: dict[str, list[float]] = {name: [] for name in SOURCES}
        for _ in range(chosen.rounds):
            for name, source in SOURCES.items():
                batches = source(chosen.batch, WARM + chosen.steps, chosen.workers)
                seconds = time_steps(step, batches, chosen.steps)
                rates[name].append(chosen.batch / seconds)
                print(f"{arch}, {name}: {1e3 * seconds:.1f} ms a step", file=sys.stderr)
        title = f"{arch}, SimCLR, {chosen.batch} images of 256×256, 2 views of 224, bf16, {chosen.workers} workers"
        rivals = {name: rate for name, rate in rates.items() if name != LEAST}
        tables.append(Results(title, "lightly_aug, on the GPU", rivals))
        texts.append(describe(title, rates, chosen.batch))
        data[arch] = {"batch": chosen.batch, "workers": chosen.workers, "rates": rates}
        report = write_report(
            chosen.out / "gpu_training",
            f"Images a second of whole training steps on {torch.cuda.get_device_name()}",
            tables, texts=texts, data=data,
        )  # fmt: skip
    print(report)
    return 0


def describe(title: str, rates: dict[str, list[float]], batch: int) -> str:
    """Write the time of a step, and what the views add to it, as Markdown."""
    milliseconds = {name: 1e3 * batch / statistics.median(rate) for name, rate in rates.items()}
    least = milliseconds[LEAST]
    rows = [f"| {name} | {ms:.1f} | {ms / least - 1:+.1%} |" for name, ms in milliseconds.items()]
    return "\n".join([f"## {title}: steps\n", "| views | ms a step | added by the views |", "|---|---|---|", *rows])


def prepare_step(arch: str) -> Callable[[list[Tensor]], None]:
    """Build SimCLR on a network, and return the function that takes one step of its training."""
    torch.manual_seed(0)
    model = SimCLR(build_backbone(arch)).cuda().to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)

    def step(views: list[Tensor]) -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cuda", torch.bfloat16):
            loss = model(views)
        loss.backward()
        optimizer.step()

    return step


def time_steps(step: Callable[[list[Tensor]], None], batches: Batches, steps: int) -> float:
    """Return the seconds of a step, by the clock, after `WARM` steps."""
    for views in itertools.islice(batches, WARM):
        step(views)
    torch.cuda.synchronize()
    start, taken = time.perf_counter(), 0
    for views in batches:
        step(views)
        taken += 1
    torch.cuda.synchronize()
    assert taken == steps, (taken, steps)
    return (time.perf_counter() - start) / taken


def _made_once(batch: int, steps: int, workers: int) -> Batches:
    views = [torch.rand(batch, 3, spec.size, spec.size, device="cuda", dtype=torch.bfloat16) for spec in SPECS]
    return iter([[view.to(memory_format=torch.channels_last) for view in views]] * steps)


def _ours(batch: int, steps: int, workers: int, *, render: Any) -> Batches:
    collate = MultiViewCollateFunction([build_view(s, torch.bfloat16) for s in SPECS], seed=0, render=render)
    loader = _loader(batch, steps, workers, convert=_to_array, collate=collate)
    for views in prefetch(loader, "cuda", memory_format=torch.channels_last):
        yield list(views)


def _kornia(batch: int, steps: int, workers: int) -> Batches:
    transforms = [batch_transform("kornia", spec, "cuda") for spec in SPECS]
    for images in _loader(batch, steps, workers, convert=_to_array, collate=default_collate):
        x = images.cuda(non_blocking=True).permute(0, 3, 1, 2).float().div_(255)
        yield [view(x).bfloat16().to(memory_format=torch.channels_last) for view in transforms]


def _torchvision(batch: int, steps: int, workers: int) -> Batches:
    for views in _loader(batch, steps, workers, convert=_TorchvisionViews(), collate=default_collate):
        yield [view.cuda(non_blocking=True).bfloat16().to(memory_format=torch.channels_last) for view in views]


def _loader(
    batch: int, steps: int, workers: int, *, convert: Callable[[Any], Any], collate: Callable[[Any], Any]
) -> DataLoader[Any]:
    return DataLoader(
        Photographs(batch * steps, convert), batch, num_workers=workers, pin_memory=True, collate_fn=collate,
        worker_init_fn=_use_one_thread,
    )  # fmt: skip


def _to_array(image: Tensor) -> Any:
    return image.numpy()


class _TorchvisionViews:
    def __init__(self) -> None:
        self.transforms = [batch_transform("torchvision", spec) for spec in SPECS]

    def __call__(self, image: Tensor) -> list[Tensor]:
        return [transform(image.permute(2, 0, 1)) for transform in self.transforms]


def _use_one_thread(worker: int) -> None:
    torch.set_num_threads(1)


def _on_the_gpu(batch: int, steps: int, workers: int) -> Batches:
    return _ours(batch, steps, workers, render="late")


def _in_workers(batch: int, steps: int, workers: int) -> Batches:
    return _ours(batch, steps, workers, render="worker")


SOURCES: Final[dict[str, Callable[[int, int, int], Batches]]] = {
    LEAST: _made_once,
    "lightly_aug, on the GPU": _on_the_gpu,
    "lightly_aug, in workers": _in_workers,
    "kornia, on the GPU": _kornia,
    "torchvision v2, in workers": _torchvision,
}

if __name__ == "__main__":
    sys.exit(main())
