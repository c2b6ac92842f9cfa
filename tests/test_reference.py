"""The reference engine against torchvision, Pillow, Kornia, SciPy and the formulas, with the numbers it drew."""

import colorsys
import math
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import kornia.augmentation as K
import numpy as np
import numpy.typing as npt
import pytest
import torch
from helpers.cases import (
    Array,
    crops,
    exact,
    examples,
    generators,
    noise,
    packed,
    recipes,
    resizes,
    seeds,
    size_of,
    sizes,
    turns,
    windows,
)
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from scipy import ndimage
from skimage.color import hsv2rgb, rgb2hsv
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as tv

from lightly_aug import (
    CenterCrop,
    ColorJitter,
    Crop,
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
    View,
    Views,
)
from lightly_aug.engines import Output, render
from lightly_aug.images import PackedImages
from lightly_aug.operations import JITTER_ORDERS, Operation

dtypes = st.sampled_from([np.uint8, np.float32])


def tensor(image: npt.NDArray[Any]) -> Tensor:
    """(channels, height, width), float32 in [0, 1]."""
    x = torch.from_numpy(image).permute(2, 0, 1)
    return x / 255 if x.dtype == torch.uint8 else x


def numbers(views: Views, i: int = 0) -> dict[str, float]:
    """The numbers that image `i` drew for the first view."""
    return {name.split(".")[1]: float(column[i]) for name, column in views.draws[0].items()}


def assert_near(ours: Tensor | npt.NDArray[Any], theirs: Tensor | npt.NDArray[Any], tolerance: float) -> None:
    torch.testing.assert_close(torch.as_tensor(ours).double(), torch.as_tensor(theirs).double(), rtol=0, atol=tolerance)


# --- each operation against another implementation --------------------------------------------------------------


@given(size=sizes, seed=seeds, dtype=dtypes, crop=crops())
def test_crops_are_torchvisions(size: tuple[int, int], seed: int, dtype: type, crop: RandomResizedCrop) -> None:
    assume(size_of(crop)[1] > 1)  # to a single column, torch's antialiased resize can repeat the first row
    image = noise(*size, seed=seed, dtype=dtype)
    views = packed([crop], [image], seed)
    box = [int(numbers(views)[name]) for name in ("top", "left", "height", "width")]
    mode = InterpolationMode(crop.interpolation)
    theirs = tv.resized_crop(tensor(image), *box, list(size_of(crop)), interpolation=mode, antialias=crop.antialias)
    if crop.interpolation == "bicubic" and dtype is np.uint8:
        theirs = theirs.clamp(0, 1)
    assert_near(views[0][0], theirs, 1e-6)


@given(size=sizes, seed=seeds, crop=crops())
def test_antialiased_crops_are_pillows(size: tuple[int, int], seed: int, crop: RandomResizedCrop) -> None:
    crop = RandomResizedCrop(crop.size, crop.scale, crop.ratio, crop.interpolation)
    image = noise(*size, seed=seed, dtype=np.float32)
    views = packed([crop], [image], seed)
    top, left, h, w = (int(numbers(views)[name]) for name in ("top", "left", "height", "width"))
    resample = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}[crop.interpolation]
    for ours, channel in zip(views[0][0], image.transpose(2, 0, 1), strict=True):
        cut = Image.fromarray(np.ascontiguousarray(channel[top : top + h, left : left + w]))
        assert_near(ours, np.array(cut.resize(size_of(crop)[::-1], resample)), 1e-5)


@given(size=st.tuples(st.integers(2, 48), st.integers(2, 48)), seed=seeds, crop=crops(("bilinear",)))
def test_crops_without_antialias_are_kornias(size: tuple[int, int], seed: int, crop: RandomResizedCrop) -> None:
    crop = RandomResizedCrop(crop.size, crop.scale, antialias=False)
    image = noise(*size, seed=seed)
    views = packed([crop], [image], seed)
    top, left, h, w = (numbers(views)[name] for name in ("top", "left", "height", "width"))
    module = K.RandomResizedCrop(crop.size, align_corners=False, cropping_mode="slice")
    params = module.forward_parameters(torch.Size((1, 3, *size)))
    right, bottom = left + w - 1, top + h - 1
    params["src"] = torch.tensor([[[left, top], [right, top], [right, bottom], [left, bottom]]])
    assert_near(views[0], module(tensor(image)[None], params=params), 1e-6)


