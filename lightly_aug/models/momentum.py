"""The slowly following copy of a network."""

import math
from copy import deepcopy

import torch
from torch import Tensor, nn

__all__ = ["MomentumEncoder", "check_share", "cosine"]


def cosine(start: float, end: float, progress: float) -> float:
    """Half a cosine from `start` to `end`, as momentum follows it in BYOL, MoCo v3 and DINO.

    Args:
        start: The value at the beginning.
        end: The value at the end.
        progress: How much of the training is done, from 0 to 1.

    Example:
        >>> [cosine(0.99, 1.0, progress) for progress in (0, 0.5, 1)]
        [0.99, 0.995, 1.0]
    """
    return end - (end - start) * (1 + math.cos(math.pi * progress)) / 2


class MomentumEncoder(nn.Module):
    """A copy of a network whose parameters follow as an exponential moving average and receive no gradient.

    Parameters move in `update` alone. Buffers, such as the running statistics of BatchNorm, are never averaged:
    the copy has its own, which its own forward passes move while it is in training mode, as in the official code of
    MoCo, BYOL and DINO.

    Args:
        network: What to copy; it shares no memory with the copy.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = deepcopy(network).requires_grad_(False)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """What the copy makes of `x`, without gradient."""
        output: Tensor = self.network(x)
        return output

    @torch.no_grad()
    def update(self, network: nn.Module, momentum: float) -> None:
        """Move every parameter, biases and norms too: `θ' <- momentum * θ' + (1 - momentum) * θ`.

        Args:
            network: The network that is followed, with the same parameters by name and shape.
            momentum: From 0, take the parameters over, to 1, stay.

        Raises:
            ValueError: The parameters differ in name or shape, or `momentum` is out of range.
        """
        check_share(momentum=momentum)
        own, followed = dict(self.network.named_parameters()), dict(network.named_parameters())
        shapes, expected = ({name: tuple(p.shape) for name, p in ps.items()} for ps in (followed, own))
        if shapes != expected:
            differing = sorted(name for name, _ in shapes.items() ^ expected.items())
            raise ValueError(f"the networks differ in {differing[:4]}: follow the network that was copied")
        torch._foreach_lerp_(list(own.values()), [followed[name] for name in own], 1 - momentum)


def check_share(**values: float) -> None:
    """Refuse what is no share of one, by name."""
    for name, value in values.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{name} is {value}, it must lie in [0, 1]")
