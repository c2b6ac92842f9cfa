"""Images that cannot be read: an error, left out, or replaced; never without a word."""

import csv
import io
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.photos import write_photos
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from lightly_aug import ImageError, Indexed, SimCLRCollateFunction, View, Views
from lightly_aug.collate import MultiViewCollateFunction
from lightly_aug.operations import RandomResizedCrop
from lightly_aug.photographs import photographs
from lightly_aug.train import pretrain

PHOTOS = photographs(6, 40)
DAMAGED = b"\x89PNG\r\n\x1a\n no more"


def encode(i: int) -> bytes:
    buffer = io.BytesIO()
    PHOTOS[i].save(buffer, "png")
    return buffer.getvalue()


GOOD = [encode(i) for i in range(len(PHOTOS))]


def make(damaged: set[int], *, indexed: bool) -> list[Any]:
    samples = [(DAMAGED if i in damaged else image, i, f"{i}.png") for i, image in enumerate(GOOD)]
    return [Indexed(samples)[i] for i in range(len(samples))] if indexed else samples


def equal(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    views, *members = one
    others, *expected = other
    assert views.left_out
    assert not others.left_out
    same_index = views.index is None if others.index is None else torch.equal(views.index, others.index)
    pixels = (torch.equal(a, b) for a, b in zip(views.to("cpu"), others.to("cpu"), strict=True))
    return same_index and all(pixels) and torch.equal(members[0], expected[0]) and members[1] == expected[1]


@settings(deadline=None)
@given(
    damaged=st.sets(st.integers(0, 5), min_size=1, max_size=5),
    indexed=st.booleans(),
    render=st.sampled_from(["late", "worker"]),
)
@pytest.mark.filterwarnings("ignore:SimCLRCollateFunction (leaves out|replaces)")
def test_a_batch_is_that_of_the_samples_that_are_kept(damaged: set[int], indexed: bool, render: Any) -> None:
    options: dict[str, Any] = {"size": 16, "seed": 0, "render": render}
    samples, whole = make(damaged, indexed=indexed), make(set(), indexed=indexed)
    kept = [i for i in range(6) if i not in damaged]
    skipped = SimCLRCollateFunction(**options, on_error="skip")(samples)
    assert equal(skipped, SimCLRCollateFunction(**options)([whole[i] for i in kept]))
    replaced = SimCLRCollateFunction(**options, on_error="replace")(samples)
    stand_in = [i if i in kept else kept[i % len(kept)] for i in range(6)]
    assert equal(replaced, SimCLRCollateFunction(**options)([whole[i] for i in stand_in]))
    assert len(skipped[0].left_out) == len(damaged)
    for text, i in zip(skipped[0].left_out, sorted(damaged), strict=True):
        assert text.startswith(f"sample {i} (index {i}): " if indexed else f"sample {i}: ")
    assert skipped[0].to("cpu").left_out == skipped[0].left_out


@pytest.mark.parametrize(("on_error", "done"), [("skip", "leaves out"), ("replace", "replaces")])
def test_each_is_named_once(on_error: Any, done: str) -> None:
    collate = SimCLRCollateFunction(16, seed=0, on_error=on_error)
    assert f"on_error='{on_error}'" in repr(collate)
    samples = make({1, 4}, indexed=True)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(3):
            collate(samples)
    assert [str(warning.message)[: len(done) + 39] for warning in caught] == [
        f"SimCLRCollateFunction {done} sample {i} (index {i})"[: len(done) + 39] for i in (1, 4)
    ]


def test_by_default_and_without_any_good_image_it_is_an_error() -> None:
    with pytest.raises(ImageError, match="sample 2: "):
        SimCLRCollateFunction(16, seed=0)(make({2}, indexed=False))
    for on_error in ("skip", "replace"):
        with pytest.raises(ImageError, match="no image of the batch can be read; sample 0: "):
            SimCLRCollateFunction(16, seed=0, on_error=on_error)([DAMAGED, DAMAGED])
    with pytest.raises(ValueError, match="on_error must be one of 'raise', 'skip', 'replace', got 'ignore'"):
        SimCLRCollateFunction(16, on_error="ignore")  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore:MultiViewCollateFunction leaves out")
def test_a_sample_is_left_out_if_one_of_its_images_is_damaged() -> None:
    view = View(RandomResizedCrop(16))
    collate = MultiViewCollateFunction([view, view], seed=0, image=("a", "b"), on_error="skip", render="late")
    samples = [
        {"a": GOOD[0], "b": GOOD[1]},
        {"a": GOOD[2], "b": DAMAGED},
        {"a": DAMAGED, "b": DAMAGED},
        {"a": GOOD[3], "b": GOOD[4]},
    ]
    batch = collate(samples)["a"]
    whole = MultiViewCollateFunction([view, view], seed=0, image=("a", "b"), render="late")([samples[0], samples[3]])[
        "a"
    ]
    assert torch.equal(batch.table, whole.table)
    assert all(torch.equal(a, b) for a, b in zip(batch.to("cpu"), whole.to("cpu"), strict=True))
    assert [text.split(":")[0] for text in batch.left_out] == ["sample 1 at 'b'", "sample 2 at 'a'"]


@pytest.mark.filterwarnings("ignore:SimCLRCollateFunction replaces")
@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_goes_on(tmp_path: Path, workers: int) -> None:
    for i, image in enumerate(GOOD):
        (tmp_path / f"{i}.png").write_bytes(image if i != 3 else image[:200])
    dataset: Any = [str(tmp_path / f"{i}.png") for i in range(6)]
    collate = SimCLRCollateFunction(16, seed=0, on_error="replace")
    batches: list[Views] = list(DataLoader(dataset, 2, num_workers=workers, collate_fn=collate))
    assert [batch.batch_size for batch in batches] == [2, 2, 2]
    assert [len(batch.left_out) for batch in batches] == [0, 1, 0]
    assert "3.png: " in batches[1].left_out[0]


@pytest.mark.filterwarnings("ignore:.*(wants batches|does not have many workers|The number of training batches)")
@pytest.mark.filterwarnings(
    "ignore:.*(LeafSpec|set_vital|features collapse|knn accuracy|replaces sample|leaves out sample)"
)
@pytest.mark.parametrize("on_error", ["skip", "replace"])
def test_a_training_goes_on_and_counts_them(tmp_path: Path, on_error: Any) -> None:
    write_photos(tmp_path / "photos", classes=2, count=6)
    damaged = sorted((tmp_path / "photos").rglob("*.jpg"))[4]
    damaged.write_bytes(damaged.read_bytes()[:300])
    small: dict[str, Any] = {"backbone": "resnet10", "size": 32, "batch_size": 6, "workers": 0, "epochs": 2}
    pretrain(tmp_path / "photos", method="simclr", **small, out=tmp_path / "run", on_error=on_error)
    with (tmp_path / "run/logs/metrics.csv").open() as file:
        counted = [float(row["left_out"]) for row in csv.DictReader(file) if row.get("left_out")]
    assert counted == [1.0, 1.0]
