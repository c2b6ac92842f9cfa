"""What follows the trained parameters does so once for each step of an optimiser, whatever the loop looks like."""

import copy
import pickle
import warnings
from collections.abc import Callable

import pytest
import torch
from helpers.methods import METHODS, Batch, batches, tiny
from torch import Tensor

from lightly_aug.models import BYOL, MoCo, SSLModel

FOLLOWING = ["MoCo v1", "MoCo v2", "MoCo v3", "BYOL", "DINO", "LooC", "SwAV"]
SCHEDULED = ["MoCo v3", "BYOL", "DINO"]
every = pytest.mark.parametrize("name", FOLLOWING)
# MoCo v3 waits for `after_step` once, until it knows that nobody calls it
at_once = pytest.mark.parametrize("name", [name for name in FOLLOWING if name != "MoCo v3"])
quiet = pytest.mark.filterwarnings("ignore:.*nobody sets the progress:UserWarning")


def build(name: str) -> SSLModel:
    torch.manual_seed(0)
    model: SSLModel = METHODS[name].model(tiny())
    model.train()
    return model


def make_optimizer(model: SSLModel) -> torch.optim.Optimizer:
    return torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1, momentum=0.9)


def data(name: str, count: int) -> list[Batch]:
    source = batches(name)
    return [next(source) for _ in range(count)]


def train(model: SSLModel, name: str, after: Callable[[SSLModel, int], object], steps: int = 3) -> list[float]:
    optimizer, losses = make_optimizer(model), []
    for step, batch in enumerate(data(name, steps)):
        loss = batch.loss(model)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        after(model, step)
        losses.append(loss.item())
    return losses


def assert_same_state(one: SSLModel, other: SSLModel) -> None:
    first, second = one.state_dict(), other.state_dict()
    assert first.keys() == second.keys()
    for key, value in first.items():
        assert torch.equal(value, second[key]), key


def followers(model: SSLModel) -> list[Tensor]:
    """What is no parameter of the optimiser, and SwAV's prototypes."""
    parameters = dict(model.named_parameters())
    return [p.clone() for name, p in parameters.items() if not p.requires_grad or "prototypes" in name]


@at_once
@quiet
def test_a_loop_without_after_step_moves_as_one_with_it(name: str) -> None:
    told, untold = build(name), build(name)
    before = followers(untold)
    assert train(told, name, lambda model, _: model.after_step(0.0)) == train(untold, name, lambda *_: None)
    assert_same_state(told, untold)
    assert any(not torch.equal(x, y) for x, y in zip(before, followers(untold), strict=True))


@every
def test_accumulated_batches_move_once_for_each_step_wherever_the_call_stands(name: str) -> None:
    models = [build(name) for _ in range(3)]
    calls: list[Callable[[SSLModel, bool], object]] = [
        lambda model, stepped: [model.after_step(0.5) for _ in range(stepped)],  # type: ignore[func-returns-value]
        lambda model, stepped: model.after_step(0.5),  # after each batch, as Lightning's `on_train_batch_end`
        lambda model, stepped: [model.after_step(0.5) for _ in range(2)],  # type: ignore[func-returns-value]
    ]
    for model, call in zip(models, calls, strict=True):
        model.after_step(0.5)  # the progress is the same throughout
        optimizer = make_optimizer(model)
        if name == "DINO":  # calls before the first step of an optimiser each count as one, and move the centre
            optimizer.step()
        for i, batch in enumerate(data(name, 6)):
            torch.autograd.backward(batch.loss(model))
            stepped = i % 3 == 2
            if stepped:
                optimizer.step()
                optimizer.zero_grad()
            call(model, stepped)
    for model in models[1:]:
        if name != "SwAV":
            assert_same_state(models[0], model)
        for key, value in models[0].state_dict().items():  # prototypes of length 1 are normalised again at first
            torch.testing.assert_close(value, model.state_dict()[key], rtol=1e-6, atol=1e-5)


@quiet
def test_moco_v3_moves_without_after_step_from_the_second_step_on() -> None:
    model = build("MoCo v3")
    moves = []
    for _ in range(4):
        before = followers(model)
        train(model, "MoCo v3", lambda *_: None, steps=1)
        moves.append(any(not torch.equal(x, y) for x, y in zip(before, followers(model), strict=True)))
    assert moves == [False, True, True, True]


