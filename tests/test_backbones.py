"""Backbones that users bring: networks of timm, torchvision and Hugging Face, wrapped and in other dtypes."""

import pickle
import traceback
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.nn.utils.parametrizations import weight_norm

from lightly_aug.models import BYOL, DINO, MoCo, SimCLR, feature_width, pooled, resnet, vit

small_vit = partial(timm.create_model, "vit_tiny_patch16_224", depth=1, num_classes=0)


class TestWidth:
    @pytest.mark.parametrize(
        ("name", "options"),
        [
            ("vit_tiny_patch16_224", {"depth": 1}),
            ("vit_tiny_patch16_224", {"depth": 1, "img_size": (48, 80), "in_chans": 5}),
            ("swin_tiny_patch4_window7_224", {"depths": (1, 1, 1, 1)}),
            ("mixer_s32_224", {}),
            ("levit_128s", {}),
            ("inception_v3", {}),
            ("resnet18", {"in_chans": 1}),
            ("mobilenetv3_small_050", {}),
        ],
    )
    def test_of_networks_of_timm(self, name: str, options: dict[str, Any]) -> None:
        network = timm.create_model(name, num_classes=0, **options)
        assert SimCLR(network).head[0].in_features == feature_width(network) == network.head_hidden_size

    def test_of_a_vit_with_patches_of_14(self) -> None:
        fixed = timm.create_model("vit_small_patch14_dinov2", num_classes=0, depth=1, img_size=42)
        seen: list[tuple[int, ...]] = []
        network = vit("vit_small_patch14_dinov2", depth=1)
        network.register_forward_pre_hook(lambda module, args: seen.append(tuple(args[0].shape)))
        assert feature_width(fixed) == feature_width(network) == 384
        assert seen == [(2, 3, 56, 56)]  # not the 518 x 518 pixels that it was pretrained on

    def test_at_a_size(self) -> None:
        network = small_vit(img_size=(32, 64))
        assert feature_width(network, (32, 64)) == 192
        asked = r"must take images \(2, 3, 64, 32\), got AssertionError: Input height \(64\) doesn't match model \(32\)"
        with pytest.raises(ValueError, match=asked + r"[\s\S]*width=feature_width\(backbone, \(height, width\)\)"):
            feature_width(network, (64, 32))

    def test_a_network_that_fails_runs_once(self) -> None:
        calls: list[tuple[int, ...]] = []
        network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(3, 2))
        network.register_forward_pre_hook(lambda module, args: calls.append(tuple(args[0].shape)))
        with pytest.raises(ValueError, match=r"must take images \(2, 3, 64, 64\)"):
            feature_width(network)
        assert calls == [(2, 3, 64, 64)]

    def test_views_of_another_size_are_refused_with_advice(self) -> None:
        model = SimCLR(small_vit(img_size=32))
        model(list(torch.rand(2, 2, 3, 32, 32)))
        with pytest.raises(AssertionError, match="Input height") as refused:
            model(list(torch.rand(2, 2, 3, 48, 64)))
        shown = "".join(traceback.format_exception(refused.value))
        assert "The backbone was built for images of 32x32 pixels, and got 48x64. Make views of that size" in shown
        assert "img_size=..., or for any size by lightly_aug.models.vit" in shown

    @pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), KeyError("x")])
    def test_other_errors_get_no_advice_on_size(self, error: Exception) -> None:
        def fail(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            raise error

        for network in (small_vit(img_size=32, dynamic_img_size=True), resnet("resnet10")):
            model = SimCLR(network)
            network.register_forward_pre_hook(fail)
            with pytest.raises(type(error)) as raised:
                model.embed(torch.rand(2, 3, 48, 48))
            assert not hasattr(raised.value, "__notes__")


def remove(network: nn.Module, message: str) -> None:
    """Follow the advice of the error."""
    line = message.partition("remove it, ")[2].partition(";")[0].rpartition(" or ")[-1]
    exec(line, {"network": network, "nn": nn})


TORCHVISION = [
    *(
        "alexnet",
        "convnext_tiny",
        "densenet121",
        "efficientnet_b0",
        "mnasnet0_5",
        "mobilenet_v3_small",
        "regnet_y_400mf",
    ),
    *("resnet18", "shufflenet_v2_x0_5", "squeezenet1_1", "swin_t", "vit_b_32"),
]
TIMM = [
    "vit_tiny_patch16_224",
    "resnet18",
    "levit_128s",
    "deit_tiny_distilled_patch16_224",
    "efficientvit_m0",
    "repvit_m0_9",
]


class TestClassifiers:
    @pytest.mark.parametrize(
        ("build", "name"),
        [(torchvision.models.get_model, name) for name in TORCHVISION] + [(timm.create_model, name) for name in TIMM],
    )
    def test_is_refused_with_the_line_that_removes_it(self, build: Callable[..., nn.Module], name: str) -> None:
        network = build(name, num_classes=31)
        asked = "feature_width: backbone must end in its features, got the 31 outputs of the classifier of "
        with pytest.raises(ValueError, match=f"{asked}{type(network).__name__}: ") as refused:
            SimCLR(network)
        remove(network, str(refused.value))
        size = 224 if "it_" in name else 64
        with torch.no_grad():
            features = network.eval()(torch.zeros(1, 3, size, size)).flatten(1)
        assert feature_width(network) == features.shape[1] > 31

    @pytest.mark.parametrize(
        "wrap",
        [torch.compile, checkpoint_wrapper, nn.DataParallel, nn.Sequential, lambda m: nn.Sequential(m, nn.Flatten())],
    )
    def test_is_found_in_a_wrapper(self, wrap: Callable[[nn.Module], nn.Module]) -> None:
        with pytest.raises(
            ValueError, match=r"1000 outputs of the classifier of ResNet: .*network.fc = nn.Identity\(\)"
        ):
            feature_width(wrap(torchvision.models.resnet18()))

    def test_of_a_subclass_is_refused(self) -> None:
        class Mine(torchvision.models.ResNet):  # type: ignore[misc]
            pass

        network = Mine(torchvision.models.resnet.BasicBlock, [1, 1, 1, 1])
        with pytest.raises(ValueError, match="1000 outputs of the classifier of Mine: "):
            feature_width(network)

    def test_that_the_user_wants_to_keep(self) -> None:
        network = torchvision.models.resnet18(num_classes=40)
        with pytest.raises(ValueError, match="or keep it with width=40"):
            SimCLR(network)
        assert SimCLR(network, width=40).embed(torch.rand(2, 3, 32, 32)).shape == (2, 40)

    def test_layers_of_the_user_are_features(self) -> None:
        features = torchvision.models.resnet18()
        features.fc = nn.Identity()
        assert feature_width(nn.Sequential(features, nn.Linear(512, 1000))) == 1000
        assert feature_width(nn.Sequential(torchvision.models.resnet18(), nn.Linear(1000, 1000))) == 1000
        features.fc = nn.Sequential(nn.Linear(512, 64), nn.ReLU(), nn.Linear(64, 9))
        assert feature_width(features) == 9
        alexnet = torchvision.models.alexnet()
        alexnet.classifier = alexnet.classifier[:-1]
        assert feature_width(alexnet) == 4096
        network = timm.create_model("resnet18")
        network.fc = nn.Linear(512, 7)
        assert feature_width(network) == 7

        class Mine(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
                self.num_classes = 6
                self.fc = nn.Linear(4, 6)

            def forward(self, x: Tensor) -> Tensor:
                scores: Tensor = self.fc(self.body(x))
                return scores

        assert feature_width(Mine()) == 6

    def test_the_search_leaves_no_hook(self) -> None:
        network = torchvision.models.resnet18(num_classes=4)
        with pytest.raises(ValueError, match="classifier"):
            feature_width(network)
        assert not any(module._forward_hooks for module in network.modules())


@dataclass
class Output:
    """What a model of Hugging Face returns."""

    last_hidden_state: Tensor | None = None
    pooler_output: Tensor | None = None
    logits: Tensor | None = None


class Tokens(nn.Module):
    """A vision transformer with a class token, in the manner of Hugging Face; a map if there is no `class_token`."""

    def __init__(self, *names: str, tokens: bool = True) -> None:
        super().__init__()
        self.names = names
        self.tokens = tokens
        self.embedding = nn.Conv2d(3, 8, 16, stride=16)

    def forward(self, pixel_values: Tensor, scale: float = 1.0) -> Output:
        x = scale * self.embedding(pixel_values)
        pooled_output = x.mean((2, 3)).tanh()
        if self.tokens:
            x = x.flatten(2).transpose(1, 2)
        values = {"last_hidden_state": x, "pooler_output": pooled_output, "logits": pooled_output[:, :2]}
        return Output(**{name: values[name] for name in self.names})


class TestPooled:
    def test_takes_what_is_asked(self) -> None:
        network = Tokens("last_hidden_state", "pooler_output")
        x = torch.rand(2, 3, 32, 48)
        output = network(x)
        assert torch.equal(pooled(network)(x), output.pooler_output)
        assert torch.equal(pooled(network, "class_token")(x), output.last_hidden_state[:, 0])
        assert torch.equal(pooled(network, "mean")(x), output.last_hidden_state.mean(1))
        assert torch.equal(pooled(network, scale=3.0)(x), network(x, scale=3.0).pooler_output)
        pixels = Tokens("last_hidden_state", tokens=False)
        torch.testing.assert_close(pooled(pixels, "mean")(x), pixels(x).last_hidden_state.mean((2, 3)))

    def test_is_a_backbone(self) -> None:
        model = MoCo(pooled(Tokens("pooler_output")), dim=4, queue=8)
        x = torch.rand(2, 4, 3, 32, 32)
        model(list(x)).backward()
        torch.optim.SGD(model.parameters(), lr=0.1).step()
        again = pickle.loads(pickle.dumps(model))
        assert torch.equal(deepcopy(model).embed(x[0]), again.embed(x[0]))
        compiled = torch.compile(model.backbone, fullgraph=True, backend="eager")
        assert torch.equal(compiled(x[0]), model.embed(x[0]))
        assert "features='pooler_output', scale=3.0" in repr(pooled(Tokens(), scale=3.0))

    @pytest.mark.parametrize(
        ("names", "advice"),
        [
            (("last_hidden_state", "pooler_output"), r"write pooled\(backbone\) in place of backbone"),
            (("last_hidden_state",), r'write pooled\(backbone, "class_token"\) or pooled\(backbone, "mean"\)'),
            (("logits",), "take the model without its classifier, such as AutoModel"),
            ((), "end it in pooled features"),
        ],
    )
    def test_is_named_where_a_backbone_returns_an_object(self, names: tuple[str, ...], advice: str) -> None:
        with pytest.raises(ValueError, match=rf"must map \(2, 3, 64, 64\) to .*, got Output: {advice}"):
            SimCLR(Tokens(*names))

    def test_errors(self) -> None:
        with pytest.raises(ValueError, match=r"pooled: features must be one of 'pooler_output', .*, got 'cls'"):
            pooled(Tokens(), "cls")  # type: ignore[arg-type]
        x = torch.rand(2, 3, 32, 32)
        asked = "pooled: network must return pooler_output for features='pooler_output', got Output without it: "
        with pytest.raises(ValueError, match=asked):
            pooled(Tokens("last_hidden_state"))(x)
        with pytest.raises(ValueError, match=r"last_hidden_state for features='class_token', got \(2, 8, 2, 2\)"):
            pooled(Tokens("last_hidden_state", tokens=False), "class_token")(x)

    def test_models_of_transformers(self) -> None:
        transformers = pytest.importorskip("transformers")
        sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}
        maps = {"hidden_sizes": [8, 16], "depths": [1, 1]}
        vit_model = transformers.ViTModel(transformers.ViTConfig(intermediate_size=32, **sizes))
        models = {
            vit_model: 16,
            transformers.Dinov2Model(transformers.Dinov2Config(**sizes)): 16,
            transformers.SwinModel(
                transformers.SwinConfig(
                    image_size=32, patch_size=4, embed_dim=8, depths=[1, 1], num_heads=[2, 2], window_size=4
                )
            ): 16,
            transformers.ResNetModel(transformers.ResNetConfig(embedding_size=8, layer_type="basic", **maps)): 16,
        }
        x = torch.rand(2, 2, 3, 32, 32)
        for network, width in models.items():
            with pytest.raises(ValueError, match=r": write pooled\(backbone\)"):
                SimCLR(network)
            model = SimCLR(pooled(network), dim=4)
            assert model.head[0].in_features == width
            model(list(x)).backward()
            assert torch.equal(model.eval().embed(x[0]), network(x[0]).pooler_output.flatten(1))
        with pytest.raises(ValueError, match=r"Input image size \(48\*48\)") as refused:
            SimCLR(pooled(vit_model)).embed(torch.rand(2, 3, 48, 48))
        assert "pooled(network, interpolate_pos_encoding=True)" in refused.value.__notes__[0]
        options: dict[str, Any] = {"hidden": 8, "bottleneck": 4, "dim": 16}
        crops = [*x, torch.rand(2, 3, 16, 16)]
        assert DINO(pooled(vit_model, interpolate_pos_encoding=True), **options)(crops).isfinite()


METHODS: list[Callable[..., Any]] = [
    partial(SimCLR, dim=4),
    partial(MoCo, dim=4, queue=8),
    partial(BYOL, hidden=8, dim=4),
]
compiled = partial(torch.compile, backend="eager", fullgraph=True)


class TestWrappers:
    @pytest.mark.parametrize("late", [False, True])
    @pytest.mark.parametrize("wrap", [compiled, checkpoint_wrapper], ids=["compile", "checkpoint"])
    @pytest.mark.parametrize("method", METHODS, ids=["SimCLR", "MoCo", "BYOL"])
    def test_train_as_without(
        self, method: Callable[..., Any], wrap: Callable[[nn.Module], nn.Module], late: bool
    ) -> None:
        images = torch.rand(2, 2, 4, 3, 32, 32)
        losses = []
        for change in (None, wrap):
            torch.manual_seed(0)
            network = small_vit(img_size=32)
            model = method(network if late or change is None else wrap(network))
            if late and change is not None:
                model.backbone = wrap(network)
            optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
            for x in images:
                optimiser.zero_grad()
                loss = model(list(x))
                loss.backward()
                optimiser.step()
                model.after_step(0.5)
                losses.append(loss.item())
        assert losses[:2] == losses[2:]

    def test_a_whole_model_compiles_in_one_graph(self) -> None:
        model = MoCo(small_vit(img_size=32), dim=4, queue=8)
        x = list(torch.rand(2, 4, 3, 32, 32))
        assert torch.equal(compiled(deepcopy(model))(x), model(x))

    def test_measuring_compiles_nothing(self) -> None:
        graphs: list[Any] = []

        def backend(graph: Any, inputs: Any) -> Any:
            graphs.append(graph)
            return graph.forward

        first: Any = torch.compile(nn.Conv2d(3, 4, 3), backend=backend)
        backbone = nn.Sequential(first, nn.AdaptiveAvgPool2d(1))
        assert feature_width(backbone) == 4
        assert not graphs
        backbone(torch.rand(1, 3, 8, 8))
        assert len(graphs) == 1

    def test_a_parametrisation_belongs_before_the_copy(self) -> None:
        x = list(torch.rand(2, 4, 3, 32, 32))
        for late in (False, True):
            network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1))
            if not late:
                weight_norm(network[0])
            model = MoCo(network, dim=4, queue=8)
            if late:
                weight_norm(network[0])
            optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
            model(x).backward()
            if late:
                with pytest.raises(ValueError, match="change the network before the model copies it"):
                    optimiser.step()
            else:
                optimiser.step()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_width_in_other_dtypes(dtype: torch.dtype) -> None:
    assert feature_width(resnet("resnet10").to(dtype)) == 512
    assert feature_width(small_vit().to(dtype)) == 192


def test_a_model_without_memory() -> None:
    with torch.device("meta"):
        model = SimCLR(small_vit(img_size=32), dim=4)
        with pytest.raises(ValueError, match="1000 outputs of the classifier of ResNet"):
            feature_width(torchvision.models.resnet18())
    assert all(parameter.is_meta for parameter in model.parameters())
    model.to_empty(device="cpu")
    assert model.embed(torch.rand(2, 3, 32, 32)).shape == (2, 192)
