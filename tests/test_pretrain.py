"""`pretrain` on folders, datasets, streams and loaders; stopped by signals, killed, and resumed."""

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from helpers.methods import _images, tiny
from lightning.pytorch import Callback
from PIL import Image
from safetensors.torch import load_file
from torch.utils.data import DataLoader, IterableDataset

from lightly_aug import Indexed, SimCLRCollateFunction
from lightly_aug.train.run import pretrain
from lightly_aug.weights import Backbone

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:.*(knn|pair) accuracy on"),  # so short a run may not make features better
    pytest.mark.filterwarnings("ignore:.* wants batches of"),
    pytest.mark.filterwarnings("ignore:.*set_vital"),
]
SMALL: dict[str, Any] = {"size": 16, "batch_size": 16, "workers": 0, "accelerator": "cpu", "seed": 1}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two class folders of 16 photographs each, one of them in a folder below."""
    folder = tmp_path_factory.mktemp("photos")
    for i, (image, _) in enumerate(_images()):
        place = folder / ("flowers", "buildings")[i % 2] / ("deep" if i % 8 == 0 else "")
        place.mkdir(parents=True, exist_ok=True)
        assert isinstance(image, Image.Image)
        image.save(place / f"{i}.png")
    return folder


def read_metrics(run: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((run / "logs" / "metrics.csv").read_text().splitlines()))


def test_a_folder_becomes_a_run(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    result = pretrain(photos, method="simclr", backbone=tiny(), epochs=2, out=out, **SMALL)
    names = {str(file.relative_to(out)) for file in out.rglob("*") if file.is_file() and "events" not in file.name}
    assert names == {
        "backbone.safetensors", "config.yaml", "run.json", "logs/metrics.csv", "tensorboard/hparams.yaml",
        "checkpoints/step-2.ckpt", "checkpoints/step-4.ckpt", "pictures/views.png", "pictures/embedding-2.png",
        "pictures/curves.png",
    }  # fmt: skip
    assert set(result.metrics) >= {"loss", "knn_accuracy", "images_per_second", "waiting"}
    assert result.folder == out
    assert result.model.progress == 1.0
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "SimCLR v1, Sequential, 32 images at 16 pixels in batches of 16"
    assert "AdamW, learning rate 0.001 to 0" in said[2]
    assert said[4].startswith("SimCLR v1 epoch 2/2 · loss ")
    rows = read_metrics(out)
    assert [row["step"] for row in rows if row["knn_accuracy"]] == [
        "0",
        "1",
        "3",
    ]  # before the training and after epochs
    facts = json.loads((out / "run.json").read_text())
    assert "RandomResizedCrop" in facts["views"]
    assert facts["versions"]["torch"] == torch.__version__
    backbone = Backbone.from_pretrained(out, network=tiny())
    notes = backbone.metadata["notes"]
    assert {"method": "simclr", "epochs": 2, "steps": 4, "images": 32, "batch_size": 16}.items() <= notes.items()
    assert notes["metrics"]["knn_accuracy"] == pytest.approx(result.metrics["knn_accuracy"])
    image = torch.rand(3, 20, 24)
    assert torch.equal(backbone(image), result.model.eval().embed(backbone.collate([image])[0]))


def test_a_resnet_that_only_timm_has_is_trained(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    pretrain(photos, method="simclr", backbone="resnet10t.c3_in1k", epochs=1, evaluate="none", out=out, **SMALL)
    assert Backbone.from_pretrained(out).metadata["backbone"] == {"name": "resnet10t.c3_in1k", "arguments": {}}


def test_the_written_options_repeat_the_run(photos: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"method": "moco", "backbone": "resnet10", "epochs": 1, "evaluate": "none"} | SMALL
    pretrain(photos, out=tmp_path / "a", **options)
    config = yaml.safe_load((tmp_path / "a" / "config.yaml").read_text())
    assert config["data"] == str(photos)
    again = pretrain(config.pop("data"), **config | {"out": tmp_path / "b"})
    for name, value in load_file(tmp_path / "a" / "backbone.safetensors").items():
        assert torch.equal(value, again.model.backbone.state_dict()[name]), name


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter([image for image, _ in _images()])


def test_a_complete_run_that_is_resumed_returns_what_it_was(photos: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"method": "simclr", "backbone": "resnet10", "epochs": 1, "out": tmp_path} | SMALL
    first = pretrain(photos, **options)
    again = pretrain(photos, resume=True, **options)
    assert again.metrics.keys() >= {"loss", "knn_accuracy"}
    assert again.metrics == pytest.approx({name: first.metrics[name] for name in again.metrics}, rel=1e-5)
    for name, value in first.model.state_dict().items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, again.model.state_dict()[name])


def test_datasets_streams_and_loaders_are_taken(tmp_path: Path) -> None:
    images = [image for image, _ in _images()]
    collate = SimCLRCollateFunction(16, seed=0, render="worker")
    loader: Any = DataLoader(Indexed(images), 16, shuffle=True, collate_fn=collate, drop_last=True)
    options: dict[str, Any] = {"method": "simclr", "epochs": 1, "evaluate": "none"} | SMALL
    for i, data in enumerate((images, [{"img": image} for image in images], Indexed(images), loader)):
        result = pretrain(data, backbone=tiny(), out=tmp_path / f"{i}", **options)
        assert result.metrics["loss"] > 0
    with pytest.raises(ValueError, match=r"length of the data is unknown.*give steps="):
        pretrain(Stream(), backbone=tiny(), out=tmp_path / "no", **options)
    result = pretrain(Stream(), backbone=tiny(), out=tmp_path / "stream", steps=5, **options)
    assert result.model.progress == 1.0


def test_without_labels_pairs_are_found(tmp_path: Path) -> None:
    images = [image for image, _ in _images()]
    result = pretrain(images, method="simclr", backbone=tiny(), epochs=2, out=tmp_path, lr=0.01, **SMALL)
    assert 0 < result.metrics["pair_accuracy"] <= 1
    assert not (tmp_path / "pictures").exists()


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true", "64-true"])
def test_it_trains_and_measures_in_any_precision(tmp_path: Path, precision: str) -> None:
    images = [image for image, _ in _images()]
    options: dict[str, Any] = {"method": "simclr", "backbone": tiny(), "epochs": 1, "precision": precision} | SMALL
    result = pretrain(images, out=tmp_path, **options)
    assert 0 < result.metrics["pair_accuracy"] <= 1
    assert all(p.isfinite().all() for p in result.model.parameters())


def test_a_run_that_is_no_better_says_so(photos: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)  # some networks gain by chance, as statistics of BatchNorm change
    options: dict[str, Any] = {"backbone": tiny(), "epochs": 1, "lr": 1e-12} | SMALL
    with pytest.warns(UserWarning, match=r"knn accuracy on 6 images: .* after the training, .* this run has not made"):
        pretrain(photos, method="simclr", out=tmp_path / "labels", **options)
    with pytest.warns(UserWarning, match=r"pair accuracy on 32 images: .* after the training"):
        pretrain([image for image, _ in _images()], method="simclr", out=tmp_path / "pairs", **options)


def test_what_cannot_work_is_said_before_the_training(photos: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"backbone": tiny(), "epochs": 1, "out": tmp_path / "x"} | SMALL
    with pytest.raises(ValueError, match=r"method must be one of .*got 'moko'.*moco"):
        pretrain(photos, method="moko", **options)
    with pytest.raises(NotADirectoryError):
        pretrain(tmp_path / "none", **options)
    with pytest.raises(ValueError, match="must hold images"):
        pretrain(tmp_path, **options)
    with pytest.raises(TypeError, match="pretrain: epocs is not an argument, write epochs"):
        pretrain("photos", method="simclr", epocs=3)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="data must be a folder, a dataset"):
        pretrain(3, **options)
    with pytest.raises(TypeError, match="must have a collate function of lightly_aug, got default_collate"):
        pretrain(DataLoader([torch.rand(3, 8, 8)]), **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="checkpointing needs a backbone that offers it"):
        pretrain(photos, checkpointing=True, **options)
    with pytest.raises(ValueError, match="resume and overwrite exclude each other"):
        pretrain(photos, resume=True, overwrite=True, **options)
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="out must be a folder to write to"):
        pretrain(photos, **options | {"out": tmp_path / "file" / "run"})
    assert not (tmp_path / "x").exists()


def test_a_batch_too_small_for_the_method_is_warned_of(photos: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"backbone": tiny(), "epochs": 1, "evaluate": "none"} | SMALL | {"batch_size": 8}
    with pytest.warns(UserWarning, match=r"SimCLR v1 wants batches of 32 images or more \(4,096 in the paper\), got 8"):
        pretrain(photos, method="simclr", out=tmp_path, **options)


class Interrupt(Callback):
    """Send Ctrl-C to this process in a batch."""

    def __init__(self, batch: int) -> None:
        self.batch = batch

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self.batch:
            os.kill(os.getpid(), signal.SIGINT)


class Breaking(Callback):
    """Fail before the first step."""

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        raise RuntimeError("broken")


@pytest.mark.parametrize("batch", [0, 1, 2])
def test_ctrl_c_in_any_batch_of_an_epoch_loses_nothing(photos: Path, tmp_path: Path, batch: int) -> None:
    options: dict[str, Any] = {"method": "simclr", "backbone": "resnet10", "epochs": 3} | SMALL  # of two batches
    whole = pretrain(photos, out=tmp_path / "whole", **options).model.state_dict()
    with pytest.raises(KeyboardInterrupt):
        pretrain(photos, out=tmp_path / "run", callbacks=[Interrupt(batch)], **options)
    resumed = pretrain(photos, out=tmp_path / "run", resume=True, **options).model.state_dict()
    for name, value in whole.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, resumed[name]), name
    assert [row["step"] for row in read_metrics(tmp_path / "run") if row["knn_accuracy"]] == ["0", "1", "3", "5"]


def test_a_run_that_stopped_before_its_first_checkpoint_is_begun_again(photos: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"method": "simclr", "backbone": tiny(), "epochs": 1, "evaluate": "none"} | SMALL
    with pytest.raises(RuntimeError, match="broken"):
        pretrain(photos, out=tmp_path, callbacks=[Breaking()], **options)
    assert (tmp_path / "config.yaml").exists()
    pretrain(photos, out=tmp_path, **options)


def test_an_earlier_run_is_neither_replaced_nor_mixed_up(photos: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"method": "simclr", "backbone": "resnet10", "epochs": 1, "evaluate": "none"} | SMALL
    pretrain(photos, out=tmp_path, **options)
    with pytest.raises(ValueError, match="holds a run: choose another --out, go on with --resume, or replace it"):
        pretrain(photos, out=tmp_path, **options)
    with pytest.raises(ValueError, match="holds a run with method simclr, not moco: resume it with the same options"):
        pretrain(photos, out=tmp_path, resume=True, **options | {"method": "moco"})
    pretrain(photos, out=tmp_path, overwrite=True, **options | {"method": "moco", "epochs": 2})
    with pytest.raises(ValueError, match="resume it with that length, not 1 epochs, or begin another run"):
        pretrain(photos, out=tmp_path, resume=True, **options | {"method": "moco"})
    assert yaml.safe_load((tmp_path / "config.yaml").read_text()).get("method", "moco") == "moco"


SCRIPT = """
import sys, time
sys.path.insert(0, {tests!r})
import torch
torch.set_num_threads(1), torch.manual_seed(0)
from lightning.pytorch import Callback
from lightly_aug.train.run import pretrain
from helpers.methods import tiny

