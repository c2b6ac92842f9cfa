"""The whole path once: images, views, a trained MoCo, and pictures of what it learnt."""

import os
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.optim.swa_utils import update_bn
from torch.utils.data import DataLoader

from lightly_aug.collate import MultiViewCollateFunction
from lightly_aug.evaluate import features, knn_accuracy
from lightly_aug.images import image_files
from lightly_aug.indexed import Indexed
from lightly_aug.models import MoCo
from lightly_aug.models.backbones import resnet
from lightly_aug.operations import CenterCrop, Normalize, Resize
from lightly_aug.optional import extra
from lightly_aug.plot import embedding, neighbours, view_grid
from lightly_aug.recipes import MoCoCollateFunction
from lightly_aug.train import Step, fit, progress
from lightly_aug.view import View

__all__ = ["Images", "folder_images", "photograph_patches", "run"]

IMAGES_IN_THREE_MINUTES = 24_000  # that this trains with on two CPU cores

PHOTOGRAPHS = [
    *("astronaut.png", "brick.png", "camera.png", "cell.png", "chelsea.png", "clock_motion.png", "coffee.png"),
    *("coins.png", "grass.png", "gravel.png", "hubble_deep_field.jpg", "ihc.png", "moon.png", "motorcycle_left.png"),
    *("page.png", "retina.jpg", "rocket.jpg"),
]


class Images(NamedTuple):
    """Images to learn from, and others to test with.

    Attributes:
        train: (image, label) pairs.
        test: likewise; no pixel of it is in `train`.
        classes: names of the labels; empty where there are none, and all labels are 0.
    """

    train: list[tuple[Any, int]]
    test: list[tuple[Any, int]]
    classes: list[str]


def photograph_patches(side: int = 64, train: int = 240, test: int = 60) -> Images:
    """Patches of the photographs that scikit-image ships; the label is the photograph.

    Training patches overlap; they come from the left two thirds of each photograph, test patches from the rest.

    Args:
        side: of a patch, in pixels; the shorter side of the photographs is 384.
        train: number of training patches from each photograph.
        test: number of test patches from each.
    """
    with extra("demo"):
        import skimage
    folder = Path(skimage.__file__).parent / "data"
    images = Images([], [], [Path(name).stem for name in PHOTOGRAPHS])
    rng = np.random.default_rng(0)
    for label, name in enumerate(PHOTOGRAPHS):
        photograph = Image.open(folder / name).convert("RGB")
        scale = 384 / min(photograph.size)
        photograph = photograph.resize((round(photograph.width * scale), round(photograph.height * scale)))
        border = photograph.width * 2 // 3
        for pairs, count, left, right in (
            (images.train, train, 0, border),
            (images.test, test, border, photograph.width),
        ):
            xs = rng.integers(left, right - side, count, endpoint=True)
            ys = rng.integers(0, photograph.height - side, count, endpoint=True)
            pairs += [(photograph.crop((x, y, x + side, y + side)), label) for x, y in zip(xs, ys, strict=True)]
    return images


