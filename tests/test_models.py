"""One contract for all methods, then tests of single methods and of the parts that they share."""

import inspect
import io
import pickle
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any

import pytest
import torch
import torchvision
from helpers.methods import METHODS, Batch, Method, batches, make_optimiser, tiny, train
from torch import Tensor, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

from lightly_aug.loss import info_nce, nt_xent
from lightly_aug.models import (
    AMDIM,
    PIRL,
    MoCo,
    MomentumEncoder,
    SimCLR,
    amdim_encoder,
    feature_width,
    mlp,
    resnet,
    vit,
)


def snapshot(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_same_state(model: nn.Module, expected: dict[str, Tensor]) -> None:
    state = model.state_dict()
    assert state.keys() == expected.keys()
    same = (name for name in state if torch.equal(state[name].nan_to_num(9), expected[name].nan_to_num(9)))
    assert state.keys() - same == set()


@pytest.fixture(params=METHODS)
def name(request: pytest.FixtureRequest) -> str:
    torch.manual_seed(0)
    return str(request.param)


@pytest.fixture
def row(name: str) -> Method:
    return METHODS[name]


@pytest.fixture
def data(name: str) -> Iterator[Batch]:
    return batches(name)


class TestContract:
    def test_loss_falls(self, name: str, row: Method) -> None:
        model = row.model(tiny())
        losses = train(model, make_optimiser(model), batches(name, epochs=1), row.queue + row.steps)[row.queue :]
        assert torch.tensor(losses).isfinite().all()
        part = row.steps // 4
        first, last = sum(losses[:part]) / part, sum(losses[-part:]) / part
        assert last < first - 0.03 * abs(first)

    def test_gradients_reach_what_is_trained(self, row: Method, data: Iterator[Batch]) -> None:
        model = row.model(tiny())
        train(model, make_optimiser(model), data, 2)  # a queue has negatives now
        model.zero_grad()
        loss = next(data).loss(model)
        assert (loss.shape, loss.dtype) == ((), torch.float32)
        torch.autograd.backward(loss)
        trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        without = [name for name, p in trained.items() if p.grad is None or not p.grad.any()]
        assert without == []
        targets = {name: p for name, p in model.named_parameters() if not p.requires_grad}
        assert all(p.grad is None for p in targets.values())
        assert all(name.startswith(row.targets) for name in targets)
        assert bool(targets) == bool(row.targets)

    def test_resumed_training_is_the_same(self, row: Method, data: Iterator[Batch]) -> None:
        model = row.model(tiny())
        optimiser = make_optimiser(model)
        train(model, optimiser, data, 3, total=7)
        file = io.BytesIO()
        state = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "random": torch.get_rng_state()}
        torch.save(state, file)
        rest = list(islice(data, 4))
        losses = train(model, optimiser, iter(rest), 4, total=7)

        resumed = row.model(tiny())
        resumed_optimiser = make_optimiser(resumed)
        file.seek(0)
        checkpoint = torch.load(file, weights_only=True)
        resumed.load_state_dict(checkpoint["model"])
        resumed_optimiser.load_state_dict(checkpoint["optimiser"])
        torch.set_rng_state(checkpoint["random"])
        assert train(resumed, resumed_optimiser, iter(rest), 4, total=7) == losses
        assert_same_state(resumed, snapshot(model))

    def test_pickles(self, row: Method, data: Iterator[Batch]) -> None:
        model = row.model(tiny())
        train(model, make_optimiser(model), data, 2)
        copy, batch, state = pickle.loads(pickle.dumps(model)), next(data), torch.get_rng_state()
        loss = batch.loss(copy)
        torch.set_rng_state(state)
        assert torch.equal(loss, batch.loss(model))
        assert_same_state(copy, snapshot(model))

    def test_bf16_autocast(self, row: Method, data: Iterator[Batch]) -> None:
        model = row.model(tiny())
        for batch in islice(data, 2):
            with torch.autocast("cpu", torch.bfloat16):
                loss = batch.loss(model)
            torch.autograd.backward(loss)
            model.after_step(0)
        assert loss.dtype == torch.float32
        assert loss.isfinite()
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())

    def test_other_dtypes(self, row: Method, data: Iterator[Batch]) -> None:
        model = row.model(tiny())
        for dtype in (torch.float64, torch.bfloat16):
            model.to(dtype)
            for batch in islice(data, 2):
                loss = batch.to(dtype).loss(model)
            assert loss.dtype == torch.promote_types(dtype, torch.float32)
            assert loss.isfinite()

    @pytest.mark.gpu
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
    def test_trains_on_a_gpu(self, row: Method, data: Iterator[Batch]) -> None:
        model = row.model(tiny()).to("cuda")
        losses = train(model, make_optimiser(model), (batch.to("cuda") for batch in data), 3)
        assert torch.tensor(losses).isfinite().all()
        assert all(value.is_cuda for name, value in model.state_dict().items() if name != "_extra_state")

    def test_eval_mode_changes_nothing(self, row: Method, data: Iterator[Batch]) -> None:
        model = row.model(tiny())
        train(model, make_optimiser(model), data, 2)
        with torch.no_grad():  # like a step of the optimiser
            for p in model.backbone.parameters():
                p.add_(1)
        before = snapshot(model)
        next(data).loss(model.eval())
        model.after_step(0.5)
        assert_same_state(model, before)
        assert model.progress == 1

    def test_state_dict_has_the_progress(self, row: Method) -> None:
        model = row.model(tiny())
        model.after_step(0.25)
        copy = row.model(tiny())
        copy.load_state_dict(model.state_dict())
        assert copy.progress == model.progress == 0.25

    def test_construction_leaves_the_backbone_alone(self, row: Method) -> None:
        backbone = tiny()
        backbone[1].eval()
        before = snapshot(backbone)
        model = row.model(backbone)
        assert model.backbone is backbone
        assert_same_state(backbone, before)
        assert [m.training for m in backbone] == [True, False, True, True, True, True]
        assert backbone.training

    def test_embed_is_the_backbone(self, name: str, row: Method) -> None:
        model, x = row.model(tiny()).eval(), torch.rand(3, 3, 12, 12)  # one patch for CPC
        assert torch.equal(model.embed(x), model.backbone(x)[:, :, 0, 0])

    def test_targets_share_no_memory(self, row: Method) -> None:
        model = row.model(tiny())
        places = [p.data_ptr() for p in model.parameters()]
        assert len(places) == len(set(places))

    def test_freeze(self, row: Method, data: Iterator[Batch]) -> None:
        model = row.model(tiny())
        model.freeze()
        assert not any(p.requires_grad for p in model.parameters())
        assert not any(module.training for module in model.modules())
        assert not next(data).loss(model).requires_grad

    def test_width_may_be_given(self, name: str, row: Method, data: Iterator[Batch]) -> None:
        if name == "AMDIM":  # always measures its maps
            return
        assert snapshot(row.model(tiny(), width=16)).keys() == snapshot(row.model(tiny())).keys()
        with pytest.raises(RuntimeError):
            next(data).loss(row.model(tiny(), width=15))

    def test_maps_in_place_of_vectors_are_refused_by_name(self, name: str, row: Method, data: Iterator[Batch]) -> None:
        """The width is given here; a trunk may also end in 1x1 at the size at which its width is measured."""
        if name == "AMDIM":  # always measures its maps, at the size of its views
            with pytest.raises(ValueError, match=r"AMDIM: with views of 16 pixels, .* got \(2, 16, 3, 3\): end it in"):
                row.model(tiny()[:-1])
            return
        model, batch = row.model(tiny()[:-1], width=16), next(data)
        asked = (
            rf"^{type(model).__name__}: backbone must map .*, 3, \d+, \d+\) to \((\d+), d\) or \(\1, d, 1, 1\), got "
        )
        with pytest.raises(ValueError, match=asked + r"\(\1, 16, \d, \d\): end it in pooled features"):
            batch.loss(model)

    def test_views_may_be_any_sequence(self, row: Method, data: Iterator[Batch]) -> None:
        model, batch, state = row.model(tiny()).eval(), next(data), torch.get_rng_state()
        loss = batch.loss(model)
        torch.set_rng_state(state)
        assert torch.equal(replace(batch, views=tuple(batch.views)).loss(model), loss)  # type: ignore[arg-type]

    def test_wrong_views_are_named(self, row: Method, data: Iterator[Batch]) -> None:
        model, batch = row.model(tiny()), next(data)
        x = batch.views[0]
        wrong: list[tuple[list[Any], str]] = [
            ([x], r"got 1: \(8, 3, "),
            ([], "got 0: nothing"),
            (["x", "x"], "got 2: str, str"),
            ([x, x[:4], *batch.views[2:]], r"\(4, 3, "),
        ]
        for views, came in wrong:
            with pytest.raises(ValueError, match=f"{type(model).__name__}: views must be .*{came}"):
                replace(batch, views=views).loss(model)

    def test_one_image(self, row: Method, data: Iterator[Batch]) -> None:
        model = row.model(tiny())
        batch = next(data).rows(slice(0, 1))
        if row.alone:
            with pytest.raises(ValueError, match=row.alone):
                batch.loss(model)
        else:
            assert batch.loss(model).isfinite()

    def test_invalid_arguments_are_refused(self, row: Method) -> None:
        for argument, value, message in (
            ("temperature", 0, "temperature must be above 0, got 0"),
            ("momentum", 1.5, r"momentum must lie in \[0, 1\], got 1.5"),
            ("dim", 0, "mlp: widths must .* each at least 1, got|dim must be an integer >= 1, got 0"),
            ("queue", -1, "MemoryBank: size must be an integer >= 1, got -1"),
            ("version", 4, "version must be one of 1, 2, got 4"),
        ):
            if argument in inspect.signature(row.model).parameters:
                with pytest.raises(ValueError, match=message):
                    row.model(tiny(), **{argument: value})


