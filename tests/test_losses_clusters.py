"""The losses of assignments and classes against loops over the papers' formulas, and known mistakes of others."""

import math
from collections.abc import Callable, Sequence

import pytest
import torch
from helpers.pairs import same_with_gradients
from torch import Tensor

from lightly_aug.loss import DINOLoss, PAWSLoss, SwaVLoss, dino, paws, sharpen, sinkhorn, snn, swav


def random(*shape: int, seed: int = 0) -> Tensor:
    x = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return x.requires_grad_()


def views(count: int, n: int = 4, k: int = 5, seed: int = 0) -> list[Tensor]:
    return [random(n, k, seed=10 * seed + v) for v in range(count)]


def distributions(count: int, n: int = 4, k: int = 5) -> list[Tensor]:
    return [x.detach().softmax(1) for x in views(count, n, k, seed=7)]


def loop_sinkhorn(scores: Tensor, epsilon: float, iterations: int) -> Tensor:
    """Assign as the paper's code does, without logarithms."""
    q = (scores.detach() / epsilon).exp()
    q = q / q.sum()
    n, k = q.shape
    for _ in range(iterations):
        for j in range(k):
            q[:, j] = q[:, j] / q[:, j].sum() / k
        for i in range(n):
            q[i] = q[i] / q[i].sum() / n
    return q * n


def loop_cross_views(scores: Sequence[Tensor], targets: Sequence[Tensor], temperature: float) -> Tensor:
    means = []
    for a, target in enumerate(targets):
        others = []
        for v, view in enumerate(scores):
            if v != a:
                for q, s in zip(target, view, strict=True):
                    p = (s / temperature).exp() / (s / temperature).exp().sum()
                    others.append(-(q * p.log()).sum())
        means.append(torch.stack(others).mean())
    return torch.stack(means).mean()


def loop_snn(z: Tensor, supports: Tensor, labels: Tensor, temperature: float) -> Tensor:
    rows = []
    for x in z:
        weights = [(x @ s / (x.norm() * s.norm()) / temperature).exp() for s in supports]
        rows.append(sum(w * label for w, label in zip(weights, labels, strict=True)) / sum(weights))
    return torch.stack(rows)


def loop_sharpen(p: Tensor, temperature: float) -> Tensor:
    return torch.stack([row ** (1 / temperature) / (row ** (1 / temperature)).sum() for row in p])


def loop_paws(
    anchors: Sequence[Tensor],
    targets: Sequence[Tensor],
    supports: tuple[Tensor, Tensor],
    labels: Tensor,
    temperature: float,
    sharpening: float,
    threshold: float = 1e-4,
) -> Tensor:
    t0, t1 = (loop_sharpen(loop_snn(t, supports[1], labels, temperature), sharpening).detach() for t in targets)
    terms, sharp = [], []
    for view, anchor in enumerate(anchors):
        target = {0: t1, 1: t0}.get(view, (t0 + t1) / 2)
        p = loop_snn(anchor, supports[0], labels, temperature)
        sharp.append(loop_sharpen(p, sharpening))
        for row, each in zip(target, p, strict=True):
            terms.append(-sum(t * each[c].log() for c, t in enumerate(row) if t >= threshold))
    mean = torch.cat(sharp).mean(0)
    return torch.stack(terms).mean() + (mean * mean.log()).sum()


