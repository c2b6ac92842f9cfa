"""Batches for PAWS with some of the classes, on one rank and on several, and its loss on them."""

import math
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from helpers.cases import noise
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from lightly_aug import Indexed, PAWSCollateFunction, SupportBatchSampler, SupportDataset, support
from lightly_aug.loss import PAWSLoss, sharpen
from lightly_aug.models import PAWS

# --- the dataset ------------------------------------------------------------------------------------------------

LABELS = [2, -1, 0, 2, -1]


@pytest.mark.parametrize("form", [lambda i: f"{i}.jpg", lambda i: (f"{i}.jpg", 9), lambda i: [f"{i}.jpg", 9, 8]])
def test_every_image_comes_without_label_and_the_labelled_ones_again_with_it(form: Any) -> None:
    items = SupportDataset([form(i) for i in range(5)], LABELS)
    without = [("0.jpg", -1), ("1.jpg", -1), ("2.jpg", -1), ("3.jpg", -1), ("4.jpg", -1)]
    assert [items[i] for i in range(len(items))] == [*without, ("0.jpg", 2), ("2.jpg", 0), ("3.jpg", 2)]
    assert items.labels.tolist() == [items[i][1] for i in range(len(items))]
    with pytest.raises(IndexError):
        items[8]


def test_errors_of_the_dataset() -> None:
    with pytest.raises(ValueError, match=r"SupportDataset: labels must be one for each of 2 images, .* got 3"):
        SupportDataset("ab", [0, 1, -1])
    items = SupportDataset([{"image": "a.jpg", "label": 3}], [3])
    with pytest.raises(TypeError, match=r"dataset must return an image, .* got a mapping of \['image', 'label'\]"):
        items[0]


def test_labelled_images_are_anchors_too_and_get_other_views_than_as_support() -> None:
    images = [noise(16, 16, seed=i) for i in range(6)]
    items = SupportDataset([(image, 0) for image in images], [0, 1, -1, -1, 0, 1])
    batches = SupportBatchSampler(items.labels, batch_size=8, per_class=1)
    assert len(batches) == 1
    collate = PAWSCollateFunction(12, 8, 1, recipe="cifar", seed=0)
    loader = DataLoader(items, batch_sampler=batches, collate_fn=collate)
    (views, targets), (indices,) = next(iter(loader)), list(SupportBatchSampler(items.labels, 8, 1))
    assert sorted(targets.tolist()) == [-1] * 6 + [0, 1]
    assert sorted(indices[2:]) == list(range(6))  # all images, the four labelled ones among them
    for place in (0, 1):
        twin = indices.index({6: 0, 7: 1, 8: 4, 9: 5}[indices[place]])
        assert targets[twin] == -1
        assert not torch.equal(views[0][place], views[0][twin])
    backbone = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
    loss = PAWS(backbone, classes=2, hidden=8, dim=8)(list(views), targets=targets)
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in backbone.parameters())


# --- the sampler ------------------------------------------------------------------------------------------------


def on_rank(monkeypatch: pytest.MonkeyPatch, number: int, ranks: int) -> None:
    monkeypatch.setattr(support, "rank", lambda: number)
    monkeypatch.setattr(support, "world_size", lambda: ranks)


def passes(monkeypatch: pytest.MonkeyPatch, ranks: int, batches: Any, count: int = 1) -> list[list[list[list[int]]]]:
    """Return the batches of each rank in each pass."""
    drawn = []
    for number in range(ranks):
        on_rank(monkeypatch, number, ranks)
        one = batches()
        drawn.append([list(one) for _ in range(count)])
    return drawn


def test_batches_hold_as_many_of_each_class() -> None:
    labels = [0, 0, 0, 1, 1, 7, 7, 7] + [-1] * 22
    batches = list(SupportBatchSampler(labels, 10, 2, seed=0))
    assert len(batches) == len(SupportBatchSampler(labels, 10, 2, seed=0)) == 5
    for batch in batches:
        assert len(set(batch)) == 10
        assert Counter(labels[i] for i in batch) == {0: 2, 1: 2, 7: 2, -1: 4}
    unlabelled = [i for batch in batches for i in batch if labels[i] < 0]
    assert len(set(unlabelled)) == len(unlabelled) == 20  # each once, and two that fill no batch
    assert (
        batches == list(SupportBatchSampler(labels, 10, 2, seed=0)) != list(SupportBatchSampler(labels, 10, 2, seed=1))
    )
    for size, each in ((6, 2), (10, 3), (10, 0), (40, 1)):
        with pytest.raises(ValueError, match=f"3 classes .* got batch_size={size} and per_class={each}"):
            SupportBatchSampler(labels, size, each, seed=0)


