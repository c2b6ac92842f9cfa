"""Checkpoints of other code: the features are those of the network that was saved, and nothing in the file runs."""

import os
import pickle
import re
import tarfile
import zipfile
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from helpers import checkpoints
from helpers.checkpoints import CASES, AmdimEncoder, State, head, lightning, moco, moco_v3, scramble, swav, under
from safetensors.torch import save_file
from torch import nn

from lightly_aug import Normalize
from lightly_aug.models import resnet
from lightly_aug.weights import Backbone, build_backbone, load_checkpoint, save_backbone
from lightly_aug.weights._layouts import LAYOUTS


@pytest.fixture(scope="module")
def small() -> nn.Module:
    return checkpoints.small()


@pytest.fixture
def save(tmp_path: Path) -> Callable[[Any], Path]:
    def write(content: Any) -> Path:
        torch.save(content, tmp_path / "checkpoint.pth.tar")
        return tmp_path / "checkpoint.pth.tar"

    return write


Save = Callable[[Any], Path]


def assert_same_features(network: nn.Module, source: nn.Module, size: int) -> None:
    images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        x, expected = network(images), source.eval()(images)
    assert expected.std() > 1e-3  # features of the weights, and not only of the biases
    torch.testing.assert_close(x, expected, rtol=1e-6, atol=1e-6)


# --- layouts ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_a_layout_is_recognised(tmp_path: Path, save: Save, name: str) -> None:
    case = CASES[name]
    source = case.make()
    network, report = load_checkpoint(save(case.save(source)), layout=case.asked)
    assert not any(module.training for module in network.modules())
    size = case.arch[1].get("size") or case.arch[1].get("img_size") or 32
    assert_same_features(network, source, size)
    assert (report.layout, report.prefix, report.size) == (case.layout, case.prefix, case.size)
    assert (report.arch, report.arguments) == case.arch
    assert report.used == len(network.state_dict())
    assert set(report.dropped) == case.dropped
    assert all(report.dropped.values())
    assert (report.missing, report.unexpected) == ((), ())
    if case.red is None:
        assert (report.mean, report.std) == (None, None)
    else:
        assert report.mean is not None
        assert report.std is not None
        assert (report.mean[0], report.std[0]) == case.red


@pytest.mark.parametrize("name", ["SwAV", "MoCo v3, ViT-S", "AMDIM, 32", "SimCLR, converted", "a run of pretrain"])
def test_what_is_loaded_becomes_a_file_of_ours(tmp_path: Path, save: Save, name: str) -> None:
    case = CASES[name]
    source = case.make()
    network, report = load_checkpoint(save(case.save(source)), layout=case.asked)
    file, normalize = tmp_path / "backbone.safetensors", None if case.red is None else report.normalize
    save_backbone(network, file, arch=report.arch, arguments=report.arguments, size=32, normalize=normalize)
    again, described = load_checkpoint(file)
    assert_same_features(again, source, 32)
    assert (described.layout, described.arch, described.arguments, described.size) == ("lightly_aug", *case.arch, 32)
    assert described.normalize == normalize
    backbone = Backbone.from_pretrained(file)
    assert_same_features(backbone.network, source, 32)
    loaded = backbone.metadata["normalize"]
    assert (None if loaded is None else Normalize(**loaded)) == normalize


def test_the_documentation_lists_every_layout() -> None:
    page = (Path(__file__).parents[1] / "docs" / "weights.md").read_text()
    table = re.search(r"\| layout \|.*?\n\n", page, re.DOTALL)
    assert table is not None
    names = [name for row in table[0].strip().splitlines()[2:] for name in re.findall(r"`(\w+)`", row.split("|")[1])]
    assert sorted(names) == sorted(LAYOUTS)
    assert {case.layout for case in CASES.values()} == set(LAYOUTS)


def test_the_report_reads_well(save: Save, small: nn.Module) -> None:
    assert str(load_checkpoint(save(swav(small))).report).splitlines() == [
        "layout:     swav, at module.",
        "network:    resnet10, 72 tensors",
        "dropped:    module.projection_head.* (1), module.prototypes.* (1)",
        "size:       224",
        "mean, std:  (0.485, 0.456, 0.406), (0.228, 0.224, 0.225)",
        "notes:      The official code divides red by 0.228, where ImageNet's value is 0.229.",
    ]


