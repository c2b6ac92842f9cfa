"""Training on several gloo processes through Lightning, against one process on the joined batches."""

import io
import os
import re
import runpy
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from helpers.methods import METHODS, SIDE, Method, _images, tiny
from helpers.ranks import Ranks, start_ranks
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.utils.data import BatchSampler, DataLoader, IterableDataset

from lightly_aug import EpochSampler, Indexed, SupportBatchSampler
from lightly_aug.distributed import gather, rank, world_size
from lightly_aug.models import SSLModel
from lightly_aug.train.checkpoints import AtomicCheckpointIO
from lightly_aug.train.module import PretrainModule
from lightly_aug.train.optimization import Optimization
from lightly_aug.train.run import Pretrained, pretrain

STEPS, EACH = 3, 4  # optimiser steps, and images of a batch on one rank
PAGE = Path(__file__).parents[1] / "docs" / "distributed.md"
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


def build_trainer(folder: str, options: dict[str, Any]) -> Trainer:
    strategy: Any = DDPStrategy(process_group_backend="gloo") if world_size() > 1 else "auto"
    return Trainer(
        accelerator="cpu", devices=world_size(), use_distributed_sampler=False, logger=False, default_root_dir=folder,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        plugins=[AtomicCheckpointIO()], **{"strategy": strategy} | options,
    )  # fmt: skip


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
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = build_trainer(folder, {"max_steps": STEPS, "precision": "64-true"})
        chosen = Optimization("sgd", 0.5, 1e-3, final_weight_decay=1e-2)
        trainer.fit(PretrainModule(model, chosen, batch_size=len(batches[0]) * world_size(), total_steps=STEPS), loader)
    return batches, {key: value.clone() for key, value in model.state_dict().items()}


@pytest.mark.parametrize("name", METHODS)
def test_three_steps_equal_one_process(ranks: Ranks, tmp_path: Path, name: str) -> None:
    drawn, states = zip(*ranks(train, name, str(tmp_path)), strict=True)
    joined = [list(chain(*parts)) for parts in zip(*drawn, strict=True)]
    _, whole = train(name, str(tmp_path), joined)
    for state in states:
        assert state.keys() == whole.keys()
        for key, value in whole.items():
            torch.testing.assert_close(state[key], value, rtol=1e-9, atol=1e-9, msg=key)


