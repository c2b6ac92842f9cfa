"""The loss of AMDIM."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightly_aug.checks import check_least, check_positive
from lightly_aug.distributed import gather, rank
from lightly_aug.loss._rows import dot, wide

__all__ = ["AMDIMLoss", "amdim"]

Maps = tuple[Tensor, Tensor, Tensor]


def amdim(maps0: Maps, maps1: Maps, places: Tensor, clip: float = 20.0, penalty: float = 5e-2) -> Tensor:
    """Compute the loss of AMDIM (Bachman et al. 2019, arXiv 1906.00910): contrast two views at three scales.

    Each term contrasts a source `(n, d)` of one view with a map of the other view: the positives are all places of the
    map of the same image, the negatives are all places of the maps of the other images of all ranks. With
    `raw = source · target / √d` and `s = c tanh(raw / c)`, a term is the mean over images and places l of
    `-log( e^s_l / (e^s_l + Σ_{other images, all places} e^s) )`. The loss is the sum of three terms, each the mean of
    both directions: 1→5, 1→7 and 5→5, whose source is one place of the 5×5 map. Each term adds `penalty` times the mean
    of its `raw²` before the clip, over all sources and targets. Rows are not normalised.

    Args:
        maps0: Features of the first view on grids of side 1, 5 and 7 (other sizes work as well): `(n, d)`,
            `(n, d, h5, w5)` and `(n, d, h7, w7)`, any floating dtype; the loss is computed in float32, or float64 for
            float64.
        maps1: The same features of the second view.
        places: `(2, n)` int64, the source place of 5→5 in each image, `row * w5 + column`: row 0 in `maps0` for the
            direction to `maps1`, row 1 in `maps1` for the direction to `maps0`.
        clip: Bound c of the scores, above 0.
        penalty: Weight of the mean squares, at least 0.

    Returns:
        The mean over the n images of this rank, a scalar.

    Raises:
        ValueError: Shapes do not fit, `clip` is not above 0, or `penalty` is below 0.
    """
    check_positive("amdim", clip=clip)
    check_least("amdim", 0, penalty=penalty)
    shapes = [tuple(x.shape) for x in (*maps0, *maps1)]
    n, d = shapes[0] if len(shapes[0]) == 2 else (0, 0)
    if (
        n == 0
        or len(shapes) != 6
        or shapes[:3] != shapes[3:]
        or any(len(s) != 4 or s[:2] != (n, d) for s in shapes[1:3])
    ):
        asked = "(n, d), (n, d, h5, w5) and (n, d, h7, w7), n at least 1, the same in both views"
        raise ValueError(f"amdim: maps must be {asked}, got {shapes}")
    if places.shape != (2, n) or places.dtype != torch.int64:
        raise ValueError(f"amdim: places must be (2, {n}) torch.int64, got {tuple(places.shape)} {places.dtype}")
    loss = torch.zeros((), device=places.device)
    for (r1, r5, _), (_, to5, to7), place in ((maps0, maps1, places[0]), (maps1, maps0, places[1])):
        local = r5.flatten(2)[torch.arange(n, device=place.device), :, place]  # (n, d)
        joined5, joined7 = (gather(wide(x), grad=True).flatten(2) for x in (to5, to7))  # (N, d, places)
        for source, targets in ((r1, joined5), (r1, joined7), (local, joined5)):
            loss = loss + _term(wide(source), targets, clip, penalty) / 2
    return loss


class AMDIMLoss(nn.Module):
    """`amdim` with its constants.

    Args:
        clip: Bound c of the scores, above 0.
        penalty: Weight of the mean squares, at least 0.

    Raises:
        ValueError: `clip` is not above 0, or `penalty` is below 0.
    """

    def __init__(self, clip: float = 20.0, penalty: float = 5e-2) -> None:
        super().__init__()
        check_positive(self, clip=clip)
        check_least(self, 0, penalty=penalty)
        self.clip = clip
        self.penalty = penalty

    def forward(self, maps0: Maps, maps1: Maps, places: Tensor) -> Tensor:
        """Compute `amdim`."""
        return amdim(maps0, maps1, places, self.clip, self.penalty)

    def extra_repr(self) -> str:
        """Return the arguments as the constructor takes them."""
        return f"clip={self.clip}, penalty={self.penalty}"


def _term(source: Tensor, targets: Tensor, clip: float, penalty: float) -> Tensor:
    """Contrast sources `(n, d)` with their maps among the maps of all ranks, `(N, d, places)`."""
    n, d = source.shape
    raw = dot(source, targets.transpose(1, 2).flatten(0, 1)).view(n, len(targets), -1) / math.sqrt(d)  # (n, N, places)
    s = clip * (raw / clip).tanh()
    own = rank() * n + torch.arange(n, device=s.device)
    positive = s[torch.arange(n, device=s.device), own]  # (n, places)
    others = torch.arange(len(targets), device=s.device) != own[:, None]  # (n, N)
    negative = s.masked_fill(~others[:, :, None], -torch.inf).flatten(1).logsumexp(1, keepdim=True)  # (n, 1)
    return penalty * raw.square().mean() - F.logsigmoid(positive - negative).mean()
