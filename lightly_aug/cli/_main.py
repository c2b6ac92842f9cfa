"""The command `lightly-aug`, with its errors and warnings in one line each."""

import re
import sys
import warnings
from typing import Any, Final

__all__ = ["main"]

_OWNER: Final = re.compile(r"(lightly-aug|lightly_aug[\w.]*|[A-Za-z_]\w*): ")
"""The function or class at the beginning of a message, which is for those who call it from Python."""

_SAMPLE: Final = re.compile(r"\w+ (leaves out|replaces) sample \d+(?: \(index \d+\))?, ")


def main(arguments: list[str] | None = None) -> None:
    """Run a command.

    Results are written to stdout, everything else to stderr. An error that the user can correct ends in one line,
    `Error: ...`, and exit code 2. A warning is one line, `Warning: ...`, and each is shown once.

    Args:
        arguments: The words after `lightly-aug`; by default those of the command line.
    """
    before, shown = warnings.showwarning, set[str]()

    def show(message: Warning | str, category: type[Warning], *place: Any, **options: Any) -> None:
        if category is not UserWarning:  # as all of this library
            before(message, category, *place, **options)
            return
        # a damaged file has another place in each batch, and is still one file
        text = _SAMPLE.sub(r"\1 ", " ".join(str(message).split()))
        if text not in shown:
            shown.add(text)
            print("Warning:", text, file=sys.stderr)

    warnings.showwarning = show
    try:
        sys.exit(_run(arguments))
    finally:
        warnings.showwarning = before


def _run(arguments: list[str] | None) -> int:
    """Run a command, and return its exit code."""
    try:
        from lightly_aug.cli.app import app
        from lightly_aug.cli.folders import remove_unused
    except ModuleNotFoundError as error:  # typer is optional
        return _tell(str(error))
    try:
        code = app(arguments, prog_name="lightly-aug", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except (ModuleNotFoundError, OSError, ValueError, FloatingPointError) as error:
        return _tell(_name_option(_read_message(error), sys.argv[1:] if arguments is None else arguments))
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        return _tell_usage(error)
    finally:
        remove_unused()


def _tell(message: str) -> int:
    print(f"Error: {message}", file=sys.stderr)
    return 2


def _tell_usage(error: Any) -> int:
    """Tell what is wrong with the words of a command; where there are none, typer has printed the help."""
    message, context = error.format_message(), error.ctx
    if not message:
        return 2
    hint = f" (see {context.command_path} --help)" if context else ""
    text = " ".join(message.split()).replace("Value error, ", "").removesuffix(".")
    return _tell(text + hint)


def _read_message(error: Exception) -> str:
    """Return the line of an error that says what is wrong."""
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    lines = (str(error).strip() or type(error).__name__).splitlines()
    # an error in a worker holds the worker's traceback, and ends in the message
    message = lines[-1].split("ImageError: ")[-1] if "Traceback" in str(error) else lines[0]
    owner = _OWNER.match(message)
    return message[owner.end() :] if owner else message


def _name_option(message: str, words: list[str]) -> str:
    """Return a message that begins with an argument of a function, with the option that the user wrote."""
    name, space, rest = message.partition(" ")
    option = f"--{name.replace('_', '-')}"
    return f"{option}{space}{rest}" if any(word.split("=")[0] == option for word in words) else message
