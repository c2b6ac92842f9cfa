"""What the place of a run in its epoch depends on, kept in its checkpoints."""

from pathlib import Path
from typing import Any, NamedTuple

import torch

from lightly_aug.optional import extra

with extra("train"):
    from lightning.pytorch import Trainer

__all__ = ["Division", "note_division", "read_division"]


class Division(NamedTuple):
    """What the place of a run in its epoch depends on.

    Attributes:
        images: Number of images; 0 if unknown.
        processes: Number of processes that train together.
        workers: Number of processes that load images for each of them.
        between: Whether the run stopped between two epochs, where neither number of processes matters.
    """

    images: int
    processes: int
    workers: int
    between: bool


def note_division(trainer: Trainer, checkpoint: dict[str, Any]) -> None:
    """Add the division of a run to its checkpoint."""
    loader: Any = trainer.train_dataloader
    try:
        images = len(loader.dataset)
    except (AttributeError, TypeError):
        images = 0
    checkpoint["division"] = [images, trainer.world_size, getattr(loader, "num_workers", 0)]


def read_division(file: Path) -> Division | None:
    """Return the division of the run that wrote a checkpoint, None if it holds none."""
    state = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    if "division" not in state:
        return None
    images, processes, workers = state["division"]
    return Division(
        images, processes, workers, state["loops"]["fit_loop"]["epoch_loop.batch_progress"]["is_last_batch"]
    )
