"""Measure in turns, compare, and write down: images a second of this library and of others on one core."""

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

from lightly_aug.peers import WORKLOADS, Contender, contenders, photographs

__all__ = ["WORKLOADS", "Results", "compared", "loading", "measure", "report", "run", "told"]


@dataclass
class Results:
    """What `measure` found.

    Attributes:
        title: heading of the table; those of one title and with an `axis` become one table.
        ours: the name that the others are compared with.
        rates: images a second, by name, one number for each round.
        remarks: by name.
        skipped: why something was not measured, by name.
        axis: the value of what is varied, if something is.
    """

    title: str
    ours: str
    rates: dict[str, list[float]]
    remarks: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    axis: str = ""

    def ratio(self, name: str) -> float:
        """How many times as fast ours is: the median of the rounds' ratios."""
        pairs = zip(self.rates[self.ours], self.rates[name], strict=True)
        return statistics.median(ours / theirs for ours, theirs in pairs)

    @property
    def losses(self) -> list[str]:
        """Where a peer is faster than ours, a sentence each."""
        where = f"{self.title} ({self.axis})" if self.axis else self.title
        return [
            f"{where}: {name} is {1 / self.ratio(name):.2f} times as fast as {self.ours}"
            for name in self.rates
            if self.ratio(name) < 1 and not name.startswith(self.ours)
        ]

    def cell(self, name: str) -> str:
        """The median, and in brackets the slowest and the fastest round."""
        rates = self.rates[name]
        return f"{statistics.median(rates):,.0f} [{min(rates):,.0f}–{max(rates):,.0f}]"


def run(
    out: Path,
    *,
    method: str = "simclr",
    batch: int = 32,
    rounds: int = 5,
    seconds: float = 1.0,
    only: Sequence[str] = (),
) -> str:
    """Measure one method's views with everything that is installed, and write the report.

    Args:
        out: a file name without suffix, for `.md` and `.json`.
        method: one of `lightly_aug.peers.WORKLOADS`.
        batch: images in a batch.
        rounds: how often each is timed.
        seconds: how long each time.
        only: names; all others are left out.

    Returns:
        The report in Markdown.
    """
    table, took = compared(method, batch, rounds, seconds, only), loading()
    return report(
        out,
        "Images a second on one core",
        [table],
        texts=[told(took)],
        data=took,
    )


def compared(method: str, batch: int, rounds: int, seconds: float, only: Sequence[str] = ()) -> Results:
    """The table of one method."""
    entrants, skipped = contenders(photographs(batch), WORKLOADS[method], only=only)
    sizes = Counter(crop.size for crop in WORKLOADS[method])
    views = " + ".join(f"{count}×{size}" for size, count in sizes.items())
    results = measure(entrants, f"{method}: {views} from 256×256, batches of {batch}", rounds=rounds, seconds=seconds)
    results.skipped = skipped | results.skipped
    return results


def measure(
    entrants: Sequence[Contender], title: str = "", *, rounds: int = 5, seconds: float = 1.0, axis: str = ""
) -> Results:
    """Warm all of them up, then time them in turn, round by round, on one core.

    Args:
        entrants: ours is the first.
        title: of the results.
        rounds: how often each is timed.
        seconds: how long each is repeated in a round, at least once.
        axis: of the results.
    """
    rates: dict[str, list[float]] = {entrant.name: [] for entrant in entrants}
    skipped = {}
    with _one_thread(), _progress(f"{title} {axis}".strip(), (1 + rounds) * len(rates)) as advance:
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


def loading(*, cold: bool = False) -> dict[str, float]:
    """Seconds that the CPU engine takes before its first batch, each in a new process.

    Args:
        cold: whether to compile it anew, in an empty cache; this takes a while.

    Returns:
        `load_s`, and if cold `compile_s`; nothing where Numba is not installed.
    """
    program = (
        "import time, lightly_aug.engines as engines; start = time.perf_counter(); engines.load('cpu'); "
        "print(time.perf_counter() - start)"
    )

    def timed(environment: dict[str, str]) -> float:
        return float(subprocess.check_output([sys.executable, "-c", program], env=os.environ | environment, text=True))

    if not find_spec("numba"):
        return {}
    took = {}
    with tempfile.TemporaryDirectory() as empty:
        if cold:
            took["compile_s"] = timed({"NUMBA_CACHE_DIR": empty})
        return took | {"load_s": timed({"NUMBA_CACHE_DIR": empty} if cold else {})}


