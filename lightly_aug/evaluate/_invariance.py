"""What a network ignores: every operation over its strengths, every group as drawn, and what that costs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lightly_aug.checks import check_integer
from lightly_aug.choices import MAX_PIXELS
from lightly_aug.evaluate._embedder import OUTPUT, Embedder
from lightly_aug.evaluate._estimate import Estimate
from lightly_aug.evaluate._firing import Firing, firing_score
from lightly_aug.evaluate._invariance_score import invariance_score
from lightly_aug.evaluate._read_out import ReadOut, read_out
from lightly_aug.evaluate._strengths import CHANGES, Change, crop_columns
from lightly_aug.evaluate._use import Use, class_use
from lightly_aug.images import Background
from lightly_aug.invariances import Color, Shape, Texture
from lightly_aug.operations import Floats, Normalize, Operation, RandomResizedCrop
from lightly_aug.options import Options
from lightly_aug.philox import uniforms
from lightly_aug.view import View

__all__ = ["Curve", "Invariance", "count_passes", "measure_invariance"]

Group = Shape | Texture | Color | Operation
Features = dict[str, Tensor]


@dataclass(frozen=True)
class Curve:
    """How invariant a network is to one operation over its strengths, or to one group as drawn.

    Attributes:
        name: Name of the operation or group.
        group: Name of the group that an operation belongs to; that of a group is its own.
        unit: Unit of the strengths.
        neutral: Strength of the unchanged image, where the score is 1; None for a group.
        strengths: The strengths; none for a group.
        points: Scores, one a strength.
        score: Mean score over strengths, or over the draws of a group.
        layers: The same by the name of the layer.
        classes: The same by the name of the class.
        images: The same of each image.
        firing: Firing-rate score; None if there are fewer than 3 copies of an image.
    """

    name: str
    group: str
    unit: str
    neutral: float | None
    strengths: tuple[float, ...]
    points: tuple[Estimate, ...]
    score: Estimate
    layers: dict[str, Estimate]
    classes: dict[str, Estimate]
    images: tuple[float, ...]
    firing: Firing | None


@dataclass(frozen=True)
class Invariance:
    """What a network ignores, the result of `measure_invariance`.

    Attributes:
        name: Name of the network.
        images: Number of images.
        operations: One for each operation.
        groups: One for each group.
        read_out: By group, what a linear model reads from the features about the draws.
        use: By group, what classes lose if it is random; empty without labels.
    """

    name: str
    images: int
    operations: tuple[Curve, ...]
    groups: tuple[Curve, ...]
    read_out: dict[str, tuple[ReadOut, ...]]
    use: dict[str, Use]


def count_passes(changes: Sequence[Change] = CHANGES, groups: int = 3, draws: int = 4) -> int:
    """Return how often `measure_invariance` calls `advance`: once for each strength, and for each draw of a group.

    Example:
        >>> count_passes()
        82
    """
    return sum(len(change.strengths) for change in changes) + groups * draws


def measure_invariance(
    network: Callable[[Tensor], Tensor],
    images: Sequence[Any],
    *,
    size: int,
    normalize: Normalize | None,
    name: str = "network",
    labels: Sequence[str] | None = None,
    changes: Sequence[Change] = CHANGES,
    groups: Mapping[str, Group] | None = None,
    layers: Sequence[str] = (),
    draws: int = 4,
    k: int = 10,
    batch_size: int = 64,
    device: torch.device | str = "cpu",
    resamples: int = 1000,
    seed: int = 0,
    advance: Callable[[], None] = lambda: None,
    mode: str | None = "RGB",
    background: Background = "white",
    decode: int | None = None,
    max_pixels: int | None = MAX_PIXELS,
) -> Invariance:
    """Measure what a network ignores, and what that costs.

    One operation is changed at a time, by its columns of the table of draws; images and copies are the same otherwise.
    `docs/invariance.md` says how to read the numbers. All images are held in memory: give some hundreds, and
    `decode=2 * size` for large photographs.

    Args:
        network: The backbone: maps images `(n, 3, size, size)` to features `(n, d)`. A module, or a method of one, runs
            in eval mode.
        images: Images, at least 5, of any kinds that collate functions take, without labels.
        size: Side of the views that the network expects, in pixels.
        normalize: Normalisation that the network expects; None for none.
        name: Name of the network.
        labels: Class of each image, for scores of classes and for what classes lose.
        changes: Operations and their strengths. An operation of your own joins as a `Change` with `operation=`, or,
            without strengths, as a group.
        groups: Groups, or single operations, by name, which are drawn as they draw; by default `Shape(size)`,
            `Texture()` and `Color()`. Give those that the network was trained with to see what it learnt.
        layers: Names of modules, such as "layer2", whose pooled outputs get scores, too.
        draws: Number of draws of each group for each image, at least 3.
        k: Neighbours that vote on the class of an image; at most all others do.
        batch_size: Images in a batch.
        device: Device to render and to embed on.
        resamples: Number of resamples of the images for the intervals.
        seed: Seed of the draws, the folds and the resamples.
        advance: Called after each pass over the images, `count_passes` times.
        mode: PIL mode of the images, as in `BaseCollateFunction`.
        background: Colour behind transparent pixels, as in `BaseCollateFunction`.
        decode: Shrink photographs while reading them, as in `BaseCollateFunction`.
        max_pixels: Refuse images of more pixels, as in `BaseCollateFunction`.

    Raises:
        ValueError: An argument is out of range, or the network outputs the same features for all images.
        ImageError: An image is damaged, or has not 3 channels.

    Example:
        >>> network = torch.nn.Sequential(torch.nn.AvgPool2d(8), torch.nn.Flatten())
        >>> photos = torch.rand(6, 3, 20, 20, generator=torch.Generator().manual_seed(0))
        >>> found = measure_invariance(network, list(photos), size=8, normalize=None, resamples=10)
        >>> flip = next(curve for curve in found.operations if curve.name == "horizontal flip")
        >>> round(flip.score.value, 3)
        1.0
    """
    check_integer("measure_invariance", least=1, size=size, batch_size=batch_size, k=k, resamples=resamples)
    check_integer("measure_invariance", least=3, draws=draws)
    check_integer("measure_invariance", least=0, seed=seed)
    if len(images) < 5 or (labels is not None and len(labels) != len(images)):
        got = f"{len(images)} images" + ("" if labels is None else f" and {len(labels)} labels")
        raise ValueError(f"measure_invariance: images must be at least 5, and labels one for each, got {got}")
    if groups is None:
        groups = {"Shape": Shape(size), "Texture": Texture(), "Color": Color()}
    drawing = {group: _GroupView.build(item, size, normalize) for group, item in groups.items()}
    still = View(RandomResizedCrop(size), normalize)
    embedder = Embedder(
        network,
        images,
        CHANGES[0].view(size, normalize),
        layers=layers,
        device=device,
        batch_size=batch_size,
        options=Options(mode=mode, background=background, decode=decode, max_pixels=max_pixels),
    )
    labelled = None if labels is None else _Labels.number(labels)
    score = partial(_score_curve, labels=labelled, resamples=resamples, seed=seed)

    operations, unchanged = [], dict[tuple[View, bytes], Features]()
    for change in changes:
        view = change.view(size, normalize)
        tables = [
            change.rows(view, strength, embedder.height, embedder.width)
            for strength in (change.neutral, *change.strengths)
        ]
        key = view, tables[0].tobytes()
        if key not in unchanged:
            unchanged[key] = embedder.embed(view, tables[0])
        copies = [_then(embedder.embed(view, table), advance) for table in tables[1:]]
        operations.append(score(change, unchanged[key], copies))

    plain = embedder.embed(still, _square(embedder))
    curves, found, use = [], dict[str, tuple[ReadOut, ...]](), dict[str, Use]()
    for number, (group, own) in enumerate(drawing.items()):
        drawn = [own.draw(group, embedder, size, seed, number * draws + draw) for draw in range(draws)]
        copies = [_then(embedder.embed(own.view, table), advance) for table in drawn]
        curves.append(score(_Head(group, group), plain, copies))
        found[group] = read_out(
            torch.cat([copy[OUTPUT] for copy in copies]),
            own.name_draws(drawn, embedder),
            torch.arange(len(images)).repeat(draws),
            resamples=resamples,
            seed=seed,
        )
        if labelled is not None and len(labelled.names) > 1:
            changed = torch.stack([copy[OUTPUT] for copy in copies])
            neighbours = min(k, len(images) - 1)
            use[group] = class_use(
                group, plain[OUTPUT], changed, labelled.numbers, k=neighbours, resamples=resamples, seed=seed
            )
    return Invariance(name, len(images), tuple(operations), tuple(curves), found, use)


class _Labels(NamedTuple):
    names: list[str]
    numbers: Tensor

    @classmethod
    def number(cls, labels: Sequence[str]) -> "_Labels":
        names = sorted(set(labels))
        return cls(names, torch.tensor([names.index(label) for label in labels]))


class _Head(NamedTuple):
    """What a curve of a group has in place of a `Change`."""

    name: str
    group: str
    unit: str = ""
    neutral: float | None = None
    strengths: tuple[float, ...] = ()


class _GroupView(NamedTuple):
    """The view of a group, and where its own columns begin."""

    view: View
    start: int

    @classmethod
    def build(cls, item: Group, size: int, normalize: Normalize | None) -> "_GroupView":
        """Build the view: if the group does not crop itself, the largest centred square comes first."""
        if isinstance(View(item).operations[0], RandomResizedCrop):
            return cls(View(item, normalize), 0)
        crop = RandomResizedCrop(size)
        return cls(View(crop, item, normalize), len(crop.columns))

    def draw(self, group: str, embedder: Embedder, size: int, seed: int, number: int) -> Floats:
        """Draw a table for all images; only the columns of the group are random."""
        keys = np.arange(len(embedder.height), dtype=np.uint64)
        (u,) = uniforms(seed, number, keys, [0], self.view.uniforms)
        table, height, width = self.view.draw(u, embedder.height, embedder.width)
        if (height != size).any() or (width != size).any():
            raise ValueError(
                f"measure_invariance: group {group} must make views of {size} pixels, got {height[0]} x {width[0]}"
            )
        if self.start:
            table[:, : self.start] = _square(embedder)
        return table

    def name_draws(self, tables: Sequence[Floats], embedder: Embedder) -> dict[str, Tensor]:
        """Return the columns of the group by name; those of crops as shares of the sides of the image."""
        table = torch.from_numpy(np.concatenate(tables))
        draws = dict(zip(self.view.columns, table.T, strict=True))
        sides = {"top": embedder.height, "height": embedder.height, "left": embedder.width, "width": embedder.width}
        for name in self.view.columns:
            operation, _, part = name.partition(".")
            if operation == "RandomResizedCrop":
                draws[name] = draws[name] / torch.from_numpy(np.tile(sides[part], len(tables)))
        return {name: draws[name] for name in self.view.columns[self.start :]}


def _square(embedder: Embedder) -> Floats:
    return np.stack(list(crop_columns(embedder.height, embedder.width).values()), axis=1)


def _then(result: Features, advance: Callable[[], None]) -> Features:
    advance()
    return result


def _score_curve(
    head: Change | _Head,
    unchanged: Features,
    copies: list[Features],
    *,
    labels: _Labels | None,
    resamples: int,
    seed: int,
) -> Curve:
    """Score the changed copies of an operation or a group against the unchanged images."""
    numbers = None if labels is None else labels.numbers
    scores = {
        layer: invariance_score(
            x, torch.stack([copy[layer] for copy in copies]), numbers, resamples=resamples, seed=seed
        )
        for layer, x in unchanged.items()
    }
    whole = scores.pop(OUTPUT)
    # The unchanged image is a copy like those of the strengths; the draws of a group are enough by themselves.
    sets = [copy[OUTPUT] for copy in ([unchanged, *copies] if head.strengths else copies)]
    firing = None
    if len(sets) >= 3:
        members = torch.arange(len(sets[0])).repeat(len(sets))
        known = None if labels is None or len(labels.names) < 2 else labels.numbers.repeat(len(sets))
        firing = firing_score(torch.cat(sets), members, known, seed=seed)
    return Curve(
        head.name,
        head.group,
        head.unit,
        head.neutral,
        head.strengths,
        points=whole.changes if head.strengths else (),
        score=whole.mean,
        layers={layer: value.mean for layer, value in scores.items()},
        classes={} if labels is None else {labels.names[label]: value for label, value in whole.classes.items()},
        images=tuple(whole.images.mean(0).tolist()),
        firing=firing,
    )
