"""From what a user has, a folder or a dataset, to the loaders of a run."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from torch.utils.data import DataLoader, IterableDataset, Subset

from lightly_aug.collate import BaseCollateFunction, MultiViewCollateFunction
from lightly_aug.images import image_files
from lightly_aug.indexed import EpochSampler, Indexed
from lightly_aug.operations import Normalize
from lightly_aug.optional import extra
from lightly_aug.recipes import ImageCollateFunction
from lightly_aug.support import SupportBatchSampler, SupportDataset
from lightly_aug.weights import still_view

with extra("train"):
    from torchdata.stateful_dataloader import StatefulDataLoader

__all__ = ["Source", "default_workers", "evaluation_loaders", "find_source", "pair_batches", "training_loader"]

_MOST_EVALUATED: Final = 2000


@dataclass(frozen=True)
class Source:
    """The images of a run.

    Attributes:
        data: A dataset, a stream, or a loader.
        labels: Labels of all images, if they are known; -1 for unknown.
        classes: Names of the labels.
        name: What to call the data in the files of the run.
    """

    data: Any
    labels: Sequence[int] = ()
    classes: Sequence[str] = ()
    name: str = ""

    @property
    def count(self) -> int:
        """Number of images, 0 if unknown."""
        dataset: Any = self.data.dataset if isinstance(self.data, DataLoader) else self.data
        try:
            return len(dataset)
        except TypeError:
            return 0


def find_source(data: Any) -> Source:
    """Return the images of a folder, a dataset, or a loader.

    The folders directly in a folder are the classes if there are two or more and no image is outside of them.

    Args:
        data: A folder, a dataset with `__getitem__` and `__len__`, a stream, or a `DataLoader`.

    Raises:
        NotADirectoryError: There is no such folder.
        ValueError: The folder holds no images.
        TypeError: It is none of these.
    """
    if isinstance(data, str | os.PathLike):
        folder = Path(data)
        files = image_files(folder)
        if not files:
            raise ValueError(f"pretrain: {folder} must hold images, got none")
        parts = [file.relative_to(folder).parts for file in files]
        classes = sorted({part[0] for part in parts}) if all(len(part) > 1 for part in parts) else []
        if len(classes) < 2:
            return Source(files, name=str(folder))
        number = {name: i for i, name in enumerate(classes)}
        labels = [number[part[0]] for part in parts]
        return Source(list(zip(files, labels, strict=True)), labels, classes, str(folder))
    if isinstance(data, DataLoader | IterableDataset):
        return Source(data, name=type(data).__name__)
    if not hasattr(data, "__getitem__") or not hasattr(data, "__len__"):
        if hasattr(data, "__iter__"):
            return Source(data, name=type(data).__name__)
        raise TypeError(
            "pretrain: data must be a folder, a dataset with __getitem__ and __len__, a stream, or a DataLoader, got "
            f"{type(data).__name__}"
        )
    targets = getattr(data, "targets", None)  # torchvision's datasets
    if targets is None or len(targets) != len(data):
        return Source(data, name=type(data).__name__)
    return Source(data, [int(t) for t in targets], [str(c) for c in getattr(data, "classes", ())], type(data).__name__)


def default_workers(devices: int) -> int:
    """Return how many processes load images for a device: the cores of this machine divided among devices, up to 8."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(8, cores // max(1, devices))


def training_loader(
    source: Source,
    collate: BaseCollateFunction,
    *,
    batch: int,
    workers: int,
    seed: int,
    pin: bool,
    labelled: float | None = None,
) -> DataLoader[Any]:
    """Return the loader of the training, which knows its place and can go on from it.

    Args:
        source: The images.
        collate: The collate function.
        batch: Images in a batch of one device.
        workers: Processes that load images.
        seed: Seed of the order.
        pin: Keep batches in page-locked memory.
        labelled: Share of the images whose labels are in the batches, half of each batch, for PAWS; None for no labels.

    Raises:
        ValueError: Labels are wanted, and there are none.
    """
    data = source.data
    options: dict[str, Any] = {
        "collate_fn": collate, "num_workers": workers, "pin_memory": pin, "persistent_workers": workers > 0,
    }  # fmt: skip
    if labelled is not None:
        return _support_loader(source, batch, seed=seed, labelled=labelled, **options)
    options["drop_last"] = True
    if isinstance(data, IterableDataset) or not hasattr(data, "__getitem__"):
        return DataLoader(data, batch, **options)
    dataset = data if isinstance(data, Indexed) else Indexed(data)
    sampler = EpochSampler(dataset, shuffle=True, seed=seed)
    loader: DataLoader[Any] = StatefulDataLoader(dataset, batch, sampler=sampler, **options)
    return loader


def _support_loader(source: Source, batch: int, *, seed: int, labelled: float, **options: Any) -> DataLoader[Any]:
    labels = np.asarray(source.labels, dtype=np.int64)
    classes = np.unique(labels[labels >= 0])
    if len(classes) < 2:
        raise ValueError(
            "pretrain: PAWS needs the labels of some images, of two classes or more: give a folder of class folders, "
            "or a dataset with targets"
        )
    known, rng = np.full(len(labels), -1), np.random.default_rng(seed)
    for label in classes:
        images = np.flatnonzero(labels == label)
        chosen = rng.permutation(images)[: max(1, round(labelled * len(images)))]
        known[chosen] = label
    items = SupportDataset(source.data, known.tolist())
    fewest = min(np.bincount(known[known >= 0])[classes])
    drawn = min(len(classes), max(1, batch // 2))
    each = int(max(1, min(batch // 2 // drawn, fewest)))
    sampler = SupportBatchSampler(items.labels, batch, each, seed, classes_per_batch=drawn)
    loader: DataLoader[Any] = StatefulDataLoader(Indexed(items), batch_sampler=sampler, **options)
    return loader


def evaluation_loaders(
    source: Source, *, size: int, normalize: Normalize | None, decode: int | None, workers: int = 0, batch: int = 64
) -> tuple[DataLoader[Any], DataLoader[Any]]:
    """Return loaders of labelled images, four fifths to learn from and a fifth to test with; at most 2,000 in all."""
    known = [i for i, label in enumerate(source.labels) if label >= 0]
    order = np.random.default_rng(0).permutation(known)[:_MOST_EVALUATED]
    cut = len(order) - max(1, len(order) // 5)
    collate = MultiViewCollateFunction([still_view(size, normalize)], seed=0, decode=decode)
    train, test = (
        DataLoader(Subset(source.data, part.tolist()), batch, collate_fn=collate, num_workers=workers)
        for part in (order[:cut], order[cut:])
    )
    return train, test


def pair_batches(
    source: Source, *, size: int, normalize: Normalize | None, decode: int | None, count: int = 256
) -> list[Any]:
    """Return batches of two views of some images, of one set of draws for all methods."""
    chosen = np.linspace(0, source.count - 1, min(count, source.count)).astype(int).tolist()
    collate = ImageCollateFunction(size, normalize=normalize, seed=0, decode=decode, render="worker")
    return list(DataLoader(Subset(source.data, chosen), 64, collate_fn=collate))
