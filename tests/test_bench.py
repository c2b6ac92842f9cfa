"""The benchmarks: their arithmetic, on toys and on small batches."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks import cpu as cpu_benchmark
from benchmarks.colour import STRENGTHS, measure_errors
from benchmarks.gpu import RIVALS, Cost, check_views, costs_table, floor_bytes
from benchmarks.gpu import main as measure_gpu
from benchmarks.programs import Program, Programs
from lightly_aug.bench import (
    WORKLOADS,
    Contender,
    Results,
    contenders,
    describe_loading,
    measure,
    time_loading,
    write_report,
)
from lightly_aug.bench.tables import _command
from lightly_aug.photographs import photographs
from lightly_aug.status import show_wait


class Clock:
    """A clock that only `work` moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def work(self, seconds: float) -> Callable[[], None]:
        def run() -> None:
            self.now += seconds

        return run


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("lightly_aug.bench.timing.time", made)
    return made


def test_rates_and_ratios_of_toys(clock: Clock) -> None:
    runs: list[str] = []

    def record(name: str, seconds: float) -> Contender:
        work = clock.work(seconds)

        def run() -> None:
            runs.append(name)
            work()

        return Contender(name, run, images=8)

    results = measure([record("ours", 0.25), record("slow", 1.0), record("fast", 0.125)], "toys", rounds=3, seconds=0.5)
    assert results.rates == {"ours": [32.0] * 3, "slow": [8.0] * 3, "fast": [64.0] * 3}
    assert results.ratio("slow") == 4
    assert results.ratio("fast") == 0.5
    # a warm-up of each, then rounds in turn: half a second is two, one and four runs
    assert runs == ["ours", "slow", "fast"] + (["ours"] * 2 + ["slow"] + ["fast"] * 4) * 3


def test_the_ratio_is_the_median_of_the_ratios_of_the_rounds() -> None:
    results = Results("", "ours", {"ours": [10, 30, 20], "theirs": [10, 10, 40]})
    assert results.ratio("theirs") == 1  # of 1, 3 and .5; that of the medians is 2


def test_a_rival_that_fails_is_left_out_with_the_reason_but_ours_must_not_fail(clock: Clock) -> None:
    def broken() -> None:
        raise RuntimeError("of another version\nand so on")

    ours = Contender("ours", clock.work(1), 1)
    results = measure([ours, Contender("theirs", broken, 1)], rounds=1, seconds=0)
    assert list(results.rates) == ["ours"]
    assert results.skipped == {"theirs": "RuntimeError: of another version"}
    with pytest.raises(RuntimeError, match="another version"):
        measure([Contender("ours", broken, 1), ours], rounds=1, seconds=0)


@pytest.mark.parametrize("terminal", [True, False])
def test_who_waits_at_a_terminal_sees_progress_on_stderr(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], terminal: bool
) -> None:
    monkeypatch.setenv("FORCE_COLOR" if terminal else "NO_COLOR", "1")  # rich takes the first for a terminal
    measure([Contender("ours", clock.work(1), 10)], "toys", rounds=1, seconds=1)
    out, err = capsys.readouterr()
    assert not out
    assert ("toys" in err) == terminal


