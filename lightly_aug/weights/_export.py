"""Backbones as files of other libraries: state dicts for torchvision and timm, and graphs of ONNX."""

import copy
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
import torchvision
from torch import Tensor, nn

from lightly_aug.atomic import replace_file
from lightly_aug.checks import check_choice
from lightly_aug.optional import extra
from lightly_aug.weights._build import backbone_names, complete_arguments
from lightly_aug.weights._pretrained import Backbone

__all__ = ["check_equal", "copy_network", "describe_input", "example_images", "export_state_dict"]


def export_state_dict(
    backbone: Backbone, file: str | os.PathLike[str], layout: Literal["torchvision", "timm"] = "torchvision"
) -> str:
    """Write the weights of a backbone as a state dict that loads strictly into the network of another library.

    The other network is built and loaded first, and its features of random images are compared with those of the
    backbone. The file holds weights only: resize and normalise images as `backbone.collate` does.

    Args:
        backbone: The backbone.
        file: File to write: `.safetensors`, or `.pth` or `.pt`, which `torch.save` writes. Its folder is made.
        layout: `"torchvision"` for a ResNet of torchvision without its last layer, or `"timm"` for a model of timm with
            `num_classes=0`.

    Returns:
        The lines of Python that load the file, as `network`.

    Raises:
        ValueError: The library has no such network: it has no ResNet for images of CIFAR's size, no `resnet10` and no
            `amdim_encoder`; or its network computes other features; or the suffix is another.
        ModuleNotFoundError: The package timm or safetensors is not installed.
    """
    check_choice("export_state_dict", ("torchvision", "timm"), layout=layout)
    file = Path(file)
    if file.suffix not in (".safetensors", ".pth", ".pt"):
        raise ValueError(f"export_state_dict: file must end in .safetensors, .pth or .pt, got {file}")
    lines, build = _find_torchvision(backbone) if layout == "torchvision" else _find_timm(backbone)
    with torch.random.fork_rng(devices=[]):  # the first weights are drawn, and then replaced
        network = build()
    own = copy_network(backbone)
    state = {name: tensor.contiguous() for name, tensor in own.state_dict().items()}
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"export_state_dict: the weights do not fit the network of {layout}: {reason}") from None
    images = example_images(backbone, 2)
    with torch.no_grad():
        check_equal(f"export_state_dict: the network of {layout}", network.eval()(images), own(images))
    with replace_file(file) as new:
        if file.suffix == ".safetensors":
            with extra("train"):
                from safetensors.torch import save_file
            save_file(state, new, metadata={"format": "pt"})
            read = f"safetensors.torch.load_file({str(file)!r})"
        else:
            torch.save(state, new)
            read = f"torch.load({str(file)!r}, weights_only=True)"
    package = "safetensors.torch" if file.suffix == ".safetensors" else "torch"
    imports = [f"import {name}" for name in sorted({package, layout, *(["torch"] if layout == "torchvision" else [])})]
    loading = [f"network.load_state_dict({read})", f"# images: {describe_input(backbone)}"]
    return "\n".join([*imports, "", *lines, *loading])


def _find_torchvision(backbone: Backbone) -> tuple[list[str], Callable[[], nn.Module]]:
    """Return the lines that build the network of torchvision, and a function that does."""
    name, arguments = _name_of(backbone)
    name = name.split(".", maxsplit=1)[0]  # timm's, without the name of its weights
    if name not in backbone_names() or name in ("resnet10", "amdim_encoder"):
        raise ValueError(
            f"export_state_dict: layout 'torchvision' is for ResNets of torchvision, got {name!r}, which it does not "
            "have"
        )
    _check_resnet("torchvision", arguments)

    def build() -> nn.Module:
        network: nn.Module = torchvision.models.get_model(name)
        network.fc = nn.Identity()
        return network

    return [f"network = torchvision.models.{name}()", "network.fc = torch.nn.Identity()"], build


