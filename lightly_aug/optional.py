"""Optional packages, imported where they are used, with an error that says how to install them."""

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["extra"]


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Import an optional package within this context.

    Args:
        name: The extra of this distribution that installs the package.

    Raises:
        ModuleNotFoundError: The package is not installed; the message gives the `pip install` line.

    Example:
        >>> with extra("plot"):
        ...     import a_package_that_is_not_there
        Traceback (most recent call last):
            ...
        ModuleNotFoundError: a_package_that_is_not_there is not installed: pip install 'lightly-aug[plot]'
    """
    try:
        yield
    except ModuleNotFoundError as error:
        text = f"{error.name} is not installed: pip install 'lightly-aug[{name}]'"
        raise ModuleNotFoundError(text, name=error.name) from error