def test_a_pass_is_resumed_at_its_beginning_and_in_its_middle() -> None:
    def make() -> SupportBatchSampler:
        return SupportBatchSampler([0, 0, 0, 1, 1, 7, 7, 7] + [-1] * 22, 10, 2, seed=4)

    whole = make()
    first, second = list(whole), list(whole)
    assert first != second
    resumed = make()
    resumed.set_epoch(1)
    assert list(resumed) == second
    resumed.set_epoch(0, start=2)
    assert [list(resumed), list(resumed)] == [first[2:], second]
    taken = iter(make())
    next(taken), next(taken), next(taken)
    again = iter(make())
    again.load_state_dict(taken.state_dict())  # type: ignore[attr-defined]
    assert list(again) == first[3:]
    with pytest.raises(ValueError, match="start between 0 and 5, got 0 and 6"):
        resumed.set_epoch(0, start=6)


def test_a_labelled_image_has_new_views_in_each_batch_of_an_indexed_dataset() -> None:
    images = [torch.rand(3, 12, 12) for _ in range(6)]
    items = SupportDataset(images, [0, 1, -1, -1, -1, -1])  # each class has one image, which is in every batch
    batches = SupportBatchSampler(items.labels, batch_size=4, per_class=1)
    collate = PAWSCollateFunction(8, 6, 2, seed=0, render="worker")
    loader = DataLoader(Indexed(items), batch_sampler=batches, collate_fn=collate)
    drawn = [views.table[:, :2] for views, _ in loader]
    again = [views.table[:, :2] for views, _ in loader]
    assert len(drawn) == 3
    for i, table in enumerate(drawn):
        for other in (*drawn[i + 1 :], *again):
            assert not torch.equal(table, other)
    batches.set_epoch(0)
    assert all(torch.equal(a, views.table[:, :2]) for a, (views, _) in zip(drawn, loader, strict=True))


MANY = np.concatenate([np.arange(20000) % 1000, np.full(2000, -1)])


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_ranks_draw_the_papers_number_of_different_classes_of_imagenet(
    monkeypatch: pytest.MonkeyPatch, ranks: int
) -> None:
    (*drawn,) = passes(monkeypatch, ranks, lambda: SupportBatchSampler(MANY, 169, 7, classes_per_batch=15))
    steps = 2000 // ranks // 64
    seen, anchors = [], []
    for number in range(ranks):
        (batches,) = drawn[number]
        assert len(batches) == steps
        for batch in batches:
            assert len(set(batch)) == 169
            counts = Counter(MANY[batch].tolist())
            assert counts.pop(-1) == 64
            assert list(counts.values()) == [7] * 15
            assert all(MANY[i] >= 0 for i in batch[:105])
        seen.append([set(MANY[batch[:105]].tolist()) for batch in batches])
        anchors.append([i for batch in batches for i in batch[105:]])
        assert len(set(anchors[-1])) == len(anchors[-1])
    for step in range(steps):  # no class on two ranks, nor again before the others had their turn
        assert len(set().union(*(seen[number][step] for number in range(ranks)))) == 15 * ranks
    assert all(not one & other for batches in seen for one, other in pairwise(batches))
    turn = 1000 // (15 * ranks)
    together = [c for number in range(ranks) for classes in seen[number][:turn] for c in classes]
    assert len(together) == len(set(together)) == 15 * min(turn, steps) * ranks
    assert len(set().union(*map(set, anchors))) == sum(map(len, anchors))


def test_classes_come_equally_often_and_in_another_order_in_each_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.array([*range(8)] * 3 + [-1] * 48)
    (one,) = passes(monkeypatch, 1, lambda: SupportBatchSampler(labels, 6, 1, classes_per_batch=2), count=3)
    orders = [[tuple(labels[batch[:2]].tolist()) for batch in batches] for batches in one]
    for order in orders:
        assert len(order) == 12
        for first in (0, 4, 8):
            assert sorted(c for pair in order[first : first + 4] for c in pair) == list(range(8))
    assert orders[0] != orders[1] != orders[2]
    assert orders[0][:4] != orders[0][4:8]