class TestSinkhorn:
    @pytest.mark.parametrize("iterations", [1, 3, 10])
    @pytest.mark.parametrize("epsilon", [0.05, 0.5])
    def test_formula(self, epsilon: float, iterations: int) -> None:
        scores = random(7, 4).tanh()
        q = sinkhorn(scores, epsilon, iterations)
        torch.testing.assert_close(q, loop_sinkhorn(scores, epsilon, iterations), rtol=0, atol=1e-10)
        torch.testing.assert_close(q.sum(1), torch.ones(7, dtype=torch.float64), rtol=0, atol=1e-12)
        assert not q.requires_grad

    def test_shares_become_equal(self) -> None:
        q = sinkhorn(random(8, 4), 0.5, 200)
        torch.testing.assert_close(q.sum(0), torch.full((4,), 2.0, dtype=torch.float64), rtol=0, atol=1e-6)

    def test_invalid_rows_are_ignored(self) -> None:
        scores, valid = random(7, 4).detach(), torch.tensor([True, False, True, True, False, True, True])
        expected = sinkhorn(scores[valid])
        scores[1], scores[4] = torch.nan, 1e30
        q = sinkhorn(scores, valid=valid)
        torch.testing.assert_close(q[valid], expected, rtol=0, atol=1e-12)
        assert q[~valid].eq(0).all()
        assert sinkhorn(scores, valid=torch.zeros(7, dtype=torch.bool)).eq(0).all()

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
    def test_any_epsilon_in_any_precision(self, dtype: torch.dtype) -> None:
        scores = random(16, 8).to(dtype).detach()
        for epsilon in (1e-4, 0.05, 10.0):
            q = sinkhorn(100 * scores, epsilon)
            assert q.dtype == torch.float32
            torch.testing.assert_close(q.sum(1), torch.ones(16))
        torch.testing.assert_close(sinkhorn(scores).double(), sinkhorn(scores.double()), rtol=1e-4, atol=1e-5)

    def test_autocast_changes_nothing(self) -> None:
        scores = random(16, 8).float()
        with torch.autocast("cpu", torch.bfloat16):
            q = sinkhorn(scores)
        assert torch.equal(q, sinkhorn(scores))


@pytest.mark.parametrize(("assigned", "count"), [(1, 2), (2, 2), (2, 4), (3, 3)])
class TestCrossViews:
    def test_swav_formula(self, assigned: int, count: int) -> None:
        scores, targets = views(count), distributions(assigned)
        value, expected = swav(scores, targets, 0.3), loop_cross_views(scores, targets, 0.3)
        used = scores[1:] if assigned == 1 else scores  # a view is not compared with itself
        same_with_gradients(value, expected, *used)
        torch.autograd.backward(swav(scores, [q.requires_grad_() for q in targets]))
        assert all(q.grad is None for q in targets)

    def test_dino_formula(self, assigned: int, count: int) -> None:
        student, teacher, center = views(count), views(assigned, seed=1), random(5, seed=3).detach()
        targets = [torch.stack([((t - center) / 0.2).exp() for t in view]).detach() for view in teacher]
        targets = [t / t.sum(1, keepdim=True) for t in targets]
        used = student[1:] if assigned == 1 else student
        for temperature in (0.2, torch.tensor(0.2, dtype=torch.float64)):
            value = dino(student, teacher, center, temperature, 0.3)
            same_with_gradients(value, loop_cross_views(student, targets, 0.3), *used)
        torch.autograd.backward(dino(student, teacher, center))
        assert all(t.grad is None for t in teacher)


class TestSwaV:
    def test_assignments_of_the_module(self) -> None:
        scores = views(3)
        targets = [loop_sinkhorn(s, 0.5, 4) for s in scores[:2]]
        same_with_gradients(SwaVLoss(0.3, 0.5, 4)(scores), loop_cross_views(scores, targets, 0.3), *scores)

    def test_queued_rows_are_assigned_too(self) -> None:
        scores, queued = views(3), views(2, n=6, seed=2)
        valid = [torch.arange(6) < 4, torch.arange(6) != 2]
        for masks in (None, valid):
            real = [torch.ones(6, dtype=torch.bool)] * 2 if masks is None else masks
            rows = [torch.cat([x[m], s]) for x, m, s in zip(queued, real, scores[:2], strict=True)]
            targets = [loop_sinkhorn(r, 0.5, 3)[-4:] for r in rows]
            value = SwaVLoss(0.3, 0.5)(scores, queued, masks)
            same_with_gradients(value, loop_cross_views(scores, targets, 0.3), *scores)
        assert [*torch.autograd.grad(value, queued, allow_unused=True)] == [None, None]

    def test_one_assigned_view(self) -> None:
        scores = views(3)
        expected = loop_cross_views(scores, [loop_sinkhorn(scores[0], 0.5, 3)], 0.3)
        torch.testing.assert_close(SwaVLoss(0.3, 0.5)(scores, assigned=1), expected, rtol=0, atol=1e-10)

    def test_views_may_be_swapped(self) -> None:
        a, b = views(2)
        torch.testing.assert_close(SwaVLoss()([a, b]), SwaVLoss()([b, a]), rtol=0, atol=1e-12)


