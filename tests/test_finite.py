"""One batch with NaN or infinity in it leaves no trace in what models keep from step to step, and is reported once."""

import math
import warnings
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lightly_aug import MemoryBank
from lightly_aug.loss import DINOLoss, NCELoss
from lightly_aug.models import DINO, NNCLR, PIRL, MoCo, SSLModel, SwaV
from lightly_aug.photographs import photographs
from lightly_aug.train import pretrain

BAD = (math.nan, math.inf, -math.inf)


def backbone() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


@settings(deadline=None)
@given(
    size=st.integers(1, 9),
    batches=st.lists(st.lists(st.sampled_from([1.0, 1.0, 1.0, *BAD]), max_size=20), max_size=6),
)
@pytest.mark.filterwarnings("ignore:MemoryBank. left out")
def test_a_bank_holds_the_last_finite_keys(size: int, batches: list[list[float]]) -> None:
    bank, oracle, number = MemoryBank(size, 2), deque[float](maxlen=size), 0
    for factors in batches:
        numbers = torch.arange(number, number + len(factors), dtype=torch.float32)
        keys = torch.stack([numbers * torch.tensor(factors), numbers], 1).where(
            torch.tensor(factors)[:, None] == 1, math.nan
        )
        bank.update(keys)
        oracle.extend(float(n) for n, factor in zip(numbers, factors, strict=True) if factor == 1)
        number += len(factors)
        held, valid = bank.negatives()
        start = int(bank.pointer) if bool(valid.all()) else 0
        assert held.roll(-start, 0)[valid.roll(-start, 0)][:, 1].tolist() == list(oracle)
        assert held.isfinite().all()


def test_what_was_left_out_is_reported_once() -> None:
    bank = MemoryBank(8, 2)
    keys = torch.ones(4, 2)
    keys[1, 0] = keys[3, 1] = math.nan
    with pytest.warns(UserWarning, match=r"MemoryBank: left out 2 rows that are not finite"):
        bank.update(keys)
    bank.update(keys)  # a second warning would be an error here
    assert bank.filled == 4


def test_the_report_survives_copies_and_compiling() -> None:
    bank = MemoryBank(4, 2)
    compiled = torch.compile(bank.update, backend="eager", fullgraph=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the compiler
        compiled(torch.tensor([[1.0, 2.0], [math.nan, 1.0]]))
    assert bank.filled == 1


@pytest.mark.parametrize("bad", BAD)
def test_the_centre_of_dino_stays_and_goes_on(bad: float) -> None:
    loss = DINOLoss(3, momentum=0.5)
    good = torch.tensor([[1.0, 2.0, 4.0]])
    broken = torch.tensor([[1.0, bad, 4.0]])
    loss([good, good], [good])
    before = loss.center.clone()
    with pytest.warns(UserWarning, match="DINOLoss: left out 1 rows"):
        loss([good, good], [broken])
    assert torch.equal(loss.center, before)
    loss([good, good], [good])
    torch.testing.assert_close(loss.center, 0.75 * good[0])


def test_the_normaliser_is_taken_from_the_first_finite_batch() -> None:
    loss, expected = NCELoss(images=10), NCELoss(images=10)
    rows, others = torch.randn(4, 3), torch.randn(6, 3)
    loss(rows * math.nan, rows, others)
    loss(rows, rows, others), expected(rows, rows, others)
    assert torch.equal(loss.log_z, expected.log_z)


MAKE: dict[str, Callable[[], tuple[SSLModel, int]]] = {
    "MoCo": lambda: (MoCo(backbone(), dim=4, queue=16, momentum=0.5), 2),
    "NNCLR": lambda: (NNCLR(backbone(), hidden=8, dim=4, predictor_hidden=8, queue=16), 2),
    "SwaV": lambda: (SwaV(backbone(), hidden=8, dim=4, prototypes=5, queue=8, queue_from=0.0), 2),
    "DINO": lambda: (DINO(backbone(), hidden=8, bottleneck=4, dim=6), 2),
    "PIRL": lambda: (PIRL(backbone(), images=8, dim=4, negatives=4, patches=1), 2),
}


@pytest.mark.filterwarnings("ignore:.* left out")
@pytest.mark.parametrize("name", MAKE)
def test_a_step_that_is_skipped_leaves_no_trace(name: str) -> None:
    """As GradScaler does: a step whose gradients are not finite is left out, and the next losses are finite."""
    torch.manual_seed(0)
    model, views = MAKE[name]()
    for step in range(6):
        batch = list(torch.rand(views, 8, 3, 12, 12))
        if step == 2:
            batch[1][3] = math.nan
            batch[0][5] = math.inf
        arguments: dict[str, Any] = {"index": torch.arange(8)} if name == "PIRL" else {}
        loss = model(batch, **arguments)
        if step == 2:
            assert not loss.isfinite()
        else:
            assert loss.isfinite(), step
        assert all(buffer.isfinite().all() for key, buffer in model.named_buffers() if keeps(key)), step


def keeps(name: str) -> bool:
    """BatchNorm's own statistics are PyTorch's, and log Z is NaN until it is known."""
    return "running" not in name and not name.endswith("log_z")


def write_images(folder: Path) -> Path:
    folder.mkdir()
    for i, image in enumerate(photographs(8, 32)):
        image.save(folder / f"{i}.png")
    return folder


@pytest.mark.filterwarnings("ignore:.*(wants batches|does not have many workers|The number of training batches)")
@pytest.mark.filterwarnings("ignore:.*(LeafSpec|set_vital|features collapse|overflow)")
def test_a_training_that_is_lost_ends_before_it_saves(tmp_path: Path) -> None:
    images = write_images(tmp_path / "images")
    with pytest.raises(ValueError, match=r"step \d+: the \w+ are not finite, the training is lost. Lower the learning"):
        pretrain(
            images, method="simclr", backbone="resnet10", size=32, epochs=3, batch_size=4, lr=1e25, out=tmp_path / "run"
        )
    for path in (tmp_path / "run").rglob("*.ckpt"):
        weights: dict[str, Tensor] = torch.load(path, weights_only=True)["state_dict"]
        assert all(value.isfinite().all() for value in weights.values())
    assert not list((tmp_path / "run").glob("backbone.safetensors"))
