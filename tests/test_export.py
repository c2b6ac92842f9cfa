"""Exported backbones: strict loads into torchvision and timm, and graphs of ONNX, with the same features."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import timm
import torch
import torchvision
from helpers.backbones import scramble, write_backbone
from torch import Tensor, nn

from lightly_aug import Normalize
from lightly_aug.models import resnet
from lightly_aug.weights import Backbone, export_onnx, export_state_dict, save_backbone

CIFAR: dict[str, Any] = {"arguments": {"stem": "cifar"}, "size": 32}


def run_lines(lines: str, **names: Any) -> dict[str, Any]:
    """Run the lines that load an exported file, as a user would."""
    exec(lines, names)
    return names


def features_of(network: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        return network.eval()(images)  # type: ignore[no-any-return]


# --- state dicts ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["safetensors", "pth", "pt"])
@pytest.mark.parametrize("layout", ["torchvision", "timm"])
def test_the_lines_load_a_resnet_strictly_with_the_same_features(tmp_path: Path, layout: Any, suffix: str) -> None:
    backbone = write_backbone(tmp_path, "resnet18", size=40)
    lines = export_state_dict(backbone, tmp_path / "new" / f"weights.{suffix}", layout)
    network = run_lines(lines)["network"]
    assert type(network).__module__.split(".")[0] == layout
    images = torch.randn(2, 3, 40, 40)
    torch.testing.assert_close(features_of(network, images), features_of(backbone.network, images))
    assert lines.endswith(
        "# images: float32 (n, c, 40, 40), normalised with mean (0.485, 0.456, 0.406) and std (0.229, 0.224, 0.225)"
    )


@pytest.mark.parametrize("name", ["resnet50", "resnext50_32x4d"])
def test_deep_resnets_are_the_same_network_in_both_libraries(tmp_path: Path, name: str) -> None:
    backbone = write_backbone(tmp_path, name, size=33, normalize=None)
    images = torch.rand(1, 3, 33, 33)
    layouts: list[Any] = ["torchvision", "timm"]
    for layout in layouts:
        lines = export_state_dict(backbone, tmp_path / "weights.pth", layout)
        found = features_of(run_lines(lines)["network"], images)
        torch.testing.assert_close(found, features_of(backbone.network, images))
        assert lines.endswith("in [0, 1]")


def test_a_resnet_of_timm_loads_into_torchvision(tmp_path: Path) -> None:
    network = scramble(timm.create_model("resnet18.a1_in1k", num_classes=0))
    save_backbone(network, tmp_path / "backbone.safetensors", arch="resnet18.a1_in1k", size=64, normalize=Normalize())
    lines = export_state_dict(Backbone.from_pretrained(tmp_path), tmp_path / "weights.safetensors", "torchvision")
    assert "torchvision.models.resnet18()" in lines
    other = run_lines(lines)["network"]
    assert isinstance(other, torchvision.models.ResNet)
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(features_of(other, images), features_of(network, images))


@pytest.mark.parametrize(
    ("arch", "settings"),
    [
        ("test_vit", {"size": 80, "arguments": {"img_size": 96, "num_heads": 4}}),
        ("test_convnext", {"size": 64, "arguments": {"in_chans": 1}, "mode": "L", "normalize": Normalize(0.5, 0.25)}),
    ],
)
def test_models_of_timm_load_with_the_arguments_that_they_were_built_with(
    tmp_path: Path, arch: str, settings: dict[str, Any]
) -> None:
    backbone = write_backbone(tmp_path, arch, **settings)
    network = run_lines(export_state_dict(backbone, tmp_path / "weights.pth", "timm"))["network"]
    channels = settings["arguments"].get("in_chans", 3)
    images = torch.randn(2, channels, settings["size"], settings["size"])
    torch.testing.assert_close(features_of(network, images), features_of(backbone.network, images))


@pytest.mark.parametrize("layout", ["torchvision", "timm"])
@pytest.mark.parametrize(
    ("arch", "settings", "message"),
    [
        ("resnet18", CIFAR, "{layout} has no ResNet with the stem for small images, got stem='cifar'"),
        ("resnet18", {"size": 64, "arguments": {"norm": "layer"}}, "has no ResNet with LayerNorm, as CPC v2 trains it"),
        ("resnet10", {"size": 64}, "layout '{layout}' is for .*, got 'resnet10', which it does not have"),
        ("amdim_encoder", {"size": 32, "arguments": {"size": 32, "width": 4, "dim": 8, "depth": 1}}, "'amdim_encoder'"),
    ],
)
def test_a_network_without_an_equal_is_refused_with_the_reason(
    tmp_path: Path, layout: Any, arch: str, settings: dict[str, Any], message: str
) -> None:
    backbone = write_backbone(tmp_path, arch, **settings)
    with pytest.raises(ValueError, match="export_state_dict: .*" + message.format(layout=layout)):
        export_state_dict(backbone, tmp_path / "weights.pth", layout)
    assert not (tmp_path / "weights.pth").exists()


def test_other_layouts_suffixes_and_networks_are_refused(tmp_path: Path) -> None:
    backbone = write_backbone(tmp_path, "resnet18", size=40)
    with pytest.raises(ValueError, match=r"layout must be one of 'torchvision', 'timm', got 'tim'; did you mean 'timm"):
        export_state_dict(backbone, tmp_path / "weights.pth", "tim")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"file must end in .safetensors, .pth or .pt, got .*weights\.onnx"):
        export_state_dict(backbone, tmp_path / "weights.onnx")
    own = Backbone(nn.Flatten(), backbone.metadata | {"backbone": None})
    with pytest.raises(ValueError, match="must have a name that other libraries know, got a network of your own"):
        export_state_dict(own, tmp_path / "weights.pth")
    vit = write_backbone(tmp_path / "vit", "test_vit", size=64)
    with pytest.raises(ValueError, match="'torchvision' is for ResNets of torchvision, got 'test_vit'"):
        export_state_dict(vit, tmp_path / "weights.pth")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda network: setattr(network, "relu", nn.Tanh()), "must compute the features of the backbone to 1e-4, got"),
        (lambda network: setattr(network, "fc", nn.Linear(512, 4)), "do not fit .* Unexpected key.*fc.weight"),
        (lambda network: network.bn1.running_mean.fill_(torch.nan), "got a difference of nan"),
        (lambda network: setattr(network, "fc", nn.AvgPool1d(2)), r"must compute features \(2, 256\).*got \(2, 512\)"),
    ],
)
def test_a_network_that_was_changed_is_not_exported(
    tmp_path: Path, change: Callable[[Any], object], message: str
) -> None:
    network: Any = resnet("resnet18")
    change(network)
    metadata = write_backbone(tmp_path, "resnet18", size=40).metadata
    with pytest.raises(ValueError, match=message):
        export_state_dict(Backbone(network, metadata), tmp_path / "weights.pth")
    assert not (tmp_path / "weights.pth").exists()


def test_export_leaves_the_backbone_and_the_generator_alone(tmp_path: Path) -> None:
    backbone = write_backbone(tmp_path, "resnet18", size=40).to(torch.bfloat16).train()
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    state = torch.get_rng_state()
    lines = export_state_dict(backbone, tmp_path / "weights.safetensors")
    assert torch.equal(torch.get_rng_state(), state)
    assert backbone.training
    torch.testing.assert_close(backbone.state_dict(), before, rtol=0, atol=0)
    assert next(run_lines(lines)["network"].parameters()).dtype == torch.float32


# --- ONNX -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arch", "settings"),
    [
        ("resnet10", CIFAR),
        ("test_vit", {"size": 48, "arguments": {"in_chans": 1}, "mode": "L", "normalize": Normalize(0.5, 0.25)}),
    ],
)
def test_a_graph_computes_the_features_of_any_number_of_images(
    tmp_path: Path, arch: str, settings: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    backbone = write_backbone(tmp_path, arch, **settings).train()
    file = tmp_path / "new" / "backbone.onnx"
    lines = export_onnx(backbone, file)
    assert capfd.readouterr() == ("", "")
    assert backbone.training
    assert [path.name for path in file.parent.iterdir()] == ["backbone.onnx"]  # weights are in it
    onnx.checker.check_model(onnx.load(file), full_check=True)
    size, channels = settings["size"], settings["arguments"].get("in_chans", 3)
    for count in (1, 2, 7):
        images = np.random.default_rng(count).random((count, channels, size, size), dtype=np.float32)
        found = run_lines(lines, images=images)["features"]
        expected = backbone.eval().freeze()(images.transpose(0, 2, 3, 1))  # normalised by the collate function
        np.testing.assert_allclose(found, expected.numpy(), rtol=1e-3, atol=1e-4)
    session = onnxruntime.InferenceSession(file)
    assert json.loads(session.get_modelmeta().custom_metadata_map["lightly_aug"])["size"] == size
    assert session.get_inputs()[0].shape == ["n", channels, size, size]
    assert f"# images: float32 (n, c, {size}, {size}), in [0, 1]\n" in lines


def test_a_graph_may_take_normalised_images(tmp_path: Path) -> None:
    backbone = write_backbone(tmp_path, "resnet10", **CIFAR)
    lines = export_onnx(backbone, tmp_path / "backbone.onnx", normalized=True)
    assert "normalised with mean (0.485, 0.456, 0.406) and std" in lines
    images = torch.randn(2, 3, 32, 32)
    found = run_lines(lines, images=images.numpy())["features"]
    np.testing.assert_allclose(found, features_of(backbone.network, images).numpy(), rtol=1e-3, atol=1e-4)


class Branches(nn.Module):
    """A network that cannot be a graph: what it does depends on the values of the images."""

    def forward(self, images: Tensor) -> Tensor:
        return images.mean((2, 3)) if float(images.sum()) > 0 else images.amax((2, 3))


class Noisy(nn.Module):
    """A network whose features differ from one call to the next."""

    def forward(self, images: Tensor) -> Tensor:
        return images.mean((2, 3)) + torch.rand(images.shape[0], 3)


def test_what_cannot_be_exported_leaves_no_file(tmp_path: Path) -> None:
    metadata = write_backbone(tmp_path, "resnet10", **CIFAR).metadata
    file = tmp_path / "new" / "backbone.onnx"
    with pytest.raises(ValueError, match=r"file must end in \.onnx, got .*backbone\.pt"):
        export_onnx(Backbone(Noisy(), metadata), file.with_suffix(".pt"))
    with pytest.raises(ValueError, match="export_onnx: torch must be able to export the Branches, got an error: "):
        export_onnx(Backbone(Branches(), metadata), file)
    assert not file.parent.exists()
    with pytest.raises(ValueError, match="ONNX Runtime must compute the features of the backbone to 1e-4, got a diff"):
        export_onnx(Backbone(Noisy(), metadata), file)
    assert not list(file.parent.iterdir())
