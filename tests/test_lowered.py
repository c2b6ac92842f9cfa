"""What the GPU engine renders from is made in the worker, travels, and is never that of other draws."""

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from helpers.cases import noise
from torch import Tensor
from torch.utils.data import DataLoader

from lightly_aug import (
    ColorJitter,
    MultiViewCollateFunction,
    Normalize,
    RandomEqualize,
    RandomGaussianBlur,
    RandomHorizontalFlip,
    RandomResizedCrop,
    RandomRotation,
    View,
    Views,
)
from lightly_aug.engines import Output, lower, may_use_gpu, render, rendering

pytest.importorskip("triton")
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
ON_THE_CPU = pytest.mark.skipif(torch.cuda.is_available(), reason="the engine runs on a CPU under the interpreter only")
NO_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def view(side: int, *, p: float = 0.5, dtype: torch.dtype = torch.float32) -> View:
    jitter, blur = ColorJitter(0.4, 0.4, 0.4, 0.1, p=0.8), RandomGaussianBlur((0.1, 2.0), p=p)
    return View(RandomResizedCrop(side), RandomHorizontalFlip(), jitter, blur, Normalize(), dtype=dtype)


RECIPE = [view(8), view(6), view(8, p=1), View(RandomResizedCrop(8, interpolation="bicubic"))]


def collated(*views: View, images: int = 2, seed: int = 0, engine: str = "gpu", **options: Any) -> Views:
    collate = MultiViewCollateFunction(list(views or RECIPE), seed=seed, render="late", engine=engine, **options)
    made: Views = collate([noise(20, 24, seed=i) for i in range(images)])
    return made


def lower_again(views: Views) -> Any:
    return lower(views.images, views.table, views.views, views.sources)


def assert_equal(views: list[Tensor], others: list[Tensor]) -> None:
    assert len(views) == len(others)
    for one, other in zip(views, others, strict=True):
        assert torch.equal(one, other)


def assert_current(views: Views) -> None:
    """The views are rendered from their own draws."""
    assert_equal(views.to(DEVICE), render(views.images, views.table, views.views, Output(DEVICE), "gpu"))


# --- the same numbers, the same pixels ---------------------------------------------------------------------------


def test_the_collate_function_makes_what_rendering_makes() -> None:
    views = collated()
    ahead, late = views.lowered, lower_again(views)
    assert ahead is not None
    assert ahead.layout.words.dtype == torch.int64
    assert torch.equal(ahead.layout.words, late.layout.words)
    assert ahead[1:] == late[1:]
    assert ahead.layout.groups == late.layout.groups
    assert [group.views for group in ahead.layout.groups] == [(0, 2), (1,), (3,)]
    assert views.to(DEVICE)
    assert views.lowered is ahead
    assert_current(views)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("dtype", [None, torch.float16, torch.float64])
def test_dtype_and_memory_format_are_known_only_when_views_are_rendered(dtype: torch.dtype | None, last: bool) -> None:
    views = collated(view(16), view(15), view(16, dtype=torch.bfloat16), images=2)
    form = torch.channels_last if last else torch.contiguous_format
    made = views.to(DEVICE, dtype, memory_format=form)
    assert [x.dtype for x in made] == [dtype or each.dtype for each in views.views]
    assert all(x.is_contiguous(memory_format=form) for x in made)
    assert_equal(made, render(views.images, views.table, views.views, Output(DEVICE, dtype, form), "gpu"))


@ON_THE_CPU
def test_several_images_of_a_sample_are_rendered_together() -> None:
    samples = [{"a": noise(20, 24, seed=i), "b": noise(30 - i, 18, seed=9 + i)} for i in range(2)]
    collate = MultiViewCollateFunction([view(8)] * 3, seed=0, render="late", engine="gpu", image=("a", "b", "a"))
    views: Views = collate(samples)["a"]
    assert views.lowered is not None
    assert [group.views for group in views.lowered.layout.groups] == [(0, 2, 1)]
    assert_equal(views.to(DEVICE), [views[i].to(DEVICE) for i in range(3)])


def test_rotations_are_lowered_too() -> None:
    rotate, other = View(RandomRotation(20), RandomHorizontalFlip()), View(RandomRotation(30), RandomGaussianBlur(p=1))
    views: Views = MultiViewCollateFunction([rotate, other], seed=0, render="late", engine="gpu")([noise(9, 12)] * 2)
    assert views.lowered is not None
    assert_current(views)


def test_views_that_share_memory_share_nothing_else() -> None:
    x0, x1 = collated(view(15), view(15), images=1).to(DEVICE)
    assert x0.untyped_storage().data_ptr() == x1.untyped_storage().data_ptr()
    assert x1.data_ptr() % 32 == 0
    weight = torch.ones((), device=DEVICE, requires_grad=True)
    loss, kept = (weight * x1).sum(), x1.clone()
    x0.mul_(2)
    loss.backward()  # an error if x1 counted as changed
    assert torch.equal(x1, kept)


