"""The collate functions: in the worker they pack the images of a batch and draw what will happen to them."""

import operator
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch

from lightly_aug.batch import Views
from lightly_aug.engines import ENGINES, choose, load
from lightly_aug.epochs import Clock
from lightly_aug.images import MODES, ImageError, Pixels, pack, to_array
from lightly_aug.invariances import Color, Shape, Texture
from lightly_aug.operations import CenterCrop, Floats, Interpolation, Normalize, Resize
from lightly_aug.philox import U64, uniforms
from lightly_aug.samples import take_images
from lightly_aug.view import View

__all__ = [
    "BaseCollateFunction",
    "ColorCollateFunction",
    "ImageCollateFunction",
    "MultiViewCollateFunction",
    "ShapeCollateFunction",
    "TextureCollateFunction",
]


class BaseCollateFunction:
    """Turns samples into a batch in which a `Views` stands where the images stood. Subclass it for your own views.

    A subclass builds its views in `__init__` and hands them, with the options, to this one::

        class SatelliteCollateFunction(BaseCollateFunction):
            def __init__(self, size=64, **options):
                view = View(Shape(size, scale=(0.5, 1.0), vflip=0.5, rot90=1.0), Texture(blur=0.5))
                super().__init__([view, view], **options)

    Pass an instance to a `DataLoader` as `collate_fn`. Samples may be bare images, tuples `(image, …)` of any length,
    mappings, named tuples or dataclass instances; all but the image goes through
    `torch.utils.data.default_collate`. For the kinds of images see `lightly_aug.images.to_array`.

    Draws depend on the seed, the epoch, the image and the view, and on nothing else. An image is known by its place
    in the epoch (batch and place in the batch) or, if the dataset is `Indexed`, by its index: then its views are the
    same for any batch size, order, number of workers and rank. Epochs are counted by themselves; `set_epoch`
    names them, for resuming.

    Args:
        views: what to make of every image; entries may be the same `View` several times.
        seed: any integer; by default one is drawn from torch's global generator, here and never again.
        render: "late" renders in `Views.to`, on the device it names; "worker" renders here, on the CPU; "auto" is
            "late" if this machine has an accelerator now, else "worker".
        engine: what to render with, see `lightly_aug.engines`.
        image: the place of the image in a sample: a key, field name or number. By default "image" in a mapping, the
            field `image`, else the first, of a named tuple or dataclass, the first member of a tuple or list.
        mode: the PIL mode that PIL images and image files are converted to; None keeps the channels they have.
        decode: PIL images and image files are shrunk by a whole factor as they are read, the largest that leaves the
            shorter side at least this many pixels: a batch of large photographs then stays small, and JPEG files
            decode faster. Take no less than the size of the largest view. None keeps sizes.

    Raises:
        TypeError, ValueError: an argument is of the wrong type or outside its range.
    """

    def __init__(
        self,
        views: Sequence[View],
        *,
        seed: int | None = None,
        render: Literal["auto", "late", "worker"] = "auto",
        engine: str = "auto",
        image: str | int | None = None,
        mode: str | None = "RGB",
        decode: int | None = None,
    ) -> None:
        if isinstance(views, View):
            raise TypeError("views must be a sequence of View, got one View: put it in a list")
        views = tuple(views)
        for view in views:
            if not isinstance(view, View):
                raise TypeError(f"views must be a sequence of View, got a {type(view).__name__} in it")
        if not views:
            raise ValueError("views is empty, at least one View is needed")
        _check_shared(views)
        if render not in ("auto", "late", "worker"):
            raise ValueError(f"render must be 'auto', 'late' or 'worker', got {render!r}")
        if engine not in ENGINES:
            raise ValueError(f"engine must be one of {', '.join(map(repr, ENGINES))}, got {engine!r}")
        if mode is not None and mode not in MODES:
            raise ValueError(f"mode must be None or one of {', '.join(MODES)}, got {mode!r}")
        if decode is not None and operator.index(decode) < 1:
            raise ValueError(f"decode must be None or at least 1 pixel, got {decode!r}")
        if render == "auto":
            render = "late" if torch.accelerator.is_available() else "worker"
        if render == "worker":  # before workers start, so that none of them has to compile
            load(choose(engine, torch.device("cpu")))
        self.views = views
        self.seed = int(torch.empty((), dtype=torch.int64).random_()) if seed is None else operator.index(seed)
        self.render = render
        self.engine = engine
        self.image = image
        self.mode = mode
        self.decode = decode
        self._clock = Clock()

    def set_epoch(self, epoch: int) -> None:
        """Name the next epoch, in order to resume or to repeat it; those after it count on from there.

        Workers that are running see it, too.
        """
        self._clock.set_epoch(epoch)

    def __call__(self, samples: Sequence[Any]) -> Any:
        """Pack and draw one batch.

        Args:
            samples: what the dataset yields.

        Returns:
            A batch of the samples' shape: named tuples and dataclass instances as themselves, mappings as dicts,
            tuples and lists as tuples, bare images as a `Views`.

        Raises:
            ImageError: an image is damaged or does not suit the views; the text names the sample.
            ValueError: samples that cannot be made into one batch.
        """
        epoch, batch = self._clock.tick()
        taken = take_images(samples, self.image)
        arrays = [self._array(image, name) for image, name in zip(taken.images, taken.names, strict=True)]
        pixels, shapes, channels = pack(arrays, taken.names)
        self._check_channels(channels, taken.names[0])
        if taken.index is None:
            keys = np.arange(len(arrays), dtype=np.uint64) | np.uint64(1 << 63 | self._clock.rank() << 48 | batch << 20)
        else:
            keys = taken.index.numpy().astype(np.uint64)
        table = self._draw(epoch, keys, shapes.numpy(), taken.names)
        views = Views(pixels, shapes, channels, table, self.views, index=taken.index, engine=self.engine)
        return taken.rebuild(views.render() if self.render == "worker" else views)

    def _array(self, image: Any, name: str) -> Pixels:
        try:
            array = to_array(image, self.mode, self.decode)
        except ImageError as error:
            raise ImageError(f"{name}: {error}") from error
        if array.dtype == np.float32 and any(view.needs_unit_range for view in self.views):
            low, high = float(array.min()), float(array.max())
            if not (low >= 0 and high <= 1):  # written so that NaN does not pass
                wants = next(o for view in self.views for o in view.operations if o.needs_unit_range)
                raise ImageError(
                    f"{name}: float values from {low:g} to {high:g}, "
                    f"{type(wants).__name__} needs them in [0, 1]; scale them"
                )
        return array

    def _check_channels(self, channels: int, name: str) -> None:
        for i, view in enumerate(self.views):
            for operation in view.operations:
                if operation.channels is not None and channels not in operation.channels:
                    wants = " or ".join(map(str, operation.channels))
                    raise ImageError(
                        f"{name} has {channels} channel{'s' * (channels > 1)}, "
                        f"{type(operation).__name__} of view {i} needs {wants}: {operation!r}"
                    )

    def _draw(self, epoch: int, keys: U64, shapes: np.typing.NDArray[np.int64], names: list[str]) -> torch.Tensor:
        table = np.zeros((len(self.views), len(keys), max(len(view.columns) for view in self.views)), dtype=np.float32)
        shared: dict[str, Floats] = {}
        for i, view in enumerate(self.views):
            u = uniforms(self.seed, epoch, keys, i, view.uniforms)
            for name, columns in view.shared:
                u[:, columns] = shared.setdefault(name, u[:, columns])
            drawn, height, width = view.draw(u, shapes[:, 1], shapes[:, 2])
            other = int(((height != height[0]) | (width != width[0])).argmax())
            if other:
                raise ImageError(
                    f"view {i} of {names[0]} is {height[0]}x{width[0]} and of {names[other]} "
                    f"{height[other]}x{width[other]}: "
                    "end it in one size, with RandomResizedCrop, Resize((h, w)) or CenterCrop"
                )
            table[i, :, : len(view.columns)] = drawn
        return torch.from_numpy(table)

    def __repr__(self) -> str:
        options = f"seed={self.seed}, render={self.render!r}, engine={self.engine!r}, mode={self.mode!r}"
        if self.decode is not None:
            options += f", decode={self.decode}"
        if self.image is not None:
            options += f", image={self.image!r}"
        lines = [f"{type(self).__name__}({len(self.views)} views, {options})"]
        lines += [f"  {i}: {view!r}" for i, view in enumerate(self.views)]
        return "\n".join(lines)


