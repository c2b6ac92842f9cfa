"""Checkpoints of other code, loaded into networks of torchvision and timm."""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lightly_aug.user_warning import warn_user
from lightly_aug.weights._architectures import check_forward, infer_architecture, rename
from lightly_aug.weights._backbone import read_metadata
from lightly_aug.weights._build import build_backbone
from lightly_aug.weights._layouts import LAYOUTS
from lightly_aug.weights._read import read_checkpoint
from lightly_aug.weights._recognize import Found, recognize_layout
from lightly_aug.weights._report import CheckpointReport, report_on, shorten

__all__ = ["LoadedCheckpoint", "load_checkpoint"]

_COUNTER = "num_batches_tracked"  # of BatchNorm: no output depends on it, and PyTorch before 0.4.1 has none


class LoadedCheckpoint(NamedTuple):
    """A backbone from a checkpoint.

    Attributes:
        network: The network, in eval mode.
        report: What was found in the file, and what the network expects.
    """

    network: nn.Module
    report: CheckpointReport


def load_checkpoint(
    path: str | os.PathLike[str],
    *,
    network: nn.Module | None = None,
    arch: str | None = None,
    arguments: Mapping[str, Any] | None = None,
    layout: str | None = None,
) -> LoadedCheckpoint:
    """Load the backbone of a self-supervised checkpoint into a network of torchvision or timm.

    The layout is recognised by the names of the weights: those of the official code of MoCo v1 to v3, SimSiam, Barlow
    Twins, SwAV, DINO, PAWS, PIRL (VISSL) and AMDIM, of solo-learn, lightly, Lightning Bolts and ports of BYOL, of
    `pretrain`, and plain ones of torchvision and timm. The architecture is inferred from names and shapes. All weights
    of the backbone must be there, finite, and of the right shape. No code in the file runs.

    Args:
        path: A file of `torch.save` or safetensors.
        network: Network to load the weights into, without a classifier; by default it is built.
        arch: Name of the network to build, as `build_backbone` takes it, where the weights do not tell it.
        arguments: Arguments of `build_backbone` for `arch`.
        layout: Layout of the file, one of `docs/weights.md`; None to recognise it. With the name of a method, plain
            weights get its size and normalisation: `"simclr"`, `"byol"`, `"dino"`, ...

    Returns:
        The network in eval mode, and a report to print and to hand to `save_backbone`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged, would run code, or has no known layout or several; the architecture cannot be
            inferred or does not fit; weights are missing, not finite, or too many; or arguments contradict each other.
        ModuleNotFoundError: A package that reads the file or builds the network is not installed.

    Example:
        The official weights of MoCo, written for `Backbone.from_pretrained`::

            network, report = load_checkpoint("moco_v2_800ep_pretrain.pth.tar")
            print(report)
            settings = {"arch": report.arch, "arguments": report.arguments, "normalize": report.normalize}
            save_backbone(network, "moco.safetensors", size=report.size, **settings)
    """
    if network is not None and (arch is not None or arguments is not None):
        raise ValueError(f"load_checkpoint: arch and arguments must be None with network, got {arch!r}, {arguments}")
    if arch is None and arguments is not None:
        raise ValueError(f"load_checkpoint: arguments must be None without arch, got {dict(arguments)}")
    content = read_checkpoint(path)
    saved = _read_settings(path)
    if saved is not None:
        layout = layout or "lightly_aug"
        if network is None and arch is None and saved["backbone"] is not None:
            arch, arguments = saved["backbone"]["name"], saved["backbone"]["arguments"]
    built = dict(arguments or {})
    if arch is not None:
        network = _build(arch, built)
    own = () if network is None else tuple(network.state_dict())
    found = recognize_layout(content, layout, own)
    state = _select(found, own)
    if network is None:
        arch, built = infer_architecture({name: tuple(value.shape) for name, value in state.items()}, found.layout)
        network = _build(arch, built)
    missing = _check_names(state, network, path)
    check_forward(network, found.layout)
    _check_values(state, network, path)
    network.load_state_dict(state, strict=False)  # the names are checked
    report = report_on(content, found, network.eval(), arch, built, missing)
    if saved is not None:
        used = saved["normalize"] or {"mean": (0.0,), "std": (1.0,)}
        report = report._replace(size=saved["size"], mean=tuple(used["mean"]), std=tuple(used["std"]), notes=())
    return LoadedCheckpoint(network, report)


def _read_settings(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """Return what `save_backbone` wrote beside the weights; None for a file that it did not write."""
    if Path(path).suffix == ".safetensors":
        with suppress(ValueError):
            return read_metadata(path)
    return None


def _build(arch: str, arguments: Mapping[str, Any]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):  # the first weights are drawn, and then replaced
        return build_backbone(arch, **arguments)


def _select(found: Found, own: tuple[str, ...]) -> dict[str, Tensor]:
    """Return the weights of the backbone by the names of torchvision, timm or the given network, without heads."""
    inside = {
        name.removeprefix(found.prefix): value for name, value in found.state.items() if name.startswith(found.prefix)
    }
    heads = LAYOUTS[found.layout].heads
    state = {name: value for name, value in inside.items() if name in own or not name.startswith(heads)}
    return state if "0.weight" in own else rename(state)  # a network that is numbered itself


def _check_names(state: Mapping[str, Tensor], network: nn.Module, path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Refuse weights that are not those of the network, and return the names of counters that are missing."""
    own = {name: tuple(value.shape) for name, value in network.state_dict().items() if isinstance(value, Tensor)}
    came = {name: tuple(value.shape) for name, value in state.items()}
    missing = [name for name in own if name not in came]
    problems = {
        "missing": [name for name in missing if not name.endswith(_COUNTER)],
        "not in the network": [name for name in came if name not in own],
        "of another shape": [
            f"{name} {came[name]}, {own[name]} in the network" for name in own if came.get(name, own[name]) != own[name]
        ],
    }
    texts = [f"{len(names)} {what}: {shorten(names)}" for what, names in problems.items() if names]
    if texts:
        raise ValueError(
            f"load_checkpoint: {path} must hold the weights of the {type(network).__name__} without a classifier, got "
            f"{'; '.join(texts)}; for another architecture, arch=... or network=..."
        )
    return tuple(missing)


def _check_values(state: Mapping[str, Tensor], network: nn.Module, path: str | os.PathLike[str]) -> None:
    """Refuse values that are not finite and negative variances, and warn of statistics that were never measured."""
    wrong = [name for name, value in state.items() if not value.isfinite().all()]
    wrong += [name for name, value in state.items() if name.endswith("running_var") and bool((value < 0).any())]
    if wrong:
        raise ValueError(
            f"load_checkpoint: {path} must hold finite weights and variances >= 0, got others in {len(wrong)} tensors: "
            f"{shorten(wrong)}; the training diverged, or the file is damaged"
        )
    counts = [value for name, value in state.items() if name.endswith(_COUNTER)]
    if counts and not any(map(bool, counts)):
        warn_user(
            f"load_checkpoint: the BatchNorm statistics in {path} were never updated, as if the "
            f"{type(network).__name__} had not been trained: features in eval mode depend on them"
        )
