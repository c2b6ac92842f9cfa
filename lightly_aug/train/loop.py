"""A plain training loop, short enough to read and to copy."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from lightly_aug.batch import Views
from lightly_aug.models.base import SSLModel
from lightly_aug.samples import batch_members

__all__ = ["Step", "fit"]


@dataclass(frozen=True)
class Step:
    """What `fit` tells after each optimiser step.

    Attributes:
        number: of the step, from 1.
        total: how many there will be.
        loss: a scalar on the model's device; reading it waits for the device.
    """

    number: int
    total: int
    loss: Tensor


def fit(
    model: SSLModel,
    loader: DataLoader[Any],
    *,
    epochs: int,
    lr: float = 0.06,
    weight_decay: float = 1e-4,
    optimizer: torch.optim.Optimizer | None = None,
    device: torch.device | str = "cpu",
    on_step: Callable[[Step], None] | None = None,
) -> None:
    """Train with SGD (momentum .9), or another optimiser, and learning rates that fall to zero along a cosine.

    The model is given the views, as `targets` the labels, and as `index` the images' places in their dataset, where
    that is `Indexed`. Labels are int64 of shape (n,): the member "label", "target" or "targets" of the batch, or the
    second of a tuple.

    Args:
        model: moved to `device` and trained in place.
        loader: its collate function is one of ours; what else stands in the batch is left alone.
        epochs: passes over the loader.
        lr: learning rate at the beginning.
        weight_decay: of all parameters.
        optimizer: of the model's parameters, in place of SGD; `lr` and `weight_decay` are its own then.
        device: where to render and train.
        on_step: called after each step.

    Raises:
        ValueError: the loader has no batch, as when `drop_last` drops the only one.
        TypeError: the loader's collate function is not one of ours.
    """
    total = epochs * len(loader)
    if total == 0:
        raise ValueError(f"nothing to train on: {epochs} epochs of {len(loader)} batches")
    model = model.to(device).train()
    model.progress = 0.0
    if optimizer is None:
        learnt = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.SGD(learnt, lr=lr, momentum=0.9, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total)
    number = 0
    for _ in range(epochs):
        for batch in loader:
            members = batch_members(batch)
            views = _views(members)
            index = views.index  # it and the labels stay on the CPU, where methods check them without a wait
            loss = model(views.to(device), targets=_labels(members), index=index)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            number += 1
            model.after_step(number / total)
            if on_step is not None:
                on_step(Step(number, total, loss.detach()))


def _views(members: dict[Any, Any]) -> Views:
    for member in members.values():
        if isinstance(member, Views):
            return member
    kinds = [type(member).__name__ for member in members.values()]
    raise TypeError(f"no Views in a batch of {kinds}: set one of our collate functions")


def _labels(members: dict[Any, Any]) -> Tensor | None:
    for key in ("label", "target", "targets", 1):
        label = members.get(key)
        if isinstance(label, Tensor) and label.dtype == torch.int64 and label.ndim == 1:
            return label
    return None
