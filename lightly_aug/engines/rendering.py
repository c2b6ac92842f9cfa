"""Choose an engine, and render the views of a batch with it, pass by pass."""

import os
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from importlib import metadata
from importlib.metadata import PackageNotFoundError
from importlib.util import find_spec
from types import ModuleType
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lightly_aug.engines import reference
from lightly_aug.engines.gpu_layout import Layout, lay_out
from lightly_aug.engines.plan import Pass, Plan, find_stage, plan_passes
from lightly_aug.engines.program import Output, Program
from lightly_aug.images import PackedImages
from lightly_aug.operations import Floats, Ints, Operation
from lightly_aug.user_warning import warn_user
from lightly_aug.view import View

__all__ = ["ENGINES", "Lowered", "choose", "load", "lower", "may_use_gpu", "plan_views", "render"]

ENGINES: Final = ("auto", "reference", "cpu", "gpu")


def choose(engine: str, device: torch.device) -> str:
    """Choose the engine that renders on a device.

    Args:
        engine: One of `ENGINES`; "auto" takes the fast engine of the device, or, if there is none or it cannot run,
            the reference, with one warning that says why.
        device: Where to render.

    Raises:
        ValueError: There is no such engine, or it cannot render there.
    """
    if engine == "auto":
        return _find_engine(device.type)
    _check_name(engine)
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    if (engine == "cpu" and device.type != "cpu") or (engine == "gpu" and device.type != "cuda" and not interpreted):
        kind = {"cpu": "the CPU", "gpu": "a CUDA device"}[engine]
        raise ValueError(f"engine {engine!r} cannot render on {str(device)!r}: use engine='auto', or {kind}")
    if engine == "gpu" and device.type == "cuda" and find_spec("triton") and (reason := _why_no_gpu()):
        raise ValueError(f"engine 'gpu' cannot render on {str(device)!r}; {reason}")
    return engine


@cache
def _find_engine(device_type: str) -> str:
    """Find the engine for "auto", and warn of a slow one; cached, so once for each type of device."""
    reason = ""
    if device_type == "cpu":
        if find_spec("numba"):
            return "cpu"
        reason = "Numba, which the fast one needs, is not installed: pip install numba"
    elif device_type == "cuda":
        reason = _why_no_gpu()
        if not reason:
            return "gpu"
    elif device_type != "meta":
        reason = f"there is no fast one for {device_type!r}: with render='worker' the fast one of the CPU renders"
    if reason:
        warn_user(
            f"views are rendered by the reference engine, which is about ten times as slow as a fast one; {reason}"
        )
    return "reference"


@cache
def _why_no_gpu() -> str:
    """Say why the engine "gpu" cannot run on CUDA devices; nothing where it can."""
    version = _triton_version()
    if torch.version.hip is not None:
        return "there is no fast one for AMD GPUs: with render='worker' the fast one of the CPU renders"
    if version == (0, 0):
        return "Triton, which the fast one needs, is not installed; PyTorch for CUDA brings it on Linux"
    if version < (3, 3):
        return f"Triton {version[0]}.{version[1]} cannot compile the fast one: PyTorch 2.7 or later brings 3.3"
    return ""


def _triton_version() -> tuple[int, int]:
    """Return the version of the installed Triton, (0, 0) if there is none."""
    if not find_spec("triton"):
        return 0, 0
    for name in ("triton", "triton-windows", "pytorch-triton"):
        with suppress(PackageNotFoundError):
            major, minor = metadata.version(name).split(".")[:2]
            return int(major), int(minor)
    return 3, 3  # installed under a name that is not known here


def may_use_gpu(engine: str) -> bool:
    """Whether `choose` may take the engine "gpu" on this machine. Initialises no device.

    Args:
        engine: One of `ENGINES`.
    """
    return engine == "gpu" or (engine == "auto" and torch.cuda.device_count() > 0 and not _why_no_gpu())


def load(engine: str) -> ModuleType | None:
    """Load a fast engine, which compiles the engine "cpu" once on a machine; the reference needs no loading.

    Args:
        engine: One of `ENGINES` but "auto", see `choose`.

    Returns:
        The module of the engine, None for the reference.

    Raises:
        ModuleNotFoundError: A package that the engine needs is not installed.
        ValueError: There is no such engine.
    """
    if engine == "cpu":
        from lightly_aug.engines import cpu

        return cpu
    if engine == "gpu":
        from lightly_aug.engines import gpu

        return gpu
    _check_name(engine)
    if engine == "auto":
        raise ValueError("engine 'auto' depends on the device: load(choose('auto', device))")
    return None


