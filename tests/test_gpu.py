"""The engine of GPUs against the reference; without a GPU, under Triton's interpreter, which is slow: small images."""

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from helpers.cases import Array, blurs, colours, exact, noise, packed, recipes, seeds, turns
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lightly_aug import (
    CenterCrop,
    ColorJitter,
    MultiViewCollateFunction,
    Normalize,
    RandomGaussianBlur,
    RandomGrayscale,
    RandomHorizontalFlip,
    RandomResizedCrop,
    RandomRotation,
    RandomSolarize,
    Resize,
    View,
    Views,
)
from lightly_aug.engines import Output, render
from lightly_aug.engines.plan import plan_passes
from lightly_aug.images import PackedImages
from lightly_aug.operations import KorniaModule, Operation

CUDA = torch.cuda.is_available()
if not CUDA:
    os.environ.setdefault("TRITON_INTERPRET", "1")  # read where kernels are defined, Triton's own when it is imported
triton = pytest.importorskip("triton")

from lightly_aug.engines import gpu, gpu_kernels, gpu_layout  # noqa: E402

if not CUDA and any(
    isinstance(kernel, triton.JITFunction) for kernel in (triton.language.cdiv, gpu_kernels.draw_tiles)
):
    pytest.skip("Triton was imported before its interpreter could be asked for", allow_module_level=True)

NO_CUDA = pytest.mark.skipif(not CUDA, reason="needs a CUDA device")
DEVICE = torch.device("cuda" if CUDA else "cpu")

small = st.tuples(st.integers(1, 22), st.integers(1, 22))
dtypes = st.sampled_from([np.uint8, np.float32])
light = settings(max_examples=10)


def rendered(
    views: Views,
    engine: str = "gpu",
    dtype: torch.dtype | None = None,
    device: torch.device | None = None,
) -> list[Tensor]:
    """The views as an engine renders them: the GPU engine on `DEVICE`, the reference on the CPU or on `device`."""
    output = Output(device or (DEVICE if engine == "gpu" else torch.device("cpu")), dtype)
    return [view.cpu() for view in render(views.images, views.table, views.views, output, engine)]


def assert_same(views: Views, tolerance: float = 1e-4) -> None:
    """The views of the two engines differ by at most `tolerance` in any value."""
    for fast, truth in zip(rendered(views), rendered(views, "reference"), strict=True):
        assert fast.shape == truth.shape
        assert fast.dtype == truth.dtype
        assert ((fast - truth).abs() <= tolerance).all(), (fast - truth).abs().max()


def simclr(side: int, *, sigma: tuple[float, float] = (0.1, 2.0)) -> View:
    return View(
        RandomResizedCrop(side, scale=(0.3, 1)),
        RandomHorizontalFlip(),
        ColorJitter(0.8, 0.8, 0.8, 0.2, p=0.8),
        RandomGrayscale(0.2),
        RandomGaussianBlur(sigma),
        Normalize(),
    )


