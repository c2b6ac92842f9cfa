"""Methods of two whole views against steps by hand; heads and defaults of all methods; known mistakes of others."""

import math
import re
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from helpers.by_hand import (
    all_but,
    assert_same_losses,
    average,
    contrast,
    copy_modules,
    cosine,
    first_batches,
    mean,
    units,
)
from helpers.methods import METHODS, Batch, batches, make_optimiser, tiny, train
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor, nn

from lightly_aug.models import (
    AMDIM,
    BYOL,
    CPC,
    DINO,
    NNCLR,
    PAWS,
    PIRL,
    BarlowTwins,
    LooC,
    MoCo,
    MoCoV3,
    SimCLR,
    SimSiam,
    SSLModel,
    SwaV,
    mlp,
    resnet,
    vit,
)


@pytest.fixture(autouse=True)
def seed_torch() -> None:
    torch.manual_seed(0)


class TestMoCoV3:
    def test_a_vit_gets_the_heads_of_a_vit(self) -> None:
        network = torchvision.models.VisionTransformer(32, 16, 1, 1, 8, 8)
        network.heads = nn.Identity()
        for backbone in (network, nn.Sequential(network)):
            model = MoCoV3(backbone, width=8, hidden=16, dim=4)
            assert (len(model.projector), model.loss.temperature) == (len(MoCoV3(tiny(), vit=True).projector), 0.2)
        assert MoCoV3(network, vit=False, width=8, hidden=16, dim=4).loss.temperature == 1

    @pytest.mark.parametrize(("vit", "temperature"), [(False, 1.0), (True, 0.2)])
    def test_equals_steps_by_hand(self, vit: bool, temperature: float) -> None:
        model = MoCoV3(tiny(), vit=vit, hidden=32, dim=8, momentum=0.8).double()
        f, g, h = copy_modules(model.backbone, model.projector, model.predictor)
        f_k, g_k = copy_modules(f, g)

        def direction(x: Tensor, y: Tensor) -> Tensor:
            q, k = h(g(f(x).flatten(1))), g_k(f_k(y).flatten(1)).detach()
            return 2 * temperature * mean(contrast(q[i], k[i], all_but(k, i), temperature) for i in range(len(q)))

        def loss(batch: Batch, progress: float) -> Tensor:
            x0, x1 = batch.views
            return direction(x0, x1) + direction(x1, x0)

        def after(progress: float) -> None:
            momentum = 1 - (1 + math.cos(math.pi * progress)) * (1 - 0.8) / 2
            average(f_k, f, momentum)
            average(g_k, g, momentum)

        assert_same_losses(model, first_batches("MoCo v3", 4), [f, g, h], loss, after)

    def test_fixed_parameters_stay(self) -> None:
        """The patch projection of a ViT is fixed."""
        backbone = tiny()
        weight = backbone.get_parameter("0.weight").requires_grad_(False)
        model, first = MoCoV3(backbone, hidden=32, dim=8, momentum=0.5), weight.clone()
        train(model, make_optimiser(model), batches("MoCo v3"), 2)
        assert torch.equal(weight, first)
        assert torch.equal(model.key_encoder.network.get_parameter("0.0.weight"), first)


class TestBYOL:
    def test_equals_steps_by_hand(self) -> None:
        model = BYOL(tiny(), hidden=32, dim=8, momentum=0.7).double()
        f, g, q = copy_modules(model.backbone, model.projector, model.predictor)
        f_t, g_t = copy_modules(f, g)

        def direction(x: Tensor, y: Tensor) -> Tensor:
            p, z = q(g(f(x).flatten(1))), g_t(f_t(y).flatten(1)).detach()
            return mean(2 - 2 * cosine(*pair) for pair in zip(p, z, strict=True))

        def loss(batch: Batch, progress: float) -> Tensor:
            x0, x1 = batch.views
            return direction(x0, x1) + direction(x1, x0)

        def after(progress: float) -> None:
            before = progress - 1 / 8  # step k of K uses τ(k / K), k from 0
            tau = 1 - (1 - 0.7) * (math.cos(math.pi * before) + 1) / 2
            average(f_t, f, tau)
            average(g_t, g, tau)

        assert_same_losses(model, first_batches("BYOL", 4), [f, g, q], loss, after)


