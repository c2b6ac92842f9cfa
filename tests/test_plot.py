"""Figures: the right images at the right places, with the right text."""

from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import Tensor

from lightly_aug import (
    CenterCrop,
    ColorJitter,
    MoCoCollateFunction,
    MultiViewCollateFunction,
    Normalize,
    Operation,
    RandomEqualize,
    RandomGaussianBlur,
    RandomGrayscale,
    RandomHorizontalFlip,
    RandomJigsawPatch,
    RandomResizedCrop,
    RandomRotation,
    RandomRotation90,
    RandomSolarize,
    RandomVerticalFlip,
    Shared,
    SimSiamCollateFunction,
    View,
)
from lightly_aug.photographs import photographs
from lightly_aug.plot import embedding, neighbours, view_grid


def titles(figure: Figure) -> list[str]:
    """Row by row."""
    return [axes.get_title() for axes in figure.axes]


def pixels(figure: Figure) -> list[Any]:
    """Row by row."""
    return [np.asarray(axes.images[0].get_array()) for axes in figure.axes]


def at_angles(*degrees: float) -> Tensor:
    radians = torch.tensor(degrees).deg2rad()
    return torch.stack([radians.cos(), radians.sin()], dim=1)


def test_neighbours_are_the_nearest_by_angle_and_the_nearest_comes_first() -> None:
    features = at_angles(0, 10, 85, 103) * torch.tensor([[1.0], [5.0], [0.1], [3.0]])  # lengths do not matter
    images = [np.full((4, 4, 3), i, dtype=np.uint8) for i in range(4)]
    figure = neighbours(images, features, count=2)
    shown = [int(image[0, 0, 0]) for image in pixels(figure)]
    # each image, then its two nearest: the cosines of 10, 85; 10, 75; 18, 75; 18, 93 degrees
    assert shown == [0, 1, 2, 1, 0, 2, 2, 3, 1, 3, 2, 1]
    assert titles(figure) == [
        *("image", "0.98", "0.09"),
        *("image", "0.98", "0.26"),
        *("image", "0.95", "0.26"),
        *("image", "0.95", "-0.05"),
    ]


def test_neighbours_of_some_images_are_searched_among_all() -> None:
    images = [np.full((4, 4, 3), i, dtype=np.uint8) for i in range(4)]
    figure = neighbours(images, at_angles(0, 10, 85, 103), queries=2, count=99)
    assert [int(image[0, 0, 0]) for image in pixels(figure)] == [0, 1, 2, 3, 3, 2, 1, 0]


def test_captions_are_what_was_drawn() -> None:
    view = View(
        RandomResizedCrop(8, scale=(1, 1), ratio=(1.5, 1.5)),
        RandomHorizontalFlip(1.0),
        ColorJitter((1.25, 1.25), 0, 0, 0, p=1.0),
        RandomGrayscale(1.0),
        RandomGaussianBlur((1.5, 1.5), p=1.0),
        RandomSolarize(p=1.0),
    )
    plain = View(RandomResizedCrop(8, scale=(1, 1), ratio=(1.5, 1.5)), RandomHorizontalFlip(0.0), RandomGrayscale(0.0))
    images = [torch.rand(3, 16, 24), torch.rand(3, 32, 48)]
    collate = MultiViewCollateFunction([view, plain], seed=0)
    found = [title.replace("\n", ", ") for title in titles(view_grid(collate, images))]
    for row, size in enumerate(("24 × 16", "48 × 32")):
        original, all_drawn, nothing_drawn = found[3 * row : 3 * row + 3]
        assert original == size
        assert all_drawn.startswith(f"crop {size}, flip, jitter ")
        assert "b 1.2" in all_drawn
        assert all_drawn.endswith("gray, blur 1.5, solarize")
        assert nothing_drawn == f"crop {size}"
    assert set(titles(view_grid(collate, images, captions=False))) == {""}


@pytest.mark.parametrize(
    ("operation", "drawn", "caption"),
    [
        (RandomResizedCrop(8), [3, 4, 20, 30], "crop 30 × 20"),
        (RandomHorizontalFlip(), [1], "flip"),
        (RandomVerticalFlip(), [1], "vertical flip"),
        (RandomVerticalFlip(), [0], ""),
        (RandomRotation90(), [3], "turn 270°"),
        (RandomRotation90(), [0], ""),
        (RandomRotation(30), [-12.4], "turn -12°"),
        (RandomJigsawPatch(8, 0), [3, 4, 7], "cell 7"),
        (CenterCrop(8), [], ""),
        (ColorJitter(1, 1, 1, 0.5), [1, 0.5, 2, 1, -0.25, 0], "jitter b 0.5 c 2 s 1 h -0.25"),
        (ColorJitter(1, 1, 1, 0.5), [1, 0.5, 2, 1, -0.25, 23], "jitter h -0.25 s 1 c 2 b 0.5"),
        (ColorJitter(1, 1, 1, 0.5), [0, 1, 1, 1, 0, 23], ""),
        (RandomGrayscale(), [1], "gray"),
        (RandomEqualize(), [1], "equalize"),
        (RandomEqualize(), [0], ""),
        (RandomGaussianBlur(), [1.26], "blur 1.3"),
        (RandomGaussianBlur(), [0], ""),
        (RandomSolarize(), [1, 0.5], "solarize"),
        (RandomSolarize(), [0, 0.5], ""),
        (Normalize(), [], ""),
    ],
)
def test_operations_caption_what_they_drew(operation: Operation, drawn: list[float], caption: str) -> None:
    assert operation.caption(drawn) == caption


