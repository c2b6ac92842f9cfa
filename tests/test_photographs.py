"""Images to try the library on."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from helpers.photos import write_photos
from PIL import Image

from lightly_aug.photographs import folder_images, photograph_patches, photographs


def test_four_photographs_are_repeated_in_turn() -> None:
    photos = photographs(6, 40)
    assert [photo.size for photo in photos] == [(40, 40)] * 6
    assert [photo.mode for photo in photos] == ["RGB"] * 6
    arrays = [np.asarray(photo) for photo in photos]
    assert len({array.tobytes() for array in arrays[:4]}) == 4
    assert np.array_equal(arrays[0], arrays[4])
    assert np.array_equal(arrays[1], arrays[5])


def test_so_many_patches_of_each_photograph() -> None:
    images = photograph_patches(side=32, train=3, test=2)
    assert len(images.classes) == 17
    for pairs, count in ((images.train, 3), (images.test, 2)):
        assert Counter(label for _, label in pairs) == dict.fromkeys(range(17), count)
        assert {patch.size for patch, _ in pairs} == {(32, 32)}


def test_test_patches_share_no_pixel_with_training_patches(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a photograph whose colours are its coordinates: training is left of two thirds, testing right of it."""
    x, y = np.meshgrid(np.arange(600), np.arange(384))
    photograph = Image.fromarray(np.stack([x // 256, x % 256, y // 2], -1).astype(np.uint8))
    monkeypatch.setattr(Image, "open", lambda file: photograph)
    images = photograph_patches(side=32, train=6, test=6)
    columns = [
        np.stack([np.asarray(patch, np.int64) for patch, _ in pairs])[..., :2] @ (256, 1)
        for pairs in (images.train, images.test)
    ]
    assert 0 <= columns[0].min() <= columns[0].max() < 400 <= columns[1].min() <= columns[1].max() < 600


def test_patches_are_the_same_each_time() -> None:
    first, second = (photograph_patches(side=16, train=1, test=1) for _ in range(2))
    assert [patch.tobytes() for patch, _ in first.train] == [patch.tobytes() for patch, _ in second.train]


def test_class_folders_are_labels_and_loose_files_have_none(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", classes=2, count=5)
    labelled = folder_images(tmp_path / "photos")
    assert len(labelled.classes) == 2
    assert all(path.parent.name == labelled.classes[label] for path, label in labelled.train + labelled.test)
    assert len({path for path, _ in labelled.train + labelled.test}) == 10
    assert len(labelled.test) == 2
    loose = tmp_path / "loose"
    loose.mkdir()
    for number, path in enumerate(sorted((tmp_path / "photos").rglob("*.jpg"))):
        path.rename(loose / f"{number}.jpg")
    assert folder_images(loose).classes == []


@pytest.mark.parametrize("counts", [[40, 1, 2, 5], [8, 8], [2] * 12, [13, 0, 300]])
def test_a_fifth_of_each_class_is_for_testing(counts: list[int], tmp_path: Path) -> None:
    for label, count in enumerate(counts):
        (tmp_path / str(label)).mkdir()
        for i in range(count):
            (tmp_path / str(label) / f"{i}.png").touch()
    images = folder_images(tmp_path)
    held = Counter(path.parent.name for path, _ in images.test)
    for label, count in enumerate(counts):
        assert abs(held[str(label)] - count / 5) <= (0.5 if count > 2 else 0.6)
        assert held[str(label)] >= (count > 1)
        assert held[str(label)] < count or not count
    assert sorted(path for path, _ in images.train + images.test) == sorted(tmp_path.rglob("*.png"))
    assert images == folder_images(tmp_path)


def test_classes_of_one_image_cannot_be_tested(tmp_path: Path) -> None:
    for label in range(9):
        (tmp_path / str(label)).mkdir()
        (tmp_path / str(label) / "1.png").touch()
    with pytest.raises(
        ValueError,
        match="must hold two images or more of a class, to learn from and to test with, got one of each of 9",
    ):
        folder_images(tmp_path)


def test_one_class_folder_is_no_label(tmp_path: Path) -> None:
    write_photos(tmp_path, classes=1, count=8)
    images = folder_images(tmp_path)
    assert images.classes == []
    assert {label for _, label in images.train + images.test} == {0}


def test_a_folder_must_hold_eight_images(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", classes=1, count=7)
    with pytest.raises(ValueError, match=r"photos must hold at least 8 images .*, got 7"):
        folder_images(tmp_path / "photos")
    with pytest.raises(NotADirectoryError):
        folder_images(tmp_path / "nowhere")
