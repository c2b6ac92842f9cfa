"""ResNets, and the measured feature width of any backbone."""

from functools import partial
from typing import Any, Literal

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, ResNet

from lightly_aug.checks import check_choice

__all__ = ["feature_width", "resnet"]


def resnet(
    name: str = "resnet18",
    *,
    stem: Literal["imagenet", "cifar"] = "imagenet",
    norm: Literal["batch", "layer"] = "batch",
    zero_init_residual: bool = False,
    weights: str | torchvision.models.WeightsEnum | None = None,
) -> ResNet:
    """Build a torchvision ResNet that outputs its pooled features `(n, d)`.

    Args:
        name: Any ResNet, ResNeXt or Wide ResNet of torchvision, or `"resnet10"`, which has one block per stage.
        stem: `"imagenet"` downsamples the image by 4 before the first stage; `"cifar"`, a 3x3 convolution of stride 1
            without max-pooling, keeps the resolution of images of about 32 pixels, as SimCLR does for CIFAR-10.
        norm: `"batch"`, or `"layer"` for LayerNorm over channels and pixels, which shares no statistics between the
            images of a batch, as CPC v2 needs it.
        zero_init_residual: Initialise residual blocks to the identity, as SimCLR, SimSiam and MoCo v3 do.
        weights: Torchvision's pretrained weights by name, such as `"DEFAULT"`; None starts from scratch.

    Returns:
        The network, with `fc` replaced by the identity.

    Raises:
        ValueError: Unknown `name`, `stem` or `norm`, or `weights` for a network that has none.

    Example:
        >>> resnet("resnet10", stem="cifar")(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 512])
    """
    known = torchvision.models.list_models(torchvision.models, include=["resnet*", "resnext*", "wide_resnet*"])
    check_choice("resnet", ["resnet10", *known], name=name)
    check_choice("resnet", ("imagenet", "cifar"), stem=stem)
    check_choice("resnet", ("batch", "layer"), norm=norm)
    if weights is not None and (name == "resnet10" or stem == "cifar" or norm == "layer"):
        raise ValueError(f"resnet: weights must be None for {name} with {stem} stem and {norm} norm, got {weights!r}")
    options: dict[str, Any] = {"norm_layer": partial(nn.GroupNorm, 1)} if norm == "layer" else {}
    options["zero_init_residual"] = zero_init_residual
    network = (
        ResNet(BasicBlock, [1, 1, 1, 1], **options)
        if name == "resnet10"
        else torchvision.models.get_model(name, weights=weights, **options)
    )
    network.fc = nn.Identity()
    if stem == "cifar":
        network.conv1 = nn.Conv2d(3, 64, kernel_size=3, padding=1, bias=False)
        nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")  # as torchvision does
        network.maxpool = nn.Identity()
    return network


def feature_width(backbone: nn.Module, size: int = 64) -> int:
    """Measure a backbone's feature width by running it on black images.

    The images have the channel count of the first convolution. BatchNorm statistics and the mode of every submodule are
    left unchanged.

    Args:
        backbone: Maps images `(n, c, h, w)` to `(n, d)` or `(n, d, 1, 1)`.
        size: Side of the images in pixels.

    Returns:
        The width d.

    Raises:
        ValueError: The backbone fails on such images, or does not output one vector per image.
    """
    modes = {module: module.training for module in backbone.modules()}
    like = next(backbone.parameters(), torch.empty(0))
    channels = next((m.in_channels for m in backbone.modules() if isinstance(m, nn.Conv2d)), 3)
    images = torch.zeros(2, channels, size, size, dtype=like.dtype, device=like.device)
    try:
        with torch.no_grad():
            output = backbone.eval()(images)
    except Exception as error:  # a backbone may raise anything
        asked = f"feature_width: backbone must take images {tuple(images.shape)}, got"
        raise ValueError(f"{asked} {type(error).__name__}: {error}\nGive the width yourself: width=...") from error
    finally:
        for module, mode in modes.items():
            module.training = mode
    if not isinstance(output, Tensor) or output.ndim < 2 or output.flatten(1).shape != output.shape[:2]:
        shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise ValueError(
            f"feature_width: backbone must map {tuple(images.shape)} to (2, d) or (2, d, 1, 1), got {shape}: "
            "end it in pooled features, such as nn.Sequential(backbone, nn.AdaptiveAvgPool2d(1))"
        )
    return output.shape[1]
