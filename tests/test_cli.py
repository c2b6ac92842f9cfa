"""The command, run as a user runs it."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.photos import write_photos
from PIL import Image
from safetensors.torch import load_model

import lightly_aug
from lightly_aug.demo import folder_images, photograph_patches, run
from lightly_aug.models import resnet


def command(*arguments: object) -> "subprocess.CompletedProcess[str]":
    words = [sys.executable, "-W", "error", "-m", "lightly_aug.cli", *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, check=False)


def test_version_and_help_with_examples() -> None:
    assert command("--version").stdout.strip() == lightly_aug.__version__
    for name in ("views", "train", "demo", "bench"):
        done = command(name, "--help")
        assert done.returncode == 0
        assert f"lightly-aug {name}" in done.stdout


def test_views_draws_a_grid(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", classes=2, count=2)
    out = tmp_path / "new" / "grid.png"
    done = command("views", tmp_path / "photos", "--method", "moco", "--size", 64, "--rows", 3, "--out", out)
    assert done.returncode == 0, done.stderr
    assert "3 images" in done.stdout
    with Image.open(out) as grid:
        assert grid.width > 300


def test_train_saves_a_backbone_that_loads(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", classes=1, count=6)
    options = ["--method", "simclr", "--backbone", "resnet10", "--size", 32, "--epochs", 2, "--batch-size", 3]
    done = command("train", tmp_path / "photos", *options, "--device", "cpu", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    network = resnet("resnet10", stem="cifar")
    before = network.conv1.weight.clone()
    assert load_model(network, tmp_path / "out" / "backbone.safetensors") == (set(), [])
    assert not torch.equal(before, network.conv1.weight)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["views", "nowhere"], "no folder nowhere"),
        (["views", "{empty}"], "holds no images"),
        (["views", "{photos}", "--method", "byol2"], "--method byol2: there are amdim, barlow-twins, byol, color"),
        (["views", "{broken}"], "broken.jpg"),
        (["train", "{broken}", "--epochs", "1", "--device", "cpu", "--size", "16", "--workers", "1"], "broken.jpg"),
        (["train", "{photos}", "--backbone", "resnet19"], "resnet19"),
        (["demo", "--data", "{photos}"], "at least 8 are needed"),
        (["views", "{photos}", "--rows", "0"], "--rows"),
    ],
)
def test_what_the_user_can_mend_ends_in_a_line_and_exit_code_2(tmp_path: Path, arguments: list[str], said: str) -> None:
    write_photos(tmp_path / "photos", classes=1, count=2)
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "broken.jpg").write_bytes(b"\xff\xd8 not a jpeg")
    places = {name: tmp_path / name for name in ("photos", "empty", "broken")}
    done = command(*(argument.format(**places) for argument in arguments))
    assert done.returncode == 2
    assert said in done.stderr.replace("\n", "").replace("│", "")
    assert "Traceback" not in done.stderr


def test_bench_measures_what_is_installed(tmp_path: Path) -> None:
    out = tmp_path / "new" / "bench"
    done = command("bench", "--batch", 1, "--rounds", 1, "--seconds", 0, "--out", out)
    assert done.returncode == 0, done.stderr
    assert "images/s" in done.stdout
    assert "torchvision" in out.with_suffix(".md").read_text()
    assert out.with_suffix(".json").exists()


def test_patches_to_test_with_share_no_pixel_with_those_to_train_with() -> None:
    images = photograph_patches(side=32, train=3, test=2)
    assert len(images.train) == 3 * len(images.classes)
    assert len(images.test) == 2 * len(images.classes)
    assert {patch.size for patch, _ in images.train + images.test} == {(32, 32)}
    train = {patch.tobytes() for patch, _ in images.train}
    assert not train & {patch.tobytes() for patch, _ in images.test}


def test_class_folders_are_labels_and_loose_files_are_not(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", classes=2, count=5)
    labelled = folder_images(tmp_path / "photos")
    assert len(labelled.classes) == 2
    assert all(path.parent.name == labelled.classes[label] for path, label in labelled.train + labelled.test)
    assert len({path for path, _ in labelled.train + labelled.test}) == 10
    loose = tmp_path / "loose"
    loose.mkdir()
    for number, path in enumerate(sorted((tmp_path / "photos").rglob("*.jpg"))):
        path.rename(loose / f"{number}.jpg")
    assert folder_images(loose).classes == []


@pytest.mark.parametrize("labelled", [True, False])
def test_demo_measures_and_draws(tmp_path: Path, labelled: bool) -> None:
    write_photos(tmp_path / "photos", classes=3 if labelled else 1, count=8)
    measured = run(tmp_path / "photos", tmp_path / "out", size=16, epochs=1, batch_size=8)
    picture = "embedding.png" if labelled else "neighbours.png"
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {"views.png", picture, "backbone.safetensors"}
    assert ("kNN accuracy, trained backbone" in measured) == labelled
    assert all(value >= 0 for value in measured.values())
