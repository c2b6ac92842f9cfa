"""The losses of feature maps against loops over the papers' formulas, and known mistakes of others."""

import math
from collections.abc import Callable

import pytest
import torch
from helpers.pairs import same_with_gradients
from torch import Tensor

from lightly_aug.loss import AMDIMLoss, CPCLoss, amdim, cpc

Maps = tuple[Tensor, Tensor, Tensor]
PLACES = torch.tensor([[5, 0, 3, 2], [1, 4, 4, 0]])


def random(*shape: int, seed: int = 0) -> Tensor:
    x = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return x.requires_grad_()


def two_maps(n: int = 4, d: int = 3) -> tuple[Maps, Maps]:
    """Draw the features of two views, with maps that are not square."""
    (a, b) = ((random(n, d, seed=s), random(n, d, 2, 3, seed=s + 1), random(n, d, 3, 4, seed=s + 2)) for s in (0, 3))
    return a, b


def loop_amdim(maps0: Maps, maps1: Maps, places: Tensor, clip: float, penalty: float) -> Tensor:
    n, d = maps0[0].shape
    total = torch.zeros((), dtype=torch.float64)
    for way, (one, other) in enumerate(((maps0, maps1), (maps1, maps0))):
        for term in ("1→5", "1→7", "5→5"):
            target = other[2] if term == "1→7" else other[1]
            _, _, rows, columns = target.shape
            grid = [(r, c) for r in range(rows) for c in range(columns)]
            squares, losses = [], []
            for i in range(n):
                source = one[0][i]
                if term == "5→5":
                    row, column = divmod(int(places[way, i]), columns)
                    source = one[1][i, :, row, column]
                raw = {(j, r, c): (source * target[j, :, r, c]).sum() / math.sqrt(d) for j in range(n) for r, c in grid}
                squares += [x**2 for x in raw.values()]
                s = {place: clip * (x / clip).tanh() for place, x in raw.items()}
                others = sum(x.exp() for (j, _, _), x in s.items() if j != i)
                losses += [-(s[i, r, c].exp() / (s[i, r, c].exp() + others)).log() for r, c in grid]
            total = total + (torch.stack(losses).mean() + penalty * torch.stack(squares).mean()) / 2
    return total


def loop_cpc(predictions: dict[int, Tensor], targets: Tensor) -> Tensor:
    n, _, rows, columns = targets.shape
    everywhere = [(i, r, c) for i in range(n) for r in range(rows) for c in range(columns)]
    offsets = []
    for k, prediction in predictions.items():
        losses = []
        for i, r, c in everywhere:
            if r + k < rows:
                logits = [(prediction[i, :, r, c] * targets[j, :, row, col]).sum() for j, row, col in everywhere]
                losses.append(-(logits[everywhere.index((i, r + k, c))] - torch.stack(logits).logsumexp(0)))
        offsets.append(torch.stack(losses).mean())
    return torch.stack(offsets).mean()


@pytest.mark.parametrize(("clip", "penalty"), [(20.0, 5e-2), (1.5, 0.0), (4.0, 0.7)])
def test_amdim_formula(clip: float, penalty: float) -> None:
    maps0, maps1 = two_maps()
    value = amdim(maps0, maps1, PLACES, clip, penalty)
    same_with_gradients(value, loop_amdim(maps0, maps1, PLACES, clip, penalty), *maps0, *maps1)


@pytest.mark.parametrize("offsets", [(1,), (2,), (1, 2, 3)])
def test_cpc_formula(offsets: tuple[int, ...]) -> None:
    targets = random(2, 3, 4, 2)
    predictions = {k: random(2, 3, 4, 2, seed=k) for k in offsets}
    same_with_gradients(cpc(predictions, targets), loop_cpc(predictions, targets), targets, *predictions.values())


def test_gradcheck() -> None:
    maps0, maps1 = two_maps(2, 2)
    assert torch.autograd.gradcheck(lambda *maps: amdim(maps[:3], maps[3:], PLACES[:, :2], 2.0), (*maps0, *maps1))
    targets, prediction = random(2, 2, 3, 2), random(2, 2, 3, 2, seed=1)
    assert torch.autograd.gradcheck(lambda p, t: cpc({1: p}, t), (prediction, targets))


def test_amdim_views_may_be_swapped() -> None:
    maps0, maps1 = two_maps()
    swapped = amdim(maps1, maps0, PLACES.flip(0))
    torch.testing.assert_close(swapped, amdim(maps0, maps1, PLACES), rtol=0, atol=1e-12)
    assert not torch.isclose(amdim(maps1, maps0, PLACES), swapped)


def test_order_of_images_does_not_matter() -> None:
    (maps0, maps1), order = two_maps(), torch.tensor([2, 0, 3, 1])
    (a, b, c), (d, e, f) = ([x[order] for x in maps] for maps in (maps0, maps1))
    value = amdim(maps0, maps1, PLACES)
    torch.testing.assert_close(amdim((a, b, c), (d, e, f), PLACES[:, order]), value, rtol=0, atol=1e-12)
    assert not torch.isclose(amdim((a, b, c), (d, e, f), PLACES), value)