def test_progress_needs_no_rich(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightly_aug.status.find_spec", lambda name: None)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setitem(sys.modules, "rich", None)
    measure([Contender("ours", clock.work(1), 10)], rounds=1, seconds=1)
    with show_wait("waiting"):
        pass


def test_the_report_is_written_and_says_where_ours_loses(tmp_path: Path) -> None:
    rates = {"ours": [100.0, 110.0], "ours, too": [150.0, 160.0], "fast": [200.0, 220.0], "slow": [10.0, 11.0]}
    tables = [
        Results("main", "ours", rates, {"fast": "approximate"}, {"absent": "not installed"}),
        Results("growth", "ours", {"ours": [4.0], "fast": [2.0]}, axis="16"),
        Results("growth", "ours", {"ours": [4.0], "fast": [8.0]}, axis="32"),
    ]
    text = write_report(tmp_path / "new" / "toys", "Toys", tables, texts=["## More"], data={"more": 1})
    assert (tmp_path / "new" / "toys.md").read_text() == text
    rows = [line for line in text.splitlines() if line.startswith("|") and "images/s" not in line]
    assert rows[1] == "| fast | 210 [200–220] | 0.50 | approximate |"  # the fastest first
    assert rows[3] == "| **ours** | 105 [100–110] |  |  |"
    assert "Not measured: absent (not installed)." in text
    assert "| 16 | 4 [4–4] | 2 [2–2] | 2.00 |" in text
    assert "## More" in text
    losses = text.split("## Where ours is slower")[1]
    assert "main: fast is 2.00 times as fast as ours" in losses
    assert "growth (32): fast is 2.00 times" in losses
    assert "slow" not in losses
    assert "ours, too" not in losses
    assert "growth (16)" not in losses
    record = json.loads((tmp_path / "new" / "toys.json").read_text())
    assert record["tables"][0]["rates"] == rates
    assert record["environment"]["packages"]["torch"] == torch.__version__.split("+")[0]
    assert record["environment"]["cores"] > 0
    assert record["data"] == {"more": 1}


def test_cpu_time_has_columns_of_its_own_and_decoding_alone_is_no_rival(tmp_path: Path) -> None:
    rates = {"ours": [100.0, 110.0], "slow": [50.0, 55.0], "decoder": [400.0, 440.0]}
    cpu = {"ours": [10.0, 20.0], "slow": [40.0, 20.0], "decoder": [5.0, 5.0]}
    results = Results("main", "ours", rates, cpu=cpu, floors=("decoder",))
    assert results.cpu_ratio("slow") == 2.5  # of 4 and 1
    text = write_report(tmp_path / "toys", "Toys", [results])
    assert "| **ours** | 105 [100–110] |  | 15 [10–20] |  |  |" in text
    assert "| slow | 52 [50–55] | 2.00 | 30 [20–40] | 2.50 |  |" in text
    assert "Nothing that was measured here is faster" in text
    assert json.loads((tmp_path / "toys.json").read_text())["tables"][0]["cpu"] == cpu


def test_programs_are_measured_in_processes_of_their_own(tmp_path: Path) -> None:
    """With this checkout as the other one; what fails is left out, and ours must not fail."""
    photographs(1, 64)[0].save(tmp_path / "0.jpg")
    task = {"work": "batch", "library": "lightly_aug", "folder": str(tmp_path), "method": "simclr", "batch": 1}
    ours = Program("ours", "ours", task | {"source": "arrays"})
    loader = {"work": "loader", "workers": 1, "batch": 1, "bits": 16}
    others = [
        Program("before", "before", task | {"source": "files"}),
        Program("worker", "ours", task | loader),
        Program("decoder", "ours", {"work": "decode", "library": "Pillow", "folder": str(tmp_path)}),
        Program("broken", "ours", task | {"source": "arrays", "strenght": 2}),
    ]
    with Programs(Path(__file__).parents[1]) as programs:
        results = programs.measure([ours, *others], "toys", rounds=2, seconds=0)
        processes = list(programs._processes.values())
        with pytest.raises(RuntimeError, match=r"ours: TypeError: .*strenght is not an argument, write strength"):
            programs.measure([ours._replace(task=others[-1].task)], "toys", rounds=1, seconds=0)
    assert len(processes) == 2
    assert [process.poll() for process in processes] == [0, 0]
    assert list(results.rates) == ["ours", "before", "worker", "decoder"]
    assert all(len(values) == 2 and min(values) > 0 for values in results.rates.values())
    if results.cpu:  # only Linux tells it for other processes
        for name, values in results.cpu.items():
            assert 0 < values[0] < 2.2e6 / results.rates[name][0]  # on two cores at most
    assert "strenght" in results.skipped["broken"]


def test_the_other_checkout_is_a_folder_of_this_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["cpu", "--before", str(tmp_path)])
    with pytest.raises(SystemExit):
        cpu_benchmark.main()
    assert "--before must be a folder with lightly_aug in it" in capsys.readouterr().err


def test_peers_that_are_not_installed_are_skipped_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    photos = photographs(1, 64)
    monkeypatch.setattr("lightly_aug.bench.peers.import_module", absent)
    found, skipped = contenders(photos)
    assert skipped["lightly"] == "No module named 'lightly.transforms.simclr_transform'"
    assert {"albumentations", "dali", "torchtransform"} < set(skipped)
    assert found[0].name == "lightly_aug"
    assert {"kornia", "torchvision v2"} < {entrant.name for entrant in found}


@pytest.mark.parametrize("method", WORKLOADS)
def test_everyone_does_the_same_work(method: str) -> None:
    found, _ = contenders(photographs(2, 64), WORKLOADS[method])
    for entrant in found:
        made = entrant.run()
        assert isinstance(made, list)
        assert [tuple(one.shape) for one in made] == [(2, 3, spec.size, spec.size) for spec in WORKLOADS[method]]
        for one in made:
            assert isinstance(one, Tensor)
            assert one.dtype == torch.float32
            assert one.is_contiguous()
            assert -3 < one.min() < one.max() < 3  # normalised


