"""Callbacks that watch a run: speed, bar, accuracies and pictures."""

import io
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib as mpl
import pytest
import torch
from helpers.methods import _images, tiny
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lightly_aug import BaseCollateFunction, Indexed, MultiViewCollateFunction, Normalize, SimCLRCollateFunction
from lightly_aug.models import SimCLR
from lightly_aug.train.evaluation import OnlineEvaluation, PairAccuracy, Pictures, pair_accuracy
from lightly_aug.train.module import PretrainModule
from lightly_aug.train.optimization import Optimization
from lightly_aug.train.watch import Collapse, RunBar, Throughput
from lightly_aug.weights import still_view

mpl.use("agg")
pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    *(
        pytest.mark.filterwarnings(f"ignore:{text}")
        for text in (".*does not have many workers", ".*The number of training", ".*treespec", ".*set_vital")
    ),
]
PAIRS = _images()  # 32 images, of two photographs in turn
BATCH = 8


def still(pairs: Any, batch: int = 8) -> Any:
    return DataLoader(pairs, batch, collate_fn=MultiViewCollateFunction([still_view(16, Normalize())], seed=0))


def collate() -> BaseCollateFunction:
    return SimCLRCollateFunction(16, seed=0, render="worker")


def fit(*callbacks: Callback, model: Any = None, lr: float = 1e-3, epochs: int = 2, **options: Any) -> SimCLR:
    """Train on 32 images in batches of 8."""
    torch.manual_seed(0)
    model = SimCLR(tiny(), dim=8) if model is None else model
    loader: Any = DataLoader(Indexed([image for image, _ in PAIRS]), BATCH, collate_fn=collate())
    checkpoint = options.pop("ckpt_path", None)
    trainer = Trainer(
        accelerator="cpu", max_epochs=epochs, callbacks=list(callbacks), enable_model_summary=False,
        enable_checkpointing=False, enable_progress_bar=any(isinstance(each, RunBar) for each in callbacks),
        **{"logger": False} | options,
    )  # fmt: skip
    trainer.fit(PretrainModule(model, Optimization("sgd", lr, 0.0)), loader, ckpt_path=checkpoint)
    trained: SimCLR = model
    return trained


# --- Throughput, by a clock of our own --------------------------------------------------------------------------


class Clock:
    """A clock that stands still unless it is told to move."""

    now = 100.0

    def perf_counter(self) -> float:
        return self.now


def watch(
    clock: Clock, throughput: Throughput, *, loading: float, step: float, epochs: int = 2, batches: int = 40
) -> list[dict[str, float]]:
    """Take the hooks in Lightning's order, with a loader and a step that take so many seconds; return the logs."""
    logs: list[dict[str, float]] = []
    module: Any = SimpleNamespace(log_dict=logs.append, log=lambda *_, **__: None, fetched=0.0)
    trainer: Any = SimpleNamespace(world_size=1, num_training_batches=batches)
    batch = [torch.zeros(4, 3, 2, 2), torch.zeros(4, 3, 2, 2)]
    for _ in range(epochs):
        throughput.on_train_epoch_start(trainer, module)
        clock.now += 1000  # starting the workers, measuring accuracy
        for number in range(batches):
            clock.now += loading
            module.fetched = clock.now
            throughput.on_train_batch_start(trainer, module, batch, number)
            clock.now += step
            throughput.on_train_batch_end(trainer, module, None, batch, number)
        throughput.on_train_epoch_end(trainer, module)
    return logs


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("lightly_aug.train.watch.time", made)
    return made


def test_images_a_second_and_waiting_are_those_of_the_clock(clock: Clock) -> None:
    throughput = Throughput(every=8)
    logs = watch(clock, throughput, loading=0.25, step=1.0)
    assert len(logs) == 2 * 5
    # the first batch of an epoch counts without the time that it came in
    assert throughput.images_per_second == pytest.approx(4 * 40 / (40 * 1.0 + 39 * 0.25))
    assert throughput.waiting == pytest.approx(39 * 0.25 / (40 * 1.0 + 39 * 0.25))
    assert logs[-1] == {"images_per_second": throughput.images_per_second, "waiting": throughput.waiting}


def test_a_slow_loader_is_told_of_once_and_a_fast_one_never(clock: Clock) -> None:
    with pytest.warns(UserWarning, match=r"49% of the time is spent waiting for data: give the loader more") as told:
        watch(clock, Throughput(), loading=1.0, step=1.0, epochs=3)
    assert len(told) == 1
    watch(clock, Throughput(), loading=0.4, step=1.0)  # 28 %
    watch(clock, Throughput(), loading=9.0, step=1.0, batches=29)  # too few to tell


