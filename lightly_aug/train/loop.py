"""A plain training loop, short enough to read and to copy."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from lightly_aug.batch import Views, labels_of, views_of
from lightly_aug.models.base import SSLModel

__all__ = ["Step", "fit"]


@dataclass(frozen=True)
class Step:
    """The state of training after an optimiser step, as `fit` passes it to `on_step`.

    Attributes:
        number: Number of the step, from 1.
        total: Total number of steps.
        loss: Loss of the step, a scalar on the model's device; reading it waits for the device.
    """

    number: int
    total: int
    loss: Tensor


def fit(
    model: SSLModel,
    loader: DataLoader[Any],
    *,
    epochs: int,
    lr: float = 1e-3,
    weight_decay: float = 1e-4,
    optimizer: torch.optim.Optimizer | None = None,
    device: torch.device | str | None = None,
    on_step: Callable[[Step], None] | None = None,
) -> None:
    """Train with AdamW or another optimiser; learning rates fall to zero along a cosine.

    The default is what all methods of `docs/methods.md` were measured with. The papers use others, with larger batches
    and for longer.

    The model gets the views, the labels as `targets`, and the images' places in the dataset as `index` if the dataset
    is `Indexed`. `lightly_aug.batch.labels_of` says where the labels are found.

    Args:
        model: Method to train in place; it is moved to `device`.
        loader: Loader with a collate function of lightly_aug; other members of the batch are ignored.
        epochs: Number of passes over the loader.
        lr: Initial learning rate.
        weight_decay: Weight decay of all parameters.
        optimizer: Optimiser of the model's parameters in place of AdamW; `lr` and `weight_decay` are then ignored.
        device: Device to render and train on; by default an accelerator if there is one, else the CPU.
        on_step: Called after each step.

    Raises:
        ValueError: There is no batch, for example because `drop_last` drops the only one.
        TypeError: The loader's collate function is not one of lightly_aug.
    """
    total = epochs * len(loader)
    if total == 0:
        raise ValueError(f"fit: epochs and batches must be at least 1, got {epochs} epochs of {len(loader)} batches")
    if device is None:
        device = (torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None) or "cpu"
    model = model.to(device).train()
    model.progress = 0.0
    if optimizer is None:
        parameters = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(parameters, lr=lr, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total)
    number = 0
    for _ in range(epochs):
        for batch in loader:
            views, labels = views_of(batch), labels_of(batch)
            if labels is not None and (labels.ndim != 1 or labels.dtype != torch.int64):
                labels = None  # not classes
            if not isinstance(views, Views):
                raise TypeError(
                    f"fit: batches must contain a Views, got {type(views).__name__}: set one of our collate functions"
                )
            # labels and index stay on the CPU, where checking them does not wait for the device
            loss = model(views.to(device), targets=labels, index=views.index)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            number += 1
            model.after_step(number / total)
            if on_step is not None:
                on_step(Step(number, total, loss.detach()))
