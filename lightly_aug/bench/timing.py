"""Measure several programs in turn, on one core."""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import NamedTuple

import torch

from lightly_aug.status import show_steps

__all__ = ["Contender", "Results", "measure", "time_loading"]


class Contender(NamedTuple):
    """A program to measure.

    Attributes:
        name: Name in the tables.
        run: Makes the views of one batch.
        images: Number of images in the batch.
        remarks: How its work differs from ours.
    """

    name: str
    run: Callable[[], object]
    images: int
    remarks: str = ""


@dataclass
class Results:
    """The rates that were measured for one table.

    Attributes:
        title: Heading of the table; results with the same title and an `axis` become one table.
        ours: Name of the contender that the others are compared with.
        rates: Images a second by name, one number for each round.
        remarks: Remarks by name.
        skipped: Why something was not measured, by name.
        axis: Value of the quantity that is varied; empty if none is.
        cpu: CPU microseconds an image by name, of all processes, one number for each round; empty if not measured.
        floors: Names that do a part of the work, so that they bound ours from below.
    """

    title: str
    ours: str
    rates: dict[str, list[float]]
    remarks: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    axis: str = ""
    cpu: dict[str, list[float]] = field(default_factory=dict)
    floors: tuple[str, ...] = ()

    def cpu_ratio(self, name: str) -> float:
        """Return how many times as much CPU time `name` takes as ours: the median of the rounds' ratios."""
        pairs = zip(self.cpu[self.ours], self.cpu[name], strict=True)
        return statistics.median(theirs / ours for ours, theirs in pairs)

    def ratio(self, name: str) -> float:
        """Return how many times as fast ours is as `name`: the median of the rounds' ratios."""
        pairs = zip(self.rates[self.ours], self.rates[name], strict=True)
        return statistics.median(ours / theirs for ours, theirs in pairs)

    @property
    def losses(self) -> list[str]:
        """One sentence for each peer that is faster than ours; floors are none."""
        where = f"{self.title} ({self.axis})" if self.axis else self.title
        return [
            f"{where}: {name} is {1 / self.ratio(name):.2f} times as fast as {self.ours}"
            for name in self.rates
            if self.ratio(name) < 1 and not name.startswith(self.ours) and name not in self.floors
        ]

    def cell(self, name: str) -> str:
        """Return the median rate, with the slowest and the fastest round in brackets."""
        return _spread(self.rates[name])

    def cpu_cell(self, name: str) -> str:
        """Return the median CPU time of an image in microseconds, with the fewest and the most in brackets."""
        return _spread(self.cpu[name]) if name in self.cpu else ""


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):,.0f} [{min(values):,.0f}–{max(values):,.0f}]"


def measure(
    entrants: Sequence[Contender], title: str = "", *, rounds: int = 5, seconds: float = 1.0, axis: str = ""
) -> Results:
    """Warm all contenders up, then time them in turn, round by round, on one core.

    Args:
        entrants: The contenders, ours first. A rival that fails is left out, with the reason.
        title: Title of the results.
        rounds: How often each is timed.
        seconds: How long each is repeated in a round; it runs at least once.
        axis: Axis of the results.
    """
    rates: dict[str, list[float]] = {entrant.name: [] for entrant in entrants}
    skipped = {}
    with _one_thread(), show_steps(f"{title} {axis}".strip(), (1 + rounds) * len(rates)) as advance:
        for entrant in entrants:
            try:
                entrant.run()
            except Exception as error:
                if entrant is entrants[0]:
                    raise
                skipped[entrant.name] = f"{type(error).__name__}: {error}".splitlines()[0]
                del rates[entrant.name]
            advance()
        for _ in range(rounds):
            for entrant in entrants:
                if entrant.name in rates:
                    rates[entrant.name].append(_rate(entrant, seconds))
                    advance()
    return Results(title, entrants[0].name, rates, {e.name: e.remarks for e in entrants}, skipped, axis)


def _rate(entrant: Contender, seconds: float) -> float:
    runs, start = 0, time.perf_counter()
    while True:
        entrant.run()
        runs += 1
        elapsed = time.perf_counter() - start
        if elapsed >= seconds:
            return runs * entrant.images / elapsed


def time_loading(*, cold: bool = False) -> dict[str, float]:
    """Measure how long the CPU engine takes before its first batch, each time in a new process.

    Args:
        cold: Also compile it, in an empty cache; this takes a while.

    Returns:
        Seconds by name: `load_s`, and `compile_s` if cold; empty if Numba is not installed.
    """
    program = (
        "import time, lightly_aug.engines as engines; start = time.perf_counter(); engines.load('cpu'); "
        "print(time.perf_counter() - start)"
    )

    def load(environment: dict[str, str]) -> float:
        return float(subprocess.check_output([sys.executable, "-c", program], env=os.environ | environment, text=True))

    if not find_spec("numba"):
        return {}
    took = {}
    with tempfile.TemporaryDirectory() as empty:
        if cold:
            took["compile_s"] = load({"NUMBA_CACHE_DIR": empty})
        return took | {"load_s": load({"NUMBA_CACHE_DIR": empty} if cold else {})}


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    if "cv2" in sys.modules:
        sys.modules["cv2"].setNumThreads(0)
    try:
        yield
    finally:
        torch.set_num_threads(before)