class Slow(Callback):
    def on_train_batch_end(self, trainer, *args):
        print("step", trainer.global_step, flush=True)
        time.sleep(0.05)

pretrain({photos!r}, method={method!r}, backbone=tiny(), size=32, batch_size=8, workers=0, accelerator="cpu", epochs=4,
         evaluate="none", resume=True, out={out!r}, callbacks=[Slow()])
"""


def start(photos: Path, out: Path, method: str) -> "subprocess.Popen[str]":
    script = SCRIPT.format(tests=str(Path(__file__).parent), photos=str(photos), out=str(out), method=method)
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def wait_for(process: "subprocess.Popen[str]", step: int) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == f"step {step}":
            return
    raise AssertionError(process.communicate()[1])


@pytest.mark.parametrize(
    ("method", "number", "code"),
    [("moco", signal.SIGKILL, -9), ("swav", signal.SIGTERM, 143), ("pirl", signal.SIGINT, -2)],
)
def test_a_stopped_process_goes_on_bit_for_bit(
    photos: Path, tmp_path: Path, method: str, number: signal.Signals, code: int
) -> None:
    """Sixteen steps in four epochs, stopped in the third, against a run that was left alone."""
    torch.manual_seed(0)
    options: dict[str, Any] = {"size": 32, "batch_size": 8, "workers": 0, "accelerator": "cpu", "evaluate": "none"}
    pretrain(photos, method=method, backbone=tiny(), epochs=4, out=tmp_path / "whole", **options)
    stopped = start(photos, tmp_path / "stopped", method)
    wait_for(stopped, 10)
    stopped.send_signal(number)
    _, told = stopped.communicate(timeout=60)
    assert stopped.returncode == code, told
    newest = max(int(file.stem[5:]) for file in (tmp_path / "stopped" / "checkpoints").glob("*.ckpt"))
    if number == signal.SIGKILL:
        assert newest == 8  # the end of the second epoch
    else:
        assert newest in (10, 11)  # the step that was under way
        assert f"{number.name}: stopped; the run goes on from" in told
    resumed = start(photos, tmp_path / "stopped", method)
    _, told = resumed.communicate(timeout=60)
    assert resumed.returncode == 0, told
    assert f"going on from {tmp_path / 'stopped' / 'checkpoints'}/step-{newest}.ckpt" in told
    a, b = (
        torch.load(tmp_path / name / "checkpoints" / "step-16.ckpt", weights_only=True) for name in ("whole", "stopped")
    )
    for key, value in a["state_dict"].items():
        assert torch.equal(value, b["state_dict"][key]) if isinstance(value, torch.Tensor) else True, key
    steps = [[row["step"] for row in read_metrics(tmp_path / name) if row["loss"]] for name in ("whole", "stopped")]
    assert steps[0] == steps[1]


def test_several_devices_need_a_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A notebook cannot be started once for each device; torchrun starts the processes itself."""
    monkeypatch.setattr(sys, "ps1", "In : ", raising=False)  # by which Python marks interactive interpreters
    with pytest.raises(ValueError, match=r"pretrain: devices must be 1 in a notebook .* got 2: .*!python script.py"):
        pretrain(tmp_path / "none", devices=2, out=tmp_path / "run", **SMALL)
    with pytest.raises(NotADirectoryError):
        pretrain(tmp_path / "none", devices=1, out=tmp_path / "run", **SMALL)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(NotADirectoryError):
        pretrain(tmp_path / "none", devices=2, out=tmp_path / "run", **SMALL)


