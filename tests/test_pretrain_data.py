"""`pretrain` on folders, datasets of torchvision and Hugging Face, WebDataset's shards, and other samples."""

import gc
import io
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
import webdataset as wds
from helpers.methods import _images, tiny
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import IterableDataset, Subset, TensorDataset, random_split
from torchvision.datasets import FakeData, ImageFolder

from lightly_aug import Indexed, Normalize
from lightly_aug.batch import views_of
from lightly_aug.photographs import folder_images, split_by_class
from lightly_aug.train.data import (
    Source,
    check_labels,
    evaluation_loaders,
    find_source,
    pair_batches,
    training_loader,
)
from lightly_aug.train.run import Pretrained, pretrain

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    *(
        pytest.mark.filterwarnings(f"ignore:{text}")
        for text in (".*(knn|pair) accuracy", ".* wants batches of", ".*set_vital")  # so short a run
    ),
]
PHOTOS: list[Any] = [image for image, _ in _images()]


def train(data: Any, out: Path, **options: Any) -> Pretrained:
    """Train for one epoch."""
    chosen: dict[str, Any] = {
        "method": "simclr", "backbone": tiny(), "size": 16, "batch_size": 8, "workers": 0, "accelerator": "cpu",
        "epochs": 1,
    }  # fmt: skip
    result = pretrain(data, out=out, **chosen | options)
    assert result.metrics["loss"] == pytest.approx(result.metrics["loss"], abs=1e-6)  # not nan
    return result


def write_images(folder: Path, *names: str) -> Path:
    """Write a photograph to each of some files."""
    for photo, name in zip(PHOTOS, names, strict=False):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        photo.save(file)
    return folder


# --- folders ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "labels", "classes"),
    [
        (["b/1.png", "a/2.png", "a/deep/3.png", "b/deep/er/4.png"], [0, 0, 1, 1], ["a", "b"]),
        (["2.png", "1.png"], [], []),
        (["only/1.png", "only/deep/2.png"], [], []),  # one class is none
        (["a/1.png", "b/2.png", "3.png"], [], []),  # an image outside of the class folders
    ],
    ids=["nested", "flat", "one", "outside"],
)
def test_the_folders_in_a_folder_are_classes(
    tmp_path: Path, names: list[str], labels: list[int], classes: list[str]
) -> None:
    source = find_source(write_images(tmp_path, *names))
    assert (list(source.labels), list(source.classes), source.count) == (labels, classes, len(names))
    files = [sample[0] if labels else sample for sample in source.data]
    assert sorted(str(file.relative_to(tmp_path)) for file in files) == sorted(names)
    for file, label in source.data if labels else ():
        assert classes[label] == file.relative_to(tmp_path).parts[0]


@pytest.mark.parametrize(
    ("pattern", "measured"),
    [("c{0}/s{1}/{2}.png", "knn_accuracy"), ("{2}.jpg", "pair_accuracy"), ("all/s{1}/{2}.png", "pair_accuracy")],
    ids=["nested classes", "flat", "one class"],
)
def test_folders_are_trained_on(tmp_path: Path, pattern: str, measured: str) -> None:
    names = [pattern.format(i % 2, i % 3, i) for i in range(len(PHOTOS))]
    result = train(write_images(tmp_path / "photos", *names), tmp_path / "run")
    assert {"knn_accuracy", "pair_accuracy"} & set(result.metrics) == {measured}


def test_a_large_folder_is_listed(tmp_path: Path) -> None:
    first = write_images(tmp_path, "photo.png") / "photo.png"
    for label in range(20):
        (tmp_path / "many" / f"{label:02}").mkdir(parents=True)
        for i in range(100):
            (tmp_path / "many" / f"{label:02}" / f"{i}.png").symlink_to(first)
    source = find_source(tmp_path / "many")
    assert source.count == 2000
    assert np.bincount(source.labels).tolist() == [100] * 20


# --- datasets of torchvision ------------------------------------------------------------------------------------


def test_datasets_of_torchvision(tmp_path: Path) -> None:
    assert "pair_accuracy" in train(FakeData(16, (3, 24, 24), 3), tmp_path / "fake").metrics
    names = [f"c{i % 2}/{i}.png" for i in range(len(PHOTOS))]
    folder = ImageFolder(write_images(tmp_path / "photos", *names))
    assert "knn_accuracy" in train(folder, tmp_path / "folder").metrics


