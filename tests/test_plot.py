"""Figures: the right images at the right places, with the right text."""

from pathlib import Path
from typing import Any

import kornia.augmentation as K
import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Polygon, Rectangle
from matplotlib.text import Text
from PIL import Image
from skimage.color import deltaE_ciede2000, rgb2lab
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
    Resize,
    Shared,
    SimSiamCollateFunction,
    View,
)
from lightly_aug.photographs import photographs
from lightly_aug.plot import confusion, embedding, label_curve, neighbours


def titles(figure: Figure) -> list[str]:
    """Row by row."""
    return [axes.get_title() for axes in figure.axes]


def pixels(figure: Figure) -> list[Any]:
    """Row by row, and in a cell of several views row by row."""
    return [np.asarray(image.get_array()) for axes in figure.axes for image in axes.images]


def outlines(axes: Axes) -> list[list[tuple[float, float]]]:
    """The corners of each outline, in no particular order, in pixels of the image."""
    shapes = [patch.get_xy() for patch in axes.patches if isinstance(patch, Polygon)]
    return [sorted({(round(float(x), 3), round(float(y), 3)) for x, y in np.asarray(shape)}) for shape in shapes]


def colours(axes: Axes, kind: type[Patch]) -> list[str]:
    """The colours of the outlines (`Polygon`) or frames (`Rectangle`) in a cell."""
    return [to_hex(patch.get_edgecolor()) for patch in axes.patches if isinstance(patch, kind)]


def boxes(figure: Figure) -> list[Any]:
    """Left, bottom, right and top of each image on the page, in its order in `pixels`."""
    figure.draw_without_rendering()
    return [image.get_window_extent().extents for axes in figure.axes for image in axes.images]


def of_sizes(*sides: int) -> MultiViewCollateFunction:
    return MultiViewCollateFunction([View(RandomResizedCrop(side)) for side in sides], seed=0, engine="reference")


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


@pytest.mark.parametrize("queries", [[2, 0], (2, 0), np.array([2, 0])])
def test_neighbours_of_chosen_images(queries: Any) -> None:
    images = [np.full((4, 4, 3), i, dtype=np.uint8) for i in range(4)]
    figure = neighbours(images, at_angles(0, 10, 85, 103), queries=queries, count=2)
    assert [int(image[0, 0, 0]) for image in pixels(figure)] == [2, 3, 1, 0, 1, 2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"queries": 0}, "neighbours: queries must be an integer >= 1, got 0"),
        ({"queries": 1.5}, "neighbours: queries must be an integer >= 1, got 1.5"),
        ({"queries": []}, r"neighbours: queries must be indices of 3 images, got \[\]"),
        ({"queries": [0, 3]}, r"neighbours: queries must be indices of 3 images, got \[0, 3\]"),
        ({"queries": [0, -1]}, r"neighbours: queries\[1\] must be an integer >= 0, got -1"),
        ({"queries": [0.5]}, r"neighbours: queries\[0\] must be an integer >= 0, got 0.5"),
        ({"count": 0}, "neighbours: count must be an integer >= 1, got 0"),
        ({"names": ["a"]}, "neighbours: names must be one for each of 3 images, got 1"),
        ({"features": torch.eye(4)}, "neighbours: features must be one for each of 3 images, got 4"),
        ({"features": torch.full((3, 2), torch.nan)}, r"features must be finite and \(n, d\), got NaN or infinity"),
        ({"features": torch.ones(3)}, r"features must be finite and \(n, d\), got \(3,\)"),
    ],
)
def test_neighbours_that_do_not_fit_are_refused(options: dict[str, Any], message: str) -> None:
    images = [np.zeros((4, 4, 3), dtype=np.uint8)] * 3
    with pytest.raises(ValueError, match=message):
        neighbours(images, **({"features": torch.eye(3)} | options))


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
    found = [title.replace("\n", " ") for title in titles(collate.show(images))]
    for row, size in enumerate(("24 × 16", "48 × 32")):
        original, all_drawn, nothing_drawn = found[3 * row : 3 * row + 3]
        assert original == size
        assert all_drawn.startswith(f"crop {size}, flip, ")
        assert "brightness 1.2" in all_drawn
        assert all_drawn.endswith("gray, blur 1.5, solarize")
        assert nothing_drawn == f"crop {size}"
    assert set(titles(collate.show(images, captions=False))) == {""}


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
        (
            ColorJitter(1, 1, 1, 0.5),
            [1, 0.5, 2, 1, -0.25, 0],
            "brightness 0.50, contrast 2.00, saturation 1.00, hue -0.25",
        ),
        (
            ColorJitter(1, 1, 1, 0.5),
            [1, 0.5, 2, 1, -0.25, 23],
            "hue -0.25, saturation 1.00, contrast 2.00, brightness 0.50",
        ),
        (ColorJitter(1, 1, 1, 0.5), [0, 1, 1, 1, 0, 23], ""),
        (ColorJitter(0.4, (1, 1), 0, 0), [1, 0.7, 1, 1, 0, 0], "brightness 0.70"),  # other parts cannot change an image
        (ColorJitter(0, (1.5, 1.5), 0, (0, 0.1)), [1, 1, 1.5, 1, 0, 0], "contrast 1.50, hue 0.00"),
        (ColorJitter(), [1, 1, 1, 1, 0, 0], ""),
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
    assert titles(collate.show([torch.rand(3, 8, 8)])) == ["8 × 8", "blur 1.0, blur 2.0"]