def folder_images(folder: str | os.PathLike[str]) -> Images:
    """The image files of a folder, a fifth of them for testing; subfolders, if it has several, are the labels.

    Raises:
        NotADirectoryError: there is no such folder.
        ValueError: it holds fewer than eight images.
    """
    files = image_files(folder)
    if len(files) < 8:
        raise ValueError(f"{folder} holds {len(files)} images (jpg, png, tif, webp, bmp, gif), at least 8 are needed")
    parts = [file.relative_to(folder).parts for file in files]
    classes = sorted({part[0] for part in parts}) if all(len(part) > 1 for part in parts) else []
    classes = classes if len(classes) > 1 else []
    labels = [classes.index(part[0]) if classes else 0 for part in parts]
    order = torch.randperm(len(files), generator=torch.Generator().manual_seed(0)).tolist()
    pairs = [(files[i], labels[i]) for i in order]
    cut = len(pairs) - max(2, len(pairs) // 5)
    return Images(pairs[:cut], pairs[cut:], classes)


def run(
    data: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] = "runs/demo",
    *,
    size: int = 48,
    epochs: int | None = None,
    batch_size: int = 128,
    seed: int = 0,
) -> dict[str, float]:
    """Train MoCo v2 with a small ResNet, measure it, draw it.

    Writes `views.png`, `embedding.png` (without labels `neighbours.png`) and `backbone.safetensors`.

    Args:
        data: a folder of images, with class folders or without; None for `photograph_patches`.
        out: the folder to write to; it is made.
        size: side of the views in pixels.
        epochs: passes over the images; by default as many as take about three minutes on two CPU cores.
        batch_size: images a step.
        seed: of views, weights and order.

    Returns:
        What was measured, by name: images per second, the loss, and accuracies between 0 and 1.

    Raises:
        NotADirectoryError, ValueError: the folder does not serve.
    """
    with extra("demo"):
        from rich.console import Console
        from safetensors.torch import save_model
    console = Console(soft_wrap=True)
    images = photograph_patches() if data is None else folder_images(data)
    console.print(f"{len(images.train)} images to train with, {len(images.test)} to test, {len(images.classes)} labels")
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    batch_size = min(batch_size, len(images.train))
    epochs = max(1, round(IMAGES_IN_THREE_MINUTES / len(images.train))) if epochs is None else epochs

    collate = MoCoCollateFunction(size, seed=seed)
    twice = MultiViewCollateFunction(collate.views * 2, seed=seed)
    view_grid(twice, [image for image, _ in _spread(images.train, 6)]).savefig(out / "views.png", dpi=110)
    workers = 0 if device == "cpu" else min(8, os.cpu_count() or 1)  # on a CPU they would only take it from the network
    loader = DataLoader(
        Indexed(images.train), batch_size, shuffle=True, drop_last=True, num_workers=workers, collate_fn=collate,
        pin_memory=device == "cuda", persistent_workers=workers > 0,
    )  # fmt: skip
    backbone = resnet("resnet10").to(device)
    model = MoCo(backbone, queue=max(batch_size, len(images.train) // 8), momentum=0.99)
    still = MultiViewCollateFunction([View(Resize(size), CenterCrop(size), Normalize())])
    train, test = (DataLoader(Indexed(pairs), 256, collate_fn=still) for pairs in (images.train, images.test))

    def accuracy(embed: Callable[[Tensor], Tensor]) -> float:
        (x, y), (x_test, y_test) = features(embed, train, device), features(embed, test, device)
        assert y is not None
        assert y_test is not None
        return knn_accuracy(x, y, x_test, y_test, k=min(20, len(x)))

    measured = {"images/s, data path alone": _data_rate(loader, device)}
    if images.classes:
        measured["kNN accuracy, raw pixels"] = accuracy(torch.nn.Flatten())
        untrained = deepcopy(backbone)  # with the BatchNorm statistics of the images, as a trained one has them
        update_bn((views.to(device)[0] for views, _ in train), untrained)
        measured["kNN accuracy, untrained backbone"] = accuracy(untrained)
    loss, seconds = _train(model, loader, epochs, device)
    measured["images/s, whole step"] = epochs * len(loader) * batch_size / seconds
    measured["loss, last epoch"] = loss
    if images.classes:
        measured["kNN accuracy, trained backbone"] = accuracy(model.embed)

    x, y = features(model.embed, test, device)
    if images.classes and y is not None:
        embedding(x, y, images.classes).savefig(out / "embedding.png", dpi=110)
    else:
        neighbours([image for image, _ in images.test], x).savefig(out / "neighbours.png", dpi=110)
    save_model(backbone, str(out / "backbone.safetensors"))
    console.print(f"MoCo v2, ResNet-10, views of {size} pixels: {epochs} epochs in {seconds:.0f} s on {device}")
    console.print(_table(measured))
    console.print(f"{out}/:", ", ".join(sorted(file.name for file in out.iterdir() if file.is_file())))
    return measured


def _train(model: MoCo, loader: DataLoader[Any], epochs: int, device: str) -> tuple[float, float]:
    """Train with a progress bar; returns the mean loss of the last epoch and the seconds it all took."""
    losses: list[Tensor] = []
    start = time.perf_counter()
    with progress("training") as show:

        def on_step(step: Step) -> None:
            losses.append(step.loss)
            show(step)

        fit(model, loader, epochs=epochs, device=device, on_step=on_step)
        loss = float(torch.stack(losses[-len(loader) :]).mean())  # waits for the device
    return loss, time.perf_counter() - start


def _spread(pairs: Sequence[tuple[Any, int]], count: int) -> list[tuple[Any, int]]:
    return [pairs[i] for i in np.linspace(0, len(pairs) - 1, count).round().astype(int)]


def _data_rate(loader: DataLoader[Any], device: str, batches: int = 10) -> float:
    """Images per second, from the dataset to views on the device; of several batches the first only warms up."""
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
