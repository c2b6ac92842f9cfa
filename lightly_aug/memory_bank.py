"""A queue of past keys, the negatives of MoCo-like losses."""

import torch
from torch import Tensor, nn

from lightly_aug.distributed import gather

__all__ = ["MemoryBank"]


class MemoryBank(nn.Module):
    """The last `size` keys that were seen, on every rank the same.

    A ring: each update overwrites the oldest keys, whatever the sizes of ring and batch. The state lies in persistent
    buffers, so that a resumed run goes on with the negatives it had. Nothing here waits for the device. As all ranks
    hold the same, `DistributedDataParallel(broadcast_buffers=True)` does no harm, but sends the ring at every step.

    The dictionary of MoCo (He et al. 2020, arXiv 1911.05722).

    Args:
        size: How many keys to keep, at least 1.
        dim: Width of a key, at least 1.

    Attributes:
        keys: `(size, dim)` float32, the ring; rows that were never written are zero.
        pointer: `()` int64, the row that is written next.
        filled: `()` int64, how many rows were ever written; they are the first ones.

    Raises:
        ValueError: `size` or `dim` is below 1.

    Example:
        >>> bank = MemoryBank(size=3, dim=1)
        >>> bank.update(torch.tensor([[1.0], [2.0]]))
        >>> keys, valid = bank.negatives()
        >>> keys[valid].flatten()
        tensor([1., 2.])
        >>> bank.update(torch.tensor([[3.0], [4.0]]))
        >>> bank.keys.flatten()
        tensor([4., 2., 3.])
    """

    keys: Tensor
    pointer: Tensor
    filled: Tensor

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        if size < 1 or dim < 1:
            raise ValueError(f"MemoryBank(size={size}, dim={dim}): both must be at least 1")
        self.register_buffer("keys", torch.zeros(size, dim))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.int64))
        self.register_buffer("filled", torch.zeros((), dtype=torch.int64))

    def update(self, keys: Tensor) -> None:
        """Write the keys of all ranks over the oldest ones; in eval mode nothing moves.

        Args:
            keys: This rank's keys, `(n, dim)`, oldest first, any floating dtype. Of more than `size` the last stay.

        Raises:
            ValueError: `keys` is not `(n, dim)`.
        """
        size, dim = self.keys.shape
        if keys.ndim != 2 or keys.shape[1] != dim:
            raise ValueError(f"keys are {tuple(keys.shape)}, this MemoryBank takes (n, {dim})")
        if not self.training:
            return
        keys = gather(keys.to(self.keys.dtype))  # detached
        total = len(keys)
        keys = keys[-size:]
        places = self.pointer + torch.arange(total - len(keys), total, device=keys.device)
        self.keys.index_copy_(0, places % size, keys)
        self.pointer.add_(total).remainder_(size)
        self.filled.add_(total).clamp_(max=size)

    def negatives(self) -> tuple[Tensor, Tensor]:
        """The keys as they are now, and which of them are real.

        Returns:
            A copy of the keys, `(size, dim)`, which later updates leave alone as the backward pass needs, and a bool
            mask `(size,)` that is False where no key was written yet.
        """
        return self.keys.clone(), torch.arange(len(self), device=self.keys.device) < self.filled

    @torch.no_grad()
    def nearest(self, queries: Tensor) -> Tensor:
        """The nearest key of every query, by cosine similarity to keys of unit length.

        Args:
            queries: `(n, dim)`, any length and floating dtype.

        Returns:
            `(n, dim)` in the dtype of the keys; the queries themselves, in unit length, while no key was written.
        """
        queries = nn.functional.normalize(queries.to(self.keys.dtype), dim=1)
        with torch.autocast(queries.device.type, enabled=False):
            similarity = queries @ self.keys.T  # (n, size)
        real = torch.arange(len(self), device=self.keys.device) < self.filled
        found = self.keys[similarity.masked_fill(~real, -torch.inf).argmax(dim=1)]
        return torch.where(self.filled > 0, found, queries)

    def __len__(self) -> int:
        """How many keys fit; `filled` tells how many there are."""
        return self.keys.shape[0]

    def extra_repr(self) -> str:
        """The arguments, as in the constructor."""
        return f"size={self.keys.shape[0]}, dim={self.keys.shape[1]}"
