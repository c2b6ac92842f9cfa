"""The firing-rate score of invariance of Purushwalkam and Gupta 2020."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lightly_aug.checks import check_integer
from lightly_aug.evaluate._estimate import Floats

__all__ = ["Firing", "firing_score"]


class Firing(NamedTuple):
    """A firing-rate score, the result of `firing_score`.

    Attributes:
        score: The score, 0 to about 100.
        noise: The score of features that are random numbers: the floor, far above 0 because the best units are chosen.
    """

    score: float
    noise: float


def firing_score(
    features: Tensor, sets: Tensor, labels: Tensor | None = None, *, units: int = 10, seed: int = 0
) -> Firing:
    """Compute how often the units of a network that fire for one copy of an image fire for all of them.

    After Purushwalkam and Gupta 2020 (arXiv 2007.13916) and their code. Each unit, with either sign, gets the threshold
    that 1 / classes of all images pass, but at least 5 %. A unit that fires for some copy in a set counts with the
    share of the copies that it fires for, with the better of its two signs; the mean over the sets of a class, divided
    by the share of all images that pass the threshold, is the unit's score. The score is the mean of the `units` best
    units of each class, averaged over classes, as a percentage of what a unit can reach.

    Read it beside its noise: random features reach tens of percent with small sets and many units. Ties count as the
    code counts them: where many activations are exactly 0, as after ReLU, a threshold can be 0, which most images pass,
    and the unit scores low.

    Args:
        features: `(n, d)`, of all copies of all images.
        sets: `(n,)` integers: which image a row is a copy of. Sets of fewer than 3 copies set thresholds only.
        labels: `(n,)` integers, equal within a set; by default each set is a class.
        units: How many units are selected, at most d are.
        seed: Seed of the random features, of which five are averaged.

    Raises:
        ValueError: Shapes do not fit, no set has 3 copies, there is one class only, or labels differ within a set.
    """
    check_integer("firing_score", least=1, units=units)
    x = features.detach().cpu().double().numpy()
    groups = sets.cpu().numpy()
    classes = groups if labels is None else labels.cpu().numpy()
    if x.ndim != 2 or groups.shape != x.shape[:1] or classes.shape != x.shape[:1]:
        raise ValueError(
            "firing_score: features, sets and labels must be (n, d), (n,) and (n,), "
            f"got {x.shape}, {groups.shape} and {classes.shape}"
        )
    _, first, member, sizes = np.unique(groups, return_index=True, return_inverse=True, return_counts=True)
    if (classes != classes[first][member]).any():
        raise ValueError("firing_score: labels must be equal within a set")
    if sizes.max() < 3:
        raise ValueError(f"firing_score: a set must have at least 3 copies, the largest has {sizes.max()}")
    if len(np.unique(classes)) < 2:
        raise ValueError("firing_score: there must be at least 2 classes (or sets, without labels), got 1")
    rng = np.random.default_rng(seed)
    noise = [_score(rng.standard_normal(x.shape), member, classes, units) for _ in range(5)]
    return Firing(_score(x, member, classes, units), float(np.mean(noise)))


def _score(x: Floats, member: NDArray[np.int64], classes: NDArray[np.integer], units: int) -> float:
    n = len(x)
    names, label = np.unique(classes, return_inverse=True)
    percent = min((1 - 1 / len(names)) * 100, 95.0)
    index = int(n * percent // 100)
    ordered = np.sort(x, axis=0)
    upper, lower = ordered[index], ordered[n - 1 - index]
    overall = (x >= upper).mean(0)
    sizes = np.bincount(member)
    fired = np.maximum(_sum_by(member, x > upper), _sum_by(member, x < lower))  # (sets, d)
    fired[sizes < 3] = 0
    of_set = np.zeros(len(sizes), dtype=np.int64)
    of_set[member] = label
    shares = _sum_by(of_set, fired / sizes[:, None])
    count = _sum_by(of_set, fired > 0)
    local = shares / np.maximum(count, 1)  # (classes, d)
    best = -np.sort(-local / overall, axis=1)[:, :units]
    return float(best.mean() * (100 - percent))


def _sum_by(index: NDArray[np.int64], rows: NDArray[np.float64] | NDArray[np.bool_]) -> Floats:
    total = np.zeros((index.max() + 1, rows.shape[1]))
    np.add.at(total, index, rows)
    return total
