"""Draw views.png for README.md and looc.png for docs/methods.md: `python docs/views.py`."""

from collections.abc import Sequence
from pathlib import Path

import skimage

from lightly_aug import (
    BaseCollateFunction,
    CenterCrop,
    Color,
    LooCCollateFunction,
    MultiViewCollateFunction,
    Resize,
    Shape,
    Texture,
    View,
)

FOLDER = Path(skimage.__file__).parent / "data"


def draw(name: str, collate: BaseCollateFunction, photographs: Sequence[str], heads: Sequence[str]) -> None:
    """Write a grid of views beside this file, with a name above each view."""
    figure = collate.show([FOLDER / photograph for photograph in photographs], heads=heads)
    figure.savefig(Path(__file__).with_name(name), dpi=120, pil_kwargs={"optimize": True})


whole = Resize(224), CenterCrop(224)
shape = View(Shape(224, scale=(0.15, 0.8), vflip=0.2, rot90=0.4))
texture = View(*whole, Texture(blur=0.7, sigma=(1.0, 5.0), solarize=0.5))
color = View(*whole, Color(0.8, 0.8, 0.8, 0.3, jitter=1.0, grayscale=0.2))
everything = View(Shape(224), Color(0.8, 0.8, 0.8, 0.2), Texture())
draw(
    "views.png",
    MultiViewCollateFunction([shape, texture, color, everything, everything], seed=4),
    ["astronaut.png", "chelsea.png", "coffee.png"],
    ["shape", "texture", "colour", "all (SimCLR)", "all (SimCLR)"],
)
groups: dict[str, Shape | Color | Texture] = {
    "shape": Shape(224, scale=(0.2, 0.8)),
    "color": Color(0.3, 0.3, 0.4, 0.3, jitter=1.0, grayscale=0.1),
    "texture": Texture(blur=0.7, sigma=(1.0, 5.0), solarize=0.3),
}
draw(
    "looc.png",
    LooCCollateFunction(groups=groups, seed=6),
    ["astronaut.png", "chelsea.png"],
    [
        "query",
        "key 0: independent",
        "key 1: shape as query",
        "key 2: colour as query",
        "key 3: texture as query",
    ],
)
