"""The command `lightly-aug export`: every format is loaded by the lines that the command prints."""

import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from helpers.backbones import write_backbone
from torch import nn
from typer.testing import CliRunner

from lightly_aug import Normalize
from lightly_aug.cli import main
from lightly_aug.cli.app import app
from lightly_aug.weights import Backbone, save_backbone


class Done(NamedTuple):
    code: int
    out: str
    err: str


class Export:
    """Runs `lightly-aug export` in this process."""

    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        self.capfd = capfd

    def __call__(self, *arguments: object) -> Done:
        self.capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(["export", *map(str, arguments)])
        assert isinstance(ended.value.code, int)
        return Done(ended.value.code, *self.capfd.readouterr())


@pytest.fixture
def export(capfd: pytest.CaptureFixture[str]) -> Export:
    return Export(capfd)


def run_printed(out: str, **names: Any) -> dict[str, Any]:
    """Run what the command prints, whose headline and advice are comments."""
    exec(out, names)
    return names


def test_normalised_images_are_asked_for(export: Export, tmp_path: Path) -> None:
    write_backbone(tmp_path, "resnet10", size=32, arguments={"stem": "cifar"}, normalize=Normalize(0.5, 0.25))
    done = export(tmp_path, "--format", "onnx", "--normalized", "--out", tmp_path / "x.onnx")
    assert done.code == 0, done.err
    assert "# images: float32 (n, c, 32, 32), normalised with mean (0.5,) and std (0.25,)" in done.out


@pytest.mark.parametrize(
    ("run", "kind", "name"),
    [
        ("run", "torchvision", "weights.pth"),
        ("run/backbone.safetensors", "timm", "weights.safetensors"),
        ("run", "onnx", "backbone.onnx"),
        ("run/backbone.safetensors", "hub", "hub"),
        ("run", "safetensors", "one.safetensors"),
        ("run/backbone.safetensors", "safetensors", "one.safetensors"),
    ],
)
def test_what_is_printed_loads_what_was_written(
    export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: str, kind: str, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    backbone = write_backbone(tmp_path / "run", "resnet18", size=32, notes={"method": "byol"}).freeze()
    done = export(run, "--format", kind, "--out", f"new/{name}")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"# new/{name}: resnet18 trained with byol\n\n")
    images = torch.rand(2, 3, 32, 32)
    expected, views = backbone(images), backbone.collate(list(images))[0]
    names = run_printed(done.out, images=images.numpy())
    if kind in ("torchvision", "timm"):
        found = names["network"].eval()(views)
    else:
        found = torch.from_numpy(names["features"]) if kind == "onnx" else names["backbone"](images)
    torch.testing.assert_close(found.detach(), expected, rtol=1e-3, atol=1e-4)
    if kind == "hub":
        assert (tmp_path / "new" / "hub" / "README.md").exists()
        assert "hf upload user/name new/hub" in done.out


ERRORS: dict[str, tuple[list[str], str]] = {
    "format": (["--format", "onx", "--out", "x.onnx"], "--format must be one of .* got 'onx'; did you mean 'onnx'"),
    "suffix": (["--format", "onnx", "--out", "x.pth"], r"--out must end in \.onnx for --format onnx, got x\.pth"),
    "suffix of weights": (["--format", "timm", "--out", "x"], r"must end in \.safetensors or \.pth or \.pt for"),
    "normalised": (["--format", "timm", "--normalized", "--out", "x.pth"], "--normalized is for --format onnx, got"),
    "a file in the way": (
        ["--format", "hub", "--out", "run/backbone.safetensors"],
        "--out must be a folder to write to, got .*safetensors is a file",
    ),
    "a folder in the way": (["--format", "onnx", "--out", "folder.onnx"], "got folder.onnx: it is a folder"),
    "no equal": (["--format", "timm", "--out", "x.pth"], "timm has no ResNet with the stem for small images"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_are_one_line_and_leave_no_file(
    export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_backbone(tmp_path / "run", "resnet18", size=32, arguments={"stem": "cifar"})
    (tmp_path / "folder.onnx").mkdir()
    arguments, message = ERRORS[name]
    done = export("run", *arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("Error: ")
    assert len(done.err.splitlines()) == 1
    assert re.search(message, done.err)
    assert {path.name for path in tmp_path.iterdir()} == {"run", "folder.onnx"}


def test_runs_that_are_not_there_ask_no_hub(export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lightly_aug.weights._pretrained.hf_hub_download", None)
    done = export("user/name", "--format", "onnx", "--out", "x.onnx")
    assert done.code == 2
    assert "path must be a file of save_backbone or the folder of a run, no user/name" in done.err


def test_a_network_of_ones_own_is_for_python(export: Export, tmp_path: Path) -> None:
    save_backbone(nn.Conv2d(3, 4, 3), tmp_path / "own.safetensors", arch=None, size=8, normalize=None)
    done = export(tmp_path / "own.safetensors", "--format", "onnx", "--out", tmp_path / "x.onnx")
    assert done.code == 2
    assert "holds a network without a name; build it as it was trained, and pass it" in done.err


def test_without_the_packages_of_onnx_the_command_says_how_to_get_them(
    export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_backbone(tmp_path, "resnet10", size=32, arguments={"stem": "cifar"})
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    done = export(tmp_path, "--format", "onnx", "--out", tmp_path / "x.onnx")
    assert (done.code, done.err) == (2, "Error: onnxruntime is not installed: pip install 'lightly-aug[export]'\n")


def test_the_formats_are_completed() -> None:
    words = {"COMP_WORDS": "lightly-aug export --format t", "COMP_CWORD": "3", "_LIGHTLY_AUG_COMPLETE": "complete_bash"}
    done = CliRunner().invoke(app, env=words, prog_name="lightly-aug")
    assert done.output.split() == ["torchvision", "timm"]


def test_a_copy_is_a_backbone_with_the_same_settings(export: Export, tmp_path: Path) -> None:
    backbone = write_backbone(tmp_path / "run", "resnet18", size=32, notes={"method": "byol", "epochs": 3})
    export(tmp_path / "run", "--format", "safetensors", "--out", tmp_path / "one.safetensors")
    assert Backbone.from_pretrained(tmp_path / "one.safetensors").metadata == backbone.metadata
