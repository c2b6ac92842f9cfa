"""The encoder of AMDIM."""

from collections import OrderedDict

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["amdim_encoder"]


def amdim_encoder(size: int = 128, *, width: int = 192, dim: int = 1536, depth: int = 8) -> nn.Sequential:
    """The encoder of AMDIM (Bachman et al. 2019, arXiv 1906.00910), whose convolutions keep features local.

    A feature of the modules `local7` and `local5`, which give maps of 7x7 and 5x5, sees a part of the image; the last
    module ends in a single pixel. As in the official code there is no BatchNorm but the last, residual layers begin as
    an average over what they see, and `width` doubles up to four times that at 32 pixels, up to eight times else.

    Args:
        size: Side of the images in pixels: 32, 64 or 128.
        width: Channels of the first layers.
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

    def block(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
        rest = (_Residual(outputs, outputs, 1) for _ in range(depth - 1))
        return nn.Sequential(_Residual(inputs, outputs, kernel, stride), *rest)

    layers: dict[str, nn.Module] = {}
    if size == 128:
        first = nn.Conv2d(3, width, 5, 2, padding=2, padding_mode="reflect", bias=False)
        layers["stem128"] = nn.Sequential(first, nn.ReLU())
    layers["stem"] = nn.Sequential(nn.Conv2d(width if size == 128 else 3, width, 3, bias=False), nn.ReLU())
    wide = width if size == 32 else 2 * width
    layers["block30"] = _Residual(width, width, 1) if size == 32 else block(width, wide, 4, 2)
    layers["block14"] = block(wide, 2 * wide, 4, 2)
    layers["local7"] = block(2 * wide, 4 * wide, 2, 2)
    layers["local5"] = block(4 * wide, 4 * wide, 3)
    layers["block3"] = block(4 * wide, 4 * wide, 3)
    layers["block1"] = _Residual(4 * wide, dim, 3)
    return nn.Sequential(OrderedDict(layers, norm=nn.BatchNorm2d(dim)))


class _Residual(nn.Module):
    """Two convolutions, the second of which begins at zero, beside the mean of what they see."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, kernel, stride, bias=False)
        self.second = nn.Conv2d(outputs, outputs, 1, bias=False)
        self.narrow = nn.Conv2d(inputs, outputs, 1, bias=False) if outputs < inputs else nn.Identity()
        self.mean = nn.AvgPool2d(kernel, stride)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.second(self.first(x).relu())
        beside = self.narrow(self.mean(x))
        return y + F.pad(beside, (0, 0, 0, 0, 0, y.shape[1] - beside.shape[1]))  # channels that x lacks are zero
