"""Backbones by their names."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

import torchvision
from torch import nn

from lightly_aug.models import amdim_encoder, resnet
from lightly_aug.optional import extra

__all__ = ["backbone_names", "build_backbone", "complete_arguments"]


def build_backbone(arch: str, **arguments: Any) -> nn.Module:
    """Build a backbone by its name, which outputs pooled features `(n, d)` or `(n, d, 1, 1)`.

    Args:
        arch: `"resnet10"` or a ResNet of torchvision, which `lightly_aug.models.resnet` builds; `"amdim_encoder"`; or
            any model of timm. Names of torchvision go before those of timm, which has ResNets of the same names: their
            weights have the same names and shapes, too.
        **arguments: Arguments of `resnet`, of `amdim_encoder`, or of `timm.create_model`, which gets `num_classes=0`
            and, for vision transformers, `dynamic_img_size=True` as in `lightly_aug.models.vit`.

    Raises:
        ValueError: There is no such network.
        ModuleNotFoundError: The package timm is not installed.

    Example:
        >>> import torch
        >>> build_backbone("resnet10", stem="cifar")(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 512])
    """
    known = backbone_names()
    if arch == "amdim_encoder":
        return amdim_encoder(**arguments)
    network: nn.Module
    if arch in known:
        network = resnet(arch, **arguments)
        return network
    with extra("train"):
        import timm
    if not timm.is_model(arch):
        near = get_close_matches(arch.lower(), [*known, *timm.list_models()], n=1)
        raise ValueError(
            "build_backbone: arch must be amdim_encoder, resnet10, a ResNet of torchvision or a model of timm, "
            f"got {arch!r}" + (f"; did you mean {near[0]!r}?" if near else "")
        )
    network = timm.create_model(arch, **complete_arguments(arch, arguments))
    return network


def complete_arguments(arch: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments with which `build_backbone` calls `timm.create_model`.

    Args:
        arch: A model of timm.
        arguments: Arguments that are given; they go first.

    Example:
        >>> complete_arguments("vit_tiny_patch16_224", {"img_size": 32})
        {'num_classes': 0, 'dynamic_img_size': True, 'img_size': 32}
    """
    with extra("train"):
        import timm
    any_size = arch.split(".", maxsplit=1)[0] in timm.list_models(module="vision_transformer")
    return {"num_classes": 0} | ({"dynamic_img_size": True} if any_size else {}) | dict(arguments)


def backbone_names() -> list[str]:
    """Return the names that `build_backbone` takes, without those of timm."""
    resnets = torchvision.models.list_models(torchvision.models, include=["resnet*", "resnext*", "wide_resnet*"])
    return ["amdim_encoder", "resnet10", *resnets]
