"""The command `lightly-aug export`."""

import shutil
from pathlib import Path
from typing import Annotated, Final

from lightly_aug.atomic import replace_file
from lightly_aug.checks import check_choice
from lightly_aug.cli.arguments import Run, complete
from lightly_aug.cli.backbone import name_run
from lightly_aug.cli.folders import prepare_out
from lightly_aug.optional import extra

with extra("train"):
    import typer

__all__ = ["export"]

_FORMATS: Final = ("torchvision", "timm", "onnx", "hub", "safetensors")
_SUFFIXES: Final = {"onnx": (".onnx",), "safetensors": (".safetensors",)}
_STATE_DICT: Final = (".safetensors", ".pth", ".pt")


def export(
    run: Run,
    kind: Annotated[
        str,
        typer.Option(
            "--format",
            help="torchvision or timm: a state dict for its network, as .safetensors or .pth. onnx: a graph, checked "
            "with ONNX Runtime. hub: a folder with a model card, as the hub of Hugging Face has it. safetensors: one "
            "file for this library.",
            autocompletion=complete(_FORMATS),
        ),
    ],
    out: Annotated[Path, typer.Option(help="File to write; for hub, the folder.")],
    normalized: Annotated[
        bool, typer.Option("--normalized", help="For onnx: the graph takes normalised images, not those in [0, 1].")
    ] = False,
) -> None:
    """Write the backbone of a run for other programs, and print the Python that loads it."""
    check_choice("lightly-aug", _FORMATS, **{"--format": kind})
    if normalized and kind != "onnx":
        raise ValueError(f"--normalized is for --format onnx, got --format {kind}")
    if kind != "hub":
        suffixes = _SUFFIXES.get(kind, _STATE_DICT)
        if out.suffix not in suffixes:
            raise ValueError(f"--out must end in {' or '.join(suffixes)} for --format {kind}, got {out}")
    prepare_out(out, folder=kind == "hub")
    from lightly_aug.weights import BACKBONE, Backbone, export_onnx, export_state_dict, read_metadata

    read_metadata(run)  # which takes files only, so that a wrong name asks no hub
    backbone = Backbone.from_pretrained(run)
    match kind:
        case "torchvision" | "timm":
            lines = export_state_dict(backbone, out, "timm" if kind == "timm" else "torchvision")
        case "onnx":
            lines = export_onnx(backbone, out, normalized=normalized)
        case "hub":
            backbone.save_pretrained(out)
            lines = _load(out)
        case _:
            with replace_file(out) as new:
                shutil.copyfile(run / BACKBONE if run.is_dir() else run, new)
            lines = _load(out)
    print(f"# {out}: {name_run(backbone)}\n\n{lines}")
    if kind == "hub":
        print(f"\n# Add the licence to {out / 'README.md'}, and upload it: hf upload user/name {out}")


def _load(path: Path) -> str:
    return f"from lightly_aug.weights import Backbone\n\nbackbone = Backbone.from_pretrained({str(path)!r}).freeze()"
