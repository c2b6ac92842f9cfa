"""Modules of Kornia as operations."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import kornia.augmentation as K
import numpy as np
import torch
from torch import Tensor, nn

from lightly_aug.operations.base import Floats, Ints, Operation

__all__ = ["KorniaModule"]


@dataclass(frozen=True, repr=False)
class KorniaModule(Operation):
    """Any module of `kornia.augmentation` that keeps the size of the image.

    Kornia draws its random numbers when the view is rendered, from a seed that the first image of the batch draws.

    Args:
        module: The module.
    """

    module: nn.Module

    columns: ClassVar[tuple[str, ...]] = ("seed",)
    uniforms: ClassVar[int] = 1

    def __repr__(self) -> str:
        return repr(self.module)

    @property
    def moves_pixels(self) -> bool:
        """Whether some of it is geometric, so that no matrix is known before rendering."""
        rigid = K.RigidAffineAugmentationBase2D, K.MixAugmentationBaseV2
        flat = K.IntensityAugmentationBase2D
        return any(isinstance(m, rigid) and not isinstance(m, flat) for m in self.module.modules())

    def draw(self, u: Floats, height: Ints, width: Ints) -> Floats:
        return np.floor(u * 2**24)

    def apply(self, images: Tensor, drawn: Tensor) -> Tensor:
        remembered = [(module, dict(module.__dict__)) for module in self.module.modules()]
        with _seed(int(drawn[0, 0]), images.device):
            result = self.module(images)
        for module, attributes in remembered:  # Kornia keeps what it drew, which would travel with every batch
            module.__dict__.clear()
            module.__dict__.update(attributes)
        if not isinstance(result, Tensor) or result.shape != images.shape:
            came = tuple(result.shape) if isinstance(result, Tensor) else type(result).__name__
            raise ValueError(
                f"{self!r} made {came} from {tuple(images.shape)}; a Kornia module in a View must keep the size"
            )
        return result.contiguous()

    def matrix(self, height: Ints, width: Ints, drawn: Floats) -> Floats:
        if self.moves_pixels:
            raise ValueError(f"no matrix is known for {self!r}: Kornia draws it when the view is rendered")
        return super().matrix(height, width, drawn)


@contextmanager
def _seed(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's global generators, from which Kornia draws, and restore their states afterwards."""
    on_cuda = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if on_cuda else []):
        torch.default_generator.manual_seed(seed)
        if on_cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield
