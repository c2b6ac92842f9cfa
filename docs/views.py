"""Makes docs/views.png, the picture of the README: `python docs/views.py`."""

import io
from pathlib import Path

import skimage
from PIL import Image

from lightly_aug import CenterCrop, Color, MultiViewCollateFunction, Resize, Shape, Texture, View
from lightly_aug.plot import view_grid

NAMES = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")
whole = Resize(224), CenterCrop(224)
shape = View(Shape(224, scale=(0.15, 0.8), vflip=0.2, rot90=0.4))
texture = View(*whole, Texture(blur=0.7, sigma=(1.0, 5.0), solarize=0.5))
color = View(*whole, Color(0.8, 0.8, 0.8, 0.3, jitter=1.0, grayscale=0.2))
everything = View(Shape(224), Color(0.8, 0.8, 0.8, 0.2), Texture())
collate = MultiViewCollateFunction([shape, texture, color, everything, everything], seed=4)
photographs = [Path(skimage.__file__).parent / "data" / name for name in NAMES]
figure = view_grid(collate, photographs)
for axes, title in zip(
    figure.axes, ["image", "shape", "texture", "colour", "all (SimCLR)", "all (SimCLR)"], strict=False
):
    axes.text(0.5, 1.04, title, transform=axes.transAxes, ha="center", va="bottom", fontsize=11)
picture = io.BytesIO()
figure.savefig(picture, dpi=80)
Image.open(picture).convert("RGB").quantize(256).save(Path(__file__).with_suffix(".png"), optimize=True)
