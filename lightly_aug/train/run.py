"""Train a method with one call."""

from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from inspect import signature
from pathlib import Path
from typing import Any, Concatenate, Final, NamedTuple, ParamSpec, cast

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from lightly_aug.collate import BaseCollateFunction
from lightly_aug.methods import METHODS
from lightly_aug.models.base import SSLModel
from lightly_aug.operations import Normalize
from lightly_aug.optional import extra
from lightly_aug.options import refuse_argument
from lightly_aug.plot import training_curves
from lightly_aug.pretrain_options import PretrainOptions
from lightly_aug.status import count_of
from lightly_aug.train.build import (
    build_model,
    build_network,
    build_optimization,
    build_views,
    check_loader,
    count_batch,
    count_devices,
    count_steps,
    find_normalize,
)
from lightly_aug.train.checkpoints import AtomicCheckpointIO, StopSignals, find_checkpoint, save_checkpoints
from lightly_aug.train.data import (
    Source,
    default_workers,
    evaluation_loaders,
    find_source,
    pair_batches,
    training_loader,
)
from lightly_aug.train.division import Division, read_division
from lightly_aug.train.evaluation import OnlineEvaluation, PairAccuracy, Pictures
from lightly_aug.train.fit import check_launch, fit
from lightly_aug.train.folder import (
    SaveBackbone,
    WriteFacts,
    build_csv_logger,
    hold_folder,
    note_run,
    prepare_folder,
    quiet,
    read_metrics,
    say,
)
from lightly_aug.train.module import PretrainModule
from lightly_aug.train.optimization import PAPERS, Optimization
from lightly_aug.train.watch import Collapse, RunBar, Throughput
from lightly_aug.user_warning import warn_user
from lightly_aug.weights import BACKBONE

with extra("train"):
    from lightning.pytorch import Callback, Trainer
    from lightning.pytorch.loggers import TensorBoardLogger
    from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy

__all__ = ["Pretrained", "pretrain"]

_LARGE: Final = 50_000
"""Number of images from which the recipe of the paper is the default."""

P = ParamSpec("P")


class Pretrained(NamedTuple):
    """The result of `pretrain`.

    Attributes:
        model: The trained method; `model.backbone` is the network, `model.embed` computes features.
        metrics: The last value of everything that was logged, such as `loss` and `knn_accuracy`.
        folder: The folder of the run.
    """

    model: SSLModel
    metrics: dict[str, float]
    folder: Path


def _takes(
    options: Callable[P, PretrainOptions],
) -> Callable[[Callable[[Any, PretrainOptions], Pretrained]], Callable[Concatenate[Any, P], Pretrained]]:
    """Give a function the options as arguments, so that editors complete them and type checkers check them."""

    def decorate(run: Callable[[Any, PretrainOptions], Pretrained]) -> Callable[Concatenate[Any, P], Pretrained]:
        @wraps(run)
        def with_arguments(data: Any, *args: P.args, **kwargs: P.kwargs) -> Pretrained:
            known = list(signature(options).parameters)
            if unknown := [name for name in kwargs if name not in known]:
                raise TypeError(f"pretrain: {'; '.join(refuse_argument(name, known) for name in unknown)}")
            return run(data, options(*args, **kwargs))

        return cast(Callable[Concatenate[Any, P], Pretrained], with_arguments)

    return decorate


@_takes(PretrainOptions)
def pretrain(data: Any, options: PretrainOptions) -> Pretrained:
    """Train a backbone on images without labels, on one device or many, in a run that can be stopped and resumed.

    For example `pretrain("photos", method="byol", backbone="resnet50", epochs=100, out="runs/byol")`. The folder of the
    run then holds

    - `backbone.safetensors`: the network, which `lightly_aug.weights.Backbone` loads; written after every epoch;
    - `checkpoints/`: the last states, from which `resume=True` goes on, also in the middle of an epoch;
    - `logs/metrics.csv` and `tensorboard/`: what was measured;
    - `config.yaml`, which repeats the run (`lightly-aug train --config`), and `run.json`: versions, commit, command,
      views and optimiser.

    Class folders, and datasets with `targets`, are also used to measure the accuracy of k nearest neighbours while the
    method trains; the method does not see the labels. Ctrl-C and SIGTERM finish the step and save; the process then
    ends with KeyboardInterrupt and exit code 143.

    Args:
        data: A folder of images; a dataset of images, or of tuples or dicts with an image, such as those of torchvision
            and Hugging Face; a stream, such as WebDataset's; or a `DataLoader` with a collate function of this library.
        options: As keyword arguments, those of `PretrainOptions`.

    Returns:
        The trained method, the last metrics, and the folder.

    Raises:
        ValueError: An option is out of range, there are too few images, or the folder holds another run.
        ModuleNotFoundError: Packages of the extra "train" are not installed.
    """
    if options.strategy in ("auto", "ddp", "fsdp2"):
        check_launch("pretrain", count_devices(options) * options.num_nodes)
    with hold_folder("pretrain", Path(options.out)):
        return _train(data, options)


