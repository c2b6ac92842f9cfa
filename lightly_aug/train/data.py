"""From what a user has, a folder or a dataset, to the loaders of a run."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset

from lightly_aug.choices import MAX_PIXELS, OnError
from lightly_aug.collate import BaseCollateFunction, MultiViewCollateFunction
from lightly_aug.images import image_files
from lightly_aug.indexed import EpochSampler, Indexed
from lightly_aug.operations import Normalize
from lightly_aug.optional import extra
from lightly_aug.photographs import class_names, split_by_class
from lightly_aug.recipes import ImageCollateFunction
from lightly_aug.samples import take_images
from lightly_aug.status import show_wait
from lightly_aug.support import SupportBatchSampler, SupportDataset
from lightly_aug.weights import still_view

with extra("train"):
    from torchdata.stateful_dataloader import StatefulDataLoader

__all__ = [
    "Source",
    "check_labels",
    "default_workers",
    "evaluation_loaders",
    "find_source",
    "pair_batches",
    "training_loader",
]

_MOST_EVALUATED: Final = 2000


@dataclass(frozen=True)
class Source:
    """The images of a run.

    Attributes:
        data: A dataset, a stream, or a loader.
        labels: Labels of all images, from 0, if they are known; -1 for unknown.
        classes: Names of the labels.
        name: What to call the data in the files of the run.
        image: Place of the image in a sample, as of collate functions.
    """

    data: Any
    labels: Sequence[int] = ()
    classes: Sequence[str] = ()
    name: str = ""
    image: str | int | None = None

    @property
    def count(self) -> int:
        """Number of images, 0 if unknown."""
        dataset: Any = self.data.dataset if isinstance(self.data, DataLoader) else self.data
        try:
            return len(dataset)
        except TypeError:
            return 0

    @property
    def testable(self) -> bool:
        """Whether a classifier can be tested: there are two classes or more, and two images or more of one of them."""
        known = [label for label in self.labels if label >= 0]
        return 1 < len(set(known)) < len(known)


def find_source(data: Any, image: str | int | None = None) -> Source:
    """Return the images of a folder, a dataset, or a loader, with their labels if these can be found.

    The folders directly in a folder are the classes if there are two or more and no image is outside of them. Datasets
    of torchvision have `targets` or `labels`, those of Hugging Face a feature `ClassLabel`; parts of them, as by
    `random_split`, have theirs.

    Args:
        data: A folder, a dataset with `__getitem__` and `__len__`, an `IterableDataset`, or a `DataLoader`.
        image: Place of the image in a sample, as of collate functions.

    Raises:
        NotADirectoryError: There is no such folder.
        ValueError: The folder holds no images.
        TypeError: It is none of these.
    """
    if isinstance(data, str | os.PathLike):
        return _list_folder(Path(data))
    name = type(data).__name__
    if isinstance(data, DataLoader | IterableDataset):
        return Source(data, name=name, image=image)
    if isinstance(data, Mapping):  # such as a DatasetDict of Hugging Face
        raise TypeError(
            f"pretrain: data must be one dataset, got a {name} of {', '.join(map(repr, data))}: choose one of them"
        )
    if not hasattr(data, "__getitem__") or not hasattr(data, "__len__"):
        stream = ": make the stream an IterableDataset, of which every epoch is a new pass"
        raise TypeError(
            "pretrain: data must be a folder, a dataset with __getitem__ and __len__, an IterableDataset, or a "
            f"DataLoader, got {name}{stream if hasattr(data, '__iter__') else ''}"
        )
    labels, names = _find_labels(data)
    known = np.unique(labels[labels >= 0])
    numbers = np.where(labels >= 0, np.searchsorted(known, labels), -1)
    classes = [str(names[label]) if label < len(names) else str(label) for label in known]
    return Source(data, numbers.tolist(), classes, name, image)


def _list_folder(folder: Path) -> Source:
    with show_wait(f"listing the images of {folder}"):
        files = image_files(folder)
    if not files:
        raise ValueError(f"pretrain: {folder} must hold images, got none")
    names = class_names(folder, files)
    if names is None:
        return Source(files, name=str(folder))
    classes = sorted(set(names))
    number = {name: i for i, name in enumerate(classes)}
    labels = [number[name] for name in names]
    return Source(list(zip(files, labels, strict=True)), labels, classes, str(folder))


def _find_labels(data: Any) -> tuple[npt.NDArray[np.int64], Sequence[str]]:
    """Return the labels of a dataset, -1 for unknown, and the names of 0, 1, 2 …; of no labels if there are none."""
    none = np.empty(0, np.int64), ()
    if isinstance(data, Indexed):
        return _find_labels(data.dataset)
    if isinstance(data, Subset):
        labels, names = _find_labels(data.dataset)
        return (labels[np.asarray(data.indices)], names) if len(labels) else none
    features = getattr(data, "features", None)
    if isinstance(features, Mapping):  # of Hugging Face
        columns = [name for name, feature in features.items() if hasattr(feature, "names")]
        columns = [name for name in columns if name in ("label", "labels", "target", "targets")] or columns
        if len(columns) != 1:
            return none
        found, names = data[columns[0]][:], features[columns[0]].names
    else:
        found = getattr(data, "targets", getattr(data, "labels", None))
        names = getattr(data, "classes", ())
    try:
        labels = np.asarray(found)
    except ValueError:  # of different lengths
        return none
    if labels.shape != (len(data),) or not np.issubdtype(labels.dtype, np.integer):
        return none
    return labels.astype(np.int64), names


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
    drop_last: bool = True,
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
        drop_last: Leave out the images at the end of an epoch that do not fill a batch.

    Raises:
        ValueError: Labels are wanted, and there are none.
    """
    data = source.data
    options: dict[str, Any] = {
        "collate_fn": collate, "num_workers": workers, "pin_memory": pin, "persistent_workers": workers > 0,
    }  # fmt: skip
    if labelled is not None:
        return _support_loader(source, batch, seed=seed, labelled=labelled, **options)
    options["drop_last"] = drop_last
    if isinstance(data, IterableDataset):
        return DataLoader(data, batch, **options)
    dataset = data if isinstance(data, Indexed) else Indexed(data)
    sampler = EpochSampler(dataset, shuffle=True, seed=seed)
    loader: DataLoader[Any] = StatefulDataLoader(dataset, batch, sampler=sampler, **options)
    return loader


