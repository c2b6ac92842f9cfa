"""Feature extraction, the k-nearest-neighbour classifier, and the linear classifier."""

import csv
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightly_aug import View, Views
from lightly_aug.evaluate import features, knn, knn_accuracy, linear_accuracy, write_features
from lightly_aug.images import PackedImages


def make_views(*rendered: Tensor) -> Views:
    """A batch that is rendered already."""
    n, c, h, w = rendered[0].shape
    images = PackedImages(torch.empty(0), torch.tensor([[0, h, w]] * n), c, np.zeros(n, dtype=bool))
    return Views(images, torch.zeros(len(rendered), n, 0), (View(),) * len(rendered), rendered=list(rendered))


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.frozen = nn.BatchNorm2d(3), nn.BatchNorm2d(3).eval()

    def forward(self, x: Tensor) -> Tensor:
        assert not self.norm.training
        assert not torch.is_grad_enabled()
        features: Tensor = self.frozen(self.norm(x)).mean((2, 3), keepdim=True)
        return features

    def embed(self, x: Tensor) -> Tensor:
        return self.forward(x)


IMAGES, LABELS = torch.rand(5, 3, 4, 4), torch.tensor([4, 0, 1, 1, 2])
OTHER = torch.zeros(5, 3, 4, 4)


@pytest.mark.parametrize(
    ("wrap", "has_labels"),
    [
        (lambda x, y, o: x, False),
        (lambda x, y, o: [x], False),
        (lambda x, y, o: make_views(x, o), False),
        (lambda x, y, o: (x, y), True),
        (lambda x, y, o: [x, y, ["name"] * len(y)], True),
        (lambda x, y, o: ([x], y), True),
        (lambda x, y, o: ([x, o], y), True),
        (lambda x, y, o: (make_views(x, o), y), True),
        (lambda x, y, o: {"image": make_views(x, o), "target": y}, True),
        (lambda x, y, o: (100 + y, make_views(x, o), y), True),
        (lambda x, y, o: (100 + y, [x, o], y), True),
        (lambda x, y, o: {"id": 100 + y, "image": x, "label": y}, True),
    ],
)
def test_features_of_every_batch(wrap: Callable[..., Any], has_labels: bool) -> None:
    batches = [wrap(IMAGES[part], LABELS[part], OTHER[part]) for part in (slice(0, 2), slice(2, 5))]
    x, labels = features(lambda images: images.mean((2, 3)), batches)
    torch.testing.assert_close(x, IMAGES.mean((2, 3)))
    assert (labels is not None and torch.equal(labels, LABELS)) if has_labels else labels is None


def test_features_of_a_loader() -> None:
    x, labels = features(nn.Flatten(), DataLoader(TensorDataset(IMAGES, LABELS), batch_size=2))
    assert torch.equal(x, IMAGES.flatten(1))
    assert labels is not None
    assert torch.equal(labels, LABELS)


@pytest.mark.parametrize("choose", [lambda network: network, lambda network: network.embed])
def test_features_restore_the_network(choose: Callable[[Network], Any]) -> None:
    network = Network()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    x, _ = features(choose(network), [IMAGES.requires_grad_()])
    assert x.shape == (5, 3)
    assert not x.requires_grad
    assert (network.training, network.norm.training, network.frozen.training) == (True, True, False)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    with pytest.raises(RuntimeError):
        features(choose(network), [torch.zeros(5, 7, 4, 4)])
    assert (network.training, network.norm.training, network.frozen.training) == (True, True, False)


def test_features_are_float32_on_the_cpu() -> None:
    x, _ = features(lambda images: images.bfloat16(), [IMAGES])
    assert (x.dtype, x.device.type) == (torch.float32, "cpu")


def test_features_errors() -> None:
    with pytest.raises(ValueError, match="features: loader must yield at least one batch, got none"):
        features(nn.Flatten(), [])


def test_features_ignore_labels_that_are_no_tensor() -> None:
    assert features(nn.Flatten(), [(torch.ones(2, 3, 2, 2), ["a", "b"])])[1] is None


def test_features_of_mappings() -> None:
    batches = [{"name": ["a", "b"], "label": torch.tensor([3, 4]), "image": torch.ones(2, 3, 2, 2)}]
    x, y = features(nn.Flatten(), batches)
    assert y is not None
    assert x.shape == (2, 12)
    assert y.tolist() == [3, 4]