class TestSimSiam:
    def test_equals_steps_by_hand(self) -> None:
        model = SimSiam(tiny(), dim=16, bottleneck=8).double()
        f, g, h = copy_modules(model.backbone, model.projector, model.predictor)

        def loss(batch: Batch, progress: float) -> Tensor:
            z0, z1 = (g(f(x).flatten(1)) for x in batch.views)
            pairs = [(h(z0), z1.detach()), (h(z1), z0.detach())]
            return mean(-mean(cosine(p[i], z[i]) for i in range(len(p))) for p, z in pairs)

        assert_same_losses(model, first_batches("SimSiam", 4), [f, g, h], loss)


class TestBarlowTwins:
    def test_equals_steps_by_hand(self) -> None:
        model = BarlowTwins(tiny(), dim=8, redundancy=0.3).double()
        f, g = copy_modules(model.backbone, model.projector)

        def standard(column: Tensor) -> Tensor:
            centred = column - column.mean()
            return centred / ((centred @ centred) / len(column) + 1e-5).sqrt()

        def loss(batch: Batch, progress: float) -> Tensor:
            z0, z1 = (g(f(x).flatten(1)) for x in batch.views)
            value = torch.zeros((), dtype=torch.float64)
            for i in range(8):
                for j in range(8):
                    c = standard(z0[:, i]) @ standard(z1[:, j]) / len(z0)
                    value = value + ((1 - c) ** 2 if i == j else 0.3 * c**2)
            return value

        assert_same_losses(model, first_batches("Barlow Twins", 4), [f, g], loss)


class TestNNCLR:
    def test_equals_steps_by_hand(self) -> None:
        """N-way; only view 0 enters the queue, after the loss; at the first step a view is its own neighbour."""
        model = NNCLR(tiny(), hidden=32, dim=8, predictor_hidden=16, queue=12, temperature=0.3).double()
        f, g, h = copy_modules(model.backbone, model.projector, model.predictor)
        queue: list[Tensor] = []

        def direction(z: Tensor, p: Tensor) -> Tensor:
            terms = []
            for i, row in enumerate(z.detach()):
                neighbour = max(queue, key=lambda key: cosine(row, key).item()) if queue else row
                terms.append(contrast(neighbour, p[i], all_but(p, i), 0.3))
            return mean(terms)

        def loss(batch: Batch, progress: float) -> Tensor:
            z0, z1 = (g(f(x).flatten(1)) for x in batch.views)
            value = (direction(z0, h(z1)) + direction(z1, h(z0))) / 2
            queue.extend(units(z0))
            del queue[:-12]
            return value

        assert_same_losses(model, first_batches("NNCLR", 5), [f, g, h], loss)

    def test_neighbours_come_from_the_queue(self) -> None:
        model, seen = NNCLR(tiny(), hidden=32, dim=8, predictor_hidden=16, queue=12), list[Tensor]()
        model.loss.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
        for batch in islice(batches("NNCLR"), 2):
            keys = model.queue.negatives()[0]
            batch.loss(model)
        assert all(torch.isclose(row, keys[:8]).all(1).any() for x in seen[2:] for row in x)


def list_layers(network: nn.Module) -> str:
    """List kinds and widths of layers: +b is a bias; BN has γ and β, BNγ only γ, BN- neither."""
    words = []
    for m in network.modules():
        if isinstance(m, nn.Linear):
            words.append(f"{m.in_features}-{m.out_features}" + "+b" * (m.bias is not None))
        elif isinstance(m, nn.Conv2d):
            kernel = "x".join(map(str, m.kernel_size))
            words.append(f"{m.in_channels}-{m.out_channels}({kernel})" + "+b" * (m.bias is not None))
        elif isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d):
            words.append("BN" + ("-" if m.weight is None else "γ" if m.bias is None else ""))
        elif isinstance(m, nn.ReLU | nn.GELU):
            words.append(type(m).__name__)
    return " ".join(words)