class TestDINO:
    def test_views_may_not_be_swapped(self) -> None:
        student, teacher, center = views(2), views(2, seed=1), torch.zeros(5)
        assert not torch.isclose(dino(student, teacher, center), dino(teacher, student, center))

    def test_only_training_moves_the_centre(self) -> None:
        loss = DINOLoss(5).eval()
        loss(views(2), views(2, seed=1))
        assert loss.center.eq(0).all()

    def test_the_centre_is_part_of_the_state(self) -> None:
        loss, resumed = DINOLoss(5), DINOLoss(5)
        loss(views(2), views(2, seed=1))
        resumed.load_state_dict(loss.state_dict())
        assert torch.equal(resumed(views(2), views(2)), loss(views(2), views(2)))

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_the_centre_of_half_precision(self, dtype: torch.dtype) -> None:
        loss, teacher = DINOLoss(5, momentum=0), [(300 * t).to(dtype) for t in views(2, n=300, seed=1)]
        loss([t.to(dtype) for t in views(2, n=300)], teacher)
        torch.testing.assert_close(loss.center.double(), torch.cat(teacher).double().mean(0), rtol=1e-5, atol=1e-3)


class TestPAWS:
    def problem(self, count: int) -> tuple[list[Tensor], list[Tensor], tuple[Tensor, Tensor], Tensor]:
        """Return anchors of width 5, targets of width 3, nine supports and their labels of four classes."""
        labels = (torch.arange(9)[:, None] % 4 == torch.arange(4)).double()
        return views(count), views(2, k=3, seed=1), (random(9, 5, seed=5), random(9, 3, seed=6)), labels

    @pytest.mark.parametrize("smoothing", [0.0, 0.1])
    @pytest.mark.parametrize("count", [2, 3, 5])
    def test_formula(self, count: int, smoothing: float) -> None:
        anchors, targets, supports, labels = self.problem(count)
        labels = (1 - smoothing) * labels + smoothing / 4
        value = paws(anchors, targets, *supports, labels, 0.2, 0.3)
        expected = loop_paws(anchors, targets, supports, labels, 0.2, 0.3)
        same_with_gradients(value, expected, *anchors, supports[0])
        kept = loop_paws(anchors, targets, supports, labels, 0.2, 0.3, threshold=0.0)
        assert not torch.isclose(value, kept, rtol=0, atol=1e-9)  # some entries are below the threshold
        torch.autograd.backward(paws(anchors, targets, *supports, labels))
        assert all(x.grad is None for x in (*targets, supports[1]))

    def test_labels_of_the_module(self) -> None:
        anchors, targets, supports, labels = self.problem(3)
        smooth = torch.where(labels == 1, torch.tensor(0.85, dtype=torch.float64), 0.05)
        value = PAWSLoss(4, 0.2, 0.3, smoothing=0.2)(anchors, targets, *supports, torch.arange(9) % 4)
        expected = loop_paws(anchors, targets, supports, smooth, 0.2, 0.3)
        torch.testing.assert_close(value, expected, rtol=0, atol=1e-10)

    def test_snn_and_sharpen(self) -> None:
        (z, _), _, (supports, _), labels = self.problem(2)
        p = snn(z, supports, labels, 0.2)
        same_with_gradients(p.square().sum(), loop_snn(z, supports, labels, 0.2).square().sum(), z, supports)
        torch.testing.assert_close(p.sum(1), torch.ones(4, dtype=torch.float64))
        x = random(4, 5).softmax(1)
        for temperature in (0.25, 1.0, 3.0):
            expected = loop_sharpen(x, temperature)
            torch.testing.assert_close(sharpen(x, temperature), expected, rtol=0, atol=1e-12)
        torch.testing.assert_close(sharpen(x, 1.0), x)

    def test_sharpening_many_small_numbers(self) -> None:
        p = torch.full((2, 1000), 1e-3)
        torch.testing.assert_close(sharpen(p, 0.01), p)

    def test_order_of_supports_does_not_matter(self) -> None:
        anchors, targets, (one, other), labels = self.problem(3)
        order, value = torch.tensor([3, 1, 4, 0, 2, 8, 6, 7, 5]), paws(anchors, targets, one, other, labels)
        torch.testing.assert_close(paws(anchors, targets, one[order], other[order], labels[order]), value)
        assert not torch.isclose(paws(anchors, targets, one[order], other[order], labels), value)

    def test_views_may_be_swapped_together_only(self) -> None:
        anchors, targets, supports, labels = self.problem(2)
        value = paws(anchors, targets, *supports, labels)
        torch.testing.assert_close(paws(anchors[::-1], targets[::-1], *supports, labels), value)
        assert not torch.isclose(paws(anchors, targets[::-1], *supports, labels), value)

    def test_a_class_without_supports(self) -> None:
        anchors, targets, supports, labels = self.problem(3)
        labels = torch.cat([labels, torch.zeros(9, 2)], 1)
        for dtype in (torch.float64, torch.float32, torch.float16):
            inputs = [x.detach().to(dtype).requires_grad_() for x in (*anchors, *targets, *supports)]
            value = paws(inputs[:3], inputs[3:5], inputs[5], inputs[6], labels.to(dtype), temperature=0.01)
            torch.autograd.backward(value)
            assert value.isfinite()
            assert all(x.grad.isfinite().all() for x in (*inputs[:3], inputs[5]) if x.grad is not None)

    def test_entropy_of_equal_shares(self) -> None:
        """Each image has its own class in every view: cross entropy 0, and entropy ln C."""
        z = 10 * torch.eye(4)
        assert paws([z, z], [z, z], z, z, torch.eye(4), 0.01).item() == pytest.approx(-math.log(4), abs=1e-6)


