"""Classifiers on a backbone: linear probe and fine-tuning against loops in float64; stopped, resumed, saved."""

import csv
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.ranks import Ranks, start_ranks
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset
from torchvision.utils import save_image

from lightly_aug import Color, MultiViewCollateFunction, Normalize, SimCLRCollateFunction, View
from lightly_aug.classify import TrainedClassifier, finetune, linear_probe, load_classifier
from lightly_aug.classify import run as classify_run
from lightly_aug.evaluate import labelled_subset
from lightly_aug.operations import CenterCrop, Resize
from lightly_aug.train.checkpoints import save_checkpoints
from lightly_aug.weights import Backbone, build_backbone, save_backbone, still_view

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:.*is spent waiting for data"),  # steps of such networks take no time
    pytest.mark.filterwarnings("ignore:.*set_vital"),
]
SIDE = 16
CPU: dict[str, Any] = {"workers": 0, "accelerator": "cpu"}
Pairs = list[tuple[Any, int]]


def draw_images(count: int, seed: int, classes: int = 3, contrast: float = 0.5) -> Pairs:
    """Draw noise, brighter in the channel that is the class."""
    generator = torch.Generator().manual_seed(seed)
    images = 0.4 * torch.rand(count, 3, 20, 24, generator=generator)
    for i, image in enumerate(images):
        image[i % classes] += contrast
    return [(image, i % classes) for i, image in enumerate(images)]


def draw_network(dtype: torch.dtype = torch.float32, dropout: float = 0.0) -> nn.Module:
    """A network with BatchNorm statistics that are not those of any images."""
    generator = torch.Generator().manual_seed(5)
    norm = nn.BatchNorm2d(6)
    network = nn.Sequential(nn.Conv2d(3, 6, 3), norm, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Dropout(dropout))
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            values = torch.rand(tensor.shape, generator=generator)
            tensor.copy_(values - 0.5 if name.startswith("0.") else values + 0.2)
    return network.to(dtype)


def still(dtype: torch.dtype = torch.float32) -> MultiViewCollateFunction:
    return MultiViewCollateFunction([View(Resize(SIDE), CenterCrop(SIDE), Normalize(), dtype=dtype)], seed=0)


def render(pairs: Pairs, dtype: torch.dtype = torch.float32) -> Tensor:
    view: Tensor = still(dtype)([image for image, _ in pairs]).to("cpu")[0]
    return view


def first_weights(width: int, classes: int, seed: int = 0) -> Tensor:
    weights = torch.empty(classes, width, dtype=torch.float64)
    return weights.normal_(0, 0.01, generator=torch.Generator().manual_seed(seed))


TRAIN, TEST = draw_images(24, seed=0, contrast=0.1), draw_images(18, seed=1, contrast=0.1)
Y, Y_TEST = (torch.tensor([label for _, label in pairs]) for pairs in (TRAIN, TEST))


# --- against loops ------------------------------------------------------------------------------------------------


def probe_by_hand(x: Tensor, y: Tensor, lr: float, steps: int, batch: int) -> tuple[Tensor, Tensor]:
    """Softmax regression by gradient descent with momentum, from its formula: the gradient is (p - y) x / n."""
    weight, bias = first_weights(x.shape[1], 3), torch.zeros(3, dtype=torch.float64)
    speed, bias_speed = torch.zeros_like(weight), torch.zeros_like(bias)
    for step in range(steps):
        exps = (x @ weight.T + bias).exp()
        error = exps / exps.sum(1, keepdim=True) - torch.eye(3, dtype=torch.float64)[y]
        speed = 0.9 * speed + error.T @ x / len(x)
        bias_speed = 0.9 * bias_speed + error.mean(0)
        rate = lr * batch / 256 * (1 + torch.cos(torch.tensor(torch.pi * step / steps, dtype=torch.float64))) / 2
        weight, bias = weight - rate * speed, bias - rate * bias_speed
    return weight, bias


