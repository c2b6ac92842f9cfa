"""The losses of two views against loops over the papers' formulas, and known mistakes of others."""

import math
from collections.abc import Callable

import pytest
import torch
from helpers.pairs import pair, same_with_gradients
from torch import Tensor

from lightly_aug.loss import (
    BarlowTwinsLoss,
    BYOLLoss,
    NCELoss,
    NegativeCosineLoss,
    barlow_twins,
    byol,
    log_normalizer,
    nce,
    negative_cosine,
)

HADAMARD = torch.tensor([[1.0, 1, 1], [-1, 1, -1], [1, -1, -1], [-1, -1, 1]], dtype=torch.float64)


def cosine(x: Tensor, y: Tensor) -> Tensor:
    return (x * y).sum() / (x.pow(2).sum().sqrt() * y.pow(2).sum().sqrt())


def loop_barlow_twins(z0: Tensor, z1: Tensor, redundancy: float) -> Tensor:
    n, d = z0.shape

    def standard(z: Tensor, i: int) -> list[Tensor]:
        mean = sum(z[b, i] for b in range(n)) / n
        variance = sum((z[b, i] - mean) ** 2 for b in range(n)) / n
        return [(z[b, i] - mean) / (variance + 1e-5) ** 0.5 for b in range(n)]

    total = torch.zeros((), dtype=torch.float64)
    for i in range(d):
        for j in range(d):
            c = sum(x * y for x, y in zip(standard(z0, i), standard(z1, j), strict=True)) / n
            total = total + ((1 - c) ** 2 if i == j else redundancy * c**2)
    return total


def loop_nce(
    query: Tensor, key: Tensor, negatives: Tensor, images: int, z: Tensor | float, temperature: float
) -> Tensor:
    total, noise = torch.zeros((), dtype=torch.float64), len(negatives) / images
    for q, k in zip(query, key, strict=True):
        p = (cosine(q, k) / temperature).exp() / z
        total = total - (p / (p + noise)).log()
        for other in negatives:
            p = (cosine(q, other) / temperature).exp() / z
            total = total - (noise / (p + noise)).log()
    return total / len(query)


@pytest.mark.parametrize(("n", "d"), [(2, 2), (5, 3), (4, 9)])
class TestFormulas:
    def test_negative_cosine(self, n: int, d: int) -> None:
        p, z = pair(n, d)
        expected = -torch.stack([cosine(p[i], z[i].detach()) for i in range(n)]).mean()
        same_with_gradients(negative_cosine(p, z), expected, p)

    def test_byol(self, n: int, d: int) -> None:
        p, z = pair(n, d)
        expected = torch.stack([2 - 2 * cosine(p[i], z[i].detach()) for i in range(n)]).mean()
        same_with_gradients(byol(p, z), expected, p)

    @pytest.mark.parametrize("redundancy", [0.0, 0.0051, 0.5])
    def test_barlow_twins(self, n: int, d: int, redundancy: float) -> None:
        z0, z1 = pair(n, d)
        same_with_gradients(barlow_twins(z0, z1, redundancy), loop_barlow_twins(z0, z1, redundancy), z0, z1)

    @pytest.mark.parametrize("temperature", [0.07, 0.5])
    def test_nce(self, n: int, d: int, temperature: float) -> None:
        (q, k), (negatives, _) = pair(n, d), pair(7, d, seed=1)
        log_z = torch.tensor(3.5, dtype=torch.float64)
        value = nce(q, k, negatives, 1000, log_z, temperature)
        same_with_gradients(value, loop_nce(q, k, negatives, 1000, math.exp(3.5), temperature), q, k, negatives)

    def test_log_normalizer(self, n: int, d: int) -> None:
        (q, _), (negatives, _) = pair(n, d), pair(7, d, seed=1)
        terms = torch.stack([(cosine(x, y) / 0.07).exp() for x in q for y in negatives])
        value = log_normalizer(q, negatives, 1000, 0.07)
        torch.testing.assert_close(value, (1000 * terms.mean()).log().detach(), rtol=0, atol=1e-10)


