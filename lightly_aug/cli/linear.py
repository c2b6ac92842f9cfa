"""The command `lightly-aug linear`."""

from contextlib import suppress
from math import inf
from pathlib import Path
from typing import Annotated, Any, Literal

from lightly_aug.cli.arguments import BatchSize, Decode, Device, MaxPixels, Seed, Workers, prepare_folder
from lightly_aug.cli.backbone import Run, load_run, name_run
from lightly_aug.cli.classifier import Overwrite, find_running, split_files
from lightly_aug.cli.labelled import Data, Test, embed_labelled, find_labelled, name_tested
from lightly_aug.evaluate import linear_scores
from lightly_aug.images import MAX_PIXELS
from lightly_aug.optional import extra
from lightly_aug.report import spread_scores, write_classification
from lightly_aug.status import show_wait

with extra("train"):
    import typer

__all__ = ["linear"]


def linear(
    run: Run,
    data: Data,
    test: Test = None,
    protocol: Annotated[
        Literal["fast", "papers"],
        typer.Option(
            help="fast: logistic regression on features of whole images, in seconds. papers: SGD on random crops and "
            "flips, with several learning rates, of which held-out training images choose one."
        ),
    ] = "fast",
    c: Annotated[
        str, typer.Option(help="fast: inverse strength of the penalty, or cv to choose it by cross-validation.")
    ] = "1.0",
    epochs: Annotated[int, typer.Option(min=1, help="papers: passes over the training images.")] = 100,
    seed: Seed = 0,
    batch_size: BatchSize = 256,
    workers: Workers = 2,
    device: Device = "",
    decode: Decode = None,
    max_pixels: MaxPixels = MAX_PIXELS,
    overwrite: Overwrite = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write to; by default RUN/linear or RUN/linear-papers.")
    ] = None,
) -> None:
    """Train a linear classifier on the frozen backbone, and test it.

    It writes predictions.csv, metrics.json and confusion.png; by the papers' protocol, which can be stopped and goes on
    when the command is given again, the classifier, too.
    """
    folder = prepare_folder("linear" if protocol == "fast" else "linear-papers", run, out)
    penalty = _read_c(c)
    saved, images = load_run(run, decode, device, max_pixels), find_labelled("linear", data, test)
    names, classes = name_tested(images, data, test), len(images.classes)
    settings: dict[str, Any] = {"protocol": protocol, "train_images": len(images.train)}
    if protocol == "papers":
        from lightly_aug.classify import linear_probe  # takes seconds, which other commands need not wait for

        result = linear_probe(
            saved, *split_files(images), epochs=epochs, batch_size=batch_size, seed=seed,
            **find_running(folder, workers, device, overwrite=overwrite),
        )  # fmt: skip
        scores, labels = result.scores, result.labels
        settings |= {"lr": result.metrics["lr"], "epochs": epochs, "seed": seed}
    else:
        embedded = embed_labelled(saved, images, folder / "features.npz", batch_size, workers, device)
        with show_wait("fitting"):
            found = linear_scores(embedded.x, embedded.y, embedded.x_test, c=penalty)
        scores, labels = spread_scores(found, classes), embedded.y_test
        settings |= {"c": found.c}
    score = write_classification(
        folder, scores, labels, names, images.classes, title=f"{name_run(saved)}, linear classifier", settings=settings
    )
    print(f"{folder}: {score}, of {len(images.test)} test images in {classes} classes")


def _read_c(text: str) -> float | Literal["cv"]:
    """Return the option `--c`, which is tested before the images are embedded."""
    if text == "cv":
        return "cv"
    with suppress(ValueError):
        if 0 < (c := float(text)) < inf:
            return c
    raise ValueError(f"lightly-aug linear: --c must be a number above 0 or cv, got {text!r}")
