"""The whole path once: images, views, a trained MoCo, and pictures of the result."""

import os
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn
from torch.utils.data import DataLoader

from lightly_aug.collate import MultiViewCollateFunction
from lightly_aug.evaluate import features, knn_accuracy
from lightly_aug.indexed import Indexed
from lightly_aug.methods import METHODS
from lightly_aug.operations import Normalize
from lightly_aug.optional import extra
from lightly_aug.photographs import LabelledImages, folder_images, photograph_patches
from lightly_aug.plot import embedding, neighbours
from lightly_aug.status import count_of
from lightly_aug.weights import still_view

__all__ = ["run"]

_IMAGES_IN_THREE_MINUTES: Final = 24_000  # trained on two CPU cores


def run(
    data: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] = "runs/demo",
    *,
    size: int = 48,
    epochs: int | None = None,
    batch_size: int = 128,
    seed: int = 0,
    decode: int | None = None,
) -> dict[str, float]:
    """Train MoCo v2 with a small ResNet, measure it, and draw the result.

    Writes `views.png`, `neighbours.png`, with labels `embedding.png`, and the files of a run of `pretrain`, among them
    `backbone.safetensors`. An earlier run in the folder is replaced.

    Args:
        data: Folder of images, with class folders or without; None for `photograph_patches`.
        out: Folder to write to; it is made.
        size: Side of the views in pixels.
        epochs: Passes over the images; by default as many as take about three minutes on two CPU cores.
        batch_size: Images in a batch.
        seed: Seed of views, weights and order.
        decode: Shorter side in pixels, at least, to which large photographs are shrunk while they are read, as in
            `BaseCollateFunction`; None reads all pixels.

    Returns:
        The measurements by name: images per second, the loss, and accuracies between 0 and 1.

    Raises:
        NotADirectoryError: There is no such folder.
        ValueError: The folder holds too few images.
    """
    with extra("demo"):
        from rich.console import Console
    console = Console(soft_wrap=True)
    images = photograph_patches() if data is None else folder_images(data)
    console.print(
        f"{count_of(len(images.train), 'image')} to train with, {len(images.test)} to test, "
        f"{count_of(len(images.classes), 'label')}"
    )
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    batch_size = min(batch_size, len(images.train))
    epochs = max(1, round(_IMAGES_IN_THREE_MINUTES / len(images.train))) if epochs is None else epochs
    workers = 0 if device == "cpu" else min(8, os.cpu_count() or 1)  # on a CPU they would compete with the network

    method = METHODS["moco"]
    collate = method.views(size, seed=seed, decode=decode)
    title = f"{method.title}, views of {size} pixels, seed {seed}"
    shown = [image for image, _ in _spread(images.train, 6)]
    collate.show(shown, draws=2, title=title).savefig(out / "views.png", dpi=110)
    loader = DataLoader(
        Indexed(images.train), batch_size, shuffle=True, drop_last=True, num_workers=workers, collate_fn=collate,
        pin_memory=device == "cuda",
    )  # fmt: skip
    measured = {"images/s, data path alone": _measure_data_rate(loader, device)}
    still = MultiViewCollateFunction([still_view(size, Normalize())], decode=decode)
    train, test = (DataLoader(Indexed(pairs), 256, collate_fn=still) for pairs in (images.train, images.test))

    def accuracy(embed: Callable[[Tensor], Tensor]) -> float:
        (x, y), (x_test, y_test) = features(embed, train, device), features(embed, test, device)
        assert y is not None
        assert y_test is not None
        return knn_accuracy(x, y, x_test, y_test, k=min(20, len(x)))

    if images.classes:
        measured["kNN accuracy, raw pixels"] = accuracy(nn.Flatten())
    start = time.perf_counter()
    untrained, trained, found = _train(
        images.train, out, size=size, epochs=epochs, batch_size=batch_size, seed=seed, decode=decode or 0,
        workers=workers, accelerator="gpu" if device == "cuda" else "cpu",
    )  # fmt: skip
    seconds = time.perf_counter() - start
    untrained, trained = untrained.to(device), trained.to(device)
    if images.classes:
        update_bn((views.to(device)[0] for views, _ in train), untrained)  # for a fair comparison
        measured["kNN accuracy, untrained backbone"] = accuracy(untrained)
    measured |= found
    if images.classes:
        measured["kNN accuracy, trained backbone"] = accuracy(trained)

    embedded = {"untrained": features(untrained, test, device)[0]} if images.classes else {}
    embedded["trained"] = features(trained, test, device)[0]
    _draw_result(out, method.title, images, embedded, measured)
    console.print(f"{method.title}, ResNet-10, views of {size} pixels: {epochs} epochs in {seconds:.0f} s on {device}")
    console.print(_table(measured))
    console.print(f"{out}/:", ", ".join(sorted(file.name for file in out.iterdir() if file.is_file())))
    return measured


