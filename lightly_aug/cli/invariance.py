"""The command `lightly-aug invariance`."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from lightly_aug import __version__
from lightly_aug.atomic import replace_file
from lightly_aug.choices import MAX_PIXELS
from lightly_aug.cli.arguments import (
    BatchSize,
    Decode,
    Device,
    MaxPixels,
    OnUnreadable,
    Seed,
    find_decode,
    find_device,
    find_images,
)
from lightly_aug.cli.backbone import hash_weights, load_run, take_readable
from lightly_aug.cli.folders import prepare_out
from lightly_aug.cli.printing import print_markdown
from lightly_aug.optional import extra
from lightly_aug.status import count_of, show_steps, show_wait

with extra("train"):
    import typer

if TYPE_CHECKING:
    from lightly_aug.evaluate import Invariance, InvarianceComparison
    from lightly_aug.weights import Backbone

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
        return hashlib.sha256(json.dumps([images, options, hash_weights(run)]).encode()).hexdigest()


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
    on_error: OnUnreadable = "raise",
    seed: Seed = 0,
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("invariance"),
) -> None:
    """Measure what trained backbones ignore, and what that costs; class folders say what classes lose.

    Writes invariance.json, invariance.md, bars in invariance.png and curves over strengths in curves.png. A backbone
    that was measured with the same images and options before is not measured again.
    """
    from lightly_aug.evaluate import compare_invariance
    from lightly_aug.photographs import class_names

    prepare_out(out, folder=True)
    names, found = _name_runs(runs), find_images(data)
    loaded = [load_run(run, decode, device, max_pixels) for run in runs]  # all, so that none is measured in vain
    found = take_readable(found, loaded[0], on_error, workers=2)
    if len(found) < 5:
        raise ValueError(f"{data} must hold at least 5 images, got {len(found)}")
    count = min(images, len(found))
    files = [found[i * len(found) // count] for i in range(count)]
    named = [name for name in (part.strip() for part in layers.split(",")) if name]
    asked = _Asked(files, class_names(data, files), named, draws, batch_size, device, decode, max_pixels, seed)
    networks = [_measure(*each, asked, out) for each in zip(loaded, runs, names, strict=True)]
    comparison = compare_invariance(networks)
    with show_wait("drawing"):
        _write(out, comparison, files[0])
    print_markdown(f"Invariance: 1 is full, 0 as different as another image.\n\n{comparison.table()}")
    for network in networks:
        for use in network.use.values():
            print(f"{network.name}: {use}")
    print(f"{out}: {count_of(len(networks), 'backbone')} on {count_of(count, 'image')}")


def _name_runs(runs: Sequence[Path]) -> list[str]:
    """Name each run by its folder or file, and by its whole path where two have the same name."""
    short = [run.resolve().name for run in runs]
    names = [name if short.count(name) == 1 else str(run) for name, run in zip(short, runs, strict=True)]
    if len(set(names)) < len(names):
        raise ValueError(f"runs must be different, got {' '.join(map(str, runs))}")
    return names


def _measure(saved: "Backbone", run: Path, name: str, asked: _Asked, out: Path) -> "Invariance":
    from lightly_aug import Normalize
    from lightly_aug.evaluate import InvarianceComparison, compare_invariance, count_passes, measure_invariance

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


def _rename(network: "Invariance", name: str) -> "Invariance":
    return replace(network, name=name)


def _write(out: Path, comparison: "InvarianceComparison", image: Path) -> None:
    from lightly_aug.plot import invariance_bars, invariance_curves

    for file, text in (("invariance.json", comparison.to_json()), ("invariance.md", comparison.report())):
        with replace_file(out / file) as new:
            new.write_text(text, encoding="utf-8")
    for file, figure in (
        ("invariance.png", invariance_bars(comparison)),
        ("curves.png", invariance_curves(comparison, image=image)),
    ):
        with replace_file(out / file) as new:
            figure.savefig(new, dpi=110)
