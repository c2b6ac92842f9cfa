"""Measure what a batch costs beside its pixels: `python -m benchmarks.overhead` prints the CPU time of each part.

Images are arrays of 256 x 256 pixels in memory, and views are rendered at once, on one thread. Rows are parts of one
call of the collate function; `host` is all but `pack` and `kernel`, the parts that touch pixels.
"""

import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from lightly_aug import BaseCollateFunction, DINOCollateFunction, MultiViewCollateFunction, SimCLRCollateFunction
from lightly_aug import collate as collating
from lightly_aug.bench import WORKLOADS, build_view
from lightly_aug.engines import cpu
from lightly_aug.engines.plan import Pass

__all__ = ["PARTS", "measure_parts"]

PARTS = {
    "take samples": (BaseCollateFunction, "_take"),
    "pack": (collating, "pack"),
    "draw": (BaseCollateFunction, "_draw"),
    "lower": (Pass, "lower"),
    "kernel": (cpu, "_RENDER"),
}
"""The functions that are timed; "wrap" is what is left of the call."""

BATCHES = (1, 8, 32)


def measure_parts(collate: BaseCollateFunction, batch: int, rounds: int = 50) -> dict[str, float]:
    """Measure one call of a collate function.

    Args:
        collate: A collate function that renders at once.
        batch: Number of images.
        rounds: How many calls are measured.

    Returns:
        Medians of the CPU time in µs: of each of `PARTS`, "wrap", "host" and "whole".
    """
    pixels = np.random.default_rng(0).integers(0, 256, (batch, 256, 256, 3), dtype=np.uint8)
    collate(list(pixels))
    calls = [_time_call(collate, list(pixels)) for _ in range(rounds)]
    return {part: statistics.median(call[part] for call in calls) for part in calls[0]}


def _time_call(collate: BaseCollateFunction, images: Sequence[Any]) -> dict[str, float]:
    spent = Counter[str](dict.fromkeys(PARTS, 0))
    with _time_functions(spent):
        start = time.process_time_ns()
        views = collate(images)
        whole = time.process_time_ns() - start
    del views  # not before, as it costs time to free their memory
    host = whole - spent["pack"] - spent["kernel"]
    times = spent | {"wrap": whole - spent.total(), "host": host, "whole": whole}
    return {part: nanoseconds / 1e3 for part, nanoseconds in times.items()}


@contextmanager
def _time_functions(spent: Counter[str]) -> Iterator[None]:
    """Add the nanoseconds that are spent in each of `PARTS`."""

    def timed(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            start = time.process_time_ns()
            try:
                return function(*arguments, **options)
            finally:
                spent[part] += time.process_time_ns() - start

        return call

    with ExitStack() as stack:
        for part, (owner, name) in PARTS.items():
            stack.enter_context(patch.object(owner, name, timed(part, getattr(owner, name))))
        yield


def _collate_functions() -> dict[str, BaseCollateFunction]:
    made: dict[str, BaseCollateFunction] = {
        "SimCLRCollateFunction": SimCLRCollateFunction(224, render="worker", seed=0),
        "DINOCollateFunction": DINOCollateFunction(render="worker", seed=0),
    }
    for method in ("simclr", "dino"):
        views = [build_view(spec) for spec in WORKLOADS[method]]
        made[f"{method} of the benchmark"] = MultiViewCollateFunction(views, render="worker", seed=0)
    return made


def _main() -> None:
    torch.set_num_threads(1)
    for name, collate in _collate_functions().items():
        columns = [measure_parts(collate, batch) for batch in BATCHES]
        print(f"\n{name}, {len(collate.views)} views: CPU µs of one batch, medians\n")
        print(f"| {'batch':14} |" + "".join(f"{batch:9} |" for batch in BATCHES))
        print(f"|{'-' * 16}|" + f"{'-' * 9}:|" * len(BATCHES))
        for part in columns[0]:
            print(f"| {part:14} |" + "".join(f"{column[part]:9,.0f} |" for column in columns))
        sys.stdout.flush()


if __name__ == "__main__":
    _main()
