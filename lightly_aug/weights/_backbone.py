"""Files of trained backbones: weights, and everything that is needed to use them as they were trained."""

import json
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from lightly_aug import __version__
from lightly_aug.atomic import replace_file
from lightly_aug.checks import check_integer
from lightly_aug.models import feature_width
from lightly_aug.operations import CenterCrop, Normalize, Resize
from lightly_aug.optional import extra
from lightly_aug.view import View
from lightly_aug.weights._build import build_backbone

__all__ = ["BACKBONE", "find_file", "read_metadata", "save_backbone", "still_view"]

BACKBONE: Final = "backbone.safetensors"
"""Name of the file in the folder of a run."""

_KEY: Final = "lightly_aug"  # of our metadata, which safetensors keeps as strings


def save_backbone(
    network: nn.Module,
    file: str | os.PathLike[str],
    *,
    arch: str | None,
    size: int,
    normalize: Normalize | None,
    arguments: Mapping[str, Any] | None = None,
    mode: str | None = "RGB",
    background: str | tuple[int, int, int] | None = "white",
    notes: Mapping[str, Any] | None = None,
) -> None:
    """Write a backbone as safetensors, with everything that `Backbone` needs to use it as it was trained.

    A reader finds the file of before or the new one, never a part, so this may be called after every epoch. Under
    several processes call it in one of them.

    Args:
        network: The backbone: not the method around it, whose `backbone` it is. A wrapper of `torch.compile` or
            `DistributedDataParallel` around it is left out.
        file: File to write; its folder is made.
        arch: Name of the network, as `build_backbone` takes it; None for a network of your own.
        size: Side in pixels of the views that it was trained on.
        normalize: Normalisation of the views that it was trained on; None if there was none.
        arguments: Arguments that `build_backbone` needs to build the network, such as `{"stem": "cifar"}`; they must be
            JSON. `weights` and `pretrained` are left out, because the file holds the weights.
        mode: PIL mode of the images, as in `BaseCollateFunction`.
        background: Colour behind transparent pixels, as in `BaseCollateFunction`.
        notes: More to remember, such as the method and the number of epochs; it must be JSON.

    Raises:
        ValueError: `arch` and `arguments` build a network with other weights, or one that does not take images of
            `size`; an argument is not JSON; or the state of the network has parts that are no tensors.
        ModuleNotFoundError: The package safetensors is not installed.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> network = build_backbone("resnet10", stem="cifar")
        >>> settings = {"arch": "resnet10", "arguments": {"stem": "cifar"}, "size": 32, "normalize": Normalize()}
        >>> save_backbone(network, f"{folder}/backbone.safetensors", **settings)
        >>> read_metadata(folder)["backbone"]
        {'name': 'resnet10', 'arguments': {'stem': 'cifar'}}
    """
    with extra("train"):
        from safetensors.torch import save_file
    check_integer("save_backbone", least=1, size=size)
    built_by = {name: value for name, value in (arguments or {}).items() if name not in ("weights", "pretrained")}
    if arch is None and built_by:
        raise ValueError(f"save_backbone: arguments must be empty without arch, got {built_by}")
    settings = {
        "backbone": None if arch is None else {"name": arch, "arguments": built_by},
        "size": int(size),
        "normalize": None if normalize is None else {"mean": normalize.mean, "std": normalize.std},
        "mode": mode,
        "background": background,
        "notes": dict(notes or {}),
        "versions": {"lightly_aug": __version__, "torch": str(torch.__version__)},
    }
    try:
        text, key = json.dumps(settings), json.dumps(built_by, sort_keys=True)
    except TypeError as error:
        raise ValueError(
            f"save_backbone: arguments and notes must be JSON, got {built_by} and {notes}: {error}"
        ) from None
    network = _unwrap(network)
    others = {
        name: type(value).__name__ for name, value in network.state_dict().items() if not isinstance(value, Tensor)
    }
    if others:
        raise ValueError(f"save_backbone: the state_dict of network must hold tensors only, got {others}")
    if arch is not None:
        _check_weights(network, arch, key, int(size))
    # copies, since safetensors refuses tensors that share memory, as tied weights do
    layout = {"copy": True, "memory_format": torch.contiguous_format}
    tensors = {name: tensor.detach().to("cpu", **layout) for name, tensor in network.state_dict().items()}
    with replace_file(file) as new:
        save_file(tensors, new, metadata={"format": "pt", _KEY: text})


