"""The LightningModule that trains any method."""

import time
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lightly_aug.batch import RenderedViews, labels_of, views_of
from lightly_aug.distributed import gather
from lightly_aug.models.base import SSLModel
from lightly_aug.optional import extra
from lightly_aug.train.division import note_division
from lightly_aug.train.optimization import SMALL, Optimization
from lightly_aug.train.sharding import gather_backbone, shard
from lightly_aug.user_warning import warn_user

with extra("train"):
    from lightning.pytorch import LightningModule
    from lightning.pytorch.utilities.types import OptimizerLRScheduler

__all__ = ["PretrainModule"]


class PretrainModule(LightningModule):
    """Train any `SSLModel`, with any collate function, under a `lightning.Trainer`.

    `pretrain` builds one with everything around it. To use it with your own `Trainer`::

        photos = Indexed(dataset)
        loader = DataLoader(photos, 256, sampler=EpochSampler(photos, shuffle=True), drop_last=True, collate_fn=collate)
        trainer = Trainer(max_epochs=100, logger=..., callbacks=..., strategy=..., precision=...)
        trainer.fit(PretrainModule(MoCo(resnet("resnet50"))), loader)

    One optimiser step is one step of every schedule and of the momentum encoder, also when gradients are accumulated.
    Random numbers of the network, as of dropout, depend on the seed, the epoch, the batch and the rank only, so that a
    run that goes on from a checkpoint repeats nothing.

    Args:
        model: The method.
        optimization: Optimiser and schedules.
        batch_size: Images in an optimiser step, on all devices together, which scales the learning rate; by default
            the loader's batch size x devices x accumulated batches.
        total_steps: Optimiser steps of the training; by default the Trainer's.
        seed: Seed of the random numbers of the network.

    Attributes:
        model: The method; its `backbone` is what was trained.
        fetched: When the last batch came from the loader, by `time.perf_counter`.
    """

    def __init__(
        self,
        model: SSLModel,
        optimization: Optimization = SMALL,
        *,
        batch_size: int | None = None,
        total_steps: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.model = model
        self.optimization = optimization
        self.batch_size = batch_size
        self.seed = seed
        self.fetched = 0.0
        self._planned = None if total_steps is None or batch_size is None else (total_steps, batch_size)
        self._told = False
        self._modes: dict[nn.Module, bool] = {}
        self._empty: tuple[nn.Module, ...] = ()  # the backbone without memory, if it is sharded; no submodule

    def configure_model(self) -> None:
        """Shard the method under Lightning's `ModelParallelStrategy`: FSDP2 over all processes."""
        mesh = self.device_mesh
        if mesh is None or self._empty:
            return
        if mesh["tensor_parallel"].size() > 1:
            raise ValueError(
                "PretrainModule: tensor_parallel_size must be 1, as methods are divided by FSDP2 only, got "
                f"{mesh['tensor_parallel'].size()}: ModelParallelStrategy(data_parallel_size=..., "
                "tensor_parallel_size=1)"
            )
        self.model.to(self.trainer.strategy.root_device)
        self._empty = (shard(self.model, mesh["data_parallel"]),)

    def whole_backbone(self) -> nn.Module:
        """Return the backbone; if FSDP2 divided it, gathered on the CPU of the first process. All must call it."""
        return gather_backbone(self.model, self._empty[0]) if self._empty else self.model.backbone

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Note when the batch came from the loader, before views are rendered."""
        self.fetched = time.perf_counter()
        return batch

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Compute the loss of a batch.

        Args:
            batch: A batch of any structure that holds views, as `views_of` finds them, and labels, if there are any.
            batch_idx: Number of the batch in its epoch.

        Raises:
            TypeError: There are no views in the batch.
        """
        views, labels = views_of(batch), labels_of(batch)
        if isinstance(views, Tensor):
            raise TypeError(
                f"PretrainModule: batches must contain views, got one tensor {tuple(views.shape)}: give the loader one "
                "of our collate functions, collate_fn=..."
            )
        if labels is not None and (labels.ndim != 1 or labels.dtype != torch.int64):
            labels = None  # not classes
        index = views.index if isinstance(views, RenderedViews) else None
        device = self.device
        with torch.random.fork_rng([device] if device.type != "cpu" else [], device_type=device.type):
            self._seed_step(batch_idx)
            loss = self.model(views, targets=labels, index=index)
        step, every = self.trainer.global_step + 1, getattr(self.trainer, "log_every_n_steps", 1)
        if step % every == 0 or step == self.total_steps or batch_idx + 1 == self.trainer.num_training_batches:
            # not each, as it takes its time
            self.log("loss", loss.detach(), prog_bar=True, batch_size=len(views[0]))
            self.log("lr", self.trainer.optimizers[0].param_groups[0]["lr"], batch_size=len(views[0]))
        return loss  # type: ignore[no-any-return]

    def _seed_step(self, batch_idx: int) -> None:
        place = [self.seed, self.trainer.current_epoch, batch_idx, self.global_rank]
        seed = int(np.random.SeedSequence(place).generate_state(1, np.uint64)[0] >> 1)
        torch.default_generator.manual_seed(seed)  # torch.manual_seed looks for all kinds of devices first
        if self.device.type != "cpu":
            torch.get_device_module(self.device).manual_seed(seed)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Build the optimiser and the schedule of its learning rate, per optimiser step.

        Raises:
            ValueError: The length of the training or the batch size is unknown.
        """
        total = self.total_steps
        groups = self.optimization.groups(self.model, self.step_images)
        optimizer = self.optimization.build(groups)
        if self._empty:
            # Torch steps a new optimiser to load a state into it, which momentum encoders would take for a step.
            self._modes = {part: part.training for part in self.model.modules()}
            self.model.eval()
        epochs = self.trainer.max_epochs or 0
        warmup = self.optimization.warmup_steps(total, epochs if epochs > 0 else 1)

        def share(step: int) -> float:
            return self.optimization.lr_share(step, total, warmup)

        rates = [_constant if group["fixed"] else share for group in groups]
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rates)  # type: ignore[arg-type]
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    @property
    def total_steps(self) -> int:
        """Optimiser steps of the whole training; of a run that goes on, those that it was planned for."""
        if self._planned is None:
            # Asking the Trainer starts its loader, which then would not take its place from a checkpoint.
            total = self.trainer.estimated_stepping_batches
            if total in (-1, float("inf")):
                raise ValueError(
                    "PretrainModule: schedules need the length of the training, but the loader has no length: "
                    "give the Trainer max_steps=..., or pretrain steps=..."
                )
            self._planned = int(total), self._count_images()
        return self._planned[0]

    @property
    def step_images(self) -> int:
        """Images in an optimiser step, on all devices together."""
        return self.batch_size or (self.total_steps and self._planned[1])  # type: ignore[index]

    def _count_images(self) -> int:
        self.trainer.fit_loop.setup_data()
        loader = self.trainer.train_dataloader
        batch = self.batch_size or getattr(loader, "batch_size", None)
        if not isinstance(batch, int):
            raise ValueError(
                f"PretrainModule: the batch size of a {type(loader).__name__} is unknown, and the learning rate "
                "depends on it: give batch_size=..., the images in an optimiser step on all devices together"
            )
        return self.batch_size or batch * self.trainer.world_size * self.trainer.accumulate_grad_batches

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save what the run was planned for, and what its place in the epoch depends on."""
        checkpoint["planned"] = self._planned
        note_division(self.trainer, checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep to the plan of the run that goes on, and begin an epoch anew after one that was complete."""
        self._planned = checkpoint["planned"]
        loop = checkpoint["loops"]["fit_loop"]
        if loop["epoch_loop.batch_progress"]["is_last_batch"]:
            # Saved after its last batch, the loader would give the rest of that epoch, nothing, as the next one.
            loop["state_dict"].pop("combined_loader", None)
        self._restore_modes()

    def _restore_modes(self) -> None:
        for part, mode in self._modes.items():
            part.training = mode
        self._modes = {}

    def on_train_start(self) -> None:
        """Set the schedules of the method to the step from which the run goes on, and compare the plans."""
        self._restore_modes()
        steps, total = self.trainer.global_step, self.trainer.estimated_stepping_batches
        self.model.progress = min(1.0, steps / self.total_steps)
        self._compare("start at the same step", steps, "on several machines, out must be a folder that all of them see")
        if total not in (self.total_steps, -1, float("inf")) and self.trainer.is_global_zero:
            warn_user(
                f"PretrainModule: this Trainer takes {total} steps, and the run was planned for {self.total_steps}: "
                "its schedules keep to that and end there"
            )

    def on_train_epoch_start(self) -> None:
        """Compare the numbers of batches of all processes.

        Raises:
            ValueError: They differ, so that some processes would wait for others for ever.
        """
        batches = self.trainer.num_training_batches
        count = -1 if batches == float("inf") else int(batches)
        self._compare("have as many batches in an epoch", count, "EpochSampler gives each its part of the images")

    def _compare(self, what: str, number: int, advice: str) -> None:
        """Raise in every process if a number is not the same in all of them."""
        numbers = self._gather(number)
        if len(set(numbers)) > 1:
            raise ValueError(f"PretrainModule: all processes must {what}, got {numbers}: {advice}")

    def _gather(self, number: int) -> list[int]:
        """Return a number of each process, in the order of ranks."""
        numbers: list[int] = gather(torch.tensor([number], device=self.device)).tolist()
        return numbers

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """End the epoch of a stream in all processes together: when it ends in the first of them."""
        place = self.trainer.fit_loop.epoch_loop.batch_progress
        if self.trainer.world_size == 1 or self.trainer.num_training_batches != float("inf"):
            return
        ended = self._gather(int(place.is_last_batch))
        if 0 < sum(ended) < len(ended):
            place.is_last_batch = True
            if self.trainer.is_global_zero and not self._told:
                self._told = True
                ranks = [number for number, last in enumerate(ended) if last]
                warn_user(
                    f"PretrainModule: the stream of rank {', '.join(map(str, ranks))} ended after {batch_idx + 1} "
                    f"batches, and others have more, which this epoch leaves out: give all {len(ended)} processes as "
                    "many batches, with WebDataset by resampled=True and with_epoch(...)"
                )

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        """Take an optimiser step, and set the progress of the method."""
        done, total = self.trainer.global_step, self.total_steps
        if self.optimization.final_weight_decay is not None:
            for group in optimizer.param_groups:
                if group["weight_decay"] > 0:
                    group["weight_decay"] = self.optimization.decay(done, total)
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        self.model.after_step(min(1.0, (done + 1) / total))

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the gradient of each parameter, if the optimisation says so, and then as the `Trainer` was told to."""
        if self.optimization.clip:
            _clip_each(self.model.parameters(), self.optimization.clip)
        self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)


def _constant(step: int) -> float:
    return 1.0


@torch.no_grad()
def _clip_each(parameters: Iterable[nn.Parameter], most: float) -> None:
    gradients = [p.grad for p in parameters if p.grad is not None]
    norms = torch._foreach_norm(gradients)
    torch._foreach_mul_(gradients, [(most / (norm + 1e-6)).clamp(max=1.0) for norm in norms])
