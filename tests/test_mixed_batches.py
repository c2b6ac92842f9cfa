"""A view of an image depends on that image and its draws only, whatever the other images of the batch are."""

import numpy as np
import pytest
import torch
from helpers.cases import Array, examples, noise, seeds
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
    RandomRotation90,
    RandomSolarize,
    Resize,
    View,
    Views,
)
from lightly_aug.engines import Output, lower, plan_views, render
from lightly_aug.operations import Operation

SLOW = not torch.cuda.is_available()  # the GPU engine, under Triton's interpreter
DEVICE = {"reference": "cpu", "cpu": "cpu", "gpu": "cpu" if SLOW else "cuda"}

interpolations = st.sampled_from(["bilinear", "bicubic"])
resizes = st.one_of(
    st.builds(RandomResizedCrop, st.tuples(*[st.integers(1, 12)] * 2), interpolation=interpolations),
    st.builds(Resize, st.tuples(*[st.integers(1, 12)] * 2), interpolation=interpolations, antialias=st.booleans()),
)
others = st.sampled_from(
    [
        RandomHorizontalFlip(),
        RandomRotation(30),
        ColorJitter(0.8, 0.8, 0.8, 0.2, p=0.8),
        RandomGrayscale(0.4),
        RandomSolarize(0.5, 0.5),
        RandomGaussianBlur((0.5, 2.0)),
        CenterCrop(9),
    ]
)
normalizes = st.sampled_from([(), (Normalize(0.5, 0.5),)])


@st.composite
def recipes(draw: st.DrawFn) -> View:
    before: list[Operation] = draw(st.lists(st.one_of(others, resizes), max_size=2))
    turn = draw(st.sampled_from([(), (RandomRotation90(1.0),)]))
    after = draw(st.lists(st.one_of(others, resizes), max_size=3))
    return View(*turn, *before, draw(resizes), *after, CenterCrop(8), *draw(normalizes))


@st.composite
def batches(draw: st.DrawFn, images: int = 4, side: int = 30) -> tuple[View, list[Array]]:
    """A view, and images of which one at least has 8 bits, and one is of floats."""
    more = draw(st.lists(st.sampled_from([np.uint8, np.float32]), max_size=images - 2))
    kinds = draw(st.permutations([np.uint8, np.float32, *more]))
    size = st.tuples(*[st.integers(1, side)] * 2)
    sizes = [draw(size)] * len(kinds) if draw(st.booleans()) else [draw(size) for _ in kinds]
    seed = draw(st.integers(0, 9))
    return draw(recipes()), [
        noise(height, width, seed=seed + i, dtype=kind)
        for i, ((height, width), kind) in enumerate(zip(sizes, kinds, strict=True))
    ]


def pack(view: View, images: list[Array], seed: int = 0) -> Views:
    packed: Views = MultiViewCollateFunction([view], seed=seed, render="late", mode=None)(images)
    return packed


def rendered(views: Views, table: Tensor, engine: str) -> Tensor:
    (view,) = render(views.images, table, views.views, Output(torch.device(DEVICE[engine])), engine)
    return view.cpu()


def assert_alone_as_together(engine: str, view: View, images: list[Array], seed: int) -> None:
    together = pack(view, images, seed)
    made = rendered(together, together.table, engine)
    sizes = {image.shape for image in images}
    # where sizes differ between two passes, the reference renders the batch, and an image alone is the engine's own
    engines_differ = engine != "reference" and len(sizes) > 1 and len(plan_views([view], engine).views[0]) > 1
    for i, image in enumerate(images):
        alone = rendered(pack(view, [image]), together.table[:, i : i + 1], engine)[0]
        # else the last digit of v / 255, up to thirty times as large after two jitters
        torch.testing.assert_close(made[i], alone, rtol=0, atol=1e-4 if engines_differ else 5e-6)


@pytest.mark.parametrize("engine", ["reference", "cpu"])
@settings(max_examples=examples(quick=100, full=2_000))
@given(batch=batches(), seed=seeds)
def test_bytes_and_floats_in_one_batch_do_not_change_each_other(
    engine: str, batch: tuple[View, list[Array]], seed: int
) -> None:
    assert_alone_as_together(engine, *batch, seed)


@settings(max_examples=examples(quick=4, full=25) if SLOW else examples(quick=100, full=1_000))
@given(batch=batches(images=2, side=9), seed=seeds)
def test_they_do_not_on_the_gpu_engine(batch: tuple[View, list[Array]], seed: int) -> None:
    assert_alone_as_together("gpu", *batch, seed)


BICUBIC = RandomResizedCrop(24, interpolation="bicubic")
EDGES = np.kron(np.indices((4, 4)).sum(0) % 2, np.ones((3, 3)))[..., None].repeat(3, 2)
BYTES, FLOATS = (255 * EDGES).astype(np.uint8), EDGES.astype(np.float32)


def assert_only_floats_overshoot(of_bytes: Tensor, of_floats: Tensor) -> None:
    assert of_bytes.min() == 0
    assert of_bytes.max() == 1
    assert of_floats.min() < -0.01
    assert of_floats.max() > 1.01


@pytest.mark.parametrize("before", [(), (CenterCrop(11),)], ids=["one pass", "two passes"])
@pytest.mark.parametrize("engine", ["reference", "cpu", "gpu"])
def test_bicubic_results_of_bytes_end_at_0_and_1_and_those_of_floats_do_not(
    engine: str, before: tuple[Operation, ...]
) -> None:
    batch = pack(View(*before, BICUBIC), [BYTES, FLOATS])
    assert_only_floats_overshoot(*rendered(batch, batch.table, engine))


@pytest.mark.parametrize("names", [("bytes", "floats"), ("floats", "bytes")])
@pytest.mark.parametrize("engine", ["reference", "cpu"])
def test_two_images_of_one_sample(engine: str, names: tuple[str, str]) -> None:
    collate = MultiViewCollateFunction([View(BICUBIC)] * 2, image=names, render="late", engine=engine)
    batch = collate([{"bytes": BYTES, "floats": FLOATS}] * 2)
    made = dict(zip(names, batch[names[0]].to("cpu"), strict=True))
    assert_only_floats_overshoot(made["bytes"], made["floats"])


def test_two_images_of_one_sample_that_are_lowered_ahead() -> None:
    views = (View(BICUBIC), View(BICUBIC))
    packed = pack(views[0], [BYTES, BYTES, FLOATS, FLOATS])
    lowered = lower(packed.images, packed.table[:, :2].repeat(2, 1, 1), views, (0, 1))
    assert lowered is not None
    made = lowered.render(packed.images, Output(torch.device(DEVICE["gpu"])))
    assert_only_floats_overshoot(*(view.cpu() for view in made))
