"""Many views of every image, rendered on the device that uses them, grouped by what they teach a network to ignore."""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightly_aug._public import *  # noqa: F403
    from lightly_aug._public import __all__ as __all__

__version__ = "0.1.0"


if not TYPE_CHECKING:  # else type checkers would take any name for one of these

    def __getattr__(name: str) -> Any:
        """Import a name or a module when it is first used, so that the command line need not wait for torch."""
        if not name.startswith("_") and find_spec(f"{__name__}.{name}"):
            return import_module(f"{__name__}.{name}")
        public = import_module(f"{__name__}._public")
        if not hasattr(public, name):
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(public, name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *import_module(f"{__name__}._public").__all__})