GOLDEN: dict[str, tuple[Callable[[], Any], dict[str, str]]] = {
    "SimCLR v1": (lambda: SimCLR(nn.Identity(), width=2048), {"head": "2048-2048 BN ReLU 2048-128 BNγ"}),
    "SimCLR v2": (
        lambda: SimCLR(nn.Identity(), version=2, width=2048),
        {"head": "2048-2048 BN ReLU 2048-2048 BN ReLU 2048-128 BNγ"},
    ),
    "MoCo v1": (lambda: MoCo(nn.Identity(), version=1, width=2048), {"head": "2048-128+b"}),
    "MoCo v2": (lambda: MoCo(nn.Identity(), width=2048), {"head": "2048-2048+b ReLU 2048-128+b"}),
    "MoCo v3": (
        lambda: MoCoV3(nn.Identity(), width=2048),
        {"projector": "2048-4096 BN ReLU 4096-256 BN-", "predictor": "256-4096 BN ReLU 4096-256"},
    ),
    "MoCo v3, ViT": (
        lambda: MoCoV3(nn.Identity(), vit=True, width=768),
        {
            "projector": "768-4096 BN ReLU 4096-4096 BN ReLU 4096-256 BN-",
            "predictor": "256-4096 BN ReLU 4096-256 BN-",
        },
    ),
    "BYOL": (
        lambda: BYOL(nn.Identity(), width=2048),
        {"projector": "2048-4096+b BN ReLU 4096-256", "predictor": "256-4096+b BN ReLU 4096-256"},
    ),
    "SimSiam": (
        lambda: SimSiam(nn.Identity(), width=2048),
        {
            "projector": "2048-2048 BN ReLU 2048-2048 BN ReLU 2048-2048+b BN-",
            "predictor": "2048-512 BN ReLU 512-2048+b",
        },
    ),
    "Barlow Twins": (
        lambda: BarlowTwins(nn.Identity(), width=2048),
        {"projector": "2048-8192 BN ReLU 8192-8192 BN ReLU 8192-8192"},
    ),
    "NNCLR": (
        lambda: NNCLR(nn.Identity(), width=2048),
        {
            "projector": "2048-2048+b BN ReLU 2048-2048+b BN ReLU 2048-256+b BN",
            "predictor": "256-4096+b BN ReLU 4096-256+b",
        },
    ),
    "SwAV": (
        lambda: SwaV(nn.Identity(), width=2048),
        {"projector": "2048-2048+b BN ReLU 2048-128+b", "prototypes": "128-3000"},
    ),
    "DINO": (
        lambda: DINO(nn.Identity(), width=384),
        {"head": "384-2048+b GELU 2048-2048+b GELU 2048-256+b"},  # and a last layer of its own class
    ),
    "PIRL": (
        lambda: PIRL(nn.Identity(), images=10, width=2048),
        {"image_head": "2048-128+b", "patch_head": "2048-128+b", "jigsaw_head": "1152-128+b"},
    ),
    "PAWS": (
        lambda: PAWS(nn.Identity(), classes=1000, width=2048),
        {
            "projector": "2048-2048+b BN ReLU 2048-2048+b BN ReLU 2048-2048+b",
            "predictor": "BN 2048-512+b BN ReLU 512-2048+b",
        },
    ),
    "PAWS, CIFAR-10": (
        lambda: PAWS(nn.Identity(), classes=10, width=128, hidden=128, dim=128, predictor=False, support_views=2),
        {"projector": "128-128+b BN ReLU 128-128+b BN ReLU 128-128+b", "predictor": ""},
    ),
    "CPC v2": (
        lambda: CPC(nn.Identity(), width=4096),
        {
            "context": " ".join(["4096-256(1x1)+b 256-256(1x3)+b 256-256(2x1)+b 256-4096(1x1)+b"] * 5 + ["ReLU"]),
            "target": "4096-64(1x1)+b",
            "predictors": " ".join(["4096-64(1x1)+b"] * 5),
        },
    ),
    "LooC": (lambda: LooC(nn.Identity(), width=2048), {"heads": " ".join(["2048-2048+b ReLU 2048-128+b"] * 4)}),
}