def test_every_operation_of_a_kind_is_captioned() -> None:
    blur = RandomGaussianBlur((1, 1), 1.0), RandomGaussianBlur((2, 2), 1.0)
    collate = MultiViewCollateFunction([View(*blur)], seed=0)
    assert titles(view_grid(collate, [torch.rand(3, 8, 8)])) == ["8 × 8", "blur 1.0, blur 2.0"]


def test_a_shared_normalisation_is_left_out_too() -> None:
    image = torch.rand(3, 8, 8)
    for item in (Shared("all", RandomHorizontalFlip(0.0), Normalize()), Shared("all", Normalize())):
        figure = view_grid(MultiViewCollateFunction([View(item)], seed=0, engine="reference"), [image])
        torch.testing.assert_close(torch.from_numpy(pixels(figure)[1]).permute(2, 0, 1), image)


@pytest.mark.parametrize(
    "collate",
    [
        MoCoCollateFunction(24, seed=3, render="late", engine="reference"),
        SimSiamCollateFunction(24, seed=4, render="worker", engine="reference", decode=20),
        MultiViewCollateFunction(
            [View(RandomResizedCrop(24), Normalize(), dtype=torch.float64)], seed=5, render="late", engine="reference"
        ),
    ],
    ids=["late", "worker and decode", "float64"],
)
def test_a_grid_shows_the_views_of_the_next_batch_before_they_are_normalised(collate: MultiViewCollateFunction) -> None:
    images = photographs(3, 64)
    before = repr(collate)
    shown = pixels(view_grid(collate, images))
    assert repr(collate) == before
    mean, std = (torch.tensor(numbers).view(3, 1, 1) for numbers in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    made = [view.float() * std + mean for view in collate(images).to("cpu")]
    columns = 1 + len(made)
    assert len(shown) == 3 * columns
    for row in range(3):
        for i, view in enumerate(made):
            torch.testing.assert_close(torch.from_numpy(shown[row * columns + 1 + i]).permute(2, 0, 1), view[row])


@pytest.mark.parametrize("engine", ["cpu", "reference"])
def test_a_grid_is_rendered_by_the_engine_and_in_the_dtype_of_the_collate_function(engine: str) -> None:
    images = photographs(2, 64)
    views = [View(RandomResizedCrop(24), ColorJitter(0.4, 0.4, 0.4, 0.2), dtype=t) for t in (torch.float32, torch.half)]
    collate = MultiViewCollateFunction(views, seed=5, render="late", engine=engine)
    shown = pixels(view_grid(collate, images))
    x0, x1 = (view.float().permute(0, 2, 3, 1).numpy() for view in collate(images).to("cpu"))
    for row in range(2):  # to the last bit, in which engines differ
        assert np.array_equal(shown[3 * row + 1], x0[row])
        assert np.array_equal(shown[3 * row + 2], x1[row])


def test_a_grid_shows_each_image_beside_its_views_as_the_collate_function_reads_it() -> None:
    images = photographs(2, 64)
    collate = MoCoCollateFunction(8, seed=0, decode=16)
    shown = pixels(view_grid(collate, images))
    for image, found in zip(images, shown[::3], strict=True):
        assert np.array_equal(found, np.asarray(image.reduce(4)))


def test_gray_images_are_drawn_in_gray() -> None:
    collate = MultiViewCollateFunction([View(RandomResizedCrop(8))], seed=0, mode="L")
    figure = view_grid(collate, photographs(1, 16))
    assert [image.shape for image in pixels(figure)] == [(16, 16), (8, 8)]
    drawn = [axes.images[0] for axes in figure.axes]
    assert [image.get_cmap().name for image in drawn] == ["gray", "gray"]
    assert [image.get_clim() for image in drawn] == [(0, 255), (0, 1)]


def test_an_embedding_has_a_colour_and_a_name_for_each_label() -> None:
    labels = torch.tensor([0] * 5 + [2] * 3 + [1] * 7)
    figure = embedding(torch.randn(15, 4, generator=torch.Generator().manual_seed(0)), labels, ["ant", "bee", "cat"])
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["ant", "bee", "cat"]
    (axes,) = figure.axes
    groups = {str(group.get_label()): group for group in axes.collections}
    assert {name: len(np.asarray(group.get_offsets())) for name, group in groups.items()} == {
        "ant": 5,
        "bee": 7,
        "cat": 3,
    }
    assert len({tuple(np.asarray(group.get_facecolor())[0]) for group in groups.values()}) == 3


def test_an_embedding_keeps_groups_apart() -> None:
    centres = at_angles(0, 120, 240).repeat_interleave(10, 0)
    features = centres + 0.01 * torch.randn(30, 2, generator=torch.Generator().manual_seed(0))
    figure = embedding(features, torch.arange(3).repeat_interleave(10), ["ant", "bee", "cat"])
    places = [np.asarray(group.get_offsets()) for group in figure.axes[0].collections]
    middles = np.stack([group.mean(0) for group in places])
    for label, group in enumerate(places):
        nearest = np.linalg.norm(group[:, None] - middles, axis=2).argmin(1)
        assert (nearest == label).all()
