"""One training of a classifier: the data, the run, the test, the files."""

import hashlib
import json
import math
import os
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader

from lightly_aug.atomic import replace_file
from lightly_aug.checks import check_integer, check_least, check_positive
from lightly_aug.classify.data import Collates, Labelled, build_collates, evaluation_loader, find_labelled
from lightly_aug.classify.module import ClassifierModule
from lightly_aug.classify.saved import CLASSIFIER, join, save_classifier
from lightly_aug.collate import BaseCollateFunction
from lightly_aug.evaluate import labelled_subset
from lightly_aug.models import feature_width
from lightly_aug.optional import extra
from lightly_aug.status import count_of
from lightly_aug.train import AtomicCheckpointIO, Optimization, RunBar, StopSignals, Throughput, find_checkpoint
from lightly_aug.train.checkpoints import save_checkpoints
from lightly_aug.train.data import Source, default_workers, training_loader
from lightly_aug.train.division import read_division
from lightly_aug.train.fit import check_launch, fit
from lightly_aug.train.folder import build_csv_logger, is_first_process, quiet, say
from lightly_aug.weights import Backbone

with extra("train"):
    from lightning.pytorch import Callback, Trainer

__all__ = ["Recipe", "Running", "Start", "TrainedClassifier", "find_start", "train_classifier"]


class Running(TypedDict, total=False):
    """Where and how a classifier is trained.

    Attributes:
        out: Folder of the run; by default nothing is written, and the run cannot be resumed.
        overwrite: Replace another run in the folder.
        workers: Processes that load images; by default the cores of the machine divided among devices, up to 8.
        accelerator: `"auto"`, `"cpu"`, `"gpu"` and so on, as Lightning takes it.
        devices: Number of devices, each with a process of its own.
        precision: As Lightning takes it, such as `"32-true"` or `"bf16-mixed"`.
    """

    out: str | os.PathLike[str] | None
    overwrite: bool
    workers: int | None
    accelerator: str
    devices: int
    precision: str


@dataclass(frozen=True)
class Recipe:
    """The numbers of a training.

    Attributes:
        name: Function that trains.
        lrs: Learning rates of the linear layers, one for each, at batches of 256 images.
        network_lr: Learning rate of the backbone; None freezes it.
        weight_decay: Weight decay of all that is trained.
        share: Share of the labels that is used, above 0 and at most 1.
        holdout: Share of these images that chooses among several linear layers.
        epochs: Epochs.
        batch_size: Images in an optimiser step, on all devices together; at most those that there are.
        scale: Area of random crops as a share of the image.
        seed: Seed of everything that is random.
    """

    name: str
    lrs: tuple[float, ...]
    network_lr: float | None
    weight_decay: float
    share: float
    holdout: float
    epochs: int
    batch_size: int
    scale: tuple[float, float]
    seed: int

    def __post_init__(self) -> None:
        if not self.lrs or len(set(self.lrs)) < len(self.lrs):
            raise ValueError(f"{self.name}: there must be different learning rates, got {list(self.lrs)}")
        for lr in self.lrs:
            check_positive(self.name, lr=lr)
        if self.network_lr is not None:
            check_positive(self.name, lr=self.network_lr)
        check_least(self.name, 0, weight_decay=self.weight_decay)
        check_integer(self.name, least=1, epochs=self.epochs, batch_size=self.batch_size)
        check_integer(self.name, least=0, seed=self.seed)
        if not 0 < self.share <= 1:
            raise ValueError(f"{self.name}: share must be above 0 and at most 1, got {self.share}")
        if not 0 < self.holdout < 1:
            raise ValueError(f"{self.name}: holdout must be between 0 and 1, got {self.holdout}")


class Start(NamedTuple):
    """The network that a training starts from, as `find_start` returns it.

    Attributes:
        network: The network.
        collate: Makes its input.
        named: Its name and arguments, as `lightly_aug.weights.build_backbone` takes them, if these are known.
    """

    network: nn.Module
    collate: BaseCollateFunction
    named: dict[str, Any] | None


def find_start(owner: str, backbone: Backbone | tuple[nn.Module, BaseCollateFunction]) -> Start:
    """Return the network of a backbone, and the collate function that makes its input.

    Raises:
        TypeError: It is neither a `Backbone` nor a pair of a network and a collate function of this library.
        ValueError: The collate function takes several images of a sample.
    """
    if isinstance(backbone, Backbone):
        start = Start(backbone.network, backbone.collate, backbone.metadata.get("backbone"))
    elif isinstance(backbone, tuple) and len(backbone) == 2:
        start = Start(*backbone, named=None)
    else:
        raise TypeError(f"{owner}: backbone must be a Backbone or (network, collate), got {type(backbone).__name__}")
    if not isinstance(start.network, nn.Module) or not isinstance(start.collate, BaseCollateFunction):
        raise TypeError(
            f"{owner}: backbone must be a Backbone or (network, collate), with a collate function of lightly_aug, got "
            f"({type(start.network).__name__}, {type(start.collate).__name__})"
        )
    if isinstance(start.collate.image, tuple):
        raise ValueError(f"{owner}: backbone must take one image of a sample, got image={start.collate.image}")
    return start