class TestHeads:
    @pytest.mark.parametrize("method", GOLDEN)
    def test_layers_of_the_paper(self, method: str) -> None:
        build, expected = GOLDEN[method]
        with torch.device("meta"):
            model = build()
        assert {name: list_layers(model.get_submodule(name)) for name in expected} == expected
        other = {name for name, _ in model.named_children()} - expected.keys()
        assert other <= {"backbone", "key_encoder", "target", "teacher", "queue", "queues", "loss"}

    def test_momentum_encoders_end_in_the_projector(self) -> None:
        with torch.device("meta"):
            models = MoCoV3(nn.Identity(), width=2048), BYOL(nn.Identity(), width=2048)
        assert list_layers(models[0].key_encoder) == "2048-4096 BN ReLU 4096-256 BN-"
        assert list_layers(models[1].target) == "2048-4096+b BN ReLU 4096-256"

    def test_last_layer_of_dino(self) -> None:
        with torch.device("meta"):
            head = DINO(nn.Identity(), width=384).head
        assert {name: tuple(p.shape) for name, p in head[1].named_parameters()} == {"weight": (65536, 256)}

    def test_defaults_are_those_of_the_papers(self) -> None:
        with torch.device("meta"):
            models = {name: build() for name, (build, _) in GOLDEN.items()}

        def collect(attribute: str) -> dict[str, Any]:
            return {name: getattr(m, attribute) for name, m in models.items() if hasattr(m, attribute)}

        assert {name: len(m) for name, m in collect("queue").items()} == {
            "MoCo v1": 65536, "MoCo v2": 65536, "NNCLR": 98304,
        }  # fmt: skip
        assert [len(m) for m in models["LooC"].queues] == [16384] * 4
        assert not models["SwAV"].queues
        assert collect("momentum") == {
            "MoCo v1": 0.999, "MoCo v2": 0.999, "MoCo v3": 0.99, "MoCo v3, ViT": 0.99, "BYOL": 0.996, "DINO": 0.996,
            "PIRL": 0.5, "LooC": 0.999,
        }  # fmt: skip
        temperatures = {name: getattr(m.loss, "temperature", None) for name, m in models.items()}
        assert {name: t for name, t in temperatures.items() if t is not None} == {
            "SimCLR v1": 0.1, "SimCLR v2": 0.1, "MoCo v1": 0.07, "MoCo v2": 0.2, "MoCo v3": 1.0, "MoCo v3, ViT": 0.2,
            "NNCLR": 0.1, "SwAV": 0.1, "DINO": 0.1, "PIRL": 0.07, "PAWS": 0.1, "PAWS, CIFAR-10": 0.1, "LooC": 0.2,
        }  # fmt: skip
        assert models["Barlow Twins"].loss.redundancy == 0.0051
        assert (models["SwAV"].loss.epsilon, models["SwAV"].loss.iterations) == (0.05, 3)
        assert models["DINO"].loss.momentum == 0.9
        assert (models["PIRL"].negatives, models["PIRL"].weight) == (32000, 0.5)
        assert (models["PAWS"].loss.sharpening, models["PAWS"].loss.smoothing) == (0.25, 0.1)


EMA = {"MoCo v2": "key_encoder", "MoCo v3": "key_encoder", "BYOL": "target", "DINO": "teacher", "LooC": "key_encoder"}


def online_parameters(model: SSLModel) -> dict[str, Tensor]:
    """Return the parameters that a momentum encoder copies, under their names in the copy."""
    heads = [getattr(model, name) for name in ("head", "projector", "heads") if hasattr(model, name)]
    return dict(nn.Sequential(model.backbone, nn.Flatten(), *heads).named_parameters())


def momentum_network(model: SSLModel, name: str) -> nn.Module:
    return model.get_submodule(EMA[name] + ".network")


