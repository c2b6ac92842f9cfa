"""Two gloo processes, started once, compared with one process on the joined batch."""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import pytest
import torch
import torch.distributed as dist
from helpers.methods import BATCH, METHODS, batches, make_optimiser, tiny
from helpers.pairs import LOSSES
from helpers.ranks import Ranks, start_ranks
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from lightly_aug.distributed import broadcast, gather, rank, shuffle, unshuffle, world_size
from lightly_aug.loss import DINOLoss, NCELoss, sinkhorn
from lightly_aug.memory_bank import MemoryBank
from lightly_aug.models import MoCo, SimCLR, SSLModel

RANKS = 2


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ranks]:
    with start_ranks(RANKS, tmp_path_factory.mktemp("ranks")) as started:
        yield started


def take_own(x: Tensor) -> Tensor:
    return x.chunk(world_size())[rank()]


def draw_joined_batch(n: int = 6, d: int = 5) -> tuple[Tensor, Tensor]:
    x = torch.randn(2, n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    return x[0], x[1]


def test_one_process_returns_its_input() -> None:
    x = torch.randn(3, 2, requires_grad=True)
    assert (rank(), world_size()) == (0, 1)
    assert gather(x, grad=True) is x
    assert torch.equal(gather(x), x)
    assert not gather(x).requires_grad
    state = torch.random.get_rng_state()
    shuffled, order = shuffle(x)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert broadcast(x) is x
    assert unshuffle(shuffled, order) is shuffled is x


def gather_on_ranks() -> tuple[Tensor, Tensor, bool]:
    x = take_own(torch.arange(8.0).view(4, 2)).T.contiguous().T.requires_grad_()  # not contiguous
    plain, joined = gather(x), gather(x, grad=True)
    weight = torch.arange(1, 5.0)[:, None] * (rank() + 1)  # each rank has another gradient
    torch.autograd.backward((joined * weight).sum())
    assert x.grad is not None
    assert torch.equal(plain, joined)
    return joined.detach(), x.grad, plain.requires_grad


def test_gather(ranks: Ranks) -> None:
    for number, (joined, gradient, plain_requires_grad) in enumerate(ranks(gather_on_ranks)):
        assert torch.equal(joined, torch.arange(8.0).view(4, 2))
        assert not plain_requires_grad
        rows = torch.arange(1, 5.0).chunk(RANKS)[number][:, None]
        assert torch.equal(gradient, (3 * rows).expand(2, 2))  # (1 + 2) from both ranks


def linear_on_ranks(loss: Callable[[Tensor, Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Return the loss and gradient of a linear encoder, with DDP if there are several ranks."""
    torch.manual_seed(0)
    encoder = nn.Linear(5, 4, bias=False, dtype=torch.float64)
    network = DistributedDataParallel(encoder) if dist.is_initialized() else encoder
    x0, x1 = draw_joined_batch()
    z0, z1 = network(torch.cat([take_own(x0), take_own(x1)])).chunk(2)
    value = loss(z0, z1)
    torch.autograd.backward(value)
    assert encoder.weight.grad is not None
    return value.detach(), encoder.weight.grad


@pytest.mark.parametrize("loss", LOSSES)
def test_losses_equal_one_process(ranks: Ranks, loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    value, gradient = linear_on_ranks(loss)
    values, gradients = zip(*ranks(linear_on_ranks, loss), strict=True)
    torch.testing.assert_close(torch.stack(values).mean(), value, rtol=0, atol=1e-10)
    for each in gradients:
        torch.testing.assert_close(each, gradient, rtol=0, atol=1e-10)


def statistics_on_ranks() -> tuple[Tensor, Tensor, Tensor]:
    """Return the statistics that losses take over all ranks: assignments, a centre, a normaliser."""
    x, y = draw_joined_batch()
    scores, valid = take_own(x), take_own(torch.tensor([True, False, True, True, False, False]))
    center, normalizer = DINOLoss(5, momentum=0.5), NCELoss(50)
    center([scores, take_own(y)], [take_own(y), scores])
    normalizer(scores, take_own(y), y)
    return sinkhorn(scores, valid=valid), center.center, normalizer.log_z


def test_statistics_are_those_of_the_joined_batch(ranks: Ranks) -> None:
    assignments, center, log_z = statistics_on_ranks()
    parts, centers, normalizers = zip(*ranks(statistics_on_ranks), strict=True)
    torch.testing.assert_close(torch.cat(parts), assignments, rtol=0, atol=1e-12)
    for each, expected in ((centers, center), (normalizers, log_z)):
        assert torch.equal(*each)
        torch.testing.assert_close(each[0], expected)


def bank_on_ranks(size: int) -> tuple[Tensor, Tensor, Tensor]:
    bank = MemoryBank(size, 1)
    for step in range(3):
        bank.update(torch.tensor([[0.0], [1.0]]) + 10 * rank() + 100 * step)
    return bank.keys[:, 0], bank.pointer, bank.filled


@pytest.mark.parametrize("size", [3, 5, 20])
def test_every_bank_has_the_keys_of_all_ranks(ranks: Ranks, size: int) -> None:
    here, there = ranks(bank_on_ranks, size)
    assert all(torch.equal(a, b) for a, b in zip(here, there, strict=True))
    keys, pointer, filled = here
    oldest_first = keys.roll(-int(pointer)).tolist() if filled == size else keys[:filled].tolist()
    assert oldest_first == [0, 1, 10, 11, 100, 101, 110, 111, 200, 201, 210, 211][-size:]


def shuffle_on_ranks() -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    x = take_own(torch.arange(16.0)[:, None])
    shuffled, order = shuffle(x)
    norm, plain_norm = nn.BatchNorm1d(1, momentum=1), nn.BatchNorm1d(1, momentum=1)
    norm(shuffled)
    plain_norm(x)
    assert norm.running_mean is not None
    assert plain_norm.running_mean is not None
    return shuffled, order, unshuffle(2 * shuffled, order), norm.running_mean, plain_norm.running_mean


def test_shuffle(ranks: Ranks) -> None:
    shuffled, orders, back, means, plain_means = zip(*ranks(shuffle_on_ranks), strict=True)
    assert torch.equal(*orders)
    assert torch.equal(orders[0].sort().values, torch.arange(16))
    assert torch.equal(torch.cat(shuffled)[:, 0], orders[0].float())
    assert torch.equal(torch.cat(back)[:, 0], 2 * torch.arange(16.0))
    assert [mean.item() for mean in plain_means] == [3.5, 11.5]
    assert all(not torch.equal(mean, plain) for mean, plain in zip(means, plain_means, strict=True))


def moco_on_ranks() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    model = MoCo(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sigmoid(), nn.AdaptiveAvgPool2d(1)), dim=4, queue=16)
    x0, x1 = torch.rand(2, 16, 3, 8, 8)
    seen: list[Tensor] = []
    model.key_encoder.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0]))
    model([take_own(x0), take_own(x1)])
    return x1, seen[0], model.queue.keys, nn.functional.normalize(model.key_encoder.network(x1))


def test_moco_shuffles_keys_and_queues_them_in_order(ranks: Ranks) -> None:
    answers = ranks(moco_on_ranks)
    images = answers[0][0].flatten(1)
    shuffled = torch.cat([seen.flatten(1) for _, seen, _, _ in answers])
    order = torch.cdist(shuffled, images).argmin(1)
    assert torch.equal(shuffled, images[order])
    assert torch.equal(order.sort().values, torch.arange(16))
    assert not torch.equal(order[:8].sort().values, torch.arange(8))  # the ranks exchanged images
    for _, _, queue, keys in answers:  # without BatchNorm every key depends only on its own image
        torch.testing.assert_close(queue, keys)


def train_on_ranks(method: Callable[..., SSLModel], options: dict[str, Any]) -> tuple[list[float], dict[str, Tensor]]:
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
    model = method(backbone, dim=4, **options)
    network = DistributedDataParallel(model)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    images = torch.rand(3, 2, 8, 3, 8, 8)
    losses = []
    for step, (x0, x1) in enumerate(images):
        optimiser.zero_grad()
        loss = network([take_own(x0), take_own(x1)])
        loss.backward()
        optimiser.step()
        model.after_step(step / 3)
        losses.append(loss.item())
    return losses, {name: p.detach() for name, p in model.named_parameters()} | {
        name: b for name, b in model.named_buffers() if "queue" in name
    }


@pytest.mark.parametrize(("method", "options"), [(SimCLR, {}), (MoCo, {"version": 2, "queue": 12, "momentum": 0.5})])
def test_methods_stay_equal_on_all_ranks(ranks: Ranks, method: type[SSLModel], options: dict[str, Any]) -> None:
    (losses, here), (other_losses, there) = ranks(train_on_ranks, method, options)
    assert torch.tensor([losses, other_losses]).isfinite().all()
    assert all(torch.equal(here[name], there[name]) for name in here)
    if method is MoCo:
        assert here["queue.filled"] == 12
        torch.testing.assert_close(here["queue.keys"].norm(dim=1), torch.ones(12))


def replace_batch_norm(model: SSLModel) -> SSLModel:
    """Normalise each image separately, since one process cannot reproduce BatchNorm over each rank's images."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d):
                norm = nn.GroupNorm(1, child.num_features, affine=child.affine)
                norm.requires_grad_(any(p.requires_grad for p in child.parameters()))
                setattr(module, name, norm)
    return model


def steps_on_ranks(name: str) -> tuple[list[float], dict[str, Tensor]]:
    """Train a method for three steps in float64 on this rank's part of every batch; return losses and final state."""
    torch.manual_seed(0)
    options = {"maps": ("5", "2")} if name == "AMDIM" else {}  # the coarse map is a single pixel, so no place is random
    model = replace_batch_norm(METHODS[name].model(tiny(), **options)).double()
    network = DistributedDataParallel(model) if dist.is_initialized() else model
    optimiser = make_optimiser(model)
    losses = []
    for step, batch in enumerate(islice(batches(name), 3)):
        half = slice(rank() * BATCH // world_size(), (rank() + 1) * BATCH // world_size())
        torch.manual_seed(step + rank())  # rank 0 draws the same numbers as one process
        loss = batch.rows(half).to(torch.float64).loss(network)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        model.after_step((step + 1) / 3)
        losses.append(loss.item())
    return losses, {key: value.clone() for key, value in model.state_dict().items()}


@pytest.mark.parametrize("name", METHODS)
def test_methods_on_two_ranks_equal_one_process(ranks: Ranks, name: str) -> None:
    losses, state = steps_on_ranks(name)
    (here, state_here), (there, state_there) = ranks(steps_on_ranks, name)
    assert [(a + b) / 2 for a, b in zip(here, there, strict=True)] == pytest.approx(losses, rel=1e-9, abs=1e-9)
    assert state.keys() == state_here.keys() == state_there.keys()
    for key, value in state.items():
        torch.testing.assert_close(state_here[key], value, rtol=1e-9, atol=1e-9, msg=key)
        torch.testing.assert_close(state_there[key], state_here[key], rtol=0, atol=1e-12, msg=key)


def shard_whole(model: SSLModel) -> SSLModel:
    fully_shard(model)
    return model


def shard_and_release(model: SSLModel) -> SSLModel:
    fully_shard(model, reshard_after_forward=True)
    return model


def shard_a_part(model: SSLModel) -> SSLModel:
    fully_shard(model.backbone.get_submodule("0"))
    fully_shard(model, reshard_after_forward=True)
    return model


def shard_backbone(model: SSLModel) -> SSLModel:
    fully_shard(model.backbone)
    fully_shard(model)
    return model


def embed_on_ranks(
    method: Callable[..., SSLModel], options: dict[str, Any], wrap: Callable[[SSLModel], Any]
) -> tuple[list[float], list[Tensor], Tensor, bool]:
    """Train for two steps, and embed before, within and after each; return losses, features and a gradient of these."""
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.AdaptiveAvgPool2d(1))
    model = method(backbone, dim=4, **options)
    network = wrap(model)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    losses, features = [], []

    def embed() -> None:
        with torch.no_grad():
            features.append(model.embed(images[0, 0]))

    images = torch.rand(2, 2, 8, 3, 8, 8)
    embed()
    for x0, x1 in images:
        loss = network([take_own(x0), take_own(x1)])
        loss.backward()
        embed()
        optimiser.step()
        embed()
        optimiser.zero_grad()
        losses.append(loss.item())
    weight = next(backbone.parameters())
    torch.autograd.backward(model.embed(take_own(images[0, 0])).square().sum())
    assert weight.grad is not None
    if isinstance(weight.grad, DTensor):
        return losses, features, weight.grad.full_tensor(), True
    return losses, features, gather(weight.grad[None]).mean(0), False


@pytest.mark.parametrize("wrap", [shard_whole, shard_and_release, shard_a_part, shard_backbone])
@pytest.mark.parametrize(("method", "options"), [(SimCLR, {}), (MoCo, {"queue": 12, "momentum": 0.5})])
def test_a_sharded_model_embeds_and_trains_as_a_whole_one(
    ranks: Ranks, method: type[SSLModel], options: dict[str, Any], wrap: Callable[[SSLModel], Any]
) -> None:
    plain = ranks(embed_on_ranks, method, options, DistributedDataParallel)
    sharded = ranks(embed_on_ranks, method, options, wrap)
    for (losses, features, gradient, _), (other_losses, others, other_gradient, is_sharded) in zip(
        plain, sharded, strict=True
    ):
        assert is_sharded
        assert other_losses == pytest.approx(losses, rel=1e-5, abs=1e-5)
        torch.testing.assert_close(others, features)
        torch.testing.assert_close(other_gradient, gradient)
        assert not torch.allclose(features[2], features[4])  # the steps change them
