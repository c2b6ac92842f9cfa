"""The reference engine: operation by operation, by `Operation.apply`, on any device.

Images of different sizes go one by one until an operation makes them equal; from there on the batch goes as one,
and every operation computes only the images for which it was drawn.
"""

from contextlib import nullcontext

import torch
from torch import Tensor

from lightly_aug.images import PackedImages
from lightly_aug.operations import Operation, walk
from lightly_aug.operations.base import check_draws, to_unit

__all__ = ["render"]


def render(images: PackedImages, drawn: Tensor, operations: tuple[Operation, ...], dtype: torch.dtype) -> Tensor:
    """Render one view of every image, in float32, or in float64 if that is asked for.

    Args:
        images: The images, on the device to render on.
        drawn: `(n, columns)` float32 on the CPU, the draws of these operations.
        operations: What to do.
        dtype: Floating dtype of the result.

    Returns:
        `(n, channels, height, width)` in `dtype`.

    Raises:
        ValueError: An operation returned anything but images of the announced shape, draws are not finite, or a box is
            not inside its image.
    """
    check_draws(operations, drawn.double().numpy(), len(images))
    kind = images.pixels.device.type
    no_autocast = torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext()
    with torch.no_grad(), no_autocast:  # views do not depend on the modes in which they are rendered
        return _render(images, drawn, operations, torch.promote_types(dtype, torch.float32)).to(dtype)


def _render(images: PackedImages, drawn: Tensor, operations: tuple[Operation, ...], precision: torch.dtype) -> Tensor:
    drawn = drawn.to(precision)
    if images.pixels.is_cuda:
        drawn = drawn.pin_memory()
    height, width = images.shapes[:, 1].numpy(), images.shapes[:, 2].numpy()
    x: Tensor | list[Tensor] = [_take(images, i) for i in range(len(images))]
    for operation, own in walk(operations, drawn):
        if not operation.takes_uint8:
            x = [to_unit(image, precision) for image in x] if isinstance(x, list) else to_unit(x, precision)
        if isinstance(x, list) and len({(image.shape, image.dtype) for image in x}) == 1:
            x = torch.cat(x)
        height, width = operation.output_size(height, width, own.double().numpy())
        if isinstance(x, Tensor) and ((height != height[0]) | (width != width[0])).any():
            x = [image[None] for image in x]
        shapes = [(images.channels, *size) for size in zip(height.tolist(), width.tolist(), strict=True)]
        if isinstance(x, list):
            x = [_apply(operation, image, own[i : i + 1], shapes[i]) for i, image in enumerate(x)]
        else:
            x = _apply(operation, x, own, shapes[0])
    return torch.cat([to_unit(image, precision) for image in x]) if isinstance(x, list) else to_unit(x, precision)


def _take(images: PackedImages, i: int) -> Tensor:
    """Return image i, `(1, c, h, w)`, as uint8 if it has 8 bits, also where it is stored as floats beside others."""
    image = images[i][None]
    return (image * 255).round().to(torch.uint8) if images.raw[i] and image.is_floating_point() else image


def _apply(operation: Operation, x: Tensor, drawn: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Apply one operation to `(n, c, h, w)`, with its draws `(n, columns)` on the CPU; the result has this shape."""
    result = operation.apply(x, drawn)
    if not isinstance(result, Tensor) or result.shape != (len(x), *shape):
        came = tuple(result.shape) if isinstance(result, Tensor) else type(result).__name__
        raise ValueError(
            f"{operation!r} made {came} of images {tuple(x.shape)}, {(len(x), *shape)} were expected: an operation "
            "keeps the channels, and overrides output_size and matrix if it changes the size"
        )
    return result
