"""Functions of others as operations: of single images, or of batches of images."""

import copy
import pickle
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightly_aug.operations.seeded import SeededOperation, fork_generators

__all__ = ["Batched", "PerImage"]


@dataclass(frozen=True)
class PerImage(SeededOperation):
    """Any function of one image that keeps its size, such as a transform of torchvision or Albumentations.

    The function gets a float tensor `(channels, height, width)` with values in [0, 1], unless they were normalised
    before, on the device that renders; it returns such a tensor. Pipelines and single transforms of Albumentations get
    and return a float32 array `(height, width, channels)` on the CPU instead.

    The global generators of torch, NumPy and `random` are seeded before each image, from the draws, and restored
    afterwards, and so are those of Albumentations. A function with a generator of its own is reproducible if it seeds
    it in each call, as in `np.random.default_rng(torch.initial_seed())`.

    Args:
        function: The function. It must be picklable, because it travels with the batches: a module, an object, or a
            function at the top level of a module.
        uint8: Whether the function gets and returns values from 0 to 255 in uint8, to which those of the view are
            rounded.
        moves_pixels: Whether pixels may move. False promises that they stay in place, and `Views.matrices` are then
            known.

    Raises:
        TypeError: The function cannot be called or pickled, or Albumentations is older than version 2.
        ValueError: A pipeline of Albumentations has a seed of its own.

    Example:
        >>> import torch
        >>> from torchvision.transforms import v2
        >>> from lightly_aug import MultiViewCollateFunction, Normalize, Shape, View
        >>> view = View(Shape(32), PerImage(v2.RandomErasing(p=1.0), moves_pixels=False), Normalize())
        >>> x0, x1 = MultiViewCollateFunction([view, view], seed=0)([torch.rand(3, 40, 40)])
        >>> x0.shape
        torch.Size([1, 3, 32, 32])
    """

    function: Callable[..., Any]
    uint8: bool = False
    moves_pixels: bool = True

    def __post_init__(self) -> None:
        _check_function(self, self.function)
        if _is_of_albumentations(self.function):
            _check_albumentations(self.function)

    @property
    def needs_unit_range(self) -> bool:
        return self.uint8

    def apply(self, images: Tensor, drawn: Tensor) -> Tensor:
        of_albumentations = _is_of_albumentations(self.function)
        function = copy.deepcopy(self.function) if of_albumentations else self.function  # whose generators are set
        inputs = _to_uint8(images) if self.uint8 else images.float() if of_albumentations else images
        results = []
        with fork_generators(images.device) as seed:
            for image, number in zip(inputs, drawn[:, 0].int().tolist(), strict=True):
                seed(number)
                if of_albumentations:
                    function.set_random_state(np.random.default_rng(number), random.Random(number))  # type: ignore[attr-defined]
                    result = _call_albumentations(function, image)
                else:
                    result = function(image.clone())
                results.append(_checked(self, result, image).to(images.device))
        return _to_floats(torch.stack(results), images.dtype)


@dataclass(frozen=True)
class Batched(SeededOperation):
    """Any function of a batch of images that keeps its size, such as a module that needs no `PerImage`.

    The function gets and returns a float tensor `(n, channels, height, width)` on the device that renders, with values
    as in `PerImage`. It draws for the whole batch, from the global generators, which are seeded as in `PerImage` by the
    draw of the first image. So what it draws depends on the batch, and transforms of torchvision, which draw once a
    call, do the same to all images of a batch: use it for functions that are not random, or draw for each image.

    Args:
        function: The function; picklable, as in `PerImage`.
        uint8: As in `PerImage`.
        moves_pixels: As in `PerImage`.

    Raises:
        TypeError: The function cannot be called or pickled, or is of Albumentations, which has none of batches.

    Example:
        >>> from torchvision.transforms import v2
        >>> from lightly_aug import Shape, View
        >>> view = View(Shape(32), Batched(v2.RandomPosterize(4, p=1.0), uint8=True, moves_pixels=False))
    """

    function: Callable[[Tensor], Any]
    uint8: bool = False
    moves_pixels: bool = True

    def __post_init__(self) -> None:
        _check_function(self, self.function)
        if _is_of_albumentations(self.function):
            raise TypeError("Batched: a transform of Albumentations takes one image, use PerImage")

    @property
    def needs_unit_range(self) -> bool:
        return self.uint8

    def apply(self, images: Tensor, drawn: Tensor) -> Tensor:
        inputs = _to_uint8(images) if self.uint8 else images
        with fork_generators(images.device) as seed:
            seed(int(drawn[0, 0]))
            result = self.function(inputs.clone())
        return _to_floats(_checked(self, result, inputs).to(images.device), images.dtype)


def _check_function(owner: PerImage | Batched, function: object) -> None:
    name = type(owner).__name__
    if not callable(function):
        raise TypeError(f"{name}: function must be callable, got {function!r}")
    try:
        pickle.dumps(function)
    except Exception as error:  # pickle raises many kinds
        raise TypeError(
            f"{name}: function must be picklable, to travel from workers with the batches: {function!r} is not "
            f"({error}); define it at the top level of a module"
        ) from error


def _is_of_albumentations(function: object) -> bool:
    return any(kind.__module__.split(".")[0] == "albumentations" for kind in type(function).__mro__)


def _check_albumentations(function: object) -> None:
    if not hasattr(function, "set_random_state"):
        raise TypeError(f"PerImage: {function!r} is of a version of Albumentations before 2, which has no seed")
    if _has_seed(function):
        raise ValueError(
            "PerImage: function must not have a seed of its own, leave seed= out of the pipeline: it draws from the "
            f"seed of the collate function, got {function!r}"
        )


def _has_seed(function: object) -> bool:
    """Whether a pipeline, or one within it, has a seed, which can replace what was set from the draws."""
    return getattr(function, "seed", None) is not None or any(map(_has_seed, getattr(function, "transforms", ())))


def _call_albumentations(function: Callable[..., Any], image: Tensor) -> Any:
    result = function(image=image.permute(1, 2, 0).cpu().numpy().copy())["image"]
    if isinstance(result, np.ndarray) and result.ndim == 3:
        return torch.from_numpy(result).permute(2, 0, 1)
    return result


def _to_uint8(images: Tensor) -> Tensor:
    return (images * 255).round().clamp(0, 255).to(torch.uint8)


def _to_floats(images: Tensor, dtype: torch.dtype) -> Tensor:
    return images.to(dtype) / 255 if images.dtype == torch.uint8 else images.to(dtype)


def _checked(operation: PerImage | Batched, result: Any, given: Tensor) -> Tensor:
    """Return the result of a function, if it has the shape and dtype of what it was given."""
    if isinstance(result, Tensor) and (result.shape, result.dtype) == (given.shape, given.dtype):
        return result
    kind = f"{result.dtype} {tuple(result.shape)}" if isinstance(result, Tensor | np.ndarray) else type(result).__name__
    raise ValueError(
        f"{operation!r} made {kind} of {given.dtype} {tuple(given.shape)}: a function in a View must keep size, "
        "channels and dtype"
    )
