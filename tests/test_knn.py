"""The search for nearest neighbours and their vote, compared with loops in float64 and with scikit-learn."""

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors  # type: ignore[import-untyped]
from torch import Tensor

import lightly_aug.evaluate._knn as searched
from lightly_aug.evaluate import knn, knn_accuracy, knn_votes, nearest


def search_by_hand(x: NDArray[np.float64], others: NDArray[np.float64], k: int) -> tuple[list[list[int]], list[float]]:
    """Return the indices of the k nearest of each row, equally near ones by index, and all similarities in order."""
    found, similarities = [], []
    for row in x:
        cosines = []
        for other in others:
            lengths = math.sqrt(math.fsum(row * row)) * math.sqrt(math.fsum(other * other))
            cosines.append(math.fsum(row * other) / lengths if lengths else 0.0)
        order = sorted(range(len(others)), key=lambda i: (-cosines[i], i))[:k]
        found.append(order)
        similarities += [cosines[i] for i in order]
    return found, similarities


SIZES = {"rows": st.integers(1, 9), "count": st.integers(1, 70), "d": st.integers(1, 9), "k": st.integers(1, 30)}


@given(seed=st.integers(0, 10**6), memory=st.sampled_from([1, 2000, 2**28]), **SIZES)
def test_nearest_equals_a_loop(seed: int, rows: int, count: int, d: int, k: int, memory: int) -> None:
    rng, k = np.random.default_rng(seed), min(k, count)
    x, others = rng.normal(size=(rows, d)), rng.normal(size=(count, d)) * 10.0 ** rng.integers(-9, 9, (count, 1))
    found = nearest(torch.from_numpy(x), torch.from_numpy(others), k, memory=memory)
    expected, similarities = search_by_hand(x, others, k)
    np.testing.assert_allclose(found.similarities.flatten().numpy(), similarities, rtol=0, atol=1e-15 * (d + 4))
    if d > 1:  # in one dimension all are equally near but for rounding
        assert found.indices.tolist() == expected


@given(seed=st.integers(0, 10**6), memory=st.sampled_from([1, 5000, 2**28]), **SIZES)
def test_equally_near_rows_come_by_index(seed: int, rows: int, count: int, d: int, k: int, memory: int) -> None:
    """Signs in four dimensions: their cosines are exact in any precision, and many are equal."""
    rng, k = np.random.default_rng(seed), min(k, count)
    x, others = (rng.choice([-1.0, 1.0], (n, 4)) * 2.0 ** rng.integers(-3, 3, (n, 1)) for n in (rows, count))
    others[rng.random(count) < 0.2] = 0
    found = nearest(torch.from_numpy(x), torch.from_numpy(others).float(), k, memory=memory)
    assert (found.indices.tolist(), found.similarities.flatten().tolist()) == search_by_hand(x, others, k)


@given(seed=st.integers(0, 10**6), noise=st.sampled_from([1e-8, 1e-6, 1e-4]), memory=st.sampled_from([3000, 2**28]))
def test_rows_that_float32_cannot_distinguish(seed: int, noise: float, memory: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(5, 16))
    others = rng.normal(size=16) + noise * rng.normal(size=(120, 16))
    found = nearest(torch.from_numpy(x), torch.from_numpy(others), 7, memory=memory)
    assert found.indices.tolist() == search_by_hand(x, others, 7)[0]


def test_rows_of_zeros_are_equally_far_from_all() -> None:
    x = torch.tensor([[0.0], [1e-310]], dtype=torch.float64).expand(2, 3)
    found = nearest(x, torch.randn(100, 3, generator=torch.Generator().manual_seed(0)), 4)
    assert found.indices.tolist() == [[0, 1, 2, 3]] * 2
    assert found.similarities.abs().max() == 0


@pytest.mark.parametrize("scale", [1e-299, 1e-200, 1e200, 1e308])
def test_any_length_of_rows(scale: float) -> None:
    x = torch.tensor([[3.0, 4.0], [4.0, -3.0]], dtype=torch.float64)
    found = nearest(x / 4 * scale, x, 2)
    assert found.indices.tolist() == [[0, 1], [1, 0]]
    torch.testing.assert_close(found.similarities, torch.eye(2)[:, [0, 1]].sort(descending=True).values.double())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_nearest_equals_scikit_learn(dtype: torch.dtype) -> None:
    rng = torch.Generator().manual_seed(0)
    x, others = torch.randn(40, 12, generator=rng).to(dtype), torch.randn(500, 12, generator=rng).to(dtype)
    tree = NearestNeighbors(n_neighbors=10, metric="cosine", algorithm="brute").fit(others.double().numpy())
    distances, indices = tree.kneighbors(x.double().numpy())
    found = nearest(x, others, 10, memory=10_000)
    assert (found.indices.numpy() == indices).all()
    np.testing.assert_allclose(found.similarities.numpy(), 1 - distances, rtol=0, atol=1e-12)


def allows_tf32() -> bool:
    matmul: Any = torch.backends.cuda.matmul
    return bool(matmul.fp32_precision == "tf32" if hasattr(matmul, "fp32_precision") else matmul.allow_tf32)


def test_precision_that_the_user_lowered_changes_nothing_and_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = torch.Generator().manual_seed(1)
    x, others = torch.randn(64, 256, generator=rng), torch.randn(3000, 256, generator=rng)
    expected = nearest(x, others, 20)
    # without the repetition in float64, so that only the candidates decide
    monkeypatch.setattr(searched, "_error_bound", lambda d, dtype: -1.0)
    monkeypatch.setattr(searched, "_SPARE", 0)
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        with torch.autocast("cpu", torch.bfloat16):
            found = nearest(x, others, 20)
        assert torch.get_float32_matmul_precision() == "medium"
        with searched._full_precision(torch.device("cuda")):  # few CPUs have a lower precision
            assert not allows_tf32()
        assert allows_tf32()
    finally:
        torch.set_float32_matmul_precision(before)
    assert torch.equal(found.indices, expected.indices)


