"""What was found in a checkpoint."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from torch import Tensor, nn

from lightly_aug.models.backbones import image_size
from lightly_aug.operations import Normalize
from lightly_aug.weights._layouts import LAYOUTS, Color
from lightly_aug.weights._recognize import Found

__all__ = ["CheckpointReport", "report_on", "shorten"]

_AMDIM: Final[dict[int, tuple[Color, Color]]] = {  # mean and std of CIFAR, STL-10 and ImageNet in the official code
    32: ((125.3 / 255, 123.0 / 255, 113.9 / 255), (63.0 / 255, 62.1 / 255, 66.7 / 255)),
    64: ((0.43, 0.42, 0.39), (0.27, 0.26, 0.27)),
    128: ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}


class CheckpointReport(NamedTuple):
    """What `load_checkpoint` found in a file, and what the network expects.

    Attributes:
        layout: Name of the layout.
        prefix: Where the backbone was: keys of the file, then the beginning of the names of the weights.
        arch: Name of the network, as `build_backbone` and `save_backbone` take it; None if the network was passed.
        arguments: Arguments of `build_backbone`.
        used: Number of tensors that were loaded.
        dropped: Numbers of tensors that are known and not needed: heads, momentum encoders, queues.
        missing: Names of tensors that the file lacks: only counters of BatchNorm, on which no output depends.
        unexpected: Names outside the backbone that the layout does not know; they were not loaded.
        size: Side in pixels of the images that it was trained on; None if unknown.
        mean: Mean of the normalisation, 0 without one; None if unknown.
        std: Standard deviation of the normalisation, 1 without one; None if unknown.
        notes: What a user of the weights should know.
    """

    layout: str
    prefix: str
    arch: str | None
    arguments: dict[str, Any]
    used: int
    dropped: dict[str, int]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    size: int | None
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    notes: tuple[str, ...]

    @property
    def normalize(self) -> Normalize | None:
        """The normalisation, as `save_backbone` takes it: None if the images were not normalised.

        Raises:
            ValueError: It is unknown.
        """
        if self.mean is None or self.std is None:
            raise ValueError(
                f"CheckpointReport: the layout {self.layout!r} does not tell the normalisation: look it up where the "
                "weights come from, and pass it, such as Normalize(), or None for none; or name the method, such as "
                "load_checkpoint(path, layout='dino')"
            )
        return None if not any(self.mean) and set(self.std) == {1} else Normalize(self.mean, self.std)

    def __str__(self) -> str:
        network = "the network that was passed" if self.arch is None else f"{self.arch} {self.arguments or ''}".strip()
        lines = {
            "layout": f"{self.layout}, at {self.prefix or 'the top'}",
            "network": f"{network}, {self.used} tensors",
            "dropped": ", ".join(f"{name}* ({count})" for name, count in self.dropped.items()),
            "missing": shorten(self.missing),
            "unexpected": shorten(self.unexpected),
            "size": "unknown" if self.size is None else str(self.size),
            "mean, std": "unknown" if self.mean is None else f"{self.mean}, {self.std}",
            "notes": " ".join(self.notes),
        }
        return "\n".join(f"{name + ':':12}{text}" for name, text in lines.items() if text)


def report_on(
    content: Mapping[str, Any],
    found: Found,
    network: nn.Module,
    arch: str | None,
    arguments: dict[str, Any],
    missing: tuple[str, ...],
) -> CheckpointReport:
    """Describe what was loaded.

    Args:
        content: What the file holds.
        found: Where the backbone was.
        network: The network, with the weights.
        arch: Its name; None if it was passed.
        arguments: Arguments that it was built with.
        missing: Names that the file lacks.
    """
    known, used = LAYOUTS[found.layout], len(network.state_dict()) - len(missing)
    dropped, unexpected, inside = Counter[str](), list[str](), 0
    for name in found.state:
        begins = [found.prefix + head for head in known.heads] if name.startswith(found.prefix) else known.others
        begin = next((one for one in begins if name.startswith(one)), None)
        if begin is not None:
            dropped[found.wrapper + begin] += 1
        elif name.startswith(found.prefix):
            inside += 1
        else:
            unexpected.append(found.wrapper + name)
    if inside > used:
        dropped[f"unused BatchNorm of {found.prefix}"] = inside - used
    for key, value in content.items():  # other networks, such as DINO's student
        if key not in found.container[:1] and isinstance(value, Mapping) and _holds_weights(value):
            dropped[f"{key}: "] += len(value)
    size, mean, std, notes = known.size, known.mean, known.std, [known.note] * bool(known.note)
    sides = image_size(network)
    if arch == "amdim_encoder":
        size = int(arguments["size"])
        mean, std = _AMDIM[size]
    elif sides is not None:
        size = sides[0]
        notes.append("A ViT resamples its positions for images of another size; DINO's code does so without filtering.")
    return CheckpointReport(
        found.layout, str(found), arch, arguments, used, dict(dropped), missing, tuple(unexpected), size, mean, std,
        tuple(notes),
    )  # fmt: skip


def shorten(names: Iterable[str], most: int = 6) -> str:
    """Join the first few names, and count the others.

    Args:
        names: The names.
        most: How many of them to write out.
    """
    every = list(names)
    return ", ".join(every[:most]) + f", and {len(every) - most} more" * (len(every) > most)


def _holds_weights(value: Mapping[str, Any]) -> bool:
    return bool(value) and all(isinstance(part, Tensor) for part in value.values())
