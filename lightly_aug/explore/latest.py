"""Work that is asked for more often than it can be done."""

from collections.abc import Awaitable, Callable

__all__ = ["Latest"]


class Latest:
    """Do work one at a time; of all requests that come meanwhile, only the last is done.

    Args:
        work: The work. It reads what to do when it begins.
    """

    def __init__(self, work: Callable[[], Awaitable[None]]) -> None:
        self._work = work
        self._asked = 0
        self._begun = 0
        self._busy = False

    @property
    def outdated(self) -> bool:
        """Whether there was a request since the last work began."""
        return self._begun != self._asked

    async def ask(self) -> None:
        """Request the work, and do it unless it is being done, which then does it again."""
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
