"""Engines render: `(pixels, draws) -> views`. Nothing in here is random."""

from typing import Final

import torch
from torch import Tensor

from lightly_aug.engines import reference
from lightly_aug.invariances import View

__all__ = ["ENGINES", "render"]

ENGINES: Final = ("auto", "reference")


def render(
    pixels: Tensor,
    shapes: Tensor,
    channels: int,
    table: Tensor,
    recipe: tuple[View, ...],
    *,
    device: torch.device,
    dtype: torch.dtype | None = None,
    memory_format: torch.memory_format = torch.contiguous_format,
    non_blocking: bool = True,
    engine: str = "auto",
) -> list[Tensor]:
    """Render every view of every image.

    Args:
        pixels: 1-D buffer of images, uint8 or float32.
        shapes: (n, 3) int64 on the CPU: offset, height and width of each image, laid out (height, width, channels).
        channels: the number of channels.
        table: (views, n, columns) float32 on the CPU, the draws.
        recipe: the views.
        device: where to render.
        dtype: floating dtype of the result; by default each view's own.
        memory_format: of the result.
        non_blocking: whether the copy from pinned memory may overlap with what the host does next.
        engine: "reference", or "auto", which picks by device (at present there is the one).

    Returns:
        For each view a tensor (n, channels, height, width).
    """
    assert engine in ENGINES
    pixels = pixels.to(device, non_blocking=non_blocking)
    return [
        reference.render(pixels, shapes, channels, drawn[:, : len(view.columns)], view, dtype or view.dtype).to(
            memory_format=memory_format
        )
        for view, drawn in zip(recipe, table, strict=True)
    ]
