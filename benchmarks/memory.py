"""The most memory that a batch of large JPEG files takes: `python -m benchmarks.memory FOLDER [DECODE]` prints it.

A program of its own, since a process never gives the number back: the peak counts from its start.
"""

import json
import resource
import subprocess
import sys
import time
from pathlib import Path

from lightly_aug import MultiViewCollateFunction
from lightly_aug.peers import WORKLOADS, view

__all__ = ["peak"]


def peak(folder: Path, decode: int | None = None) -> dict[str, float]:
    """Make the views of all files of a folder in one batch, in another process.

    Returns:
        `before_mb`, the peak before the batch, `peak_mb` after it, and the batch's `seconds`.
    """
    words = [str(folder), *([str(decode)] if decode else [])]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.memory", *words], capture_output=True, text=True, check=True
    )
    numbers: dict[str, float] = json.loads(done.stdout)
    return numbers


def _megabytes() -> float:
    status = Path("/proc/self/status")
    if status.exists():  # what `resource` says there begins with the peak of the process that started this one
        return int(status.read_text().split("VmHWM:")[1].split()[0]) * 1024 / 1e6
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def _main(folder: str, decode: str = "") -> None:
    options = {"decode": int(decode)} if decode else {}
    collate = MultiViewCollateFunction([view(crop) for crop in WORKLOADS["simclr"]], seed=0, render="worker", **options)
    files = sorted(Path(folder).glob("*.jpg"))
    before, start = _megabytes(), time.perf_counter()
    collate(files)
    print(json.dumps({"before_mb": before, "peak_mb": _megabytes(), "seconds": time.perf_counter() - start}))


if __name__ == "__main__":
    _main(*sys.argv[1:])
