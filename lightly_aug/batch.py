"""The batch that travels from the workers to the device, and where to find things in it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.reduction import ForkingPickler
from typing import TYPE_CHECKING, Any, Never, overload

import torch
from torch import Tensor

from lightly_aug._html import embed_figure, head
from lightly_aug.checks import check_integer
from lightly_aug.engines import Lowered, Output, choose, lower, render
from lightly_aug.images import PackedImages
from lightly_aug.operations import Normalize
from lightly_aug.operations.seeded import SeededOperation
from lightly_aug.samples import batch_members
from lightly_aug.transport import receive, send
from lightly_aug.view import View, describe_views

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lightly_aug.plot._grid import Drawn

__all__ = ["RenderedViews", "Views", "labels_of", "views_of"]


@dataclass(init=False, eq=False, repr=False)
class Views:
    """All views of a batch of images: the packed images, the draws, and the views to render from them.

    It takes the place of the images in the batch. `to` renders it; unpacking renders it where the pixels are::

        for views, labels in loader:
            x0, x1 = views.to("cuda")

    Args:
        images: The packed images: n of them or, if a sample has several, the n first ones, the n second ones and so on.
        table: `(views, n, columns)` float32 on the CPU: the draws.
        views: The views.
        index: `(n,)` int64, the indices of the images in their dataset, if they are known (see `Indexed`).
        engine: The engine to render with, one of `lightly_aug.engines.ENGINES`.
        rendered: The rendered views, if they are rendered already.
        sources: For each view the number, from 0, of the image of the sample that it shows; by default 0 for all.
        left_out: What was wrong with the samples that were left out of the batch, or replaced, see `on_error`.
        lowered: What the engine "gpu" renders the views from, if it is made already; else it is made from the draws.
        like: An empty tensor. If its dtype is not float32, it is the dtype that views are rendered in by default.

    Raises:
        ValueError: The table is not one for these images and views.
    """

    # A dataclass of one tensor, `like`, to all code that walks through batches. Lightning casts the tensors of a batch
    # to the dtype of the model before it moves them to the device: of a Views it casts `like`, and the views are then
    # rendered in that dtype. `init=False` hides the other fields from it.
    images: PackedImages = field(init=False)
    table: Tensor = field(init=False)
    views: tuple[View, ...] = field(init=False)
    index: Tensor | None = field(init=False)
    engine: str = field(init=False)
    rendered: list[Tensor] | None = field(init=False)
    sources: tuple[int, ...] = field(init=False)
    left_out: tuple[str, ...] = field(init=False)
    lowered: Lowered | None = field(init=False)
    like: Tensor

    def __init__(
        self,
        images: PackedImages,
        table: Tensor,
        views: tuple[View, ...],
        *,
        index: Tensor | None = None,
        engine: str = "auto",
        rendered: list[Tensor] | None = None,
        sources: tuple[int, ...] | None = None,
        left_out: tuple[str, ...] = (),
        lowered: Lowered | None = None,
        like: Tensor | None = None,
    ) -> None:
        _check_table(table, len(images), views)
        self.images = images
        self.table = table
        self.views = views
        self.index = index
        self.engine = engine
        self.rendered = rendered
        self.sources = (0,) * len(views) if sources is None else sources
        self.left_out = left_out
        self.lowered = lowered
        self.like = torch.empty(0, dtype=torch.float32) if like is None else like

    def to(
        self,
        device: torch.device | torch.dtype | str | int | None = None,
        dtype: torch.dtype | None = None,
        *,
        non_blocking: bool = True,
        memory_format: torch.memory_format = torch.contiguous_format,
    ) -> "RenderedViews":
        """Render on a device.

        Args:
            device: Where to render, by default where the pixels are. A dtype alone is taken as the dtype, as by
                `Tensor.to`.
            dtype: Floating dtype of the views; by default the one that a trainer asked for, else each view's own.
            non_blocking: Whether copies from pinned memory may overlap with what the host does next.
            memory_format: `torch.contiguous_format` or `torch.channels_last`.

        Returns:
            A list with a tensor `(n, channels, height, width)` for each view, which also has the `index`, the `draws`
            and the `matrices` of this batch. The fast engines make several views in one allocation, which is
            freed with the last of them: `clone` a view that is kept alone.

        Raises:
            ValueError: The dtype is not floating, or the engine cannot render on that device.
            RuntimeError: A CUDA graph is being captured: its replays would repeat the draws.
        """
        device, dtype = _split_target(device, dtype)
        output = Output(device or self.device, dtype or self._dtype, memory_format, non_blocking)
        return RenderedViews(self._render(range(len(self)), output), self)

    def cuda(self, device: torch.device | str | int | None = None, non_blocking: bool = True) -> "RenderedViews":
        """Render on a CUDA device, as `to` does.

        Args:
            device: The device, or its number; by default the current CUDA device.
            non_blocking: As in `to`.
        """
        return self.to("cuda" if device is None else device, non_blocking=non_blocking)

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Never:
        # torch calls this in place of any function of its own that gets a Views, such as torch.cat
        name = getattr(function, "__name__", str(function))
        raise TypeError(f"{name} wants tensors, got a Views: render it first, with views.to(device)")

    def _render(self, which: Sequence[int], output: Output) -> list[Tensor]:
        if self.rendered is not None:
            kept = [self.rendered[i] for i in which]
            return [_move(view, output) for view in kept]
        if lowered := self._find_lowered(which, output):
            return lowered.render(self.images, output)
        images = self.images
        if len(set(self.sources)) > 1:  # so that the pixels of all images are moved once
            images = images.replace_pixels(images.pixels.to(output.device, non_blocking=output.non_blocking))
        made: dict[int, Tensor] = {}
        for source in {self.sources[i] for i in which}:
            own = [i for i in which if self.sources[i] == source]
            views = tuple(self.views[i] for i in own)
            tensors = render(self._images_of(source, images), self.table[own], views, output, self.engine)
            made.update(zip(own, tensors, strict=True))
        return [made[i] for i in which]

    def _find_lowered(self, which: Sequence[int], output: Output) -> Lowered | None:
        """Return what the engine "gpu" renders these views from, None if it does not render them all in one go."""
        if choose(self.engine, output.device) != "gpu" or len(which) < len(self) or output.dtype == torch.float64:
            return None
        arguments = self.images, self.table, self.views, self.sources
        if self.lowered is None or not self.lowered.suits(*arguments):
            self.lowered = lower(*arguments)
        return self.lowered

    def _images_of(self, source: int, images: PackedImages | None = None) -> PackedImages:
        """Return one image of each sample."""
        images = self.images if images is None else images
        return images.select(source * self.batch_size, (source + 1) * self.batch_size)

    @property
    def _dtype(self) -> torch.dtype | None:
        return None if self.like.dtype == torch.float32 else self.like.dtype

    def _with(self, **changes: Any) -> "Views":
        return Views(**self.__dict__ | changes)

    def render(self) -> "Views":
        """Return the same views, rendered where the pixels are, without the pixels of the images."""
        images = self.images.replace_pixels(self.images.pixels.new_empty(0))
        return self._with(images=images, rendered=self.to(), lowered=None)

    def pin_memory(self) -> "Views":
        """Return the same views in page-locked memory, from which `to` copies without blocking. DataLoader calls it."""
        rendered = self.rendered and [view.pin_memory() for view in self.rendered]
        images = self.images.replace_pixels(self.images.pixels.pin_memory())
        return self._with(images=images, rendered=rendered, lowered=self.lowered and self.lowered.pin_memory())

    def show(self, count: int = 4, *, captions: bool = True, title: str = "", heads: Sequence[str] = ()) -> "Figure":
        """Draw the first samples of the batch and their views, not normalised.

        The outline of a view's region on the image has the colour of the view's frame. Views that are rendered
        already, as by workers on a machine without an accelerator, stand alone: their images are gone.

        Args:
            count: The number of samples, at least 1.
            captions: Whether to write the drawn numbers under each view.
            title: Title of the figure.
            heads: Names of the views, written above them; by default "view 0", "view 1" and so on.

        Returns:
            A figure with the image of a sample and its views in each row.

        Raises:
            ValueError: `count` is below 1, or there are heads, but not one for each view.
            ModuleNotFoundError: Matplotlib, of the extra "plot", is not installed.
        """
        from lightly_aug.plot._grid import draw_grid

        check_integer(self, least=1, count=count)
        return draw_grid([self._draw(count)], captions=captions, title=title, heads=heads)

    def _draw(self, count: int) -> "Drawn":
        """Return the first samples as a grid shows them."""
        from lightly_aug.plot._grid import Drawn

        n, count = self.batch_size, min(count, self.batch_size)
        places = range(0, len(self.images), n)
        shapes = torch.cat([self.images.shapes[start : start + count] for start in places])
        images = PackedImages(self.images.pixels, shapes, self.images.channels, self.images.raw)
        if self.rendered is not None:
            made = [_undo_normalize(view, x[:count]) for view, x in zip(self.views, self.rendered, strict=True)]
        else:
            whole = self._with(views=tuple(view.without_normalize() for view in self.views), lowered=None)
            if not any(isinstance(o, SeededOperation) for view in self.views for o in view.operations):
                whole = whole._with(images=images, table=self.table[:, :count])
            made = [x[:count] for x in whole.to()]  # what Kornia draws depends on the other images of the batch
        return Drawn(images, self.table[:, :count], self.views, self.sources, [x.cpu() for x in made])

    def _repr_html_(self) -> str:
        try:
            picture = embed_figure(self.show(2))
        except ModuleNotFoundError as error:
            picture = str(error)
        recipe = f"<details><summary>recipe</summary>{describe_views(self.views)}</details>"
        return head(repr(self).splitlines()[0]) + picture + recipe

    @property
    def device(self) -> torch.device:
        """The device of the pixels."""
        return self.images.pixels.device

    @property
    def batch_size(self) -> int:
        """The number of samples."""
        return self.table.shape[1]

    @property
    def draws(self) -> list[dict[str, Tensor]]:
        """The draws: for each view its columns by name, each `(n,)` float32.

        Example:
            >>> import torch
            >>> from lightly_aug import MultiViewCollateFunction, RandomGaussianBlur, View
            >>> collate = MultiViewCollateFunction([View(RandomGaussianBlur((1, 2), p=1))], seed=0)
            >>> views = collate([torch.zeros(3, 8, 8), torch.ones(3, 8, 8)])
            >>> views.draws[0]
            {'RandomGaussianBlur.sigma': tensor([1.3174, 1.9596])}
        """
        return [
            dict(zip(view.columns, rows.T, strict=False)) for view, rows in zip(self.views, self.table, strict=True)
        ]

    @property
    def captions(self) -> list[list[str]]:
        """The draws in words: for each view what happens to each of the n images, as `show` writes it below a view.

        An operation that does nothing to an image is left out, so the text may be empty.

        Example:
            >>> import torch
            >>> from lightly_aug import MultiViewCollateFunction, RandomGaussianBlur, RandomHorizontalFlip, View
            >>> view = View(RandomHorizontalFlip(), RandomGaussianBlur((1, 2), p=1))
            >>> views = MultiViewCollateFunction([view], seed=0)([torch.zeros(3, 8, 8), torch.ones(3, 8, 8)])
            >>> views.captions[0]
            ['blur 1.6', 'flip, blur 1.6']
        """
        tables = self.table.double().numpy()
        return [
            [", ".join(words) for words in view.captions(drawn)] for view, drawn in zip(self.views, tables, strict=True)
        ]

    @property
    def matrices(self) -> list[Tensor]:
        """The geometry: for each view `(n, 3, 3)` float64 matrices.

        They map (x, y, 1) in the image to (x, y, 1) in the view, with pixel centres at integers.

        Raises:
            ValueError: A geometric module of Kornia, or a function that may move pixels, is in a view: it draws only
                when the view is rendered.
        """
        found = []
        for view, rows, source in zip(self.views, self.table, self.sources, strict=True):
            _, height, width = self._images_of(source).shapes.numpy().T
            found.append(torch.from_numpy(view.matrix(rows.double().numpy(), height, width).copy()))
        return found

    def transform_points(self, points: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Find where points of the images are in each view, such as key points and the corners of boxes.

        Pixel centres are at integers: the centre of the first pixel is (0, 0), and an image of width w goes from -0.5
        to w - 0.5. An annotation that counts from the corner of the image is half a pixel less.

        Args:
            points: `(n, k, 2)`, k points (x, y) in each of the n images; where a sample has several images, those of
                the first images of all samples, then those of the second ones. NaN, as padding, stays NaN.

        Returns:
            For each view `(n, k, 2)` float64, (x, y) in the view, also of points outside of it; and `(n, k)` bool,
            which points the view shows. It does not show a point outside of the image, or one that an operation cut
            off: that may be in the corner of a view, where a rotation after the crop left black.

        Raises:
            ValueError: The shape is another, or a matrix is not known, as for `matrices`.

        Example:
            >>> import torch
            >>> from lightly_aug import CenterCrop, MultiViewCollateFunction, Resize, View
            >>> views = MultiViewCollateFunction([View(CenterCrop(20), Resize(40))])([torch.rand(3, 30, 50)])
            >>> views.transform_points(torch.tensor([[[14.5, 4.5], [24.5, 14.5], [0.0, 14.5]]]))
            [(tensor([[[ -0.5000,  -0.5000],
                     [ 19.5000,  19.5000],
                     [-29.5000,  19.5000]]], dtype=torch.float64), tensor([[ True,  True, False]]))]
        """
        points = points.detach().double().cpu()
        n = len(self.images)
        if points.ndim != 3 or len(points) != n or points.shape[2] != 2:
            raise ValueError(
                f"{type(self).__name__}: points must be ({n}, k, 2), k points (x, y) for each of {n} images, got "
                f"{tuple(points.shape)}"
            )
        found = []
        for view, rows, source in zip(self.views, self.table, self.sources, strict=True):
            _, height, width = self._images_of(source).shapes.numpy().T
            own = points[source * self.batch_size :][: self.batch_size].numpy()
            places, shown = view.transform_points(own, rows.double().numpy(), height, width)
            found.append((torch.from_numpy(places), torch.from_numpy(shown)))
        return found

    def __len__(self) -> int:
        return len(self.views)

    @overload
    def __getitem__(self, which: int) -> Tensor: ...
    @overload
    def __getitem__(self, which: slice) -> list[Tensor]: ...
    def __getitem__(self, which: int | slice) -> Tensor | list[Tensor]:
        output = Output(self.device, self._dtype)
        if isinstance(which, slice):
            return self._render(range(len(self))[which], output)
        return self._render([range(len(self))[which]], output)[0]

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.to())

    def __repr__(self) -> str:
        state = f"packed, {self.images.pixels.nbytes / 1e6:.1f} MB" if self.rendered is None else "rendered"
        counts = f"{len(self)} view{'s' * (len(self) != 1)} of {self.batch_size} image{'s' * (self.batch_size != 1)}"
        lines = [f"Views({counts}, {self.images.channels} channels, {state})"]
        lines += [f"  {i}: {view!r}" for i, view in enumerate(self.views)]
        return "\n".join(lines)


