"""The interface between methods and the code that trains and evaluates them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from itertools import groupby

import torch
from torch import Tensor, nn

__all__ = ["SSLModel", "embed_views", "several_views", "two_views"]


class SSLModel(nn.Module, ABC):
    """A self-supervised method: views in, training loss out.

    Attributes:
        backbone: The network to train; maps images `(n, c, h, w)` to features `(n, d)` or `(n, d, 1, 1)`.
        progress: Share of the training that is done, from 0 to 1; part of the `state_dict`.
    """

    backbone: nn.Module
    progress: float = 0.0

    @abstractmethod
    def forward(self, views: Sequence[Tensor], *, targets: Tensor | None = None, index: Tensor | None = None) -> Tensor:
        """Compute the training loss; update state such as queues in training mode only.

        Args:
            views: The views of a batch, each `(n, c, h, w)`.
            targets: Labels `(n,)`, -1 for images without one, for methods that use labels.
            index: Places of the images in the dataset `(n,)`, for methods that remember every image.

        Returns:
            The loss, a scalar.
        """

    def embed(self, images: Tensor) -> Tensor:
        """Compute features for downstream use, without the head: `(n, c, h, w) -> (n, d)`."""
        return self.backbone(images).flatten(1)

    def after_step(self, progress: float) -> None:
        """Advance momentum encoders and schedules; call it after each optimiser step. Does nothing in eval mode.

        Args:
            progress: Share of the training that is done, from 0 to 1.

        Raises:
            ValueError: `progress` is out of range, for example a number of steps.
        """
        if not 0 <= progress <= 1:
            raise ValueError(
                f"{type(self).__name__}: progress must lie in [0, 1], got {progress}: "
                "give the share of the training that is done"
            )
        if self.training:
            self.progress = progress

    def freeze(self) -> None:
        """Prepare for using the features: switch to eval mode, and turn off the gradients of all parameters."""
        self.requires_grad_(False).eval()

    def get_extra_state(self) -> Tensor:
        """Return the progress, so that a resumed run continues its schedules."""
        return torch.tensor(self.progress, dtype=torch.float64)

    def set_extra_state(self, state: Tensor) -> None:
        """Set the progress to that of a saved run."""
        self.progress = float(state)


def two_views(method: SSLModel, views: Sequence[Tensor], images: int = 1) -> tuple[Tensor, Tensor]:
    """Check and return the views of a method that takes two.

    Args:
        method: The method, for error messages.
        views: Two tensors `(n, c, h, w)`.
        images: Smallest n that BatchNorm in the heads can handle.

    Raises:
        ValueError: The views are not two tensors of one shape, or have fewer than `images` rows.
    """
    owner = type(method).__name__
    came = [tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__ for x in views]
    if len(came) != 2 or came[0] != came[1] or isinstance(came[0], str):
        raise ValueError(f"{owner}: views must be two of one shape, got {_list_views(came)}")
    x0, x1 = views
    if len(x0) < images:
        raise ValueError(
            f"{owner}: views must have at least {images} images in training, for BatchNorm in the heads, got {len(x0)}"
        )
    return x0, x1


def several_views(
    method: SSLModel, views: Sequence[Tensor], count: int | None = None, same_shape: int = 1
) -> list[Tensor]:
    """Check and return the views of a method that takes more than two.

    Args:
        method: The method, for error messages.
        views: Tensors `(n, c, h, w)`, of one n.
        count: Required number of views; None for any number from `same_shape`.
        same_shape: Number of leading views that must have one shape.

    Raises:
        ValueError: The number of views is wrong, or n or the shapes differ.
    """
    owner = type(method).__name__
    came = [tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__ for x in views]
    number = f"{count}" if count else f"at least {same_shape}"
    if len(came) != count if count else len(came) < same_shape:
        raise ValueError(f"{owner}: views must be {number}, got {_list_views(came)}")
    if any(isinstance(shape, str) or shape[0] != came[0][0] for shape in came) or len(set(came[:same_shape])) > 1:
        asked = f"{number} of the same images" + f", the first {same_shape} of one shape" * (same_shape > 1)
        raise ValueError(f"{owner}: views must be {asked}, got {_list_views(came)}")
    return list(views)


def embed_views(embed: Callable[[Tensor], Tensor], views: Sequence[Tensor]) -> Tensor:
    """Embed all views, with one pass, and so one batch for BatchNorm, per run of views of one size.

    Args:
        embed: Maps `(m, c, h, w)` to `(m, d)`.
        views: Tensors `(n, c, h, w)`, v of them; the sizes may differ.

    Returns:
        The features of all views in order, `(v * n, d)`.
    """
    sizes = groupby(views, key=lambda x: x.shape[1:])
    return torch.cat([embed(torch.cat(list(group))) for _, group in sizes])


def _list_views(came: Sequence[object]) -> str:
    shown = ", ".join(map(str, came[:4])) + (", ..." if len(came) > 4 else "")
    return f"{len(came)}: {shown or 'nothing'}"
