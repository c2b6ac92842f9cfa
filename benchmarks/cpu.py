"""Measure on the CPU: `python -m benchmarks.cpu [--quick] [--rounds N] [--seconds S] [--out FOLDER]`.

The tables: images a second on one core with everything that is installed; the same while the batch, the image or the
number of views grows; from files to views through a DataLoader; the memory of large files. The rivals are optional:
`pip install lightly albumentationsx opencv-python-headless torchtransform nvidia-dali-cuda130`, the last with `optree`,
`astunparse`, `gast`, `makefun` and `nvidia-libnvcomp-cu13`. AlbumentationsX is AGPL; its telemetry is turned off.
"""

import argparse
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, default_collate

from benchmarks.memory import measure_peak
from lightly_aug import MultiViewCollateFunction
from lightly_aug.bench import (
    WORKLOADS,
    Contender,
    Results,
    ViewSpec,
    build_view,
    compare,
    contenders,
    describe_loading,
    measure,
    time_loading,
    write_report,
)
from lightly_aug.photographs import photographs

__all__ = ["main"]

RIVALS: Final = ("lightly_aug", "lightly")


def main() -> None:
    """Measure and write `cpu.md` and `cpu.json`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cpu", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, help="how often everything is timed; by default 5, with --quick 2")
    parser.add_argument("--seconds", type=float, help="how long each time; by default 1, with --quick 0.2")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), help="folder to write to")
    parser.add_argument("--quick", action="store_true", help="measure less of everything, in two minutes")
    chosen = parser.parse_args()
    quick: bool = chosen.quick
    rounds = chosen.rounds or (2 if quick else 5)
    seconds = chosen.seconds or (0.2 if quick else 1.0)
    batch = 16 if quick else 32
    few = (*RIVALS, "albumentations")

    tables = [compare("simclr", batch, rounds, seconds)]
    tables += [compare(method, batch, rounds, seconds, few) for method in ("dino", "swav")]
    tables += measure_growth(min(rounds, 3), seconds / 2, quick=quick)
    tables += measure_loaders(min(rounds, 3), 64 if quick else 256)
    memory = measure_memory(2 if quick else 8)
    took = time_loading(cold=not quick)
    texts = [describe_memory(memory), "## Before the first batch", describe_loading(took)]
    data = {"loading": took, "memory": memory}
    print(write_report(chosen.out / "cpu", "Images a second on the CPU", tables, texts=texts, data=data))


def measure_growth(rounds: int, seconds: float, *, quick: bool) -> list[Results]:
    """Measure ours and lightly while the batch, the image or the number of views grows."""

    def measure_one(title: str, axis: int, *, batch: int = 16, side: int = 256, views: int = 2) -> Results:
        entrants, skipped = contenders(photographs(batch, side), [ViewSpec()] * views, only=RIVALS)
        results = measure(entrants, title, rounds=rounds, seconds=seconds, axis=str(axis))
        results.skipped |= skipped
        return results

    batches = (1, 16, 64) if quick else (1, 4, 16, 64, 256, 1024)
    sides = (96, 1024) if quick else (96, 256, 512, 1024, 2048)
    counts = (2, 10) if quick else (2, 4, 6, 8, 10)
    return [
        *(measure_one("Images in a batch, 2×224 from 256×256", n, batch=n) for n in batches),
        *(measure_one("Side of the image, 2×224 from batches of 8", n, batch=8, side=n) for n in sides),
        *(measure_one("Views of 224, from 256×256, batches of 16", n, views=n) for n in counts),
    ]


def measure_loaders(rounds: int, count: int) -> list[Results]:
    """Measure from JPEG files to views through a DataLoader; a round is an epoch."""
    results = []
    with jpeg_files(count, 500, 375) as files:
        for workers in (0, 1, 2):
            title = f"From {count} JPEG files of 500×375 to 2×224 through a DataLoader, by workers"
            entrants = [Contender("lightly_aug", _epoch(_our_loader(files, workers)), count)]
            skipped = {}
            if find_spec("lightly"):
                entrants.append(Contender("lightly", _epoch(_lightly_loader(files, workers)), count))
            else:
                skipped["lightly"] = "No module named 'lightly'"
            result = measure(entrants, title, rounds=rounds, seconds=0, axis=str(workers))
            result.skipped |= skipped
            results.append(result)
    return results


def measure_memory(count: int) -> dict[str, dict[str, float]]:
    """Measure memory and time of one batch of 20-megapixel files, read in full and shrunk while they are read."""
    with jpeg_files(count, 5472, 3648) as files:
        folder = files[0].parent
        return {
            "files": {"count": count},
            "in full": measure_peak(folder),
            "decode=224": measure_peak(folder, decode=224),
        }


def describe_memory(memory: dict[str, dict[str, float]]) -> str:
    """Write the result of `measure_memory` as Markdown."""
    count = f"{memory['files']['count']:.0f}"
    lines = [
        f"## Memory of a batch of {count} JPEG files of 5472×3648",
        "| | peak of the process (MB) | added by the batch (MB) | time (s) |\n|---|---|---|---|",
    ]
    for name, numbers in memory.items():
        if "peak_mb" in numbers:
            more = numbers["peak_mb"] - numbers["before_mb"]
            lines[-1] += f"\n| {name} | {numbers['peak_mb']:,.0f} | {more:,.0f} | {numbers['seconds']:.2f} |"
    return "\n\n".join(lines)


@contextmanager
def jpeg_files(count: int, width: int, height: int) -> Iterator[list[Path]]:
    """Write JPEG files of quality 90, cut from the photographs, into a temporary folder."""
    rng = np.random.default_rng(0)
    folder = Path(tempfile.mkdtemp())
    try:
        files = []
        side = max(1024, width * 9 // 8)
        for number, photo in enumerate(islice(cycle(photographs(4, side)), count)):
            x, y = int(rng.integers(side - width + 1)), int(rng.integers(side - height + 1))
            files.append(folder / f"{number:04}.jpg")
            photo.crop((x, y, x + width, y + height)).save(files[-1], quality=90)
        yield files
    finally:
        shutil.rmtree(folder)


def _loader(dataset: Any, workers: int, collate: Callable[[Any], Any]) -> DataLoader[Any]:
    return DataLoader(dataset, 32, num_workers=workers, collate_fn=collate, persistent_workers=workers > 0)


def _our_loader(files: list[Path], workers: int) -> DataLoader[Any]:
    views = [build_view(spec) for spec in WORKLOADS["simclr"]]
    return _loader(files, workers, MultiViewCollateFunction(views, seed=0, render="worker"))


class _Opened(torch.utils.data.Dataset[Any]):
    def __init__(self, files: list[Path], transform: Callable[[Image.Image], Any]) -> None:
        self.files, self.transform = files, transform

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Any:
        with Image.open(self.files[index]) as image:
            return self.transform(image.convert("RGB"))


def _lightly_loader(files: list[Path], workers: int) -> DataLoader[Any]:
    transform = import_module("lightly.transforms").SimCLRTransform(224, cj_strength=1.0, gaussian_blur=0.5)
    return _loader(_Opened(files, transform), workers, default_collate)


def _epoch(loader: DataLoader[Any]) -> Callable[[], object]:
    def run() -> None:
        for _ in loader:
            pass

    return run


if __name__ == "__main__":
    main()
