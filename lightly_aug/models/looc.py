"""LooC."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lightly_aug.checks import check_integer, check_share
from lightly_aug.distributed import shuffle, unshuffle
from lightly_aug.loss import InfoNCELoss
from lightly_aug.loss._rows import unit
from lightly_aug.memory_bank import MemoryBank
from lightly_aug.models.backbones import feature_width
from lightly_aug.models.base import SSLModel, several_views
from lightly_aug.models.heads import mlp
from lightly_aug.models.momentum import MomentumEncoder

__all__ = ["LooC"]


class LooC(SSLModel):
    """Leave-one-out contrast: one space ignores all augmentations, each of n others stays sensitive to one group.

    What Should Not Be Contrastive in Contrastive Learning (Xiao et al. 2021, arXiv 2008.05659). The views are those of
    `LooCCollateFunction`: the query q, a key k_0 with independent augmentations, and for each group i of augmentations
    a key k_i that shares this group with q. In space 0 the positive is k_0. In space i it is k_i, and the image's other
    keys are negatives. Keys come from a momentum encoder with its own heads, and each space has a queue of k_0 keys, as
    in MoCo.

    Args:
        backbone: Maps images to features `(n, d)` or `(n, d, 1, 1)`.
        groups: Number n of groups of augmentations.
        width: Width d of the features; None measures it.
        dim: Width of each space.
        queue: Number of keys in the queue of each space.
        momentum: Momentum m of the key encoder, from 0 to 1.
        temperature: Temperature τ, above 0.

    Raises:
        ValueError: An argument is out of range, or the width cannot be measured.

    Example:
        >>> f = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        >>> model = LooC(f, groups=2, dim=16, queue=64)
        >>> views = torch.rand(4, 4, 3, 32, 32)  # q, k_0, k_1, k_2
        >>> model(views).shape, model.embed_spaces(views[0]).shape
        (torch.Size([]), torch.Size([4, 48]))
    """

    queues: Sequence[MemoryBank]

    def __init__(
        self,
        backbone: nn.Module,
        *,
        groups: int = 3,
        width: int | None = None,
        dim: int = 128,
        queue: int = 16384,
        momentum: float = 0.999,
        temperature: float = 0.2,
    ) -> None:
        super().__init__()
        check_integer(self, least=1, groups=groups)
        check_share(self, momentum=momentum)
        width = feature_width(backbone) if width is None else width
        self.backbone = backbone
        self.heads = _Heads(mlp(width, width, dim, norm=False) for _ in range(groups + 1))
        self.key_encoder = MomentumEncoder(self._query_encoder())
        self.queues = nn.ModuleList(MemoryBank(queue, dim) for _ in range(groups + 1))  # type: ignore[assignment]
        self.momentum = momentum
        self.loss = InfoNCELoss(temperature)

    def forward(self, views: Sequence[Tensor], *, targets: Tensor | None = None, index: Tensor | None = None) -> Tensor:
        """Compute the mean of InfoNCE over all spaces; views are q, k_0, k_1, ..., k_n, each `(n, c, h, w)`."""
        several_views(self, views, count=len(self.heads) + 1, same_shape=len(self.heads) + 1)
        q = self.heads(self.embed(views[0]))  # (n, spaces, dim)
        keys = torch.stack([self._encode_keys(x) for x in views[1:]])  # (keys, n, spaces, dim), no gradient
        losses = []
        for i, queue in enumerate(self.queues):
            k = keys[:, :, i]  # (keys, n, dim)
            others = torch.cat([k[:i], k[i + 1 :]]).transpose(0, 1) if i else None  # (n, keys - 1, dim)
            losses.append(self.loss(q[:, i], k[i], *queue.negatives(), own=others))
            queue.update(k[0])
        return torch.stack(losses).mean()

    def embed_spaces(self, images: Tensor) -> Tensor:
        """Concatenate the normalised spaces, the features of LooC++: `(n, c, h, w) -> (n, (groups + 1) * dim)`."""
        return unit(self.heads(self.embed(images)).flatten(0, 1)).view(len(images), -1)

    def follow(self, before: float) -> None:
        """Update the key encoder as an exponential moving average of the query encoder."""
        self.key_encoder.update(self._query_encoder(), self.momentum)

    def _encode_keys(self, x: Tensor) -> Tensor:
        """Compute normalised keys `(n, spaces, dim)`, with images shuffled across ranks for BatchNorm."""
        shuffled, order = shuffle(x)
        k = unshuffle(self.key_encoder(shuffled), order)
        return unit(k.flatten(0, 1)).view_as(k)

    def _query_encoder(self) -> nn.Sequential:
        return nn.Sequential(self.backbone, nn.Flatten(), self.heads)


class _Heads(nn.ModuleList):
    """Heads in parallel, `(n, d) -> (n, heads, dim)`."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([head(x) for head in self], dim=1)