class TrainedClassifier(NamedTuple):
    """The result of `linear_probe` and `finetune`.

    Attributes:
        scores: Logits of the test images, `(M, C)` float32, or float64 with precision `"64-true"`, on the CPU.
        labels: Numbers of their classes, `(M,)` int64, 0 to C - 1.
        classes: Names of the C classes.
        classifier: Maps images to scores `(n, C)`, in eval mode, on the CPU; its parts are `network`, the backbone, and
            `head`, the linear layer.
        collate: Makes its input of images of any size.
        metrics: `accuracy` (0 to 1), `lr` (chosen learning rate of the linear layer), `sweep` (`lr`, `accuracy` and
            `loss` of each on the held-out images; empty with one), `train_images`, `holdout_images`, `test_images`,
            `classes`, `epochs`, `steps`, `batch_size`; all are JSON.
        settings: What the result depends on, as `settings.json` holds it.
        folder: Folder of the run, None if there is none.
    """

    scores: Tensor
    labels: Tensor
    classes: list[str]
    classifier: nn.Module
    collate: BaseCollateFunction
    metrics: dict[str, Any]
    settings: dict[str, Any]
    folder: Path | None


class _Loaders(NamedTuple):
    train: DataLoader[Any]
    holdout: DataLoader[Any] | None
    test: DataLoader[Any]


class _Batches(NamedTuple):
    """The batches of an epoch on one device.

    Attributes:
        each: Images in a batch; the last one may have fewer.
        number: How many batches.
        drop_last: Whether the last image is left out, which would be alone in its batch.
    """

    each: int
    number: int
    drop_last: bool


