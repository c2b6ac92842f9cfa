"""Rendering on a device: the same pixels as on the CPU, and the host never waits."""

from collections.abc import Iterator

import pytest
import torch
from helpers.cases import noise
from torch import Tensor
from torch.utils.data import DataLoader

from lightly_aug import ImageCollateFunction, Indexed, SimCLRCollateFunction, TextureCollateFunction, Views

NO_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.fixture
def batch() -> Views:
    images = [noise(40 + i, 60 - i, seed=i) for i in range(16)]
    views: Views = SimCLRCollateFunction(32, seed=0, render="late")(images)
    return views


@pytest.fixture
def syncs_are_errors() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("error")
    yield
    torch.cuda.set_sync_debug_mode("default")


def test_rendering_reads_nothing_back_from_the_device() -> None:
    """The meta device holds no data, so code that would wait for a GPU fails there."""
    images = [noise(40 + i, 60 - i, seed=i) for i in range(16)]
    everything = ImageCollateFunction(32, vflip=0.5, rot90=0.5, degrees=20, solarize=0.5, seed=0, render="late")
    for collate in (everything, TextureCollateFunction(32, seed=0, render="late")):
        assert [view.shape for view in collate(images).to("meta")] == [(16, 3, 32, 32)] * 2


@pytest.mark.gpu
@NO_CUDA
def test_a_gpu_renders_what_the_cpu_renders(batch: Views) -> None:
    for on_gpu, on_cpu in zip(batch.to("cuda"), batch.to("cpu"), strict=True):
        assert on_gpu.is_cuda
        torch.testing.assert_close(on_gpu.cpu(), on_cpu, rtol=0, atol=1e-4)


@pytest.mark.gpu
@NO_CUDA
def test_from_pinned_memory_to_views_the_host_never_waits(batch: Views, request: pytest.FixtureRequest) -> None:
    pinned = batch.pin_memory()
    assert pinned.images.pixels.is_pinned()
    pinned.to("cuda")  # allocations and first launches may wait
    request.getfixturevalue("syncs_are_errors")
    pinned.to("cuda", torch.bfloat16)


@pytest.mark.gpu
@NO_CUDA
def test_the_loader_pins_views_and_workers_touch_no_device() -> None:
    dataset = Indexed([noise(40, 40, seed=i) for i in range(8)])
    collate = SimCLRCollateFunction(32, seed=0)
    assert collate.render == "late"
    expected: list[Tensor] = collate([dataset[i] for i in range(4)]).to("cpu")
    collate.set_epoch(0)
    loader = DataLoader(dataset, 4, num_workers=2, pin_memory=True, collate_fn=collate)
    views = next(iter(loader))
    assert views.images.pixels.is_pinned()
    for came, wanted in zip(views.to("cuda"), expected, strict=True):
        torch.testing.assert_close(came.cpu(), wanted, rtol=0, atol=1e-4)
