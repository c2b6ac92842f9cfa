"""What a person reads who waits at a terminal: signs of life on stderr, which elsewhere show nothing, and counts."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

__all__ = ["count_of", "show_steps", "show_wait"]


def count_of(count: int, noun: str) -> str:
    """Return a number of things.

    Args:
        count: The number.
        noun: Its regular noun, in the singular.

    Example:
        >>> count_of(1, "step"), count_of(4096, "image"), count_of(2, "class")
        ('1 step', '4,096 images', '2 classes')
    """
    if count == 1:
        return f"1 {noun}"
    return f"{count:,} {noun}{'es' if noun.endswith(('s', 'ch')) else 's'}"


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
