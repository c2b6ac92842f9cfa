"""Extraction of the features of a whole dataset into memory."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SequentialSampler

from lightly_aug.batch import RenderedViews, Views, labels_of, views_of
from lightly_aug.distributed import gather as gather_ranks
from lightly_aug.distributed import world_size

__all__ = ["Rows", "embed_images", "eval_mode", "features"]

_BLOCK: Final = 64 * 2**20  # bytes of rows that wait on the device


@torch.no_grad()
def features(
    embed: Callable[[Tensor], Tensor], loader: Iterable[Any], device: torch.device | str = "cpu", *, gather: bool = True
) -> tuple[Tensor, Tensor | None]:
    """Embed all images of a loader.

    Under several processes of torch.distributed, each embeds the batches of its own loader. If the dataset is
    `Indexed`, the rows of all processes are gathered: every process returns the same rows, in the order of the dataset,
    and an image that a distributed sampler repeats is returned once. Without indices the rows stay in their process if
    it holds all of them: `loader` is a list, or a `DataLoader` with a sequential or random sampler.

    Args:
        embed: Maps images `(n, c, h, w)` to features `(n, d)` or `(n, d, 1, 1)`. A module, or a method of one, runs in
            eval mode; afterwards the mode of every submodule is restored.
        loader: Yields batches of any structure with views or images, and with labels if there are some;
            `lightly_aug.batch.views_of` and `labels_of` say where they are found. Of several views the first is used.
        device: Device to run `embed` on.
        gather: Gather the rows of several processes. False returns to each process the rows of its own loader, in the
            order of the loader.

    Returns:
        Features `(N, d)` in float32 and labels `(N, ...)`, both on the CPU; labels are None if the loader has none.

    Raises:
        TypeError: There are no views or images in a batch.
        ValueError: The loader is empty, some of its batches have no labels or indices, or the rows of several processes
            cannot be gathered because the dataset is not `Indexed`.

    Example:
        >>> x, _ = features(torch.nn.Flatten(), [torch.rand(4, 3, 2, 2), torch.rand(1, 3, 2, 2)])
        >>> x.shape
        torch.Size([5, 12])
    """
    rows, labels, indices = Rows(), Rows(), Rows()
    with eval_mode(embed):
        for batch in loader:
            images = views_of(batch)
            rows.add(embed_images(embed, images, device))
            for kept, values in ((labels, labels_of(batch)), (indices, _index_of(images))):
                if values is not None:
                    kept.add(values)
    x, y, index = rows.join(), labels.join(), indices.join()
    for name, values in (("label", y), ("index", index)):
        if values is not None and x is not None and len(values) != len(x):
            raise ValueError(
                f"features: all batches or none must have a {name} for each image, got {len(values)} of them for "
                f"{len(x)} images"
            )
    if gather and world_size() > 1 and not (index is None and _holds_all(loader)):
        return _gather(x, y, index)
    if x is None:
        raise ValueError("features: loader must yield at least one batch, got none")
    return x, y


@contextmanager
def eval_mode(embed: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Put a module, or the module that a method belongs to, in eval mode; at the end restore the mode of every part.

    Args:
        embed: Any callable; one that belongs to no module is left as it is.
    """
    owner = getattr(embed, "__self__", embed)
    modes = {module: module.training for module in owner.modules()} if isinstance(owner, nn.Module) else {}
    try:
        for module in modes:
            module.training = False
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def embed_images(embed: Callable[[Tensor], Tensor], images: Any, device: torch.device | str) -> Tensor:
    """Return the features of a batch, `(n, d)` in float32 on the device.

    Args:
        embed: As in `features`.
        images: What `views_of` finds in the batch; of several views the first is used.
        device: Device to run `embed` on.
    """
    views = images if isinstance(images, list | tuple) else images.to(device, non_blocking=True)
    view: Tensor = views if isinstance(views, Tensor) else views[0].to(device, non_blocking=True)
    return embed(view).flatten(1).float()


class Rows:
    """Rows that are collected on the CPU. They wait on their device until there are many: a copy waits for the device.

    A loop that copies each batch at once makes the device wait for the host after each batch.
    """

    def __init__(self) -> None:
        self._here: list[Tensor] = []
        self._waiting: list[Tensor] = []
        self._bytes = 0

    def add(self, rows: Tensor) -> None:
        """Add rows `(n, ...)`."""
        if rows.device.type == "cpu":
            self._here.append(rows)
            return
        self._waiting.append(rows)
        self._bytes += rows.nbytes
        if self._bytes >= _BLOCK:
            self._move()

    def join(self) -> Tensor | None:
        """Return all rows on the CPU, None if none were added."""
        self._move()
        return torch.cat(self._here) if self._here else None

    def _move(self) -> None:
        if self._waiting:
            self._here.append(torch.cat(self._waiting).cpu())
        self._waiting, self._bytes = [], 0


def _index_of(images: Any) -> Tensor | None:
    # not of any list: each has a method of that name
    index: Tensor | None = getattr(images, "index", None) if isinstance(images, Views | RenderedViews) else None
    return index


def _holds_all(loader: Iterable[Any]) -> bool:
    """Whether this process certainly has all batches, not a part of them."""
    if isinstance(loader, list | tuple):
        return True
    if type(loader) is not DataLoader:  # a subclass, such as Accelerate's, may divide the batches
        return False
    batches: Any = loader.batch_sampler
    if batches is not None and type(batches) is not BatchSampler:
        return False
    return type(loader.sampler if batches is None else batches.sampler) in (SequentialSampler, RandomSampler)


def _gather(x: Tensor | None, y: Tensor | None, index: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Return the rows and labels of all processes in the order of their indices, each index once."""
    mine = [None if values is None else (tuple(values.shape[1:]), values.dtype) for values in (x, y, index)]
    parts: list[Any] = [None] * world_size()
    dist.all_gather_object(parts, (0 if x is None else len(x), mine))
    counts = [count for count, _ in parts]
    kinds = [kind for count, kind in parts if count]
    if not kinds:
        raise ValueError("features: loader must yield at least one batch in one of the processes, got none")
    if any(kind != kinds[0] for kind in kinds):
        raise ValueError(f"features: features, labels and indices must be of one kind in all processes, got {kinds}")
    if kinds[0][2] is None:
        raise ValueError(
            f"features: the rows of {world_size()} processes can be put in order only if the dataset is Indexed, got "
            "batches without indices: write DataLoader(Indexed(dataset), sampler=DistributedSampler(dataset, "
            "shuffle=False), collate_fn=...) with a collate function of this library; or gather=False, if each process "
            "is to keep the rows of its own loader"
        )
    # nccl moves tensors of the device only, and gloo those of the CPU at least
    link = torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else torch.device("cpu")
    joined: list[Tensor | None] = []
    for values, kind in zip((x, y, index), kinds[0], strict=True):
        if kind is None:
            joined.append(None)
            continue
        padded = torch.zeros(max(counts), *kind[0], dtype=kind[1], device=link)
        if values is not None:
            padded[: len(values)] = values.to(link)
        blocks = gather_ranks(padded).cpu().split(max(counts))
        joined.append(torch.cat([block[:count] for block, count in zip(blocks, counts, strict=True)]))
    rows, labels, places = joined
    assert rows is not None
    assert places is not None
    places, order = places.sort(stable=True)
    first = torch.ones_like(places, dtype=torch.bool)
    first[1:] = places[1:] != places[:-1]
    order = order[first]
    return rows[order], None if labels is None else labels[order]