def test_a_shared_normalisation_is_left_out_too() -> None:
    image = torch.rand(3, 8, 8)
    for item in (Shared("all", RandomHorizontalFlip(0.0), Normalize()), Shared("all", Normalize())):
        figure = MultiViewCollateFunction([View(item)], seed=0, engine="reference").show([image])
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
    shown = pixels(collate.show(images))
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
    shown = pixels(collate.show(images))
    x0, x1 = (view.float().permute(0, 2, 3, 1).numpy() for view in collate(images).to("cpu"))
    for row in range(2):  # to the last bit, in which engines differ
        assert np.array_equal(shown[3 * row + 1], x0[row])
        assert np.array_equal(shown[3 * row + 2], x1[row])


def test_a_grid_shows_each_image_beside_its_views_as_the_collate_function_reads_it() -> None:
    images = photographs(2, 64)
    collate = MoCoCollateFunction(8, seed=0, decode=16)
    shown = pixels(collate.show(images))
    for image, found in zip(images, shown[::3], strict=True):
        assert np.array_equal(found, np.asarray(image.reduce(4)))


def test_gray_images_are_drawn_in_gray() -> None:
    collate = MultiViewCollateFunction([View(RandomResizedCrop(8))], seed=0, mode="L")
    figure = collate.show(photographs(1, 16))
    assert [image.shape for image in pixels(figure)] == [(16, 16), (8, 8)]
    drawn = [axes.images[0] for axes in figure.axes]
    assert [image.get_cmap().name for image in drawn] == ["gray", "gray"]
    assert [image.get_clim() for image in drawn] == [(0, 255), (0, 1)]


def test_the_outline_of_a_view_is_where_its_matrix_says() -> None:
    whole = [(-0.5, -0.5), (-0.5, 15.5), (23.5, -0.5), (23.5, 15.5)]
    middle = [(7.5, 3.5), (7.5, 11.5), (15.5, 3.5), (15.5, 11.5)]  # 8 of the columns 0 to 23 and of the rows 0 to 15
    views = [
        View(CenterCrop(8)),
        View(CenterCrop(8), RandomHorizontalFlip(1.0), RandomRotation90(1.0)),
        View(Resize((5, 7))),
        View(Resize((32, 48)), CenterCrop(16), Resize((9, 9))),
    ]
    figure = MultiViewCollateFunction(views, seed=0, engine="reference").show([torch.rand(3, 16, 24)])
    image, *cells = figure.axes
    assert outlines(image) == [middle, middle, whole, middle]
    assert colours(image, Polygon) == [colour for axes in cells for colour in colours(axes, Rectangle)]
    assert len(set(colours(image, Polygon))) == 4
    assert not any(outlines(axes) for axes in cells)


