"""Photographs to try the library on: those that scikit-image ships, and those of a folder."""

import os
from collections import Counter
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps

from lightly_aug.images import image_files
from lightly_aug.optional import extra

__all__ = ["LabelledImages", "class_names", "folder_images", "photograph_patches", "photographs"]

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


def folder_images(folder: str | os.PathLike[str]) -> LabelledImages:
    """Return the image files of a folder, with the labels that `class_names` finds, a fifth of each class for testing.

    Of a class with at least two images, one or more are for testing; a single image is for training.

    Args:
        folder: Folder to search, with its subfolders.

    Raises:
        NotADirectoryError: There is no such folder.
        ValueError: The folder holds fewer than eight images, or only one of each class.
    """
    files = image_files(folder)
    if len(files) < 8:
        raise ValueError(
            f"folder_images: {folder} must hold at least 8 images (jpg, png, tif, webp, bmp, gif), got {len(files)}"
        )
    names = class_names(folder, files) or []
    classes = sorted(set(names))
    labels = [classes.index(name) for name in names] or [0] * len(files)
    order = torch.randperm(len(files), generator=torch.Generator().manual_seed(0)).tolist()
    wanted = {label: max(1, round(count / 5)) if count > 1 else 0 for label, count in Counter(labels).items()}
    if not any(wanted.values()):
        raise ValueError(f"folder_images: {folder} must hold two images or more of a class, got one of each")
    images = LabelledImages([], [], classes)
    for i in order:
        label = labels[i]
        (images.test if wanted[label] else images.train).append((files[i], label))
        wanted[label] = max(0, wanted[label] - 1)
    return images
