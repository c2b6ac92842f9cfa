"""The encoder of AMDIM."""

from collections import OrderedDict
from functools import partial

from torch import Tensor, nn

__all__ = ["amdim_encoder"]


def amdim_encoder(size: int = 128, *, width: int = 192, dim: int = 1536, depth: int = 8) -> nn.Sequential:
    """The encoder of AMDIM (Bachman et al. 2019, arXiv 1906.00910): convolutions without padding from 7x7 pixels on.

    Residual blocks whose features see only a part of the image each: modules `local7` and `local5` give maps of 7x7
    and 5x5, the last one a single pixel. The layers are recalled from the sizes of the maps in the official code.

    Args:
        size: Side of the images in pixels: 32, 64 or 128.
        width: Channels of the first layers; later ones have up to four times as many.
        dim: Width of the features.
        depth: Layers in each residual block, at least 1.

    Returns:
        The network, `(n, 3, size, size) -> (n, dim, 1, 1)`.

    Raises:
        ValueError: There is no such size, or a width or depth is below 1.

    Example:
        >>> import torch
        >>> amdim_encoder(64, width=8, dim=16, depth=1)(torch.rand(2, 3, 64, 64)).shape
        torch.Size([2, 16, 1, 1])
    """
    if size not in (32, 64, 128):
        raise ValueError(f"size is {size}, AMDIM's encoder is for images of 32, 64 or 128 pixels")
    if min(width, dim, depth) < 1:
        raise ValueError(f"width is {width}, dim {dim} and depth {depth}, all must be at least 1")
    block = partial(_ResidualBlock, depth=depth)
    layers: dict[str, nn.Module] = {}
    if size == 128:
        layers["stem128"] = _stem(3, width, 5, 2, 2)
    layers["stem"] = _stem(width if size == 128 else 3, width, 3)
    layers["block30"] = block(width, width, 1) if size == 32 else block(width, width, 4, 2)
    layers["block14"] = block(width, 2 * width, 4, 2)
    layers["block7"] = block(2 * width, 4 * width, 2, 2)
    layers["local7"] = block(4 * width, 4 * width, 1)
    layers["local5"] = block(4 * width, 4 * width, 3)
    layers["block3"] = block(4 * width, 4 * width, 3)
    layers["block1"] = block(4 * width, dim, 3)
    return nn.Sequential(OrderedDict(layers, norm=nn.BatchNorm2d(dim)))


def _stem(inputs: int, width: int, kernel: int, stride: int = 1, padding: int = 0) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, width, kernel, stride, padding, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(width), nn.ReLU())


class _ResidualBlock(nn.Module):
    """A layer that changes size and width, beside an average that does, and then layers pixel by pixel."""

    def __init__(self, inputs: int, width: int, kernel: int, stride: int = 1, *, depth: int) -> None:
        super().__init__()
        self.convolution = nn.Sequential(
            nn.Conv2d(inputs, width, kernel, stride), nn.ReLU(), nn.Conv2d(width, width, 1)
        )
        widen = nn.Conv2d(inputs, width, 1, bias=False)
        nn.init.dirac_(widen.weight)
        self.shortcut = nn.Sequential(nn.AvgPool2d(kernel, stride), widen)
        self.norm = nn.BatchNorm2d(width)
        self.pointwise = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, 1), nn.ReLU(), nn.Conv2d(width, width, 1)) for _ in range(depth - 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.convolution(x) + self.shortcut(x)).relu()
        for layer in self.pointwise:
            x = (x + layer(x)).relu()
        return x
