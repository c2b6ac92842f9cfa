"""`transform_points` finds what an image has at a point: a bright pixel on black, rendered, is the oracle."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from helpers.cases import Array, noise, seeds
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from lightly_aug import (
    CenterCrop,
    Crop,
    MultiViewCollateFunction,
    Normalize,
    RandomHorizontalFlip,
    RandomJigsawPatch,
    RandomResizedCrop,
    RandomRotation,
    RandomRotation90,
    RandomVerticalFlip,
    Resize,
    Shape,
    View,
    Views,
)
from lightly_aug.operations import Floats, Ints, Operation

DISC = 2.5 * torch.tensor([[np.cos(t), np.sin(t)] for t in np.linspace(0, 2 * np.pi, 12, endpoint=False)])


def collated(views: list[View], images: list[Array], seed: int = 0) -> Views:
    packed: Views = MultiViewCollateFunction(views, seed=seed, render="late", engine="reference", mode=None)(images)
    return packed


moves = st.lists(
    st.sampled_from(
        [
            RandomHorizontalFlip(0.5),
            RandomVerticalFlip(0.5),
            RandomRotation90(0.7),
            RandomRotation(180),
            RandomRotation(20),
            Resize((30, 30)),
            Resize((50, 50), antialias=False),
            RandomResizedCrop(40, scale=(0.3, 1)),
            CenterCrop(26),
            CenterCrop(60),
            Crop((40, 40), -5, 9),
            RandomJigsawPatch(25, 1, 2),
        ]
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=200)
@given(
    operations=moves,
    size=st.tuples(st.integers(30, 60), st.integers(30, 60)),
    place=st.tuples(st.integers(0, 59), st.integers(0, 59)),
    seed=seeds,
)
def test_a_bright_pixel_is_where_its_point_is(
    operations: list[Operation], size: tuple[int, int], place: tuple[int, int], seed: int
) -> None:
    if any(isinstance(op, RandomRotation90) for op in operations):
        assume(size[0] == size[1])
    y, x = place[0] % size[0], place[1] % size[1]
    image = np.zeros((*size, 1), dtype=np.float32)
    image[y, x] = 1
    views = collated([View(*operations)], [image], seed)
    (view,) = views.to()
    points = torch.cat([torch.tensor([[x, y]]), torch.tensor([[x, y]]) + DISC])[None]
    ((places, shown),) = views.transform_points(points)
    if shown.all():
        weights = view[0, 0].double()
        rows, columns = torch.meshgrid(*map(torch.arange, weights.shape), indexing="ij")
        found = torch.stack([(weights * columns).sum(), (weights * rows).sum()]) / weights.sum()
        torch.testing.assert_close(places[0, 0], found, rtol=0, atol=0.6)
    elif not shown.any():
        assert view.max() == 0


def test_a_rotation_after_the_crop_shows_nothing_that_the_crop_cut_off() -> None:
    views = collated([View(CenterCrop(20), RandomRotation((45, 45)))], [noise(40, 40)])
    beyond = torch.tensor([[[19.5, 19.5], [19.5, 8.0], [33.0, 19.5]]])
    ((places, shown),) = views.transform_points(beyond)
    assert shown.tolist() == [[True, False, False]]
    turned = places[0, 1]  # above the crop, and yet in the square of the view
    assert (turned > 0).all()
    assert (turned < 19).all()


@pytest.mark.parametrize("operations", [(), (RandomHorizontalFlip(1), RandomRotation90(1))])
def test_the_border_of_the_image_is_shown_and_what_is_beyond_is_not(operations: tuple[Operation, ...]) -> None:
    views = collated([View(Resize((7, 7)), *operations)], [noise(30, 50), noise(50, 30)])
    corners = torch.tensor([[[-0.5, -0.5], [49.5, 29.5]], [[-0.5, -0.5], [29.5, 49.5]]])
    ((places, shown),) = views.transform_points(corners)
    assert shown.all()
    torch.testing.assert_close((places - 3).abs(), torch.full((2, 2, 2), 3.5).double())
    assert not views.transform_points(corners * 1.01)[0][1].any()


def test_padding_of_the_image_is_not_part_of_it() -> None:
    ((places, shown),) = collated([View(CenterCrop(40))], [noise(20, 20)]).transform_points(
        torch.tensor([[[-5.0, 3.0], [3.0, 3.0], [float("nan"), 3.0]]])
    )
    assert shown.tolist() == [[False, True, False]]
    assert places[0, :2].tolist() == [[5.0, 13.0], [13.0, 13.0]]
    assert places[0, 2].isnan().all()


def test_points_agree_with_the_matrices_and_are_each_images_own() -> None:
    images = [noise(30 + i, 50 - i) for i in range(4)]
    views = collated([View(Shape(16, degrees=30)), View(Resize(20), CenterCrop(8), Normalize(0.5, 0.5))], images)
    points = torch.randint(0, 30, (4, 5, 2))
    whole = torch.cat([points, torch.ones(4, 5, 1)], dim=2).double()
    for (places, shown), matrices in zip(views.transform_points(points), views.matrices, strict=True):
        assert places.dtype == torch.float64
        assert shown.dtype == torch.bool
        torch.testing.assert_close(places, (whole @ matrices.mT)[..., :2], rtol=0, atol=1e-9)
    rendered = views.to()
    assert_equal(rendered.transform_points(points), views.transform_points(points))
    assert_equal(views.render().transform_points(points), views.transform_points(points))


def assert_equal(one: list[tuple[Tensor, Tensor]], other: list[tuple[Tensor, Tensor]]) -> None:
    for a, b in zip(one, other, strict=True):
        assert torch.equal(a[0], b[0])
        assert torch.equal(a[1], b[1])


def test_points_of_several_images_are_those_of_the_image_that_a_view_shows() -> None:
    samples = [{"front": noise(20, 30), "back": noise(40, 40)} for _ in range(2)]
    views = [View(Resize((20, 30))), View(Resize((20, 20)))]
    batch = MultiViewCollateFunction(views, image=("front", "back"), render="late")(samples)["front"]
    points = torch.tensor([[[1, 1]], [[2, 2]], [[3.5, 3.5]], [[39.5, 39.5]]])
    (front, _), (back, shown) = batch.transform_points(points)
    assert front.tolist() == [[[1, 1]], [[2, 2]]]
    assert back.tolist() == [[[1.5, 1.5]], [[19.5, 19.5]]]
    assert shown.all()


@dataclass(frozen=True)
class Tilt(Operation):
    """A change of perspective, as an operation of a user: what is above row 10 is beyond the horizon."""

    def draw(self, u: Floats, height: Ints, width: Ints) -> Floats:
        return u

    def apply(self, images: Tensor, drawn: Tensor) -> Tensor:
        return images

    def matrix(self, height: Ints, width: Ints, drawn: Floats) -> Floats:
        matrix = np.eye(3)
        matrix[2] = 0, 0.1, -1
        return np.broadcast_to(matrix, (len(drawn), 3, 3))


def test_a_change_of_perspective_is_divided_by_the_depth() -> None:
    views = collated([View(Tilt(), CenterCrop(30))], [noise(30, 30)])
    ((places, shown),) = views.transform_points(torch.tensor([[[10.0, 20.0], [10.0, 5.0], [10.0, 10.0]]]))
    assert places[0, 0].tolist() == [10, 20]
    assert shown.tolist() == [[True, False, False]]


@pytest.mark.parametrize("shape", [(2, 2), (3, 5, 2), (2, 5, 3), (2, 1, 5, 2)])
def test_points_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    views = collated([View(Resize((8, 8)))], [noise(20, 20)] * 2)
    with pytest.raises(ValueError, match=r"Views: points must be \(2, k, 2\), k points .* got \("):
        views.transform_points(torch.zeros(shape))


def test_boxes_and_masks_move_with_points() -> None:
    """As the documentation does it: the label of a mask is where the colour of the image is."""
    image = np.zeros((40, 60, 1), dtype=np.uint8)
    image[5:25, 10:40] = 255
    views = collated([View(RandomResizedCrop(48, scale=(0.3, 1)), RandomRotation((30, 30)))], [image] * 3)
    (view,) = views.to()
    mask = torch.from_numpy(image[..., 0] > 0)
    rows, columns = torch.meshgrid(torch.arange(48), torch.arange(48), indexing="ij")
    places = torch.stack([columns, rows, torch.ones_like(rows)], dim=-1).double().view(1, -1, 3)
    sources = (places @ torch.linalg.inv(views.matrices[0]).mT)[..., :2]
    ((_, shown),) = views.transform_points(sources)
    for i in range(3):
        x, y = sources[i].round().long().unbind(1)
        labels = mask[y.clamp(0, 39), x.clamp(0, 59)] & shown[i]
        assert (labels.view(48, 48) == (view[i, 0] > 0.5)).float().mean() > 0.97
