"""Contenders in processes of their own, measured in turn: one a library, and one for another checkout of this one."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

from lightly_aug.bench import Results
from lightly_aug.status import show_steps

__all__ = ["Program", "Programs"]

HERE = Path(__file__).parent


class Program(NamedTuple):
    """What one process is told to do; see `benchmarks.contender`.

    Attributes:
        name: Name in the tables.
        process: Which process does it: "before" is that of the other checkout, other names are free.
        task: Arguments of `benchmarks.contender`.
        remarks: How its work differs from ours.
    """

    name: str
    process: str
    task: dict[str, Any]
    remarks: str = ""


class Programs:
    """The processes, which live until the end of the context.

    Args:
        before: Another checkout of this library, for the process "before".
    """

    def __init__(self, before: Path | None = None) -> None:
        self.before = before
        self._processes: dict[str, subprocess.Popen[str]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes.values():
            if process.stdin:
                process.stdin.close()
            process.wait()
            if process.stdout:
                process.stdout.close()

    def measure(
        self, entrants: Sequence[Program], title: str, *, rounds: int, seconds: float, axis: str = ""
    ) -> Results:
        """Time all programs in turn, round by round, each alone and on one core.

        Args:
            entrants: The programs, ours first. Another that fails is left out, with the reason.
            title: Title of the results.
            rounds: How often each is timed.
            seconds: How long each is repeated in a round; it runs at least once.
            axis: Axis of the results.

        Raises:
            RuntimeError: Ours fails.
        """
        skipped: dict[str, str] = {}
        rates: dict[str, list[float]] = {entrant.name: [] for entrant in entrants}
        cpu: dict[str, list[float]] = {entrant.name: [] for entrant in entrants}
        with show_steps(f"{title} {axis}".strip(), (1 + rounds) * len(entrants)) as advance:
            for entrant in entrants:
                answer = self._ask(entrant, prepare=entrant.task)
                advance()
                if "error" in answer:
                    if entrant is entrants[0]:
                        raise RuntimeError(f"{entrant.name}: {answer['error']}")
                    skipped[entrant.name] = answer["error"]
                    del rates[entrant.name], cpu[entrant.name]
            for _ in range(rounds):
                for entrant in entrants:
                    if entrant.name not in skipped:
                        answer = self._ask(entrant, seconds=seconds)
                        rates[entrant.name].append(answer["rate"])
                        cpu[entrant.name].append(answer["cpu"])
                        advance()
        for entrant in entrants:
            if entrant.name not in skipped:
                self._ask(entrant)
        known = {} if any(None in values for values in cpu.values()) else cpu
        return Results(title, entrants[0].name, rates, {e.name: e.remarks for e in entrants}, skipped, axis, known)

    def _ask(self, entrant: Program, **what: Any) -> dict[str, Any]:
        process = self._start(entrant.process)
        assert process.stdin
        assert process.stdout
        try:
            print(json.dumps({"name": entrant.name, **what}), file=process.stdin, flush=True)
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise RuntimeError(f"{entrant.name}: the process {entrant.process!r} ended, with code {process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _start(self, name: str) -> subprocess.Popen[str]:
        if name not in self._processes:
            checkout = HERE.parent if name != "before" or self.before is None else self.before
            self._processes[name] = subprocess.Popen(
                [sys.executable, "-P", str(HERE / "contender.py")],
                env=os.environ | {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"},
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
        return self._processes[name]
