"""The LightningModule under a plain Trainer: against a loop by hand, resumed bit for bit, watched."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.methods import BATCH, METHODS, _images, tiny
from lightning.pytorch import Callback, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

from lightly_aug import EpochSampler, Indexed
from lightly_aug.models import BYOL, MoCo, SimCLR, SSLModel
from lightly_aug.train.checkpoints import AtomicCheckpointIO, find_checkpoint, save_checkpoints
from lightly_aug.train.module import PretrainModule
from lightly_aug.train.optimization import SMALL, Optimization
from lightly_aug.train.watch import Collapse, effective_rank, spread

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    *(
        pytest.mark.filterwarnings(f"ignore:{text}")
        for text in (
            ".*does not have many workers",
            ".*The number of training batches",
            ".*treespec, LeafSpec",
            ".*set_vital",
            ".*Checkpoint directory",
        )
    ),
]
STEPS = len(_images()) // BATCH  # of an epoch


def loader(name: str, **options: Any) -> Any:
    photos = Indexed(_images())
    sampler = EpochSampler(photos, shuffle=True, seed=3)
    return StatefulDataLoader(
        photos, BATCH, sampler=sampler, collate_fn=METHODS[name].collate(seed=0, render="worker"), **options
    )


def model(name: str) -> SSLModel:
    torch.manual_seed(0)
    network = tiny()
    network.insert(5, nn.Dropout(0.2))  # draws random numbers
    made: SSLModel = METHODS[name].model(network)
    return made


def trainer(folder: Path, **options: Any) -> Trainer:
    options = {"max_epochs": 2, "enable_checkpointing": False} | options
    return Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        default_root_dir=folder, plugins=[AtomicCheckpointIO()], use_distributed_sampler=False, **options,
    )  # fmt: skip


@pytest.mark.parametrize("accumulate", [1, 2])
def test_it_trains_as_a_loop_by_hand(tmp_path: Path, accumulate: int) -> None:
    """The oracle is a loop in plain PyTorch, with torch's schedule and the official order of momentum and step."""
    chosen = Optimization("sgd", 0.5, 1e-3, warmup=0, scaled=True)
    torch.manual_seed(0)
    trained = BYOL(tiny(), hidden=32, dim=8, momentum=0.9)
    trainer(tmp_path, accumulate_grad_batches=accumulate).fit(PretrainModule(trained, chosen), loader("BYOL"))

    torch.manual_seed(0)
    by_hand = BYOL(tiny(), hidden=32, dim=8, momentum=0.9)
    total = 2 * STEPS // accumulate
    optimizer = torch.optim.SGD(
        [p for p in by_hand.parameters() if p.requires_grad],
        lr=0.5 * BATCH * accumulate / 256, momentum=0.9, weight_decay=1e-3,
    )  # fmt: skip
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total)
    data, done = loader("BYOL"), 0
    for _ in range(2):
        for i, (views, _labels) in enumerate(data):
            loss = by_hand(list(views)) / accumulate
            loss.backward()
            if (i + 1) % accumulate == 0:
                optimizer.step()
                optimizer.zero_grad()
                schedule.step()
                done += 1
                by_hand.after_step(done / total)
    for name, value in by_hand.state_dict().items():
        assert torch.allclose(value, trained.state_dict()[name], rtol=1e-4, atol=1e-6), name
    assert trained.progress == 1.0


class StopAfter(Callback):
    """Save a checkpoint after some batches, as a kill would leave it, and stop."""

    def __init__(self, batches: int, file: Path) -> None:
        self.batches, self.file = batches, file

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.fit_loop.epoch_loop.total_batch_idx + 1 == self.batches:
            trainer.save_checkpoint(self.file)
            raise RuntimeError("stopped")


