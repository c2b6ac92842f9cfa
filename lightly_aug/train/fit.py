"""Training that can be stopped by signals, by itself and on several processes."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from lightly_aug.optional import extra
from lightly_aug.train.checkpoints import Stopped
from lightly_aug.train.folder import is_first_process, quiet, say

with extra("train"):
    from lightning.pytorch import LightningModule, Trainer

__all__ = ["check_launch", "fit"]


def check_launch(owner: str, processes: int) -> None:
    """Check that Lightning can start the other processes, each of which runs the user's script again.

    Args:
        owner: Function that trains, for messages.
        processes: Number of processes, that of all devices.

    Raises:
        ValueError: There is no script, as in a notebook.
    """
    if processes > 1 and hasattr(sys, "ps1") and "LOCAL_WORLD_SIZE" not in os.environ:
        raise ValueError(
            f"{owner}: devices must be 1 in a notebook or an interactive interpreter, got {processes}: each needs "
            "a process that runs the whole script. Write the call to a file, script.py, under "
            "if __name__ == '__main__':, and start it with !python script.py, or take devices=1"
        )


def fit(trainer: Trainer, module: LightningModule, loader: Any, checkpoint: Path | None, *, how: str) -> None:
    """Train, and end all processes as their user expects if a signal or an error ends one.

    Args:
        trainer: The trainer, with `StopSignals` among its callbacks.
        module: What is trained.
        loader: The batches.
        checkpoint: Checkpoint to go on from; None for none.
        how: How to go on after a signal, for the message.

    Raises:
        KeyboardInterrupt: Ctrl-C stopped the training, after its state was saved.
        SystemExit: Another signal did, with 128 and its number as the exit code.
    """
    try:
        with quiet():
            trainer.fit(module, loader, ckpt_path=checkpoint)
    except Stopped as stop:
        say(f"{stop}, {how}")
        if not is_first_process():
            sys.exit(0)  # the first process tells
        if stop.number == signal.SIGINT:
            raise KeyboardInterrupt from None
        sys.exit(128 + stop.number)
    except BaseException:
        _end_others(trainer)
        raise


def _end_others(trainer: Trainer) -> None:
    """End the processes that Lightning started, where they do not end by themselves, as one that hangs."""
    for process in getattr(trainer.strategy.launcher, "procs", ()):
        try:
            process.wait(3)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
