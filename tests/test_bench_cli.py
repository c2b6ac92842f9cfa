"""The options of `lightly-aug bench --data`: what each of them changes, and what is refused."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lightly_aug.cli import main
from lightly_aug.methods import METHODS

pytestmark = pytest.mark.usefixtures("one_thread")

SIDE, FILES = 128, 6
QUICK = {"--size": 16, "--batch-size": 2, "--workers": 0, "--batches": 1, "--device": "cpu"}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of JPEG files of 128×150 pixels."""
    folder = tmp_path_factory.mktemp("bench") / "photos"
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (FILES, SIDE, 150, 3), np.uint8)
    for number, pixels in enumerate(noise):
        Image.fromarray(pixels).save(folder / f"{number}.jpg")
    return folder


class Bench:
    """Runs `lightly-aug bench` in this process, with quick options, and returns its exit code, output and errors."""

    def __init__(self, photos: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.photos, self.out, self.capsys = photos, out, capsys

    def run(self, **options: object) -> tuple[int, str, str]:
        """Run it with options in place of the quick ones, such as `batch_size=3`; None leaves one out."""
        asked = {f"--{name.replace('_', '-')}": value for name, value in options.items()}
        words = {"--data": self.photos, "--out": self.out, **QUICK, **asked}
        self.capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(["bench", *(str(word) for pair in words.items() if pair[1] is not None for word in pair)])
        assert isinstance(ended.value.code, int)
        return ended.value.code, *self.capsys.readouterr()

    def times(self, **options: object) -> dict[str, Any]:
        """Return the times that a run writes."""
        code, _, errors = self.run(**options)
        assert code == 0, errors
        times: dict[str, Any] = json.loads(self.out.with_suffix(".json").read_text())["times"]
        return times

    def error(self, **options: object) -> str:
        """Return what a run that is refused says, without the frames and line breaks of typer."""
        code, output, errors = self.run(**options)
        assert (code, output) == (2, "")
        assert "Traceback" not in errors
        assert not self.out.with_suffix(".json").exists()
        return " ".join(errors.replace("│", "").split())


@pytest.fixture
def bench(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Bench:
    return Bench(photos, tmp_path / "new" / "times", capsys)


def test_without_options_two_workers_make_the_views_of_simclr(bench: Bench) -> None:
    times = bench.times(**dict.fromkeys(["size", "batch_size", "workers", "batches", "device"]))
    found = [times[name] for name in ("view_side", "batch_size", "workers", "batches", "persistent_workers", "epoch")]
    assert found == [224, FILES, 2, 16, True, 1]  # batches of 32 images would be more than there are
    assert (times["device"] == "cpu") != torch.accelerator.is_available()
    assert times["image_side"] == SIDE
    assert bench.out.with_suffix(".md").read_text().startswith(f"# SimCLR v1, {FILES} images of photos\n")


def test_it_prints_the_table_and_the_files_that_it_writes(bench: Bench) -> None:
    code, output, errors = bench.run()
    assert (code, errors) == (0, "")
    assert "End to end:" in output
    files = [bench.out.with_suffix(suffix) for suffix in (".md", ".json", ".png")]
    assert "".join(output.split()).endswith(",".join(map(str, files)))
    assert all(file.stat().st_size > 100 for file in files)


@pytest.mark.parametrize("method", METHODS)
def test_the_views_are_those_of_any_method(bench: Bench, method: str) -> None:
    views = METHODS[method].views(40, seed=0)([Image.new("RGB", (60, 60))] * 2)
    assert bench.times(method=method, size=40)["view_side"] == max(view.shape[-1] for view in views.to("cpu"))
    assert bench.out.with_suffix(".md").read_text().startswith(f"# {METHODS[method].title}, ")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"size": 24}, {"view_side": 24}),
        ({"batch_size": 3}, {"batch_size": 3, "epoch": 2}),
        ({"batch_size": 4}, {"batch_size": 4, "epoch": 1}),  # the last batch, of two images, is dropped
        ({"batch_size": 50}, {"batch_size": FILES, "epoch": 1}),
        ({"workers": 0}, {"workers": 0, "persistent_workers": False}),
        ({"workers": 1}, {"workers": 1, "persistent_workers": True}),
        ({"batches": 3}, {"batches": 3}),
        ({}, {"image_side": 32}),  # twice the view
        ({"decode": 60}, {"image_side": 64}),
        ({"decode": 0}, {"image_side": SIDE}),
        ({"render": "late"}, {"render": "late"}),
        ({"render": "worker"}, {"render": "worker"}),
        ({"render": "auto"}, {"render": "late" if torch.accelerator.is_available() else "worker"}),
        ({"device": "cpu"}, {"device": "cpu", "pin_memory": False}),
        ({"max_pixels": SIDE * 150}, {"samples": "path"}),
    ],
)
def test_each_option_has_its_effect(bench: Bench, options: dict[str, object], expected: dict[str, object]) -> None:
    times = bench.times(**options)
    assert {name: times[name] for name in expected} == expected