class TestMistakesOfOthers:
    """Mistakes of losses, queues and ranks are in `test_losses*`, `test_memory_bank` and `test_distributed`."""

    @pytest.mark.parametrize("name", EMA)
    def test_average_without_biases_and_norms(self, name: str) -> None:
        model = METHODS[name].model(tiny())  # with momentum 0.9
        own, fast = dict(momentum_network(model, name).named_parameters()), online_parameters(model)
        assert own.keys() == fast.keys()
        assert all(torch.equal(own[key], fast[key]) for key in own)
        with torch.no_grad():
            for p in fast.values():
                p.add_(1)
        model.after_step(0.0)
        for key, p in fast.items():
            torch.testing.assert_close(p - own[key], torch.full_like(p, 0.9), rtol=0, atol=1e-5, msg=key)

    @pytest.mark.parametrize(("name", "passes"), [*zip(EMA, (1, 2, 2, 1, 4), strict=True)])
    def test_averaged_statistics_and_views_in_one_batch(self, name: str, passes: int) -> None:
        """Statistics of BatchNorm change in the copy's own passes, one for each view that it sees separately."""
        model = METHODS[name].model(tiny())
        batch = next(batches(name))
        batch.loss(model)
        norm = momentum_network(model, name).get_submodule("0.1")
        assert isinstance(norm, nn.BatchNorm2d)
        assert norm.running_mean is not None
        assert norm.num_batches_tracked == passes
        before = norm.running_mean.clone()
        assert before.any()
        model.backbone[1].running_mean.fill_(9)
        model.after_step(0.5)
        assert norm.num_batches_tracked == passes
        assert torch.equal(norm.running_mean, before)

    @pytest.mark.parametrize("name", METHODS)
    def test_construction_moves_statistics(self, name: str) -> None:
        state = METHODS[name].model(tiny()).state_dict()
        tracked = [value for key, value in state.items() if key.endswith("num_batches_tracked")]
        assert tracked
        assert all(value == 0 for value in tracked)

    @pytest.mark.parametrize("name", ["MoCo v1", "MoCo v2", "LooC"])
    def test_own_key_among_the_negatives(self, name: str) -> None:
        model, seen = METHODS[name].model(tiny()), list[tuple[Tensor, ...]]()
        model.loss.register_forward_pre_hook(lambda module, args: seen.append(args))
        train(model, make_optimiser(model), batches(name), 3)
        for _, k, negatives, valid in seen[-(4 if name == "LooC" else 1) :]:
            assert valid.all()
            assert (k @ negatives.T).max() < 1 - 1e-6

    def test_validation_enqueues_and_averages(self) -> None:
        model, data = MoCo(tiny(), dim=8, queue=12, momentum=0.5), batches("MoCo v2")
        train(model, make_optimiser(model), data, 1)
        keys, first = model.queue.keys.clone(), next(model.key_encoder.parameters()).clone()
        with torch.no_grad():
            next(model.backbone.parameters()).add_(1)
        next(data).loss(model.eval())
        model.after_step(0.5)
        assert torch.equal(model.queue.keys, keys)
        assert (int(model.queue.pointer), int(model.queue.filled)) == (8, 8)
        assert torch.equal(next(model.key_encoder.parameters()), first)

    @pytest.mark.parametrize(
        ("name", "banks"),
        [
            ("MoCo v2", ["queue"]),
            ("NNCLR", ["queue"]),
            ("SwAV", ["queues.0", "queues.1"]),
            ("LooC", [f"queues.{i}" for i in range(4)]),
        ],
    )
    def test_queue_lost_with_the_checkpoint_or_its_tail_when_it_wraps(self, name: str, banks: list[str]) -> None:
        model = METHODS[name].model(tiny())  # 3 batches of 8 into a queue of 12
        train(model, make_optimiser(model), batches(name), 3)
        state = model.state_dict()
        assert {key for key in state if "queue" in key} == {
            f"{bank}.{part}" for bank in banks for part in ("keys", "pointer", "filled")
        }
        for bank in banks:
            assert (state[f"{bank}.pointer"], state[f"{bank}.filled"]) == (0, 12)
            torch.testing.assert_close(state[f"{bank}.keys"].norm(dim=1), torch.ones(12))

    def test_memory_lost_with_the_checkpoint(self) -> None:
        assert {"memory", "loss.log_z"} <= METHODS["PIRL"].model(tiny()).state_dict().keys()
        assert "loss.center" in METHODS["DINO"].model(tiny()).state_dict()

    @pytest.mark.parametrize(("name", "factor"), [("NNCLR", 1), ("MoCo v3", 4)])
    def test_views_of_one_side_among_the_negatives(self, name: str, factor: float) -> None:
        """With identical images an N-way choice costs ln N; one among 2N - 1 would cost more."""
        x = torch.rand(1, 3, 16, 16).repeat(8, 1, 1, 1)
        loss = METHODS[name].model(tiny())([x, x])
        assert loss.item() == pytest.approx(factor * math.log(8), abs=1e-4)

    @pytest.mark.parametrize("temperature", [0.2, 0.7])
    def test_factor_or_temperature_dropped(self, temperature: float) -> None:
        model, batch = (
            METHODS["MoCo v3"].model(tiny(), temperature=temperature).double(),
            first_batches("MoCo v3", 1)[0],
        )
        q = [model.predictor(model.projector(model.embed(x))) for x in batch.views]
        k = [model.key_encoder(x) for x in batch.views]
        terms = [
            contrast(q[a][i], k[1 - a][i], all_but(k[1 - a], i), temperature).item() for a in (0, 1) for i in range(8)
        ]
        assert batch.loss(model).item() == pytest.approx(2 * temperature * sum(terms) / 8, abs=1e-9)

    def test_prototypes_with_a_bias_or_stuck(self) -> None:
        """With ten clusters the loss falls below ln K, the loss of equally likely prototypes; scores are cosines."""
        torch.manual_seed(0)
        backbone = nn.Sequential(nn.Flatten(), nn.Linear(48, 16), nn.ReLU())
        model, seen = SwaV(backbone, width=16, hidden=32, dim=8, prototypes=10), list[Tensor]()
        assert "prototypes.bias" not in model.state_dict()
        model.loss.register_forward_pre_hook(lambda module, args: seen.extend(args[0]))
        optimiser, clusters = make_optimiser(model, lr=0.1), torch.randn(10, 3, 4, 4)
        for _ in range(50):
            x = clusters[torch.randint(10, (32,))]
            views = [x + 0.1 * torch.randn_like(x) for _ in range(2)]
            losses = train(model, optimiser, iter([Batch(views, torch.zeros(32), torch.zeros(32))]), 1)
        assert losses[0] < math.log(10) - 1
        assert torch.cat(seen).abs().max() <= 1 + 1e-6

    def test_last_norm_and_bias_of_simsiam_trained(self) -> None:
        model = SimSiam(tiny(), dim=16, bottleneck=8)
        assert [name for name, p in model.named_parameters() if not p.requires_grad] == ["projector.6.bias"]
        assert not [*model.projector[-1].parameters()]

    def test_initialisation_of_the_head_of_dino(self) -> None:
        head = DINO(nn.Identity(), width=256, hidden=256, dim=16).head[0]
        for m in head.children():
            if isinstance(m, nn.Linear):
                assert m.weight.std().item() == pytest.approx(0.02, rel=0.05)
                assert not m.bias.any()

    def test_the_wrong_last_layer_frozen(self) -> None:
        model, data = METHODS["DINO"].model(tiny(), frozen_until=0.5), batches("DINO")
        optimiser = make_optimiser(model)
        for step in range(4):
            loss = next(data).loss(model)
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            untouched = {name for name, p in model.named_parameters() if p.requires_grad and p.grad is None}
            assert untouched == ({"head.1.weight"} if step < 2 else set())
            optimiser.step()
            model.after_step((step + 1) / 4)

    @pytest.mark.parametrize("name", EMA)
    def test_average_per_batch_where_batches_accumulate(self, name: str) -> None:
        """The copy changes once per step of the optimiser, centre and queues with every batch."""
        model, data = METHODS[name].model(tiny()), batches(name)
        optimiser, copy = make_optimiser(model), momentum_network(model, name)
        for _ in range(2):
            state = [p.clone() for p in copy.parameters()]
            for _ in range(3):
                torch.autograd.backward(next(data).loss(model) / 3)
                assert all(map(torch.equal, state, copy.parameters()))
            optimiser.step()
            model.after_step(0.0)
            expected = [0.9 * p + 0.1 * q for p, q in zip(state, online_parameters(model).values(), strict=True)]
            torch.testing.assert_close(list(copy.parameters()), expected)
            optimiser.zero_grad()
        for bank in (m for key, m in model.named_modules() if key.startswith("queue") and hasattr(m, "filled")):
            assert bank.pointer == 2 * 3 * 8 % 12

    @pytest.mark.parametrize("name", EMA)
    def test_momentum_network_shares_memory(self, name: str) -> None:
        model = METHODS[name].model(tiny())
        fast = {t.data_ptr() for key, t in model.state_dict().items() if not key.startswith(EMA[name])}
        assert not fast & {t.data_ptr() for t in momentum_network(model, name).state_dict().values()}

    def test_beta_in_the_last_norm(self) -> None:
        state = SimCLR(tiny(), dim=8).state_dict()
        assert "head.4.weight" in state
        assert "head.4.bias" not in state

    def test_squeezed_batch_of_one(self) -> None:
        model, batch = METHODS["PIRL"].model(tiny()), next(batches("PIRL")).rows(slice(1))
        loss = batch.loss(model)
        assert loss.shape == ()
        assert loss.isfinite()

    def test_clip_ignored(self) -> None:
        def loss(clip: float) -> float:
            torch.manual_seed(0)
            model = AMDIM(tiny(), maps=("4", "2"), size=16, clip=clip)
            assert model.loss.clip == clip
            return next(batches("AMDIM")).loss(model).item()

        assert abs(loss(20) - loss(10)) > 1e-4


