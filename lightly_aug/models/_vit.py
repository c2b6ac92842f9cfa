"""Vision transformers."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from lightly_aug.optional import extra

__all__ = ["vit"]


def vit(name: str = "vit_small_patch16_224", *, moco_v3: bool = False, **options: Any) -> nn.Module:
    """Build a vision transformer of timm for images of any size divisible by its patch size, as multi-crop needs it.

    Positions are resampled to the size of the images with antialiasing, as timm does. DINO's official code resamples
    without it, so its weights give slightly different features there for small views.

    Args:
        name: Any `vit_*` of timm, except those with relative positions (`vit_relpos_*`).
        moco_v3: Initialise as in MoCo v3 (Chen et al. 2021, arXiv 2104.02057): a fixed random patch projection, fixed
            sine-cosine positions in two dimensions, and the paper's initialisation of the other weights. The paper's
            ViT-S has 12 heads: `num_heads=12`.
        **options: Passed to `timm.create_model`, such as `pretrained=True`, `img_size=32` or `drop_path_rate=0.1`.

    Returns:
        The network, `(n, c, h, w) -> (n, d)`: the features of the class token, or what the ViT pools without one.

    Raises:
        ValueError: `name` is not such a ViT; or `moco_v3` would overwrite pretrained weights, or needs positions and a
            patch projection that the ViT does not have.
        ModuleNotFoundError: The package timm is not installed.

    Example:
        >>> network = vit("vit_tiny_patch16_224", img_size=32, depth=1)
        >>> network(torch.rand(2, 3, 48, 48)).shape
        torch.Size([2, 192])
    """
    if not name.startswith("vit_") or "relpos" in name:
        asked = "a vit_* of timm, such as vit_small_patch16_224, without relative positions"
        raise ValueError(f"vit: name must be {asked}, got {name!r}")
    if moco_v3 and options.get("pretrained"):
        raise ValueError("vit: pretrained must be False with moco_v3=True, which initialises all weights, got True")
    with extra("train"):
        import timm
    network: Any = timm.create_model(name, num_classes=0, dynamic_img_size=True, **options)
    if moco_v3:
        if getattr(network, "pos_embed", None) is None or not isinstance(network.patch_embed.proj, nn.Conv2d):
            raise ValueError(
                "vit: name must be a ViT with absolute positions and one convolution as its patch projection for "
                f"moco_v3=True, which fixes both, got {name!r}"
            )
        _initialize_as_moco_v3(network)
    return network


@torch.no_grad()
def _initialize_as_moco_v3(network: Any) -> None:
    for key, module in network.named_modules():
        if isinstance(module, nn.Linear):
            parts = 3 if key.endswith("qkv") else 1  # queries, keys and values are three layers in one
            bound = math.sqrt(6 / (module.out_features / parts + module.in_features))
            nn.init.uniform_(module.weight, -bound, bound)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    projection = network.patch_embed.proj
    bound = math.sqrt(6 / (math.prod(projection.weight.shape[1:]) + projection.out_channels))
    nn.init.uniform_(projection.weight, -bound, bound)
    if projection.bias is not None:
        nn.init.zeros_(projection.bias)
    if network.cls_token is not None:
        nn.init.normal_(network.cls_token, std=1e-6)
    rows, columns = network.patch_embed.grid_size
    positions = _encode_positions(rows, columns, network.embed_dim).to(network.pos_embed)
    network.pos_embed.zero_()[0, -len(positions) :] = positions
    for fixed in (network.pos_embed, *projection.parameters()):
        fixed.requires_grad_(False)


def _encode_positions(rows: int, columns: int, dim: int) -> Tensor:
    """Encode places on a grid `(rows * columns, dim)`: sine and cosine of row and column, a quarter of dim each."""
    frequency = 10000.0 ** (-torch.arange(dim // 4) / (dim // 4))
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    angles = [place.reshape(-1, 1) * frequency for place in (y, x)]
    return torch.cat([wave for angle in angles for wave in (angle.sin(), angle.cos())], dim=1)
