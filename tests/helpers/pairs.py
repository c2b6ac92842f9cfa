"""Every loss as a function of two views (n, d), whose values are only moved and copied before they reach the loss."""

# mypy: warn-return-any=False
# The call of a module returns Any.

import math
from collections.abc import Callable

import torch
from torch import Tensor

from lightly_aug.loss import (
    AMDIMLoss,
    BarlowTwinsLoss,
    BYOLLoss,
    CPCLoss,
    DINOLoss,
    InfoNCELoss,
    NCELoss,
    NegativeCosineLoss,
    NTXentLoss,
    PAWSLoss,
    SwaVLoss,
)

Loss = Callable[..., Tensor]


def pair(n: int = 5, d: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Draw two views of n images in float64."""
    z0, z1 = torch.randn(2, n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return z0.clone().requires_grad_(), z1.clone().requires_grad_()


def same_with_gradients(value: Tensor, expected: Tensor, *inputs: Tensor) -> None:
    """Assert that values and the gradients of all inputs are equal to 1e-10."""
    torch.testing.assert_close(value, expected, rtol=0, atol=1e-10)
    gradients = torch.autograd.grad(value, inputs)
    torch.testing.assert_close(gradients, torch.autograd.grad(expected, inputs), rtol=1e-10, atol=1e-10)


def nt_xent(z0: Tensor, z1: Tensor, temperature: float = 0.1) -> Tensor:
    return NTXentLoss(temperature)(z0, z1)


def info_nce(z0: Tensor, z1: Tensor, temperature: float = 0.1) -> Tensor:
    return InfoNCELoss(temperature)(z0, z1)


def info_nce_with_bank(z0: Tensor, z1: Tensor, temperature: float = 0.1) -> Tensor:
    return InfoNCELoss(temperature)(z0, z1, constant_rows(z0), torch.arange(7, device=z0.device) < 4)


def info_nce_with_own(z0: Tensor, z1: Tensor, temperature: float = 0.1) -> Tensor:
    own = torch.stack([z0.roll(1, 1), z1.roll(2, 1)], 1)
    return InfoNCELoss(temperature)(z0, z1, own=own) + InfoNCELoss(temperature)(z0, z1, constant_rows(z0), own=own)


def negative_cosine(z0: Tensor, z1: Tensor, temperature: float = 0.1) -> Tensor:
    return NegativeCosineLoss()(z0, z1)


def byol(z0: Tensor, z1: Tensor, temperature: float = 0.1) -> Tensor:
    return BYOLLoss()(z0, z1)


def barlow_twins(z0: Tensor, z1: Tensor, temperature: float = 0.1) -> Tensor:
    return BarlowTwinsLoss()(z0, z1)


def swav(z0: Tensor, z1: Tensor, temperature: float = 0.1) -> Tensor:
    return SwaVLoss(temperature)([z0, z1, z0.roll(1, 1)])


def swav_with_queue(z0: Tensor, z1: Tensor, temperature: float = 0.1) -> Tensor:
    valid = [z0[:, 0] > 0, z1[:, 1] > 0]
    return SwaVLoss(temperature)([z0, z1], [z1.roll(1, 1), z0.roll(2, 1)], valid)


def dino(z0: Tensor, z1: Tensor, temperature: float = 0.1) -> Tensor:
    """The second call sees the centre of the first."""
    loss = DINOLoss(z0.shape[1], temperature, momentum=0.5).to(z0.device)
    return loss([z0, z1, z0.roll(1, 1)], [z1, z0]) + loss([z1, z0], [z0.roll(2, 1), z1.roll(1, 1)], 0.07)


def paws(z0: Tensor, z1: Tensor, temperature: float = 0.1) -> Tensor:
    anchors, targets = [z0, z1, z0.roll(1, 1)], [z1.roll(1, 1), z0.roll(2, 1)]
    labels = z1[:, :3].argmax(1)  # a label that moves with its row
    return PAWSLoss(3, temperature)(anchors, targets, z1.roll(2, 1), z0.roll(1, 1), labels)


def amdim(z0: Tensor, z1: Tensor, temperature: float = 0.1) -> Tensor:
    maps = [(z, roll_into_map(z, 2, 2), roll_into_map(z, 3, 2)) for z in (z0, z1)]
    places = torch.tensor([[1], [2]], device=z0.device).expand(2, len(z0))
    return AMDIMLoss(clip=3.0)(maps[0], maps[1], places)


def cpc(z0: Tensor, z1: Tensor, temperature: float = 0.1) -> Tensor:
    return CPCLoss()({k: roll_into_map(z0, 3, 2).roll(k, 1) for k in (1, 2)}, roll_into_map(z1, 3, 2))


def nce(z0: Tensor, z1: Tensor, temperature: float = 0.1) -> Tensor:
    return NCELoss(50, temperature).to(z0.device)(z0, z1, constant_rows(z0))


LOSSES: tuple[Loss, ...] = (
    *(nt_xent, info_nce, info_nce_with_bank, info_nce_with_own, negative_cosine, byol, barlow_twins),
    *(swav, swav_with_queue, dino, paws, amdim, cpc, nce),
)
NORMALISED: tuple[Loss, ...] = (
    *(nt_xent, info_nce, info_nce_with_bank, info_nce_with_own, negative_cosine, byol, nce, paws),
)


def constant_rows(z: Tensor) -> Tensor:
    """Return seven rows as wide as z, of whole numbers that every dtype holds exactly."""
    return ((torch.arange(7 * z.shape[1], device=z.device) * 5) % 11 - 5).view(7, -1).to(z.dtype)


def roll_into_map(z: Tensor, *size: int) -> Tensor:
    """Make a map (n, d, rows, columns) whose places hold z, rolled."""
    return torch.stack([z.roll(i, 1) for i in range(math.prod(size))], 2).view(*z.shape, *size)
