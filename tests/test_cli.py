"""The command line: every command in process, and some in a process of their own."""

import csv
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import warnings
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import yaml
from helpers.photos import write_photos
from PIL import Image
from safetensors.torch import load_file
from torch import nn
from torchvision.transforms.v2.functional import center_crop, resize, to_image

import lightly_aug
from lightly_aug import Normalize
from lightly_aug.bench import WORKLOADS
from lightly_aug.choices import METHOD_NAMES
from lightly_aug.cli import bench as bench_module
from lightly_aug.cli import main
from lightly_aug.cli import views as views_module
from lightly_aug.demo import run
from lightly_aug.explore import PRESETS
from lightly_aug.images import to_array
from lightly_aug.methods import METHODS
from lightly_aug.models import resnet
from lightly_aug.plot import neighbours
from lightly_aug.pretrain_options import PYTHON_ONLY, PretrainOptions, read_options
from lightly_aug.train import pretrain
from lightly_aug.weights import Backbone, read_metadata, save_backbone

pytestmark = [  # so short a run may not make features better
    pytest.mark.filterwarnings(f"ignore:{text}") for text in (".*(knn|pair) accuracy", ".* wants batches of", ".*set_v")
]


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


QUICK = ["--backbone", "resnet10", "--size", 32, "--epochs", 1, "--workers", 0, "--accelerator", "cpu"]


def run_process(*arguments: object, module: str = "lightly_aug") -> "subprocess.CompletedProcess[str]":
    words = [sys.executable, "-W", "error", "-m", module, *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, check=False)


def flat(text: str) -> str:
    """Text without the frames and line breaks that typer adds."""
    return " ".join(text.replace("│", "").split())


def test_version_and_help_with_examples(command: Command) -> None:
    assert command("--version").out.strip() == lightly_aug.__version__
    for name in ("views", "train", "embed", "neighbours", "export", "demo", "bench"):
        done = command(name, "--help")
        assert done.code == 0
        assert f"Example: lightly-aug {name}" in flat(done.out)


def test_help_names_every_method_and_every_option(command: Command) -> None:
    views, train = (flat(command(name, "--help").out) for name in ("views", "train"))
    for name in METHODS:
        assert name in views
        assert name in train
    for preset in ("image", "shape", "texture", "color"):
        assert preset in views
    for option in fields(PretrainOptions):
        assert (f"--{option.name.replace('_', '-')} " in train) == (option.name not in PYTHON_ONLY)


