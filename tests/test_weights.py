"""Saved backbones: what is loaded is what was trained, on the images that it was trained for."""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from helpers.backbones import scramble
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2.functional import to_image

import lightly_aug
from lightly_aug import Normalize
from lightly_aug.atomic import replace_file
from lightly_aug.evaluate import features
from lightly_aug.models import MoCo, amdim_encoder, resnet, vit
from lightly_aug.photographs import photographs
from lightly_aug.weights import Backbone, build_backbone, read_metadata, save_backbone

CIFAR: dict[str, Any] = {"arch": "resnet10", "arguments": {"stem": "cifar"}, "size": 32}


def own() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1))


NAMED: dict[str, tuple[Callable[[], nn.Module], dict[str, Any]]] = {
    "a ResNet": (lambda: resnet("resnet18"), {"arch": "resnet18", "size": 64}),
    "a small ResNet": (
        lambda: resnet("resnet10", stem="cifar", norm="layer"),
        {"arch": "resnet10", "arguments": {"stem": "cifar", "norm": "layer"}, "size": 32},
    ),
    "AMDIM's encoder": (
        lambda: amdim_encoder(32, width=4, dim=8, depth=1),
        {"arch": "amdim_encoder", "arguments": {"size": 32, "width": 4, "dim": 8, "depth": 1}, "size": 32},
    ),
    "a network of timm": (
        lambda: timm.create_model("test_convnext", num_classes=0),
        {"arch": "test_convnext", "size": 64},
    ),
    "a ViT at another size": (
        lambda: vit("vit_tiny_patch16_224", depth=1, img_size=32),
        {"arch": "vit_tiny_patch16_224", "arguments": {"depth": 1, "img_size": 32}, "size": 48},
    ),
}


@pytest.mark.parametrize("name", NAMED)
def test_a_network_with_a_name_comes_back_as_it_was(tmp_path: Path, name: str) -> None:
    make, settings = NAMED[name]
    network = scramble(make()).train()
    save_backbone(network, tmp_path / "backbone.safetensors", normalize=None, **settings)
    assert network.training
    loaded = Backbone.from_pretrained(tmp_path)
    assert not any(module.training for module in loaded.network.modules())
    assert network.state_dict().keys() == loaded.network.state_dict().keys()
    images = torch.rand(2, 3, settings["size"], settings["size"])
    with torch.no_grad():
        torch.testing.assert_close(loaded.network(images), network.eval()(images), rtol=0, atol=0)


def test_a_network_of_ones_own_is_passed(tmp_path: Path) -> None:
    file, network, mine = tmp_path / "mine.safetensors", scramble(own()), own()
    save_backbone(network, file, arch=None, size=16, normalize=None)
    with pytest.raises(
        ValueError, match=r"a network without a name; .* Backbone\.from_pretrained\(file, network=\.\.\.\)"
    ):
        Backbone.from_pretrained(file)
    assert Backbone.from_pretrained(file, network=mine).network is mine
    torch.testing.assert_close(mine.state_dict(), network.state_dict(), rtol=0, atol=0)
    with pytest.raises(ValueError, match=r"mine\.safetensors does not fit the Linear: .*Missing key"):
        Backbone.from_pretrained(file, network=nn.Linear(2, 2))
    with pytest.raises(ValueError, match="size mismatch"):
        Backbone.from_pretrained(file, network=nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5)))


def test_tied_weights_and_other_layouts(tmp_path: Path) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(3, 3, 3)
            self.second = nn.Conv2d(3, 3, 3)
            self.second.weight = self.first.weight

    network, mine = scramble(Tied()).to(memory_format=torch.channels_last), Tied()
    save_backbone(network, tmp_path / "tied.safetensors", arch=None, size=16, normalize=None)
    Backbone.from_pretrained(tmp_path / "tied.safetensors", network=mine)
    torch.testing.assert_close(mine.state_dict(), network.state_dict(), rtol=0, atol=0)


