"""Checkpoints as other code saves them, made of networks with random weights."""

from argparse import Namespace
from collections import OrderedDict
from collections.abc import Callable
from copy import deepcopy
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightly_aug.models import MoCo, resnet
from lightly_aug.train import PretrainModule

State: TypeAlias = dict[str, Any]

CHILDREN = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4", "avgpool", "fc")  # of a ResNet


class Case(NamedTuple):
    """A file of some code base.

    Attributes:
        make: Makes the network.
        save: Makes the content of the file.
        layout: Layout that it has.
        prefix: Where the backbone is in it.
        dropped: What is dropped of it.
        arch: Name and arguments of the network.
        size: Size that the layout tells.
        red: Mean and standard deviation of red that the layout tells.
        asked: Layout that the user has to name.
    """

    make: Callable[[], nn.Module]
    save: Callable[[nn.Module], State]
    layout: str
    prefix: str
    dropped: set[str]
    arch: tuple[str, State] = ("resnet10", {})
    size: int | None = 224
    red: tuple[float, float] | None = (0.485, 0.229)
    asked: str | None = None


def scramble(network: nn.Module, seed: int = 1) -> nn.Module:
    """Weights and statistics of BatchNorm that no initialisation gives, and that keep features finite."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in network.state_dict().items():
        if not value.is_floating_point():
            value.fill_(7)
        elif name.endswith("running_var") or value.ndim < 2:
            value.copy_(torch.rand(value.shape, generator=generator) + 0.2)
        else:
            value.copy_(torch.randn(value.shape, generator=generator) / value[0].numel() ** 0.5)
    return network.eval()


def under(prefix: str, network: nn.Module, other: bool = False) -> State:
    """The weights of a network, or of another one of the same kind, behind a prefix."""
    network = scramble(deepcopy(network), 2) if other else network
    return {prefix + name: value.clone() for name, value in network.state_dict().items()}


def head(*names: str) -> State:
    return {name: torch.rand(4, 4) for name in names}


def numbered(prefix: str, network: nn.Module) -> State:
    children = nn.Sequential(*[network.get_submodule(name) for name in CHILDREN[:-1]])
    return under(prefix, children)


def small() -> nn.Module:
    return scramble(resnet("resnet10"))


def tiny_vit() -> nn.Module:
    return scramble(timm.create_model("vit_tiny_patch16_224", img_size=32, depth=2, num_classes=0))


def small_vit() -> nn.Module:
    return scramble(timm.create_model("vit_small_patch16_224", img_size=32, depth=1, num_heads=12, num_classes=0))


TINY = ("vit_tiny_patch16_224", {"img_size": 32, "depth": 2})


def moco(network: nn.Module, heads: tuple[str, ...], wrapper: str = "module.") -> State:
    state = under(f"{wrapper}encoder_q.", network) | under(f"{wrapper}encoder_k.", network, other=True)
    state |= head(*(f"{wrapper}encoder_{which}.{name}" for which in "qk" for name in heads))
    state |= {f"{wrapper}queue": torch.rand(4, 8), f"{wrapper}queue_ptr": torch.zeros(1, dtype=torch.int64)}
    optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9)
    return {"epoch": 200, "arch": "resnet50", "state_dict": OrderedDict(state), "optimizer": optimizer.state_dict()}


def moco_v3(network: nn.Module, name: str) -> State:
    state = under("module.base_encoder.", network) | under("module.momentum_encoder.", network, other=True)
    state |= head(f"module.base_encoder.{name}.0.weight", f"module.momentum_encoder.{name}.0.weight")
    return {"epoch": 300, "state_dict": state | head("module.predictor.0.weight"), "scaler": {"scale": 2.0}}


def dino(network: nn.Module, wrapper: str) -> State:
    return {
        "student": under("module.backbone.", network, other=True) | head("module.head.mlp.0.weight"),
        "teacher": under(f"{wrapper}backbone.", network) | head(f"{wrapper}head.mlp.0.weight"),
        "optimizer": {"state": {}, "param_groups": [{"lr": 1e-6}]},
        "epoch": 100,
        "args": Namespace(arch="vit_small", patch_size=16, lr=0.0005),
        "dino_loss": {"center": torch.zeros(1, 16)},
    }


def paws(network: nn.Module) -> State:
    heads = head("module.fc.fc1.weight", "module.fc.bn1.weight", "module.pred.fc1.weight")
    return {"encoder": under("module.", network) | heads, "epoch": 300, "loss": np.float64(0.25), "lr": np.float32(1)}


def vissl(network: nn.Module) -> State:
    model = {"trunk": under("_feature_blocks.", network), "heads": head("0.clf.0.weight")}
    return {"phase_idx": 1, "classy_state_dict": {"base_model": {"model": model, "meters": {}}}}


def barlow(network: nn.Module) -> State:
    heads = head("module.projector.0.weight", "module.bn.running_mean", "module.bn.running_var")
    return {"epoch": 1000, "model": under("module.backbone.", network) | heads, "optimizer": {"state": {}}}


def swav(network: nn.Module) -> State:
    return under("module.", network) | head("module.projection_head.0.weight", "module.prototypes.weight")


def lightning(prefix: str, network: nn.Module, *others: str, momentum: str | None = None) -> State:
    """A checkpoint of Lightning with other weights besides."""
    state = under(prefix, network) | head(*others)
    if momentum is not None:
        state |= under(momentum, network, other=True)
    return {"epoch": 9, "global_step": 90, "pytorch-lightning_version": "1.9.0", "state_dict": state, "callbacks": {}}


def lightning_of(prefix: str, *others: str, momentum: str | None = None) -> Callable[[nn.Module], State]:
    return lambda network: lightning(prefix, network, *others, momentum=momentum)


def own(network: nn.Module) -> State:
    return {"state_dict": PretrainModule(MoCo(network, queue=8)).state_dict(), "epoch": 3}


class AmdimEncoder(nn.Module):
    """AMDIM's encoder with the names of the official code, and its BatchNorm layers, of which it uses the last."""

    def __init__(self, size: int, width: int, dim: int, depth: int) -> None:
        super().__init__()
        wide = width if size == 32 else 2 * width
        kernels = [(width, wide, 4, 2), (wide, 2 * wide, 4, 2), (2 * wide, 4 * wide, 2, 2)]
        blocks: list[nn.Module] = [AmdimBlock(*sizes, depth) for sizes in kernels]
        if size == 32:
            blocks[0] = AmdimLayer(width, width, 1, 1)
        last = [AmdimBlock(4 * wide, 4 * wide, 3, 1, depth) for _ in range(2)]
        stem = [AmdimStem(3, width, 5, 2, 2), AmdimStem(width, width, 3, 1, 0)]
        stem = stem if size == 128 else [AmdimStem(3, width, 3, 1, 0)]
        rest = [AmdimNorm(4 * wide, False), *last, AmdimLayer(4 * wide, dim, 3, 1), AmdimNorm(dim, True)]
        self.layer_list = nn.ModuleList([*stem, *blocks, *rest])

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = nn.Sequential(*self.layer_list)(x)
        return y


