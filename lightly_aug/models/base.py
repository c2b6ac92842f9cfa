"""The interface between methods and the code that trains and evaluates them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from lightly_aug.models._fsdp import call_as_forward, is_sharded
from lightly_aug.models.backbones import check_features, image_size
from lightly_aug.user_warning import warn_user

__all__ = ["SSLModel", "embed_views", "several_views", "two_views"]

ROUNDING = 1e-6  # how far a sum of shares, such as 1 / steps added up, may leave [0, 1]


class SSLModel(nn.Module, ABC):
    """A self-supervised method: views in, training loss out.

    What follows the trained parameters, such as a momentum encoder, moves by itself after each step of an optimiser of
    `torch.optim`, or of a subclass, that holds parameters of the model. Schedules need `after_step`. A subclass
    overrides `follow` for the first, and reads `progress` for the second.

    Attributes:
        backbone: The network to train; maps images `(n, c, h, w)` to features `(n, d)` or `(n, d, 1, 1)`.
        progress: Share of the training that is done, from 0 to 1; part of the `state_dict`.
        scheduled: The arguments that depend on `progress`, for a warning if nobody sets it; empty for none.
        waits: Whether `follow` needs the progress after the step, and so waits for `after_step` where that is called.
    """

    backbone: nn.Module
    progress: float = 0.0
    scheduled: str = ""
    waits: bool = False

    _watched = False  # an optimiser has stepped
    _stepped = False  # and `follow` waits for `after_step`
    _informed = False  # `after_step` was called, or its absence was warned of
    _told = True  # `after_step` was called since the last step; there was none at first

    def __init__(self) -> None:
        super().__init__()
        _STEPPED[self] = WeakSet()

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        _STEPPED[self] = WeakSet()

    @abstractmethod
    def forward(self, views: Sequence[Tensor], *, targets: Tensor | None = None, index: Tensor | None = None) -> Tensor:
        """Compute the training loss; update state such as queues in training mode only.

        Args:
            views: The views of a batch, each `(n, c, h, w)`.
            targets: Labels `(n,)`, -1 for images without one, for methods that use labels.
            index: Places of the images in the dataset `(n,)`, for methods that remember every image.

        Returns:
            The loss, a scalar.
        """

    def embed(self, images: Tensor) -> Tensor:
        """Compute features for downstream use, without the head: `(n, c, h, w) -> (n, d)`."""
        if is_sharded(self):
            return call_as_forward(self, "_run_backbone", images)
        return self._run_backbone(images)

    def _run_backbone(self, images: Tensor) -> Tensor:
        try:
            features = self.backbone(images)
        except (AssertionError, RuntimeError, ValueError) as error:
            _note_size(error, self.backbone, images)
            raise
        check_features(type(self).__name__, features, images)
        flat: Tensor = features.flatten(1)
        return flat

    def follow(self, before: float) -> None:
        """Move what follows the trained parameters; a subclass overrides it. It is called once for each optimiser step.

        Args:
            before: The progress before that step; `self.progress` is the progress after it, where somebody sets it.
        """

    def after_step(self, progress: float) -> None:
        """Set the progress of the training, for schedules; call it after each optimiser step.

        Nothing happens in eval mode. With optimisers that are not of `torch.optim`, such as a loop of your own, each
        call also counts as one step.

        Args:
            progress: Share of the training that is done, from 0 to 1. A rounding error of up to 1e-6 outside that
                range is clamped.

        Raises:
            ValueError: `progress` is out of range, for example a number of steps.
        """
        if not -ROUNDING <= progress <= 1 + ROUNDING:
            raise ValueError(
                f"{type(self).__name__}: progress must lie in [0, 1], got {progress}: "
                "give the share of the training that is done"
            )
        if not self.training:
            return
        before, self.progress = self.progress, min(max(progress, 0.0), 1.0)
        self._informed = self._told = True
        _STEPPED[self].clear()
        if self._stepped or not self._watched:
            self._stepped = False
            self.follow(before)

    def _after_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Follow a step. Several optimisers that step in turn make one step together."""
        stepped = _STEPPED[self]
        if optimizer in stepped:
            stepped.clear()
            self._warn_of_schedules()
        first = not stepped
        stepped.add(optimizer)
        if not first:
            return
        self._watched = True
        if self._stepped or not (self.waits and self._told):
            self.follow(self.progress)
        self._stepped = self.waits and self._told
        self._told = False

    def _warn_of_schedules(self) -> None:
        if self.scheduled and not self._informed:
            self._informed = True
            warn_user(
                f"{type(self).__name__}: {self.scheduled} stays at its beginning, as nobody sets the progress of the "
                "training: write model.after_step(done / total) after each optimizer.step()"
            )

    def freeze(self) -> None:
        """Prepare for using the features: switch to eval mode, and turn off the gradients of all parameters."""
        self.requires_grad_(False).eval()

    def get_extra_state(self) -> Tensor:
        """Return the progress, so that a resumed run continues its schedules."""
        return torch.tensor(self.progress, dtype=torch.float64)

    def set_extra_state(self, state: Tensor) -> None:
        """Set the progress to that of a saved run."""
        self.progress = float(state)


