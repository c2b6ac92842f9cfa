"""Contrastive losses against loops over the papers' formulas, laws of all losses, and known mistakes of others."""

import math
from collections.abc import Callable

import pytest
import torch
from helpers.pairs import LOSSES, NORMALISED, Loss, pair, same_with_gradients
from torch import Tensor

from lightly_aug.loss import InfoNCELoss, NTXentLoss, info_nce, nt_xent
from lightly_aug.memory_bank import MemoryBank


def cosine(x: Tensor, y: Tensor) -> Tensor:
    return (x * y).sum() / (x.pow(2).sum().sqrt() * y.pow(2).sum().sqrt())


def loop_nt_xent(z0: Tensor, z1: Tensor, temperature: float) -> Tensor:
    z, n = [*z0, *z1], len(z0)
    total = torch.zeros((), dtype=torch.float64)
    for i in range(2 * n):
        denominator = torch.zeros((), dtype=torch.float64)
        for k in range(2 * n):
            if k != i:
                denominator = denominator + (cosine(z[i], z[k]) / temperature).exp()
        j = i + n if i < n else i - n
        total = total - ((cosine(z[i], z[j]) / temperature).exp() / denominator).log()
    return total / (2 * n)


def loop_info_nce(
    query: Tensor, key: Tensor, negatives: list[Tensor] | None, temperature: float, own: Tensor | None = None
) -> Tensor:
    """Compute InfoNCE; with negatives None, the negatives are the keys of the other rows."""
    total = torch.zeros((), dtype=torch.float64)
    for i, q in enumerate(query):
        others = [k for j, k in enumerate(key) if j != i] if negatives is None else negatives
        positive = (cosine(q, key[i]) / temperature).exp()
        denominator = positive
        for other in [*others, *([] if own is None else own[i])]:
            denominator = denominator + (cosine(q, other) / temperature).exp()
        total = total - (positive / denominator).log()
    return total / len(query)


@pytest.mark.parametrize("temperature", [0.07, 0.1, 0.5, 1.0])
@pytest.mark.parametrize(("n", "d"), [(1, 4), (2, 2), (5, 3), (4, 9)])
class TestFormulas:
    def test_nt_xent(self, n: int, d: int, temperature: float) -> None:
        z0, z1 = pair(n, d)
        same_with_gradients(nt_xent(z0, z1, temperature), loop_nt_xent(z0, z1, temperature), z0, z1)

    def test_info_nce_among_the_batch(self, n: int, d: int, temperature: float) -> None:
        q, k = pair(n, d)
        same_with_gradients(info_nce(q, k, temperature=temperature), loop_info_nce(q, k, None, temperature), q, k)

    def test_info_nce_against_negatives(self, n: int, d: int, temperature: float) -> None:
        (q, k), (negatives, _) = pair(n, d), pair(7, d, seed=1)
        valid = torch.tensor([True, False, True, True, False, False, True])
        real = [row for row, is_real in zip(negatives, valid, strict=True) if is_real]
        for mask, rows in ((None, list(negatives)), (valid, real), (torch.zeros(7, dtype=torch.bool), [])):
            value = info_nce(q, k, negatives, mask, temperature)
            expected = loop_info_nce(q, k, rows, temperature)
            same_with_gradients(value, expected, q, k)

    def test_info_nce_with_negatives_of_each_query(self, n: int, d: int, temperature: float) -> None:
        (q, k), (negatives, _) = pair(n, d), pair(7, d, seed=1)
        own = torch.stack(pair(n, d, seed=2), 1)  # (n, 2, d)
        for rows in (None, negatives):
            value = info_nce(q, k, rows, temperature=temperature, own=own)
            expected = loop_info_nce(q, k, None if rows is None else list(rows), temperature, own)
            same_with_gradients(value, expected, q, k, own)


def test_no_gradient_into_masked_negatives() -> None:
    (q, k), (negatives, _) = pair(), pair(3, seed=1)
    valid = torch.tensor([True, False, True])
    (gradient,) = torch.autograd.grad(info_nce(q, k, negatives, valid), negatives)
    assert gradient[~valid].eq(0).all()
    assert gradient[valid].ne(0).all()