def _send(views: Views) -> tuple[Callable[[dict[str, Any]], Views], tuple[dict[str, Any]]]:
    return _receive, (_map_tensors(views.__dict__, send),)


def _receive(state: dict[str, Any]) -> Views:
    return Views(**_map_tensors(state, receive))


def _map_tensors(state: dict[str, Any], change: Callable[[Any], Any]) -> dict[str, Any]:
    """Change all tensors of a `Views`."""
    images, lowered = state["images"], state["lowered"]
    if lowered is not None:
        lowered = lowered._replace(layout=lowered.layout._replace(words=change(lowered.layout.words)))
    return state | {
        "images": replace(images, pixels=change(images.pixels), shapes=change(images.shapes)),
        "table": change(state["table"]),
        "index": None if state["index"] is None else change(state["index"]),
        "rendered": None if state["rendered"] is None else list(map(change, state["rendered"])),
        "lowered": lowered,
        "like": change(state["like"]),
    }


ForkingPickler.register(Views, _send)  # which pickles what goes from process to process, and nothing else


class RenderedViews(list[Tensor]):
    """The views of a batch, each `(n, channels, height, width)`: a list that knows its images and draws.

    `Views.to` returns it. Trainers that call `.to` themselves, such as Lightning and Accelerate, pass it to the step.

    Args:
        tensors: The views.
        batch: The batch that they were rendered from; a trainer that rebuilds lists leaves it out.
    """

    def __init__(self, tensors: Iterable[Tensor] = (), batch: Views | None = None) -> None:
        super().__init__(tensors)
        # without the pixels, which are as large as the views
        images = batch and batch.images.replace_pixels(torch.empty(0))
        self._batch = batch and batch._with(images=images, rendered=[], lowered=None)

    def to(
        self,
        device: torch.device | torch.dtype | str | int | None = None,
        dtype: torch.dtype | None = None,
        *,
        non_blocking: bool = True,
        memory_format: torch.memory_format = torch.preserve_format,
    ) -> "RenderedViews":
        """Move or convert the views, which keep their `index`, `draws` and `matrices`.

        Args:
            device: The device, by default that of each view; a dtype alone is taken as the dtype.
            dtype: Floating dtype, by default that of each view.
            non_blocking: As in `Views.to`.
            memory_format: The memory format, by default that of each view.

        Raises:
            ValueError: The dtype is not floating.
        """
        device, dtype = _split_target(device, dtype)
        moved = [_move(view, Output(device or view.device, dtype, memory_format, non_blocking)) for view in self]
        return RenderedViews(moved, self._batch)

    def show(self, count: int = 4, *, captions: bool = True, title: str = "", heads: Sequence[str] = ()) -> "Figure":
        """Draw the views of the first samples, not normalised, as `Views.show` does.

        Args:
            count: As in `Views.show`, as all arguments.
            captions: Whether to write the drawn numbers under each view.
            title: Title of the figure.
            heads: Names of the views.
        """
        views = self._source._with(rendered=list(self))
        return views.show(count, captions=captions, title=title, heads=heads)

    def _repr_html_(self) -> str | None:
        return None if self._batch is None else self._batch._with(rendered=list(self))._repr_html_()

    def __repr__(self) -> str:
        views = ", ".join(f"{tuple(view.shape)} {view.dtype} on {view.device}" for view in self)
        return f"RenderedViews({views})"

    @property
    def index(self) -> Tensor | None:  # type: ignore[override]
        """As `Views.index`: `(n,)` int64 on the CPU, None unless the dataset is `Indexed`."""
        return self._source.index

    @property
    def left_out(self) -> tuple[str, ...]:
        """As `Views.left_out`."""
        return self._source.left_out

    @property
    def draws(self) -> list[dict[str, Tensor]]:
        """As `Views.draws`."""
        return self._source.draws

    @property
    def captions(self) -> list[list[str]]:
        """As `Views.captions`."""
        return self._source.captions

    @property
    def matrices(self) -> list[Tensor]:
        """As `Views.matrices`."""
        return self._source.matrices

    def transform_points(self, points: Tensor) -> list[tuple[Tensor, Tensor]]:
        """As `Views.transform_points`.

        Args:
            points: `(n, k, 2)`, (x, y) in the images.
        """
        return self._source.transform_points(points)

    @property
    def _source(self) -> Views:
        if self._batch is None:
            raise AttributeError(
                "these views lost their batch when something rebuilt the list: take index, draws, captions and "
                "matrices from the Views that the loader yields, before they are rendered"
            )
        return self._batch