@pytest.mark.parametrize("lrs", [(2.0,), (0.1, 30.0, 4.0)])
def test_the_probe_equals_a_loop(lrs: tuple[float, ...]) -> None:
    """With the whole training set in each batch and without augmentation; the backbone is in eval mode."""
    network = draw_network(torch.float64).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    result = linear_probe(
        (network, still(torch.float64)), TRAIN, TEST, lrs=lrs, holdout=0.25, epochs=6, batch_size=24,
        augment=still(torch.float64), precision="64-true", **CPU,
    )  # fmt: skip
    with torch.no_grad():
        x, x_test = (deepcopy(network).eval()(render(p, torch.float64)).flatten(1) for p in (TRAIN, TEST))
    held = labelled_subset(Y, share=0.25) if len(lrs) > 1 else torch.empty(0, dtype=torch.int64)
    rest = torch.tensor([i for i in range(24) if i not in held.tolist()])
    heads = [probe_by_hand(x[rest], Y[rest], lr, steps=6, batch=len(rest)) for lr in lrs]
    best = 0
    if len(lrs) > 1:
        scores = [x[held] @ weight.T + bias for weight, bias in heads]
        right = [(s.argmax(1) == Y[held]).double().mean().item() for s in scores]
        losses = [-s.log_softmax(1)[range(len(held)), Y[held]].mean().item() for s in scores]
        best = max(range(len(lrs)), key=lambda i: (right[i], -losses[i]))
        for row, lr, accuracy, loss in zip(result.metrics["sweep"], lrs, right, losses, strict=True):
            assert row == pytest.approx({"lr": lr, "accuracy": accuracy, "loss": loss}, rel=1e-9)
    assert result.metrics["lr"] == lrs[best]
    expected = x_test @ heads[best][0].T + heads[best][1]
    torch.testing.assert_close(result.scores, expected, rtol=1e-9, atol=1e-11)
    assert torch.equal(result.labels, Y_TEST)
    assert result.metrics["accuracy"] == (expected.argmax(1) == Y_TEST).double().mean().item()
    assert result.metrics | {"sweep": 0, "accuracy": 0} == {
        "accuracy": 0, "lr": lrs[best], "sweep": 0, "train_images": len(rest), "holdout_images": len(held),
        "test_images": 18, "classes": 3, "epochs": 6, "steps": 6, "batch_size": len(rest),
    }  # fmt: skip
    with torch.no_grad():
        torch.testing.assert_close(result.classifier(render(TEST, torch.float64)), expected, rtol=1e-9, atol=1e-11)
    for own in (network, result.classifier.get_submodule("network")):
        assert all(torch.equal(value, before[name]) for name, value in own.state_dict().items())
    assert network.training
    assert all(p.requires_grad for p in network.parameters())


def test_fine_tuning_equals_a_loop() -> None:
    """A linear network with a linear layer: both gradients by hand, two learning rates, weight decay."""
    torch.manual_seed(0)
    linear = nn.Linear(3 * SIDE**2, 4, bias=False, dtype=torch.float64)
    network = nn.Sequential(nn.Flatten(), linear)
    inner, outer = linear.weight.detach().clone(), first_weights(4, 3)
    bias = torch.zeros(3, dtype=torch.float64)
    result = finetune(
        (network, still(torch.float64)), TRAIN, TEST, lr=0.003, head_lr=0.7, weight_decay=0.1, epochs=5,
        augment=still(torch.float64), precision="64-true", **CPU,
    )  # fmt: skip
    x, x_test = (render(pairs, torch.float64).flatten(1) for pairs in (TRAIN, TEST))
    speeds = [torch.zeros_like(w) for w in (inner, outer, bias)]
    for step in range(5):
        exps = (x @ inner.T @ outer.T + bias).exp()
        error = (exps / exps.sum(1, keepdim=True) - torch.eye(3, dtype=torch.float64)[Y]) / len(x)
        gradients = outer.T @ error.T @ x, error.T @ (x @ inner.T), error.sum(0)
        cosine = (1 + torch.cos(torch.tensor(torch.pi * step / 5, dtype=torch.float64))) / 2 * len(x) / 256
        weights = (inner, outer, bias)
        speeds = [0.9 * v + g + 0.1 * w for v, g, w in zip(speeds, gradients, weights, strict=True)]
        rates = 0.003 * cosine, 0.7 * cosine, 0.7 * cosine
        inner, outer, bias = (w - rate * v for w, rate, v in zip(weights, rates, speeds, strict=True))
    torch.testing.assert_close(result.scores, x_test @ inner.T @ outer.T + bias, rtol=1e-9, atol=1e-11)