def _check_name(engine: str) -> None:
    if engine not in ENGINES:
        raise ValueError(f"engine must be one of {', '.join(map(repr, ENGINES))}, got {engine!r}")


def plan_views(views: Sequence[View], engine: str) -> Plan:
    """Plan how views are rendered.

    Args:
        views: The views.
        engine: One of `ENGINES`; the fast engines have the same plan, and "auto" means one of them.
    """
    _check_name(engine)
    return Plan(
        tuple(
            plan_passes(view.operations, None if engine == "reference" or view.dtype == torch.float64 else _knows)
            for view in views
        )
    )


class Lowered(NamedTuple):
    """The views of a batch as the numbers that the engine "gpu" renders them from, made ahead, in a worker.

    It keeps a copy of the draws, so that views are never rendered from numbers of other draws.

    Attributes:
        layout: The numbers; behind them, the draws and the sizes of the images that they were made from.
        end: Where the numbers end.
        made_from: What else they were made from.
    """

    layout: Layout
    end: int
    made_from: tuple[object, ...]

    def suits(self, images: PackedImages, table: Tensor, views: tuple[View, ...], sources: tuple[int, ...]) -> bool:
        """Whether `lower` would return the same for these arguments."""
        same = self.made_from == _describe(images, views, sources)
        return same and np.array_equal(self.layout.words[self.end :].numpy(), _copy_words(images, table))

    def pin_memory(self) -> "Lowered":
        """Return the same in page-locked memory."""
        return self._replace(layout=self.layout._replace(words=self.layout.words.pin_memory()))

    def render(self, images: PackedImages, output: Output) -> list[Tensor]:
        """Render the views from their images with the engine "gpu", as `render` does."""
        _refuse_capture(output.device)
        pixels = images.pixels.to(output.device, non_blocking=output.non_blocking)
        from lightly_aug.engines import gpu

        made = gpu.draw(self.layout._replace(words=self.layout.words[: self.end]), pixels, output)
        return [made[i] for i in range(len(made))]


def lower(images: PackedImages, table: Tensor, views: tuple[View, ...], sources: tuple[int, ...]) -> Lowered | None:
    """Lower all views of a batch for the engine "gpu".

    Args:
        images: The images, see `Views`.
        table: `(views, n, columns)` float32 on the CPU, the draws.
        views: The views.
        sources: For each view the number of the image of a sample that it shows.

    Returns:
        None if that engine does not do all of it in one go.
    """
    n = table.shape[1]
    together = dict[tuple[int, int, torch.dtype], list[int]]()
    parts = dict[int, Pass]()
    for i, (view, source) in enumerate(zip(views, sources, strict=True)):
        part, *more = plan_passes(view.operations, _knows)
        if more or not part.fused or view.dtype == torch.float64 or n == 0:
            return None
        parts[id(part)] = part
        together.setdefault((id(part), source, view.dtype), []).append(i)
    programs = [
        parts[part].lower(
            images.select(source * n, (source + 1) * n),
            _join_draws(table, which),
            Output(images.pixels.device, dtype),
            len(which),
        )
        for (part, source, dtype), which in together.items()
    ]
    layout = lay_out(programs, list(together.values()))
    words = layout.words.numpy()
    layout = layout._replace(words=torch.from_numpy(np.concatenate([words, _copy_words(images, table)])))
    return Lowered(layout, len(words), _describe(images, views, sources))


def _knows(operation: Operation) -> bool:
    """As the engine's own function, without Triton, which workers need not import."""
    return find_stage(operation) is not None


def _describe(images: PackedImages, views: tuple[View, ...], sources: tuple[int, ...]) -> tuple[object, ...]:
    return views, sources, images.channels, images.raw.tobytes(), images.pixels.dtype


def _copy_words(images: PackedImages, table: Tensor) -> Ints:
    """Copy the draws, bit by bit, and the sizes of the images."""
    bits = table.numpy().ravel().view(np.int32)
    padded = np.concatenate([bits, np.zeros(len(bits) % 2, dtype=np.int32)])
    return np.concatenate([padded.view(np.int64), images.shapes.numpy().ravel()])


def _refuse_capture(device: torch.device) -> None:
    if device.type == "cuda" and torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing():
        raise RuntimeError(
            "views cannot be rendered while a CUDA graph is captured, as each replay would repeat the draws of this "
            "batch: render before the capture, and copy the views into its inputs before each replay"
        )


