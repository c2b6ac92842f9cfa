"""PIRL."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from lightly_aug.checks import check_choice, check_integer, check_share
from lightly_aug.distributed import broadcast, gather
from lightly_aug.finite import BadRows
from lightly_aug.loss import InfoNCELoss, NCELoss
from lightly_aug.loss._rows import unit
from lightly_aug.models.backbones import feature_width
from lightly_aug.models.base import SSLModel, embed_views, several_views
from lightly_aug.models.heads import mlp

__all__ = ["PIRL"]


class PIRL(SSLModel):
    """Contrastive learning of an image and the jigsaw of its patches against a memory of the whole dataset.

    Self-Supervised Learning of Pretext-Invariant Representations (Misra & van der Maaten 2020, arXiv 1912.01991). The
    positive of both is the image's own entry in the memory. The patches come in a random order from
    `PIRLCollateFunction`. Negatives are redrawn at each step, for the batch as a whole (in the authors' code for each
    image and each of the two losses), from PyTorch's generator (rank 0's); the image itself may be among them.

    The authors' later and better models have `head="mlp", loss="info_nce", temperature=0.1`, and the views of
    `PIRLCollateFunction(recipe="blur")`.

    Args:
        backbone: Maps images and patches to features `(n, d)` or `(n, d, 1, 1)`.
        images: Number N of images in the dataset.
        patches: Number of patches that follow the image.
        width: Width d of the features; None measures it.
        dim: Width of the space in which embeddings are compared.
        negatives: Number K of negatives to draw.
        momentum: Weight of an entry's old value in its update, from 0 (replace) to 1 (keep).
        weight: Weight λ of the patches' loss; the image's loss has 1 - λ.
        temperature: Temperature τ, above 0.
        loss: `"nce"`, as in the paper, or `"info_nce"`, a classification among 1 + K.
        head: `"linear"`, as in the paper, or `"mlp"`, with a hidden layer of width d for the image and for each patch.

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
        head: Literal["linear", "mlp"] = "linear",
    ) -> None:
        super().__init__()
        check_integer(self, least=1, images=images, patches=patches, dim=dim, negatives=negatives)
        check_share(self, momentum=momentum, weight=weight)
        check_choice(self, ("nce", "info_nce"), loss=loss)
        check_choice(self, ("linear", "mlp"), head=head)
        width = feature_width(backbone) if width is None else width
        self.backbone = backbone
        widths = (width, dim) if head == "linear" else (width, width, dim)
        self.image_head = mlp(*widths, norm=False)  # f
        self.patch_head = mlp(*widths, norm=False)  # g, whose outputs for all patches ...
        self.jigsaw_head = nn.Linear(patches * dim, dim)  # ... are joined in their shuffled order
        self.register_buffer("memory", unit(torch.rand(images, dim) * 2 - 1))
        self._bad = BadRows("PIRL")
        self.patches = patches
        self.negatives = negatives
        self.momentum = momentum
        self.weight = weight
        self.loss = NCELoss(images, temperature) if loss == "nce" else InfoNCELoss(temperature)

    def forward(self, views: Sequence[Tensor], *, targets: Tensor | None = None, index: Tensor | None = None) -> Tensor:
        """Compute λ L(m, g(patches)) + (1 - λ) L(m, f(image)); views are image and patches, each `(n, c, h, w)`."""
        image, *patches = several_views(self, views, count=1 + self.patches)
        if index is None or index.shape != image.shape[:1]:
            came = None if index is None else tuple(index.shape)
            raise ValueError(
                f"PIRL: index must be the place in the dataset of each of {len(image)} images, got {came}: "
                "wrap the dataset in Indexed and pass index=views.index"
            )
        if index.device.type == "cpu" and not 0 <= int(index.min()) <= int(index.max()) < len(self.memory):
            raise ValueError(
                f"PIRL: index must be below images={len(self.memory)} and not negative, "
                f"got {index.min()} to {index.max()}: set images to the length of the dataset"
            )
        index = index.to(image.device, torch.int64)
        v = self.image_head(self.embed(image))  # (n, dim)
        parts = self.patch_head(embed_views(self.embed, patches)).view(self.patches, len(image), -1)
        w = self.jigsaw_head(parts.transpose(0, 1).flatten(1))  # (n, dim)
        m = self.memory[index]  # (n, dim)
        drawn = broadcast(torch.randint(len(self.memory), (self.negatives,), device=image.device))
        others = self.memory[drawn]  # (K, dim)
        loss = self.weight * self.loss(w, m, others) + (1 - self.weight) * self.loss(v, m, others)
        if self.training:
            self._update_memory(index, unit(v.detach()))
        return loss

    def _update_memory(self, index: Tensor, v: Tensor) -> None:
        """Average the entries of all ranks' images with their new embeddings."""
        index, v = gather(index), gather(v)
        old, finite = self.memory[index], v.isfinite().all(1, keepdim=True)
        moved = self.momentum * old + (1 - self.momentum) * v.to(self.memory.dtype)
        self.memory.index_copy_(0, index, torch.where(finite, unit(moved).to(self.memory.dtype), old))
        self._bad.count((~finite).sum())