def test_keys_that_no_layout_knows_are_reported(save: Save, small: nn.Module) -> None:
    _, report = load_checkpoint(save(moco(small, ("fc.weight",)) | {"state_dict_ema": under("module.", small)}))
    assert report.dropped["state_dict_ema: "] == 72
    content = {"state_dict": moco(small, ("fc.weight",))["state_dict"] | head("module.surprise.weight")}
    _, report = load_checkpoint(save(content))
    assert report.unexpected == ("module.surprise.weight",)
    assert "unexpected: module.surprise.weight" in str(report)


def test_an_unknown_normalisation_is_not_guessed(save: Save, small: nn.Module) -> None:
    file = save({"state_dict": under("", small)})
    report = load_checkpoint(file).report
    with pytest.raises(ValueError, match=r"'plain' does not tell the normalisation: .*layout='dino'"):
        _ = report.normalize
    assert "mean, std:  unknown" in str(report)
    assert load_checkpoint(file, layout="simclr").report.normalize is None
    assert load_checkpoint(file, layout="dino").report.normalize == Normalize()
    assert load_checkpoint(file, layout="swav").report.normalize == Normalize(std=(0.228, 0.224, 0.225))


def test_two_layouts_that_fit_are_refused(save: Save, small: nn.Module) -> None:
    both = save({"state_dict": under("backbone.", small) | under("encoder.", small, other=True)})
    refusal = (
        r"got 2 that fit: layout='backbone' \(state_dict: backbone\.\*\), layout='encoder' \(state_dict: encoder\.\*\)"
    )
    with pytest.raises(ValueError, match=refusal):
        load_checkpoint(both)
    network, report = load_checkpoint(both, layout="backbone")
    assert report.unexpected[0] == "encoder.conv1.weight"
    assert_same_features(network, small, 32)
    with pytest.raises(ValueError, match=r"got 2 that fit: layout='solo_learn'.*layout='lightly'"):
        load_checkpoint(save(lightning("backbone.", small, "classifier.weight", "projection_head.0.weight")))
    with pytest.raises(ValueError, match=r"got 2 that fit: layout='plain' \(state_dict: \*\), .*\(model: \*\)"):
        load_checkpoint(save({"state_dict": under("", small), "model": under("", small)}))


def test_a_layout_that_does_not_fit_is_refused(save: Save, small: nn.Module) -> None:
    file = save(moco(small, ("fc.weight",)))
    with pytest.raises(ValueError, match=r"a known layout, 'swav', got keys epoch, arch, state_dict, optimizer, with"):
        load_checkpoint(file, layout="swav")
    with pytest.raises(ValueError, match=r"layout must be one of 'moco_v1', .*did you mean 'moco_v2'"):
        load_checkpoint(file, layout="moco-v2")
    with pytest.raises(ValueError, match="in a known layout, got keys weight: for an architecture"):
        load_checkpoint(save(head("weight")))


# --- architectures ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["resnet18", "resnet101", "resnext50_32x4d", "wide_resnet50_2"])
def test_resnets_are_recognised(save: Save, name: str) -> None:
    with torch.device("meta"):
        shapes = torchvision.models.get_model(name).state_dict()
    file = save({key: torch.ones(()).expand(value.shape).to(value.dtype) for key, value in shapes.items()})
    network, report = load_checkpoint(file)
    assert (report.arch, report.arguments, report.dropped) == (name, {}, {"fc.": 2})
    assert all(bool((value == 1).all()) for value in network.state_dict().values())


@pytest.mark.parametrize(
    ("name", "size"),
    [("vit_tiny_patch16_224", 224), ("vit_small_patch8_224", 96), ("vit_base_patch16_224", 224)],
)
def test_vits_are_recognised(save: Save, name: str, size: int) -> None:
    with torch.device("meta"):
        shapes = timm.create_model(name, img_size=size).state_dict()
    file = save({key: torch.ones(()).expand(value.shape) for key, value in shapes.items()})
    _, report = load_checkpoint(file, layout="dino")
    expected = {} if size == 224 else {"img_size": size}
    assert (report.arch, report.arguments, report.size) == (name, expected, size)


