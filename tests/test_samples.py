"""Members of samples and batches: kept in their structure, whatever that is."""

from collections import OrderedDict, namedtuple
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest

from lightly_aug.indexed import IndexedSample
from lightly_aug.philox import place_keys
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


def test_places_in_an_epoch_have_their_bits() -> None:
    """1, 15 bits of rank, 28 of batch, 20 of the place in the batch."""
    for rank, batch, count in ((0, 0, 3), (5, 9, 2), (32_767, 2**28 - 1, 1), (1, 1, 1 << 20)):
        keys = place_keys(rank, batch, count)
        expected = [int(f"1{rank:015b}{batch:028b}{place:020b}", 2) for place in (0, count - 1)]
        assert keys.dtype == np.dtype(np.uint64)
        assert (len(keys), [int(keys[0]), int(keys[-1])]) == (count, expected)


def test_epochs_are_taken_if_all_samples_have_one() -> None:
    image = np.zeros((2, 3, 3), np.uint8)
    samples = [IndexedSample(4, image, 2**32 - 1), IndexedSample(7, image, 3)]
    epochs = take_images(samples).epoch
    assert epochs is not None
    assert epochs.dtype == np.dtype(np.uint64)
    assert epochs.tolist() == [2**32 - 1, 3]
    assert take_images([samples[0], IndexedSample(7, image)]).epoch is None


def test_several_images_are_named_by_their_places() -> None:
    image = np.zeros((2, 3, 3), np.uint8)
    taken = take_images([(image, 1, image), (image, 2, "photo\x1b.png")], 0, 2)
    assert taken.names == ["sample 0 at 0", "sample 1 at 0", "sample 0 at 2", "sample 1 at 2, photo\\x1b.png"]
    with pytest.raises(
        ValueError, match=r"^sample 0 is one image, and image=\(0, 2\) asks for samples that hold several"
    ):
        take_images([image], 0, 2)
    with pytest.raises(ValueError, match=r"^sample 0 has a int at 1 where an image is wanted; image= names its place"):
        take_images([(image, 1)], 1)
    with pytest.raises(ValueError, match=r"^sample 0 at 1 has a int where an image is wanted"):
        take_images([(image, 1)], 0, 1)
