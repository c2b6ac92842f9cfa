"""Find the image in a sample, and rebuild the batch in the structure of its samples."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from functools import partial
from os import PathLike
from typing import Any

import numpy as np
import torch
from torch.utils.data import default_collate

from lightly_aug.images import is_image
from lightly_aug.indexed import IndexedSample
from lightly_aug.philox import U64

__all__ = ["Taken", "batch_members", "map_members", "take_images"]

Place = str | int
# the usual keys of an image in a mapping: the first two in Hugging Face Datasets, the others in WebDataset
KEYS = ("image", "img", "jpg", "jpeg", "png", "webp")


@dataclasses.dataclass(frozen=True)
class Taken:
    """The images of a batch, and a function that rebuilds the batch.

    Attributes:
        images: The images, one for each sample; if a sample has several, all first ones, all second ones and so on.
        names: What to call each image in error messages.
        index: `(n,)` int64, the indices of the samples in the dataset; None unless the dataset is `Indexed`.
        epoch: `(n,)` uint64, the epochs of the samples; None unless an `EpochSampler` counted them.
        rebuild: Makes the batch from its views: they take the place of the first image, other images are left out, and
            everything else is collated.
    """

    images: list[Any]
    names: list[str]
    index: torch.Tensor | None
    epoch: U64 | None
    rebuild: Callable[[Any], Any]


def take_images(samples: Sequence[Any], *places: Place) -> Taken:
    """Find the image, or the images, in every sample of a batch.

    Args:
        samples: Images; or tuples, lists, mappings, named tuples or dataclass instances that hold an image each. All
            are of one kind. A mapping of "bytes" and "path", as made by `Image(decode=False)` of Hugging Face
            Datasets, is an image too: its bytes or, if they are None, the file at its path.
        *places: The places of the images in a sample. By default, there is one image: "image" or else the only one of
            "img", "jpg", "jpeg", "png" and "webp" in a mapping; the field `image`, else the first field, in a named
            tuple or dataclass; and 0 in a tuple or list.

    Raises:
        TypeError: The samples are one image.
        ValueError: There are no samples, one has no image at that place, a mapping has several places for it, or one
            is of another kind than the first.
    """
    if _is_one_image(samples):
        shape = f" of shape {tuple(samples.shape)}" if isinstance(samples, torch.Tensor | np.ndarray) else ""
        raise TypeError(f"collate wants a list of samples, got one image{shape}: write collate([image])")
    if len(samples) == 0:
        raise ValueError("a batch needs at least one sample, got none")
    index, epoch = None, None
    if isinstance(samples[0], IndexedSample):
        index = torch.tensor([sample.index for sample in samples])
        if all(sample.epoch is not None for sample in samples):
            epoch = np.array([sample.epoch for sample in samples], dtype=np.uint64)
        samples = [sample.sample for sample in samples]
    names = [f"sample {i}" if index is None else f"sample {i} (index {index[i]})" for i in range(len(samples))]
    bare = is_image(samples[0]) or (not places and _is_undecoded(samples[0]))
    if bare and len(places) > 1:
        raise ValueError(f"{names[0]} is one image, and image={places} asks for samples that hold several")
    images, rebuild = (list(samples), _identity) if bare else _take_from_members(samples, places, names)
    if len(places) > 1:
        names = [f"{name} at {place!r}" for place in places for name in names]
    for i, member in enumerate(images):
        if path := _path_of(member):
            names[i] += f", {_printable(str(path))}"
        image = images[i] = _take_undecoded(member, names[i]) if _is_undecoded(member) else member
        if not is_image(image):
            place = f" at {places[0]!r}" if len(places) == 1 else ""
            raise ValueError(
                f"{names[i]} has a {type(image).__name__}{place} where an image is wanted; image= names its place"
            )
    return Taken(images, names, index, epoch, rebuild)


def _is_one_image(samples: Any) -> bool:
    if isinstance(samples, torch.Tensor | np.ndarray):
        return samples.ndim in (2, 3)  # with more dimensions, its rows are images
    return is_image(samples) or _is_undecoded(samples)


def _is_undecoded(value: Any) -> bool:
    """Whether this is an image of Hugging Face Datasets with `Image(decode=False)`."""
    return isinstance(value, Mapping) and set(value) == {"bytes", "path"}


def _take_undecoded(image: Mapping[str, Any], name: str) -> Any:
    """Return the bytes of an undecoded image, or its path if they are None."""
    source = image["path"] if image["bytes"] is None else image["bytes"]
    if source is None:
        raise ValueError(f"{name} has an image whose bytes and path are both None; one of them is needed")
    return source


def _printable(text: str) -> str:
    """Escape what would move the cursor of a terminal or hide a part of the text."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _path_of(image: Any) -> Any:
    """Return the path of the file that an image is from, if it is known."""
    if _is_undecoded(image):
        return image["path"]
    return image if isinstance(image, str | PathLike) else getattr(image, "filename", None)


