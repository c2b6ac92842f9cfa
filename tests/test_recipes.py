"""The views of the papers: their numbers, how they are drawn, and which pixels they show."""

import copy
import doctest
import inspect
import pickle
from collections.abc import Callable
from typing import Any, Unpack, get_type_hints

import kornia.augmentation as K
import numpy as np
import numpy.typing as npt
import pytest
import torch
from helpers.cases import noise
from PIL import Image, ImageEnhance, ImageOps
from scipy import stats
from torch import Tensor

from lightly_aug import (
    AMDIMCollateFunction,
    BarlowTwinsCollateFunction,
    BaseCollateFunction,
    BYOLCollateFunction,
    Color,
    ColorJitter,
    CPCCollateFunction,
    Crop,
    DINOCollateFunction,
    ImageCollateFunction,
    Indexed,
    LooCCollateFunction,
    MoCoCollateFunction,
    NNCLRCollateFunction,
    Normalize,
    PAWSCollateFunction,
    PIRLCollateFunction,
    RandomEqualize,
    RandomGaussianBlur,
    RandomGrayscale,
    RandomHorizontalFlip,
    RandomJigsawPatch,
    RandomResizedCrop,
    RandomRotation90,
    RandomSolarize,
    Shape,
    Shared,
    SimCLRCollateFunction,
    SimSiamCollateFunction,
    SwaVCollateFunction,
    Texture,
    View,
    Views,
)
from lightly_aug.engines import Output, cpu, gpu, render
from lightly_aug.engines.plan import plan_passes
from lightly_aug.options import Options