def _check_shared(views: Sequence[View]) -> None:
    first: dict[str, tuple[int, int]] = {}
    for i, view in enumerate(views):
        for name, columns in view.shared:
            j, count = first.setdefault(name, (i, len(columns)))
            if count != len(columns):
                raise ValueError(
                    f"{name!r} is shared by views {j} and {i}, but draws {count} numbers in view {j} and "
                    f"{len(columns)} in view {i}: share the same items, or take another name. "
                    f"View {j}: {views[j]!r}; view {i}: {view!r}"
                )


class MultiViewCollateFunction(BaseCollateFunction):
    """Any views, without a subclass.

    Args:
        views: what to make of every image.
        **options: as in `BaseCollateFunction`.

    Example:
        >>> import torch
        >>> collate = MultiViewCollateFunction([View(Shape(32))] * 2 + [View(Shape(16, scale=(0.05, 0.3)))] * 4)
        >>> views = collate([torch.rand(3, 40, 50), torch.rand(3, 60, 30)])
        >>> [tuple(view.shape) for view in views]
        [(2, 3, 32, 32), (2, 3, 32, 32), (2, 3, 16, 16), (2, 3, 16, 16), (2, 3, 16, 16), (2, 3, 16, 16)]
    """

    def __init__(self, views: Sequence[View], **options: Any) -> None:
        super().__init__(views, **options)


