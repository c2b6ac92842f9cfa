"""The command `lightly-aug linear`."""

from contextlib import suppress
from math import inf
from typing import Annotated, Literal

from lightly_aug.cli.arguments import Seed
from lightly_aug.cli.backbone import name_run
from lightly_aug.cli.labelled import Asked, embed_labelled, takes_labelled
from lightly_aug.optional import extra
from lightly_aug.status import show_wait

with extra("train"):
    import typer

__all__ = ["linear"]


@takes_labelled
def linear(
    asked: Asked,
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
) -> None:
    """Train a linear classifier on the frozen backbone, and test it.

    It writes predictions.csv, metrics.json and confusion.png; by the papers' protocol, which can be stopped and goes on
    when the command is given again, the classifier, too. The folder is then linear-papers.
    """
    from lightly_aug.report import spread_scores, write_classification

    penalty = _read_c(c)
    task = asked.begin("linear" if protocol == "fast" else "linear-papers")
    settings = {**task.record, "protocol": protocol, "train_images": len(task.images.train)}
    if protocol == "papers":
        from lightly_aug.classify import linear_probe
        from lightly_aug.train.folder import hold_folder

        with hold_folder("linear", task.training["out"]):
            result = linear_probe(task.saved, epochs=epochs, seed=seed, **task.training)
        scores, labels = result.scores, result.labels
        settings |= {"lr": result.metrics["lr"], "epochs": epochs, "seed": seed}
    else:
        from lightly_aug.evaluate import linear_scores

        embedded = embed_labelled(task)
        with show_wait("fitting"):
            found = linear_scores(embedded.x, embedded.y, embedded.x_test, c=penalty)
        scores, labels = spread_scores(found, len(task.images.classes)), embedded.y_test
        settings |= {"c": found.c}
    score = write_classification(
        task.folder, scores, labels, task.names, task.images.classes,
        title=f"{name_run(task.saved)}, linear classifier", settings=settings,
    )  # fmt: skip
    print(f"{task.folder}: {score}, of {task.tested}")


def _read_c(text: str) -> float | Literal["cv"]:
    """Return the option `--c`, which is tested before the images are embedded."""
    if text == "cv":
        return "cv"
    with suppress(ValueError):
        if 0 < (c := float(text)) < inf:
            return c
    raise ValueError(f"--c must be a number above 0 or cv, got {text!r}")