def test_two_epochs_without_a_batch_end_the_run() -> None:
    throughput, nothing = Throughput(), SimpleNamespace(log=lambda *_, **__: None)
    trainer: Any = nothing
    throughput.on_train_epoch_start(trainer, trainer)
    throughput.on_train_epoch_end(trainer, trainer)
    throughput.on_train_epoch_start(trainer, trainer)
    with pytest.raises(ValueError, match="two epochs without a batch"):
        throughput.on_train_epoch_end(trainer, trainer)


# --- RunBar -----------------------------------------------------------------------------------------------------


def console(monkeypatch: pytest.MonkeyPatch, *, terminal: bool) -> io.StringIO:
    """Let the bar write into a string, as to a terminal or to a file."""
    import rich.console

    out, made = io.StringIO(), rich.console.Console
    monkeypatch.setattr(
        rich.console, "Console", lambda **_: made(file=out, force_terminal=terminal, width=160, color_system=None)
    )
    return out


def test_the_bar_shows_the_run_in_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    out = console(monkeypatch, terminal=True)
    evaluation = OnlineEvaluation(still(PAIRS[:24]), still(PAIRS[24:]))
    fit(Throughput(), evaluation, RunBar("SimCLR"))
    before, last = out.getvalue().rsplit("SimCLR epoch", 1)
    assert last.startswith(" 2/2 · loss ")
    assert f"knn accuracy {evaluation.last['knn_accuracy']:.3f}" in last
    assert "images/s · waiting" in last
    assert "8/8" in before.splitlines()[-1]  # in front of the text, which a narrow terminal cuts
    assert out.getvalue().endswith("\x1b[?25h")  # the cursor is shown again