def test_a_whole_resnet50_and_a_whole_vit(save: Save) -> None:
    resnet50 = scramble(resnet("resnet50"))
    network, report = load_checkpoint(save(swav(resnet50)))
    assert report.arch == "resnet50"
    assert_same_features(network, resnet50, 32)
    vit = scramble(timm.create_model("vit_small_patch16_224", num_heads=12, num_classes=0))
    file = save({"state_dict": under("module.base_encoder.", vit) | head("module.momentum_encoder.head.weight")})
    network, report = load_checkpoint(file)
    assert (report.arch, report.arguments) == ("vit_small_patch16_224", {"num_heads": 12})
    assert_same_features(network, vit, 224)


def test_the_heads_of_moco_v3(save: Save) -> None:
    source = checkpoints.small_vit()
    file, arch = save(moco_v3(source, "head")), "vit_small_patch16_224"
    usual = {"img_size": 32, "depth": 1}
    with pytest.raises(ValueError, match=r"width 384 in the layout 'moco_v3' has 12 heads, got 6: num_heads=12"):
        load_checkpoint(file, arch=arch, arguments=usual)
    with pytest.raises(ValueError, match="has 12 heads, got 6"):
        load_checkpoint(file, network=build_backbone(arch, **usual))
    assert_same_features(load_checkpoint(file, network=build_backbone(arch, **usual, num_heads=12)).network, source, 32)
    plain = save(under("", source))
    assert load_checkpoint(plain, layout="moco_v3").report.arguments["num_heads"] == 12
    with pytest.raises(ValueError, match="the layout 'dino' has 6 heads, got 12"):
        load_checkpoint(plain, layout="dino", network=build_backbone(arch, **usual, num_heads=12))
    with torch.no_grad():  # the shapes are equal, and the features are not
        x = load_checkpoint(plain).network(torch.ones(1, 3, 32, 32))
    assert not torch.allclose(x, source(torch.ones(1, 3, 32, 32)), atol=1e-3)


def test_stems_whose_weights_do_not_tell_what_they_do(save: Save) -> None:
    source = scramble(resnet("resnet10", stem="cifar"))
    file = save(lightning("backbone.", source, "projection_head.layers.0.weight"))
    with pytest.raises(ValueError, match=r"a 3x3 stem do not tell its stride and padding.*arguments={'stem': 'cifar'}"):
        load_checkpoint(file)
    network, report = load_checkpoint(file, arch="resnet10", arguments={"stem": "cifar"})
    assert_same_features(network, source, 32)
    assert (report.arch, report.arguments) == ("resnet10", {"stem": "cifar"})
    solo = save(lightning("backbone.", source, "classifier.weight"))
    with pytest.raises(ValueError, match=r"solo-learn's stem for CIFAR pads by 2 pixels, got padding \(1, 1\)"):
        load_checkpoint(solo, arch="resnet10", arguments={"stem": "cifar"})
    source.conv1.padding = (2, 2)  # type: ignore[union-attr]
    right = resnet("resnet10", stem="cifar")
    right.conv1.padding = (2, 2)
    network, report = load_checkpoint(solo, network=right)
    assert network is right
    assert report.arch is None
    assert "the network that was passed" in str(report)
    assert_same_features(network, source, 32)


