"""Backbones and labelled images on the command line: the options of the commands that measure the one on the other."""

import inspect
import json
from collections.abc import Callable, Sequence
from dataclasses import MISSING, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from lightly_aug.choices import MAX_PIXELS
from lightly_aug.cli.arguments import (
    Decode,
    Device,
    MaxPixels,
    OnUnreadable,
    Overwrite,
    Run,
    Workers,
    check_folder,
    find_device,
    find_images,
)
from lightly_aug.cli.backbone import hash_weights, load_run, take_readable
from lightly_aug.cli.folders import prepare_out
from lightly_aug.optional import extra
from lightly_aug.status import count_of, show_steps

with extra("train"):
    import typer

if TYPE_CHECKING:
    from torch import Tensor

    from lightly_aug.photographs import LabelledImages
    from lightly_aug.weights import Backbone

__all__ = ["Asked", "Embedded", "LabelledFiles", "Task", "embed_labelled", "takes_labelled"]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The options that all of these commands have, in the order of their help."""

    run: Run
    data: Annotated[
        Path,
        typer.Option(help="Folder with a folder of images for each class; a fifth of each class is for testing."),
    ]
    test: Annotated[
        Path | None,
        typer.Option(
            help="Folder of test images, in class folders of the same names; all of --data is then for training."
        ),
    ] = None
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Images in a batch; by default 64, of a training 256.")
    ] = None
    workers: Workers = 2
    device: Device = ""
    decode: Decode = None
    max_pixels: MaxPixels = MAX_PIXELS
    on_error: OnUnreadable = "raise"
    overwrite: Overwrite = False
    out: Annotated[
        Path | None, typer.Option(help="Folder to write to; by default one of the command's name in that of the run.")
    ] = None

    def begin(self, name: str) -> "Task":
        """Load the backbone and list the images, after all checks that need no work.

        Args:
            name: Name of the folder of the results, for which `--out` may give another.

        Raises:
            NotADirectoryError: There is no such folder of images.
            ValueError: The folder cannot be written to, or holds results of another network or other images; or a
                folder of images has no class folders, or those of `--test` have other names.
        """
        folder = self.out or (self.run if self.run.is_dir() else self.run.parent) / name
        prepare_out(folder, folder=True)
        saved, images = load_run(self.run, self.decode, self.device, self.max_pixels), self._find_labelled()
        record = {
            "command": name, "run": str(self.run), "weights": hash_weights(self.run), "data": str(self.data),
            "test": None if self.test is None else str(self.test),
        }  # fmt: skip
        if not self.overwrite:
            _check_record(folder / "metrics.json", record)
        return Task(self, folder, saved, self._take_readable(images, saved), record)

    def _find_labelled(self) -> "LabelledImages":
        """Return the labelled image files: those of one folder, a fifth of them for testing, or those of two."""
        from lightly_aug.photographs import LabelledImages, class_names, folder_images

        check_folder(self.data)
        if self.test is None:
            images = folder_images(self.data)
            _check_classes("--data", self.data, images.classes)
            return images
        names = {}
        for option, folder in (("--data", self.data), ("--test", self.test)):
            files = find_images(folder)
            names[option] = list(zip(files, class_names(folder, files) or [], strict=False))
            _check_classes(option, folder, [name for _, name in names[option]])
        classes = sorted({name for _, name in names["--data"]})
        if unknown := sorted({name for _, name in names["--test"]} - set(classes)):
            raise ValueError(f"class folders of --test must be among those of --data, got {', '.join(unknown)}")
        train, held = ([(file, classes.index(name)) for file, name in names[option]] for option in ("--data", "--test"))
        return LabelledImages(train, held, classes)

    def _take_readable(self, images: "LabelledImages", saved: "Backbone") -> "LabelledImages":
        files = [file for file, _ in (*images.train, *images.test)]
        readable = set(take_readable(files, saved, self.on_error, self.workers))
        train, test = ([pair for pair in pairs if pair[0] in readable] for pairs in (images.train, images.test))
        if not train or not test:
            raise ValueError(
                f"there must be images to train with and to test with, got {len(train)} and {len(test)} that can be "
                f"read of {len(files)}"
            )
        return images._replace(train=train, test=test)


@dataclass(frozen=True, eq=False)
class Task:
    """What a command measures.

    Attributes:
        asked: The options.
        folder: Folder to write to.
        saved: The backbone.
        images: Pairs of a file and a label.
        record: What the results belong to, as JSON.
    """

    asked: Asked
    folder: Path
    saved: "Backbone"
    images: "LabelledImages"
    record: dict[str, Any]

    @cached_property
    def names(self) -> list[str]:
        """Names of the test files, relative to their folder."""
        folder = self.asked.test or self.asked.data
        return [file.relative_to(folder).as_posix() for file, _ in self.images.test]

    @property
    def tested(self) -> str:
        """The number of test images and classes, for people."""
        return f"{count_of(len(self.images.test), 'test image')} in {count_of(len(self.images.classes), 'class')}"

    @property
    def training(self) -> dict[str, Any]:
        """Arguments of `lightly_aug.classify` that say what a classifier is trained and tested with, and where."""
        kind, classes = find_device(self.asked.device).type, self.images.classes
        return {
            "train": LabelledFiles(self.images.train, classes), "test": LabelledFiles(self.images.test, classes),
            "batch_size": self.asked.batch_size or 256, "workers": self.asked.workers,
            "accelerator": {"cuda": "gpu"}.get(kind, kind), "out": self.folder / "training",
            "overwrite": self.asked.overwrite,
        }  # fmt: skip


def takes_labelled(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of `Asked`, which it gets as its first argument, around its own."""
    shared = [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, annotation=field.type,
            default=inspect.Parameter.empty if field.default is MISSING else field.default,
        )
        for field in fields(Asked)
    ]  # fmt: skip
    own = [
        each.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for each in list(inspect.signature(command).parameters.values())[1:]
    ]

    def run(**given: Any) -> None:
        command(Asked(**{each.name: given.pop(each.name) for each in shared}), **given)

    parameters = [*shared[:3], *own, *shared[3:]]
    run.__name__, run.__doc__ = command.__name__, command.__doc__
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    return run


