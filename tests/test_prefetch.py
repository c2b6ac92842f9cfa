"""`prefetch` yields the batches of the loader, rendered ahead of time."""

import gc
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
from helpers.cases import noise
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lightly_aug import BaseCollateFunction, Indexed, RandomGaussianBlur, Shape, View, prefetch

cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def collate() -> BaseCollateFunction:
    return BaseCollateFunction([View(Shape(12), RandomGaussianBlur((1, 2)))] * 2, seed=3, render="late")


def loader(count: int = 10, workers: int = 0, **options: Any) -> DataLoader[Any]:
    images = [(noise(20, 30 + i, seed=i), i) for i in range(count)]
    return DataLoader(Indexed(images), 4, num_workers=workers, collate_fn=collate(), **options)


def synchronous(batches: DataLoader[Any], device: str = "cpu") -> Iterator[tuple[list[Tensor], Tensor]]:
    for views, labels in batches:
        yield views.to(device), labels.to(device)


@pytest.mark.parametrize("workers", [0, 2])
def test_it_gives_the_loader_s_batches_epoch_after_epoch(workers: int) -> None:
    ahead, plain = prefetch(loader(workers=workers), "cpu"), loader(workers=workers)
    for _ in range(2):
        for (views, labels), (expected, same) in zip(ahead, synchronous(plain), strict=True):
            assert isinstance(views, list)
            assert torch.equal(labels, same)
            for view, wanted in zip(views, expected, strict=True):
                assert torch.equal(view, wanted)


def test_it_shows_the_loader_s_attributes() -> None:
    plain = loader()
    ahead = prefetch(plain, "cpu")
    assert len(ahead) == len(plain) == 3
    for name in ("dataset", "sampler", "batch_sampler", "batch_size", "drop_last", "collate_fn"):
        assert getattr(ahead, name) is getattr(plain, name)
    assert repr(ahead).startswith("prefetch(<torch.utils.data")
    with pytest.raises(AttributeError, match="nonsense"):
        _ = ahead.nonsense


def test_views_take_the_dtype_and_the_memory_format() -> None:
    views, labels = next(iter(prefetch(loader(), "cpu", dtype=torch.bfloat16, memory_format=torch.channels_last)))
    assert views[0].dtype == torch.bfloat16
    assert views[0].is_contiguous(memory_format=torch.channels_last)
    assert labels.dtype == torch.int64


class Named(NamedTuple):
    image: Any
    label: int


@dataclass(frozen=True)
class Record:
    image: Any
    label: int


@pytest.mark.parametrize("make", [Named, Record, lambda image, label: {"image": image, "label": label}])
def test_batches_keep_their_shape(make: Any) -> None:
    samples: Any = [make(noise(20, 20, seed=i), i) for i in range(4)]
    (batch,) = prefetch(DataLoader(samples, 4, collate_fn=collate()), "cpu")
    views, labels = (batch["image"], batch["label"]) if isinstance(batch, dict) else (batch.image, batch.label)
    assert isinstance(batch, dict if isinstance(samples[0], dict) else type(samples[0]))
    assert [view.shape for view in views] == [(4, 3, 12, 12)] * 2
    assert labels.tolist() == [0, 1, 2, 3]


class Broken(Dataset[Any]):
    """Its last image cannot be read."""

    def __len__(self) -> int:
        return 6

    def __getitem__(self, i: int) -> Any:
        return noise(20, 20) if i < 5 else b"not an image"


def first_batches(batches: Any) -> list[Any]:
    seen: list[Any] = []
    with pytest.raises(ValueError, match="not an image"):
        seen.extend(batches)
    return seen


def test_an_error_is_raised_after_the_batches_before_it() -> None:
    assert len(first_batches(prefetch(DataLoader(Broken(), 2, collate_fn=collate()), "cpu"))) == 2


@pytest.mark.gpu
@cuda
def test_an_error_is_raised_after_the_batches_before_it_on_cuda() -> None:
    assert len(first_batches(prefetch(DataLoader(Broken(), 2, collate_fn=collate()), "cuda"))) == 2


@pytest.mark.gpu
@cuda
@pytest.mark.parametrize("slow", ["consumer", "renderer", "neither"])
def test_on_cuda_delays_change_nothing(slow: str) -> None:
    """A model that is slower than the rendering, or faster, reads the same views as the synchronous path."""
    expected = [[view.sum(dim=(1, 2, 3)) for view in views] for views, _ in synchronous(loader(40), "cuda")]
    ahead = prefetch(loader(40, pin_memory=True), "cuda")
    sums = []
    for views, _ in ahead:
        if slow == "consumer":
            torch.cuda._sleep(20_000_000)
        if slow == "renderer":
            with torch.cuda.stream(ahead._stream):
                torch.cuda._sleep(20_000_000)
        sums.append([view.sum(dim=(1, 2, 3)) for view in views])
        del views
    for ours, wanted in zip(sums, expected, strict=True):
        for one, other in zip(ours, wanted, strict=True):
            assert torch.equal(one, other)


@pytest.mark.gpu
@cuda
def test_one_stream_serves_all_epochs() -> None:
    ahead = prefetch(loader(), "cuda")
    before = ahead._stream
    for _ in range(2):
        for _ in ahead:
            pass
    assert ahead._stream is before


def collect_garbage(worker: int) -> None:
    gc.collect()


@pytest.mark.gpu
@cuda
def test_forked_workers_collect_views_of_before_without_an_abort() -> None:
    for views, _ in prefetch(loader(4, pin_memory=True), "cuda"):
        circle: list[Any] = [views]
        circle.append(circle)
        del circle, views
    numbers: Any = range(4)
    images: DataLoader[Any] = DataLoader(
        numbers, 1, num_workers=2, worker_init_fn=collect_garbage, multiprocessing_context="fork"
    )
    assert len(list(images)) == 4
