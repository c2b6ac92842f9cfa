"""Images and their nearest neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lightly_aug.images import to_array
from lightly_aug.plot._page import HAIRLINE, SHOWN, draw_block, lay_out, write_below

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
    queries: int = 6,
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
        queries: Number of images to find neighbours of, evenly spaced.
        count: Number of neighbours of each image.
        title: Title of the figure.

    Returns:
        A figure with an image and its nearest neighbours by cosine similarity in each row, the nearest first.
    """
    unit = torch.nn.functional.normalize(features.float(), dim=1)
    chosen = torch.linspace(0, len(images) - 1, min(queries, len(images))).long()
    similarity = unit[chosen] @ unit.T
    similarity[torch.arange(len(chosen)), chosen] = -2  # an image is not its own neighbour
    values, found = similarity.topk(min(count, len(images) - 1))
    side, columns = 1.3, found.shape[1] + 1
    texts = [[_shorten(text, side) for text in group] for group in (captions, names) if group is not None]
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


def _shorten(text: str, width: float) -> str:
    """Leave out the middle of a text that is wider than a cell.

    Example:
        >>> _shorten("IMG_20240131_120000_003.jpg", 1.3)
        'IMG_2024013…00_003.jpg'
    """
    most = int(17 * width)
    return text if len(text) <= most else f"{text[: most // 2]}…{text[-(most - most // 2 - 1) :]}"