class Labelled:
    """Tuples, with labels in the attribute of a name."""

    def __init__(self, labels: Any, name: str = "targets", classes: Any = None) -> None:
        self.images = PHOTOS[: len(labels)]
        setattr(self, name, labels)
        if classes is not None:
            self.classes = classes

    def __getitem__(self, index: int) -> Any:
        return self.images[index], "not a label"

    def __len__(self) -> int:
        return len(self.images)


def test_labels_are_found_in_datasets_and_their_parts() -> None:
    names = ["cat", "dog", "eel"]
    whole = Labelled([2, 0, 1, 2], classes=names)
    for data in (whole, Indexed(whole), Labelled(torch.tensor([2, 0, 1, 2]), "labels", names)):
        source = find_source(data)
        assert (source.labels, source.classes) == ([2, 0, 1, 2], names)
    part = find_source(Subset(Subset(whole, [0, 1, 3]), [2, 0, 1]))  # type: ignore[arg-type]
    assert (part.labels, part.classes) == ([1, 1, 0], ["cat", "eel"])  # numbered from 0
    half = find_source(random_split(whole, [3, 1])[0])  # type: ignore[arg-type]
    assert half.count == len(half.labels) == 3
    stl = find_source(Labelled(np.array([-1, 7, 3, -1], np.int8), "labels"))
    assert (stl.labels, stl.classes) == ([-1, 1, 0, -1], ["3", "7"])


@pytest.mark.parametrize("labels", [[0.5, 1.0], ["a.xml", "b.xml"], [[1, 0], [0, 1]], [[1], [0, 1]], None])
def test_targets_that_are_no_labels_are_passed_over(labels: Any) -> None:
    data = Labelled([0, 1])
    data.targets = labels  # type: ignore[attr-defined]
    assert find_source(data).labels == []


# --- Hugging Face Datasets --------------------------------------------------------------------------------------


def hugging_face(column: str = "img", **labels: str) -> datasets.Dataset:
    """Return undecoded images in memory, and columns of labels."""
    files = []
    for photo in PHOTOS:
        buffer = io.BytesIO()
        photo.save(buffer, "PNG")
        files.append({"bytes": buffer.getvalue(), "path": None})
    values = [i % 2 for i in range(len(files))]
    features = {name: datasets.ClassLabel(names=names.split()) for name, names in labels.items()}
    return datasets.Dataset.from_dict(
        {column: files} | dict.fromkeys(labels, values),
        features=datasets.Features({column: datasets.Image(decode=False)} | features),
    )


def test_datasets_of_hugging_face(tmp_path: Path) -> None:
    data = hugging_face(label="cat dog")
    for i, each in enumerate((data, data.cast_column("img", datasets.Image()))):
        source = find_source(each)
        assert (source.labels, source.classes) == ([i % 2 for i in range(len(PHOTOS))], ["cat", "dog"])
        assert "knn_accuracy" in train(each, tmp_path / f"{i}").metrics
    assert "pair_accuracy" in train(hugging_face(), tmp_path / "bare").metrics
    assert find_source(hugging_face(fine="a b", coarse="c d")).labels == []  # which of the two is not known
    assert find_source(hugging_face(fine="a b", label="c d")).classes == ["c", "d"]
    with pytest.raises(TypeError, match="must be one dataset, got a DatasetDict of 'train', 'test': choose one"):
        train(datasets.DatasetDict(train=data, test=data), tmp_path / "no")
    with pytest.raises(ValueError, match="has no member 'image', it has 'photo'; image= names the image's place"):
        train(hugging_face("photo"), tmp_path / "name")


def test_the_place_of_the_image_is_that_of_the_measurements_too() -> None:
    source = find_source(hugging_face("photo", label="cat dog"), "photo")
    options: Any = {"size": 16, "normalize": Normalize(), "decode": None}
    for loader in evaluation_loaders(source, **options):
        for views, labels in loader:
            assert views.to()[0].shape[1:] == (3, 16, 16)
            assert set(labels.tolist()) <= {0, 1}
    assert sum(len(views_of(batch)[0]) for batch in pair_batches(source, **options)) == len(PHOTOS)


