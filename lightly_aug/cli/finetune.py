"""The command `lightly-aug finetune`."""

from pathlib import Path
from typing import Annotated

from lightly_aug.cli.arguments import BatchSize, Decode, Device, MaxPixels, Seed, Workers, prepare_folder
from lightly_aug.cli.backbone import Run, load_run, name_run
from lightly_aug.cli.classifier import Overwrite, find_running, split_files
from lightly_aug.cli.labelled import Data, Test, find_labelled, name_tested
from lightly_aug.images import MAX_PIXELS
from lightly_aug.optional import extra
from lightly_aug.report import write_classification

with extra("train"):
    import typer

__all__ = ["finetune"]


def finetune(
    run: Run,
    data: Data,
    test: Test = None,
    share: Annotated[
        float, typer.Option(help="Share of the labels of each class, such as 0.01 or 0.1; at least one image of each.")
    ] = 1.0,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the labelled images.")] = 20,
    lr: Annotated[
        float | None,
        typer.Option(help="Learning rate of the network for batches of 256; by default 0.01, from scratch 0.1."),
    ] = None,
    head_lr: Annotated[
        float | None, typer.Option(help="That of the linear layer; by default 0.2, from scratch 0.1.")
    ] = None,
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="Start from random weights: what the pre-training is compared with.")
    ] = False,
    seed: Seed = 0,
    batch_size: BatchSize = 256,
    workers: Workers = 2,
    device: Device = "",
    decode: Decode = None,
    max_pixels: MaxPixels = MAX_PIXELS,
    overwrite: Overwrite = False,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder to write to; by default finetune or finetune-from-scratch in that of the run."),
    ] = None,
) -> None:
    """Train the whole network with labels, from the pre-trained weights, and test it.

    It writes predictions.csv, metrics.json, confusion.png and the classifier. A command that was stopped goes on when
    it is given again.
    """
    from lightly_aug.classify import finetune as train_network  # takes seconds, which other commands need not wait for

    folder = prepare_folder("finetune-from-scratch" if from_scratch else "finetune", run, out)
    saved, images = load_run(run, decode, device, max_pixels), find_labelled("finetune", data, test)
    train, held = split_files(images)
    result = train_network(
        saved, train, held, share=share, lr=lr, head_lr=head_lr, from_scratch=from_scratch, epochs=epochs,
        batch_size=batch_size, seed=seed, **find_running(folder, workers, device, overwrite=overwrite),
    )  # fmt: skip
    start = "from scratch" if from_scratch else name_run(saved)
    found = write_classification(
        folder, result.scores, result.labels, name_tested(images, data, test), images.classes,
        title=f"{start}, {100 * share:.3g} % of the labels",
        settings={"share": share, "epochs": epochs, "seed": seed, "from_scratch": from_scratch,
                  "train_images": result.metrics["train_images"]},
    )  # fmt: skip
    print(f"{folder}: {found}, of {len(images.test)} test images, trained with {result.metrics['train_images']} labels")
