"""The command `lightly-aug evaluate`."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

from lightly_aug.cli.arguments import Seed, find_device
from lightly_aug.cli.backbone import name_run
from lightly_aug.cli.labelled import Asked, Task, embed_labelled, takes_labelled
from lightly_aug.cli.printing import print_markdown
from lightly_aug.optional import extra
from lightly_aug.status import count_of, show_steps, show_wait

with extra("train"):
    import typer

if TYPE_CHECKING:
    from torch import Tensor

    from lightly_aug.weights import Backbone

__all__ = ["evaluate"]

_FILLING = 4096
"""Most training images that fill the BatchNorm statistics of the untrained network."""


@takes_labelled
def evaluate(
    asked: Asked,
    k: Annotated[int, typer.Option(min=1, help="Number of neighbours that vote; all if there are fewer.")] = 20,
    draws: Annotated[
        int,
        typer.Option(min=0, help="How often few labels are drawn, for a curve; 0 for none, else 2 or more."),
    ] = 5,
    untrained: Annotated[bool, typer.Option(help="Measure the same network with random weights, too.")] = True,
    seed: Seed = 0,
) -> None:
    """Measure a backbone on labelled images, beside the same network untrained, and write one page with pictures.

    The page, report.html, says what the figures mean, and has accuracies of nearest neighbours and of a linear
    classifier with intervals, the accuracy with few labels, the confusions, a map of the features, and nearest
    neighbours. The same is in report.md, PNG files and metrics.json.
    """
    from lightly_aug.report import measure_features, write_page

    if draws == 1:
        raise ValueError("--draws must be 0, or 2 and more, got 1")
    task = asked.begin("evaluate")
    saved, images = task.saved, task.images
    embedded = embed_labelled(task)
    found = {"trained": embedded}
    if untrained:
        other = _build_untrained(task, seed)
        found["untrained"] = embed_labelled(task, network=other, file="features-untrained.npz")
    k = min(k, len(images.train))  # the default suits small data, too; the page gives the number that voted
    with show_wait("measuring"):
        measured = {
            name: measure_features(*each, classes=len(images.classes), k=k, draws=draws, seed=seed)
            for name, each in found.items()
        }
    counts = f"{count_of(len(images.train), 'training image')} and {task.tested}"
    facts = [
        f"{name_run(saved)}, {embedded.x.shape[1]} features of images at {saved.metadata['size']} pixels. {counts}."
    ]
    if untrained:
        facts.append(
            "The untrained network has the same architecture, random weights and, in BatchNorm layers, the statistics "
            "of training images."
        )
    with show_wait("drawing"):
        summary = write_page(
            task.folder, title=f"Evaluation of {name_run(saved)}", facts=facts, measured=measured,
            x_test=embedded.x_test, y_test=embedded.y_test, images=[file for file, _ in images.test],
            names=task.names, classes=images.classes,
            settings={**task.record, "k": k, "draws": draws, "seed": seed, "train_images": len(images.train)},
        )  # fmt: skip
    print_markdown(summary)
    print(f"{task.folder / 'report.html'}: {counts}")


def _build_untrained(task: Task, seed: int) -> "Backbone":
    """Return the same network with random weights, and BatchNorm statistics of the training images.

    Args:
        task: The backbone, and the images.
        seed: Seed of the weights.
    """
    import torch
    from torch.optim.swa_utils import update_bn
    from torch.utils.data import DataLoader

    from lightly_aug.weights import Backbone, build_backbone

    saved, named, target = task.saved, task.saved.metadata["backbone"], find_device(task.asked.device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_backbone(named["name"], **named["arguments"]).to(target)
    files: Any = [file for file, _ in task.images.train][:_FILLING]
    batch_size = max(2, task.asked.batch_size or 64)
    loader: DataLoader[Any] = DataLoader(
        files, batch_size, num_workers=task.asked.workers, collate_fn=saved.collate,
        drop_last=len(files) > batch_size,  # a last batch of one image has no variance, and BatchNorm refuses it
    )  # fmt: skip
    with show_steps("filling BatchNorm statistics", len(loader)) as advance:

        def views() -> "Iterator[Tensor]":
            for batch in loader:
                yield batch.to(target)[0]
                advance()

        update_bn(views(), network)
    other = Backbone(network.eval(), saved.metadata)
    other.collate = saved.collate
    return other
