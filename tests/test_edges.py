"""Edges of images and operations that mutants of the code showed to be untested."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lightly_aug import Crop, Operation, PerImage, RandomResizedCrop, decoding, images
from lightly_aug.images import ImageError, to_array
from lightly_aug.operations.color import _equalize
from lightly_aug.operations.functions import _to_floats, _to_uint8


@pytest.mark.parametrize("value", [1.01, 2.0, -0.01, np.nan])
def test_deep_values_out_of_range_are_refused(value: float) -> None:
    image = Image.fromarray(np.array([[0.5, value]], np.float32))
    with pytest.raises(ImageError, match=r"mode=None takes them as they are$"):
        to_array(image)
    np.testing.assert_array_equal(to_array(image, mode=None)[..., 0], np.array([[0.5, value]], np.float32))


def test_an_error_without_text_is_named_by_its_type() -> None:
    class Broken(Image.Image):
        size = (2, 2)

        def load(self) -> None:
            raise IndexError

    with pytest.raises(ImageError, match=r"^cannot read it: IndexError$"):
        to_array(Broken())


def test_jpeg_files_take_the_fast_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Pillow would give the same pixels, more slowly, so only the path shows it."""
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 30, 3), np.uint8)).save(tmp_path / "0.jpg")
    decode, decoded = decoding.decode_jpeg, []
    monkeypatch.setattr(images, "decode_jpeg", lambda *given: decoded.append(decode(*given)) or decoded[-1])  # type: ignore[func-returns-value]
    assert to_array(tmp_path / "0.jpg") is decoded[0]


def test_values_beyond_the_range_become_its_ends_in_8_bits() -> None:
    levels = _to_uint8(torch.tensor([-0.1, 0.0, 0.5, 1.0, 1.2]))
    assert levels.tolist() == [0, 0, 128, 255, 255]
    x = torch.rand(1, 1, 40, 40, generator=torch.Generator().manual_seed(0)) * 1.4 - 0.2
    assert torch.equal(_equalize(x, x), _equalize(x.clamp(0, 1), x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_results_of_functions_take_the_dtype_of_the_images(dtype: torch.dtype) -> None:
    for result in (torch.tensor([0, 51, 255], dtype=torch.uint8), torch.tensor([0.0, 0.2, 1.0])):
        found = _to_floats(result, dtype)
        assert found.dtype == dtype
        torch.testing.assert_close(found, torch.tensor([0, 0.2, 1], dtype=dtype))


def test_seeds_of_functions_are_whole_numbers_that_float32_holds() -> None:
    u = np.array([0.0, 0.5, np.nextafter(1, 0)])
    sides = np.full(3, 8)
    seeds = PerImage(torch.neg, moves_pixels=False).draw(u, sides, sides)
    assert seeds.tolist() == [0, 2**23, 2**24 - 1]


def test_a_side_of_a_crop_is_that_of_a_square() -> None:
    assert Crop(8, 1, 2).size == (8, 8)


def test_a_crop_is_captioned_by_height_and_width() -> None:
    assert RandomResizedCrop(8).caption([3, 5, 20, 40]) == "crop 40 × 20"


def test_an_operation_with_another_size_and_a_matrix_is_taken() -> None:
    class Halved(Operation):
        def output_size(self, height: Any, width: Any, drawn: Any) -> tuple[Any, Any]:
            return height // 2, width // 2

        def matrix(self, height: Any, width: Any, drawn: Any) -> Any:
            return np.broadcast_to(np.diag([0.5, 0.5, 1.0]), (len(height), 3, 3))

    assert issubclass(Halved, Operation)
