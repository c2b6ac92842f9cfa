"""Collective operations for losses and queues; in one process every function returns its input unchanged.

Every rank must have a batch of the same shape, as from a loader with `drop_last=True`.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["broadcast", "gather", "rank", "shuffle", "unshuffle", "world_size"]


def rank() -> int:
    """Return the number of this process, 0 without torch.distributed."""
    return dist.get_rank() if _is_distributed() else 0


def world_size() -> int:
    """Return the number of processes that train together, 1 without torch.distributed."""
    return dist.get_world_size() if _is_distributed() else 1


def gather(x: Tensor, grad: bool = False) -> Tensor:
    """Join the tensors of all ranks along the first dimension.

    Args:
        x: This rank's part, `(n, ...)`, of one shape on every rank.
        grad: Let gradients flow back to the rank they belong to. Each rank receives the *sum* of the gradients that
            all ranks have for its part; `DistributedDataParallel` then averages over ranks, which gives the gradient of
            one process on the joined batch for any loss that is a mean over a rank's own rows.

    Returns:
        `(world_size * n, ...)`, in rank order; detached unless `grad`.
    """
    if not grad:
        return _join(x.detach())
    if world_size() == 1:
        return x
    joined: Tensor = _Gather.apply(x)
    return joined


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
    parts = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(world_size())]
    dist.all_gather(parts, x.contiguous())
    return torch.cat(parts)


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
