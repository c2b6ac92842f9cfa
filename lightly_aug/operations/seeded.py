"""Operations that run the code of others, which draws its random numbers itself, from a seed that was drawn for it."""

import random
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ClassVar

import numpy as np
import torch

from lightly_aug.operations.base import Floats, Ints, Operation

__all__ = ["SeededOperation", "fork_generators"]


class SeededOperation(Operation):
    """An operation that knows only a seed before it is applied; the base of those that run code of others."""

    columns: ClassVar[tuple[str, ...]] = ("seed",)
    uniforms: ClassVar[int] = 1

    @property
    @abstractmethod
    def moves_pixels(self) -> bool:
        """Whether it may move pixels, so that no matrix is known before rendering."""

    def draw(self, u: Floats, height: Ints, width: Ints) -> Floats:
        return np.floor(u * 2**24)

    def matrix(self, height: Ints, width: Ints, drawn: Floats) -> Floats:
        if self.moves_pixels:
            raise ValueError(
                f"{type(self).__name__}: matrix must be known before the view is rendered, {self!r} draws only then: "
                "take it out of the view, or, if a function leaves all pixels in place, pass moves_pixels=False"
            )
        return super().matrix(height, width, drawn)


@contextmanager
def fork_generators(device: torch.device) -> Iterator[Callable[[int], None]]:
    """Yield a function that seeds the global generators of torch, NumPy and `random`; restore their states afterwards.

    Args:
        device: The device whose generator counts, too, if it is a CUDA device.
    """
    on_cuda = device.type == "cuda"

    def seed(number: int) -> None:
        torch.default_generator.manual_seed(number)
        np.random.seed(number)  # noqa: NPY002
        random.seed(number)
        if on_cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(number)

    theirs, standard = np.random.get_state(), random.getstate()  # noqa: NPY002
    try:
        with torch.random.fork_rng(devices=[device] if on_cuda else []):
            yield seed
    finally:
        np.random.set_state(theirs)  # noqa: NPY002
        random.setstate(standard)