def _check_table(table: Tensor, images: int, views: Sequence[View]) -> None:
    columns = max((len(view.columns) for view in views), default=0)
    good = isinstance(table, Tensor) and table.ndim == 3 and (table.dtype, table.device.type) == (torch.float32, "cpu")
    if not good or len(table) != len(views) or table.shape[1] > images or table.shape[2] < columns:
        came = f"{tuple(table.shape)} {table.dtype} on {table.device}" if isinstance(table, Tensor) else repr(table)
        raise ValueError(
            f"Views: table must be a tensor (views, n, columns) of float32 on the CPU, of {len(views)} views, n <= "
            f"{images} for {images} images, and columns >= {columns}, got {came}"
        )


def _split_target(
    device: torch.device | torch.dtype | str | int | None, dtype: torch.dtype | None
) -> tuple[torch.device | None, torch.dtype | None]:
    """Sort the arguments of `to`, and check the dtype."""
    if isinstance(device, torch.dtype):
        device, dtype = None, device
    if dtype is not None and not dtype.is_floating_point:
        raise ValueError(f"views are floating, got dtype={dtype}")
    return None if device is None else torch.device(device), dtype


def _undo_normalize(view: View, tensor: Tensor) -> Tensor:
    for operation in reversed(view.operations):
        if isinstance(operation, Normalize):
            mean, std = (
                torch.tensor(v, dtype=tensor.dtype, device=tensor.device).view(-1, 1, 1)
                for v in (operation.mean, operation.std)
            )
            tensor = tensor * std + mean
    return tensor


