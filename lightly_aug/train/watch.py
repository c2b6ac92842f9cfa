"""Callbacks that show what a run does: speed, collapse, accuracy, and the bar."""

import math
import time
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional

from lightly_aug.batch import views_of
from lightly_aug.evaluate import features
from lightly_aug.optional import extra
from lightly_aug.train.module import PretrainModule
from lightly_aug.user_warning import warn_user

with extra("train"):
    from lightning.pytorch import Callback, LightningModule, Trainer
    from lightning.pytorch.callbacks import ProgressBar

__all__ = ["Collapse", "RunBar", "Throughput", "effective_rank", "spread"]

_WAITING: Final = 0.3
"""Share of the time spent waiting for data from which the loader is named as the bottleneck."""


def spread(x: Tensor) -> float:
    """Return the standard deviation of unit-length features, times the root of their width.

    It is 1 for features that point in all directions equally, and 0 if all are equal, as in a collapse (SimSiam, Chen &
    He 2021, arXiv 2011.10566, figure 2).

    Args:
        x: Features `(n, d)`, n at least 2.

    Example:
        >>> spread(torch.ones(8, 4))
        0.0
    """
    unit = functional.normalize(x.float(), dim=1)
    return float(unit.std(0, unbiased=False).mean()) * math.sqrt(x.shape[1])


def effective_rank(x: Tensor) -> float:
    """Return the effective rank of features: the exponential of the entropy of their normalised singular values.

    This is RankMe (Garrido et al. 2023, arXiv 2210.02885): from 1, if all features are multiples of one, to min(n, d).

    Args:
        x: Features `(n, d)`.

    Example:
        >>> round(effective_rank(torch.eye(5)), 3)
        5.0
    """
    values = torch.linalg.svdvals(x.double().cpu())
    share = values / values.sum().clamp_min(1e-12) + 1e-12
    return float(torch.exp(-(share * share.log()).sum()))


class Throughput(Callback):
    """Log images a second, the share of the time spent waiting for data, and the number of images left out.

    It warns once if the loader limits.

    Waiting is the time from the end of a step until the next batch has come from the loader; the time to render views
    that come packed is not part of it. On an accelerator the times are the host's.

    Args:
        every: Log every so many batches.

    Raises:
        ValueError: Two epochs had no batch, after which a run that counts steps would never end.
    """

    def __init__(self, every: int = 10) -> None:
        self.every = every
        self.images_per_second = 0.0
        self.waiting = 0.0
        self._began: float | None = None
        self._ended: float | None = None
        self._waited = 0.0
        self._images = 0
        self._left_out = 0  # in this epoch
        self._batches = 0
        self._empty = 0
        self._told = False

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the count again: what happens between epochs, and starting the workers, is not part of it."""
        self._began = self._ended = None
        self._batches = self._left_out = 0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Add the time since the last step."""
        now = time.perf_counter()
        if self._began is None:
            self._began, self._waited, self._images, self._batches = now, 0.0, 0, 0
        elif self._ended is not None:
            self._waited += getattr(pl_module, "fetched", now) - self._ended

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log, and warn."""
        self._ended = time.perf_counter()
        views = views_of(batch)
        self._images += len(views[0]) * trainer.world_size
        self._left_out += len(getattr(views, "left_out", ()))
        self._batches += 1
        seconds = self._ended - (self._began or self._ended)
        if seconds <= 0:
            return
        self.images_per_second, self.waiting = self._images / seconds, self._waited / seconds
        if self._batches % self.every == 0 or batch_idx + 1 == trainer.num_training_batches:
            pl_module.log_dict({"images_per_second": self.images_per_second, "waiting": self.waiting})
        if self.waiting > _WAITING and self._batches >= 30 and not self._told:
            self._told = True
            warn_user(
                f"{self.waiting:.0%} of the time is spent waiting for data: give the loader more workers, decode large "
                'photographs at a smaller size with decode=..., or render on the accelerator with render="late"'
            )

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Raise if the loader gives nothing; a run that goes on may begin with an empty rest of an epoch."""
        pl_module.log("left_out", float(self._left_out), reduce_fx="sum", sync_dist=True)
        self._empty = 0 if self._batches else self._empty + 1
        if self._empty == 2:
            raise ValueError("the loader gave two epochs without a batch: its images are fewer than a batch, or none")


