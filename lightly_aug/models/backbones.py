"""Networks to train, and the width of any."""

from functools import partial
from typing import Any, Literal

import torch
import torchvision  # type: ignore[import-untyped]
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, ResNet  # type: ignore[import-untyped]

__all__ = ["feature_width", "resnet"]


def resnet(
    name: str = "resnet18",
    *,
    stem: Literal["imagenet", "cifar"] = "imagenet",
    norm: Literal["batch", "layer"] = "batch",
    zero_init_residual: bool = False,
    weights: str | torchvision.models.WeightsEnum | None = None,
) -> ResNet:
    """A torchvision ResNet that ends in its pooled features `(n, d)`.

    Args:
        name: Any ResNet, ResNeXt or Wide ResNet of torchvision, or `"resnet10"`, with one block a stage.
        stem: `"imagenet"` reduces the image fourfold before the first stage; `"cifar"`, a 3x3 convolution of
            stride 1 without max-pool, keeps images of about 32 pixels large enough, as SimCLR does for CIFAR-10.
        norm: `"batch"`, or `"layer"` for LayerNorm over channels and pixels, which tells an image nothing about the
            others of its batch, as CPC v2 needs it.
        zero_init_residual: Begin with residual blocks that do nothing, as SimCLR, SimSiam and MoCo v3 do.
        weights: Torchvision's pretrained weights by name, such as `"DEFAULT"`; None starts from scratch.

    Returns:
        The network, `fc` replaced by the identity.

    Raises:
        ValueError: Unknown `name`, `stem` or `norm`, or `weights` for a network that has none.

    Example:
        >>> resnet("resnet10", stem="cifar")(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 512])
    """
    known = torchvision.models.list_models(torchvision.models, include=["resnet*", "resnext*", "wide_resnet*"])
    if name not in [*known, "resnet10"]:
        raise ValueError(f"resnet({name!r}) is unknown; there are resnet10, {', '.join(known)}")
    if stem not in ("imagenet", "cifar"):
        raise ValueError(f"stem is {stem!r}, it must be 'imagenet' or 'cifar'")
    if norm not in ("batch", "layer"):
        raise ValueError(f"norm is {norm!r}, it must be 'batch' or 'layer'")
    if weights is not None and (name == "resnet10" or stem == "cifar" or norm == "layer"):
        raise ValueError(f"there are no weights for {name} with the {stem} stem and {norm} norm: leave weights=None")
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
    """Measure how many features a backbone gives, on black images with as many channels as its first convolution takes.

    The backbone is left as it was, BatchNorm statistics and the mode of every submodule too.

    Args:
        backbone: Maps images `(n, c, h, w)` to `(n, d)` or `(n, d, 1, 1)`.
        size: Side of the images in pixels.

    Returns:
        d.

    Raises:
        ValueError: The backbone fails on such images, or gives something else than one vector per image.
    """
    modes = {module: module.training for module in backbone.modules()}
    like = next(backbone.parameters(), torch.empty(0))
    channels = next((m.in_channels for m in backbone.modules() if isinstance(m, nn.Conv2d)), 3)
    images = torch.zeros(2, channels, size, size, dtype=like.dtype, device=like.device)
    try:
        with torch.no_grad():
            output = backbone.eval()(images)
    except Exception as error:  # whatever the backbone raises
        asked = f"measuring the backbone's width on images {tuple(images.shape)} failed"
        raise ValueError(f"{asked}: {error}\nGive the width yourself: width=...") from error
    finally:
        for module, mode in modes.items():
            module.training = mode
    if not isinstance(output, Tensor) or output.ndim < 2 or output.flatten(1).shape != output.shape[:2]:
        shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise ValueError(
            f"the backbone maps images {tuple(images.shape)} to {shape}, a method needs (2, d) or (2, d, 1, 1): "
            "end it in pooled features, such as nn.Sequential(backbone, nn.AdaptiveAvgPool2d(1))"
        )
    return output.shape[1]
