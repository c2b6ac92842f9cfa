"""Equal views are drawn and lowered in one go, which changes no number."""

import pickle
import re
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from helpers.cases import noise, recipes, seeds, sizes
from hypothesis import example, given
from hypothesis import strategies as st

from lightly_aug import (
    ColorJitter,
    ImageError,
    Indexed,
    MultiViewCollateFunction,
    Operation,
    RandomGaussianBlur,
    RandomGrayscale,
    RandomHorizontalFlip,
    RandomResizedCrop,
    RandomRotation90,
    Shape,
    Shared,
    View,
    Views,
)
from lightly_aug.engines import Output
from lightly_aug.engines.plan import find_stage, plan_passes
from lightly_aug.engines.program import Program
from lightly_aug.operations import Floats, Ints


def numbers_of(seed: int, epoch: int, key: int, view: int, count: int) -> list[float]:
    """The uniform numbers of one image in one view: Philox 4x32-10 in Python's integers, block by block."""
    low, numbers = 2**32 - 1, list[float]()
    for block in range(-(-count // 4)):
        c0, c1, c2, c3 = key & low, key >> 32, epoch, view << 16 | block
        k0, k1 = seed & low, seed >> 32 & low
        for _ in range(10):
            left, right = 0xD2511F53 * c0, 0xCD9E8D57 * c2
            c0, c1, c2, c3 = right >> 32 ^ c1 ^ k0, right & low, left >> 32 ^ c3 ^ k1, left & low
            k0, k1 = k0 + 0x9E3779B9 & low, k1 + 0xBB67AE85 & low
        numbers += [(word >> 8) / 2**24 for word in (c0, c1, c2, c3)]
    return numbers[:count]


def draw_alone(view: View, numbers: list[float], size: tuple[int, int]) -> torch.Tensor:
    """What a view draws for one image by itself."""
    u = np.array(numbers).reshape(1, view.uniforms)
    drawn, _, _ = view.draw(u, np.array(size[:1]), np.array(size[1:]))
    return torch.from_numpy(drawn[0].astype(np.float32))


def drawn(views: list[View], shapes: list[tuple[int, int]], seed: int, keys: list[int]) -> Views:
    dataset = Indexed({key: noise(*shape) for key, shape in zip(keys, shapes, strict=True)})
    batch = MultiViewCollateFunction(views, seed=seed, render="late")([dataset[key] for key in keys])
    assert isinstance(batch, Views)
    return batch


@given(
    seed=seeds,
    kinds=st.lists(recipes(), min_size=1, max_size=3),
    order=st.lists(st.integers(0, 2), min_size=1, max_size=6),
    shapes=st.lists(sizes, min_size=1, max_size=3),
)
def test_every_view_of_every_image_draws_as_by_itself(
    seed: int, kinds: list[list[Operation]], order: list[int], shapes: list[tuple[int, int]]
) -> None:
    views = [View(*kinds[i % len(kinds)]) for i in order]
    keys = [7 * i + 2**33 * (i % 2) for i in range(len(shapes))]
    table = drawn(views, shapes, seed, keys).table
    for i, view in enumerate(views):
        for j, (key, shape) in enumerate(zip(keys, shapes, strict=True)):
            expected = draw_alone(view, numbers_of(seed, 0, key, i, view.uniforms), shape)
            assert torch.equal(table[i, j, : len(view.columns)], expected)
            assert not table[i, j, len(view.columns) :].any()


def test_equal_views_share_the_numbers_of_the_first_view_with_a_name() -> None:
    flip, gray = Shared("flip", RandomHorizontalFlip()), RandomGrayscale(0.5)
    views = [View(gray), View(gray, flip), View(gray), View(flip, gray), View(gray, flip)]
    keys = list(range(40))
    batch = drawn(views, [(4, 5)] * len(keys), 3, keys)
    for j, key in enumerate(keys):
        numbers = [numbers_of(3, 0, key, i, 2) for i in range(len(views))]
        shared = numbers[1][1]  # of view 1, the first with that name
        for i, gray_at, flip_at in ((1, 0, 1), (3, 1, 0), (4, 0, 1)):
            draws = {name.split(".")[0]: float(column[j]) for name, column in batch.draws[i].items()}
            expected = {"RandomGrayscale": numbers[i][gray_at] < 0.5, "RandomHorizontalFlip": shared < 0.5}
            assert draws == expected, (i, flip_at)


@dataclass(frozen=True)
class OneForAll(Operation):
    """Draws one number for all images of a batch, which an operation should not."""

    columns = ("number",)
    uniforms = 1

    def draw(self, u: Floats, height: Ints, width: Ints) -> Floats:
        return np.repeat(u[:1], len(u), axis=0)

    def apply(self, images: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
        return images


def test_an_operation_of_a_user_gets_the_images_of_one_view() -> None:
    table = drawn([View(Shape(4), OneForAll())] * 3, [(5, 6), (7, 8)], 0, [3, 4]).table
    for i in range(3):
        assert table[i, :, -1].tolist() == [numbers_of(0, 0, 3, i, 24)[-1]] * 2  # Shape takes 23


@pytest.mark.parametrize("seed", range(8))
def test_the_images_of_a_view_have_one_size_and_equal_views_may_differ(seed: int) -> None:
    views, keys = [View(RandomRotation90(1.0))] * 3, [0, 1]
    turns = drawn(views, [(5, 5)] * 2, seed, keys).table[:, :, 0] % 2  # which do not depend on the size
    wrong = [i for i in range(3) if turns[i, 0] != turns[i, 1]]
    if not wrong:
        assert [tuple(x.shape[2:]) for x in drawn(views, [(4, 6)] * 2, seed, keys)] == [
            (6, 4) if odd else (4, 6) for odd in turns[:, 0]
        ]
        return
    first, second = ("6x4", "4x6") if turns[wrong[0], 0] else ("4x6", "6x4")
    message = f"view {wrong[0]} of sample 0 (index 0) is {first} and of sample 1 (index 1) {second}: end it in one size"
    with pytest.raises(ImageError, match=re.escape(message)):
        drawn(views, [(4, 6)] * 2, seed, keys)


def test_equal_views_of_one_image_may_differ_in_size() -> None:
    shapes = set[tuple[int, ...]]()
    for seed in range(4):
        shapes.add(tuple(x.shape[2] for x in drawn([View(RandomRotation90(1.0))] * 3, [(4, 6)], seed, [0])))
    assert any(len(set(heights)) == 2 for heights in shapes)


def test_equal_views_travel_once() -> None:
    views = [View(Shape(8)) for _ in range(4)]
    batch = pickle.loads(pickle.dumps(drawn(views, [(9, 9)], 0, [0])))
    assert batch.views == tuple(views)
    assert len(set(map(id, batch.views))) == 1


COLOURS = [RandomResizedCrop(16), ColorJitter(0.4, 0.4, 0.2, 0.1, p=0.5), RandomGrayscale(0.5), RandomGaussianBlur()]


@example(seed=0, recipe=COLOURS, shapes=[(9, 9)] * 3, floats=False)
@given(seed=seeds, recipe=recipes(), shapes=st.lists(sizes, min_size=1, max_size=3), floats=st.booleans())
def test_views_that_are_lowered_together_are_lowered_as_by_themselves(
    seed: int, recipe: list[Operation], shapes: list[tuple[int, int]], floats: bool
) -> None:
    images = [noise(*shape, dtype=np.float32 if floats else np.uint8) for shape in shapes]
    batch = MultiViewCollateFunction([View(*recipe)] * 3, seed=seed, render="late")(images)
    part = plan_passes(batch.views[0].operations, lambda operation: find_stage(operation) is not None)[0]
    if not part.fused:
        return
    output = Output(torch.device("cpu"), torch.float32)
    tables = batch.table.double().numpy()
    together = part.lower(batch.images, np.concatenate(list(tables)), output, 3)
    for one, table in zip(together.split(), tables, strict=True):
        alone = part.lower(batch.images, table, output)
        assert_same(one, alone)


def assert_same(one: Program, other: Program) -> None:
    assert torch.equal(one.images.shapes, other.images.shapes)
    assert one.views == other.views == 1
    for numbers, others in zip((*one.move, *one.colours), (*other.move, *other.colours), strict=True):
        if isinstance(numbers, np.ndarray) and isinstance(others, np.ndarray):
            assert numbers.dtype == others.dtype
            assert numbers.flags.c_contiguous  # as the kernel wants them
            np.testing.assert_array_equal(numbers, others)
        else:
            assert numbers == others
