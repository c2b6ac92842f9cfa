"""Checkpoints that survive a kill, and a run that a signal stops and that goes on."""

import os
import pickle
import re
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any, Final

import torch

from lightly_aug.atomic import replace_file
from lightly_aug.optional import extra
from lightly_aug.train.folder import is_first_process

with extra("train"):
    from lightning.pytorch import Callback, LightningModule, Trainer
    from lightning.pytorch.callbacks import ModelCheckpoint
    from lightning.pytorch.plugins.io import TorchCheckpointIO

__all__ = ["AtomicCheckpointIO", "StopSignals", "Stopped", "find_checkpoint", "save_checkpoints"]

PATTERN: Final = "step-*.ckpt"


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's checkpoint files, written whole or not at all, and read without running code that they hold."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint.

        Args:
            checkpoint: The state.
            path: The file.
            storage_options: Not used.

        Raises:
            OSError: The file cannot be written; an older file of this name is left as it is.
            ValueError: It holds objects of other types than tensors, numbers and text, so no run could go on from it.
        """
        try:
            with replace_file(path) as file:
                torch.save(checkpoint, file)
                torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        except pickle.UnpicklingError as error:
            kind = re.search(r"GLOBAL ([\w.]+)", str(error))
            raise ValueError(
                f"the checkpoint {path} must hold tensors, numbers and text, got an object"
                f"{f' of {kind[1]}' if kind else ''}, which would run code when it is read: change what state_dict of "
                "a callback returns"
            ) from None
        except (OSError, RuntimeError) as error:  # torch's writer raises the second when the disk is full
            raise OSError(
                f"the checkpoint {path} could not be written: {error}. Earlier checkpoints are intact: make room, and "
                "go on with resume=True"
            ) from error

    def load_checkpoint(self, path: Any, map_location: Any = "cpu", weights_only: bool | None = None) -> dict[str, Any]:
        """Read a checkpoint with `weights_only=True`."""
        state: dict[str, Any] = torch.load(path, map_location=map_location, weights_only=True, mmap=True)
        return state


def find_checkpoint(folder: str | os.PathLike[str]) -> Path | None:
    """Return the newest checkpoint of a folder that can be read, None if there is none.

    Args:
        folder: The folder `checkpoints` of a run.
    """
    for file in sorted(Path(folder).glob(PATTERN), key=_step_of, reverse=True):
        try:
            torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        except Exception:  # a damaged file may raise anything
            if is_first_process():
                print(f"{file} is damaged, and passed over")
        else:
            return file
    return None


def _step_of(file: Path) -> int:
    digits = file.stem.removeprefix("step-").split("-")[0]
    return int(digits) if digits.isdigit() else -1


class Stopped(Exception):
    """A signal stopped the run after an optimiser step, and its state is saved.

    Args:
        number: The signal.
        file: The checkpoint.
    """

    def __init__(self, number: int, file: Path) -> None:
        super().__init__(f"{signal.Signals(number).name}: stopped; the run goes on from {file}")
        self.number = number
        self.file = file


class StopSignals(Callback):
    """Ctrl-C, SIGTERM and SIGUSR1 finish the optimiser step, save a checkpoint, and raise `Stopped`.

    A second Ctrl-C interrupts at once. Other threads than the main one cannot catch signals; there nothing changes.

    Args:
        folder: Folder of the checkpoint.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self._received = 0
        self._agreed = 0  # what any process received, by the last batch
        self._steps = 0
        self._handlers: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the place of the handlers, those of Lightning included."""
        self._received, self._agreed, self._steps = 0, 0, trainer.global_step
        names = [name for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)]
        with suppress(ValueError):  # not in the main thread
            for number in (getattr(signal, name) for name in names):
                self._handlers[number] = signal.signal(number, self._receiver(trainer))

    def _receiver(self, trainer: Trainer) -> Callable[[int, FrameType | None], None]:
        def receive(number: int, frame: FrameType | None) -> None:
            if self._received and number == signal.SIGINT:
                raise KeyboardInterrupt
            self._received = number
            launcher = trainer.strategy.launcher
            if launcher is not None and number != signal.SIGINT:  # a terminal sends Ctrl-C to all processes itself
                launcher.kill(number)

        return receive

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Stop, if a signal came to any process, and the batches of an optimiser step are complete."""
        stepped, self._steps = trainer.global_step > self._steps, trainer.global_step
        received = self._received
        if trainer.world_size > 1:
            received = int(trainer.strategy.reduce(torch.tensor(received, device=pl_module.device), reduce_op="max"))
        self._agreed = received
        if received and stepped and not trainer.is_last_batch:
            raise Stopped(received, self._save(trainer))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save after an epoch, if the signal came in its last batch: its measurements are still to be logged."""
        if self._agreed:
            self._save(trainer)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop before the next epoch, if there is one."""
        if self._agreed:
            raise Stopped(self._agreed, self._save(trainer))

    def _save(self, trainer: Trainer) -> Path:
        file = self.folder / f"step-{trainer.global_step}.ckpt"
        if not file.exists():
            trainer.save_checkpoint(file)
        return file

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Put the handlers back."""
        self._restore()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the handlers back."""
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}


def save_checkpoints(folder: Path, *, epochs: int = 1, steps: int = 1000, keep: int = 2) -> list[Callback]:
    """Save the state after every few epochs, and in long ones after every so many optimiser steps.

    Args:
        folder: Folder of the checkpoints.
        epochs: Epochs from one checkpoint to the next.
        steps: Optimiser steps from one checkpoint to the next.
        keep: How many of the last ones to keep, of either kind.
    """
    options: dict[str, Any] = {
        "filename": "step-{step}", "auto_insert_metric_name": False, "monitor": "step", "mode": "max",
        "save_top_k": keep, "enable_version_counter": False,
    }  # fmt: skip
    return [
        ModelCheckpoint(folder, every_n_epochs=epochs, save_on_train_epoch_end=True, **options),
        ModelCheckpoint(folder, every_n_train_steps=steps, **options),
    ]
