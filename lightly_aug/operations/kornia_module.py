"""Modules of Kornia as operations."""

from dataclasses import dataclass

import kornia.augmentation as K
from torch import Tensor, nn

from lightly_aug.operations.seeded import SeededOperation, fork_generators

__all__ = ["KorniaModule"]


@dataclass(frozen=True, repr=False)
class KorniaModule(SeededOperation):
    """Any module of `kornia.augmentation` that keeps the size of the image.

    Kornia draws its random numbers when the view is rendered, from a seed that the first image of the batch draws.

    Args:
        module: The module.
    """

    module: nn.Module

    def __repr__(self) -> str:
        return repr(self.module)

    @property
    def moves_pixels(self) -> bool:
        rigid = K.RigidAffineAugmentationBase2D, K.MixAugmentationBaseV2
        flat = K.IntensityAugmentationBase2D
        return any(isinstance(m, rigid) and not isinstance(m, flat) for m in self.module.modules())

    def apply(self, images: Tensor, drawn: Tensor) -> Tensor:
        remembered = [(module, dict(module.__dict__)) for module in self.module.modules()]
        with fork_generators(images.device) as seed:
            seed(int(drawn[0, 0]))
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