def _identity(views: Any) -> Any:
    return views


def _take_from_members(
    samples: Sequence[Any], places: tuple[Place, ...], names: list[str]
) -> tuple[list[Any], Callable[[Any], Any]]:
    """Return the images of samples that have members, and the function that rebuilds their batch."""
    first = samples[0]
    left_out: dict[Any, None] = {}  # fields that a named tuple or a dataclass instance must have
    make: Callable[[dict[Any, Any]], Any]
    if isinstance(first, Mapping):
        make = _identity
    elif dataclasses.is_dataclass(first) and not isinstance(first, type):
        make, left_out = partial(_replace_members, first), dict.fromkeys(places)
    elif isinstance(first, tuple) and hasattr(first, "_asdict"):
        make, left_out = lambda members: type(first)(**members), dict.fromkeys(places)
    elif isinstance(first, tuple | list):
        make = lambda members: tuple(members.values())  # noqa: E731
    else:
        raise ValueError(
            f"{names[0]} is a {type(first).__name__}; "
            "wants an image, a tuple or list, a mapping, a named tuple or a dataclass"
        )
    rows = [batch_members(sample) if _is_same_kind(sample, first) else {} for sample in samples]
    if not places:
        if isinstance(first, Mapping):
            places = (_find_key(rows[0], names[0]),)
        else:
            places = ("image" if "image" in rows[0] else next(iter(rows[0]), 0),)
    for row, name, sample in zip(rows, names, samples, strict=True):
        if row.keys() != rows[0].keys():
            raise ValueError(
                f"{name} has members {_list_names(row) or type(sample).__name__}, {names[0]} has {_list_names(rows[0])}"
            )
        for place in places:
            if place not in row:
                raise ValueError(
                    f"{name} has no member {place!r}, it has {_list_names(row)}; image= names the image's place"
                )

    def rebuild(views: Any) -> Any:
        others = {key: _collate(key, [row[key] for row in rows]) for key in rows[0] if key not in places}
        members = left_out | {places[0]: views} | others
        return make({key: members[key] for key in rows[0] if key in members})

    return [row[place] for place in places for row in rows], rebuild


def _find_key(row: dict[Any, Any], name: str) -> str:
    """Return the place of the image in a mapping; "image" if there is none, which an error names later."""
    found = [key for key in KEYS if key in row]
    if len(found) > 1 and "image" not in row:
        raise ValueError(f"{name} may have its image at {' or '.join(map(repr, found))}; image= names its place")
    return found[0] if found else KEYS[0]


def _is_same_kind(sample: Any, first: Any) -> bool:
    return type(sample) is type(first) or any(
        isinstance(sample, kind) and isinstance(first, kind) for kind in (Mapping, tuple | list)
    )


def _replace_members(like: Any, members: dict[str, Any]) -> Any:
    """Copy a dataclass instance with other members, without calling its `__init__`."""
    batch = copy(like)
    for name, member in members.items():
        object.__setattr__(batch, name, member)
    return batch


def batch_members(batch: Any) -> dict[Any, Any]:
    """Return the members of a batch or a sample by name or place.

    Args:
        batch: A mapping, named tuple, dataclass instance, tuple or list; anything else counts as its own member 0.
    """
    if isinstance(batch, Mapping):
        return dict(batch)
    if dataclasses.is_dataclass(batch) and not isinstance(batch, type):
        return {field.name: getattr(batch, field.name) for field in dataclasses.fields(batch)}
    if isinstance(batch, tuple) and hasattr(batch, "_asdict"):
        return dict(batch._asdict())
    return dict(enumerate(batch if isinstance(batch, tuple | list) else [batch]))


def map_members(change: Callable[[Any], Any], batch: Any) -> Any:
    """Change every member of a batch, in the same structure; an object without members is returned as it is."""
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*map(change, batch))
    if isinstance(batch, tuple | list):
        return type(batch)(map(change, batch))
    if isinstance(batch, Mapping):
        return {key: change(member) for key, member in batch.items()}
    if dataclasses.is_dataclass(batch) and not isinstance(batch, type):
        return _replace_members(batch, {name: change(member) for name, member in batch_members(batch).items()})
    return batch


def _list_names(row: dict[Any, Any]) -> str:
    return ", ".join(map(repr, row))


def _collate(key: Any, values: list[Any]) -> Any:
    if all(value is None for value in values):  # labels of unlabelled data sets
        return None
    try:
        return default_collate(values)
    except (TypeError, RuntimeError, KeyError) as error:
        kinds = ", ".join(dict.fromkeys(type(value).__name__ for value in values))
        raise ValueError(
            f"member {key!r} of the samples ({kinds}) cannot be made into a batch by default_collate: {error}"
        ) from error
