"""What methods written by hand need: float64, an optimiser of their own, and cosines one by one."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import deepcopy
from itertools import islice
from typing import TypeVar

import torch
from torch import Tensor, nn

from helpers.methods import Batch, batches, optimiser_of, train
from lightly_aug.models import SSLModel

Module = TypeVar("Module", bound=nn.Module)


def some(name: str, steps: int, rows: int = 8) -> list[Batch]:
    """The first batches of a method's views in float64."""
    return [batch.to(torch.float64).rows(slice(rows)) for batch in islice(batches(name), steps)]


def copies(*modules: Module) -> list[Module]:
    return [deepcopy(module) for module in modules]


def follow(
    model: SSLModel,
    data: Sequence[Batch],
    networks: Iterable[nn.Module],
    loss: Callable[[Batch, float], Tensor],
    after: Callable[[float], None] = lambda progress: None,
    edit: Callable[[float], None] = lambda progress: None,
    total: int = 8,
) -> None:
    """Train the model, and from the same seed what is written by hand: the losses of all steps are equal, and differ.

    Args:
        model: in float64, as are the batches.
        data: one batch a step.
        networks: copies of what is trained.
        loss: of a batch, and of the progress before the step.
        after: each step, of the progress then.
        edit: the gradients, of the progress before the step.
        total: of how many steps these are the first.
    """
    torch.manual_seed(1)
    losses = train(model, optimiser_of(model), iter(data), len(data), total)
    torch.manual_seed(1)
    expected = []
    velocity: dict[nn.Parameter, Tensor] = {}
    parameters = [p for network in networks for p in network.parameters()]
    for step, batch in enumerate(data):
        value = loss(batch, step / total)
        for p in parameters:
            p.grad = None
        value.backward()
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
    """θ' = m θ' + (1 - m) θ."""
    for p, followed in zip(slow.parameters(), fast.parameters(), strict=True):
        p.data = momentum * p.data + (1 - momentum) * followed.data


def cosine(x: Tensor, y: Tensor) -> Tensor:
    return x @ y / ((x @ x).sqrt() * (y @ y).sqrt())


def mean(terms: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(terms)).mean()


def found(query: Tensor, key: Tensor, others: Iterable[Tensor], temperature: float) -> Tensor:
    """-log of the key's share among the key and the others: InfoNCE of one query."""
    weights = [(cosine(query, x) / temperature).exp() for x in (key, *others)]
    return -(weights[0] / torch.stack(weights).sum()).log()


def without(rows: Sequence[Tensor] | Tensor, i: int) -> Iterator[Tensor]:
    """All rows but one."""
    return (row for j, row in enumerate(rows) if j != i)


def units(x: Tensor) -> list[Tensor]:
    """Rows of unit length, without gradient."""
    return [row / (row @ row).sqrt() for row in x.detach()]
