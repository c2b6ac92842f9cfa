"""The commands that measure a backbone with labels: `knn`, `linear`, `finetune` and `evaluate`."""

import csv
import hashlib
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]
from sklearn.metrics import balanced_accuracy_score  # type: ignore[import-untyped]
from sklearn.pipeline import make_pipeline  # type: ignore[import-untyped]
from sklearn.preprocessing import StandardScaler  # type: ignore[import-untyped]
from torch.optim.swa_utils import update_bn

from lightly_aug import Normalize
from lightly_aug.classify import load_classifier
from lightly_aug.cli import main
from lightly_aug.evaluate import extract_features, features, read_features
from lightly_aug.models import resnet
from lightly_aug.weights import Backbone, build_backbone, save_backbone

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:.*set_vital"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
]
COLOURS = {"blue": (40, 60, 200), "green": (60, 190, 80), "red": (210, 50, 40)}
QUICK: list[object] = ["--workers", 0, "--device", "cpu"]


class Done(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*arguments: object) -> Done:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        return Done(int(ended.value.code or 0), *capsys.readouterr())

    return run


def paint(folder: Path, count: int, seed: int, classes: tuple[str, ...] = tuple(COLOURS)) -> Path:
    """Write images of a colour for each class, with so much noise that some are taken for another."""
    rng = np.random.default_rng(seed)
    for name in classes:
        (folder / name).mkdir(parents=True)
        for i in range(count):
            pixels = rng.normal(COLOURS[name], 90, (20, 24, 3)).clip(0, 255).mean((0, 1)) + rng.normal(0, 70, 3)
            noise = rng.normal(pixels, 20, (20, 24, 3)).clip(0, 255)
            Image.fromarray(noise.astype(np.uint8)).save(folder / name / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return paint(tmp_path_factory.mktemp("data") / "train", 15, 0)


@pytest.fixture(scope="module")
def test(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return paint(tmp_path_factory.mktemp("data") / "test", 8, 1)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = resnet("resnet10", stem="cifar")
    file = tmp_path / "run" / "backbone.safetensors"
    save_backbone(network, file, arch="resnet10", arguments={"stem": "cifar"}, size=16, normalize=Normalize())
    return file.parent


def read_predictions(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "predictions.csv").read_text().splitlines()))


