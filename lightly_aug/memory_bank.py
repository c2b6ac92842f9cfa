"""A memory bank: a queue of past keys, the negatives of MoCo and similar losses."""

import torch
from torch import Tensor, nn

from lightly_aug.checks import check_integer
from lightly_aug.distributed import gather
from lightly_aug.finite import BadRows

__all__ = ["MemoryBank"]


class MemoryBank(nn.Module):
    """A queue of the last `size` keys, the same on every rank.

    This is the dictionary of MoCo (He et al. 2020, arXiv 1911.05722). Keys are kept in a ring buffer: each update
    overwrites the oldest ones, for any sizes of ring and batch. All state is in persistent buffers, so a resumed run
    continues with the same negatives. No operation waits for the device. Since all ranks hold the same keys,
    `DistributedDataParallel(broadcast_buffers=True)` does no harm, but sends the ring at every step.

    Keys that are not finite are left out, with one warning: a single NaN would make every later loss NaN.

    Args:
        size: Number of keys to keep, at least 1.
        dim: Width of a key, at least 1.

    Attributes:
        keys: `(size, dim)` float32, the ring; rows that were never written are zero.
        pointer: `()` int64, the row to write next.
        filled: `()` int64, the number of rows ever written; these are the first rows.

    Raises:
        ValueError: `size` or `dim` is not an integer of at least 1.

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
        check_integer(self, least=1, size=size, dim=dim)
        self.register_buffer("keys", torch.zeros(size, dim))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.int64))
        self.register_buffer("filled", torch.zeros((), dtype=torch.int64))
        self._bad = BadRows("MemoryBank")

    def update(self, keys: Tensor) -> None:
        """Overwrite the oldest keys with those of all ranks; do nothing in eval mode.

        Args:
            keys: This rank's keys, `(n, dim)`, oldest first, any floating dtype. Only the last `size` are kept.

        Raises:
            ValueError: `keys` is not `(n, dim)`.
        """
        size, dim = self.keys.shape
        if keys.ndim != 2 or keys.shape[1] != dim:
            raise ValueError(f"MemoryBank: keys must be (n, {dim}), got {tuple(keys.shape)}")
        if not self.training:
            return
        keys = gather(keys.to(self.keys.dtype))  # detached
        finite = keys.isfinite().all(1)
        total = (
            finite.sum()
        )  # on the device, which is not waited for: so all slots are written, some with what they hold
        rows = torch.arange(min(len(keys), size), device=keys.device)
        rows = rows + (total - len(rows)).clamp(min=0)  # the last ones
        places = (self.pointer + rows) % size
        chosen = (~finite).byte().sort(stable=True).indices[rows]  # finite keys in their order, then the others
        kept = torch.where(finite[chosen, None], keys[chosen], self.keys[places])
        self.keys.index_copy_(0, places, kept)
        self.pointer.add_(total).remainder_(size)
        self.filled.add_(total).clamp_(max=size)
        self._bad.count(len(keys) - total)

    def negatives(self) -> tuple[Tensor, Tensor]:
        """Return a copy of the keys and a mask of the rows that hold one.

        Returns:
            The keys, `(size, dim)`, copied because the backward pass needs them unchanged by later updates, and a bool
            mask `(size,)` that is False where no key was written yet.
        """
        return self.keys.clone(), torch.arange(len(self), device=self.keys.device) < self.filled

    @torch.no_grad()
    def nearest(self, queries: Tensor) -> Tensor:
        """Return the nearest key of every query, by cosine similarity to keys of unit length.

        Args:
            queries: `(n, dim)`, rows of any length, any floating dtype.

        Returns:
            `(n, dim)` in the dtype of the keys; while the bank is empty, the queries themselves, normalised.
        """
        queries = nn.functional.normalize(queries.to(self.keys.dtype), dim=1)
        with torch.autocast(queries.device.type, enabled=False):
            similarity = queries @ self.keys.T  # (n, size)
        real = torch.arange(len(self), device=self.keys.device) < self.filled
        found = self.keys[similarity.masked_fill(~real, -torch.inf).argmax(dim=1)]
        return torch.where(self.filled > 0, found, queries)

    def __len__(self) -> int:
        """Return the number of keys that fit; `filled` counts those written."""
        return self.keys.shape[0]

    def extra_repr(self) -> str:
        """Return the arguments as the constructor takes them."""
        return f"size={self.keys.shape[0]}, dim={self.keys.shape[1]}"