REFUSED: dict[str, tuple[Callable[[], State], str]] = {
    "twice as wide": (
        lambda: swav(nn.ModuleDict({"conv1": nn.Conv2d(3, 128, 7, bias=False)})),
        r"have 64 channels in the first convolution, got 128: a w2, w4 or w5 network of SwAV",
    ),
    "five channels": (
        lambda: under("", nn.ModuleDict({"conv1": nn.Conv2d(5, 64, 7, bias=False)})),
        "must take 3 channels, got 5: build the network as it was trained",
    ),
    "a convolutional stem": (
        lambda: {"state_dict": head("module.base_encoder.patch_embed.proj.0.weight", "module.momentum_encoder.a")},
        "no ViT with MoCo v3's convolutional stem",
    ),
    "a ViT of another width": (
        lambda: under("", timm.create_model("test_vit")),
        r"a ViT of width 64 with patches of 16 pixels and 101 positions has no name: pass arch=",
    ),
    "other children": (
        lambda: under("backbone.", nn.Sequential(nn.Conv2d(3, 64, 3), nn.BatchNorm2d(64), nn.Conv2d(64, 64, 3))),
        "whose weights have the numbers 0, 1, 4, 5, 6, 7, got 0, 1, 2: build the network",
    ),
    "AMDIM with BatchNorm": (
        lambda: {"model": under("encoder.module.", scramble(AmdimEncoder(32, 4, 8, 1)))
                 | head("encoder.module.rkhs_block_5.conv1.weight")},
        r"trained with BatchNorm in its layers \(use_bn\), .* as the statistics show: 0\.bn\.bn\.running_mean",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_other_architectures_are_refused_with_the_reason(save: Save, name: str) -> None:
    make, reason = REFUSED[name]
    with pytest.raises(ValueError, match=reason):
        load_checkpoint(save(make()))


def test_networks_of_ones_own(save: Save, small: nn.Module) -> None:
    def make() -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten())

    source = scramble(make())
    network, report = load_checkpoint(save({"state_dict": under("backbone.", source)}), network=make())
    assert_same_features(network, source, 32)
    assert report.used == 7
    numbers = nn.Sequential(*[*resnet("resnet10").children()][:-1], nn.Flatten())
    assert_same_features(
        load_checkpoint(save(checkpoints.numbered("backbone.", small)), network=numbers).network, small, 32
    )
    convnext, mine = (timm.create_model("test_convnext", num_classes=0) for _ in range(2))
    scramble(convnext)
    assert_same_features(load_checkpoint(save(under("", convnext)), network=mine).network, convnext, 64)  # head.norm
    classifier = torchvision.models.ResNet(torchvision.models.resnet.BasicBlock, [1, 1, 1, 1])
    with pytest.raises(ValueError, match=r"the ResNet without a classifier, got 2 missing: fc\.weight, fc\.bias;"):
        load_checkpoint(save(moco(small, ("fc.0.weight",))), network=classifier)


def test_arguments_that_contradict_each_other(save: Save, small: nn.Module) -> None:
    file = save(under("", small))
    with pytest.raises(ValueError, match="arch and arguments must be None with network, got 'resnet10', None"):
        load_checkpoint(file, network=small, arch="resnet10")
    with pytest.raises(ValueError, match=r"arguments must be None without arch, got \{'stem': 'cifar'\}"):
        load_checkpoint(file, arguments={"stem": "cifar"})


def test_the_global_generator_is_left_alone(save: Save, small: nn.Module) -> None:
    file = save(under("", small))
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    load_checkpoint(file)
    torch.testing.assert_close(torch.rand(3), expected, rtol=0, atol=0)


# --- damage -----------------------------------------------------------------------------------------------------


def changed(content: State, name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> State:
    state = dict(content["state_dict"])
    state[name] = change(state[name])
    return content | {"state_dict": state}


@pytest.mark.parametrize(
    "name", ["conv1.weight", "bn1.running_mean", "layer2.0.conv1.weight", "layer3.0.downsample.1.running_var"]
)
def test_missing_weights_are_named(save: Save, small: nn.Module, name: str) -> None:
    content = moco(small, ("fc.0.weight",))
    del content["state_dict"][f"module.encoder_q.{name}"]
    fails = "in a known layout" if name == "conv1.weight" else f"must hold .* ResNet .* 1 missing: {re.escape(name)};"
    untouched = scramble(resnet("resnet10"), 5)
    before = {key: value.clone() for key, value in untouched.state_dict().items()}
    with pytest.raises(ValueError, match=fails):
        load_checkpoint(save(content))
    with pytest.raises(ValueError, match=rf"1 missing: {re.escape(name)};"):
        load_checkpoint(save(content), network=untouched)
    torch.testing.assert_close(untouched.state_dict(), before, rtol=0, atol=0)


def test_weights_too_many_and_of_other_shapes_are_named(save: Save, small: nn.Module) -> None:
    content = moco(small, ("fc.0.weight", "layer9.weight"))
    with pytest.raises(ValueError, match=r"1 not in the network: layer9\.weight;"):
        load_checkpoint(save(content))
    content = changed(moco(small, ("fc.0.weight",)), "module.encoder_q.bn1.bias", lambda x: x[:5])
    with pytest.raises(ValueError, match=r"1 of another shape: bn1\.bias \(5,\), \(64,\) in the network;"):
        load_checkpoint(save(content))


@pytest.mark.parametrize(
    ("name", "value"),
    [("layer4.0.conv2.weight", float("nan")), ("bn1.running_mean", float("inf")), ("bn1.running_var", -1.0)],
)
def test_values_that_cannot_be_are_refused(save: Save, small: nn.Module, name: str, value: float) -> None:
    content = changed(
        moco(small, ("fc.0.weight",)), f"module.encoder_q.{name}", lambda x: x.index_fill(0, torch.tensor([3]), value)
    )
    with pytest.raises(ValueError, match=rf"finite weights and variances >= 0, got others in 1 tensors: {name};"):
        load_checkpoint(save(content))


def test_statistics_that_were_never_updated_warn(save: Save) -> None:
    with pytest.warns(
        UserWarning, match="BatchNorm statistics in .* were never updated, as if the ResNet had not been"
    ):
        load_checkpoint(save(under("", resnet("resnet10"))))


def test_checkpoints_from_before_the_counters(save: Save, small: nn.Module) -> None:
    state = {name: value for name, value in under("module.", small).items() if "num_batches" not in name}
    network, report = load_checkpoint(save({"state_dict": state}))
    assert_same_features(network, small, 32)
    assert len(report.missing) == 12
    assert report.used == 60
    assert "missing:    bn1.num_batches_tracked, " in str(report)


def test_half_precision_is_loaded_as_float32(save: Save, small: nn.Module) -> None:
    network, _ = load_checkpoint(save({name: value.half() for name, value in under("", small).items()}))
    assert {value.dtype for value in network.state_dict().values()} == {torch.float32, torch.int64}


@pytest.mark.parametrize("cut", [0, 10, 1000, 100_000])
@pytest.mark.parametrize("zipped", [True, False])
def test_files_that_end_early(tmp_path: Path, cut: int, zipped: bool) -> None:
    file = tmp_path / "cut.pth"
    torch.save({"conv1.weight": torch.rand(300, 300)}, file, _use_new_zipfile_serialization=zipped)
    file.write_bytes(file.read_bytes()[:cut])
    found = "an empty one" if cut == 0 else "one that fails, Pytorch" if zipped else "a pickle of something else"
    with pytest.raises(ValueError, match=rf"cut\.pth must be a file of torch\.save, got {found}") as error:
        load_checkpoint(file)
    assert "weights_only" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"<!DOCTYPE html><html>Not found</html>", "a web page: the address that it came from is not that of the file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a pointer of Git LFS .*: run git lfs pull"),
        (pickle.dumps({"a": 1}, protocol=4), "a pickle of something else"),
        (b"\x89HDF\r\n\x1a\n" * 20, r"one that begins with b'\\x89HDF"),
    ],
)
def test_other_files_are_named(tmp_path: Path, content: bytes, found: str) -> None:
    """Torch's own text, which advises to run the code of the file, is not in any error."""
    file = tmp_path / "other.pth"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=rf"other\.pth must be a file of torch\.save, got {found}") as error:
        load_checkpoint(file)
    assert "weights_only" not in str(error.value)


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_programs_of_torchscript_are_named(tmp_path: Path, small: nn.Module) -> None:
    file = tmp_path / "script.pth"
    torch.jit.save(torch.jit.trace(small.eval(), torch.rand(1, 3, 32, 32)), file)
    with pytest.raises(ValueError, match="got a program of TorchScript: where it was made, save the weights") as error:
        load_checkpoint(file)
    assert "weights_only" not in str(error.value)


