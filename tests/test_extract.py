"""Files of features, and the extraction into them: in parts, stopped and continued."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import IterableDataset, TensorDataset, default_collate

from lightly_aug import ImageCollateFunction, Indexed, MultiViewCollateFunction, Resize, View
from lightly_aug.evaluate import extract_features, features, read_features, write_features

FORMATS = (".npz", ".csv", ".parquet", ".safetensors")
VALUES = torch.tensor([[0.1, 1 / 3, 16777217.0], [-1e-30, 3.4e38, 1.17549435e-38], [float("nan"), float("inf"), -0.0]])
NAMES, LABELS = ["a, b.jpg", "ü/“c”\n.jpg", ""], ["x", "1", "ü\r"]
COUNT, SIDE = 11, 6
PHOTOS = [torch.rand(3, 9 + i, 8, generator=torch.Generator().manual_seed(i)) for i in range(7)]


class Network(nn.Module):
    """A network with weights and a mode that shows in its features."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        assert not self.norm.training
        assert not torch.is_grad_enabled()
        self.calls += 1
        pooled: Tensor = self.norm(self.conv(x)).mean((2, 3), keepdim=True)
        return pooled

    def embed(self, x: Tensor) -> Tensor:
        return 2 * self.forward(x)


def still() -> MultiViewCollateFunction:
    return MultiViewCollateFunction([View(Resize((SIDE, SIDE)))], seed=0, render="worker")


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Image files, each with another colour."""
    paths = [tmp_path / "images" / f"{i}.png" for i in range(COUNT)]
    paths[0].parent.mkdir()
    for i, path in enumerate(paths):
        Image.new("RGB", (8 + i, 9), (20 * i, 255 - 20 * i, 7 * i)).save(path)
    return paths


def embed_at_once(network: Network, images: Any, collate: Any = None) -> Tensor:
    """Return the features of all images, in one batch and without a file."""
    return features(network, [(collate or still())([images[i] for i in range(len(images))])])[0]


# --- files ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [*FORMATS, ".NPZ"])
@pytest.mark.parametrize("labels", [LABELS, None])
def test_every_format_reads_what_was_written(tmp_path: Path, suffix: str, labels: list[str] | None) -> None:
    file = tmp_path / f"features{suffix}"
    write_features(file, VALUES, NAMES, labels)
    found = read_features(file)
    assert (found.names, found.labels) == (NAMES, labels)
    assert found.features.dtype == torch.float32
    assert found.features.numpy().tobytes() == VALUES.numpy().tobytes() or suffix == ".csv"  # which has one nan
    torch.testing.assert_close(found.features, VALUES, rtol=0, atol=0, equal_nan=True)
    write_features(file, torch.zeros(0, 2), [], None if labels is None else [])
    assert read_features(file).features.shape == (0, 2)


def test_safetensors_are_read_by_their_package(tmp_path: Path) -> None:
    write_features(tmp_path / "features.safetensors", VALUES, NAMES, LABELS)
    tensors = safetensors.numpy.load_file(tmp_path / "features.safetensors")
    assert tensors["features"].tobytes() == VALUES.numpy().tobytes()
    assert [json.loads(tensors[name].tobytes().decode()) for name in ("name", "label")] == [NAMES, LABELS]


@pytest.mark.parametrize("suffix", FORMATS)
def test_other_files_are_refused(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"other{suffix}"
    with pytest.raises(FileNotFoundError, match="read_features: file must be a file of write_features, no "):
        read_features(file)
    file.write_bytes(b"city,people\nBern,140000\n")
    with pytest.raises(ValueError, match="must be a file of write_features, got one that fails: "):
        read_features(file)
    with pytest.raises(ValueError, match=r"read_features: suffix must be one of '\.npz', .*, got '\.json'"):
        read_features(tmp_path / "other.json")


# --- extraction -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize(("part", "workers"), [(1, 0), (4, 2), (4096, 0)])
def test_the_file_holds_the_features_of_all_images(
    tmp_path: Path, files: list[Path], suffix: str, part: int, workers: int
) -> None:
    network, out = Network(), tmp_path / "new" / f"features{suffix}"
    done: list[int] = []
    state = torch.random.get_rng_state()
    shape = extract_features(
        network, files, still(), out, batch_size=3, workers=workers, part=part, step=done.append, labels=["x"] * COUNT
    )
    assert torch.equal(torch.random.get_rng_state(), state)
    found = read_features(out)
    assert shape == found.features.shape == (COUNT, 4)
    torch.testing.assert_close(found.features, embed_at_once(network, files))
    assert found.names == [file.as_posix() for file in files]
    assert found.labels == ["x"] * COUNT
    assert (sum(done), network.training) == (COUNT, True)
    assert [path.name for path in out.parent.iterdir()] == [out.name]


def test_names_and_labels_of_a_dataset(tmp_path: Path) -> None:
    photos, out = [(photo, 7 - i) for i, photo in enumerate(PHOTOS)], tmp_path / "features.npz"
    extract_features(Network().embed, photos, still(), out, batch_size=2, part=2)
    found = read_features(out)
    torch.testing.assert_close(found.features, 2 * embed_at_once(Network(), PHOTOS))
    assert found.names == [str(i) for i in range(len(photos))]
    assert found.labels == [str(label) for _, label in photos]
    names = [f"photo {i}" for i in range(len(photos))]
    extract_features(Network(), photos, still(), out, names=names, labels=names[::-1])
    assert read_features(out)[1:] == (names, names[::-1])


def test_other_collate_functions(tmp_path: Path) -> None:
    images, out = torch.rand(5, 3, 6, 6), tmp_path / "features.npz"
    extract_features(Network(), TensorDataset(images), default_collate, out, batch_size=2)
    torch.testing.assert_close(read_features(out).features, features(Network(), [images])[0])


@pytest.mark.parametrize("wrap", [list, Indexed])
def test_views_do_not_depend_on_parts_and_batches(tmp_path: Path, wrap: Callable[[Any], Any]) -> None:
    collate = ImageCollateFunction(SIDE, seed=3, render="worker")
    once = embed_at_once(Network(), Indexed(PHOTOS), ImageCollateFunction(SIDE, seed=3, render="worker"))
    for part, batch in ((1, 1), (3, 2)):  # the second time the collate function is in its second epoch
        extract_features(Network(), wrap(PHOTOS), collate, tmp_path / "x.npz", part=part, batch_size=batch)
        torch.testing.assert_close(read_features(tmp_path / "x.npz").features, once)


def stop_after(count: int) -> Callable[[int], None]:
    left = [count]

    def step(images: int) -> None:
        left[0] -= images
        if left[0] <= 0:
            raise KeyboardInterrupt

    return step


def test_a_run_that_was_stopped_goes_on(tmp_path: Path, files: list[Path]) -> None:
    out = tmp_path / "features.npz"
    out.write_bytes(b"before")
    with pytest.raises(KeyboardInterrupt):
        extract_features(Network(), files, still(), out, batch_size=2, part=3, step=stop_after(7))
    assert out.read_bytes() == b"before"
    parts = tmp_path / "features.npz.parts"
    assert sorted(path.name for path in parts.iterdir()) == ["000000.npz", "000001.npz", "parts.json"]
    network, done = Network(), list[int]()
    extract_features(network, files, still(), out, batch_size=5, part=100, step=done.append)  # parts stay parts of 3
    assert done == [6, 3, 2]
    assert network.calls == 2
    torch.testing.assert_close(read_features(out).features, embed_at_once(network, files))
    assert not parts.exists()


CHANGES: dict[str, Callable[[list[Path]], tuple[Any, Any, Any, dict[str, Any]]]] = {
    "weights": lambda files: (Network(1), files, still(), {}),
    "settings": lambda files: (Network().embed, files, still(), {}),
    "settings ": lambda files: (Network(), files, MultiViewCollateFunction([View(Resize((7, 7)))], seed=0), {}),
    "images": lambda files: (Network(), files[::-1], still(), {}),
    "images ": lambda files: (Network(), files, still(), {"names": ["x"] * COUNT}),
    "images  ": lambda files: (Network(), files, still(), {"labels": ["x"] * COUNT}),
    "weights and settings": lambda files: (nn.Sequential(Network(1)), files, still(), {}),
}


@pytest.mark.parametrize("others", CHANGES)
def test_parts_of_others_are_refused(tmp_path: Path, files: list[Path], others: str) -> None:
    out = tmp_path / "features.npz"
    with pytest.raises(KeyboardInterrupt):
        extract_features(Network(), files, still(), out, batch_size=2, part=2, step=stop_after(5))
    network, images, collate, columns = CHANGES[others](files)
    with pytest.raises(ValueError, match=f"got parts of other {others.strip()}: delete the folder to start over"):
        extract_features(network, images, collate, out, **columns)
    Image.new("RGB", (99, 99)).save(files[3])
    with pytest.raises(ValueError, match="got parts of other images: delete the folder"):
        extract_features(Network(), files, still(), out)


def test_a_folder_of_another_kind_stays(tmp_path: Path) -> None:
    (tmp_path / "x.npz.parts").mkdir()
    with pytest.raises(ValueError, match=r"x\.npz\.parts must not exist, or hold parts\.json"):
        extract_features(Network(), PHOTOS, still(), tmp_path / "x.npz")


def test_a_broken_image_names_itself(tmp_path: Path, files: list[Path]) -> None:
    files[7].write_bytes(b"no image")
    for workers in (0, 1):
        with pytest.raises(Exception, match=r"index 7\).*7\.png"):
            extract_features(Network(), files, still(), tmp_path / "x.csv", batch_size=2, part=2, workers=workers)
    assert not (tmp_path / "x.csv").exists()


class Numbers(IterableDataset[int]):
    def __iter__(self) -> Any:
        return iter(range(3))


def test_extraction_errors(tmp_path: Path) -> None:
    def extract(embed: Any = None, images: Any = PHOTOS, **options: Any) -> None:
        extract_features(embed or Network(), images, options.pop("collate", still()), tmp_path / "x.npz", **options)

    with pytest.raises(TypeError, match=r"embed must be a module or a method of one, .* got function"):
        extract(lambda images: images)
    with pytest.raises(TypeError, match="images must be a list or dataset with a length and indices, got Numbers"):
        extract(images=Numbers())
    with pytest.raises(ValueError, match="images must hold at least one image, got none"):
        extract(images=[])
    for name in ("names", "labels"):
        with pytest.raises(ValueError, match=f"{name} must be one for each of {len(PHOTOS)} images, got 1"):
            extract(**{name: ["x"]})
    with pytest.raises(ValueError, match="batch_size must be an integer >= 1, got 0"):
        extract(batch_size=0)
    with pytest.raises(ValueError, match=r"extract_features: suffix must be one of"):
        extract_features(Network(), PHOTOS, still(), tmp_path / "x.txt")
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match=r"embed must return a row for each of 2 images, got 6"):
        extract(nn.Flatten(0, 1), batch_size=2)
    labelled = [(photo, torch.tensor([0, 1])) for photo in PHOTOS]
    with pytest.raises(ValueError, match=r"labels of 2 images must be \(2,\), got \(2, 2\): give them as text"):
        extract(images=labelled, batch_size=2, collate=still())


def test_parts_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    out = tmp_path / "x.npz"
    with pytest.raises(KeyboardInterrupt):
        extract_features(Network(), PHOTOS, still(), out, batch_size=1, part=1, step=stop_after(2))
    np.savez(tmp_path / "x.npz.parts" / "000000.npz", features=np.zeros((1, 5), dtype=np.float32))
    with pytest.raises(ValueError, match=r"parts must have 1 rows of one width, got .*\(1, 5\)"):
        extract_features(Network(), PHOTOS, still(), out)