def test_knn_by_hand() -> None:
    """Cosines to the query (1, 0) are 1, .8, .6, 0: at τ = .1 the first vote wins, at τ = 1 two others outvote it."""
    train = torch.tensor([[2.0, 0.0], [0.8, 0.6], [3.0, 4.0], [0.0, 1.0]])
    labels, query = torch.tensor([7, 3, 3, 9]), torch.tensor([[5.0, 0.0]])
    # e^10 > e^8 + e^6, but e^1 < e^.8 + e^.6
    assert knn(train, labels, query, k=3, temperature=0.1).tolist() == [7]
    assert knn(train, labels, query, k=3, temperature=1.0).tolist() == [3]
    assert knn(train, labels, query, k=1, temperature=1.0).tolist() == [7]
    assert knn_accuracy(train, labels, torch.cat([query, query]), torch.tensor([3, 7]), k=4, temperature=1.0) == 0.5


def count_votes(
    train: NDArray[np.float64], labels: list[int], query: NDArray[np.float64], k: int, temperature: float
) -> dict[int, float]:
    cosines = [float(row @ query / np.sqrt((row @ row) * (query @ query))) for row in train]
    nearest = sorted(range(len(train)), key=lambda i: -cosines[i])[:k]
    votes: dict[int, float] = {}
    for i in nearest:
        votes[labels[i]] = votes.get(labels[i], 0.0) + float(np.exp(cosines[i] / temperature))
    return votes


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    rows=st.integers(1, 30),
    k=st.integers(1, 30),
    temperature=st.sampled_from([0.03, 0.07, 1]),
)
def test_knn_equals_a_loop(seed: int, rows: int, k: int, temperature: float) -> None:
    k = min(k, rows)
    rng = np.random.default_rng(seed)
    train, queries, labels = rng.normal(size=(rows, 4)), rng.normal(size=(6, 4)), rng.integers(-2, 5, rows)
    predicted = knn(
        torch.from_numpy(train), torch.from_numpy(labels), torch.from_numpy(queries), k=k, temperature=temperature
    )
    for query, label in zip(queries, predicted.tolist(), strict=True):
        votes = count_votes(train, labels.tolist(), query, k, temperature)
        assert votes[label] == pytest.approx(max(votes.values()), rel=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_knn_in_half_precision_at_low_temperature(dtype: torch.dtype) -> None:
    train = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0]]).to(dtype).requires_grad_()
    labels = torch.tensor([0, 1, 2])
    assert knn(train, labels, train, k=3, temperature=1e-4).tolist() == [0, 1, 0]  # a zero row is equally far from all


def test_knn_errors() -> None:
    x, y = torch.eye(3), torch.arange(3)
    for k in (0, 4):
        with pytest.raises(ValueError, match=f"knn: k must be from 1 to the 3 training rows, got {k}"):
            knn(x, y, x, k=k)
    with pytest.raises(ValueError, match="knn: temperature must be above 0, got 0"):
        knn(x, y, x, k=1, temperature=0)
    with pytest.raises(ValueError, match=r"must be \(N, d\), \(N,\) and \(M, d\), got \(3, 3\), \(2,\) and \(3, 3\)"):
        knn(x, y[:2], x, k=1)
    with pytest.raises(ValueError, match=r"got \(3, 3\), \(3,\) and \(3, 2\)"):
        knn(x, y, x[:, :2], k=1)