_STEPPED: WeakKeyDictionary[SSLModel, WeakSet[torch.optim.Optimizer]] = WeakKeyDictionary()
"""The optimisers that have stepped since the last common step, for each model."""


def _after_optimizer_step(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    for model in list(_STEPPED):
        if model.training and any(id(p) in held for p in model.parameters()):
            model._after_optimizer_step(optimizer)


register_optimizer_step_post_hook(_after_optimizer_step)


def two_views(method: SSLModel, views: Sequence[Tensor], images: int = 1) -> tuple[Tensor, Tensor]:
    """Check and return the views of a method that takes two.

    Args:
        method: The method, for error messages.
        views: Two tensors `(n, c, h, w)`.
        images: Smallest n that BatchNorm in the heads can handle.

    Raises:
        ValueError: The views are not two tensors of one shape, or have fewer than `images` rows.
    """
    owner, views = type(method).__name__, list(views)  # a `Views` renders whenever it is read
    came = [tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__ for x in views]
    if len(came) != 2 or came[0] != came[1] or isinstance(came[0], str):
        raise ValueError(f"{owner}: views must be two of one shape, got {_list_views(came)}")
    _check_device(method, views)
    x0, x1 = views
    if len(x0) < images:
        raise ValueError(
            f"{owner}: views must have at least {images} images in training, for BatchNorm in the heads, got {len(x0)}"
        )
    return x0, x1


def several_views(
    method: SSLModel, views: Sequence[Tensor], count: int | None = None, same_shape: int = 1
) -> list[Tensor]:
    """Check and return the views of a method that takes more than two.

    Args:
        method: The method, for error messages.
        views: Tensors `(n, c, h, w)`, of one n.
        count: Required number of views; None for any number from `same_shape`.
        same_shape: Number of leading views that must have one shape.

    Raises:
        ValueError: The number of views is wrong, or n or the shapes differ, or n is 0.
    """
    owner, views = type(method).__name__, list(views)  # a `Views` renders whenever it is read
    came = [tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__ for x in views]
    number = f"{count}" if count else f"at least {same_shape}"
    if len(came) != count if count else len(came) < same_shape:
        raise ValueError(f"{owner}: views must be {number}, got {_list_views(came)}")
    if any(isinstance(shape, str) or shape[0] != came[0][0] for shape in came) or len(set(came[:same_shape])) > 1:
        asked = f"{number} of the same images" + f", the first {same_shape} of one shape" * (same_shape > 1)
        raise ValueError(f"{owner}: views must be {asked}, got {_list_views(came)}")
    if views and len(views[0]) == 0:
        raise ValueError(f"{owner}: views must have at least one image, got {_list_views(came)}")
    _check_device(method, views)
    return views


def embed_views(embed: Callable[[Tensor], Tensor], views: Sequence[Tensor]) -> Tensor:
    """Embed all views, with one pass, and so one batch for BatchNorm, per run of views of one size.

    Args:
        embed: Maps `(m, c, h, w)` to `(m, d)`.
        views: Tensors `(n, c, h, w)`, v of them; the sizes may differ.

    Returns:
        The features of all views in order, `(v * n, d)`.
    """
    sizes = groupby(views, key=lambda x: x.shape[1:])
    return torch.cat([embed(torch.cat(list(group))) for _, group in sizes])


def _note_size(error: Exception, backbone: nn.Module, images: Tensor) -> None:
    """Add to an error of the backbone that the images have another size than the backbone was built for."""
    built_for, size = image_size(backbone), images.shape[-2:]
    if built_for not in (None, tuple(size)) and not isinstance(error, torch.OutOfMemoryError):
        wanted, came = ("x".join(map(str, sides)) for sides in (built_for, size))
        error.add_note(
            f"The backbone was built for images of {wanted} pixels, and got {came}. Make views of that size, or build "
            "it for these: of timm with img_size=..., or for any size by lightly_aug.models.vit; of Hugging Face for "
            "any size by pooled(network, interpolate_pos_encoding=True)"
        )


def _check_device(method: SSLModel, views: Sequence[Tensor]) -> None:
    """Refuse views that were left where the loader made them, as by trainers that move tensors only."""
    device = next((p.device for p in method.parameters()), views[0].device)
    if views[0].device != device:
        raise ValueError(
            f"{type(method).__name__}: views must be on {device}, as the model, got {views[0].device}: render them "
            f'there, with views.to("{device}")'
        )


def _list_views(came: Sequence[object]) -> str:
    shown = ", ".join(map(str, came[:4])) + (", ..." if len(came) > 4 else "")
    return f"{len(came)}: {shown or 'nothing'}"
