"""One image over the strengths of an operation: the right pixels, in order, with the right numbers."""

from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import nn
from torchvision.transforms.v2 import functional as F

from lightly_aug import Color, ColorJitter, RandomGaussianBlur, RandomResizedCrop, RandomRotation
from lightly_aug.evaluate import CHANGES, Change
from lightly_aug.photographs import photographs
from lightly_aug.plot import sweep
from lightly_aug.plot._sweep import insert_neutral

SQUARE = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0))


def pictures(figure: Figure) -> list[Any]:
    return [np.asarray(axes.images[0].get_array()) for axes in figure.axes]


def labels(figure: Figure) -> list[str]:
    return [axes.get_title() for axes in figure.axes]


def frames(figure: Figure) -> list[str]:
    return [
        to_hex(patch.get_edgecolor()) for axes in figure.axes for patch in axes.patches if isinstance(patch, Rectangle)
    ]


def test_strengths_of_a_name_are_those_of_its_change_with_the_neutral_one_marked() -> None:
    figure = sweep(SQUARE, "brightness", size=16)
    assert labels(figure) == ["0.4", "0.6", "0.8", "1\nunchanged", "1.2", "1.4", "1.6"]
    assert figure.get_suptitle() == "brightness, factor"
    assert len(set(frames(figure))) == 2
    assert frames(figure).count(frames(figure)[3]) == 1
    for picture, factor in zip(pictures(figure), (0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6), strict=True):
        wanted = F.adjust_brightness(SQUARE, factor).permute(1, 2, 0)
        np.testing.assert_allclose(picture, wanted.numpy(), atol=1e-5)


def test_given_strengths_are_drawn_in_their_order() -> None:
    figure = sweep(SQUARE, "hue", [0.1, -0.25], size=16)
    assert labels(figure) == ["0.1", "−0.25"]
    assert len(set(frames(figure))) == 1
    for picture, turns in zip(pictures(figure), (0.1, -0.25), strict=True):
        np.testing.assert_allclose(picture, F.adjust_hue(SQUARE, turns).permute(1, 2, 0).numpy(), atol=2e-3)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.name)
def test_every_change_can_be_swept_and_changes_the_picture(change: Change) -> None:
    shown = pictures(sweep(photographs(1, 80)[0], change.name, size=24))
    assert len(shown) == len(change.strengths) + 1
    assert len({picture.tobytes() for picture in shown}) == len(shown)


def test_a_function_builds_the_operation_of_each_strength() -> None:
    figure = sweep(
        SQUARE, lambda factor: ColorJitter(contrast=(factor, factor)), [0.5, 1, 2], neutral=1, size=16, title="contrast"
    )
    assert labels(figure) == ["0.5", "1\nunchanged", "2"]
    assert figure.get_suptitle() == "contrast"
    for picture, factor in zip(pictures(figure), (0.5, 1.0, 2.0), strict=True):
        np.testing.assert_allclose(picture, F.adjust_contrast(SQUARE, factor).permute(1, 2, 0).numpy(), atol=1e-3)


def test_strengths_of_a_function_have_the_same_random_numbers() -> None:
    image = photographs(1, 64)[0]
    first, second = pictures(sweep(image, lambda _: RandomResizedCrop(24), [1, 2], size=24))
    assert np.array_equal(first, second)
    other, _ = pictures(sweep(image, lambda _: RandomResizedCrop(24), [1, 2], size=24, seed=1))
    assert not np.array_equal(first, other)


def test_the_largest_centred_square_is_shown() -> None:
    image = torch.zeros(3, 16, 40)
    image[:, :, 12:28] = SQUARE
    for change in ("brightness", lambda s: ColorJitter(brightness=(s, s))):
        (shown,) = pictures(sweep(image, change, [1], size=16))
        np.testing.assert_allclose(shown, SQUARE.permute(1, 2, 0).numpy(), atol=1e-5)


def test_pictures_are_wrapped_into_rows() -> None:
    figure = sweep(SQUARE, "brightness", size=16, columns=3)
    assert len(figure.axes) == 7
    bottoms = [round(axes.get_position().y0, 3) for axes in figure.axes]
    lefts = [round(axes.get_position().x0, 3) for axes in figure.axes]
    assert bottoms == sorted(bottoms, reverse=True)
    assert len(set(bottoms)) == len(set(lefts)) == 3


def test_a_change_of_your_own_can_be_swept() -> None:
    change = Change("blur", "Texture", "", (1.0, 2.0), 0.0, lambda s, h, w: {"RandomGaussianBlur.sigma": s})
    assert labels(sweep(SQUARE, change, size=16)) == ["0\nunchanged", "1", "2"]


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ("sharpness", {}, "change must be one of .*'brightness'.*, got 'sharpness'"),
        ("blur", {"strengths": [-1]}, "strengths of blur must be from 0 to 3, got -1"),
        ("crop scale", {"strengths": [1, 2]}, "must be from 0.08 to 1, got 2: give a function"),
        ("horizontal flip", {"strengths": [0.5]}, "strengths of horizontal flip are steps, as .*, got 0.5"),
        ("quarter turns", {"strengths": [45]}, "strengths of quarter turns are steps"),
        ("blur", {"strengths": [1, 1]}, "strengths must be some different numbers"),
        ("blur", {"strengths": [float("nan")]}, "strengths must be some different numbers"),
        ("blur", {"neutral": 0}, "neutral must be left out, as blur has its own"),
        ("blur", {"columns": 0}, "columns must be an integer >= 1"),
        (lambda s: RandomRotation((s, s)), {}, "strengths must be some different numbers, got \\[\\]"),
        (lambda s: RandomGaussianBlur((s, s)), {"strengths": [1]}, "always be applied, got RandomGaussianBlur.*p=1"),
        (Color, {"strengths": [0.4]}, "always be applied, got ColorJitter"),
    ],
)
def test_what_would_mislead_is_refused(change: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sweep(SQUARE, change, size=16, **options)


def test_an_image_of_one_channel_is_refused_where_colours_can_change() -> None:
    with pytest.raises(ValueError, match="image must have 3 channels, got 1: convert it to RGB"):
        sweep(SQUARE[:1], "blur", size=16)
    assert len(sweep(SQUARE[:1], lambda s: RandomGaussianBlur((s, s), p=1), [1, 2], size=16).axes) == 2


def test_an_operation_instead_of_a_function_is_refused() -> None:
    for wrong in (RandomRotation(10), nn.AvgPool2d(3), 3):
        with pytest.raises(TypeError, match="change must be a name, a Change, or a function"):
            sweep(SQUARE, wrong, [1])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("strengths", "neutral", "wanted"),
    [
        ([0.75, 0.5], 1.0, [1.0, 0.75, 0.5]),
        ([-1.0, 1.0], 0.0, [-1.0, 0.0, 1.0]),
        ([2.0], 0.0, [0.0, 2.0]),
    ],
)
def test_the_neutral_strength_is_first_or_between(strengths: list[float], neutral: float, wanted: list[float]) -> None:
    assert insert_neutral(strengths, neutral) == wanted