def test_layers_of_a_sweep_do_not_influence_each_other() -> None:
    backbone = draw_network(), still()
    one, other = (
        linear_probe(backbone, TRAIN, TEST, lrs=lrs, epochs=3, batch_size=8, **CPU).metrics["sweep"]
        for lrs in ((0.5, 1.0), (1e30, 0.5))
    )
    assert one[0] == other[1]
    assert other[0]["loss"] > 1e10


# --- what is learnt -----------------------------------------------------------------------------------------------


def test_separable_classes_are_learnt() -> None:
    train, test = draw_images(60, seed=0), draw_images(30, seed=1)
    backbone = draw_network(), still()
    assert linear_probe(backbone, train, test, epochs=15, batch_size=16, **CPU).metrics["accuracy"] == 1
    tuned = finetune(backbone, train, test, lr=0.1, head_lr=3.0, epochs=15, batch_size=16, **CPU)
    assert tuned.metrics["accuracy"] == 1


def test_fine_tuning_moves_weights_and_statistics_of_a_copy() -> None:
    network = draw_network()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    result = finetune((network, still()), TRAIN, TEST, lr=0.1, epochs=1, batch_size=8, **CPU)
    tuned = result.classifier.get_submodule("network").state_dict()
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    still_there = {name for name, value in tuned.items() if torch.equal(value, before[name])}
    assert still_there <= {"0.bias"}  # BatchNorm subtracts it
    assert not result.classifier.training


def test_random_crops_are_those_of_the_library_and_new_in_each_epoch() -> None:
    seen: list[Tensor] = []

    class Watch(nn.Flatten):
        def forward(self, x: Tensor) -> Tensor:
            if len(x) == 6 and torch.is_grad_enabled():
                seen.append(x)
            return super().forward(x)

    backbone = nn.Sequential(Watch(), nn.Linear(3 * SIDE**2, 2)), still()
    finetune(backbone, TRAIN[:6], TEST[:6], epochs=3, **CPU)
    assert {tuple(x.shape) for x in seen} == {(6, 3, SIDE, SIDE)}
    rows = torch.cat(seen).flatten(1)
    assert len(rows) == 18
    assert torch.cdist(rows, rows).add(torch.eye(18)).min() > 1e-3  # no view occurs twice
    torch.testing.assert_close(rows.mean(), render(TRAIN[:6]).mean(), rtol=0.1, atol=0)  # normalised as the tested view


