"""Measure the cost of the trainer: `python -m benchmarks.trainer [--steps N] [--block N] [--out FOLDER]`.

`pretrain` and a bare loop in PyTorch train the same method, network and images with the same loader and optimiser, in
one process and one thread, in turn: some steps of the one, then as many of the other, so that both meet the same load
of the machine. Time of the CPU is reported beside time by the clock, since other processes disturb it less. Then a
profile tells where the trainer spends its time, and the files of an epoch are written once more with a clock.
"""

import argparse
import cProfile
import io
import os
import platform
import pstats
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, Final, Literal, NamedTuple

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn

from benchmarks.methods import BACKBONES, build_network
from lightly_aug.methods import METHODS, Task
from lightly_aug.photographs import photograph_patches
from lightly_aug.train import SMALL, pretrain
from lightly_aug.train.data import find_source, training_loader
from lightly_aug.weights import build_backbone, save_backbone

__all__ = ["CASES", "Case", "Cost", "describe", "main", "measure_cost", "measure_profile"]


class Case(NamedTuple):
    """A training to measure.

    Attributes:
        method: A name of `lightly_aug.methods.METHODS`.
        backbone: `"small"`, the network of `benchmarks.methods`, or a name that `build_backbone` takes.
        size: Side of the views in pixels.
        batch: Images in a batch.
        share: Share of the steps to take, for what takes long.
    """

    method: str
    backbone: str
    size: int
    batch: int = 32
    share: float = 1.0

    def describe(self) -> str:
        """Name the case."""
        name = "the small network" if self.backbone == "small" else self.backbone
        return f"{METHODS[self.method].title}, {name}, {self.batch} images at {self.size} pixels"


CASES: Final = [
    Case("simclr", "small", 32),
    Case("moco", "small", 32),
    Case("simclr", "resnet18", 48, share=0.25),
    Case("moco", "resnet18", 48, share=0.25),
]


class Cost(NamedTuple):
    """The seconds of a training.

    Attributes:
        bare: Seconds of a step of the bare loop in each block, by the clock and of the CPU.
        trainer: The same of the trainer.
        checkpoint: Seconds to write a checkpoint, by the clock.
        backbone: Seconds to write the backbone.
        megabytes: Size of the checkpoint.
    """

    bare: list[tuple[float, float]]
    trainer: list[tuple[float, float]]
    checkpoint: float
    backbone: float
    megabytes: float

    def seconds(self, who: Literal["bare", "trainer"], clock: int) -> float:
        """Return the median seconds of a step, by the clock (0) or of the CPU (1)."""
        blocks = self.bare if who == "bare" else self.trainer
        return median(block[clock] for block in blocks)

    def ratio(self, clock: int) -> float:
        """Return the median, over pairs of neighbouring blocks, of the trainer's time divided by the bare loop's."""
        return median(ours[clock] / theirs[clock] for ours, theirs in zip(self.trainer, self.bare, strict=True))

    @property
    def added(self) -> float:
        """The median, over pairs of neighbouring blocks, of the seconds of the CPU that the trainer adds to a step."""
        return median(ours[1] - theirs[1] for ours, theirs in zip(self.trainer, self.bare, strict=True))

    @property
    def total(self) -> float:
        """The trainer's time of the CPU divided by the bare loop's, of all blocks together, with what is rare."""
        return sum(cpu for _, cpu in self.trainer) / sum(cpu for _, cpu in self.bare)


#: Functions whose time is reported: the name of the row, then the end of the file's path and the function.
_PARTS: Final = [
    ("random numbers of the step: keep and restore the state", ("torch/random.py", "fork_rng")),
    ("random numbers of the step: seed the generators", ("train/module.py", "_seed_step")),
    ("log the loss", ("core/module.py", "log")),
    ("collect and write what was logged", ("logger_connector.py", "update_train_step_metrics")),
    ("Throughput", ("train/watch.py", "on_train_batch_end:Throughput")),
    ("Collapse", ("train/watch.py", "on_train_batch_end:Collapse")),
    ("RunBar", ("train/watch.py", "on_train_batch_end:RunBar")),
    ("StopSignals", ("train/checkpoints.py", "on_train_batch_end")),
    ("move the batch", ("strategies/strategy.py", "batch_to_device")),
]


