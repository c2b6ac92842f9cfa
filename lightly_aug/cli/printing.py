"""Markdown on stdout."""

from lightly_aug.optional import extra

__all__ = ["print_markdown"]


def print_markdown(text: str) -> None:
    """Print Markdown: with frames and bold letters at a terminal, and as it is into a pipe or file."""
    with extra("train"):
        from rich.console import Console
        from rich.markdown import Markdown
    console = Console(soft_wrap=True)
    if console.is_terminal:
        console.print(Markdown(text))
    else:
        print(text)