def _check_record(file: Path, record: dict[str, Any]) -> None:
    """Raise if a folder holds results that belong to something else."""
    if not file.is_file():
        return
    before = json.loads(file.read_text(encoding="utf-8"))
    titles = {"command": "command", "weights": "network", "data": "--data", "test": "--test"}
    if other := [title for name, title in titles.items() if before.get(name) != record[name]]:
        raise ValueError(
            f"{file.parent} holds results of another {' and '.join(other)} ({before.get('command')} of "
            f"{before.get('run')} on {before.get('test') or before.get('data')}): choose another --out, or replace "
            "them with --overwrite"
        )


def _check_classes(option: str, folder: Path, classes: Sequence[str]) -> None:
    if not classes:
        raise ValueError(
            f"{option} must hold images in a folder for each class, two or more, got {folder}; for images without "
            "labels there are embed, neighbours and invariance"
        )


class LabelledFiles:
    """A dataset of image files with labels, and with the names of the classes, which a list of pairs has not.

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


class Embedded(NamedTuple):
    """Features of labelled images.

    Attributes:
        x: Features of the training images, `(N, d)`.
        y: Their labels, `(N,)` int64.
        x_test: Features of the test images, `(M, d)`.
        y_test: Their labels, `(M,)`.
    """

    x: "Tensor"
    y: "Tensor"
    x_test: "Tensor"
    y_test: "Tensor"


def embed_labelled(task: Task, *, network: "Backbone | None" = None, file: str = "features.npz") -> Embedded:
    """Embed labelled image files, with a progress bar.

    Parts of the features are kept beside the file while the work goes on, so a command that was stopped continues.

    Args:
        task: The images, and by default the network.
        network: Another network, for which the bar says that it is untrained.
        file: Name of the file in the folder; it has the features of the training images first.
    """
    import torch

    from lightly_aug.evaluate import extract_features, read_features

    asked, images = task.asked, task.images
    saved, device = network or task.saved, find_device(asked.device)
    pairs = [*images.train, *images.test]
    title = "embedding" if network is None else "untrained: embedding"
    with show_steps(f"{title} {count_of(len(pairs), 'image')}", len(pairs)) as advance:
        extract_features(
            saved.network.to(device), [path for path, _ in pairs], saved.collate, task.folder / file,
            labels=[images.classes[y] for _, y in pairs], batch_size=asked.batch_size or 64, workers=asked.workers,
            device=device, step=advance,
        )  # fmt: skip
    x, y = read_features(task.folder / file).features, torch.tensor([label for _, label in pairs])
    cut = len(images.train)
    return Embedded(x[:cut], y[:cut], x[cut:], y[cut:])
