"""Read the files of checkpoints without running any code that they hold."""

import os
import pickle
import re
import tarfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final
from zipfile import BadZipFile, ZipFile

import torch

from lightly_aug.optional import extra

__all__ = ["read_checkpoint"]


class _Ignored:
    """Stand-in for an object of a checkpoint that is no weight: takes any arguments and any state, and keeps nothing.

    The class itself is never called, so it need not be harmless, nor even installed.
    """

    def __new__(cls, *args: object) -> "_Ignored":
        return super().__new__(cls)

    def __setstate__(self, state: object) -> None:
        pass


_IGNORED: Final = (
    "argparse.Namespace",  # options of the command line: DINO, DeiT, timm
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
    *("numpy.dtype", "numpy.ndarray"),  # with those above: losses and accuracies
)
_DICTIONARIES: Final = (
    "lightning.fabric.utilities.data.AttributeDict",
    "lightning_fabric.utilities.data.AttributeDict",
    "pytorch_lightning.utilities.parsing.AttributeDict",
)
_STAND_INS: Final[list[Callable[..., Any] | tuple[Callable[..., Any], str]]] = [
    *((_Ignored, name) for name in _IGNORED),
    *((dict, name) for name in _DICTIONARIES),
]


def read_checkpoint(path: str | os.PathLike[str]) -> Mapping[str, Any]:
    """Read a checkpoint of PyTorch or a file of safetensors.

    Code in the file does not run: torch reads it with `weights_only=True`, and the few other types that checkpoints
    are known to hold, such as `argparse.Namespace` and NumPy's numbers, are replaced by empty stand-ins.

    Args:
        path: The file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged, has another format, or holds objects of other types.
        ModuleNotFoundError: The package safetensors is not installed.
    """
    file = Path(path)
    _refuse_formats(file)
    if file.suffix == ".safetensors":
        with extra("train"):
            from safetensors import SafetensorError
            from safetensors.torch import load_file
        try:
            return load_file(file)
        except SafetensorError as error:
            raise ValueError(f"load_checkpoint: {file} must be a file of safetensors, got {error}") from None
    try:
        with torch.serialization.safe_globals(_STAND_INS), warnings.catch_warnings():
            for text in ("Detected pickle protocol", "'torch.load' received a zip file"):  # the error says more
                warnings.filterwarnings("ignore", text)
            content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file may raise anything
        raise ValueError(_explain(file, error)) from None
    if not isinstance(content, Mapping):
        raise ValueError(
            f"load_checkpoint: {file} must hold a dict of weights, got {type(content).__name__}: save "
            "network.state_dict()"
        )
    return content


def _refuse_formats(file: Path) -> None:
    """Refuse files of other frameworks, with the reason."""
    name = file.name
    if name.endswith((".index", ".meta", ".pb")) or ".data-" in name or file.with_name(f"{name}.index").exists():
        raise ValueError(
            f"load_checkpoint: {file} is a checkpoint of TensorFlow, which cannot be read without it: convert it, such "
            "as with simclr-converter for SimCLR, and load the file that it writes with layout='simclr'"
        )
    if not file.is_file():
        what = "is a folder" if file.is_dir() else "does not exist"
        raise FileNotFoundError(f"load_checkpoint: path must be a file, {file} {what}")
    if file.suffix in (".npz", ".npy"):
        raise ValueError(
            f"load_checkpoint: {file} holds arrays of NumPy under names of JAX: timm reads those of vision "
            "transformers: timm.models.load_checkpoint(network, file)"
        )
    with file.open("rb") as opened:
        start = opened.read(1 << 20)
    if not start.startswith(b"PK") and b"experiment_state" in start:
        raise ValueError(
            f"load_checkpoint: {file} is BYOL's original pickle of JAX objects, and unpickling it would run code: "
            "convert it to a state_dict of torchvision's names in an environment that you trust, and load that with "
            "layout='byol'"
        )
    if not start.startswith(b"PK") and tarfile.is_tarfile(file):
        raise ValueError(
            f"load_checkpoint: {file} is a tar archive, PyTorch's format before version 0.2, which cannot be read "
            "without running code: save it again in an environment that you trust"
        )


def _explain(file: Path, error: Exception) -> str:
    """Say what the file is, in place of torch's text, which advises to run its code."""
    kind = re.search(r"GLOBAL ([\w.]+)", str(error))
    if isinstance(error, pickle.UnpicklingError) and kind is not None:
        return (
            f"load_checkpoint: {file} must hold weights, numbers and text, got an object of {kind[1]}, and loading it "
            "would run code of the file: where it was made, save the weights alone, torch.save(network.state_dict(), "
            "new)"
        )
    with file.open("rb") as opened:
        start = opened.read(100)
    beginning = start.lstrip().lower()
    if not start:
        found = "an empty one: write or download it again"
    elif beginning.startswith((b"<!doctype", b"<html", b"<?xml")):
        found = "a web page: the address that it came from is not that of the file"
    elif start.startswith(b"version https://git-lfs"):
        found = "a pointer of Git LFS in place of its content: run git lfs pull"
    elif start.startswith(b"PK") and _is_torchscript(file):
        found = (
            "a program of TorchScript: where it was made, save the weights alone, torch.save(network.state_dict(), new)"
        )
    elif start.startswith(b"PK"):
        reason = " ".join(str(error).split()).partition(". ")[0]
        found = f"one that fails, {reason}: write or download it again"
    elif start.startswith(b"\x80"):
        found = "a pickle of something else, or a damaged one: unpickling it may run code of the file"
    else:
        found = f"one that begins with {start[:12]!r}"
    return f"load_checkpoint: {file} must be a file of torch.save, got {found}"


def _is_torchscript(file: Path) -> bool:
    try:
        with ZipFile(file) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except BadZipFile:
        return False
