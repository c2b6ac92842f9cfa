"""Where a filter begins exactly between two pixels, weights and addresses of the GPU engine agree on the pixel."""

import pytest
import torch
from helpers.cases import noise

from lightly_aug import CenterCrop, MultiViewCollateFunction, RandomRotation, Resize, View, Views
from lightly_aug.engines import Output, render
from lightly_aug.operations import Operation

pytest.importorskip("triton")
CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda" if CUDA else "cpu")
# all pairs of sides from 1 to 32 on a GPU; a few under Triton's interpreter, which computes everything once
FROM, TO = (range(1, 33), range(1, 33)) if CUDA else ([3], [1, 5, 19])


def assert_same(operations: list[Operation], tolerance: float) -> None:
    """Every operation on an image of every side, in one batch."""
    views = [View(operation, CenterCrop(33)) for operation in operations]
    batch: Views = MultiViewCollateFunction(views, seed=0, render="late")([noise(n, n, seed=n) for n in FROM])
    ours = render(batch.images, batch.table, batch.views, Output(DEVICE), "gpu")
    truth = render(batch.images, batch.table, batch.views, Output(torch.device("cpu"), torch.float64), "reference")
    for operation, view, expected in zip(operations, ours, truth, strict=True):
        off = (view.cpu().double() - expected).abs().amax((1, 2, 3))
        assert (off <= tolerance).all(), (operation, [n for n, far in zip(FROM, off > tolerance, strict=True) if far])


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_resizes_between_all_sides(interpolation: str) -> None:
    assert_same([Resize((m, m), interpolation) for m in TO], 5e-6)  # type: ignore[arg-type]


def test_rotations_about_centres_on_and_between_pixels() -> None:
    assert_same([RandomRotation((degrees, degrees)) for degrees in ((30, 45, 90, 180) if CUDA else (90,))], 1e-4)
