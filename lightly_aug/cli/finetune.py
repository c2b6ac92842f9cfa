"""The command `lightly-aug finetune`."""

from typing import Annotated

from lightly_aug.cli.arguments import Seed
from lightly_aug.cli.backbone import name_run
from lightly_aug.cli.labelled import Asked, takes_labelled
from lightly_aug.optional import extra
from lightly_aug.status import count_of

with extra("train"):
    import typer

__all__ = ["finetune"]


@takes_labelled
def finetune(
    asked: Asked,
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
) -> None:
    """Train the whole network with labels, from the pre-trained weights, and test it.

    It writes predictions.csv, metrics.json, confusion.png and the classifier. A command that was stopped goes on when
    it is given again. From scratch, the folder is finetune-from-scratch.
    """
    from lightly_aug.classify import finetune as train_network
    from lightly_aug.report import write_classification
    from lightly_aug.train.folder import hold_folder

    task = asked.begin("finetune-from-scratch" if from_scratch else "finetune")
    with hold_folder("finetune", task.training["out"]):
        result = train_network(
            task.saved, share=share, lr=lr, head_lr=head_lr, from_scratch=from_scratch, epochs=epochs, seed=seed,
            **task.training,
        )  # fmt: skip
    start, labels = "from scratch" if from_scratch else name_run(task.saved), result.metrics["train_images"]
    found = write_classification(
        task.folder, result.scores, result.labels, task.names, task.images.classes,
        title=f"{start}, {100 * share:.3g} % of the labels",
        settings={**task.record, "share": share, "epochs": epochs, "seed": seed, "from_scratch": from_scratch,
                  "train_images": labels},
    )  # fmt: skip
    print(f"{task.folder}: {found}, of {task.tested}, trained with {count_of(labels, 'label')}")
