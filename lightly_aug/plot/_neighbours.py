"""Images and their nearest neighbours."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lightly_aug.checks import check_integer
from lightly_aug.images import to_array
from lightly_aug.plot._page import HAIRLINE, SHOWN, draw_block, lay_out, shorten, write_below

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["neighbours"]

_SAME, _OTHER = "#1b9e77", "#e41a1c"  # a bluish green, which colour-blind readers distinguish from the red


def neighbours(
    images: Sequence[Any],
    features: Tensor,
    *,
    names: Sequence[str] | None = None,
    captions: Sequence[str] | None = None,
    queries: int | Sequence[int] = 6,
    count: int = 6,
    title: str = "",
) -> Figure:
    """Draw images and their nearest neighbours, with the cosine similarity under each.

    Args:
        images: The n images, of any kind that `lightly_aug.images.to_array` takes. Those that are not drawn are not
            read, and large photographs are shrunk while they are read.
        features: Features of the images, `(n, d)`.
        names: Class names of the n images. They are written under the images; frames are green around neighbours of
            the same class as the image, and red around others.
        captions: More text to write under each of the n images, such as the names of their files.
        queries: Number of images to find neighbours of, evenly spaced; or the indices of these images, in order.
        count: Number of neighbours of each image.
        title: Title of the figure.

    Returns:
        A figure with an image and its nearest neighbours by cosine similarity in each row, the nearest first.

    Raises:
        ValueError: There is no image; features, names or captions are not one for each image; features are not finite;
            or `queries` or `count` is out of range.

    Example:
        >>> images = [torch.rand(3, 8, 8) for _ in range(4)]
        >>> figure = neighbours(images, torch.eye(4), queries=[2, 0], count=3, captions=["a", "b", "c", "d"])
        >>> [axes.get_title() for axes in figure.axes[::4]]
        ['c', 'a']
    """
    check_integer("neighbours", least=1, **{"number of images": len(images)})
    for name, given in (("features", features), ("names", names), ("captions", captions)):
        if given is not None and len(given) != len(images):
            raise ValueError(f"neighbours: {name} must be one for each of {len(images)} images, got {len(given)}")
    if features.ndim != 2 or not features.isfinite().all():
        shape = "NaN or infinity" if features.ndim == 2 else tuple(features.shape)
        raise ValueError(f"neighbours: features must be finite and (n, d), got {shape}")
    check_integer("neighbours", least=1, count=count)
    chosen = torch.tensor(_choose_queries(queries, len(images)))
    unit = torch.nn.functional.normalize(features.float(), dim=1)
    similarity = unit[chosen] @ unit.T
    similarity[torch.arange(len(chosen)), chosen] = -2  # an image is not its own neighbour
    values, found = similarity.topk(min(count, len(images) - 1))
    side, columns = 1.3, found.shape[1] + 1
    texts = [[shorten(text, int(17 * side)) for text in group] for group in (captions, names) if group is not None]
    figure, table = lay_out(len(chosen), [side] * columns, side, 1 + len(texts), title=title)

    def draw(axes: Axes, i: int, last: str, frame: str) -> None:
        draw_block(axes, [to_array(images[i], decode=SHOWN)], [frame])
        write_below(axes, "\n".join([text[i] for text in texts] + [last] * bool(last)))

    for axes, query, cosines, others in zip(table, chosen.tolist(), values.tolist(), found.tolist(), strict=True):
        draw(axes[0], query, "" if texts else "image", HAIRLINE)
        for place, cosine, i in zip(axes[1:], cosines, others, strict=True):
            draw(
                place, i, f"{cosine:.2f}", HAIRLINE if names is None else _SAME if names[i] == names[query] else _OTHER
            )
    return figure


def _choose_queries(queries: int | Sequence[int], n: int) -> list[int]:
    if not isinstance(queries, Iterable):
        check_integer("neighbours", least=1, queries=queries)
        return [int(index) for index in torch.linspace(0, n - 1, min(queries, n))]
    indices = list(queries)
    check_integer("neighbours", least=0, **{f"queries[{i}]": index for i, index in enumerate(indices)})
    if not indices or max(indices) >= n:
        raise ValueError(f"neighbours: queries must be indices of {n} images, got {indices}")
    return indices
