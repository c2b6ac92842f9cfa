"""Render the next batch of views while the model works on the current one."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from lightly_aug.batch import Views
from lightly_aug.samples import map_members

__all__ = ["prefetch"]


def prefetch(
    loader: DataLoader[Any],
    device: torch.device | str | int,
    *,
    dtype: torch.dtype | None = None,
    memory_format: torch.memory_format = torch.contiguous_format,
) -> "_Prefetched":
    """Iterate over the batches of a loader, with the views rendered and all other tensors moved to a device.

    On CUDA the next batch is copied and rendered on a separate stream while the model works on the current one; set
    `pin_memory=True` in the loader, or the copies cannot overlap. On any other device batches are rendered one by one.
    An error in the loader is raised after the batches before it.

    Args:
        loader: A loader with a collate function of lightly_aug. The result has its length and its attributes
            (`dataset`, `sampler`, `batch_sampler` …).
        device: Device to render on and to move to.
        dtype: Floating dtype of the views; by default each view's own.
        memory_format: `torch.contiguous_format` or `torch.channels_last`, the memory format of the views.

    Returns:
        An iterable of batches in the loader's structure, with a list of tensors in place of each `Views`. Iterate over
        it once for each epoch.

    Example:
        >>> from torch.utils.data import DataLoader
        >>> from lightly_aug import SimCLRCollateFunction
        >>> images = [(torch.rand(3, 40, 40), label) for label in range(4)]
        >>> loader = DataLoader(images, batch_size=2, collate_fn=SimCLRCollateFunction(32, seed=0))
        >>> for (x0, x1), labels in prefetch(loader, "cpu"):
        ...     print(tuple(x0.shape), labels)
        (2, 3, 32, 32) tensor([0, 1])
        (2, 3, 32, 32) tensor([2, 3])
    """
    return _Prefetched(loader, torch.device(device), dtype, memory_format)


class _Prefetched:
    def __init__(
        self,
        loader: DataLoader[Any],
        device: torch.device,
        dtype: torch.dtype | None,
        memory_format: torch.memory_format,
    ) -> None:
        self.loader = loader
        self.device = device
        self._dtype = dtype
        self._memory_format = memory_format
        # one stream for all epochs, since the allocator keeps a pool of memory for every stream ever made
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def __iter__(self) -> Iterator[Any]:
        if self._stream is None:
            return map(self._move, self.loader)
        return self._iterate_ahead(self._stream)

    def _iterate_ahead(self, stream: torch.cuda.Stream) -> Iterator[Any]:
        batches = iter(self.loader)
        following = self._start(batches, stream)
        while following is not None:
            batch = following()
            following = self._start(batches, stream)
            yield batch

    def _start(self, batches: Iterator[Any], stream: torch.cuda.Stream) -> Callable[[], Any] | None:
        """Start to render the next batch. The result returns the batch, or raises the error of the loader."""
        try:
            batch = next(batches)
        except StopIteration:
            return None
        except Exception as error:
            return _raiser(error)
        # The inputs may still be written. Also, the memory of earlier batches comes back to this stream when they are
        # dropped, and all that used them is queued by then: waiting here replaces `record_stream`, after which a forked
        # worker that collects such a batch as garbage is aborted.
        stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(stream):
            batch = self._move(batch)

        def hand_over() -> Any:
            torch.cuda.current_stream(self.device).wait_stream(stream)
            return batch

        return hand_over

    def _move(self, batch: Any) -> Any:
        if isinstance(batch, Views):
            return batch.to(self.device, self._dtype, memory_format=self._memory_format)
        if isinstance(batch, Tensor):
            return batch.to(self.device, non_blocking=True)
        return map_members(self._move, batch)

    def __len__(self) -> int:
        return len(self.loader)

    def __getattr__(self, name: str) -> Any:
        if name == "loader":  # missing while this object is unpickled
            raise AttributeError(name)
        return getattr(self.loader, name)

    def __repr__(self) -> str:
        return f"prefetch({self.loader!r}, {str(self.device)!r})"


def _raiser(error: Exception) -> Callable[[], Any]:
    def hand_over() -> Any:
        raise error

    return hand_over