def test_loading_takes_time_and_is_described() -> None:
    start = time.perf_counter()
    took = time_loading()
    if took:
        assert 0 < took["load_s"] < time.perf_counter() - start
        assert "loaded in" in describe_loading(took)
    assert "compiled in 2.5 s" in describe_loading({"load_s": 1, "compile_s": 2.5})
    assert "no CPU engine" in describe_loading({})


def test_colours_are_ours_to_a_fifth_of_a_level_and_contrast_about_a_half_is_not() -> None:
    found = measure_errors(photographs(3, 32), STRENGTHS["SimCLR (.8, .8, .8, .2)"], 24)
    assert {len(values) for values in found.values()} == {24}
    for name, values in found.items():
        if name.startswith(("lightly_aug", "kornia")):
            assert fmean(values) < 0.2
    assert fmean(found["contrast about 0.5 (DALI, triton-augment)"]) > 3
    assert fmean(found["one clamp, at the end"]) > 0.2


def test_the_least_bytes_that_a_gpu_has_to_move() -> None:
    simclr = floor_bytes(256, 256, WORKLOADS["simclr"], 2)
    assert simclr == 256 * 3 * 65536 + 2 * 256 * 3 * 50176 * 2  # 50.3 MB once, two views of 77.1 MB
    assert round(simclr / 1e5) == 2045
    results = Results("toys", "ours", {"ours": [1000.0]})
    table = costs_table(results, {"ours": Cost(3, 0.5, None, False, 0.25)}, 1, 250_000, 1e9)
    assert "0.2 MB, 250 µs" in table
    assert table.splitlines()[-1] == "| ours | 1.000 | 0.500 | 0.250 | 25.0% | 3 | ? | no |"


def test_the_views_of_every_contender_are_checked() -> None:
    check_views([torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 8, 8)], 2, [4, 8])
    with pytest.raises(ValueError, match=r"views of \[\(2, 3, 4, 4\)\] were expected, got \[\(2, 3, 5, 5\)\]"):
        check_views([torch.zeros(2, 3, 5, 5)], 2, [4])
    with pytest.raises(ValueError, match="NaN or infinity"):
        check_views([torch.full((2, 3, 4, 4), torch.nan)], 2, [4])


def test_the_gpu_benchmark_refuses_unknown_rivals(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["gpu", "--only", "kornia, dalli"])
    with pytest.raises(SystemExit):
        measure_gpu()
    assert f"--only must be some of {', '.join(RIVALS)}, got dalli" in capsys.readouterr().err


def test_the_gpu_benchmark_reports_after_each_workload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On toys: a run that fails in the second workload leaves the report of the first."""
    asked: list[list[str]] = []

    def prepare(images: int, specs: object, only: list[str]) -> tuple[list[Contender], dict[str, str]]:
        asked.append(only)
        if len(asked) == 2:
            raise RuntimeError("cut off")
        return [Contender("lightly_aug", lambda: None, images)], {}

    for name, toy in {
        "measure_copy_rate": lambda: 1e12,
        "prepare_contenders": prepare,
        "measure_in_turns": lambda entrants, title, *_: Results(title, "lightly_aug", {"lightly_aug": [1000.0]}),
        "measure_cost": lambda *_, **__: Cost(3, 0.5, None, False),
        "measure_packing": lambda *_: 0.001,
    }.items():
        monkeypatch.setattr(f"benchmarks.gpu.{name}", toy)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Toy")
    monkeypatch.setattr("sys.argv", ["gpu", "--only", "kornia,dali", "--out", str(tmp_path)])
    with pytest.raises(RuntimeError, match="cut off"):
        measure_gpu()
    assert asked == [["kornia", "dali"]] * 2
    text = (tmp_path / "gpu.md").read_text()
    assert "simclr, 256 images" in text
    assert "dino" not in text.replace("nvidia-dali", "")
    assert json.loads((tmp_path / "gpu.json").read_text())["data"]["simclr"]["collate_s"] == 0.001


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (["/usr/bin/python3", "/home/me/bin/lightly-aug", "bench", "--data", "a/b"], "lightly-aug bench --data a/b"),
        (["/usr/bin/python3", "-m", "benchmarks.cpu", "--quick"], "python3 -m benchmarks.cpu --quick"),
        (["python3", "/home/me/cpu.py"], "python3 cpu.py"),
        (["python3"], "python3"),
    ],
)
def test_the_command_of_a_report_can_be_typed(words: list[str], command: str) -> None:
    assert _command(words) == command