def train_classifier(
    recipe: Recipe,
    start: Start,
    train: Any,
    test: Any,
    *,
    augment: BaseCollateFunction | None = None,
    out: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    workers: int | None = None,
    accelerator: str = "auto",
    devices: int = 1,
    precision: str = "32-true",
) -> TrainedClassifier:
    """Train linear layers on a backbone, choose one of them, and test it.

    Args:
        recipe: The numbers.
        start: The network to start from, which is left as it is.
        train: Labelled images, as `find_labelled` takes them.
        test: Others.
        augment: As in `build_collates`.
        out: As in `Running`.
        overwrite: As in `Running`.
        workers: As in `Running`.
        accelerator: As in `Running`.
        devices: As in `Running`.
        precision: As in `Running`.

    Raises:
        TypeError: An argument is of the wrong type.
        ValueError: An argument is out of range, images are too few, or the folder holds another run.
        FloatingPointError: The training diverged.
        ModuleNotFoundError: Packages of the extra "train" are not installed.
    """
    owner, lr = recipe.name, recipe.network_lr
    check_integer(owner, least=1, devices=devices)
    check_launch(owner, devices)
    network, collate, named = start
    place = collate.image if isinstance(collate.image, str | int) else None
    if lr is not None and not any(p.requires_grad for p in network.parameters()):
        raise ValueError(f"{owner}: backbone must have parameters to train, got none: network.requires_grad_()")
    learnt, held = _divide(recipe, find_labelled(owner, "train", train, place))
    tested = find_labelled(owner, "test", test, place, learnt.classes)
    on_cpu = accelerator == "cpu" or not torch.accelerator.is_available()
    collates = build_collates(
        owner, collate, augment, learnt[0], scale=recipe.scale, seed=recipe.seed,
        render="worker" if on_cpu else "late",
    )  # fmt: skip
    batches = _plan_batches(recipe, network, len(learnt), devices)
    each, steps = batches.each, recipe.epochs * batches.number
    settings = _list_settings(recipe, network, learnt, held, collates, devices=devices, precision=precision)
    folder = None if out is None else Path(out)
    checkpoint = None if folder is None else _prepare_folder(owner, folder, settings, overwrite=overwrite)

    trainer = _build_trainer(
        recipe, folder, checkpoint, steps=steps, accelerator=accelerator, devices=devices, precision=precision
    )
    module = ClassifierModule(
        deepcopy(network), width=feature_width(network, collates.size), classes=len(learnt.classes),
        heads=[Optimization("sgd", head_lr, recipe.weight_decay) for head_lr in recipe.lrs],
        network_optimization=None if lr is None else Optimization("sgd", lr, recipe.weight_decay),
        batch=each * devices, steps=steps, seed=recipe.seed,
    )  # fmt: skip
    count = default_workers(devices) if workers is None else workers
    if checkpoint is not None and (division := read_division(checkpoint)) is not None and not division.between:
        count = division.workers  # the place in the epoch is known to each of them
    pin = trainer.strategy.root_device.type == "cuda"
    tested_each = max(1, recipe.batch_size // devices)
    with quiet():
        loaders = _Loaders(
            training_loader(
                Source(learnt),
                collates.train,
                batch=each,
                workers=count,
                seed=recipe.seed,
                pin=pin,
                drop_last=batches.drop_last,
            ),
            None
            if held is None
            else evaluation_loader(held, collates.still, batch=tested_each, workers=count, pin=pin),
            evaluation_loader(tested, collates.still, batch=tested_each, workers=count, pin=pin),
        )
    say(
        f"{owner}: {count_of(len(learnt), 'image')} of {len(learnt.classes)} classes at {collates.size} pixels in "
        f"batches of {each * devices}, {count_of(steps, 'step')}"
        + (f"; going on from {checkpoint}" if checkpoint else "")
    )
    if batches.drop_last:
        say(
            f"{owner}: each epoch leaves out its last {'image' if devices == 1 else f'{devices} images'}, as BatchNorm "
            "has no statistics of a single image; which these are differs from epoch to epoch"
        )
    fit(trainer, module, loaders.train, checkpoint, how="when it is started again")
    sweep = _choose(trainer, module, loaders.holdout, held, recipe)
    scores = _predict(trainer, module, loaders.test, len(tested))
    if not scores.isfinite().all():
        raise FloatingPointError(f"{owner}: the training diverged, scores are not finite: take a lower learning rate")
    labels = torch.tensor(tested.labels)
    metrics = {
        "accuracy": float((scores.argmax(1) == labels).double().mean()),
        "lr": recipe.lrs[module.chosen or 0],
        "sweep": sweep,
        "train_images": len(learnt),
        "holdout_images": 0 if held is None else len(held),
        "test_images": len(tested),
        "classes": len(learnt.classes),
        "epochs": recipe.epochs,
        "steps": steps,
        "batch_size": each * devices,
    }
    classifier = _join(network, module, frozen=lr is None)
    if folder is not None and is_first_process():
        notes = {"classes": learnt.classes, "protocol": owner, "metrics": metrics}
        save_classifier(classifier, folder / CLASSIFIER, collates=collates, backbone=named, notes=notes)
        _write_json(folder / "metrics.json", metrics)
    return TrainedClassifier(scores, labels, learnt.classes, classifier, collates.still, metrics, settings, folder)


def _plan_batches(recipe: Recipe, network: nn.Module, images: int, devices: int) -> _Batches:
    """Divide the images of an epoch into batches, of which the last may be smaller.

    Raises:
        ValueError: There are fewer images in a batch than devices.
    """
    if recipe.batch_size < devices:
        raise ValueError(
            f"{recipe.name}: batch_size must be an image for each of {devices} devices or more, got {recipe.batch_size}"
        )
    own = math.ceil(images / devices)  # the sampler repeats images where these are no multiple
    each = min(recipe.batch_size // devices, own)
    normalized = recipe.network_lr is not None and any(isinstance(part, _BatchNorm) for part in network.modules())
    drop_last = normalized and each > 1 and own % each == 1
    return _Batches(each, own // each if drop_last else math.ceil(own / each), drop_last)


def _divide(recipe: Recipe, images: Labelled) -> tuple[Labelled, Labelled | None]:
    """Return the images to learn from, and, if there is a choice to make, those that it is made with."""
    if len(images.classes) < 2:
        raise ValueError(f"{recipe.name}: train must have two classes or more, got {images.classes}")
    if recipe.share < 1:
        images = images.select(labelled_subset(images.labels, share=recipe.share, seed=recipe.seed))
    if len(recipe.lrs) == 1:
        return images, None
    labels = torch.tensor(images.labels)
    if int(labels.bincount().min()) < 2:
        name = images.classes[int(labels.bincount().argmin())]
        raise ValueError(
            f"{recipe.name}: every class needs two training images or more, as one of them chooses the learning rate, "
            f"got one of {name}: give one learning rate"
        )
    rows = labelled_subset(labels, share=recipe.holdout, seed=recipe.seed)
    rest = torch.ones(len(labels), dtype=torch.bool).index_fill(0, rows, False).nonzero()[:, 0]
    if len(set(labels[rest].tolist())) < len(images.classes):
        raise ValueError(f"{recipe.name}: holdout must leave images of every class, got {recipe.holdout}")
    return images.select(rest), images.select(rows)


def _list_settings(
    recipe: Recipe,
    network: nn.Module,
    learnt: Labelled,
    held: Labelled | None,
    collates: Collates,
    *,
    devices: int,
    precision: str,
) -> dict[str, Any]:
    """Return all that the trained weights depend on, as JSON."""
    weights = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        weights.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        weights.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    rows = [learnt.chosen, learnt.labels, [] if held is None else held.chosen]
    settings = {
        "recipe": asdict(recipe),
        "classes": learnt.classes,
        "images": len(learnt.numbers),
        "labels": hashlib.sha256(json.dumps(rows).encode()).hexdigest(),
        "network": weights.hexdigest(),
        "views": repr(collates.train),
        "devices": devices,
        "precision": precision,
    }
    plain: dict[str, Any] = json.loads(json.dumps(settings))
    return plain


def _prepare_folder(owner: str, folder: Path, settings: dict[str, Any], *, overwrite: bool) -> Path | None:
    """Check and make the folder of a run, and return the checkpoint to go on from."""
    file = folder / "settings.json"
    begun = (folder / CLASSIFIER).exists() or any((folder / "checkpoints").glob("*.ckpt"))  # else it stopped before
    if file.exists() and begun and not overwrite:
        before = json.loads(file.read_text(encoding="utf-8"))
        other = [name for name in settings if before.get(name) != settings[name]]
        if other:
            old, new = before | before.get("recipe", {}), settings | settings["recipe"]
            other += [name for name in settings["recipe"] if old.get(name) != new[name]]
            raise ValueError(
                f"{owner}: {folder} holds a run with other {', '.join(name for name in other if name != 'recipe')}: "
                "choose another --out, or replace it with --overwrite (in Python out=, overwrite=True)"
            )
    if is_first_process():
        if overwrite:
            for old_file in [*folder.glob("checkpoints/*.ckpt"), *folder.glob("logs/*")]:
                old_file.unlink()
            for name in (CLASSIFIER, "metrics.json"):
                (folder / name).unlink(missing_ok=True)
        _write_json(file, settings)
    return None if overwrite else find_checkpoint(folder / "checkpoints")


def _write_json(file: Path, values: dict[str, Any]) -> None:
    with replace_file(file) as new:
        new.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def _build_trainer(
    recipe: Recipe,
    folder: Path | None,
    checkpoint: Path | None,
    *,
    steps: int,
    accelerator: str,
    devices: int,
    precision: str,
) -> Trainer:
    callbacks: list[Callback] = [Throughput(), RunBar(recipe.name)]
    options: dict[str, Any] = {"logger": False, "enable_checkpointing": False}
    if folder is not None:
        callbacks += [StopSignals(folder / "checkpoints"), *save_checkpoints(folder / "checkpoints")]
        options = {"logger": build_csv_logger(folder, checkpoint), "default_root_dir": folder}
    trained = recipe.network_lr is not None
    with quiet():
        return Trainer(
            accelerator=accelerator,
            devices=devices,
            precision=precision,  # type: ignore[arg-type]
            max_epochs=recipe.epochs,
            callbacks=callbacks,
            plugins=[AtomicCheckpointIO()],
            log_every_n_steps=max(1, min(10, steps // recipe.epochs)),
            sync_batchnorm=trained and devices > 1 and accelerator != "cpu" and torch.cuda.is_available(),
            enable_model_summary=False,
            use_distributed_sampler=False,
            **options,
        )


def _choose(
    trainer: Trainer, module: ClassifierModule, loader: DataLoader[Any] | None, held: Labelled | None, recipe: Recipe
) -> list[dict[str, float]]:
    """Choose the linear layer with the highest accuracy on held-out images, of equal ones that of the lowest loss."""
    if loader is None or held is None:
        module.chosen = 0
        return []
    module.chosen = None
    measured = _predict(trainer, module, loader, len(held)).double().mean(0).nan_to_num(nan=math.inf).tolist()
    sweep = [
        {"lr": lr, "accuracy": accuracy, "loss": loss}
        for lr, (accuracy, loss) in zip(recipe.lrs, measured, strict=True)
    ]
    module.chosen = max(range(len(sweep)), key=lambda i: (sweep[i]["accuracy"], -sweep[i]["loss"]))
    best = recipe.lrs[module.chosen]
    if best in (min(recipe.lrs), max(recipe.lrs)):
        say(f"{recipe.name}: {best:g} is the best learning rate, and at the end of those tried: try others beyond it")
    return sweep


def _predict(trainer: Trainer, module: ClassifierModule, loader: DataLoader[Any], count: int) -> Tensor:
    with quiet():
        rows: Any = trainer.predict(module, loader)
    return torch.cat([part.cpu() for part in rows])[:count]


def _join(network: nn.Module, module: ClassifierModule, *, frozen: bool) -> nn.Module:
    """Return the classifier, in the dtype and with the flags of the network that came."""
    dtype = next((p.dtype for p in network.parameters()), torch.float32)
    trained = deepcopy(network) if frozen else module.network
    classifier = join(trained, module.heads[module.chosen or 0])
    return classifier.cpu().to(dtype).eval()