@pytest.mark.parametrize(
    ("protocol", "norm", "images", "batch", "sizes"),
    [
        (linear_probe, True, 10, 4, [4, 4, 2]),
        (linear_probe, True, 9, 4, [4, 4, 1]),  # a frozen network needs no statistics
        (linear_probe, True, 3, 256, [3]),
        (finetune, True, 10, 4, [4, 4, 2]),
        (finetune, False, 9, 4, [4, 4, 1]),
        (finetune, True, 9, 4, [4, 4]),
        (finetune, True, 3, 256, [3]),
        (finetune, False, 3, 1, [1, 1, 1]),
    ],
)
def test_an_epoch_is_a_pass_over_all_images(
    protocol: Any, norm: bool, images: int, batch: int, sizes: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    """The network counts each image by its colour; a single image has no BatchNorm statistics."""
    seen: list[list[int]] = []

    class Watch(nn.Flatten):
        def forward(self, x: Tensor) -> Tensor:
            numbers = [round(100 * float(image.amax())) for image in x]
            if all(0 < number <= images for number in numbers):
                seen.append(numbers)
            return super().forward(x)

    plain = MultiViewCollateFunction([View(Resize(SIDE), CenterCrop(SIDE))], seed=0)
    train = [(torch.full((3, 20, 20), number / 100), number % 2) for number in range(1, images + 1)]
    network = nn.Sequential(Watch(), nn.Linear(3 * SIDE**2, 4), *([nn.BatchNorm1d(4)] if norm else []))
    rates: dict[str, Any] = {"lrs": [1.0]} if protocol is linear_probe else {}
    result = protocol(
        (network, plain), train, [(torch.ones(3, 20, 20), 1)], augment=plain, epochs=2, batch_size=batch, **rates, **CPU
    )
    assert [len(numbers) for numbers in seen] == 2 * sizes
    for epoch in (seen[: len(sizes)], seen[len(sizes) :]):
        assert len({number for numbers in epoch for number in numbers}) == sum(sizes)
    assert result.metrics["steps"] == 2 * len(sizes)
    assert ("each epoch leaves out its last image, as BatchNorm" in capsys.readouterr().err) == (sum(sizes) < images)


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
def test_any_precision(precision: str) -> None:
    for protocol in (linear_probe, finetune):
        result = protocol((draw_network(), still()), TRAIN, TEST, epochs=1, precision=precision, **CPU)
        assert result.scores.dtype == torch.float32
        assert all(value.dtype == torch.float32 for value in result.classifier.parameters())


# --- data ---------------------------------------------------------------------------------------------------------


def test_labels_are_found_everywhere_and_classes_are_the_same_by_name(tmp_path: Path) -> None:
    names, backbone = ["ant", "bee", "cat"], (draw_network(), still())
    for part, pairs in (("train", TRAIN), ("test", [pair for pair in TEST if pair[1] != 1])):
        for i, (image, label) in enumerate(pairs):
            (tmp_path / part / names[label]).mkdir(parents=True, exist_ok=True)
            save_image(image, tmp_path / part / names[label] / f"{i:02}.png")
    options: dict[str, Any] = {"lrs": [1.0], "epochs": 1} | CPU
    result = linear_probe(backbone, tmp_path / "train", tmp_path / "test", **options)
    assert result.classes == names
    assert Counter(result.labels.tolist()) == {0: 6, 2: 6}

    class Dataset(list[Any]):
        targets = tuple(10 * label for _, label in TRAIN)

    unlabelled = [*TRAIN[:6], (TRAIN[6][0], -1), *TRAIN[6:]]
    sparse = [(image, torch.tensor(10 * label)) for image, label in TRAIN]
    targets: Any = Dataset(sparse)
    some = [(image, 10 * label) for image, label in TEST]
    for train, test in (
        (unlabelled, TEST),
        (sparse, some),
        (Subset(targets, range(24)), some),
        (Dataset({"img": image} for image, _ in TRAIN), some),
    ):
        again = linear_probe(backbone, train, test, **options)
        assert again.metrics["train_images"] == 24
        assert torch.equal(again.labels, Y_TEST)
        assert again.classes == (["0", "1", "2"] if train is unlabelled else ["0", "10", "20"])


def test_a_share_of_the_labels_is_balanced() -> None:
    train = [*TRAIN, *draw_images(36, seed=2)]
    seen: list[int] = []

    class Watched(list[Any]):
        def __getitem__(self, index: Any) -> Any:
            seen.append(index)
            return super().__getitem__(index)

    data = Watched(train)
    finetune((draw_network(), still()), data, TEST, share=0.2, epochs=2, **CPU)
    after_labels = seen[len(train) :]
    assert Counter(train[i][1] for i in set(after_labels)) == {0: 4, 1: 4, 2: 4}
    few = finetune((draw_network(), still()), train, TEST, share=0.001, epochs=1, **CPU)
    assert few.metrics["train_images"] == 3


# --- files --------------------------------------------------------------------------------------------------------


class Interrupted(list[Any]):
    """Images that end the training when so many were read."""

    def __init__(self, pairs: Pairs, after: int, end: Callable[[], None]) -> None:
        super().__init__(pairs)
        self.left = after
        self.end = end

    def __iter__(self) -> Iterator[Any]:
        return super().__iter__()

    def __getitem__(self, index: Any) -> Any:
        self.left -= 1
        if self.left == 0:
            self.end()
        return super().__getitem__(index)


def crash() -> None:
    raise RuntimeError("out of luck")


def stop() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def run(protocol: str, train: Any, out: Path, test: Any = TEST, **options: Any) -> TrainedClassifier:
    backbone = draw_network(dropout=0.3), still()
    if protocol == "probe":
        return linear_probe(backbone, train, test, lrs=[0.3, 3.0], epochs=3, batch_size=5, out=out, **CPU | options)
    return finetune(backbone, train, test, epochs=3, batch_size=5, out=out, **CPU | options)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, TrainedClassifier]:
    """Runs that nobody interrupted."""
    torch.set_num_threads(1)
    return {name: run(name, TRAIN, tmp_path_factory.mktemp(name)) for name in ("probe", "finetune")}