class AmdimNorm(nn.Module):
    def __init__(self, width: int, used: bool) -> None:
        super().__init__()
        self.bn, self.used = nn.BatchNorm2d(width), used

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.bn(x) if self.used else x
        return y


class AmdimStem(nn.Module):
    def __init__(self, inputs: int, width: int, kernel: int, stride: int, padding: int) -> None:
        super().__init__()
        self.conv, self.bn, self.padding = nn.Conv2d(inputs, width, kernel, stride), AmdimNorm(width, False), padding

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.bn(self.conv(F.pad(x, [self.padding] * 4, mode="reflect")))
        return y.relu()


class AmdimLayer(nn.Module):
    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(inputs, outputs, kernel, stride, bias=False), nn.Conv2d(outputs, outputs, 1)
        self.conv2.bias = None
        self.conv3 = nn.Conv2d(inputs, outputs, kernel, stride) if outputs < inputs else None
        self.bn1, self.window = AmdimNorm(outputs, False), (kernel, stride)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv2(F.relu(self.bn1(self.conv1(x))))
        beside: Tensor = F.avg_pool2d(x, *self.window) if self.conv3 is None else self.conv3(x)
        return y + torch.cat([beside, beside.new_zeros(len(x), y.shape[1] - beside.shape[1], *y.shape[2:])], dim=1)


class AmdimBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, depth: int) -> None:
        super().__init__()
        rest = [AmdimLayer(outputs, outputs, 1, 1) for _ in range(depth - 1)]
        self.layer_list = nn.Sequential(AmdimLayer(inputs, outputs, kernel, stride), *rest)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer_list(x)
        return y


