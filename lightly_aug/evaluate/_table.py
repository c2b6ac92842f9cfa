"""Features in files that other programs read."""

import csv
import os
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lightly_aug.atomic import replace_file
from lightly_aug.checks import check_choice

__all__ = ["check_features_file", "write_features"]


def write_features(
    file: str | os.PathLike[str], features: Tensor, names: Sequence[str], labels: Sequence[str] | None = None
) -> None:
    """Write features with the names of their images, in the format that the suffix says.

    - `.npz`: the arrays `name` `(n,)`, `label` `(n,)` and `features` `(n, d)` float32, for `numpy.load`.
    - `.csv`: the columns `name`, `label`, `f0`, `f1` and so on, with digits enough to restore each float32.
    - `.parquet`: the columns `name`, `label` and `features`, a list of d float32; needs pyarrow.

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
    columns = {"name": list(names)} | ({} if labels is None else {"label": list(labels)})
    for name, column in columns.items():
        if len(column) != len(features):
            raise ValueError(f"write_features: {name} must be one for each of {len(features)} rows, got {len(column)}")
    values = features.detach().float().cpu().numpy()
    with replace_file(file) as new:
        _WRITERS[_suffix(file)](new, columns, values)


def check_features_file(owner: str, file: str | os.PathLike[str]) -> None:
    """Raise an error if `write_features` cannot write a file of this name, before the features are computed.

    Args:
        owner: The function that names the file, for the message.
        file: The file.

    Raises:
        ValueError: The suffix is not one of the three.
        ModuleNotFoundError: The package pyarrow is not installed.
    """
    check_choice(owner, list(_WRITERS), suffix=_suffix(file))
    if _suffix(file) == ".parquet":
        try:
            import_module("pyarrow")
        except ModuleNotFoundError:
            raise ModuleNotFoundError(
                f"{owner}: {file} needs pyarrow: pip install pyarrow, or write .npz or .csv", name="pyarrow"
            ) from None


def _suffix(file: str | os.PathLike[str]) -> str:
    return Path(file).suffix.lower()


Columns = dict[str, list[str]]


def _write_npz(file: Path, columns: Columns, features: NDArray[np.float32]) -> None:
    texts: dict[str, Any] = {name: np.array(column, dtype=np.str_) for name, column in columns.items()}
    with file.open("wb") as opened:
        np.savez(opened, **texts, features=features)


def _write_csv(file: Path, columns: Columns, features: NDArray[np.float32]) -> None:
    with file.open("w", newline="", encoding="utf-8") as opened:
        writer = csv.writer(opened)
        writer.writerow([*columns, *(f"f{i}" for i in range(features.shape[1]))])
        for *texts, row in zip(*columns.values(), features, strict=True):
            writer.writerow([*texts, *(f"{value:.9g}" for value in row.tolist())])


def _write_parquet(file: Path, columns: Columns, features: NDArray[np.float32]) -> None:
    arrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    rows = arrow.FixedSizeListArray.from_arrays(arrow.array(features.reshape(-1)), features.shape[1])
    parquet.write_table(arrow.table(columns | {"features": rows}), file)


_WRITERS: Final[dict[str, Callable[[Path, Columns, NDArray[np.float32]], None]]] = {
    ".npz": _write_npz,
    ".csv": _write_csv,
    ".parquet": _write_parquet,
}