def _find_timm(backbone: Backbone) -> tuple[list[str], Callable[[], nn.Module]]:
    """Return the lines that build the network of timm, and a function that does."""
    with extra("train"):
        import timm
    name, arguments = _name_of(backbone)
    if not timm.is_model(name):
        raise ValueError(
            f"export_state_dict: layout 'timm' is for models of timm, got {name!r}, which it does not have"
        )
    if name in backbone_names():
        _check_resnet("timm", arguments)
        arguments = {}
    arguments = complete_arguments(name, arguments)
    words = "".join(f", {key}={value!r}" for key, value in arguments.items())

    def build() -> nn.Module:
        network: nn.Module = timm.create_model(name, **arguments)
        return network

    return [f"network = timm.create_model({name!r}{words})"], build


def _name_of(backbone: Backbone) -> tuple[str, dict[str, Any]]:
    built = backbone.metadata["backbone"]
    if built is None:
        raise ValueError(
            "export_state_dict: backbone must have a name that other libraries know, got a network of your own; its "
            "weights are backbone.network.state_dict()"
        )
    return built["name"], built["arguments"]


def _check_resnet(layout: str, arguments: dict[str, Any]) -> None:
    """Refuse what `resnet` builds and the other library does not."""
    if arguments.get("stem", "imagenet") != "imagenet":
        raise ValueError(
            f"export_state_dict: {layout} has no ResNet with the stem for small images, got "
            f"stem={arguments['stem']!r}: "
            "load it with Backbone.from_pretrained, or train with stem='imagenet' or a size above 32"
        )
    if arguments.get("norm", "batch") != "batch":
        raise ValueError(
            f"export_state_dict: {layout} has no ResNet with LayerNorm, as CPC v2 trains it, got "
            f"norm={arguments['norm']!r}: load it with Backbone.from_pretrained"
        )


def describe_input(backbone: Backbone, *, normalized: bool = True) -> str:
    """Describe the tensor that a network takes.

    Args:
        backbone: The backbone.
        normalized: Whether it takes images that are normalised already, where the backbone normalises them.
    """
    size, normalize = backbone.metadata["size"], backbone.metadata["normalize"]
    values = "in [0, 1]"
    if normalize and normalized:
        values = f"normalised with mean {tuple(normalize['mean'])} and std {tuple(normalize['std'])}"
    return f"float32 (n, c, {size}, {size}), {values}"


def copy_network(backbone: Backbone) -> nn.Module:
    """Return a copy of the network on the CPU in float32, in eval mode."""
    return copy.deepcopy(backbone.network).to("cpu", torch.float32).eval()


def example_images(backbone: Backbone, count: int) -> Tensor:
    """Return images `(count, c, size, size)` in [0, 1], the same ones every time, with the channels of the network."""
    channels = next((m.in_channels for m in backbone.network.modules() if isinstance(m, nn.Conv2d)), 3)
    size = backbone.metadata["size"]
    return torch.rand(count, channels, size, size, generator=torch.Generator().manual_seed(0))


def check_equal(what: str, found: Tensor, expected: Tensor) -> None:
    """Refuse features that differ by more than 1e-4, relative to the largest one if that is above 1.

    Args:
        what: Begins the message.
        found: Features `(n, d)` or `(n, d, 1, 1)`.
        expected: Features to compare them with.

    Raises:
        ValueError: They differ, or are not finite.
    """
    found, expected = found.flatten(1), expected.flatten(1)
    if found.shape != expected.shape:
        raise ValueError(
            f"{what} must compute features {tuple(expected.shape)}, as the backbone does, got {tuple(found.shape)}"
        )
    scale = max(1.0, float(expected.abs().max()))
    error = float((found - expected).abs().max()) / scale
    if not error <= 1e-4:  # NaN does not pass
        raise ValueError(
            f"{what} must compute the features of the backbone to 1e-4, got a difference of {error:.2g}, relative to "
            f"{scale:.3g}"
        )
