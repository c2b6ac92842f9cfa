"""The options of `pretrain`: one dataclass for Python, the command line and YAML."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin

from lightly_aug.checks import check_choice, check_integer
from lightly_aug.choices import MAX_PIXELS, METHOD_NAMES, OnError
from lightly_aug.optional import extra

__all__ = ["PYTHON_ONLY", "PretrainOptions", "read_options"]

PYTHON_ONLY: Final = ("image", "loggers", "callbacks")
"""Options that neither the command line nor YAML has: those about datasets, and objects."""


@dataclass(frozen=True, kw_only=True)
class PretrainOptions:
    """The options of `pretrain`, and of the command `lightly-aug train`.

    Raises:
        ValueError: A value is out of range.
    """

    method: str = field(default="moco", metadata={"help": f"Method to train with: {', '.join(METHOD_NAMES)}."})
    backbone: Any = field(
        default="resnet18", metadata={"help": "resnet10, a ResNet of torchvision, a model of timm, or amdim_encoder."}
    )
    size: int = field(default=224, metadata={"help": "Side of the views in pixels."})
    epochs: int = field(default=100, metadata={"help": "Passes over the images."})
    steps: int | None = field(
        default=None, metadata={"help": "Optimiser steps in place of epochs, for loaders without a length."}
    )
    batch_size: int = field(default=128, metadata={"help": "Images in a batch, on all devices together."})
    accumulate: int = field(default=1, metadata={"help": "Batches in an optimiser step."})
    recipe: Literal["auto", "small", "paper"] = field(
        default="auto",
        metadata={
            "help": "Heads, queues and optimiser: for small data or as in the paper; auto is small below 50,000 images."
        },
    )
    lr: float | None = field(
        default=None,
        metadata={"help": "Learning rate, of a batch of 256 images where the recipe scales it."},
    )
    weight_decay: float | None = field(default=None, metadata={"help": "Weight decay."})
    optimizer: str | None = field(
        default=None, metadata={"help": "sgd, lars, adamw or adam, in place of the recipe's."}
    )
    warmup: float | None = field(default=None, metadata={"help": "Epochs of warm-up; at most a tenth of the training."})
    labelled: float = field(default=0.1, metadata={"help": "Share of the images whose class PAWS knows."})
    image: str | int | None = field(
        default=None, metadata={"help": "Place of the image in a sample, as of collate functions."}
    )
    decode: int | None = field(
        default=None,
        metadata={
            "help": "Shrink large photographs while reading them, to at least this many pixels on the shorter side; by "
            "default twice the size of the views. 0 reads all pixels."
        },
    )
    max_pixels: int | None = field(
        default=MAX_PIXELS,
        metadata={
            "help": "Refuse images with more pixels before decoding them, as they can fill the memory. 0, and in "
            "Python None, sets no bound."
        },
    )
    on_error: OnError = field(
        default="raise",
        metadata={
            "help": "For images that cannot be read: raise ends the run, skip leaves them out, replace takes another "
            "image of the batch; skip and replace name and count them."
        },
    )
    workers: int | None = field(
        default=None, metadata={"help": "Processes that load images, for each device; by default one a core, up to 8."}
    )
    devices: str | int = field(default="auto", metadata={"help": "Number of devices of each machine, or auto."})
    accelerator: str = field(default="auto", metadata={"help": "cpu, gpu, mps …, or auto."})
    num_nodes: int = field(default=1, metadata={"help": "Number of machines."})
    strategy: Any = field(
        default="auto", metadata={"help": "Lightning's strategy, such as ddp or fsdp2; auto chooses by the devices."}
    )
    timeout: float = field(
        default=1800.0, metadata={"help": "Seconds after which the others end if a process no longer answers."}
    )
    precision: str = field(
        default="32-true", metadata={"help": "Lightning's precision, such as bf16-mixed or 16-mixed."}
    )
    compile: bool = field(default=False, metadata={"help": "Compile the method with torch.compile."})
    channels_last: bool = field(
        default=False, metadata={"help": "Keep images and weights in channels_last, which tensor cores like."}
    )
    checkpointing: bool = field(
        default=False, metadata={"help": "Compute activations of the backbone again in the backward pass."}
    )
    evaluate: Any = field(
        default="auto",
        metadata={
            "help": "Folder of class folders to measure accuracy on, or none; auto takes class folders of the data."
        },
    )
    every: int = field(default=1, metadata={"help": "Epochs from one checkpoint and evaluation to the next."})
    keep: int = field(default=2, metadata={"help": "Checkpoints to keep."})
    save_steps: int = field(
        default=1000, metadata={"help": "Optimiser steps from one checkpoint to the next in long epochs."}
    )
    seed: int = field(default=0, metadata={"help": "Seed of everything random."})
    out: str | Path = field(default="runs/train", metadata={"help": "Folder to write to."})
    resume: bool = field(
        default=False, metadata={"help": "Go on from the newest checkpoint in the folder, if there is one."}
    )
    overwrite: bool = field(default=False, metadata={"help": "Replace an earlier run in the folder."})
    loggers: Sequence[Any] | None = field(
        default=None, metadata={"help": "Loggers of Lightning in place of CSV and TensorBoard."}
    )
    callbacks: Sequence[Any] = field(default=(), metadata={"help": "More callbacks of Lightning."})

    def __post_init__(self) -> None:
        check_choice("pretrain", METHOD_NAMES, method=self.method)
        check_choice("pretrain", ("auto", "small", "paper"), recipe=self.recipe)
        check_choice("pretrain", get_args(OnError), on_error=self.on_error)
        check_integer("pretrain", least=1, size=self.size, epochs=self.epochs, batch_size=self.batch_size)
        check_integer("pretrain", least=1, accumulate=self.accumulate, every=self.every, keep=self.keep)
        check_integer("pretrain", least=1, num_nodes=self.num_nodes)
        check_integer("pretrain", least=0, seed=self.seed)
        if self.max_pixels is not None:
            check_integer("pretrain", least=0, max_pixels=self.max_pixels)
        if self.steps is not None:
            check_integer("pretrain", least=1, steps=self.steps)
        if self.workers is not None:
            check_integer("pretrain", least=0, workers=self.workers)
        if self.devices != "auto" and not (str(self.devices).isdigit() and int(self.devices) > 0):
            raise ValueError(f"pretrain: devices must be auto, or a number of 1 or more, got {self.devices!r}")
        if not 0 < self.labelled <= 1:
            raise ValueError(f"pretrain: labelled must be above 0 and at most 1, got {self.labelled}")
        if not 0 < self.timeout < 1e9:
            raise ValueError(f"pretrain: timeout must be above 0 seconds and below 1e9, got {self.timeout}")
        if self.resume and self.overwrite:
            raise ValueError("pretrain: resume and overwrite exclude each other, got both")

    def plain(self) -> dict[str, Any]:
        """Return the options that differ from the defaults, as YAML can hold them.

        An object, such as a backbone of one's own, is `"<its class>"`, which is refused where options are read.
        """
        changed: dict[str, Any] = {}
        for option in fields(self):
            value = getattr(self, option.name)
            if value != option.default and option.name not in PYTHON_ONLY:
                value = str(value) if isinstance(value, Path) else value
                simple = isinstance(value, str | int | float | None)
                changed[option.name] = value if simple else f"<{type(value).__name__}>"
        return changed

    def write(self, file: Path, data: str) -> None:
        """Write YAML that `lightly-aug train --config` reads.

        Args:
            file: File to write.
            data: The folder of the images.
        """
        with extra("train"):
            import yaml
        options = {name: value for name, value in self.plain().items() if name not in ("resume", "overwrite")}
        file.write_text(yaml.safe_dump({"data": data} | options, sort_keys=False), encoding="utf-8")


def read_options(file: Path) -> dict[str, Any]:
    """Read YAML that `PretrainOptions.write` wrote.

    Args:
        file: The file.

    Raises:
        ValueError: It is no YAML of options, or names one that there is not, or a value has another type.
    """
    with extra("train"):
        import yaml
    try:
        options = yaml.safe_load(file.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"pretrain: {file} must be YAML, got an error: {' '.join(str(error).split())}") from None
    if not isinstance(options, Mapping):
        raise ValueError(f"pretrain: {file} must hold options, one a line such as 'method: byol', got {options!r}")
    types = {option.name: option.type for option in fields(PretrainOptions) if option.name not in PYTHON_ONLY}
    for name in options:
        check_choice(f"pretrain: {file}", ["data", *types], option=name)
    return {name: _read_value(f"pretrain: {file}: {name}", value, types.get(name)) for name, value in options.items()}


def _read_value(owner: str, value: Any, kind: Any) -> Any:
    """Return a value of YAML as the type of its option: YAML takes 1e-3 for text."""
    if kind is None or kind is Any or get_origin(kind) is Literal:
        return value
    allowed = get_args(kind) or (kind,)
    if float in allowed and isinstance(value, str | int) and not isinstance(value, bool):
        with suppress(ValueError):
            return float(value)
    if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
        names = " or ".join("none" if each is type(None) else each.__name__ for each in allowed if each is not Path)
        raise ValueError(f"{owner} must be {names}, got {value!r}")
    return value


_LINES = [f"    {option.name}: {option.metadata['help']}" for option in fields(PretrainOptions)]
PretrainOptions.__doc__ = "\n".join(
    [str(PretrainOptions.__doc__).rstrip(), "", "    Attributes:", *(f"    {line}" for line in _LINES)]
)