def test_outlines_are_of_the_image_in_the_same_row_and_turn_with_the_view() -> None:
    turn = View(RandomRotation((45, 45), p=1.0), CenterCrop(8))
    collate = MultiViewCollateFunction([turn], seed=0, engine="reference")
    figure = collate.show([torch.rand(3, 16, 16), torch.rand(3, 20, 30)])
    half = 4 * 2**0.5  # half a diagonal of the square of 8 pixels
    for axes, (x, y) in zip(figure.axes[::2], ((7.5, 7.5), (14.5, 9.5)), strict=True):
        corners = [(x - half, y), (x, y - half), (x, y + half), (x + half, y)]
        np.testing.assert_allclose(np.array(outlines(axes)[0]), corners, atol=2e-3)


def test_views_that_share_a_region_share_its_outline_in_dashes() -> None:
    views = [View(CenterCrop(8)), View(Resize(16)), View(CenterCrop(8), RandomHorizontalFlip(1.0))]
    figure = MultiViewCollateFunction(views, seed=0, engine="reference").show([torch.rand(3, 16, 24)])
    first, alone, second = (patch for patch in figure.axes[0].patches if isinstance(patch, Polygon))
    assert alone.get_linestyle() in ("-", "solid")
    assert np.array_equal(first.get_xy(), second.get_xy())
    dashes = [patch.get_linestyle() for patch in (first, second)]
    assert dashes == [(0, (8, 8)), (8, (8, 8))]


def test_a_view_without_a_matrix_has_no_outline() -> None:
    views = [View(Resize((8, 8)), K.RandomAffine(degrees=20.0, p=1.0)), View(CenterCrop(8))]
    figure = MultiViewCollateFunction(views, seed=0, engine="reference").show([torch.rand(3, 16, 24)])
    image, moved, cut = figure.axes
    assert len(outlines(image)) == 1
    assert colours(image, Polygon) == colours(cut, Rectangle)
    assert colours(moved, Rectangle) == colours(image, Rectangle)  # the plain frame


def test_views_are_drawn_at_their_relative_sizes() -> None:
    figure = of_sizes(224, 96).show(photographs(2, 64))
    for _, large, small in np.array(boxes(figure)).reshape(2, 3, 4):
        width, height = large[2:] - large[:2]
        assert width == pytest.approx(height)
        np.testing.assert_allclose(small[2:] - small[:2], np.array([width, height]) * 96 / 224, rtol=1e-3)
        assert large[3] == pytest.approx(small[3])  # their tops


def test_many_views_of_one_size_are_a_grid_in_one_cell_row_by_row() -> None:
    collate = of_sizes(32, *[16] * 9)
    images = photographs(2, 64)
    figure = collate.show(images)
    made = [view.permute(0, 2, 3, 1).numpy() for view in collate(images).to("cpu")]
    assert [len(axes.images) for axes in figure.axes] == [1, 1, 9] * 2
    shown = pixels(figure)
    for row in range(2):
        for i, view in enumerate(made):
            assert np.array_equal(shown[11 * row + 1 + i], view[row])
    patches = np.array(boxes(figure)).reshape(2, 11, 4)[:, 2:].reshape(2, 3, 3, 4)
    assert (patches[:, :, 1:, 0] > patches[:, :, :-1, 2]).all()  # left to right, and they do not touch
    assert (patches[:, 1:, :, 3] < patches[:, :-1, :, 1]).all()  # top to bottom
    np.testing.assert_allclose(patches[:, :, :, 0].std(axis=(0, 1)), 0, atol=1e-6)  # in columns
    width, height = figure.get_size_inches()
    assert width < 2 * height
    assert len(outlines(figure.axes[0])) == 10
    assert colours(figure.axes[0], Polygon)[1:] == colours(figure.axes[2], Rectangle)


def test_few_views_have_a_cell_each() -> None:
    figure = of_sizes(*[16] * 7).show(photographs(1, 64))
    assert [len(axes.images) for axes in figure.axes] == [1] * 8


def test_a_grid_has_a_title_and_heads_above_its_columns() -> None:
    def written(**options: Any) -> list[str]:
        figure = collate.show(photographs(2, 32), **options)
        return [text.get_text() for text in figure.findobj(Text) if text in figure.texts and text.get_text()]

    collate = of_sizes(16, 8)
    assert written() == ["image", "view 0", "view 1"]
    assert written(heads=["large", "small"]) == ["image", "large", "small"]
    assert sorted(written(title="SimCLR, 16 pixels", draws=2)) == sorted(
        ["SimCLR, 16 pixels", *["image", "view 0", "view 1"] * 2]
    )
    collate = of_sizes(16, *[8] * 9)
    assert written() == ["image", "view 0", "views 1–9"]
    assert written(heads=list("abcdefghij")) == ["image", "a", "b … j"]