@pytest.mark.parametrize("loss", LOSSES)
class TestLaws:
    def test_order_of_images_does_not_matter(self, loss: Loss) -> None:
        z0, z1 = pair()
        order = torch.tensor([3, 1, 4, 0, 2])
        torch.testing.assert_close(loss(z0[order], z1[order]), loss(z0, z1), rtol=0, atol=1e-12)
        assert not torch.isclose(loss(z0[order], z1), loss(z0, z1))

    def test_length_of_rows_matters_where_they_are_not_normalised(self, loss: Loss) -> None:
        z0, z1 = pair()
        scale = torch.tensor([0.1, 1, 3, 1e3, 1e-3], dtype=torch.float64)[:, None]
        close = torch.isclose(loss(scale * z0, z1), loss(z0, z1), rtol=0, atol=1e-12)
        assert close == (loss in NORMALISED)

    def test_zero_rows_are_finite(self, loss: Loss) -> None:
        for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
            z0, z1 = (z.detach().to(dtype) for z in pair())
            z0[1] = z1[2] = 0
            value = loss(z0.requires_grad_(), z1.requires_grad_())
            torch.autograd.backward(value)
            assert z0.grad is not None
            assert all(x.isfinite().all() for x in (value, z0.grad, z1.grad) if x is not None)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_low_temperature_in_half_precision(self, loss: Loss, dtype: torch.dtype) -> None:
        z0, z1 = (z.detach().to(dtype).requires_grad_() for z in pair(16, 8))
        value = loss(z0, z1, temperature=0.01)
        torch.autograd.backward(value)
        assert value.dtype == torch.float32
        assert z0.grad is not None
        assert all(x.isfinite().all() for x in (z0.grad, z1.grad) if x is not None)
        exact = loss(z0.detach().double(), z1.detach().double(), temperature=0.01)
        torch.testing.assert_close(value.double(), exact, rtol=1e-4, atol=1e-4)

    def test_autocast_changes_nothing(self, loss: Loss) -> None:
        z0, z1 = (z.detach().float() for z in pair(16, 8))
        with torch.autocast("cpu", torch.bfloat16):
            value = loss(z0, z1, temperature=0.01)
        assert torch.equal(value, loss(z0, z1, temperature=0.01))

    def test_compiles_in_one_graph(self, loss: Loss) -> None:
        """A loss in one graph does not wait for the device."""
        z0, z1 = pair()
        torch.compiler.reset()
        compiled = torch.compile(loss, fullgraph=True, backend="eager")
        torch.testing.assert_close(compiled(z0, z1), loss(z0, z1))


@pytest.mark.parametrize("loss", [nt_xent, info_nce])
class TestLawsOfContrastiveLosses:
    def test_gradcheck(self, loss: Loss) -> None:
        assert torch.autograd.gradcheck(loss, pair())

    def test_identical_views_of_orthogonal_images(self, loss: Loss) -> None:
        z = torch.eye(4, dtype=torch.float64)
        others = 6 if loss is nt_xent else 3  # 2N - 2, N - 1
        torch.testing.assert_close(
            loss(z, z, temperature=0.5).item(), math.log1p(others * math.exp(-2)), rtol=1e-12, atol=0
        )


@pytest.mark.parametrize("n", [1, 2, 5, 19])
def test_loss_of_constant_embeddings_is_log_of_the_candidates(n: int) -> None:
    z = torch.ones(n, 6)
    assert nt_xent(z, z, 0.1).item() == pytest.approx(math.log(2 * n - 1), abs=1e-6)
    assert info_nce(z, z).item() == pytest.approx(math.log(n), abs=1e-6)
    assert info_nce(z, z, torch.ones(7, 6)).item() == pytest.approx(math.log(8), abs=1e-6)
    assert info_nce(z, z, own=torch.ones(n, 3, 6)).item() == pytest.approx(math.log(n + 3), abs=1e-6)


def test_views_may_be_swapped() -> None:
    z0, z1 = pair()
    torch.testing.assert_close(nt_xent(z0, z1), nt_xent(z1, z0), rtol=0, atol=1e-12)


def test_queries_and_keys_may_not_be_swapped() -> None:
    q, k = pair()
    assert not torch.isclose(info_nce(q, k), info_nce(k, q))


