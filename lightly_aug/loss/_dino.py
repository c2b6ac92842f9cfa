"""The loss of DINO."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lightly_aug.distributed import gather
from lightly_aug.loss._info_nce import check_temperature, wide
from lightly_aug.loss._swav import cross_views

__all__ = ["DINOLoss", "dino"]


def dino(
    student: Sequence[Tensor],
    teacher: Sequence[Tensor],
    center: Tensor,
    teacher_temperature: float | Tensor = 0.04,
    temperature: float = 0.1,
) -> Tensor:
    """DINO (Caron et al. 2021, arXiv 2104.14294, algorithm 1): predict what the teacher says of the other views.

    The mean over all pairs of a view g of the teacher and a view v ≠ g of the student of
    `-Σ_k softmax((t_g - c) / τ_t)_k log softmax(s_v / τ)_k`.

    Args:
        student: Of each view `(n, k)`, raw outputs, any floating dtype; the loss is computed in float32, or float64
            for float64. The first views are the teacher's.
        teacher: Of each of its views `(n, k)`; no gradient flows into them.
        center: c, `(k,)`.
        teacher_temperature: τ_t, above 0; a 0-d tensor is not looked at.
        temperature: τ of the student, above 0.

    Returns:
        The mean over the n rows of this rank, a scalar.

    Raises:
        ValueError: Shapes or numbers of views do not fit, or a temperature is not above 0.
    """
    if not isinstance(teacher_temperature, Tensor):
        check_temperature(teacher_temperature, "teacher_temperature")
    for t in teacher:
        if t.shape[1:] != center.shape or center.ndim != 1:
            raise ValueError(
                f"teacher is {tuple(t.shape)}, center is {tuple(center.shape)}: (n, k) and (k,) are needed"
            )
    targets = [((wide(t.detach()) - center) / teacher_temperature).softmax(1) for t in teacher]
    return cross_views(student, targets, temperature)


class DINOLoss(nn.Module):
    """`dino` with its centre.

    Args:
        dim: k, width of the outputs, at least 1.
        temperature: τ of the student, above 0.
        momentum: m of the centre, from 0 to 1.

    Attributes:
        center: `(k,)` float32, the running mean of the teacher's outputs, at first zero; on all ranks the same.

    Raises:
        ValueError: An argument is out of range.
    """

    center: Tensor

    def __init__(self, dim: int, temperature: float = 0.1, momentum: float = 0.9) -> None:
        super().__init__()
        if dim < 1:
            raise ValueError(f"dim is {dim}, it must be at least 1")
        if not 0 <= momentum <= 1:
            raise ValueError(f"momentum is {momentum}, it must lie in [0, 1]")
        check_temperature(temperature)
        self.temperature = temperature
        self.momentum = momentum
        self.register_buffer("center", torch.zeros(dim))

    def forward(
        self, student: Sequence[Tensor], teacher: Sequence[Tensor], teacher_temperature: float | Tensor = 0.04
    ) -> Tensor:
        """See `dino`. In training mode the centre then becomes `m c + (1 - m) mean(teacher)`, the mean of all ranks."""
        loss = dino(student, teacher, self.center, teacher_temperature, self.temperature)
        if self.training:
            mean = gather(wide(torch.cat(list(teacher))).mean(0, keepdim=True)).mean(0)
            self.center.lerp_(mean.to(self.center.dtype), 1 - self.momentum)
        return loss

    def extra_repr(self) -> str:
        """The arguments, as in the constructor."""
        return f"dim={len(self.center)}, temperature={self.temperature}, momentum={self.momentum}"