@pytest.mark.parametrize("views", [[view(8), View(RandomEqualize())], [view(8, dtype=torch.float64)]], ids=["", ""])
def test_views_that_the_engine_does_not_make_in_one_go_are_not_lowered(views: list[View]) -> None:
    batch = MultiViewCollateFunction(views, seed=0, render="late", engine="gpu")([noise(8, 8)])
    assert batch.lowered is None
    truth = render(batch.images, batch.table, batch.views, Output(DEVICE), "reference")
    for ours, expected in zip(batch.to(DEVICE), truth, strict=True):
        torch.testing.assert_close(ours, expected, rtol=0, atol=1e-4)


# --- never stale ------------------------------------------------------------------------------------------------


def exchange_draws(views: Views) -> Views:
    return views._with(table=collated(view(8), view(6), seed=1).table)


def edit_draws(views: Views) -> Views:
    numbers = views.table.numpy()
    numbers[:] = numbers[:, ::-1].copy()
    return views


def assign_draws(views: Views) -> Views:
    views.table = views.table.flip(1)
    return views


def exchange_images(views: Views) -> Views:
    shapes = views.images.shapes.flip(0)
    views.images = type(views.images)(views.images.pixels, shapes, 3, views.images.raw)
    return views


def move_images(views: Views) -> Views:
    images = views.images
    pixels = torch.cat([images.pixels[:5], images.pixels])
    shapes = images.shapes + torch.tensor([5, 0, 0])
    return views._with(images=type(images)(pixels, shapes, 3, images.raw))


def exchange_views(views: Views) -> Views:
    views.views = views.views[::-1]
    return views


def exchange_a_normalization(views: Views) -> Views:
    views.views = tuple(View(*v.operations[:-1], Normalize(0.5, 0.5)) for v in views.views)
    return views


def as_floats(views: Views) -> Views:
    images = views.images
    return views._with(images=type(images)(images.pixels / 255, images.shapes, 3, images.raw))


@pytest.mark.parametrize(
    "change",
    [
        exchange_draws, edit_draws, assign_draws, exchange_images, move_images, exchange_views,
        exchange_a_normalization, as_floats,
    ],
)  # fmt: skip
def test_numbers_of_other_draws_images_or_views_are_never_rendered(change: Callable[[Views], Views]) -> None:
    views = collated(view(8), view(6))
    before = views.lowered
    assert before is not None
    changed = change(views)
    assert not before.suits(changed.images, changed.table, changed.views, changed.sources)
    assert_current(changed)
    assert changed.lowered is not None
    assert changed.lowered is not before


@ON_THE_CPU
def test_some_of_the_views_are_those_of_all() -> None:
    views = collated(view(8), view(8), view(6))
    made = views.to(DEVICE)
    assert torch.equal(views[1].to(DEVICE), made[1])
    assert_equal([x.to(DEVICE) for x in views[1:]], made[1:])


# --- where it is made, and how it travels -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("engine", "devices", "reason", "ahead"),
    [
        ("auto", 1, "", True), ("auto", 0, "", False), ("auto", 1, "Triton is old", False),
        ("cpu", 1, "", False), ("reference", 1, "", False), ("gpu", 0, "", True),
    ],
)  # fmt: skip
def test_numbers_are_made_ahead_where_the_engine_may_run(
    monkeypatch: pytest.MonkeyPatch, engine: str, devices: int, reason: str, ahead: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: devices)
    monkeypatch.setattr(rendering, "_why_no_gpu", lambda: reason)
    assert may_use_gpu(engine) == ahead
    assert (collated(engine=engine).lowered is not None) == ahead


def test_views_that_come_without_numbers_get_them_when_they_are_rendered() -> None:
    views = collated(view(8), view(8))._with(lowered=None)
    assert_current(views)
    assert views.lowered is not None


@ON_THE_CPU
def test_rendered_views_keep_no_numbers() -> None:
    views = collated(view(8))
    assert views.render().lowered is None
    assert views.to(DEVICE)._source.lowered is None


def test_numbers_travel_from_a_worker_and_through_pickle() -> None:
    images = [noise(20, 24, seed=i) for i in range(2)]
    collate = MultiViewCollateFunction([view(8), view(6)], seed=0, render="late", engine="gpu")
    here = collated(view(8), view(6))
    assert here.lowered is not None
    (there,) = DataLoader(images, batch_size=2, collate_fn=collate, num_workers=1)  # type: ignore[arg-type]
    for views in (there, pickle.loads(pickle.dumps(here))):
        assert views.lowered is not None
        assert torch.equal(views.lowered.layout.words, here.lowered.layout.words)
        assert views.lowered.suits(views.images, views.table, views.views, views.sources)
    assert_current(there)


