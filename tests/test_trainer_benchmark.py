"""The benchmark of the trainer: its arithmetic, and a small run of both loops."""

import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import trainer
from benchmarks.trainer import Case, Cost, describe, measure_cost, measure_profile
from lightly_aug.train import PretrainModule

TINY = Case("moco", "small", 16, batch=4)


def test_costs_by_hand() -> None:
    bare, ours = [(1.0, 0.5), (2.0, 0.5), (9.0, 0.5)], [(1.5, 0.51), (2.0, 0.52), (9.9, 0.6)]
    cost = Cost(bare, ours, checkpoint=0.25, backbone=0.125, megabytes=8)
    assert (cost.seconds("bare", 0), cost.seconds("trainer", 1)) == (2.0, 0.52)
    assert cost.ratio(0) == pytest.approx(1.1)  # of 1.5, 1 and 1.1
    assert cost.ratio(1) == pytest.approx(1.04)
    assert cost.added == pytest.approx(0.02)
    assert cost.total == pytest.approx(1.63 / 1.5)
    text = "\n".join(describe({TINY: cost}, {TINY: {"log the loss": 0.5, "RunBar": 0.75}}))
    name = "MoCo v2, the small network, 4 images at 16 pixels"
    assert f"| {name} | 2000.0 | 2000.0 | 1.100 | 500.0 | 520.0 | 1.040 | 20.0 | 1.087 |" in text
    assert f"| {name} | 8.0 | 0.250 | 0.125 |" in text
    assert "| RunBar | 0.750 |\n| log the loss | 0.500 |" in text


def test_both_loops_take_the_same_steps_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[str] = []
    bare, ours = trainer._bare_loop, PretrainModule.training_step

    def note(name: str, function: Any) -> Any:
        def run(*args: Any) -> Any:
            turns.append(name)
            return function(*args)

        return run

    monkeypatch.setattr(trainer, "_bare_loop", lambda *args: note("bare", bare(*args)))
    monkeypatch.setattr(PretrainModule, "training_step", note("ours", ours))
    threads = torch.get_num_threads()
    cost = measure_cost(TINY, steps=6, block=2)
    assert turns == (["ours"] * 2 + ["bare"] * 2) * 3
    assert len(cost.bare) == len(cost.trainer) == 2  # the first block warms up
    assert all(math.isfinite(x) and x > 0 for block in cost.bare + cost.trainer for x in block)
    assert min(cost.checkpoint, cost.backbone, cost.megabytes) > 0
    assert torch.get_num_threads() == threads


def test_every_part_of_the_trainer_is_found_in_the_profile() -> None:
    assert set(measure_profile(TINY, steps=4)) == {name for name, _ in trainer._PARTS}


def test_the_command_writes_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "CASES", [TINY])
    monkeypatch.setattr(sys, "argv", ["trainer", "--steps", "3", "--block", "1", "--out", str(tmp_path)])
    trainer.main()
    text = (tmp_path / "trainer.md").read_text()
    assert text.startswith("# The cost of the trainer\n")
    assert "`python -m benchmarks.trainer --steps 3 --block 1`" in text
    assert "| MoCo v2, the small network, 4 images at 16 pixels | " in text
    monkeypatch.setattr(sys, "argv", ["trainer", "--steps", "2", "--block", "1"])
    with pytest.raises(SystemExit):
        trainer.main()