@given(size=sizes, seed=seeds, dtype=dtypes)
def test_flips_and_quarter_turns_move_every_pixel_exactly(size: tuple[int, int], seed: int, dtype: type) -> None:
    images = [noise(*size, seed=seed + i, dtype=dtype) for i in range(6)]
    for operation, axis in ((RandomHorizontalFlip(), -1), (RandomVerticalFlip(), -2)):
        views = packed([operation], images, seed)
        for i, image in enumerate(images):
            x = tensor(image)
            assert torch.equal(views[0][i], x.flip(axis) if numbers(views, i)["applied"] else x)
    views = packed([RandomRotation90(1)], images[:1], seed)
    assert torch.equal(views[0][0], torch.rot90(tensor(images[0]), int(numbers(views)["turns"]), (-2, -1)))


@given(side=st.integers(1, 20), seed=seeds)
def test_quarter_turns_of_a_batch_are_each_its_own(side: int, seed: int) -> None:
    images = [noise(side, side, seed=seed + i) for i in range(8)]
    views = packed([RandomHorizontalFlip(0), RandomRotation90(1)], images, seed)
    for i, image in enumerate(images):
        assert torch.equal(views[0][i], torch.rot90(tensor(image), int(numbers(views, i)["turns"]), (-2, -1)))


@given(seed=seeds)
def test_quarter_turns_of_views_on_their_side_are_cut_to_one_size(seed: int) -> None:
    images = [noise(12, 20, seed=seed + i) for i in range(8)]
    views = packed([RandomHorizontalFlip(0), RandomRotation90(1), CenterCrop(8)], images, seed)
    for i, image in enumerate(images):
        turned = torch.rot90(tensor(image), int(numbers(views, i)["turns"]), (-2, -1))
        assert torch.equal(views[0][i], tv.center_crop(turned, [8, 8]))


@given(size=sizes, seed=seeds, degrees=st.floats(-400, 400))
def test_rotations_are_torchvisions_and_the_formulas(size: tuple[int, int], seed: int, degrees: float) -> None:
    image = noise(*size, seed=seed, dtype=np.float32)
    views = packed([RandomRotation((degrees, degrees))], [image], seed)
    assert math.isclose(numbers(views)["degrees"], degrees, rel_tol=1e-6, abs_tol=1e-30)
    theirs = tv.rotate(tensor(image), numbers(views)["degrees"], InterpolationMode.BILINEAR)
    assert_near(views[0][0], theirs, 1e-4)

    # where the pixel came from, counter-clockwise as seen on the screen, where y points down
    a, cx, cy = math.radians(numbers(views)["degrees"]), (size[1] - 1) / 2, (size[0] - 1) / 2
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float64)
    source_x = cx + math.cos(a) * (x - cx) - math.sin(a) * (y - cy)
    source_y = cy + math.sin(a) * (x - cx) + math.cos(a) * (y - cy)
    for ours, channel in zip(views[0][0], image.transpose(2, 0, 1).astype(np.float64), strict=True):
        formula = ndimage.map_coordinates(channel, [source_y, source_x], order=1, mode="grid-constant")
        assert_near(ours, formula, 1e-4)


def test_images_on_their_side_turn_together_if_they_stay_of_one_size() -> None:
    images = [noise(5, 8, seed=i) for i in range(4)]
    seen = set[tuple[float, ...]]()
    for seed in range(60):
        views = packed([RandomRotation90(1.0), RandomHorizontalFlip(0.0), Resize((6, 6))], images, seed)
        turns = views.draws[0]["RandomRotation90.turns"]
        seen.add(tuple(turns.tolist()))
        for i, image in enumerate(images):
            turned = torch.rot90(torch.from_numpy(image).permute(2, 0, 1), int(turns[i]), (-2, -1))
            expected = interpolate(turned[None] / 255, (6, 6), mode="bilinear", antialias=True)
            torch.testing.assert_close(views[0][i : i + 1], expected, rtol=0, atol=1e-6)
    assert any(set(turns) == {1, 3} for turns in seen)  # all on their side, but not alike


def test_a_positive_angle_turns_counter_clockwise() -> None:
    image = noise(9, 9, seed=1)
    assert_near(packed([RandomRotation((90, 90))], [image])[0][0], torch.rot90(tensor(image), 1, (-2, -1)), 1e-5)


TORCHVISION: dict[str, Callable[[Tensor, float], Tensor]] = {
    "brightness": tv.adjust_brightness,
    "contrast": tv.adjust_contrast,
    "saturation": tv.adjust_saturation,
    "hue": tv.adjust_hue,
}