def test_gradcheck() -> None:
    scores, targets, center = views(3), distributions(2), random(5, seed=3).detach()
    assert torch.autograd.gradcheck(lambda *s: swav(s, targets), scores)
    teacher = [t.detach() for t in views(2, seed=1)]
    assert torch.autograd.gradcheck(lambda *s: dino(s, teacher, center), scores)
    anchors, views_of_targets, (one, other), labels = TestPAWS().problem(3)
    still = [t.detach() for t in views_of_targets]
    assert torch.autograd.gradcheck(
        lambda s, *a: paws(a, still, s, other.detach(), 0.9 * labels + 0.025, 0.5), (one, *anchors)
    )
    assert torch.autograd.gradcheck(lambda p: sharpen(p.softmax(1)), scores[0])


@pytest.mark.parametrize("k", [2, 7, 3000])
def test_loss_of_constant_scores_is_the_collapse_value(k: int) -> None:
    z = [torch.full((4, k), 0.3)] * 3
    assert SwaVLoss()(z).item() == pytest.approx(math.log(k), rel=1e-6)
    assert DINOLoss(k)(z, z[:2]).item() == pytest.approx(math.log(k), rel=1e-6)


class TestMistakesOfOthers:
    """Every value is far from the value that the mistake gives."""

    def test_mistake_swav_logarithm_of_a_softmax(self) -> None:
        scores = [torch.tensor([[50.0, -50.0], [-50.0, 50.0]]), torch.tensor([[-50.0, 50.0], [50.0, -50.0]])]
        assert not (scores[0] / 0.1).softmax(1).log().isfinite().all()
        assert SwaVLoss()(scores).item() == pytest.approx(1000)

    def test_mistake_swav_stuck_at_the_collapse_value(self) -> None:
        """With four clusters, rows learn to distinguish them although the targets come from the rows themselves."""
        prototypes = torch.eye(4, dtype=torch.float64)
        z = (torch.cat([prototypes, prototypes]) + 0.5 * random(8, 4)).detach().requires_grad_()
        for _ in range(50):
            cosines = z / z.norm(dim=1, keepdim=True) @ prototypes
            value = SwaVLoss()([cosines, cosines.roll(4, 0)])
            (gradient,) = torch.autograd.grad(value, z)
            z = (z - gradient).detach().requires_grad_()
        assert value < 0.2 * math.log(4)

    def test_mistake_dino_centre_is_updated_before_use(self) -> None:
        loss, center = DINOLoss(5, 0.3, momentum=0.7).double(), torch.zeros(5, dtype=torch.float64)
        for step in range(3):
            student, teacher = views(3, seed=step), views(2, seed=step + 5)
            targets = [((t - center) / 0.2).softmax(1).detach() for t in teacher]
            expected = loop_cross_views(student, targets, 0.3)
            torch.testing.assert_close(loss(student, teacher, 0.2), expected, rtol=0, atol=1e-10)
            center = 0.7 * center + 0.3 * sum(row for t in teacher for row in t).detach() / 8
            torch.testing.assert_close(loss.center, center, rtol=0, atol=1e-12)

    def test_mistake_dino_centre_of_probabilities(self) -> None:
        """The centre is the mean of the raw outputs: it does not sum to 1."""
        loss = DINOLoss(5, momentum=0)
        teacher = [10 + t for t in views(2, seed=1)]
        loss(views(2), teacher)
        torch.testing.assert_close(loss.center.double(), torch.cat(teacher).mean(0).detach(), rtol=1e-6, atol=0)


