"""Extraction of the features of a dataset of any size into a file, by any number of processes."""

import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from shutil import rmtree
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.utils.data import DataLoader, IterableDataset

from lightly_aug.atomic import replace_file
from lightly_aug.batch import labels_of, views_of
from lightly_aug.checks import check_integer
from lightly_aug.collate import BaseCollateFunction
from lightly_aug.distributed import rank, world_size
from lightly_aug.evaluate._features import Rows, embed_images, eval_mode
from lightly_aug.evaluate._table import check_features_file, write_blocks
from lightly_aug.indexed import EpochIndex, Indexed

__all__ = ["extract_features"]

_NOTES: Final = "parts.json"

Result = TypeVar("Result")


@torch.no_grad()
def extract_features(
    embed: Callable[[Tensor], Tensor],
    images: Any,
    collate: Callable[[list[Any]], Any],
    file: str | os.PathLike[str],
    *,
    names: Sequence[str] | None = None,
    labels: Sequence[str] | None = None,
    batch_size: int = 64,
    workers: int = 0,
    device: torch.device | str = "cpu",
    part: int = 4096,
    step: Callable[[int], object] = lambda count: None,
) -> tuple[int, int]:
    """Embed all images of a dataset into a file, which `read_features` reads.

    The features never have to fit in memory: parts of some thousand rows are written into the folder `FILE.parts`, and
    joined at the end. If the process is stopped, call the function again: it computes only the parts that are missing.
    It refuses parts of other weights, images or settings. Under several processes of torch.distributed, which must see
    the same folder, each computes some of the parts, and the first process joins them; the function returns in all of
    them when the file is complete. Waiting for it is subject to the timeout of the process group.

    Args:
        embed: A module that maps images `(n, c, h, w)` to features `(n, d)` or `(n, d, 1, 1)`, or a method of one. It
            runs in eval mode; afterwards the mode of every submodule is restored.
        images: A list of files, or a dataset with a length and integer indices.
        collate: Collate function of the batches; of several views the first is used. With one of this library, an image
            gets the same view in every part, process and run.
        file: File to write, `.npz`, `.csv`, `.parquet` or `.safetensors`, in the format of `write_features`. One that
            exists is replaced once the new one is complete.
        names: Names of the images; by default their paths, or their indices if they are not files.
        labels: Labels of the images; by default those of the batches, if there are some, as text.
        batch_size: Images in a batch.
        workers: Processes that load images, for each process that embeds.
        device: Device to run `embed` on; the module is not moved.
        part: Rows of a part, the most that an interruption loses; fewer if there are few images for many processes. A
            run that is continued keeps its own.
        step: Called with a number of images when this process has embedded them, and at the beginning, in the first
            process, with the number of those that an earlier run had embedded.

    Returns:
        The number of images, and the number of features of each.

    Raises:
        TypeError: `embed` is no module or method of one, or `images` is a stream.
        ValueError: There are no images, names or labels are not one for each image, the labels of the batches are not
            `(n,)`, the output of `embed` has not a row for each image, or the parts of an earlier run are of other
            weights, images or settings.
        RuntimeError: Another process failed.
        ModuleNotFoundError: The package that writes the format is not installed.

    Example:
        >>> import tempfile
        >>> from lightly_aug import MultiViewCollateFunction, Resize, View
        >>> photos = [torch.rand(3, 20, 30) for _ in range(5)]
        >>> collate = MultiViewCollateFunction([View(Resize((4, 4)))], seed=0)
        >>> extract_features(torch.nn.Flatten(), photos, collate, Path(tempfile.mkdtemp(), "features.npz"))
        (5, 48)
    """
    check_features_file("extract_features", file)
    check_integer("extract_features", least=1, batch_size=batch_size, part=part)
    check_integer("extract_features", least=0, workers=workers)
    network = _check_module(embed)
    files, names = _check_images(images, names, labels)
    parts = Path(file).with_name(Path(file).name + ".parts")
    each = -(-len(images) // (4 * world_size()))  # so that each process gets some parts
    each = min(part, -(-each // batch_size) * batch_size)
    if isinstance(collate, BaseCollateFunction) and not isinstance(images, Indexed):
        images = Indexed(images)
    own = {
        "weights": _hash_network(network),
        "settings": _hash(f"{getattr(embed, '__name__', '')} {network} {_describe(collate)}"),
    }

    def plan() -> _Plan:
        return _plan_parts(parts, own | {"images": _hash_images(names, labels, files)}, len(names), each)

    def join() -> int:
        return _join(parts, file, names, labels, planned.rows)

    _check_same(own)
    planned = _run_first(plan)
    if rank() == 0:
        step(planned.done)
    problem: Exception | None = None
    try:
        with eval_mode(embed):
            for number, batches in _load_parts(images, collate, planned, len(names), batch_size, workers, device):
                _embed_part(embed, batches, parts / f"{number:06}.npz", device, step, labels is None)
    except Exception as error:
        problem = error
    try:
        _meet(problem)
    except Exception:
        if rank() == 0 and not any(parts.glob("[0-9]*.npz")):
            rmtree(parts)  # there is nothing to go on from
        raise
    return len(names), _run_first(join)


class _Plan(NamedTuple):
    """What all processes have to agree on: the rows of a part, the parts that are missing, and the rows of others."""

    rows: int
    missing: list[int]
    done: int


def _plan_parts(parts: Path, settings: dict[str, str], count: int, rows: int) -> _Plan:
    """Begin a folder of parts, or look which parts an earlier run has left to do."""
    notes = parts / _NOTES
    if parts.exists() and not notes.is_file():
        raise ValueError(f"extract_features: {parts} must not exist, or hold {_NOTES}: delete it, or write elsewhere")
    if any(parts.glob("[0-9]*.npz")):
        found = json.loads(notes.read_text())
        others = [name for name, value in settings.items() if found.get(name) != value]
        if others:
            raise ValueError(
                f"extract_features: {parts} must hold parts of this extraction, got parts of other "
                f"{' and '.join(others)}: delete the folder to start over, or write to another file"
            )
        rows = found["rows"]
    else:
        with replace_file(notes) as new:
            new.write_text(json.dumps(settings | {"rows": rows}))
    missing = [i for i in range(-(-count // rows)) if not (parts / f"{i:06}.npz").is_file()]
    return _Plan(rows, missing, count - sum(min(rows, count - i * rows) for i in missing))


def _load_parts(
    dataset: Any,
    collate: Callable[[list[Any]], Any],
    plan: _Plan,
    count: int,
    batch_size: int,
    workers: int,
    device: torch.device | str,
) -> Iterator[tuple[int, Iterator[tuple[int, Any]]]]:
    """Yield the parts of this process: the number of each, and its batches with their sizes."""
    parts = []
    for i in plan.missing[rank() :: world_size()]:
        start, stop = i * plan.rows, min((i + 1) * plan.rows, count)
        parts.append((i, [range(at, min(at + batch_size, stop)) for at in range(start, stop, batch_size)]))
    if not parts:
        return
    loader: DataLoader[Any] = DataLoader(  # one for all parts, so that workers go on from part to part
        dataset,
        # of epoch 0, whatever the collate function was used for before
        batch_sampler=([EpochIndex(i, 0) for i in batch] for _, batches in parts for batch in batches),
        collate_fn=collate,
        num_workers=workers,
        pin_memory=torch.device(device).type == "cuda",
        generator=torch.Generator(),  # instead of the global one, which would advance
    )
    loaded = iter(loader)
    for number, batches in parts:
        yield number, ((len(batch), next(loaded)) for batch in batches)


def _embed_part(
    embed: Callable[[Tensor], Tensor],
    batches: Iterator[tuple[int, Any]],
    file: Path,
    device: torch.device | str,
    step: Callable[[int], object],
    labelled: bool,
) -> None:
    rows, labels = Rows(), Rows()
    for count, batch in batches:
        embedded, label = embed_images(embed, views_of(batch), device), labels_of(batch)
        if len(embedded) != count:
            raise ValueError(
                f"extract_features: embed must return a row for each of {count} images, got {len(embedded)}"
            )
        rows.add(embedded)
        if labelled and label is not None:
            if label.shape != (count,):
                raise ValueError(
                    f"extract_features: labels of {count} images must be ({count},), got {tuple(label.shape)}: give "
                    "them as text, with labels="
                )
            labels.add(label)
        step(count)
    x, y = rows.join(), labels.join()
    assert x is not None
    if y is not None and len(y) != len(x):
        raise ValueError(f"extract_features: all batches or none must have labels, got {len(y)} for {len(x)} images")
    arrays = {"features": x.numpy()} | ({} if y is None else {"label": y.numpy()})
    with replace_file(file) as new, new.open("wb") as opened:
        np.savez(opened, **arrays)  # type: ignore[arg-type]


def _join(
    parts: Path, file: str | os.PathLike[str], names: Sequence[str], labels: Sequence[str] | None, rows: int
) -> int:
    """Write the file from its parts, delete them, and return the number of features of each image."""
    numbers = range(-(-len(names) // rows))
    shapes, found = [], []
    for i in numbers:
        with np.load(parts / f"{i:06}.npz", allow_pickle=False) as arrays:
            found += [str(label) for label in arrays["label"].tolist()] if "label" in arrays else []
            shapes.append(_read_shape(arrays))
    width = shapes[0][1]
    if any(shape != (min(rows, len(names) - i * rows), width) for i, shape in zip(numbers, shapes, strict=True)):
        raise ValueError(f"extract_features: parts must have {rows} rows of one width, got {set(shapes)} in {parts}")
    if labels is None and found:
        if len(found) != len(names):
            raise ValueError(
                f"extract_features: all images or none must have labels, got {len(found)} for {len(names)} images"
            )
        labels = found

    def blocks() -> Iterator[NDArray[np.float32]]:
        for i in numbers:
            with np.load(parts / f"{i:06}.npz", allow_pickle=False) as arrays:
                yield arrays["features"]

    write_blocks(file, blocks(), names, labels, width)
    rmtree(parts)
    return width


def _read_shape(arrays: Any) -> tuple[int, int]:
    """Return the shape of the features without reading them."""
    with arrays.zip.open("features.npy") as member:
        np.lib.format.read_magic(member)
        rows, width = np.lib.format.read_array_header_1_0(member)[0]
    return rows, width


def _check_module(embed: Callable[[Tensor], Tensor]) -> nn.Module:
    owner = getattr(embed, "__self__", embed)
    if not isinstance(owner, nn.Module):
        raise TypeError(
            "extract_features: embed must be a module or a method of one, whose weights tell if an earlier run can be "
            f"continued, got {type(embed).__name__}: write the function as a torch.nn.Module"
        )
    if any(isinstance(parameter, DTensor) for parameter in owner.parameters()):
        raise TypeError(
            "extract_features: embed must be whole in each process, got a sharded module, of which all processes would "
            "have to embed as many batches: save it, and load it with Backbone.from_pretrained"
        )
    return owner


def _check_images(
    images: Any, names: Sequence[str] | None, labels: Sequence[str] | None
) -> tuple[Sequence[Any] | None, Sequence[str]]:
    """Return the images if they are files, and their names."""
    if isinstance(images, IterableDataset) or not (hasattr(images, "__len__") and hasattr(images, "__getitem__")):
        raise TypeError(
            f"extract_features: images must be a list or dataset with a length and indices, got {type(images).__name__}"
        )
    if len(images) == 0:
        raise ValueError("extract_features: images must hold at least one image, got none")
    files = images if isinstance(images, Sequence) and all(isinstance(i, str | os.PathLike) for i in images) else None
    if names is None:
        names = [str(i) for i in range(len(images))] if files is None else [Path(image).as_posix() for image in files]
    for name, column in (("names", names), ("labels", labels)):
        if column is not None and len(column) != len(images):
            raise ValueError(
                f"extract_features: {name} must be one for each of {len(images)} images, got {len(column)}"
            )
    return files, names


def _check_same(own: dict[str, str]) -> None:
    found = [own] * world_size()
    if world_size() > 1:
        dist.all_gather_object(found, own)
    others = [name for name, value in own.items() if any(each[name] != value for each in found)]
    if others:
        raise ValueError(
            f"extract_features: all processes must embed with the same module and collate function, got other "
            f"{' and '.join(others)} in some: load the weights in every process"
        )


def _run_first(function: Callable[[], Result]) -> Result:
    """Run a function in the first process; all processes return its result, or raise what it raised."""
    results: list[Any] = [None]
    if rank() == 0:
        try:
            results = [(function(), None)]
        except Exception as error:
            results = [(None, error)]
    if world_size() > 1:
        dist.broadcast_object_list(results)
    result: Result
    result, problem = results[0]
    if problem is not None:
        raise problem
    return result


def _meet(problem: Exception | None) -> None:
    """Wait for all processes; raise the exception of this one, or say in which another was raised."""
    text = None if problem is None else f"{type(problem).__name__}: {problem}"
    texts = [text] * world_size()
    if world_size() > 1:
        dist.all_gather_object(texts, text)
    if problem is not None:
        raise problem
    for number, other in enumerate(texts):
        if other is not None:
            raise RuntimeError(f"extract_features: process {number} failed: {other}")


def _hash_images(names: Sequence[str], labels: Sequence[str] | None, files: Sequence[Any] | None) -> str:
    # not the time of a file, which changes when a dataset is copied to the disk of another machine
    sizes = None if files is None else [Path(image).stat().st_size for image in files]
    return _hash(json.dumps([list(names), None if labels is None else list(labels), sizes]))


def _hash_network(network: nn.Module) -> str:
    found = sha256()
    for name, value in network.state_dict().items():
        if isinstance(value, Tensor):
            found.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            found.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        else:
            found.update(f"{name} {value!r}".encode())
    return found.hexdigest()


def _hash(text: str) -> str:
    return sha256(re.sub(r" at 0x[0-9a-f]+", "", text).encode()).hexdigest()  # addresses differ between processes


def _describe(collate: Callable[[list[Any]], Any]) -> str:
    if isinstance(collate, BaseCollateFunction):  # its repr shows every argument
        return repr(collate)
    return str(getattr(collate, "__qualname__", type(collate).__qualname__))