def draw_clouds(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Draw points around three centres, overlapping, one coordinate a thousand times as large as the other."""
    rng = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 3, (count,), generator=rng)
    centres = torch.tensor([[0.0, 0.0], [1.5, 0.0], [0.0, 2.0]], dtype=torch.float64)
    noise = torch.randn(count, 2, dtype=torch.float64, generator=rng)
    return (centres[labels] + noise) * torch.tensor([1.0, 1000.0]) + 7, labels * 4 - 1


def linear_by_hand(x: Tensor, y: Tensor, query: Tensor, c: float) -> Tensor:
    """Label `query` by softmax regression from its formula: |W|²/2 + c Σ loss, without penalty on the bias."""
    mean, sd = x.mean(0), x.std(0, correction=0)
    classes: Tensor = torch.unique(y)
    weights = torch.zeros(3, len(classes), dtype=torch.float64, requires_grad=True)
    solver: Any = torch.optim.LBFGS([weights], max_iter=500, tolerance_grad=1e-10, line_search_fn="strong_wolfe")
    target = torch.searchsorted(classes, y)

    def loss() -> Tensor:
        solver.zero_grad()
        logits = (x - mean) / sd @ weights[:2] + weights[2]
        chosen = logits.gather(1, target[:, None])[:, 0]
        value = 0.5 * weights[:2].square().sum() + c * (logits.exp().sum(1).log() - chosen).sum()
        torch.autograd.backward(value)
        return value

    solver.step(loss)
    return classes[((query - mean) / sd @ weights[:2] + weights[2]).argmax(1)]


@pytest.mark.parametrize("c", [1e-4, 0.01, 1.0, 100.0])
def test_linear_accuracy_equals_the_formula(c: float) -> None:
    (x, y), (x_test, y_test) = draw_clouds(60, seed=0), draw_clouds(2000, seed=1)
    expected = (linear_by_hand(x, y, x_test, c) == y_test).double().mean().item()
    assert linear_accuracy(x, y, x_test, y_test, c=c) == pytest.approx(expected, abs=1.1 / 2000)  # one on the border
    assert linear_accuracy(x * 1e-3 - 5, y, x_test * 1e-3 - 5, y_test, c=c) == pytest.approx(expected, abs=1.1 / 2000)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_linear_accuracy_of_constant_features_without_warnings(dtype: torch.dtype) -> None:
    """Separable classes, with more features than rows and some of them constant, raise no warning."""
    x = torch.cat([torch.eye(6), torch.ones(6, 20)], 1).to(dtype).requires_grad_()
    y = torch.tensor([0, 0, 0, 9, 9, 9])
    assert linear_accuracy(x, y, x, y, c=1e4) == 1
    assert linear_accuracy(x.detach() * 0, y, x, y) == 0.5


def test_linear_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = torch.eye(3), torch.arange(3)
    with pytest.raises(ValueError, match="linear_accuracy: c must be above 0, got 0"):
        linear_accuracy(x, y, x, y, c=0)
    wrong = [(x, y[:2], x, y), (x, y, x[:, :2], y), (x, y, x, y[:2]), (x[0], y[0], x[0], y[0]), (x[None], y[:1], x, y)]
    for tensors in wrong:
        with pytest.raises(ValueError, match=r"must be \(N, d\), \(N,\), \(M, d\) and \(M,\), got \("):
            linear_accuracy(*tensors)
    with pytest.raises(ValueError, match="train_labels must have two classes or more, got one in 3 rows"):
        linear_accuracy(x, y * 0, x, y)

    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'lightly-aug\[train\]'"):
        linear_accuracy(x, y, x, y)


# --- files ------------------------------------------------------------------------------------------------------

VALUES = torch.tensor([[0.1, 1 / 3, 16777217.0], [-1e-30, 3.4e38, 1.17549435e-38]])


def test_every_format_restores_every_bit(tmp_path: Path) -> None:
    names, labels = ["a, b.jpg", "ü/“c”\n.jpg"], ["x", "y"]
    for suffix in ("npz", "csv", "parquet", "NPZ"):
        write_features(tmp_path / "new" / f"features.{suffix}", VALUES, names, labels)
    for suffix in ("npz", "NPZ"):
        with np.load(tmp_path / "new" / f"features.{suffix}", allow_pickle=False) as arrays:
            assert {key: value.tolist() for key, value in arrays.items()} == {
                "name": names,
                "label": labels,
                "features": VALUES.tolist(),
            }
            assert arrays["features"].dtype == np.float32
    with (tmp_path / "new" / "features.csv").open(newline="", encoding="utf-8") as file:
        head, *rows = csv.reader(file)
    assert head == ["name", "label", "f0", "f1", "f2"]
    assert [row[:2] for row in rows] == [list(pair) for pair in zip(names, labels, strict=True)]
    assert np.array([row[2:] for row in rows], dtype=np.float32).tolist() == VALUES.tolist()
    table = pytest.importorskip("pyarrow.parquet").read_table(tmp_path / "new" / "features.parquet")
    assert table.to_pydict() == {"name": names, "label": labels, "features": VALUES.tolist()}


def test_features_of_half_precision_and_with_gradients_are_written_as_float32(tmp_path: Path) -> None:
    write_features(tmp_path / "features.npz", torch.ones(1, 2, dtype=torch.bfloat16, requires_grad=True), ["a"])
    assert np.load(tmp_path / "features.npz")["features"].dtype == np.float32


def test_files_of_features_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"write_features: suffix must be one of '\.npz', .*, got '\.json'"):
        write_features(tmp_path / "features.json", VALUES, ["a", "b"])
    with pytest.raises(ValueError, match="name must be one for each of 2 rows, got 1"):
        write_features(tmp_path / "features.csv", VALUES, ["a"])
    with pytest.raises(ValueError, match="label must be one for each of 2 rows, got 3"):
        write_features(tmp_path / "features.csv", VALUES, ["a", "b"], ["x", "y", "z"])
    with pytest.raises(ValueError, match=r"features must be \(n, d\), got \(2, 3, 1, 1\)"):
        write_features(tmp_path / "features.csv", VALUES[..., None, None], ["a", "b"])
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ModuleNotFoundError, match="needs pyarrow: pip install pyarrow"):
        write_features(tmp_path / "features.parquet", VALUES, ["a", "b"])
    assert not list(tmp_path.iterdir())