@pytest.fixture(scope="module")
def network() -> Any:
    return vit("vit_tiny_patch16_224", moco_v3=True, img_size=(32, 48), depth=1)


class TestViTOfMoCoV3:
    def test_positions(self, network: Any) -> None:
        """A quarter of the 192 dimensions each: sine and cosine of the row, then of the column."""
        positions = network.pos_embed[0]
        assert positions.shape == (1 + 2 * 3, 192)
        assert not positions[0].any()
        for row in range(2):
            for column in range(3):
                for i in range(48):
                    f = 10000 ** (-i / 48)
                    waves = math.sin(row * f), math.cos(row * f), math.sin(column * f), math.cos(column * f)
                    assert positions[1 + 3 * row + column, i::48].tolist() == pytest.approx(waves, abs=1e-6)

    def test_fixed_parameters(self, network: Any) -> None:
        fixed = [name for name, p in network.named_parameters() if not p.requires_grad]
        assert sorted(fixed) == ["patch_embed.proj.bias", "patch_embed.proj.weight", "pos_embed"]

    def test_initial_weights(self, network: Any) -> None:
        """Xavier's bound √(6 / (inputs + outputs)), separately for queries, keys and values."""
        attention, hidden = network.blocks[0].attn, network.blocks[0].mlp
        for weight, bound in (
            (attention.qkv.weight, math.sqrt(6 / (192 + 192))),
            (attention.proj.weight, math.sqrt(6 / (192 + 192))),
            (hidden.fc1.weight, math.sqrt(6 / (192 + 768))),
            (hidden.fc2.weight, math.sqrt(6 / (768 + 192))),
            (network.patch_embed.proj.weight, math.sqrt(6 / (3 * 16**2 + 192))),
        ):
            assert 0.99 * bound < weight.abs().max().item() <= bound
            assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02)
        assert not any(p.any() for name, p in network.named_parameters() if name.endswith("bias"))
        assert network.cls_token.abs().max() < 1e-5

    def test_heads_and_sizes(self, network: Any) -> None:
        assert network(torch.rand(2, 3, 64, 32)).shape == (2, 192)
        small: Any = vit("vit_small_patch16_224", moco_v3=True, num_heads=12, depth=1)
        assert (small.blocks[0].attn.num_heads, small.embed_dim) == (12, 384)
        small = vit("vit_small_patch16_224", depth=1)
        assert small.blocks[0].attn.num_heads == 6

    def test_without_moco_v3_the_weights_are_those_of_timm(self) -> None:
        torch.manual_seed(0)
        network = vit("vit_tiny_patch16_224", depth=1, img_size=32)
        torch.manual_seed(0)
        expected = timm.create_model("vit_tiny_patch16_224", num_classes=0, depth=1, img_size=32)
        assert all(map(torch.equal, network.state_dict().values(), expected.state_dict().values()))
        assert all(p.requires_grad for p in network.parameters())