def told(took: dict[str, float]) -> str:
    """The same as a sentence."""
    if not took:
        return "Numba is not installed, so there is no CPU engine here."
    loaded = f"The CPU engine is loaded in {took['load_s']:.1f} s"
    return loaded + (f", once a machine it is compiled in {took['compile_s']:.1f} s." if "compile_s" in took else ".")


def report(out: Path, title: str, tables: Sequence[Results], *, texts: Sequence[str] = (), data: object = None) -> str:
    """Write tables, the fastest first, and everything that was measured.

    Args:
        out: a file name without suffix; `.md` and `.json` are written, their folder is made.
        title: heading of it all.
        tables: what was measured.
        texts: Markdown that goes below the tables.
        data: what else goes into the JSON file.

    Returns:
        The Markdown.
    """
    losses = [loss for table in tables for loss in table.losses]
    versions = _environment()
    machine = f"{versions['cpu']}, {versions['cores']} cores, {versions['date'][:10]}; `{versions['command']}`"
    packages = ", ".join(f"{name} {number}" for name, number in versions["packages"].items())
    parts = [f"# {title}", f"{machine}. Python {versions['python']}, {packages}."]
    for heading, group in groupby(tables, key=lambda table: table.title):
        alike = list(group)
        parts += [f"## {heading}", _compact(alike) if alike[0].axis else "\n\n".join(map(_table, alike))]
    slower = "\n".join(f"* {loss}" for loss in losses) or "Nothing that was measured here is faster than ours."
    parts += [*texts, "## Where ours is slower", slower]
    out.parent.mkdir(parents=True, exist_ok=True)
    text = "\n\n".join(parts) + "\n"
    out.with_suffix(".md").write_text(text)
    record = {"environment": versions, "tables": [asdict(table) for table in tables], "losses": losses, "data": data}
    out.with_suffix(".json").write_text(json.dumps(record, indent=1, ensure_ascii=False))
    return text


def _table(results: Results) -> str:
    names = sorted(results.rates, key=lambda name: -statistics.median(results.rates[name]))
    lines = ["| | images/s [slowest–fastest round] | ours / theirs | remarks |", "|---|---|---|---|"]
    for name in names:
        ratio = "" if name == results.ours else f"{results.ratio(name):.2f}"
        bold = "**" if name == results.ours else ""
        lines.append(f"| {bold}{name}{bold} | {results.cell(name)} | {ratio} | {results.remarks.get(name, '')} |")
    lines += [f"\nNot measured: {name} ({why})." for name, why in results.skipped.items()]
    return "\n".join(lines)


def _compact(tables: Sequence[Results]) -> str:
    names = list(dict.fromkeys(name for table in tables for name in table.rates))
    lines = [f"| | {' | '.join(names)} | ours / theirs |", "|---" * (len(names) + 2) + "|"]
    for table in tables:
        cells = [table.cell(name) if name in table.rates else "" for name in names]
        ratios = ", ".join(f"{table.ratio(name):.2f}" for name in table.rates if name != table.ours)
        lines.append(f"| {table.axis} | {' | '.join(cells)} | {ratios} |")
    return "\n".join(lines)


def _environment() -> dict[str, Any]:
    names = (
        *("lightly-aug", "torch", "torchvision", "kornia", "numba", "numpy", "pillow", "triton", "lightly"),
        *("albumentationsx", "opencv-python-headless", "opencv-python", "torchtransform", "triton-augment"),
        *("nvidia-dali-cuda120", "nvidia-dali-cuda130"),
    )
    packages = {}
    for name in names:
        try:
            packages[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join([*(Path(word).name for word in sys.orig_argv[:2]), *sys.orig_argv[2:]]),
        "python": platform.python_version(),
        "packages": packages,
    }


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


@contextmanager
def _progress(title: str, total: int) -> Iterator[Callable[[], None]]:
    if not (find_spec("rich") and sys.stdout.isatty()):
        yield lambda: None
        return
    from rich.progress import Progress

    with Progress(transient=True) as bar:
        task = bar.add_task(title, total=total)
        yield lambda: bar.advance(task)
