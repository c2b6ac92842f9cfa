"""Extraction of the features of a whole dataset."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from lightly_aug.batch import labels_of, views_of

__all__ = ["features"]


@torch.no_grad()
def features(
    embed: Callable[[Tensor], Tensor], loader: Iterable[Any], device: torch.device | str = "cpu"
) -> tuple[Tensor, Tensor | None]:
    """Embed all images of a loader.

    Args:
        embed: Maps images `(n, c, h, w)` to features `(n, d)` or `(n, d, 1, 1)`. A module, or a method of one, runs in
            eval mode; afterwards the mode of every submodule is restored.
        loader: Yields batches of any structure with views or images, and with labels if there are some;
            `lightly_aug.batch.views_of` and `labels_of` say where they are found. Of several views the first is used.
        device: Device to run `embed` on.

    Returns:
        Features `(N, d)` in float32 and labels `(N, ...)`, both on the CPU; labels are None if the loader has none.

    Raises:
        TypeError: There are no views or images in a batch.
        ValueError: The loader is empty.

    Example:
        >>> x, _ = features(torch.nn.Flatten(), [torch.rand(4, 3, 2, 2), torch.rand(1, 3, 2, 2)])
        >>> x.shape
        torch.Size([5, 12])
    """
    owner = getattr(embed, "__self__", embed)
    modes = {module: module.training for module in owner.modules()} if isinstance(owner, nn.Module) else {}
    rows: list[Tensor] = []
    labels: list[Tensor] = []
    try:
        for module in modes:
            module.training = False
        for batch in loader:
            rows.append(embed(_take_first_view(views_of(batch), device)).flatten(1).float().cpu())
            label = labels_of(batch)
            if label is not None:
                labels.append(label.cpu())
    finally:
        for module, mode in modes.items():
            module.training = mode
    if not rows:
        raise ValueError("features: loader must yield at least one batch, got none")
    return torch.cat(rows), torch.cat(labels) if labels else None


def _take_first_view(images: Any, device: torch.device | str) -> Tensor:
    views = images if isinstance(images, list | tuple) else images.to(device)
    view: Tensor = views if isinstance(views, Tensor) else views[0].to(device)
    return view