class TestParts:
    def test_bias_of_the_last_layer_alone(self) -> None:
        assert list_layers(mlp(4, 6, 5, bias=False, last_bias=True)) == "4-6 BN ReLU 6-5+b"
        assert list_layers(mlp(4, 6, 5, last_bias=False)) == "4-6+b BN ReLU 6-5"
        assert list_layers(mlp(4, 5, last_bias=False)) == "4-5"

    def test_activation(self) -> None:
        assert list_layers(mlp(4, 6, 5, activation=nn.GELU)) == "4-6+b BN GELU 6-5+b"

    def test_layer_norm_sees_one_image(self) -> None:
        network = resnet("resnet10", norm="layer", stem="cifar")
        x, other = torch.rand(2, 3, 3, 16, 16)
        features = network(x)
        torch.testing.assert_close(network(x[:1]), features[:1])
        torch.testing.assert_close(network(torch.cat([other, x]))[3:], features)
        assert not any(isinstance(m, nn.BatchNorm2d) for m in network.modules())
        batch_norm = resnet("resnet10", stem="cifar")
        assert not torch.allclose(batch_norm(torch.cat([other, x]))[3:], batch_norm(x), atol=1e-3)

    def test_norm_errors(self) -> None:
        with pytest.raises(ValueError, match="resnet: norm must be one of 'batch', 'layer', got 'instance'"):
            resnet(norm="instance")  # type: ignore[arg-type]
        with pytest.raises(
            ValueError, match="weights must be None for resnet18 with imagenet stem and layer norm, got"
        ):
            resnet(norm="layer", weights="DEFAULT")