def test_draws_are_batches_side_by_side() -> None:
    collate, images = of_sizes(16, 8), photographs(2, 32)
    shown = pixels(collate.show(images, draws=2))
    first, second = (collate(images).to("cpu") for _ in range(2))
    made = [*first, *second]
    for row in range(2):
        for column, view in zip((1, 2, 4, 5), made, strict=True):
            assert np.array_equal(shown[6 * row + column], view[row].permute(1, 2, 0).numpy())


def test_rows_have_one_height_whatever_their_captions() -> None:
    view = View(RandomResizedCrop(16), ColorJitter(0.4, 0.4, 0.4, 0.1, p=0.5), RandomGaussianBlur(p=0.5))
    figure = MultiViewCollateFunction([view], seed=0, engine="reference").show(photographs(5, 32))
    assert len({title.count("\n") for title in titles(figure)}) > 1
    tops = np.array(boxes(figure))[1::2, 3]
    np.testing.assert_allclose(np.diff(tops, n=2), 0, atol=1e-6)
    # captions stay in their rows and columns
    texts = [axes.title.get_window_extent() for axes in figure.axes[1::2]]
    assert all(text.y0 > top for text, top in zip(texts, tops[1:], strict=False))
    assert all(figure.bbox.x0 < text.x0 and text.x1 < figure.bbox.x1 for text in texts)


def test_neighbours_with_names_are_framed_by_class() -> None:
    images = [np.full((4, 4, 3), i, dtype=np.uint8) for i in range(3)]
    figure = neighbours(images, at_angles(0, 10, 60), names=["ant", "ant", "bee"], queries=1, title="MoCo")
    assert titles(figure) == ["ant", "ant\n0.98", "bee\n0.50"]
    assert figure.get_suptitle() == "MoCo"
    (same,), (other,) = (colours(axes, Rectangle) for axes in figure.axes[1:])
    green, red = to_rgb(same), to_rgb(other)
    assert green[1] > max(green[0], green[2])
    assert red[0] > max(red[1], red[2])


def test_neighbours_have_captions_above_their_names_and_long_ones_are_shortened() -> None:
    images = [np.full((4, 4, 3), i, dtype=np.uint8) for i in range(2)]
    files = ["IMG_20240131_120000_0031.jpg", "b.jpg"]
    assert titles(neighbours(images, at_angles(0, 60), captions=files)) == [
        *("IMG_2024013…0_0031.jpg", "b.jpg\n0.50"),
        *("b.jpg", "IMG_2024013…0_0031.jpg\n0.50"),
    ]
    assert titles(neighbours(images, at_angles(0, 60), captions=files, names=["ant", "bee"], queries=1)) == [
        "IMG_2024013…0_0031.jpg\nant",
        "b.jpg\nbee\n0.50",
    ]


def test_a_title_that_is_wider_than_the_figure_is_wrapped() -> None:
    images = [np.full((4, 4, 3), i, dtype=np.uint8) for i in range(2)]
    title = "resnet10 trained with moco: images of photos and their nearest neighbours, green if of the same class"
    figure = neighbours(images, at_angles(0, 10), title=title)
    assert figure.get_suptitle().replace("\n", " ") == title
    figure.draw_without_rendering()
    words = next(text for text in figure.texts if text.get_text() == figure.get_suptitle()).get_window_extent()
    assert words.x1 <= figure.bbox.x1
    assert words.y0 >= max(axes.get_window_extent().y1 for axes in figure.axes)


def test_large_photographs_are_shrunk_and_those_that_are_not_drawn_are_not_read(tmp_path: Path) -> None:
    large = tmp_path / "large.png"
    Image.new("RGB", (2400, 1600), "red").save(large)
    images = [large, large, tmp_path / "unread.png"]
    figure = neighbours(images, at_angles(0, 10, 90), queries=1, count=1)
    assert [image.shape for image in pixels(figure)] == [(534, 800, 3)] * 2  # a third, rounded up
    figure = embedding(at_angles(0, 120, 240), torch.tensor([0, 0, 0]), ["ant"], images=[large] * 3)
    assert {image.shape for image in pixels(figure)} == {(534, 800, 3)}


