"""The truth: Kornia's functional layer and torch's antialiased resize, operation by operation, on any device.

Images of different sizes go one by one until an operation makes them equal; from there on the batch goes as one,
and every operation computes only the images that drew it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial

import kornia
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from lightly_aug.operations import (
    JITTER_ORDERS,
    Border,
    ColorJitter,
    Convention,
    Ints,
    KorniaModule,
    Normalize,
    Operation,
    RandomEqualize,
    RandomGaussianBlur,
    RandomGrayscale,
    RandomHorizontalFlip,
    RandomResizedCrop,
    RandomRotation,
    RandomRotation90,
    RandomSolarize,
    RandomVerticalFlip,
    Resize,
    Window,
)

__all__ = ["render"]


def render(
    pixels: Tensor, shapes: Tensor, channels: int, drawn: Tensor, operations: tuple[Operation, ...], dtype: torch.dtype
) -> Tensor:
    """Render one view of every image: (n, channels, height, width) in `dtype`; computed in float32, or float64.

    Args:
        pixels: 1-D buffer of images, uint8 or float32, on the device to render on.
        shapes: (n, 3) int64 on the CPU: offset, height and width of each image.
        channels: the number of channels.
        drawn: (n, columns) float32 on the CPU.
        operations: what to do.
        dtype: floating dtype of the result.
    """
    kind = pixels.device.type
    plain = torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext()
    with torch.no_grad(), plain:  # wherever it is called, the views are the same
        return _rendered(pixels, shapes, channels, drawn, operations, dtype)


def _rendered(
    pixels: Tensor, shapes: Tensor, channels: int, drawn: Tensor, operations: tuple[Operation, ...], dtype: torch.dtype
) -> Tensor:
    precision = torch.promote_types(dtype, torch.float32)
    x: Tensor | list[Tensor] = [
        pixels[offset : offset + h * w * channels].view(1, h, w, channels).permute(0, 3, 1, 2)
        for offset, h, w in shapes.tolist()
    ]
    used = 0
    for operation in operations:
        own = drawn[:, used : used + len(operation.columns)].to(precision)
        used += len(operation.columns)
        if isinstance(x, list) and len({image.shape for image in x}) == 1:
            x = torch.cat(x)
        if isinstance(x, Tensor) and isinstance(operation, RandomRotation90) and x.shape[-1] != x.shape[-2]:
            x = [image[None] for image in x]  # some will be turned on their side
        if isinstance(x, list):
            x = [_apply(operation, image, own[i : i + 1], precision) for i, image in enumerate(x)]
        else:
            x = _apply(operation, x, own, precision)
    x = torch.cat(x) if isinstance(x, list) else x
    return _unit(x, precision).to(dtype)


def _unit(x: Tensor, precision: torch.dtype) -> Tensor:
    return x.to(precision) / 255 if x.dtype == torch.uint8 else x.to(precision)


def _apply(operation: Operation, x: Tensor, drawn: Tensor, precision: torch.dtype) -> Tensor:
    """One operation on (n, c, h, w), with (n, columns) numbers that lie on the CPU."""
    if isinstance(operation, RandomResizedCrop):  # cuts before it converts
        return _resized_crops(operation, x, drawn, precision)
    if isinstance(operation, Resize):
        h, w = operation.output_size(*_sides(x), drawn.numpy())
        return _resized(operation, x, (int(h[0]), int(w[0])), precision)
    match operation:  # what only moves pixels leaves them as they are
        case RandomHorizontalFlip():
            return _where(drawn[:, 0] > 0, x, lambda some, _: kornia.geometry.hflip(some))
        case RandomVerticalFlip():
            return _where(drawn[:, 0] > 0, x, lambda some, _: kornia.geometry.vflip(some))
        case RandomRotation90():
            return _turned(x, drawn[:, 0])
        case Window():
            return _cut(operation, x, drawn)
    x = _unit(x, precision)
    match operation:
        case RandomRotation():
            return _where(drawn[:, 0] != 0, x, _rotated, drawn)
        case ColorJitter():
            return _jittered(x, drawn, operation.convention)
        case RandomGrayscale():
            return x if x.shape[1] == 1 else _where(drawn[:, 0] > 0, x, _grayscaled)
        case RandomSolarize():
            return _where(drawn[:, 0] > 0, x, lambda some, own: kornia.enhance.solarize(some, own[:, 1]), drawn)
        case RandomEqualize():
            return _where(drawn[:, 0] > 0, x, _equalized)
        case RandomGaussianBlur():
            return _blurred(x, drawn[:, 0], operation.border)
        case Normalize():
            mean, std = (_moved(torch.tensor(v, dtype=precision), x) for v in (operation.mean, operation.std))
            return kornia.enhance.normalize(x, mean, std)
        case KorniaModule():
            return _kornia(operation, x, int(drawn[0, 0]))
        case _:
            raise TypeError(f"the reference engine does not know {operation!r}")


def _where(mask: Tensor, x: Tensor, change: Callable[[Tensor, Tensor], Tensor], drawn: Tensor | None = None) -> Tensor:
    """Change only the images that `mask`, which lies on the CPU, picks; `drawn` comes along to the device.

    A batch that is changed in part is changed in place: it was made here, by putting images together.
    """
    drawn = mask[:, None] if drawn is None else drawn
    if not mask.any():
        return x
    if mask.all():
        return change(x, _moved(drawn, x))
    rows = mask.nonzero()[:, 0]
    picked = _moved(rows, x)
    x[picked] = change(x[picked], _moved(drawn[rows], x))
    return x


def _moved(small: Tensor, like: Tensor) -> Tensor:
    """To the device without a wait: only pinned memory can be copied so."""
    if like.device.type == "cuda":
        small = small.pin_memory()
    return small.to(like.device, non_blocking=True)


def _resized_crops(operation: RandomResizedCrop, x: Tensor, drawn: Tensor, precision: torch.dtype) -> Tensor:
    assert isinstance(operation.size, tuple)
    boxes = drawn.long().tolist()
    crops = (image[None, :, top : top + h, left : left + w] for image, (top, left, h, w) in zip(x, boxes, strict=True))
    return torch.cat([_resized(operation, crop, operation.size, precision) for crop in crops])


def _resized(operation: RandomResizedCrop | Resize, x: Tensor, size: tuple[int, int], precision: torch.dtype) -> Tensor:
    clamps = x.dtype == torch.uint8 and operation.interpolation == "bicubic"  # a uint8 image cannot overshoot
    x = _unit(x, precision)
    if x.shape[-2:] == size:
        return x
    resize = partial(interpolate, mode=operation.interpolation, align_corners=False, antialias=operation.antialias)
    # to a single column, torch's antialiased resize on the CPU can repeat the first row; to a single row it is right
    x = resize(x.mT, size[::-1]).mT if size[1] == 1 else resize(x, size)
    return x.clamp(0, 1) if clamps else x


def _sides(x: Tensor) -> tuple[Ints, Ints]:
    return np.array(x.shape[-2:-1]), np.array(x.shape[-1:])


def _turned(x: Tensor, turns: Tensor) -> Tensor:
    if x.shape[-1] != x.shape[-2]:  # alone, before the sizes are made equal
        return torch.rot90(x, int(turns[0]), (-2, -1))
    for k in (1, 2, 3):
        x = _where(turns == k, x, lambda some, _, k=k: torch.rot90(some, k, (-2, -1)))  # type: ignore[misc]
    return x


def _rotated(x: Tensor, degrees: Tensor) -> Tensor:
    if 1 in x.shape[-2:]:  # where Kornia's normalised coordinates divide by zero; zeros lie around it anyway
        return kornia.geometry.rotate(torch.nn.functional.pad(x, (1, 1, 1, 1)), degrees[:, 0])[..., 1:-1, 1:-1]
    return kornia.geometry.rotate(x, degrees[:, 0])


def _cut(operation: Window, x: Tensor, drawn: Tensor) -> Tensor:
    assert isinstance(operation.size, tuple)
    h, w = operation.size
    cut = x.new_zeros((*x.shape[:2], h, w))
    height, width = (side.repeat(len(x)) for side in _sides(x))
    tops, lefts = operation.offset(height, width, drawn.numpy())
    for image, window, top, left in zip(x, cut, tops.tolist(), lefts.tolist(), strict=True):
        part = image[:, max(0, top) : max(0, top + h), max(0, left) : max(0, left + w)]
        up, along = max(0, -top), max(0, -left)
        window[:, up : up + part.shape[-2], along : along + part.shape[-1]] = part
    return cut


def _grayscaled(x: Tensor, _: Tensor) -> Tensor:
    return kornia.color.rgb_to_grayscale(x).repeat(1, 3, 1, 1)


def _equalized(x: Tensor, _: Tensor) -> Tensor:
    """As Pillow: level v becomes the number of pixels below it, in steps that take all but the last level to 255."""
    levels = (x.clamp(0, 1) * 255).round().long().flatten(2)
    counts = torch.zeros((*levels.shape[:2], 256), dtype=torch.long, device=x.device)
    counts.scatter_add_(-1, levels, torch.ones_like(levels))
    step = (levels.shape[-1] - counts.gather(-1, levels.amax(-1, keepdim=True))) // 255
    below = counts.cumsum(-1) - counts
    table = ((below + step // 2) // step.clamp(min=1)).clamp(max=255)
    equal = table.gather(-1, levels).view_as(x).to(x.dtype) / 255
    return torch.where(step[..., None] > 0, equal, x)  # few pixels, or all of one level, stay as they are


def _jittered(x: Tensor, drawn: Tensor, convention: Convention) -> Tensor:
    applied, *factors, order = drawn.T
    x = _where(applied > 0, x, lambda some, _: some.clamp(0, 1))
    for step in range(4):
        parts = [JITTER_ORDERS[int(i)][step] for i in order]
        for i, (name, adjust) in enumerate(_ADJUST[convention].items()):
            neutral = 0 if name == "hue" else 1
            here = torch.tensor([part == name for part in parts]) & (applied > 0) & (factors[i] != neutral)
            x = _where(here, x, lambda some, own, adjust=adjust: adjust(some, own[:, 0]), factors[i][:, None])  # type: ignore[misc]
    return x


def _contrast(x: Tensor, factor: Tensor) -> Tensor:
    gray = kornia.color.rgb_to_grayscale(x) if x.shape[1] == 3 else x
    factor = factor.view(-1, 1, 1, 1)
    return (factor * x + (1 - factor) * gray.mean((1, 2, 3), keepdim=True)).clamp(0, 1)


def _contrast_by_channel(x: Tensor, factor: Tensor) -> Tensor:
    factor = factor.view(-1, 1, 1, 1)
    return (factor * x + (1 - factor) * x.mean((2, 3), keepdim=True)).clamp(0, 1)


def _hue(x: Tensor, turns: Tensor) -> Tensor:
    return kornia.enhance.adjust_hue(x, turns * (2 * torch.pi))


_ADJUST: dict[Convention, dict[str, Callable[[Tensor, Tensor], Tensor]]] = {
    "torchvision": {
        "brightness": kornia.enhance.adjust_brightness_accumulative,
        "contrast": _contrast,
        "saturation": kornia.enhance.adjust_saturation_with_gray_subtraction,
        "hue": _hue,
    },
    "tensorflow": {
        "brightness": lambda x, factor: (x + (factor - 1).view(-1, 1, 1, 1)).clamp(0, 1),
        "contrast": _contrast_by_channel,
        "saturation": kornia.enhance.adjust_saturation,
        "hue": _hue,
    },
}


def _blurred(x: Tensor, sigma: Tensor, border: Border) -> Tensor:
    radii = (4 * sigma + 0.5).long()
    for radius in set(radii.tolist()):
        if radius > 0:
            x = _where(radii == radius, x, partial(_blurred_alike, radius=radius, border=border), sigma[:, None])
    return x


def _blurred_alike(x: Tensor, sigma: Tensor, radius: int, border: Border) -> Tensor:
    kernel = kornia.filters.get_gaussian_kernel1d(2 * radius + 1, sigma, device=x.device, dtype=x.dtype)
    if border == "zeros":
        x = torch.nn.functional.pad(x, (radius,) * 4)
        return kornia.filters.filter2d_separable(x, kernel, kernel, padding="valid")
    for dim in (-1, -2):  # by index, since a reflection may be longer than the image
        side = x.shape[dim]
        at = torch.arange(-radius, side + radius, device=x.device) % max(1, 2 * side - 2)
        x = x.index_select(dim, torch.minimum(at, (2 * side - 2 - at).abs()))
    return kornia.filters.filter2d_separable(x, kernel, kernel, padding="valid")


def _kornia(operation: KorniaModule, x: Tensor, seed: int) -> Tensor:
    remembered = [(module, dict(module.__dict__)) for module in operation.module.modules()]
    with _seeded(seed, x.device):
        y = operation.module(x)
    for module, attributes in remembered:  # Kornia keeps what it drew, which would travel with every batch
        module.__dict__.clear()
        module.__dict__.update(attributes)
    if not isinstance(y, Tensor) or y.shape != x.shape:
        came = tuple(y.shape) if isinstance(y, Tensor) else type(y).__name__
        raise ValueError(
            f"{operation!r} made {came} from {tuple(x.shape)}; a Kornia module in a View must keep the size"
        )
    return y.contiguous()


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Kornia draws from torch's global generators: lend it seeded ones, and put them back as they were."""
    on_cuda = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if on_cuda else []):
        torch.default_generator.manual_seed(seed)
        if on_cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield
