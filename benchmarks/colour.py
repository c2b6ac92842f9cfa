"""Measure how far colours are from torchvision's: `python -m benchmarks.colour [--draws N] [--out FOLDER]`.

Our `ColorJitter` draws the factors of a batch once, and every approach gets the same ones. The truth is torchvision's
functional operations in float, in the drawn order. The error of a draw is the mean absolute difference over the pixels
of a photograph, in levels of 8 bits.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from math import cos, radians, sin
from pathlib import Path
from statistics import fmean
from typing import Final, NamedTuple

import kornia.augmentation as K
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from lightly_aug import ColorJitter, MultiViewCollateFunction, View
from lightly_aug.operations import JITTER_ORDERS
from lightly_aug.photographs import photographs

__all__ = ["STRENGTHS", "Draw", "jitter", "main", "measure_errors"]

STRENGTHS: Final = {
    "SimCLR (.8, .8, .8, .2)": (0.8, 0.8, 0.8, 0.2),
    "BYOL, DINO (.4, .4, .2, .1)": (0.4, 0.4, 0.2, 0.1),
}

PARTS: Final = ("brightness", "contrast", "saturation", "hue")
LUMA: Final = torch.tensor([0.299, 0.587, 0.114])


class Draw(NamedTuple):
    """One draw: the factor of each part, of hue the shift in turns, and the order of the parts."""

    factors: dict[str, float]
    order: Sequence[str]


def main() -> None:
    """Measure and write `colour.md` and `colour.json`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.colour", description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=300, help="number of draws, over three photographs")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), help="folder to write to")
    chosen = parser.parse_args()
    photos = photographs(3, 128)
    found = {name: measure_errors(photos, strength, chosen.draws) for name, strength in STRENGTHS.items()}
    text = table(found, chosen.draws)
    chosen.out.mkdir(parents=True, exist_ok=True)
    (chosen.out / "colour.md").write_text(text)
    (chosen.out / "colour.json").write_text(json.dumps(found, indent=1))
    print(text)


