"""A runner that skips outdated requests."""

from collections.abc import Awaitable, Callable

__all__ = ["Latest"]


class Latest:
    """Run work once at a time; of the requests that arrive during a run, only the last one is run.

    Args:
        work: The work. It reads its input when it begins, and must not raise.
    """

    def __init__(self, work: Callable[[], Awaitable[None]]) -> None:
        self._work = work
        self._asked = 0
        self._begun = 0
        self._busy = False

    @property
    def outdated(self) -> bool:
        """Whether a request arrived after the last run began."""
        return self._begun != self._asked

    async def ask(self) -> None:
        """Run the work; if it is running, it runs once more afterwards."""
        self._asked += 1
        if self._busy:
            return
        self._busy = True
        try:
            while self.outdated:
                self._begun = self._asked
                await self._work()
        finally:
            self._busy = False