def test_nearest_errors() -> None:
    x = torch.eye(3)
    for k in (0, 4):
        with pytest.raises(ValueError, match=f"nearest: k must be from 1 to the 3 other rows, got {k}"):
            nearest(x, x, k)
    for bad in (x[0], x[:, :2], x[:, :0]):
        with pytest.raises(ValueError, match=r"nearest: features and others must be \(M, d\) and \(N, d\)"):
            nearest(bad, x, 1)
    with pytest.raises(ValueError, match="d at least 1"):
        nearest(x[:, :0], x[:, :0], 1)
    with pytest.raises(ValueError, match='must support float64, got mps: write device="cpu"'):
        nearest(x, x, 1, device="mps")
    with pytest.raises(ValueError, match="memory must be an integer >= 1, got 0"):
        nearest(x, x, 1, memory=0)
    broken = torch.zeros(9000, 2)
    broken[8193, 1] = math.nan
    with pytest.raises(ValueError, match="nearest: others must be finite, got a value that is not in row 8193"):
        nearest(broken[:1], broken, 1)
    broken[8193, 1] = math.inf
    with pytest.raises(ValueError, match="knn: test_features must be finite, got a value that is not in row 8193"):
        knn(broken[:1], torch.tensor([0]), broken, k=1)


def test_nearest_of_no_rows() -> None:
    assert nearest(torch.zeros(0, 3), torch.eye(3), 2).indices.shape == (0, 2)


# --- the vote ---------------------------------------------------------------------------------------------------


def vote_by_hand(x: Tensor, y: Tensor, query: Tensor, k: int, temperature: float) -> list[Counter[int]]:
    """Return the votes for each query by label."""
    votes = []
    for row in query.double().numpy():
        indices, similarities = search_by_hand(row[None], x.double().numpy(), k)
        count = Counter[int]()
        for i, similarity in zip(indices[0], similarities, strict=True):
            count[int(y[i])] += math.exp((similarity - similarities[0]) / temperature)  # type: ignore[assignment]
        votes.append(count)
    return votes


@given(seed=st.integers(0, 10**6), k=st.integers(1, 25), temperature=st.sampled_from([0.01, 0.07, 1.0]))
def test_votes_equal_a_loop(seed: int, k: int, temperature: float) -> None:
    rng = torch.Generator().manual_seed(seed)
    x, query = torch.randn(25, 5, generator=rng), torch.randn(6, 5, generator=rng)
    y = torch.randint(0, 6, (25,), generator=rng)
    expected = torch.zeros(6, 8, dtype=torch.float64)
    for row, votes in zip(expected, vote_by_hand(x, y, query, k, temperature), strict=True):
        for label, vote in votes.items():
            row[label] = vote / sum(votes.values())
    found = knn_votes(x, y, query, classes=8, k=k, temperature=temperature)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    assert torch.equal(found.argmax(1), knn(x, y, query, k=k, temperature=temperature))
    assert knn_votes(x, y, query, k=1).shape == (6, int(y.max()) + 1)


@given(seed=st.integers(0, 10**6), k=st.integers(1, 25))
def test_of_equal_votes_the_smallest_label_wins(seed: int, k: int) -> None:
    """Cosines of -1, 0 and 1 and a huge temperature: votes are whole numbers but for parts too small to be kept."""
    rng = np.random.default_rng(seed)
    x = rng.permuted(np.eye(4)[:2], axis=1)[rng.integers(0, 2, 25)] * rng.choice([-1.0, 1.0], (25, 1))
    y = rng.integers(-3, 3, 25)
    predicted = knn(torch.from_numpy(x), torch.from_numpy(y), torch.eye(4), k=k, temperature=1e300)
    for row, label in zip(np.eye(4), predicted.tolist(), strict=True):
        votes = Counter(int(y[i]) for i in search_by_hand(row[None], x, k)[0][0])
        assert label == min(other for other in votes if votes[other] == max(votes.values()))


def test_labels_are_counted_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = torch.Generator().manual_seed(0)
    x, y = torch.randn(60, 4, generator=rng), torch.randint(-9, 9, (60,), generator=rng).int()
    whole = knn(x, y, x, k=5)
    assert whole.dtype == torch.int32
    monkeypatch.setattr(searched, "_MEMORY", 1)
    assert torch.equal(knn(x, y, x, k=5), whole)
    assert knn_accuracy(x, y, x, y, k=1) == 1


def test_vote_errors() -> None:
    x, y = torch.eye(3), torch.arange(3)
    with pytest.raises(ValueError, match=r"knn: train_labels must be integers, got torch\.float32"):
        knn(x, y.float(), x, k=1)
    with pytest.raises(ValueError, match="knn_votes: train_labels must be from 0 to classes - 1 = 1, got 0 to 2"):
        knn_votes(x, y, x, classes=2, k=1)
    with pytest.raises(ValueError, match="knn_votes: train_labels must be from 0 to classes - 1 = 1, got -1 to 1"):
        knn_votes(x, y - 1, x, k=1)
    with pytest.raises(ValueError, match="knn_votes: k must be from 1 to the 3 training rows, got 4"):
        knn_votes(x, y, x, k=4)
    with pytest.raises(ValueError, match=r"knn_accuracy: test_labels must be one for each of 3 .*, got \(2,\)"):
        knn_accuracy(x, y, x, y[:2], k=1)