def test_a_draw_depends_on_seed_and_rank_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(seed: int = 0) -> SupportBatchSampler:
        return SupportBatchSampler(MANY, 50, 2, seed, classes_per_batch=9)

    here, there = passes(monkeypatch, 2, make, count=2)
    assert passes(monkeypatch, 2, make, count=2) == [here, there]
    other, _ = passes(monkeypatch, 2, lambda: make(1))
    assert other[0] != here[0]
    assert {tuple(batch[18:]) for batch in here[0]}.isdisjoint(tuple(batch[18:]) for batch in there[0])


def test_a_pass_that_ends_early_on_one_rank_leaves_the_classes_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (SupportBatchSampler(MANY, 50, 2, classes_per_batch=9) for _ in range(2))
    classes = []
    for number, (batches, steps) in enumerate(((first, 3), (second, 5))):
        on_rank(monkeypatch, number, 2)
        interrupted: Iterator[list[int]] = iter(batches)
        for _ in range(steps):
            next(interrupted)
        classes.append([set(MANY[batch[:18]].tolist()) for batch in batches])
    assert all(not one & other for one, other in zip(*classes, strict=True))


def test_where_all_ranks_take_all_classes_each_does(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = [0, 1, 2, 3] * 3 + [-1] * 48
    for each, ranks in ((None, 2), (4, 3), (2, 4)):  # the last: every class twice
        drawn = passes(monkeypatch, ranks, lambda each=each: SupportBatchSampler(labels, 6, 1, classes_per_batch=each))
        for step in range(len(drawn[0][0])):
            joined = Counter(labels[i] for number in range(ranks) for i in drawn[number][0][step])
            del joined[-1]
            assert len(joined) == 4
            assert len(set(joined.values())) == 1


def test_the_rank_is_asked_for_in_the_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> int:
        raise AssertionError("the process group is not there yet")

    monkeypatch.setattr(support, "rank", refuse)
    monkeypatch.setattr(support, "world_size", refuse)
    batches = SupportBatchSampler([0, 1] + [-1] * 12, 5, 1)
    on_rank(monkeypatch, 1, 2)
    assert len(batches) == 2
    assert sorted(i for batch in batches for i in batch[2:]) == [3, 5, 7, 9, 11, 13]


def test_errors_of_the_sampler(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"room for .* 1000 classes .* got batch_size=169 .*: classes_per_batch takes"):
        SupportBatchSampler(MANY, 169, 7)
    with pytest.raises(ValueError, match="classes_per_batch must be at most the 1000 classes of the labels, got 1001"):
        SupportBatchSampler(MANY, 169, 7, classes_per_batch=1001)
    with pytest.raises(ValueError, match="SupportBatchSampler: classes_per_batch must be an integer >= 1, got 0"):
        SupportBatchSampler(MANY, 169, 7, classes_per_batch=0)
    on_rank(monkeypatch, 1, 2)
    with pytest.raises(ValueError, match="at most 1000 places for images without label on each of 2 ranks, got 1500"):
        next(iter(SupportBatchSampler(MANY, 1530, 2, classes_per_batch=15)))
    with pytest.raises(
        ValueError, match=r"on 2 ranks must draw at most each of 1000 classes once, .* got 600 on a rank"
    ):
        next(iter(SupportBatchSampler(MANY, 601, 1, classes_per_batch=600)))


# --- the loss of some classes -----------------------------------------------------------------------------------


def official(anchors: list[Tensor], targets: list[Tensor], one: Tensor, other: Tensor, places: list[int]) -> Tensor:
    """PAWS with a column for each class of the batch, as its code numbers them, smoothing .1 over these; loops."""
    k = len(set(places))
    labels = torch.full((len(places), k), 0.1 / k, dtype=torch.float64)
    for row, place in enumerate(places):
        labels[row, place] = 1 - 0.1 + 0.1 / k

    def classify(rows: Tensor, supports: Tensor) -> Tensor:
        similar = torch.stack([cosine_similarity(row[None], supports) for row in rows])
        weights = (similar / 0.1).exp()
        return weights / weights.sum(1, keepdim=True) @ labels

    def power(p: Tensor) -> Tensor:
        return p**4 / (p**4).sum(1, keepdim=True)

    first, second = (power(classify(x, other)).detach() for x in targets)
    wanted = torch.cat([second, first, *[(first + second) / 2] * (len(anchors) - 2)])
    wanted[wanted < 1e-4] = 0
    p = classify(torch.cat(anchors), one)
    average = power(p).mean(0)
    return -(wanted * p.log()).sum(1).mean() + (average * average.log()).sum()


def some(n: int, seed: int, d: int = 5) -> Tensor:
    return torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def test_classes_that_are_not_in_the_batch_do_not_matter() -> None:
    anchors, targets, one, other = [some(4, i) for i in range(3)], [some(4, 9), some(4, 8)], some(6, 7), some(6, 6)
    leaves = [*anchors, one]
    expected = official(anchors, targets, one, other, [0, 1, 2, 0, 1, 2])
    value = PAWSLoss(1000)(anchors, targets, one, other, torch.tensor([17, 400, 999, 17, 400, 999]))
    torch.testing.assert_close(value, expected, rtol=0, atol=1e-10)
    gradients = zip(torch.autograd.grad(value, leaves), torch.autograd.grad(expected, leaves), strict=True)
    for ours, theirs in gradients:
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)


