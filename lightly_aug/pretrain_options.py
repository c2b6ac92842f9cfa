"""The options of `pretrain`: one dataclass for Python, the command line and YAML."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from lightly_aug.checks import check_choice, check_integer
from lightly_aug.methods import METHODS
from lightly_aug.optional import extra

__all__ = ["PretrainOptions", "read_options"]


@dataclass(frozen=True, kw_only=True)
class PretrainOptions:
    """The options of `pretrain`, and of the command `lightly-aug train`.

    Raises:
        ValueError: A value is out of range.
    """

    method: str = field(default="moco", metadata={"help": f"Method to train with: {', '.join(METHODS)}."})
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
        default=None, metadata={"help": "Learning rate at a batch of 256 images, or of any batch for AdamW and Adam."}
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
    workers: int | None = field(
        default=None, metadata={"help": "Processes that load images, for each device; by default one a core, up to 8."}
    )
    devices: str = field(default="auto", metadata={"help": "Number of devices of each machine, or auto."})
    accelerator: str = field(default="auto", metadata={"help": "cpu, gpu, mps …, or auto."})
    num_nodes: int = field(default=1, metadata={"help": "Number of machines."})
    strategy: Any = field(
        default="auto", metadata={"help": "Lightning's strategy, such as ddp or fsdp2; auto chooses by the devices."}
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
        check_choice("pretrain", list(METHODS), method=self.method)
        check_choice("pretrain", ("auto", "small", "paper"), recipe=self.recipe)
        check_integer("pretrain", least=1, size=self.size, epochs=self.epochs, batch_size=self.batch_size)
        check_integer("pretrain", least=1, accumulate=self.accumulate, every=self.every, keep=self.keep)
        check_integer("pretrain", least=0, seed=self.seed)
        if not 0 < self.labelled <= 1:
            raise ValueError(f"pretrain: labelled must be above 0 and at most 1, got {self.labelled}")
        if self.resume and self.overwrite:
            raise ValueError("pretrain: resume and overwrite exclude each other, got both")

    def plain(self) -> dict[str, Any]:
        """Return the options that differ from the defaults, except objects, which no file can hold."""
        changed = {}
        for option in fields(self):
            value = getattr(self, option.name)
            value = str(value) if isinstance(value, Path) else value
            if value != option.default and isinstance(value, str | int | float | bool | None):
                changed[option.name] = value
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
        ValueError: It is no YAML of options, or names one that there is not.
    """
    with extra("train"):
        import yaml
    try:
        options = yaml.safe_load(file.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"pretrain: {file} must be YAML, got an error: {' '.join(str(error).split())}") from None
    if not isinstance(options, Mapping):
        raise ValueError(f"pretrain: {file} must hold options, one a line such as 'method: byol', got {options!r}")
    known = ["data", *(option.name for option in fields(PretrainOptions))]
    for name in options:
        check_choice(f"pretrain: {file}", known, option=name)
    return dict(options)


_LINES = [f"    {option.name}: {option.metadata['help']}" for option in fields(PretrainOptions)]
PretrainOptions.__doc__ = "\n".join(
    [str(PretrainOptions.__doc__).rstrip(), "", "    Attributes:", *(f"    {line}" for line in _LINES)]
)
