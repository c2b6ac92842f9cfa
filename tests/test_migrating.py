"""What docs/migrating.md says of other libraries is true of those that are installed."""

import ast
import inspect
import re
from pathlib import Path
from typing import Any

import kornia.augmentation as K
import numpy as np
import pytest
import torch
from helpers.cases import noise
from helpers.photos import write_photos
from PIL import Image, ImageFilter, ImageOps
from torch import Tensor
from torchvision.transforms.v2 import functional as F

import lightly_aug
from lightly_aug import (
    BYOLCollateFunction,
    Color,
    ColorJitter,
    DINOCollateFunction,
    ImageCollateFunction,
    MoCoCollateFunction,
    Normalize,
    RandomGaussianBlur,
    RandomGrayscale,
    RandomHorizontalFlip,
    RandomResizedCrop,
    RandomRotation,
    RandomRotation90,
    RandomSolarize,
    Resize,
    Shape,
    SimCLRCollateFunction,
    SimSiamCollateFunction,
    SwaVCollateFunction,
    Texture,
    View,
    loss,
)
from lightly_aug.operations import JITTER_ORDERS, Operation
from lightly_aug.options import _FOREIGN

PAGE = (Path(__file__).parents[1] / "docs/migrating.md").read_text()
THEIRS = re.findall(r"^```py\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
PHOTO = torch.from_numpy(noise(60, 80)).permute(2, 0, 1)[None].float() / 255
TABLES = re.findall(r"^\|(?!-)(.*)\|$", PAGE, re.MULTILINE)
ROWS = [[cell.strip() for cell in row.split(" | ")] for row in TABLES]

# --- the page ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", THEIRS, ids=lambda block: re.findall(r"\w+", block)[1])
def test_the_code_of_other_libraries_runs(block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.ImportFrom):
            pytest.importorskip(str(node.module))
        elif isinstance(node, ast.Import):
            name = node.names[0].name
            of_the_page = "2.5" if name == "albumentations" and "sigma_range" in block else None
            pytest.importorskip(name, of_the_page)
    write_photos(tmp_path / "photos", classes=2, count=6)
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "docs/migrating.md", "exec"), {})


def test_the_page_names_every_argument_that_errors_translate() -> None:
    for name, advice in _FOREIGN.items():
        row = next((row for row in ROWS if re.search(rf"\b{name}\b", row[0])), None)
        assert row, f"docs/migrating.md has no row for {name}"
        new = advice.split("=")[0]
        assert new in row[1], f"docs/migrating.md says {row[1]} for {name}, the error says {advice}"


def test_names_of_ours_in_the_tables_exist() -> None:
    for row in ROWS:
        for name in re.findall(r"(?<![\w.])([A-Z]\w+)\(", " ".join(re.findall(r"`([^`]*)`", row[1]))):
            assert hasattr(lightly_aug, name) or hasattr(loss, name), f"{name} in the row of {row[0]}"


# --- torchvision, Pillow ----------------------------------------------------------------------------------------


def sharp() -> Tensor:
    """Pixels of 0 and 1, on which kernels differ most."""
    return (PHOTO > 0.5).float()


@pytest.mark.parametrize("sigma", [0.1, 0.5, 1.0, 2.0])
def test_a_kernel_of_23_pixels_is_wide_enough_for_the_same_blur(sigma: float) -> None:
    ours = RandomGaussianBlur((sigma, sigma), 1.0).apply(sharp(), torch.tensor([[sigma]]))
    assert (ours - F.gaussian_blur(sharp(), [23, 23], [sigma, sigma])).abs().max() < 2e-4


def test_a_kernel_of_3_pixels_blurs_at_most_as_a_mean() -> None:
    spread = [F.gaussian_blur(sharp(), [3, 3], [sigma, sigma]).std() for sigma in (2.0, 100.0)]
    assert spread[0] > spread[1]
    mean = torch.nn.functional.avg_pool2d(sharp(), 3, 1)
    torch.testing.assert_close(F.gaussian_blur(sharp(), [3, 3], [1e4, 1e4])[..., 1:-1, 1:-1], mean, rtol=0, atol=1e-5)


def test_pillows_blur_is_an_approximation() -> None:
    image = Image.fromarray(noise(60, 80))
    pillows = F.to_image(image.filter(ImageFilter.GaussianBlur(1.0)))[None] / 255
    ours = RandomGaussianBlur((1.0, 1.0), 1.0).apply(PHOTO, torch.tensor([[1.0]]))
    assert 1 / 255 < (ours - pillows).abs().mean() < 10 / 255


