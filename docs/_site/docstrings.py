"""Docstrings as mkdocstrings reads them."""

import re
from typing import Any

from griffe import Extension, Object


class Docstrings(Extension):
    """Read `Example:` as `Examples:`, the name under which mkdocstrings shows code, and `::` as a colon."""

    def on_object(self, *, obj: Object, **_options: Any) -> None:
        """Change the text of a docstring before it is parsed."""
        if obj.docstring:
            text = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)
            obj.docstring.value = re.sub(r"::$", ":", text, flags=re.MULTILINE)