@pytest.mark.parametrize("batches", [STEPS - 1, STEPS, STEPS + 1, 2 * STEPS])
def test_a_run_resumes_from_every_place_of_an_epoch(tmp_path: Path, batches: int) -> None:
    """Also from a state that was saved after the last batch of an epoch, before the epoch was closed."""
    steps: list[int] = []

    def run(checkpoint: Path | None = None, callbacks: Any = ()) -> SSLModel:
        trained = model("SimCLR v1")
        made = trainer(tmp_path, max_epochs=3, callbacks=list(callbacks))
        made.fit(PretrainModule(trained, seed=5), loader("SimCLR v1"), ckpt_path=checkpoint)
        steps.append(made.global_step)
        return trained

    whole, file = run().state_dict(), tmp_path / "step-0.ckpt"
    with pytest.raises(RuntimeError, match="stopped"):
        run(callbacks=[StopAfter(batches, file)])
    resumed = run(file).state_dict()
    assert steps == [3 * STEPS, 3 * STEPS]
    for key, value in whole.items():
        assert torch.equal(value, resumed[key]), key


@pytest.mark.parametrize("name", METHODS)
def test_every_method_resumes_bit_for_bit_in_the_middle_of_an_epoch(tmp_path: Path, name: str) -> None:
    chosen = Optimization("lars" if name == "BYOL" else "adamw", 0.01, 0.1, final_weight_decay=0.2, warmup=1)

    def run(checkpoint: Path | None = None, callbacks: Any = ()) -> SSLModel:
        trained = model(name)
        trainer(tmp_path, max_epochs=3, callbacks=list(callbacks)).fit(
            PretrainModule(trained, chosen, seed=5), loader(name), ckpt_path=checkpoint
        )
        return trained

    whole = run().state_dict()
    file = tmp_path / "step-6.ckpt"
    with pytest.raises(RuntimeError, match="stopped"):
        run(callbacks=[StopAfter(STEPS + 2, file)])
    resumed = run(file).state_dict()
    assert set(whole) == set(resumed)
    for key, value in whole.items():
        assert torch.equal(value, resumed[key]), key


def test_what_a_trainer_needs_and_lacks_is_said(tmp_path: Path) -> None:
    photos = [image for image, _ in _images()]
    plain: Any = DataLoader([torch.rand(3, 16, 16) for _ in photos], 8)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="batches must contain views, got one tensor"):
        trainer(tmp_path).fit(PretrainModule(SimCLR(tiny(), dim=8)), plain)

    class Stream(torch.utils.data.IterableDataset[Any]):
        def __iter__(self) -> Iterator[Any]:
            return iter(photos)

    stream: Any = DataLoader(Stream(), 8, collate_fn=METHODS["SimCLR v1"].collate(seed=0))
    with pytest.raises(ValueError, match="schedules need the length of the training"):
        trainer(tmp_path).fit(PretrainModule(SimCLR(tiny(), dim=8)), stream)
    trainer(tmp_path, max_epochs=-1, max_steps=3).fit(PretrainModule(SimCLR(tiny(), dim=8)), stream)


def test_half_precision_trains(tmp_path: Path) -> None:
    trained = SimCLR(tiny(), dim=8)
    before = [p.detach().clone() for p in trained.parameters()]
    trainer(tmp_path, precision="bf16-mixed", max_epochs=1).fit(PretrainModule(trained), loader("SimCLR v1"))
    assert all(p.isfinite().all() for p in trained.parameters())
    assert any(not torch.equal(p, b) for p, b in zip(trained.parameters(), before, strict=True))


def test_spread_and_effective_rank() -> None:
    x = torch.randn(4000, 16, generator=torch.Generator().manual_seed(0))
    assert spread(x) == pytest.approx(1, abs=0.02)
    assert effective_rank(x) == pytest.approx(16, abs=0.1)
    one = torch.ones(8, 1) @ torch.rand(1, 16)
    assert spread(one) == pytest.approx(0, abs=1e-6)
    assert effective_rank(one) == pytest.approx(1, abs=1e-3)
    values = torch.tensor([4.0, 2.0, 2.0])
    share = values / values.sum()
    assert effective_rank(torch.diag(values)) == pytest.approx(float(torch.exp(-(share * share.log()).sum())))


