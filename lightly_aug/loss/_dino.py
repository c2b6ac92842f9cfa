"""The loss of DINO."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lightly_aug.checks import check_integer, check_positive, check_share
from lightly_aug.distributed import gather
from lightly_aug.finite import BadRows
from lightly_aug.loss._cross_views import cross_views
from lightly_aug.loss._rows import wide

__all__ = ["DINOLoss", "dino"]


def dino(
    student: Sequence[Tensor],
    teacher: Sequence[Tensor],
    center: Tensor,
    teacher_temperature: float | Tensor = 0.04,
    temperature: float = 0.1,
) -> Tensor:
    """Compute the loss of DINO (Caron et al. 2021, arXiv 2104.14294, algorithm 1).

    The student's output for each view predicts the teacher's output for the other views: the mean over all pairs of a
    view g of the teacher and a view v ≠ g of the student of `-Σ_k softmax((t_g - c) / τ_t)_k log softmax(s_v / τ)_k`.

    Args:
        student: For each view `(n, k)`, raw outputs, any floating dtype; the loss is computed in float32, or float64
            for float64. The first views are the teacher's.
        teacher: For each of the teacher's views `(n, k)`; no gradient flows into them.
        center: Centre c of the teacher's outputs, `(k,)`.
        teacher_temperature: Temperature τ_t of the teacher, above 0; the value of a 0-d tensor is not checked.
        temperature: Temperature τ of the student, above 0.

    Returns:
        The mean over the n rows of this rank, a scalar.

    Raises:
        ValueError: Shapes or numbers of views do not fit, or a temperature is not above 0.
    """
    if not isinstance(teacher_temperature, Tensor):
        check_positive("dino", teacher_temperature=teacher_temperature)
    for t in teacher:
        if t.shape[1:] != center.shape or center.ndim != 1:
            raise ValueError(
                f"dino: teacher must be (n, k) with the k of center (k,), "
                f"got {tuple(t.shape)} and center {tuple(center.shape)}"
            )
    targets = [((wide(t.detach()) - center) / teacher_temperature).softmax(1) for t in teacher]
    return cross_views("dino", student, targets, temperature)


class DINOLoss(nn.Module):
    """`dino` with its centre.

    A batch whose teacher's outputs are not all finite leaves the centre as it is, with one warning.

    Args:
        dim: Width k of the outputs, at least 1.
        temperature: Temperature τ of the student, above 0.
        momentum: Momentum m of the centre, from 0 to 1.
        defer: Leave the centre to `update`, which is then called once for each optimiser step, so that batches of
            accumulated gradients count as one.

    Attributes:
        center: `(k,)` float32, the moving average of the teacher's outputs, initially zero; the same on all ranks.

    Raises:
        ValueError: An argument is out of range.
    """

    center: Tensor
    pending: Tensor
    batches: Tensor

    def __init__(self, dim: int, temperature: float = 0.1, momentum: float = 0.9, *, defer: bool = False) -> None:
        super().__init__()
        check_integer(self, least=1, dim=dim)
        check_share(self, momentum=momentum)
        check_positive(self, temperature=temperature)
        self.temperature = temperature
        self.momentum = momentum
        self.defer = defer
        self.register_buffer("center", torch.zeros(dim))
        self.register_buffer("pending", torch.zeros(dim), persistent=False)  # the sum of the means of these batches
        self.register_buffer("batches", torch.zeros(()), persistent=False)
        self._bad = BadRows("DINOLoss")

    def forward(
        self, student: Sequence[Tensor], teacher: Sequence[Tensor], teacher_temperature: float | Tensor = 0.04
    ) -> Tensor:
        """Compute `dino`; in training mode, then update the centre, unless `update` does."""
        loss = dino(student, teacher, self.center, teacher_temperature, self.temperature)
        if self.training:
            mean = gather(wide(torch.cat(list(teacher))).mean(0, keepdim=True)).mean(0)
            finite = mean.isfinite().all()
            self.pending.add_(torch.where(finite, mean, 0).to(self.center.dtype))
            self.batches.add_(finite)
            self._bad.count(torch.where(finite, 0, sum(map(len, teacher))))
            if not self.defer:
                self.update()
        return loss

    def update(self) -> None:
        """Update the centre to `m c + (1 - m) mean(teacher)`, over all ranks and all batches since the last update."""
        mean = torch.where(self.batches > 0, self.pending / self.batches.clamp(min=1), self.center)
        self.center.lerp_(mean, 1 - self.momentum)
        self.pending.zero_()
        self.batches.zero_()

    def extra_repr(self) -> str:
        """Return the arguments as the constructor takes them."""
        return f"dim={len(self.center)}, temperature={self.temperature}, momentum={self.momentum}"