def amdim(network: nn.Module) -> State:
    state = under("encoder.module.", network)
    for name, value in state.items():  # of layers that the forward pass leaves out
        last = f"encoder.module.layer_list.{len(network.layer_list) - 1}."  # type: ignore[arg-type]
        if "bn" in name and not name.startswith(last) and "running_mean" in name:
            value.zero_()
    state |= head("encoder.module.rkhs_block_5.conv1.weight", "encoder.module.rkhs_block_7.conv1.weight")
    state |= head("evaluator.block_glb_lin.block_forward.2.weight")
    return {"model": state, "hyperparams": {"ndf": 4}, "cursor": {"info_epoch": 3}}


def amdim_case(size: int, depth: int, red: tuple[float, float], dim: int = 40) -> Case:
    arguments = {"size": size, "width": 4, "dim": dim, "depth": depth}
    return Case(
        lambda: scramble(AmdimEncoder(size, 4, dim, depth)), amdim, "amdim", "model: encoder.module.layer_list.",
        {"encoder.module.rkhs_block_", "evaluator.", "unused BatchNorm of encoder.module.layer_list."},
        ("amdim_encoder", arguments), size, red,
    )  # fmt: skip


MOCO = {"module.encoder_q.fc.", "module.encoder_k.", "module.queue"}
SOLO = ("classifier.weight", "projector.0.weight")
UNKNOWN: State = {"size": None, "red": None}
CASES: dict[str, Case] = {
    "MoCo v1": Case(small, lambda x: moco(x, ("fc.weight",)), "moco_v1", "state_dict: module.encoder_q.", MOCO),
    "MoCo v2": Case(
        small, lambda x: moco(x, ("fc.0.weight", "fc.2.weight")), "moco_v2", "state_dict: module.encoder_q.", MOCO
    ),
    "MoCo v2 of Lightning Bolts": Case(
        small, lambda x: moco(x, ("fc.0.weight",), ""), "moco_v2", "state_dict: encoder_q.",
        {"encoder_q.fc.", "encoder_k.", "queue"},
    ),
    "MoCo v3, ResNet": Case(
        small, lambda x: moco_v3(x, "fc"), "moco_v3", "state_dict: module.base_encoder.",
        {"module.base_encoder.fc.", "module.momentum_encoder.", "module.predictor."},
    ),
    "MoCo v3, ViT-S": Case(
        small_vit, lambda x: moco_v3(x, "head"), "moco_v3", "state_dict: module.base_encoder.",
        {"module.base_encoder.head.", "module.momentum_encoder.", "module.predictor."},
        ("vit_small_patch16_224", {"img_size": 32, "depth": 1, "num_heads": 12}), 32,
    ),
    "SimSiam": Case(
        small,
        lambda x: {"state_dict": under("module.encoder.", x)
                   | head("module.encoder.fc.0.weight", "module.predictor.0.weight")},
        "simsiam", "state_dict: module.encoder.", {"module.encoder.fc.", "module.predictor."},
    ),
    "Barlow Twins": Case(small, barlow, "barlow_twins", "model: module.backbone.", {"module.projector.", "module.bn."}),
    "Barlow Twins, plain": Case(small, lambda x: under("", x), "barlow_twins", "", set(), asked="barlow_twins"),
    "SwAV": Case(
        small, swav, "swav", "module.", {"module.projection_head.", "module.prototypes."}, red=(0.485, 0.228)
    ),
    "SwAV, whole": Case(
        small, lambda x: {"epoch": 400, "state_dict": swav(x)}, "swav", "state_dict: module.",
        {"module.projection_head.", "module.prototypes."}, red=(0.485, 0.228),
    ),
    "DINO, ViT": Case(
        tiny_vit, lambda x: dino(x, ""), "dino", "teacher: backbone.", {"head.", "student: ", "dino_loss: "}, TINY, 32
    ),
    "DINO, ResNet": Case(
        small, lambda x: dino(x, "module."), "dino", "teacher: module.backbone.",
        {"module.head.", "student: ", "dino_loss: "},
    ),
    "DINO, plain": Case(tiny_vit, lambda x: under("", x), "dino", "", set(), TINY, 32, asked="dino"),
    "PAWS": Case(small, paws, "paws", "encoder: module.", {"module.fc.", "module.pred."}),
    "PIRL": Case(
        small, vissl, "vissl", "classy_state_dict: base_model: model: trunk: _feature_blocks.", set()
    ),
    "AMDIM, 32": amdim_case(32, 2, (125.3 / 255, 63 / 255)),
    "AMDIM, 64": amdim_case(64, 1, (0.43, 0.27)),
    "AMDIM, 128": amdim_case(128, 2, (0.485, 0.229)),
    "AMDIM, narrow": amdim_case(64, 1, (0.43, 0.27), dim=8),
    "SimCLR, converted": Case(
        small, lambda x: {"state_dict": under("", x) | head("fc.weight", "fc.bias")}, "simclr", "state_dict: ",
        {"fc."}, red=(0.0, 1.0), asked="simclr",
    ),
    "BYOL, converted": Case(small, lambda x: under("", x), "byol", "", set(), asked="byol"),
    "BYOL of byol-pytorch": Case(
        small,
        lambda x: under("online_encoder.net.", x) | under("target_encoder.net.", x, other=True)
        | head("online_encoder.projector.0.weight", "online_predictor.0.weight"),
        "byol_port", "online_encoder.net.", {"online_encoder.projector.", "online_predictor.", "target_encoder."},
        **UNKNOWN,
    ),
    "BYOL of Lightning Bolts": Case(
        small, lightning_of("online_network.encoder.", "online_network.projector.0.weight", "predictor.0.weight",
                            momentum="target_network.encoder."),
        "pl_bolts", "state_dict: online_network.encoder.", {"online_network.", "target_network.", "predictor."},
        **UNKNOWN,
    ),
    "SimCLR of Lightning Bolts": Case(
        small, lightning_of("encoder.", "projection.model.0.weight"), "pl_bolts", "state_dict: encoder.",
        {"projection."}, **UNKNOWN,
    ),
    "SwAV of Lightning Bolts": Case(
        small, lightning_of("model.", "model.projection_head.0.weight", "model.prototypes.weight"), "pl_bolts",
        "state_dict: model.", {"model.projection_head.", "model.prototypes."}, **UNKNOWN,
    ),
    "solo-learn": Case(
        small, lightning_of("backbone.", *SOLO, momentum="momentum_backbone."), "solo_learn", "state_dict: backbone.",
        {"classifier.", "projector.", "momentum_"}, **UNKNOWN,
    ),
    "solo-learn, older": Case(
        small, lightning_of("encoder.", *SOLO), "solo_learn", "state_dict: encoder.", {"classifier.", "projector."},
        **UNKNOWN,
    ),
    "lightly": Case(
        small, lightning_of("backbone.", "projection_head.layers.0.weight"), "lightly", "state_dict: backbone.",
        {"projection_head"}, **UNKNOWN,
    ),
    "lightly, numbered": Case(
        small, lambda x: numbered("backbone.", x) | head("projection_head.layers.0.weight"), "lightly", "backbone.",
        {"projection_head"}, **UNKNOWN,
    ),
    "DINO of lightly": Case(
        small, lightning_of("teacher_backbone.", "student_head.layers.0.weight", "teacher_head.layers.0.weight",
                            momentum="student_backbone."),
        "lightly", "state_dict: teacher_backbone.", {"student_", "teacher_head."}, **UNKNOWN,
    ),
    "a run of pretrain": Case(
        lambda: scramble(resnet("resnet10", stem="cifar")), own, "lightly_aug", "state_dict: model.backbone.",
        {"model."}, ("resnet10", {"stem": "cifar"}), **UNKNOWN,
    ),
    "a run of pretrain, without BatchNorm": Case(
        lambda: scramble(resnet("resnet10", norm="layer")), own, "lightly_aug", "state_dict: model.backbone.",
        {"model."}, ("resnet10", {"norm": "layer"}), **UNKNOWN,
    ),
    "a method of ours": Case(
        small, lambda x: MoCo(x, queue=8).state_dict(), "lightly_aug", "backbone.",
        {"head", "key_encoder.", "queue", "_extra_state"}, **UNKNOWN,
    ),
    "torchvision, with its classifier": Case(
        small, lambda x: under("", x) | head("fc.weight", "fc.bias"), "plain", "", {"fc."}, **UNKNOWN
    ),
    "timm": Case(tiny_vit, lambda x: {"state_dict": under("", x)}, "plain", "state_dict: ", set(), TINY, 32, None),
    "a compiled backbone": Case(
        small, lambda x: {"model": under("module._orig_mod.backbone.", x)}, "backbone",
        "model: module._orig_mod.backbone.", set(), **UNKNOWN,
    ),
    "an encoder": Case(small, lambda x: under("encoder.", x), "encoder", "encoder.", set(), **UNKNOWN),
}  # fmt: skip