def test_an_embedding_has_a_colour_and_a_name_for_each_label() -> None:
    labels = torch.tensor([0] * 5 + [2] * 3 + [1] * 7)
    figure = embedding(torch.randn(15, 4, generator=torch.Generator().manual_seed(0)), labels, ["ant", "bee", "cat"])
    (axes,) = figure.axes
    groups = {str(group.get_label()): np.asarray(group.get_offsets()) for group in axes.collections}
    assert {name: len(group) for name, group in groups.items()} == {"ant": 5, "bee": 7, "cat": 3}
    assert len({tuple(np.asarray(group.get_facecolor())[0]) for group in axes.collections}) == 3
    for text in axes.texts:  # at the median
        np.testing.assert_allclose(text.get_position(), np.median(groups.pop(text.get_text()), axis=0))
    assert not groups


def test_images_without_a_label_are_gray_points() -> None:
    labels = torch.tensor([-1, 0, 1, -1, 0, -1])
    (axes,) = embedding(torch.randn(6, 4), labels, ["a", "b"]).axes
    colours_of = [to_hex(np.asarray(points.get_facecolor())[0]) for points in axes.collections]
    counts = [len(np.asarray(points.get_offsets())) for points in axes.collections]
    drawn = dict(zip(colours_of, counts, strict=True))
    assert sorted(drawn.values()) == [1, 2, 3]
    assert drawn["#bbbbbb"] == 3


def test_an_embedding_names_many_classes_in_a_legend() -> None:
    names = [f"class {i}" for i in range(20)]
    figure = embedding(
        torch.randn(40, 4, generator=torch.Generator().manual_seed(0)), torch.arange(20).repeat(2), names
    )
    (axes,) = figure.axes
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == names
    assert not axes.texts
    lab = rgb2lab([to_rgb(np.asarray(group.get_facecolor())[0]) for group in axes.collections] + [(1.0, 1.0, 1.0)])
    differences = deltaE_ciede2000(lab[:, None], lab[None]) + 100 * np.eye(21)  # type: ignore[no-untyped-call]
    assert differences.min() > 16


def test_more_than_twenty_classes_have_a_colour_each() -> None:
    labels = torch.arange(25).repeat(2)
    figure = embedding(
        torch.randn(50, 4, generator=torch.Generator().manual_seed(0)), labels, list(map(str, range(25)))
    )
    assert len({tuple(np.asarray(group.get_facecolor())[0]) for group in figure.axes[0].collections}) == 25


