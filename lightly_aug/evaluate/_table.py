"""Features in files that other programs read."""

import csv
import json
import os
import struct
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final, NamedTuple
from zipfile import ZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightly_aug.atomic import replace_file
from lightly_aug.checks import check_choice
from lightly_aug.optional import extra

__all__ = ["FeatureTable", "check_features_file", "read_features", "write_blocks", "write_features"]

Columns = dict[str, list[str]]
Blocks = Iterable[NDArray[np.float32]]


class FeatureTable(NamedTuple):
    """The features that `read_features` read.

    Attributes:
        features: `(n, d)` float32.
        names: Names of the n images.
        labels: Labels of the n images; None if the file has none.
    """

    features: Tensor
    names: list[str]
    labels: list[str] | None


def write_features(
    file: str | os.PathLike[str], features: Tensor, names: Sequence[str], labels: Sequence[str] | None = None
) -> None:
    """Write features with the names of their images, in the format that the suffix says.

    - `.npz`: the arrays `name` `(n,)`, `label` `(n,)` and `features` `(n, d)` float32, for `numpy.load`.
    - `.csv`: the columns `name`, `label`, `f0`, `f1` and so on, with digits enough to restore each float32.
    - `.parquet`: the columns `name`, `label` and `features`, a list of d float32; needs pyarrow.
    - `.safetensors`: the tensor `features` `(n, d)` float32, and `name` and `label`, each a JSON list in UTF-8 as a
      tensor of bytes, because safetensors has no text and limits its metadata to 100 MB.

    `read_features` reads all of them.

    Args:
        file: File to write; one that exists is replaced once the new one is complete.
        features: Features `(n, d)`.
        names: Names of the n images.
        labels: Labels of the n images; without them there is no `label`.

    Raises:
        ValueError: The suffix is another, the features are not `(n, d)`, or the names or labels are not n.
        ModuleNotFoundError: The package pyarrow is not installed.

    Example:
        >>> import tempfile, torch
        >>> file = Path(tempfile.mkdtemp(), "features.csv")
        >>> write_features(file, torch.tensor([[0.5, 2.0]]), ["cat.jpg"])
        >>> file.read_text().split()
        ['name,f0,f1', 'cat.jpg,0.5,2']
    """
    check_features_file("write_features", file)
    if features.ndim != 2:
        raise ValueError(f"write_features: features must be (n, d), got {tuple(features.shape)}")
    for name, column in (("name", names), ("label", labels)):
        if column is not None and len(column) != len(features):
            raise ValueError(f"write_features: {name} must be one for each of {len(features)} rows, got {len(column)}")
    values = features.detach().float().cpu().numpy()
    write_blocks(file, [values], names, labels, features.shape[1])


def write_blocks(
    file: str | os.PathLike[str], blocks: Blocks, names: Sequence[str], labels: Sequence[str] | None, width: int
) -> None:
    """Write features that come in blocks, one of which is in memory at a time; files are those of `write_features`.

    Args:
        file: File to write, whose suffix is one that `check_features_file` takes.
        blocks: Features `(rows, width)`, for each name a row.
        names: Names of the n images.
        labels: Labels of the n images, or None.
        width: Number of features of each image.
    """
    columns = {"name": list(names)} | ({} if labels is None else {"label": list(labels)})
    with replace_file(file) as new:
        _FORMATS[_suffix(file)].write(new, columns, (len(names), width), blocks)


def read_features(file: str | os.PathLike[str]) -> FeatureTable:
    """Read features that `write_features` or `extract_features` wrote.

    Args:
        file: The file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The suffix is another, or the file was not written by one of the two functions.
        ModuleNotFoundError: The package that reads the format is not installed.

    Example:
        >>> import tempfile, torch
        >>> file = Path(tempfile.mkdtemp(), "features.npz")
        >>> write_features(file, torch.tensor([[0.5, 2.0]]), ["cat.jpg"], ["cat"])
        >>> read_features(file)
        FeatureTable(features=tensor([[0.5000, 2.0000]]), names=['cat.jpg'], labels=['cat'])
    """
    check_features_file("read_features", file)
    if not Path(file).is_file():
        raise FileNotFoundError(f"read_features: file must be a file of write_features, no {file}")
    with extra("train"):
        try:
            columns, values = _FORMATS[_suffix(file)].read(Path(file))
        except ImportError:
            raise
        except Exception as error:  # of any of four readers
            raise ValueError(
                f"read_features: {file} must be a file of write_features, got one that fails: "
                f"{type(error).__name__}: {error}"
            ) from error
    return FeatureTable(torch.from_numpy(values), columns["name"], columns.get("label"))


def check_features_file(owner: str, file: str | os.PathLike[str]) -> None:
    """Raise an error if `write_features` cannot write a file of this name, before the features are computed.

    Args:
        owner: The function that names the file, for the message.
        file: The file.

    Raises:
        ValueError: The suffix is not one of the four.
        ModuleNotFoundError: The package pyarrow is not installed.
    """
    check_choice(owner, list(_FORMATS), suffix=_suffix(file))
    if _suffix(file) == ".parquet":
        try:
            import_module("pyarrow")
        except ModuleNotFoundError:
            raise ModuleNotFoundError(
                f"{owner}: {file} needs pyarrow: pip install pyarrow, or take .npz, .csv or .safetensors",
                name="pyarrow",
            ) from None


