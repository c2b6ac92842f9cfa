"""Measure the peak memory of a batch of large JPEG files: `python -m benchmarks.memory FOLDER [DECODE]` prints it.

This is a program of its own, since the peak of a process counts from its start and never falls.
"""

import json
import resource
import subprocess
import sys
import time
from pathlib import Path

from lightly_aug import MultiViewCollateFunction
from lightly_aug.bench import WORKLOADS, build_view

__all__ = ["measure_peak"]


def measure_peak(folder: Path, decode: int | None = None) -> dict[str, float]:
    """Make the views of all files of a folder in one batch, in another process.

    Args:
        folder: Folder of JPEG files.
        decode: Option of the collate function.

    Returns:
        `before_mb` and `peak_mb`, the peaks before and after the batch, and `seconds`, the time of the batch.
    """
    words = [str(folder), *([str(decode)] if decode else [])]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.memory", *words], capture_output=True, text=True, check=True
    )
    numbers: dict[str, float] = json.loads(done.stdout)
    return numbers


def _megabytes() -> float:
    status = Path("/proc/self/status")
    if status.exists():  # on Linux, `resource` starts at the peak of the parent process
        return int(status.read_text().split("VmHWM:")[1].split()[0]) * 1024 / 1e6
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def _main(folder: str, decode: str = "") -> None:
    views = [build_view(spec) for spec in WORKLOADS["simclr"]]
    collate = MultiViewCollateFunction(views, seed=0, render="worker", decode=int(decode) if decode else None)
    files = sorted(Path(folder).glob("*.jpg"))
    before, start = _megabytes(), time.perf_counter()
    collate(files)
    print(json.dumps({"before_mb": before, "peak_mb": _megabytes(), "seconds": time.perf_counter() - start}))


if __name__ == "__main__":
    _main(*sys.argv[1:])
