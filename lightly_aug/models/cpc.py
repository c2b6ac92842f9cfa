"""CPC v2."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightly_aug.checks import check_choice, check_integer
from lightly_aug.loss import CPCLoss
from lightly_aug.models.backbones import feature_width
from lightly_aug.models.base import SSLModel, several_views

__all__ = ["CPC"]


class CPC(SSLModel):
    """Contrastive predictive coding: the patches above predict those below, among the patches of all images.

    Version 2, of Data-Efficient Image Recognition with Contrastive Predictive Coding (Hénaff et al. 2020, arXiv
    1905.09272). The views are the patches of `CPCCollateFunction`, row by row. No official code exists: this follows
    the paper's pseudo-code, from memory where noted. The grid is rotated to predict in all four directions; sharing one
    context network between them is our choice, and so is the mean over directions and offsets, which the pseudo-code
    sums. BatchNorm lets the network cheat, since patches of one image share its statistics: use a backbone with
    LayerNorm, such as `resnet(norm="layer")`; the paper's is a ResNet-161.

    Args:
        backbone: Maps patches to features `(n, d)` or `(n, d, 1, 1)`.
        patch: Side of a patch in pixels.
        stride: Distance between patches in pixels; half a patch in the paper.
        grid: Number of rows of patches, and of patches in a row.
        width: Width d of the features; None measures it.
        context: Width of the context network's hidden layers.
        blocks: Number of residual blocks in the context network.
        dim: Width of the space in which prediction and patch are compared.
        offsets: Distances in rows between a prediction and its target; None takes all from 2, as the next row overlaps
            (from memory; the paper's pseudo-code begins at 3).
        directions: Number of directions to predict in, 1 to 4.

    Raises:
        ValueError: An argument is out of range, or the width cannot be measured.

    Example:
        >>> f = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        >>> model = CPC(f, patch=16, stride=8, grid=3, context=16, dim=8)
        >>> model(list(torch.rand(9, 4, 3, 16, 16))).shape, model.embed(torch.rand(4, 3, 32, 32)).shape
        (torch.Size([]), torch.Size([4, 8]))
    """

    def __init__(
        self,
        backbone: nn.Module,
        *,
        patch: int = 64,
        stride: int = 32,
        grid: int = 7,
        width: int | None = None,
        context: int = 256,
        blocks: int = 5,
        dim: int = 64,
        offsets: Sequence[int] | None = None,
        directions: int = 4,
    ) -> None:
        super().__init__()
        offsets = tuple(range(2, grid) if offsets is None else offsets)
        if not offsets or not all(0 < k < grid for k in offsets):
            raise ValueError(f"CPC: offsets must be from 1 to {grid - 1} in a grid of {grid} rows, got {offsets}")
        check_choice(self, (1, 2, 3, 4), directions=directions)
        check_integer(self, least=1, patch=patch, stride=stride, context=context, blocks=blocks, dim=dim)
        width = feature_width(backbone, patch) if width is None else width
        self.backbone = backbone
        self.patch, self.stride, self.grid, self.directions = patch, stride, grid, directions
        self.context = nn.Sequential(*(_MaskedBlock(width, context) for _ in range(blocks)), nn.ReLU())
        self.target = nn.Conv2d(width, dim, 1)
        self.predictors = nn.ModuleDict({str(k): nn.Conv2d(width, dim, 1) for k in offsets})
        self.loss = CPCLoss()

    def forward(self, views: Sequence[Tensor], *, targets: Tensor | None = None, index: Tensor | None = None) -> Tensor:
        """Compute the mean over directions and offsets; views are the patches row by row, each `(n, c, h, w)`."""
        patches = several_views(self, views, count=self.grid**2, same_shape=self.grid**2)
        features = self._embed_patches(torch.stack(patches, dim=1).flatten(0, 1))  # (n grid², d)
        latents = features.view(-1, self.grid, self.grid, features.shape[1]).movedim(3, 1)  # (n, d, rows, columns)
        losses = []
        for turns in range(self.directions):
            turned = latents.rot90(turns, (2, 3))
            context = self.context(turned)
            predictions = {int(k): 0.1 * predictor(context) for k, predictor in self.predictors.items()}
            losses.append(self.loss(predictions, self.target(turned)))
        return torch.stack(losses).mean()

    def embed(self, images: Tensor) -> Tensor:
        """Compute the mean of the features of all patches of each image: `(n, c, h, w) -> (n, d)`.

        Raises:
            ValueError: The image is smaller than a patch.
        """
        n, c, h, w = images.shape
        if min(h, w) < self.patch:
            raise ValueError(f"CPC: images must be at least as large as a patch of {self.patch}, got {h}x{w}")
        columns = images.unfold(2, self.patch, self.stride)
        patches = columns.unfold(3, self.patch, self.stride)  # (n, c, rows, columns, patch, patch)
        features = self._embed_patches(patches.permute(0, 2, 3, 1, 4, 5).reshape(-1, c, self.patch, self.patch))
        return features.view(n, -1, features.shape[1]).mean(1)

    def _embed_patches(self, patches: Tensor) -> Tensor:
        return super().embed(patches)


class _MaskedBlock(nn.Module):
    """A residual block whose output depends on its own row of patches and the one above."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(width, hidden, 1)
        self.across = nn.Conv2d(hidden, hidden, (1, 3), padding=(0, 1))
        self.down = nn.Conv2d(hidden, hidden, (2, 1))
        self.expand = nn.Conv2d(hidden, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.across(self.reduce(x).relu())
        y = self.down(F.pad(y, (0, 0, 1, 0))).relu()  # a row of zeros on top
        return x + self.expand(y)
