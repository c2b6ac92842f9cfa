"""Members of samples and batches: kept in their structure, whatever that is."""

from collections import OrderedDict, namedtuple
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest

from lightly_aug.samples import batch_members, map_members, take_images


class Pair(NamedTuple):
    image: Any
    label: Any


Untyped = namedtuple("Untyped", "image label")


@dataclass(frozen=True)
class Frozen:
    """Cannot be set, and may only be made with both members."""

    image: Any
    label: Any
    made: list[str] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        self.made.append("by its own __init__")


@pytest.mark.parametrize(
    ("batch", "members"),
    [
        ((1, 2), {0: 1, 1: 2}),
        ([1, 2], {0: 1, 1: 2}),
        ({"a": 1, "b": 2}, {"a": 1, "b": 2}),
        (OrderedDict(a=1), {"a": 1}),
        (Pair(1, 2), {"image": 1, "label": 2}),
        (Untyped(1, 2), {"image": 1, "label": 2}),
        ("text", {0: "text"}),
        (7, {0: 7}),
        (Pair, {0: Pair}),
        (Frozen, {0: Frozen}),  # a class is no instance
        (range(3), {0: range(3)}),
    ],
)
def test_members_have_their_names_or_places(batch: Any, members: dict[Any, Any]) -> None:
    found = batch_members(batch)
    assert type(found) is dict
    assert found == members


def test_a_dataclass_has_its_fields() -> None:
    assert batch_members(Frozen(1, 2)) == {"image": 1, "label": 2, "made": ["by its own __init__"]}


@pytest.mark.parametrize(
    ("batch", "changed"),
    [
        ((1, 2), (2, 4)),
        ([1, 2], [2, 4]),
        ({"a": 1, "b": 2}, {"a": 2, "b": 4}),
        (Pair(1, 2), Pair(2, 4)),
        (Untyped(1, 2), Untyped(2, 4)),
        ((), ()),
    ],
)
def test_members_are_changed_in_their_structure(batch: Any, changed: Any) -> None:
    result = map_members(lambda x: 2 * x, batch)
    assert type(result) is type(batch)
    assert result == changed


def test_a_frozen_dataclass_is_changed_in_a_copy_that_is_not_made_again() -> None:
    before = Frozen(1, 2)
    after = map_members(lambda x: 2 * x if isinstance(x, int) else x, before)
    assert (after.image, after.label, after.made) == (2, 4, ["by its own __init__"])
    assert (before.image, before.label) == (1, 2)


@pytest.mark.parametrize("batch", ["text", 7, SimpleNamespace(a=1), Pair, Frozen])
def test_what_has_no_members_is_returned_as_it_is(batch: Any) -> None:
    assert map_members(lambda x: None, batch) is batch


def test_image_is_taken_before_the_other_usual_keys() -> None:
    images = [np.full((2, 3, 3), i, np.uint8) for i in range(3)]
    taken = take_images([{"jpg": images[0], "image": images[1], "png": images[2]}])
    assert taken.images[0] is images[1]