class TestMistakesOfOthers:
    """Every value is far from the value that the mistake gives."""

    def test_mistake_self_similarity_subtracted_as_at_temperature_one(self) -> None:
        z0, z1 = (z.detach() for z in pair())
        z = torch.cat([z0, z1])
        z = z / z.norm(dim=1, keepdim=True)
        e = (z @ z.T / 0.1).exp()
        wrong = -(e.diagonal(5).repeat(2) / (e.sum(1) - math.e)).log().mean()
        assert abs(nt_xent(z0, z1, 0.1) - wrong) > 0.01

    def test_mistake_exponentials_that_overflow(self) -> None:
        z0, z1 = (z.detach().half() for z in pair())
        assert not (1 / torch.tensor(0.01).half()).exp().isfinite()
        assert nt_xent(z0, z1, 0.01).isfinite()
        assert info_nce(z0, z1, temperature=0.01).isfinite()

    def test_mistake_negatives_of_one_side_only(self) -> None:
        """NT-Xent has 2N - 2 negatives and the positive, not N or N + 1 candidates."""
        z = torch.ones(6, 4)
        assert nt_xent(z, z).item() == pytest.approx(math.log(11), abs=1e-6)

    def test_mistake_nearest_neighbours_contrasted_with_all_views(self) -> None:
        """NNCLR contrasts its key with the N of one view, not with 2N - 1."""
        z = torch.ones(6, 4)
        assert info_nce(z, z).item() == pytest.approx(math.log(6), abs=1e-6)

    @pytest.mark.parametrize("temperature", [0.2, 1.0])
    def test_mistake_temperature_not_passed_on(self, temperature: float) -> None:
        """MoCo v3 multiplies by 2τ; this is the value without the factor, at a τ where both differ."""
        q, k = pair()
        expected = loop_info_nce(q, k, None, temperature)
        torch.testing.assert_close(InfoNCELoss(temperature)(q, k), expected, rtol=0, atol=1e-10)
        assert abs(2 * temperature - 1) > 0.1
        assert not torch.isclose(expected, loop_info_nce(q, k, None, 0.1), atol=1e-2)

    def test_mistake_epsilon_added_to_the_denominator(self) -> None:
        z0 = torch.tensor([[1.0, 0], [0, 1]], dtype=torch.float64)
        value = nt_xent(z0, z0 + 1e-7, 0.05).item()
        assert value == pytest.approx(loop_nt_xent(z0, z0 + 1e-7, 0.05).item(), rel=1e-6)

    def test_mistake_columns_normalised_not_rows(self) -> None:
        z0, z1 = pair(4, 9)
        columns = nt_xent(z0 / z0.norm(dim=0), z1 / z1.norm(dim=0))
        assert not torch.isclose(columns, nt_xent(z0, z1), atol=1e-3)

    def test_mistake_log_of_the_mean_not_mean_of_the_logs(self) -> None:
        z0, z1 = pair(2, 3)
        each = torch.stack([loop_info_nce(z0[i : i + 1], z1[i : i + 1], [z1[1 - i]], 0.1) for i in range(2)])
        torch.testing.assert_close(info_nce(z0, z1), each.mean(), rtol=0, atol=1e-10)
        assert not torch.isclose(-(-each).exp().mean().log(), each.mean(), atol=1e-3)

    def test_mistake_own_key_among_the_negatives(self) -> None:
        """The bank is read before the keys enter it, so the first step has no negatives."""
        q, k = pair(4, 8)
        loss = NTXentLoss(0.2, MemoryBank(16, 8))
        assert loss(q, k).item() == 0
        assert loss(q, k).item() > 0


class TestNTXentLossWithBank:
    def test_is_info_nce_against_past_keys(self) -> None:
        loss = NTXentLoss(0.2, MemoryBank(6, 3)).double()
        seen: list[Tensor] = []
        for seed in range(3):
            q, k = pair(4, 3, seed)
            expected = loop_info_nce(q, k.detach(), seen[-6:], 0.2)
            torch.testing.assert_close(loss(q, k), expected, rtol=0, atol=1e-10)
            seen.extend(k.detach())

    def test_no_gradient_into_keys(self) -> None:
        loss = NTXentLoss(0.2, MemoryBank(6, 3))
        for seed in range(2):
            q, k = pair(4, 3, seed)
            loss(q, k).backward()
            assert k.grad is None
            assert q.grad is not None
            assert q.grad.ne(0).any() == (seed == 1)  # without negatives the gradient is zero

    def test_eval_enqueues_nothing(self) -> None:
        bank = MemoryBank(6, 3)
        loss = NTXentLoss(0.2, bank).eval()
        loss(*pair(4, 3))
        assert bank.filled == 0
        loss.train()(*pair(4, 3))
        assert bank.filled == 4
        torch.testing.assert_close(bank.keys[:4].norm(dim=1), torch.ones(4))

    def test_mixed_precision(self) -> None:
        loss = NTXentLoss(0.2, MemoryBank(6, 3))
        for dtype in (torch.float16, torch.bfloat16, torch.float64):
            q, k = (z.detach().to(dtype) for z in pair(4, 3))
            assert loss(q, k).isfinite()