class Collapse(Callback):
    """Log the spread and the effective rank of the features, warn if they collapse, and stop if they are not finite.

    The first view of recent batches is embedded in eval mode: one forward pass without gradients in `every` batches.
    After each epoch, before a checkpoint is saved, the weights must be finite, too.

    Args:
        every: Measure every so many batches.
        images: Measure so many images together.
        least_spread: A smaller spread is a collapse to one point.
        least_rank: A smaller effective rank is a collapse to few directions.

    Raises:
        ValueError: While training, features or weights are not finite.
    """

    def __init__(self, every: int = 50, images: int = 256, least_spread: float = 0.05, least_rank: float = 2.0) -> None:
        self.every = every
        self.images = images
        self.least_spread = least_spread
        self.least_rank = least_rank
        self._told = False

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Measure, log and warn."""
        total = trainer.fit_loop.epoch_loop.total_batch_idx + 1
        if total % self.every or not isinstance(pl_module, PretrainModule):
            return
        views = views_of(batch)
        if len(views[0]) < 2:
            return
        with trainer.precision_plugin.forward_context():
            x, _ = features(pl_module.model.embed, [[views[0][: self.images]]], pl_module.device)
        self._check(trainer, pl_module, x.isfinite().all(), "features")
        values = {"spread": spread(x), "effective_rank": effective_rank(x)}
        pl_module.log_dict(values)
        if self._told or not (values["spread"] < self.least_spread or values["effective_rank"] < self.least_rank):
            return
        self._told = True
        warn_user(
            f"step {trainer.global_step}: the features collapse, all images become the same point: spread "
            f"{values['spread']:.3f} (1 is even, 0 collapsed), effective rank {values['effective_rank']:.1f} of "
            f"{min(x.shape)}. Lower the learning rate, warm up for longer, or take a larger batch"
        )

    @torch.no_grad()
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Raise if a weight is not finite."""
        own = [getattr(p, "to_local", lambda p=p: p)() for p in pl_module.parameters()]  # FSDP has a part on each rank
        self._check(trainer, pl_module, torch.stack([p.isfinite().all() for p in own]).all(), "weights")

    def _check(self, trainer: Trainer, pl_module: LightningModule, finite: Tensor, what: str) -> None:
        if not trainer.strategy.reduce_boolean_decision(bool(finite)):
            rates = {group["lr"] for optimizer in trainer.optimizers for group in optimizer.param_groups}
            raise ValueError(
                f"step {trainer.global_step}: the {what} are not finite, the training is lost. Lower the learning rate "
                f"(now {max(rates, default=0.0):g}), warm up for longer, or use precision bf16-mixed or 32; "
                "checkpoints of earlier epochs are intact"
            )


class RunBar(ProgressBar):
    """A bar over the whole run: epoch, loss, images a second, share of waiting, time left.

    Without a terminal it prints a line after each epoch. The loss is read once in `every` batches, since reading it
    waits for the device.

    Args:
        title: Text in front of the bar.
        every: Refresh every so many batches.
    """

    def __init__(self, title: str = "", every: int = 10) -> None:
        super().__init__()
        self.title = title
        self.every = every
        self._bar: Any = None
        self._enabled = True

    def disable(self) -> None:
        """Show nothing, as on all ranks but the first."""
        self._enabled = False

    def enable(self) -> None:
        """Show the bar."""
        self._enabled = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the bar."""
        with extra("train"):
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
        console = Console(stderr=True)
        self._console = console
        self._bar = None
        if self._enabled and console.is_terminal:
            columns = BarColumn(20), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}")
            self._bar = Progress(*columns, console=console)
            self._task = self._bar.add_task(
                self.title, total=trainer.estimated_stepping_batches, completed=trainer.global_step
            )
            self._bar.start()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Refresh the bar."""
        if self._bar is not None and batch_idx % self.every == 0:
            self._bar.update(self._task, description=self._text(trainer), completed=trainer.global_step)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print a line, without a terminal."""
        if self._bar is not None:
            self._bar.update(self._task, description=self._text(trainer), completed=trainer.global_step)
        elif self._enabled:
            self._console.print(self._text(trainer), highlight=False, soft_wrap=True)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the bar."""
        self._stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Stop the bar."""
        self._stop()

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _text(self, trainer: Trainer) -> str:
        place = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
        if trainer.max_epochs == -1:  # a run of so many steps
            place = f"step {trainer.global_step}/{trainer.max_steps}"
        parts = [f"{self.title} {place}".strip()]
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        speed = next((callback for callback in callbacks if isinstance(callback, Throughput)), None)
        loss = trainer.progress_bar_metrics.get("loss")
        if loss is not None:
            parts.append(f"loss {float(loss):.3f}")
        for name in ("spread", "knn_accuracy"):
            if name in trainer.callback_metrics:
                parts.append(f"{name.replace('_', ' ')} {float(trainer.callback_metrics[name]):.3f}")
        if speed is not None and speed.images_per_second:
            parts += [f"{speed.images_per_second:,.0f} images/s", f"waiting {speed.waiting:.0%}"]
        return " · ".join(parts)
