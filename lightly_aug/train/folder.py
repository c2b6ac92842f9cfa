"""The folder of a run: its configuration, its logs, and the backbone."""

import csv
import json
import logging
import os
import platform
import re
import shlex
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import torch

from lightly_aug import __version__
from lightly_aug.collate import BaseCollateFunction
from lightly_aug.methods import METHODS
from lightly_aug.models.base import SSLModel
from lightly_aug.optional import extra
from lightly_aug.pretrain_options import PretrainOptions, read_options
from lightly_aug.train.data import Source
from lightly_aug.train.module import PretrainModule
from lightly_aug.train.optimization import Optimization
from lightly_aug.user_warning import warn_user
from lightly_aug.weights import BACKBONE, save_backbone

with extra("train"):
    from lightning.fabric.utilities.rank_zero import rank_zero_only
    from lightning.pytorch import Callback, LightningModule, Trainer
    from lightning.pytorch.loggers import CSVLogger

__all__ = [
    "SaveBackbone",
    "WriteFacts",
    "build_csv_logger",
    "hold_folder",
    "is_first_process",
    "note_run",
    "prepare_folder",
    "quiet",
    "read_metrics",
    "say",
]


def is_first_process() -> bool:
    """Return whether this process is the first of those that train together, also before they know each other."""
    machine = os.environ.get("NODE_RANK", "0")  # that of Lightning's launcher, which gives ranks within it only
    return int(getattr(rank_zero_only, "rank", 0)) == 0 and machine == "0"


def prepare_folder(folder: Path, source: Source, options: PretrainOptions) -> None:
    """Check and make the folder of the run, in every process; the first one empties it for a run that replaces another.

    Nothing that this function reads is written before all processes have read it: `WriteFacts` writes later.
    """
    config = folder / "config.yaml"
    begun = any((folder / "checkpoints").glob("*.ckpt")) or (folder / BACKBONE).exists()  # else it stopped before
    if begun and not options.overwrite and not options.resume:
        raise ValueError(
            f"pretrain: {folder} holds a run: choose another --out, go on with --resume, or replace it with "
            "--overwrite (in Python out=, resume=True, overwrite=True)"
        )
    if config.exists() and options.resume:
        before, now = read_options(config), {"data": source.name} | options.plain()
        names = ["data", "method", "backbone", "size", "recipe", "batch_size", "accumulate", "seed", "labelled"]
        names += ["lr", "weight_decay", "optimizer", "warmup"]  # the optimiser's state, which is loaded, keeps them
        default = {option.name: option.default for option in fields(PretrainOptions)}
        old, new = ({name: each.get(name, default.get(name)) for name in names} for each in (before, now))
        if other := [f"{name} {old[name]}, not {new[name]}" for name in names if old[name] != new[name]]:
            raise ValueError(f"pretrain: {folder} holds a run with {', '.join(other)}: resume it with the same options")
        length, asked = (
            f"{steps} steps" if (steps := each.get("steps")) else f"{each.get('epochs', default['epochs'])} epochs"
            for each in (before, now)
        )
        if asked != length:
            raise ValueError(
                f"pretrain: {folder} holds a run of {length}, at whose end the learning rate is at its lowest: "
                f"resume it with that length, not {asked}, or begin another run"
            )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if is_first_process():
            if options.overwrite:
                for file in [*folder.glob("checkpoints/*.ckpt"), *folder.glob("logs/*"), *folder.glob("tensorboard/*")]:
                    file.unlink()
            with NamedTemporaryFile(dir=folder):
                pass
    except OSError as error:
        raise ValueError(f"pretrain: out must be a folder to write to, got {folder}: {error.strerror}") from None


