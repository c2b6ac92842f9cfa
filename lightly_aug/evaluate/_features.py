"""Features of a whole dataset."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from lightly_aug.samples import batch_members

__all__ = ["features"]


@torch.no_grad()
def features(
    embed: Callable[[Tensor], Tensor], loader: Iterable[Any], device: torch.device | str = "cpu"
) -> tuple[Tensor, Tensor | None]:
    """Embed all images of a loader.

    Args:
        embed: Maps images `(n, c, h, w)` to features `(n, d)` or `(n, d, 1, 1)`. A module, or a method of one,
            runs in eval mode; afterwards every submodule has its mode back.
        loader: Yields `images`, `(images, labels, ...)`, or batches with members "image" and "label". Images are a
            tensor, a list of views, or an object whose `.to(device)` gives one of these; of several views the first
            is used. Labels are a tensor; anything else in their place is passed over.
        device: Where `embed` runs.

    Returns:
        Features `(N, d)` in float32 and labels `(N, ...)`, both on the CPU; None where the loader has no labels.

    Raises:
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
            members = batch_members(batch)
            images = members.get("image", next(iter(members.values())))
            rows.append(embed(_first_view(images, device)).flatten(1).float().cpu())
            label = members.get("label", members.get(1))
            if isinstance(label, Tensor):
                labels.append(label.cpu())
    finally:
        for module, mode in modes.items():
            module.training = mode
    if not rows:
        raise ValueError("the loader is empty: nothing to embed")
    return torch.cat(rows), torch.cat(labels) if labels else None


def _first_view(images: Any, device: torch.device | str) -> Tensor:
    views = images if isinstance(images, list | tuple) else images.to(device)
    view: Tensor = views if isinstance(views, Tensor) else views[0].to(device)
    return view