@at_once
@quiet
@pytest.mark.parametrize("how", ["saved", "evaluated"])
def test_the_last_step_is_followed_before_the_model_is_saved_or_evaluated(name: str, how: str) -> None:
    told, untold = build(name), build(name)
    train(told, name, lambda model, _: model.after_step(0.0))
    train(untold, name, lambda *_: None)
    if how == "evaluated":
        told.eval()
        untold.eval()
        for x, y in zip(followers(told), followers(untold), strict=True):
            assert torch.equal(x, y)
    saved = untold.state_dict()
    for key, value in told.state_dict().items():
        assert torch.equal(value, saved[key]), key


@quiet
def test_a_step_is_not_followed_after_other_parameters_were_loaded() -> None:
    model = build("BYOL")
    state = copy.deepcopy(model.state_dict())
    train(model, "BYOL", lambda *_: None, steps=1)
    model.load_state_dict(state)
    for key, value in model.state_dict().items():
        assert torch.equal(value, state[key]), key


@every
@quiet
@pytest.mark.parametrize("clone", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_follow_their_own_optimiser_only(name: str, clone: Callable[[SSLModel], SSLModel]) -> None:
    model = build(name)
    twin = clone(model)
    before = followers(model)
    train(twin, name, lambda *_: None)
    assert all(torch.equal(x, y) for x, y in zip(before, followers(model), strict=True))
    train(model, name, lambda *_: None)
    assert_same_state(model, twin)


@every
def test_a_step_in_eval_mode_moves_nothing(name: str) -> None:
    model = build(name)
    torch.autograd.backward(data(name, 1)[0].loss(model))
    model.eval()
    before = {name: p.clone() for name, p in model.named_parameters() if not p.requires_grad}
    make_optimizer(model).step()
    model.after_step(0.5)
    model.train()
    model.state_dict()
    assert all(torch.equal(before[name], p) for name, p in model.named_parameters() if name in before)
    assert model.progress == 0


def test_an_optimiser_of_ones_own_is_followed_at_each_call() -> None:
    model = build("BYOL")
    for batch in data("BYOL", 3):
        torch.autograd.backward(batch.loss(model))
        with torch.no_grad():
            for p in model.parameters():
                if p.grad is not None:
                    p.sub_(0.1 * p.grad)
        before = followers(model)
        model.after_step(0.5)
        assert any(not torch.equal(x, y) for x, y in zip(before, followers(model), strict=True))


@pytest.mark.parametrize("name", SCHEDULED)
def test_a_schedule_that_nobody_moves_warns_once(name: str) -> None:
    model = build(name)
    with pytest.warns(UserWarning, match="momentum.* stays at its beginning.*model.after_step") as caught:
        train(model, name, lambda *_: None, steps=4)
    (warning,) = caught
    assert str(warning.message).startswith(f"{type(model).__name__}: ")


@pytest.mark.parametrize("name", FOLLOWING)
def test_nothing_is_warned_of_where_progress_is_set_or_nothing_depends_on_it(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(build(name), name, lambda model, step: model.after_step((step + 1) / 4), steps=4)
        if name not in SCHEDULED:
            train(build(name), name, lambda *_: None, steps=4)
        model = build(name)
        model(data(name, 1)[0].views, targets=None, index=None)  # two forward passes without a step are no training
        model(data(name, 1)[0].views, targets=None, index=None)


def test_two_optimisers_in_turn_are_one_step(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build("MoCo v2")
    assert isinstance(model, MoCo)
    moves: list[float] = []
    monkeypatch.setattr(model, "follow", moves.append)
    for rounds in (3, 2):  # and then with other optimisers
        optimizers = [torch.optim.SGD(part.parameters(), lr=0.1) for part in (model.backbone, model.head)]
        for batch in data("MoCo v2", rounds):
            torch.autograd.backward(batch.loss(model))
            for optimizer in optimizers:
                optimizer.step()
        del optimizers, optimizer
    assert len(moves) == 5


def test_optimisers_of_other_models_move_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model, other = build("BYOL"), build("BYOL")
    monkeypatch.setattr(model, "follow", lambda before: pytest.fail("followed the other model"))
    train(other, "BYOL", lambda model, _: model.after_step(0.5), steps=2)


def test_the_classes_of_the_readme_do_as_they_say() -> None:
    assert BYOL.scheduled == "momentum"
    assert MoCo.scheduled == ""
