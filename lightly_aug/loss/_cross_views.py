"""The cross entropy between views that SwAV and DINO share."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lightly_aug.checks import check_positive
from lightly_aug.loss._rows import wide

__all__ = ["cross_views"]


def cross_views(owner: str, scores: Sequence[Tensor], targets: Sequence[Tensor], temperature: float) -> Tensor:
    """Compute the cross entropy of the target of each view against the softmax of every other view.

    Args:
        owner: The name of the loss, for error messages.
        scores: For each view `(n, k)`.
        targets: For the first views `(n, k)`, distributions over k; no gradient flows into them.
        temperature: Temperature τ of the scores, above 0.

    Returns:
        The mean over the rows and over all pairs of a target and another view, a scalar.

    Raises:
        ValueError: Shapes or numbers of views do not fit, or `temperature` is not above 0.
    """
    check_positive(owner, temperature=temperature)
    if len(scores) < 2 or not 1 <= len(targets) <= len(scores):
        raise ValueError(
            f"{owner}: there must be 2 views or more, and targets for the first 1 or more of them, "
            f"got {len(scores)} views and {len(targets)} targets"
        )
    shapes = [tuple(x.shape) for x in (*scores, *targets)]
    if len(set(shapes)) > 1 or len(shapes[0]) != 2 or 0 in shapes[0]:
        raise ValueError(f"{owner}: views and targets must all have one shape (n, k), n and k at least 1, got {shapes}")
    log_p = [(wide(x) / temperature).log_softmax(1) for x in scores]
    terms = [
        -(q.detach() * log_p[v]).sum(1).mean() for a, q in enumerate(targets) for v in range(len(scores)) if v != a
    ]
    return torch.stack(terms).mean()