def test_entropy_is_that_of_the_classes_of_the_batch() -> None:
    """Each image has its own class in every view: cross entropy 0, and entropy ln 3 for three of a thousand classes."""
    z = 10 * torch.eye(3)
    value = PAWSLoss(1000, temperature=0.01, smoothing=0)([z, z], [z, z], z, z, torch.tensor([5, 6, 700]))
    assert value.item() == pytest.approx(-math.log(3), abs=1e-6)


@pytest.mark.parametrize("temperature", [0.25, 1.0, 4.0])
def test_sharpening_of_zeros_has_a_gradient(temperature: float) -> None:
    p = torch.tensor([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]], requires_grad=True)
    sharp = sharpen(p, temperature)
    assert torch.equal(sharp, p)
    (gradient,) = torch.autograd.grad((sharp * torch.arange(6.0).view(2, 3)).sum(), p)
    assert gradient.isfinite().all()


# --- two processes ----------------------------------------------------------------------------------------------

ITEMS = np.array([*range(6)] * 4 + [-1] * 20)


def forward(indices: list[int], network: nn.Module) -> Tensor:
    """Return the loss of a batch of items whose views are made of their numbers."""
    generators = [torch.Generator().manual_seed(i) for i in indices]
    items = torch.stack([torch.randn(3, 3, 4, 4, dtype=torch.float64, generator=g) for g in generators])
    loss: Tensor = network(list(items.unbind(1)), targets=torch.from_numpy(ITEMS[indices]))
    return loss


def make_model() -> PAWS:
    torch.manual_seed(0)
    model = PAWS(nn.Flatten(), classes=6, width=48, hidden=16, dim=32)
    for name in ("projector.6.bias", "predictor.4.bias"):  # which would make all features nearly the same
        nn.init.zeros_(model.get_parameter(name))
    return model.double().eval()  # statistics of a batch would be those of a rank


def train_on_rank(number: int, store: str, results: str) -> None:
    batches = SupportBatchSampler(ITEMS, 8, 2, classes_per_batch=2)  # before there are ranks
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=number, world_size=2)
    model = make_model()
    network, answer = DistributedDataParallel(model), []
    for indices in batches:
        model.zero_grad()
        loss = forward(indices, network)
        torch.autograd.backward(loss)
        gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
        answer.append((list(map(int, indices)), loss.detach(), gradients))
    torch.save((len(batches), answer), f"{results}/{number}.pt")
    dist.destroy_process_group()


def test_two_ranks_with_different_classes_equal_one_process_on_the_joined_batch(tmp_path: Path) -> None:
    mp.spawn(train_on_rank, (str(tmp_path / "store"), str(tmp_path)), nprocs=2)  # type: ignore[attr-defined, no-untyped-call]
    (length, here), (_, there) = (torch.load(tmp_path / f"{number}.pt") for number in range(2))
    assert len(here) == len(there) == length == 20 // 2 // 4
    for (indices, loss, gradients), (other_indices, other_loss, others) in zip(here, there, strict=True):
        classes = [set(ITEMS[rows].tolist()) - {-1} for rows in (indices, other_indices)]
        assert [len(each) for each in classes] == [2, 2]
        assert not classes[0] & classes[1]
        model = make_model()
        joined = forward([*indices, *other_indices], model)
        torch.autograd.backward(joined)
        assert (loss - other_loss).abs() > 1e-3
        torch.testing.assert_close((loss + other_loss) / 2, joined.detach(), rtol=0, atol=1e-10)
        expected = [p.grad for p in model.parameters() if p.grad is not None]
        assert len(gradients) == len(others) == len(expected) > 0
        assert max(float(gradient.abs().max()) for gradient in expected) > 1e-3
        for ours, theirs, wanted in zip(gradients, others, expected, strict=True):
            torch.testing.assert_close(ours, wanted, rtol=0, atol=1e-10)
            torch.testing.assert_close(theirs, wanted, rtol=0, atol=1e-10)
