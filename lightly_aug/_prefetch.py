"""The next batch of views, rendered while the model still works on this one."""

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
    """Iterate over a loader's batches with their views rendered, and everything else moved, on a device.

    On CUDA the next batch is copied and rendered on a stream of its own while the model works on this one; give the
    loader `pin_memory=True`, or the copies cannot overlap. On any other device it renders batch by batch. An error
    of the loader is raised at its turn, after the batches before it.

    Args:
        loader: its collate function is one of ours. Its attributes (`dataset`, `sampler`, `batch_sampler` …) and its
            length are those of the result, too.
        device: where to render and move to.
        dtype: floating dtype of the views; by default each view's own.
        memory_format: of the views, `torch.contiguous_format` or `torch.channels_last`.

    Returns:
        An iterable of batches of the loader's shape, with a list of tensors where a `Views` stood. It can be iterated
        over once for every epoch.

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
        # one for life: the allocator keeps a pool of memory for every stream there ever was
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]

    def __iter__(self) -> Iterator[Any]:
        if self._stream is None:
            return map(self._moved, self.loader)
        return self._ahead(self._stream)

    def _ahead(self, stream: torch.cuda.Stream) -> Iterator[Any]:
        batches = iter(self.loader)
        following = self._start(batches, stream)
        while following is not None:
            batch = following()
            following = self._start(batches, stream)
            yield batch

    def _start(self, batches: Iterator[Any], stream: torch.cuda.Stream) -> Callable[[], Any] | None:
        """Begin to render the next batch; the result hands it over, or raises what the loader raised."""
        try:
            batch = next(batches)
        except StopIteration:
            return None
        except Exception as error:
            return _raiser(error)
        stream.wait_stream(torch.cuda.current_stream(self.device))  # what the batch was made of may be made there
        with torch.cuda.stream(stream):
            batch = self._moved(batch)

        def hand_over() -> Any:
            consumer = torch.cuda.current_stream(self.device)
            consumer.wait_stream(stream)
            for tensor in _tensors(batch):
                tensor.record_stream(consumer)  # lest its memory is used again before the consumer is done
            return batch

        return hand_over

    def _moved(self, batch: Any) -> Any:
        if isinstance(batch, Views):
            return batch.to(self.device, self._dtype, memory_format=self._memory_format)
        if isinstance(batch, Tensor):
            return batch.to(self.device, non_blocking=True)
        return map_members(self._moved, batch)

    def __len__(self) -> int:
        return len(self.loader)

    def __getattr__(self, name: str) -> Any:
        if name == "loader":  # not there yet: while it is unpickled
            raise AttributeError(name)
        return getattr(self.loader, name)

    def __repr__(self) -> str:
        return f"prefetch({self.loader!r}, {str(self.device)!r})"


def _raiser(error: Exception) -> Callable[[], Any]:
    def hand_over() -> Any:
        raise error

    return hand_over


def _tensors(batch: Any) -> list[Tensor]:
    found: list[Tensor] = []

    def note(member: Any) -> Any:
        if isinstance(member, Tensor):
            found.append(member)
            return member
        return map_members(note, member)

    note(batch)
    return [tensor for tensor in found if tensor.is_cuda]