def _suffix(file: str | os.PathLike[str]) -> str:
    return Path(file).suffix.lower()


def _write_npz(file: Path, columns: Columns, shape: tuple[int, int], blocks: Blocks) -> None:
    with ZipFile(file, "w") as archive:
        for name, column in columns.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.array(column, dtype=np.str_), allow_pickle=False)
        with archive.open("features.npy", "w", force_zip64=True) as member:
            head = {"descr": "<f4", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(member, head)
            for block in blocks:
                member.write(block.astype("<f4").tobytes())


def _read_npz(file: Path) -> tuple[Columns, NDArray[np.float32]]:
    with np.load(file, allow_pickle=False) as arrays:
        return {name: arrays[name].tolist() for name in ("name", "label") if name in arrays}, arrays["features"]


def _write_csv(file: Path, columns: Columns, shape: tuple[int, int], blocks: Blocks) -> None:
    with file.open("w", newline="", encoding="utf-8") as opened:
        writer = csv.writer(opened)
        writer.writerow([*columns, *(f"f{i}" for i in range(shape[1]))])
        rows = (row for block in blocks for row in block)
        for *texts, row in zip(*columns.values(), rows, strict=True):
            writer.writerow([*texts, *(f"{value:.9g}" for value in row.tolist())])


def _read_csv(file: Path) -> tuple[Columns, NDArray[np.float32]]:
    with file.open(newline="", encoding="utf-8") as opened:
        reader = csv.reader(opened)
        head = next(reader)
        names = [name for name in ("name", "label") if name in head[:2]]
        if head != [*names, *(f"f{i}" for i in range(len(head) - len(names)))]:
            raise ValueError(f"columns must be name, label, f0, f1 and so on, got {', '.join(head[:4])}")
        columns: Columns = {name: [] for name in names}
        values = []
        for row in reader:
            for column, text in zip(columns.values(), row, strict=False):
                column.append(text)
            values.append(np.array(row[len(names) :], dtype=np.float32))
    if not values:
        return columns, np.empty((0, len(head) - len(names)), dtype=np.float32)
    return columns, np.stack(values)


def _write_parquet(file: Path, columns: Columns, shape: tuple[int, int], blocks: Blocks) -> None:
    arrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    kind = arrow.list_(arrow.float32(), shape[1])
    schema = arrow.schema([*((name, arrow.string()) for name in columns), ("features", kind)])
    start = 0
    with parquet.ParquetWriter(file, schema) as writer:
        for block in blocks:
            texts = [column[start : start + len(block)] for column in columns.values()]
            rows = arrow.FixedSizeListArray.from_arrays(arrow.array(block.reshape(-1)), shape[1])
            writer.write_table(arrow.table([*texts, rows], schema=schema))
            start += len(block)


def _read_parquet(file: Path) -> tuple[Columns, NDArray[np.float32]]:
    opened = import_module("pyarrow.parquet").ParquetFile(file)
    width = opened.schema_arrow.field("features").type.list_size
    values = np.empty((opened.metadata.num_rows, width), dtype=np.float32)
    columns: Columns = {name: [] for name in ("name", "label") if name in opened.schema_arrow.names}
    start = 0
    for batch in opened.iter_batches():
        values[start : start + len(batch)] = batch["features"].flatten().to_numpy().reshape(-1, width)
        for name, column in columns.items():
            column.extend(batch[name].to_pylist())
        start += len(batch)
    return columns, values


def _write_safetensors(file: Path, columns: Columns, shape: tuple[int, int], blocks: Blocks) -> None:
    # The layout of the format: the length of a JSON header, the header, and the bytes of the tensors. The package
    # safetensors would need all of them in memory.
    texts = {name: json.dumps(column).encode() for name, column in columns.items()}
    end = 4 * shape[0] * shape[1]
    head: dict[str, Any] = {"features": {"dtype": "F32", "shape": shape, "data_offsets": [0, end]}}
    for name, text in texts.items():
        head[name] = {"dtype": "U8", "shape": [len(text)], "data_offsets": [end, end + len(text)]}
        end += len(text)
    header = json.dumps(head).encode()
    header += b" " * (-len(header) % 8)  # so that the floats are aligned
    with file.open("wb") as opened:
        opened.write(struct.pack("<Q", len(header)) + header)
        for block in blocks:
            opened.write(block.astype("<f4").tobytes())
        for text in texts.values():
            opened.write(text)


def _read_safetensors(file: Path) -> tuple[Columns, NDArray[np.float32]]:
    from safetensors.numpy import load_file

    tensors = load_file(file)
    columns: Columns = {name: json.loads(tensors[name].tobytes()) for name in ("name", "label") if name in tensors}
    return columns, tensors["features"]


class _Format(NamedTuple):
    write: Callable[[Path, Columns, tuple[int, int], Blocks], None]
    read: Callable[[Path], tuple[Columns, NDArray[np.float32]]]


_FORMATS: Final = {
    ".npz": _Format(_write_npz, _read_npz),
    ".csv": _Format(_write_csv, _read_csv),
    ".parquet": _Format(_write_parquet, _read_parquet),
    ".safetensors": _Format(_write_safetensors, _read_safetensors),
}
