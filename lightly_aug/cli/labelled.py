"""Labelled images on the command line: the arguments that name them, their features, and what is written of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import torch
from torch import Tensor, nn

from lightly_aug.cli.arguments import find_device, find_images
from lightly_aug.evaluate import extract_features, read_features
from lightly_aug.optional import extra
from lightly_aug.photographs import LabelledImages, class_names, folder_images
from lightly_aug.status import show_steps
from lightly_aug.weights import Backbone

with extra("train"):
    import typer

__all__ = ["Data", "Embedded", "Test", "embed_labelled", "find_labelled", "name_tested"]

Data = Annotated[
    Path, typer.Option(help="Folder with a folder of images for each class; a fifth of them is for testing.")
]
Test = Annotated[
    Path | None,
    typer.Option(help="Folder of test images, in class folders of the same names; all of --data is then for training."),
]


class Embedded(NamedTuple):
    """Features of labelled images.

    Attributes:
        x: Features of the training images, `(N, d)`.
        y: Their labels, `(N,)` int64.
        x_test: Features of the test images, `(M, d)`.
        y_test: Their labels, `(M,)`.
    """

    x: Tensor
    y: Tensor
    x_test: Tensor
    y_test: Tensor


def find_labelled(command: str, data: Path, test: Path | None) -> LabelledImages:
    """Find labelled image files: those of one folder, a fifth of them for testing, or those of two.

    Args:
        command: The command, for messages.
        data: The option `--data`.
        test: The option `--test`.

    Returns:
        Pairs of a file and a label.

    Raises:
        NotADirectoryError: There is no such folder.
        ValueError: A folder has no class folders, or those of `test` have other names.
    """
    if test is None:
        images = folder_images(data)
        _check_classes(command, "--data", data, images.classes)
        return images
    names = {}
    for option, folder in (("--data", data), ("--test", test)):
        files = find_images(folder)
        names[option] = list(zip(files, class_names(folder, files) or [], strict=False))
        _check_classes(command, option, folder, [name for _, name in names[option]])
    classes = sorted({name for _, name in names["--data"]})
    if unknown := sorted({name for _, name in names["--test"]} - set(classes)):
        raise ValueError(
            f"lightly-aug {command}: class folders of --test must be among those of --data, got {', '.join(unknown)}"
        )
    train, held = ([(file, classes.index(name)) for file, name in names[option]] for option in ("--data", "--test"))
    return LabelledImages(train, held, classes)


def _check_classes(command: str, option: str, folder: Path, classes: Sequence[str]) -> None:
    if not classes:
        raise ValueError(
            f"lightly-aug {command}: {option} must hold images in a folder for each class, two or more, got {folder}; "
            "for images without labels there are embed, neighbours and invariance"
        )


def name_tested(images: LabelledImages, data: Path, test: Path | None) -> list[str]:
    """Return the names of the test files, relative to their folder."""
    return [file.relative_to(data if test is None else test).as_posix() for file, _ in images.test]


def embed_labelled(
    saved: Backbone, images: LabelledImages, file: Path, batch_size: int, workers: int, device: str, *, title: str = ""
) -> Embedded:
    """Embed labelled image files, with a progress bar.

    Parts of the features are kept beside `file` while the work goes on, so a command that was stopped continues.

    Args:
        saved: The backbone.
        images: Pairs of a file and a label.
        file: File that the features are written to, those of the training images first.
        batch_size: Images in a batch.
        workers: Processes that load images.
        device: The option `--device`.
        title: Text in front of the bar.
    """
    target = find_device(device)
    pairs = [*images.train, *images.test]
    network: nn.Module = saved.network.to(target)
    with show_steps(f"{title or 'embedding'} {len(pairs)} images", len(pairs)) as advance:
        extract_features(
            network, [path for path, _ in pairs], saved.collate, file, labels=[images.classes[y] for _, y in pairs],
            batch_size=batch_size, workers=workers, device=target, step=advance,
        )  # fmt: skip
    x, y, cut = read_features(file).features, torch.tensor([label for _, label in pairs]), len(images.train)
    return Embedded(x[:cut], y[:cut], x[cut:], y[cut:])