@pytest.mark.parametrize("protocol", ["probe", "finetune"])
@pytest.mark.parametrize("end", [crash, stop])
@pytest.mark.parametrize("after", [7, 18, 26, 39])
def test_a_rerun_goes_on_and_ends_as_if_nothing_had_happened(
    tmp_path: Path, whole: dict[str, TrainedClassifier], protocol: str, end: Callable[[], None], after: int
) -> None:
    """Stopped in the first batches, in the middle, at the border of an epoch, and in the last one."""
    with pytest.raises((RuntimeError, SystemExit)):
        run(protocol, Interrupted(TRAIN, 24 + 1 + after, end), tmp_path)  # labels and the size are read first
    assert not (tmp_path / "metrics.json").exists()
    result = run(protocol, TRAIN, tmp_path)
    same_run(result, whole[protocol])


def same_run(result: TrainedClassifier, expected: TrainedClassifier) -> None:
    assert torch.equal(result.scores, expected.scores)
    assert result.metrics == expected.metrics
    for name, value in expected.classifier.state_dict().items():
        assert torch.equal(result.classifier.state_dict()[name], value), name
    assert result.folder is not None
    assert expected.folder is not None
    logs = [
        [(row["step"], row["loss"]) for row in csv.DictReader(text.splitlines())]
        for text in ((one.folder / "logs" / "metrics.csv").read_text() for one in (result, expected) if one.folder)
    ]
    assert logs[0] == logs[1]


def test_a_run_that_ended_in_its_test_only_repeats_that(tmp_path: Path, whole: dict[str, TrainedClassifier]) -> None:
    with pytest.raises(RuntimeError, match="out of luck"):
        run("finetune", TRAIN, tmp_path, Interrupted(TEST, 18 + 4, crash))
    steps = sorted(file.name for file in (tmp_path / "checkpoints").iterdir())
    same_run(run("finetune", TRAIN, tmp_path), whole["finetune"])
    same_run(run("finetune", TRAIN, tmp_path), whole["finetune"])  # and a complete run
    assert sorted(file.name for file in (tmp_path / "checkpoints").iterdir()) == steps


