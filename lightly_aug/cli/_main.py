"""The command `lightly-aug`, with its errors and warnings in one line each."""

import sys
import warnings
from typing import Any

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> None:
    """Run a command; an error that the user can correct ends in one line and exit code 2, a warning is one line.

    Args:
        arguments: The words after `lightly-aug`; by default those of the command line.
    """
    before = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *place: Any, **options: Any) -> None:
        if category is UserWarning:  # as all of this library; who types a command has no use for the place in the code
            print("Warning:", *str(message).split(), file=sys.stderr)
        else:
            before(message, category, *place, **options)

    warnings.showwarning = show
    try:
        from lightly_aug.cli.app import app

        app(arguments, prog_name="lightly-aug")
    except (ModuleNotFoundError, OSError, ValueError) as error:
        lines = (str(error).strip() or type(error).__name__).splitlines()
        # an error in a worker holds the worker's traceback, and ends in the message
        message = lines[-1].split("ImageError: ")[-1] if "Traceback" in str(error) else lines[0]
        print(f"Error: {message}", file=sys.stderr)
        sys.exit(2)
    finally:
        warnings.showwarning = before
