"""Marks of the stages of a batch in the code, and the stopwatch that reads them; without one they cost nothing."""

import time
from collections import defaultdict
from contextlib import ContextDecorator
from contextvars import ContextVar, Token
from typing import Self

__all__ = ["Stopwatch", "stage"]

_running: ContextVar["Stopwatch | None"] = ContextVar("_running", default=None)


class stage(ContextDecorator):
    """A mark: the code within belongs to this stage, except for stages in it.

    Args:
        name: Name of the stage.

    Example:
        >>> with Stopwatch() as watch, stage("outer"):
        ...     with stage("inner"):
        ...         pass
        >>> sorted(watch.seconds)
        ['inner', 'outer']
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None:
        if watch := _running.get():
            watch.begin(self.name)

    def __exit__(self, *_: object) -> None:
        if watch := _running.get():
            watch.end()


class Stopwatch:
    """Add up the time of each stage that this thread runs through within this context.

    Attributes:
        seconds: Wall seconds by stage.
        cpu_seconds: CPU seconds of the whole process by stage.
    """

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.cpu_seconds: defaultdict[str, float] = defaultdict(float)
        self._open: list[str] = []
        self._last = 0.0, 0.0
        self._before: Token[Stopwatch | None] | None = None

    def __enter__(self) -> Self:
        self._before = _running.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            _running.reset(self._before)

    def reset(self) -> None:
        """Forget the times so far."""
        self.seconds.clear()
        self.cpu_seconds.clear()

    def begin(self, name: str) -> None:
        """Begin a stage within the current one."""
        self._split()
        self._open.append(name)

    def end(self) -> None:
        """End the current stage."""
        self._split()
        self._open.pop()

    def _split(self) -> None:
        now = time.perf_counter(), time.process_time()
        if self._open:
            self.seconds[self._open[-1]] += now[0] - self._last[0]
            self.cpu_seconds[self._open[-1]] += now[1] - self._last[1]
        self._last = now