class StopAfter(Callback):
    """Ctrl-C after an optimiser step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        if trainer.global_step == self.step:
            os.kill(os.getpid(), signal.SIGINT)


def run_until(photos: Path, out: Path, step: int) -> dict[str, Any]:
    """Begin a run of two epochs of four steps, stop it, and return its options."""
    options: dict[str, Any] = {"method": "simclr", "epochs": 2, "out": out} | SMALL | {"batch_size": 8}
    with pytest.raises(KeyboardInterrupt):
        pretrain(photos, backbone=tiny(), callbacks=[StopAfter(step)], **options)
    return options | {"resume": True}


def test_a_run_goes_on_only_with_what_its_checkpoint_fits(photos: Path, tmp_path: Path) -> None:
    options = run_until(photos, tmp_path / "run", step=2)
    changes: list[tuple[dict[str, Any], str]] = [
        ({"lr": 0.1, "optimizer": "sgd"}, "holds a run with lr None, not 0.1, optimizer None, not sgd"),
        ({"epochs": 3}, "holds a run of 2 epochs, .* resume it with that length, not 3 epochs"),
        ({"steps": 5}, "holds a run of 2 epochs, .* resume it with that length, not 5 steps"),
        ({"devices": 2}, "stopped within an epoch, with devices=1 in all: resume it with as many, not 2"),
    ]
    for changed, text in changes:
        with pytest.raises(ValueError, match=f"pretrain: .* {text}"):
            pretrain(photos, backbone=tiny(), **options | changed)
    next(photos.rglob("*.png")).rename(tmp_path / "aside.png")
    moved = sorted(photos.rglob("*.png"))
    with pytest.raises(ValueError, match="holds a run with 32 images, not 31: resume it with the same images"):
        pretrain(photos, backbone=tiny(), **options)
    (tmp_path / "aside.png").rename(moved[0].parent / "aside.png")


def test_a_run_goes_on_with_another_number_of_workers(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Within an epoch it keeps the number that it had, which may be that of the cores of another machine."""
    options = run_until(photos, tmp_path / "run", step=2)
    assert pretrain(photos, backbone=tiny(), **options | {"workers": 2}).model.progress == 1
    capsys.readouterr()
    pretrain(photos, backbone=tiny(), **options)
    assert "this run is complete: nothing is left to train after " in capsys.readouterr().err


def test_a_state_that_no_run_could_read_is_refused_when_it_is_saved(photos: Path, tmp_path: Path) -> None:
    class Odd(Callback):
        def state_dict(self) -> dict[str, Any]:
            return {"odd": Path("no tensor")}

    with pytest.raises(
        ValueError, match=r"must hold tensors, numbers and text, got an object of pathlib.*state_dict of"
    ):
        pretrain(photos, method="simclr", backbone=tiny(), epochs=1, callbacks=[Odd()], out=tmp_path, **SMALL)
    assert not list(tmp_path.glob("checkpoints/*.ckpt"))
