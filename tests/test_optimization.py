"""Optimisers and schedules against loops in float64, and against the numbers of the papers."""

import math
from copy import deepcopy
from typing import Any

import pytest
import torch
from helpers.methods import METHODS as TINY
from helpers.methods import batches, tiny
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lightly_aug.methods import METHODS
from lightly_aug.models import MoCo, SimSiam
from lightly_aug.train.lars import LARS
from lightly_aug.train.module import _clip_each
from lightly_aug.train.optimization import PAPERS, SMALL, Optimization, choose_optimization

NUMBERS = st.floats(-3, 3).filter(lambda x: abs(x) > 1e-3)


@given(
    w=st.lists(NUMBERS, min_size=2, max_size=4),
    gradients=st.lists(st.lists(NUMBERS, min_size=4, max_size=4), min_size=3, max_size=3),
    rates=st.lists(st.floats(1e-3, 2), min_size=3, max_size=3),
    decay=st.sampled_from([0.0, 0.1]),
    adapt=st.booleans(),
)
def test_lars_takes_the_steps_that_its_formula_gives_by_hand(
    w: list[float], gradients: list[list[float]], rates: list[float], decay: float, adapt: bool
) -> None:
    momentum, trust = 0.8, 0.02
    parameter = torch.tensor(w, dtype=torch.float64, requires_grad=True)
    group = {"params": [parameter], "adapt": adapt}
    optimizer = LARS([group], lr=1.0, momentum=momentum, weight_decay=decay, trust=trust)
    by_hand, v = list(w), [0.0] * len(w)
    for row, rate in zip(gradients, rates, strict=True):
        parameter.grad = torch.tensor(row[: len(w)], dtype=torch.float64)
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
        g = [row[i] + decay * by_hand[i] for i in range(len(w))]
        norms = math.sqrt(sum(x * x for x in by_hand)), math.sqrt(sum(x * x for x in g))
        share = trust * norms[0] / norms[1] if adapt and min(norms) > 0 else 1.0
        v = [momentum * v[i] + share * g[i] for i in range(len(w))]
        by_hand = [by_hand[i] - rate * v[i] for i in range(len(w))]
        assert parameter.tolist() == pytest.approx(by_hand, rel=1e-12, abs=1e-12)


def test_lars_leaves_what_has_no_norm_or_no_gradient() -> None:
    zero, still, frozen = (torch.full((2,), x, requires_grad=True) for x in (0.0, 1.0, 2.0))
    optimizer = LARS([zero, still, frozen], lr=0.5, trust=0.1)
    zero.grad, still.grad = torch.ones(2), torch.zeros(2)
    optimizer.step()
    assert zero.tolist() == [-0.5, -0.5]  # as by SGD: its norm would scale the step to nothing
    assert still.tolist() == [1.0, 1.0]
    assert frozen.tolist() == [2.0, 2.0]


def test_lars_resumes_from_its_state() -> None:
    def run(steps: int, optimizer: LARS, w: torch.Tensor) -> None:
        for step in range(steps):
            w.grad = torch.tensor([1.0, step - 0.5])
            optimizer.step()

    w = torch.tensor([3.0, 4.0], requires_grad=True)
    optimizer = LARS([w], lr=0.3)
    run(2, optimizer, w)
    other = w.detach().clone().requires_grad_()
    again = LARS([other], lr=0.3)
    again.load_state_dict(deepcopy(optimizer.state_dict()))
    run(2, optimizer, w)
    run(2, again, other)
    assert torch.equal(w, other)


@pytest.mark.parametrize("options", [{"lr": 0}, {"lr": 1, "momentum": 1}, {"lr": 1, "weight_decay": -1}])
def test_lars_refuses_numbers_out_of_range(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="LARS: "):
        LARS([torch.zeros(1, requires_grad=True)], **options)


def test_every_method_has_the_optimisation_of_its_paper_with_its_source() -> None:
    assert list(PAPERS) == list(METHODS)
    for row in PAPERS.values():
        assert all(each.source for each in (row.optimization, row.vit) if each is not None)
        assert row.least <= row.batch
        assert bool(row.reason) == (row.least > 2)


# learning rate at the batch of the paper, at its beginning, its end, and the weight decay: from the official code
@pytest.mark.parametrize(
    ("method", "vit", "peak", "last", "decay"),
    [
        ("simclr", False, 4.8, 0.0, 1e-6),
        ("moco-v1", False, 0.03, 3e-4, 1e-4),
        ("moco", False, 0.03, 0.0, 1e-4),
        ("moco-v3", True, 2.4e-3, 0.0, 0.1),
        ("byol", False, 3.2, 0.0, 1.5e-6),
        ("simsiam", False, 0.1, 0.0, 1e-4),
        ("barlow-twins", False, 1.6, 1.6e-3, 1e-6),
        ("swav", False, 4.8, 4.8e-3, 1e-6),
        ("dino", True, 2e-3, 1e-6, 0.04),
        ("pirl", False, 0.12, 1.2e-4, 1e-4),
        ("paws", False, 6.4, 0.064, 1e-6),
        ("amdim", False, 2e-4, 8e-6, 1e-5),
    ],
)
def test_the_learning_rates_are_those_of_the_official_code(
    method: str, vit: bool, peak: float, last: float, decay: float
) -> None:
    paper, chosen = PAPERS[method], choose_optimization(method, paper=True, vit=vit)
    total = 100_000
    assert chosen.peak_lr(paper.batch) == pytest.approx(peak)
    assert chosen.peak_lr(paper.batch) * chosen.lr_share(total, total, 1000) == pytest.approx(last, rel=2e-3, abs=1e-9)
    assert chosen.weight_decay == decay


