"""Operations of a user's own: every engine renders views that contain them, and their mistakes are refused."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from helpers.cases import noise
from torch import Tensor
from torch.nn.functional import grid_sample

from lightly_aug import (
    Color,
    MultiViewCollateFunction,
    Normalize,
    Operation,
    RandomGaussianBlur,
    RandomGrayscale,
    RandomHorizontalFlip,
    RandomResizedCrop,
    Shape,
    Shared,
    Texture,
    View,
    Views,
)
from lightly_aug.engines import Output, render
from lightly_aug.engines.plan import find_stage, plan_passes
from lightly_aug.operations import Floats, Ints

every = pytest.mark.parametrize("engine", ["reference", "cpu", "gpu"])
CUDA = torch.cuda.is_available()
COUNT = 4


@dataclass(frozen=True)
class RandomGamma(Operation):
    """A colour operation: x ** gamma."""

    low: float = 0.5
    high: float = 2.0

    columns: ClassVar[tuple[str, ...]] = ("gamma",)
    uniforms: ClassVar[int] = 1

    def draw(self, u: Floats, height: Ints, width: Ints) -> Floats:
        return self.low + u * (self.high - self.low)

    def apply(self, images: Tensor, drawn: Tensor) -> Tensor:
        return images ** drawn.to(images.device, non_blocking=True).view(-1, 1, 1, 1)

    def caption(self, drawn: Any) -> str:
        return f"gamma {drawn[0]:.1f}"


@dataclass(frozen=True)
class RandomShear(Operation):
    """A geometric operation: row y moves to the right by shear * y pixels, a whole number of them; zeros come in."""

    most: int = 2

    columns: ClassVar[tuple[str, ...]] = ("shear",)
    uniforms: ClassVar[int] = 1

    def draw(self, u: Floats, height: Ints, width: Ints) -> Floats:
        return np.floor(u * (self.most + 1))

    def apply(self, images: Tensor, drawn: Tensor) -> Tensor:
        sheared = torch.zeros_like(images)
        for image, target, shear in zip(images, sheared, drawn[:, 0].long().tolist(), strict=True):
            for y in range(image.shape[1]):
                shift = min(shear * y, image.shape[2])
                target[:, y, shift:] = image[:, y, : image.shape[2] - shift]
        return sheared

    def matrix(self, height: Ints, width: Ints, drawn: Floats) -> Floats:
        matrices = np.tile(np.eye(3), (len(drawn), 1, 1))
        matrices[:, 0, 1] = drawn[:, 0]
        return matrices


@dataclass(frozen=True)
class Half(Operation):
    """A geometric operation that changes the size: every other pixel of every other row."""

    def draw(self, u: Floats, height: Ints, width: Ints) -> Floats:
        return u

    def apply(self, images: Tensor, drawn: Tensor) -> Tensor:
        return images[..., ::2, ::2]

    def output_size(self, height: Ints, width: Ints, drawn: Floats) -> tuple[Ints, Ints]:
        return (height + 1) // 2, (width + 1) // 2

    def matrix(self, height: Ints, width: Ints, drawn: Floats) -> Floats:
        return np.tile(np.diag([0.5, 0.5, 1.0]), (len(drawn), 1, 1))


def collated(*views: View, count: int = COUNT, dtype: type = np.uint8, **options: Any) -> Views:
    images = [noise(20 + 3 * i, 30 - 2 * i, seed=i, dtype=dtype) for i in range(count)]
    batch: Views = MultiViewCollateFunction(list(views), seed=1, render="late", mode=None, **options)(images)
    return batch


def rendered(views: Views, engine: str, dtype: torch.dtype | None = None) -> list[Tensor]:
    output = Output(torch.device("cuda" if engine == "gpu" and CUDA else "cpu"), dtype)
    return [view.cpu() for view in render(views.images, views.table, views.views, output, engine)]


OWN: dict[str, list[Any]] = {
    "a colour in the middle": [Shape(16), Color(), RandomGamma(), Texture(), Normalize(0.5, 0.5)],
    "a colour in front": [RandomGamma(), RandomResizedCrop(16, interpolation="bicubic"), RandomGrayscale()],
    "a shear in the middle": [RandomResizedCrop(16), RandomShear(), RandomHorizontalFlip(), RandomGaussianBlur()],
    "a shear in front": [RandomShear(), RandomResizedCrop(16), RandomGrayscale()],
    "another size at the end": [RandomResizedCrop(32), RandomHorizontalFlip(), Half()],
    "alone": [RandomResizedCrop(16), RandomShear(), RandomGamma()],
}


@every
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("items", OWN.values(), ids=OWN)
def test_every_engine_renders_views_with_own_operations(engine: str, dtype: type, items: list[Any]) -> None:
    views = collated(View(*items), count=COUNT if CUDA or engine != "gpu" else 1, dtype=dtype)
    for view, truth in zip(rendered(views, engine), rendered(views, "reference", torch.float64), strict=True):
        torch.testing.assert_close(view.double(), truth, rtol=0, atol=1e-4)


@every
def test_own_operations_match_their_formulas(engine: str) -> None:
    """Against the formula in NumPy, and a resampling by the matrix."""
    images = [noise(9, 9, seed=i) for i in range(COUNT if CUDA or engine != "gpu" else 1)]
    views: Views = MultiViewCollateFunction([View(RandomGamma()), View(RandomShear())], seed=2, render="late")(images)
    bright, sheared = rendered(views, engine)
    for i, image in enumerate(images):
        unit = image.transpose(2, 0, 1) / 255
        gamma = float(views.draws[0]["RandomGamma.gamma"][i])
        np.testing.assert_allclose(bright[i], unit**gamma, atol=1e-6)
        y, x = np.mgrid[:9, :9]
        places = np.linalg.inv(views.matrices[1][i].numpy()) @ np.stack([x, y, np.ones_like(x)]).reshape(3, -1)
        grid = torch.tensor(places[:2].T.reshape(1, 9, 9, 2) / 4 - 1)
        expected = grid_sample(torch.tensor(unit)[None], grid, align_corners=True)
        torch.testing.assert_close(sheared[i : i + 1].double(), expected, rtol=0, atol=1e-6)
    assert len(set(views.draws[1]["RandomShear.shear"].tolist())) > 1 or engine == "gpu"


def test_the_rest_of_the_view_stays_fast() -> None:
    cpu = pytest.importorskip("lightly_aug.engines.cpu")
    plan = plan_passes(View(*OWN["a colour in the middle"]).operations, cpu.knows)
    assert [part.fused for part in plan] == [True, False, True]


def test_a_subclass_of_a_known_operation_is_not_taken_for_it() -> None:
    @dataclass(frozen=True)
    class Stronger(RandomGrayscale):
        def apply(self, images: Tensor, drawn: Tensor) -> Tensor:
            return 1 - super().apply(images, drawn)

    assert find_stage(Stronger()) is None
    views = collated(View(RandomResizedCrop(8), Stronger(1.0)))
    plain = collated(View(RandomResizedCrop(8), RandomGrayscale(1.0)))
    torch.testing.assert_close(views[0], 1 - plain[0], rtol=0, atol=1e-6)


def test_own_operations_have_draws_matrices_captions_and_can_be_shared() -> None:
    view = View(RandomResizedCrop(16), Shared("mine", RandomShear(3), RandomGamma()))
    views = collated(view, view)
    first, second = views.draws
    assert torch.equal(first["RandomShear.shear"], second["RandomShear.shear"])
    assert torch.equal(first["RandomGamma.gamma"], second["RandomGamma.gamma"])
    assert not torch.equal(first["RandomResizedCrop.top"], second["RandomResizedCrop.top"])
    captions = view.captions(views.table[0].double().numpy())
    assert captions[0][1] == f"gamma {float(first['RandomGamma.gamma'][0]):.1f}"


class Mistake(RandomGamma):
    """Hashable as its parent is."""


class Transposes(Mistake):
    def apply(self, images: Tensor, drawn: Tensor) -> Tensor:
        return images.mT


class DropsChannels(Mistake):
    def apply(self, images: Tensor, drawn: Tensor) -> Tensor:
        return images[:, :1]


class ReturnsAnArray(Mistake):
    def apply(self, images: Tensor, drawn: Tensor) -> Any:
        return images.numpy()


class DrawsTooMuch(Mistake):
    def draw(self, u: Floats, height: Ints, width: Ints) -> Floats:
        return np.repeat(u, 2, axis=1)


class DrawsFlat(Mistake):
    def draw(self, u: Floats, height: Ints, width: Ints) -> Floats:
        return u[:, 0]


@dataclass
class NotFrozen(Operation):
    def draw(self, u: Floats, height: Ints, width: Ints) -> Floats:
        return u

    def apply(self, images: Tensor, drawn: Tensor) -> Tensor:
        return images


def changes_size_without_matrix() -> None:
    class Grows(Operation):
        def output_size(self, height: Ints, width: Ints, drawn: Floats) -> tuple[Ints, Ints]:
            return height + 1, width


@pytest.mark.parametrize("engine", ["reference", "cpu"])
@pytest.mark.parametrize(
    ("operation", "message"),
    [
        (Transposes, r"Transposes\(low=0.5, high=2.0\) made \(4, 3, 7, 6\) of images .*\(4, 3, 6, 7\) were expected"),
        (DropsChannels, r"made \(4, 1, 6, 7\) .* keeps the channels"),
        (ReturnsAnArray, "made ndarray of images"),
        (DrawsTooMuch, r"^DrawsTooMuch: draw must return \(4, 1\) numbers for 4 images, got \(4, 2\)$"),
        (DrawsFlat, r"^DrawsFlat: draw must return \(4, 1\) .* got \(4,\)$"),
    ],
)
def test_mistakes_in_an_own_operation_are_refused(engine: str, operation: type[Operation], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        collated(View(RandomResizedCrop((6, 7)), operation()), engine=engine).to("cpu")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (changes_size_without_matrix, "Grows overrides output_size: override matrix, too"),
        (lambda: View(NotFrozen()), "cannot be hashed .*make it a frozen dataclass"),
        (Operation, "abstract"),
    ],
)
def test_mistakes_in_an_own_class_are_refused_at_construction(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        make()


def test_an_own_operation_overwrites_no_image() -> None:
    """`apply` gets copies where the batch goes as one, and the images themselves where they go one by one."""
    views = collated(View(RandomGamma(), RandomResizedCrop(8)), dtype=np.float32)
    before = views.images.pixels.clone()
    views.to("cpu")
    assert torch.equal(views.images.pixels, before)
