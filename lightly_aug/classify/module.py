"""The LightningModule that trains linear classifiers, on a frozen backbone or with it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from lightly_aug.batch import labels_of, views_of
from lightly_aug.distributed import gather, world_size
from lightly_aug.optional import extra
from lightly_aug.train import Optimization
from lightly_aug.train.division import note_division

with extra("train"):
    from lightning.pytorch import LightningModule
    from lightning.pytorch.utilities.types import OptimizerLRScheduler

__all__ = ["ClassifierModule"]


class ClassifierModule(LightningModule):
    """Train linear layers with different learning rates on the features of one network, by SGD with momentum .9.

    All layers see the same features and begin with the same weights; none influences another. Random numbers of the
    network depend on the seed, the epoch, the batch and the rank only, so that a run that goes on repeats nothing.

    Args:
        network: The backbone. It is frozen, in eval mode, unless it has an optimisation of its own.
        width: Number of its features.
        classes: Number of classes.
        heads: Optimisation of each linear layer.
        network_optimization: Optimisation of the backbone, which several layers cannot share.
        batch: Images in an optimiser step, on all devices together, which scales the learning rates.
        steps: Optimiser steps of the training.
        seed: Seed of the weights of the layers, and of random numbers of the network.

    Attributes:
        network: The backbone.
        heads: The linear layers.
        chosen: The layer whose scores `predict_step` returns; None for how good each of them is.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        width: int,
        classes: int,
        heads: Sequence[Optimization],
        network_optimization: Optimization | None,
        batch: int,
        steps: int,
        seed: int,
    ) -> None:
        super().__init__()
        assert network_optimization is None or len(heads) == 1
        self.network = network
        self.heads = nn.ModuleList(_build_head(width, classes, network, seed) for _ in heads)
        self.chosen: int | None = None
        self._optimizations = (*heads, *([] if network_optimization is None else [network_optimization]))
        self._frozen = network_optimization is None
        self._batch = batch
        self._steps = steps
        self._seed = seed
        self.train()
        if self._frozen:
            self.network.requires_grad_(False)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Compute the sum of the losses of all layers."""
        view, labels = views_of(batch)[0], _take_labels(batch)
        device = self.device
        with torch.random.fork_rng([device] if device.type != "cpu" else [], device_type=device.type):
            self._seed_step(batch_idx)
            x = self._embed(view)
        losses = torch.stack([functional.cross_entropy(_widen(head(x)), labels) for head in self.heads])
        step, every = self.trainer.global_step + 1, getattr(self.trainer, "log_every_n_steps", 1)
        if step % every == 0 or step == self._steps:
            best = losses.detach().nan_to_num(nan=torch.inf).min()
            self.log("loss", best, prog_bar=True, batch_size=len(labels))  # not each, as it takes its time
        return losses.sum()

    def _embed(self, view: Tensor) -> Tensor:
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self._frozen):
            features: Tensor = self.network(view).flatten(1)
        return features

    def _seed_step(self, batch_idx: int) -> None:
        place = [self._seed, self.trainer.current_epoch, batch_idx, self.global_rank]
        seed = int(np.random.SeedSequence(place).generate_state(1, np.uint64)[0] >> 1)
        torch.default_generator.manual_seed(seed)
        if self.device.type != "cpu":
            torch.get_device_module(self.device).manual_seed(seed)

    def on_train_start(self) -> None:
        """Keep a frozen network in eval mode, so that its BatchNorm statistics do not move."""
        if self._frozen:
            self.network.eval()

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Build the optimiser, one group for each layer and the network, and the cosine of the learning rates."""
        modules = [*self.heads, *([] if self._frozen else [self.network])]
        groups = [
            {
                "params": [p for p in module.parameters() if p.requires_grad],
                "lr": optimization.peak_lr(self._batch),
                "weight_decay": optimization.weight_decay,
            }
            for module, optimization in zip(modules, self._optimizations, strict=True)
        ]
        first = self._optimizations[0]
        optimizer = first.build(groups)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: first.lr_share(step, self._steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the scores of the chosen layer, or, without one, of each layer whether it is right, and its loss.

        These are `(n, classes)` or `(n, heads, 2)`. The n images are those of all processes, in order.
        """
        view, labels = views_of(batch)[0], _take_labels(batch)
        x = self._embed(view)
        if self.chosen is not None:
            return _interleave(_widen(self.heads[self.chosen](x)))
        scores = torch.stack([_widen(head(x)) for head in self.heads], 1)
        loss = functional.cross_entropy(
            scores.flatten(0, 1), labels.repeat_interleave(len(self.heads)), reduction="none"
        )
        right = scores.argmax(2) == labels[:, None]
        return _interleave(torch.stack([right.to(loss.dtype), loss.view(right.shape)], 2))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave out a frozen network, which the rerun has; add what the place in the epoch depends on."""
        note_division(self.trainer, checkpoint)
        if self._frozen:
            state = checkpoint["state_dict"]
            checkpoint["state_dict"] = {name: state[name] for name in state if not name.startswith("network.")}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the frozen network, and begin a new epoch after one that was complete."""
        if self._frozen:
            own = self.state_dict()
            checkpoint["state_dict"] |= {name: own[name] for name in own if name.startswith("network.")}
        loop = checkpoint["loops"]["fit_loop"]
        if loop["epoch_loop.batch_progress"]["is_last_batch"]:
            # Saved after its last batch, the loader would give the rest of that epoch, nothing, as the next one.
            loop["state_dict"].pop("combined_loader", None)


def _build_head(width: int, classes: int, network: nn.Module, seed: int) -> nn.Linear:
    """Return a linear layer with the weights that official linear evaluations start from, in the network's dtype."""
    dtype = next((p.dtype for p in network.parameters()), torch.float32)
    with torch.random.fork_rng(devices=[]):
        head = nn.Linear(width, classes, dtype=dtype)
    nn.init.normal_(head.weight, std=0.01, generator=torch.Generator().manual_seed(seed))
    nn.init.zeros_(head.bias)
    return head


def _take_labels(batch: Any) -> Tensor:
    labels = labels_of(batch)
    assert labels is not None  # `Labelled` yields pairs
    return labels


def _widen(scores: Tensor) -> Tensor:
    return scores.to(torch.promote_types(scores.dtype, torch.float32))


def _interleave(rows: Tensor) -> Tensor:
    """Join the rows of all processes, of which each has every so manieth image."""
    joined = gather(rows)
    return joined.view(world_size(), len(rows), *rows.shape[1:]).transpose(0, 1).flatten(0, 1)