def test_embeddings_are_drawn_side_by_side() -> None:
    before = torch.randn(12, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(3).repeat(4)
    after = torch.nn.functional.one_hot(labels, 4) + 0.01 * before
    names, heads = ["ant", "bee", "cat"], ["untrained, 64 %", "trained, 78 %"]
    figure = embedding([before, after], labels, names, title="MoCo", titles=heads)
    assert figure.get_suptitle() == "MoCo"
    assert titles(figure) == heads
    assert figure.axes[0].get_position().x1 < figure.axes[1].get_position().x0
    for axes, features in zip(figure.axes, (before, after), strict=True):
        (alone,) = embedding(features, labels, names).axes
        for found, wanted in zip(axes.collections, alone.collections, strict=True):
            assert np.array_equal(np.asarray(found.get_offsets()), np.asarray(wanted.get_offsets()))
    with pytest.raises(ValueError, match="titles must be one for each of 2 features, got 1"):
        embedding([before, after], labels, names, titles=["untrained"])


def test_an_embedding_shows_images_at_their_places() -> None:
    labels = torch.arange(3).repeat(10)
    features = at_angles(*(120.0 * labels + torch.arange(30)).tolist())
    images = [np.full((4, 4, 3), i, dtype=np.uint8) for i in range(30)]
    (axes,) = embedding(features, labels, ["ant", "bee", "cat"], images=images).axes
    groups = [iter(np.asarray(group.get_offsets())) for group in axes.collections]
    places = [next(groups[label]) for label in labels.tolist()]
    assert len(axes.images) >= 3
    centres = []
    for image, frame in zip(axes.images, colours(axes, Rectangle), strict=True):
        number = int(np.asarray(image.get_array())[0, 0, 0])
        left, right, bottom, top = image.get_extent()
        centres.append(((left + right) / 2, (bottom + top) / 2))
        np.testing.assert_allclose(centres[-1], places[number], atol=1e-6)
        assert frame == to_hex(np.asarray(axes.collections[number % 3].get_facecolor())[0])
    apart = np.abs(np.array(centres)[:, None] - np.array(centres)).max(2) + 9 * np.eye(len(centres))
    assert apart.min() > 0.1  # more than the side of an image


def test_an_embedding_keeps_groups_apart() -> None:
    centres = at_angles(0, 120, 240).repeat_interleave(10, 0)
    features = centres + 0.01 * torch.randn(30, 2, generator=torch.Generator().manual_seed(0))
    figure = embedding(features, torch.arange(3).repeat_interleave(10), ["ant", "bee", "cat"])
    places = [np.asarray(group.get_offsets()) for group in figure.axes[0].collections]
    middles = np.stack([group.mean(0) for group in places])
    for label, group in enumerate(places):
        nearest = np.linalg.norm(group[:, None] - middles, axis=2).argmin(1)
        assert (nearest == label).all()


def test_a_confusion_matrix_shows_counts_and_shares_of_rows() -> None:
    counts = torch.tensor([[6, 2, 0], [1, 0, 3], [0, 0, 0]])  # no image of the last class
    axes, scale = confusion(counts, ["cat", "dog", "owl"], title="kNN").axes
    shares = np.asarray(axes.images[0].get_array())
    np.testing.assert_allclose(shares, np.array([[0.75, 0.25, 0], [0.25, 0, 0.75], [0, 0, 0]]))
    written = {text.get_position(): text.get_text() for text in axes.texts}
    assert written == {(0, 0): "6", (1, 0): "2", (0, 1): "1", (2, 1): "3"}, "by (predicted, true); zeros are left out"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cat", "dog", "owl"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "true")
    assert scale.get_ylabel() == "share of the true class"


def test_a_confusion_matrix_of_many_classes_has_names_that_fit() -> None:
    axes = confusion(torch.eye(120).long(), [f"class {i}" for i in range(120)]).axes[0]
    assert not axes.texts
    assert [label.get_text() for label in axes.get_xticklabels()][:3] == ["class 0", "class 2", "class 4"]


def test_a_confusion_matrix_of_other_classes_is_refused() -> None:
    with pytest.raises(ValueError, match=r"confusion: counts must be \(c, c\) for c = 3 classes, got \(2, 2\)"):
        confusion(torch.eye(2), ["cat", "dog", "owl"])


def test_a_label_curve_shows_means_between_the_lowest_and_the_highest_draw() -> None:
    values = np.array([[0.2, 0.4, 0.3], [0.8, 0.6, 0.7]])
    axes = label_curve([1, 10], {"kNN": values, "linear": values + 0.1}, chance=0.1, title="few labels").axes[0]
    knn, linear, chance = axes.lines
    np.testing.assert_allclose(np.asarray(knn.get_xydata()), [[1, 0.3], [10, 0.7]])
    np.testing.assert_allclose(np.asarray(linear.get_ydata()), [0.4, 0.8])
    assert np.ravel(chance.get_ydata()).tolist() == [0.1, 0.1]
    band = np.asarray(axes.collections[0].get_paths()[0].vertices)
    for corner in ([1, 0.2], [1, 0.4], [10, 0.6], [10, 0.8]):
        assert np.isclose(band, corner).all(1).any(), corner
    assert axes.get_xscale() == "log"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "10"]
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["kNN", "linear"]


def test_a_label_curve_of_other_numbers_is_refused() -> None:
    with pytest.raises(ValueError, match=r"label_curve: kNN must be \(2, draws\), got \(3, 4\)"):
        label_curve([1, 10], {"kNN": np.zeros((3, 4))})


def test_an_embedding_of_one_image_is_a_point_in_the_middle() -> None:
    axes = embedding(torch.ones(1, 8), torch.tensor([0]), ["cat"]).axes[0]
    assert np.asarray(axes.collections[0].get_offsets()).tolist() == [[0.0, 0.0]]


