"""DINO."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lightly_aug.checks import check_integer, check_share
from lightly_aug.loss import DINOLoss
from lightly_aug.loss._rows import dot, unit
from lightly_aug.models.backbones import feature_width
from lightly_aug.models.base import SSLModel, embed_views, several_views
from lightly_aug.models.heads import mlp
from lightly_aug.models.momentum import MomentumEncoder, cosine

__all__ = ["DINO"]


class DINO(SSLModel):
    """Self-distillation: from every view, the student predicts its moving-average teacher's output on the large views.

    Emerging Properties in Self-Supervised Vision Transformers (Caron et al. 2021, arXiv 2104.14294). BatchNorm, if
    there is any, sees all views of one size as one batch. The paper's optimiser clips the gradient of each parameter
    separately, to a norm of 3.

    Args:
        backbone: Maps images of all the views' sizes to features `(n, d)` or `(n, d, 1, 1)`; `vit()` suits multi-crop.
            Only the student uses its stochastic depth: the teacher's is turned off.
        width: Width d of the features; None measures it.
        hidden: Width of the head's two hidden layers.
        bottleneck: Width of the normalised input to the last layer.
        dim: Number K of outputs.
        momentum: Initial momentum of the teacher; it rises to 1 along a cosine. For batches of 256 images the authors
            recommend 0.9995.
        temperature: Temperature τ_s of the student, above 0.
        teacher_temperature: Temperature τ_t of the teacher at the beginning and after `warmup`, above 0; the paper's
            longer runs take (0.04, 0.07).
        warmup: Share of the training in which τ_t moves linearly from the first value to the second, at every step (in
            the official code once an epoch).
        frozen_until: Progress until which the last layer is frozen, 0 to 1 (one epoch in the paper). Under
            `DistributedDataParallel` this needs `find_unused_parameters=True`.
        norm_last_layer: Fix the lengths of the last layer's weights at 1; False learns them, which the authors
            recommend for small ViTs.

    Raises:
        ValueError: An argument is out of range, or the width cannot be measured.

    Example:
        >>> f = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        >>> model = DINO(f, hidden=32, bottleneck=16, dim=64)
        >>> model([torch.rand(4, 3, side, side) for side in (32, 32, 16, 16)]).shape
        torch.Size([])
    """

    def __init__(
        self,
        backbone: nn.Module,
        *,
        width: int | None = None,
        hidden: int = 2048,
        bottleneck: int = 256,
        dim: int = 65536,
        momentum: float = 0.996,
        temperature: float = 0.1,
        teacher_temperature: tuple[float, float] = (0.04, 0.04),
        warmup: float = 0.3,
        frozen_until: float = 0.01,
        norm_last_layer: bool = True,
    ) -> None:
        super().__init__()
        check_share(self, momentum=momentum, warmup=warmup, frozen_until=frozen_until)
        if not min(teacher_temperature) > 0:
            raise ValueError(f"DINO: teacher_temperature must be two values above 0, got {teacher_temperature}")
        check_integer(self, least=1, dim=dim)
        width = feature_width(backbone) if width is None else width
        self.backbone = backbone
        self.head = nn.Sequential(
            mlp(width, hidden, hidden, bottleneck, norm=False, activation=nn.GELU),
            _UnitLinear(bottleneck, dim, learn_length=not norm_last_layer),
        )
        self.head[0].apply(_initialize)
        self.teacher = MomentumEncoder(self._student())
        for module in self.teacher.modules():
            for name in {"DropPath": ["drop_prob"], "StochasticDepth": ["p"]}.get(type(module).__name__, []):
                setattr(module, name, 0.0)
        self.momentum = momentum
        self.teacher_temperature = teacher_temperature
        self.warmup = warmup
        self.frozen_until = frozen_until
        self.scheduled = "momentum, teacher_temperature, frozen_until" if frozen_until else "momentum"
        self.loss = DINOLoss(dim, temperature, defer=True)

    def forward(self, views: Sequence[Tensor], *, targets: Tensor | None = None, index: Tensor | None = None) -> Tensor:
        """Compute the cross entropy of teacher and student; two views of one size, then any, each `(n, c, h, w)`."""
        several_views(self, views, same_shape=2)
        student = self.head[0](embed_views(self.embed, views))  # (v n, bottleneck)
        student = self.head[1](student, frozen=self.progress < self.frozen_until).chunk(len(views))  # (n, K) each
        teacher = self.teacher(torch.cat(list(views[:2]))).chunk(2)  # no gradient
        start, end = self.teacher_temperature
        moved = min(1, self.progress / self.warmup) if self.warmup else 1
        return self.loss(student, teacher, start + (end - start) * moved)

    def follow(self, before: float) -> None:
        """Update the centre, and the teacher as a moving average of the student, at first with the initial momentum."""
        self.loss.update()
        self.teacher.update(self._student(), cosine(self.momentum, 1, before))

    def _student(self) -> nn.Sequential:
        return nn.Sequential(self.backbone, nn.Flatten(), self.head)


class _UnitLinear(nn.Module):
    """Cosines between input rows and weight rows: weight normalisation with lengths that are 1, or learnt from 1 on."""

    def __init__(self, width: int, dim: int, *, learn_length: bool) -> None:
        super().__init__()
        self.weight = nn.Linear(width, dim, bias=False).weight
        self.length = nn.Parameter(torch.ones(dim)) if learn_length else None

    def forward(self, x: Tensor, frozen: bool = False) -> Tensor:
        cosines = dot(unit(x), unit(self.weight.detach() if frozen else self.weight))
        if self.length is None:
            return cosines
        return cosines * (self.length.detach() if frozen else self.length)


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
