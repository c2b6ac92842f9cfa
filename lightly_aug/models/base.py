"""What every method is to the trainer and to the evaluation."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn

__all__ = ["SSLModel", "two_views"]


class SSLModel(nn.Module, ABC):
    """A self-supervised method: views in, training loss out.

    Attributes:
        backbone: Maps images `(n, c, h, w)` to features `(n, d)` or `(n, d, 1, 1)`: what training is for.
    """

    backbone: nn.Module

    @abstractmethod
    def forward(self, views: Sequence[Tensor], *, targets: Tensor | None = None, index: Tensor | None = None) -> Tensor:
        """The training loss.

        Args:
            views: The views of a batch, each `(n, c, h, w)`.
            targets: Labels `(n,)`, for methods that use some.
            index: Places of the images in the dataset `(n,)`, for methods that remember every image.

        Returns:
            A scalar. State such as queues moves in training mode only.
        """

    def embed(self, images: Tensor) -> Tensor:
        """Features for downstream use, without the head: `(n, c, h, w) -> (n, d)`."""
        features: Tensor = self.backbone(images)
        return features.flatten(1)

    def after_step(self, progress: float) -> None:
        """Called after each step of the optimiser, for momentum encoders and schedules.

        Args:
            progress: How much of the training is done, from 0 to 1.
        """


def two_views(views: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """The two views of a two-view method.

    Raises:
        ValueError: They are not two tensors of one shape.
    """
    came = [tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__ for x in views]
    if len(came) != 2 or came[0] != came[1] or isinstance(came[0], str):
        shown = ", ".join(map(str, came[:4])) + (", ..." if len(came) > 4 else "")
        raise ValueError(f"this method takes two views of one shape, got {len(came)}: {shown or 'nothing'}")
    x0, x1 = views
    return x0, x1