def test_help_and_wrong_options_do_not_wait_for_torch() -> None:
    program = """
import sys
from lightly_aug.cli import main
from lightly_aug.cli.app import app
names = [command.name or command.callback.__name__.replace("_", "-") for command in app.registered_commands]
wrong = [["knn"], ["trian"], ["train", "photos", "--epochs", "ten"], ["train", "photos", "--method", "mocca"],
         ["train", "nowhere"], ["views", "photos", "--method", "mocca"], ["bench", "--size", "9"], ["embed", "--no"]]
for words in [[], ["--help"], ["--version"], *([name, "--help"] for name in names), *wrong]:
    try:
        main(words)
    except SystemExit as ended:
        print("ended", words, ended.code)
heavy = {"torch", "torchvision", "lightning", "numpy"}
print(len(names), *sorted({name.split(".")[0] for name in sys.modules} & heavy))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "14"
    ended = [line for line in done.stdout.splitlines() if line.startswith("ended")]
    assert [line.split()[-1] for line in ended] == ["2", *["0"] * 16, *["2"] * 8]
    assert len(done.stderr.splitlines()) == 8, "one line for each wrong one"


def test_what_help_lists_is_what_there_is() -> None:
    assert tuple(METHODS) == METHOD_NAMES
    assert tuple(PRESETS) == views_module._NAMES
    assert tuple(WORKLOADS) == bench_module._WORKLOADS


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian"], "No such command 'trian'. Did you mean 'train'? (see lightly-aug --help)"),
        (["embed"], "Missing argument 'run' (see lightly-aug embed --help)"),
        (
            ["bench", "--render", "gpu"],
            "--render': 'gpu' is not one of 'auto', 'late', 'worker' (see lightly-aug bench",
        ),
    ],
)
def test_wrong_words_are_one_line_that_names_the_help(command: Command, words: list[str], message: str) -> None:
    done = command(*words)
    assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 1)
    assert done.err.startswith("Error: ")
    assert message in done.err


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
    """In a process of its own, as a user runs it."""
    write_photos(tmp_path / "photos", classes=1, count=6)
    words = ["--method", "simclr", *QUICK, "--batch-size", 3, "--out", tmp_path / "out"]
    command = [sys.executable, "-m", "lightly_aug", "train", tmp_path / "photos", *words]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"Backbone.from_pretrained({str(tmp_path / 'out')!r})" in done.stdout
    assert done.stdout.startswith(f"{tmp_path / 'out'}: ")
    assert Backbone.from_pretrained(tmp_path / "out")(torch.rand(3, 50, 40)).shape == (1, 512)
    said = [line for line in done.stderr.splitlines() if "accuracy" not in line]
    assert said[0].startswith("Warning: SimCLR v1 wants batches of 32 images or more (4,096 in the paper), got 3: ")
    assert said[1] == "SimCLR v1, resnet10, 6 images at 32 pixels in batches of 3"
    assert said[4].startswith("SimCLR v1 epoch 1/1 · loss ")
    assert len(said) == 5  # nothing else, from whichever library


@pytest.mark.parametrize(
    ("method", "options"), [("pirl", []), ("cpc", []), ("amdim", []), ("paws", []), ("moco", ["--recipe", "paper"])]
)
def test_train_with_methods_that_need_something_special(
    command: Command, tmp_path: Path, method: str, options: list[str]
) -> None:
    write_photos(tmp_path / "photos", classes=2, count=6)
    words = ["--method", method, *options, *QUICK, "--labelled", 0.5, "--out", tmp_path / "out"]
    done = command("train", tmp_path / "photos", *words)
    assert done.code == 0, done.err
    assert "knn_accuracy" in done.out
    norm = nn.GroupNorm if method == "cpc" else nn.BatchNorm2d
    assert any(type(module) is norm for module in Backbone.from_pretrained(tmp_path / "out").modules())
    assert ("recipe paper" in done.err) == bool(options)


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("file", "file is a file"),
        ("file/out", "file is a file"),
        pytest.param("/proc", "", marks=pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")),
    ],
)
def test_train_needs_a_folder_that_can_be_written(command: Command, tmp_path: Path, place: str, reason: str) -> None:
    write_photos(tmp_path / "photos", classes=1, count=4)
    (tmp_path / "file").touch()
    out = tmp_path / place  # `/proc` is absolute and replaces `tmp_path`
    done = command("train", tmp_path / "photos", *QUICK, "--out", out)
    assert done.code == 2
    assert done.err.startswith(f"Error: --out must be a folder to write to, got {out}: ")
    assert reason in done.err


@pytest.mark.parametrize(
    ("method", "size", "stem", "norm", "normalize"),
    [
        ("simclr", 40, "imagenet", "batch", None),
        ("simclr", 32, "cifar", "batch", Normalize()),
        ("cpc", 32, "cifar", "layer", Normalize()),
    ],
)
def test_train_says_how_the_backbone_was_trained(
    command: Command, tmp_path: Path, method: str, size: int, stem: str, norm: str, normalize: Normalize | None
) -> None:
    write_photos(tmp_path / "photos", classes=1, count=4)
    words = [*QUICK, "--method", method, "--size", size, "--out", tmp_path]
    done = command("train", tmp_path / "photos", *words)
    assert done.code == 0, done.err
    metadata = read_metadata(tmp_path)
    found, notes = metadata.pop("normalize"), metadata.pop("notes")
    assert {"method": method, "epochs": 1, "steps": 1}.items() <= notes.items()
    assert str(tmp_path) not in json.dumps(notes)
    assert (None if found is None else Normalize(**found)) == normalize
    assert metadata == {
        "backbone": {"name": "resnet10", "arguments": {"stem": stem, "norm": norm}},
        "size": size,
        "mode": "RGB",
        "background": "white",
        "versions": {"lightly_aug": lightly_aug.__version__, "torch": str(torch.__version__)},
    }


def test_a_run_is_repeated_from_its_configuration(command: Command, tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", classes=1, count=4)
    first, again, other = (tmp_path / name for name in ("first", "again", "other"))
    words = [*QUICK, "--seed", 3, "--lr", 0.00001, "--evaluate", "none"]
    assert command("train", tmp_path / "photos", *words, "--out", first).code == 0
    written = yaml.safe_load((first / "config.yaml").read_text())
    assert written == {
        "data": str(tmp_path / "photos"), "backbone": "resnet10", "size": 32, "epochs": 1, "workers": 0,
        "accelerator": "cpu", "seed": 3, "lr": 0.00001, "evaluate": "none", "out": str(first),
    }  # fmt: skip
    config = ["--config", first / "config.yaml"]
    assert "holds a run: choose another --out" in command("train", *config).err
    assert command("train", *config, "--out", again).code == 0
    assert command("train", *config, "--out", other, "--seed", 4).code == 0  # the command line goes first
    same, changed = (load_file(folder / "backbone.safetensors") for folder in (again, other))
    for name, value in load_file(first / "backbone.safetensors").items():
        assert torch.equal(value, same[name]), name
    assert not torch.equal(same["conv1.weight"], changed["conv1.weight"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data: photos\nmetod: byol", "option must be one of 'data', 'method', .* got 'metod'; did you mean 'method'?"),
        ("epochs: ten", "config.yaml: epochs must be int, got 'ten'"),
        ("epochs: true", "config.yaml: epochs must be int, got True"),
        ("lr: fast", "config.yaml: lr must be float or none, got 'fast'"),
        ("lr: yes", "config.yaml: lr must be float or none, got True"),
        ("compile: 1", "config.yaml: compile must be bool, got 1"),
        ("callbacks: []", "option must be one of .* got 'callbacks'"),
        ("- moco", "must hold options, one a line such as 'method: byol'"),
        ("method: [", "must be YAML, got an error"),
        ("epochs: 0", "Error: epochs must be an integer >= 1, got 0"),
        ("backbone: <Sequential>", "arch must be amdim_encoder, .* got '<Sequential>'"),
        ("method: byol", "give a folder of images, or a --config that names one"),
    ],
)
def test_a_wrong_configuration_ends_in_one_line(command: Command, tmp_path: Path, text: str, message: str) -> None:
    write_photos(tmp_path / "photos", classes=1, count=4)
    config = tmp_path / "config.yaml"
    config.write_text(text)
    folder = [] if text == "method: byol" else [tmp_path / "photos"]
    done = command("train", *folder, "--config", config, "--out", tmp_path / "out")
    assert done.code == 2
    assert done.err.startswith("Error: ")
    assert len(done.err.splitlines()) == 1
    assert re.search(message, done.err)


def test_numbers_that_yaml_takes_for_text_are_numbers(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("lr: 1e-3\nlabelled: 1\ndevices: 2\nimage_size: 3".replace("image_size", "size"))
    assert yaml.safe_load(config.read_text())["lr"] == "1e-3"
    options = read_options(config)
    assert options == {"lr": 0.001, "labelled": 1.0, "devices": 2, "size": 3}
    assert type(options["labelled"]) is float


def test_a_backbone_that_only_python_has_is_not_mistaken_for_the_default() -> None:
    options = PretrainOptions(backbone=nn.Sequential(), callbacks=[object()], image="front", evaluate=[1])
    assert options.plain() == {"backbone": "<Sequential>", "evaluate": "<list>"}


@pytest.mark.parametrize(
    ("option", "value"), [("steps", 0), ("workers", -1), ("num_nodes", 0), ("devices", "0"), ("devices", "two")]
)
def test_options_out_of_range_are_refused(option: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"pretrain: {option} must be .*, got {value!r}"):
        PretrainOptions(**{option: value})


def test_ctrl_c_says_how_to_go_on(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", classes=1, count=8)
    words = ["train", tmp_path / "photos", *QUICK, "--batch-size", 2, "--evaluate", "none", "--out", tmp_path / "out"]

    def start(*more: object) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "lightly_aug", *map(str, [*words, *more])]
        return subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )

    process = start("--epochs", 1000)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("MoCo v2 epoch 1/1000"):
            break
    process.send_signal(signal.SIGINT)
    told = process.communicate(timeout=60)[1].splitlines()
    assert process.returncode == 130
    assert re.fullmatch(r"SIGINT: stopped; the run goes on from .*/step-\d+\.ckpt, with --resume.*", told[-1])
    resumed = start("--epochs", 1000, "--resume")
    assert resumed.stderr is not None
    assert any(line.startswith(f"going on from {tmp_path / 'out'}") for line in resumed.stderr)
    resumed.kill()
    resumed.communicate()


def test_a_second_run_in_the_same_folder_is_refused_until_the_first_is_gone(command: Command, tmp_path: Path) -> None:
    """The first is a real process, which is killed: its lock ends with it, though a process that it forked lives on."""
    write_photos(tmp_path / "photos", classes=1, count=4)
    out = tmp_path / "new" / "out"
    program = """