class Block(nn.Module):
    """A part of the backbone that FSDP2 divides by itself."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.part(x)
        return out


def train_sharded(
    name: str, folder: str, sharded: bool, stop: bool = False
) -> tuple[dict[str, Tensor], dict[str, Tensor], bool]:
    """Train a method with DDP or FSDP2, stopped and resumed or not; return the saved state and the whole backbone."""
    method: Method = METHODS[name]
    drawn = own_batches(name)
    checkpoint = None
    for first, last in ((0, STEPS - 1), (STEPS - 1, STEPS)) if stop else ((0, STEPS),):
        torch.manual_seed(rank() if sharded else 0)  # ranks need not begin with the same weights
        backbone = tiny()
        backbone[3] = Block(backbone[3])
        model: SSLModel = method.model(backbone, **({"maps": ("5", "2")} if name == "AMDIM" else {}))
        lars = name in ("BYOL", "SwAV", "MoCo v2")
        chosen = Optimization("lars", 100, 1e-3) if lars else Optimization("sgd", 2, 0, clip=0.3)
        module = PretrainModule(model, chosen, batch_size=2 * EACH, total_steps=STEPS)
        loader: DataLoader[Any] = DataLoader(
            Indexed(_images()), batch_sampler=drawn[first:last], collate_fn=method.collate(seed=0, render="worker")
        )
        options: dict[str, Any] = {"max_steps": last}
        if sharded:
            options["strategy"] = ModelParallelStrategy(world_size(), 1, save_distributed_checkpoint=False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trainer = build_trainer(folder, options)
            trainer.fit(module, loader, ckpt_path=checkpoint)
            checkpoint = Path(folder) / f"{sharded}-{last}.ckpt"
            trainer.save_checkpoint(checkpoint)
    whole = module.whole_backbone().state_dict()
    assert checkpoint is not None
    state = torch.load(checkpoint, weights_only=True)["state_dict"]
    return state, whole, all(isinstance(p, DTensor) for p in model.parameters())


@pytest.mark.parametrize("name", METHODS)
def test_fsdp2_equals_ddp(ranks: Ranks, tmp_path: Path, name: str) -> None:
    if len(ranks.pipes) > 2:
        pytest.skip("two processes show it")
    (expected, backbone, _), _ = ranks(train_sharded, name, str(tmp_path), False)
    for stop in (False, True) if name in ("MoCo v3", "DINO") else (False,):
        (state, whole, sharded), _ = ranks(train_sharded, name, str(tmp_path), True, stop)
        assert sharded
        assert state.keys() == expected.keys()
        for key, value in expected.items():
            torch.testing.assert_close(state[key], value, rtol=1e-4, atol=1e-5, msg=f"{stop} {key}")
        for key, value in backbone.items():
            torch.testing.assert_close(whole[key], value, rtol=1e-4, atol=1e-5, msg=key)


class Stream(IterableDataset[Any]):
    """A stream that ends after one batch more on each rank."""

    def __iter__(self) -> Iterator[Any]:
        return iter([image for image, _ in _images()][: (rank() + 2) * EACH])


def fit_small(data: Any, folder: str, options: dict[str, Any]) -> tuple[int, dict[str, Tensor], list[str]]:
    """Train SimCLR on a loader of this rank; return the steps, the state and the warnings."""
    torch.manual_seed(0)
    model = METHODS["SimCLR v1"].model(tiny())
    loader: DataLoader[Any] = DataLoader(data, EACH, collate_fn=METHODS["SimCLR v1"].collate(seed=0, render="worker"))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        trainer = build_trainer(folder, options)
        trainer.fit(PretrainModule(model, batch_size=EACH * world_size(), total_steps=20), loader)
    said = [str(each.message) for each in told if "PretrainModule" in str(each.message)]
    return trainer.global_step, model.state_dict(), said


def fit_streams(folder: str) -> tuple[int, dict[str, Tensor], list[str]]:
    return fit_small(Stream(), folder, {"max_epochs": 2, "accumulate_grad_batches": 4})


def test_an_epoch_of_uneven_streams_ends_for_all_with_the_first(ranks: Ranks, tmp_path: Path) -> None:
    steps, states, said = zip(*ranks(fit_streams, str(tmp_path)), strict=True)
    assert set(steps) == {2}  # an epoch has two batches, and so one step, on every rank
    for key, value in states[0].items():
        assert "running" in key or all(torch.equal(state[key], value) for state in states), key
    told = [[text for text in each if "stream of rank" in text] for each in said]
    assert [len(each) for each in told] == [1, *[0] * (len(said) - 1)]  # once, in the first process
    assert "the stream of rank 0 ended after 2 batches, and others have more" in told[0][0]


def fit_uneven_datasets(folder: str) -> str:
    images = Indexed([image for image, _ in _images()][: (rank() + 2) * EACH])
    with pytest.raises(ValueError, match="as many batches in an epoch, got") as refused:
        fit_small(images, folder, {"max_epochs": 1})
    return str(refused.value)


def test_loaders_of_uneven_lengths_are_refused(ranks: Ranks, tmp_path: Path) -> None:
    said = ranks(fit_uneven_datasets, str(tmp_path))
    numbers = str([number + 2 for number in range(len(said))])
    assert all(numbers in each and "EpochSampler gives each its part" in each for each in said)


def resume_alone(folder: str) -> str:
    """Resume on rank 0 only, as where the others do not see its folder."""
    torch.manual_seed(0)
    model = METHODS["SimCLR v1"].model(tiny())
    loader: DataLoader[Any] = DataLoader(
        Indexed(_images()), EACH, collate_fn=METHODS["SimCLR v1"].collate(seed=0, render="worker")
    )
    file = Path(folder) / "step-2.ckpt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = build_trainer(folder, {"max_steps": 2})
        trainer.fit(PretrainModule(model, batch_size=EACH * world_size(), total_steps=4), loader)
        trainer.save_checkpoint(file)
        with pytest.raises(ValueError, match="start at the same step") as refused:
            build_trainer(folder, {"max_steps": 4}).fit(
                PretrainModule(model, batch_size=EACH * world_size(), total_steps=4),
                loader,
                ckpt_path=None if rank() else file,
            )
    return str(refused.value)


def test_a_checkpoint_that_only_one_process_sees_is_refused(ranks: Ranks, tmp_path: Path) -> None:
    for said in ranks(resume_alone, str(tmp_path)):
        assert "got [2, 0" in said
        assert "out must be a folder that all of them see" in said


SCRIPT = """
import os, sys, time
sys.path.insert(0, {tests!r})
import torch
import torch.distributed as dist
torch.set_num_threads(1)
from lightning.pytorch import Callback
from test_pretrain_distributed import pretrain_tiny

