"""The ring buffer against a deque, and mistakes that a queue must not make."""

import math
from collections import deque
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lightly_aug.memory_bank import MemoryBank


def number_keys(first: int, n: int, dim: int = 2) -> Tensor:
    """Make n keys, each filled with its number."""
    return torch.arange(first, first + n, dtype=torch.float32)[:, None].repeat(1, dim)


def list_oldest_first(bank: MemoryBank) -> list[float]:
    keys, valid = bank.negatives()
    start = int(bank.pointer) if bool(valid.all()) else 0
    return keys.roll(-start, 0)[valid.roll(-start, 0)][:, 0].tolist()


@settings(deadline=None, max_examples=300)
@given(size=st.integers(1, 12), batches=st.lists(st.integers(0, 30), max_size=8))
def test_equals_a_deque(size: int, batches: list[int]) -> None:
    bank, oracle, seen = MemoryBank(size, 2), deque[float](maxlen=size), 0
    for n in batches:
        bank.update(number_keys(seen, n))
        oracle.extend(map(float, range(seen, seen + n)))
        seen += n
        assert list_oldest_first(bank) == list(oracle)
        assert bank.pointer == seen % size
        assert bank.filled == min(seen, size)


def test_wrapping_keeps_the_last_keys_of_a_batch() -> None:
    bank = MemoryBank(10, 2)
    for first in (0, 4, 8):
        bank.update(number_keys(first, 4))
    assert bank.keys[:, 0].tolist() == [10, 11, 2, 3, 4, 5, 6, 7, 8, 9]


def test_unwritten_rows_are_never_negatives() -> None:
    bank = MemoryBank(5, 2)
    assert bank.negatives()[1].tolist() == [False] * 5
    bank.update(number_keys(0, 2))
    keys, valid = bank.negatives()
    assert valid.tolist() == [True, True, False, False, False]
    assert keys[valid][:, 0].tolist() == [0, 1]
    bank.update(number_keys(2, 7))
    assert bank.negatives()[1].all()


def test_negatives_are_a_copy() -> None:
    bank = MemoryBank(4, 2)
    bank.update(number_keys(1, 4))
    keys, _ = bank.negatives()
    bank.update(number_keys(9, 4))
    assert keys[:, 0].tolist() == [1, 2, 3, 4]


def test_eval_mode_changes_nothing() -> None:
    bank = MemoryBank(4, 2)
    bank.update(number_keys(1, 3))
    before = {name: buffer.clone() for name, buffer in bank.state_dict().items()}
    bank.eval().update(number_keys(7, 3))
    assert all(torch.equal(buffer, before[name]) for name, buffer in bank.state_dict().items())


def test_state_dict_resumes() -> None:
    bank, resumed = MemoryBank(5, 2), MemoryBank(5, 2)
    bank.update(number_keys(0, 7))
    assert set(bank.state_dict()) == {"keys", "pointer", "filled"}
    resumed.load_state_dict(bank.state_dict())
    for each in (bank, resumed):
        each.update(number_keys(7, 4))
    assert list_oldest_first(resumed) == list_oldest_first(bank) == [6, 7, 8, 9, 10]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_keys_are_detached_and_float32(dtype: torch.dtype) -> None:
    bank = MemoryBank(3, 2)
    bank.update(number_keys(0, 2).to(dtype).requires_grad_())
    keys, _ = bank.negatives()
    assert keys.dtype == torch.float32
    assert not keys.requires_grad
    assert not bank.keys.requires_grad


@pytest.mark.parametrize("filled", [1, 3, 7])
def test_nearest_equals_a_loop(filled: int) -> None:
    keys = torch.nn.functional.normalize(torch.randn(7, 3, generator=torch.Generator().manual_seed(0)))
    queries = torch.randn(20, 3, generator=torch.Generator().manual_seed(1))
    bank = MemoryBank(7, 3)
    bank.update(keys[:filled])
    found = bank.nearest(queries.requires_grad_())
    for query, row in zip(queries, found, strict=True):
        cosines = [float(query.detach() @ key / query.detach().norm()) for key in keys[:filled]]
        assert torch.equal(row, keys[cosines.index(max(cosines))])
    assert not found.requires_grad


def test_nearest_while_empty_is_the_query() -> None:
    bank = MemoryBank(4, 2)
    queries = torch.tensor([[3.0, 4.0], [0.0, -2.0]])
    assert torch.equal(bank.nearest(queries), torch.tensor([[0.6, 0.8], [0.0, -1.0]]))
    bank.update(torch.tensor([[-1.0, 0.0]]))  # the only key, although the farthest: unwritten rows do not count
    assert torch.equal(bank.nearest(queries), torch.tensor([[-1.0, 0.0]] * 2))


def test_nearest_searches_in_float32() -> None:
    """The two keys are equal in bfloat16."""
    bank = MemoryBank(2, 2)
    bank.update(torch.tensor([[math.cos(0.01), math.sin(0.01)], [1.0, 0.0]]))
    assert bank.nearest(torch.tensor([[5.0, 0.0]], dtype=torch.bfloat16)).dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(bank.nearest(torch.tensor([[5.0, 0.0]])), torch.tensor([[1.0, 0.0]]))


def test_compiles_in_one_graph() -> None:
    eager, compiled = MemoryBank(5, 2), MemoryBank(5, 2)

    @torch.compile(fullgraph=True, backend="eager")
    def step(keys: Tensor) -> tuple[Tensor, Tensor]:
        negatives = compiled.negatives()
        compiled.nearest(keys)
        compiled.update(keys)
        return negatives

    for first in (0, 3, 6):
        keys, valid = eager.negatives()
        eager.update(number_keys(first, 3))
        compiled_keys, compiled_valid = step(number_keys(first, 3))
        assert torch.equal(compiled_keys, keys)
        assert torch.equal(compiled_valid, valid)
    assert list_oldest_first(compiled) == list_oldest_first(eager) == [4, 5, 6, 7, 8]


def test_never_waits_for_the_device() -> None:
    """The meta device has no values, so reading one would raise."""
    bank = MemoryBank(5, 2).to("meta")
    bank.update(torch.empty(3, 2, device="meta"))
    assert bank.negatives()[1].shape == (5,)


@pytest.mark.parametrize("shape", [(3,), (3, 4), (3, 2, 1)])
def test_wrong_keys_are_named(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"MemoryBank: keys must be \(n, 2\), got \(3,"):
        MemoryBank(5, 2).update(torch.zeros(shape))


@pytest.mark.parametrize(
    ("size", "dim", "says"),
    [
        (0, 2, "size must be an integer >= 1, got 0"),
        (-1, 2, "size must be an integer >= 1, got -1"),
        (3, 0, "dim must be an integer >= 1, got 0"),
        (2.5, 2, "size must be an integer >= 1, got 2.5"),
        (3, "2", "dim must be an integer >= 1, got '2'"),
    ],
)
def test_invalid_arguments_are_refused(size: Any, dim: Any, says: str) -> None:
    with pytest.raises(ValueError, match=f"MemoryBank: {says}"):
        MemoryBank(size, dim)


def test_counts_are_exact_for_any_number_of_keys() -> None:
    bank = MemoryBank(5, 2)
    assert bank.pointer.dtype == bank.filled.dtype == torch.int64


def test_len_and_repr() -> None:
    assert len(MemoryBank(5, 2)) == 5
    assert repr(MemoryBank(5, 2)) == "MemoryBank(size=5, dim=2)"
