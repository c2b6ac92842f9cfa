"""The slowly following copy of a network."""

from copy import deepcopy

import torch
from torch import Tensor, nn

__all__ = ["MomentumEncoder"]


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
        if not 0 <= momentum <= 1:
            raise ValueError(f"momentum is {momentum}, it must lie in [0, 1]")
        own, followed = dict(self.network.named_parameters()), dict(network.named_parameters())
        shapes, expected = ({name: tuple(p.shape) for name, p in ps.items()} for ps in (followed, own))
        if shapes != expected:
            differing = sorted(name for name, _ in shapes.items() ^ expected.items())
            raise ValueError(f"the networks differ in {differing[:4]}: follow the network that was copied")
        torch._foreach_lerp_(list(own.values()), [followed[name] for name in own], 1 - momentum)
