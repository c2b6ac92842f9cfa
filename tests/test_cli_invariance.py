"""The command `lightly-aug invariance`, in process, with real backbones and photographs."""

import json
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from helpers.photos import write_photos
from PIL import Image

from lightly_aug import Normalize
from lightly_aug.cli import main
from lightly_aug.evaluate import InvarianceComparison, measure_invariance
from lightly_aug.weights import build_backbone, save_backbone


class Done(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    write_photos(tmp_path / "photos", classes=3, count=2)
    return tmp_path / "photos"


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    folders = []
    for seed, name in enumerate(("first", "second")):
        torch.manual_seed(seed)
        network = build_backbone("resnet10")
        file = tmp_path / name / "backbone.safetensors"
        save_backbone(
            network, file, arch="resnet10", size=16, normalize=Normalize(),
            notes={"method": "moco"},
        )  # fmt: skip
        folders.append(file.parent)
    return folders


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> Done:
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(["invariance", *map(str, arguments)])
    assert isinstance(ended.value.code, int)
    return Done(ended.value.code, *capsys.readouterr())


def test_measures_prints_writes_and_does_not_measure_again(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, photos: Path, runs: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "new" / "found"
    options = ["--data", photos, "--out", out, "--draws", 3, "--device", "cpu", "--layers", "layer1, layer2"]
    done = run(capsys, *runs, *options)
    assert done.code == 0, done.err
    for word in ("Shape", "all, as drawn", "grayscale", "first", "second"):
        assert word in done.out
    assert "first: Color" in done.out
    assert done.out.splitlines()[-1] == f"{out}: 2 backbones on 6 images"

    comparison = InvarianceComparison.from_json((out / "invariance.json").read_text())
    first, second = comparison.networks
    assert (first.name, second.name, first.images) == ("first", "second", 6)
    assert first.operations[0].score != second.operations[0].score
    assert list(first.operations[0].layers) == ["layer1", "layer2"]
    assert len(first.operations[0].classes) == 3
    assert comparison.report() == (out / "invariance.md").read_text()
    for picture in ("invariance.png", "curves.png"):
        with Image.open(out / picture) as image:
            assert image.width > 400

    measured = list[str]()

    def counting(*arguments: object, **options: object) -> object:
        measured.append(str(options["name"]))
        return measure_invariance(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("lightly_aug.evaluate.measure_invariance", counting)
    renamed = runs[1].rename(tmp_path / "renamed")
    again = run(capsys, runs[0], renamed, *options)
    assert again.code == 0, again.err
    assert measured == []
    later = json.loads((out / "invariance.json").read_text())
    assert [network["name"] for network in later] == ["first", "renamed"]

    Image.new("RGB", (30, 30), "red").save(next(photos.rglob("*.jpg")))
    assert run(capsys, runs[0], *options).code == 0  # its images are others
    assert measured == ["first"]


def test_without_class_folders_nothing_is_said_of_classes(
    capsys: pytest.CaptureFixture[str], photos: Path, runs: list[Path], tmp_path: Path
) -> None:
    folder = next(path for path in sorted(photos.iterdir()) if path.is_dir())
    for number in range(4):
        Image.new("RGB", (20, 24), (60 * number, 50, 200)).save(folder / f"{number}.png")
    done = run(capsys, runs[0], "--data", folder, "--images", 5, "--draws", 3, "--out", tmp_path / "out")
    assert done.code == 0, done.err
    assert "class information" not in done.out
    assert "5 images" in done.out


def test_what_is_wrong_is_said_in_one_line(
    capsys: pytest.CaptureFixture[str], photos: Path, runs: list[Path], tmp_path: Path
) -> None:
    out = ["--out", tmp_path / "out"]
    folder = next(path for path in sorted(photos.iterdir()) if path.is_dir())
    few = run(capsys, runs[0], "--data", folder, *out)
    assert (few.code, "must hold at least 5 images, got 2" in few.err) == (2, True)
    same = run(capsys, runs[0], runs[0], "--data", photos, *out)
    assert (same.code, "runs must be different" in same.err) == (2, True)
    layer = run(capsys, runs[0], "--data", photos, "--layers", "layer9", *out)
    assert (layer.code, "layers must be names of modules" in layer.err) == (2, True)
    missing = run(capsys, tmp_path / "nothing", "--data", photos, *out)
    assert missing.code == 2
    assert len(missing.err.splitlines()) == 1
    second = run(capsys, runs[0], tmp_path / "nothing", "--data", photos, "--out", tmp_path / "none")
    assert (second.code, "nothing" in second.err) == (2, True)
    assert not (tmp_path / "none" / "runs").exists(), "the first is not measured in vain"