def test_a_rerun_goes_on_from_the_last_step_of_an_epoch(
    tmp_path: Path, whole: dict[str, TrainedClassifier], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Saved before the epoch is complete, by the callback that counts steps."""
    monkeypatch.setattr(classify_run, "save_checkpoints", lambda folder: save_checkpoints(folder, steps=1)[1:])
    with pytest.raises(RuntimeError, match="out of luck"):
        run("finetune", Interrupted(TRAIN, 24 + 1 + 21, crash), tmp_path)
    assert (tmp_path / "checkpoints" / "step-4.ckpt").exists()
    same_run(run("finetune", TRAIN, tmp_path), whole["finetune"])


def test_a_frozen_network_is_not_in_the_checkpoints(whole: dict[str, TrainedClassifier]) -> None:
    folder = whole["probe"].folder
    assert folder is not None
    for file in (folder / "checkpoints").iterdir():
        state = torch.load(file, weights_only=True)["state_dict"]
        assert state.keys() == {f"heads.{i}.{name}" for i in range(2) for name in ("weight", "bias")}


def test_another_run_is_not_continued(tmp_path: Path) -> None:
    options: dict[str, Any] = {"epochs": 1, "out": tmp_path} | CPU
    backbone = draw_network(), still()
    finetune(backbone, TRAIN, TEST, **options)
    moved = deepcopy(backbone[0])
    with torch.no_grad():
        moved.get_parameter("0.weight")[0, 0, 0, 0] += 1
    others: list[tuple[str, Any, Any, dict[str, Any]]] = [
        ("network", (moved, still()), TRAIN, {}),
        ("images, labels", backbone, TRAIN[:-1], {}),
        ("labels", backbone, [(image, (label + 1) % 3) for image, label in TRAIN], {}),
        ("seed", backbone, TRAIN, {"seed": 1}),
        ("lrs", backbone, TRAIN, {"head_lr": 0.5}),
        ("epochs", backbone, TRAIN, {"epochs": 2}),
        ("views", backbone, TRAIN, {"augment": still()}),
        ("precision", backbone, TRAIN, {"precision": "bf16-mixed"}),
    ]
    for named, other, train, changed in others:
        with pytest.raises(ValueError, match=f"finetune: .* holds a run with other .*{named}.*: choose another --out"):
            finetune(other, train, TEST, **options | changed)
    fresh = finetune(backbone, TRAIN, TEST, seed=1, **CPU | {"epochs": 1})
    replaced = finetune(backbone, TRAIN, TEST, seed=1, overwrite=True, **options)
    assert torch.equal(replaced.scores, fresh.scores)
    assert json.loads((tmp_path / "metrics.json").read_text()) == fresh.metrics


def test_a_saved_classifier_comes_back(tmp_path: Path) -> None:
    network = build_backbone("resnet10", stem="cifar")
    named: dict[str, Any] = {"arch": "resnet10", "arguments": {"stem": "cifar"}, "size": SIDE}
    save_backbone(network, tmp_path / "backbone.safetensors", normalize=Normalize(), **named)
    backbone = Backbone.from_pretrained(tmp_path)
    result = finetune(backbone, TRAIN, TEST, epochs=1, out=tmp_path / "tuned", **CPU)
    classifier, collate, classes, metadata = load_classifier(tmp_path / "tuned")
    assert classes == result.classes
    assert metadata["notes"]["metrics"] == result.metrics
    views = collate([image for image, _ in TEST])
    with torch.no_grad():
        torch.testing.assert_close(classifier(views.to("cpu")[0]), result.scores)
    with pytest.raises(ValueError, match=r"must be a file of linear_probe or finetune, got a backbone"):
        load_classifier(tmp_path / "backbone.safetensors")

    scratch = finetune(backbone, TRAIN, TEST, epochs=1, from_scratch=True, **CPU)
    assert (
        scratch.settings["recipe"] | {"lrs": [0.1], "network_lr": 0.1, "weight_decay": 1e-4}
        == (scratch.settings["recipe"])
    )
    again = finetune(backbone, TRAIN, TEST, epochs=1, from_scratch=True, **CPU)
    assert torch.equal(scratch.scores, again.scores)
    assert scratch.settings["network"] != result.settings["network"]
    with pytest.raises(ValueError, match="finetune: from_scratch needs a Backbone that has a name"):
        finetune((network, still()), TRAIN, TEST, from_scratch=True, **CPU)


def test_a_classifier_with_a_network_or_a_view_of_ones_own_needs_them_again(tmp_path: Path) -> None:
    view = View(Resize(20), CenterCrop(SIDE), Normalize())
    for name, collate in (("plain", still()), ("cropped", MultiViewCollateFunction([view], seed=0))):
        result = linear_probe((draw_network(), collate), TRAIN, TEST, lrs=[1.0], epochs=1, out=tmp_path / name, **CPU)
        with pytest.raises(ValueError, match=r"a backbone without a name; .* load_classifier\(file, network=...\)"):
            load_classifier(tmp_path / name, collate=collate)
        given = {"collate": collate} if name == "cropped" else {}
        if given:
            with pytest.raises(ValueError, match=r"was tested on View\(Resize\(size=20.*collate=..."):
                load_classifier(tmp_path / name, network=draw_network())
        loaded = load_classifier(tmp_path / name, network=draw_network(), **given)
        with torch.no_grad():
            scores = loaded.classifier(loaded.collate([image for image, _ in TEST]).to("cpu")[0])
        torch.testing.assert_close(scores, result.scores)


# --- several processes --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ranks]:
    with start_ranks(2, tmp_path_factory.mktemp("ranks")) as started:
        yield started


def run_in_processes(protocol: str, devices: int, out: Path | None) -> tuple[Tensor, dict[str, Any]]:
    network = nn.Sequential(nn.Conv2d(3, 6, 3), nn.GELU(), nn.AdaptiveAvgPool2d(1))
    for parameter in network.parameters():
        parameter.data.copy_(torch.linspace(-1, 1, parameter.numel()).view_as(parameter))
    options: dict[str, Any] = {"epochs": 3, "batch_size": 8, "devices": devices, "out": out} | CPU
    if protocol == "probe":
        result = linear_probe((network, still()), TRAIN, TEST[:17], lrs=[0.3, 3.0], holdout=0.25, **options)
    else:
        result = finetune((network, still()), TRAIN, TEST[:17], **options)
    return result.scores, result.metrics


@pytest.mark.parametrize("protocol", ["probe", "finetune"])
def test_two_processes_train_and_test_as_one(ranks: Ranks, tmp_path: Path, protocol: str) -> None:
    """The test images are an odd number, so that one is in both parts; the probe's last batch is smaller."""
    scores, metrics = run_in_processes(protocol, 1, None)
    for other, others in ranks(run_in_processes, protocol, 2, tmp_path):
        torch.testing.assert_close(other, scores, rtol=1e-4, atol=1e-5)
        assert others["accuracy"] == metrics["accuracy"]
        assert others["lr"] == metrics["lr"]
    assert (tmp_path / "classifier.safetensors").exists()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
def test_on_a_gpu_it_learns_and_resumes(tmp_path: Path, precision: str) -> None:
    """Views are rendered on the device; a rerun ends where the first run did."""
    train, test = draw_images(60, seed=0), draw_images(30, seed=1)
    options: dict[str, Any] = {"epochs": 15, "batch_size": 16, "accelerator": "gpu", "precision": precision}
    for protocol, rates in ((linear_probe, {}), (finetune, {"lr": 0.1, "head_lr": 3.0})):
        out = tmp_path / protocol.__name__
        backbone = draw_network(), still()
        result = protocol(backbone, train, test, out=out, **options | rates)
        assert result.metrics["accuracy"] == 1
        assert result.scores.device.type == "cpu"
        assert {p.device.type for p in result.classifier.parameters()} == {"cpu"}
        assert {p.device.type for p in backbone[0].parameters()} == {"cpu"}
        again = protocol(backbone, train, test, out=out, **options | rates)
        assert torch.equal(again.scores, result.scores)


# --- errors -------------------------------------------------------------------------------------------------------


def test_errors() -> None:
    backbone = draw_network(), still()
    data: Any = TRAIN
    wrong: list[tuple[type[Exception], str, dict[str, Any]]] = [
        (TypeError, r"backbone must be a Backbone or \(network, collate\), got Sequential", {"backbone": backbone[0]}),
        (TypeError, r"got \(Sequential, function\)", {"backbone": (backbone[0], crash)}),
        (TypeError, "train must be a folder .*, got DataLoader", {"train": DataLoader(data)}),
        (TypeError, r"train must hold pairs .*sample 0 is a Tensor", {"train": [image for image, _ in TRAIN]}),
        (TypeError, r"sample 0 is a tuple with the label 'cat'", {"test": [(TRAIN[0][0], "cat")]}),
        (ValueError, "test must have classes of the training images, got 7, too", {"test": [(TRAIN[0][0], 7)]}),
        (ValueError, "test must hold labelled images", {"test": [(TRAIN[0][0], -1)]}),
        (ValueError, "train must have two classes or more", {"train": TRAIN[:1], "test": TRAIN[:1]}),
        (ValueError, "two training images or more.*, got one of 2", {"train": TRAIN[:5], "test": TRAIN[:2]}),
        (ValueError, "there must be different learning rates", {"lrs": []}),
        (ValueError, "there must be different learning rates", {"lrs": [1, 1]}),
        (ValueError, "lr must be above 0, got -1", {"lrs": [1, -1]}),
        (ValueError, "holdout must be between 0 and 1, got 1", {"holdout": 1}),
        (ValueError, "epochs must be an integer >= 1", {"epochs": 0}),
        (
            ValueError,
            "batch_size must be an image for each of 2 devices or more, got 1",
            {"batch_size": 1, "devices": 2},
        ),
        (ValueError, "augment must make one view of each image, got 2", {"augment": SimCLRCollateFunction(16, seed=0)}),
        (
            ValueError,
            "augment must be given, as the backbone takes images with ColorJitter",
            {"backbone": (backbone[0], MultiViewCollateFunction([View(Color(), *still_view(16, None).operations)]))},
        ),
        (
            ValueError,
            "square images, got a collate function of 16x12",
            {"backbone": (backbone[0], MultiViewCollateFunction([View(Resize((16, 12)))]))},
        ),
    ]
    for kind, text, changed in wrong:
        given: dict[str, Any] = {"backbone": backbone, "train": TRAIN, "test": TEST} | CPU | changed
        with pytest.raises(kind, match=f"linear_probe: .*{text}"):
            linear_probe(**given)
    with pytest.raises(ValueError, match="finetune: share must be above 0 and at most 1, got 0"):
        finetune(backbone, TRAIN, TEST, share=0)
    frozen = draw_network().requires_grad_(False)
    with pytest.raises(ValueError, match=r"finetune: backbone must have parameters to train, got none"):
        finetune((frozen, still()), TRAIN, TEST, **CPU)


def test_several_devices_need_a_script(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "ps1", "In : ", raising=False)  # by which Python marks interactive interpreters
    with pytest.raises(
        ValueError, match=r"linear_probe: devices must be 1 in a notebook .* got 2: .*!python script.py"
    ):
        linear_probe((draw_network(), still()), TRAIN, TEST, devices=2, **CPU)


def test_a_training_that_diverges_says_so() -> None:
    with pytest.raises(FloatingPointError, match="finetune: the training diverged, scores are not finite"):
        finetune((draw_network(), still()), TRAIN, TEST, lr=1e30, head_lr=1e30, epochs=3, batch_size=8, **CPU)