class ImageCollateFunction(BaseCollateFunction):
    """The general one: every range and probability is an argument. Two alike views, unless `views` says otherwise.

    Args:
        size: side of the views, or (height, width), in pixels.
        views: how many views.
        scale: area of the crop as a share of the image.
        ratio: aspect ratio of the crop.
        hflip: probability of a horizontal flip.
        vflip: probability of a vertical flip.
        rot90: probability of a random number of quarter turns.
        degrees: range of a free rotation in degrees, 0 for none.
        brightness: range of the factor, or b for (1 - b, 1 + b).
        contrast: likewise.
        saturation: likewise.
        hue: range of the shift in turns, or h for (-h, h).
        jitter: probability of the four.
        grayscale: probability of dropping the colours.
        blur: probability of a Gaussian blur.
        sigma: range of its standard deviation, in pixels of the view.
        solarize: probability of a solarization.
        interpolation: "bilinear" or "bicubic".
        normalize: how to normalise, None for values in [0, 1].
        **options: as in `BaseCollateFunction`.
    """

    def __init__(
        self,
        size: int | tuple[int, int] = 64,
        *,
        views: int = 2,
        scale: tuple[float, float] = (0.15, 1.0),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
        hflip: float = 0.5,
        vflip: float = 0.0,
        rot90: float = 0.0,
        degrees: float | tuple[float, float] = 0.0,
        brightness: float | tuple[float, float] = 0.7,
        contrast: float | tuple[float, float] = 0.7,
        saturation: float | tuple[float, float] = 0.7,
        hue: float | tuple[float, float] = 0.2,
        jitter: float = 0.8,
        grayscale: float = 0.2,
        blur: float = 0.5,
        sigma: tuple[float, float] = (0.1, 2.0),
        solarize: float = 0.0,
        interpolation: Interpolation = "bilinear",
        normalize: Normalize | None = Normalize(),
        **options: Any,
    ) -> None:
        view = View(
            Shape(size, scale, ratio, hflip, vflip, rot90, degrees, interpolation),
            Color(brightness, contrast, saturation, hue, jitter, grayscale),
            Texture(blur, sigma, solarize),
            normalize,
        )
        super().__init__([view] * views, **options)


class ShapeCollateFunction(BaseCollateFunction):
    """Two views that differ in shape alone: crop, flips, rotations. Colour and texture stay to be told apart by.

    Args:
        size: side of the views, or (height, width), in pixels.
        scale: area of the crop as a share of the image.
        hflip: probability of a horizontal flip.
        vflip: probability of a vertical flip.
        rot90: probability of a random number of quarter turns.
        degrees: range of a free rotation in degrees, 0 for none.
        normalize: how to normalise, None for values in [0, 1].
        **options: as in `BaseCollateFunction`.
    """

    def __init__(
        self,
        size: int | tuple[int, int] = 224,
        *,
        scale: tuple[float, float] = (0.08, 1.0),
        hflip: float = 0.5,
        vflip: float = 0.0,
        rot90: float = 0.0,
        degrees: float | tuple[float, float] = 0.0,
        normalize: Normalize | None = Normalize(),
        **options: Any,
    ) -> None:
        shape = Shape(size, scale, hflip=hflip, vflip=vflip, rot90=rot90, degrees=degrees)
        super().__init__([View(shape, normalize)] * 2, **options)


class TextureCollateFunction(BaseCollateFunction):
    """Two views that differ in texture alone: blur, solarize. Both are the centre of the image.

    Args:
        size: side of the views in pixels.
        blur: probability of a Gaussian blur.
        sigma: range of its standard deviation, in pixels of the view.
        solarize: probability of a solarization.
        normalize: how to normalise, None for values in [0, 1].
        **options: as in `BaseCollateFunction`.
    """

    def __init__(
        self,
        size: int = 224,
        *,
        blur: float = 0.5,
        sigma: tuple[float, float] = (0.1, 2.0),
        solarize: float = 0.2,
        normalize: Normalize | None = Normalize(),
        **options: Any,
    ) -> None:
        view = View(Resize(size), CenterCrop(size), Texture(blur, sigma, solarize), normalize)
        super().__init__([view] * 2, **options)


class ColorCollateFunction(BaseCollateFunction):
    """Two views that differ in light and colour alone: jitter, grayscale. Both are the centre of the image.

    Args:
        size: side of the views in pixels.
        brightness: range of the factor, or b for (1 - b, 1 + b).
        contrast: likewise.
        saturation: likewise.
        hue: range of the shift in turns, or h for (-h, h).
        jitter: probability of the four.
        grayscale: probability of dropping the colours.
        normalize: how to normalise, None for values in [0, 1].
        **options: as in `BaseCollateFunction`.
    """

    def __init__(
        self,
        size: int = 224,
        *,
        brightness: float | tuple[float, float] = 0.8,
        contrast: float | tuple[float, float] = 0.8,
        saturation: float | tuple[float, float] = 0.8,
        hue: float | tuple[float, float] = 0.2,
        jitter: float = 0.8,
        grayscale: float = 0.2,
        normalize: Normalize | None = Normalize(),
        **options: Any,
    ) -> None:
        color = Color(brightness, contrast, saturation, hue, jitter, grayscale)
        super().__init__([View(Resize(size), CenterCrop(size), color, normalize)] * 2, **options)
