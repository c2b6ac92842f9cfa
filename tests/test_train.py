"""The training loop: the arguments of the model and the steps of the optimiser; batches with some labels."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lightly_aug import CenterCrop, Indexed, MultiViewCollateFunction, SupportBatchSampler, View
from lightly_aug.models import SSLModel
from lightly_aug.train import Step, fit

COLLATE = MultiViewCollateFunction([View(CenterCrop(2))], seed=0)
IMAGES = [np.full((2, 2, 3), 10 * i, np.uint8) for i in range(6)]


class Pair(NamedTuple):
    image: Any
    target: Any


@dataclass
class Record:
    image: Any
    label: Any


class Recorder(SSLModel):
    """A method with the loss w·(mean of the view) that records its arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Identity()
        self.w, self.frozen = nn.Parameter(torch.tensor(1.0)), nn.Parameter(torch.tensor(1.0), requires_grad=False)
        self.arguments: list[tuple[Any, Any]] = []
        self.steps: list[float] = []

    def forward(self, views: Sequence[Tensor], *, targets: Tensor | None = None, index: Tensor | None = None) -> Tensor:
        assert self.training
        assert isinstance(views, list)
        self.arguments.append((targets, index))
        loss: Tensor = self.w * views[0].mean()
        return loss

    def after_step(self, progress: float) -> None:
        self.steps.append(progress)


def record_arguments(samples: Any) -> tuple[Any, Any]:
    """Return the targets and the index that a method gets for a batch of samples."""
    model = Recorder()
    fit(model, DataLoader(samples, len(samples), collate_fn=COLLATE), epochs=1)
    (result,) = model.arguments
    return result


@pytest.mark.parametrize(
    "make",
    [
        lambda x, y: (x, y),
        lambda x, y: [x, y],
        lambda x, y: (x, y, "name"),
        lambda x, y: {"image": x, "label": y},
        lambda x, y: {"target": y, "image": x},
        lambda x, y: {"image": x, "targets": torch.tensor(y)},
        Pair,
        Record,
    ],
)
def test_model_gets_labels_and_index(make: Any) -> None:
    samples = [make(image, 7 - i) for i, image in enumerate(IMAGES)]
    targets, index = record_arguments(samples)
    assert targets.tolist() == [7, 6, 5, 4, 3, 2]
    assert targets.dtype == torch.int64
    assert index is None
    assert record_arguments(Indexed(samples))[1].tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    "samples",
    [
        IMAGES,
        [(x,) for x in IMAGES],
        [(x, 0.5) for x in IMAGES],
        [(x, "name") for x in IMAGES],
        [(x, torch.tensor([1, 2])) for x in IMAGES],
        [(x, "name", 3) for x in IMAGES],
        [{"image": x, "number": 3} for x in IMAGES],
    ],
)
def test_other_members_are_no_labels(samples: Any) -> None:
    assert record_arguments(samples) == (None, None)


def make_loader() -> DataLoader[Any]:
    return DataLoader(IMAGES, 2, collate_fn=COLLATE)  # type: ignore[arg-type]


GRADIENTS = [5 / 255, 25 / 255, 45 / 255]  # the mean of each batch


def test_adamw_by_hand() -> None:
    model, steps = Recorder(), list[Step]()
    fit(model, make_loader(), epochs=2, lr=0.5, weight_decay=0.1, device="cpu", on_step=steps.append)
    w, mean, square = 1.0, 0.0, 0.0
    for t, (step, gradient) in enumerate(zip(steps, GRADIENTS * 2, strict=True)):
        assert (step.number, step.total) == (t + 1, 6)
        assert step.loss.item() == pytest.approx(w * gradient, rel=1e-5)
        rate = 0.5 * (1 + math.cos(math.pi * t / 6)) / 2
        mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
        w -= rate * 0.1 * w
        w -= rate * mean / (1 - 0.9 ** (t + 1)) / (math.sqrt(square / (1 - 0.999 ** (t + 1))) + 1e-8)
    assert model.w.item() == pytest.approx(w, rel=1e-5)
    assert model.frozen.item() == 1
    assert model.steps == pytest.approx([i / 6 for i in range(1, 7)])


def test_custom_optimiser() -> None:
    """Plain descent in two groups: each learning rate falls along its own cosine, and no weight decays."""
    model = Recorder()
    model.second = nn.Parameter(torch.tensor(1.0))
    groups = [{"params": [model.w], "lr": 0.5}, {"params": [model.second], "lr": 3.0}]
    optimizer, rates = torch.optim.SGD(groups), []
    fit(
        model, make_loader(), epochs=2, lr=9, weight_decay=9, optimizer=optimizer,
        on_step=lambda _: rates.append([group["lr"] for group in optimizer.param_groups]),
    )  # fmt: skip
    cosine = [(1 + math.cos(math.pi * t / 6)) / 2 for t in range(7)]
    assert rates == [pytest.approx([0.5 * x, 3 * x], abs=1e-9) for x in cosine[1:]]
    w = 1 - sum(0.5 * x * gradient for x, gradient in zip(cosine, GRADIENTS * 2, strict=False))
    assert model.w.item() == pytest.approx(w, rel=1e-5)
    assert model.second.item() == 1  # it had no gradient


def test_errors() -> None:
    with pytest.raises(ValueError, match="fit: epochs and batches must be at least 1, got 0 epochs of 3 batches"):
        fit(Recorder(), make_loader(), epochs=0)
    plain: DataLoader[Any] = DataLoader([(torch.zeros(3), 0)], 1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"no views in a batch of {0: 'Tensor', 1: 'Tensor'}: give the loader"):
        fit(Recorder(), plain, epochs=1)
    images: DataLoader[Any] = DataLoader([(torch.zeros(3, 4, 4), 0)], 1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="fit: batches must contain a Views, got Tensor"):
        fit(Recorder(), images, epochs=1)


def test_support_batches() -> None:
    labels = [0, 0, 0, 1, 1, 7, 7, 7] + [-1] * 22
    batches = list(SupportBatchSampler(labels, 10, 2, seed=0))
    assert len(batches) == len(SupportBatchSampler(labels, 10, 2, seed=0)) == 5
    for batch in batches:
        assert len(set(batch)) == 10
        assert Counter(labels[i] for i in batch) == {0: 2, 1: 2, 7: 2, -1: 4}
    unlabelled = [i for batch in batches for i in batch if labels[i] < 0]
    assert len(set(unlabelled)) == len(unlabelled) == 20  # each once, and two that fill no batch
    assert (
        batches == list(SupportBatchSampler(labels, 10, 2, seed=0)) != list(SupportBatchSampler(labels, 10, 2, seed=1))
    )
    for size, each in ((6, 2), (10, 3), (10, 0), (40, 1)):
        with pytest.raises(ValueError, match=f"3 classes .* got batch_size={size} and per_class={each}"):
            SupportBatchSampler(labels, size, each, seed=0)
