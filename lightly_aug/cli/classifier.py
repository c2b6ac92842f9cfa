"""Classifiers that the commands `linear` and `finetune` train: their images, and where they run."""

from pathlib import Path
from typing import Annotated, Any

from torch.utils.data import Dataset

from lightly_aug.cli.arguments import find_device
from lightly_aug.optional import extra
from lightly_aug.photographs import LabelledImages

with extra("train"):
    import typer

__all__ = ["LabelledFiles", "Overwrite", "find_running", "split_files"]

Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a training with other settings in the folder.")]


class LabelledFiles(Dataset[tuple[Path, int]]):
    """Image files with labels, and with the names of the classes, which a list of pairs has not.

    Args:
        pairs: Pairs (file, label).
        classes: Names of the labels.
    """

    def __init__(self, pairs: list[tuple[Any, int]], classes: list[str]) -> None:
        self.files = [file for file, _ in pairs]
        self.targets = [label for _, label in pairs]
        self.classes = classes

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Path, int]:
        return self.files[index], self.targets[index]


def split_files(images: LabelledImages) -> tuple[LabelledFiles, LabelledFiles]:
    """Return the training images and the test images as datasets with class names."""
    return LabelledFiles(images.train, images.classes), LabelledFiles(images.test, images.classes)


def find_running(folder: Path, workers: int, device: str, *, overwrite: bool) -> dict[str, Any]:
    """Return the arguments that say where a classifier is trained.

    Args:
        folder: Folder of the command, in which the training gets one of its own.
        workers: The option `--workers`.
        device: The option `--device`.
        overwrite: The option `--overwrite`.
    """
    kind = find_device(device).type
    accelerator = {"cuda": "gpu"}.get(kind, kind)
    return {"out": folder / "training", "workers": workers, "accelerator": accelerator, "overwrite": overwrite}