def test_images_with_more_pixels_than_asked_for_are_refused(bench: Bench) -> None:
    says = bench.error(max_pixels=SIDE * 150 - 1)
    assert ".jpg" in says
    assert "150x128 are 19,200 pixels, max_pixels allows 19,199" in says


def test_zero_is_no_bound_of_pixels(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "huge").mkdir()
    Image.new("L", (9460, 9460)).save(tmp_path / "huge" / "0.jpg")
    huge = {"data": tmp_path / "huge", "batch_size": 1}
    assert "89,491,600 pixels, max_pixels allows 89,478,485" in bench.error(**huge)
    assert bench.times(max_pixels=0, **huge)["image_side"] == 33  # by 8 while JPEG is decoded, then by 36


@pytest.fixture
def damaged(photos: Path, tmp_path: Path) -> Path:
    """The photographs, and as many files that are none."""
    folder = tmp_path / "damaged"
    folder.mkdir()
    for number, file in enumerate(sorted(photos.iterdir())):
        (folder / file.name).write_bytes(file.read_bytes())
        (folder / f"broken{number}.jpg").write_bytes(b"no image")
    return folder


@pytest.mark.parametrize("options", [{}, {"on_error": "raise"}])
def test_an_image_that_cannot_be_read_is_named(bench: Bench, damaged: Path, options: dict[str, object]) -> None:
    assert "broken" in bench.error(data=damaged, batch_size=2 * FILES, **options)


@pytest.mark.filterwarnings("default::UserWarning")
@pytest.mark.parametrize(("on_error", "images"), [("skip", FILES), ("replace", 2 * FILES)])
def test_images_that_cannot_be_read_are_left_out_or_replaced(
    bench: Bench, damaged: Path, on_error: str, images: int
) -> None:
    code, _, errors = bench.run(data=damaged, batch_size=2 * FILES, on_error=on_error)
    assert code == 0
    assert re.search(r"^Warning: .*broken", errors)
    assert json.loads(bench.out.with_suffix(".json").read_text())["times"]["batch_size"] == images


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"method": "simclr2"}, "Error: --method must be one of 'simclr', 'simclr-v2', "),
        ({"render": "gpu"}, "Error: Invalid value for '--render': 'gpu' is not one of 'auto', 'late', 'worker'"),
        (
            {"on_error": "stop"},
            "Error: Invalid value for '--on-error': 'stop' is not one of 'raise', 'skip', 'replace'",
        ),
        ({"device": "gpu"}, "Error: --device must be a device of this machine, got 'gpu'"),
        ({"data": "nowhere"}, "no folder nowhere"),
        ({"rounds": 2}, "Error: --rounds has no effect with --data"),
        ({"seconds": 0}, "Error: --seconds has no effect with --data"),
    ],
)
def test_what_cannot_be_measured_is_refused(bench: Bench, options: dict[str, object], says: str) -> None:
    assert says in bench.error(**options)


@pytest.mark.parametrize(
    ("option", "value"),
    [("size", 7), ("batch_size", 0), ("workers", -1), ("decode", -1), ("max_pixels", -1), ("batches", 0)],
)
def test_numbers_below_the_least_are_refused(bench: Bench, option: str, value: int) -> None:
    says = bench.error(**{option: value})
    assert f"--{option.replace('_', '-')}" in says
    assert re.search(rf"\b{value + 1}\b", says)


def test_a_folder_without_images_is_refused(bench: Bench, tmp_path: Path) -> None:
    assert f"{tmp_path} must hold images" in bench.error(data=tmp_path)


def test_a_place_that_cannot_be_written_is_refused_before_measuring(bench: Bench, damaged: Path) -> None:
    """The damaged images would be met first."""
    bench.out.with_suffix(".md").mkdir(parents=True)
    assert "Error: --out must be a file that can be written" in bench.error(data=damaged)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("size", 32),
        ("workers", 0),
        ("decode", 0),
        ("max_pixels", 0),
        ("on_error", "raise"),
        ("render", "auto"),
        ("device", "cpu"),
        ("batches", 1),
    ],
)
def test_options_of_a_loader_are_refused_without_one(bench: Bench, option: str, value: object) -> None:
    alone = {"data": None, **dict.fromkeys(["size", "workers", "batches", "device"])}
    flag = f"--{option.replace('_', '-')}"
    assert f"Error: {flag} has no effect without --data" in bench.error(**alone | {option: value})