def test_ticks_of_a_label_curve_do_not_touch() -> None:
    axes = label_curve([1, 2, 50, 60], {"kNN": np.full((4, 2), 0.5)}).axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "2", "60"]
    assert len(np.asarray(axes.lines[0].get_xdata())) == 4


def test_an_embedding_needs_no_labels() -> None:
    features = at_angles(*range(0, 360, 12))
    images = [np.full((4, 4, 3), i, dtype=np.uint8) for i in range(30)]
    (axes,) = embedding(features, images=images).axes
    (points,) = axes.collections
    assert len(np.asarray(points.get_offsets())) == 30
    assert len(points.get_facecolor()) == 1
    assert set(colours(axes, Rectangle)) == {"#bbbbbb"}
    assert not axes.texts


def test_an_embedding_has_a_colour_for_each_number_and_a_bar_that_says_which() -> None:
    values = torch.arange(30.0) / 10 - 1
    images = [np.full((4, 4, 3), i, dtype=np.uint8) for i in range(30)]
    figure = embedding(at_angles(*range(0, 360, 12)), values=values, value_name="loss", images=images)
    axes, bar = figure.axes
    figure.draw_without_rendering()
    (points,) = axes.collections
    assert np.asarray(points.get_array()).tolist() == values.tolist()
    assert len({tuple(colour) for colour in np.asarray(points.get_facecolor())}) == 30
    assert bar.get_ylabel() == "loss"
    assert bar.get_ylim() == pytest.approx((-1, 1.9))
    shown = [int(np.asarray(image.get_array())[0, 0, 0]) for image in axes.images]
    assert colours(axes, Rectangle) == [to_hex(np.asarray(points.get_facecolor())[i]) for i in shown]


def test_images_of_an_embedding_leave_no_points_far_from_them() -> None:
    features = torch.randn(200, 8, generator=torch.Generator().manual_seed(0))
    (axes,) = embedding(features, images=[np.zeros((2, 2, 3), dtype=np.uint8)] * 200).axes
    centres = np.array([np.mean([image.get_extent()[:2], image.get_extent()[2:]], 1) for image in axes.images])
    places = np.asarray(axes.collections[0].get_offsets())
    assert np.abs(places[:, None] - centres).max(2).min(1).max() < 0.23


def test_an_embedding_of_a_collapsed_network_is_one_point() -> None:
    (axes,) = embedding(torch.ones(8, 4)).axes
    assert np.asarray(axes.collections[0].get_offsets()).tolist() == [[0.0, 0.0]] * 8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": torch.zeros(3).long(), "values": torch.zeros(3), "classes": ["a"]}, "give one of them"),
        ({"labels": torch.tensor([0, 1, 2]), "classes": ["a", "b"]}, "labels must be from -1 .* to 1.* got 0 to 2"),
        ({"labels": torch.tensor([0, -2, 1]), "classes": ["a", "b"]}, "labels must be from -1 .* to 1.* got -2 to 1"),
        ({"labels": torch.zeros(2).long(), "classes": ["a"]}, r"labels must be one for each of 3 images, got \(2,\)"),
        ({"classes": ["a"]}, "classes are names of labels, got 1 and no labels"),
        ({"values": torch.zeros(3, 1)}, r"values must be one for each of 3 images, got \(3, 1\)"),
        ({"values": torch.tensor([0, float("nan"), 1])}, "values must be finite"),
        ({"images": [torch.rand(3, 4, 4)] * 2}, "images must be one for each of 3 features, got 2"),
    ],
)
def test_what_does_not_belong_to_an_embedding_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        embedding(torch.rand(3, 4), **options)


def test_features_that_cannot_be_embedded_are_refused() -> None:
    with pytest.raises(ValueError, match=r"features must be \(3, d\) with d >= 2, got \(2, 4\)"):
        embedding([torch.rand(3, 4), torch.rand(2, 4)])
    with pytest.raises(ValueError, match="features must be finite"):
        embedding(torch.full((3, 4), float("inf")))
    with pytest.raises(ValueError, match="features must be one tensor or more, got none"):
        embedding([])
    for wrong in (torch.rand(8, 1), torch.tensor(1.0)):  # directions of one number are no map
        with pytest.raises(ValueError, match=r"features must be \(\d, d\) with d >= 2, got"):
            embedding(wrong)
