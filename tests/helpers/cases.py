"""Images and lists of operations that several test files search among, and how many examples they try."""

import os
import pickle
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from hypothesis import strategies as st
from torch import nn

from lightly_aug import (
    CenterCrop,
    ColorJitter,
    Crop,
    Indexed,
    MultiViewCollateFunction,
    Normalize,
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
    View,
    Views,
)
from lightly_aug.operations import Operation

Array = npt.NDArray[np.uint8] | npt.NDArray[np.float32]

seeds = st.integers(0, 2**32 - 1)
sides = st.integers(1, 48)
sizes = st.tuples(sides, sides)


def examples(quick: int, full: int) -> int:
    """The `max_examples` of a long search, by the profile in HYPOTHESIS_PROFILE."""
    return full if os.environ.get("HYPOTHESIS_PROFILE") == "full" else quick


def noise(height: int, width: int, channels: int = 3, seed: int = 0, dtype: type = np.uint8) -> Array:
    """An image of noise, (height, width, channels): uint8, or float32 in [0, 1)."""
    rng = np.random.default_rng(seed)
    shape = (height, width, channels)
    return rng.integers(0, 256, shape, dtype=np.uint8) if dtype is np.uint8 else rng.random(shape, dtype=np.float32)


def packed(
    operations: Sequence[Operation | nn.Module], images: list[Array], seed: int = 0, index: list[int] | None = None
) -> Views:
    """One view of every image, drawn, for the reference to render; `index` holds the images' indices in a dataset."""
    collate = MultiViewCollateFunction([View(*operations)], seed=seed, render="late", engine="reference", mode=None)
    samples: list[Any] = list(images)
    if index is not None:
        dataset = Indexed(dict(zip(index, images, strict=True)))
        samples = [dataset[i] for i in index]
    views = collate(samples)
    assert isinstance(views, Views)
    return views


def size_of(operation: RandomResizedCrop | Resize | CenterCrop | Crop | RandomJigsawPatch) -> tuple[int, int]:
    """(height, width) of an operation that was given both, or that makes a pair of one number."""
    assert isinstance(operation.size, tuple)
    return operation.size


def generators() -> bytes:
    """The states of all global generators."""
    return pickle.dumps((torch.get_rng_state().numpy(), np.random.get_state(), random.getstate()))  # noqa: NPY002


def crops(interpolations: tuple[str, ...] = ("bilinear", "bicubic")) -> st.SearchStrategy[RandomResizedCrop]:
    """Crops of any size and kind."""
    return st.builds(
        RandomResizedCrop,
        size=st.tuples(st.integers(1, 32), st.integers(1, 32)),
        scale=st.sampled_from([(0.08, 1.0), (0.5, 0.6), (1.0, 1.0)]),
        interpolation=st.sampled_from(interpolations),
        antialias=st.booleans(),
    )


half = st.just(0.5)
turns = st.builds(RandomRotation, degrees=st.sampled_from([10, 180, (30, 60)]), p=half)
exact = st.sampled_from([RandomHorizontalFlip(0.5), RandomVerticalFlip(0.5), RandomRotation90(0.7)])
blurs = st.builds(
    RandomGaussianBlur,
    sigma=st.sampled_from([(0.1, 2.0), (0.01, 0.3), (3.0, 5.0)]),
    p=half,
    border=st.sampled_from(["reflect", "reflect", "zeros"]),
)
jitter = ColorJitter(0.8, 0.8, 0.8, 0.2, p=0.7)
tensorflow = ColorJitter(0.8, 0.8, 0.8, 0.2, p=0.7, convention="tensorflow")
colours = st.sampled_from([jitter, tensorflow, RandomGrayscale(0.4), RandomSolarize(0.5, 0.4)])
resizes = st.sampled_from([CenterCrop(19), CenterCrop((40, 11)), Resize((13, 22)), Resize(9), Resize(50)])
places = st.integers(-20, 40)


def windows() -> st.SearchStrategy[Crop | RandomJigsawPatch]:
    """Windows of any size, in the image, half outside and outside."""
    sizes = st.tuples(st.integers(1, 32), st.integers(1, 32))
    patches = st.builds(RandomJigsawPatch, size=sizes, number=st.integers(0, 3), grid=st.sampled_from([2, 3]))
    return st.one_of(st.builds(Crop, size=sizes, top=places, left=places), patches)


@st.composite
def recipes(draw: st.DrawFn) -> list[Operation]:
    """Operations on RGB images in any order that ends in a size of 16x16."""
    before = draw(st.lists(st.one_of(exact, turns, resizes, windows(), crops(), blurs, colours), max_size=3))
    after = draw(st.lists(st.one_of(exact, turns, blurs, colours), max_size=3))
    before = [op for op in before if not isinstance(op, RandomRotation90)]
    normalize = draw(st.sampled_from([[], [Normalize(0.5, 0.25)]]))
    return [*before, RandomResizedCrop(16), *after, *normalize]
