"""Training on several gloo processes through Lightning, against one process on the joined batches."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.methods import METHODS, Method, _images, tiny
from helpers.ranks import Ranks, start_ranks
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader

from lightly_aug import EpochSampler, Indexed, SupportBatchSampler
from lightly_aug.distributed import gather, rank, world_size
from lightly_aug.models import SSLModel
from lightly_aug.train.module import PretrainModule
from lightly_aug.train.optimization import Optimization

STEPS, EACH = 3, 4  # optimiser steps, and images of a batch on one rank
Batches = list[list[int]]


@pytest.fixture(scope="module", params=[2, 4])
def ranks(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ranks]:
    with start_ranks(request.param, tmp_path_factory.mktemp("ranks")) as started:
        yield started


class JoinedBatchNorm(nn.Module):
    """BatchNorm over the images of all ranks, as `SyncBatchNorm`, which needs an accelerator."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        joined: Tensor = self.norm(gather(x, grad=True))
        return joined.chunk(world_size())[rank()]


def join_batch_norms(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d):
            setattr(module, name, JoinedBatchNorm(child))
        else:
            join_batch_norms(child)


def own_batches(name: str) -> Batches:
    """Return the batches of this rank, as samplers make them."""
    if name == "PAWS":
        labels = [label for _, label in _images()]
        batches: Any = SupportBatchSampler(labels, EACH, 1, seed=3)
    else:
        batches = BatchSampler(EpochSampler(Indexed(_images()), shuffle=True, seed=3), EACH, drop_last=True)
    drawn: Batches = []
    while len(drawn) < STEPS:
        drawn += batches
    return drawn[:STEPS]


def train(name: str, folder: str, batches: Batches | None = None) -> tuple[Batches, dict[str, Tensor]]:
    """Train a method for three steps in float64; return the batches and the final state."""
    method: Method = METHODS[name]
    torch.manual_seed(0)
    options = {"maps": ("5", "2")} if name == "AMDIM" else {}  # the coarse map is a single pixel, so no place is random
    model: SSLModel = method.model(tiny(), **options)
    join_batch_norms(model)
    batches = own_batches(name) if batches is None else batches
    loader: DataLoader[Any] = DataLoader(
        Indexed(_images()), batch_sampler=batches, collate_fn=method.collate(seed=0, render="worker")
    )
    size = world_size()
    strategy = DDPStrategy(process_group_backend="gloo", broadcast_buffers=False) if size > 1 else "auto"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = Trainer(
            accelerator="cpu", devices=size, strategy=strategy, precision="64-true", max_steps=STEPS,
            use_distributed_sampler=False, logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, default_root_dir=folder,
        )  # fmt: skip
        chosen = Optimization("sgd", 0.5, 1e-3, final_weight_decay=1e-2)
        trainer.fit(PretrainModule(model, chosen, batch_size=len(batches[0]) * size, total_steps=STEPS), loader)
    return batches, {key: value.clone() for key, value in model.state_dict().items()}


@pytest.mark.parametrize("name", METHODS)
def test_three_steps_equal_one_process(ranks: Ranks, tmp_path: Path, name: str) -> None:
    drawn, states = zip(*ranks(train, name, str(tmp_path)), strict=True)
    joined = [sum(parts, []) for parts in zip(*drawn, strict=True)]
    _, whole = train(name, str(tmp_path), joined)
    for state in states:
        assert state.keys() == whole.keys()
        for key, value in whole.items():
            torch.testing.assert_close(state[key], value, rtol=1e-9, atol=1e-9, msg=key)
