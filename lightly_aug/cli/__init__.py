"""The command `lightly-aug`: a file for each of its commands, which need typer; `app.py` puts them together."""

from lightly_aug.cli._main import main

__all__ = ["main"]
