"""The command `lightly-aug knn`."""

from typing import Annotated

from lightly_aug.cli.arguments import find_device
from lightly_aug.cli.backbone import name_run
from lightly_aug.cli.labelled import Asked, embed_labelled, takes_labelled
from lightly_aug.optional import extra

with extra("train"):
    import typer

__all__ = ["knn"]


@takes_labelled
def knn(
    asked: Asked,
    k: Annotated[int, typer.Option(min=1, help="Number of neighbours that vote.")] = 20,
    temperature: Annotated[float, typer.Option(help="Temperature of the votes: exp(similarity / temperature).")] = 0.07,
) -> None:
    """Classify test images by a vote of the training images with the most similar features, without any training.

    It writes predictions.csv, metrics.json, confusion.png and the features.
    """
    from lightly_aug.evaluate import knn_votes
    from lightly_aug.report import write_classification

    task = asked.begin("knn")
    if k > len(task.images.train):
        raise ValueError(f"--k must be at most the {len(task.images.train)} training images, got {k}")
    embedded = embed_labelled(task)
    votes = knn_votes(
        embedded.x, embedded.y, embedded.x_test, classes=len(task.images.classes), k=k, temperature=temperature,
        device=find_device(asked.device),
    )  # fmt: skip
    found = write_classification(
        task.folder, votes, embedded.y_test, task.names, task.images.classes, title=f"{name_run(task.saved)}, kNN",
        settings={**task.record, "k": k, "temperature": temperature, "train_images": len(task.images.train)},
    )  # fmt: skip
    print(f"{task.folder}: {found}, of {task.tested}")