INVALID: list[tuple[str, Callable[[], object], str]] = [
    ("queue", lambda: NNCLR(tiny(), queue=0), "MemoryBank: size must be an integer >= 1, got 0"),
    ("hidden", lambda: BYOL(tiny(), hidden=0), "hidden layers and output, each at least 1, got (16, 0, 256)"),
    ("temperature", lambda: MoCoV3(tiny(), temperature=-1), "InfoNCELoss: temperature must be above 0, got -1"),
    ("momentum", lambda: BYOL(tiny(), momentum=1.1), "BYOL: momentum must lie in [0, 1], got 1.1"),
    ("redundancy", lambda: BarlowTwins(tiny(), redundancy=-1), "redundancy must be at least 0, got -1"),
    (
        "bottleneck",
        lambda: SimSiam(tiny(), bottleneck=0),
        "hidden layers and output, each at least 1, got (2048, 0, 2048)",
    ),
]


@pytest.mark.parametrize(("build", "message"), [row[1:] for row in INVALID], ids=[row[0] for row in INVALID])
def test_invalid_arguments_are_refused(build: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        build()


class TestRefusals:
    def test_progress_is_a_share(self) -> None:
        with pytest.raises(ValueError, match=r"SimSiam: progress must lie in \[0, 1\], got 100: give the share"):
            SimSiam(tiny(), dim=16, bottleneck=8).after_step(100)

    @given(progress=st.floats(-0.99e-6, 1 + 0.99e-6))
    def test_progress_may_leave_its_range_by_a_rounding_error(self, progress: float) -> None:
        model = SimSiam(tiny(), dim=16, bottleneck=8)
        model.after_step(progress)
        assert model.progress == np.clip(progress, 0, 1)

    @given(progress=st.floats(max_value=-1.01e-6) | st.floats(min_value=1 + 1.01e-6) | st.just(math.nan))
    @example(progress=-1.01e-6)
    @example(progress=1 + 1.01e-6)
    def test_progress_beyond_a_rounding_error_is_refused(self, progress: float) -> None:
        model = SimSiam(tiny(), dim=16, bottleneck=8)
        with pytest.raises(ValueError, match=r"SimSiam: progress must lie in \[0, 1\], got .*: give the share"):
            model.after_step(progress)
        assert model.progress == 0

    @pytest.mark.parametrize(
        ("build", "argument"),
        [(SwaV, "queue_from"), (SwaV, "frozen_until"), (DINO, "warmup"), (DINO, "frozen_until"), (PIRL, "weight")],
    )
    def test_shares(self, build: Callable[..., SSLModel], argument: str) -> None:
        needed = {"images": 4} if build is PIRL else {}
        with pytest.raises(ValueError, match=rf"{build.__name__}: {argument} must lie in \[0, 1\], got -1"):
            build(tiny(), **{argument: -1}, **needed)

    def test_labels_beyond_the_classes(self) -> None:
        batch = next(batches("PAWS"))
        with pytest.raises(ValueError, match="PAWS: targets must be below classes=2, got 5"):
            replace(batch, targets=torch.full((8,), 5)).loss(METHODS["PAWS"].model(tiny()))

    def test_sizes_that_the_backbone_does_not_take(self) -> None:
        with pytest.raises(ValueError, match="AMDIM: with views of 8 pixels, feature_width: "):
            AMDIM(nn.Sequential(nn.Conv2d(3, 4, 9), nn.AdaptiveAvgPool2d(1)), maps=("0", "0"), size=8)

    def test_vit(self) -> None:
        with pytest.raises(ValueError, match=r"vit: name must be a vit_\* of timm, .* got 'resnet50'"):
            vit("resnet50")
        with pytest.raises(ValueError, match=r"vit: pretrained must be False with moco_v3=True, .* got True"):
            vit(moco_v3=True, pretrained=True)
