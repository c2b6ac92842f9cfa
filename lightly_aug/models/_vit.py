"""Vision transformers."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from lightly_aug.optional import extra

__all__ = ["vit"]


def vit(name: str = "vit_small_patch16_224", *, moco_v3: bool = False, **options: Any) -> nn.Module:
    """A vision transformer of timm that takes images of any size its patches divide, as multi-crop needs it.

    Args:
        name: Any `vit_*` of timm.
        moco_v3: As MoCo v3 trains it (Chen et al. 2021, arXiv 2104.02057): the patch projection is drawn at random and
            stays, positions are fixed sines and cosines in two dimensions, the other weights begin as in the paper.
            Its ViT-S has 12 heads: `num_heads=12`.
        **options: As in `timm.create_model`, such as `pretrained=True`, `img_size=32` or `drop_path_rate=0.1`.

    Returns:
        The network, `(n, c, h, w) -> (n, d)`, the class token's features.

    Raises:
        ValueError: `name` is no ViT, or `moco_v3` would overwrite pretrained weights.
        ModuleNotFoundError: timm is not installed.

    Example:
        >>> network = vit("vit_tiny_patch16_224", img_size=32, depth=1)
        >>> network(torch.rand(2, 3, 48, 48)).shape
        torch.Size([2, 192])
    """
    if not name.startswith("vit_"):
        raise ValueError(f"vit({name!r}): give a vit_* of timm, such as vit_small_patch16_224")
    if moco_v3 and options.get("pretrained"):
        raise ValueError("moco_v3=True draws all weights anew: leave pretrained=True out")
    with extra("train"):
        import timm
    network: nn.Module = timm.create_model(name, num_classes=0, dynamic_img_size=True, **options)
    if moco_v3:
        _as_moco_v3(network)
    return network


@torch.no_grad()
def _as_moco_v3(network: Any) -> None:
    for key, module in network.named_modules():
        if isinstance(module, nn.Linear):
            parts = 3 if key.endswith("qkv") else 1  # queries, keys and values are three layers in one
            bound = math.sqrt(6 / (module.out_features / parts + module.in_features))
            nn.init.uniform_(module.weight, -bound, bound)
            nn.init.zeros_(module.bias)
    projection = network.patch_embed.proj
    bound = math.sqrt(6 / (math.prod(projection.weight.shape[1:]) + projection.out_channels))
    nn.init.uniform_(projection.weight, -bound, bound)
    nn.init.zeros_(projection.bias)
    nn.init.normal_(network.cls_token, std=1e-6)
    rows, columns = network.patch_embed.grid_size
    positions = _sines(rows, columns, network.embed_dim).to(network.pos_embed)
    network.pos_embed.zero_()[0, -len(positions) :] = positions
    for fixed in (network.pos_embed, *projection.parameters()):
        fixed.requires_grad_(False)


def _sines(rows: int, columns: int, dim: int) -> Tensor:
    """Places on a grid as sines and cosines of a quarter of the dimensions each, `(rows * columns, dim)`."""
    frequency = 10000.0 ** (-torch.arange(dim // 4) / (dim // 4))
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    angles = [place.reshape(-1, 1) * frequency for place in (y, x)]
    return torch.cat([wave for angle in angles for wave in (angle.sin(), angle.cos())], dim=1)