def collated(*views: View, images: int = 3, seed: int = 0, dtype: type = np.uint8) -> Views:
    collate = MultiViewCollateFunction(list(views), seed=seed, render="late", mode=None)
    result: Views = collate([noise(20 + i, 24 - i, seed=i, dtype=dtype) for i in range(images)])
    return result


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The grids of all launches."""
    grids, launch = list[Any](), gpu._launch

    def record(kernel: Any, grid: Any, *arguments: Any, **constants: Any) -> None:
        grids.append(grid)
        launch(kernel, grid, *arguments, **constants)

    monkeypatch.setattr(gpu, "_launch", record)
    return grids


# --- the same pixels --------------------------------------------------------------------------------------------


@settings(max_examples=20)
@given(
    size=small,
    to=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    interpolation=st.sampled_from(["bilinear", "bicubic"]),
    antialias=st.booleans(),
    moves=st.lists(exact, max_size=2),
    seed=seeds,
    dtype=dtypes,
)
def test_crops(
    size: tuple[int, int],
    to: tuple[int, int],
    interpolation: Any,
    antialias: bool,
    moves: list[Operation],
    seed: int,
    dtype: type,
) -> None:
    crop = RandomResizedCrop(to, scale=(0.3, 1), interpolation=interpolation, antialias=antialias)
    operations = [*moves, crop, *moves, CenterCrop((24, 9))]
    assert_same(packed(operations, [noise(*size, seed=seed, dtype=dtype)], seed), 5e-6)


@light
@given(seed=seeds, size=small, degrees=st.floats(-400, 400), cut=st.integers(1, 30))
def test_rotations(seed: int, size: tuple[int, int], degrees: float, cut: int) -> None:
    operations: list[Operation] = [RandomRotation((degrees, degrees)), RandomHorizontalFlip(), CenterCrop(cut)]
    assert_same(packed(operations, [noise(*size, seed=seed)], seed))


@light
@given(
    size=small,
    sigma=st.floats(0.1, 6.0),
    steps=st.lists(colours, max_size=3),
    seed=seeds,
)
def test_blurs_of_any_width_on_views_of_any_size(
    size: tuple[int, int], sigma: float, steps: list[Operation], seed: int
) -> None:
    blur = RandomGaussianBlur((sigma, sigma), p=1)
    assert gpu.knows(blur)
    assert_same(packed([Resize(size), blur], [noise(*size, seed=seed)], seed), 2e-6)
    jitter = [op for op in steps if isinstance(op, ColorJitter)][:1]
    others = [op for op in steps if isinstance(op, RandomGrayscale)]
    assert_same(packed([Resize(size), *jitter, blur, *others, Normalize()], [noise(*size, seed=seed)], seed), 1e-4)


@light
@given(seed=seeds, hue=st.floats(-0.5, 0.5), levels=st.sampled_from([2, 3, 256]))
def test_colours_also_where_channels_are_equal(seed: int, hue: float, levels: int) -> None:
    image = (noise(9, 30, seed=seed).astype(int) % levels * (255 // (levels - 1))).astype(np.uint8)
    jitter = ColorJitter((0, 2), (0, 2), (0, 3), (hue, hue))
    assert_same(packed([jitter, RandomGrayscale(0.3), Normalize()], [image] * 2, seed), 4e-5)


def test_a_view_of_many_tiles() -> None:
    views = packed(
        [
            RandomResizedCrop((34, 50), scale=(1, 1)),
            ColorJitter(0, 0.9),
            RandomGaussianBlur((1, 5), p=0.6),
            Normalize(),
        ],
        [noise(30, 45, seed=i) for i in range(3)],
        seed=2,
    )
    radii = gpu_layout._radii(views.draws[0]["RandomGaussianBlur.sigma"].numpy())
    assert 0 in radii
    assert max(radii) > 8
    # 1e-5 under the interpreter; GPUs fuse multiplications and additions, and Normalize divides by .225
    assert_same(views, 3e-5)


def test_a_mean_of_more_tiles_than_are_added_at_once() -> None:
    ramp = (np.arange(1, 130 * gpu_layout.TILE_X) // 20).astype(np.uint8).reshape(1, -1, 1)
    assert_same(packed([ColorJitter(contrast=(0.3, 0.3)), RandomGaussianBlur(p=1)], [ramp]), 2e-6)


@pytest.mark.parametrize(("h", "w"), [(1, 1), (1, 30), (30, 1), (40, 6)])
def test_thin_images_and_large_ones(h: int, w: int) -> None:
    image = noise(h, w)
    for operations in (
        [RandomResizedCrop((3, 8)), RandomGaussianBlur((2, 2), p=1)],
        [Resize((5, 2), "bicubic"), ColorJitter(0.5, 0.5, 0.5, 0.5)],
        [RandomRotation((30, 30)), RandomGaussianBlur((2, 2), p=1)],
        [RandomRotation((30, 30)), RandomGrayscale(1)],
    ):
        assert_same(packed(operations, [image]), 1e-5)


@light
@given(
    operations=st.lists(st.one_of(exact, turns, blurs), max_size=2),
    channels=st.sampled_from([1, 2, 5]),
    side=st.integers(1, 20),
    seed=seeds,
)
def test_any_number_of_channels(operations: list[Operation], channels: int, side: int, seed: int) -> None:
    statistics = tuple(0.3 + 0.1 * c for c in range(channels))
    operations = [
        *operations,
        RandomResizedCrop((10, 33)),
        RandomGaussianBlur(p=0.5),
        Normalize(statistics, statistics),
    ]
    operations.insert(-1, ColorJitter(0.5, contrast=0.5 if channels == 1 else 0))
    operations.insert(-1, RandomSolarize(0.0, 0.5))
    assert_same(packed(operations, [noise(side, side, channels, seed=seed)], seed), 1e-4)


def test_pixels_that_no_operation_changes_are_copied() -> None:
    for dtype, tolerance in ((np.uint8, 1.2e-7), (np.float32, 0)):  # 8 bits are multiplied by 1 / 255
        image = noise(20, 33, dtype=dtype)
        (view,) = rendered(
            packed([RandomResizedCrop((20, 33), scale=(1, 1), ratio=(1.65, 1.65)), CenterCrop(40)], [image])
        )
        exactly = torch.from_numpy(image).permute(2, 0, 1) / (255 if dtype is np.uint8 else 1)
        torch.testing.assert_close(view[0, :, 10:30, 3:36], exactly, rtol=tolerance, atol=0)
        assert view.count_nonzero() == exactly.count_nonzero()


# --- 16 bits, where what waits has 65,535 levels; and what is not finite ------------------------------------------


@light
@given(
    operations=recipes(),
    size=small,
    dtype=dtypes,
    to=st.sampled_from([torch.bfloat16, torch.float16]),
    last=st.booleans(),
    seed=seeds,
)
def test_views_of_16_bits_are_those_of_32_rounded(
    operations: list[Operation], size: tuple[int, int], dtype: type, to: torch.dtype, last: bool, seed: int
) -> None:
    views = packed(operations, [noise(*size, seed=seed % 7 + i, dtype=dtype) for i in range(2)], seed)
    form = torch.channels_last if last else torch.contiguous_format
    (ours,) = render(views.images, views.table, views.views, Output(DEVICE, to, form), "gpu")
    (truth,) = rendered(views, "reference", torch.float64)
    assert ours.dtype == to
    assert ours.is_contiguous(memory_format=form)
    # a last digit, since the interpreter cuts off bfloat16; and half a level, times jitter and Normalize
    close = torch.finfo(to).eps * truth.abs() + (2e-4 if dtype is np.uint8 else 1e-4)
    assert ((ours.cpu().double() - truth).abs() <= close).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_values_that_16_bits_cannot_hold_wait_in_32(dtype: type) -> None:
    operations = [RandomResizedCrop(12), Normalize(0.5, 0.1), RandomGaussianBlur((0.5, 1.0), p=1)]
    views = packed(operations, [noise(20, 20, seed=i, dtype=dtype) for i in range(3)])
    (ours,), (truth,) = rendered(views, dtype=torch.float16), rendered(views, "reference", torch.float64)
    assert ours.dtype == torch.float16
    assert truth.min() < 0
    torch.testing.assert_close(ours.double(), truth, rtol=1e-3, atol=1e-3)


@pytest.mark.filterwarnings("ignore:.*encountered:RuntimeWarning")  # the interpreter computes with NumPy
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_spreads_as_far_as_the_blur(value: float) -> None:
    batch = packed([RandomGaussianBlur((1.0, 1.0), p=1)], [noise(40, 40, dtype=np.float32)])
    batch.images.pixels[(20 * 40 + 20) * 3 + 1] = value  # a collate function refuses such an image
    (ours,), (truth,) = rendered(batch), rendered(batch, "reference")
    assert torch.equal(ours.isfinite(), truth.isfinite())
    assert (~truth.isfinite()).sum() == 81


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_more_views_than_the_scratch_holds_are_blurred_in_turns(
    monkeypatch: pytest.MonkeyPatch, launches: list[Any], dtype: torch.dtype
) -> None:
    views = collated(simclr(16), View(RandomResizedCrop(16), RandomGaussianBlur((1, 2), p=1)), images=3)
    before = rendered(views, dtype=dtype)
    few = len(launches)
    monkeypatch.setattr(gpu, "_SCRATCH", 2 * 3 * 16 * 32 * 4)  # two views
    for ours, expected in zip(rendered(views, dtype=dtype), before, strict=True):
        assert torch.equal(ours, expected)
    assert len(launches) >= 2 * few + 2


# --- batches and launches ---------------------------------------------------------------------------------------


def test_more_images_than_a_grid_holds_are_drawn_in_turns(monkeypatch: pytest.MonkeyPatch, launches: list[Any]) -> None:
    views = collated(simclr(16), View(RandomResizedCrop(16), ColorJitter(contrast=0.5)), images=5)
    before = rendered(views)
    few = len(launches)
    monkeypatch.setattr(gpu, "_MOST", 2)
    for ours, expected in zip(rendered(views), before, strict=True):
        assert torch.equal(ours, expected)
    assert len(launches) >= 2 * few + 2 * 4  # five turns of drawing, and of finishing


def test_views_are_bit_equal_twice_alone_and_in_any_batch() -> None:
    images = [noise(12 + i, 16 - i, seed=i) for i in range(4)]
    operations = list(simclr(17, sigma=(0.1, 5.0)).operations)
    together = packed(operations, images, 4, [7, 1, 5, 3])
    radii = gpu_layout._radii(together.draws[0]["RandomGaussianBlur.sigma"].numpy())
    assert {0} < set(radii)
    (views,) = rendered(together)
    assert torch.equal(rendered(together)[0], views)
    for i, index in enumerate([7, 1, 5, 3]):
        assert torch.equal(rendered(packed(operations, [images[i]], 4, [index]))[0][0], views[i])


def test_views_of_different_recipes_are_rendered_together() -> None:
    assert_same(
        collated(
            View(RandomResizedCrop(16, interpolation="bicubic")),
            View(RandomResizedCrop(16, interpolation="bicubic"), RandomGaussianBlur((3, 3), p=1), Normalize(0.5, 2.0)),
            View(RandomResizedCrop(16), ColorJitter(0.5, 0.5), Normalize()),
            View(RandomResizedCrop((16, 15)), ColorJitter(0, 0.5), RandomGaussianBlur(p=1)),
            View(RandomRotation(20), RandomResizedCrop(16), ColorJitter(0.5)),
        ),
        1e-5,
    )


@pytest.mark.parametrize(
    ("recipe", "most"),
    [
        ([simclr(16)] * 2, 4),
        ([simclr(32)] * 2 + [simclr(16)] * 4, 8),
        ([View(RandomResizedCrop(16), Normalize())] * 2, 2),
        ([View(Resize((16, 16)), ColorJitter(0.5, 0.5))] * 2, 3),
        ([simclr(16, sigma=(0.1, 6.0))] * 2, 4),
    ],
)
def test_launches_are_few(launches: list[Any], recipe: list[View], most: int) -> None:
    rendered(collated(*recipe, images=2))
    assert 0 < len(launches) <= most


def test_nothing_is_launched_for_no_images(launches: list[Any]) -> None:
    (one,) = plan_passes((RandomResizedCrop(8), ColorJitter(contrast=0.5), RandomGaussianBlur()), gpu.knows)
    raw, shapes = np.empty(0, dtype=bool), torch.zeros((0, 3), dtype=torch.int64)
    none = PackedImages(torch.empty(0, device=DEVICE), shapes, 3, raw)
    program = one.lower(none, np.zeros((0, 12)), Output(DEVICE, torch.float16))
    (view,) = gpu.run([program])
    assert view.shape[:2] == (0, 3)
    assert view.dtype == torch.float16
    assert gpu.run([]) == []
    assert not launches


# --- operations and devices that it leaves to the reference -----------------------------------------------------


def test_the_reference_renders_operations_that_the_engine_does_not_know(launches: list[Any]) -> None:
    other = RandomGaussianBlur((0.1, 2.0), p=1, border="zeros")
    assert not gpu.knows(other)
    assert not gpu.knows(KorniaModule(torch.nn.Identity()))
    views = packed([RandomResizedCrop(16), other], [noise(20, 20)])
    assert_same(views, 1e-6)
    assert len(launches) == 2
    (ours,) = rendered(views, dtype=torch.float64)
    (truth,) = rendered(views, "reference", torch.float64, device=DEVICE)  # devices differ in the last bit
    assert torch.equal(ours, truth)
    assert len(launches) == 2


def test_without_a_gpu_the_error_says_what_to_do() -> None:
    code = (
        "import torch; from lightly_aug import *;"
        "collate = MultiViewCollateFunction([View(Resize((2, 2)))], render='late', engine='gpu');"
        "collate([torch.zeros(3, 4, 4)]).to('cpu')"
    )
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert "ValueError: engine 'gpu' cannot render on 'cpu': use engine='auto'" in ran.stderr


# --- on a device ------------------------------------------------------------------------------------------------


@pytest.fixture
def syncs_are_errors() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("error")
    yield
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
@NO_CUDA
@pytest.mark.parametrize("side", [96, 224])
def test_a_gpu_renders_what_the_reference_renders(side: int) -> None:
    images: list[Array] = [noise(300 + i, 400 - i, seed=i) for i in range(16)]
    recipe = [simclr(side), simclr(side, sigma=(0.1, 6.0)), View(RandomRotation(30), CenterCrop(side))]
    assert_same(MultiViewCollateFunction(recipe, seed=1, render="late", mode=None)(images), 5e-4)


@pytest.mark.gpu
@NO_CUDA
def test_from_pinned_memory_to_views_the_host_never_waits(request: pytest.FixtureRequest) -> None:
    views = collated(simclr(32), simclr(16), images=8).pin_memory()

    def once() -> None:
        render(views.images, views.table, views.views, Output(DEVICE), "gpu")

    once()  # compiles
    request.getfixturevalue("syncs_are_errors")
    once()