def read_metadata(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the settings that `save_backbone` wrote into a file.

    Args:
        path: The file, or the folder of a run, which holds `backbone.safetensors`.

    Returns:
        A dict of `backbone` (`name` and `arguments`, or None), `size`, `normalize` (`mean` and `std`, or None), `mode`,
        `background`, `notes` and `versions`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged or was not written by `save_backbone`.
    """
    with extra("train"):
        from safetensors import SafetensorError, safe_open
    file = find_file(path)
    try:
        with safe_open(file, "pt") as opened:
            found = (opened.metadata() or {}).get(_KEY)
    except SafetensorError as error:
        raise ValueError(f"read_metadata: {file} must be a file of safetensors, got one that fails: {error}") from None
    if found is None:
        raise ValueError(
            f"read_metadata: {file} must be a file of save_backbone, got one without its metadata, so its network, "
            "size and normalisation are unknown; load it by hand: "
            f"network.load_state_dict(safetensors.torch.load_file({str(file)!r}))"
        )
    settings = json.loads(found)
    if isinstance(settings["background"], list):
        settings["background"] = tuple(settings["background"])
    return dict(settings)


def find_file(path: str | os.PathLike[str]) -> Path:
    """Return the file of weights that a path names.

    Args:
        path: As in `read_metadata`.

    Raises:
        FileNotFoundError: There is no such file.
    """
    file = Path(path) / BACKBONE if Path(path).is_dir() else Path(path)
    if not file.is_file():
        raise FileNotFoundError(
            f"lightly_aug.weights: path must be a file of save_backbone or the folder of a run, no {file}"
        )
    return file


def still_view(size: int, normalize: Normalize | None) -> View:
    """Return the view for embedding: the shorter side resized to `size`, its centre cut out, normalised or not.

    Args:
        size: Side of the view in pixels.
        normalize: Normalisation of the views of the training; None for none.
    """
    return View(Resize(size), CenterCrop(size), *([] if normalize is None else [normalize]))


def _unwrap(network: nn.Module) -> nn.Module:
    while True:
        if isinstance(network, nn.DataParallel | nn.parallel.DistributedDataParallel):
            network = network.module
        elif "_orig_mod" in network._modules:  # torch.compile
            network = network.get_submodule("_orig_mod")
        else:
            return network


def _check_weights(network: nn.Module, arch: str, arguments: str, size: int) -> None:
    """Refuse a name that would build another network when the file is loaded."""
    built = _weight_shapes(arch, arguments, size)
    own = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    other = next((name for name in [*own, *built] if own.get(name) != built.get(name)), None)
    if other is not None:
        raise ValueError(
            f"save_backbone: arch and arguments must build the network, got {arch!r} with {arguments}: {other} is "
            f"{own.get(other, 'absent')} in the network, and {built.get(other, 'absent')} in what they build; for a "
            "network of your own, arch=None"
        )


@cache
def _weight_shapes(arch: str, arguments: str, size: int) -> dict[str, tuple[int, ...]]:
    """Build a network, try it on images, and return the shapes of its weights by name."""
    with torch.random.fork_rng(devices=[]):  # the training that goes on draws from the global generator
        network = build_backbone(arch, **json.loads(arguments))
    try:
        feature_width(network, size)
    except ValueError as error:
        reason = str(error).splitlines()[0].removeprefix("feature_width: ")
        raise ValueError(
            f"save_backbone: arch and arguments must build a network for images of {size} pixels, got {arch!r} with "
            f"{arguments}: {reason}"
        ) from None
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
