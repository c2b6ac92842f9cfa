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
    """The global features of one view find local features of the other among those of all images, at several scales.

    Learning Representations by Maximizing Mutual Information Across Views (Bachman et al. 2019, arXiv 1906.00910): the
    global feature predicts maps of 5x5 and of 7x7, and places of the 5x5 map predict the other's. `amdim_encoder` is
    the paper's network, in which a local feature sees little of the image; any network with feature maps will do.

    Args:
        backbone: Maps images to features `(n, d)` or `(n, d, 1, 1)`.
        maps: Names of two modules in the backbone whose outputs `(n, c, h, w)` are the local features: the coarser
            (the paper's 5x5) and the finer (its 7x7).
        size: Side of the views in pixels, to measure widths with.
        clip: c of the scores' tanh clipping, above 0.
        penalty: Weight of the squared scores, at least 0.

    Raises:
        ValueError: An argument is out of range, the backbone has no such modules, or their output is no map.

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
        with _captured(backbone, maps) as local:
            try:
                dim = feature_width(backbone, size)
            except ValueError as error:
                raise ValueError(
                    f"the backbone does not take views of size={size}, give their size: {error}"
                ) from error
        for name in maps:
            if name not in local or local[name].ndim != 4:
                came = tuple(local[name].shape) if name in local else "nothing"
                raise ValueError(f"module {name!r} of the backbone gives {came}, a map (n, c, h, w) is needed")
        self.heads = nn.ModuleList(_Head(local[name].shape[1], dim) for name in maps)
        self.loss = AMDIMLoss(clip, penalty)

    def forward(self, views: Sequence[Tensor], *, targets: Tensor | None = None, index: Tensor | None = None) -> Tensor:
        """The three scales' NCE and the penalty; views are `(n, c, h, w)`, flipped alike (`AMDIMCollateFunction`)."""
        maps0, maps1 = (self._features(x) for x in two_views(views))
        coarse = maps0[1]  # (n, dim, h, w)
        places = torch.randint(coarse.shape[2] * coarse.shape[3], (2, len(coarse)), device=coarse.device)
        loss: Tensor = self.loss(maps0, maps1, places)
        return loss

    def _features(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Global `(n, dim)`, coarse and fine features `(n, dim, h, w)`."""
        with _captured(self.backbone, self.maps) as local:
            r1 = self.embed(x)
        coarse, fine = (head(local[name]) for head, name in zip(self.heads, self.maps, strict=True))
        return r1, coarse, fine


@contextmanager
def _captured(network: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """What the modules of these names put out in the meantime."""
    modules = dict(network.named_modules())
    if missing := [name for name in names if name not in modules]:
        raise ValueError(f"the backbone has no modules {missing}, it has {', '.join(list(modules)[1:])}")
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
    """1x1 convolutions with a hidden layer, beside a shortcut which is all that acts at first; then BatchNorm."""

    def __init__(self, width: int, dim: int) -> None:
        super().__init__()
        self.hidden = nn.Conv2d(width, dim, 1, bias=False)
        self.out = nn.Conv2d(dim, dim, 1, bias=False)
        self.shortcut = nn.Conv2d(width, dim, 1)
        self.norm = nn.BatchNorm2d(dim)
        nn.init.zeros_(self.out.weight)
        with torch.no_grad():  # nearly the identity
            self.shortcut.weight.uniform_(-0.01, 0.01).add_(torch.eye(dim, width)[:, :, None, None])

    def forward(self, x: Tensor) -> Tensor:
        normed: Tensor = self.norm(self.shortcut(x) + self.out(self.hidden(x).relu()))
        return normed
