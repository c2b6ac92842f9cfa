"""Callbacks that measure and draw the features while a method trains."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import update_bn

from lightly_aug.batch import views_of
from lightly_aug.collate import BaseCollateFunction
from lightly_aug.evaluate import features, knn_accuracy, linear_accuracy
from lightly_aug.models.base import SSLModel
from lightly_aug.optional import extra
from lightly_aug.plot import embedding
from lightly_aug.samples import take_images
from lightly_aug.train.module import PretrainModule
from lightly_aug.user_warning import warn_user

with extra("train"):
    from lightning.pytorch import Callback, LightningModule, Trainer

__all__ = ["OnlineEvaluation", "PairAccuracy", "Pictures", "pair_accuracy"]

Embed = Callable[[Tensor], Tensor]


class _Measured(Callback, ABC):
    """Measure accuracies before the training, after every few epochs and at the end, and warn if nothing was gained."""

    def __init__(self, images: Iterable[Any], every: int) -> None:
        self.images = images  # batches that fill BatchNorm's statistics of the untrained network
        self.every = every
        self.count = 0  # of images that are tested
        self.start: dict[str, float] = {}
        self.last: dict[str, float] = {}

    @abstractmethod
    def measure(self, embed: Embed, device: torch.device) -> dict[str, float]:
        """Return accuracies of features by name."""

    def state_dict(self) -> dict[str, Any]:
        """Return what was measured, for a run that goes on."""
        return {"start": self.start, "last": self.last}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take what the run measured before it was stopped."""
        self.start, self.last = state_dict["start"], state_dict["last"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure the untrained network, with BatchNorm statistics of the images, for a fair comparison."""
        if self.start or not isinstance(pl_module, PretrainModule):
            return
        model = pl_module.model
        with _restoring(model), trainer.precision_plugin.forward_context():
            untrained = _Embedder(model)
            update_bn((_first_view(batch, pl_module.device) for batch in self.images), untrained)
            self.start = self.measure(untrained.eval(), pl_module.device)
        for logger in trainer.loggers:
            logger.log_metrics(self.start, step=0)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure the network, and log the result."""
        epoch = trainer.current_epoch + 1
        if not isinstance(pl_module, PretrainModule) or (epoch % self.every and epoch != trainer.max_epochs):
            return
        with trainer.precision_plugin.forward_context():
            self.last = self.measure(_Embedder(pl_module.model), pl_module.device)
        pl_module.log_dict(self.last)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say so if the run ends no better than it began."""
        for name, value in self.last.items():
            if name in self.start and value <= self.start[name] < 1 and trainer.is_global_zero:
                warn_user(
                    f"{name.replace('_', ' ')} on {self.count} images: {value:.1%} after the training, "
                    f"{self.start[name]:.1%} before it: this run has not made the features better. Train for longer, "
                    "or with another learning rate or batch size; look at spread and effective_rank for a collapse"
                )


class OnlineEvaluation(_Measured):
    """Measure accuracy on labelled images: before the training, after every few epochs, and at the end.

    It logs `knn_accuracy` and, if asked, `linear_accuracy`. The untrained network gets BatchNorm statistics of the
    images first. If the training ends at or below it, a warning says so. Every process measures the same.

    Args:
        train: Batches of labelled images, as `lightly_aug.evaluate.features` takes them, from which is learnt.
        test: Batches of other labelled images.
        every: Measure after every so many epochs.
        k: Number of neighbours that vote.
        linear: Measure a linear classifier, too, which takes longer.
    """

    def __init__(
        self, train: Iterable[Any], test: Iterable[Any], *, every: int = 1, k: int = 20, linear: bool = False
    ) -> None:
        super().__init__(train, every)
        self.test = test
        self.k = k
        self.linear = linear

    def measure(self, embed: Embed, device: torch.device) -> dict[str, float]:
        """Return the accuracies of features by name, 0 to 1."""
        (x, y), (x_test, y_test) = features(embed, self.images, device), features(embed, self.test, device)
        if y is None or y_test is None:
            raise ValueError("OnlineEvaluation: batches must hold labels, got none: give labelled images")
        self.count = len(x_test)
        values = {"knn_accuracy": knn_accuracy(x, y, x_test, y_test, k=min(self.k, len(x)))}
        if self.linear:
            values["linear_accuracy"] = linear_accuracy(x, y, x_test, y_test)
        return values


class PairAccuracy(_Measured):
    """Measure how often the nearest view of a view is that of the same image, which needs no labels.

    It logs `pair_accuracy`, before the training, after every few epochs, and at the end. A network that has learnt
    invariances finds more pairs than an untrained one, whatever the method; if it does not, a warning says so.

    Args:
        pairs: Batches of two views of each image; the same ones every time.
        every: Measure after every so many epochs.
    """

    def __init__(self, pairs: Iterable[Any], *, every: int = 1) -> None:
        super().__init__(pairs, every)

    def measure(self, embed: Embed, device: torch.device) -> dict[str, float]:
        """Return the accuracy, 0 to 1."""
        x0, _ = features(embed, self.images, device, gather=False)
        x1, _ = features(embed, (list(views_of(batch))[1:] for batch in self.images), device, gather=False)
        self.count = len(x0)
        return {"pair_accuracy": pair_accuracy(x0, x1)}


def pair_accuracy(x0: Tensor, x1: Tensor) -> float:
    """Return the share of rows of `x0` whose nearest row of `x1`, by cosine similarity, has the same number.

    Args:
        x0: Features of one view of each image, `(n, d)`.
        x1: Features of another, `(n, d)`.

    Example:
        >>> pair_accuracy(torch.eye(3), torch.eye(3)[[0, 2, 1]])
        0.3333333432674408
    """
    similarity = functional.normalize(x0, dim=1) @ functional.normalize(x1, dim=1).T
    return float((similarity.argmax(1) == torch.arange(len(x0), device=x0.device)).float().mean())


class Pictures(Callback):
    """Draw the views at the beginning, and the features by t-SNE after chosen epochs and at the end.

    Pictures are written to a folder, and given to loggers that take them, such as those of TensorBoard, W&B and MLflow.

    Args:
        folder: Folder to write to.
        images: Some samples of the training, to draw the views of.
        collate: The collate function of the training.
        labelled: Batches of labelled images to embed; none for views only.
        classes: Names of the labels.
        every: Draw the features after every so many epochs.
    """

    def __init__(
        self,
        folder: Path,
        images: Sequence[Any],
        collate: BaseCollateFunction,
        *,
        labelled: Iterable[Any] = (),
        classes: Sequence[str] = (),
        every: int = 10,
    ) -> None:
        self.folder = folder
        self.images = images
        self.collate = collate
        self.labelled = labelled
        self.classes = classes
        self.every = every

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the views."""
        if trainer.is_global_zero and trainer.global_step == 0 and self.images:
            images = take_images(self.images, *self.collate._places[:1]).images
            self._save(trainer, "views", self.collate.show(images, title="views"))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the features."""
        epoch = trainer.current_epoch + 1
        if not self.classes or not isinstance(pl_module, PretrainModule):
            return
        if epoch % self.every and epoch != trainer.max_epochs:
            return
        with trainer.precision_plugin.forward_context():
            x, y = features(_Embedder(pl_module.model), self.labelled, pl_module.device)
        if trainer.is_global_zero and y is not None:
            self._save(trainer, f"embedding-{epoch}", embedding(x, y, self.classes, title=f"epoch {epoch}"))

    def _save(self, trainer: Trainer, name: str, figure: Any) -> None:
        file = self.folder / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(file, dpi=110)
        for logger in trainer.loggers:
            experiment: Any = getattr(logger, "experiment", None)
            if hasattr(logger, "log_image"):
                logger.log_image(name, [str(file)], step=trainer.global_step)
            elif hasattr(experiment, "add_figure"):
                experiment.add_figure(name, figure, trainer.global_step)
            elif hasattr(experiment, "log_artifact"):
                experiment.log_artifact(logger.run_id, str(file), "pictures")  # type: ignore[attr-defined]


class _Embedder(nn.Module):
    """The features of a method, of images that come in float32 whatever the precision of the training."""

    def __init__(self, model: SSLModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        dtype = next((p.dtype for p in self.model.parameters()), images.dtype)
        return self.model.embed(images.to(dtype))


@contextmanager
def _restoring(model: SSLModel) -> Iterator[None]:
    """Put back the modes of all parts and the buffers of the backbone; FSDP2 allows no copy of a model."""
    modes = {part: part.training for part in model.modules()}
    buffers = [(buffer, buffer.clone()) for buffer in model.backbone.buffers()]
    try:
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode
        for buffer, before in buffers:
            buffer.copy_(before)


def _first_view(batch: Any, device: torch.device) -> Tensor:
    views = views_of(batch)
    return (views if isinstance(views, Tensor | list | tuple) else views.to(device))[0].to(device)
