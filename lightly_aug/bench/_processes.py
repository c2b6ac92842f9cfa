"""Cores, and the CPU time of processes."""

import os
from collections.abc import Iterable
from pathlib import Path

__all__ = ["count_cores", "cpu_seconds", "run_delay"]


def count_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_seconds(processes: Iterable[int]) -> float | None:
    """Return the CPU seconds that processes have used, of all their threads that still run.

    Args:
        processes: Their numbers.

    Returns:
        The seconds; None where the system does not tell them in nanoseconds, as only Linux does.
    """
    total = 0
    try:
        for process in processes:
            for thread in Path(f"/proc/{process}/task").iterdir():
                total += int((thread / "schedstat").read_text().split()[0])
    except OSError:
        return None
    return total / 1e9


def run_delay() -> float:
    """Return the seconds that this thread was ready and waited for a core; 0 where the system does not tell."""
    try:
        return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9
    except OSError:
        return 0.0