class TestErrors:
    def test_shapes_are_named(self) -> None:
        asked = r"must have one shape \(n, d\), n at least 1, got "
        with pytest.raises(ValueError, match=rf"nt_xent: z0 and z1 {asked}\(4, 8\) and \(5, 8\)"):
            nt_xent(torch.zeros(4, 8), torch.zeros(5, 8))
        with pytest.raises(ValueError, match=rf"info_nce: query and key {asked}\(4, 8\) and \(4, 7\)"):
            info_nce(torch.zeros(4, 8), torch.zeros(4, 7))
        with pytest.raises(ValueError, match=rf"{asked}\(0, 8\) and \(0, 8\)"):
            nt_xent(torch.zeros(0, 8), torch.zeros(0, 8))
        with pytest.raises(ValueError, match=rf"{asked}\(8,\) and \(8,\)"):
            nt_xent(torch.zeros(8), torch.zeros(8))

    def test_negatives_are_named(self) -> None:
        q = torch.ones(4, 8)
        with pytest.raises(ValueError, match=r"info_nce: negatives must be .* got \(9, 7\) and query \(4, 8\)"):
            info_nce(q, q, torch.ones(9, 7))
        asked = r"info_nce: valid must be \(9,\) torch.bool for 9 negatives, got "
        with pytest.raises(ValueError, match=rf"{asked}\(8,\) torch.bool"):
            info_nce(q, q, torch.ones(9, 8), torch.ones(8, dtype=torch.bool))
        with pytest.raises(ValueError, match=rf"{asked}\(9,\) torch.float32"):
            info_nce(q, q, torch.ones(9, 8), torch.ones(9))
        with pytest.raises(ValueError, match=r"info_nce: own must be .* got \(4, 2, 7\) and query \(4, 8\)"):
            info_nce(q, q, own=torch.ones(4, 2, 7))
        with pytest.raises(ValueError, match=r"info_nce: own must be .* got \(4, 8\) and query \(4, 8\)"):
            info_nce(q, q, own=q)
        with pytest.raises(ValueError, match="give both or neither"):
            info_nce(q, q, valid=torch.ones(4, dtype=torch.bool))

    @pytest.mark.parametrize("temperature", [0, -0.1, float("nan")])
    def test_temperature(self, temperature: float) -> None:
        q = torch.ones(4, 8)
        refused: dict[str, Callable[[], object]] = {
            "NTXentLoss": lambda: NTXentLoss(temperature),
            "InfoNCELoss": lambda: InfoNCELoss(temperature),
            "nt_xent": lambda: nt_xent(q, q, temperature),
            "info_nce": lambda: info_nce(q, q, temperature=temperature),
        }
        for owner, call in refused.items():
            with pytest.raises(ValueError, match=f"^{owner}: temperature must be above 0, got {temperature}$"):
                call()


def test_modules_equal_their_functions() -> None:
    (q, k), (negatives, _) = pair(), pair(3, seed=1)
    valid = torch.tensor([True, False, True])
    assert torch.equal(NTXentLoss(0.3)(q, k), nt_xent(q, k, 0.3))
    assert torch.equal(InfoNCELoss(0.3)(q, k), info_nce(q, k, temperature=0.3))
    assert torch.equal(InfoNCELoss(0.3)(q, k, negatives, valid), info_nce(q, k, negatives, valid, 0.3))
    own = torch.stack([k, q], 1)
    assert torch.equal(InfoNCELoss(0.3)(q, k, own=own), info_nce(q, k, temperature=0.3, own=own))
    assert repr(NTXentLoss(0.3)) == "NTXentLoss(temperature=0.3)"
    assert repr(InfoNCELoss(0.3)) == "InfoNCELoss(temperature=0.3)"
