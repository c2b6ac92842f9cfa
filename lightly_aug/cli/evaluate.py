"""The command `lightly-aug evaluate`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor
from torch.optim.swa_utils import update_bn
from torch.utils.data import DataLoader

from lightly_aug.cli.arguments import BatchSize, Decode, Device, MaxPixels, Seed, Workers, find_device, prepare_folder
from lightly_aug.cli.backbone import Run, load_run, name_run
from lightly_aug.cli.labelled import Data, Test, embed_labelled, find_labelled, name_tested
from lightly_aug.images import MAX_PIXELS
from lightly_aug.optional import extra
from lightly_aug.photographs import LabelledImages
from lightly_aug.report import measure_features, write_page
from lightly_aug.status import show_steps, show_wait
from lightly_aug.weights import Backbone, build_backbone

with extra("train"):
    import typer
    from rich.console import Console
    from rich.markdown import Markdown

__all__ = ["evaluate"]

_FILLING = 4096
"""Most training images that fill the BatchNorm statistics of the untrained network."""


def evaluate(
    run: Run,
    data: Data,
    test: Test = None,
    k: Annotated[int, typer.Option(min=1, help="Number of neighbours that vote; all if there are fewer.")] = 20,
    draws: Annotated[
        int,
        typer.Option(min=0, help="How often few labels are drawn, for a curve; 0 for none, else 2 or more."),
    ] = 5,
    untrained: Annotated[bool, typer.Option(help="Measure the same network with random weights, too.")] = True,
    seed: Seed = 0,
    batch_size: BatchSize = 64,
    workers: Workers = 2,
    device: Device = "",
    decode: Decode = None,
    max_pixels: MaxPixels = MAX_PIXELS,
    out: Annotated[Path | None, typer.Option(help="Folder to write to; by default RUN/evaluate.")] = None,
) -> None:
    """Measure a backbone on labelled images, beside the same network untrained, and write one page with pictures.

    The page, report.html, has accuracies of nearest neighbours and of a linear classifier with intervals, the accuracy
    with few labels, the confusions, a map of the features, and nearest neighbours. The same is in report.md, PNG files
    and metrics.json.
    """
    if draws == 1:
        raise ValueError("lightly-aug evaluate: --draws must be 0, or 2 and more, got 1")
    folder = prepare_folder("evaluate", run, out)
    saved, images = load_run(run, decode, device, max_pixels), find_labelled("evaluate", data, test)
    embedded = embed_labelled(saved, images, folder / "features.npz", batch_size, workers, device)
    found = {"trained": embedded}
    if untrained:
        other = _build_untrained(saved, images, batch_size, workers, device, seed)
        file = folder / "features-untrained.npz"
        found["untrained"] = embed_labelled(other, images, file, batch_size, workers, device, title="untrained:")
    k = min(k, len(images.train))  # the default suits small data, too; the page gives the number that voted
    with show_wait("measuring"):
        measured = {
            name: measure_features(*each, classes=len(images.classes), k=k, draws=draws, seed=seed)
            for name, each in found.items()
        }
    counts = f"{len(images.train)} training and {len(images.test)} test images in {len(images.classes)} classes"
    facts = [
        f"{name_run(saved)}, {embedded.x.shape[1]} features of images at {saved.metadata['size']} pixels. {counts}."
    ]
    if untrained:
        facts.append(
            "The untrained network has the same architecture, random weights and, in BatchNorm layers, the statistics "
            "of training images."
        )
    with show_wait("drawing"):
        table = write_page(
            folder, title=f"Evaluation of {name_run(saved)}", facts=facts, measured=measured, x_test=embedded.x_test,
            y_test=embedded.y_test, images=[file for file, _ in images.test],
            names=name_tested(images, data, test), classes=images.classes,
            settings={
                "run": str(run), "data": str(data), "test": None if test is None else str(test), "k": k,
                "draws": draws, "seed": seed, "train_images": len(images.train),
            },
        )  # fmt: skip
    Console(soft_wrap=True).print(Markdown(table))
    print(f"{folder / 'report.html'}: {counts}")


def _build_untrained(
    saved: Backbone, images: LabelledImages, batch_size: int, workers: int, device: str, seed: int
) -> Backbone:
    """Return the same network with random weights and BatchNorm statistics of the images.

    Args:
        saved: The backbone.
        images: Labelled image files, of which those of the training fill the statistics.
        batch_size: Images in a batch.
        workers: Processes that load images.
        device: The option `--device`.
        seed: Seed of the weights.
    """
    named, target = saved.metadata["backbone"], find_device(device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_backbone(named["name"], **named["arguments"]).to(target)
    files: Any = [file for file, _ in images.train][:_FILLING]
    batch_size = max(2, batch_size)
    loader: DataLoader[Any] = DataLoader(
        files, batch_size, num_workers=workers, collate_fn=saved.collate,
        drop_last=len(files) > batch_size,  # a last batch of one image has no variance, and BatchNorm refuses it
    )  # fmt: skip
    with show_steps("filling BatchNorm statistics", len(loader)) as advance:

        def views() -> Iterator[Tensor]:
            for batch in loader:
                yield batch.to(target)[0]
                advance()

        update_bn(views(), network)
    other = Backbone(network.eval(), saved.metadata)
    other.collate = saved.collate
    return other