def _train(data: Any, out: Path, *, epochs: int, **options: Any) -> tuple[nn.Module, nn.Module, dict[str, float]]:
    """Return the backbone before and after the training, the images per second, and the mean loss of the last epoch."""
    from lightly_aug.train import pretrain  # takes seconds, which other commands need not wait for

    with extra("train"):
        from lightning.pytorch.callbacks import LambdaCallback
    before: list[nn.Module] = []
    losses: list[Tensor] = []
    watch = LambdaCallback(
        on_train_start=lambda trainer, module: before.append(deepcopy(module.model.backbone)),
        on_train_epoch_start=lambda trainer, module: losses.clear(),
        on_train_batch_end=lambda trainer, module, outputs, *_: losses.append(outputs["loss"]),
    )
    result = pretrain(
        data, method="moco", backbone="resnet10", epochs=epochs, every=epochs, recipe="small", evaluate="none",
        devices="1", out=out, overwrite=True, callbacks=[watch], **options,
    )  # fmt: skip
    measured = {
        "images/s, whole step": result.metrics["images_per_second"],
        "loss, last epoch": float(torch.stack(losses).mean()),
    }
    return before[0], result.model.backbone, measured


def _spread(pairs: Sequence[tuple[Any, int]], count: int) -> list[tuple[Any, int]]:
    """Some of the pairs, evenly spaced."""
    return [pairs[i] for i in np.linspace(0, len(pairs) - 1, count).round().astype(int)]


def _draw_result(
    out: Path, method: str, images: LabelledImages, embedded: dict[str, Tensor], measured: dict[str, float]
) -> None:
    """Draw the features of the test images, by the state of the backbone that they are of: untrained or trained."""
    shown = [image for image, _ in images.test]
    labels = [label for _, label in images.test]
    names = [images.classes[label] for label in labels] if images.classes else None
    title = f"{method}: test images and their nearest neighbours" + (", green if of the same class" if names else "")
    neighbours(shown, embedded["trained"], names=names, title=title).savefig(out / "neighbours.png", dpi=110)
    if images.classes:
        titles = [f"{state}, kNN accuracy {measured[f'kNN accuracy, {state} backbone']:.1%}" for state in embedded]
        title, x = f"{method}: features of test images by t-SNE", list(embedded.values())
        figure = embedding(x, torch.tensor(labels), images.classes, title=title, titles=titles, images=shown)
        figure.savefig(out / "embedding.png", dpi=110)


def _measure_data_rate(loader: DataLoader[Any], device: str, batches: int = 10) -> float:
    """Images per second from the dataset to views on the device; the first of several batches only warms up."""
    start, images = time.perf_counter(), 0
    for i, (views, labels) in enumerate(islice(loader, batches + 1)):
        views.to(device)
        images += len(labels)
        if device == "cuda":
            torch.cuda.synchronize()
        if i == 0 and len(loader) > 1:
            start, images = time.perf_counter(), 0
    return images / (time.perf_counter() - start)


def _table(measured: dict[str, float]) -> Any:
    from rich.table import Table

    table = Table("", "", show_header=False)
    table.columns[1].justify = "right"
    for name, value in measured.items():
        shown = f"{value:.1%}" if "accuracy" in name else f"{value:.3f}" if "loss" in name else f"{value:,.0f}"
        table.add_row(name, shown)
    return table
