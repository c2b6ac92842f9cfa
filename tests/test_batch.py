"""Where views and labels are in a batch."""

from collections import namedtuple
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from lightly_aug import Indexed, MultiViewCollateFunction, Shape, View, Views
from lightly_aug.batch import labels_of, views_of

IMAGES, LABELS = torch.rand(4, 3, 8, 8), torch.tensor([5, 7, 5, 7])
IDS = torch.tensor([100, 101, 102, 103])
MASKS = torch.rand(4, 1, 8, 8)
Pair = namedtuple("Pair", ["image", "target"])


@dataclass
class Record:
    name: str
    labels: Tensor
    image: Any


@pytest.fixture(params=["a Views", "a list of views", "images"])
def views(request: pytest.FixtureRequest) -> Any:
    packed = MultiViewCollateFunction([View(Shape(4))] * 2, seed=0, render="late")(list(IMAGES))
    return {"a Views": packed, "a list of views": list(packed), "images": IMAGES}[request.param]


@pytest.mark.parametrize("names", ["label", "labels", "target", "targets"])
def test_mappings_name_them(views: Any, names: str) -> None:
    batch = {"id": IDS, "mask": MASKS, "image": views, names: LABELS}
    assert views_of(batch) is views
    assert labels_of(batch) is LABELS


def test_named_tuples_and_dataclasses_name_them(views: Any) -> None:
    for batch in (Pair(views, LABELS), Record("a", LABELS, views)):
        assert views_of(batch) is views
        assert labels_of(batch) is LABELS


def test_labels_come_after_the_views(views: Any) -> None:
    for batch in ((views, LABELS), [views, LABELS, ["name"] * 4], (IDS, views, LABELS), (IDS, views, LABELS, IDS)):
        assert views_of(batch) is views
        assert labels_of(batch) is LABELS


def test_no_labels(views: Any) -> None:
    for batch in (views, (views, ["name"] * 4), (IDS, views), {"image": views, "number": LABELS}):
        assert views_of(batch) is views
        assert labels_of(batch) is None
    assert labels_of((views,)) is None


def test_a_views_is_found_under_any_name_and_before_other_images() -> None:
    packed: Views = MultiViewCollateFunction([View(Shape(4))], seed=0, render="late")(list(IMAGES))
    assert views_of({"mask": MASKS, "image": IMAGES, "photo": packed}) is packed
    assert views_of((MASKS, packed)) is packed


def test_two_images_in_a_tuple_are_views_of_each_other() -> None:
    assert views_of((IMAGES, MASKS)) == (IMAGES, MASKS)


def test_features_that_are_no_images_are_taken_alone_only() -> None:
    rows = torch.rand(4, 7)
    assert views_of(rows) is rows
    with pytest.raises(TypeError, match=r"no views in a batch of {0: 'Tensor', 1: 'Tensor'}: give the loader one of"):
        views_of((rows, LABELS))


def test_batches_of_a_loader() -> None:
    """`image=1`: the id in front is no image, and the member behind it is the label."""
    samples = [(int(i), image, int(label)) for i, image, label in zip(IDS, IMAGES, LABELS, strict=True)]
    collate = MultiViewCollateFunction([View(Shape(4))], seed=0, render="late", image=1)
    (batch,) = DataLoader(Indexed(samples), 4, collate_fn=collate)
    assert isinstance(views_of(batch), Views)
    assert views_of(batch).index.tolist() == [0, 1, 2, 3]
    labels = labels_of(batch)
    assert labels is not None
    assert torch.equal(labels, LABELS)