@given(sizes=st.lists(st.integers(1, 40), min_size=1, max_size=6), seed=st.integers(0, 99))
def test_a_fifth_of_each_class_is_tested(sizes: list[int], seed: int) -> None:
    labels = np.random.default_rng(seed).permutation(np.repeat(range(len(sizes)), sizes)).tolist()
    train, test = split_by_class(labels)
    assert sorted(train + test) == list(range(len(labels)))
    of_train, of_test = (Counter(labels[i] for i in part) for part in (train, test))
    for label, size in enumerate(sizes):
        assert of_test[label] == pytest.approx(size / 5, abs=1)
        assert of_train[label] >= 1
        assert of_test[label] >= 1 or size == 1


def test_the_order_of_divided_images_is_random() -> None:
    """Batches of one class would mislead BatchNorm, whose statistics the untrained network gets from them."""
    for part in split_by_class([0] * 100 + [1] * 100):
        halves = [sum(i < 100 for i in half) for half in (part[: len(part) // 2], part[len(part) // 2 :])]
        assert halves == pytest.approx([len(part) / 4] * 2, abs=len(part) / 8)


def test_images_are_divided_by_class_for_the_measurements(tmp_path: Path) -> None:
    source = Source(PHOTOS, [0] * 22 + [1] * 5 + [2] * 4 + [-1], ["a", "b", "c"])
    loaders: Any = evaluation_loaders(source, size=16, normalize=None, decode=None)
    found = [Counter(source.labels[i] for i in loader.dataset.indices) for loader in loaders]
    assert found == [{0: 18, 1: 4, 2: 3}, {0: 4, 1: 1, 2: 1}]
    files = [f"{name}/{i}.png" for name, count in (("ant", 25), ("bee", 4), ("cat", 1)) for i in range(count)]
    images = folder_images(write_images(tmp_path / "classes", *files))
    assert Counter(label for _, label in images.test) == {0: 5, 1: 1}
    assert Counter(label for _, label in images.train) == {0: 20, 1: 3, 2: 1}
    single = write_images(tmp_path / "single", *(f"{i}/a.png" for i in range(8)))
    with pytest.raises(
        ValueError, match=r"folder_images: .* must hold two images or more of a class, .* one of each of 8"
    ):
        folder_images(single)


def test_classes_of_one_image_are_measured_by_pairs(tmp_path: Path) -> None:
    single = write_images(tmp_path / "single", *(f"{i}/a.png" for i in range(8)))
    assert "pair_accuracy" in train(single, tmp_path / "run").metrics
    for folder in (single, write_images(tmp_path / "bare", "a.png", "b.png")):
        with pytest.raises(ValueError, match="pretrain: evaluate must hold labelled images of two classes or more"):
            train(single, tmp_path / "other", evaluate=folder)


# --- streams ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("shards")
    with wds.ShardWriter(f"{folder}/%02d.tar", maxcount=8, verbose=0) as sink:
        for i, photo in enumerate(PHOTOS):
            sink.write({"__key__": f"{i:04}", "jpg": photo, "cls": i % 2})
    return sorted(map(str, folder.glob("*.tar")))


@pytest.mark.filterwarnings("ignore:Your `IterableDataset` has `__len__`")  # Lightning, of any with workers
@pytest.mark.filterwarnings("ignore:.*unclosed file:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # where webdataset leaves files open
def test_shards_of_webdataset(shards: list[str], tmp_path: Path) -> None:
    def stream() -> Any:
        return wds.WebDataset(shards, shardshuffle=len(shards)).shuffle(10)

    assert len(shards) == 4
    with pytest.raises(ValueError, match=r"length of the data is unknown.*give steps="):
        train(stream(), tmp_path / "no")
    assert train(stream(), tmp_path / "steps", steps=9).model.progress == 1.0  # of four steps an epoch
    for workers in (0, 2):
        result = train(
            stream().with_length(len(PHOTOS), silent=True), tmp_path / f"length{workers}", epochs=2, workers=workers
        )
        assert result.model.progress == 1.0
        assert "pair_accuracy" in result.metrics
    decoded = stream().decode("pil").to_tuple("jpg", "cls").with_length(len(PHOTOS), silent=True)
    train(decoded, tmp_path / "decoded")
    gc.collect()


def test_a_stream_of_hugging_face(tmp_path: Path) -> None:
    train(hugging_face(label="cat dog").to_iterable_dataset(), tmp_path, steps=5)


class Few(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter(PHOTOS[:5])


def test_a_stream_that_fills_no_batch_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="two epochs without a batch"):
        train(Few(), tmp_path, steps=3)


def test_what_is_no_data_is_said() -> None:
    with pytest.raises(TypeError, match="got generator: make the stream an IterableDataset"):
        find_source(photo for photo in PHOTOS)
    with pytest.raises(TypeError, match=r"got int$"):
        find_source(3)


# --- other samples, methods and networks ------------------------------------------------------------------------


def test_samples_of_other_kinds(tmp_path: Path) -> None:
    train([{"image": photo, "name": "any"} for photo in PHOTOS], tmp_path / "dicts")
    names = [f"{i}.png" for i in range(len(PHOTOS))]
    folder = write_images(tmp_path / "photos", *names)
    train([str(folder / name) for name in names], tmp_path / "paths")
    train(TensorDataset(torch.rand(16, 3, 20, 20), torch.arange(16) % 2), tmp_path / "tensors")


@pytest.mark.parametrize("kind", ["folder", "torchvision", "hugging face"])
def test_paws_knows_some_labels(tmp_path: Path, kind: str) -> None:
    names = [f"c{i % 2}/{i}.png" for i in range(len(PHOTOS))]
    data: Any = write_images(tmp_path / "photos", *names)
    if kind == "torchvision":
        data = ImageFolder(data)
    elif kind == "hugging face":
        data = hugging_face(label="cat dog")
    train(data, tmp_path / "run", method="paws", labelled=0.5)

    class Collate:
        def __call__(self, samples: Any) -> Any:
            return [sample.sample for sample in samples]

    collate: Any = Collate()
    options: Any = {"batch": 8, "workers": 0, "seed": 0, "pin": False, "labelled": 0.5}
    source = find_source(data)
    pixels = {photo.tobytes(): i % 2 for i, photo in enumerate(PHOTOS)}
    found = {-1: 0, 0: 0, 1: 0}
    for image, label in (pair for batch in training_loader(source, collate, **options) for pair in batch):
        opened = (
            image
            if isinstance(image, Image.Image)
            else Image.open(io.BytesIO(image) if isinstance(image, bytes) else image)
        )
        true = pixels[opened.convert("RGB").tobytes()]
        assert label in (-1, true)
        found[label] += 1
    assert min(found.values()) > 0


@pytest.mark.parametrize(("labels", "classes"), [([], []), ([0, 0, -1], ["a"])])
def test_paws_without_labels_is_refused(labels: list[int], classes: list[str]) -> None:
    source, collate = Source(PHOTOS[:3], labels, classes), Any
    with pytest.raises(ValueError, match="PAWS needs the labels of some images, of two classes or more"):
        check_labels(source)
    with pytest.raises(ValueError, match="PAWS needs the labels of some images"):
        training_loader(source, collate, batch=2, workers=0, seed=0, pin=False, labelled=0.1)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("method", "backbone", "options"),
    [
        ("amdim", "amdim_encoder", {}),
        ("amdim", "resnet10", {}),
        ("cpc", "resnet10", {}),
        ("dino", "vit_tiny_patch16_224", {"batch_size": 16}),
    ],
)
def test_methods_with_networks_of_their_own(tmp_path: Path, method: str, backbone: str, options: Any) -> None:
    result = train(
        PHOTOS, tmp_path, method=method, backbone=backbone, size=32, evaluate="none", epochs=1,
        **{"batch_size": 8} | options,
    )  # fmt: skip
    norms = {type(module).__name__ for module in result.model.backbone.modules() if "Norm" in type(module).__name__}
    assert norms == {"cpc": {"GroupNorm"}, "dino": {"LayerNorm"}}.get(method, {"BatchNorm2d"})