def test_states_that_are_no_tensors_are_refused(tmp_path: Path) -> None:
    class Counts(nn.Conv2d):
        def get_extra_state(self) -> int:
            return 3

    with pytest.raises(ValueError, match=r"must hold tensors only, got {'_extra_state': 'int'}"):
        save_backbone(Counts(3, 3, 3), tmp_path / "counts.safetensors", arch=None, size=16, normalize=None)


@pytest.mark.parametrize(
    "wrap", [torch.compile, nn.DataParallel, lambda network: torch.compile(nn.DataParallel(network))]
)
def test_wrappers_are_left_out(tmp_path: Path, wrap: Callable[[nn.Module], nn.Module]) -> None:
    network = resnet("resnet10", stem="cifar")
    save_backbone(wrap(network), tmp_path / "backbone.safetensors", normalize=None, **CIFAR)
    torch.testing.assert_close(
        Backbone.from_pretrained(tmp_path).network.state_dict(), network.state_dict(), rtol=0, atol=0
    )


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_weights_of_resnets_load_into_timm(tmp_path: Path, name: str) -> None:
    network = scramble(resnet(name)).eval()
    save_backbone(network, tmp_path / "backbone.safetensors", arch=name, size=64, normalize=None)
    other = timm.create_model(name, num_classes=0).eval()
    other.load_state_dict(load_file(tmp_path / "backbone.safetensors"))
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(other(images), network(images))


# --- images -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("normalize", [None, Normalize(), Normalize((0.1, 0.2, 0.3), 0.5)])
def test_images_are_those_of_torchvision(tmp_path: Path, normalize: Normalize | None) -> None:
    save_backbone(resnet("resnet10", stem="cifar"), tmp_path / "backbone.safetensors", normalize=normalize, **CIFAR)
    photo = photographs(1, 120)[0].crop((0, 0, 120, 90))
    steps: list[nn.Module] = [
        v2.ToDtype(torch.float32, scale=True),
        v2.Resize(32, InterpolationMode.BILINEAR, antialias=True),
        v2.CenterCrop(32),
    ]
    if normalize is not None:
        std = normalize.std if isinstance(normalize.std, tuple) else (normalize.std,)
        steps.append(v2.Normalize(list(normalize.mean), list(std)))  # type: ignore[arg-type]
    expected = v2.Compose(steps)(to_image(photo))[None]
    torch.testing.assert_close(
        Backbone.from_pretrained(tmp_path).collate([photo])[0], expected.as_subclass(Tensor), rtol=0, atol=1e-3
    )


def test_features_of_files_need_no_thought(tmp_path: Path) -> None:
    network = scramble(resnet("resnet10", stem="cifar")).eval()
    save_backbone(network, tmp_path / "backbone.safetensors", normalize=Normalize(), **CIFAR)
    files = [tmp_path / f"{i}.png" for i in range(3)]
    for file, photo in zip(files, photographs(3, 32), strict=True):
        photo.save(file)
    loaded = Backbone.from_pretrained(tmp_path)
    loader: DataLoader[Any] = DataLoader(files, 2, collate_fn=loaded.collate)  # type: ignore[arg-type]
    found, _ = features(loaded.network, loader)
    pixels = torch.stack([to_image(photo) for photo in photographs(3, 32)]).as_subclass(Tensor) / 255
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        torch.testing.assert_close(found, network((pixels - mean) / std), rtol=1e-3, atol=1e-3)


def test_images_are_read_as_for_the_training_unless_the_user_says_otherwise(tmp_path: Path) -> None:
    gray = nn.Sequential(nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(1))
    settings: dict[str, Any] = {
        "arch": None,
        "size": 8,
        "normalize": Normalize(0.5, 0.25),
        "mode": "L",
        "background": (255, 0, 0),
    }
    save_backbone(gray, tmp_path / "backbone.safetensors", **settings)
    collate = Backbone.from_pretrained(tmp_path, network=gray).collate
    assert (collate.mode, collate.background, collate.decode) == ("L", (255, 0, 0), None)
    clear = Image.fromarray(np.zeros((8, 8, 4), np.uint8))
    expected = (round(255 * 0.299) / 255 - 0.5) / 0.25  # red behind it, as gray
    torch.testing.assert_close(collate([clear])[0], torch.full((1, 1, 8, 8), expected), rtol=0, atol=1e-4)
    other = Backbone.from_pretrained(tmp_path, network=gray, background="black", decode=16, image="photo").collate
    assert (other.background, other.decode, other.image, other.mode) == ("black", 16, "photo", "L")