def test_loss_of_constant_maps_is_log_of_the_candidates() -> None:
    (a, b, c) = (torch.zeros(4, 3), torch.zeros(4, 3, 5, 5), torch.zeros(4, 3, 7, 7))
    expected = 2 * math.log(1 + 3 * 25) + math.log(1 + 3 * 49)  # 1→5, 5→5 and 1→7: the places of the other images
    assert amdim((a, b, c), (a, b, c), PLACES).item() == pytest.approx(expected, rel=1e-6)
    assert cpc({1: b, 3: b}, b).item() == pytest.approx(math.log(100), rel=1e-6)


class TestMistakesOfOthers:
    def test_mistake_amdim_clip_ignored(self) -> None:
        (a, b, c), maps1 = two_maps()
        large = (10 * a, 10 * b, c)
        assert not torch.isclose(AMDIMLoss(20.0)(large, maps1, PLACES), AMDIMLoss(10.0)(large, maps1, PLACES), atol=0.1)

    def test_mistake_amdim_places_of_the_same_image_are_negatives(self) -> None:
        """Images that match only themselves: the negatives are the places of the other images alone."""
        (a, b, c) = (10 * torch.eye(4), 10 * torch.eye(4), 10 * torch.eye(4))
        maps = (a, b[:, :, None, None].expand(4, 4, 5, 5), c[:, :, None, None].expand(4, 4, 7, 7))
        expected = 2 * math.log1p(75 * math.exp(-20 * math.tanh(2.5))) + math.log1p(
            147 * math.exp(-20 * math.tanh(2.5))
        )
        assert amdim(maps, maps, PLACES, penalty=0).item() == pytest.approx(expected, rel=1e-3, abs=1e-7)

    def test_mistake_cpc_offsets_weighted_by_distance(self) -> None:
        targets = random(2, 3, 4, 2)
        one, three = random(2, 3, 4, 2, seed=1), random(2, 3, 4, 2, seed=2)
        alone = cpc({1: one}, targets), cpc({3: three}, targets)
        torch.testing.assert_close(cpc({1: one, 3: three}, targets), sum(alone) / 2)

    def test_mistake_cpc_last_rows_predict_beyond_the_map(self) -> None:
        targets, prediction = random(2, 3, 4, 2), random(2, 3, 4, 2, seed=1)
        (gradient,) = torch.autograd.grad(cpc({3: prediction}, targets), prediction)
        assert gradient[:, :, 1:].eq(0).all()
        assert gradient[:, :, 0].ne(0).all()


class TestErrors:
    def test_maps(self) -> None:
        maps0, maps1 = two_maps()
        asked = r"amdim: maps must be \(n, d\), \(n, d, h5, w5\) and .* got "
        with pytest.raises(ValueError, match=asked + r"\[\(4, 3\), .*\]"):
            amdim(maps0, (maps1[0], maps1[2], maps1[1]), PLACES)
        with pytest.raises(ValueError, match=asked + r"\[\(4, 3, 2, 3\), "):
            amdim((maps0[1],) * 3, (maps0[1],) * 3, PLACES)
        (a, b, c) = (x[:0] for x in maps0)
        with pytest.raises(ValueError, match=asked + r"\[\(0, 3\), "):
            amdim((a, b, c), (a, b, c), PLACES[:, :0])
        asked = r"amdim: places must be \(2, 4\) torch.int64, got "
        with pytest.raises(ValueError, match=asked + r"\(2, 3\) torch.int64"):
            amdim(maps0, maps1, PLACES[:, :3])
        with pytest.raises(ValueError, match=asked + r"\(2, 4\) torch.float32"):
            amdim(maps0, maps1, PLACES.float())

    def test_ranges(self) -> None:
        refused: dict[str, Callable[[], object]] = {
            "AMDIMLoss: clip must be above 0, got 0": lambda: AMDIMLoss(clip=0),
            "amdim: clip must be above 0, got 0": lambda: amdim(*two_maps(), PLACES, clip=0),
            "AMDIMLoss: penalty must be at least 0, got -1": lambda: AMDIMLoss(penalty=-1),
            "amdim: penalty must be at least 0, got -1": lambda: amdim(*two_maps(), PLACES, penalty=-1),
        }
        for message, call in refused.items():
            with pytest.raises(ValueError, match=message):
                call()

    def test_predictions(self) -> None:
        x = torch.zeros(2, 3, 4, 2)
        for k in (0, -1, 4):
            with pytest.raises(ValueError, match=f"cpc: predictions must have offsets from 1 to 3 for 4 rows, got {k}"):
                cpc({k: x}, x)
        with pytest.raises(ValueError, match="cpc: predictions must have at least one offset, got none"):
            cpc({}, x)
        with pytest.raises(ValueError, match=r"predictions\[2\] must .* got \(2, 3, 4, 1\) and targets \(2, 3, 4, 2\)"):
            cpc({2: x[..., :1]}, x)
        with pytest.raises(ValueError, match=r"cpc: targets must be \(n, d, rows, columns\), .* got \(2, 3, 4\)"):
            cpc({1: x}, x[..., 0])


def test_modules_equal_their_functions() -> None:
    maps0, maps1 = two_maps()
    assert torch.equal(AMDIMLoss(3.0, 0.1)(maps0, maps1, PLACES), amdim(maps0, maps1, PLACES, 3.0, 0.1))
    x = random(2, 3, 4, 2)
    assert torch.equal(CPCLoss()({1: x}, x), cpc({1: x}, x))
    assert repr(AMDIMLoss(3.0, 0.1)) == "AMDIMLoss(clip=3.0, penalty=0.1)"
    assert repr(CPCLoss()) == "CPCLoss()"
