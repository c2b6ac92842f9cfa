"""Engines render: `(pixels, draws) -> views`. Nothing in here is random."""

from importlib.util import find_spec
from types import ModuleType
from typing import Final

import numpy as np
import torch
from torch import Tensor

from lightly_aug.engines import reference
from lightly_aug.engines.plan import Pass, Program, passes
from lightly_aug.operations import Floats, GeometricOperation, Ints
from lightly_aug.optional import extra
from lightly_aug.view import View

__all__ = ["ENGINES", "choose", "load", "render"]

ENGINES: Final = ("auto", "reference", "cpu", "gpu")


def choose(engine: str, device: torch.device) -> str:
    """The engine that renders on a device: the one named; for "auto" the fast one, if what it needs is installed.

    Raises:
        ValueError: the engine named cannot render there.
    """
    if engine == "auto":
        if device.type == "cpu" and find_spec("numba"):
            return "cpu"
        return "gpu" if device.type == "cuda" and find_spec("triton") else "reference"
    if engine == "cpu" and device.type != "cpu":
        raise ValueError(f"engine 'cpu' cannot render on {str(device)!r}: use engine='auto', or move the views there")
    return engine


def load(engine: str) -> ModuleType | None:
    """The module of a fast engine, None for the reference. What the engine has to compile, it compiles here, once.

    Raises:
        ModuleNotFoundError: a package that the engine needs is not installed; the text says which.
    """
    if engine == "reference":
        return None
    with extra("fast"):
        if engine == "cpu":
            from lightly_aug.engines import cpu as fast
        else:
            from lightly_aug.engines import gpu as fast  # type: ignore[no-redef]
    return fast


def render(
    pixels: Tensor,
    shapes: Tensor,
    channels: int,
    table: Tensor,
    recipe: tuple[View, ...],
    *,
    device: torch.device,
    dtype: torch.dtype | None = None,
    memory_format: torch.memory_format = torch.contiguous_format,
    non_blocking: bool = True,
    engine: str = "auto",
) -> list[Tensor]:
    """Render every view of every image.

    Args:
        pixels: 1-D buffer of images, uint8 or float32.
        shapes: (n, 3) int64 on the CPU: offset, height and width of each image, laid out (height, width, channels).
        channels: the number of channels.
        table: (views, n, columns) float32 on the CPU, the draws.
        recipe: the views.
        device: where to render.
        dtype: floating dtype of the result; by default each view's own.
        memory_format: of the result.
        non_blocking: whether the copy from pinned memory may overlap with what the host does next.
        engine: one of `ENGINES`; "auto" picks by device.

    Returns:
        For each view a tensor (n, channels, height, width).

    Raises:
        ValueError: the engine cannot render on that device.
        ModuleNotFoundError: a package that the engine needs is not installed.
    """
    assert engine in ENGINES
    fast = load(choose(engine, device))
    pixels = pixels.to(device, non_blocking=non_blocking)
    dtypes = [dtype or view.dtype for view in recipe]
    if not len(shapes):
        sizes = [_size(view) for view in recipe]
        return [pixels.new_empty((0, channels, *size), dtype=d) for size, d in zip(sizes, dtypes, strict=True)]
    plans = [
        _plan(view, shapes.numpy(), drawn.numpy(), None if wanted == torch.float64 else fast)
        for view, drawn, wanted in zip(recipe, table, dtypes, strict=True)
    ]
    views = [pixels] * len(recipe)
    sources = [(pixels, shapes, pixels.dtype == torch.uint8)] * len(recipe)
    for turn in range(max(map(len, plans), default=0)):
        programs: dict[int, Program] = {}  # the engine gets those of all views at once, and may join them
        for i, plan in enumerate(plans):
            if turn >= len(plan):
                continue
            part, last = plan[turn], turn == len(plan) - 1
            if turn > 0:
                sources[i] = _packed(views[i], raw=sources[i][-1] and plan[turn - 1].keeps_values)
            source, at, raw = sources[i]
            wanted = dtypes[i] if last else torch.float32
            if part.fused:
                programs[i] = part.program(source, at.numpy(), channels, table[i].numpy(), raw, wanted, memory_format)
            else:
                views[i] = reference.render(source, at, channels, table[i, :, part.columns], part.operations, wanted)
        if fast is not None and programs:
            for i, view in zip(programs, fast.run(list(programs.values())), strict=True):
                views[i] = view
    return [view.to(memory_format=memory_format) for view in views]


def _plan(view: View, shapes: Ints, drawn: Floats, fast: ModuleType | None) -> list[Pass]:
    """The passes of a view; the reference does all of it if that is asked for, or if sizes differ between passes."""
    whole = [Pass(view.operations, slice(0, len(view.columns)), fused=False)]
    if fast is None:
        return whole
    plan = passes(view.operations, fast.knows)
    height, width = shapes[:, 1], shapes[:, 2]
    for part in plan[:-1]:
        height, width = _sizes(part, height, width, drawn)
        if (height != height[0]).any() or (width != width[0]).any():
            return whole
    return plan


def _sizes(part: Pass, height: Ints, width: Ints, drawn: Floats) -> tuple[Ints, Ints]:
    """Heights and widths after a pass, before which they were these."""
    used = part.columns.start
    for operation in part.operations:
        own = drawn[:, used : used + len(operation.columns)]
        used += len(operation.columns)
        if isinstance(operation, GeometricOperation):
            height, width = operation.output_size(height, width, own)
    return height, width


def _size(view: View) -> tuple[int, int]:
    """The size that a view ends in, if it ends in one whatever the image."""
    one = np.ones(1, dtype=np.int64)
    height, width = _sizes(Pass(view.operations, slice(0, None), False), one, one, np.zeros((1, len(view.columns))))
    return int(height[0]), int(width[0])


def _packed(view: Tensor, *, raw: bool) -> tuple[Tensor, Tensor, bool]:
    """The result of one pass as what goes into the next."""
    n, c, h, w = view.shape
    shapes = torch.tensor([[i * c * h * w, h, w] for i in range(n)], dtype=torch.int64).view(n, 3)
    return view.permute(0, 2, 3, 1).reshape(-1), shapes, raw
