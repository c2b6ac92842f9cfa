"""Photographs to try the library on: those that scikit-image ships, and those of a folder."""

import os
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from lightly_aug.images import image_files
from lightly_aug.optional import extra

__all__ = ["LabelledImages", "class_names", "folder_images", "photograph_patches", "photographs", "split_by_class"]

_FILES: Final = (
    *("astronaut.png", "brick.png", "camera.png", "cell.png", "chelsea.png", "clock_motion.png", "coffee.png"),
    *("coins.png", "grass.png", "gravel.png", "hubble_deep_field.jpg", "ihc.png", "moon.png", "motorcycle_left.png"),
    *("page.png", "retina.jpg", "rocket.jpg"),
)


class LabelledImages(NamedTuple):
    """Images to train with, and others to test with.

    Attributes:
        train: Pairs (image, label).
        test: Pairs (image, label) that share no pixel with `train`.
        classes: Names of the labels; empty if the images have none, and then all labels are 0.
    """

    train: list[tuple[Any, int]]
    test: list[tuple[Any, int]]
    classes: list[str]


def photographs(count: int = 32, side: int = 256) -> list[Image.Image]:
    """Return four photographs that scikit-image ships, square and resized, repeated in turn.

    Args:
        count: Number of images to return.
        side: Side of each image in pixels.
    """
    with extra("demo"):
        data = import_module("skimage.data")
    whole = [Image.fromarray(photo()[..., :3]) for photo in (data.astronaut, data.coffee, data.chelsea, data.rocket)]
    fitted = [ImageOps.fit(photo, (side, side), Image.Resampling.BICUBIC) for photo in whole]
    return [fitted[i % len(fitted)] for i in range(count)]


def photograph_patches(side: int = 64, train: int = 240, test: int = 60) -> LabelledImages:
    """Cut patches from the photographs that scikit-image ships; the label of a patch is its photograph.

    Training patches overlap. They come from the left two thirds of each photograph, test patches from the rest.

    Args:
        side: Side of a patch in pixels; the shorter side of the photographs is 384.
        train: Number of training patches from each photograph.
        test: Number of test patches from each photograph.
    """
    with extra("demo"):
        import skimage
    folder = Path(skimage.__file__).parent / "data"
    images = LabelledImages([], [], [Path(name).stem for name in _FILES])
    rng = np.random.default_rng(0)
    for label, name in enumerate(_FILES):
        photograph = Image.open(folder / name).convert("RGB")
        scale = 384 / min(photograph.size)
        photograph = photograph.resize((round(photograph.width * scale), round(photograph.height * scale)))
        border = photograph.width * 2 // 3
        for pairs, count, left, right in (
            (images.train, train, 0, border),
            (images.test, test, border, photograph.width),
        ):
            xs = rng.integers(left, right - side, count, endpoint=True)
            ys = rng.integers(0, photograph.height - side, count, endpoint=True)
            pairs += [(photograph.crop((x, y, x + side, y + side)), label) for x, y in zip(xs, ys, strict=True)]
    return images


def class_names(folder: str | os.PathLike[str], files: Sequence[Path]) -> list[str] | None:
    """Return the subfolder of each file as its label; None if there is only one, or an image outside of them.

    Args:
        folder: The folder that was searched.
        files: Files in it and in its subfolders.

    Example:
        >>> class_names("photos", [Path("photos/cats/1.jpg"), Path("photos/dogs/young/2.jpg")])
        ['cats', 'dogs']
    """
    parts = [file.relative_to(folder).parts for file in files]
    names = [part[0] for part in parts]
    return names if len(set(names)) > 1 and all(len(part) > 1 for part in parts) else None


def split_by_class(labels: Sequence[int] | Sequence[str]) -> tuple[list[int], list[int]]:
    """Divide images at random into those to learn from and those to test with: of each class a fifth is for testing.

    The number is rounded, and at least one; the image of a class of one image is never tested. The same labels are
    always divided in the same way.

    Args:
        labels: Label of each image.

    Returns:
        Indices of the images to learn from, and of those to test with, both in random order.

    Example:
        >>> labels = ["cat"] * 10 + ["dog"] * 5 + ["emu"]
        >>> train, test = split_by_class(labels)
        >>> [labels[i] for i in sorted(test)]
        ['cat', 'cat', 'dog']
    """
    order = np.random.default_rng(0).permutation(len(labels))
    shuffled = np.asarray(labels)[order]
    tested = np.zeros(len(order), dtype=np.bool_)
    for label in np.unique(shuffled):
        own = np.flatnonzero(shuffled == label)
        tested[own[: max(1, round(len(own) / 5)) if len(own) > 1 else 0]] = True
    return order[~tested].tolist(), order[tested].tolist()


def folder_images(folder: str | os.PathLike[str]) -> LabelledImages:
    """Return the image files of a folder, with the labels that `class_names` finds, divided by `split_by_class`.

    Args:
        folder: Folder to search, with its subfolders.

    Raises:
        NotADirectoryError: There is no such folder.
        ValueError: The folder holds fewer than eight images, or one of each class, of which none can be tested.
    """
    files = image_files(folder)
    if len(files) < 8:
        raise ValueError(
            f"folder_images: {folder} must hold at least 8 images (jpg, png, tif, webp, bmp, gif), got {len(files)}"
        )
    names = class_names(folder, files) or []
    classes = sorted(set(names))
    number = {name: i for i, name in enumerate(classes)}
    labels = [number[name] for name in names] or [0] * len(files)
    train, test = split_by_class(labels)
    if not test:
        raise ValueError(
            f"folder_images: {folder} must hold two images or more of a class, to learn from and to test with, got one "
            f"of each of {len(classes)}"
        )
    return LabelledImages([(files[i], labels[i]) for i in train], [(files[i], labels[i]) for i in test], classes)