class TestErrors:
    def test_views(self) -> None:
        x = torch.zeros(4, 5)
        for scores, targets in (([x], [x]), ([x, x], []), ([x, x], [x, x, x])):
            came = f"got {len(scores)} views and {len(targets)} targets"
            with pytest.raises(ValueError, match=f"swav: there must be 2 views or more, and targets .*{came}"):
                swav(scores, targets)
        asked = r"swav: views and targets must all have one shape \(n, k\), n and k at least 1, got "
        with pytest.raises(ValueError, match=asked + r"\[\(4, 5\), \(4, 4\), \(4, 5\)\]"):
            swav([x, x[:, 1:]], [x])
        with pytest.raises(ValueError, match=asked):
            swav([x[0], x[0]], [x[0]])
        asked = r"dino: teacher must be \(n, k\) with the k of center \(k,\), got "
        with pytest.raises(ValueError, match=asked + r"\(4, 5\) and center \(4,\)"):
            dino([x, x], [x], torch.zeros(4))

    def test_sinkhorn(self) -> None:
        x = torch.zeros(4, 5)
        with pytest.raises(ValueError, match=r"sinkhorn: scores must be \(n, k\), n and k at least 1, got \(5,\)"):
            sinkhorn(x[0])
        with pytest.raises(ValueError, match=r"sinkhorn: scores must be .* got \(0, 5\)"):
            sinkhorn(x[:0])
        with pytest.raises(ValueError, match=r"valid must be \(4,\) torch.bool .* got \(3,\) torch.bool"):
            sinkhorn(x, valid=torch.ones(3, dtype=torch.bool))
        with pytest.raises(ValueError, match=r"valid must be \(4,\) torch.bool .* got \(4,\) torch.float32"):
            sinkhorn(x, valid=torch.ones(4))
        refused: list[Callable[[], object]] = [lambda: sinkhorn(x, 0), lambda: SwaVLoss(epsilon=0)]
        for owner, call in zip(("sinkhorn", "SwaVLoss"), refused, strict=True):
            with pytest.raises(ValueError, match=f"{owner}: epsilon must be above 0, got 0"):
                call()
        refused = [lambda: sinkhorn(x, iterations=0), lambda: SwaVLoss(iterations=0)]
        for owner, call in zip(("sinkhorn", "SwaVLoss"), refused, strict=True):
            with pytest.raises(ValueError, match=f"{owner}: iterations must be an integer >= 1, got 0"):
                call()

    def test_queue(self) -> None:
        x, valid = [torch.zeros(4, 5)] * 3, [torch.ones(4, dtype=torch.bool)] * 2
        with pytest.raises(ValueError, match="SwaVLoss: queued must have one tensor per assigned view, 2, got 3"):
            SwaVLoss()(x, x)
        with pytest.raises(ValueError, match="SwaVLoss: valid must have one tensor per assigned view, 1, got 2"):
            SwaVLoss()(x, x[:1], valid, assigned=1)
        with pytest.raises(ValueError, match="give both or neither"):
            SwaVLoss()(x, valid=valid)
        for assigned in (0, 4):
            with pytest.raises(ValueError, match=f"SwaVLoss: assigned must be from 1 to the 3 views, got {assigned}"):
                SwaVLoss()(x, assigned=assigned)

    def test_paws(self) -> None:
        x, labels, loss = torch.zeros(4, 5), torch.full((4, 3), 1 / 3), PAWSLoss(3)
        with pytest.raises(ValueError, match="paws: anchors must be 2 or more and targets 2, got 1 and 2"):
            paws([x], [x, x], x, x, labels)
        with pytest.raises(ValueError, match="paws: anchors must be 2 or more and targets 2, got 2 and 3"):
            paws([x, x], [x, x, x], x, x, labels)
        with pytest.raises(ValueError, match=r"paws: anchors must all have one .* got \[\(4, 5\), \(3, 5\)\]"):
            paws([x, x[1:]], [x, x], x, x, labels)
        with pytest.raises(ValueError, match=r"paws: targets must all have one .* got \[\(3, 5\), \(3, 5\)\]"):
            paws([x, x], [x[1:], x[1:]], x, x, labels)
        with pytest.raises(ValueError, match=r"snn: z and supports must be .* got \(8, 5\) and \(4, 4\)"):
            paws([x, x], [x, x], x[:, 1:], x, labels)
        asked = r"snn: labels must be \(4, c\) of a floating dtype for 4 supports, got "
        with pytest.raises(ValueError, match=asked + r"\(3, 3\) torch.float32"):
            paws([x, x], [x, x], x, x, labels[1:])
        with pytest.raises(ValueError, match=asked + r"\(4, 3\) torch.int64"):
            snn(x, x, labels.long())
        with pytest.raises(
            ValueError, match=r"PAWSLoss: labels must be \(m,\) torch.int64, got \(4, 3\) torch.float32"
        ):
            loss([x, x], [x, x], x, x, labels)

    def test_ranges(self) -> None:
        x = torch.zeros(4, 5)
        refused: dict[str, Callable[[], object]] = {
            "swav: temperature": lambda: swav([x, x], [x], 0),
            "SwaVLoss: temperature": lambda: SwaVLoss(0),
            "dino: temperature": lambda: dino([x, x], [x], x[0], 0.04, 0),
            "dino: teacher_temperature": lambda: DINOLoss(5)([x, x], [x], 0),
            "DINOLoss: temperature": lambda: DINOLoss(5, 0),
            "snn: temperature": lambda: snn(x, x, x, 0),
            "sharpen: temperature": lambda: sharpen(x, 0),
            "paws: temperature": lambda: paws([x, x], [x, x], x, x, x, 0),
            "paws: sharpening": lambda: paws([x, x], [x, x], x, x, x, sharpening=0),
            "PAWSLoss: temperature": lambda: PAWSLoss(3, 0),
            "PAWSLoss: sharpening": lambda: PAWSLoss(3, sharpening=0),
        }
        for name, call in refused.items():
            with pytest.raises(ValueError, match=f"^{name} must be above 0, got 0$"):
                call()
        with pytest.raises(ValueError, match=r"DINOLoss: momentum must lie in \[0, 1\], got 1\.1"):
            DINOLoss(5, momentum=1.1)
        with pytest.raises(ValueError, match="DINOLoss: dim must be an integer >= 1, got 0"):
            DINOLoss(0)
        with pytest.raises(ValueError, match="PAWSLoss: classes must be an integer >= 1, got 0"):
            PAWSLoss(0)
        with pytest.raises(ValueError, match=r"PAWSLoss: smoothing must lie in \[0, 1\], got 1\.1"):
            PAWSLoss(3, smoothing=1.1)


def test_repr_of_modules() -> None:
    assert repr(SwaVLoss(0.2, 0.03, 4)) == "SwaVLoss(temperature=0.2, epsilon=0.03, iterations=4)"
    assert repr(DINOLoss(5, 0.2, 0.8)) == "DINOLoss(dim=5, temperature=0.2, momentum=0.8)"
    assert repr(PAWSLoss(3, 0.2, 0.3, 0)) == "PAWSLoss(classes=3, temperature=0.2, sharpening=0.3, smoothing=0)"
