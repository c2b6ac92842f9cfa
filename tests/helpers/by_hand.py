"""Helpers for methods written by hand: float64, a plain optimiser, and cosines of single rows."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import deepcopy
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from helpers.methods import Batch, batches, make_optimiser, train
from lightly_aug.models import SSLModel


def first_batches(name: str, steps: int, rows: int = 8) -> list[Batch]:
    """Return the first batches of a method's views in float64."""
    return [batch.to(torch.float64).rows(slice(rows)) for batch in islice(batches(name), steps)]


def copy_modules(*modules: nn.Module) -> list[Any]:
    """Copy modules; Any, as tests look at their parts."""
    return [deepcopy(module) for module in modules]


def assert_same_losses(
    model: SSLModel,
    data: Sequence[Batch],
    networks: Iterable[nn.Module],
    loss: Callable[[Batch, float], Tensor],
    after: Callable[[float], None] = lambda progress: None,
    edit: Callable[[float], None] = lambda progress: None,
    total: int = 8,
) -> None:
    """Train the model and the method written by hand from one seed: losses agree, and differ between steps.

    Args:
        model: The model in float64, as are the batches.
        data: One batch per step.
        networks: Copies of the networks to train.
        loss: The loss of a batch, given the progress before the step.
        after: Called after each step with the progress.
        edit: Changes the gradients, given the progress before the step.
        total: Number of steps of which these are the first.
    """
    torch.manual_seed(1)
    losses = train(model, make_optimiser(model), iter(data), len(data), total)
    torch.manual_seed(1)
    expected = []
    velocity: dict[nn.Parameter, Tensor] = {}
    parameters = [p for network in networks for p in network.parameters()]
    for step, batch in enumerate(data):
        value = loss(batch, step / total)
        for p in parameters:
            p.grad = None
        torch.autograd.backward(value)
        edit(step / total)
        for p in parameters:
            if p.grad is not None:
                velocity[p] = p.grad + 0.9 * velocity.get(p, 0)
                p.data = p.data - 0.02 * velocity[p]
        after((step + 1) / total)
        expected.append(value.item())
    torch.testing.assert_close(losses, expected, rtol=0, atol=1e-9)
    assert len({round(value, 6) for value in losses}) == len(losses)


def average(slow: nn.Module, fast: nn.Module, momentum: float) -> None:
    """Update the parameters θ' of `slow`: θ' = m θ' + (1 - m) θ."""
    for p, q in zip(slow.parameters(), fast.parameters(), strict=True):
        p.data = momentum * p.data + (1 - momentum) * q.data


def cosine(x: Tensor, y: Tensor) -> Tensor:
    return x @ y / ((x @ x).sqrt() * (y @ y).sqrt())


def mean(terms: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(terms)).mean()


def contrast(query: Tensor, key: Tensor, others: Iterable[Tensor], temperature: float) -> Tensor:
    """Compute InfoNCE of one query: -log of the key's share among the key and the others."""
    weights = [(cosine(query, x) / temperature).exp() for x in (key, *others)]
    return -(weights[0] / torch.stack(weights).sum()).log()


def all_but(rows: Sequence[Tensor] | Tensor, i: int) -> Iterator[Tensor]:
    """Yield all rows except row i."""
    return (row for j, row in enumerate(rows) if j != i)


def units(x: Tensor) -> list[Tensor]:
    """Normalise rows, without gradient."""
    return [row / (row @ row).sqrt() for row in x.detach()]