@pytest.mark.parametrize("value", [0, 127, 128, 255])
def test_a_threshold_of_128_of_8_bits_is_one_half(value: int) -> None:
    image = torch.full((1, 3, 2, 2), value, dtype=torch.uint8)
    ours = RandomSolarize(0.5, 1.0).apply(image / 255, torch.tensor([[1.0, 0.5]]))
    torch.testing.assert_close(ours * 255, F.solarize(image, 128).float())
    pillows = ImageOps.solarize(Image.fromarray(image[0].permute(1, 2, 0).numpy()))
    assert int(np.asarray(pillows)[0, 0, 0]) == int(F.solarize(image, 128)[0, 0, 0, 0])


def test_one_number_resizes_the_shorter_side_as_a_list_of_one_does() -> None:
    ours = Resize(32).apply(PHOTO, torch.empty(1, 0))
    torch.testing.assert_close(ours, F.resize(PHOTO, [32], antialias=True), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["bilinear", "bicubic"])
def test_a_flip_after_everything_is_a_flip_after_the_crop(kind: str) -> None:
    turned = PHOTO.flip(-1)
    jitter = torch.tensor([[1.0, 1.2, 0.7, 1.3, 0.05, 3.0]])
    for operation, drawn in (
        (ColorJitter(0.4, 0.4, 0.4, 0.1), jitter),
        (RandomGaussianBlur((1.5, 1.5), 1.0), torch.tensor([[1.5]])),
        (RandomSolarize(0.5, 1.0), torch.tensor([[1.0, 0.5]])),
    ):
        after = operation.apply(PHOTO, drawn).flip(-1)
        torch.testing.assert_close(after, operation.apply(turned, drawn), rtol=0, atol=1e-5)


# --- Kornia -----------------------------------------------------------------------------------------------------


def kornia_draws(module: Any, name: str, count: int = 400) -> Tensor:
    """The numbers that a module draws for one batch."""
    torch.manual_seed(0)
    numbers: Tensor = module.forward_parameters(torch.Size((count, 3, 8, 8)))[name]
    return numbers


def test_kornias_crop_does_not_antialias_and_aligns_corners() -> None:
    white = torch.from_numpy(noise(256, 256)).permute(2, 0, 1)[None].float() / 255
    whole = {"scale": (1.0, 1.0), "ratio": (1.0, 1.0)}
    default = K.RandomResizedCrop((32, 32), **whole)
    assert default.flags["align_corners"]
    ours = RandomResizedCrop(32, (1.0, 1.0), (1.0, 1.0)).apply(white, torch.tensor([[0.0, 0.0, 256.0, 256.0]]))
    assert default(white).std() > 4 * ours.std()
    aliased = RandomResizedCrop(32, (1.0, 1.0), (1.0, 1.0), antialias=False)
    same = K.RandomResizedCrop((32, 32), align_corners=False, **whole)
    ours = aliased.apply(white, torch.tensor([[0.0, 0.0, 256.0, 256.0]]))
    torch.testing.assert_close(ours, same(white), rtol=0, atol=1e-5)


def test_kornias_jitter_has_one_order_and_the_same_pixels() -> None:
    module = K.ColorJitter(0.4, 0.4, 0.4, 0.1)
    torch.manual_seed(0)
    params = module.forward_parameters(PHOTO.shape)
    assert params["order"].shape == (4,)  # of a batch of any size
    assert kornia_draws(module, "order").shape == (4,)
    names = "brightness", "contrast", "saturation", "hue"
    order = JITTER_ORDERS.index(tuple(names[i] for i in params["order"].tolist()))
    drawn = torch.tensor([[1.0, *(params[f"{name}_factor"].item() for name in names), order]])
    ours = ColorJitter(0.4, 0.4, 0.4, 0.1).apply(PHOTO, drawn)
    torch.testing.assert_close(ours, module(PHOTO, params=params), rtol=0, atol=2e-5)


def test_kornias_solarize_adds_by_default_and_not_with_the_papers_numbers() -> None:
    thresholds, additions = (
        kornia_draws(K.RandomSolarize(), "thresholds"),
        kornia_draws(K.RandomSolarize(), "additions"),
    )
    assert thresholds.min() < 0.42
    assert thresholds.max() > 0.58
    assert additions.min() < -0.09
    assert additions.max() > 0.09
    papers = K.RandomSolarize((0.5, 0.5), (0.0, 0.0), p=1.0)
    ours = RandomSolarize(0.5, 1.0).apply(PHOTO, torch.tensor([[1.0, 0.5]]))
    torch.testing.assert_close(papers(PHOTO), ours, rtol=0, atol=1e-6)