class Slow(Callback):
    def on_train_batch_end(self, trainer, *args):
        if trainer.global_rank == 1:
            print("step", trainer.global_step, os.getpid(), flush=True)
        time.sleep(0.1)

if __name__ == "__main__":
    pretrain_tiny({out!r}, {options!r}, [Slow()])
"""


def pretrain_tiny(out: str, options: dict[str, Any], callbacks: Sequence[Any] = ()) -> Pretrained:
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pretrain(
            [image for image, _ in _images()], backbone=tiny(), size=SIDE, batch_size=8, workers=0, epochs=3, out=out,
            accelerator="cpu", devices=2, evaluate="none", method="swav", callbacks=callbacks, **options,
        )  # fmt: skip


def repeat(out: str, options: dict[str, Any]) -> str:
    """Train on these ranks, and return the lines of this process."""
    said = io.StringIO()
    with redirect_stderr(said), redirect_stdout(said):
        pretrain_tiny(out, options)
    return said.getvalue()


def start_script(folder: Path, out: str, options: dict[str, Any]) -> "subprocess.Popen[str]":
    file = folder / "script.py"
    file.write_text(SCRIPT.format(tests=str(Path(__file__).parent), out=out, options=options))
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", str(file)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def wait_for_step(process: "subprocess.Popen[str]", step: int) -> int:
    """Wait until the second process has taken a step, and return its number."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(f"step {step} "):
            return int(line.split()[-1])
    raise AssertionError(process.communicate()[1])