IMAGENET = Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CIFAR10 = Normalize((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
FLIP = RandomHorizontalFlip(0.5)


def crop(size: int, low: float, high: float = 1.0, kind: Any = "bilinear") -> RandomResizedCrop:
    return RandomResizedCrop((size, size), (low, high), (3 / 4, 4 / 3), kind, antialias=True)


def jitter(b: float, c: float, s: float, h: float, p: float = 0.8) -> ColorJitter:
    return ColorJitter(b, c, s, h, p)


def gray(p: float = 0.2) -> RandomGrayscale:
    return RandomGrayscale(p)


def blur(p: float = 0.5) -> RandomGaussianBlur:
    return RandomGaussianBlur((0.1, 2.0), p)


SOLARIZE = RandomSolarize(0.5, 0.2)


def asymmetric(first: RandomResizedCrop) -> list[View]:
    """BYOL's, which others took over."""
    colours = FLIP, jitter(0.4, 0.4, 0.2, 0.1), gray()
    return [View(first, *colours, blur(1), IMAGENET), View(first, *colours, blur(0.1), SOLARIZE, IMAGENET)]


def multi_crop(
    large: RandomResizedCrop, small: RandomResizedCrop, count: int, *rest: Any, norm: Normalize = IMAGENET
) -> list[View]:
    return [View(large, *rest, norm)] * 2 + [View(small, *rest, norm)] * count


SWAV = FLIP, jitter(0.8, 0.8, 0.8, 0.2), gray(), blur()
CIFAR = FLIP, jitter(0.4, 0.4, 0.4, 0.1), RandomSolarize((0.0, 1.0), 0.2), RandomEqualize(0.2)
MOCO = jitter(0.4, 0.4, 0.4, 0.1), gray(), blur(), FLIP
MOCO3 = jitter(0.4, 0.4, 0.2, 0.1), gray()
DINO = FLIP, jitter(0.4, 0.4, 0.2, 0.1), gray()
PIRL = jitter(0.4, 0.4, 0.4, 0.2, 1.0), gray(), FLIP, IMAGENET
PIRL_BLUR = FLIP, jitter(0.8, 0.8, 0.8, 0.2), gray(), blur(), IMAGENET
AMDIM = RandomResizedCrop(128, (0.3, 1), (0.7, 1.4), "bicubic"), jitter(0.4, 0.4, 0.4, 0.1), gray(0.25), IMAGENET
CPC = FLIP, jitter(0.4, 0.4, 0.4, 0.1), gray(0.25), IMAGENET
LOOC: dict[str, tuple[Any, ...]] = {
    "shape": (crop(224, 0.08), FLIP),
    "color": (jitter(0.4, 0.4, 0.4, 0.1), gray()),
    "texture": (blur(),),
}


def looc(*shared: str) -> View:
    items = [(Shared(name, *group),) if name in shared else group for name, group in LOOC.items()]
    return View(*(item for group in items for item in group), IMAGENET)


TABLE: list[tuple[Callable[[], BaseCollateFunction], list[View]]] = [
    (SimCLRCollateFunction, [View(crop(224, 0.08, 1, "bicubic"), *SWAV)] * 2),
    (
        lambda: SimCLRCollateFunction(convention="tensorflow", strength=0.5),
        [
            View(
                *(crop(224, 0.08, 1, "bicubic"), FLIP, ColorJitter(0.4, 0.4, 0.4, 0.1, 0.8, "tensorflow"), gray()),
                RandomGaussianBlur((0.1, 2.0), 0.5, "zeros"),
            )
        ]
        * 2,
    ),
    (
        lambda: MoCoCollateFunction(version=1),
        [View(crop(224, 0.2), gray(), jitter(0.4, 0.4, 0.4, 0.4, 1), FLIP, IMAGENET)] * 2,
    ),
    (MoCoCollateFunction, [View(crop(224, 0.2), *MOCO, IMAGENET)] * 2),
    (
        lambda: MoCoCollateFunction(version=3),
        [
            View(crop(224, 0.08), *MOCO3, blur(1), FLIP, IMAGENET),
            View(crop(224, 0.08), *MOCO3, blur(0.1), SOLARIZE, FLIP, IMAGENET),
        ],
    ),
    (
        lambda: MoCoCollateFunction(96, version=3, scale=(0.2, 1.0), normalize=None),
        [View(crop(96, 0.2), *MOCO3, blur(1), FLIP), View(crop(96, 0.2), *MOCO3, blur(0.1), SOLARIZE, FLIP)],
    ),
    (SimSiamCollateFunction, [View(crop(224, 0.2), *MOCO, IMAGENET)] * 2),
    (BYOLCollateFunction, asymmetric(crop(224, 0.08, 1, "bicubic"))),
    (
        lambda: BYOLCollateFunction(convention="tensorflow", normalize=None),
        [
            View(
                *(crop(224, 0.08, 1, "bicubic"), FLIP, ColorJitter(0.4, 0.4, 0.2, 0.1, 0.8, "tensorflow"), gray()),
                *(RandomGaussianBlur((0.1, 2.0), p, "zeros"), *solarize),
            )
            for p, solarize in ((1, ()), (0.1, (SOLARIZE,)))
        ],
    ),
    (BarlowTwinsCollateFunction, asymmetric(crop(224, 0.08, 1, "bicubic"))),
    (NNCLRCollateFunction, asymmetric(crop(224, 0.08, 1, "bicubic"))),
    (SwaVCollateFunction, multi_crop(crop(224, 0.14), crop(96, 0.05, 0.14), 6, *SWAV)),
    (
        lambda: SwaVCollateFunction(160, 64, 0, scale=(0.08, 1.0)),
        multi_crop(crop(160, 0.08), crop(64, 0.05, 0.14), 0, *SWAV),
    ),
    (
        DINOCollateFunction,
        [
            View(crop(224, 0.4, 1, "bicubic"), *DINO, blur(1), IMAGENET),
            View(crop(224, 0.4, 1, "bicubic"), *DINO, blur(0.1), SOLARIZE, IMAGENET),
            *[View(crop(96, 0.05, 0.4, "bicubic"), *DINO, blur(0.5), IMAGENET)] * 8,
        ],
    ),
    (
        PIRLCollateFunction,
        [
            View(crop(224, 0.08), *PIRL),
            *(View(Shared("jigsaw", crop(255, 0.6), RandomJigsawPatch((64, 64), i, 3)), *PIRL) for i in range(9)),
        ],
    ),
    (
        lambda: PIRLCollateFunction(recipe="blur"),
        [
            View(crop(224, 0.08), *PIRL_BLUR),
            *(View(Shared("jigsaw", crop(255, 0.6), RandomJigsawPatch((64, 64), i, 3)), *PIRL_BLUR) for i in range(9)),
        ],
    ),
    (PAWSCollateFunction, multi_crop(crop(224, 0.14), crop(96, 0.05, 0.14), 6, *SWAV)),
    (
        lambda: PAWSCollateFunction(recipe="cifar"),
        multi_crop(crop(32, 0.75), crop(18, 0.3, 0.75), 6, *CIFAR, norm=CIFAR10),
    ),
    (
        lambda: PAWSCollateFunction(48, 24, 1, recipe="cifar", normalize=Normalize()),
        multi_crop(crop(48, 0.75), crop(24, 0.3, 0.75), 1, *CIFAR),
    ),
    (lambda: PAWSCollateFunction(local_views=0), [View(crop(224, 0.08), *SWAV, IMAGENET)] * 2),
    (
        lambda: PAWSCollateFunction(local_views=0, recipe="cifar", normalize=None),
        [View(crop(32, 0.5), *CIFAR)] * 2,
    ),
    (
        lambda: PAWSCollateFunction(96, 48, 2, scale=(0.3, 1.0), local_scale=(0.1, 0.3)),
        multi_crop(crop(96, 0.3), crop(48, 0.1, 0.3), 2, *SWAV),
    ),
    (AMDIMCollateFunction, [View(Shared("flip", FLIP), *AMDIM)] * 2),
    (
        CPCCollateFunction,
        [
            View(Shared("crop", crop(256, 0.3)), Crop((64, 64), 32 * (i // 7), 32 * (i % 7)), *CPC)
            for i in range(49)
        ],
    ),
    (LooCCollateFunction, [looc("shape", "color", "texture"), looc(), looc("shape"), looc("color"), looc("texture")]),
]  # fmt: skip


@pytest.mark.parametrize(("make", "expected"), TABLE)
def test_the_numbers_are_the_papers(make: Callable[[], BaseCollateFunction], expected: list[View]) -> None:
    views = make().views
    assert len(views) == len(expected)
    for ours, theirs in zip(views, expected, strict=True):
        assert ours == theirs


# --- every recipe -----------------------------------------------------------------------------------------------

RECIPES: dict[str, Callable[..., BaseCollateFunction]] = {
    "SimCLR": lambda **o: SimCLRCollateFunction(12, **o),
    "SimCLR as in TensorFlow": lambda **o: SimCLRCollateFunction(12, convention="tensorflow", **o),
    "MoCo v1": lambda **o: MoCoCollateFunction(12, version=1, **o),
    "MoCo v2": lambda **o: MoCoCollateFunction((12, 10), **o),
    "MoCo v3": lambda **o: MoCoCollateFunction(12, version=3, **o),
    "BYOL": lambda **o: BYOLCollateFunction((10, 12), **o),
    "BYOL as in TensorFlow": lambda **o: BYOLCollateFunction(12, convention="tensorflow", **o),
    "SimSiam": lambda **o: SimSiamCollateFunction(12, **o),
    "Barlow Twins": lambda **o: BarlowTwinsCollateFunction(12, **o),
    "NNCLR": lambda **o: NNCLRCollateFunction(12, **o),
    "SwAV": lambda **o: SwaVCollateFunction(12, 6, 2, **o),
    "DINO": lambda **o: DINOCollateFunction(12, (6, 5), 3, **o),
    "PIRL": lambda **o: PIRLCollateFunction(12, (4, 5), (16, 20), **o),
    "PIRL with blur": lambda **o: PIRLCollateFunction(12, (4, 5), (16, 20), recipe="blur", **o),
    "PAWS": lambda **o: PAWSCollateFunction(12, 6, 2, **o),
    "PAWS for CIFAR": lambda **o: PAWSCollateFunction(12, 6, 2, recipe="cifar", **o),
    "AMDIM": lambda **o: AMDIMCollateFunction(12, **o),
    "CPC": lambda **o: CPCCollateFunction(16, 8, 4, **o),
    "LooC": lambda **o: LooCCollateFunction(12, **o),
}
every = pytest.mark.parametrize("recipe", RECIPES)
ALONE = {"SimCLR as in TensorFlow", "BYOL as in TensorFlow", "PAWS for CIFAR"}  # what only the reference engine knows


def rendered(views: Views, engine: str, dtype: torch.dtype) -> list[Tensor]:
    return render(views.images, views.table, views.views, Output(torch.device("cpu"), dtype), engine)


@every
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_the_cpu_engine_renders_every_recipe_in_one_pass_as_the_reference(recipe: str, dtype: type) -> None:
    collate = RECIPES[recipe](seed=3, render="late")
    views = collate([noise(20 + 3 * i, 40 - 4 * i, seed=i, dtype=dtype) for i in range(4)])
    if recipe in ALONE:
        assert all(not all(part.fused for part in plan_passes(view.operations, cpu.knows)) for view in collate.views)
    else:
        for knows in (cpu.knows, gpu.knows):
            assert all([part.fused for part in plan_passes(view.operations, knows)] == [True] for view in collate.views)
    if recipe == "PAWS for CIFAR":  # where levels that are equal but for the last digit may part, not to compare
        for view, rows in zip(views.views, views.table, strict=True):
            rows[:, [name.endswith(("Solarize.applied", "Equalize.applied")) for name in view.columns]] = 0
    ours, truth = rendered(views, "cpu", torch.float32), rendered(views, "reference", torch.float64)
    for one, other in zip(ours, truth, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=0, atol=1e-4 / 0.224)  # they are normalised


@every
def test_an_image_many_times_becomes_as_many_views(recipe: str) -> None:
    views = RECIPES[recipe](seed=0)([noise(30, 40)] * 6)
    for view in views:
        assert len({image.numpy().tobytes() for image in view}) == 6
    assert len({image.numpy().tobytes() for view in views for image in view}) == 6 * len(views)


@every
def test_views_follow_the_image_not_the_batch(recipe: str) -> None:
    images = Indexed([noise(20 + i, 30 - i, seed=i) for i in range(5)])
    together = RECIPES[recipe](seed=7)([images[i] for i in (3, 0, 4, 1)])
    other = RECIPES[recipe](seed=7)([images[i] for i in (1, 2, 3)])
    assert together.index.tolist() == [3, 0, 4, 1]
    for place, elsewhere in ((0, 2), (3, 0)):
        assert torch.equal(together.table[:, place], other.table[:, elsewhere])
        for one, two in zip(together, other, strict=True):
            torch.testing.assert_close(one[place], two[elsewhere], rtol=0, atol=1e-5)


@every
def test_recipes_are_pickled_and_copied_whole(recipe: str) -> None:
    collate = RECIPES[recipe](seed=1)
    for twin in (pickle.loads(pickle.dumps(collate)), copy.deepcopy(collate)):
        assert repr(twin) == repr(collate)
        assert twin.views == collate.views
        assert torch.equal(twin([noise(20, 20)]).table, RECIPES[recipe](seed=1)([noise(20, 20)]).table)


COUNT = 4000


def probabilities(view: View) -> dict[str, float]:
    """How often what has a probability should happen, by the column that tells."""
    return {
        f"{type(o).__name__}.{o.columns[0]}": o.p
        for o in view.operations
        if isinstance(o, RandomHorizontalFlip | ColorJitter | RandomGrayscale | RandomGaussianBlur | RandomSolarize)
    }


@every
def test_draws_happen_as_often_as_they_should_and_apart_from_those_of_other_views(recipe: str) -> None:
    collate = RECIPES[recipe](seed=0, render="late")
    views = collate([np.zeros((30, 40, 3), dtype=np.uint8)] * COUNT)
    tests = 0
    for view, draws in zip(collate.views, views.draws, strict=True):
        for column, p in probabilities(view).items():
            happened, tests = int((draws[column] != 0).sum()), tests + 1
            assert abs(happened - p * COUNT) <= 4 * (p * (1 - p) * COUNT) ** 0.5, column
        for o in view.operations:
            if isinstance(o, ColorJitter):
                applied = draws["ColorJitter.applied"] > 0
                hue = draws["ColorJitter.hue"][applied]
                assert isinstance(o.hue, float)
                assert stats.kstest(hue.numpy(), "uniform", (-o.hue, 2 * o.hue)).pvalue > 1e-5
            if isinstance(o, RandomGaussianBlur):
                sigma = draws["RandomGaussianBlur.sigma"]
                assert stats.kstest(sigma[sigma > 0].numpy(), "uniform", (0.1, 1.9)).pvalue > 1e-5
            if isinstance(o, RandomSolarize) and recipe == "PAWS for CIFAR":
                threshold = draws["RandomSolarize.threshold"]
                assert stats.kstest(threshold.numpy(), "uniform").pvalue > 1e-5
    assert tests >= 2 * len(views)
    columns, shared = [], []
    for view, table in zip(views.views, views.table, strict=True):
        own = {name for step in view.items if isinstance(step, Shared) for name in View(step).columns}
        rows = [i for i, name in enumerate(view.columns) if name.startswith(("ColorJitter.h", "RandomHor"))]
        columns += [table[:, i].numpy() for i in rows]
        shared += [view.columns[i] in own for i in rows]
    correlation = np.corrcoef(np.stack(columns)) - np.eye(len(columns))
    correlation[np.ix_(shared, shared)] = 0
    assert np.abs(correlation).max() < 5.5 / COUNT**0.5


# --- what is shared ---------------------------------------------------------------------------------------------


def ramp(height: int, width: int) -> npt.NDArray[np.float32]:
    """An image of its own coordinates, y / height and x / width, and of ones."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    return np.stack([(y + 0.5) / height, (x + 0.5) / width, np.ones_like(y)], axis=-1)


def only_moves(collate: BaseCollateFunction) -> BaseCollateFunction:
    """The same without colours, so that the pixels of a ramp tell where they come from."""

    def still(o: Any) -> bool:
        return isinstance(o, ColorJitter | RandomGrayscale | RandomHorizontalFlip | Normalize)

    collate.views = tuple(View(*(step for step in view.items if not still(step))) for view in collate.views)
    return collate


def test_amdim_flips_both_views_or_none() -> None:
    first, second = AMDIMCollateFunction(8, seed=0, render="late")([noise(20, 30)] * 400).draws
    for name in first:
        same = torch.equal(first[name], second[name])
        assert same == (name == "RandomHorizontalFlip.applied"), name
    assert 150 < first["RandomHorizontalFlip.applied"].sum() < 250
    # what is flipped first is cropped where it then lies: the ramps of both views rise the same way
    collate = AMDIMCollateFunction(8, seed=0, normalize=None)
    collate.views = tuple(View(*view.items[:2]) for view in collate.views)
    one, two = collate([ramp(20, 30)] * 50)
    rises = [view[:, 1, 0, -1] > view[:, 1, 0, 0] for view in (one, two)]
    assert torch.equal(*rises)
    assert 10 < rises[0].sum() < 40


def test_the_patches_of_pirl_cover_the_whole_crop_each_cell_once() -> None:
    count, side, patch = 300, 48, 10  # cells of 16 pixels with 7 x 7 places
    collate = only_moves(PIRLCollateFunction(12, patch, side, seed=0))
    views = collate([ramp(90, 90)] * count)
    draws = views.draws
    boxes = [torch.stack([d[f"RandomResizedCrop.{n}"] for n in ("top", "left", "height", "width")]) for d in draws]
    assert not torch.equal(boxes[0], boxes[1])
    assert all(torch.equal(box, boxes[1]) for box in boxes[1:])
    box = boxes[1].double()
    centres = torch.stack([view[:, :2].double().mean((2, 3)) for view in views[1:]], dim=1)  # (n, 9, 2) in the image
    places = (centres * 90 - box[:2].T[:, None]) / box[2:].T[:, None] * side  # in the crop, of which they were cut
    corners = places - patch / 2
    cells = (places // 16).long()
    numbers = cells[..., 0] * 3 + cells[..., 1]
    assert torch.equal(numbers.sort(dim=1).values, torch.arange(9).expand(count, 9))
    assert len({tuple(row) for row in numbers.tolist()}) > 0.9 * count
    offsets = corners - cells * 16
    torch.testing.assert_close(offsets, offsets.round(), rtol=0, atol=0.15)
    for number in range(9):  # wherever it lies, a patch reaches both ends of its cell and is of no place in particular
        within = offsets.round()[numbers == number]
        assert within.amin(0).tolist() == [0, 0]
        assert within.amax(0).tolist() == [6, 6]
        assert stats.chisquare(np.bincount(within[:, 0].int(), minlength=7)).pvalue > 1e-4
        assert stats.chisquare(np.bincount(within[:, 1].int(), minlength=7)).pvalue > 1e-4
    flat = offsets.round().view(count, 18).numpy()
    correlation = np.corrcoef(flat.T) - np.eye(18)
    assert np.abs(correlation).max() < 5 / count**0.5  # each patch has a place of its own
    # and the source is the whole image, not only its first pixels
    assert (centres.amin((0, 1)) < 0.15).all()
    assert (centres.amax((0, 1)) > 0.85).all()


def test_the_patches_of_pirl_are_coloured_each_by_itself() -> None:
    draws = PIRLCollateFunction(12, 4, 16, seed=0, render="late")([noise(20, 20)] * 100).draws
    for name in ("ColorJitter.brightness", "RandomGrayscale.applied", "RandomHorizontalFlip.applied"):
        assert len({tuple(d[name].tolist()) for d in draws}) == 10


def photometric() -> dict[str, Any]:
    """The names that the example of the docstring defines."""
    names: dict[str, Any] = {"PIRLCollateFunction": PIRLCollateFunction}
    for example in doctest.DocTestParser().get_examples(PIRLCollateFunction.__doc__ or ""):
        exec(example.source, names)
    return names


def test_pirl_takes_kornias_photometric_step() -> None:
    step = photometric()["photometric"]
    views = PIRLCollateFunction(12, 4, 16, photometric=step, seed=0)([noise(20, 20)] * 2)
    assert [type(o).__name__ for o in views.views[1].operations][2:5] == [
        "ColorJitter",
        "KorniaModule",
        "RandomGrayscale",
    ]
    assert views[9].shape == (2, 3, 4, 4)


def test_the_photometric_step_does_all_four_to_two_thirds_of_the_images_as_pillow_does() -> None:
    names, pixels = photometric(), noise(24, 24, seed=5)
    images = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    torch.manual_seed(0)
    results = names["photometric"](images.expand(600, -1, -1, -1))
    unchanged = (results == images).flatten(1).all(1)
    assert abs(unchanged.float().mean() - 0.34) < 0.06
    assert len({result.numpy().tobytes() for result in results}) == int((~unchanged).sum()) + 1
    bits, sharpness, threshold = 5, 1.7, 128
    fixed = names["Photometric"](
        K.RandomPosterize((bits, bits), p=1.0),
        K.RandomSharpness((sharpness, sharpness), p=1.0),
        K.RandomSolarize((threshold / 255, threshold / 255), (0.0, 0.0), p=1.0),
        K.RandomAutoContrast(p=1.0),
    )
    assert [type(m) for m in names["photometric"].children()] == [type(m) for m in fixed.children()]
    image = ImageEnhance.Sharpness(ImageOps.posterize(Image.fromarray(pixels), bits)).enhance(sharpness)
    expected = torch.from_numpy(np.array(ImageOps.autocontrast(ImageOps.solarize(image, threshold))))
    results = fixed(images.expand(20, -1, -1, -1))
    changed = results[(results != images).flatten(1).any(1)][0]
    difference = (255 * changed.permute(1, 2, 0) - expected).abs()
    assert (difference <= 8).float().mean() > 0.97  # few values pass the threshold by another rounding


@pytest.mark.parametrize(("size", "patch", "stride", "grid"), [(16, 8, 4, 3), (20, 20, 3, 1), (21, 9, 6, 3)])
def test_the_patches_of_cpc_lie_row_by_row(size: int, patch: int, stride: int, grid: int) -> None:
    collate = CPCCollateFunction(size, patch, stride, scale=(1.0, 1.0), seed=0)
    assert collate.grid == grid
    assert len(collate.views) == grid**2
    (view, *rest) = only_moves(collate)([ramp(size, size)])
    y, x = (torch.arange(size) + 0.5) / size, (torch.arange(size) + 0.5) / size
    for i, one in enumerate([view, *rest]):
        top, left = stride * (i // grid), stride * (i % grid)
        torch.testing.assert_close(one[0, 0], y[top : top + patch, None].expand(patch, patch), rtol=0, atol=1e-6)
        torch.testing.assert_close(one[0, 1], x[None, left : left + patch].expand(patch, patch), rtol=0, atol=1e-6)


def test_the_patches_of_cpc_come_from_one_crop_and_are_coloured_each_by_itself() -> None:
    views = CPCCollateFunction(16, 8, 4, seed=0, render="late")([noise(40, 50)] * 60)
    for name in views.draws[0]:
        assert all(torch.equal(d[name], views.draws[0][name]) for d in views.draws) == name.startswith("RandomResized")
    for name in ("ColorJitter.brightness", "RandomGrayscale.applied", "RandomHorizontalFlip.applied"):
        assert len({tuple(d[name].tolist()) for d in views.draws}) == 9


GROUPS: dict[str, Any] = {"turn": RandomRotation90(1.0), "color": Color(), "texture": (Texture(), RandomSolarize())}


def test_looc_shares_group_i_with_key_i_and_nothing_else() -> None:
    collate = LooCCollateFunction(groups=GROUPS, base=[RandomResizedCrop(8), FLIP], seed=0, render="late")
    q, *keys = collate([noise(30, 40)] * 300).draws
    assert len(keys) == 4
    of_group = {
        "turn": ["RandomRotation90"],
        "color": ["ColorJitter", "RandomGrayscale"],
        "texture": ["RandomGaussianBlur", "RandomSolarize"],
    }
    for shared, key in zip([None, *of_group], keys, strict=True):
        for name in q:
            if name == "RandomSolarize.threshold":  # a constant
                continue
            expected = shared is not None and name.split(".")[0] in of_group[shared]
            assert torch.equal(q[name], key[name]) == expected, (shared, name)
            if not expected and q[name].std() > 0:
                assert abs(np.corrcoef(q[name], key[name])[0, 1]) < 5 / 300**0.5
    for i, one in enumerate(keys):  # nor do two keys share anything
        for other in keys[i + 1 :]:
            assert not any(torch.equal(one[name], other[name]) for name in q if name != "RandomSolarize.threshold")


@pytest.mark.parametrize("group", ["turn", "color", "texture"])
def test_where_only_one_group_acts_query_and_key_are_the_same_pixels(group: str) -> None:
    images = [noise(12, 12, seed=i) for i in range(8)]
    collate = LooCCollateFunction(groups={group: GROUPS[group]}, normalize=None, seed=1)
    q, k0, k1 = collate(images)
    assert torch.equal(q, k1)
    assert not torch.equal(q, k0)


def test_what_a_base_shares_with_no_group_is_independent() -> None:
    collate = LooCCollateFunction(groups={"color": Color()}, base=Shape(8), seed=0)
    q, k0, k1 = collate([noise(20, 30)] * 50).matrices
    for one, other in ((q, k0), (q, k1), (k0, k1)):
        assert (one != other).flatten(1).any(1).all()
    sequence = K.ImageSequential(K.RandomInvert(p=0.5))  # a module is one item, also one that can be iterated
    assert len(LooCCollateFunction(groups={"all": sequence}, base=Shape(8)).views) == 3


# --- nonsense ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: MoCoCollateFunction(version=0), "MoCoCollateFunction: version must be one of 1, 2, 3, got 0"),  # type: ignore[arg-type]
        (lambda: MoCoCollateFunction(scale=(0.5, 0.2)), "RandomResizedCrop: scale"),
        (lambda: BYOLCollateFunction(convention="jax"), "ColorJitter: convention must be one of .* got 'jax'"),  # type: ignore[arg-type]
        (lambda: SwaVCollateFunction(local_views=-1), "SwaV.*: local_views must be an integer >= 0, got -1"),
        (lambda: DINOCollateFunction(local_views=1.5), "DINO.*: local_views must be an integer >= 0, got 1.5"),  # type: ignore[arg-type]
        (lambda: DINOCollateFunction(local_size=0), "RandomResizedCrop: size"),
        (lambda: PAWSCollateFunction(recipe="stl"), "PAWS.*: recipe must be one of 'imagenet', 'cifar', got 'stl'"),  # type: ignore[arg-type]
        (lambda: PAWSCollateFunction(0), "RandomResizedCrop: size"),
        (lambda: PAWSCollateFunction(scale=(0.5, 0.2)), "RandomResizedCrop: scale"),
        (lambda: PIRLCollateFunction(recipe="mlp"), "PIRL.*: recipe must be one of 'paper', 'blur', got 'mlp'"),  # type: ignore[arg-type]
        (lambda: SimCLRCollateFunction(convention="jax"), "ColorJitter: convention must be one of .* got 'jax'"),  # type: ignore[arg-type]
        (
            lambda: PIRLCollateFunction(patch=86),
            r"PIRLCollateFunction: patch must fit into a cell, which is 85x85 \(jigsaw 255x255 // grid 3\), got 86x86",
        ),
        (lambda: PIRLCollateFunction(patch=(8, 65), grid=4), "which is 63x63 .*got 8x65"),
        (lambda: PIRLCollateFunction(grid=0), "RandomJigsawPatch: grid"),
        (
            lambda: CPCCollateFunction(250),
            "CPC.*: size must be the patch plus a whole number of strides, got size 250, patch 64, stride 32",
        ),
        (lambda: CPCCollateFunction(32, 64), "got size 32, patch 64, stride 32"),
        (lambda: CPCCollateFunction(stride=0), "CPCCollateFunction: stride must be an integer >= 1, got 0"),
        (lambda: CPCCollateFunction(patch=16.0), "CPCCollateFunction: patch must be an integer >= 1, got 16.0"),  # type: ignore[arg-type]
        (lambda: LooCCollateFunction(groups={}), "LooCCollateFunction: groups is empty"),
        (
            lambda: LooCCollateFunction(groups={"a": FLIP, "b": ()}),
            "LooCCollateFunction: groups must have items each, got none in 'b'",
        ),
        (lambda: AMDIMCollateFunction((8, 0)), "RandomResizedCrop: size"),
    ],
)
def test_wrong_arguments_are_refused(make: Callable[[], Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make()


# --- options ----------------------------------------------------------------------------------------------------


class OwnCollateFunction(BaseCollateFunction):
    """A collate function as users write it."""

    def __init__(self, side: int = 8, **options: Unpack[Options]) -> None:
        super().__init__([View(Shape(side))], **options)


def test_the_options_are_those_of_the_base() -> None:
    parameters = inspect.signature(BaseCollateFunction).parameters.values()
    named = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
    hints = get_type_hints(BaseCollateFunction.__init__)
    assert get_type_hints(Options) == {name: hints[name] for name in named}


@pytest.mark.parametrize("make", [SimCLRCollateFunction, OwnCollateFunction])
def test_options_reach_the_base(make: Callable[..., BaseCollateFunction]) -> None:
    collate = make(seed=3, render="late", engine="reference", image="photo", mode="L", decode=9)
    assert (collate.seed, collate.render, collate.engine) == (3, "late", "reference")
    assert (collate.image, collate.mode, collate.decode) == ("photo", "L", 9)


@pytest.mark.parametrize(
    ("make", "options", "says"),
    [
        (OwnCollateFunction, {"sed": 1}, "OwnCollateFunction: sed is not an argument, write seed"),
        (OwnCollateFunction, {"sides": 1}, "OwnCollateFunction: sides is not an argument, write side"),
        (OwnCollateFunction, {"xyz": 1}, "xyz is not an argument, these are: side, seed, render, engine, image, mode"),
        (SimCLRCollateFunction, {"input_size": 32}, "SimCLRCollateFunction: input_size .*, write size=…"),
        (SimCLRCollateFunction, {"cj_strength": 0.5}, "cj_strength is not an argument, write strength=…"),
        (SimCLRCollateFunction, {"cj_sat": 0.5}, "cj_sat .*, write saturation=… in Color or ImageCollateFunction"),
        (ImageCollateFunction, {"cj_sat": 0.5}, "cj_sat is not an argument, write saturation=…$"),
        (ImageCollateFunction, {"min_scale": 0.5}, r"write scale=\(min_scale, 1\)$"),
        (ImageCollateFunction, {"kernel_size": 23}, r"write sigma=… \(the kernel follows it\)$"),
        (
            MoCoCollateFunction,
            {"cj_strength": 1},
            "cj_strength .* the collate functions that take it call it strength=…",
        ),
        (SwaVCollateFunction, {"crop_counts": (2, 6), "crop_sizes": (9, 4)}, "crop_counts .*; crop_sizes .*"),
    ],
)
def test_unknown_options_are_refused_with_the_nearest(
    make: Callable[..., BaseCollateFunction], options: dict[str, Any], says: str
) -> None:
    with pytest.raises(TypeError, match=says):
        make(**options)


@pytest.mark.parametrize("strength", [-0.1, 3])
def test_a_strength_that_no_hue_has_is_named(strength: float) -> None:
    with pytest.raises(ValueError, match=rf"SimCLRCollateFunction: strength must lie in \[0, 2.5\], got {strength}"):
        SimCLRCollateFunction(8, strength=strength)
