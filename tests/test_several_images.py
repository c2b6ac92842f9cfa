"""Samples of several images, each of which is one view's: what the views of one image are, these are, too."""

import pickle
from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.cases import noise
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from lightly_aug import (
    Color,
    ImageError,
    Indexed,
    MultiViewCollateFunction,
    RandomHorizontalFlip,
    Shape,
    Shared,
    Texture,
    View,
    Views,
    prefetch,
)
from lightly_aug.batch import labels_of, views_of

COUNT = 5
FRONTS = [Image.fromarray(noise(20 + i, 30, seed=i)) for i in range(COUNT)]
BACKS = [Image.fromarray(noise(16, 40 - i, seed=10 + i)) for i in range(COUNT)]
SAMPLES = [{"id": i, "front": FRONTS[i], "back": BACKS[i], "label": i * i} for i in range(COUNT)]
FLIP = Shared("flip", RandomHorizontalFlip())
VIEWS = [View(FLIP, Shape(8, hflip=0.0), Color(), Texture()), View(FLIP, Shape(12, hflip=0.0))]

Pair = namedtuple("Pair", ["front", "label", "back"])


@dataclass
class Record:
    back: Any
    label: Any
    front: Any


def collate(image: Any = ("front", "back"), views: list[View] = VIEWS, **options: Any) -> MultiViewCollateFunction:
    return MultiViewCollateFunction(views, seed=3, image=image, **({"render": "late"} | options))


def alone(name: str, views: list[View] = VIEWS) -> Views:
    """The views of one of the images of each sample, as bare images."""
    batch: Views = collate(None, views)([sample[name] for sample in SAMPLES])
    return batch


def assert_equal(one: Any, other: Any) -> None:
    assert len(one) == len(other)
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def expected() -> tuple[list[Tensor], list[Tensor], list[dict[str, Tensor]]]:
    """View 0 as it is of the fronts alone, and view 1 as it is of the backs alone."""
    fronts, backs = alone("front"), alone("back")
    matrices = [fronts.matrices[0], backs.matrices[1]]
    return [fronts.to()[0], backs.to()[1]], matrices, [fronts.draws[0], backs.draws[1]]


@pytest.mark.parametrize("render", ["late", "worker"])
@pytest.mark.parametrize("engine", ["auto", "reference"])
def test_each_view_is_that_of_its_own_image(render: str, engine: str) -> None:
    batch = collate(render=render, engine=engine)(SAMPLES)
    views = batch["front"]
    tensors, matrices, draws = expected()
    assert isinstance(views, Views)
    assert views.batch_size == COUNT
    for one, other in zip(views.to(), tensors, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0 if engine == "auto" else 1e-4)
    assert_equal(list(views), list(views.to()))
    assert torch.equal(views[1], views.to()[1])
    assert_equal(views[::-1], views.to()[::-1])
    for known in (views, views.to()):
        assert_equal(known.matrices, matrices)
        for drawn, expected_draws in zip(known.draws, draws, strict=True):
            assert drawn.keys() == expected_draws.keys()
            assert all(torch.equal(drawn[name], expected_draws[name]) for name in drawn)


def test_the_views_take_the_first_place_and_the_other_image_leaves_the_batch() -> None:
    batch = collate()(SAMPLES)
    assert list(batch) == ["id", "front", "label"]
    assert batch["label"].tolist() == [0, 1, 4, 9, 16]
    batch = collate(("back", "front"))(SAMPLES)
    assert list(batch) == ["id", "back", "label"]
    assert torch.equal(batch["back"].matrices[1], alone("front").matrices[1])


def test_tuples_and_lists() -> None:
    tensors, *_ = expected()
    for kind in (tuple, list):
        views, labels, *rest = collate((0, 1))([kind((s["front"], s["back"], s["label"])) for s in SAMPLES])
        assert_equal(views.to(), tensors)
        assert labels.tolist() == [0, 1, 4, 9, 16]
        assert not rest
    batch = collate((2, 0))([(s["back"], s["label"], s["front"]) for s in SAMPLES])
    assert [type(member) for member in batch] == [Tensor, Views]
    assert_equal(batch[1].to(), tensors)


@pytest.mark.parametrize("kind", [Pair, Record])
def test_named_tuples_and_dataclasses_hold_none_in_place_of_the_other_image(kind: Callable[..., Any]) -> None:
    batch = collate()([kind(front=s["front"], back=s["back"], label=s["label"]) for s in SAMPLES])
    assert type(batch) is kind
    assert batch.back is None
    assert batch.label.tolist() == [0, 1, 4, 9, 16]
    assert_equal(batch.front.to(), expected()[0])
    assert views_of(batch) is batch.front
    labels = labels_of(batch)
    assert labels is not None
    assert torch.equal(labels, batch.label)