def table(found: dict[str, dict[str, list[float]]], draws: int) -> str:
    """Write the errors as Markdown: mean over the draws (median / 95th percentile)."""
    lines = [
        "# Colours: how far from torchvision\n",
        f"Mean absolute difference from torchvision v2 in float, same factors, in levels of 8 bits: mean over {draws}",
        "draws on three photographs at 128×128 (median / 95th percentile).\n",
        f"| | {' | '.join(found)} |",
        "|---" * (len(found) + 1) + "|",
    ]
    for name in next(iter(found.values())):
        cells = [
            f"{fmean(values[name]):.2f} ({np.median(values[name]):.2f} / {np.percentile(values[name], 95):.2f})"
            for values in found.values()
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def measure_errors(
    photos: Sequence[Image.Image], strength: tuple[float, float, float, float], draws: int
) -> dict[str, list[float]]:
    """Return the error of each draw for each approach; the photographs take turns."""
    images = [photos[i % len(photos)] for i in range(draws)]
    ours = {}
    for engine in ("cpu", "reference"):
        view = View(ColorJitter(*strength))
        views = MultiViewCollateFunction([view], seed=0, render="worker", engine=engine)(images)
        ours[engine] = views[0]
    columns = {name.split(".")[1]: column.tolist() for name, column in views.draws[0].items()}
    drawn = [
        Draw({part: columns[part][i] for part in PARTS}, JITTER_ORDERS[int(columns["order"][i])]) for i in range(draws)
    ]
    pixels = [torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255 for image in images]
    found: dict[str, list[float]] = {}
    for i, (x, draw) in enumerate(zip(pixels, drawn, strict=True)):
        truth = _truth(x, draw)
        made = {f"lightly_aug, engine {engine}": views[i] for engine, views in ours.items()}
        made |= {"kornia": _kornia(x, draw)} | {name: approach(x, draw) for name, approach in APPROACHES.items()}
        for name, result in made.items():
            found.setdefault(name, []).append(255 * float((result - truth).abs().mean()))
    return found


def jitter(
    x: Tensor, draw: Draw, *, order: Sequence[str] = (), half: bool = False, hue: str = "", clamps: bool = True
) -> Tensor:
    """Jitter an image as other libraries do.

    Args:
        x: Image `(3, h, w)` in [0, 1].
        draw: The factors and their order.
        order: Order of the parts; by default the drawn one.
        half: Contrast about 0.5 instead of about the mean gray.
        hue: "yiq" or "css" to rotate in that colour space; by default HSV's hue is shifted.
        clamps: Clamp after every part; otherwise once, at the end.
    """
    for part in order or draw.order:
        factor = draw.factors[part]
        if part == "hue" and hue:
            x = torch.einsum("ij,jhw->ihw", _rotation(hue, 360 * factor), x)
        elif part == "hue":
            x = F.adjust_hue(x.clamp(0, 1), factor)  # HSV is defined for [0, 1]
        elif part == "brightness":
            x = factor * x
        else:
            gray = torch.einsum("c,chw->hw", LUMA, x)
            about = gray if part == "saturation" else torch.tensor(0.5) if half else gray.mean()
            x = factor * x + (1 - factor) * about
        x = x.clamp(0, 1) if clamps else x
    return x.clamp(0, 1)


def _truth(x: Tensor, draw: Draw) -> Tensor:
    for part in draw.order:
        adjust: Callable[[Tensor, float], Tensor] = getattr(F, f"adjust_{part}")
        x = adjust(x, draw.factors[part])
    return x


def _kornia(x: Tensor, draw: Draw) -> Tensor:
    order = [PARTS.index(part) for part in draw.order]
    params = {f"{part}_factor": torch.tensor([factor]) for part, factor in draw.factors.items()}
    params |= {"order": torch.tensor(order), "batch_prob": torch.ones(1)}
    made: Tensor = K.ColorJitter(1.0, 1.0, 1.0, 0.5, order=order)(x[None], params=params)[0]
    return made


def _rotation(space: str, degrees: float) -> Tensor:
    c, s = cos(radians(degrees)), sin(radians(degrees))
    if space == "yiq":
        yiq = torch.tensor([[0.299, 0.587, 0.114], [0.596, -0.274, -0.321], [0.211, -0.523, 0.311]])
        back: Tensor = torch.linalg.inv(yiq)
        return back @ torch.tensor([[1, 0, 0], [0, c, s], [0, -s, c]]) @ yiq
    gray = torch.tensor([[0.213, 0.715, 0.072]]).expand(3, 3)
    turn = torch.tensor([[-0.213, -0.715, 0.928], [0.143, 0.140, -0.283], [-0.787, 0.715, 0.072]])
    return gray + c * (torch.eye(3) - gray) + s * turn


def _approach(**how: object) -> Callable[[Tensor, Draw], Tensor]:
    return lambda x, draw: jitter(x, draw, **how)  # type: ignore[arg-type]


_DALIS: Final = ("hue", "saturation", "contrast", "brightness")  # the order in its color_twist

APPROACHES: Final = {
    "one clamp, at the end": _approach(clamps=False),
    "contrast about 0.5 (DALI, triton-augment)": _approach(half=True),
    "hue by a rotation of YIQ (DALI)": _approach(hue="yiq"),
    "hue as CSS's hue-rotate (torchtransform)": _approach(hue="css"),
    "fixed order: brightness, contrast, saturation, hue": _approach(order=PARTS),
    "like DALI: all of its four": _approach(order=_DALIS, half=True, hue="yiq", clamps=False),
    "like torchtransform: CSS's hue, one clamp": _approach(hue="css", clamps=False),
}
"""The approaches of other libraries, one deviation at a time and then together."""


if __name__ == "__main__":
    main()