def render(
    images: PackedImages, table: Tensor, views: tuple[View, ...], output: Output, engine: str = "auto"
) -> list[Tensor]:
    """Render every view of every image.

    Args:
        images: The images.
        table: `(views, n, columns)` float32 on the CPU, the draws.
        views: The views.
        output: What is wanted: device, dtype, memory format.
        engine: One of `ENGINES`; "auto" picks by device.

    Returns:
        For each view a tensor `(n, channels, height, width)`.

    Raises:
        ValueError: There is no such engine, or it cannot render on that device.
        ModuleNotFoundError: A package that the engine needs is not installed.
        RuntimeError: A CUDA graph is being captured.
    """
    _refuse_capture(output.device)
    fast = load(choose(engine, output.device))
    images = images.replace_pixels(images.pixels.to(output.device, non_blocking=output.non_blocking))
    dtypes = [output.dtype or view.dtype for view in views]
    if not len(images):
        sizes = [_final_size(view) for view in views]
        return [
            images.pixels.new_empty((0, images.channels, *size), dtype=dtype)
            for size, dtype in zip(sizes, dtypes, strict=True)
        ]
    plans = [
        _plan(view, images.shapes.numpy(), drawn, None if dtype == torch.float64 else fast)
        for view, drawn, dtype in zip(views, table.numpy(), dtypes, strict=True)
    ]
    sources = [images] * len(views)
    rendered: list[Tensor] = [images.pixels] * len(views)
    for turn in range(max(map(len, plans), default=0)):
        together: dict[tuple[int, int, torch.dtype], list[int]] = {}  # equal passes over the same images, lowered once
        for i, plan in enumerate(plans):
            if turn >= len(plan):
                continue
            part, last = plan[turn], turn == len(plan) - 1
            if turn > 0:
                raw = sources[i].raw if plan[turn - 1].keeps_values else np.zeros(len(images), dtype=bool)
                sources[i] = _repack(rendered[i], raw)
            dtype = dtypes[i] if last else torch.float32
            if part.fused:
                together.setdefault((id(part), id(sources[i]), dtype), []).append(i)
            else:
                rendered[i] = reference.render(sources[i], table[i, :, part.columns], part.operations, dtype)
        programs: list[Program] = []  # the engine gets all at once, and may join them
        for (_, _, dtype), which in together.items():
            first = which[0]
            wanted = output._replace(dtype=dtype)
            programs.append(plans[first][turn].lower(sources[first], _join_draws(table, which), wanted, len(which)))
        if fast is not None and programs:
            for i, view in zip((i for which in together.values() for i in which), fast.run(programs), strict=True):
                rendered[i] = view
    return [view.to(memory_format=output.memory_format) for view in rendered]


def _join_draws(table: Tensor, which: list[int]) -> Floats:
    """Return the draws of some views, one behind the other, in float64."""
    return table.numpy()[which].reshape(len(which) * table.shape[1], table.shape[2]).astype(np.float64)


def _plan(view: View, shapes: Ints, drawn: npt.NDArray[np.float32], fast: ModuleType | None) -> tuple[Pass, ...]:
    """Plan a view; the reference does all of it if there is no fast engine, or if sizes differ between passes."""
    plan = plan_passes(view.operations, None if fast is None else fast.knows)
    if len(plan) == 1:
        return plan
    height, width = shapes[:, 1], shapes[:, 2]
    for part in plan[:-1]:
        height, width = part.output_sizes(height, width, drawn.astype(np.float64))
        if (height != height[0]).any() or (width != width[0]).any():
            return plan_passes(view.operations, None)
    return plan


def _final_size(view: View) -> tuple[int, int]:
    """The size that a view ends in, if it ends in one whatever the image."""
    (whole,) = plan_passes(view.operations, None)
    one = np.ones(1, dtype=np.int64)
    height, width = whole.output_sizes(one, one, np.zeros((1, len(view.columns))))
    return int(height[0]), int(width[0])


def _repack(view: Tensor, raw: npt.NDArray[np.bool_]) -> PackedImages:
    """The result of one pass as the images of the next."""
    n, c, h, w = view.shape
    shapes = torch.tensor([[i * c * h * w, h, w] for i in range(n)], dtype=torch.int64).view(n, 3)
    return PackedImages(view.permute(0, 2, 3, 1).reshape(-1), shapes, c, raw)