class Alternate(Callback):
    """After every few steps of the trainer, take as many of the bare loop, each by its own clock."""

    def __init__(self, step: Callable[[], None], block: int, folder: Path) -> None:
        self.step, self.block, self.folder = step, block, folder
        self.bare: list[tuple[float, float]] = []
        self.trainer: list[tuple[float, float]] = []
        self.checkpoint = 0.0
        self._began: tuple[float, float] | None = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop the clock of the trainer, and take the steps of the bare loop."""
        if (batch_idx + 1) % self.block:
            return
        if self._began is not None:  # the first block warms up
            self.trainer.append(_since(self._began, self.block))
        began = _now()
        for _ in range(self.block):
            self.step()
        if self._began is not None:
            self.bare.append(_since(began, self.block))
        self._began = _now()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write a checkpoint with a clock."""
        times = []
        for i in range(5):
            start = time.perf_counter()
            trainer.save_checkpoint(self.folder / f"{i}.ckpt")
            times.append(time.perf_counter() - start)
        self.checkpoint = median(times)


def _now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def _since(began: tuple[float, float], steps: int) -> tuple[float, float]:
    now = _now()
    return (now[0] - began[0]) / steps, (now[1] - began[1]) / steps


def measure_cost(case: Case, steps: int, block: int) -> Cost:
    """Train with both in turn.

    Args:
        case: The training.
        steps: Steps of each.
        block: Steps from one turn to the next.
    """
    with _run(case, steps) as (train, folder):
        alternate = Alternate(_bare_loop(case, steps), block, folder)
        model = train(alternate).model
        start = time.perf_counter()
        save_backbone(model.backbone, folder / "backbone.safetensors", arch=None, size=case.size, normalize=None)
        seconds = time.perf_counter() - start
        megabytes = (folder / "0.ckpt").stat().st_size / 1e6
        return Cost(alternate.bare, alternate.trainer, alternate.checkpoint, seconds, megabytes)


def measure_profile(case: Case, steps: int) -> dict[str, float]:
    """Return the milliseconds of a step that parts of the trainer take under a profiler, by name."""
    profiler = cProfile.Profile()

    class Window(Callback):
        """Profile from the first step to the last."""

        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
            if batch_idx == 1:
                profiler.enable()

        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            profiler.disable()

    with _run(case, steps) as (train, _):
        train(Window())
    found: dict[str, float] = {}
    stats: Any = pstats.Stats(profiler)
    for (file, line, function), (_, _, _, seconds, _) in stats.stats.items():
        for name, place in _PARTS:
            if _is_part(place, file, line, function):
                found[name] = found.get(name, 0.0) + 1000 * seconds / (steps - 1)
    return found


def _is_part(place: tuple[str, str], file: str, line: int, function: str) -> bool:
    name, _, owner = place[1].partition(":")
    if not file.endswith(place[0]) or function != name:
        return False
    source = Path(file).read_text(encoding="utf-8").splitlines()[:line] if owner else []
    return not owner or next(text for text in reversed(source) if text.startswith("class ")).startswith(
        f"class {owner}"
    )


