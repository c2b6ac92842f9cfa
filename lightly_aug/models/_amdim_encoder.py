"""The encoder of AMDIM."""

from collections import OrderedDict

import torch.nn.functional as F
from torch import Tensor, nn

from lightly_aug.checks import check_choice, check_integer

__all__ = ["amdim_encoder"]


def amdim_encoder(size: int = 128, *, width: int = 192, dim: int = 1536, depth: int = 8) -> nn.Sequential:
    """Build the encoder of AMDIM (Bachman et al. 2019, arXiv 1906.00910), whose convolutions keep features local.

    The modules `local7` and `local5` output maps of 7x7 and 5x5 whose features see only a part of the image; the last
    module outputs a single pixel. As in the official code, the only BatchNorm is the last module, residual layers start
    as average pooling, and `width` grows by doubling to four times its value at 32 pixels, to eight times at others.

    Args:
        size: Side of the images in pixels: 32, 64 or 128.
        width: Channels of the first layers.
        dim: Width of the features.
        depth: Layers in each residual block, at least 1.

    Returns:
        The network, `(n, 3, size, size) -> (n, dim, 1, 1)`.

    Raises:
        ValueError: `size` is not one of the three, or a width or `depth` is below 1.

    Example:
        >>> import torch
        >>> amdim_encoder(64, width=8, dim=16, depth=1)(torch.rand(2, 3, 64, 64)).shape
        torch.Size([2, 16, 1, 1])
    """
    check_choice("amdim_encoder", (32, 64, 128), size=size)
    check_integer("amdim_encoder", least=1, width=width, dim=dim, depth=depth)

    def block(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
        rest = (_Residual(outputs, outputs, 1) for _ in range(depth - 1))
        return nn.Sequential(_Residual(inputs, outputs, kernel, stride), *rest)

    layers: dict[str, nn.Module] = {}
    if size == 128:
        first = nn.Conv2d(3, width, 5, 2, padding=2, padding_mode="reflect")
        layers["stem128"] = nn.Sequential(first, nn.ReLU())
    layers["stem"] = nn.Sequential(nn.Conv2d(width if size == 128 else 3, width, 3), nn.ReLU())
    wide = width if size == 32 else 2 * width
    layers["block30"] = _Residual(width, width, 1) if size == 32 else block(width, wide, 4, 2)
    layers["block14"] = block(wide, 2 * wide, 4, 2)
    layers["local7"] = block(2 * wide, 4 * wide, 2, 2)
    layers["local5"] = block(4 * wide, 4 * wide, 3)
    layers["block3"] = block(4 * wide, 4 * wide, 3)
    layers["block1"] = _Residual(4 * wide, dim, 3)
    return nn.Sequential(OrderedDict(layers, norm=nn.BatchNorm2d(dim)))


class _Residual(nn.Module):
    """Two convolutions, the second initialised to zero, added to an average pooling of their input.

    Where the output has fewer channels than the input, a convolution of the same kernel takes the place of the pooling.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, kernel, stride, bias=False)
        self.second = nn.Conv2d(outputs, outputs, 1, bias=False)
        self.beside = nn.Conv2d(inputs, outputs, kernel, stride) if outputs < inputs else nn.AvgPool2d(kernel, stride)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(self.first(x).relu())
        beside = self.beside(x)
        return y + F.pad(beside, (0, 0, 0, 0, 0, y.shape[1] - beside.shape[1]))  # missing channels are zero
