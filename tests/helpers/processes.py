"""What processes hold, read from /proc of Linux."""

import os
import re
from pathlib import Path


def children(pid: int | None = None) -> set[int]:
    """Return the processes that a process, by default this one, has started and that still run."""
    parent = os.getpid() if pid is None else pid
    numbers = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return {number for number in numbers if re.search(rf"State:\s+[^Z](?s:.*)PPid:\s+{parent}\n", _status(number))}


def count_descriptors() -> int:
    """Count the open descriptors of this process."""
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


def count_threads() -> int:
    """Count the threads of this process, those of C libraries included."""
    return len(list(Path("/proc/self/task").iterdir()))


def count_shared_maps() -> int:
    """Count the pieces of shared memory that this process has mapped."""
    return sum("/dev/shm/" in line or "/memfd:" in line for line in Path("/proc/self/maps").read_text().splitlines())


def resident() -> float:
    """Return the memory that this process occupies, in MB."""
    kilobytes = re.search(r"VmRSS:\s+(\d+)", _status(os.getpid()))
    assert kilobytes is not None
    return int(kilobytes[1]) / 1024


def shared_files(pids: set[int]) -> list[str]:
    """Return the files in /dev/shm that have one of these processes in their name, as those of torch have."""
    numbers = {str(pid) for pid in pids}
    return [name for name in os.listdir("/dev/shm") if numbers & set(re.findall(r"\d+", name))]  # noqa: PTH208


def _status(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):  # it has ended
        return ""
