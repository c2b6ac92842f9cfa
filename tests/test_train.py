"""What a method gets of a batch when `PretrainModule` trains it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from helpers.methods import METHODS, tiny
from lightning.pytorch import Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lightly_aug import CenterCrop, Indexed, MultiViewCollateFunction, View
from lightly_aug.models import SSLModel
from lightly_aug.train import PretrainModule

pytestmark = [
    pytest.mark.filterwarnings(f"ignore:{text}")
    for text in (
        ".*does not have many workers",
        ".*The number of training batches",
        ".*treespec, LeafSpec",
        ".*set_vital",
    )
]
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
    """A method that records its arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Identity()
        self.w = nn.Parameter(torch.tensor(1.0))
        self.arguments: list[tuple[Any, Any]] = []

    def forward(self, views: Sequence[Tensor], *, targets: Tensor | None = None, index: Tensor | None = None) -> Tensor:
        assert self.training
        assert [tuple(view.shape) for view in views] == [(6, 3, 2, 2)]
        self.arguments.append((targets, index))
        loss: Tensor = self.w * views[0].mean()
        return loss


def record_arguments(samples: Any) -> tuple[Any, Any]:
    """Return the targets and the index that a method gets for a batch of samples."""
    model = Recorder()
    trainer = Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(PretrainModule(model), DataLoader(samples, len(samples), collate_fn=COLLATE))
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


@pytest.mark.parametrize("name", ["SimCLR v1", "DINO"])  # of two views, and of several
def test_views_that_were_left_on_another_device_are_refused(name: str) -> None:
    model = METHODS[name].model(tiny()).to("meta")
    with pytest.raises(ValueError, match=r"views must be on meta, as the model, got cpu: render them there"):
        model([torch.rand(4, 3, 16, 16)] * 2)