def test_kornias_rotation_turns_the_same_way() -> None:
    ours = RandomRotation(30).apply(PHOTO, torch.tensor([[20.0]]))
    torch.testing.assert_close(K.RandomRotation((20.0, 20.0), p=1.0)(PHOTO), ours, rtol=0, atol=1e-4)


def test_kornias_quarter_turns_are_not_equally_likely_and_ours_are() -> None:
    theirs = kornia_draws(K.RandomRotation90(times=(0, 3)), "times", 6000).round().long().bincount(minlength=4)
    torch.testing.assert_close(theirs / 6000, torch.tensor([1, 2, 2, 1]) / 6, rtol=0, atol=0.03)
    u = np.random.default_rng(0).random((6000, RandomRotation90(1.0).uniforms))
    size = np.full(6000, 8)
    ours = np.bincount(RandomRotation90(1.0).draw(u, size, size)[:, 0].astype(int), minlength=4)
    assert (abs(ours / 6000 - 1 / 4) < 0.03).all()


def test_kornias_grayscale_has_the_same_weights() -> None:
    ours = RandomGrayscale(1.0).apply(PHOTO, torch.ones(1, 1))
    torch.testing.assert_close(K.RandomGrayscale(p=1.0)(PHOTO), ours, rtol=0, atol=1e-6)
    assert K.RandomGrayscale().p == 0.1


@pytest.mark.parametrize("name", ["RandomBrightness", "RandomContrast", "RandomSaturation"])
def test_kornias_other_colours_have_other_formulas(name: str) -> None:
    low, high = (1.4, 1.4), 1.4
    theirs = getattr(K, name)(low, p=1.0)(PHOTO)
    factors = {kind: high if name == f"Random{kind}" else 1.0 for kind in ("Brightness", "Contrast", "Saturation")}
    drawn = torch.tensor([[1.0, *factors.values(), 0.0, 0.0]])
    ours = ColorJitter(0.5, 0.5, 0.5).apply(PHOTO, drawn)
    assert (theirs - ours).abs().mean() > 0.01


# --- lightly ----------------------------------------------------------------------------------------------------


def numbers_of_ours(view: View) -> dict[str, Any]:
    """The ranges and probabilities of a view, by operation; those that cannot happen are left out."""
    found: dict[str, Any] = {}
    for operation in view.operations:
        match operation:
            case RandomResizedCrop(size, scale, _, interpolation):
                found["crop"] = size, scale, interpolation
            case ColorJitter(b, c, s, h, p):
                ranges = [v if isinstance(v, tuple) else (max(0, 1 - v), 1 + v) for v in (b, c, s)]
                found["jitter"] = *ranges, h if isinstance(h, tuple) else (-h, h), p
            case RandomGaussianBlur(sigma, p):
                found["blur"] = sigma, p
            case RandomHorizontalFlip(p) | RandomGrayscale(p) | RandomSolarize(_, p):
                found[type(operation).__name__] = p
            case Normalize(mean, std):
                found["normalize"] = mean, std
    return found


def numbers_of_lightly(transform: Any) -> dict[str, Any]:
    """The same of a transform of lightly."""
    found: dict[str, Any] = {}
    for step in steps_of(transform):
        match type(step).__name__:
            case "RandomResizedCrop":
                kind = getattr(step.interpolation, "value", step.interpolation)
                found["crop"] = tuple(step.size), tuple(step.scale), kind
            case "RandomApply":
                jitter = step.transforms[0]
                found["jitter"] = jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue, step.p
            case "GaussianBlur" if step.prob > 0:
                found["blur"] = tuple(map(float, step.sigmas)), step.prob
            case "RandomSolarization" if step.prob > 0:
                found["RandomSolarize"] = step.prob
            case "RandomHorizontalFlip" | "RandomGrayscale" as name:
                found[name] = step.p
            case "Normalize":
                found["normalize"] = tuple(step.mean), tuple(step.std)
    return found


def steps_of(transform: Any) -> list[Any]:
    """The single transforms of a pipeline."""
    if type(transform).__name__ == "RandomApply":
        return [transform]
    held = vars(transform)  # torchvision's transforms have a method `transform`, too
    inner = held.get("transforms") or held.get("transform")
    if inner is None:
        return [transform]
    return [step for one in (inner if isinstance(inner, list | tuple) else [inner]) for step in steps_of(one)]


