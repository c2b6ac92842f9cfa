"""The random numbers, and what each operation draws with them."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from helpers.cases import noise, packed, seeds
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats
from torchvision.transforms import v2

from lightly_aug import (
    CenterCrop,
    Color,
    ColorJitter,
    Crop,
    Indexed,
    MultiViewCollateFunction,
    Normalize,
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
    Shape,
    Shared,
    Texture,
    View,
)
from lightly_aug.operations import JITTER_ORDERS, Operation
from lightly_aug.philox import philox, uniforms

UNLIKELY = 1e-4  # seeds are fixed, so a test that passes once passes always

Columns = dict[str, npt.NDArray[np.float64]]


def drawn(operation: Operation, count: int = 20_000, height: int = 64, width: int = 64, seed: int = 0) -> Columns:
    """The numbers that `count` images of one size draw, by column."""
    view, keys = View(operation), np.arange(count, dtype=np.uint64)
    u = uniforms(seed, 0, keys, [0], view.uniforms)[0]
    table, _, _ = view.draw(u, np.full(count, height), np.full(count, width))
    return {name.split(".")[1]: column for name, column in zip(view.columns, table.T, strict=True)}


# --- random numbers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [  # kat_vectors of Random123
        ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_philox_gives_the_published_vectors(counter: str, key: str, expected: str) -> None:
    c0, c1, c2, c3 = (int(word, 16) for word in counter.split())
    k0, k1 = (int(word, 16) for word in key.split())
    even, odd = np.array([[c0], [c2]], dtype=np.uint64), np.array([[c1], [c3]], dtype=np.uint64)
    philox(even, odd, (k0, k1))
    assert [f"{int(word[0]):08x}" for word in (even[0], odd[0], even[1], odd[1])] == expected.split()


keys_of_images = st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=8, unique=True)


@given(seed=st.integers(-(2**70), 2**70), epoch=st.integers(0, 2**32 - 1), keys=keys_of_images, data=st.data())
def test_a_number_depends_neither_on_its_neighbours_nor_on_how_many_are_drawn(
    seed: int, epoch: int, keys: list[int], data: st.DataObject
) -> None:
    view, count = data.draw(st.integers(0, 65_535)), data.draw(st.integers(0, 40))
    images = np.array(keys, dtype=np.uint64)
    (whole,) = uniforms(seed, epoch, images, [view], 40)
    assert whole.shape == (len(keys), 40)
    assert ((whole >= 0) & (whole < 1)).all()
    assert (whole == whole.astype(np.float32)).all()
    some = data.draw(st.permutations(range(len(keys))))[: data.draw(st.integers(1, len(keys)))]
    others = [*data.draw(st.lists(st.integers(0, 65_535), max_size=3)), view]  # of other views
    part = uniforms(seed, epoch, images[some], others, count)
    assert part.shape == (len(others), len(some), count)
    np.testing.assert_array_equal(part[-1], whole[some, :count])


@given(
    place=st.tuples(*(st.integers(0, 2**bits - 1) for bits in (64, 32, 64, 16))),
    flipped=st.tuples(*(st.integers(0, bits - 1) for bits in (64, 32, 64, 16))),
)
def test_every_bit_of_seed_epoch_image_and_view_counts(
    place: tuple[int, int, int, int], flipped: tuple[int, int, int, int]
) -> None:
    others = [(*place[:i], place[i] ^ 1 << flipped[i], *place[i + 1 :]) for i in range(4)]
    numbers, *rest = (
        set(uniforms(seed, epoch, np.array([key], dtype=np.uint64), [view], 64).ravel())
        for seed, epoch, key, view in (place, *others)
    )
    assert all(len(numbers & other) < 3 for other in rest)


@pytest.mark.parametrize("axis", ["image", "epoch", "view", "column", "seed"])
def test_numbers_are_uniform_and_uncorrelated_along_every_axis(axis: str) -> None:
    n, keys = 5_000, np.arange(5_000, dtype=np.uint64)
    one = keys[:1]
    along: dict[str, Callable[[], npt.NDArray[np.float64]]] = {
        "image": lambda: uniforms(7, 3, keys, [1], 1),
        "epoch": lambda: np.concatenate([uniforms(7, epoch, one, [1], 1) for epoch in range(n)]),
        "view": lambda: uniforms(7, 3, one, range(n), 1),
        "column": lambda: uniforms(7, 3, one, [1], n),
        "seed": lambda: np.concatenate([uniforms(seed, 3, one, [1], 1) for seed in range(n)]),
    }
    u = along[axis]().ravel()
    assert stats.kstest(u, "uniform").pvalue > UNLIKELY
    for lag in (1, 2, 4):
        assert abs(np.corrcoef(u[:-lag], u[lag:])[0, 1]) < 5 / math.sqrt(n)


# --- probabilities and ranges -----------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [0.0, 0.01, 0.2, 0.5, 0.8, 1.0])
@pytest.mark.parametrize(
    ("make", "column"),
    [
        (RandomHorizontalFlip, "applied"),
        (RandomVerticalFlip, "applied"),
        (RandomGrayscale, "applied"),
        (lambda p: RandomSolarize(p=p), "applied"),
        (lambda p: RandomSolarize((0.2, 0.7), p), "applied"),
        (RandomEqualize, "applied"),
        (lambda p: ColorJitter(0.4, 0.4, 0.4, 0.1, p=p), "applied"),
        (lambda p: RandomGaussianBlur((0.1, 2), p=p), "sigma"),
        (lambda p: RandomRotation((1, 20), p=p), "degrees"),
    ],
)
def test_every_p_is_the_frequency_with_which_it_happens(
    make: Callable[[float], Operation], column: str, p: float
) -> None:
    happened = int((drawn(make(p))[column] != 0).sum())
    assert stats.binomtest(happened, 20_000, p).pvalue > UNLIKELY


@pytest.mark.parametrize("p", [0.3, 1.0])
def test_quarter_turns_are_uniform(p: float) -> None:
    counts = np.bincount(drawn(RandomRotation90(p))["turns"].astype(int), minlength=4)
    shares = np.array([1 - 0.75 * p, *[p / 4] * 3])
    assert stats.chisquare(counts, 20_000 * shares).pvalue > UNLIKELY


@pytest.mark.parametrize(
    ("operation", "column", "low", "high"),
    [
        (ColorJitter(0.4, 0, 0, 0), "brightness", 0.6, 1.4),
        (ColorJitter(1.5, 0, 0, 0), "brightness", 0, 2.5),
        (ColorJitter(0, (0.5, 0.7), 0, 0), "contrast", 0.5, 0.7),
        (ColorJitter(0.1, 0.2, 0.3, 0.4), "saturation", 0.7, 1.3),
        (ColorJitter(0, 0, 0, 0.2), "hue", -0.2, 0.2),
        (ColorJitter(0, 0, 0, (0.1, 0.5)), "hue", 0.1, 0.5),
        (RandomGaussianBlur((0.1, 2.0), p=1), "sigma", 0.1, 2.0),
        (RandomRotation(30), "degrees", -30, 30),
        (RandomSolarize((0.0, 1.0), 0.2), "threshold", 0, 1),
        (RandomSolarize((0.2, 0.7), 0.2), "threshold", 0.2, 0.7),
        (ColorJitter(0.4, convention="tensorflow"), "brightness", 0.6, 1.4),
        (RandomRotation((10, 350)), "degrees", 10, 350),
    ],
)
def test_ranges_are_filled_uniformly(operation: Operation, column: str, low: float, high: float) -> None:
    values = drawn(operation)[column]
    assert low <= values.min() <= values.max() <= high
    assert stats.kstest(values, "uniform", (low, high - low)).pvalue > UNLIKELY


def test_the_numbers_of_one_draw_are_uncorrelated() -> None:
    view, keys = View(Shape(8, degrees=10), Color(jitter=1), Texture(blur=1)), np.arange(20_000, dtype=np.uint64)
    u = uniforms(0, 0, keys, [0], view.uniforms)[0]
    table, _, _ = view.draw(u, np.full(20_000, 99), np.full(20_000, 80))
    table = table[:, (table.std(axis=0) > 0)]
    correlation = np.corrcoef(table.T) - np.eye(table.shape[1])
    crop = [name.startswith("RandomResizedCrop") for name in view.columns][: len(correlation)]
    correlation[np.ix_(crop, crop)] = 0  # the sides of a box depend on each other
    assert np.abs(correlation).max() < 5 / math.sqrt(20_000)


def test_color_jitter_uses_all_24_orders_equally() -> None:
    assert len(set(JITTER_ORDERS)) == 24
    assert all(sorted(order) == ["brightness", "contrast", "hue", "saturation"] for order in JITTER_ORDERS)
    counts = np.bincount(drawn(ColorJitter(0.4, 0.4, 0.4, 0.1))["order"].astype(int), minlength=24)
    assert stats.chisquare(counts).pvalue > UNLIKELY


def test_color_jitter_that_does_not_happen_is_neutral() -> None:
    columns = drawn(ColorJitter(0.4, 0.4, 0.4, 0.1, p=0.5))
    idle = columns["applied"] == 0
    assert [set(columns[c][idle]) for c in ("brightness", "contrast", "saturation", "hue")] == [{1}, {1}, {1}, {0}]


def test_the_threshold_of_a_solarization_does_not_depend_on_whether_it_happens() -> None:
    columns = drawn(RandomSolarize((0.0, 1.0), 0.5))
    assert abs(np.corrcoef(columns["applied"], columns["threshold"])[0, 1]) < 5 / math.sqrt(20_000)
    assert set(drawn(RandomSolarize(0.3))["threshold"]) == {0.3}


# --- jigsaws ----------------------------------------------------------------------------------------------------


def jigsaw(grid: int, size: tuple[int, int], height: int, width: int, count: int = 20_000) -> list[Columns]:
    """The draws of the patches 0 to grid**2 - 1 when they share their random numbers."""
    (u,) = uniforms(0, 0, np.arange(count, dtype=np.uint64), [0], 3 * grid**2)
    sides = np.full(count, height), np.full(count, width)
    patches = [RandomJigsawPatch(size, number, grid) for number in range(grid**2)]
    return [dict(zip(patch.columns, patch.draw(u, *sides).T, strict=True)) for patch in patches]


@pytest.mark.parametrize("grid", [2, 3])
def test_the_patches_of_a_jigsaw_are_every_cell_once_in_any_order(grid: int) -> None:
    cells = np.stack([columns["cell"] for columns in jigsaw(grid, (5, 4), 40, 50)], axis=1)
    assert (np.sort(cells, axis=1) == np.arange(grid**2)).all()
    if grid == 2:  # all 24 orders
        _, counts = np.unique(cells, axis=0, return_counts=True)
        assert len(counts) == 24
        assert stats.chisquare(counts).pvalue > UNLIKELY
    for number in range(grid**2):
        assert stats.chisquare(np.bincount(cells[:, number].astype(int), minlength=grid**2)).pvalue > UNLIKELY


def test_patches_are_uniform_in_their_cells_and_uncorrelated() -> None:
    drawn = jigsaw(3, (10, 7), 41, 44)  # cells of 13 x 14
    places = []
    for columns in drawn:
        down, along = columns["top"] - columns["cell"] // 3 * 13, columns["left"] - columns["cell"] % 3 * 14
        for place, count in ((down, 4), (along, 8)):
            assert set(place) == set(range(count))
            assert stats.chisquare(np.bincount(place.astype(int))).pvalue > UNLIKELY
        places += [down, along, columns["cell"]]
    correlation = np.corrcoef(np.stack(places)) - np.eye(27)
    correlation[2::3, 2::3] = 0  # two numbers never have one cell
    assert np.abs(correlation).max() < 5 / math.sqrt(20_000)


@pytest.mark.parametrize(("side", "size", "offset"), [(9, 4, 0), (9, 5, -1), (9, 6, -1), (2, 3, -1), (2, 4, -2)])
def test_a_patch_larger_than_its_cell_is_centred_on_it(side: int, size: int, offset: int) -> None:
    for columns in jigsaw(3, (size, 1), side, 9, 100):
        expected = columns["cell"] // 3 * (side // 3) + offset
        if size > side // 3:
            np.testing.assert_array_equal(columns["top"], expected)


# --- crops ------------------------------------------------------------------------------------------------------


def torchvision_boxes(
    count: int, height: int, width: int, scale: tuple[float, float], ratio: tuple[float, float]
) -> npt.NDArray[np.float64]:
    """(count, 4) top, left, height, width."""
    image, transform = torch.empty(1, height, width), v2.RandomResizedCrop(8, scale=scale, ratio=ratio, antialias=True)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        params = [transform.make_params([image]) for _ in range(count)]
    return np.array([[p["top"], p["left"], p["height"], p["width"]] for p in params], dtype=np.float64)


def boxes(operation: RandomResizedCrop, count: int, height: int, width: int) -> npt.NDArray[np.float64]:
    return np.stack(list(drawn(operation, count, height, width).values()), axis=1)


@pytest.mark.parametrize("scale", [(0.08, 1.0), (0.2, 1.0), (0.05, 0.14), (0.9, 1.0)])
@pytest.mark.parametrize("shape", [(224, 224), (375, 500), (640, 427), (30, 200), (200, 9), (5, 4), (1, 1)])
def test_crops_are_distributed_as_torchvisions(shape: tuple[int, int], scale: tuple[float, float]) -> None:
    (height, width), ratio = shape, (3 / 4, 4 / 3)
    ours = boxes(RandomResizedCrop(8, scale, ratio), 3_000, height, width)
    theirs = torchvision_boxes(1_500, height, width, scale, ratio)
    measures: list[Callable[..., npt.NDArray[np.float64]]] = [
        lambda top, left, h, w: h * w,
        lambda top, left, h, w: w / h,
        lambda top, left, h, w: top / np.maximum(1, height - h),
        lambda top, left, h, w: left / np.maximum(1, width - w),
        lambda top, left, h, w: top + left + h + w,
    ]
    for measure in measures:
        assert stats.ks_2samp(measure(*ours.T), measure(*theirs.T)).pvalue > UNLIKELY


@given(
    height=st.integers(1, 600),
    width=st.integers(1, 600),
    scale=st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)).map(sorted).map(tuple),
    ratio=st.tuples(st.floats(0.2, 5), st.floats(0.2, 5)).map(sorted).map(tuple),
    seed=seeds,
)
def test_crops_are_inside_the_image_and_in_range(
    height: int, width: int, scale: tuple[float, float], ratio: tuple[float, float], seed: int
) -> None:
    columns = drawn(RandomResizedCrop(8, scale, ratio), 50, height, width, seed)
    top, left, h, w = (columns[name] for name in ("top", "left", "height", "width"))
    assert all((column == np.rint(column)).all() for column in columns.values())
    assert ((top >= 0) & (left >= 0) & (h >= 1) & (w >= 1) & (top + h <= height) & (left + w <= width)).all()
    # sides are rounded to whole pixels: some box within half a pixel has an area and a ratio in range
    possible = ((h - 0.5) * (w - 0.5) <= scale[1] * height * width) & ((w - 0.5) / (h + 0.5) <= ratio[1])
    possible &= ((h + 0.5) * (w + 0.5) >= scale[0] * height * width) & ((w + 0.5) / (h - 0.5) >= ratio[0])
    fallback = torchvision_boxes(1, height, width, (4, 4), ratio)[0]
    assume(fallback[2:].min() > 0)  # torchvision makes empty boxes of very thin images
    assert (possible | (np.stack([top, left, h, w], axis=1) == fallback).all(axis=1)).all()


@given(
    height=st.integers(1, 600),
    width=st.integers(1, 600),
    ratio=st.tuples(st.floats(0.05, 20), st.floats(0.05, 20)).map(sorted).map(tuple),
)
def test_the_fallback_box_is_torchvisions(height: int, width: int, ratio: tuple[float, float]) -> None:
    too_large = (4.0, 4.0)  # no try can succeed
    ours = boxes(RandomResizedCrop(8, too_large, ratio), 2, height, width)
    theirs = torchvision_boxes(1, height, width, too_large, ratio)[0]
    if theirs[2:].min() > 0:
        np.testing.assert_array_equal(ours, [theirs, theirs])
    assert ours[:, 2:].min() >= 1


# --- independent and shared draws -------------------------------------------------------------------------------


def test_every_image_and_every_view_gets_its_own_draw() -> None:
    view = View(Shape(8, degrees=10), Color(jitter=1), Texture(blur=1))
    views = MultiViewCollateFunction([view] * 3, seed=0)([noise(60, 70)] * 40)
    rows = views.table.reshape(120, -1)
    assert len(np.unique(rows.numpy(), axis=0)) == 120
    for name in ("ColorJitter.brightness", "ColorJitter.hue", "RandomGaussianBlur.sigma", "RandomRotation.degrees"):
        assert len(torch.cat([draws[name] for draws in views.draws]).unique()) > 115


def test_operations_of_the_same_kind_draw_independently() -> None:
    views = packed([RandomHorizontalFlip(), RandomHorizontalFlip(), RandomHorizontalFlip()], [noise(2, 2)] * 200)
    names = [f"RandomHorizontalFlip{suffix}.applied" for suffix in ("", "_2", "_3")]
    assert list(views.draws[0]) == names
    first, second, third = (views.draws[0][name] for name in names)
    assert 60 < (first != second).sum() < 140
    assert 60 < (second != third).sum() < 140


@given(seed=seeds, shapes=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=2, max_size=5))
def test_a_draw_does_not_depend_on_the_size_of_its_neighbours(seed: int, shapes: list[tuple[int, int]]) -> None:
    operations = [RandomResizedCrop(4), RandomRotation(9, 0.5), RandomGaussianBlur()]
    images = [noise(*shape) for shape in shapes]
    together = packed(operations, images, seed, list(range(len(images)))).table
    for i, image in enumerate(images):
        assert torch.equal(packed(operations, [image], seed, [i]).table[:, 0], together[:, i])


SHARED: tuple[Shape, Color, Texture] = (Shape(8), Color(jitter=1), Texture(blur=1))


def test_shared_items_draw_once_for_an_image_and_others_independently() -> None:
    shape, color, texture = SHARED
    views = [View(), View(Shared("c", color), shape, Shared("t", texture)), View(shape, texture, color)]
    views += [View(shape, Shared("t", texture), color), View(Shared("t", texture), Shared("c", color), shape)]
    batch = MultiViewCollateFunction(views, seed=0)([noise(60, 70)] * 200)
    draws = batch.draws
    for i, j, same in (
        *((1, 2, ""), (2, 3, ""), (2, 4, ""), (1, 3, "RandomGaussianBlur"), (3, 4, "RandomGaussianBlur")),
        (1, 4, "RandomGaussianBlur ColorJitter RandomGrayscale"),
    ):
        for name in draws[1]:
            one, other = draws[i][name], draws[j][name]
            assert torch.equal(one, other) == (name.split(".")[0] in same.split() or name == "ColorJitter.applied")
            if one.std() > 0:
                assert len(one.unique()) > 1  # every image draws its own numbers
            if not torch.equal(one, other) and name != "RandomResizedCrop.top":
                assert abs(np.corrcoef(one, other)[0, 1]) < 5 / math.sqrt(200)


def test_the_first_view_that_shares_draws_as_without_sharing() -> None:
    alone, both = (
        MultiViewCollateFunction(views, seed=3)([noise(20, 30)] * 5).table
        for views in ([View(*SHARED)] * 2, [View(Shared("all", *SHARED))] * 2)
    )
    assert torch.equal(alone[0], both[0])
    assert torch.equal(both[0], both[1])
    assert not torch.equal(alone[1], both[1])


@given(seed=seeds, order=st.permutations(range(4)))
def test_shared_draws_follow_the_image_not_the_batch(seed: int, order: list[int]) -> None:
    images = Indexed([noise(9 + i, 20 - i) for i in range(4)])
    views = [View(Shape(4), Shared("c", Color())), View(Shared("c", Color()), RandomResizedCrop(5))]
    together = MultiViewCollateFunction(views, seed=seed)([images[i] for i in order]).table
    for place, i in enumerate(order):
        assert torch.equal(MultiViewCollateFunction(views, seed=seed)([images[i]]).table[:, 0], together[:, place])


# --- wrong arguments --------------------------------------------------------------------------------------------

NAN, INF = math.nan, math.inf


WRONG: list[tuple[Callable[..., Any], dict[str, Any]]] = [  # the last argument is the wrong one
    *(
        (kind, {**others, "p": p})
        for kind, others in (
            (RandomHorizontalFlip, {}),
            (RandomVerticalFlip, {}),
            (RandomRotation90, {}),
            (RandomRotation, {"degrees": 10}),
            (RandomGrayscale, {}),
            (RandomEqualize, {}),
            (RandomSolarize, {}),
            (RandomGaussianBlur, {}),
            (ColorJitter, {}),
        )
        for p in (3, -0.1, NAN)
    ),
    *(
        (kind, {"size": size})
        for kind in (
            *(RandomResizedCrop, Resize, CenterCrop),
            partial(Crop, top=0, left=0),
            partial(RandomJigsawPatch, number=0),
        )
        for size in (0, -3, (4, -4), (4, 4, 4), 3.5, (2.0, 2), True, ())
    ),
    *((partial(Crop, 3, left=0), {"top": value}) for value in (0.5, NAN, "1", True, None)),
    *((partial(Crop, 3, 0), {"left": value}) for value in (0.5, NAN, "1", True, None)),
    *((partial(RandomJigsawPatch, 3, grid=2), {"number": value}) for value in (-1, 4, 0.5, True)),
    *((partial(RandomJigsawPatch, 3, 0), {"grid": value}) for value in (0, -1, 1.5, "3", True)),
    *((ColorJitter, {"convention": value}) for value in ("jax", None)),
    *((RandomGaussianBlur, {"border": value}) for value in ("mirror", None)),
    *((kind, {"size": 8, "interpolation": "nearest"}) for kind in (RandomResizedCrop, Resize)),
    *(
        (RandomResizedCrop, {"size": 8, field: value})
        for field in ("scale", "ratio")
        for value in ((1, 0.5), (0, 1), (-1, 1), (NAN, 1), (0.1, NAN), (0.1, INF), (0.5,), 0.5)
    ),
    *((RandomRotation, {"degrees": value}) for value in ((20, 10), -5, NAN, INF, (1, 2, 3))),
    *((RandomGaussianBlur, {"sigma": value}) for value in ((2, 1), (0, 1), (-1, 1), (NAN, NAN), (1, INF), 1.0)),
    *(
        (ColorJitter, {field: value})
        for field in ("brightness", "contrast", "saturation")
        for value in (-0.1, NAN, INF, (1.2, 0.8), (-0.5, 1), (1, INF), (1, 2, 3))
    ),
    *((ColorJitter, {"hue": value}) for value in (0.6, -0.1, NAN, (-0.6, 0), (0.2, 0.1))),
    *((RandomSolarize, {"threshold": value}) for value in (-0.1, 128, NAN, (0.5, 0.2), (0.5, 1.1), (0.1, 0.2, 0.3))),
    (Normalize, {"mean": NAN}),
    *((Normalize, {"std": value}) for value in (0, -1, INF, (1, -1, 1))),
    (View, {"dtype": torch.uint8}),
]


def named(kind: Callable[..., Any]) -> str:
    return (kind.func if isinstance(kind, partial) else kind).__name__


@pytest.mark.parametrize(
    ("kind", "arguments"),
    WRONG,
    ids=[f"{named(kind)}-{list(a)[-1]}={list(a.values())[-1]}" for kind, a in WRONG],
)
def test_wrong_arguments_are_refused_by_name_field_and_value(
    kind: Callable[..., Any], arguments: dict[str, Any]
) -> None:
    field, value = list(arguments.items())[-1]
    with pytest.raises(ValueError, match=rf"{named(kind)}: {field} .*") as caught:
        kind(**arguments)
    assert str(value) in str(caught.value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Normalize((0, 0), (1, 1, 1)), r"Normalize: mean \(0.0, 0.0\) and std \(1.0, 1.0, 1.0\) .* channels"),
        (lambda: View(Shape(8, hflip=3)), "RandomHorizontalFlip: p .* 3"),
        (lambda: View(Color(jitter=-1)), "ColorJitter: p .* -1"),
        (lambda: View(Texture(solarize=2)), "RandomSolarize: p .* 2"),
        (lambda: View(Normalize(), RandomSolarize()), r"View: RandomSolarize.* \[0, 1\], .* Normalize"),
        (lambda: View(Resize((3, 4)), RandomRotation90()), "View: RandomRotation90 .* 3x4 .* square"),
    ],
)
def test_arguments_that_contradict_each_other_are_refused_by_name(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("item", [3, "crop", v2.RandomHorizontalFlip(), torch.nn.Identity(), RandomSolarize])
def test_a_view_names_the_type_that_it_does_not_take(item: Any) -> None:
    with pytest.raises(TypeError, match=r"View: got .*(int|str|RandomHorizontalFlip|Identity|ABCMeta|type)"):
        View(item)