# --- files ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zipped", [True, False])
def test_both_formats_of_torch_and_what_official_code_adds(tmp_path: Path, small: nn.Module, zipped: bool) -> None:
    file = tmp_path / "checkpoint.pth"
    added = {"args": Namespace(lr=0.1, sizes=[1, 2]), "loss": np.float32(3), "best": np.float64(1), "all": np.ones(3)}
    before = set(torch.serialization.get_safe_globals())
    torch.save(moco(small, ("fc.weight",)) | added, file, _use_new_zipfile_serialization=zipped)
    assert_same_features(load_checkpoint(file).network, small, 32)
    assert set(torch.serialization.get_safe_globals()) == before


def test_numbers_of_an_older_numpy(tmp_path: Path, small: nn.Module) -> None:
    new, old = tmp_path / "new.pth", tmp_path / "old.pth"
    torch.save(under("", small) | {"loss": np.float64(1)}, new)
    with zipfile.ZipFile(new) as source, zipfile.ZipFile(old, "w") as target:
        for name in source.namelist():
            target.writestr(name, source.read(name).replace(b"numpy._core", b"numpy.core"))
    assert_same_features(load_checkpoint(old).network, small, 32)


def test_hyperparameters_of_lightning(save: Save, small: nn.Module) -> None:
    from lightning.fabric.utilities.data import AttributeDict

    content = lightning("backbone.", small, "projection_head.0.weight")
    assert load_checkpoint(save(content | {"hyper_parameters": AttributeDict(lr=0.1)})).report.layout == "lightly"


