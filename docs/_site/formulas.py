"""Formulas as MathML, which browsers show without a script."""

import html
import re

from latex2mathml.converter import convert

FORMULA = re.compile(
    r'<(?P<tag>span|div) class="arithmatex">\\(?P<open>[(\[])(?P<latex>.*?)\\[)\]]</(?P=tag)>', re.DOTALL
)


def show_formulas(page: str) -> str:
    """Convert the LaTeX that Arithmatex marks in the HTML of a page."""

    def show(formula: re.Match[str]) -> str:
        display = "inline" if formula["open"] == "(" else "block"
        return convert(html.unescape(formula["latex"]), display=display)

    return FORMULA.sub(show, page)
