"""AMDIM."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from lightly_aug.loss import AMDIMLoss
from lightly_aug.models.backbones import feature_width
from lightly_aug.models.base import SSLModel, two_views

__all__ = ["AMDIM"]


class AMDIM(SSLModel):
    """Contrastive learning of global features of one view with local feature maps of the other, at several scales.

    Learning Representations by Maximizing Mutual Information Across Views (Bachman et al. 2019, arXiv 1906.00910): the
    global feature predicts the 5x5 and the 7x7 map of the other view, and a place of the 5x5 map predicts the other
    5x5 map. `amdim_encoder` is the paper's network, in which a local feature sees little of the image; any network with
    feature maps works.

    Args:
        backbone: Maps images to features `(n, d)` or `(n, d, 1, 1)`.
        maps: Names of two modules in the backbone whose outputs `(n, c, h, w)` are the local features: the coarser
            map (5x5 in the paper) and the finer (7x7).
        size: Side of the views in pixels, used to measure widths.
        clip: Bound c of the tanh-clipped scores, above 0.
        penalty: Weight of the squared scores, at least 0.

    Raises:
        ValueError: An argument is out of range, the backbone has no such modules, or their output is not a map.

    Example:
        >>> from lightly_aug.models import amdim_encoder
        >>> model = AMDIM(amdim_encoder(32, width=8, dim=16, depth=1), size=32)
        >>> x0, x1 = torch.rand(2, 4, 3, 32, 32)
        >>> model([x0, x1]).shape, model.embed(x0).shape
        (torch.Size([]), torch.Size([4, 16]))
    """

    def __init__(
        self,
        backbone: nn.Module,
        *,
        maps: tuple[str, str] = ("local5", "local7"),
        size: int = 128,
        clip: float = 20.0,
        penalty: float = 5e-2,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.maps = maps
        with _capture_outputs(backbone, maps) as local:
            try:
                dim = feature_width(backbone, size)
            except ValueError as error:
                raise ValueError(f"AMDIM: with views of {size} pixels, {error}") from error
        for name in maps:
            if name not in local or local[name].ndim != 4:
                came = tuple(local[name].shape) if name in local else "nothing"
                raise ValueError(f"AMDIM: maps must name modules that output (n, c, h, w), got {name!r} with {came}")
        self.heads = nn.ModuleList(_Head(local[name].shape[1], dim) for name in maps)
        self.loss = AMDIMLoss(clip, penalty)

    def forward(self, views: Sequence[Tensor], *, targets: Tensor | None = None, index: Tensor | None = None) -> Tensor:
        """Compute the loss at all scales; views are `(n, c, h, w)` with the same flips (`AMDIMCollateFunction`)."""
        maps0, maps1 = (self._embed_at_scales(x) for x in two_views(self, views))
        coarse = maps0[1]  # (n, dim, h, w)
        places = torch.randint(coarse.shape[2] * coarse.shape[3], (2, len(coarse)), device=coarse.device)
        return self.loss(maps0, maps1, places)

    def _embed_at_scales(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute global features `(n, dim)`, and coarse and fine ones `(n, dim, h, w)`."""
        with _capture_outputs(self.backbone, self.maps) as local:
            r1 = self.embed(x)
        coarse, fine = (head(local[name]) for head, name in zip(self.heads, self.maps, strict=True))
        return r1, coarse, fine


@contextmanager
def _capture_outputs(network: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Collect the outputs of the modules of these names while the context is open."""
    modules = dict(network.named_modules())
    if missing := [name for name in names if name not in modules]:
        known = ", ".join(list(modules)[1:])
        raise ValueError(f"AMDIM: maps must name modules of the backbone ({known}), got {missing}")
    found: dict[str, Tensor] = {}
    hooks = [
        modules[name].register_forward_hook(lambda module, args, output, name=name: found.update({name: output}))
        for name in names
    ]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


class _Head(nn.Module):
    """Two 1x1 convolutions, initially zero, added to a linear shortcut; then BatchNorm."""

    def __init__(self, width: int, dim: int) -> None:
        super().__init__()
        self.hidden = nn.Conv2d(width, dim, 1, bias=False)
        self.out = nn.Conv2d(dim, dim, 1, bias=False)
        self.shortcut = nn.Conv2d(width, dim, 1)
        self.norm = nn.BatchNorm2d(dim)
        nn.init.zeros_(self.out.weight)
        if dim >= width:  # nearly the identity
            with torch.no_grad():
                self.shortcut.weight.uniform_(-0.01, 0.01)[:, :, 0, 0].fill_diagonal_(1)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.shortcut(x) + self.out(self.hidden(x).relu()))
