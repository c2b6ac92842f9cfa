"""Compare this library with the others that are installed."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from lightly_aug.bench.peers import contenders
from lightly_aug.bench.tables import describe_loading, write_report
from lightly_aug.bench.timing import Results, measure, time_loading
from lightly_aug.bench.workloads import WORKLOADS
from lightly_aug.photographs import photographs
from lightly_aug.status import show_wait

__all__ = ["compare", "run"]


def run(
    out: Path,
    *,
    method: str = "simclr",
    batch: int = 32,
    rounds: int = 5,
    seconds: float = 1.0,
    only: Sequence[str] = (),
) -> str:
    """Measure the views of one method with everything that is installed, and write the report.

    Args:
        out: File name without suffix, for `.md` and `.json`.
        method: Key of `WORKLOADS`.
        batch: Images in a batch.
        rounds: How often each library is timed.
        seconds: How long each time.
        only: Names of the contenders to measure; by default all.

    Returns:
        The report in Markdown.
    """
    table = compare(method, batch, rounds, seconds, only)
    with show_wait("loading the CPU engine in a new process"):
        took = time_loading()
    return write_report(out, "Images a second on one core", [table], texts=[describe_loading(took)], data=took)


def compare(method: str, batch: int, rounds: int, seconds: float, only: Sequence[str] = ()) -> Results:
    """Measure the views of one method; see `run` for the arguments."""
    specs = WORKLOADS[method]
    with show_wait("preparing the libraries"):
        entrants, skipped = contenders(photographs(batch), specs, only=only)
    views = " + ".join(f"{count}×{size}" for size, count in Counter(spec.size for spec in specs).items())
    results = measure(entrants, f"{method}: {views} from 256×256, batches of {batch}", rounds=rounds, seconds=seconds)
    results.skipped = skipped | results.skipped
    return results
