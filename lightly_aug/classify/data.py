"""From labelled images to the loaders of a classifier."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any, Literal

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from lightly_aug.batch import views_of
from lightly_aug.collate import BaseCollateFunction, MultiViewCollateFunction
from lightly_aug.indexed import EpochSampler, Indexed
from lightly_aug.invariances import Shape
from lightly_aug.operations import CenterCrop, Normalize, Resize
from lightly_aug.samples import take_images
from lightly_aug.status import show_wait
from lightly_aug.train.data import Source, find_source
from lightly_aug.view import View

__all__ = ["Collates", "Labelled", "build_collates", "evaluation_loader", "find_labelled"]


@dataclass(frozen=True, eq=False, repr=False)
class Labelled(Dataset[tuple[Any, int]]):
    """Chosen images of a dataset, with the numbers of their classes.

    Attributes:
        data: The dataset.
        numbers: Number of the class of every image of the dataset, -1 for unknown.
        classes: Names of the classes.
        chosen: Indices of the chosen images.
        places: Place of the image in a sample; empty for the usual ones.
    """

    data: Any
    numbers: Sequence[int]
    classes: list[str]
    chosen: list[int]
    places: tuple[str | int, ...] = ()

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        place = self.chosen[index]
        return take_images([self.data[place]], *self.places).images[0], self.numbers[place]

    @property
    def labels(self) -> list[int]:
        """Numbers of the classes of the chosen images."""
        return [self.numbers[i] for i in self.chosen]

    def select(self, rows: Tensor) -> "Labelled":
        """Return the chosen images at some places."""
        return replace(self, chosen=[self.chosen[i] for i in rows.tolist()])


def find_labelled(
    owner: str, argument: str, data: Any, place: str | int | None, classes: list[str] | None = None
) -> Labelled:
    """Return the labelled images of a folder of class folders, or of a dataset.

    Labels come from class folders, the attributes `targets` or `labels`, a feature `ClassLabel` of Hugging Face, or
    from the samples themselves, if these are pairs (image, label).

    Args:
        owner: Function that takes the data, for messages.
        argument: Name of its argument.
        data: The folder or dataset.
        place: Place of the image in a sample, as of collate functions.
        classes: Names of the classes, in order; by default those that the data has. Classes are the same if their
            names are, or, in datasets without names, their numbers.

    Raises:
        TypeError: The data are neither, or samples have no label.
        ValueError: No image has a label, or some have one that is not in `classes`.
    """
    if isinstance(data, DataLoader | IterableDataset | Mapping) or not (
        isinstance(data, str | os.PathLike) or (hasattr(data, "__getitem__") and hasattr(data, "__len__"))
    ):
        raise TypeError(
            f"{owner}: {argument} must be a folder of class folders or a dataset of (image, label) pairs with "
            f"__getitem__ and __len__, got {type(data).__name__}"
        )
    source = find_source(data, place)
    if not source.classes:
        source = _read_labels(owner, argument, source)
    names = list(source.classes) if classes is None else classes
    other = sorted(set(source.classes) - set(names))
    if other:
        raise ValueError(f"{owner}: {argument} must have classes of the training images, got {', '.join(other)}, too")
    number = [names.index(name) for name in source.classes]
    numbers = [number[label] if label >= 0 else -1 for label in source.labels]
    chosen = [i for i, label in enumerate(numbers) if label >= 0]
    if not chosen:
        raise ValueError(f"{owner}: {argument} must hold labelled images, got {len(numbers)} images without a label")
    return Labelled(source.data, numbers, names, chosen, () if place is None else (place,))


def _read_labels(owner: str, argument: str, source: Source) -> Source:
    """Return the source with the labels of its samples, which are pairs."""
    data = source.data.dataset if isinstance(source.data, Indexed) else source.data
    labels = []
    with show_wait(f"reading the labels of {argument}"):
        for i in range(len(data)):
            sample = data[i]
            label = sample[1] if isinstance(sample, tuple | list) and len(sample) > 1 else None
            label = label.item() if isinstance(label, Tensor | np.ndarray) and label.ndim == 0 else label
            if not isinstance(label, Integral):
                raise TypeError(
                    f"{owner}: {argument} must hold pairs (image, label) with integer labels, or have targets, labels "
                    f"or class folders; sample {i} is a {type(sample).__name__} with the label {label!r}"
                )
            labels.append(int(label))
    values = sorted({label for label in labels if label >= 0})
    numbers = {label: number for number, label in enumerate(values)}
    return replace(
        source, labels=[numbers.get(label, -1) for label in labels], classes=[str(label) for label in values]
    )


@dataclass(frozen=True)
class Collates:
    """The views of a classifier.

    Attributes:
        train: Makes the view that is trained on.
        still: Makes the view that is tested.
        size: Side of the tested view in pixels.
        normalize: Its normalisation.
    """

    train: BaseCollateFunction
    still: MultiViewCollateFunction
    size: int
    normalize: Normalize | None


def build_collates(
    owner: str,
    collate: Any,
    augment: BaseCollateFunction | None,
    sample: Any,
    *,
    scale: tuple[float, float],
    seed: int,
    render: Literal["late", "worker"],
) -> Collates:
    """Return the views of a classifier, for samples (image, label).

    Args:
        owner: Function that trains, for messages.
        collate: Makes the input of the backbone, as that of a `Backbone`.
        augment: Makes the view that is trained on; by default a random crop of the size of the input, flipped half of
            the time, and normalised as the input is.
        sample: A sample, from whose view the size is measured.
        scale: Area of the random crop as a share of the image.
        seed: Seed of the random crop.
        render: Where views are rendered.

    Raises:
        TypeError: One is no collate function of this library.
        ValueError: One makes several views, `augment` names the place of the image, the input is not square, or what it
            does to images besides resizing, cropping and normalising would be missing in training views.
    """
    for name, value in (("the collate function of backbone", collate), ("augment", augment)):
        if value is not None and not isinstance(value, BaseCollateFunction):
            raise TypeError(f"{owner}: {name} must be one of lightly_aug, got {type(value).__name__}")
        if value is not None and len(value.views) != 1:
            raise ValueError(f"{owner}: {name} must make one view of each image, got {len(value.views)}")
    options: dict[str, Any] = {
        "render": render, "engine": collate.engine, "mode": collate.mode, "decode": collate.decode,
        "background": collate.background, "max_pixels": collate.max_pixels,
    }  # fmt: skip
    still = MultiViewCollateFunction(collate.views, seed=0, **options)
    batch = views_of(still([sample]))
    height, width = (batch.to("cpu") if hasattr(batch, "to") else batch)[0].shape[-2:]
    if height != width:
        raise ValueError(f"{owner}: backbone must take square images, got a collate function of {height}x{width}")
    view = collate.views[0]
    normalize = next((operation for operation in view.operations if isinstance(operation, Normalize)), None)
    if augment is None:
        others = [op for op in view.operations if not isinstance(op, Resize | CenterCrop | Normalize)]
        if others:
            raise ValueError(
                f"{owner}: augment must be given, as the backbone takes images with {others[0]!r}, which views for "
                "the training need, too: augment=MultiViewCollateFunction([View(...)], seed=0)"
            )
        augment = MultiViewCollateFunction(
            [View(Shape(width, scale), normalize, dtype=view.dtype)], seed=seed, **options
        )
    elif augment.image is not None:
        raise ValueError(
            f"{owner}: augment must leave image= to the collate function of backbone, got {augment.image!r}"
        )
    return Collates(augment, still, width, normalize)


def evaluation_loader(
    images: Labelled, collate: BaseCollateFunction, *, batch: int, workers: int, pin: bool
) -> DataLoader[Any]:
    """Return a loader of all images in order, of which each of several processes gets every so manieth."""
    photos = Indexed(images)
    return DataLoader(
        photos, batch, sampler=EpochSampler(photos), collate_fn=collate, num_workers=workers, pin_memory=pin
    )