import os, sys, time
from pathlib import Path
from lightly_aug.train.folder import hold_folder
with hold_folder("pretrain", Path(sys.argv[1])):
    worker = os.fork()
    if worker:
        print(worker, flush=True)
    time.sleep(60)
"""
    first = subprocess.Popen([sys.executable, "-c", program, str(out)], stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None
    worker = int(first.stdout.readline())
    try:
        words = ["train", tmp_path / "photos", *QUICK, "--evaluate", "none", "--out", out]
        for more in ([], ["--overwrite"], ["--resume"]):
            done = command(*words, *more)
            assert done.code == 2
            assert done.err.startswith(f"Error: another run writes to {out} (process {first.pid} on ")
            assert {path.name for path in out.iterdir()} == {".lock"}
    finally:
        first.kill()
        first.wait()
        try:
            assert (done := command(*words)).code == 0, done.err
        finally:
            os.kill(worker, signal.SIGKILL)
            first.stdout.close()
    assert (out / "backbone.safetensors").exists()
    assert not (out / ".lock").exists()


def test_pretrain_leaves_no_empty_folder_behind(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(ValueError, match="must hold images"):
        pretrain(tmp_path / "photos", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.filterwarnings("default:.*leaves out sample")
def test_a_damaged_file_is_named_once(command: Command, tmp_path: Path) -> None:
    """Though it is met by the measurements before the training, and in each epoch."""
    write_photos(tmp_path / "photos", classes=2, count=8)
    broken = next((tmp_path / "photos").rglob("*.jpg"))
    broken.write_bytes(b"no image")
    words = [*QUICK, "--batch-size", 8, "--epochs", 3, "--lr", 0.00001, "--on-error", "skip", "--out", tmp_path / "out"]
    done = command("train", tmp_path / "photos", *words)
    assert done.code == 0, done.err
    assert done.err.count(broken.name) == 1
    assert f"Warning: leaves out {broken}: not an image" in done.err


# --- after training ---------------------------------------------------------------------------------------------


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """The folder of a run, with a backbone for normalised images of 32 pixels."""
    torch.manual_seed(0)
    file = tmp_path / "run" / "backbone.safetensors"
    settings: dict[str, Any] = {
        "arch": "resnet10",
        "arguments": {"stem": "cifar"},
        "size": 32,
        "normalize": Normalize(),
    }
    save_backbone(resnet("resnet10", stem="cifar"), file, notes={"method": "byol"}, **settings)
    return file.parent


def embed_by_hand(run: Path, files: list[Path]) -> "np.ndarray[Any, np.dtype[np.float32]]":
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    rows = []
    for file in files:
        pixels = to_image(Image.open(file).convert("RGB")) / 255
        pixels = center_crop(resize(pixels, [32], antialias=True), [32]).as_subclass(torch.Tensor)
        with torch.no_grad():
            rows.append(Backbone.from_pretrained(run).network(((pixels - mean) / std)[None])[0].numpy())
    return np.stack(rows)


def read_table(file: Path) -> dict[str, Any]:
    if file.suffix == ".npz":
        return dict(np.load(file))
    if file.suffix == ".parquet":
        table = pytest.importorskip("pyarrow.parquet").read_table(file).to_pydict()
        return {name: np.array(column) for name, column in table.items()}
    with file.open(newline="") as opened:
        rows = list(csv.DictReader(opened))
    wide = [[np.float32(row[f"f{i}"]) for i in range(512)] for row in rows]
    texts = {name: np.array([row[name] for row in rows]) for name in ("name", "label") if name in rows[0]}
    assert len(rows[0]) == 512 + len(texts)
    return texts | {"features": np.array(wide)}


@pytest.mark.parametrize("suffix", [".npz", ".csv", ".parquet"])
@pytest.mark.parametrize("workers", [0, 2])
def test_embed_writes_features_with_names_and_labels(
    command: Command, tmp_path: Path, trained: Path, suffix: str, workers: int
) -> None:
    photos = tmp_path / "photos"
    write_photos(photos, classes=2, count=3)
    out = tmp_path / "new" / f"features{suffix}"
    words = ["--batch-size", 4, "--workers", workers, "--device", "cpu", "--out", out]
    done = command("embed", trained, photos, *words)
    assert done == (0, f"{out}: 6 images, 512 features of each, 2 labels\n", "")
    files = sorted(photos.rglob("*.jpg"))
    table = read_table(out)
    assert set(table) == {"name", "label", "features"}
    assert table["name"].tolist() == [file.relative_to(photos).as_posix() for file in files]
    assert table["label"].tolist() == [file.parent.name for file in files]
    np.testing.assert_allclose(table["features"], embed_by_hand(trained, files), rtol=1e-3, atol=1e-3)


def test_embed_of_a_folder_without_classes_and_of_a_file_of_weights(
    command: Command, tmp_path: Path, trained: Path
) -> None:
    write_photos(tmp_path / "photos", classes=1, count=2)
    out = tmp_path / "features.npz"
    words = ["--workers", 0, "--device", "cpu", "--out", out]
    done = command("embed", trained / "backbone.safetensors", tmp_path / "photos", *words)
    assert done.out == f"{out}: 2 images, 512 features of each\n"
    assert set(read_table(out)) == {"name", "features"}


@pytest.mark.parametrize(
    ("out", "message"),
    [
        (
            "features.txt",
            "Error: suffix must be one of '.npz', '.csv', '.parquet', '.safetensors', got '.txt'",
        ),
        ("features.parquet", "needs pyarrow: pip install pyarrow, or take .npz, .csv or .safetensors"),
        ("a.jpg/features.npz", "Error: --out must be a file that can be written"),
        ("run.npz", "run.npz: it is a folder"),
    ],
)
def test_embed_checks_out_before_it_works(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str, message: str
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "a.jpg").touch()
    (tmp_path / "run.npz").mkdir()
    done = command("embed", tmp_path / "nowhere", tmp_path / "nowhere", "--out", tmp_path / out)
    assert done.code == 2
    assert message in done.err
    assert len(done.err.splitlines()) == 1


def test_embed_refuses_to_replace_the_features_of_another_network(
    command: Command, tmp_path: Path, trained: Path
) -> None:
    photos, out = tmp_path / "photos", tmp_path / "features.csv"
    write_photos(photos, classes=1, count=2)
    asked = ["embed", trained, photos, "--workers", 0, "--device", "cpu", "--out", out]
    assert command(*asked).code == 0
    digest = hashlib.sha256((trained / "backbone.safetensors").read_bytes()).hexdigest()
    record = {"run": str(trained), "weights": digest, "data": str(photos), "images": 2}
    assert json.loads((tmp_path / "features.csv.json").read_text()) == record
    assert command(*asked).code == 0, "the same network again"
    before = out.read_text()
    save_backbone(resnet("resnet10"), tmp_path / "other.safetensors", arch="resnet10", size=32, normalize=None)
    asked[1] = tmp_path / "other.safetensors"
    done = command(*asked)
    assert done.code == 2
    assert f"{out} holds features of another network, {trained}: choose another --out, or replace them" in done.err
    assert out.read_text() == before
    assert command(*asked, "--overwrite").code == 0
    assert out.read_text() != before
    (tmp_path / "features.csv.json").unlink()
    assert "holds features of an unknown network" in command(*asked).err


@pytest.mark.parametrize("name", ["embed", "neighbours"])
def test_files_that_cannot_be_read_are_left_out_if_asked(
    command: Command, tmp_path: Path, trained: Path, name: str
) -> None:
    photos, out = tmp_path / "photos", tmp_path / "new" / ("x.npz" if name == "embed" else "x.png")
    write_photos(photos, classes=1, count=4)
    broken = sorted(photos.rglob("*.jpg"))[1]
    broken.write_bytes(b"no image")
    asked = [name, trained, photos, "--workers", 0, "--device", "cpu", "--out", out]
    done = command(*asked)
    assert done.code == 2
    assert str(broken) in done.err
    assert not out.parent.exists(), "an empty folder would be left behind"
    done = command(*asked, "--on-error", "skip")
    assert done.code == 0, done.err
    assert done.err.startswith(f"Warning: leaves out {broken}: not an image")
    assert done.err.endswith("left out 1 of 4 images\n")
    assert "3 images" in done.out
    if name == "embed":
        assert len(read_table(out)["name"]) == 3
        assert str(broken.name) not in " ".join(read_table(out)["name"])
    for file in photos.rglob("*.jpg"):
        file.write_bytes(b"no image")
    done = command(*asked, "--on-error", "skip")
    assert "no image of 4 can be read; the first is" in done.err


def test_neighbours_of_files_whose_names_look_like_formulas(command: Command, tmp_path: Path, trained: Path) -> None:
    write_photos(tmp_path / "photos", classes=1, count=2)
    for i, file in enumerate(sorted((tmp_path / "photos").rglob("*.jpg"))):
        file.rename(file.with_name(f"$\\frac${i}.jpg"))
    asked = ["neighbours", trained, tmp_path / "photos", "--workers", 0, "--device", "cpu", "--out", tmp_path / "n.png"]
    done = command(*asked)
    assert done.code == 0, done.err


@pytest.mark.parametrize("classes", [1, 2])
def test_neighbours_draws_images_beside_the_most_similar(
    command: Command, tmp_path: Path, trained: Path, monkeypatch: pytest.MonkeyPatch, classes: int
) -> None:
    photos = tmp_path / "photos"
    write_photos(photos, classes=classes, count=3)
    files = sorted(photos.rglob("*.jpg"))
    drawn: dict[str, Any] = {}

    def draw(images: list[Path], features: torch.Tensor, **settings: Any) -> Any:
        drawn.update(settings, images=images, features=features)
        return neighbours(images, features, **settings)

    monkeypatch.setattr("lightly_aug.plot.neighbours", draw)
    out = tmp_path / "new" / "neighbours.png"
    words = ["--rows", 2, "--count", 1, "--workers", 0, "--device", "cpu", "--out", out]
    done = command("neighbours", trained, photos, *words)
    assert done == (0, f"{out}: 2 of {len(files)} images and their nearest neighbours\n", "")
    with Image.open(out) as picture:
        assert picture.height > 300
    assert drawn["images"] == files
    assert drawn["captions"] == [file.name for file in files]
    assert drawn["names"] == (None if classes == 1 else [file.parent.name for file in files])
    assert drawn["title"].startswith("resnet10 trained with byol: images of photos and their nearest neighbours")
    np.testing.assert_allclose(drawn["features"], embed_by_hand(trained, files), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("options", "decode"), [([], 64), (["--decode", 0], None), (["--decode", 50], 50)])
@pytest.mark.parametrize("name", ["train", "embed", "neighbours", "demo"])
def test_photographs_are_shrunk_to_twice_the_size_unless_the_user_says_otherwise(
    command: Command,
    tmp_path: Path,
    trained: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    options: list[object],
    decode: int | None,
) -> None:
    seen = set()

    def read(image: Any, mode: str | None, asked: int | None, *rest: Any) -> Any:
        seen.add(asked)
        return to_array(image, mode, asked, *rest)

    monkeypatch.setattr("lightly_aug.collate.to_array", read)
    photos, out = tmp_path / "photos", tmp_path / "out"
    write_photos(photos, classes=1, count=8)
    quick = ["--workers", 0, "--device", "cpu"]
    words: dict[str, list[object]] = {
        "train": ["train", photos, *QUICK, "--out", out],
        "embed": ["embed", trained, photos, *quick, "--out", f"{out}.npz"],
        "neighbours": ["neighbours", trained, photos, *quick, "--out", f"{out}.png"],
        "demo": ["demo", "--data", photos, "--size", 32, "--epochs", 1, "--out", out],
    }
    done = command(*words[name], *options)
    assert done.code == 0, done.err
    assert seen == {decode}
    assert re.search(
        "by default twice the (side|size) of the views. 0 reads all pixels", flat(command(name, "--help").out)
    )


# --- manners ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "completions"),
    [
        ("lightly-aug ne", {"neighbours"}),
        ("lightly-aug train photos --method mo", {"moco", "moco-v1", "moco-v3"}),
        ("lightly-aug train photos --method pa", {"paws"}),
        ("lightly-aug views photos --method te", {"texture"}),
        ("lightly-aug bench --method sw", {"swav"}),
        ("lightly-aug train photos --backbone wide", {"wide_resnet50_2", "wide_resnet101_2"}),
    ],
)
def test_a_shell_completes(command: Command, monkeypatch: pytest.MonkeyPatch, line: str, completions: set[str]) -> None:
    monkeypatch.setenv("_LIGHTLY_AUG_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(line.split()) - 1))
    assert set(command().out.split()) == completions


def test_an_unknown_command_names_the_nearest(command: Command) -> None:
    done = command("neighbors")
    assert done.code == 2
    assert "Did you mean 'neighbours'?" in flat(done.err)


@pytest.mark.parametrize("terminal", [True, False])
def test_who_waits_at_a_terminal_sees_that_something_happens(
    command: Command, tmp_path: Path, trained: Path, monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    monkeypatch.setenv("FORCE_COLOR" if terminal else "NO_COLOR", "1")  # rich takes the first for a terminal
    photos, out = tmp_path / "photos", tmp_path / "out.png"
    write_photos(photos, classes=1, count=2)
    quick = ["--workers", 0, "--device", "cpu", "--out", out]
    for words, text in {
        ("views", photos, "--size", 32, "--out", out): "drawing 2 images and their views",
        ("embed", trained, photos, *quick[:-1], tmp_path / "out.npz"): "embedding 2 images",
        ("neighbours", trained, photos, *quick): "drawing",
    }.items():
        done = command(*words)
        assert done.code == 0, done.err
        assert len(done.out.splitlines()) == 1
        assert text in done.err if terminal else not done.err


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
    "labels": (["train", "{photos}", "--method", "paws", "--out", "{out}"], "PAWS"),
    "a preset": (["train", "{photos}", "--method", "shape"], "method must be one of 'simclr', "),
    "unknown workload": (["bench", "--method", "moco"], "--method must be one of 'simclr', 'dino', 'swav', got 'moco'"),
    "a loader without a folder": (["bench", "--size", "32"], "--size has no effect without --data"),
    "rounds of a loader": (["bench", "--data", "{photos}", "--rounds", "2"], "--rounds has no effect with --data"),
    "unknown place to render": (
        ["bench", "--data", "{photos}", "--render", "gpu"],
        "'--render': 'gpu' is not one of 'auto', 'late', 'worker' (see lightly-aug bench --help)",
    ),
    "damaged image": (["views", "{broken}"], "broken.jpg"),
    "damaged image in a worker": (
        ["embed", "{run}", "{broken}", "--device", "cpu", "--workers", "1", "--out", "{out}.npz"],
        "broken.jpg",
    ),
    "damaged images to train with": (["train", "{broken}", "--size", "16", "--out", "{out}"], "broken.jpg"),
    "an earlier run": (["train", "{photos}", "--out", "{run}"], "holds a run: choose another --out"),
    "unknown backbone": (["train", "{photos}", "--backbone", "resnet19", "--out", "{out}"], "resnet19"),
    "unknown device": (
        ["embed", "{run}", "{photos}", "--device", "gpu", "--out", "{out}.npz"],
        "--device must be a device of this machine",
    ),
    "unknown accelerator": (["train", "{photos}", "--accelerator", "x", "--out", "{out}"], "invalid accelerator name"),
    "too few images": (["demo", "--data", "{photos}"], "must hold at least 8 images"),
    "no run": (["embed", "nowhere", "{photos}", "--out", "{out}.npz"], "no nowhere"),
    "run without a backbone": (["neighbours", "{empty}", "{photos}", "--out", "{out}.png"], "no {empty}"),
    "foreign weights": (
        ["embed", "{broken}/broken.jpg", "{photos}", "--out", "{out}.npz"],
        "must be a file of safetens",
    ),
    "out of range": (["views", "{photos}", "--rows", "0"], "--rows"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_of_the_user_ends_in_one_line_and_exit_code_2(command: Command, tmp_path: Path, name: str) -> None:
    arguments, message = ERRORS[name]
    done = command(*fill_in(arguments, tmp_path))
    assert done.code == 2
    assert message.format(empty=tmp_path / "empty") in flat(done.err)
    assert "Traceback" not in done.err
    assert done.err.startswith("Error: ")
    assert not re.match(r"Error: [\w-]+: ", done.err), "who types a command did not call a function"
    assert len(done.err.splitlines()) == 1
    assert not (tmp_path / "out").exists(), "nothing is left of a command that failed"


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
    for name in ("broken.jpg", "broken.jpg.jpg"):
        (folder / "broken" / name).write_bytes(b"\xff\xd8 not a jpeg")
    (folder / "run").mkdir()
    (folder / "run" / "config.yaml").write_text("data: photos\n")
    save_backbone(resnet("resnet10"), folder / "run" / "backbone.safetensors", arch="resnet10", size=32, normalize=None)
    places = {name: folder / name for name in ("photos", "empty", "broken", "run", "out")}
    return [argument.format(**places) for argument in arguments]


@pytest.mark.skipif(torch.cuda.is_available(), reason="a machine without a GPU")
def test_what_lightning_refuses_ends_in_one_line(command: Command, tmp_path: Path) -> None:
    words = ["train", "{photos}", "--accelerator", "gpu", "--out", "{out}"]
    done = command(*fill_in(words, tmp_path))
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("Error: Lightning cannot train with these options: No supported gpu")


def test_a_warning_is_one_line_without_its_place_in_the_code(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    passed_on: list[Any] = []
    monkeypatch.setattr(warnings, "showwarning", lambda *arguments: passed_on.append(arguments[1]))
    before = warnings.showwarning

    def app(*_: Any, **__: Any) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("the batch\n  is small", stacklevel=1)
            warnings.warn("old", DeprecationWarning, stacklevel=1)
        raise SystemExit(0)

    monkeypatch.setattr("lightly_aug.cli.app.app", app)
    assert command("views") == (0, "", "Warning: the batch is small\n")
    assert passed_on == [DeprecationWarning]
    assert warnings.showwarning is before


def test_without_typer_the_command_says_how_to_get_it(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "lightly_aug.cli.app", raising=False)
    monkeypatch.setitem(sys.modules, "typer", None)
    assert command("--version") == (2, "", "Error: typer is not installed: pip install 'lightly-aug[train]'\n")


def test_bench_measures_what_is_installed(command: Command, tmp_path: Path) -> None:
    out = tmp_path / "new" / "bench"
    done = command("bench", "--batch", 1, "--rounds", 1, "--seconds", 0, "--out", out)
    assert done.code == 0, done.err
    assert "images/s" in done.out
    assert "torchvision" in out.with_suffix(".md").read_text()
    assert out.with_suffix(".json").exists()


@pytest.mark.filterwarnings("ignore:.*pin_memory.*:UserWarning")
def test_bench_of_a_folder_shows_where_the_time_goes(command: Command, tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", classes=2, count=4)
    out = tmp_path / "new" / "loader"
    words = ("--method", "byol", "--size", 32, "--batch", 4, "--workers", 1, "--render", "worker", "--batches", 2)
    done = command("bench", "--data", tmp_path / "photos", *words, "--device", "cpu", "--out", out)
    assert done.code == 0, done.err
    assert "End to end" in done.out
    assert out.with_suffix(".md").read_text().startswith("# BYOL, 8 images of photos")
    times = json.loads(out.with_suffix(".json").read_text())["times"]
    assert {"read", "decode", "render", "device"} <= {stage["name"] for stage in times["stages"]}
    assert (times["workers"], times["batch_size"], times["view_side"], times["render"]) == (1, 4, 32, "worker")
    assert out.with_suffix(".png").exists()


@pytest.mark.parametrize("labelled", [True, False])
def test_demo_measures_and_draws(tmp_path: Path, labelled: bool) -> None:
    write_photos(tmp_path / "photos", classes=3 if labelled else 1, count=8)
    measured = run(tmp_path / "photos", tmp_path / "out", size=16, epochs=1, batch_size=8)
    written = {path.name for path in (tmp_path / "out").glob("*.*")}
    pictures = {"views.png", "neighbours.png", *["embedding.png"][: int(labelled)]}
    assert written == pictures | {"backbone.safetensors", "config.yaml", "run.json"}
    assert Backbone.from_pretrained(tmp_path / "out").metadata["notes"]["method"] == "moco"
    run(tmp_path / "photos", tmp_path / "out", size=16, epochs=1, batch_size=8)  # again, in the same folder
    assert ("kNN accuracy, trained backbone" in measured) == labelled
    assert all(value >= 0 for value in measured.values())
