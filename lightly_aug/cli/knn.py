"""The command `lightly-aug knn`."""

from pathlib import Path
from typing import Annotated

from lightly_aug.cli.arguments import BatchSize, Decode, Device, MaxPixels, Workers, find_device, prepare_folder
from lightly_aug.cli.backbone import Run, load_run, name_run
from lightly_aug.cli.labelled import Data, Test, embed_labelled, find_labelled, name_tested
from lightly_aug.evaluate import knn_votes
from lightly_aug.images import MAX_PIXELS
from lightly_aug.optional import extra
from lightly_aug.report import write_classification

with extra("train"):
    import typer

__all__ = ["knn"]


def knn(
    run: Run,
    data: Data,
    test: Test = None,
    k: Annotated[int, typer.Option(min=1, help="Number of neighbours that vote.")] = 20,
    temperature: Annotated[float, typer.Option(help="Temperature of the votes: exp(similarity / temperature).")] = 0.07,
    batch_size: BatchSize = 64,
    workers: Workers = 2,
    device: Device = "",
    decode: Decode = None,
    max_pixels: MaxPixels = MAX_PIXELS,
    out: Annotated[Path | None, typer.Option(help="Folder to write to; by default RUN/knn.")] = None,
) -> None:
    """Classify test images by a vote of the training images with the most similar features, without any training.

    It writes predictions.csv, metrics.json, confusion.png and the features.
    """
    folder = prepare_folder("knn", run, out)
    saved, images = load_run(run, decode, device, max_pixels), find_labelled("knn", data, test)
    if k > len(images.train):
        raise ValueError(f"lightly-aug knn: --k must be at most the {len(images.train)} training images, got {k}")
    embedded = embed_labelled(saved, images, folder / "features.npz", batch_size, workers, device)
    votes = knn_votes(
        embedded.x, embedded.y, embedded.x_test, classes=len(images.classes), k=k, temperature=temperature,
        device=find_device(device),
    )  # fmt: skip
    found = write_classification(
        folder, votes, embedded.y_test, name_tested(images, data, test), images.classes,
        title=f"{name_run(saved)}, kNN",
        settings={"k": k, "temperature": temperature, "train_images": len(images.train)},
    )  # fmt: skip
    print(f"{folder}: {found}, of {len(images.test)} test images in {len(images.classes)} classes")
