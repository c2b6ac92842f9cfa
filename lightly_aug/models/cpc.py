"""CPC v2."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightly_aug.loss import CPCLoss
from lightly_aug.models.backbones import feature_width
from lightly_aug.models.base import SSLModel, several_views

__all__ = ["CPC"]


class CPC(SSLModel):
    """The patches above predict those below, among the patches of all images.

    Version 2, of Data-Efficient Image Recognition with Contrastive Predictive Coding (Hénaff et al. 2020, arXiv
    1905.09272). The views are the patches of `CPCCollateFunction`, row by row. No official code exists: this is the
    paper's pseudo-code, recalled where noted. Prediction goes in all four directions by turning the grid; that they
    share one context network is our choice. BatchNorm lets the network cheat, since patches of one image share its
    statistics: give the backbone LayerNorm, as `resnet(norm="layer")` has it.

    Args:
        backbone: Maps patches to features `(n, d)` or `(n, d, 1, 1)`.
        patch: Side of a patch in pixels.
        stride: Distance of patches in pixels; half a patch in the paper.
        grid: Patches in a row, and rows.
        width: d; None measures it.
        context: Width of the context network's hidden layers.
        blocks: How many of them.
        dim: Width of the space in which prediction and patch are compared.
        offsets: How many rows below a prediction is for; None takes all from 2, as the next row
            overlaps (recalled; the paper's pseudo-code begins at 3).
        directions: In how many of the four directions to predict.

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
            raise ValueError(f"offsets are {offsets}, a grid of {grid} rows has 1 to {grid - 1}")
        if directions not in (1, 2, 3, 4):
            raise ValueError(f"directions is {directions}, it must be 1 to 4")
        for name, value in {"patch": patch, "stride": stride, "context": context, "blocks": blocks, "dim": dim}.items():
            if value < 1:
                raise ValueError(f"{name} is {value}, it must be at least 1")
        width = feature_width(backbone, patch) if width is None else width
        self.backbone = backbone
        self.patch, self.stride, self.grid, self.directions = patch, stride, grid, directions
        self.context = nn.Sequential(*(_MaskedBlock(width, context) for _ in range(blocks)), nn.ReLU())
        self.target = nn.Conv2d(width, dim, 1)
        self.predictors = nn.ModuleDict({str(k): nn.Conv2d(width, dim, 1) for k in offsets})
        self.loss = CPCLoss()

    def forward(self, views: Sequence[Tensor], *, targets: Tensor | None = None, index: Tensor | None = None) -> Tensor:
        """The mean over directions and offsets; views are the grid's patches row by row, each `(n, c, h, w)`."""
        patches = several_views(views, count=self.grid**2, alike=self.grid**2)
        features = self._patch_features(torch.stack(patches, dim=1).flatten(0, 1))  # (n grid², d)
        latents = features.view(-1, self.grid, self.grid, features.shape[1]).permute(
            0, 3, 1, 2
        )  # (n, d, rows, columns)
        losses = []
        for turns in range(self.directions):
            turned = latents.rot90(turns, (2, 3))
            context = self.context(turned)
            predictions = {int(k): 0.1 * predictor(context) for k, predictor in self.predictors.items()}
            losses.append(self.loss(predictions, self.target(turned)))
        return torch.stack(losses).mean()

    def embed(self, images: Tensor) -> Tensor:
        """The mean of the features of all patches that the image holds: `(n, c, h, w) -> (n, d)`.

        Raises:
            ValueError: The image is smaller than a patch.
        """
        n, c, h, w = images.shape
        if min(h, w) < self.patch:
            raise ValueError(f"images are {h}x{w}, smaller than a patch of {self.patch}")
        patches = images.unfold(2, self.patch, self.stride).unfold(
            3, self.patch, self.stride
        )  # (n, c, rows, columns, ..)
        features = self._patch_features(patches.permute(0, 2, 3, 1, 4, 5).reshape(-1, c, self.patch, self.patch))
        return features.view(n, -1, features.shape[1]).mean(1)

    def _patch_features(self, patches: Tensor) -> Tensor:
        features: Tensor = self.backbone(patches)
        return features.flatten(1)


class _MaskedBlock(nn.Module):
    """A residual block that sees its own row of patches and the one above."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(width, hidden, 1)
        self.across = nn.Conv2d(hidden, hidden, (1, 3), padding=(0, 1))
        self.down = nn.Conv2d(hidden, hidden, (2, 1))
        self.expand = nn.Conv2d(hidden, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.across(self.reduce(x).relu())
        y = self.down(F.pad(y, (0, 0, 1, 0))).relu()  # a row of zeros on top
        expanded: Tensor = self.expand(y)
        return x + expanded
