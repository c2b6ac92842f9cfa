"""Which layout a checkpoint has."""

from collections.abc import Collection, Mapping
from typing import Any, Final, NamedTuple

from torch import Tensor

from lightly_aug.checks import check_choice
from lightly_aug.weights._layouts import LAYOUTS, Path, Place

__all__ = ["Found", "recognize_layout"]

_WRAPPERS: Final = ("module.", "_orig_mod.")  # DataParallel, DistributedDataParallel; torch.compile
_GENERIC: Final = ("plain", "backbone", "encoder")
_FIRST: Final = ("conv1.weight", "patch_embed.proj.weight", "patch_embed.proj.0.weight", "0.weight", "0.conv.weight")
"""Names of the first layer: ResNet, ViT, ViT with a convolutional stem, a ResNet's children in order, AMDIM."""


class Found(NamedTuple):
    """A backbone in a file.

    Attributes:
        layout: Key of `LAYOUTS`.
        container: Keys from the top of the file to the weights.
        wrapper: Beginning of all names: `"module."`, `"_orig_mod."`, both or neither.
        prefix: Beginning of the names of the backbone, behind the wrapper.
        state: All weights in the container, by names without the wrapper.
    """

    layout: str
    container: Path
    wrapper: str
    prefix: str
    state: dict[str, Tensor]

    def __str__(self) -> str:
        return "".join(f"{key}: " for key in self.container) + self.wrapper + self.prefix


def recognize_layout(content: Mapping[str, Any], layout: str | None = None, names: Collection[str] = ()) -> Found:
    """Find the backbone in the content of a checkpoint by the names of its weights.

    Args:
        content: What the file holds.
        layout: Layout that the file must have; None for the only one that fits.
        names: Names of the weights of a network that is neither a ResNet nor a ViT.

    Raises:
        ValueError: There is no such layout; or none fits, or several do.
    """
    first = (*_FIRST, *names)
    if layout is None:
        found = [one for name in LAYOUTS for one in _find(content, name, LAYOUTS[name].places, first)]
        found = [one for one in found if one.layout not in _GENERIC] or found
    else:
        check_choice("load_checkpoint", tuple(LAYOUTS), layout=layout)
        found = _find(content, layout, LAYOUTS[layout].places, first)
        found = found or _find(content, layout, LAYOUTS["plain"].places, first)
    if not found:
        raise ValueError(
            f"load_checkpoint: path must hold a backbone in a known layout{f', {layout!r}' if layout else ''}, got "
            f"{_describe(content)}: for an architecture of your own pass network=..., for other prefixes rename the "
            "keys as plain names of torchvision or timm"
        )
    if len(found) > 1:
        options = ", ".join(f"layout={one.layout!r} ({one}*)" for one in found)
        raise ValueError(
            f"load_checkpoint: path must hold one backbone, got {len(found)} that fit: {options}; choose one, or save "
            "only what you mean"
        )
    return found[0]


def _find(content: Mapping[str, Any], layout: str, places: tuple[Place, ...], first: Collection[str]) -> list[Found]:
    found: list[Found] = []
    for place in places:
        for container in place.containers:
            wrapper, state = _open(content, container)
            marks = all(any(name.startswith(mark) for name in state) for mark in place.marks)
            if marks and any(place.prefix + name in state for name in first):
                weights = {name: value for name, value in state.items() if isinstance(value, Tensor)}
                found.append(Found(layout, container, wrapper, place.prefix, weights))
    return found


def _open(content: Mapping[str, Any], container: Path) -> tuple[str, dict[str, Any]]:
    """Return what all names of a container begin with, and its values by the rest of their names."""
    inside: Any = content
    for key in container:
        inside = inside.get(key) if isinstance(inside, Mapping) else None
    if not isinstance(inside, Mapping) or not any(isinstance(value, Tensor) for value in inside.values()):
        return "", {}
    wrapper, state = "", {str(name): value for name, value in inside.items()}
    while inner := next((one for one in _WRAPPERS if all(name.startswith(one) for name in state)), None):
        wrapper, state = wrapper + inner, {name.removeprefix(inner): value for name, value in state.items()}
    return wrapper, state


def _describe(content: Mapping[str, Any]) -> str:
    keys = [str(key) for key in content]
    inside = [str(name) for value in content.values() if isinstance(value, Mapping) for name in value]
    return f"keys {', '.join(keys[:6])}{', ...' * (len(keys) > 6)}" + (
        f", with {', '.join(inside[:6])}{', ...' * (len(inside) > 6)} inside" if inside else ""
    )