def test_safetensors(tmp_path: Path, small: nn.Module) -> None:
    file = tmp_path / "dino.safetensors"
    save_file(under("", small), file)
    network, report = load_checkpoint(file, layout="dino")
    assert_same_features(network, small, 32)
    assert report.mean == (0.485, 0.456, 0.406)
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"dino\.safetensors must be a file of safetensors, got "):
        load_checkpoint(file)


class Malicious:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path, call: Callable[..., Any] = os.mkdir) -> None:
        self.folder, self.call = folder, call

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        code = f"__import__('os').mkdir({str(self.folder)!r})"
        return self.call, (code if self.call is eval else str(self.folder),)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(("call", "name"), [(os.mkdir, r"posix\.mkdir"), (eval, "eval")])
@pytest.mark.parametrize("place", ["args", "in the weights", "in a stand-in"])
def test_code_does_not_run(tmp_path: Path, zipped: bool, call: Callable[..., Any], name: str, place: str) -> None:
    file, folder = tmp_path / "malicious.pth", tmp_path / "ran"
    evil = Malicious(folder, call)
    content: State = {"state_dict": head("module.encoder_q.conv1.weight")}
    if place == "in the weights":
        content["state_dict"]["module.encoder_q.evil"] = evil
    else:
        content["args"] = Namespace(lr=evil) if place == "in a stand-in" else evil
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    with pytest.raises(
        ValueError, match=rf"malicious\.pth must hold weights, .* got an object of {name}, and loading it"
    ) as error:
        load_checkpoint(file)
    assert "weights_only" not in str(error.value)
    assert not folder.exists()
    torch.load(file, weights_only=False)
    assert folder.exists()  # so it would have run


def test_a_pickle_does_not_run(tmp_path: Path) -> None:
    file, folder = tmp_path / "pickle.pth", tmp_path / "ran"
    file.write_bytes(pickle.dumps({"state_dict": Malicious(folder)}, protocol=2))
    with pytest.raises(ValueError, match=r"got an object of posix\.mkdir"):
        load_checkpoint(file)
    assert not folder.exists()


def test_whole_networks_are_refused(save: Save, small: nn.Module) -> None:
    with pytest.raises(
        ValueError, match=r"got an object of torchvision\.models\.resnet\.ResNet, .* save the weights alone"
    ):
        load_checkpoint(save(small))
    with pytest.raises(ValueError, match=r"must hold a dict of weights, got Tensor: save network\.state_dict\(\)"):
        load_checkpoint(save(torch.ones(3)))


def test_files_of_other_frameworks_are_refused_with_the_reason(tmp_path: Path) -> None:
    byol = tmp_path / "pretrain_res50x1.pkl"
    byol.write_bytes(pickle.dumps({"experiment_state": {"online_params": np.ones(3)}, "step": 3}, protocol=2))
    with pytest.raises(ValueError, match=r"is BYOL's original pickle of JAX objects, .* layout='byol'"):
        load_checkpoint(byol)
    (tmp_path / "model.ckpt-250228.index").touch()
    (tmp_path / "model.ckpt-250228.data-00000-of-00001").touch()
    for name in ("model.ckpt-250228", "model.ckpt-250228.index", "model.ckpt-250228.data-00000-of-00001"):
        with pytest.raises(ValueError, match=r"is a checkpoint of TensorFlow, .* layout='simclr'"):
            load_checkpoint(tmp_path / name)
    with tarfile.open(tmp_path / "old.tar", "w") as archive:
        archive.add(tmp_path / "model.ckpt-250228.index", "storages")
    with pytest.raises(ValueError, match=r"old\.tar is a tar archive, PyTorch's format before version 0\.2"):
        load_checkpoint(tmp_path / "old.tar")
    np.savez(tmp_path / "vit.npz", np.ones(3))
    with pytest.raises(ValueError, match=r"vit\.npz holds arrays of NumPy under names of JAX: timm reads"):
        load_checkpoint(tmp_path / "vit.npz")
    with pytest.raises(FileNotFoundError, match=r"path must be a file, .*none\.pth does not exist"):
        load_checkpoint(tmp_path / "none.pth")
    with pytest.raises(FileNotFoundError, match=r"path must be a file, .* is a folder"):
        load_checkpoint(tmp_path)
