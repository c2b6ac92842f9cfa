"""Saved backbones for the tests of what is done with them."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from lightly_aug import Normalize
from lightly_aug.weights import Backbone, build_backbone, save_backbone


def scramble(network: nn.Module) -> nn.Module:
    """Set weights and statistics that no initialisation gives, and return the network in eval mode."""
    generator = torch.Generator().manual_seed(1)
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            factor, summand = torch.randn(2, *tensor.shape, generator=generator)
            tensor.mul_(1 + 0.1 * factor).add_(0.01 * summand)
    return network.eval()


def write_backbone(folder: Path, arch: str, *, size: int, **settings: Any) -> Backbone:
    """Save a backbone with scrambled weights, and load it."""
    network = scramble(build_backbone(arch, **settings.get("arguments", {})))
    save_backbone(
        network, folder / "backbone.safetensors", arch=arch, size=size, **{"normalize": Normalize()} | settings
    )
    return Backbone.from_pretrained(folder)
