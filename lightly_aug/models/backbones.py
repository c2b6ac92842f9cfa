"""ResNets, and the measured feature width of any backbone."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Literal

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, ResNet
from torchvision.models.squeezenet import SqueezeNet

from lightly_aug.checks import check_choice

__all__ = ["check_features", "feature_width", "image_size", "is_vit", "resnet"]


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
        zero_init_residual: Initialise residual blocks to the identity, as SimCLR, BYOL, SimSiam and MoCo v3 do.
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


def is_vit(network: nn.Module) -> bool:
    """Return whether a network is a vision transformer of torchvision, timm or Hugging Face, by its class names.

    Example:
        >>> is_vit(resnet("resnet10"))
        False
    """
    names = [type(module).__name__ for module in network.modules()]
    return any("VisionTransformer" in name or name.startswith(("ViT", "DeiT", "Dinov2", "DINOv3ViT")) for name in names)


def feature_width(backbone: nn.Module, size: int | tuple[int, int] | None = None) -> int:
    """Measure a backbone's feature width by running it on two black images.

    The images have the channel count of the first convolution. BatchNorm statistics and the mode of every submodule are
    left unchanged, and nothing is compiled.

    Args:
        backbone: Maps images `(n, c, h, w)` to `(n, d)` or `(n, d, 1, 1)`.
        size: Side of the images in pixels, or height and width. None takes 64, rounded down to whole patches, and, if
            the backbone fails on it, the size that the backbone was made for.

    Returns:
        The width d.

    Raises:
        ValueError: The backbone fails on such images, does not output one vector per image, or is a network of timm or
            torchvision that still has its classifier.
    """
    *others, last = [size] if size is not None else _sizes_to_try(backbone)
    for other in others:
        with suppress(ValueError):
            return _measure_width(backbone, other)
    return _measure_width(backbone, last)


def check_features(owner: str, output: object, images: Tensor) -> None:
    """Raise ValueError if a backbone does not output one vector for each image.

    Args:
        owner: The name of who asks, for the error.
        output: The output of a backbone.
        images: `(n, c, h, w)`, its input.
    """
    n = len(images)
    if not isinstance(output, Tensor) or output.shape[2:].numel() != 1 or output.shape[:1] != (n,) or output.ndim < 2:
        shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise ValueError(
            f"{owner}: backbone must map {tuple(images.shape)} to ({n}, d) or ({n}, d, 1, 1), got {shape}: "
            f"{_advise_on(output)}"
        )


def image_size(backbone: nn.Module) -> tuple[int, int] | None:
    """Return the height and width of images that a vision transformer was built for; None if a network has none."""
    return _find_sides(backbone, "img_size", "image_size")


def _measure_width(backbone: nn.Module, size: int | tuple[int, int]) -> int:
    height, width = (size, size) if isinstance(size, int) else size
    like = next(backbone.parameters(), torch.empty(0))
    channels = next((m.in_channels for m in backbone.modules() if isinstance(m, nn.Conv2d)), 3)
    images = torch.zeros(2, channels, height, width, dtype=like.dtype, device=like.device)
    with _evaluating(backbone), _outputs_of_classifiers(backbone) as classifiers:
        try:
            output = backbone(images)
        except Exception as error:  # a backbone may raise anything
            raise ValueError(
                f"feature_width: backbone must take images {tuple(images.shape)}, got {type(error).__name__}: {error}\n"
                "Give the width yourself: width=..., or measure it at the size of the views: "
                "width=feature_width(backbone, (height, width))"
            ) from error
    check_features("feature_width", output, images)
    features = output.shape[1]
    for network, scores in reversed(classifiers):  # from the outermost
        classes, removal = _classifier_of(network)
        if scores is output and classes == features:
            raise ValueError(
                f"feature_width: backbone must end in its features, got the {classes} outputs of the classifier of "
                f"{type(network).__name__}: remove it, {removal}; or keep it with width={classes}"
            )
    return features


def _sizes_to_try(backbone: nn.Module) -> list[tuple[int, int]]:
    """Return a small size, for speed, and the one that the network, or timm, says that it was made for."""
    rows, columns = _find_sides(backbone, "patch_size") or (1, 1)
    small = max(64 // rows, 1) * rows, max(64 // columns, 1) * columns
    configs: Iterator[Any] = (getattr(module, "pretrained_cfg", None) for module in backbone.modules())
    config = next((config for config in configs if isinstance(config, dict)), {})
    *_, height, width = image_size(backbone) or config.get("input_size", small)
    return list(dict.fromkeys([small, (height, width)]))


def _find_sides(backbone: nn.Module, *names: str) -> tuple[int, int] | None:
    """Return the first attribute of these names, an integer or two, of any module."""
    for module in backbone.modules():
        for name in names:
            sides = getattr(module, name, None)
            pair = (sides, sides) if isinstance(sides, int) else sides
            if isinstance(pair, Sequence) and len(pair) == 2 and all(isinstance(side, int) for side in pair):
                return pair[0], pair[1]
    return None


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    """Put the network into eval mode, without gradients and without `torch.compile`, while the context is open."""
    modes = {module: module.training for module in network.modules()}
    try:
        network.eval()
        with torch.no_grad(), torch.compiler.set_stance("force_eager"):
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def _outputs_of_classifiers(backbone: nn.Module) -> Iterator[list[tuple[nn.Module, Any]]]:
    """Collect the classifiers of timm and torchvision in the backbone, and their outputs, while the context is open."""
    found: list[tuple[nn.Module, Any]] = []
    hooks = [
        module.register_forward_hook(lambda module, args, output: found.append((module, output)))
        for module in backbone.modules()
        if _classifier_of(module)[0]
    ]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def _classifier_of(network: nn.Module) -> tuple[int, str]:
    """Return the number of classes of a network of timm or torchvision, and the line that removes its last layer.

    The number is 0 for any other network, and for one that ends in something that these packages do not build, such as
    an MLP in the place of `fc`.
    """
    origins = [kind.__module__ for kind in type(network).__mro__]
    if any(origin.startswith("timm.models.") for origin in origins):
        classes = getattr(network, "num_classes", 0)  # what the user puts in the place of the head does not change it
        return classes, "timm.create_model(..., num_classes=0) or network.reset_classifier(0)"
    if isinstance(network, SqueezeNet):
        return network.num_classes, "network.classifier = nn.AdaptiveAvgPool2d(1)"
    if any(origin.startswith("torchvision.models.") for origin in origins):
        heads = {f"network.{name}": getattr(network, name, None) for name in ("fc", "classifier", "head")}
        for name in ("classifier", "heads"):
            if isinstance(layers := getattr(network, name, None), nn.Sequential) and len(layers):
                heads[f"network.{name}[-1]"] = layers[-1]
        for line, head in heads.items():
            if isinstance(head, nn.Linear):
                return head.out_features, f"{line} = nn.Identity()"
    return 0, ""


def _advise_on(output: object) -> str:
    """Say what to do with a backbone that does not output one vector per image."""
    if getattr(output, "pooler_output", None) is not None:
        return "write pooled(backbone) in place of backbone, from lightly_aug.models"
    if getattr(output, "last_hidden_state", None) is not None:
        return 'write pooled(backbone, "class_token") or pooled(backbone, "mean"), from lightly_aug.models'
    if getattr(output, "logits", None) is not None:
        return "take the model without its classifier, such as AutoModel.from_pretrained(...), and write pooled(model)"
    return "end it in pooled features, such as nn.Sequential(backbone, nn.AdaptiveAvgPool2d(1))"
