"""Every engine renders what the reference renders, whatever the operations, the images and the batch."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from platform import machine

import kornia.augmentation as K
import numpy as np
import pytest
import torch
from helpers.cases import Array, examples, noise, seeds, size_of
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

import lightly_aug
from lightly_aug import (
    CenterCrop,
    Color,
    ColorJitter,
    Crop,
    ImageCollateFunction,
    MultiViewCollateFunction,
    Normalize,
    RandomEqualize,
    RandomGaussianBlur,
    RandomGrayscale,
    RandomHorizontalFlip,
    RandomJigsawPatch,
    RandomResizedCrop,
    RandomRotation,
    RandomRotation90,
    RandomSolarize,
    RandomVerticalFlip,
    Resize,
    Shape,
    Texture,
    View,
    Views,
)
from lightly_aug.cli.warm_up import render_small
from lightly_aug.engines import Output, choose, load, render, rendering
from lightly_aug.engines.plan import plan_passes
from lightly_aug.images import PackedImages
from lightly_aug.operations import JITTER_ORDERS, KorniaModule, Operation

SLOW = set() if torch.cuda.is_available() else {"gpu"}  # under Triton's interpreter, it gets less to do
fast = pytest.mark.parametrize("engine", ["cpu", "gpu"])
every = pytest.mark.parametrize("engine", ["reference", "cpu", "gpu"])
DEVICE = {"cpu": "cpu", "reference": "cpu", "gpu": "cuda" if torch.cuda.is_available() else "cpu"}


def pack(views: list[View], images: list[Array], seed: int = 0) -> Views:
    collate = MultiViewCollateFunction(views, seed=seed, render="late", mode=None)
    packed: Views = collate(images)
    return packed


def rendered(
    packed: Views,
    engine: str,
    dtype: torch.dtype | None = None,
    memory_format: torch.memory_format = torch.contiguous_format,
) -> list[Tensor]:
    """The views as an engine renders them, moved to the CPU."""
    output = Output(torch.device(DEVICE[engine]), dtype, memory_format)
    views = render(packed.images, packed.table, packed.views, output, engine)
    return [view.cpu() for view in views]


def assert_same(engine: str, packed: Views, tolerance: float = 1e-4) -> None:
    """An engine differs by at most `tolerance` from the reference in float64, whose own rounding does not count."""
    for ours, truth in zip(rendered(packed, engine), rendered(packed, "reference", torch.float64), strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours.double(), truth, rtol=0, atol=tolerance)


# --- any operations in any order --------------------------------------------------------------------------------

outputs = st.one_of(st.integers(1, 9), st.integers(1, 33))
half = st.just(0.5)
antialias = st.booleans()
interpolations = st.sampled_from(["bilinear", "bicubic"])

crops = st.builds(
    RandomResizedCrop,
    size=st.tuples(outputs, outputs),
    scale=st.sampled_from([(0.02, 1.0), (0.5, 0.6), (1.0, 1.0)]),
    interpolation=interpolations,
    antialias=antialias,
)
resizes = st.builds(Resize, size=st.tuples(outputs, outputs), interpolation=interpolations, antialias=antialias)
windows = st.one_of(
    st.builds(CenterCrop, size=st.tuples(outputs, outputs)),
    st.builds(Crop, size=st.tuples(outputs, outputs), top=st.integers(-20, 40), left=st.integers(-20, 40)),
    st.builds(RandomJigsawPatch, size=st.tuples(outputs, outputs), number=st.integers(0, 3), grid=st.integers(2, 4)),
)
flips = st.sampled_from([RandomHorizontalFlip(), RandomVerticalFlip(), RandomRotation90(0.7)])
angles = st.builds(RandomRotation, degrees=st.sampled_from([10, 180, (30, 60), (90, 90)]), p=half)
blurs = st.builds(RandomGaussianBlur, sigma=st.sampled_from([(0.1, 2.0), (0.01, 0.3), (2.0, 4.0)]), p=half)
solarizes = st.just(RandomSolarize(0.5, 0.4))
rgb = st.sampled_from(
    [ColorJitter(0.8, 0.8, 0.8, 0.2, p=0.8), ColorJitter(hue=0.5, saturation=1), RandomGrayscale(0.4)]
)
gray = st.sampled_from([ColorJitter(0.8, 0.8, p=0.8), RandomGrayscale(0.4)])
bright = st.just(ColorJitter(brightness=0.8))


@st.composite
def batches(
    draw: st.DrawFn,
    dtypes: Sequence[type] = (np.uint8, np.float32),
    images: int = 3,
    views: int = 2,
    side: int = 80,
) -> Views:
    """Up to `views` views of up to `images` images of one of `dtypes`, with sides of at most `side`."""
    sides = st.one_of(st.integers(1, 12), st.integers(1, side))
    channels = draw(st.sampled_from([1, 3, 3, 3, 5]))
    colours = {1: gray, 3: rgb}.get(channels, bright)
    dtype = draw(st.sampled_from(dtypes))
    count = draw(st.integers(1, images))
    one_size = draw(st.booleans())
    size = st.tuples(sides, sides)
    sizes = [draw(size)] * count if one_size else [draw(size) for _ in range(count)]
    photographs = [noise(*size, channels=channels, seed=draw(st.integers(0, 9)), dtype=dtype) for size in sizes]
    recipe = []
    for _ in range(draw(st.integers(1, views))):
        before = draw(
            st.lists(st.one_of(flips, angles, resizes, windows, crops, blurs, colours, solarizes), max_size=2)
        )
        last = draw(st.one_of(crops, crops, resizes, windows))
        after = draw(st.lists(st.one_of(flips, angles, blurs, colours, solarizes), max_size=4))
        height, width = size_of(last)
        if height != width:
            after = [operation for operation in after if not isinstance(operation, RandomRotation90)]
        normalize: list[Operation] = draw(st.sampled_from([[], [Normalize(0.5, 0.5)]]))
        recipe.append(View(*before, last, *after, *normalize))
    return pack(recipe, photographs, draw(seeds))


# two tests, so that two processes can share the search; their names seed it in CI, so neither repeats the other's cases
@settings(max_examples=examples(quick=100, full=5_200))
@given(batch=batches([np.uint8]))
def test_the_cpu_engine_renders_what_the_reference_renders_of_bytes(batch: Views) -> None:
    assert_same("cpu", batch)


@settings(max_examples=examples(quick=100, full=5_200))
@given(batch=batches([np.float32]))
def test_the_cpu_engine_renders_what_the_reference_renders_of_floats(batch: Views) -> None:
    assert_same("cpu", batch)


@settings(max_examples=examples(quick=10, full=25) if "gpu" in SLOW else examples(quick=200, full=1_000))
@given(batch=batches(images=1, views=1, side=14))
def test_the_gpu_engine_renders_what_the_reference_renders(batch: Views) -> None:
    assert_same("gpu", batch)


PAPERS = {
    "SimCLR": [View(Shape(24, interpolation="bicubic"), Color(0.8, 0.8, 0.8, 0.2), Texture(), Normalize(0.5, 0.5))] * 2,
    "BYOL": [
        View(Shape(24), Color(0.4, 0.4, 0.2, 0.1), Texture(1.0)),
        View(Shape(24), Color(0.4, 0.4, 0.2, 0.1), Texture(0.1, solarize=0.2)),
    ],
    "DINO": [View(Shape(24, (0.4, 1.0)), Color(), Texture())] * 2
    + [View(Shape(12, (0.05, 0.4)), Color(), Texture())] * 3,
    "satellite": [View(Shape(24, vflip=0.5, rot90=1.0, degrees=20), Color(), Texture(solarize=0.3))] * 2,
    "centre": [View(Resize(20), CenterCrop(24), Color(), Texture())],
}


UNKNOWN = [  # to the fast engines
    ColorJitter(0.8, 0.8, 0.8, 0.2, convention="tensorflow"),
    RandomGaussianBlur(p=1, border="zeros"),
    RandomEqualize(),
    KorniaModule(K.RandomPlasmaShadow(p=1.0)),
]


@pytest.mark.parametrize("operation", UNKNOWN, ids=lambda operation: type(operation).__name__)
@pytest.mark.parametrize("engine", ["cpu", "gpu"])
def test_what_only_the_reference_knows_is_a_pass_of_its_own(engine: str, operation: Operation) -> None:
    knows = pytest.importorskip(f"lightly_aug.engines.{engine}").knows
    whole = RandomResizedCrop(16), RandomJigsawPatch(8, 1), operation, ColorJitter(0.5), RandomGaussianBlur()
    assert [part.fused for part in plan_passes(whole, knows)] == [True, False, True]
    batch = pack([View(*whole)], [noise(20 + i, 25, seed=i) for i in range(1 if engine in SLOW else 4)])
    # values that differ in the last digit only may become different levels when they are equalized
    share = 0.02 if isinstance(operation, RandomEqualize) else 0
    (ours,), (truth,) = rendered(batch, engine), rendered(batch, "reference")
    assert ((ours - truth).abs() > 1e-4).double().mean() <= share


@fast
def test_every_image_is_solarized_from_its_own_threshold(engine: str) -> None:
    """Of 8-bit values, none of which is near a threshold."""
    view = View(Crop((6, 7), 1, 2), RandomSolarize((0.0, 1.0), 0.7))
    assert_same(engine, pack([view], [noise(9, 10, seed=i) for i in range(2 if engine in SLOW else 20)]), 1e-6)


@pytest.mark.parametrize("paper", PAPERS)
@fast
def test_views_as_in_papers(engine: str, paper: str) -> None:
    images = [noise(40 + 3 * i, 70 - 5 * i, seed=i) for i in range(1 if engine in SLOW else 6)]
    assert_same(engine, pack(PAPERS[paper], images, seed=3), 2e-5 if paper != "satellite" else 1e-4)


@fast
def test_a_large_photograph(engine: str) -> None:
    photograph = noise(70, 60) if engine in SLOW else noise(700, 900)
    assert_same(engine, pack([View(Shape(12)), View(Resize((9, 30), interpolation="bicubic"))], [photograph]))


@fast
def test_values_jump_at_the_threshold_of_a_solarization_only(engine: str) -> None:
    batch = pack(
        [View(RandomResizedCrop(48), Color(), RandomSolarize(0.3, 1.0))], [noise(60, 60, seed=i) for i in range(4)]
    )
    (ours,), (truth,) = rendered(batch, engine), rendered(batch, "reference", torch.float64)
    assert ((ours - truth).abs() > 1e-4).double().mean() <= 1e-4  # which is two values of four images


# --- against torchvision, image by image ------------------------------------------------------------------------


@every
@settings(max_examples=8)
@given(seed=seeds)
def test_crop_and_jitter_are_torchvisions(engine: str, seed: int) -> None:
    crop, jitter = RandomResizedCrop(20), ColorJitter(0.4, 0.4, 0.4, 0.1)
    image = noise(31, 45, seed=seed % 1000)
    batch = pack([View(crop, jitter)], [image], seed)
    (ours,) = rendered(batch, engine)
    n = {name.split(".")[1]: float(column[0]) for name, column in batch.draws[0].items()}
    x = torch.from_numpy(image).permute(2, 0, 1) / 255
    x = tv.resized_crop(x, *(int(n[k]) for k in ("top", "left", "height", "width")), [20, 20], antialias=True)
    adjust: dict[str, Callable[[Tensor, float], Tensor]] = {
        "brightness": tv.adjust_brightness,
        "contrast": tv.adjust_contrast,
        "saturation": tv.adjust_saturation,
        "hue": tv.adjust_hue,
    }
    for part in JITTER_ORDERS[int(n["order"])]:
        x = adjust[part](x, n[part])
    torch.testing.assert_close(ours[0], x, rtol=0, atol=1e-3)  # their luma weights are rounded to .2989


# --- what holds for every engine --------------------------------------------------------------------------------

EVERYTHING = [
    View(Shape(16, vflip=0.5, rot90=0.5, degrees=20), Color(), Texture(solarize=0.3), Normalize(0.5, 0.5)),
    View(Shape(16), Color(), Texture()),
    View(Shape(8), RandomGaussianBlur((1, 2), 1.0), Color()),
]


def some(dtype: type = np.uint8, count: int = 5, channels: int = 3) -> list[Array]:
    return [noise(20 + 7 * i, 50 - 6 * i, channels, seed=i, dtype=dtype) for i in range(count)]


def some_batch(engine: str, dtype: type = np.uint8) -> Views:
    """Some images and views that hold all operations the engines know."""
    return pack(EVERYTHING[-1:], some(dtype, 2), 1) if engine in SLOW else pack(EVERYTHING, some(dtype))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@every
def test_the_input_is_not_written_to(engine: str, dtype: type) -> None:
    batch = some_batch(engine, dtype)
    pixels, table, shapes = batch.images.pixels.clone(), batch.table.clone(), batch.images.shapes.clone()
    rendered(batch, engine)
    assert torch.equal(batch.images.pixels, pixels)
    assert torch.equal(batch.table, table)
    assert torch.equal(batch.images.shapes, shapes)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@every
def test_the_result_has_the_dtype_and_layout_asked_for(
    engine: str, dtype: torch.dtype, memory_format: torch.memory_format
) -> None:
    batch = some_batch(engine)
    exact = rendered(batch, "reference", torch.float64)
    for view, truth in zip(rendered(batch, engine, dtype, memory_format=memory_format), exact, strict=True):
        assert view.dtype == dtype
        assert view.is_contiguous(memory_format=memory_format)
        step = torch.finfo(dtype).eps * truth.abs().max()
        torch.testing.assert_close(view.double(), truth, rtol=0, atol=max(1e-4, float(step)))


# --- the CPU engine: views of 16 bits, and with the channels last -----------------------------------------------

LAYOUTS = [
    (dtype, layout)
    for dtype in (torch.float32, torch.bfloat16, torch.float16)
    for layout in (torch.contiguous_format, torch.channels_last)
]
layouts = pytest.mark.parametrize(("dtype", "layout"), LAYOUTS)


def assert_stored(batch: Views, dtype: torch.dtype, layout: torch.memory_format) -> None:
    """Views of any dtype and layout are those of float32, as torch rounds them: every bit, except those of a NaN."""
    for stored, single in zip(rendered(batch, "cpu", dtype, layout), rendered(batch, "cpu"), strict=True):
        expected = single.to(dtype)
        assert stored.is_contiguous(memory_format=layout)
        bits = {2: torch.int16, 4: torch.int32}[dtype.itemsize]
        numbers = ~expected.isnan()
        assert torch.equal(stored.isnan(), ~numbers)
        assert torch.equal(stored.contiguous().view(bits)[numbers], expected.view(bits)[numbers])


@layouts
@given(values=st.lists(st.floats(width=32), min_size=1, max_size=40))
@example(values=[np.uint64(2**63 - 1).view(np.float64).item()])  # a NaN that rounds up to no NaN
@example(values=[np.nan, -np.nan, np.inf, -np.inf, 3e38, -65520.0, 65519.0, 0.0, 1e-45])
def test_any_number_is_stored_as_torch_rounds_it(
    dtype: torch.dtype, layout: torch.memory_format, values: list[float]
) -> None:
    batch = pack([View(Resize(1))], [np.zeros((1, 1, 1), dtype=np.float32)] * len(values))
    batch.images.pixels[:] = torch.tensor(values)  # of which collate functions refuse those that are not finite
    assert_stored(batch, dtype, layout)


@layouts
def test_numbers_around_every_tie_are_stored_as_torch_rounds_them(
    dtype: torch.dtype, layout: torch.memory_format
) -> None:
    """All finite float32 numbers whose lower bits are 0, or next to where a bfloat16, float16 or its subnormal ties."""
    upper = np.arange(1 << 16, dtype=np.uint32) << 16
    lower = np.array([0, 1, 0xFFF, 0x1000, 0x1001, 0x7FFF, 0x8000, 0x8001], dtype=np.uint32)
    values = (upper[:, None] | lower).view(np.float32).reshape(1 << 9, -1, 1)
    batch = pack([View(Crop(values.shape[:2], 0, 0))], [np.where(np.isfinite(values), values, 0)])
    assert_stored(batch, dtype, layout)


@layouts
@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_views_of_every_layout_have_the_same_values(
    dtype: torch.dtype, layout: torch.memory_format, channels: int
) -> None:
    colours = [ColorJitter(0.8, 0.8)] if channels in (1, 3) else [ColorJitter(0.8)]
    views = [
        View(Shape((9, 14), vflip=0.5), *colours, Texture(), Normalize(0.5, 0.3)),
        View(RandomResizedCrop(8), RandomRotation90(0.8), Texture(1.0)),
    ]
    assert_stored(pack(views, some(channels=channels)), dtype, layout)


@every
def test_the_views_of_an_image_do_not_depend_on_its_neighbours(engine: str) -> None:
    together = some_batch(engine)
    for i, (offset, h, w) in enumerate(together.images.shapes.tolist()):
        pixels = together.images.pixels[offset : offset + 3 * h * w]
        image = PackedImages(pixels, torch.tensor([[0, h, w]]), 3, together.images.raw[i : i + 1])
        alone = Views(image, together.table[:, i : i + 1], together.views)
        for one, many in zip(rendered(alone, engine), rendered(together, engine), strict=True):
            torch.testing.assert_close(one[0], many[i], rtol=0, atol=2e-6 if engine == "reference" else 0)


@pytest.mark.filterwarnings("ignore:.*encountered:RuntimeWarning")  # Triton's interpreter computes with NumPy
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
@every
def test_an_extreme_image_touches_no_other(engine: str, value: float) -> None:
    batch = some_batch(engine, np.float32)
    clean = rendered(batch, engine)
    offset, h, w = batch.images.shapes[1].tolist()
    batch.images.pixels[offset : offset + 3 * h * w] = value
    for view, before in zip(rendered(batch, engine), clean, strict=True):
        others = [i for i in range(batch.batch_size) if i != 1]
        assert torch.equal(view[others], before[others])


@pytest.mark.parametrize("scale", [1e-40, 1e-36])
@every
def test_views_of_images_that_are_nearly_black_are_finite(engine: str, scale: float) -> None:
    batch = some_batch(engine, np.float32)
    batch.images.pixels.mul_(scale)
    for view, expected in zip(rendered(batch, engine), rendered(batch, "reference"), strict=True):
        torch.testing.assert_close(view, expected, rtol=0, atol=1e-4)  # NaN is not close to anything


@every
def test_rendering_twice_gives_the_same_bits(engine: str) -> None:
    batch = some_batch(engine)
    for one, other in zip(rendered(batch, engine), rendered(batch, engine), strict=True):
        assert torch.equal(one, other)


@every
def test_an_empty_batch(engine: str) -> None:
    full = pack(EVERYTHING, some())
    nothing = PackedImages(full.images.pixels[:0], full.images.shapes[:0], 3, full.images.raw[:0])
    empty = Views(nothing, full.table[:, :0], full.views)
    assert [tuple(view.shape) for view in rendered(empty, engine)] == [(0, 3, 16, 16), (0, 3, 16, 16), (0, 3, 8, 8)]


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
@every
def test_any_number_of_channels(engine: str, channels: int) -> None:
    view = View(Shape(16, vflip=0.5, rot90=0.5), bright_only := ColorJitter(brightness=0.5), Texture(solarize=0.5))
    assert bright_only.channels is None
    assert_same(engine, pack([view], some(channels=channels, count=1 if engine in SLOW else 5)))


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (2, 3)])
@every
def test_images_smaller_than_the_blur(engine: str, size: tuple[int, int]) -> None:
    blur = RandomGaussianBlur((1.5, 2.0), 1.0)
    assert_same(engine, pack([View(blur), View(Shape(3), blur), View(Shape((1, 7)), blur)], [noise(*size, seed=1)]))


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_the_number_of_threads_changes_nothing(threads: int) -> None:
    batch = pack(EVERYTHING, some())
    before, one = torch.get_num_threads(), rendered(batch, "cpu")
    try:
        torch.set_num_threads(threads)
        for view, expected in zip(rendered(batch, "cpu"), one, strict=True):
            assert torch.equal(view, expected)
    finally:
        torch.set_num_threads(before)


# --- the choice -------------------------------------------------------------------------------------------------


def test_auto_takes_the_fast_engine_of_the_device() -> None:
    assert choose("auto", torch.device("cpu")) == "cpu"
    assert choose("auto", torch.device("cuda")) == "gpu"
    assert choose("auto", torch.device("meta")) == "reference"


@pytest.mark.parametrize("ask", [load, lambda engine: choose(engine, torch.device("cpu"))])
def test_an_engine_of_another_name_is_refused(ask: Callable[[str], object]) -> None:
    with pytest.raises(ValueError, match="engine must be one of 'auto', 'reference', 'cpu', 'gpu', got 'warp'"):
        ask("warp")


def test_auto_is_chosen_before_it_is_loaded() -> None:
    with pytest.raises(ValueError, match="engine 'auto' depends on the device"):
        load("auto")
    assert load("reference") is None


def test_the_cpu_engine_refuses_other_devices() -> None:
    batch = pack(EVERYTHING, some())
    batch.engine = "cpu"
    with pytest.raises(ValueError, match="engine 'cpu' cannot render on 'meta'"):
        batch.to("meta")


@pytest.fixture
def anew() -> Iterator[None]:
    """Engines are looked for again, here and afterwards."""
    cached = rendering._find_engine, rendering._why_no_gpu
    for function in cached:
        function.cache_clear()
    yield
    for function in cached:
        function.cache_clear()


@pytest.mark.usefixtures("anew")
@pytest.mark.parametrize(
    ("device", "installed", "hip", "reason"),
    [
        ("cpu", {}, None, "Numba, .* is not installed: pip install numba"),
        ("cuda", {}, None, "Triton, .* is not installed"),
        ("cuda", {"triton": "3.2.0"}, None, r"Triton 3\.2 cannot compile the fast one: PyTorch 2\.7"),
        ("cuda", {"triton": "3.6.0"}, "6.4", "AMD GPUs: with render='worker'"),
        ("mps", {"numba": "0.61"}, None, "no fast one for 'mps': with render='worker'"),
    ],
)
def test_a_slow_engine_is_taken_with_one_warning(
    monkeypatch: pytest.MonkeyPatch, device: str, installed: dict[str, str], hip: str | None, reason: str
) -> None:
    monkeypatch.setattr(rendering, "find_spec", installed.get)
    monkeypatch.setattr("importlib.metadata.version", installed.__getitem__)
    monkeypatch.setattr(torch.version, "hip", hip)
    with pytest.warns(UserWarning, match=f"reference engine, .* ten times as slow .*; .*{reason}"):
        assert choose("auto", torch.device(device)) == "reference"
    assert choose("auto", torch.device(device)) == "reference"  # a second warning would be an error
    if "triton" in installed:
        with pytest.raises(ValueError, match=f"engine 'gpu' cannot render on 'cuda'; .*{reason}"):
            choose("gpu", torch.device(device))


@pytest.mark.usefixtures("anew")
@pytest.mark.parametrize("name", ["triton", "triton-windows"])
def test_triton_from_3_3_on_renders(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def version(asked: str) -> str:
        if asked != name:
            raise PackageNotFoundError
        return "3.10.1"

    monkeypatch.setattr("importlib.metadata.version", version)
    monkeypatch.setattr(torch.version, "hip", None)
    assert choose("auto", torch.device("cuda")) == "gpu"


def test_warm_up_compiles_ahead_and_says_what_it_found(tmp_path: Path) -> None:
    """In processes of their own, with an empty cache, a full one, and one that was cut off: the last is of no use."""
    cache, kernels = tmp_path / "cache", tmp_path / "lightly_aug" / "engines" / "cpu_kernels.py"
    package, old = Path(lightly_aug.__file__).parent, shutil.ignore_patterns("__pycache__")
    shutil.copytree(package, tmp_path / "lightly_aug", ignore=old)  # so that no other process compiles again
    os.utime(kernels, ns=(1_700_000_000_900_000_000,) * 2)

    def warm_up(folder: Path = cache) -> "subprocess.CompletedProcess[str]":
        words = [sys.executable, "-m", "lightly_aug", "warm-up"]
        environment = os.environ | {"NUMBA_CACHE_DIR": str(folder), "PYTHONPATH": str(tmp_path)}
        return subprocess.run(words, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)

    kept = rf"s, and is kept in {re.escape(str(cache))}\S+\n"
    ran = warm_up()
    assert ran.returncode == 0
    assert re.match(rf"The CPU engine is compiled: it took \d+\.\d {kept}", ran.stdout)
    assert ran.stderr.startswith("compiling the CPU engine of lightly_aug: once on this machine")
    assert ran.stderr.count("\n") == 1
    assert kernels.stat().st_mtime_ns == 1_700_000_000_000_000_000  # the whole seconds, which layers of images keep

    ran = warm_up()
    assert (ran.returncode, ran.stderr) == (0, "")
    assert re.match(rf"The CPU engine was compiled before: it loads in \d+\.\d {kept}", ran.stdout)

    (index,) = cache.rglob("*.nbi")
    ran = warm_up(index)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert f"NUMBA_CACHE_DIR must be a folder that can be written, got {index}" in ran.stderr

    index.write_bytes(index.read_bytes()[:9])
    ran = warm_up()
    assert (ran.returncode, ran.stdout) == (2, "")
    assert re.search(r"Warning: the compiled CPU engine cannot be kept .*(EOFError|UnpicklingError)", ran.stderr)
    assert ran.stderr.splitlines()[-1].startswith("Error: the CPU engine was compiled, but cannot")


@pytest.mark.skipif("gpu" not in SLOW, reason="compiles for minutes")
def test_warm_up_renders_with_the_gpu_engine() -> None:
    render_small(torch.device("cpu"))


PROCESSORS = {  # Numba compiles for these, whatever the machine has
    "avx2": {"NUMBA_CPU_NAME": "x86-64-v3", "NUMBA_CPU_FEATURES": "+avx2"},
    "sse2": {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""},
}


@pytest.mark.skipif(examples(0, 1) == 0 or machine() != "x86_64", reason="compiles for each processor: in CI only")
@pytest.mark.parametrize("name", PROCESSORS)
def test_instruction_sets_differ_in_the_last_digits_only(name: str, tmp_path: Path) -> None:
    """Views are those of this machine, when they are rendered in a process that compiles for another processor."""
    batch = pack([*EVERYTHING[:2], *PAPERS["SimCLR"]], some())
    views = rendered(batch, "cpu")
    torch.save(batch, tmp_path / "batch.pt")
    code = (
        "import sys, torch; batch = torch.load(sys.argv[1], weights_only=False);"
        "batch.engine = 'cpu'; torch.save(list(batch.to('cpu')), sys.argv[2])"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "batch.pt"), str(tmp_path / "views.pt")]
    subprocess.run(words, env=os.environ | PROCESSORS[name], check=True, capture_output=True)
    for ours, theirs in zip(views, torch.load(tmp_path / "views.pt"), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6 * 2)  # which Normalize doubles


@pytest.mark.parametrize("engine", ["cpu", "reference"])
def test_collate_functions_take_the_engine(engine: str) -> None:
    collate = ImageCollateFunction(16, seed=0, engine=engine, render="worker")
    views = collate(some())
    for view, expected in zip(views, rendered(pack(list(collate.views), some()), engine), strict=True):
        torch.testing.assert_close(view, expected, rtol=0, atol=1e-6)