class TestSimCLR:
    def test_is_nt_xent_of_one_batch(self) -> None:
        model, (x0, x1) = SimCLR(tiny(), dim=8, temperature=0.3), next(batches("SimCLR v1")).views
        z0, z1 = model.head(model.backbone(torch.cat([x0, x1])).flatten(1)).chunk(2)
        assert torch.equal(model([x0, x1]), nt_xent(z0, z1, 0.3))

    @pytest.mark.parametrize(("version", "layers"), [(1, 2), (2, 3)])
    def test_head(self, version: Any, layers: int) -> None:
        head = SimCLR(tiny(), version=version, dim=8).head
        linear = [m for m in head if isinstance(m, nn.Linear)]
        norms = [m for m in head if isinstance(m, nn.BatchNorm1d)]
        assert [m.out_features for m in linear] == [16] * (layers - 1) + [8]
        assert all(m.bias is None for m in linear)
        assert len(norms) == layers
        assert [m.bias is not None for m in norms] == [True] * (layers - 1) + [False]
        assert all(m.weight is not None for m in norms)
        assert head[-1] is norms[-1]


class TestMoCo:
    @pytest.mark.parametrize(("version", "temperature"), [(1, 0.07), (2, 0.2)])
    def test_equals_steps_by_hand(self, version: Any, temperature: float) -> None:
        """Two steps by hand, in the order of the official code: query, EMA, key, loss, then the queue."""
        torch.manual_seed(0)
        model, data = MoCo(tiny(), version=version, dim=8, queue=32, momentum=0.8), batches("MoCo v2")
        optimiser = make_optimiser(model)
        query = MomentumEncoder(nn.Sequential(model.backbone, nn.Flatten(), model.head)).network.requires_grad_()
        key = MomentumEncoder(query)
        hand_optimiser, queue = make_optimiser(query), torch.zeros(0, 8)
        for _ in range(3):
            batch = next(data)
            x_q, x_k = batch.views
            loss = train(model, optimiser, iter([batch]), 1)[0]

            q = query(x_q)
            key.update(query, 0.8)
            k = nn.functional.normalize(key(x_k), dim=1)
            expected = info_nce(q, k, queue, temperature=temperature)
            queue = torch.cat([queue, k])
            hand_optimiser.zero_grad()
            torch.autograd.backward(expected)
            hand_optimiser.step()
            assert loss == pytest.approx(expected.item(), abs=1e-5)

    def test_head(self) -> None:
        assert [type(m) for m in MoCo(tiny(), version=1, queue=4).head] == [nn.Linear]
        head = MoCo(tiny(), version=2, queue=4).head
        assert [type(m) for m in head] == [nn.Linear, nn.ReLU, nn.Linear]
        assert all(m.bias is not None for m in head if isinstance(m, nn.Linear))

    def test_first_step_has_no_negatives(self) -> None:
        model = MoCo(tiny(), dim=8, queue=12)
        assert next(batches("MoCo v2")).loss(model).item() == 0
        assert model.queue.filled == 8

    def test_queue_of_zero_keys_is_refused(self) -> None:
        with pytest.raises(ValueError, match=r"MemoryBank: size must be an integer >= 1, got 0"):
            MoCo(tiny(), queue=0)


