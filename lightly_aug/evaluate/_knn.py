"""Nearest neighbours among features, and a classifier that lets them vote."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from lightly_aug.checks import check_integer, check_positive

__all__ = ["Neighbours", "knn", "knn_accuracy", "knn_votes", "nearest"]

_MEMORY: Final = 256 * 2**20
_SPARE: Final = 16  # candidates in addition to k, so that a search in float32 is seldom repeated


class Neighbours(NamedTuple):
    """The nearest rows that `nearest` found, both on the CPU.

    Attributes:
        similarities: `(M, k)` float64 cosine similarities, the largest first.
        indices: `(M, k)` int64 numbers of the rows.
    """

    similarities: Tensor
    indices: Tensor


@torch.no_grad()
def nearest(
    features: Tensor,
    others: Tensor,
    k: int,
    *,
    device: torch.device | str | None = None,
    memory: int = _MEMORY,
) -> Neighbours:
    """Find the k rows of `others` that are nearest to each row of `features` by cosine similarity.

    The result is that of a search in float64 through all pairs; of rows that are equally near, the one with the smaller
    index comes first. Candidates are found in float32 and ranked in float64. If the error bound of float32 cannot
    exclude all other rows, the search for that row is repeated in float64.

    The similarity with a row of zeros is 0; values below 1e-300 count as zeros.

    Args:
        features: `(M, d)`, rows of any length in any floating dtype.
        others: `(N, d)`.
        k: Number of neighbours, from 1 to N.
        device: Device to compute on, by default that of `features`; it must support float64.
        memory: Bytes that intermediate results may take, in addition to the features themselves.

    Raises:
        ValueError: `k` is not from 1 to N, shapes do not fit, a row has a value that is not finite, or the device does
            not support float64.

    Example:
        >>> nearest(torch.tensor([[2.0, 0.1]]), torch.eye(2), k=2).indices
        tensor([[0, 1]])
    """
    if features.ndim != 2 or others.ndim != 2 or features.shape[1] != others.shape[1] or features.shape[1] == 0:
        raise ValueError(
            "nearest: features and others must be (M, d) and (N, d), d at least 1, got "
            f"{tuple(features.shape)} and {tuple(others.shape)}"
        )
    if not 1 <= k <= len(others):
        raise ValueError(f"nearest: k must be from 1 to the {len(others)} other rows, got {k}")
    check_integer("nearest", least=1, memory=memory)
    device = torch.device(features.device if device is None else device)
    if device.type == "mps":
        raise ValueError('nearest: device must support float64, got mps: write device="cpu"')
    _check_finite("nearest", features=features, others=others)
    search = _Search(len(features), others, k, device, memory)
    found = Neighbours(torch.empty(len(features), k, dtype=torch.float64), torch.empty(len(features), k).long())
    with _full_precision(device):
        for start in range(0, len(features), search.queries):
            rows = slice(start, start + search.queries)
            for result, values in zip(found, search(_scale(features[rows], device)), strict=True):
                result[rows] = values.cpu()
    return found


def knn(
    train_features: Tensor,
    train_labels: Tensor,
    test_features: Tensor,
    *,
    k: int = 20,
    temperature: float = 0.07,
    device: torch.device | str | None = None,
) -> Tensor:
    """Classify images by a vote of their k nearest training images, as in DINO (Caron et al. 2021, arXiv 2104.14294).

    Neighbours are nearest by cosine similarity s, as `nearest` finds them, and a vote has the weight `exp(s / τ)`.
    Among classes with equal votes the smallest label wins.

    Args:
        train_features: `(N, d)`, rows of any length.
        train_labels: `(N,)`, any integers.
        test_features: `(M, d)`.
        k: Number of neighbours that vote, from 1 to N.
        temperature: Temperature τ, above 0.
        device: Device to find the neighbours on, by default that of the test features.

    Returns:
        The predicted labels, `(M,)`, on the CPU.

    Raises:
        ValueError: `k` is not from 1 to N, `temperature` is not above 0, shapes do not fit, labels are not integers, or
            a row has a value that is not finite.

    Example:
        >>> knn(torch.eye(2), torch.tensor([5, 7]), torch.tensor([[0.1, 0.9]]), k=1)
        tensor([7])
    """
    _check_vote("knn", train_features, train_labels, test_features, k, temperature)
    classes, labels = torch.unique(train_labels.cpu(), return_inverse=True)
    found = nearest(test_features, train_features, k, device=device)
    rows = max(1, _MEMORY // (8 * len(classes)))  # of which the votes for all classes are in memory at a time
    winners = [
        _count_votes(similarities, labels[indices], len(classes), temperature).argmax(1)  # the first of equal ones
        for similarities, indices in zip(*(part.split(rows) for part in found), strict=True)
    ]
    predicted: Tensor = classes[torch.cat(winners)]
    return predicted


def knn_votes(
    train_features: Tensor,
    train_labels: Tensor,
    test_features: Tensor,
    *,
    classes: int | None = None,
    k: int = 20,
    temperature: float = 0.07,
    device: torch.device | str | None = None,
) -> Tensor:
    """Compute the share of the votes that `knn` counts for each class: scores for `accuracy`.

    Args:
        train_features: As in `knn`.
        train_labels: `(N,)` integers from 0 to `classes` - 1.
        test_features: As in `knn`.
        classes: Number of classes C, by default one more than the largest of `train_labels`.
        k: As in `knn`.
        temperature: As in `knn`.
        device: As in `knn`.

    Returns:
        `(M, C)` float64 on the CPU; each row sums to 1. A class without a neighbour has 0.

    Raises:
        ValueError: As in `knn`, or a label is not from 0 to C - 1.

    Example:
        >>> knn_votes(torch.eye(2), torch.tensor([0, 2]), torch.tensor([[0.1, 0.9]]), k=1)
        tensor([[0., 0., 1.]], dtype=torch.float64)
    """
    _check_vote("knn_votes", train_features, train_labels, test_features, k, temperature)
    labels = train_labels.cpu().long()
    count = int(labels.max()) + 1 if classes is None else classes
    check_integer("knn_votes", least=1, classes=count)
    if labels.min() < 0 or labels.max() >= count:
        raise ValueError(
            f"knn_votes: train_labels must be from 0 to classes - 1 = {count - 1}, got {int(labels.min())} to "
            f"{int(labels.max())}"
        )
    similarities, indices = nearest(test_features, train_features, k, device=device)
    votes = _count_votes(similarities, labels[indices], count, temperature)
    return votes.div_(votes.sum(1, keepdim=True))


def knn_accuracy(
    train_features: Tensor,
    train_labels: Tensor,
    test_features: Tensor,
    test_labels: Tensor,
    *,
    k: int = 20,
    temperature: float = 0.07,
    device: torch.device | str | None = None,
) -> float:
    """Compute the share of test images, 0 to 1, for which `knn` predicts the label in `test_labels` `(M,)`."""
    if test_labels.shape != test_features.shape[:1] or len(test_labels) == 0:
        raise ValueError(
            f"knn_accuracy: test_labels must be one for each of {len(test_features)} test rows, at least one, got "
            f"{tuple(test_labels.shape)}"
        )
    predicted = knn(train_features, train_labels, test_features, k=k, temperature=temperature, device=device)
    return (predicted == test_labels.cpu()).float().mean().item()


def _check_vote(owner: str, train: Tensor, labels: Tensor, test: Tensor, k: int, temperature: float) -> None:
    if not 1 <= k <= len(train):
        raise ValueError(f"{owner}: k must be from 1 to the {len(train)} training rows, got {k}")
    check_positive(owner, temperature=temperature)
    if labels.shape != train.shape[:1] or train.shape[1:] != test.shape[1:] or train.ndim != 2:
        raise ValueError(
            f"{owner}: train_features, train_labels and test_features must be (N, d), (N,) and (M, d), "
            f"got {tuple(train.shape)}, {tuple(labels.shape)} and {tuple(test.shape)}"
        )
    if labels.is_floating_point():
        raise ValueError(f"{owner}: train_labels must be integers, got {labels.dtype}")
    _check_finite(owner, train_features=train, test_features=test)


def _check_finite(owner: str, **matrices: Tensor) -> None:
    for name, matrix in matrices.items():
        start = 0
        for rows in matrix.split(4096):
            broken = (~rows.isfinite()).any(1)
            if broken.any():
                row = start + int(broken.int().argmax())
                raise ValueError(f"{owner}: {name} must be finite, got a value that is not in row {row}")
            start += len(rows)


def _count_votes(similarities: Tensor, labels: Tensor, classes: int, temperature: float) -> Tensor:
    """Return the votes `(M, classes)` of neighbours with labels `(M, k)`; the nearest has the vote 1."""
    # A common factor changes no vote: that of the nearest keeps exp from overflowing.
    weights = ((similarities - similarities[:, :1]) / temperature).exp()
    votes = torch.zeros(len(labels), classes, dtype=torch.float64)
    rows = torch.arange(len(labels))
    for label, weight in zip(labels.T, weights.T, strict=True):  # in order, so that equal votes have equal sums
        votes[rows, label] += weight
    return votes


class _Search:
    """The search of a block of queries through all other rows."""

    def __init__(self, count: int, others: Tensor, k: int, device: torch.device, memory: int) -> None:
        self.others = others
        self.k = k
        self.device = device
        self.memory = memory
        # As many queries at a time as possible, since the other rows are scaled again for each block of queries. The
        # divisors are the bytes of a value in float64 with its copies, and of a similarity with its own.
        most = max(1, memory // (32 * others.shape[1]))
        self.queries = max(1, min(count, most))
        self.block = max(1, min(most, memory // (16 * self.queries)))
        self.most = most
        self.factors = torch.cat([_find_factors(rows.to(device)) for rows in others.split(self.block)])

    def __call__(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Return similarities and indices, both `(m, k)`, of scaled queries `(m, d)`."""
        least, candidates = self._find_candidates(queries)
        similarities, indices = self._rank(queries, candidates)
        if candidates.shape[1] < len(self.others):
            # a row that is no candidate has at most `least` in float32
            unsure = least + _error_bound(queries.shape[1], torch.float32) >= similarities[:, -1]
            for places in unsure.nonzero()[:, 0].split(max(1, self.memory // (16 * len(self.others)))):
                if len(places):
                    similarities[places], indices[places] = self._search_in_float64(queries[places])
        return similarities, indices

    def _find_candidates(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Return the smallest similarity `(m,)` in float64 and the indices `(m, c)` of the c best rows in float32."""
        count = min(len(self.others), self.k + _SPARE)
        queries = queries.float()
        best, where = queries.new_empty(len(queries), 0), torch.empty(len(queries), 0).long().to(self.device)
        for start, others in self._blocks():
            values, places = (queries @ others.float().T).topk(min(count, len(others)))
            best, where = torch.cat([best, values], 1), torch.cat([where, places + start], 1)
            best, kept = best.topk(min(count, best.shape[1]))
            where = where.gather(1, kept)
        return best[:, -1].double(), where

    def _rank(self, queries: Tensor, candidates: Tensor) -> tuple[Tensor, Tensor]:
        """Return the k nearest of the candidates `(m, c)`, of equally near ones those with the smaller index."""
        candidates = candidates.sort().values
        rows = max(1, self.most // candidates.shape[1])
        products = [
            torch.cat([(self._scaled(part) * query[:, None]).sum(2) for part in block.split(self.most // rows, 1)], 1)
            for query, block in zip(queries.split(rows), candidates.split(rows), strict=True)
        ]
        values, order = torch.cat(products).sort(descending=True, stable=True)
        return values[:, : self.k], candidates.gather(1, order[:, : self.k])

    def _search_in_float64(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        values = torch.cat([queries @ others.T for _, others in self._blocks()], 1)
        # products of matrices round otherwise than `_rank`, which decides
        least = values.topk(self.k).values[:, -1:] - 2 * _error_bound(queries.shape[1], torch.float64)
        found = [
            self._rank(query[None], (row >= bound).nonzero().T)
            for query, row, bound in zip(queries, values, least, strict=True)
        ]
        similarities, indices = zip(*found, strict=True)
        return torch.cat(similarities), torch.cat(indices)

    def _blocks(self) -> Iterator[tuple[int, Tensor]]:
        for start in range(0, len(self.others), self.block):
            rows = slice(start, start + self.block)
            yield start, self.others[rows].detach().to(self.device).double() * self.factors[rows]

    def _scaled(self, indices: Tensor) -> Tensor:
        rows = self.others[indices.to(self.others.device)].to(self.device)
        return rows.double() * self.factors[indices]


def _scale(x: Tensor, device: torch.device) -> Tensor:
    """Return rows of length 1 in float64; rows of zeros stay."""
    x = x.detach().to(device).double()
    return x * _find_factors(x)


def _find_factors(x: Tensor) -> Tensor:
    """Return the factors `(n, 1)` in float64 that make rows `(n, d)` as long as 1; zeros stay."""
    x = x.detach().double()
    # by a power of two first, so that no square overflows or vanishes
    exponent = torch.frexp(x.abs().amax(1, keepdim=True)).exponent.clamp(max=1000).double()
    power = torch.exp2(-exponent).where(exponent > -1000, 0)
    length = torch.linalg.vector_norm(x * power, dim=1, keepdim=True)
    factors: Tensor = power / length.where(length > 0, 1)
    return factors


def _error_bound(d: int, dtype: torch.dtype) -> float:
    """Bound the rounding error of a product of two rows of length 1, summed in any order (Higham 2002, section 3.1).

    Each term is rounded twice when the factors are, once when they are multiplied, and at most d - 1 times when it is
    added; 2 more make up for the lengths, which are 1 but for rounding.
    """
    roundings = (d + 4) * torch.finfo(dtype).eps / 2
    return roundings / (1 - roundings)


@contextmanager
def _full_precision(device: torch.device) -> Iterator[None]:
    """Multiply float32 matrices in float32, not in TF32 or bfloat16: the error bound depends on it."""
    with torch.autocast(device.type, enabled=False):
        if not hasattr(torch.backends.cuda.matmul, "fp32_precision"):  # torch before 2.9
            before = torch.get_float32_matmul_precision()
            torch.set_float32_matmul_precision("highest")
            try:
                yield
            finally:
                torch.set_float32_matmul_precision(before)
            return
        backends: list[Any] = [torch.backends.cuda.matmul, torch.backends.mkldnn.matmul]  # type: ignore[attr-defined]
        precisions = [backend.fp32_precision for backend in backends]
        try:
            for backend in backends:
                backend.fp32_precision = "ieee"
            yield
        finally:
            for backend, precision in zip(backends, precisions, strict=True):
                backend.fp32_precision = precision
