"""From a recipe and images to pictures: what the page shows, and what the code of the recipe gives."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from lightly_aug.batch import Views
from lightly_aug.collate import MultiViewCollateFunction
from lightly_aug.explore.recipe import Recipe
from lightly_aug.operations import Floats
from lightly_aug.view import View
from lightly_aug.weights import Backbone

__all__ = ["Drawn", "compare", "render"]

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Drawn:
    """One view of one image.

    Attributes:
        pixels: `(height, width, 3)` uint8: the view, rounded to 8 bits.
        caption: The drawn numbers in words.
        region: The `(4, 2)` corners (x, y) of the part of the image that it shows, in pixels of the image.
    """

    pixels: Pixels
    caption: str
    region: Floats


def render(recipe: Recipe, seed: int, images: Sequence[Pixels]) -> list[list[Drawn]]:
    """Render the views of images, as the code of the recipe makes them of its first batch, without normalisation.

    Args:
        recipe: The recipe.
        seed: The seed.
        images: The n images, each `(height, width, 3)`.

    Returns:
        For each image its views.
    """
    if not images:
        return []
    views: Views = MultiViewCollateFunction(recipe.views, seed=seed, render="late")(list(images))
    shapes = views.images.shapes.numpy()
    columns = []
    for view, drawn, made in zip(views.views, views.table.double().numpy(), views.to("cpu"), strict=True):
        pixels = (made * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
        regions = _find_regions(view, drawn, pixels.shape[1:3], shapes)
        captions = view.captions(drawn)
        columns.append(
            [Drawn(p, ", ".join(words), region) for p, words, region in zip(pixels, captions, regions, strict=True)]
        )
    return [list(row) for row in zip(*columns, strict=True)]


def _find_regions(view: View, drawn: Floats, size: tuple[int, ...], shapes: npt.NDArray[np.int64]) -> Floats:
    height, width = size
    corners = np.array([[0, 0, 1], [width, 0, 1], [width, height, 1], [0, height, 1]]) - [0.5, 0.5, 0]
    back = np.linalg.inv(view.matrix(drawn, shapes[:, 1], shapes[:, 2]))
    seen: Floats = corners @ back.swapaxes(1, 2)
    return seen[..., :2] + 0.5  # pixel centres are at integers, corners half a pixel away


def compare(backbone: Backbone, images: Sequence[Pixels], views: Sequence[Sequence[Drawn]]) -> list[list[float]]:
    """Compute how similar a trained network finds images and their views: the cosine between their features.

    Args:
        backbone: The network, which gets images and views resized, cropped and normalised as it expects them.
        images: The n images.
        views: For each image its views.

    Returns:
        For each image the cosines of its views, in [-1, 1].
    """
    if not images:
        return []
    flat = [Image.fromarray(pixels) for pixels in [*images, *(drawn.pixels for row in views for drawn in row)]]
    with torch.inference_mode():
        features = torch.nn.functional.normalize(backbone(flat).float())
    own = features[len(images) :].view(len(images), -1, features.shape[1])
    return torch.einsum("nd,nvd->nv", features[: len(images)], own).tolist()
