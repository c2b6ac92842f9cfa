"""Signs of life on stderr, for a person who waits at a terminal; elsewhere, and without rich, they show nothing."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

__all__ = ["show_steps", "show_wait"]


@contextmanager
def show_steps(title: str, total: int) -> Iterator[Callable[..., None]]:
    """Show a progress bar, which disappears at the end.

    Args:
        title: Text in front of the bar.
        total: Number of steps.

    Yields:
        A function to call after each step, or with a number of steps after so many.
    """
    console = _find_terminal()
    if console is None:
        yield lambda count=1: None
        return
    from rich.progress import Progress

    with Progress(console=console, transient=True) as bar:
        task = bar.add_task(title, total=total)
        yield lambda count=1: bar.advance(task, count)


@contextmanager
def show_wait(title: str) -> Iterator[None]:
    """Show a text and a spinner for work of unknown length; both disappear at the end."""
    console = _find_terminal()
    if console is None:
        yield
        return
    with console.status(title):
        yield


def _find_terminal() -> Any:
    """Return a console on stderr, or None if nobody is there to read it."""
    if not find_spec("rich"):
        return None
    from rich.console import Console

    console = Console(stderr=True)
    return console if console.is_terminal else None