def check_labels(source: Source) -> None:
    """Raise if PAWS cannot be trained with these images.

    Raises:
        ValueError: The labels of two classes or more are not known.
    """
    if len(set(source.labels) - {-1}) < 2:
        raise ValueError(
            "pretrain: PAWS needs the labels of some images, of two classes or more: give a folder of class folders, "
            "or a dataset with targets"
        )


def _support_loader(source: Source, batch: int, *, seed: int, labelled: float, **options: Any) -> DataLoader[Any]:
    check_labels(source)
    labels = np.asarray(source.labels, dtype=np.int64)
    classes = np.unique(labels[labels >= 0])
    known, rng = np.full(len(labels), -1), np.random.default_rng(seed)
    for label in classes:
        images = np.flatnonzero(labels == label)
        chosen = rng.permutation(images)[: max(1, round(labelled * len(images)))]
        known[chosen] = label
    items = SupportDataset(_Labelled(source), known.tolist())
    fewest = min(np.bincount(known[known >= 0])[classes])
    drawn = min(len(classes), max(1, batch // 2))
    each = int(max(1, min(batch // 2 // drawn, fewest)))
    sampler = SupportBatchSampler(items.labels, batch, each, seed, classes_per_batch=drawn)
    loader: DataLoader[Any] = StatefulDataLoader(Indexed(items), batch_sampler=sampler, **options)
    return loader


class _Labelled(Dataset[tuple[Any, int]]):
    """The images of a source with the labels that were found, whatever else its samples hold."""

    def __init__(self, source: Source) -> None:
        self.data = source.data if isinstance(source.data, Indexed) else Indexed(source.data)
        self.labels = source.labels
        self.places = () if source.image is None else (source.image,)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return take_images([self.data[index]], *self.places).images[0], self.labels[index]


def evaluation_loaders(
    source: Source,
    *,
    size: int,
    normalize: Normalize | None,
    decode: int | None,
    max_pixels: int | None = MAX_PIXELS,
    on_error: OnError = "raise",
    workers: int = 0,
    batch: int = 64,
) -> tuple[DataLoader[Any], DataLoader[Any]]:
    """Return loaders of labelled images, four fifths of each class to learn from and a fifth to test with.

    There are at most 2,000 in all, and classes of one image are not tested.
    """
    known = [i for i, label in enumerate(source.labels) if label >= 0]
    chosen = np.random.default_rng(0).permutation(known)[:_MOST_EVALUATED]
    parts = split_by_class([source.labels[i] for i in chosen])
    collate = MultiViewCollateFunction(
        [still_view(size, normalize)], seed=0, decode=decode, max_pixels=max_pixels, on_error=on_error
    )
    train, test = (
        DataLoader(Subset(_Labelled(source), chosen[part].tolist()), batch, collate_fn=collate, num_workers=workers)
        for part in parts
    )
    return train, test


def pair_batches(
    source: Source,
    *,
    size: int,
    normalize: Normalize | None,
    decode: int | None,
    max_pixels: int | None = MAX_PIXELS,
    on_error: OnError = "raise",
    count: int = 256,
) -> list[Any]:
    """Return batches of two views of some images, of one set of draws for all methods; of a stream the first ones."""
    collate = ImageCollateFunction(
        size,
        normalize=normalize,
        seed=0,
        decode=decode,
        render="worker",
        image=source.image,
        max_pixels=max_pixels,
        on_error=on_error,
    )
    if isinstance(source.data, IterableDataset):
        return list(DataLoader(list(islice(source.data, count)), 64, collate_fn=collate))  # type: ignore[arg-type]
    chosen = np.linspace(0, source.count - 1, min(count, source.count)).astype(int).tolist()
    return list(DataLoader(Subset(source.data, chosen), 64, collate_fn=collate))