@contextmanager
def hold_folder(owner: str, folder: Path) -> Iterator[None]:
    """Hold the folder of a run, so that no other run writes into it until this context or the process ends.

    It is held by a lock of the system on the file `.lock`, which ends with its process, however that ends. Only the
    first process of a run takes it. Where there are no such locks, as on Windows, nothing is held. A folder that was
    made here and in which nothing was written is removed.

    Args:
        owner: Function that trains, for the message.
        folder: The folder; it is made.

    Raises:
        ValueError: Another process holds it, or it cannot be written to.
    """
    if not is_first_process() or find_spec("fcntl") is None:
        yield
        return
    import fcntl

    file, new = folder / ".lock", not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        opened = file.open("a+", encoding="utf-8")
    except OSError as error:
        raise ValueError(f"{owner}: out must be a folder to write to, got {folder}: {error.strerror}") from None
    with opened:
        try:
            fcntl.lockf(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the workers of a loader would keep that of flock
            held = file.exists() and os.path.samestat(os.fstat(opened.fileno()), file.stat())  # else it just ended
        except (BlockingIOError, PermissionError):
            held = False
        except OSError as error:  # of a file system without locks
            warn_user(f"{folder} cannot be locked against a second run: {error.strerror}")
            held = True
        if not held:
            opened.seek(0)
            raise ValueError(
                f"{owner}: another run writes to {folder} ({opened.read().strip()}): choose another --out (in Python "
                "out=), or wait for its end"
            )
        opened.truncate(0)
        opened.write(f"process {os.getpid()} on {platform.node()}")
        opened.flush()
        try:
            yield
        finally:
            file.unlink(missing_ok=True)
            if new:
                with suppress(OSError):
                    folder.rmdir()


def read_metrics(folder: Path) -> dict[str, float]:
    """Return the last value of everything in the log of a run; none without a log."""
    file = folder / "logs" / "metrics.csv"
    if not file.exists():
        return {}
    with file.open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    return {
        name: float(value) for row in rows for name, value in row.items() if value and name not in ("step", "epoch")
    }


def build_csv_logger(folder: Path, checkpoint: Path | None) -> CSVLogger:
    """Return a logger that keeps the rows of a run that goes on, up to its checkpoint."""
    file = folder / "logs" / "metrics.csv"
    rows: list[dict[str, Any]] = []
    if checkpoint is not None and file.exists():
        last = int(checkpoint.stem.removeprefix("step-"))
        with file.open(newline="", encoding="utf-8") as lines:
            rows = [row for row in csv.DictReader(lines) if int(row["step"]) < last]
    if is_first_process() and file.parent.is_dir():
        for old in file.parent.iterdir():
            old.unlink()
    logger = CSVLogger(folder, name="", version="logs", flush_logs_every_n_steps=50)
    if rows and is_first_process():
        logger.experiment.metrics = rows
        logger.save()
    return logger


def note_run(
    source: Source, options: PretrainOptions, collate: BaseCollateFunction, model: SSLModel, *, paper: bool
) -> dict[str, Any]:
    """Return what a backbone remembers of its run, for its model card: method, images and views, but no paths."""
    views = Counter(collate.views)
    return {
        "method": options.method,
        "title": METHODS[options.method].title,
        "papers": re.findall(r"arXiv\s+(\d{4}\.\d{5})", type(model).__doc__ or ""),
        "images": source.count,
        "recipe": "paper" if paper else "small",
        "views": [{"count": count, "operations": [*map(repr, view.items)]} for view, count in views.items()],
    }


class SaveBackbone(Callback):
    """Write the backbone after every epoch, with the length of the training and what was measured in that epoch.

    Args:
        file: File to write.
        saving: Arguments of `save_backbone`.
        every: Epochs from one measurement to the next.
    """

    def __init__(self, file: Path, saving: dict[str, Any], *, every: int) -> None:
        self.file = file
        self.saving = saving
        self.every = every

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the file, in the first process."""
        if not isinstance(pl_module, PretrainModule):
            return
        backbone = pl_module.whole_backbone()
        if not trainer.is_global_zero:
            return
        epoch, optimization, images = trainer.current_epoch + 1, pl_module.optimization, pl_module.batch_size
        notes = self.saving["notes"] | {"epochs": epoch, "steps": trainer.global_step}
        if images is not None:
            epochs = max(trainer.max_epochs or 1, 1)  # -1 for a run of so many steps
            described = optimization.describe(images, pl_module.total_steps, epochs)
            notes |= {"batch_size": images, "optimization": described}
        if epoch % self.every == 0 or epoch == trainer.max_epochs:  # else some are of an earlier epoch
            notes["metrics"] = {name: float(value) for name, value in trainer.callback_metrics.items()}
        save_backbone(backbone, self.file, **self.saving | {"notes": notes})


class WriteFacts(Callback):
    """Write `config.yaml` and `run.json` when all processes have found each other, and so have checked the folder.

    Args:
        folder: Folder of the run.
        source: The images.
        options: The options.
        collate: The views.
        optimization: The optimisation.
    """

    def __init__(
        self,
        folder: Path,
        source: Source,
        options: PretrainOptions,
        collate: BaseCollateFunction,
        optimization: Optimization,
    ) -> None:
        self.folder = folder
        self.source = source
        self.options = options
        self.collate = collate
        self.optimization = optimization

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write the files, in the first process."""
        if not trainer.is_global_zero:
            return
        config = self.folder / "config.yaml"
        if not (self.options.resume and config.exists()):
            self.options.write(config, self.source.name)
        _write_facts(self.folder, self.collate, self.optimization)


def _write_facts(folder: Path, collate: BaseCollateFunction, optimization: Optimization) -> None:
    """Write `run.json`: the command, versions, commit, views and optimisation of a run."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    facts = {
        "command": shlex.join(sys.argv),
        "commit": commit.stdout.strip() or None,
        "views": repr(collate),
        "optimization": repr(optimization),
        "versions": {"lightly_aug": __version__, "torch": str(torch.__version__), "python": platform.python_version()},
    }
    (folder / "run.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def say(*lines: str) -> None:
    """Print lines to stderr, in the first process."""
    if is_first_process():
        print(*lines, sep="\n", file=sys.stderr, flush=True)


@contextmanager
def quiet() -> Iterator[None]:
    """Pass over what Lightning says about every run."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for text in (
                ".*does not have many workers",
                ".*The number of training batches",
                ".*Checkpoint directory .* exists and is not empty",
                ".*treespec, LeafSpec",
                ".*'set_vital' is deprecated",
                ".*sync_dist=True",  # every process measures the same images
            ):
                warnings.filterwarnings("ignore", text)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
