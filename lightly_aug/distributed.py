"""What losses and queues need from torch.distributed. In one process every function keeps its input as it is.

Every rank brings a batch of the same shape, as a loader with `drop_last=True` gives it.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["agreed", "gather", "rank", "shuffle", "unshuffle", "world_size"]


def rank() -> int:
    """The number of this process, 0 where nothing is distributed."""
    return dist.get_rank() if _distributed() else 0


def world_size() -> int:
    """How many processes train together, 1 where nothing is distributed."""
    return dist.get_world_size() if _distributed() else 1


def gather(x: Tensor, grad: bool = False) -> Tensor:
    """Join the tensors of all ranks along the first dimension.

    Args:
        x: This rank's part, `(n, ...)`, of one shape on every rank.
        grad: Let gradients flow back to the rank they belong to. Each rank receives the *sum* of what all ranks ask
            of its part; the mean that `DistributedDataParallel` then takes gives the gradient that one process
            has on the joined batch, for any loss that is a mean over its own rows.

    Returns:
        `(world_size * n, ...)`, in the order of the ranks; detached unless `grad`.
    """
    if not grad:
        return _join(x.detach())
    if world_size() == 1:
        return x
    joined: Tensor = _Gather.apply(x)
    return joined


def shuffle(x: Tensor) -> tuple[Tensor, Tensor]:
    """Deal the rows of all ranks out anew, so that BatchNorm statistics tell nothing about which rows belong together.

    This is the shuffle-BN of MoCo (He et al. 2020, arXiv 1911.05722, section 3.3). In one process there is nobody to
    exchange rows with and a permutation would change no statistic, so `x` is returned as it is.

    Args:
        x: This rank's rows, `(n, ...)`.

    Returns:
        This rank's share of the permuted joined batch, `(n, ...)`, and the permutation for `unshuffle`.
    """
    if world_size() == 1:
        return x, torch.arange(len(x), device=x.device)
    joined = gather(x)
    order = agreed(torch.randperm(len(joined), device=x.device))
    return joined[_own(order)], order


def agreed(x: Tensor) -> Tensor:
    """What rank 0 has, on every rank: for random choices that all ranks must make alike.

    Args:
        x: Anything, of one shape and dtype on every rank; overwritten where there are several.
    """
    if world_size() > 1:
        dist.broadcast(x, src=0)
    return x


def unshuffle(x: Tensor, order: Tensor) -> Tensor:
    """Bring the rows that `shuffle` dealt out back to the ranks and places they came from.

    Args:
        x: Anything computed row by row from the shuffled batch, `(n, ...)`.
        order: The permutation that `shuffle` returned.

    Returns:
        This rank's rows in their first order, `(n, ...)`, detached when there are several ranks.
    """
    if world_size() == 1:
        return x
    return gather(x)[_own(order.argsort())]


def _distributed() -> bool:
    return dist.is_available() and dist.is_initialized()


def _join(x: Tensor) -> Tensor:
    if world_size() == 1:
        return x
    parts = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(world_size())]
    dist.all_gather(parts, x.contiguous())
    return torch.cat(parts)


def _own(joined: Tensor) -> Tensor:
    return joined.chunk(world_size())[rank()]


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return _join(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        grad = grad.clone(memory_format=torch.contiguous_format)  # all_reduce writes in place
        dist.all_reduce(grad)
        return _own(grad)
