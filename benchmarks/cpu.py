"""Measure on the CPU: `python -m benchmarks.cpu [--quick] [--rounds N] [--seconds S] [--before PATH] [--out FOLDER]`.

The tables: from JPEG files to views through a DataLoader; the collate functions as they are shipped, beside the same
transforms of lightly, from files, PIL images and arrays; files of 20 megapixels beside decoding alone; images a second
on one core with everything that is installed, and while the batch, the image or the number of views grows; the memory
of large files. `--before` measures another checkout of this library in the same rounds. The rivals are optional:
`pip install lightly albumentationsx opencv-python-headless torchtransform nvidia-dali-cuda130`, the last with `optree`,
`astunparse`, `gast`, `makefun` and `nvidia-libnvcomp-cu13`. AlbumentationsX is AGPL; its telemetry is turned off.
"""

import argparse
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import cycle, islice, product
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.memory import measure_peak
from benchmarks.programs import Program, Programs
from lightly_aug.bench import (
    Results,
    ViewSpec,
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
    parser.add_argument("--before", type=Path, help="another checkout of this library, to measure in the same rounds")
    parser.add_argument("--quick", action="store_true", help="measure less of everything, in two minutes")
    chosen = parser.parse_args()
    if chosen.before and not (chosen.before / "lightly_aug").is_dir():
        parser.error(f"--before must be a folder with lightly_aug in it, got {chosen.before}")
    if chosen.before:
        chosen.before = chosen.before.resolve()
    quick: bool = chosen.quick
    rounds = chosen.rounds or (2 if quick else 5)
    seconds = chosen.seconds or (0.2 if quick else 1.0)
    batch = 16 if quick else 32
    few = (*RIVALS, "albumentations")

    tables = []
    with Programs(chosen.before) as programs:
        tables += measure_loaders(programs, min(rounds, 3), 64 if quick else 256)
        tables += measure_shipped(programs, rounds, seconds, quick=quick)
        tables.append(measure_large(programs, min(rounds, 3), 2 if quick else 8))
    tables.append(compare("simclr", batch, rounds, seconds))
    tables += [compare(method, batch, rounds, seconds, few) for method in ("dino", "swav")]
    tables += measure_growth(min(rounds, 3), seconds / 2, quick=quick)
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


def measure_loaders(programs: Programs, rounds: int, count: int) -> list[Results]:
    """Measure from JPEG files to views through a DataLoader; a round is an epoch."""
    results = []
    with jpeg_files(count, 500, 375) as files:
        for workers in (0, 1, 2):
            task = {
                "work": "loader", "library": "lightly_aug", "folder": str(files[0].parent), "method": "simclr",
                "batch": 32, "workers": workers,
            }  # fmt: skip
            entrants = [
                Program("lightly_aug", "ours", task),
                Program("lightly_aug, rendered late", "ours", task | {"render": "late"}, "rendered by main"),
                Program("lightly_aug, bfloat16", "ours", task | {"bits": 16}, "views of 16 bits"),
                *_others(programs, task),
            ]
            plural = "1 worker" if workers == 1 else f"{workers or 'no'} workers"
            title = f"SimCLR, {count} JPEG files of 500×375 to 2×224 through a DataLoader with {plural}"
            results.append(programs.measure(entrants, title, rounds=rounds, seconds=0))
    return results


def measure_shipped(programs: Programs, rounds: int, seconds: float, *, quick: bool) -> list[Results]:
    """Measure the collate functions as they are shipped, in batches of one and of 32, without a loader."""
    results = []
    sources = {"files": "JPEG files", "pil": "PIL images", "arrays": "arrays"}
    with jpeg_files(32, 500, 375) as files:
        for method, batch, source in product(("simclr", "dino", "swav"), (1, 32), sources):
            if quick and (method != "simclr" or (batch == 1 and source != "files")):
                continue
            task = {
                "work": "batch", "library": "lightly_aug", "folder": str(files[0].parent), "method": method,
                "batch": batch, "source": source,
            }  # fmt: skip
            title = f"{method} as shipped, from {sources[source]} of 500×375, batch of {batch}"
            entrants = [Program("lightly_aug", "ours", task), *_others(programs, task)]
            results.append(programs.measure(entrants, title, rounds=rounds, seconds=seconds))
    return results


def measure_large(programs: Programs, rounds: int, count: int) -> Results:
    """Measure files of 20 megapixels beside decoders that do nothing else; a round is a batch."""
    with jpeg_files(count, 5472, 3648) as files:
        folder = {"folder": str(files[0].parent)}
        task = folder | {
            "work": "batch", "library": "lightly_aug", "method": "simclr", "batch": count, "source": "files",
        }  # fmt: skip
        decoders = ("Pillow", "torchvision", "opencv", "simplejpeg")
        entrants = [
            Program("lightly_aug", "ours", task),
            Program("lightly_aug, decode=448", "ours", task | {"decode": 448}, "shrunk while it is decoded"),
            *_others(programs, task),
            *(
                Program(f"{name} alone", "decoders", folder | {"work": "decode", "library": name}, "no views")
                for name in decoders
            ),
        ]
        title = f"SimCLR, {count} JPEG files of 5472×3648 to 2×224, in one batch"
        found = programs.measure(entrants, title, rounds=rounds, seconds=0)
        return replace(found, floors=tuple(f"{name} alone" for name in decoders))


def _others(programs: Programs, task: dict[str, Any]) -> list[Program]:
    """Return the other contenders of a task of ours: the other checkout, and the rivals."""
    before = [Program("before", "before", task)] if programs.before else []
    rivals = {"lightly": "its transform, as shipped", "albumentations": "bilinear, no antialias, colour in 8 bits"}
    return before + [Program(name, name, task | {"library": name}, remarks) for name, remarks in rivals.items()]


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


if __name__ == "__main__":
    main()