# --- settings ---------------------------------------------------------------------------------------------------


def test_the_settings_are_readable_in_python_and_by_hand(tmp_path: Path) -> None:
    notes = {"method": "moco", "epochs": 3}
    save_backbone(
        resnet("resnet10", stem="cifar"), tmp_path / "backbone.safetensors", normalize=Normalize(), notes=notes, **CIFAR
    )
    expected = {
        "backbone": {"name": "resnet10", "arguments": {"stem": "cifar"}},
        "size": 32,
        "normalize": {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
        "mode": "RGB",
        "background": "white",
        "notes": notes,
        "versions": {"lightly_aug": lightly_aug.__version__, "torch": str(torch.__version__)},
    }
    assert read_metadata(tmp_path) == expected
    assert Backbone.from_pretrained(tmp_path).metadata == expected
    blob = (tmp_path / "backbone.safetensors").read_bytes()  # eight bytes of length, and JSON
    metadata = json.loads(blob[8 : 8 + int.from_bytes(blob[:8], "little")])["__metadata__"]
    assert metadata["format"] == "pt"
    assert json.loads(metadata["lightly_aug"]) == expected


def test_weights_that_training_began_with_are_not_loaded_again(tmp_path: Path) -> None:
    arguments = {"stem": "cifar", "weights": None}
    settings = CIFAR | {"arguments": arguments}
    save_backbone(resnet("resnet10", stem="cifar"), tmp_path / "backbone.safetensors", normalize=None, **settings)
    save_backbone(
        timm.create_model("test_vit", num_classes=0), tmp_path / "vit.safetensors",
        arch="test_vit", arguments={"pretrained": True}, size=160, normalize=None,
    )  # fmt: skip
    assert read_metadata(tmp_path)["backbone"]["arguments"] == {"stem": "cifar"}
    assert read_metadata(tmp_path / "vit.safetensors")["backbone"]["arguments"] == {}


@pytest.mark.parametrize(
    ("network", "changes", "message"),
    [
        (lambda: resnet("resnet10"), {}, r"conv1\.weight is \(64, 3, 7, 7\) in the network, and \(64, 3, 3, 3\)"),
        (lambda: MoCo(resnet("resnet10", stem="cifar"), queue=8), {}, r"arch=None"),
        (lambda: resnet("resnet10", stem="cifar"), {"arch": "resnet19"}, r"got 'resnet19'; did you mean 'resnet1"),
        (lambda: resnet("resnet10", stem="cifar"), {"arch": None}, "arguments must be empty without arch"),
        (lambda: resnet("resnet10", stem="cifar"), {"arguments": {"stem": torch.relu}}, "must be JSON"),
        (lambda: resnet("resnet10", stem="cifar"), {"notes": {"loss": torch.zeros(1)}}, "must be JSON"),
        (lambda: resnet("resnet10", stem="cifar"), {"size": 0}, "size must be an integer >= 1, got 0"),
        (
            lambda: timm.create_model("test_convnext", num_classes=0),
            {"arch": "test_convnext", "arguments": {"num_classes": 5}},
            "must end in its features, got the 5 outputs of the classifier",
        ),
        (
            lambda: timm.create_model("deit_tiny_patch16_224", num_classes=0, depth=1),
            {"arch": "deit_tiny_patch16_224", "arguments": {"depth": 1}},
            r"for images of 32 pixels, got 'deit_tiny_patch16_224'.*32",
        ),
    ],
)
def test_what_could_not_be_loaded_is_not_saved(
    tmp_path: Path, network: Callable[[], nn.Module], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        save_backbone(network(), tmp_path / "backbone.safetensors", **{"normalize": None} | CIFAR | changes)
    assert not list(tmp_path.iterdir())


def test_files_that_are_none_of_ours(tmp_path: Path) -> None:
    foreign, damaged = tmp_path / "foreign.safetensors", tmp_path / "damaged.safetensors"
    save_file({"weight": torch.zeros(1)}, foreign, metadata={"format": "pt"})
    with pytest.raises(
        ValueError, match=r"without its metadata.* load it by hand: network\.load_state_dict\("
    ) as caught:
        Backbone.from_pretrained(foreign)
    assert f"safetensors.torch.load_file({str(foreign)!r})" in str(caught.value)
    damaged.write_bytes(b"\xff" * 100)
    with pytest.raises(ValueError, match=r"damaged\.safetensors must be a file of safetensors"):
        Backbone.from_pretrained(damaged)
    with pytest.raises(FileNotFoundError, match=r"no .*nowhere"):
        Backbone.from_pretrained(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"no .*backbone\.safetensors"):
        Backbone.from_pretrained(tmp_path)


def test_unknown_networks_name_the_nearest() -> None:
    with pytest.raises(ValueError, match="got 'vit_tiny_patch16_225'; did you mean 'vit_tiny_patch16_224'"):
        build_backbone("vit_tiny_patch16_225")
    with pytest.raises(ValueError, match=r"a model of timm, got 'xyz'$"):
        build_backbone("xyz")


def test_saving_and_loading_leave_the_global_generator_alone(tmp_path: Path) -> None:
    network = resnet("resnet10", stem="cifar")
    settings = CIFAR | {"size": 24}  # no other test builds it, and what was built is remembered
    before = torch.get_rng_state()
    save_backbone(network, tmp_path / "backbone.safetensors", normalize=None, **settings)
    assert torch.equal(torch.get_rng_state(), before)
    Backbone.from_pretrained(tmp_path)
    assert torch.equal(torch.get_rng_state(), before)


# --- writing ----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.name == "nt", reason="modes are those of POSIX")
@pytest.mark.parametrize("mask", [0o022, 0o007])
def test_the_mode_is_that_of_any_new_file(tmp_path: Path, mask: int) -> None:
    file = tmp_path / "new" / "backbone.safetensors"
    before = os.umask(mask)
    try:
        save_backbone(resnet("resnet10", stem="cifar"), file, normalize=None, **CIFAR)
    finally:
        os.umask(before)
    assert stat.S_IMODE(file.stat().st_mode) == 0o666 & ~mask


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network, file = resnet("resnet10", stem="cifar"), tmp_path / "backbone.safetensors"
    save_backbone(network, file, normalize=None, **CIFAR)
    before = file.read_bytes()

    def fail(tensors: object, name: Path, metadata: object) -> None:
        name.write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", fail)
    with pytest.raises(OSError, match="no space"):
        save_backbone(network, file, normalize=None, **CIFAR)
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


def test_a_killed_process_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "numbers.txt"
    file.write_text("old")
    program = (
        "import os, sys; from lightly_aug.atomic import replace_file\n"
        "with replace_file(sys.argv[1]) as new:\n    new.write_text('ne'); os._exit(9)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(file)], check=False)
    assert done.returncode == 9
    assert file.read_text() == "old"


def test_the_new_file_is_on_the_disk_before_it_takes_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, seen = tmp_path / "numbers.txt", []
    file.write_text("old")
    sync = os.fsync

    def watch(descriptor: int) -> None:
        seen.append((os.fstat(descriptor).st_size, file.read_text()))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", watch)
    with replace_file(file) as new:
        assert new.suffix == ".txt"
        assert new.parent == tmp_path
        new.write_text("newer")
    assert seen == [(5, "old")]
    assert file.read_text() == "newer"
    assert list(tmp_path.iterdir()) == [file]