@contextmanager
def _run(case: Case, steps: int) -> Iterator[tuple[Callable[[Callback], Any], Path]]:
    """Offer a function that trains for one epoch of some steps with a callback, and a folder."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with TemporaryDirectory() as name, redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # so short a run makes nothing better

        def train(callback: Callback) -> Any:
            return pretrain(
                _images(case, steps), method=case.method, backbone=_build_network(case), size=case.size, epochs=1,
                batch_size=case.batch, recipe="small", workers=0, accelerator="cpu", out=f"{name}/run",
                callbacks=[callback],
            )  # fmt: skip

        try:
            yield train, Path(name)
        finally:
            torch.set_num_threads(threads)


def _build_network(case: Case) -> nn.Module:
    if case.backbone == "small":
        return build_network(**BACKBONES["small"])  # type: ignore[arg-type]  # its values are numbers
    return build_backbone(case.backbone)


@cache
def _patches(side: int) -> list[Any]:
    return [image for image, _ in photograph_patches(side, train=40, test=0).train]


def _images(case: Case, steps: int) -> list[Any]:
    patches = _patches(2 * case.size)
    return [patches[i % len(patches)] for i in range(steps * case.batch)]


def _bare_loop(case: Case, steps: int) -> Callable[[], None]:
    """Return a function that takes one step of a loop as in examples/plain_loop.py."""
    images, method = _images(case, steps), METHODS[case.method]
    torch.manual_seed(0)
    model = method.small(_build_network(case), Task(case.size, len(images), case.batch))
    optimizer = torch.optim.AdamW(model.parameters(), SMALL.lr, weight_decay=SMALL.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    collate = method.views(case.size, seed=0, render="worker", decode=2 * case.size)
    loader = training_loader(find_source(images), collate, batch=case.batch, workers=0, seed=0, pin=False)
    batches, done = iter(loader), 0
    model.train()

    def step() -> None:
        nonlocal done
        views = next(batches).to("cpu")
        loss = model(views, index=views.index)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        done += 1
        model.after_step(done / steps)

    return step


def describe(costs: dict[Case, Cost], profiles: dict[Case, dict[str, float]]) -> list[str]:
    """Write what was measured as Markdown."""
    rows = [
        "| | bare loop (ms a step) | trainer | ratio | bare loop (ms of the CPU) | trainer | ratio | added (ms) "
        "| ratio of the sums |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    files = ["| | checkpoint (MB) | written in (s) | backbone (s) |", "|---|---|---|---|"]
    for case, cost in costs.items():
        name = case.describe()
        cells = [
            f"{1000 * cost.seconds('bare', clock):.1f} | {1000 * cost.seconds('trainer', clock):.1f} | "
            f"{cost.ratio(clock):.3f}"
            for clock in (0, 1)
        ]
        rows.append(f"| {name} | {cells[0]} | {cells[1]} | {1000 * cost.added:.1f} | {cost.total:.3f} |")
        files.append(f"| {name} | {cost.megabytes:.1f} | {cost.checkpoint:.3f} | {cost.backbone:.3f} |")
    least = min(costs.values(), key=lambda cost: cost.seconds("bare", 1))
    texts = [
        "`pretrain` with its callbacks and loggers, and a bare loop with the same loader and AdamW, in turn in one "
        "process and thread. Medians of blocks of steps; the ratio is the median of neighbouring blocks; the ratio of "
        "the sums includes what happens in few steps only, such as measuring collapse and flushing logs. Time by the "
        "clock holds the load of the machine by other programs.",
        "\n".join(rows),
        f"To the shortest of these steps the trainer adds {1000 * least.added:.1f} ms of the CPU, which are 3 % of a "
        f"step of {1000 * least.added / 0.03:.0f} ms. On a busy machine the difference of two long steps is mostly "
        "noise.",
        "## The files of an epoch",
        "\n".join(files),
    ]
    for case, parts in profiles.items():
        table = [f"| {name} | {ms:.3f} |" for name, ms in sorted(parts.items(), key=lambda part: -part[1])]
        texts += [
            f"## A step of the trainer under a profiler: {case.describe()}",
            "These parts are missing in the bare loop. A profiler slows calls in Python, so these are upper bounds.",
            "\n".join(["| | ms a step |", "|---|---|", *table]),
        ]
    return texts


def main() -> None:
    """Measure and write `trainer.md`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.trainer", description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=200, help="steps of each training")
    parser.add_argument("--block", type=int, default=5, help="steps from one turn to the next")
    parser.add_argument("--cases", type=int, default=len(CASES), help="how many of the cases to measure")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), help="folder to write to")
    chosen = parser.parse_args()
    if chosen.steps < 3 * chosen.block:
        parser.error(f"--steps must be at least three times --block, got {chosen.steps} and {chosen.block}")
    costs = {
        case: measure_cost(case, max(3 * chosen.block, round(case.share * chosen.steps)), chosen.block)
        for case in CASES[: chosen.cases]
    }
    profiles = {case: measure_profile(case, chosen.steps) for case in CASES[:1]}
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "lightning"))
    machine = (
        f"{platform.machine()}, {os.cpu_count()} cores, of which each process used one; {datetime.now(UTC):%Y-%m-%d}; "
        f"`python -m benchmarks.trainer --steps {chosen.steps} --block {chosen.block}`. Python "
        f"{platform.python_version()}, {packages}."
    )
    text = "\n\n".join(["# The cost of the trainer", machine, *describe(costs, profiles)]) + "\n"
    chosen.out.mkdir(parents=True, exist_ok=True)
    (chosen.out / "trainer.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
