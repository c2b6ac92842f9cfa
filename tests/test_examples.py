"""The programs in examples/ run, learn, and do what examples/README.md says of them."""

import math
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.methods import METHODS, tiny
from helpers.photos import write_photos
from torch.utils.data import DataLoader

from lightly_aug import Indexed
from lightly_aug.photographs import photograph_patches

FOLDER = Path(__file__).parents[1] / "examples"
README = (FOLDER / "README.md").read_text()
LONGEST = 60
"""Lines of a program, so that it can be read on one page."""
QUIET: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
"""Options of Lightning's trainer."""


def load(name: str, package: str = "torch") -> dict[str, Any]:
    """Return the names that a program defines; skip the test if the package that it needs is not installed."""
    pytest.importorskip(package)
    torch.manual_seed(0)
    return runpy.run_path(str(FOLDER / f"{name}.py"))


def of_trainers(test: Callable[..., None]) -> Callable[..., None]:
    """Pass over what Lightning says of small runs on a CPU."""
    for message in (
        ".*does not have many workers",
        ".*treespec, LeafSpec",
        ".*Checkpoint directory",
        "Detected KeyboardInterrupt",
    ):
        test = pytest.mark.filterwarnings(f"ignore:{message}")(test)
    return test


# --- the folder -------------------------------------------------------------------------------------------------


def test_every_program_has_a_row_and_a_test() -> None:
    programs = sorted(path.stem for path in FOLDER.glob("*.py"))
    assert sorted(re.findall(r"^\| \[(\w+)\.py\]\(\1\.py\)", README, re.M)) == programs
    assert sorted(set(re.findall(r'\bload\("(\w+)"', Path(__file__).read_text()))) == programs


@pytest.mark.parametrize("program", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_a_program_is_short_and_says_how_to_run_it(program: Path) -> None:
    text = program.read_text()
    assert len(text.splitlines()) <= LONGEST
    assert f"\npython examples/{program.name}\n" in text


# --- the programs -----------------------------------------------------------------------------------------------


def test_the_plain_loop_learns() -> None:
    losses = load("plain_loop")["main"](epochs=2)
    assert losses[1] < losses[0]


def test_the_plain_loop_reads_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_photos(tmp_path, classes=4, count=11)
    load("plain_loop")["main"](str(tmp_path), epochs=1)
    assert re.fullmatch(r"epoch 1/1: loss \d\.\d+\n", capsys.readouterr().out)


@pytest.mark.parametrize("name", METHODS)
def test_the_plain_loop_is_right_for_every_method(name: str) -> None:
    patches = photograph_patches(side=32, train=1, test=0).train[:16]
    images = [(image, (0, -1, -1, 1)[i % 4]) for i, (image, _) in enumerate(patches)]  # with labels for PAWS
    loader = DataLoader(Indexed(images), 8, collate_fn=METHODS[name].collate(seed=0))
    model = METHODS[name].model(tiny())
    before = [value.clone() for value in model.backbone.parameters()]
    losses = load("plain_loop")["train"](model, loader, epochs=2)
    assert len(losses) == 2
    assert all(map(math.isfinite, losses))
    assert model.progress == 1
    for value, old in zip(model.backbone.parameters(), before, strict=True):
        assert not torch.equal(value, old)


@of_trainers
def test_the_lightning_module_continues_as_if_nobody_had_stopped_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = load("lightning_module", "lightning")
    options = QUIET | {"limit_train_batches": 4}

    def run(folder: str) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        state: dict[str, torch.Tensor] = names["main"](tmp_path / folder, epochs=2, **options).method.state_dict()
        return state

    whole, step = run("whole"), names["SelfSupervised"].training_step

    def stop(self: Any, batch: Any, number: int) -> torch.Tensor:
        if self.current_epoch == 1 and number == 2:
            raise KeyboardInterrupt
        result: torch.Tensor = step(self, batch, number)
        return result

    monkeypatch.setattr(names["SelfSupervised"], "training_step", stop)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        run("stopped")
    monkeypatch.undo()
    torch.testing.assert_close(run("stopped"), whole, rtol=0, atol=0)
    assert whole["_extra_state"] == 1  # the progress


def test_the_accelerate_loop_learns() -> None:
    losses = load("accelerate_loop", "accelerate")["main"](epochs=2)
    assert losses[1] < losses[0]


def test_hugging_face_datasets_learn() -> None:
    losses = load("huggingface_datasets", "datasets")["main"](epochs=2)
    assert losses[1] < losses[0]


@pytest.mark.filterwarnings("ignore:.*unclosed file:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # where webdataset leaves files open
def test_webdataset_shards_learn() -> None:
    losses = load("webdataset_shards", "webdataset")["main"](epochs=2, workers=0)
    assert losses[1] < losses[0]


@pytest.mark.filterwarnings("ignore")  # of stable-pretraining and what it imports
def test_stable_pretraining_classifies_better_than_chance() -> None:
    accuracy = load("stable_pretraining_module", "stable_pretraining")["main"](epochs=1, **QUIET)
    assert accuracy > 3 / 17


def test_several_processes_train_together_and_are_not_trained_twice(tmp_path: Path) -> None:
    assert load("several_processes")["EPOCHS"] == 4
    script = tmp_path / "script.py"  # Lightning runs it once more for the second process
    program, run = FOLDER / "several_processes.py", tmp_path / "run"
    script.write_text(f"import runpy\n\nrunpy.run_path({str(program)!r})['main']({str(run)!r}, epochs=1)\n")
    for told in ("starting at the beginning", "to train after"):
        ended = subprocess.run(
            [sys.executable, "-W", "ignore", script], capture_output=True, text=True, check=False, timeout=100,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert ended.returncode == 0, ended.stderr
        assert told in ended.stderr
        assert re.fullmatch(r"loss \d\.\d\d, views found \d+%\n", ended.stdout)
