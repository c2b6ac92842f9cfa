"""Folders of real photographs for the tests that read files."""

from pathlib import Path

from lightly_aug.photographs import photograph_patches


def write_photos(folder: Path, *, classes: int, count: int) -> None:
    """Write `count` JPEG patches of each of some photographs into class folders."""
    images = photograph_patches(side=48, train=count, test=0)
    for number, (patch, label) in enumerate(images.train):
        if label < classes:
            (folder / images.classes[label]).mkdir(parents=True, exist_ok=True)
            patch.save(folder / images.classes[label] / f"{number}.jpg")
