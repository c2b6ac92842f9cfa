"""The command `lightly-aug invariance`."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from lightly_aug import Normalize, __version__
from lightly_aug.atomic import replace_file
from lightly_aug.cli.arguments import (
    BatchSize,
    Decode,
    Device,
    MaxPixels,
    Seed,
    find_decode,
    find_device,
    find_images,
    prepare_out,
)
from lightly_aug.cli.backbone import load_run
from lightly_aug.evaluate import Invariance, InvarianceComparison, compare_invariance, count_passes, measure_invariance
from lightly_aug.images import MAX_PIXELS
from lightly_aug.optional import extra
from lightly_aug.photographs import class_names
from lightly_aug.plot import invariance_bars, invariance_curves
from lightly_aug.status import show_steps, show_wait
from lightly_aug.weights import BACKBONE, Backbone

with extra("train"):
    import typer

__all__ = ["invariance"]


@dataclass(frozen=True)
class _Asked:
    """What all networks are measured with."""

    files: list[Path]
    labels: list[str] | None
    layers: list[str]
    draws: int
    batch_size: int
    device: str
    decode: int | None
    max_pixels: int
    seed: int

    def fingerprint(self, run: Path) -> str:
        """Return a digest of all that the result depends on."""
        images = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in self.files]
        options = [self.labels, self.layers, self.draws, self.decode, self.seed, __version__]
        digest = hashlib.sha256(json.dumps([images, options]).encode())
        with (run / BACKBONE if run.is_dir() else run).open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
        return digest.hexdigest()


def invariance(
    runs: Annotated[
        list[Path], typer.Argument(help="Folders of runs of `lightly-aug train`, or files of `save_backbone`.")
    ],
    data: Annotated[Path, typer.Option(help="Folder of images; class folders are labels.")],
    images: Annotated[int, typer.Option(min=5, help="Images to measure on, evenly spaced in the folder.")] = 200,
    layers: Annotated[str, typer.Option(help="Names of modules to measure, too, separated by commas.")] = "",
    draws: Annotated[int, typer.Option(min=3, help="Draws of each group for each image.")] = 4,
    batch_size: BatchSize = 64,
    device: Device = "",
    decode: Decode = None,
    max_pixels: MaxPixels = MAX_PIXELS,
    seed: Seed = 0,
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("invariance"),
) -> None:
    """Measure what trained backbones ignore, and what that costs; class folders say what classes lose.

    Writes invariance.json, invariance.md, bars in invariance.png and curves over strengths in curves.png. A backbone
    that was measured with the same images and options before is not measured again.
    """
    prepare_out("invariance", out / "invariance.json")
    found = find_images(data)
    if len(found) < 5:
        raise ValueError(f"lightly-aug invariance: {data} must hold at least 5 images, got {len(found)}")
    count = min(images, len(found))
    files = [found[i * len(found) // count] for i in range(count)]
    named = [name for name in (part.strip() for part in layers.split(",")) if name]
    asked = _Asked(files, class_names(data, files), named, draws, batch_size, device, decode, max_pixels, seed)
    names = _name_runs(runs)
    # all at first, so that none is measured in vain
    loaded = [load_run(run, decode, device, max_pixels) for run in runs]
    networks = [_measure(*each, asked, out) for each in zip(loaded, runs, names, strict=True)]
    comparison = compare_invariance(networks)
    with show_wait("drawing"):
        _write(out, comparison, files[0])
    _print_table(comparison)
    for network in networks:
        for use in network.use.values():
            print(f"{network.name}: {use}")
    print(f"{out}: {len(networks)} backbones on {count} images")


def _name_runs(runs: Sequence[Path]) -> list[str]:
    """Name each run by its folder or file, and by its whole path where two have the same name."""
    short = [run.resolve().name for run in runs]
    names = [name if short.count(name) == 1 else str(run) for name, run in zip(short, runs, strict=True)]
    if len(set(names)) < len(names):
        raise ValueError(f"lightly-aug invariance: runs must be different, got {' '.join(map(str, runs))}")
    return names


def _measure(saved: Backbone, run: Path, name: str, asked: _Asked, out: Path) -> Invariance:
    digest = asked.fingerprint(run)
    kept = out / "runs" / f"{digest[:16]}.json"
    if kept.is_file():
        text = json.loads(kept.read_text(encoding="utf-8"))
        if text["fingerprint"] == digest:
            (network,) = InvarianceComparison.from_json(json.dumps(text["networks"])).networks
            return _rename(network, name)
    settings = saved.metadata
    device = find_device(asked.device)
    with show_steps(f"measuring {name}", count_passes(draws=asked.draws)) as advance:
        network = measure_invariance(
            saved.network.to(device),
            asked.files,
            size=settings["size"],
            normalize=settings["normalize"] and Normalize(**settings["normalize"]),
            name=name,
            labels=asked.labels,
            layers=asked.layers,
            draws=asked.draws,
            batch_size=asked.batch_size,
            device=device,
            seed=asked.seed,
            advance=advance,
            mode=settings["mode"],
            background=settings["background"],
            decode=find_decode(asked.decode, settings["size"]),
            max_pixels=asked.max_pixels or None,
        )
    with replace_file(kept) as new:
        networks = json.loads(compare_invariance([network]).to_json())
        new.write_text(json.dumps({"fingerprint": digest, "networks": networks}), encoding="utf-8")
    return network


def _rename(network: Invariance, name: str) -> Invariance:
    return Invariance(**vars(network) | {"name": name})


def _write(out: Path, comparison: InvarianceComparison, image: Path) -> None:
    for file, text in (("invariance.json", comparison.to_json()), ("invariance.md", comparison.report())):
        with replace_file(out / file) as new:
            new.write_text(text, encoding="utf-8")
    for file, figure in (
        ("invariance.png", invariance_bars(comparison)),
        ("curves.png", invariance_curves(comparison, image=image)),
    ):
        with replace_file(out / file) as new:
            figure.savefig(new, dpi=110)


def _print_table(comparison: InvarianceComparison) -> None:
    with extra("train"):
        from rich.console import Console
        from rich.table import Table
    head, *rows = comparison.rows()
    table = Table(*head, title="invariance: 1 is full, 0 as different as another image", title_justify="left")
    for row in rows:
        table.add_row(*row, style="bold" if row[1] == "all, as drawn" else "")
    Console().print(table)