def test_gradcheck() -> None:
    (p, z), (negatives, _) = pair(), pair(4, seed=1)
    assert torch.autograd.gradcheck(lambda p: negative_cosine(p, z.detach()), p)
    assert torch.autograd.gradcheck(lambda p: byol(p, z.detach()), p)
    assert torch.autograd.gradcheck(barlow_twins, (p, z))
    log_z = torch.tensor(2.0, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda q, k, negatives: nce(q, k, negatives, 50, log_z), (p, z, negatives))


@pytest.mark.parametrize("loss", [negative_cosine, byol])
def test_no_gradient_into_the_prediction_target(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    p, z = pair()
    torch.autograd.backward(loss(p, z))
    assert z.grad is None
    assert p.grad is not None


def test_ranges() -> None:
    p, _ = pair()
    for sign, cosines, distances in ((1, -1, 0), (-1, 1, 4)):
        assert negative_cosine(p, sign * p).item() == pytest.approx(cosines, abs=1e-12)
        assert byol(p, sign * 3 * p).item() == pytest.approx(distances, abs=1e-12)
    assert byol(torch.zeros(2, 3), p[:2].float()).item() == pytest.approx(1)
    assert negative_cosine(torch.zeros(2, 3), p[:2].float()) == 0


def test_which_views_may_be_swapped() -> None:
    z0, z1 = pair()
    torch.testing.assert_close(barlow_twins(z0, z1), barlow_twins(z1, z0), rtol=0, atol=1e-12)
    log_z, (negatives, _) = torch.tensor(2.0), pair(4, seed=1)
    assert not torch.isclose(nce(z0, z1, negatives, 50, log_z), nce(z1, z0, negatives, 50, log_z))
    assert torch.autograd.grad(byol(z0, z1), z0)[0].ne(torch.autograd.grad(byol(z1, z0), z1)[0]).any()


def test_barlow_twins_ignores_scale_and_shift_of_columns() -> None:
    z0, z1 = (1e4 * z for z in pair(6, 3))
    scale, shift = torch.tensor([1e2, 3.0, 50.0]), torch.tensor([1e5, -3.0, 0.0])
    torch.testing.assert_close(barlow_twins(scale * z0 + shift, z1), barlow_twins(z0, z1), rtol=0, atol=1e-9)


class TestMistakesOfOthers:
    """Every value is far from the value that the mistake gives."""

    def test_mistake_barlow_unbiased_deviation(self) -> None:
        """With the mistake, identical views of four images have C = 3/4; without the division by N, C = 4."""
        assert barlow_twins(HADAMARD, HADAMARD) < 1e-8
        (z, _) = pair(64, 8)
        decorrelated = torch.linalg.qr(z - z.mean(0)).Q
        assert barlow_twins(decorrelated * 64, decorrelated * 64) < 1e-8

    def test_mistake_barlow_rows_normalised(self) -> None:
        z0, z1 = pair(6, 3)
        rows = [z / z.norm(dim=1, keepdim=True) for z in (z0, z1)]
        assert not torch.isclose(barlow_twins(*rows), barlow_twins(z0, z1), atol=1e-3)

    def test_mistake_nce_exponentials_that_overflow(self) -> None:
        q, k = (z.detach().float() for z in pair(16, 8))
        value = nce(q, k, torch.cat([q, k]), 10**6, torch.tensor(0.0), 0.01)
        assert not torch.tensor(1 / 0.01).exp().isfinite()
        exact = loop_nce(q.double(), k.double(), torch.cat([q, k]).double(), 10**6, 1.0, 0.01)
        torch.testing.assert_close(value.double(), exact, rtol=1e-5, atol=0)
        assert log_normalizer(q, k, 10**6, 0.005).isfinite()


class TestNormaliser:
    def test_first_call_in_training_mode_sets_it(self) -> None:
        loss = NCELoss(1000, 0.2).double()
        (negatives, _), first, second = pair(7, 3, seed=1), pair(4, 3), pair(4, 3, seed=2)
        z = log_normalizer(first[0], negatives, 1000, 0.2)
        assert not torch.isclose(z, log_normalizer(second[0], negatives, 1000, 0.2), atol=1e-2)
        for q, k in (first, second):
            same_with_gradients(loss(q, k, negatives), loop_nce(q, k, negatives, 1000, z.exp(), 0.2), q, k, negatives)
        torch.testing.assert_close(loss.log_z, z)

    def test_eval_mode_does_not_keep_it(self) -> None:
        loss = NCELoss(1000).eval()
        (negatives, _), (q, k) = pair(7, 3, seed=1), pair(4, 3)
        assert loss(q, k, negatives).isfinite()
        assert loss.log_z.isnan()

    def test_state_dict_has_it(self) -> None:
        loss, resumed = NCELoss(1000), NCELoss(1000)
        (negatives, _), (q, k), other = pair(7, 3, seed=1), pair(4, 3), pair(4, 3, seed=2)
        loss(q, k, negatives)
        resumed.load_state_dict(loss.state_dict())
        assert torch.equal(resumed(*other, negatives), loss(*other, negatives))


class TestErrors:
    def test_shapes_are_named(self) -> None:
        x, y = torch.zeros(4, 8), torch.zeros(5, 8)
        asked = r"must have one shape \(n, d\), n at least 1, got \(4, 8\) and \(5, 8\)"
        for loss in (negative_cosine, byol):
            with pytest.raises(ValueError, match=f"{loss.__name__}: p and z {asked}"):
                loss(x, y)
        with pytest.raises(ValueError, match=f"barlow_twins: z0 and z1 {asked}"):
            barlow_twins(x, y)
        with pytest.raises(ValueError, match=f"nce: query and key {asked}"):
            nce(x, y, x, 50, torch.tensor(1.0))
        with pytest.raises(ValueError, match=r"nce: negatives must be .* got \(4, 7\) and query \(4, 8\)"):
            nce(x, x, x[:, 1:], 50, torch.tensor(1.0))
        asked = r"log_normalizer: negatives must be .* m at least 1, got \(0, 8\) and query \(4, 8\)"
        with pytest.raises(ValueError, match=asked):
            log_normalizer(x, x[:0], 50)
        with pytest.raises(ValueError, match=r"nce: log_z must be a 0-d tensor, got \(1,\)"):
            nce(x, x, x, 50, torch.ones(1))

    def test_one_image_has_no_correlations(self) -> None:
        with pytest.raises(ValueError, match=r"barlow_twins: z0 and z1 must have at least 2 rows .* got \(1, 8\)"):
            barlow_twins(torch.zeros(1, 8), torch.zeros(1, 8))

    def test_ranges(self) -> None:
        x = torch.zeros(4, 8)
        refused: dict[str, Callable[[], object]] = {
            r"barlow_twins: redundancy must be at least 0, got -1\.0": lambda: barlow_twins(x, x, -1.0),
            r"BarlowTwinsLoss: redundancy must be at least 0, got -1\.0": lambda: BarlowTwinsLoss(-1.0),
            "nce: images must be an integer >= 1, got 0": lambda: nce(x, x, x, 0, torch.tensor(1.0)),
            "NCELoss: images must be an integer >= 1, got 0": lambda: NCELoss(0),
            "log_normalizer: images must be an integer >= 1, got 0": lambda: log_normalizer(x, x, 0),
            "nce: temperature must be above 0, got 0": lambda: nce(x, x, x, 5, torch.tensor(1.0), 0),
            "NCELoss: temperature must be above 0, got 0": lambda: NCELoss(5, 0),
            "log_normalizer: temperature must be above 0, got 0": lambda: log_normalizer(x, x, 5, 0),
        }
        for message, call in refused.items():
            with pytest.raises(ValueError, match=message):
                call()


def test_modules_equal_their_functions() -> None:
    z0, z1 = pair()
    assert torch.equal(NegativeCosineLoss()(z0, z1), negative_cosine(z0, z1))
    assert torch.equal(BYOLLoss()(z0, z1), byol(z0, z1))
    assert torch.equal(BarlowTwinsLoss(0.3)(z0, z1), barlow_twins(z0, z1, 0.3))
    assert repr(NegativeCosineLoss()) == "NegativeCosineLoss()"
    assert repr(BYOLLoss()) == "BYOLLoss()"
    assert repr(BarlowTwinsLoss(0.3)) == "BarlowTwinsLoss(redundancy=0.3)"
    assert repr(NCELoss(50, 0.2)) == "NCELoss(images=50, temperature=0.2)"
