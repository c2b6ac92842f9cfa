"""Functions of others as operations: what they get, what they draw from, and what they may return."""

import pickle
import random
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from helpers.cases import noise
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from lightly_aug import (
    Batched,
    Indexed,
    MultiViewCollateFunction,
    Normalize,
    PerImage,
    Resize,
    Shape,
    Shared,
    SimCLRCollateFunction,
    View,
    Views,
)

IMAGES = [noise(20, 24 + i, seed=i) for i in range(4)]


def collate(*items: Any, views: int = 1, **options: Any) -> MultiViewCollateFunction:
    return MultiViewCollateFunction([View(*items)] * views, seed=5, **({"render": "late"} | options))


def packed(*items: Any, **options: Any) -> Views:
    views: Views = collate(*items, **options)(IMAGES)
    return views


def generators() -> list[Any]:
    return [torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()]  # type: ignore[index] # noqa: NPY002


# functions at the top level of a module can be pickled


def noisy(image: Tensor) -> Tensor:
    """Draw from all three global generators."""
    return image * random.random() + np.random.rand() + torch.rand_like(image)  # noqa: NPY002


def noisy_by_itself(image: Tensor) -> Tensor:
    return image + float(np.random.default_rng(torch.initial_seed()).random())


def darken_in_place(image: Tensor) -> Tensor:
    return image.mul_(0.5)


def halve(image: Tensor) -> Tensor:
    return image[..., ::2]


def to_half(image: Tensor) -> Tensor:
    return image.half()


def to_numpy(image: Tensor) -> Any:
    return image.numpy()


def drop(image: Tensor) -> None:
    return None


def fail(image: Tensor) -> Tensor:
    torch.rand(1), np.random.rand(), random.random()  # noqa: NPY002
    raise OSError("no good")


def invert_bytes(image: Tensor) -> Tensor:
    assert image.dtype == torch.uint8
    return 255 - image


# --- one image after the other ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "function", [noisy, v2.RandomErasing(p=0.7), v2.ColorJitter(0.4, 0.4, 0.4, 0.1), v2.RandomAffine(20)]
)
def test_every_image_is_drawn_from_its_own_seed(function: Callable[[Tensor], Tensor]) -> None:
    views = packed(Resize((16, 16)), PerImage(function), Normalize(0.5, 0.5))
    seeds = views.draws[0]["PerImage.seed"].int().tolist()
    assert len(set(seeds)) == 4
    before = packed(Resize((16, 16)))[0]
    kept = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    for view, image, seed in zip(views[0], before, seeds, strict=True):
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        random.seed(seed)
        torch.testing.assert_close(view, function(image) * 2 - 1, rtol=0, atol=1e-5)
    torch.set_rng_state(kept[0])
    np.random.set_state(kept[1])  # noqa: NPY002
    random.setstate(kept[2])


@pytest.mark.parametrize("kind", [PerImage, Batched])
def test_a_view_is_repeated_exactly_and_leaves_the_global_generators_alone(kind: Any) -> None:
    views = packed(Resize((16, 16)), kind(noisy), views=2)
    before = generators()
    first = views.to()
    assert generators() == before
    torch.rand(1), np.random.rand(), random.random()  # noqa: NPY002
    assert all(torch.equal(a, b) for a, b in zip(first, views.to(), strict=True))
    assert not torch.equal(*first)


@pytest.mark.parametrize("kind", [PerImage, Batched])
def test_a_function_that_fails_leaves_the_global_generators_alone(kind: Any) -> None:
    views, before = packed(Resize((16, 16)), kind(fail)), generators()
    with pytest.raises(OSError, match="no good"):
        views.to()
    assert generators() == before


@pytest.mark.parametrize("render", ["late", "worker"])
@pytest.mark.parametrize("function", [noisy, noisy_by_itself])
def test_the_same_seed_gives_the_same_pixels_with_any_number_of_workers(function: Any, render: str) -> None:
    dataset = Indexed([torch.from_numpy(image).permute(2, 0, 1) for image in IMAGES])
    expected = collate(Resize((16, 16)), PerImage(function))([dataset[i] for i in range(4)])[0]
    for workers, size in ((0, 3), (1, 4), (2, 1)):
        make = collate(Resize((16, 16)), PerImage(function), render=render)
        loader = DataLoader(dataset, size, num_workers=workers, collate_fn=make)
        assert torch.equal(torch.cat([views[0] for views in loader]), expected)


