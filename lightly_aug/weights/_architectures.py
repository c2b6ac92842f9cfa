"""Which network weights belong to, by their names and shapes."""

import json
import math
import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor, nn

from lightly_aug.optional import extra
from lightly_aug.weights._build import backbone_names, build_backbone

__all__ = ["check_forward", "infer_architecture", "rename"]

Shapes: TypeAlias = Mapping[str, tuple[int, ...]]

_CHILDREN: Final = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}
"""Weights of a ResNet as `nn.Sequential(*resnet.children())` numbers them; between them are ReLU and max-pooling."""

_VITS: Final = {192: ("tiny", 12, 3), 384: ("small", 12, 6), 768: ("base", 12, 12), 1024: ("large", 24, 16)}
"""Size, depth and attention heads of the vision transformers of timm and DINO, by their width."""

_OWN: Final = "build the network as it was trained, and pass it: network=..."


def rename(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give weights that are numbered the names of torchvision, or of `amdim_encoder`; return others as they are.

    Args:
        state: Weights of the backbone, by names without the prefix.

    Raises:
        ValueError: They are numbered in another way, or AMDIM's encoder has BatchNorm in its layers.
    """
    if "0.conv.weight" in state:
        return _rename_amdim(state)
    if "0.weight" not in state:
        return dict(state)
    places = {name.split(".")[0] for name in state}
    if not places <= _CHILDREN.keys():
        raise ValueError(
            "load_checkpoint: a numbered backbone must be the children of a ResNet of torchvision, whose weights have "
            f"the numbers {', '.join(_CHILDREN)}, got {', '.join(sorted(places))}: {_OWN}"
        )
    return {".".join([_CHILDREN[name.split(".")[0]], *name.split(".")[1:]]): value for name, value in state.items()}


def infer_architecture(shapes: Shapes, layout: str) -> tuple[str, dict[str, Any]]:
    """Return the name and the arguments of `build_backbone` for weights of these names and shapes.

    Of several ResNets, it is the one with the fewest differences, so that a missing weight can be named.

    Args:
        shapes: Shapes of the weights, by names as `rename` returns them.
        layout: Key of `LAYOUTS`.

    Raises:
        ValueError: The network cannot be built by name, or the weights do not tell which of several it is.
    """
    families: dict[str, Callable[[Shapes, str], tuple[str, dict[str, Any]]]] = {
        "stem.0.weight": _infer_amdim,
        "patch_embed.proj.weight": _infer_vit,
        "conv1.weight": _infer_resnet,
    }
    for first, infer in families.items():
        if first in shapes:
            return infer(shapes, layout)
    if "patch_embed.proj.0.weight" in shapes:
        raise ValueError(f"load_checkpoint: timm has no ViT with MoCo v3's convolutional stem: {_OWN}")
    names = ", ".join([*shapes][:4])
    raise ValueError(f"load_checkpoint: the weights must be those of a ResNet or a ViT, got {names}, ...: {_OWN}")


def check_forward(network: nn.Module, layout: str) -> None:
    """Refuse a network with the right weights that computes something else with them than the one that was trained.

    Args:
        network: The network.
        layout: Key of `LAYOUTS`.

    Raises:
        ValueError: A vision transformer has another number of attention heads, or a stem pads by another width.
    """
    stem = getattr(network, "conv1", None)
    if layout == "solo_learn" and isinstance(stem, nn.Conv2d) and stem.kernel_size == (3, 3) and stem.padding != (2, 2):
        raise ValueError(
            f"load_checkpoint: solo-learn's stem for CIFAR pads by 2 pixels, got padding {stem.padding}: pass "
            "network=resnet(..., stem='cifar') with network.conv1.padding = (2, 2)"
        )
    if layout not in ("moco_v3", "dino"):
        return
    for name, module in network.named_modules():
        if name.endswith("blocks.0.attn"):
            width = next(module.parameters()).shape[-1]
            heads, right = getattr(module, "num_heads", None), _heads_of(width, layout)
            if heads is not None and right is not None and heads != right:
                raise ValueError(
                    f"load_checkpoint: a ViT of width {width} in the layout {layout!r} has {right} heads, got "
                    f"{heads}: num_heads={right}"
                )


def _infer_resnet(shapes: Shapes, layout: str) -> tuple[str, dict[str, Any]]:
    width, channels, kernel = shapes["conv1.weight"][:3]
    if width != 64:
        raise ValueError(
            f"load_checkpoint: the ResNets of torchvision and timm have 64 channels in the first convolution, got "
            f"{width}: a w2, w4 or w5 network of SwAV, SimCLR or PAWS is wider in all layers, unlike torchvision's "
            f"wide_resnet; {_OWN}"
        )
    if channels != 3:
        raise ValueError(f"load_checkpoint: the first convolution must take 3 channels, got {channels}: {_OWN}")
    arguments: dict[str, Any] = {}
    if kernel == 3:
        if layout != "lightly_aug":
            raise ValueError(
                "load_checkpoint: the weights of a 3x3 stem do not tell its stride and padding, nor whether pooling "
                "follows; if it is that of SimCLR (1, 1, no pooling), pass arch='resnet18', for example, and "
                f"arguments={{'stem': 'cifar'}}; if not, {_OWN}"
            )
        arguments["stem"] = "cifar"
    if layout == "lightly_aug" and "bn1.running_mean" not in shapes:
        arguments["norm"] = "layer"
    names = [name for name in backbone_names() if name != "amdim_encoder"]
    own = {item for item in shapes.items() if "num_batches_tracked" not in item[0]}
    return min(names, key=lambda name: len(own ^ _items_of(name, json.dumps(arguments)))), arguments


@cache
def _items_of(arch: str, arguments: str) -> frozenset[tuple[str, tuple[int, ...]]]:
    with torch.device("meta"):
        state = build_backbone(arch, **json.loads(arguments)).state_dict()
    return frozenset((name, tuple(x.shape)) for name, x in state.items() if "num_batches_tracked" not in name)


def _infer_vit(shapes: Shapes, layout: str) -> tuple[str, dict[str, Any]]:
    with extra("train"):
        import timm
    width, _, patch, _ = shapes["patch_embed.proj.weight"]
    _, tokens, _ = shapes.get("pos_embed", (1, 0, width))
    side = math.isqrt(max(tokens - 1, 0))  # a class token besides the patches
    kind, depth, heads = _VITS.get(width, ("of unknown size", 0, 0))
    arch = f"vit_{kind}_patch{patch}_224"
    if side == 0 or side**2 != tokens - 1 or not timm.is_model(arch):
        raise ValueError(
            f"load_checkpoint: a ViT of width {width} with patches of {patch} pixels and {tokens} positions has no "
            f"name: pass arch=..., or {_OWN}"
        )
    blocks = len({found[1] for name in shapes if (found := re.match(r"blocks\.(\d+)\.", name))})
    known = {"img_size": (side * patch, 224), "depth": (blocks, depth), "num_heads": (_heads_of(width, layout), heads)}
    return arch, {name: value for name, (value, usual) in known.items() if value != usual}


def _heads_of(width: int, layout: str) -> int | None:
    """Return the attention heads of a ViT, which its weights do not tell: MoCo v3's ViT-S has 12, others have 6."""
    if layout == "moco_v3" and width == 384:
        return 12
    return _VITS[width][2] if width in _VITS else None


def _infer_amdim(shapes: Shapes, layout: str) -> tuple[str, dict[str, Any]]:
    size = 128 if "stem128.0.weight" in shapes else 32 if "block30.first.weight" in shapes else 64
    depth = len({name.split(".")[1] for name in shapes if name.startswith("local7.")})
    width, dim = shapes["stem.0.weight"][0], shapes.get("norm.weight", (1,))[0]
    return "amdim_encoder", {"size": size, "width": width, "dim": dim, "depth": depth}


def _rename_amdim(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    inner = [name for name in state if name.endswith("bn.running_mean")]
    last = max(int(name.split(".")[0]) for name in state)
    used = [name for name in inner if not name.startswith(f"{last}.") and bool(state[name].any())]
    if used:
        raise ValueError(
            "load_checkpoint: AMDIM's encoder was trained with BatchNorm in its layers (use_bn), which amdim_encoder "
            f"does not have, as the statistics show: {', '.join(used[:3])}: {_OWN}"
        )
    names = ["stem", "block30", "block14", "local7", "", "local5", "block3", "block1", "norm"]  # "" is BatchNorm
    if "1.conv.weight" in state:
        names = ["stem128", *names]
    parts = {"conv": "0", "conv1": "first", "conv2": "second", "conv3": "beside"}
    renamed = {}
    for name, value in state.items():
        number, *rest = name.split(".")
        layer = names[int(number)] if int(number) < len(names) else number
        if layer == "norm":
            renamed[f"norm.{rest[-1]}"] = value
        elif "bn" not in rest and "bn1" not in rest:  # unused, since `use_bn` was off
            inside = [parts.get(part, part) for part in rest if part != "layer_list"]
            renamed[".".join([layer, *inside])] = value
    return renamed