class Collapsing(SSLModel):
    """All images become one point."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = tiny()

    def forward(self, views: Any, **_: Any) -> Tensor:
        return self.embed(views[0]).pow(2).sum()


def test_a_collapse_is_said_in_words_once(tmp_path: Path) -> None:
    collapsed = Collapsing()
    with torch.no_grad():
        for p in collapsed.parameters():
            p.zero_()
        collapsed.backbone.get_parameter("4.bias").fill_(1.0)
    options = {"callbacks": [Collapse(every=1)], "max_epochs": 1}
    with pytest.warns(UserWarning, match=r"step 1: the features collapse.*spread 0\.000") as told:
        trainer(tmp_path, **options).fit(PretrainModule(collapsed, Optimization("sgd", 1e-9, 0)), loader("SimCLR v1"))
    assert len([each for each in told if "collapse" in str(each.message)]) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", ".*(many workers|number of training|treespec|set_vital)")
        trainer(tmp_path, **options).fit(PretrainModule(SimCLR(tiny(), dim=8)), loader("SimCLR v1"))


def test_checkpoints_are_whole_or_absent(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    io, file = AtomicCheckpointIO(), tmp_path / "step-1.ckpt"
    io.save_checkpoint({"w": torch.ones(10)}, file)
    before = file.read_bytes()
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limit[1]))  # no file grows beyond it: as a full disk
    try:
        with pytest.raises(OSError, match=r"step-1.ckpt could not be written.*Earlier checkpoints are intact"):
            io.save_checkpoint({"w": torch.ones(100_000)}, file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


def test_long_epochs_are_saved_in_the_middle(tmp_path: Path) -> None:
    options = {"callbacks": save_checkpoints(tmp_path, epochs=2, steps=3), "enable_checkpointing": True}
    trainer(tmp_path, **options).fit(PretrainModule(SimCLR(tiny(), dim=8)), loader("SimCLR v1"))
    steps = sorted(int(file.stem.removeprefix("step-")) for file in tmp_path.glob("*.ckpt"))
    assert steps == [3, 6, 2 * STEPS]


def test_the_newest_checkpoint_that_can_be_read_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert find_checkpoint(tmp_path) is None
    for step in (9, 10, 100):
        AtomicCheckpointIO().save_checkpoint({"w": torch.ones(10)}, tmp_path / f"step-{step}.ckpt")
    assert find_checkpoint(tmp_path) == tmp_path / "step-100.ckpt"
    newest = tmp_path / "step-100.ckpt"
    newest.write_bytes(newest.read_bytes()[:-200])  # a write that was cut off
    assert find_checkpoint(tmp_path) == tmp_path / "step-10.ckpt"
    assert "step-100.ckpt is damaged" in capsys.readouterr().out


def test_the_centre_of_dino_moves_once_for_accumulated_batches(tmp_path: Path) -> None:
    """Two batches as one step: the centre is that of their joined outputs, which a run by hand computes."""
    made = METHODS["DINO"].model(tiny())
    taught: list[Tensor] = []
    made.teacher.register_forward_hook(lambda module, inputs, output: taught.append(output.detach().mean(0)))
    trainer(tmp_path, accumulate_grad_batches=2, max_epochs=1).fit(PretrainModule(made, SMALL), loader("DINO"))
    assert len(taught) == STEPS
    center = torch.zeros(16)
    for i in range(0, STEPS, 2):
        center = 0.9 * center + 0.1 * (taught[i] + taught[i + 1]) / 2
    assert torch.allclose(made.loss.center, center, atol=1e-6)


def test_the_momentum_encoder_moves_once_for_accumulated_batches(tmp_path: Path) -> None:
    moved = []

    class Watched(MoCo):
        def follow(self, before: float) -> None:
            moved.append(self.progress)
            super().follow(before)

    made = Watched(tiny(), dim=8, queue=16)
    trainer(tmp_path, accumulate_grad_batches=2, max_epochs=1).fit(PretrainModule(made, SMALL), loader("MoCo v2"))
    assert len(moved) == STEPS // 2
