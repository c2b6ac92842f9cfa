"""The command line: every command in process, and two in a process of their own."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from helpers.photos import write_photos
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_model

import lightly_aug
from lightly_aug import Normalize
from lightly_aug.cli import main
from lightly_aug.demo import run
from lightly_aug.methods import METHODS
from lightly_aug.models import resnet


class Done(NamedTuple):
    code: int
    out: str
    err: str


class Command:
    """Runs `lightly-aug` in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, *arguments: object) -> Done:
        self.capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        assert isinstance(ended.value.code, int)
        return Done(ended.value.code, *self.capsys.readouterr())


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(capsys)


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Replaces `fit`; holds the models that it would have trained."""
    models: list[Any] = []
    monkeypatch.setattr("lightly_aug.commands.fit", lambda model, *_, **__: models.append(model))
    return models


QUICK = ["--backbone", "resnet10", "--workers", 0, "--device", "cpu"]


def run_process(*arguments: object, module: str = "lightly_aug.cli") -> "subprocess.CompletedProcess[str]":
    words = [sys.executable, "-W", "error", "-m", module, *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, check=False)


def flat(text: str) -> str:
    """Text without the frames and line breaks that typer adds."""
    return " ".join(text.replace("│", "").split())


def test_version_and_help_with_examples(command: Command) -> None:
    assert command("--version").out.strip() == lightly_aug.__version__
    for name in ("views", "train", "demo", "bench"):
        done = command(name, "--help")
        assert done.code == 0
        assert f"Example: lightly-aug {name}" in flat(done.out)


def test_help_names_every_method(command: Command) -> None:
    views, train = (flat(command(name, "--help").out) for name in ("views", "train"))
    for name, method in METHODS.items():
        assert name in views
        assert (name in train) == (not method.labels)
    for preset in ("image", "shape", "texture", "color"):
        assert preset in views


def test_views_draws_a_grid(command: Command, tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", classes=2, count=2)
    out = tmp_path / "new" / "grid.png"
    done = command("views", tmp_path / "photos", "--method", "moco", "--size", 64, "--rows", 3, "--out", out)
    assert done.code == 0, done.err
    assert done.out.startswith(f"{out}: 3 images, views of moco at 64 pixels")
    with Image.open(out) as grid:
        assert grid.width > 300


@pytest.mark.parametrize("method", [*METHODS, "image", "shape", "texture", "color"])
def test_views_knows_every_method_and_preset(command: Command, tmp_path: Path, method: str) -> None:
    write_photos(tmp_path / "photos", classes=1, count=1)
    out = tmp_path / "grid.png"
    done = command("views", tmp_path / "photos", "--method", method, "--size", 32, "--draws", 1, "--out", out)
    assert done.code == 0, done.err
    assert out.exists()


def test_train_saves_a_backbone_that_loads(tmp_path: Path) -> None:
    """In a process of its own, as a user runs it, where warnings are errors."""
    write_photos(tmp_path / "photos", classes=1, count=6)
    options = ["--method", "simclr", "--backbone", "resnet10", "--size", 32, "--epochs", 2, "--batch-size", 3]
    done = run_process("train", tmp_path / "photos", *options, "--device", "cpu", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "resnet('resnet10', stem='cifar', norm='batch')" in done.stdout
    network = resnet("resnet10", stem="cifar")
    before = network.conv1.weight.clone()
    assert not any(load_model(network, tmp_path / "out" / "backbone.safetensors"))  # keys that are missing or left
    assert not torch.equal(before, network.conv1.weight)


@pytest.mark.parametrize(
    ("method", "options"), [("pirl", []), ("cpc", []), ("amdim", []), ("moco", ["--paper"])], ids=str
)
def test_train_with_methods_that_need_something_special(
    command: Command, tmp_path: Path, method: str, options: list[str]
) -> None:
    write_photos(tmp_path / "photos", classes=1, count=4)
    words = ["--method", method, *options, "--backbone", "resnet10", "--size", 32, "--epochs", 1, "--workers", 0]
    done = command("train", tmp_path / "photos", *words, "--device", "cpu", "--out", tmp_path / "out")
    assert done.code == 0, done.err
    norm = "layer" if method == "cpc" else "batch"
    assert f"norm={norm!r}" in done.out
    network = resnet("resnet10", stem="cifar", norm=METHODS[method].norm)
    assert not any(load_model(network, tmp_path / "out" / "backbone.safetensors"))  # keys that are missing or left


def test_train_takes_the_heads_of_the_paper_on_request(
    command: Command, tmp_path: Path, no_training: list[Any]
) -> None:
    write_photos(tmp_path / "photos", classes=1, count=4)
    words = [*QUICK, "--size", 32, "--out", tmp_path / "out"]
    for options in ([], ["--paper", "--overwrite"]):
        assert command("train", tmp_path / "photos", *words, *options).code == 0
    assert [(len(model.queue), model.momentum) for model in no_training] == [(4, 0.99), (65536, 0.999)]


def test_train_overwrites_a_backbone_only_on_request(command: Command, tmp_path: Path, no_training: list[Any]) -> None:
    write_photos(tmp_path / "photos", classes=1, count=4)
    out = tmp_path / "new" / "out"
    file = out / "backbone.safetensors"
    words = ["train", tmp_path / "photos", *QUICK, "--size", 32, "--out", out]
    assert command(*words).code == 0
    assert list(out.iterdir()) == [file]
    first = file.read_bytes()
    done = command(*words, "--seed", 1)
    assert done.code == 2
    assert f"got {out}: choose another --out, or replace the file with --overwrite" in done.err
    assert file.read_bytes() == first
    assert len(no_training) == 1
    assert command(*words, "--seed", 1, "--overwrite").code == 0
    assert file.read_bytes() != first


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("file", "File exists"),
        ("file/out", "Not a directory"),
        ("folder", "Is a directory"),
        pytest.param("/proc", "", marks=pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")),
    ],
)
def test_train_checks_out_before_it_builds_the_model(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, reason: str
) -> None:
    write_photos(tmp_path / "photos", classes=1, count=4)
    (tmp_path / "file").touch()
    (tmp_path / "folder" / "backbone.safetensors").mkdir(parents=True)
    built: list[object] = []
    monkeypatch.setattr("lightly_aug.commands.resnet", lambda *names, **_: built.append(names))
    out = tmp_path / place  # `/proc` is absolute and replaces `tmp_path`
    done = command("train", tmp_path / "photos", *QUICK, "--size", 32, "--overwrite", "--out", out)
    assert done.code == 2
    assert done.err.startswith("Error: lightly-aug train: --out must be a folder where backbone.safetensors can be ")
    assert f"got {out}: {reason}" in done.err
    assert not built


@pytest.mark.parametrize(
    ("method", "size", "stem", "norm", "normalize"),
    [
        ("simclr", 40, "imagenet", "batch", None),
        ("simclr", 32, "cifar", "batch", Normalize()),
        ("cpc", 32, "cifar", "layer", Normalize()),
    ],
)
def test_train_says_how_the_backbone_was_trained(
    command: Command,
    tmp_path: Path,
    no_training: list[Any],
    method: str,
    size: int,
    stem: str,
    norm: str,
    normalize: Normalize | None,
) -> None:
    write_photos(tmp_path / "photos", classes=1, count=4)
    words = ["--method", method, "--size", size, "--epochs", 3, "--out", tmp_path]
    done = command("train", tmp_path / "photos", *QUICK, *words)
    assert done.code == 0, done.err
    with safe_open(tmp_path / "backbone.safetensors", "pt") as file:
        metadata = file.metadata()
    found = metadata.pop("normalize")
    assert (None if found == "none" else Normalize(**json.loads(found))) == normalize
    assert metadata == {
        "method": method,
        "arch": "resnet10",
        "stem": stem,
        "norm": norm,
        "size": str(size),
        "epochs": "3",
        "lightly_aug": lightly_aug.__version__,
        "torch": torch.__version__,
    }
    scale = f"normalised by mean {normalize.mean} and std {normalize.std}" if normalize else "not normalised"
    assert done.out.splitlines()[-1] == f"It expects inputs in [0, 1], {scale}."


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [32, 96])
def test_all_views_of_a_method_have_one_normalisation(method: str, size: int) -> None:
    views = METHODS[method].views(size).views
    assert len({tuple(step for step in view.operations if isinstance(step, Normalize)) for view in views}) == 1


@pytest.mark.parametrize(
    ("words", "nearest"),
    [
        (["train", "{photos}", "--method", "simclrr"], "simclr"),
        (["views", "{photos}", "--method", "MoCo"], "moco"),
        (["bench", "--method", "swaf"], "swav"),
        (["train", "{photos}", "--method", "xyz"], None),
    ],
)
def test_an_unknown_method_names_the_nearest(
    command: Command, tmp_path: Path, words: list[str], nearest: str | None
) -> None:
    end = f"got {words[-1]!r}" + (f"; did you mean {nearest!r}?" if nearest else "")
    assert command(*fill_in(words, tmp_path)).err.endswith(end + "\n")


def test_the_package_runs_as_a_module() -> None:
    done = run_process("--version", module="lightly_aug")
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, lightly_aug.__version__, "")


ERRORS: dict[str, tuple[list[str], str]] = {
    "no folder": (["views", "nowhere"], "no folder nowhere"),
    "no images": (["views", "{empty}"], "empty must hold images"),
    "unknown method": (
        ["views", "{photos}", "--method", "byol2"],
        "--method must be one of 'simclr', 'simclr-v2', 'moco-v1', 'moco', ",
    ),
    "labels": (["train", "{photos}", "--method", "paws"], "--method paws needs labels of some images"),
    "a preset": (["train", "{photos}", "--method", "shape"], "--method must be one of 'simclr', "),
    "unknown workload": (["bench", "--method", "moco"], "--method must be one of 'simclr', 'dino', 'swav', got 'moco'"),
    "damaged image": (["views", "{broken}"], "broken.jpg"),
    "damaged image in a worker": (
        ["train", "{broken}", "--epochs", "1", "--device", "cpu", "--size", "16", "--workers", "1", "--out", "{out}"],
        "broken.jpg",
    ),
    "unknown backbone": (["train", "{photos}", "--backbone", "resnet19", "--out", "{out}"], "resnet19"),
    "unknown device": (["train", "{photos}", "--device", "gpu"], "--device must be a device of this machine"),
    "too few images": (["demo", "--data", "{photos}"], "must hold at least 8 images"),
    "out of range": (["views", "{photos}", "--rows", "0"], "--rows"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_of_the_user_ends_in_one_line_and_exit_code_2(command: Command, tmp_path: Path, name: str) -> None:
    arguments, message = ERRORS[name]
    done = command(*fill_in(arguments, tmp_path))
    assert done.code == 2
    assert message in flat(done.err)
    assert "Traceback" not in done.err
    if name != "out of range":  # typer writes that one, in a frame
        assert done.err.startswith("Error: ")
        assert len(done.err.splitlines()) == 1


def test_an_error_in_a_process_of_its_own(tmp_path: Path) -> None:
    arguments, message = ERRORS["damaged image in a worker"]
    done = run_process(*fill_in(arguments, tmp_path))
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def fill_in(arguments: list[str], folder: Path) -> list[str]:
    """Write the folders that the arguments name."""
    write_photos(folder / "photos", classes=1, count=2)
    (folder / "empty").mkdir()
    (folder / "broken").mkdir()
    (folder / "broken" / "broken.jpg").write_bytes(b"\xff\xd8 not a jpeg")
    places = {name: folder / name for name in ("photos", "empty", "broken", "out")}
    return [argument.format(**places) for argument in arguments]


def test_without_typer_the_command_says_how_to_get_it(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "lightly_aug.commands", raising=False)
    monkeypatch.setitem(sys.modules, "typer", None)
    assert command("--version") == (2, "", "Error: typer is not installed: pip install 'lightly-aug[demo]'\n")


def test_bench_measures_what_is_installed(command: Command, tmp_path: Path) -> None:
    out = tmp_path / "new" / "bench"
    done = command("bench", "--batch", 1, "--rounds", 1, "--seconds", 0, "--out", out)
    assert done.code == 0, done.err
    assert "images/s" in done.out
    assert "torchvision" in out.with_suffix(".md").read_text()
    assert out.with_suffix(".json").exists()


@pytest.mark.parametrize("labelled", [True, False])
def test_demo_measures_and_draws(tmp_path: Path, labelled: bool) -> None:
    write_photos(tmp_path / "photos", classes=3 if labelled else 1, count=8)
    measured = run(tmp_path / "photos", tmp_path / "out", size=16, epochs=1, batch_size=8)
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {"views.png", "neighbours.png", "backbone.safetensors", *["embedding.png"][: int(labelled)]}
    assert ("kNN accuracy, trained backbone" in measured) == labelled
    assert all(value >= 0 for value in measured.values())
