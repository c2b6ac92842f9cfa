"""Pictures as HTML: images with the outlines of their views, and the views with their captions."""

import base64
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from lightly_aug.explore.album import Damaged, Picture
from lightly_aug.explore.rendering import Drawn

__all__ = ["Side", "fill_cosines", "write_failure", "write_sheet"]

_COLOURS: Final = ("#2f6fde", "#e07b12", "#1a9e6c", "#c2418f", "#7a5bd6", "#b59a0b", "#d1495b", "#2a9db0")
_COSINE: Final = 'class="cosine" title="{}cosine between the features of image and view"'
_TILES: Final = (160, 100)
"""Length of the longest side of the largest view, in pixels of the page, for one recipe and for two."""


@dataclass(frozen=True)
class Side:
    """One recipe of a sheet.

    Attributes:
        title: Name of the recipe.
        pictures: The readable images, as this recipe reads them.
        views: For each readable image its views.
    """

    title: str
    pictures: list[Picture]
    views: list[list[Drawn]]


def write_sheet(images: Sequence[Damaged | None], sides: Sequence[Side], *, cosines: bool = False) -> str:
    """Write images and their views as HTML, one row for each image, with all pictures in it.

    Args:
        images: The images in order: None for a readable one, else why it cannot be read.
        sides: The recipes, side by side.
        cosines: Leave places for cosines, which `fill_cosines` fills.
    """
    letters = "AB" if len(sides) > 1 else [""]
    heads = "".join(_write_head(side, letter, cosines) for side, letter in zip(sides, letters, strict=True))
    rows, readable = [], 0
    for damaged in images:
        if damaged is not None:
            rows.append(_write_line(damaged.name, damaged.reason))
        else:
            cells = "".join(_write_cell(side, readable, _TILES[len(sides) - 1], cosines) for side in sides)
            rows.append(f'<section class="line">{cells}</section>')
            readable += 1
    widest = max(
        (_measure_original(picture, _TILES[len(sides) - 1])[0] for side in sides for picture in side.pictures),
        default=0,
    )
    style = f"--original:{widest:.0f}px"
    lines = f'<header class="line">{heads}</header>{"".join(rows)}'
    return f'<div class="sheet sides-{len(sides)}" style="{style}">{lines}</div>'


def fill_cosines(sides: Sequence[Sequence[Sequence[float]]]) -> str:
    """Write JavaScript that puts cosines in the places of the sheet: the pictures, megabytes, are sent only once.

    Args:
        sides: For each recipe, for each readable image, the cosines of its views.
    """
    means = [f"cosine {np.mean(rows):.2f}" if len(rows) else "" for rows in sides]
    texts = means + [f"{cosine:.2f}" for line in zip(*sides, strict=True) for row in line for cosine in row]
    places = 'document.querySelectorAll(".sheet .cosine")'
    return f"{places}.forEach((place, i) => place.textContent = {json.dumps(texts)}[i])"


def write_failure(error: Exception) -> str:
    """Write an error as HTML, to show in place of a sheet that cannot be drawn."""
    return f'<div class="sheet">{_write_line("These views cannot be drawn.", f"{type(error).__name__}: {error}")}</div>'


def _write_line(head: str, text: str) -> str:
    return f'<section class="line damaged"><p><b>{escape(head)}</b> {escape(text)}</p></section>'


def _write_head(side: Side, letter: str, cosines: bool) -> str:
    letter = f"<i>{letter}</i> " if letter else ""
    mean = f" <span {_COSINE.format('mean ')}></span>" if cosines else ""
    return f'<div class="side"><h2>{letter}{escape(side.title)}</h2>{mean}</div>'


def _write_cell(side: Side, number: int, tile: int, cosines: bool) -> str:
    views = side.views[number]
    colours = _choose_colours(len(views))
    runs = [list(run) for _, run in groupby(range(len(views)), key=lambda i: views[i].pixels.shape)]
    largest = max(max(view.pixels.shape[:2]) for view in views)
    scale = min([tile / largest, *(2 * tile / _measure_mosaic(views, run) for run in runs if _is_mosaic(run))])
    shown = []
    for run in runs:
        small = _is_mosaic(run)
        figures = [_write_view(views[i], colours[i], scale, small=small, cosine=cosines) for i in run]
        if small:
            columns = _count_columns(len(run))
            shown.append(f'<div class="mosaic" style="--columns:{columns}">{"".join(figures)}</div>')
        else:
            shown += figures
    original = _write_original(side.pictures[number], views, colours, tile)
    return f'<div class="side">{original}<div class="views">{"".join(shown)}</div></div>'


def _is_mosaic(run: Sequence[int]) -> bool:
    return len(run) > 4


def _count_columns(count: int) -> int:
    return math.ceil(math.sqrt(count))


def _measure_mosaic(views: Sequence[Drawn], run: Sequence[int]) -> int:
    """Return the width of a run of small views, in pixels of the views."""
    width: int = views[run[0]].pixels.shape[1]
    return _count_columns(len(run)) * width


def _measure_original(picture: Picture, tile: int) -> tuple[float, float]:
    """Return the width and height of an original, in pixels of the page."""
    height, width = picture.pixels.shape[:2]
    scale = min(tile / height, 1.5 * tile / width)
    return max(1, width * scale), max(1, height * scale)


def _write_original(picture: Picture, views: Sequence[Drawn], colours: Sequence[str], tile: int) -> str:
    height, width = picture.pixels.shape[:2]
    outlines = []
    for view, colour in zip(views, colours, strict=True):
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in view.region)
        outlines.append(f'<polygon class="halo" points="{points}"/><polygon points="{points}" stroke="{colour}"/>')
    size = "width:{:.0f}px;height:{:.0f}px".format(*_measure_original(picture, tile))
    thumbnail = _write_uri("jpeg", picture.thumbnail)
    name = escape(picture.name)
    frame = "frame many" if len(views) > 6 else "frame"
    return (
        f'<figure class="original"><div class="{frame}"><img alt="{name}" style="{size}" src="{thumbnail}">'
        f'<svg viewBox="0 0 {width} {height}" preserveAspectRatio="none">{"".join(outlines)}</svg></div>'
        f'<figcaption title="{name}">{escape("/".join(picture.name.split("/")[-2:]))}</figcaption></figure>'
    )


def _write_view(view: Drawn, colour: str, scale: float, *, small: bool, cosine: bool) -> str:
    height, width = view.pixels.shape[:2]
    similar = f"<b {_COSINE.format('')}></b> " if cosine else ""
    size = f"width:{width * scale:.0f}px;height:{height * scale:.0f}px"
    caption = escape(view.caption.replace(" -", " −"))
    return (
        f'<figure class="view" style="--colour:{colour};--width:{max(72, width * scale):.0f}px" title="{caption}">'
        f'<img alt="view" style="{size}" src="{_write_uri("webp", _encode(view.pixels))}">'
        f"<figcaption>{similar}{'' if small else caption}</figcaption></figure>"
    )


def _choose_colours(count: int) -> list[str]:
    others = (f"hsl({137.5 * i % 360:.0f} 60% 50%)" for i in range(count))  # the golden angle keeps neighbours distinct
    return [*_COLOURS, *others][:count]


def _encode(pixels: npt.NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    # the fastest lossless format of browsers, and half as large as PNG
    Image.fromarray(pixels).save(buffer, "WEBP", lossless=True, quality=0, method=0)
    return buffer.getvalue()


def _write_uri(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