def luma(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    weighted: npt.NDArray[np.float64] = x @ np.array([0.299, 0.587, 0.114])
    return weighted


def adjusted(x: npt.NDArray[np.float64], part: str, factor: float) -> npt.NDArray[np.float64]:
    """One part of the jitter, from its formula, in float64; (height, width, 3)."""
    match part:
        case "brightness":
            x = factor * x
        case "contrast":
            x = factor * x + (1 - factor) * luma(x).mean()
        case "saturation":
            x = factor * x + (1 - factor) * luma(x)[..., None]
        case "hue":
            hsv = rgb2hsv(x)
            x = hsv2rgb(np.stack([(hsv[..., 0] + factor) % 1, hsv[..., 1], hsv[..., 2]], axis=-1))
    return x.clip(0, 1)


jitters = st.builds(
    ColorJitter,
    brightness=st.sampled_from([0, 0.4, 1.2]),
    contrast=st.sampled_from([0, 0.4, 1.2]),
    saturation=st.sampled_from([0, 0.4, 1.2]),
    hue=st.sampled_from([0, 0.1, 0.5, (0.5, 0.5)]),
    p=st.sampled_from([0.5, 1]),
)


@given(size=sizes, seed=seeds, dtype=dtypes, jitter=jitters)
def test_color_jitter_applies_torchvisions_parts_in_the_drawn_order(
    size: tuple[int, int], seed: int, dtype: type, jitter: ColorJitter
) -> None:
    images = [noise(*size, seed=seed + i, dtype=dtype) for i in range(4)]
    views = packed([RandomHorizontalFlip(0), jitter], images, seed)
    for i, image in enumerate(images):
        draws = {name.split(".")[1]: float(column[i]) for name, column in list(views.draws[0].items())[1:]}
        theirs, formula = tensor(image), tensor(image).permute(1, 2, 0).double().numpy()
        for part in JITTER_ORDERS[int(draws["order"])] if draws["applied"] else ():
            theirs = TORCHVISION[part](theirs, draws[part])
            formula = adjusted(formula, part, draws[part])
        assert_near(views[0][i], theirs, 1e-3)  # torchvision's luma has weights .2989, .587, .114
        assert_near(views[0][i].permute(1, 2, 0), formula, 2e-5)


def adjusted_as_in_tensorflow(x: npt.NDArray[np.float64], part: str, factor: float) -> npt.NDArray[np.float64]:
    """One part of the jitter of SimCLR v1 and BYOL, pixel by pixel; (height, width, 3)."""
    x = x.copy()
    if part == "brightness":
        x += factor - 1
    elif part == "contrast":
        for c in range(3):
            mean = sum(x[..., c].flat) / x[..., c].size
            x[..., c] = mean + factor * (x[..., c] - mean)
    else:
        for place in np.ndindex(x.shape[:2]):
            h, s, v = colorsys.rgb_to_hsv(*x[place])
            hsv = (h, min(1, s * factor), v) if part == "saturation" else ((h + factor) % 1, s, v)
            x[place] = colorsys.hsv_to_rgb(*hsv)
    return x.clip(0, 1)


@settings(max_examples=25)
@given(size=st.tuples(st.integers(1, 9), st.integers(1, 9)), seed=seeds, dtype=dtypes, jitter=jitters)
def test_color_jitter_applies_tensorflows_parts_in_the_drawn_order(
    size: tuple[int, int], seed: int, dtype: type, jitter: ColorJitter
) -> None:
    jitter = replace(jitter, convention="tensorflow")
    images = [noise(*size, seed=seed + i, dtype=dtype) for i in range(3)]
    views = packed([RandomHorizontalFlip(0), jitter], images, seed)
    for i, image in enumerate(images):
        draws = {name.split(".")[1]: float(column[i]) for name, column in list(views.draws[0].items())[1:]}
        formula = tensor(image).permute(1, 2, 0).double().numpy()
        for part in JITTER_ORDERS[int(draws["order"])] if draws["applied"] else ():
            formula = adjusted_as_in_tensorflow(formula, part, draws[part])
        assert_near(views[0][i].permute(1, 2, 0), formula, 5e-5)


def test_tensorflows_contrast_takes_any_number_of_channels() -> None:
    image, jitter = noise(5, 6, 2, dtype=np.float32), ColorJitter(0, (0.4, 0.4), convention="tensorflow")
    mean = image.mean(axis=(0, 1), dtype=np.float64)
    assert_near(packed([jitter], [image])[0][0].permute(1, 2, 0), mean + 0.4 * (image - mean), 1e-6)


@given(size=sizes, seed=seeds)
def test_color_jitter_takes_brightness_and_contrast_of_one_channel(size: tuple[int, int], seed: int) -> None:
    image = noise(*size, channels=1, seed=seed)
    views = packed([ColorJitter(0.5, 0.5)], [image], seed)
    x, draws = tensor(image).double(), numbers(views)
    for part in JITTER_ORDERS[int(draws["order"])]:
        if part == "brightness":
            x = (x * draws[part]).clamp(0, 1)
        elif part == "contrast":
            x = (draws[part] * x + (1 - draws[part]) * x.mean()).clamp(0, 1)
    assert_near(views[0][0], x, 1e-6)


@given(size=sizes, seed=seeds, dtype=dtypes)
def test_grayscale_is_the_luma_in_every_channel(size: tuple[int, int], seed: int, dtype: type) -> None:
    image = noise(*size, seed=seed, dtype=dtype)
    ours = packed([RandomGrayscale(1)], [image], seed)[0][0]
    assert_near(ours, tv.rgb_to_grayscale(tensor(image), 3), 2e-4)
    assert_near(ours, np.stack([luma(tensor(image).permute(1, 2, 0).double().numpy())] * 3), 1e-6)
    gray = noise(*size, channels=1, seed=seed)
    assert torch.equal(packed([RandomGrayscale(1)], [gray], seed)[0][0], tensor(gray))


@given(size=sizes, seed=seeds, channels=st.sampled_from([1, 3, 5]), low=st.sampled_from([0.01, 0.1, 1.0, 3.0]))
def test_blurs_are_scipys_and_torchvisions(size: tuple[int, int], seed: int, channels: int, low: float) -> None:
    image = noise(*size, channels=channels, seed=seed, dtype=np.float32)
    views = packed([RandomGaussianBlur((low, low + 2), p=1)], [image], seed)
    sigma = numbers(views)["sigma"]
    for ours, channel in zip(views[0][0], image.transpose(2, 0, 1).astype(np.float64), strict=True):
        assert_near(ours, ndimage.gaussian_filter(channel, sigma, mode="mirror", truncate=4.0), 1e-5)
    radius = int(4 * sigma + 0.5)
    if 0 < radius < min(size):  # torchvision cannot reflect further
        theirs = tv.gaussian_blur(tensor(image), [2 * radius + 1] * 2, [sigma, sigma])
        assert_near(views[0][0], theirs, 1e-5)


@given(size=sizes, seed=seeds, channels=st.sampled_from([1, 3, 5]), low=st.sampled_from([0.01, 0.1, 1.0, 3.0]))
def test_blurs_between_zeros_are_scipys(size: tuple[int, int], seed: int, channels: int, low: float) -> None:
    images = [noise(*size, channels=channels, seed=seed + i, dtype=np.float32) for i in range(3)]
    views = packed([RandomHorizontalFlip(0), RandomGaussianBlur((low, low + 2), 0.7, "zeros")], images, seed)
    for i, image in enumerate(images):
        sigma = numbers(views, i)["sigma"]
        for ours, channel in zip(views[0][i], image.transpose(2, 0, 1).astype(np.float64), strict=True):
            darkened = ndimage.gaussian_filter(channel, sigma or 1, mode="constant", cval=0, truncate=4.0)
            assert_near(ours, darkened if sigma else channel, 1e-5)


@given(seed=seeds)
def test_every_image_of_a_batch_is_blurred_by_its_own_sigma(seed: int) -> None:
    images = [noise(20, 30, seed=seed + i, dtype=np.float32) for i in range(6)]
    views = packed([RandomHorizontalFlip(0), RandomGaussianBlur((0.1, 2), p=0.6)], images, seed)
    for i, image in enumerate(images):
        sigma = numbers(views, i)["sigma"]
        expected = ndimage.gaussian_filter(image.astype(np.float64), (sigma, sigma, 0), mode="mirror")
        assert_near(views[0][i].permute(1, 2, 0), expected if sigma else image, 1e-5)


@given(size=sizes, seed=seeds, dtype=dtypes, threshold=st.sampled_from([0.0, 0.25, 0.5, 128 / 255, 1.0]))
def test_solarize_is_torchvisions(size: tuple[int, int], seed: int, dtype: type, threshold: float) -> None:
    image = noise(*size, seed=seed, dtype=dtype)
    ours = packed([RandomSolarize(threshold, p=1)], [image], seed)[0][0]
    assert torch.equal(ours, tv.solarize(tensor(image), threshold))


@given(size=sizes, seed=seeds, dtype=dtypes)
def test_every_image_is_solarized_from_its_own_threshold(size: tuple[int, int], seed: int, dtype: type) -> None:
    images = [noise(*size, seed=seed + i, dtype=dtype) for i in range(4)]
    views = packed([RandomHorizontalFlip(0), RandomSolarize((0.0, 1.0), p=0.7)], images, seed)
    for i, image in enumerate(images):
        applied, x = views.draws[0]["RandomSolarize.applied"][i] > 0, tensor(image)
        assert torch.equal(views[0][i], tv.solarize(x, numbers(views, i)["threshold"]) if applied else x)


levels = st.sampled_from([(0, 256), (0, 1), (7, 9), (100, 140), (250, 256)])


@given(size=sizes, seed=seeds, dtype=dtypes, channels=st.sampled_from([1, 3]), levels=levels)
def test_equalize_is_pillows(
    size: tuple[int, int], seed: int, dtype: type, channels: int, levels: tuple[int, int]
) -> None:
    rng = np.random.default_rng(seed)
    images: list[Array] = [rng.integers(*levels, (*size, channels), dtype=np.uint8) for _ in range(3)]
    if dtype is np.float32:  # each within its level
        images = [((image + rng.uniform(-0.4, 0.4, image.shape)).clip(0, 255) / 255).astype(dtype) for image in images]
    views = packed([RandomHorizontalFlip(0), RandomEqualize(0.7)], images, seed)
    for i, image in enumerate(images):
        for ours, channel in zip(views[0][i], image.transpose(2, 0, 1), strict=True):
            whole = channel if dtype is np.uint8 else np.rint(channel * 255).astype(np.uint8)
            lower = whole.size - np.bincount(whole.ravel())[-1]
            happens = views.draws[0]["RandomEqualize.applied"][i] and lower >= 255
            theirs = np.asarray(ImageOps.equalize(Image.fromarray(whole))) / 255
            assert_near(ours, theirs if happens else channel / (255 if dtype is np.uint8 else 1), 1e-6)


@given(size=sizes, seed=seeds, dtype=dtypes, window=windows())
def test_windows_are_cut_out_of_the_image_among_zeros(
    size: tuple[int, int], seed: int, dtype: type, window: Crop | RandomJigsawPatch
) -> None:
    images = [noise(*size, seed=seed + i, dtype=dtype) for i in range(4)]
    views = packed([window], images, seed)
    for i, image in enumerate(images):
        place = {"top": window.top, "left": window.left} if isinstance(window, Crop) else numbers(views, i)
        (top, left), (height, width) = (int(place[name]) + 80 for name in ("top", "left")), size_of(window)
        among_zeros = np.pad(image, ((80, 80), (80, 80), (0, 0)))
        theirs = tensor(among_zeros[top : top + height, left : left + width])
        assert torch.equal(views[0][i], theirs)
        # outside of the image, torchvision does not always keep the size
        if 80 <= top < 80 + size[0] and 80 <= left < 80 + size[1]:
            assert torch.equal(theirs, tv.crop(tensor(image), top - 80, left - 80, height, width))


@given(size=sizes, seed=seeds, dtype=dtypes, resize=resizes)
def test_resize_and_center_crop_are_torchvisions(
    size: tuple[int, int], seed: int, dtype: type, resize: Resize | CenterCrop
) -> None:
    assume(isinstance(resize, CenterCrop) or isinstance(resize.size, tuple) or max(size) <= 9 * min(size))
    image = noise(*size, seed=seed, dtype=dtype)
    x, to = tensor(image), [resize.size] if isinstance(resize.size, int) else list(resize.size)
    theirs = tv.center_crop(x, to) if isinstance(resize, CenterCrop) else tv.resize(x, to, antialias=True)
    ours = packed([resize], [image], seed)[0][0]
    assert_near(ours, theirs, 1e-6)


@given(size=sizes, seed=seeds)
def test_normalize_is_torchvisions(size: tuple[int, int], seed: int) -> None:
    image = noise(*size, seed=seed)
    theirs = tv.normalize(tensor(image), [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    assert_near(packed([Normalize()], [image], seed)[0][0], theirs, 1e-6)
    assert_near(packed([Normalize(0.5, 2)], [image], seed)[0][0], (tensor(image) - 0.5) / 2, 1e-7)


# --- what holds for any recipe ----------------------------------------------------------------------------------


@given(size=sizes, seed=seeds, dtype=dtypes, channels=st.integers(1, 5))
def test_the_identity_returns_the_image_exactly(size: tuple[int, int], seed: int, dtype: type, channels: int) -> None:
    image = noise(*size, channels, seed, dtype)
    shape = size[1] / size[0]
    never: list[Operation] = [
        RandomHorizontalFlip(0),
        RandomVerticalFlip(0),
        RandomRotation90(0),
        RandomRotation(9, p=0),
    ]
    whole = RandomResizedCrop(size, scale=(1, 1), ratio=(shape, shape))
    never += [RandomGaussianBlur(p=0), RandomSolarize(p=0)]
    identities: list[list[Operation]] = [[], [whole], never, [Resize(size)]]
    for operations in identities:
        views = packed(operations, [image, image], seed)
        assert torch.equal(views[0], torch.stack([tensor(image)] * 2))


@settings(max_examples=examples(quick=50, full=150))
@given(operations=recipes(), shapes=st.lists(sizes, min_size=2, max_size=5), seed=seeds, dtype=dtypes)
def test_an_image_is_rendered_alone_as_it_is_in_a_batch(
    operations: list[Operation], shapes: list[tuple[int, int]], seed: int, dtype: type
) -> None:
    images = [noise(*shape, seed=seed + i, dtype=dtype) for i, shape in enumerate(shapes)]
    together = packed(operations, images, seed, list(range(len(images))))[0]
    assert together.shape == (len(images), 3, 16, 16)
    for i, image in enumerate(images):
        assert_near(packed(operations, [image], seed, [i])[0][0], together[i], 1e-5)


@given(operations=recipes(), shapes=st.lists(sizes, min_size=1, max_size=4), seed=seeds, dtype=dtypes)
def test_pixels_are_never_written_to(
    operations: list[Operation], shapes: list[tuple[int, int]], seed: int, dtype: type
) -> None:
    images = [noise(*shape, seed=seed + i, dtype=dtype) for i, shape in enumerate(shapes)]
    originals = [image.copy() for image in images]
    one_number = noise(1, 1, 1, seed, np.float32)  # could be returned without a copy
    for views in (
        packed(operations, images, seed),
        packed([], [one_number]),
        packed([RandomSolarize(p=0)], images[:1]),
    ):
        pixels, table = views.images.pixels.clone(), views.table.clone()
        first, second = views[0], views[0]
        assert torch.equal(first, second)
        first.fill_(7)  # the view shares no memory with another
        assert torch.equal(views.images.pixels, pixels)
        assert torch.equal(views.table, table)
    assert all((image == original).all() for image, original in zip(images, originals, strict=True))


@given(
    operations=st.lists(st.one_of(exact, turns, crops(("bilinear",))), max_size=4),
    size=sizes,
    bad=st.sampled_from([math.nan, math.inf, -math.inf, 3e38, -1e9]),
    seed=seeds,
)
def test_wild_values_stay_in_their_image(
    operations: list[Operation], size: tuple[int, int], bad: float, seed: int
) -> None:
    images = [noise(*size, seed=seed + i, dtype=np.float32) for i in range(3)]
    operations = [*operations, RandomResizedCrop(9), RandomGaussianBlur(p=0.5), Normalize(0.5, 0.5)]
    assume(not any(isinstance(op, RandomRotation90) for op in operations) or size[0] == size[1])
    try:
        clean = packed(operations, images, seed)[0]
    except ValueError:
        assume(False)
    batch = packed(operations, images, seed)
    batch.images[1].fill_(bad)  # a collate function refuses images that are not finite
    assert torch.equal(batch[0][[0, 2]], clean[[0, 2]])
    assert clean.isfinite().all()


@given(operations=recipes(), size=sizes, seed=seeds)
def test_dtypes_are_the_rounded_float32_view(operations: list[Operation], size: tuple[int, int], seed: int) -> None:
    views = packed(operations, [noise(*size, seed=seed + i) for i in range(3)], seed)
    full = views.to()[0]
    assert full.dtype == torch.float32
    for dtype in (torch.float16, torch.bfloat16):
        assert torch.equal(views.to(dtype=dtype)[0], full.to(dtype))
    double = views.to(dtype=torch.float64)[0]
    assert double.dtype == torch.float64
    assert ((double - full).abs() > 1e-3).double().mean() < 0.01  # a threshold may fall between the two


def test_the_dtype_of_a_view_is_its_own() -> None:
    views = MultiViewCollateFunction([View(dtype=torch.bfloat16), View()], seed=0)([noise(4, 4)])
    assert [view.dtype for view in views] == [torch.bfloat16, torch.float32]
    assert [view.dtype for view in views.to(dtype=torch.float16)] == [torch.float16, torch.float16]


@given(operations=recipes(), size=sizes, seed=seeds)
def test_channels_last_has_the_same_values(operations: list[Operation], size: tuple[int, int], seed: int) -> None:
    views = packed(operations, [noise(*size, seed=seed + i) for i in range(3)], seed)
    last = views.to(memory_format=torch.channels_last)[0]
    assert last.is_contiguous(memory_format=torch.channels_last)
    first = views.to()[0]
    assert first.is_contiguous()
    assert torch.equal(last, first)


@given(
    operations=st.lists(st.one_of(exact, turns, crops(), st.just(RandomGaussianBlur())), max_size=3),
    side=st.integers(1, 40),
    channels=st.sampled_from([1, 3, 4, 13]),
    seed=seeds,
    dtype=dtypes,
)
def test_shape_and_texture_treat_all_channels_equally(
    operations: list[Operation], side: int, channels: int, seed: int, dtype: type
) -> None:
    image = noise(side, side, channels, seed, dtype)
    operations = [RandomResizedCrop(20), *[op for op in operations if not isinstance(op, RandomResizedCrop)]]
    operations += [RandomResizedCrop(14), RandomSolarize()]
    together = packed(operations, [image], seed)[0][0]
    assert together.shape == (channels, 14, 14)
    for c in range(channels):
        assert_near(packed(operations, [image[..., c : c + 1]], seed)[0][0, 0], together[c], 1e-6)


# --- where the pixels went --------------------------------------------------------------------------------------


def ring(operation: Operation, before: Tensor, after: Tensor) -> int:
    """The number of rows and columns at the edge that depend on where the image ends."""
    if isinstance(operation, RandomResizedCrop | Resize):
        reach = 2 if operation.interpolation == "bicubic" else 1
        return reach * math.ceil(max(1, *(b / a for a, b in zip(before.shape[-2:], after.shape[-2:], strict=True)))) + 1
    return 0


@settings(max_examples=examples(quick=50, full=150))
@given(
    operations=st.lists(
        st.one_of(
            exact,
            turns,
            st.sampled_from(
                [
                    CenterCrop((30, 30)),
                    CenterCrop(60),
                    Crop((40, 40), -5, 9),
                    RandomJigsawPatch(20, 1, 2),
                    Resize((40, 40)),
                    Resize((60, 62), antialias=False),
                ]
            ),
            st.sampled_from(  # bicubic without antialias is torch's, which bends a ramp
                [
                    RandomResizedCrop(32, scale=(0.3, 1)),
                    RandomResizedCrop((45, 32), scale=(0.3, 1), antialias=False),
                    RandomResizedCrop(45, scale=(0.3, 1), interpolation="bicubic"),
                ]
            ),
        ),
        min_size=1,
        max_size=5,
    ),
    size=st.tuples(st.integers(40, 70), st.integers(40, 70)),
    seed=seeds,
)
def test_matrices_say_where_the_pixels_went(operations: list[Operation], size: tuple[int, int], seed: int) -> None:
    if any(isinstance(op, RandomRotation90) for op in operations):
        resized = [size_of(op) for op in operations if isinstance(op, RandomResizedCrop | Resize)]
        assume(all(height == width for height, width in resized))
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float32)
    place = np.stack([x, y, np.ones_like(x)], axis=-1)  # the third channel: not near an edge, nor outside
    views = packed(operations, [place], seed)
    view = views[0][0]

    # the same, operation by operation; the third channel stays 1 in pixels that no edge of a cut comes near
    stage, used = torch.from_numpy(place).permute(2, 0, 1), 0
    for operation in operations:
        own = views.table[:1, :, used : used + len(operation.columns)]
        used += len(operation.columns)
        shapes = torch.tensor([[0, *stage.shape[-2:]]])
        image = PackedImages(stage.permute(1, 2, 0).flatten(), shapes, 3, np.zeros(1, dtype=bool))
        (rendered,) = render(image, own, (View(operation),), Output(torch.device("cpu")))
        edge = ring(operation, stage, rendered)
        stage = rendered[0].clone()
        if edge:
            stage[2, :edge], stage[2, -edge:], stage[2, :, :edge], stage[2, :, -edge:] = 0, 0, 0, 0
    torch.testing.assert_close(stage[:2], view[:2], rtol=1e-4, atol=0.02)

    sound = (stage[2] - 1).abs() < 1e-4
    assume(sound.sum() > 20)
    rows, columns = torch.meshgrid(*map(torch.arange, view.shape[-2:]), indexing="ij")
    places = torch.stack([columns, rows, torch.ones_like(rows)]).double().flatten(1)
    source = (torch.linalg.inv(views.matrices[0][0]) @ places).view(3, *view.shape[-2:])
    filtered = sum(isinstance(op, RandomResizedCrop | Resize) and op.antialias for op in operations)
    # a triangle that is sampled at few pixels is not quite symmetric
    torch.testing.assert_close(view[:2, sound].double(), source[:2, sound], rtol=0, atol=0.02 + 0.15 * filtered)


def test_matrices_are_each_images_own() -> None:
    images = [noise(10 + i, 20 - i) for i in range(4)]
    views = MultiViewCollateFunction([View(RandomRotation(50), RandomResizedCrop(8)), View(Resize((5, 6)))], seed=1)(
        images
    )
    turned, resized = views.matrices
    assert turned.shape == resized.shape == (4, 3, 3)
    assert turned.dtype == torch.float64
    assert len(turned.unique(dim=0)) == 4
    for i, image in enumerate(images):
        h, w = image.shape[:2]
        corner = torch.tensor([w - 0.5, h - 0.5, 1.0], dtype=torch.float64)
        assert_near(resized[i] @ corner, torch.tensor([5.5, 4.5, 1.0]), 1e-12)


# --- Kornia modules ---------------------------------------------------------------------------------------------


def modules() -> list[nn.Module]:
    return [
        K.RandomPlasmaShadow(p=0.7),
        K.ColorJiggle(0.3, 0.3, 0.3, 0.1, p=0.6),
        K.RandomAffine(30, translate=(0.2, 0.2), scale=(0.5, 1.5), p=0.8),
        K.RandomErasing(p=0.5),
        K.RandomGaussianNoise(p=0.5),
        K.RandomMotionBlur(3, 35.0, 0.5, p=0.5),
        K.ImageSequential(K.RandomHorizontalFlip(p=0.5), K.RandomInvert(p=0.5), random_apply=True),
        K.AugmentationSequential(K.RandomPerspective(p=0.5), K.RandomPosterize(p=0.5), data_keys=["input"]),
    ]


def named(module: nn.Module) -> str:
    return type(module).__name__


@pytest.mark.parametrize("module", modules(), ids=named)
@pytest.mark.parametrize("equal_sizes", [True, False])
def test_a_kornia_module_runs_at_its_place_as_under_a_seeded_generator(module: nn.Module, equal_sizes: bool) -> None:
    images = [noise(24, 24 + (0 if equal_sizes else i), seed=i) for i in range(4)]
    operations = [Resize((16, 16)) if equal_sizes else RandomResizedCrop(16), module, Normalize()]
    views = packed(operations, images, seed=3)
    before = packed(operations[:1], images, seed=3)[0]
    with torch.random.fork_rng():
        torch.manual_seed(int(views.draws[0]["KorniaModule.seed"][0]))
        theirs = module(before)
    assert_near(views[0], tv.normalize(theirs, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]), 1e-6)
    assert not torch.equal(theirs, before)


@pytest.mark.parametrize("module", modules(), ids=named)
def test_a_kornia_module_is_deterministic_and_leaves_global_generators_alone(module: nn.Module) -> None:
    images = [noise(20, 24, seed=i) for i in range(4)]
    collate = MultiViewCollateFunction([View(Resize((16, 16)), module)] * 2, seed=5, render="late")
    before = generators()
    views = collate(images)
    first = views.to()
    assert generators() == before
    torch.rand(1), np.random.rand(), random.random()  # noqa: NPY002
    assert all(torch.equal(a, b) for a, b in zip(first, views.to(), strict=True))
    assert not torch.equal(*first)


def test_a_kornia_module_that_changes_the_size_is_refused() -> None:
    views = packed([Resize((16, 16)), K.RandomCrop((8, 8))], [noise(20, 20)])
    with pytest.raises(ValueError, match=r"RandomCrop.*\(1, 3, 8, 8\) from \(1, 3, 16, 16\).*must keep the size"):
        views.to()


def test_no_matrix_is_made_up_for_a_geometric_kornia_module() -> None:
    views = packed([Resize((16, 16)), K.RandomAffine(10)], [noise(20, 20)])
    with pytest.raises(ValueError, match=r"^KorniaModule: matrix must be known before .* rendered, RandomAffine"):
        _ = views.matrices
    flat = packed([Resize((10, 10)), K.RandomPlasmaShadow()], [noise(20, 20)])
    assert_near(flat.matrices[0][0], torch.tensor([[0.5, 0, -0.25], [0, 0.5, -0.25], [0, 0, 1]]), 1e-12)
