"""PIRL."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from lightly_aug.distributed import agreed, gather
from lightly_aug.loss import InfoNCELoss, NCELoss
from lightly_aug.loss._info_nce import check_temperature, unit
from lightly_aug.models.backbones import feature_width
from lightly_aug.models.base import SSLModel, embed_views, several_views
from lightly_aug.models.momentum import check_share

__all__ = ["PIRL"]


class PIRL(SSLModel):
    """An image and the jigsaw of its patches both find the image's own entry in a memory of the whole dataset.

    Self-Supervised Learning of Pretext-Invariant Representations (Misra & van der Maaten 2020, arXiv 1912.01991). The
    patches come in a random order from `PIRLCollateFunction`. Negatives are drawn anew at each step, for the batch as a
    whole, from PyTorch's generator (rank 0's); as in the authors' code the image itself may be among them.

    Args:
        backbone: Maps images and patches to features `(n, d)` or `(n, d, 1, 1)`.
        images: N, how many images the dataset has.
        patches: How many patches follow the image.
        width: d; None measures it.
        dim: Width of the space in which embeddings are compared.
        negatives: K, how many entries to draw.
        momentum: Of an entry towards the image's new embedding, from 0 (replace) to 1 (keep).
        weight: λ of the patches' loss; the image's has 1 - λ.
        temperature: τ, above 0; the authors' recipe with InfoNCE takes 0.1.
        loss: `"nce"`, the paper's, or `"info_nce"`, a classification among 1 + K.

    Attributes:
        memory: `(N, dim)` float32, rows of unit length.

    Raises:
        ValueError: An argument is out of range, or the width cannot be measured.

    Example:
        >>> f = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        >>> model = PIRL(f, images=100, dim=16, negatives=50)
        >>> views = [torch.rand(4, 3, 32, 32), *torch.rand(9, 4, 3, 16, 16)]
        >>> model(views, index=torch.tensor([7, 3, 99, 0])).shape
        torch.Size([])
    """

    memory: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        *,
        images: int,
        patches: int = 9,
        width: int | None = None,
        dim: int = 128,
        negatives: int = 32000,
        momentum: float = 0.5,
        weight: float = 0.5,
        temperature: float = 0.07,
        loss: Literal["nce", "info_nce"] = "nce",
    ) -> None:
        super().__init__()
        for name, value in (("images", images), ("patches", patches), ("dim", dim), ("negatives", negatives)):
            if value < 1:
                raise ValueError(f"{name} is {value}, it must be at least 1")
        check_share(momentum=momentum, weight=weight)
        if loss not in ("nce", "info_nce"):
            raise ValueError(f"loss is {loss!r}, it must be 'nce' or 'info_nce'")
        check_temperature(temperature)
        width = feature_width(backbone) if width is None else width
        self.backbone = backbone
        self.image_head = nn.Linear(width, dim)  # f
        self.patch_head = nn.Linear(width, dim)  # g, whose outputs for all patches ...
        self.jigsaw_head = nn.Linear(patches * dim, dim)  # ... are joined in their shuffled order
        self.register_buffer("memory", unit(torch.rand(images, dim) * 2 - 1))
        self.patches = patches
        self.negatives = negatives
        self.momentum = momentum
        self.weight = weight
        self.loss = NCELoss(images, temperature) if loss == "nce" else InfoNCELoss(temperature)

    def forward(self, views: Sequence[Tensor], *, targets: Tensor | None = None, index: Tensor | None = None) -> Tensor:
        """λ L(m, g(patches)) + (1 - λ) L(m, f(image)); views are the image and its patches, each `(n, c, h, w)`."""
        image, *patches = several_views(views, count=1 + self.patches)
        if index is None or index.shape != image.shape[:1]:
            came = "none" if index is None else f"index of shape {tuple(index.shape)}"
            raise ValueError(
                f"PIRL remembers every image by its index, {len(image)} are needed, got {came}: "
                "wrap the dataset in Indexed and pass index=views.index"
            )
        if index.device.type == "cpu" and not 0 <= int(index.min()) <= int(index.max()) < len(self.memory):
            raise ValueError(
                f"index goes from {index.min()} to {index.max()}, the memory holds images={len(self.memory)}: "
                "give the length of the dataset"
            )
        index = index.to(image.device, torch.int64)
        v = self.image_head(self.embed(image))  # (n, dim)
        parts = self.patch_head(embed_views(self.embed, patches)).view(self.patches, len(image), -1)
        w = self.jigsaw_head(parts.transpose(0, 1).flatten(1))  # (n, dim)
        m = self.memory[index]  # (n, dim)
        drawn = agreed(torch.randint(len(self.memory), (self.negatives,), device=image.device))
        others = self.memory[drawn]  # (K, dim)
        loss: Tensor = self.weight * self.loss(w, m, others) + (1 - self.weight) * self.loss(v, m, others)
        if self.training:
            self._remember(index, unit(v.detach()))
        return loss

    def _remember(self, index: Tensor, v: Tensor) -> None:
        """Move the entries of all ranks' images towards their new embeddings."""
        index, v = gather(index), gather(v)
        moved = self.momentum * self.memory[index] + (1 - self.momentum) * v.to(self.memory.dtype)
        self.memory.index_copy_(0, index, unit(moved).to(self.memory.dtype))