def test_workers_do_not_import_triton() -> None:
    code = (
        "import sys, torch; from lightly_aug import *;"
        "c = MultiViewCollateFunction([View(Shape(8))], render='late', engine='gpu', seed=0);"
        "assert c([torch.zeros(3, 9, 9)]).lowered; assert 'triton' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_numbers_are_pinned_with_the_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    pinned = list[int]()

    def pin(self: Tensor) -> Tensor:
        pinned.append(id(self))
        return self.clone()

    views = collated()
    assert views.lowered is not None
    monkeypatch.setattr(Tensor, "pin_memory", pin)
    copy = views.pin_memory()
    assert pinned == [id(views.images.pixels), id(views.lowered.layout.words)]
    assert copy.lowered is not None
    assert copy.lowered.suits(copy.images, copy.table, copy.views, copy.sources)


@pytest.mark.gpu
@NO_CUDA
def test_pinned_numbers_are_copied_once_and_the_host_never_waits() -> None:
    views = collated().pin_memory()
    assert views.lowered is not None
    assert views.lowered.layout.words.is_pinned()
    views.to("cuda")
    torch.cuda.set_sync_debug_mode("error")
    try:
        views.to("cuda")
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert_current(views)


# --- CUDA graphs ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["gpu", "reference"])
def test_rendering_while_a_graph_is_captured_is_an_error(monkeypatch: pytest.MonkeyPatch, engine: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    monkeypatch.setattr("lightly_aug.batch.choose", lambda engine, device: engine)
    with pytest.raises(RuntimeError, match="while a CUDA graph is captured, as each replay would repeat the draws"):
        collated(engine=engine).to("cuda")


# --- launches ---------------------------------------------------------------------------------------------------

LAUNCHES = """
import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

calls = []


class Launcher:
    def __init__(self, source, metadata):
        self.name = metadata.name

    def __call__(self, *arguments):
        own = [x.dtype if isinstance(x, torch.Tensor) else x for x in arguments[9:]]
        calls.append((self.name, arguments[:5], own))


class Driver:  # compiles for compute capability 9.0, and launches nothing
    launcher_cls = Launcher

    class utils:
        load_binary = staticmethod(lambda *_: (1, 2, 32, 0, 1024))
        unload_module = staticmethod(lambda *_: None)
        get_device_properties = staticmethod(lambda *_: {"max_shared_mem": 232448})

    get_current_device = get_current_stream = staticmethod(lambda *_: 0)
    get_current_target = staticmethod(lambda: GPUTarget("cuda", 90, 32))


driver.set_active(Driver())

from lightly_aug import MultiViewCollateFunction, Normalize, RandomGaussianBlur, ColorJitter, RandomResizedCrop, View
from lightly_aug.engines import gpu

view = View(RandomResizedCrop(8), ColorJitter(contrast=0.5), RandomGaussianBlur(p=0.5), Normalize())
collate = MultiViewCollateFunction([view] * 2, seed=0, render="late", engine="gpu")
layout = collate([torch.arange(243, dtype=torch.uint8).view(3, 9, 9)] * 4).lowered.layout
pixels = torch.zeros(4 * 3 * 9 * 9, dtype=torch.uint8)
for dtype in (torch.bfloat16, torch.bfloat16, torch.float32, torch.float32):
    gpu.draw(layout, pixels, gpu.Output(pixels.device, dtype))
first, again, wide, wide_again = (calls[i : i + 4] for i in range(0, 16, 4))
assert [name for name, _, _ in first] == ["weigh", "draw_tiles", "finish_rows", "blur_down"], first
assert len(calls) == 16
assert first == again, (first, again)
assert wide == wide_again
assert first != wide
assert len(gpu._compiled) == 7  # `weigh` does not see the views
odd = torch.zeros(4 * 3 * 9 * 9 + 1, dtype=torch.uint8)[1:]
gpu.draw(layout, odd, gpu.Output(odd.device, torch.bfloat16))
assert len(gpu._compiled) == 8  # memory that begins elsewhere
"""


@pytest.mark.skipif(sys.platform != "linux", reason="Triton's assembler is for Linux")
def test_kernels_are_launched_the_second_time_as_the_first() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    ran = subprocess.run([sys.executable, "-c", LAUNCHES], env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


def test_numbers_begin_where_wide_loads_can() -> None:
    views = collated(view(15), view(16), view(8), images=1)
    assert views.lowered is not None
    for group in views.lowered.layout.groups:
        assert group.begin % 16 == 0
        assert group.pitch % 16 == 0
    words = views.lowered.layout.words
    assert words.numpy().nbytes < 4096 + np.prod(views.table.shape) * 64