class TestMomentumEncoder:
    def test_momentum_0_copies_and_1_keeps(self) -> None:
        network = tiny()
        encoder = MomentumEncoder(network)
        start = snapshot(encoder)
        with torch.no_grad():
            for p in network.parameters():
                p.copy_(torch.randn_like(p))
        encoder.update(network, 1)
        assert_same_state(encoder, start)
        encoder.update(network, 0)
        assert_same_state(encoder.network, snapshot(network))

    def test_only_its_own_forward_updates_buffers(self) -> None:
        network = tiny()
        encoder = MomentumEncoder(network)
        network(torch.rand(4, 3, 8, 8))
        encoder.update(network, 0.5)
        norm = encoder.network.get_submodule("1")
        assert isinstance(norm, nn.BatchNorm2d)
        assert norm.running_mean is not None
        assert norm.running_mean.eq(0).all()
        assert norm.num_batches_tracked == 0
        encoder(torch.rand(4, 3, 8, 8))
        assert norm.running_mean.ne(0).any()
        assert norm.num_batches_tracked == 1

    def test_has_no_gradient(self) -> None:
        encoder = MomentumEncoder(tiny())
        assert not any(p.requires_grad for p in encoder.parameters())
        assert not encoder(torch.rand(2, 3, 8, 8, requires_grad=True)).requires_grad

    @pytest.mark.parametrize(
        "wrap",
        [partial(torch.compile, backend="eager"), checkpoint_wrapper, partial(nn.DataParallel, device_ids=[])],
        ids=["compile", "checkpoint", "parallel"],
    )
    @pytest.mark.parametrize("whole", [True, False])
    def test_a_network_that_was_wrapped_since_is_followed(self, wrap: Any, whole: bool) -> None:
        network = nn.Sequential(tiny(), nn.Conv2d(8, 4, 1))
        encoder, plain = MomentumEncoder(network), deepcopy(network)
        for parameter in network.parameters():
            parameter.data.add_(1)
        encoder.update(wrap(network) if whole else nn.Sequential(wrap(network[0]), network[1]), 0.5)
        for own, before in zip(encoder.network.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(own.data, before.data + 0.5)

    @pytest.mark.parametrize(("dtype", "momentum"), [(torch.bfloat16, 0.996), (torch.float16, 0.999)])
    def test_half_precision_is_warned_of_once(self, dtype: torch.dtype, momentum: float) -> None:
        network = tiny().to(dtype)
        encoder, start = MomentumEncoder(network), deepcopy(network)
        for parameter in network.parameters():
            parameter.data.mul_(1.1)
        asked = f"MomentumEncoder: parameters should be torch.float32, got {dtype}, .* momentum {momentum} loses most"
        with pytest.warns(UserWarning, match=asked):
            encoder.update(network, momentum)
        for _ in range(40):
            encoder.update(network, momentum)  # warnings are errors
        pairs = zip(encoder.network.parameters(), start.parameters(), strict=True)
        still = torch.cat([(own == before).flatten() for own, before in pairs])
        assert still.float().mean() > 0.5  # what the warning is about

    @pytest.mark.parametrize(
        ("dtype", "momentum"),
        [
            (torch.float32, 0.9999999),
            (torch.float64, 0.999),
            (torch.bfloat16, 1.0),
            (torch.bfloat16, 0.5),
            (torch.float16, 0.9),
        ],
    )
    def test_other_averages_are_not_warned_of(self, dtype: torch.dtype, momentum: float) -> None:
        network = tiny().to(dtype)
        MomentumEncoder(network).update(network, momentum)

    def test_errors(self) -> None:
        encoder = MomentumEncoder(tiny())
        asked = "MomentumEncoder: network must have the parameters of the network that was copied, got others in "
        with pytest.raises(ValueError, match=asked + r"\['0.bias', '0.weight', "):
            encoder.update(nn.Sequential(nn.Conv2d(3, 16, 5), nn.BatchNorm2d(16)), 0.5)
        with pytest.raises(ValueError, match=asked):
            encoder.update(nn.Sequential(nn.Sequential(*tiny())), 0.5)
        with pytest.raises(ValueError, match=r"MomentumEncoder: momentum must lie in \[0, 1\], got -0\.1"):
            encoder.update(tiny(), -0.1)


class TestPIRL:
    def test_heads_of_the_later_models(self) -> None:
        """VISSL's `resnet50_mlphead.yaml`: 2048-2048-128 for the image and each patch, without BatchNorm."""
        with torch.device("meta"):
            model = PIRL(nn.Identity(), images=10, width=2048, head="mlp", loss="info_nce", temperature=0.1)
        for head in (model.image_head, model.patch_head):
            assert isinstance(head, nn.Sequential)
            assert [type(m) for m in head] == [nn.Linear, nn.ReLU, nn.Linear]
            assert [tuple(p.shape) for p in head.parameters()] == [(2048, 2048), (2048,), (128, 2048), (128,)]
        assert [tuple(p.shape) for p in model.jigsaw_head.parameters()] == [(128, 1152), (128,)]

    def test_head_is_checked(self) -> None:
        with pytest.raises(ValueError, match="PIRL: head must be one of 'linear', 'mlp', got 'deep'"):
            PIRL(tiny(), images=4, head="deep")  # type: ignore[arg-type]

    def test_the_later_models_learn(self) -> None:
        torch.manual_seed(0)
        model = METHODS["PIRL"].model(tiny(), head="mlp", loss="info_nce", temperature=0.1)
        losses = train(model, make_optimiser(model), batches("PIRL", epochs=1), 32)
        assert sum(losses[-8:]) < 0.97 * sum(losses[:8])


class TestAMDIM:
    def test_as_many_parameters_as_the_official_code_uses(self) -> None:
        """The official code has 20,051,200, of which 18,176 are norms that are off."""
        with torch.device("meta"):
            model = AMDIM(amdim_encoder(32, width=128, dim=1024, depth=3), size=32)
        assert sum(p.numel() for p in model.parameters()) == 20_051_200 - 18_176

    @pytest.mark.parametrize("size", [32, 64, 128])
    def test_only_the_stem_has_biases(self, size: int) -> None:
        """And layers that lose channels, in which a convolution of the same kernel takes the place of the pooling."""
        encoder = amdim_encoder(size, width=4, dim=64, depth=1)
        biased = [name for name, m in encoder.named_modules() if isinstance(m, nn.Conv2d) and m.bias is not None]
        assert biased == (["stem128.0", "stem.0"] if size == 128 else ["stem.0"])
        narrow = amdim_encoder(size, width=4, dim=2, depth=1).get_submodule("block1.beside")
        assert isinstance(narrow, nn.Conv2d)
        assert (narrow.kernel_size, narrow.bias is not None) == ((3, 3), True)

    def test_shortcuts_have_a_diagonal_of_ones(self) -> None:
        torch.manual_seed(0)
        model = AMDIM(amdim_encoder(32, width=4, dim=20, depth=1), size=32)
        for head in model.heads:
            weight = head.get_submodule("shortcut").get_parameter("weight")[:, :, 0, 0]  # (20, 16)
            assert torch.equal(weight.diagonal(), torch.ones(16))
            rest = weight[~torch.eye(20, 16, dtype=torch.bool)]
            assert 0.009 < rest.abs().max() <= 0.01
        narrow = AMDIM(amdim_encoder(32, width=4, dim=8, depth=1), size=32)
        weight = narrow.heads[0].get_submodule("shortcut").get_parameter("weight")
        assert weight.abs().max() < 0.5  # as torch initialises it


class TestMLP:
    @pytest.mark.parametrize(
        ("last_norm", "parts"),
        [(None, None), ("affine", (True, True)), ("scale", (True, False)), ("plain", (False, False))],
    )
    def test_last_norm(self, last_norm: Any, parts: tuple[bool, bool] | None) -> None:
        head = mlp(4, 6, 5, last_norm=last_norm)
        kinds = [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear] + [nn.BatchNorm1d] * (parts is not None)
        assert [type(m) for m in head] == kinds
        assert head(torch.rand(3, 4)).shape == (3, 5)
        if parts:
            assert (head[-1].weight is not None, head[-1].bias is not None) == parts
            assert ("4.weight" in head.state_dict(), "4.bias" in head.state_dict()) == parts

    def test_plain_layers(self) -> None:
        assert [type(m) for m in mlp(4, 5)] == [nn.Linear]
        assert [type(m) for m in mlp(4, 6, 5, norm=False)] == [nn.Linear, nn.ReLU, nn.Linear]
        assert [m.bias is None for m in mlp(4, 6, 5, bias=False, norm=False) if isinstance(m, nn.Linear)] == [True] * 2

    def test_errors(self) -> None:
        for widths in ((), (4,), (4, 0)):
            with pytest.raises(ValueError, match=r"mlp: widths must .* each at least 1, got \("):
                mlp(*widths)
        with pytest.raises(ValueError, match=r"mlp: last_norm must be one of None, .*, got 'gamma'"):
            mlp(4, 5, last_norm="gamma")  # type: ignore[arg-type]


class TestVit:
    @pytest.mark.parametrize(
        ("name", "options"),
        [
            ("vit_tiny_patch16_224", {"class_token": False, "global_pool": "avg"}),
            ("vit_base_patch16_clip_224", {"embed_dim": 48, "num_heads": 3}),  # no bias in its projection
            ("vit_medium_patch16_reg4_gap_256", {"embed_dim": 48, "num_heads": 3}),
        ],
    )
    def test_moco_v3_starts_vits_without_class_token_or_bias(self, name: str, options: dict[str, Any]) -> None:
        network: Any = vit(name, moco_v3=True, img_size=32, depth=1, **options)
        assert not network.pos_embed.requires_grad
        assert not network.patch_embed.proj.weight.requires_grad
        assert network.pos_embed[0, -1].abs().max() <= 1
        assert network(torch.rand(2, 3, 32, 32)).isfinite().all()

    def test_errors(self) -> None:
        with pytest.raises(
            ValueError, match=r"vit: name must be a vit_\* .* without relative positions, got 'vit_relpos"
        ):
            vit("vit_relpos_small_patch16_224")
        with pytest.raises(ValueError, match=r"ViT with absolute positions and .* got 'vit_base_patch16_rope_224'"):
            vit("vit_base_patch16_rope_224", moco_v3=True, img_size=32, depth=1)


class TestBackbones:
    @pytest.mark.parametrize(("name", "width"), [("resnet10", 512), ("resnet18", 512), ("resnet50", 2048)])
    def test_resnet(self, name: str, width: int) -> None:
        network = resnet(name)
        assert feature_width(network, size=32) == width
        reference = torchvision.models.get_model(name) if name != "resnet10" else None
        if reference is not None:
            reference.load_state_dict(network.state_dict(), strict=False)
            reference.fc = nn.Identity()
            x = torch.rand(1, 3, 64, 64)
            assert torch.equal(network.eval()(x), reference.eval()(x))

    def test_residual_blocks_can_start_as_the_identity(self) -> None:
        assert not any(block.bn2.weight.any() for block in resnet("resnet10", zero_init_residual=True).layer1)
        assert all(block.bn2.weight.all() for block in resnet("resnet10").layer1)

    def test_cifar_stem_keeps_the_resolution(self) -> None:
        network = resnet("resnet10", stem="cifar")
        sizes: list[tuple[int, ...]] = []
        network.layer1.register_forward_hook(lambda module, args, output: sizes.append(tuple(output.shape)))
        network(torch.rand(2, 3, 32, 32))
        assert sizes == [(2, 64, 32, 32)]

    def test_resnet_errors(self) -> None:
        with pytest.raises(ValueError, match=r"resnet: name must be one of 'resnet10', 'resnet101', .* got 'vgg11'"):
            resnet("vgg11")
        with pytest.raises(ValueError, match="resnet: stem must be one of 'imagenet', 'cifar', got 'small'"):
            resnet(stem="small")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=r"weights must be None for resnet18 with cifar stem .* got 'DEFAULT'"):
            resnet(stem="cifar", weights="DEFAULT")
        with pytest.raises(ValueError, match="resnet: weights must be None for resnet10 "):
            resnet("resnet10", weights="DEFAULT")

    def test_width_of_other_channels_dtypes_and_outputs(self) -> None:
        assert feature_width(nn.Sequential(nn.Conv2d(13, 7, 3), nn.AdaptiveAvgPool2d(1))) == 7
        assert feature_width(tiny().double()) == 16
        assert feature_width(nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten())) == 12

    def test_width_reads_no_random_numbers(self) -> None:
        backbone = nn.Sequential(tiny(), nn.Dropout(0.5))
        state = torch.random.get_rng_state()
        feature_width(backbone)
        assert torch.equal(torch.random.get_rng_state(), state)

    def test_width_errors(self) -> None:
        asked = r"feature_width: backbone must map \(2, 3, 64, 64\) to \(2, d\) or \(2, d, 1, 1\), got "
        with pytest.raises(ValueError, match=asked + r"\(2, 5, 62, 62\): end it in pooled features"):
            feature_width(nn.Conv2d(3, 5, 3))
        lstm = nn.LSTM(64, 5)
        lstm.register_forward_pre_hook(lambda module, args: args[0][:, 0])
        with pytest.raises(ValueError, match=asked + "tuple"):
            feature_width(lstm)
        network = nn.Sequential(nn.BatchNorm2d(3).eval(), nn.Linear(3, 2))
        asked = r"feature_width: backbone must take images \(2, 3, 64, 64\), got RuntimeError: "
        with pytest.raises(ValueError, match=asked + r".*\nGive the width yourself: width=..."):
            feature_width(network)
        assert [network.training, network[0].training, network[1].training] == [True, False, True]
