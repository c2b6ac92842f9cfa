"""Collective operations for losses and queues; in one process every function returns its input unchanged.

Every rank must have a batch of the same shape, as from a loader with `drop_last=True`, and as many batches: `gather`
refuses shapes that differ, and `in_step` ends the loops of all ranks together.
"""

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from lightly_aug.user_warning import warn_user

__all__ = ["broadcast", "gather", "in_step", "rank", "shuffle", "unshuffle", "world_size"]

Batch = TypeVar("Batch")


def rank() -> int:
    """Return the number of this process, 0 without torch.distributed."""
    return dist.get_rank() if _is_distributed() else 0


def world_size() -> int:
    """Return the number of processes that train together, 1 without torch.distributed."""
    return dist.get_world_size() if _is_distributed() else 1


def gather(x: Tensor, grad: bool = False) -> Tensor:
    """Join the tensors of all ranks along the first dimension.

    The ranks first compare their shapes, between the hosts, so that no device is waited for. Shapes that differ would
    abort the process, hang, or mix up rows, depending on the backend. Under `torch.compile` they are not compared.

    Args:
        x: This rank's part, `(n, ...)`, of one shape on every rank.
        grad: Let gradients flow back to the rank they belong to. Each rank receives the *sum* of the gradients that
            all ranks have for its part; `DistributedDataParallel` then averages over ranks, which gives the gradient of
            one process on the joined batch for any loss that is a mean over a rank's own rows.

    Returns:
        `(world_size * n, ...)`, in rank order; detached unless `grad`.

    Raises:
        ValueError: The shapes differ. Every rank raises it.
    """
    if not grad:
        return _join(x.detach())
    if world_size() == 1:
        return x
    joined: Tensor = _Gather.apply(x)
    return joined


def in_step(batches: Iterable[Batch]) -> Iterator[Batch]:
    """Yield the batches of this rank until a rank has no more, so that none waits for a batch that another lacks.

    Use it in a loop of your own whose ranks may have different numbers of batches, such as streams: `for batch in
    in_step(loader)`. It warns, on rank 0, if batches of other ranks were left out. A `break` must happen on all ranks.

    Args:
        batches: The batches of this rank, such as a DataLoader.
    """
    if world_size() == 1:
        yield from batches
        return
    end: Any = object()
    iterator, done = iter(batches), 0
    while True:
        batch = next(iterator, end)
        ended = [number for number, (over,) in enumerate(_exchange(batch is end)) if over]
        if ended:
            break
        yield batch
        done += 1
    if rank() == 0 and len(ended) < world_size():
        warn_user(
            f"in_step: rank {', '.join(map(str, ended))} has {done} batches, and others have more, which are left out: "
            "give all ranks as many batches"
        )


def shuffle(x: Tensor) -> tuple[Tensor, Tensor]:
    """Shuffle rows across ranks, so that BatchNorm statistics cannot reveal which rows are pairs.

    This is the shuffling BN of MoCo (He et al. 2020, arXiv 1911.05722, section 3.3). In one process a permutation would
    not change any statistic, so `x` is returned unchanged.

    Args:
        x: This rank's rows, `(n, ...)`.

    Returns:
        This rank's share of the permuted joined batch, `(n, ...)`, and the permutation for `unshuffle`.
    """
    if world_size() == 1:
        return x, torch.arange(len(x), device=x.device)
    joined = gather(x)
    order = broadcast(torch.randperm(len(joined), device=x.device))
    return joined[_take_own(order)], order


def broadcast(x: Tensor) -> Tensor:
    """Return rank 0's tensor on every rank, for random choices that must be the same everywhere.

    Args:
        x: Any tensor, of one shape and dtype on every rank; overwritten in place if there are several ranks.
    """
    if world_size() > 1:
        dist.broadcast(x, src=0)
    return x


def unshuffle(x: Tensor, order: Tensor) -> Tensor:
    """Return shuffled rows to the ranks and places they came from.

    Args:
        x: Values computed row by row from the shuffled batch, `(n, ...)`.
        order: The permutation that `shuffle` returned.

    Returns:
        This rank's rows in their original order, `(n, ...)`, detached if there are several ranks.
    """
    if world_size() == 1:
        return x
    return gather(x)[_take_own(order.argsort())]


def _is_distributed() -> bool:
    return dist.is_available() and dist.is_initialized()


def _join(x: Tensor) -> Tensor:
    if world_size() == 1:
        return x
    _check_shapes(x)
    parts = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(world_size())]
    dist.all_gather(parts, x.contiguous())
    return torch.cat(parts)


def _check_shapes(x: Tensor) -> None:
    """Raise on every rank if the ranks have different numbers of rows, or rows of different sizes."""
    if torch.compiler.is_compiling():
        return
    shapes = _exchange(len(x), x.shape[1:].numel())
    for number, shape in enumerate(shapes):
        if shape != shapes[0]:
            (n, width), (m, other) = shapes[0], shape
            raise ValueError(
                f"gather: every rank must have a batch of the same shape, got {n} rows of {width} values on rank 0 and "
                f"{m} of {other} on rank {number}: use drop_last=True, and a sampler that gives every rank as many "
                "images, such as EpochSampler"
            )


def _exchange(*numbers: int) -> list[list[int]]:
    """Return the numbers of every rank, in rank order, through the hosts.

    A gather and a broadcast take fewer hops than `all_gather`, whose messages pass through all ranks one after another.
    """
    own, group = torch.tensor(numbers, dtype=torch.int64), _hosts()
    joined = own.new_empty(world_size(), len(own))
    try:
        dist.gather(own, list(joined) if rank() == 0 else None, dst=0, group=group)
        dist.broadcast(joined, src=0, group=group)
    except RuntimeError as error:
        error.add_note(
            "lightly_aug: this rank waited for the others, and one of them ended or had no batch. All ranks need as "
            "many batches: see lightly_aug.distributed.in_step"
        )
        raise
    rows: list[list[int]] = joined.tolist()
    return rows


_made: tuple[object, Any] = (None, None)
"""The default group of processes, and the group that `_hosts` made beside it."""


def _hosts() -> Any:
    """Return a group of all ranks that exchanges tensors of the CPU, made once if the default group cannot."""
    global _made  # noqa: PLW0603
    world = dist.group.WORLD
    if "cpu:gloo" in dist.get_backend_config():
        return world
    if _made[0] is not world:
        _made = world, dist.new_group(backend="gloo")
    return _made[1]


def _take_own(joined: Tensor) -> Tensor:
    return joined.chunk(world_size())[rank()]


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return _join(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        grad = grad.clone(memory_format=torch.contiguous_format)  # all_reduce writes in place
        dist.all_reduce(grad)
        return _take_own(grad)
