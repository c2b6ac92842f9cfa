"""Collate functions: in the worker they pack the images of a batch and draw what will happen to them."""

import math
import operator
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, Never, SupportsIndex, Unpack, get_args

import numpy as np
import torch
from torch.utils.data import DataLoader

from lightly_aug._html import head
from lightly_aug.batch import Views, views_of
from lightly_aug.checks import check_choice, check_color, check_integer
from lightly_aug.choices import MAX_PIXELS, OnError
from lightly_aug.engines import ENGINES, Plan, choose, load, lower, may_use_gpu, plan_views
from lightly_aug.epochs import EpochCounter
from lightly_aug.images import MODES, Background, ImageError, PackedImages, Pixels, is_image, pack, to_array
from lightly_aug.options import Options, check_options
from lightly_aug.philox import U64, place_keys, uniforms
from lightly_aug.samples import Taken, take_images
from lightly_aug.stages import stage
from lightly_aug.user_warning import warn_user
from lightly_aug.view import View, describe_views

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["BaseCollateFunction", "MultiViewCollateFunction"]


class BaseCollateFunction:
    """Collate samples into a batch with a `Views` in place of the images. Subclass it for views of your own.

    A subclass builds its views in `__init__` and passes them, with the options, to this one::

        class SatelliteCollateFunction(BaseCollateFunction):
            def __init__(self, size=64, **options):
                view = View(Shape(size, scale=(0.5, 1.0), vflip=0.5, rot90=1.0), Texture(blur=0.5))
                super().__init__([view, view], **options)

    Pass an instance to a `DataLoader` as `collate_fn`. Samples may be bare images, tuples `(image, …)` of any length,
    mappings, named tuples or dataclass instances; everything but the image goes through
    `torch.utils.data.default_collate`. For the kinds of images see `lightly_aug.images.to_array`; a
    dict of "bytes" and "path", which Hugging Face's `Image(decode=False)` makes, is an image, too.

    Draws depend on the seed, the epoch, the image and the view, and on nothing else. An image is identified by its
    place in the epoch (batch and place in the batch) or, if the dataset is `Indexed`, by its index: then its views are
    the same for any batch size, order, number of workers and rank. Epochs are counted automatically. To
    resume a run, let an `EpochSampler` count them, or call `set_epoch`.

    Args:
        views: The views to make of every image; the same `View` may occur several times.
        seed: Any integer; by default one is drawn from torch's global generator when the function is made.
        render: "late" renders in `Views.to`, on the device it names; "worker" renders in the worker, on the CPU; "auto"
            is "late" if this machine has an accelerator now, else "worker".
        engine: The engine to render with, see `lightly_aug.engines`.
        image: The place of the image in a sample: a key, field name or number. By default, "image" or else the only one
            of "img", "jpg", "jpeg", "png" and "webp" in a mapping; the field `image`, else the first, of a named tuple
            or dataclass; the first member of a tuple or list. If samples hold several images, such as two photographs
            of one thing: one place for each view, in order, as in `("front", "back")`; places may repeat. The views
            take the first of these places. The others are left out of the batch, or None in a named tuple or dataclass.
        mode: The PIL mode to convert PIL images and image files to; None keeps the channels they have.
        decode: Shrink PIL images and image files while reading them, by a whole factor that leaves the shorter side
            at least this many pixels (see `lightly_aug.images.to_array`): batches of large photographs stay small,
            and JPEG files decode faster. Use at least the size of the largest view. None keeps sizes.
        background: The colour behind transparent pixels of PIL images and image files; None drops transparency. A
            dataset that converts images itself, as torchvision's `ImageFolder` does, has dropped it already.
        max_pixels: Refuse PIL images and image files with more pixels than this, before they are decoded, since a file
            of some kilobytes can hold an image of gigabytes. The size in the file counts, also if `decode` shrinks the
            image. None sets no bound.
        on_error: For images that cannot be read: "raise" ends the epoch with an error; "skip" leaves them out, so the
            batch is smaller; "replace" puts another sample of the batch in the place of each. `Views.left_out` names
            them, and a warning names each of them once an epoch, or once if workers persist. A batch without any
            image that can be read is an error. Images that the dataset itself reads fail there: let it return paths
            or bytes.

    Raises:
        TypeError: An argument is of the wrong type, or is none of these.
        ValueError: An argument is outside its range.
    """

    def __init__(
        self,
        views: Sequence[View],
        *,
        seed: SupportsIndex | None = None,
        render: Literal["auto", "late", "worker"] = "auto",
        engine: str = "auto",
        image: str | int | Sequence[str | int] | None = None,
        mode: str | None = "RGB",
        decode: int | None = None,
        background: Background = "white",
        max_pixels: int | None = MAX_PIXELS,
        on_error: OnError = "raise",
        **unknown: Never,
    ) -> None:
        check_options(self, unknown)
        if isinstance(views, View):
            raise TypeError(f"{type(self).__name__}: views must be a sequence of View, got one View: put it in a list")
        views = tuple(views)
        for view in views:
            if not isinstance(view, View):
                raise TypeError(
                    f"{type(self).__name__}: views must be a sequence of View, got a {type(view).__name__} in it"
                )
        if not views:
            raise ValueError(f"{type(self).__name__}: views is empty, at least one View is needed")
        views = tuple(map({view: view for view in views}.__getitem__, views))  # equal ones travel once
        places = _list_places(self, image, len(views))
        check_choice(self, ("auto", "late", "worker"), render=render)
        check_choice(self, ENGINES, engine=engine)
        check_choice(self, (None, *MODES), mode=mode)
        check_choice(self, get_args(OnError), on_error=on_error)
        if decode is not None:
            check_integer(self, least=1, decode=decode)
        if max_pixels is not None:
            check_integer(self, least=1, max_pixels=max_pixels)
        if background is not None:
            check_color(self, background=background)
        if render == "auto":
            render = "late" if torch.accelerator.is_available() else "worker"
        if render == "worker":  # before workers start, so that none of them has to compile
            load(choose(engine, torch.device("cpu")))
        self.views = views
        self.seed = int(torch.empty((), dtype=torch.int64).random_()) if seed is None else operator.index(seed)
        self.render = render
        self.engine = engine
        self.image = places if isinstance(image, Sequence) and not isinstance(image, str) else image
        self.mode = mode
        self.decode = decode
        self.background = background
        self.max_pixels = max_pixels
        self.on_error = on_error
        self._places = tuple(dict.fromkeys(places))
        self._sources = tuple(self._places.index(place) for place in places) or (0,) * len(views)
        self._equal = _find_equal(views, self._sources)
        self._shared = _find_shared(views)
        self._lowers = render == "late" and may_use_gpu(engine)  # decided here, as workers ask no device
        self._epochs = EpochCounter()
        self._epoch_was_set = False
        operations = [(i, operation) for i, view in enumerate(views) for operation in view.operations]
        self._limits = [(i, operation, operation.channels) for i, operation in operations if operation.channels]
        self._bounded = next((operation for _, operation in operations if operation.needs_unit_range), None)

    def set_epoch(self, epoch: int) -> None:
        """Set the number of the next epoch, to resume or to repeat it; later epochs count on from there.

        Workers that are running see it, too. An `EpochSampler` has a `set_epoch` of its own, which counts instead.

        Args:
            epoch: 0 to 2**24 - 1.
        """
        self._epochs.set_epoch(epoch)
        self._epoch_was_set = True

    def __call__(self, samples: Sequence[Any]) -> Any:
        """Pack and draw one batch.

        Args:
            samples: What the dataset yields.

        Returns:
            A batch in the samples' structure: named tuples and dataclass instances as themselves, mappings as dicts,
            tuples and lists as tuples, bare images as a `Views`.

        Raises:
            TypeError: `samples` is one image in place of a list.
            ImageError: An image is damaged or does not suit the views; the message names the sample.
            ValueError: The samples cannot be made into one batch.
        """
        taken, arrays, left_out = self._take(samples)
        epoch, batch = self._epochs.count_batch() if taken.epoch is None else (taken.epoch, 0)
        if taken.epoch is not None and self._epoch_was_set:
            warn_user(
                f"{type(self).__name__}.set_epoch has no effect, the EpochSampler of the loader counts the epochs: "
                "call sampler.set_epoch(epoch)"
            )
        with stage("pack"):
            images = pack(arrays, taken.names, travels=self.render == "late")
        self._check_channels(images.channels, taken.names[0])
        if taken.index is None:
            keys = place_keys(self._epochs.rank(), batch, len(images) // (max(self._sources) + 1))
        else:
            keys = taken.index.numpy().astype(np.uint64)
        table = self._draw(epoch, keys, images, taken.names)
        views = Views(
            images,
            table,
            self.views,
            index=taken.index,
            engine=self.engine,
            sources=self._sources,
            left_out=left_out,
        )
        if self._lowers:
            views.lowered = lower(images, table, self.views, self._sources)
        if self.render == "worker":
            with stage("render"):
                views = views.render()
        return taken.rebuild(views)

    def _take(self, samples: Sequence[Any]) -> tuple[Taken, list[Pixels], tuple[str, ...]]:
        """Return the samples that are kept, their images, and what was wrong with the others."""
        taken = take_images(samples, *self._places)
        arrays, errors = list[Pixels | None](), dict[int, ImageError]()
        for i, (image, name) in enumerate(zip(taken.images, taken.names, strict=True)):
            try:
                arrays.append(self._read(image, name))
            except ImageError as error:
                if self.on_error == "raise":
                    raise
                arrays.append(None)
                errors.setdefault(i % len(samples), error)
        if errors:
            good = [i for i in range(len(samples)) if i not in errors]
            if not good:
                raise ImageError(f"no image of the batch can be read; {next(iter(errors.values()))}")
            kept = good
            if self.on_error == "replace":
                kept = [i if i not in errors else good[i % len(good)] for i in range(len(samples))]
            errors = dict(sorted(errors.items()))
            for text in map(str, errors.values()):
                done = "leaves out" if self.on_error == "skip" else "replaces"
                warn_user(f"{type(self).__name__} {done} {text}")
            arrays = [arrays[start + i] for start in range(0, len(arrays), len(samples)) for i in kept]
            taken = take_images([samples[i] for i in kept], *self._places)
        return taken, [array for array in arrays if array is not None], tuple(map(str, errors.values()))

    @stage("decode")
    def _read(self, image: Any, name: str) -> Pixels:
        try:
            array = to_array(image, self.mode, self.decode, self.background, self.max_pixels)
        except ImageError as error:
            raise ImageError(f"{name}: {error}") from error
        if array.dtype == np.float32:
            low, high = float(array.min()), float(array.max())
            if self._bounded is not None and not (low >= 0 and high <= 1):  # NaN does not pass
                raise ImageError(
                    f"{name}: float values from {low:g} to {high:g}, "
                    f"{type(self._bounded).__name__} needs them in [0, 1]; scale them"
                )
            if not (math.isfinite(low) and math.isfinite(high)):
                raise ImageError(f"{name}: float values from {low:g} to {high:g} are not finite in float32")
        return array

    def _check_channels(self, channels: int, name: str) -> None:
        for i, operation, allowed in self._limits:
            if channels not in allowed:
                raise ImageError(
                    f"{name} has {channels} channel{'s' * (channels > 1)}, {type(operation).__name__} of view {i} "
                    f"needs {' or '.join(map(str, allowed))}: {operation!r}"
                )

    @stage("draw")
    def _draw(self, epoch: int | U64, keys: U64, images: PackedImages, names: list[str]) -> torch.Tensor:
        n, counts = len(keys), [view.uniforms for view in self.views]
        u = uniforms(self.seed, epoch, keys, range(len(counts)), max(counts))
        for i, own, first, others in self._shared:
            u[i, :, own] = u[first, :, others]
        table = np.zeros((len(counts), n, max(len(view.columns) for view in self.views)), dtype=np.float32)
        shapes = images.shapes.numpy()
        for which in self._equal:  # k views, whose images have k n rows
            view, k, start = self.views[which[0]], len(which), self._sources[which[0]] * n
            _, heights, widths = np.concatenate([shapes[start : start + n]] * k).T
            rows = u[which, :, : view.uniforms].reshape(k * n, view.uniforms)
            drawn, *sides = view.draw(rows, heights, widths)
            table[which, :, : len(view.columns)] = drawn.reshape(k, n, -1)
            sizes = np.reshape(sides, (2, k, n))
            differs = (sizes != sizes[..., :1]).any(axis=0)
            if differs.any():
                j, other = np.argwhere(differs)[0]
                (h, w), (other_h, other_w) = sizes[:, j, 0], sizes[:, j, other]
                raise ImageError(
                    f"view {which[j]} of {names[start]} is {h}x{w} and of {names[start + other]} {other_h}x{other_w}: "
                    "end it in one size, with RandomResizedCrop, Resize((h, w)) or CenterCrop"
                )
        if not np.isfinite(table).all():
            i, j, column = np.argwhere(~np.isfinite(table))[0]
            raise ValueError(
                f"{type(self).__name__}: {self.views[i].columns[column]} must be finite in float32, got "
                f"{table[i, j, column]} for view {i} of {names[self._sources[i] * n + j]}"
            )
        return torch.from_numpy(table)

    def show(
        self,
        images: Any,
        *,
        draws: int = 1,
        captions: bool = True,
        title: str = "",
        heads: Sequence[str] = (),
    ) -> "Figure":
        """Draw images and the views that a new collate function with the same seed makes of them, not normalised.

        The outline of a view's region on the image has the colour of the view's frame; dashes of several colours
        outline a region that several views share. Kornia's geometric modules draw only when they run, so their views
        have no outline. Views have their true relative sizes. If there are eight views or more, five or more
        successive views of one size are drawn in one cell, row by row and without captions. Images and views are drawn
        smaller if a batch would be wider than 9 inches, but no lower than 0.9 inches.

        Looking changes no later batch.

        Args:
            images: Images of any kind that `lightly_aug.images.to_array` takes, or samples, such as a dataset: one for
                each row, the first 16 of more.
            draws: Number of batches to draw, side by side, at least 1.
            captions: Whether to write the drawn numbers under each view.
            title: Title of the figure.
            heads: Names of the views, written above them; by default "view 0", "view 1" and so on.

        Returns:
            A figure with an image and its views in each row.

        Raises:
            ImageError: An image is damaged or does not suit the views.
            TypeError: `images` is one image, a loader, or no images at all.
            ValueError: `draws` is below 1, or there are heads, but not one for each view.
            ModuleNotFoundError: Matplotlib, of the extra "plot", is not installed.

        Example:
            >>> from lightly_aug import Shape, View
            >>> collate = MultiViewCollateFunction([View(Shape(32)), View(Shape(16))], seed=0)
            >>> figure = collate.show([torch.rand(3, 40, 60)], heads=["large", "small"])
            >>> [axes.get_title() for axes in figure.axes]
            ['60 × 40', 'crop 41 × 36, flip', 'crop 22 × 27, flip']
        """
        from lightly_aug.plot._grid import draw_grid

        check_integer(self, least=1, draws=draws)
        samples = _take_some(images)
        fresh = MultiViewCollateFunction(
            self.views,
            seed=self.seed,
            render="late",
            engine=self.engine,
            image=self.image,
            mode=self.mode,
            decode=self.decode,
            background=self.background,
            max_pixels=self.max_pixels,
            on_error=self.on_error,
        )
        batches = [views_of(fresh(samples))._draw(len(samples)) for _ in range(draws)]
        return draw_grid(batches, captions=captions, title=title, heads=heads)

    def plan(self) -> Plan:
        """Plan how the views are rendered: which operations are fused in one pass, and which run in Kornia and torch.

        The engines "cpu" and "gpu" have the same plan; the engine "reference" does all operations one by one.

        Example:
            >>> import kornia.augmentation as K
            >>> from lightly_aug import Color, Normalize, Shape, View
            >>> views = [View(Shape(32), Color()), View(Shape(32), K.RandomPlasmaShadow(p=0.3), Normalize())]
            >>> plan = MultiViewCollateFunction(views, seed=0).plan()
            >>> plan
            Plan of 2 views
              view 0: 1 pass
                fused: RandomResizedCrop, RandomHorizontalFlip, ColorJitter, RandomGrayscale
              view 1: 3 passes
                fused: RandomResizedCrop, RandomHorizontalFlip
                reference: RandomPlasmaShadow
                fused: Normalize
            >>> len(plan.slow)
            1
        """
        return plan_views(self.views, self.engine)

    def _repr_html_(self) -> str:
        slow = self.plan().slow_names
        note = f"{slow}: by the reference engine<br>" if slow else ""
        return head(repr(self).splitlines()[0]) + note + describe_views(self.views)

    def __repr__(self) -> str:
        options = f"seed={self.seed}, render={self.render!r}, engine={self.engine!r}, mode={self.mode!r}"
        if self.decode is not None:
            options += f", decode={self.decode}"
        if self.background != "white":
            options += f", background={self.background!r}"
        if self.max_pixels != MAX_PIXELS:
            options += f", max_pixels={self.max_pixels}"
        if self.on_error != "raise":
            options += f", on_error={self.on_error!r}"
        if self.image is not None:
            options += f", image={self.image!r}"
        lines = [f"{type(self).__name__}({len(self.views)} views, {options})"]
        lines += [f"  {i}: {view!r}" for i, view in enumerate(self.views)]
        return "\n".join(lines)


def _take_some(images: Any, most: int = 16) -> list[Any]:
    """Return the first images, or samples, to show."""
    is_sequence = hasattr(images, "__len__") and hasattr(images, "__getitem__")
    if is_image(images) or isinstance(images, DataLoader) or not (is_sequence or isinstance(images, Iterable)):
        raise TypeError(
            f"show: images must be a sequence of images or samples, got a {type(images).__name__}: write "
            "show([image]), show(dataset), or show(image_files(folder))"
        )
    if not is_sequence:
        return list(islice(images, most))
    if len(images) > most:
        warn_user(f"show: draws the first {most} of {len(images)} images")
    return [images[i] for i in range(min(len(images), most))]


def _list_places(owner: object, image: str | int | Sequence[str | int] | None, views: int) -> tuple[str | int, ...]:
    """Check `image`, and return the place for each view, nothing if none is given."""
    if isinstance(image, str) or not isinstance(image, Sequence):
        return () if image is None else (image,) * views
    name = type(owner).__name__
    if not all(isinstance(place, str | int) for place in image):
        raise TypeError(f"{name}: image must be a key, a field name or a number, or a sequence of them, got {image!r}")
    if len(image) != views:
        raise ValueError(
            f"{name}: image must name one place for each of the {views} views, got {len(image)}: {image!r}"
        )
    return tuple(image)


def _find_equal(views: Sequence[View], sources: Sequence[int]) -> list[list[int]]:
    """Group the numbers of equal views of one image, which are drawn in one go.

    An operation of a user could depend on all the rows that it draws, so views that have one are drawn one by one.
    """
    found = dict[tuple[object, ...], list[int]]()
    for i, (view, source) in enumerate(zip(views, sources, strict=True)):
        ours = all(type(operation).__module__.startswith("lightly_aug.") for operation in view.operations)
        found.setdefault((view, source) if ours else (i,), []).append(i)
    return list(found.values())


def _find_shared(views: Sequence[View]) -> list[tuple[int, slice, int, slice]]:
    """Find the numbers that a view takes from another: (view, its numbers, first view of that name, its numbers)."""
    found = list[tuple[int, slice, int, slice]]()
    first = dict[str, tuple[int, range]]()
    for i, view in enumerate(views):
        for name, own in view.shared:
            j, others = first.setdefault(name, (i, own))
            if len(others) != len(own):
                raise ValueError(
                    f"{name!r} is shared by views {j} and {i}, but draws {len(others)} numbers in view {j} and "
                    f"{len(own)} in view {i}: share the same items, or take another name. "
                    f"View {j}: {views[j]!r}; view {i}: {view!r}"
                )
            if j < i:
                found.append((i, slice(own.start, own.stop), j, slice(others.start, others.stop)))
    return found


class MultiViewCollateFunction(BaseCollateFunction):
    """Make any views, without a subclass.

    Args:
        views: The views to make of every image.
        **options: As in `BaseCollateFunction`.

    Example:
        >>> import torch
        >>> from lightly_aug import Shape
        >>> collate = MultiViewCollateFunction([View(Shape(32))] * 2 + [View(Shape(16, scale=(0.05, 0.3)))] * 4)
        >>> views = collate([torch.rand(3, 40, 50), torch.rand(3, 60, 30)])
        >>> [tuple(view.shape) for view in views]
        [(2, 3, 32, 32), (2, 3, 32, 32), (2, 3, 16, 16), (2, 3, 16, 16), (2, 3, 16, 16), (2, 3, 16, 16)]
    """

    def __init__(self, views: Sequence[View], **options: Unpack[Options]) -> None:
        super().__init__(views, **options)
