"""The command `lightly-aug embed`."""

import json
from pathlib import Path
from typing import Annotated, Any

from lightly_aug.atomic import replace_file
from lightly_aug.choices import MAX_PIXELS
from lightly_aug.cli.arguments import (
    BatchSize,
    Decode,
    Device,
    Folder,
    MaxPixels,
    OnUnreadable,
    Run,
    Workers,
    find_device,
    find_images,
)
from lightly_aug.cli.backbone import hash_weights, load_run, take_readable
from lightly_aug.cli.folders import prepare_out
from lightly_aug.optional import extra
from lightly_aug.status import count_of, show_steps

with extra("train"):
    import typer

__all__ = ["embed"]


def embed(
    run: Run,
    folder: Folder,
    batch_size: BatchSize = 64,
    workers: Workers = 2,
    device: Device = "",
    decode: Decode = None,
    max_pixels: MaxPixels = MAX_PIXELS,
    on_error: OnUnreadable = "raise",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace features of another network.")] = False,
    out: Annotated[
        Path, typer.Option(help="File to write: .npz, .csv, .safetensors, or .parquet, which needs pyarrow.")
    ] = Path("features.npz"),
) -> None:
    """Write the features of the images in a folder, with their file names and, from class folders, their labels.

    A file beside it, of the same name and .json, says which network they are of. A command that was stopped goes on
    when it is given again.
    """
    from lightly_aug.evaluate import check_features_file, extract_features
    from lightly_aug.photographs import class_names

    check_features_file("lightly-aug", out)
    prepare_out(out)
    saved, files, target = load_run(run, decode, device, max_pixels), find_images(folder), find_device(device)
    record, beside = {"run": str(run), "weights": hash_weights(run), "data": str(folder)}, _name_record(out)
    if not overwrite:
        _check_record(out, beside, record)
    files = take_readable(files, saved, on_error, workers)
    labels = class_names(folder, files)
    with show_steps(f"embedding {count_of(len(files), 'image')}", len(files)) as advance:
        count, width = extract_features(
            saved.network.to(target), files, saved.collate, out,
            names=[file.relative_to(folder).as_posix() for file in files], labels=labels, batch_size=batch_size,
            workers=workers, device=target, step=advance,
        )  # fmt: skip
    with replace_file(beside) as new:
        new.write_text(json.dumps({**record, "images": count}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    classes = f", {count_of(len(set(labels)), 'label')}" if labels else ""
    print(f"{out}: {count_of(count, 'image')}, {count_of(width, 'feature')} of each{classes}")


def _name_record(out: Path) -> Path:
    """Return the file that says which network a table of features is of."""
    return out.with_name(out.name + ".json")


def _check_record(out: Path, beside: Path, record: dict[str, Any]) -> None:
    """Raise if a file holds the features of another network, or something that nobody knows."""
    if not out.exists():
        return
    before = json.loads(beside.read_text(encoding="utf-8")) if beside.is_file() else {}
    if before.get("weights") != record["weights"]:
        of = f"features of another network, {before['run']}" if before else "features of an unknown network"
        raise ValueError(f"{out} holds {of}: choose another --out, or replace them with --overwrite")
