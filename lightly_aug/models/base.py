"""What every method is to the trainer and to the evaluation."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from itertools import groupby

import torch
from torch import Tensor, nn

__all__ = ["SSLModel", "embed_views", "several_views", "two_views"]


class SSLModel(nn.Module, ABC):
    """A self-supervised method: views in, training loss out.

    Attributes:
        backbone: Maps images `(n, c, h, w)` to features `(n, d)` or `(n, d, 1, 1)`: what training is for.
        progress: How much of the training is done, from 0 to 1; part of the `state_dict`.
    """

    backbone: nn.Module
    progress: float = 0.0

    @abstractmethod
    def forward(self, views: Sequence[Tensor], *, targets: Tensor | None = None, index: Tensor | None = None) -> Tensor:
        """The training loss.

        Args:
            views: The views of a batch, each `(n, c, h, w)`.
            targets: Labels `(n,)`, -1 for images without one, for methods that use some.
            index: Places of the images in the dataset `(n,)`, for methods that remember every image.

        Returns:
            A scalar. State such as queues moves in training mode only.
        """

    def embed(self, images: Tensor) -> Tensor:
        """Features for downstream use, without the head: `(n, c, h, w) -> (n, d)`."""
        features: Tensor = self.backbone(images)
        return features.flatten(1)

    def after_step(self, progress: float) -> None:
        """Called after each step of the optimiser, for momentum encoders and schedules; in eval mode nothing moves.

        Args:
            progress: How much of the training is done, from 0 to 1.

        Raises:
            ValueError: `progress` is out of range, as a number of steps is.
        """
        if not 0 <= progress <= 1:
            raise ValueError(
                f"progress is {progress}, it must lie in [0, 1]: give the share of the training that is done"
            )
        if self.training:
            self.progress = progress

    def freeze(self) -> None:
        """Stop training for good, to use the features: eval mode, and no parameter takes a gradient."""
        self.requires_grad_(False).eval()

    def get_extra_state(self) -> Tensor:
        """The progress, so that a resumed run goes on where its schedules were."""
        return torch.tensor(self.progress, dtype=torch.float64)

    def set_extra_state(self, state: Tensor) -> None:
        """Take the progress of a saved run over."""
        self.progress = float(state)


def two_views(views: Sequence[Tensor], images: int = 1) -> tuple[Tensor, Tensor]:
    """The two views of a two-view method.

    Args:
        views: Two tensors `(n, c, h, w)`.
        images: The smallest n that BatchNorm in the heads can do with.

    Raises:
        ValueError: They are not two tensors of one shape, or fewer than `images` rows.
    """
    came = [tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__ for x in views]
    if len(came) != 2 or came[0] != came[1] or isinstance(came[0], str):
        raise ValueError(f"this method takes two views of one shape, got {_listed(came)}")
    x0, x1 = views
    if len(x0) < images:
        raise ValueError(f"BatchNorm in the heads needs {images} images at least in training, the batch has {len(x0)}")
    return x0, x1


def several_views(views: Sequence[Tensor], count: int | None = None, alike: int = 1) -> list[Tensor]:
    """The views of a method that takes more than two.

    Args:
        views: Tensors `(n, c, h, w)`, of one n.
        count: How many there must be; None for any number from `alike`.
        alike: How many of the first must have one shape.

    Raises:
        ValueError: They are fewer or more, or differ in what they must have in common.
    """
    came = [tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__ for x in views]
    number = f"{count}" if count else f"at least {alike}"
    if len(came) != count if count else len(came) < alike:
        raise ValueError(f"this method takes {number} views, got {_listed(came)}")
    if any(isinstance(shape, str) or shape[0] != came[0][0] for shape in came) or len(set(came[:alike])) > 1:
        asked = f"{number} views of the same images" + f", the first {alike} of one shape" * (alike > 1)
        raise ValueError(f"this method takes {asked}, got {_listed(came)}")
    return list(views)


def embed_views(embed: Callable[[Tensor], Tensor], views: Sequence[Tensor]) -> Tensor:
    """Features of all views, one below the other: one pass, and so one batch for BatchNorm, for each size in a row.

    Args:
        embed: `(m, c, h, w) -> (m, d)`.
        views: v tensors `(n, c, h, w)`; the sizes may differ.

    Returns:
        `(v * n, d)`.
    """
    sizes = groupby(views, key=lambda x: x.shape[1:])
    return torch.cat([embed(torch.cat(list(alike))) for _, alike in sizes])


def _listed(came: Sequence[object]) -> str:
    shown = ", ".join(map(str, came[:4])) + (", ..." if len(came) > 4 else "")
    return f"{len(came)}: {shown or 'nothing'}"