def _train(data: Any, options: PretrainOptions) -> Pretrained:
    """Train in a folder that no other run writes to."""
    source = find_source(data, options.image)
    collate = build_views(source, options)
    normalize = find_normalize(collate)
    batch = count_batch(source, options)
    paper = options.recipe == "paper" or (options.recipe == "auto" and source.count >= _LARGE)
    with torch.random.fork_rng():
        torch.manual_seed(options.seed)
        backbone, saving = build_network(options)
        model = build_model(backbone, source, options, batch=batch, paper=paper)
    optimization = build_optimization(options, backbone, paper=paper)
    folder = Path(options.out)
    prepare_folder(folder, source, options)
    checkpoint = find_checkpoint(folder / "checkpoints") if options.resume else None
    division = None if checkpoint is None else read_division(checkpoint)

    notes = note_run(source, options, collate, model, paper=paper)
    saving |= {"size": options.size, "normalize": normalize, "notes": notes}
    callbacks = [
        WriteFacts(folder, source, options, collate, optimization),
        *_watching(source, options, collate, normalize, folder),
        SaveBackbone(folder / BACKBONE, saving, every=options.every),
    ]
    images = batch * options.accumulate
    every = max(1, min(10, source.count // images or 10))  # at least once an epoch
    callbacks += options.callbacks
    trainer = _build_trainer(options, model, folder, callbacks, checkpoint, every)
    _check_division(division, folder, source, trainer.world_size)
    loader = source.data
    if isinstance(loader, DataLoader):
        check_loader(loader, trainer.world_size)
    else:
        workers = default_workers(trainer.num_devices) if options.workers is None else options.workers
        if division is not None and not division.between:
            workers = division.workers  # the place in the epoch is known to each of them
        each, pin = batch // trainer.world_size, trainer.strategy.root_device.type == "cuda"
        with quiet():
            loader = training_loader(
                source, collate, batch=each, workers=workers, seed=options.seed, pin=pin,
                labelled=options.labelled if METHODS[options.method].labels else None,
            )  # fmt: skip
    total = count_steps(loader, source, options, batch=batch, ranks=trainer.world_size)
    module = PretrainModule(model, optimization, batch_size=images, total_steps=total, seed=options.seed)
    say(*_describe(source, options, optimization, batch=batch, total=total, paper=paper))
    if options.resume:
        say(_describe_start(checkpoint, total))
    fit(trainer, module, loader, checkpoint, how="with --resume or resume=True")
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    if trainer.is_global_zero and (folder / "pictures").is_dir():
        training_curves(folder).savefig(folder / "pictures/curves.png", dpi=110)
    return Pretrained(model, read_metrics(folder) | metrics, folder)


def _check_division(division: Division | None, folder: Path, source: Source, processes: int) -> None:
    """Refuse to go on with other images, or within an epoch with another number of processes."""
    if division is None:
        return
    if division.images != source.count:
        raise ValueError(
            f"pretrain: {folder} holds a run with {division.images:,} images, not {source.count:,}: resume it with the "
            "same images, or begin another run"
        )
    if division.processes != processes and not division.between:
        raise ValueError(
            f"pretrain: {folder} holds a run that stopped within an epoch, with devices={division.processes} in all: "
            f"resume it with as many, not {processes}; between two epochs the number may change"
        )


def _describe_start(checkpoint: Path | None, total: int) -> str:
    if checkpoint is None:
        return "no checkpoint to go on from: starting at the beginning"
    if int(checkpoint.stem.removeprefix("step-")) >= total:
        return f"this run is complete: nothing is left to train after {checkpoint}"
    return f"going on from {checkpoint}"


def _watching(
    source: Source, options: PretrainOptions, collate: BaseCollateFunction, normalize: Normalize | None, folder: Path
) -> list[Callback]:
    """Return the callbacks that measure; those for labels if there are some, else the one that needs none."""
    decode, every = collate.decode, options.every
    measured = max(1, min(50, source.count // options.batch_size or 50))  # at least once an epoch
    callbacks: list[Callback] = [Throughput(), Collapse(measured)]
    labelled = (
        source if options.evaluate == "auto" else None if options.evaluate == "none" else find_source(options.evaluate)
    )
    size = options.size
    if labelled is not None and labelled is not source and not labelled.testable:
        raise ValueError(
            "pretrain: evaluate must hold labelled images of two classes or more, and two or more of one of them, got "
            f"{len(labelled.labels)} labels of {len(labelled.classes)} classes"
        )
    if labelled is not None and labelled.testable:
        train, test = evaluation_loaders(
            labelled,
            size=size,
            normalize=normalize,
            decode=decode,
            max_pixels=collate.max_pixels,
            on_error=collate.on_error,
        )
        callbacks.append(OnlineEvaluation(train, test, every=every))
        images = [source.data[i] for i in range(0, source.count, max(1, source.count // 6))][:6] if source.count else []
        callbacks.append(Pictures(folder / "pictures", images, collate, labelled=test, classes=labelled.classes))
    elif source.count and not isinstance(source.data, DataLoader):
        pairs = pair_batches(
            source,
            size=size,
            normalize=normalize,
            decode=decode,
            max_pixels=collate.max_pixels,
            on_error=collate.on_error,
        )
        callbacks.append(PairAccuracy(pairs, every=every))
    callbacks.append(RunBar(METHODS[options.method].title))  # after what it shows
    saving = save_checkpoints(folder / "checkpoints", epochs=every, steps=options.save_steps, keep=options.keep)
    return [*callbacks, StopSignals(folder / "checkpoints"), *saving]  # a stop waits for what an epoch measures


def _build_trainer(
    options: PretrainOptions,
    model: SSLModel,
    folder: Path,
    callbacks: list[Callback],
    checkpoint: Path | None,
    every: int,
) -> Trainer:
    devices = count_devices(options)
    processes = devices * options.num_nodes
    gpu = options.accelerator != "cpu" and torch.cuda.is_available()  # torch synchronises BatchNorm on GPUs only
    synchronise = PAPERS[options.method].optimization.sync_batchnorm and processes > 1 and gpu
    if synchronise and options.strategy == "fsdp2":
        nn.SyncBatchNorm.convert_sync_batchnorm(model)  # as Lightning does for DDP
    loggers = options.loggers
    if loggers is None:
        loggers = [build_csv_logger(folder, checkpoint), TensorBoardLogger(folder, name="", version="tensorboard")]
    with quiet():
        return Trainer(
            accelerator=options.accelerator,
            devices=devices,
            num_nodes=options.num_nodes,
            strategy=_choose_strategy(options, model, processes),
            precision=options.precision,  # type: ignore[arg-type]
            max_epochs=-1 if options.steps else options.epochs,
            max_steps=options.steps or -1,
            accumulate_grad_batches=options.accumulate,
            sync_batchnorm=synchronise,
            callbacks=callbacks,
            logger=loggers,
            plugins=[AtomicCheckpointIO()],
            default_root_dir=folder,
            log_every_n_steps=every,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )


def _choose_strategy(options: PretrainOptions, model: SSLModel, processes: int) -> Any:
    """Return the strategy: that of the options, or DDP or FSDP2 with their timeout."""
    timeout = timedelta(seconds=options.timeout)
    if options.strategy == "fsdp2":
        return ModelParallelStrategy(processes, 1, save_distributed_checkpoint=False, timeout=timeout)
    if options.strategy not in ("auto", "ddp") or processes == 1:
        return options.strategy
    # Buffers need no broadcast in each step: queues are large, and equal on all ranks.
    name = "forward_sync_buffers"  # of torch 2.14; the older argument leaves them different at the beginning, too
    name = name if name in signature(DistributedDataParallel).parameters else "broadcast_buffers"
    unused = getattr(model, "frozen_until", 0) > 0  # frozen layers have no gradient
    passed: dict[str, Any] = {name: False}
    return DDPStrategy(timeout=timeout, find_unused_parameters=unused, **passed)


def _describe(
    source: Source, options: PretrainOptions, optimization: Optimization, *, batch: int, total: int, paper: bool
) -> list[str]:
    """Say what the run trains with, and what was scaled; warn if the batch is too small for the method."""
    row, title = PAPERS[options.method], METHODS[options.method].title
    images = count_of(source.count, "image") if source.count else "a stream of images"
    name = options.backbone if isinstance(options.backbone, str) else type(options.backbone).__name__
    lines = [f"{title}, {name}, {images} at {options.size} pixels in batches of {batch}"]
    if batch < options.batch_size and source.count and not isinstance(source.data, DataLoader):
        lines[0] += f" (not {options.batch_size}, for {count_of(source.count, 'image')})"
    kind = "the paper's heads and queues" if paper else "heads and queues for small data"
    if options.recipe == "auto":
        kind += f", as there are {'at least' if paper else 'fewer than'} {_LARGE:,} images"
    epochs = options.epochs if not options.steps else 1
    lines.append(f"recipe {'paper' if paper else 'small'}: {kind}")
    lines.append(optimization.describe(batch * options.accumulate, total, epochs))
    if batch < row.least:
        warn_user(
            f"{title} wants batches of {row.least} images or more ({row.batch:,} in the paper), got {batch}: "
            f"{row.reason}"
        )
    return lines