def hash_file(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def check_files(folder: Path, images: int) -> dict[str, Any]:
    """Compare the metrics of a command with its predictions; return the metrics."""
    rows, metrics = read_predictions(folder), json.loads((folder / "metrics.json").read_text())
    assert len(rows) == metrics["images"] == images
    assert all(int(row["right"]) == (row["class"] == row["predicted"]) for row in rows)
    assert all(row["name"].startswith(row["class"] + "/") for row in rows)
    top1 = metrics["top1"]
    assert top1["value"] == pytest.approx(np.mean([int(row["right"]) for row in rows]))
    assert top1["low"] < top1["value"] <= top1["high"]
    balanced = balanced_accuracy_score([row["class"] for row in rows], [row["predicted"] for row in rows])
    assert metrics["balanced"]["value"] == pytest.approx(balanced)
    assert metrics["top5"] is None, "there are three classes"
    assert metrics["weights"] == hash_file(Path(metrics["run"]) / "backbone.safetensors")
    assert metrics["command"]
    assert Path(metrics["data"]).is_dir()
    with Image.open(folder / "confusion.png") as picture:
        assert picture.width > 200
    return dict(metrics)


def test_knn_predicts_as_a_loop_over_its_features(command: Any, run: Path, data: Path, test: Path) -> None:
    done = command("knn", run, "--data", data, "--test", test, "--k", 3, "--temperature", 0.1, *QUICK)
    assert done.code == 0, done.err
    assert done.out.startswith(f"{run / 'knn'}: top-1 ")
    assert done.out.endswith("of 24 test images in 3 classes\n")
    metrics = check_files(run / "knn", 24)
    assert (metrics["k"], metrics["train_images"]) == (3, 45)
    assert 0.4 < metrics["top1"]["value"] < 1, "some images are taken for others"
    table = read_features(run / "knn" / "features.npz")
    assert table.labels is not None
    x = table.features.double()
    x /= x.norm(dim=1, keepdim=True)
    for row, query in zip(read_predictions(run / "knn"), x[45:], strict=True):
        votes = dict.fromkeys(COLOURS, 0.0)
        for i in (x[:45] @ query).argsort(descending=True)[:3].tolist():
            votes[table.labels[i]] += float(((x[i] @ query) / 0.1).exp())
        assert row["predicted"] == max(votes, key=lambda name: votes[name])


def test_a_fifth_of_one_folder_is_for_testing(command: Any, run: Path, data: Path, tmp_path: Path) -> None:
    assert command("knn", run, "--data", data, "--k", 5, "--out", tmp_path / "out", *QUICK).code == 0
    assert check_files(tmp_path / "out", 9)["train_images"] == 36
    assert Counter(row["class"] for row in read_predictions(tmp_path / "out")) == dict.fromkeys(COLOURS, 3)


@pytest.mark.parametrize("name", ["knn", "linear", "evaluate", "finetune"])
def test_results_of_something_else_are_not_replaced_unless_asked(
    name: str, command: Any, run: Path, data: Path, test: Path, tmp_path: Path
) -> None:
    other, out = tmp_path / "other.safetensors", tmp_path / "out"
    save_backbone(resnet("resnet10", stem="cifar"), other, arch="resnet10", arguments={"stem": "cifar"}, size=16,
                  normalize=Normalize())  # fmt: skip
    quick: dict[str, list[object]] = {
        "knn": ["--k", 3], "evaluate": ["--draws", 0, "--no-untrained"], "finetune": ["--epochs", 1],
    }  # fmt: skip
    more = [*QUICK, *quick.get(name, []), "--out", out]
    assert command(name, run, "--data", data, *more).code == 0
    assert command(name, run, "--data", data, *more).code == 0, "the same again"
    before = (out / "metrics.json").read_text()
    for words, title in (
        ([name, other, "--data", data], "network"),
        ([name, run, "--data", test], "--data"),
        ([name, run, "--data", data, "--test", test], "--test"),
        ([name, other, "--data", test], "network and --data"),
    ):
        done = command(*words, *more)
        assert done.code == 2
        assert done.err == (
            f"Error: {out} holds results of another {title} ({name} of {run} on {data}): choose another --out, or "
            "replace them with --overwrite\n"
        )
    assert (out / "metrics.json").read_text() == before
    second = "linear" if name == "knn" else "knn"
    done = command(second, run, "--data", data, *QUICK, *quick.get(second, []), "--out", out)
    assert "holds results of another command" in done.err
    done = command(name, other, "--data", data, *more, "--overwrite")
    assert done.code == 0, done.err
    after = json.loads((out / "metrics.json").read_text())
    assert (after["run"], after["weights"]) == (str(other), hash_file(other))


@pytest.mark.parametrize("name", ["knn", "linear", "evaluate", "finetune"])
def test_images_that_cannot_be_read_are_left_out_if_asked(name: str, command: Any, run: Path, tmp_path: Path) -> None:
    photos = paint(tmp_path / "photos", 6, 3)
    broken = [photos / "red" / "5.png", photos / "blue" / "0.png"]
    for file in broken:
        file.write_bytes(b"no image")
    asked = [name, run, "--data", photos, *QUICK, "--out", tmp_path / "new" / "out"]
    asked += {"knn": ["--k", 3], "linear": [], "finetune": ["--epochs", 1]}.get(name, ["--draws", 0, "--no-untrained"])
    done = command(*asked)
    assert done.code == 2
    assert any(str(file) in done.err for file in broken)
    if name != "finetune":  # which keeps the settings of a training that began
        assert not (tmp_path / "new").exists()
    done = command(*asked, "--on-error", "skip")
    assert done.code == 0, done.err
    assert all(f"Warning: leaves out {file}: not an image" in done.err for file in broken)
    assert "left out 2 of 18 images" in done.err
    metrics = json.loads((tmp_path / "new" / "out" / "metrics.json").read_text())
    assert metrics["train_images"] + metrics["images"] == 16
    assert "must be one of 'raise', 'skip'" in command(*asked, "--on-error", "replace").err.replace("is not", "must be")


def test_linear_is_logistic_regression(command: Any, run: Path, data: Path, test: Path) -> None:
    done = command("linear", run, "--data", data, "--test", test, "--c", 0.1, *QUICK)
    assert done.code == 0, done.err
    assert check_files(run / "linear", 24)["c"] == 0.1
    table = read_features(run / "linear" / "features.npz")
    assert table.labels is not None
    fitted = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    fitted.fit(table.features[:45].double(), table.labels[:45])
    assert [row["predicted"] for row in read_predictions(run / "linear")] == [
        *fitted.predict(table.features[45:].double())
    ]


def test_linear_by_the_protocol_of_papers_resumes(command: Any, run: Path, data: Path, test: Path) -> None:
    asked = ["linear", run, "--data", data, "--test", test, "--protocol", "papers", "--epochs", 2, *QUICK]
    done = command(*asked)
    assert done.code == 0, done.err
    metrics = check_files(run / "linear-papers", 24)
    assert metrics["protocol"] == "papers"
    assert command(*asked).code == 0
    assert check_files(run / "linear-papers", 24) == metrics
    assert load_classifier(run / "linear-papers" / "training").classes == [*COLOURS]
    other = command(*asked, "--seed", 1)
    assert other.code == 2
    assert "overwrite" in other.err
    assert command(*asked, "--seed", 1, "--overwrite").code == 0


def test_finetune_learns_colours_with_some_labels(command: Any, run: Path, data: Path, test: Path) -> None:
    asked = ["finetune", run, "--data", data, "--test", test, "--share", 0.5, "--batch-size", 8, *QUICK]
    done = command(*asked, "--epochs", 6)
    assert done.code == 0, done.err
    metrics = check_files(run / "finetune", 24)
    assert metrics["train_images"] == 24, "half of 15 images of each class"
    assert metrics["top1"]["value"] > 0.5
    assert done.out.endswith("trained with 24 labels\n")
    assert command(*asked, "--epochs", 1, "--from-scratch").code == 0
    assert check_files(run / "finetune-from-scratch", 24)["from_scratch"] is True


def test_evaluate_writes_one_page(command: Any, run: Path, data: Path, test: Path) -> None:
    done = command("evaluate", run, "--data", data, "--test", test, "--k", 3, "--draws", 2, *QUICK)
    assert done.code == 0, done.err
    folder = run / "evaluate"
    assert f"{folder / 'report.html'}: 45 training images and 24 test images in 3 classes" in done.out
    assert "kNN, untrained" in done.out
    conclusion = done.out.splitlines()[-2]
    assert " the trained " in conclusion.lower()
    assert conclusion.count(" points (") == 2
    assert conclusion in (folder / "report.md").read_text()
    page = (folder / "report.html").read_text()
    text = (folder / "report.md").read_text()
    pictures = re.findall(r"!\[[^]]*\]\((\w+\.png)\)", text)
    assert pictures == ["labels.png", "confusion.png", "map.png", "neighbours.png"]
    assert all((folder / name).is_file() for name in pictures)
    assert page.count('src="data:image/png;base64,') == len(pictures) == page.count("<img ")
    assert "http" not in re.sub(r'src="data:[^"]*"', "", page), "the page needs nothing from elsewhere"
    metrics = json.loads((folder / "metrics.json").read_text())
    assert [*metrics["accuracy"]] == ["kNN, trained", "linear, trained", "kNN, untrained", "linear, untrained"]
    for name, file in (("trained", "features"), ("untrained", "features-untrained")):
        table = read_features(folder / f"{file}.npz")
        assert table.labels is not None
        fitted = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        fitted.fit(table.features[:45].double(), table.labels[:45])
        share = fitted.score(table.features[45:].double(), table.labels[45:])
        found = metrics["accuracy"][f"linear, {name}"]["top1"]
        assert found["value"] == pytest.approx(share)
        assert f"| linear, {name} | {100 * share:.1f} % ({100 * found['low']:.1f}–{100 * found['high']:.1f}) |" in text
    assert table.labels is not None
    x, y = table.features[:45].double(), table.labels
    x = x / x.norm(dim=1, keepdim=True)
    right = 0
    for query, label in zip(table.features[45:].double(), y[45:], strict=True):
        similarity = x @ (query / query.norm())
        votes = dict.fromkeys(COLOURS, 0.0)
        for i in similarity.argsort(descending=True)[:3].tolist():
            votes[y[i]] += float((similarity[i] / 0.07).exp())
        right += label == max(votes, key=lambda name: votes[name])
    assert metrics["accuracy"]["kNN, untrained"]["top1"]["value"] == pytest.approx(right / 24)
    assert (metrics["data"], metrics["test"], metrics["k"]) == (str(data), str(test), 3)
    assert metrics["few_labels"]["kNN, trained"]["labels"] == [1, 2, 5, 10, 15]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build_backbone("resnet10", stem="cifar")
    collate = Backbone.from_pretrained(run).collate
    files = [file for name in COLOURS for file in sorted((data / name).iterdir(), key=str)]
    update_bn([collate(files[i : i + 64])[0] for i in (0, 64) if files[i:]], network)
    x, _ = features(network, [collate(files)])
    torch.testing.assert_close(x, read_features(folder / "features-untrained.npz").features[:45], rtol=1e-4, atol=1e-5)


def test_evaluate_leaves_out_what_is_not_asked_for(command: Any, run: Path, data: Path, test: Path) -> None:
    asked = ["evaluate", run, "--data", data, "--test", test, "--draws", 0, "--no-untrained", "--k", 99, *QUICK]
    assert command(*asked).code == 0
    text = (run / "evaluate" / "report.md").read_text()
    assert "untrained" not in text
    assert "Few labels" not in text
    assert json.loads((run / "evaluate" / "metrics.json").read_text())["k"] == 45, "as many as there are"


def test_evaluate_of_a_network_that_ends_in_one_pixel(command: Any, tmp_path: Path, data: Path, test: Path) -> None:
    run = tmp_path / "run"
    file = run / "backbone.safetensors"
    save_backbone(resnet("resnet10"), file, arch="resnet10", arguments={}, size=32, normalize=Normalize())
    asked = ["evaluate", run, "--data", data, "--test", test, "--draws", 0, *QUICK]
    done = command(*asked, "--batch-size", 44)  # BatchNorm refuses the last batch, of one image of one pixel
    assert done.code == 0, done.err
    assert command(*asked, "--batch-size", 1).code == 0


def test_a_class_without_test_images(command: Any, run: Path, data: Path, tmp_path: Path) -> None:
    fewer = paint(tmp_path / "fewer", 3, 4, ("green", "red"))
    for name, options in (("knn", ["--k", 3]), ("linear", []), ("evaluate", ["--draws", 2])):
        done = command(name, run, "--data", data, "--test", fewer, *options, *QUICK)
        assert done.code == 0, done.err
        assert "6 test images in 3 classes" in done.out


@pytest.mark.parametrize("name", ["knn", "linear", "evaluate"])
def test_a_command_that_was_stopped_goes_on(
    name: str, command: Any, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = paint(tmp_path / "photos", 6, 3)
    broken = photos / "red" / "5.png"
    whole = broken.read_bytes()
    broken.write_bytes(bytes(len(whole)))
    asked = [name, run, "--data", photos, "--batch-size", 4, *QUICK]
    asked += {"knn": ["--k", 3], "linear": [], "evaluate": ["--draws", 0, "--no-untrained"]}[name]
    done = command(*asked)
    assert done.code == 2
    assert str(broken) in done.err
    assert (run / name / "features.npz.parts").is_dir(), "what was embedded before is kept"
    broken.write_bytes(whole)
    embedded: list[int] = []

    def watch(*images: Any, step: Any, **options: Any) -> tuple[int, int]:
        return extract_features(*images, step=embedded.append, **options)

    monkeypatch.setattr("lightly_aug.evaluate.extract_features", watch)
    assert command(*asked).code == 0
    assert embedded[0] > 0, "the first number is that of images that were embedded before"
    assert sum(embedded) == 18
    assert not (run / name / "features.npz.parts").exists()


@pytest.mark.parametrize("name", ["knn", "linear", "finetune", "evaluate"])
def test_wrong_arguments_are_one_line(name: str, command: Any, run: Path, data: Path, tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    paint(tmp_path / "other", 8, 2, ("blue",))
    (tmp_path / "other" / "blue").rename(flat)
    more = paint(tmp_path / "more", 2, 2)
    (more / "red").rename(more / "violet")
    taken = tmp_path / "taken"
    taken.write_text("")
    for arguments, message in (
        (["--data", flat], "--data must hold images in a folder for each class"),
        (["--data", data, "--test", more], "class folders of --test must be among those of --data, got violet"),
        (["--data", tmp_path / "missing"], "missing"),
        (["--data", data, "--out", taken], "--out must be"),
    ):
        done = command(name, run, *arguments, *QUICK)
        assert done.code == 2, arguments
        assert message in done.err
        assert done.err.count("\n") == 1
    done = command(name, tmp_path / "nothing", "--data", data, *QUICK)
    assert done.code == 2
    assert "nothing" in done.err


def test_wrong_numbers_are_one_line(command: Any, run: Path, data: Path) -> None:
    for arguments, message in (
        (["knn", "--k", 40], "--k must be at most the 36 training images, got 40"),
        (["linear", "--c", "much"], "--c must be a number above 0 or cv, got 'much'"),
        (["linear", "--c", 0], "--c must be a number above 0 or cv, got '0'"),
        (["linear", "--c", "nan"], "--c must be a number above 0 or cv, got 'nan'"),
        (["knn", "--k", 3, "--temperature", 0], "temperature must be above 0, got 0"),
        (["evaluate", "--draws", 1], "--draws must be 0, or 2 and more, got 1"),
        (["finetune", "--share", 2], "share must be above 0 and at most 1, got 2"),
    ):
        name, *rest = arguments
        done = command(name, run, "--data", data, *rest, *QUICK)
        assert done.code == 2, arguments
        assert message in done.err
    assert not (run / "linear" / "features.npz").exists(), "the number is wrong before anything is embedded"