def _move(view: Tensor, output: Output) -> Tensor:
    return view.to(output.device, output.dtype, non_blocking=output.non_blocking, memory_format=output.memory_format)


def views_of(batch: Any) -> Any:
    """Find the views, or the images, in a batch.

    They are the member that is a `Views`; else the member named "image" or "images"; else the first member that is a
    floating tensor `(n, c, h, w)` or a list of such tensors; else the batch itself, if it is a tensor.

    Args:
        batch: A mapping, named tuple, dataclass instance, tuple or list, or the views themselves.

    Returns:
        A `Views`, a tensor, or a list of tensors, one a view.

    Raises:
        TypeError: There are none.
    """
    return _find_views(batch)[1]


def labels_of(batch: Any) -> Tensor | None:
    """Find the labels in a batch, None if there are none.

    They are the member named "label", "labels", "target" or "targets"; in a tuple or list, the member after the views.
    Anything but a tensor in that place is no label.

    Args:
        batch: As in `views_of`.

    Example:
        >>> labels_of({"image": torch.rand(2, 3, 8, 8), "target": torch.tensor([5, 7])})
        tensor([5, 7])
    """
    if _is_views(batch):
        return None
    members = batch_members(batch)
    names = [name for name in ("label", "labels", "target", "targets") if name in members]
    if not names and 0 in members:
        names = [_find_views(batch)[0] + 1]
    label = members.get(names[0]) if names else None
    return label if isinstance(label, Tensor) else None


def _find_views(batch: Any) -> tuple[Any, Any]:
    if _is_views(batch):
        return 0, batch
    members = batch_members(batch)
    rules: tuple[Callable[[Any, Any], bool], ...] = (
        lambda key, member: isinstance(member, Views),
        lambda key, member: key in ("image", "images"),
        lambda key, member: _is_views(member),
        lambda key, member: member is batch and isinstance(member, Tensor),
    )
    for rule in rules:
        for key, member in members.items():
            if rule(key, member):
                return key, member
    kinds = {key: type(member).__name__ for key, member in members.items()}
    raise TypeError(f"no views in a batch of {kinds}: give the loader one of our collate functions")


def _is_views(member: Any) -> bool:
    if isinstance(member, list | tuple) and member:
        return all(isinstance(view, Tensor) and view.ndim == 4 and view.is_floating_point() for view in member)
    return isinstance(member, Views) or (isinstance(member, Tensor) and member.ndim == 4 and member.is_floating_point())