def test_the_learning_rate_rises_linearly_and_falls_along_a_cosine() -> None:
    chosen = Optimization("sgd", 1.0, 0.0, warmup=2, start_lr=0.1, final_lr=0.2)
    assert chosen.warmup_steps(total=400, epochs=40) == 20
    assert chosen.warmup_steps(total=400, epochs=4) == 40  # not more than a tenth
    shares = [chosen.lr_share(step, 400, 20) for step in range(401)]
    assert shares[0] == 0.1
    assert shares[10] == pytest.approx(0.55)
    assert shares[20] == 1.0
    assert shares[210] == pytest.approx(0.6)  # the middle of the cosine
    assert shares[400] == pytest.approx(0.2)
    dropped = Optimization("sgd", 1.0, 0.0, drops=(0.6, 0.8))
    assert [dropped.lr_share(step, 10) for step in (0, 5, 6, 8)] == pytest.approx([1, 1, 0.1, 0.01])
    rising = Optimization("adamw", 1.0, 0.04, final_weight_decay=0.4)
    assert [rising.decay(step, 10) for step in (0, 5, 10)] == pytest.approx([0.04, 0.22, 0.4])


def test_biases_and_norms_are_excluded_and_the_predictor_keeps_its_rate() -> None:
    model = SimSiam(tiny(), dim=16, bottleneck=8)
    chosen = Optimization("lars", 0.2, 0.1, exclude=True, excluded_lr=0.5, fixed=("predictor",))
    groups = chosen.groups(model, batch=512)
    found = {
        name: group for group in groups for name, p in model.named_parameters() if any(p is q for q in group["params"])
    }
    assert set(found) == {name for name, p in model.named_parameters() if p.requires_grad}
    for name, group in found.items():
        excluded = model.get_parameter(name).ndim == 1
        assert group["weight_decay"] == (0.0 if excluded else 0.1)
        assert group["adapt"] is not excluded
        assert group["lr"] == pytest.approx(0.2 if excluded else 0.4)
        assert group["fixed"] is name.startswith("predictor")


def test_what_cannot_be_trained_is_refused() -> None:
    with pytest.raises(ValueError, match="MoCo has no submodule 'predictor'"):
        Optimization("sgd", 0.1, 0.0, fixed=("predictor",)).groups(MoCo(tiny(), dim=8, queue=16), 256)
    with pytest.raises(ValueError, match="no parameter of SimSiam"):
        SMALL.groups(SimSiam(tiny(), dim=16, bottleneck=8).requires_grad_(False), 256)
    with pytest.raises(ValueError, match="optimizer must be one of 'sgd', 'lars'"):
        Optimization("lion", 0.1, 0.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="lr must be above 0"):
        Optimization("sgd", 0.0, 0.0)
    with pytest.raises(ValueError, match="warmup must be at least 0"):
        Optimization("sgd", 0.1, 0.0, warmup=-1)


@pytest.mark.parametrize("name", TINY)
def test_every_method_trains_with_the_optimiser_of_its_paper(name: str) -> None:
    keys = {
        "SimCLR v1": "simclr",
        "SimCLR v2": "simclr-v2",
        "MoCo v1": "moco-v1",
        "MoCo v2": "moco",
        "MoCo v3": "moco-v3",
    }
    keys |= {"Barlow Twins": "barlow-twins", "SwAV": "swav", "CPC v2": "cpc"}
    chosen = choose_optimization(keys.get(name, name.lower()), paper=True, vit=False)
    model = TINY[name].model(tiny())
    optimizer = chosen.build(chosen.groups(model, batch=8))
    before = {key: p.detach().clone() for key, p in model.named_parameters() if p.requires_grad}
    next(batches(name, 1)).loss(model).backward()
    optimizer.step()
    moved = [key for key, p in before.items() if not torch.equal(p, model.get_parameter(key))]
    assert len(moved) > len(before) / 2


def test_each_gradient_is_clipped_by_itself() -> None:
    parameters = [nn.Parameter(torch.zeros(3)) for _ in range(3)]
    gradients = torch.tensor([[3.0, 4.0, 0.0], [0.3, 0.4, 0.0], [0.0, 0.0, 0.0]])
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient.clone()
    _clip_each([*parameters, nn.Parameter(torch.zeros(1))], 2.5)
    clipped: list[Any] = [p.grad for p in parameters]
    assert torch.allclose(clipped[0], gradients[0] / 2)
    assert torch.equal(clipped[1], gradients[1])
    assert torch.equal(clipped[2], gradients[2])


def test_a_run_says_what_it_trains_with() -> None:
    text = PAPERS["barlow-twins"].optimization.describe(batch=512, total=1000, epochs=20)
    assert text == (
        "LARS, learning rate 0.4 (0.2 x 512 / 256) to 0.0004, warm-up 100 steps (a tenth of the run, not 10 epochs), "
        "weight decay 1e-06"
    )
    assert (
        PAPERS["moco-v1"]
        .optimization.describe(256, 10, 2)
        .startswith("SGD, learning rate 0.03 (0.03 x 256 / 256) times 0.1 at 60%, 80%")
    )