def without(names: str, numbers: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in numbers.items() if name not in names.split()}


VICREG = View(Shape(224), Color(0.4, 0.4, 0.2, 0.1), RandomSolarize(p=0.1), Texture(), Normalize())
MSN = SwaVCollateFunction(224, 96, 10, scale=(0.3, 1), local_scale=(0.05, 0.3))
MAE = View(Shape(224, (0.2, 1), interpolation="bicubic"), Normalize())
IMAGE = ImageCollateFunction(224, scale=(0.08, 1), brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2)


@pytest.mark.parametrize(
    ("theirs", "ours", "differing"),
    [
        ("SimCLRTransform", SimCLRCollateFunction(normalize=Normalize()).views, "crop"),
        ("SimCLRTransform", IMAGE.views, ""),
        ("MoCoV1Transform", MoCoCollateFunction(version=1).views, "jitter"),
        ("MoCoV2Transform", MoCoCollateFunction().views, ""),
        ("SimSiamTransform", SimSiamCollateFunction().views, ""),
        ("BYOLTransform", BYOLCollateFunction().views, "crop"),
        ("SwaVTransform", SwaVCollateFunction().views, ""),
        ("DINOTransform", DINOCollateFunction(local_views=6).views, ""),
        ("VICRegTransform", [VICREG] * 2, ""),
        ("MSNTransform", MSN.views, ""),
        ("MAETransform", [MAE], ""),
    ],
)
def test_the_numbers_of_lightly_differ_where_the_page_says(theirs: str, ours: list[View], differing: str) -> None:
    transforms = pytest.importorskip("lightly.transforms")
    transform = getattr(transforms, theirs)()
    views = vars(transform).get("transforms", [transform])
    assert len(views) == len(ours)
    for their, our in zip(views, ours, strict=True):
        a, b = numbers_of_lightly(their), numbers_of_ours(our)
        assert without(differing, rounded(a)) == without(differing, rounded(b))
        for name in differing.split():
            assert rounded(a)[name] != rounded(b)[name]


def rounded(value: Any) -> Any:
    """The value with all numbers rounded, so that 1 - .8 is .2."""
    match value:
        case dict():
            return {name: rounded(one) for name, one in value.items()}
        case list() | tuple():
            return tuple(map(rounded, value))
        case float() | int():
            return round(float(value), 9)
    return value


def test_lightly_has_no_collate_functions_any_more() -> None:
    lightly = pytest.importorskip("lightly")
    assert tuple(map(int, lightly.__version__.split(".")[:2])) >= (1, 6)
    with pytest.raises(ModuleNotFoundError):
        __import__("lightly.data.collate")


def test_arguments_of_the_losses_are_those_of_the_page() -> None:
    losses = pytest.importorskip("lightly.loss")
    assert {"temperature", "memory_bank_size"} <= set(inspect.signature(losses.NTXentLoss).parameters)
    assert inspect.signature(loss.NTXentLoss).parameters["temperature"].default == 0.1
    loss.DINOLoss(65536, temperature=0.1, momentum=0.9)
    loss.SwaVLoss(iterations=3, epsilon=0.05)
    loss.BarlowTwinsLoss(redundancy=0.005)


# --- Albumentations ---------------------------------------------------------------------------------------------


def test_albumentations_rotates_and_solarizes_as_here_and_does_not_antialias() -> None:
    A: Any = pytest.importorskip("albumentations")
    image = noise(60, 80)

    def ours(operation: Operation, *drawn: float) -> Tensor:
        return operation.apply(PHOTO, torch.tensor([drawn]))[0].permute(1, 2, 0) * 255

    def theirs(transform: Any, pixels: Any = image) -> Tensor:
        return torch.from_numpy(transform(image=pixels)["image"]).float()

    assert (theirs(A.Rotate((20, 20), p=1.0)) - ours(RandomRotation(20), 20.0)).abs().mean() < 1
    assert (theirs(A.Solarize(p=1.0)) - ours(RandomSolarize(0.5, 1.0), 1.0, 0.5)).abs().max() < 1e-3
    assert (theirs(A.ToGray(p=1.0)) - ours(RandomGrayscale(1.0), 1.0)).abs().max() <= 1
    large = noise(512, 512)
    crop = theirs(A.RandomResizedCrop((64, 64), scale=(1, 1), ratio=(1, 1)), large)
    smooth = F.resize(torch.from_numpy(large).permute(2, 0, 1), [64, 64], antialias=True).float()
    assert crop.std() > 4 * smooth.std()