def test_the_cursor_comes_back_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Fails(Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            raise RuntimeError("no")

    out = console(monkeypatch, terminal=True)
    with pytest.raises(RuntimeError, match="no"):
        fit(RunBar("SimCLR"), Fails())
    assert out.getvalue().endswith("\x1b[?25h")


def test_without_a_terminal_there_is_a_line_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    out = console(monkeypatch, terminal=False)
    fit(RunBar("SimCLR"), epochs=3)
    lines = out.getvalue().splitlines()
    assert [line.split(" · ")[0] for line in lines] == [f"SimCLR epoch {i}/3" for i in (1, 2, 3)]
    assert all("loss " in line for line in lines)


def test_a_run_of_steps_has_no_number_of_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    out = console(monkeypatch, terminal=False)
    fit(RunBar("SimCLR"), epochs=-1, max_steps=6)
    assert [line.split(" · ")[0] for line in out.getvalue().splitlines()] == ["SimCLR step 4/6", "SimCLR step 6/6"]


@pytest.mark.parametrize("terminal", [True, False])
def test_other_ranks_show_nothing(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> None:
    out, bar = console(monkeypatch, terminal=terminal), RunBar("SimCLR")
    bar.disable()
    fit(bar)
    assert not out.getvalue()


# --- measurements -----------------------------------------------------------------------------------------------


def embed_untrained(pairs: Any) -> Tensor:
    """Features of the untrained network, in float64, whose BatchNorm has the mean statistics of the batches of 8."""
    torch.manual_seed(0)
    network = SimCLR(tiny(), dim=8).backbone.double()
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    batches = [views[0].double() for views, _ in still(PAIRS[:24])]
    taken: dict[nn.Module, list[Tensor]] = {norm: [] for norm in norms}
    hooks = [norm.register_forward_pre_hook(lambda norm, args: taken[norm].append(args[0])) for norm in norms]
    for batch in batches:
        network.train()(batch)
    for hook in hooks:
        hook.remove()
    for norm in norms:
        norm.running_mean = torch.stack([x.mean((0, 2, 3)) for x in taken[norm]]).mean(0)
        norm.running_var = torch.stack([x.var((0, 2, 3)) for x in taken[norm]]).mean(0)
    with torch.no_grad():
        return torch.cat([network.eval()(views[0].double()).flatten(1) for views, _ in still(pairs)])


def test_the_untrained_network_is_measured_as_by_hand() -> None:
    evaluation = OnlineEvaluation(still(PAIRS[:24]), still(PAIRS[24:]), k=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # such a run makes nothing better
        fit(evaluation, epochs=1)
    x, x_test = (nn.functional.normalize(embed_untrained(pairs)) for pairs in (PAIRS[:24], PAIRS[24:]))
    y, y_test = (torch.tensor([label for _, label in pairs]) for pairs in (PAIRS[:24], PAIRS[24:]))
    nearest = y[(x_test @ x.T).argmax(1)]
    assert evaluation.start["knn_accuracy"] == pytest.approx(float((nearest == y_test).float().mean()))


def test_measuring_the_untrained_network_leaves_it_as_it_was() -> None:
    def weights(*callbacks: Callback) -> dict[str, Tensor]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            return fit(*callbacks).state_dict()

    bare, measured = weights(), weights(OnlineEvaluation(still(PAIRS[:24]), still(PAIRS[24:])))
    for name, value in bare.items():
        assert torch.equal(value, measured[name]), name


def test_the_share_of_pairs_that_are_found() -> None:
    x = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([[1.0], [1.0], [90.0], [1.0], [1.0], [0.1]])  # which do not count
    other = x[[0, 1, 2, 4, 3, 5]] * lengths  # two are exchanged
    assert pair_accuracy(x, other) == pytest.approx(4 / 6)


@pytest.mark.parametrize("kind", [OnlineEvaluation, PairAccuracy])
def test_a_run_that_goes_on_keeps_its_start(tmp_path: Path, kind: Any) -> None:
    def make() -> Any:
        if kind is PairAccuracy:
            pairs: Any = DataLoader([image for image, _ in PAIRS], 16, collate_fn=collate())  # type: ignore[arg-type]
            return PairAccuracy(list(pairs))
        return OnlineEvaluation(still(PAIRS[:24]), still(PAIRS[24:]))

    class Save(Callback):
        def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
            if trainer.current_epoch == 0:
                trainer.save_checkpoint(tmp_path / "one.ckpt")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        first, resumed = make(), make()
        fit(first, Save())
        assert min(first.start.values()) >= 0
        assert set(first.start) == set(first.last)
        resumed.measure = spy = Spy(resumed.measure)
        fit(resumed, ckpt_path=tmp_path / "one.ckpt")
    assert resumed.start == first.start
    assert resumed.last == pytest.approx(first.last)
    assert spy.calls == 1  # after the second epoch, not before


class Spy:
    """A function that counts its calls."""

    def __init__(self, function: Any) -> None:
        self.function, self.calls = function, 0

    def __call__(self, *args: Any) -> Any:
        self.calls += 1
        return self.function(*args)


def test_modes_of_parts_are_restored() -> None:
    """A part that was put into eval mode, such as frozen BatchNorm, stays so."""
    torch.manual_seed(0)
    model = SimCLR(tiny(), dim=8)
    frozen = next(module for module in model.backbone.modules() if isinstance(module, nn.BatchNorm2d))
    seen: list[bool] = []

    class Look(Callback):
        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            frozen.eval()

        def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
            seen.append(frozen.training)
            others = [m for m in model.modules() if m is not frozen]
            assert all(module.training for module in others)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        evaluation = OnlineEvaluation(still(PAIRS[:24]), still(PAIRS[24:]))
        fit(Look(), Collapse(every=1), evaluation, Look(), model=model)
    assert seen == [False] * len(seen)
    assert len(seen) == 16


# --- pictures ---------------------------------------------------------------------------------------------------


def test_pictures_are_files_and_figures_of_tensorboard(tmp_path: Path) -> None:
    images = [image for image, _ in PAIRS[:3]]
    pictures = Pictures(
        tmp_path / "pictures", images, collate(), labelled=still(PAIRS), classes=["one", "two"], every=2
    )
    fit(pictures, epochs=3, logger=TensorBoardLogger(tmp_path, name="", version="logs"))
    files = sorted(tmp_path.glob("pictures/*.png"))
    assert [file.name for file in files] == ["embedding-2.png", "embedding-3.png", "views.png"]
    for file in files:
        with Image.open(file) as picture:
            assert min(picture.size) > 100
    events = EventAccumulator(str(tmp_path / "logs"))
    events.Reload()
    assert {tag: [event.step for event in events.Images(tag)] for tag in events.Tags()["images"]} == {
        "views": [0],
        "embedding-2": [8],
        "embedding-3": [12],
    }


def test_a_logger_that_takes_images_gets_files(tmp_path: Path) -> None:
    class Takes(TensorBoardLogger):
        taken: list[Any] = []  # noqa: RUF012

        def log_image(self, key: str, images: list[str], step: int) -> None:
            assert Path(images[0]).exists()
            self.taken.append((key, step))

    fit(Pictures(tmp_path / "p", [PAIRS[0][0]], collate()), logger=Takes(tmp_path, name="", version="logs"))
    assert Takes.taken == [("views", 0)]
