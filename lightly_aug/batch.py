"""The packed batch that travels from the workers to the device."""

from collections.abc import Iterator, Sequence
from typing import overload

import torch
from torch import Tensor

from lightly_aug.engines import render
from lightly_aug.view import View

__all__ = ["Views"]


class Views:
    """All views of a batch of images: the pixels, what was drawn for them, and what to do with both.

    It stands in the batch where the images stood. `to` renders; unpacking renders where the pixels lie::

        for views, labels in loader:
            x0, x1 = views.to("cuda")

    Args:
        pixels: 1-D, uint8 or float32, the images of the batch one behind the other, each (height, width, channels).
        shapes: (n, 3) int64: offset, height and width of each image.
        channels: the number of channels.
        table: (views, n, columns) float32: the draws.
        recipe: the views.
        index: (n,) int64, the images' indices in their dataset, where they are known (see `Indexed`).
        engine: what to render with.
        rendered: the views themselves, if they are rendered already.
    """

    def __init__(
        self,
        pixels: Tensor,
        shapes: Tensor,
        channels: int,
        table: Tensor,
        recipe: tuple[View, ...],
        *,
        index: Tensor | None = None,
        engine: str = "auto",
        rendered: list[Tensor] | None = None,
    ) -> None:
        self.pixels = pixels
        self.shapes = shapes
        self.channels = channels
        self.table = table
        self.recipe = recipe
        self.index = index
        self.engine = engine
        self.rendered = rendered

    def to(
        self,
        device: torch.device | torch.dtype | str | int | None = None,
        dtype: torch.dtype | None = None,
        *,
        non_blocking: bool = True,
        memory_format: torch.memory_format = torch.contiguous_format,
    ) -> list[Tensor]:
        """Render on a device.

        Args:
            device: where; by default where the pixels lie. A dtype alone is taken for one, as by `Tensor.to`.
            dtype: floating dtype of the views; by default each view's own.
            non_blocking: whether copies from pinned memory may overlap with what the host does next.
            memory_format: `torch.contiguous_format` or `torch.channels_last`.

        Returns:
            A tensor (n, channels, height, width) for each view.
        """
        if isinstance(device, torch.dtype):
            device, dtype = None, device
        if dtype is not None and not dtype.is_floating_point:
            raise ValueError(f"views are floating, got dtype={dtype}")
        return self._rendered(range(len(self)), device, dtype, non_blocking, memory_format)

    def _rendered(
        self,
        which: Sequence[int],
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
        non_blocking: bool = True,
        memory_format: torch.memory_format = torch.contiguous_format,
    ) -> list[Tensor]:
        target = self.device if device is None else torch.device(device)
        if self.rendered is not None:
            return [
                self.rendered[i].to(target, dtype, non_blocking=non_blocking, memory_format=memory_format)
                for i in which
            ]
        return render(
            self.pixels,
            self.shapes,
            self.channels,
            self.table[list(which)],
            tuple(self.recipe[i] for i in which),
            device=target,
            dtype=dtype,
            memory_format=memory_format,
            non_blocking=non_blocking,
            engine=self.engine,
        )

    def render(self) -> "Views":
        """The same views, rendered here and now, without the pixels of the images."""
        return Views(**self.__dict__ | {"pixels": self.pixels.new_empty(0), "rendered": self.to()})

    def pin_memory(self) -> "Views":
        """The same views in page-locked memory, from where `to` copies without blocking. The DataLoader calls it."""
        fields = self.__dict__ | {"pixels": self.pixels.pin_memory()}
        if self.rendered is not None:
            fields["rendered"] = [view.pin_memory() for view in self.rendered]
        return Views(**fields)

    @property
    def device(self) -> torch.device:
        """Where the pixels lie."""
        return self.pixels.device

    @property
    def batch_size(self) -> int:
        """The number of images."""
        return len(self.shapes)

    @property
    def draws(self) -> list[dict[str, Tensor]]:
        """What was drawn: for each view its columns by name, each (n,) float32.

        Example:
            >>> import torch
            >>> from lightly_aug import MultiViewCollateFunction, RandomGaussianBlur, View
            >>> collate = MultiViewCollateFunction([View(RandomGaussianBlur((1, 2), p=1))], seed=0)
            >>> views = collate([torch.zeros(3, 8, 8), torch.ones(3, 8, 8)])
            >>> views.draws[0]
            {'RandomGaussianBlur.sigma': tensor([1.3174, 1.9596])}
        """
        return [
            dict(zip(view.columns, rows.T, strict=False)) for view, rows in zip(self.recipe, self.table, strict=True)
        ]

    @property
    def matrices(self) -> list[Tensor]:
        """Where the pixels went: for each view (n, 3, 3) float64.

        Each maps (x, y, 1) in the image to (x, y, 1) in the view, with pixel centres at integers.

        Raises:
            ValueError: a geometric module of Kornia is in a view: it draws only when the view is rendered.
        """
        sizes = self.shapes[:, 1].numpy(), self.shapes[:, 2].numpy()
        drawn = (
            rows[:, : len(view.columns)].double().numpy() for view, rows in zip(self.recipe, self.table, strict=True)
        )
        return [
            torch.from_numpy(view.matrix(rows, *sizes).copy()) for view, rows in zip(self.recipe, drawn, strict=True)
        ]

    def __len__(self) -> int:
        return len(self.recipe)

    @overload
    def __getitem__(self, which: int) -> Tensor: ...
    @overload
    def __getitem__(self, which: slice) -> list[Tensor]: ...
    def __getitem__(self, which: int | slice) -> Tensor | list[Tensor]:
        if isinstance(which, slice):
            return self._rendered(range(len(self))[which])
        return self._rendered([range(len(self))[which]])[0]

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.to())

    def __repr__(self) -> str:
        state = "packed" if self.rendered is None else "rendered"
        size = f", {self.pixels.nbytes / 1e6:.1f} MB" if self.rendered is None else ""
        lines = [f"Views({len(self)} of {self.batch_size} images, {self.channels} channels, {state}{size})"]
        lines += [f"  {i}: {view!r}" for i, view in enumerate(self.recipe)]
        return "\n".join(lines)