def test_places_may_repeat_and_an_image_is_packed_once() -> None:
    views = collate(("front", "back", "front"), [*VIEWS, View(Shape(6))])(SAMPLES)["front"]
    assert len(views.images) == 2 * COUNT
    assert views.sources == (0, 1, 0)
    assert torch.equal(views.to()[2], alone("front", [*VIEWS, View(Shape(6))]).to()[2])
    same = collate((0, 0))([(sample["front"], 1) for sample in SAMPLES])[0]
    assert len(same.images) == COUNT
    assert_equal(same.to(), alone("front").to())


def test_shared_items_are_shared_by_the_images() -> None:
    views = collate()(SAMPLES * 4)["front"]
    flips = [drawn["RandomHorizontalFlip.applied"] for drawn in views.draws]
    assert torch.equal(*flips)
    assert 0 < flips[0].mean() < 1


@pytest.mark.parametrize("render", ["late", "worker"])
def test_indexed_samples_have_the_same_views_in_any_order_and_worker(render: str) -> None:
    dataset = Indexed(SAMPLES)
    whole = collate()([dataset[i] for i in range(COUNT)])["front"]
    assert whole.index.tolist() == list(range(COUNT))
    loader = DataLoader(dataset, 3, sampler=[4, 0, 2, 3], num_workers=1, collate_fn=collate(render=render))
    for batch in prefetch(loader, "cpu"):
        views = batch["front"]
        assert_equal(views, [view[views.index] for view in whole.to()])
        assert_equal(views.matrices, [matrices[views.index] for matrices in whole.matrices])
        assert torch.equal(batch["id"], views.index)


def test_views_of_several_images_are_pickled_whole() -> None:
    views = pickle.loads(pickle.dumps(collate()(SAMPLES)["front"]))
    assert_equal(views.to(), expected()[0])
    assert repr(views).startswith("Views(2 views of 5 images, 3 channels, packed")


def test_without_an_index_a_batch_counts_samples() -> None:
    """The place in the epoch is the sample's: as many keys as samples, the same for both images."""
    loader: Any = DataLoader(SAMPLES, 2, collate_fn=collate())  # type: ignore[arg-type]
    backs: Any = DataLoader(BACKS, 2, collate_fn=collate(None))  # type: ignore[arg-type]
    for both, back in zip(loader, backs, strict=True):
        assert torch.equal(both["front"].to()[1], back.to()[1])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_several_images_on_a_gpu() -> None:
    views = collate()(SAMPLES)["front"].pin_memory()
    for one, other in zip(views.to("cuda"), expected()[0], strict=True):
        torch.testing.assert_close(one.cpu(), other, rtol=0, atol=1e-3)


# --- errors -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image", "error", "says"),
    [
        (("front",), ValueError, r"image must name one place for each of the 2 views, got 1: \('front',\)"),
        (["a", "b", "c"], ValueError, r"one place for each of the 2 views, got 3"),
        ([], ValueError, r"one place for each of the 2 views, got 0"),
        ((["front"], "back"), TypeError, r"image must be a key, a field name or a number, or a sequence of them"),
        ((None, "back"), TypeError, r"image must be a key, a field name or a number, or a sequence of them"),
    ],
)
def test_wrong_places_are_refused_at_once(image: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=f"^MultiViewCollateFunction: .*{says}"):
        collate(image)


@pytest.mark.parametrize(
    ("samples", "says"),
    [
        ([*SAMPLES, {"id": 1, "front": FRONTS[0], "label": 0}], r"sample 5 has members 'id', 'front', 'label', sample"),
        ([{"front": FRONTS[0]}], r"sample 0 has no member 'back', it has 'front'"),
        ([{"front": FRONTS[0], "back": 7}], r"sample 0 at 'back' has a int where an image is wanted"),
        (FRONTS, r"sample 0 is one image, and image=\('front', 'back'\) asks for samples that hold several"),
        (
            [{"front": torch.rand(3, 9, 9), "back": torch.rand(1, 9, 9)}],
            r"sample 0 at 'back' has 1 channels and sample",
        ),
    ],
)
def test_wrong_samples_are_named(samples: list[Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        collate()(samples)


def test_damaged_images_are_named_by_their_place_and_file(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"^sample 0 at 'back', .*a\.jpg: "):
        collate()([{"front": FRONTS[0], "back": str(tmp_path / "a.jpg")}])


def test_a_size_that_differs_is_named_by_the_place() -> None:
    with pytest.raises(ImageError, match=r"view 1 of sample 0 at 'back' is 16x40 and of sample 1 at 'back' 16x39"):
        collate(views=[View(Shape(8)), View()])(SAMPLES)


def test_repr_shows_the_places() -> None:
    assert "image=('front', 'back')" in repr(collate(["front", "back"]))
