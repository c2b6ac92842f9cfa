"""Draws that a user made, edited or replays on other images are rendered, or refused by name: never out of an image."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from helpers.cases import noise
from torch import Tensor

from lightly_aug import (
    MultiViewCollateFunction,
    Operation,
    RandomHorizontalFlip,
    RandomResizedCrop,
    RandomRotation90,
    View,
    Views,
)
from lightly_aug.engines import lower
from lightly_aug.operations import Floats, Ints

VIEW = View(RandomHorizontalFlip(), RandomResizedCrop(8), RandomRotation90(1.0))
COLUMNS = {name.split(".")[1]: i for i, name in enumerate(VIEW.columns) if "Flip" not in name}


def batch(size: int = 20, engine: str = "cpu") -> Views:
    images = [noise(size, size, seed=i) for i in range(3)]
    views: Views = MultiViewCollateFunction([VIEW] * 2, seed=0, render="late", engine=engine)(images)
    return views


def replace(views: Views, **fields: Any) -> Views:
    given: dict[str, Any] = {"images": views.images, "table": views.table, "views": views.views}
    return Views(**given | fields, engine=views.engine)


@pytest.mark.parametrize("engine", ["reference", "cpu"])
@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        (
            "top",
            30.0,
            r"^RandomResizedCrop: the box of an image of 20 x 20 must be inside it, got {'top': 30.0, 'left'",
        ),
        ("left", -1.0, "must be inside it"),
        ("height", 0.0, "must be inside it"),
        ("width", 21.0, r"must be inside it, .* fit images of the sizes that they were made for$"),
        ("top", np.nan, "^RandomResizedCrop: top of image 1 of the batch must be finite, got nan$"),
        ("turns", np.inf, "^RandomRotation90: turns of image 1 of the batch must be finite, got inf$"),
    ],
)
def test_edited_draws_that_cannot_be_are_refused(engine: str, column: str, value: float, message: str) -> None:
    views = batch(engine=engine)
    views.table[1, 1, COLUMNS[column]] = value
    with pytest.raises(ValueError, match=message):
        views.to("cpu")
    with pytest.raises(ValueError, match=message):
        lower(views.images, views.table, views.views, views.sources)


def test_a_turn_that_is_none_is_refused() -> None:
    views = batch()
    views.table[1, 1, COLUMNS["turns"]] = 0.5
    with pytest.raises(ValueError, match=r"^matrix of image .* must be invertible, got \["):
        views.to("cpu")


@pytest.mark.parametrize("engine", ["reference", "cpu"])
def test_draws_of_larger_images_are_refused_and_those_of_equal_images_rendered(engine: str) -> None:
    views = batch(20, engine)
    with pytest.raises(ValueError, match="an image of 10 x 10 must be inside it"):
        replace(views, images=batch(10).images).to("cpu")
    again = replace(views, images=batch(20).images).to("cpu")
    assert all(torch.equal(a, b) for a, b in zip(again, views.to("cpu"), strict=True))


@pytest.mark.parametrize(
    ("change", "came"),
    [
        (lambda table: table[0], r"got \(3, 6\) torch.float32 on cpu"),
        (lambda table: table[:1], r"of 2 views, n <= 3 for 3 images, and columns >= 6, got \(1, 3, 6\)"),
        (lambda table: table.repeat(1, 2, 1), r"got \(2, 6, 6\)"),
        (lambda table: table[..., :5], r"got \(2, 3, 5\)"),
        (lambda table: table.double(), r"got \(2, 3, 6\) torch.float64 on cpu"),
        (lambda table: table.to("meta"), r"got \(2, 3, 6\) torch.float32 on meta"),
        (lambda table: table.tolist(), r"got \[\[\["),
    ],
)
def test_a_table_for_other_views_or_images_is_refused(change: Callable[[Tensor], Any], came: str) -> None:
    views = batch()
    with pytest.raises(
        ValueError, match=r"^Views: table must be a tensor \(views, n, columns\) of float32 on the CPU"
    ) as error:
        replace(views, table=change(views.table))
    error.match(came)


@dataclass(frozen=True)
class Mistaken(Operation):
    """Draws and says whatever it is told."""

    what: str
    columns = ("first", "second")

    def draw(self, u: Floats, height: Ints, width: Ints) -> Any:
        numbers = np.zeros((len(u), 2))
        numbers[-1, 1] = {"nan": np.nan, "large": 1e39}.get(self.what, 0)
        made = {"tensor": torch.from_numpy(numbers), "text": numbers.astype(str), "complex": numbers.astype(complex)}
        return made.get(self.what, numbers)

    def apply(self, images: Tensor, drawn: Tensor) -> Tensor:
        return images

    def matrix(self, height: Ints, width: Ints, drawn: Floats) -> Any:
        return {"one matrix": np.eye(3), "a list": []}.get(self.what, super().matrix(height, width, drawn))


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (
            "nan",
            r"^MultiViewCollateFunction: Mistaken.second must be finite in float32, got nan for view 0 of sample 1",
        ),
        ("large", r"Mistaken.second must be finite in float32, got inf for view 0 of sample 1"),
        ("tensor", r"^Mistaken: draw must return a NumPy array of numbers, \(2, 2\) for 2 images, got a Tensor$"),
        ("text", r"^Mistaken: draw must return a NumPy array of numbers, .* got one of <U"),
        ("complex", r"^Mistaken: draw must return a NumPy array of numbers, .* got one of complex128$"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_draws_of_an_own_operation_that_are_no_numbers_are_refused(what: str, message: str) -> None:
    collate = MultiViewCollateFunction([View(Mistaken(what))], seed=0, render="late")
    with pytest.raises(ValueError, match=message):
        collate([noise(8, 8)] * 2)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("one matrix", r"^Mistaken: matrix must return \(2, 3, 3\) numbers for 2 images, got \(3, 3\)$"),
        ("a list", r"^Mistaken: matrix must return a NumPy array of numbers, \(2, 3, 3\) for 2 images, got a list$"),
    ],
)
def test_matrices_of_an_own_operation_that_are_none_are_refused(what: str, message: str) -> None:
    views = MultiViewCollateFunction([View(Mistaken(what))], seed=0, render="late")([noise(8, 8)] * 2)
    with pytest.raises(ValueError, match=message):
        _ = views.matrices
    with pytest.raises(ValueError, match=message):
        views.transform_points(torch.zeros(2, 1, 2))
