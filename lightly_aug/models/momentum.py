"""A copy of a network that tracks it as an exponential moving average."""

import math
from copy import deepcopy

import torch
from torch import Tensor, nn

from lightly_aug.checks import check_share
from lightly_aug.user_warning import warn_user

__all__ = ["MomentumEncoder", "cosine"]


def cosine(start: float, end: float, progress: float) -> float:
    """Compute a half-cosine schedule from `start` to `end`, the momentum schedule of BYOL, MoCo v3 and DINO.

    Args:
        start: Value at the beginning.
        end: Value at the end.
        progress: Share of the training that is done, from 0 to 1.

    Example:
        >>> [cosine(0.99, 1.0, progress) for progress in (0, 0.5, 1)]
        [0.99, 0.995, 1.0]
    """
    return end - (end - start) * (1 + math.cos(math.pi * progress)) / 2


_WRAPPERS = frozenset({"_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module", "module"})
"""Names under which `torch.compile`, checkpoint wrappers, FSDP and DDP keep the module that they wrap."""


def _parameters(network: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters by the names that they have without wrappers."""
    named = network.named_parameters()
    return {".".join(part for part in name.split(".") if part not in _WRAPPERS): p for name, p in named}


class MomentumEncoder(nn.Module):
    """A copy of a network that tracks its parameters as an exponential moving average and receives no gradient.

    Parameters change only in `update`. Buffers, such as the running statistics of BatchNorm, are never averaged: the
    copy updates its own in its forward passes in training mode, as in the official code of MoCo, BYOL and DINO.

    The average has the dtype of the network. In half precision most updates are too small to change it, of which a
    warning tells: train in float32 with `torch.autocast` instead.

    Args:
        network: The network to copy; it shares no memory with the copy.
    """

    _warned = False

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = deepcopy(network).requires_grad_(False)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Compute the copy's output without gradient."""
        return self.network(x)

    @torch.no_grad()
    def update(self, network: nn.Module, momentum: float) -> None:
        """Average every parameter, including biases and norms: `θ' <- momentum * θ' + (1 - momentum) * θ`.

        Args:
            network: The network to track, with the same parameters by name and shape. It may have been compiled or
                wrapped since it was copied, or parts of it.
            momentum: Momentum, from 0 (copy the parameters) to 1 (keep the old ones).

        Raises:
            ValueError: The parameters differ in name or shape, or `momentum` is out of range.
        """
        check_share(self, momentum=momentum)
        own, online = _parameters(self.network), _parameters(network)
        shapes, expected = ({name: tuple(p.shape) for name, p in ps.items()} for ps in (online, own))
        if shapes != expected:
            differing = sorted(name for name, _ in shapes.items() ^ expected.items())
            raise ValueError(
                "MomentumEncoder: network must have the parameters of the network that was copied, "
                f"got others in {differing[:4]}: change the network before the model copies it"
            )
        self._warn_of_rounding({p.dtype for p in own.values()}, 1 - momentum)
        torch._foreach_lerp_(list(own.values()), [online[name] for name in own], 1 - momentum)

    def _warn_of_rounding(self, dtypes: set[torch.dtype], share: float) -> None:
        """Warn once if a parameter that is off by a tenth would move by less than the distance to the next number."""
        lossy = [dtype for dtype in dtypes if 0 < share / 10 < torch.finfo(dtype).eps and dtype.itemsize < 4]
        if lossy and not self._warned:
            self._warned = True
            warn_user(
                f"MomentumEncoder: parameters should be torch.float32, got {lossy[0]}, in which an average with "
                f"momentum {1 - share:.6g} loses most of its updates to rounding: keep the model in float32 and use "
                "torch.autocast"
            )