def is_alive(number: int) -> bool:
    try:
        return Path(f"/proc/{number}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


def test_a_script_that_a_signal_stopped_goes_on_under_torchrun(ranks: Ranks, tmp_path: Path) -> None:
    if len(ranks.pipes) > 2:
        pytest.skip("two processes show it")
    stopped, whole = str(tmp_path / "stopped"), str(tmp_path / "whole")
    process = start_script(tmp_path, stopped, {})
    child = wait_for_step(process, 5)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 143, said
    assert not is_alive(child)
    assert len(re.findall("swav|SwAV", said)) == 2, (
        said
    )  # its title and the epoch that was completed: one process tells
    assert said.count("SIGTERM: stopped; the run goes on from") == 1
    saved = sorted(file.name for file in Path(stopped, "checkpoints").iterdir())
    assert saved in (["step-4.ckpt", "step-5.ckpt"], ["step-4.ckpt", "step-6.ckpt"], ["step-4.ckpt", "step-7.ckpt"])
    first, second = ranks(repeat, stopped, {"resume": True})
    assert "going on from" in first
    assert not second
    ranks(repeat, whole, {})
    a, b = (torch.load(Path(out, "checkpoints", "step-12.ckpt"), weights_only=True) for out in (stopped, whole))
    for key, value in b["state_dict"].items():
        assert torch.equal(a["state_dict"][key], value), key
    total = b["planned"][0]
    assert total == 12  # known before the processes know each other
    first, second = ranks(refuse, whole)
    assert first == second
    ranks(repeat, whole, {"overwrite": True})


def refuse(out: str) -> str:
    with pytest.raises(ValueError, match="holds a run") as refused:
        pretrain_tiny(out, {})
    return str(refused.value)


@pytest.mark.skipif(not Path("/proc").exists(), reason="needs /proc")
def test_a_process_that_dies_ends_the_others(tmp_path: Path) -> None:
    process = start_script(tmp_path, str(tmp_path / "out"), {"timeout": 60})
    child = wait_for_step(process, 2)
    os.kill(child, signal.SIGKILL)
    _, said = process.communicate(timeout=60)
    assert process.returncode not in (0, None), said


def test_a_loader_that_gives_all_processes_the_same_images_is_refused(tmp_path: Path) -> None:
    collate = METHODS["SimCLR v1"].collate(seed=0, render="worker")
    images = [image for image, _ in _images()]
    loader: DataLoader[Any] = DataLoader(Indexed(images), 8, shuffle=True, collate_fn=collate)
    with pytest.raises(ValueError, match="each of 2 processes its own images, got a RandomSampler"):
        pretrain(loader, backbone=tiny(), size=SIDE, accelerator="cpu", devices=2, out=tmp_path, evaluate="none")


def count_traffic(name: str) -> tuple[int, int, int]:
    """Return the bytes of one step: that this rank gathers from the others, reduces and broadcasts, without DDP."""
    method: Method = METHODS[name]
    torch.manual_seed(0)
    model: SSLModel = method.model(tiny(), **({"maps": ("5", "2")} if name == "AMDIM" else {}))
    loader: DataLoader[Any] = DataLoader(
        Indexed(_images()), batch_sampler=own_batches(name), collate_fn=method.collate(seed=0, render="worker")
    )
    counts = {"all_gather": 0, "all_reduce": 0, "broadcast": 0}

    def counted(kind: str) -> Any:
        original = getattr(dist, kind)

        def call(*arguments: Any, **options: Any) -> Any:
            tensor = arguments[-1] if kind == "all_gather" else arguments[0]
            if "group" not in options:  # the shapes that `gather` compares go through a group of the hosts
                counts[kind] += tensor.nbytes * (world_size() - 1 if kind == "all_gather" else 1)
            return original(*arguments, **options)

        return call

    views, labels = next(iter(loader))
    with pytest.MonkeyPatch.context() as patch:
        for kind in counts:
            patch.setattr(dist, kind, counted(kind))
        torch.autograd.backward(model(views, targets=labels, index=views.index))
    return counts["all_gather"], counts["all_reduce"], counts["broadcast"]


TINY: dict[str, dict[str, int]] = {
    "PAWS": {"d": 16, "labelled": 2, "classes": 2},
    "Barlow Twins": {"d": 16},
    "SwAV": {"d": 8, "prototypes": 10, "queued": EACH},
    "DINO": {"outputs": 16},
    "AMDIM": {"d": 16, "places": 1 + 49},
    "CPC v2": {"d": 8, "places": 9},
}
"""Sizes of the rows of the contract, where others than the common ones matter."""


@pytest.mark.parametrize("name", METHODS)
def test_the_page_counts_what_a_step_sends(ranks: Ranks, name: str) -> None:
    growth = runpy.run_path(str(PAGE.with_name("growth.py")))
    common = {"n": EACH, "ranks": len(ranks.pipes), "pixels": 3 * SIDE**2, "d": 8, "negatives": 20}
    expected = growth["GROWTH"][name](common | TINY.get(name, {}))
    gathered, reduced, broadcast = ranks(count_traffic, name)[1]
    assert gathered == (len(ranks.pipes) - 1) * expected.gathered
    assert reduced == len(ranks.pipes) * expected.graded
    assert broadcast == expected.broadcast


def test_the_page_has_the_computed_table() -> None:
    assert runpy.run_path(str(PAGE.with_name("growth.py")))["tables"]() in PAGE.read_text()