def test_shared_functions_do_the_same_to_all_views_of_an_image() -> None:
    views = packed(Resize((16, 16)), Shared("noise", PerImage(noisy)), views=2)
    assert torch.equal(*views.to())


@pytest.mark.parametrize("kind", [PerImage, Batched])
def test_packed_images_are_not_overwritten(kind: Any) -> None:
    """Float images of different sizes are handed over as they lie in the batch."""
    views = collate(kind(darken_in_place), Resize((8, 8)))([torch.ones(3, 4, 4), torch.ones(3, 5, 4)])
    assert torch.equal(views[0], torch.full((2, 3, 8, 8), 0.5))
    assert torch.equal(views[0], torch.full((2, 3, 8, 8), 0.5))


def test_a_function_may_come_before_the_images_have_one_size() -> None:
    views = packed(PerImage(darken_in_place), Batched(darken_in_place), Resize((8, 8)))
    torch.testing.assert_close(views[0], packed(Resize((8, 8)))[0] / 4, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", [PerImage, Batched])
def test_eight_bits_are_rounded_to_and_back(kind: Any) -> None:
    before, after = packed(Resize((16, 16)))[0], packed(Resize((16, 16)), kind(invert_bytes, uint8=True))[0]
    torch.testing.assert_close(after * 255, 255 - (before * 255).round(), rtol=0, atol=1e-4)
    with pytest.raises(ValueError, match=r"works on values in \[0, 1\], move it in front of Normalize"):
        View(Normalize(), kind(invert_bytes, uint8=True))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes(dtype: torch.dtype) -> None:
    views = packed(Resize((16, 16)), PerImage(darken_in_place), Batched(invert_bytes, uint8=True)).to(dtype=dtype)
    assert views[0].dtype == dtype


@pytest.mark.parametrize("kind", [PerImage, Batched])
@pytest.mark.parametrize(
    ("function", "came"),
    [
        (halve, r"torch.float32 \(.*16, 8\)"),
        (to_half, r"torch.float16 \(.*16, 16\)"),
        (to_numpy, r"float32 \(.*16, 16\)"),
        (drop, "NoneType"),
    ],
)
def test_other_sizes_and_dtypes_are_refused(kind: Any, function: Any, came: str) -> None:
    with pytest.raises(
        ValueError, match=rf"^{kind.__name__}\(.*{function.__name__}.* made {came} of torch.float32 .*16"
    ):
        packed(Resize((16, 16)), kind(function)).to()


@pytest.mark.parametrize("kind", [PerImage, Batched])
@pytest.mark.parametrize(
    ("function", "says"),
    [(lambda image: image, "must be picklable, to travel from workers"), (3, "must be callable, got 3")],
)
def test_what_cannot_travel_or_be_called_is_refused(kind: Any, function: Any, says: str) -> None:
    with pytest.raises(TypeError, match=rf"^{kind.__name__}: function {says}"):
        kind(function)


@pytest.mark.parametrize("kind", [PerImage, Batched])
def test_matrices_are_known_if_pixels_stay(kind: Any) -> None:
    with pytest.raises(ValueError, match=rf"^{kind.__name__}: matrix must be known .* pass moves_pixels=False$"):
        _ = packed(Resize((10, 10)), kind(noisy)).matrices
    still = packed(Resize((10, 10)), kind(noisy, moves_pixels=False)).matrices
    assert all(torch.equal(a, b) for a, b in zip(still, packed(Resize((10, 10))).matrices, strict=True))


# --- batches ----------------------------------------------------------------------------------------------------


def test_a_batch_is_drawn_from_the_seed_of_its_first_image() -> None:
    module = v2.ColorJitter(0.4, 0.4, 0.4, 0.1)
    views = packed(Resize((16, 16)), Batched(module), Normalize(0.5, 0.5))
    with torch.random.fork_rng():
        torch.manual_seed(int(views.draws[0]["Batched.seed"][0]))
        expected = module(packed(Resize((16, 16)))[0])
    torch.testing.assert_close(views[0], expected * 2 - 1, rtol=0, atol=1e-5)


def test_a_function_without_draws_does_the_same_to_batches_and_images() -> None:
    module = nn.AvgPool2d(3, 1, 1)
    one, other = (packed(Resize((16, 16)), kind(module))[0] for kind in (PerImage, Batched))
    torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("kind", [PerImage, Batched])
def test_functions_run_on_the_gpu_from_a_seed(kind: Any) -> None:
    views = packed(Resize((16, 16)), kind(noisy), views=2)
    before = torch.cuda.get_rng_state()
    first, second = views.to("cuda"), views.to("cuda")
    assert first[0].is_cuda
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert torch.equal(torch.cuda.get_rng_state(), before)


# --- Albumentations ---------------------------------------------------------------------------------------------


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A pipeline with the interface of Albumentations, which need not be installed: it has generators of its own."""
    module = ModuleType("albumentations")

    class Pipeline:
        def __init__(self) -> None:
            self.generator, self.standard = np.random.default_rng(), random.Random()

        def set_random_state(self, generator: Any, standard: Any) -> None:
            self.generator, self.standard = generator, standard

        def __call__(self, *, image: Any) -> dict[str, Any]:
            assert image.shape == (16, 16, 3)
            image[:4] = self.generator.random() * self.standard.random() * (255 if image.dtype == np.uint8 else 1)
            return {"image": image}

    Pipeline.__module__, Pipeline.__qualname__ = "albumentations", "Pipeline"
    module.Pipeline = Pipeline  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "albumentations", module)
    return Pipeline()


@pytest.mark.parametrize("uint8", [False, True])
def test_pipelines_of_albumentations_get_arrays_and_are_seeded(pretended: Any, uint8: bool) -> None:
    views, own = packed(Resize((16, 16)), PerImage(pretended, uint8=uint8)), pretended.generator
    for view, seed in zip(views[0], views.draws[0]["PerImage.seed"].int().tolist(), strict=True):
        value = np.random.default_rng(seed).random() * random.Random(seed).random()
        torch.testing.assert_close(view[:, :4], torch.full((3, 4, 16), value), rtol=0, atol=1 / 255 if uint8 else 1e-6)
    assert pretended.generator is own
    assert torch.equal(pickle.loads(pickle.dumps(views))[0], views[0])


def test_albumentations_without_a_state_and_in_batches_is_refused(pretended: Any) -> None:
    with pytest.raises(TypeError, match=r"^Batched: a transform of Albumentations takes one image, use PerImage"):
        Batched(pretended)
    del type(pretended).set_random_state
    with pytest.raises(TypeError, match=r"^PerImage: .* is of a version of Albumentations before 2"):
        PerImage(pretended)


def test_albumentations_with_a_seed_of_its_own_is_refused(pretended: Any) -> None:
    pretended.transforms = [type(pretended)()]
    PerImage(pretended)
    pretended.transforms[0].seed = 0
    with pytest.raises(ValueError, match=r"^PerImage: function must not have a seed of its own, leave seed= out"):
        PerImage(pretended)


def test_albumentations_itself() -> None:
    A: Any = pytest.importorskip("albumentations")
    shown = View(Resize((16, 16)), PerImage(A.Compose([A.CoarseDropout(p=0.5), A.RandomBrightnessContrast(p=1.0)])))
    alone = View(Resize((16, 16)), PerImage(A.CoarseDropout(p=1.0)), PerImage(A.ISONoise(p=1.0), uint8=True))
    make = MultiViewCollateFunction([shown, shown, alone], seed=0, render="late")
    for views in (make(IMAGES), make(IMAGES)):
        again = pickle.loads(pickle.dumps(views)).to()
        assert all(torch.equal(a, b) for a, b in zip(views.to(), again, strict=True))
        assert not torch.equal(views[0], views[1])
        assert len({tuple(view.flatten().tolist()) for view in views[0]}) == 4
    with pytest.raises(ValueError, match="must not have a seed of its own"):
        PerImage(A.Compose([A.CoarseDropout(p=0.5)], seed=3))
    with pytest.raises(ValueError, match=r"made torch.float32 \(3, 8, 8\) of torch.float32 \(3, 16, 16\)"):
        packed(Resize((16, 16)), PerImage(A.Compose([A.RandomCrop(8, 8)]))).to()


# --- what a view says of things that are no operations ----------------------------------------------------------


def test_a_view_names_the_operations_for_functions() -> None:
    with pytest.raises(TypeError, match=r"^View: got torchvision.*RandomErasing, .* go in PerImage or Batched"):
        View(v2.RandomErasing())


@pytest.mark.parametrize("make", [SimCLRCollateFunction, lambda size, normalize: View(Shape(size), normalize)])
def test_a_normalisation_in_lightlys_form_is_translated(make: Any) -> None:
    statistics = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    with pytest.raises(TypeError, match=r"write Normalize\((mean=\[0.485, .*\], std=\[0.229, .*\])\)") as caught:
        make(32, normalize=statistics)
    line = str(caught.value).rpartition("write ")[2]
    assert eval(line, {"Normalize": Normalize}) == Normalize()
