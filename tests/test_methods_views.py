"""Methods of many views, or of parts of views, against steps by hand; and the errors of each."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers.by_hand import assert_same_losses, average, contrast, copy_modules, cosine, first_batches, mean, units
from helpers.methods import METHODS, Batch, batches, make_optimiser, tiny, train
from timm.layers.drop import DropPath
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from lightly_aug.models import AMDIM, CPC, DINO, PAWS, PIRL, LooC, SwaV, amdim_encoder


@pytest.fixture(autouse=True)
def seed_torch() -> None:
    torch.manual_seed(0)


def stack_rows(matrix: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(matrix))


def normalise_rows(x: Tensor) -> Tensor:
    return stack_rows([row / (row @ row).sqrt() for row in x])


def embed_by_size(f: nn.Module, views: Sequence[Tensor]) -> Tensor:
    """Compute features of two large and two small views, each size as one batch."""
    return torch.cat([f(torch.cat(list(views[:2]))), f(torch.cat(list(views[2:])))]).flatten(1)


def assert_refused(message: str, call: Callable[..., object], *args: Any, **kwargs: Any) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        call(*args, **kwargs)


class TestSwaV:
    @staticmethod
    def assign(scores: Tensor, epsilon: float) -> Tensor:
        """Scale the columns, then the rows, to one sum, three times."""
        q = (scores / epsilon).exp()
        for _ in range(3):
            q = torch.stack([column / column.sum() for column in q.T], dim=1)
            q = stack_rows([row / row.sum() for row in q])
        return q

    @pytest.mark.parametrize(("queue", "start"), [(0, 0.0), (12, 0.0), (12, 0.25)])
    def test_equals_steps_by_hand(self, queue: int, start: float) -> None:
        """With batches of 8, a queue of 12 is full two steps after its start at step 0 or step 2 of 8."""
        model = SwaV(tiny(), hidden=32, dim=8, prototypes=10, epsilon=0.2, queue=queue, queue_from=start).double()
        f, g, c = copy_modules(model.backbone, model.projector, model.prototypes)
        queues: list[list[Tensor]] = [[], []]
        used = []

        def loss(batch: Batch, progress: float) -> Tensor:
            z = normalise_rows(g(embed_by_size(f, batch.views))).chunk(4)
            scores = [stack_rows([stack_rows([row @ w for w in c.weight]) for row in view]) for view in z]
            terms = []
            for a in (0, 1):
                together = scores[a].detach()
                if queue and len(queues[a]) == queue:
                    together = torch.cat([together, stack_rows(queues[a]) @ c.weight.detach().T])
                    used.append(progress)
                q = self.assign(together, 0.2)[:8]
                for v in range(4):
                    if v != a:
                        terms += [-(q[i] * (scores[v][i] / 0.1).log_softmax(0)).sum() for i in range(8)]
                if progress >= start:
                    queues[a] = [*queues[a], *units(z[a])][-queue:]
            return mean(terms)

        def after(progress: float) -> None:
            c.weight.data = normalise_rows(c.weight.data)

        assert_same_losses(model, first_batches("SwAV", 6), [f, g, c], loss, after)
        first = {0: 8, 12: 4 if start else 2}[queue]
        assert used == [step / 8 for step in range(first, 6) for _ in range(2)]

    def test_queues_take_this_batch(self) -> None:
        """Each queue takes its own view, not the other."""
        model, batch = METHODS["SwAV"].model(tiny()).eval().double(), first_batches("SwAV", 1)[0]
        z = [normalise_rows(model.projector(model.embed(x))).detach() for x in batch.views[:2]]
        for bank in model.queues:
            bank.train()
        batch.loss(model)
        for bank, own in zip(model.queues, z, strict=True):
            torch.testing.assert_close(bank.keys[:8], own)
            assert bank.filled == 8

    def test_frozen_prototypes(self) -> None:
        model, data = METHODS["SwAV"].model(tiny(), frozen_until=0.5), batches("SwAV")
        optimiser, weight = make_optimiser(model), model.prototypes.weight
        start = weight.clone()
        for step in range(4):
            torch.autograd.backward(next(data).loss(model))
            assert (weight.grad is None) == (step < 2)
            optimiser.step()
            optimiser.zero_grad()
            model.after_step((step + 1) / 4)
            assert torch.allclose(weight, start, atol=1e-6) == (step < 2)

    def test_prototypes_have_unit_length(self) -> None:
        model = METHODS["SwAV"].model(tiny())
        for steps in (0, 3):
            train(model, make_optimiser(model, lr=1), batches("SwAV"), steps)
            torch.testing.assert_close(model.prototypes.weight.norm(dim=1), torch.ones(10))

    def test_errors(self) -> None:
        assert_refused("SwaV: prototypes must be an integer >= 1, got 0", SwaV, tiny(), prototypes=0)
        assert_refused("SwaVLoss: epsilon must be above 0, got 0", SwaV, tiny(), epsilon=0)
        assert_refused("MemoryBank: size must be an integer >= 1, got -1", SwaV, tiny(), queue=-1)
        model, x = METHODS["SwAV"].model(tiny()), torch.rand(4, 3, 16, 16)
        assert_refused("SwaV: views must be at least 2, got 1: (4, 3, 16, 16)", model, [x])
        asked = "SwaV: views must be at least 2 of the same images, the first 2 of one shape, got 2: "
        assert_refused(asked, model, [x, x[..., 2:]])


class TestDINO:
    @pytest.mark.parametrize("norm_last_layer", [True, False])
    def test_equals_steps_by_hand(self, norm_last_layer: bool) -> None:
        """The last layer is frozen for 2 steps of 8, the temperature warms up for 4; the centre is one step old."""
        options: dict[str, Any] = {
            "teacher_temperature": (0.04, 0.2),
            "warmup": 0.5,
            "frozen_until": 0.25,
            "momentum": 0.8,
            "norm_last_layer": norm_last_layer,
        }
        model = DINO(tiny(), hidden=32, bottleneck=8, dim=16, **options).double()
        f, g, last = copy_modules(model.backbone, *model.head)
        f_t, g_t, last_t = copy_modules(f, g, last)
        center = torch.zeros(16, dtype=torch.float64)

        def outputs(network: nn.Module, layer: Any, features: Tensor) -> tuple[Tensor, ...]:
            lengths = [1.0] * 16 if norm_last_layer else list(layer.length)
            rows = [
                stack_rows([length * cosine(x, w) for length, w in zip(lengths, layer.weight, strict=True)])
                for x in network(features)
            ]
            return torch.split(stack_rows(rows), 8)

        def loss(batch: Batch, progress: float) -> Tensor:
            nonlocal center
            student = outputs(g, last, embed_by_size(f, batch.views))
            teacher = outputs(g_t, last_t, f_t(torch.cat(batch.views[:2])).flatten(1))
            sharp = 0.04 + (0.2 - 0.04) * min(1, progress / 0.5)
            terms = []
            for a, t in enumerate(teacher):
                for v, s in enumerate(student):
                    if v != a:
                        for i in range(8):
                            target = ((t[i].detach() - center) / sharp).softmax(0)
                            terms.append(-(target * (s[i] / 0.1).log_softmax(0)).sum())
            center = 0.9 * center + 0.1 * sum(row.detach() for t in teacher for row in t) / 16
            return mean(terms)

        def edit(progress: float) -> None:
            if progress < 0.25:
                for parameter in last.parameters():
                    parameter.grad = None

        def after(progress: float) -> None:
            before = progress - 1 / 8  # step k of K uses the momentum of k / K, k from 0
            momentum = 1 - (1 - 0.8) * (math.cos(math.pi * before) + 1) / 2
            for slow, fast in ((f_t, f), (g_t, g), (last_t, last)):
                average(slow, fast, momentum)

        assert_same_losses(model, first_batches("DINO", 6), [f, g, last], loss, after, edit)

    def test_without_warm_up_the_temperature_is_the_last(self) -> None:
        def loss(**options: Any) -> float:
            torch.manual_seed(0)
            model = METHODS["DINO"].model(tiny(), **options)
            return next(batches("DINO")).loss(model).item()

        assert loss(teacher_temperature=(0.04, 0.07), warmup=0) == loss(teacher_temperature=(0.07, 0.07))
        assert loss(teacher_temperature=(0.04, 0.07)) == loss(teacher_temperature=(0.04, 0.04))

    def test_centre_moves_with_every_step(self) -> None:
        model, data = METHODS["DINO"].model(tiny(), momentum=1.0).eval(), batches("DINO")
        batch = next(data)
        teacher = model.teacher(torch.cat(batch.views[:2])).mean(0)
        model.loss.train()
        for share in (0.1, 0.19):
            batch.loss(model)
            model.follow(0.0)
            torch.testing.assert_close(model.loss.center, share * teacher)

    def test_teacher_has_no_stochastic_depth(self) -> None:
        backbone: Any = nn.Sequential(DropPath(0.3), StochasticDepth(0.4, "row"), nn.Dropout(0.2), tiny())
        teacher: Any = DINO(backbone, hidden=32, bottleneck=8, dim=16).teacher.network.get_submodule("0")
        assert (backbone[0].drop_prob, backbone[1].p, backbone[2].p) == (0.3, 0.4, 0.2)
        assert (teacher[0].drop_prob, teacher[1].p, teacher[2].p) == (0, 0, 0.2)

    def test_errors(self) -> None:
        asked = "DINO: teacher_temperature must be two values above 0, got (0.04, 0)"
        assert_refused(asked, DINO, tiny(), teacher_temperature=(0.04, 0))
        assert_refused("DINO: dim must be an integer >= 1, got 0", DINO, tiny(), dim=0)
        assert_refused("DINO: momentum must lie in [0, 1], got -0.1", DINO, tiny(), momentum=-0.1)
        x = torch.rand(4, 3, 16, 16)
        assert_refused("DINO: views must be at least 2, got 1", METHODS["DINO"].model(tiny()), [x])


class TestPIRL:
    @pytest.mark.parametrize("kind", ["nce", "info_nce"])
    def test_equals_steps_by_hand(self, kind: Any) -> None:
        """The first batch comes twice; the second time its entries have changed."""
        options = {"negatives": 20, "momentum": 0.7, "weight": 0.3, "temperature": 0.2, "loss": kind}
        model = PIRL(tiny(), images=32, patches=4, dim=8, **options).double()
        f, image, patch, jigsaw = copy_modules(model.backbone, model.image_head, model.patch_head, model.jigsaw_head)
        memory = list(model.memory.clone())
        torch.testing.assert_close(torch.stack([m @ m for m in memory]), torch.ones(32, dtype=torch.float64))
        log_z: list[float] = []

        def nce(query: Tensor, key: Tensor, others: list[Tensor]) -> Tensor:
            def p(x: Tensor) -> Tensor:
                return (cosine(query, x) / 0.2 - log_z[0]).exp()

            noise = 20 / 32
            return -(p(key) / (p(key) + noise)).log() - sum((noise / (p(x) + noise)).log() for x in others)

        def loss(batch: Batch, progress: float) -> Tensor:
            v = image(f(batch.views[0]).flatten(1))
            parts = patch(f(torch.cat(batch.views[1:])).flatten(1)).split(8)
            w = stack_rows([jigsaw(torch.cat([part[i] for part in parts])) for i in range(8)])
            others = [memory[j] for j in torch.randint(32, (20,)).tolist()]
            if not log_z:
                exponentials = [(cosine(x, m) / 0.2).exp().item() for x in w for m in others]
                log_z.append(math.log(32 * sum(exponentials) / len(exponentials)))
            terms = []
            for i, place in enumerate(batch.index.tolist()):
                for weight, query in ((0.3, w[i]), (0.7, v[i])):
                    key = memory[place]
                    term = nce(query, key, others) if kind == "nce" else contrast(query, key, others, 0.2)
                    terms.append(weight * term)
            for place, own in zip(batch.index.tolist(), units(v), strict=True):
                memory[place] = units(0.7 * memory[place] + 0.3 * own[None])[0]
            return torch.stack(terms).sum() / 8

        first, second = first_batches("PIRL", 2)
        assert_same_losses(model, [first, first, second], [f, image, patch, jigsaw], loss)
        torch.testing.assert_close(model.memory, stack_rows(memory))

    def test_only_entries_of_the_batch_move(self) -> None:
        model, batch = METHODS["PIRL"].model(tiny()), replace(next(batches("PIRL")), index=torch.arange(3, 19, 2))
        before = model.memory.clone()
        batch.loss(model)
        moved = (model.memory != before).any(1).nonzero()[:, 0]
        assert moved.tolist() == batch.index.tolist()

    def test_order_of_the_patches_matters(self) -> None:
        model, batch = METHODS["PIRL"].model(tiny()).eval(), next(batches("PIRL"))

        def loss(order: list[int]) -> Tensor:
            torch.manual_seed(0)
            return replace(batch, views=[batch.views[i] for i in order]).loss(model)

        assert loss([0, 1, 2, 3, 4]) == loss([0, 1, 2, 3, 4])
        assert (loss([0, 2, 1, 3, 4]) - loss([0, 1, 2, 3, 4])).abs() > 1e-5

    def test_errors(self) -> None:
        build = METHODS["PIRL"].model
        assert_refused("PIRL: loss must be one of 'nce', 'info_nce', got 'x'", build, tiny(), loss="x")
        for name in ("images", "patches", "dim", "negatives"):
            assert_refused(f"PIRL: {name} must be an integer >= 1, got 0", build, tiny(), **{name: 0})
        assert_refused("PIRL: weight must lie in [0, 1], got 1.1", build, tiny(), weight=1.1)
        assert_refused("PIRL: momentum must lie in [0, 1], got -1", build, tiny(), momentum=-1)
        model, batch = build(tiny()), next(batches("PIRL"))
        asked = "PIRL: index must be the place in the dataset of each of 8 images, got "
        assert_refused(asked + "None: wrap the dataset in Indexed", model, batch.views)
        assert_refused(asked + "(5,)", model, batch.views, index=batch.index[:5])
        assert_refused("PIRL: views must be 5, got 4", model, batch.views[:4], index=batch.index)
        asked = "PIRL: index must be below images=32 and not negative, got 25 to 32: set images to the length of the"
        assert_refused(asked, model, batch.views, index=torch.arange(25, 33))


class TestPAWS:
    @pytest.mark.parametrize(("predictor", "support_views"), [(True, 1), (True, 2), (False, 2)])
    def test_equals_steps_by_hand(self, predictor: bool, support_views: int) -> None:
        options: dict[str, Any] = {"predictor": predictor, "support_views": support_views, "smoothing": 0.2}
        model = PAWS(tiny(), classes=3, hidden=32, dim=8, temperature=0.3, sharpening=0.5, **options).double()
        f, g, h = copy_modules(model.backbone, model.projector, model.predictor)

        def labels_of(queries: Tensor, supports: Tensor, labels: list[Tensor]) -> Tensor:
            means = []
            for x in queries:
                weights = torch.stack([(cosine(x, s) / 0.3).exp() for s in supports])
                means.append((weights[:, None] * stack_rows(labels)).sum(0) / weights.sum())
            return stack_rows(means)

        def sharp(p: Tensor) -> Tensor:
            return stack_rows([row**2 / (row**2).sum() for row in p])

        def loss(batch: Batch, progress: float) -> Tensor:
            labelled = [i for i, label in enumerate(batch.targets.tolist()) if label >= 0]
            unlabelled = [i for i in range(8) if i not in labelled]
            large = [batch.views[v][i] for v in range(support_views) for i in labelled]
            large += [batch.views[v][i] for v in (0, 1) for i in unlabelled]
            small = [batch.views[v][i] for v in (2, 3) for i in unlabelled]
            targets = g(torch.cat([f(torch.stack(large)), f(torch.stack(small))]).flatten(1))
            anchors = h(targets)
            count, n = support_views * len(labelled), len(unlabelled)
            labels, present = [], {int(batch.targets[i]) for i in labelled}
            for i in labelled * support_views:
                label = torch.tensor([0.2 / len(present) * (c in present) for c in range(3)], dtype=torch.float64)
                label[batch.targets[i]] += 1 - 0.2
                labels.append(label)
            t = sharp(labels_of(targets[count : count + 2 * n], targets[:count], labels)).detach()
            p = labels_of(anchors[count:], anchors[:count], labels)
            terms = []
            for v in range(4):
                for i in range(n):
                    target = {0: t[n + i], 1: t[i]}.get(v, (t[i] + t[n + i]) / 2)
                    terms.append(-sum(q * x.log() for q, x in zip(target, p[v * n + i], strict=True) if q >= 1e-4))
            average = sharp(p).mean(0)[sorted(present)]
            return mean(terms) + (average * average.log()).sum()

        data = [replace(batch, targets=batch.targets.roll(i)) for i, batch in enumerate(first_batches("PAWS", 4))]
        data[1] = replace(data[1], targets=torch.tensor([2, 1, -1, 0, 2, -1, 0, -1]))
        assert_same_losses(model, data, [f, g, h], loss)

    def test_order_in_the_batch_does_not_matter(self) -> None:
        model, batch = METHODS["PAWS"].model(tiny(), support_views=2).double(), first_batches("PAWS", 1)[0]
        loss, order = batch.loss(model), torch.tensor([5, 0, 7, 2, 6, 1, 3, 4])
        shuffled = Batch([x[order] for x in batch.views], batch.targets[order], batch.index)
        torch.testing.assert_close(shuffled.loss(model), loss, rtol=0, atol=1e-10)
        wrong = Batch([x[order] for x in batch.views], batch.targets, batch.index)
        assert (wrong.loss(model) - loss).abs() > 1e-3

    def test_errors(self) -> None:
        build = METHODS["PAWS"].model
        assert_refused("PAWS: support_views must be one of 1, 2, got 3", build, tiny(), support_views=3)
        assert_refused("PAWSLoss: classes must be an integer >= 1, got 0", build, tiny(), classes=0)
        assert_refused("PAWSLoss: smoothing must lie in [0, 1], got 2", build, tiny(), smoothing=2)
        assert_refused("PAWSLoss: sharpening must be above 0, got 0", build, tiny(), sharpening=0)
        model, batch = build(tiny()), next(batches("PAWS"))
        asked = "PAWS: targets must be a label for each of 8 images, -1 where there is none, got "
        assert_refused(asked + "None", model, batch.views)
        assert_refused(asked + "(7,)", model, batch.views, targets=batch.targets[1:])
        for targets, came in ((torch.zeros(8).long(), "8 with and 0 without"), (torch.full((8,), -1), "0 with and 8")):
            assert_refused(f"in every batch, got {came}", model, batch.views, targets=targets)


class TestAMDIM:
    @staticmethod
    def head(module: nn.Module, x: Tensor) -> Tensor:
        """Add shortcut and hidden layer at every place, then apply BatchNorm."""

        def pixels(weight: Tensor, x: Tensor) -> Tensor:
            return torch.einsum("oi,nihw->nohw", weight[:, :, 0, 0], x)

        state = dict(module.named_parameters())
        hidden = pixels(state["hidden.weight"], x).clamp(min=0)
        y = pixels(state["shortcut.weight"], x) + pixels(state["out.weight"], hidden)
        y = y + state["shortcut.bias"][:, None, None]
        return nn.functional.batch_norm(y, None, None, state["norm.weight"], state["norm.bias"], True)

    def test_equals_steps_by_hand(self) -> None:
        """The places of 5→5 are drawn from the same seed as in the model, those of view 0 first."""
        model = AMDIM(tiny(), maps=("4", "2"), size=16, clip=3.0, penalty=0.1).double()
        f, coarse, fine = copy_modules(model.backbone, *model.heads)

        def scale(source: Tensor, target: Tensor) -> Tensor:
            """`source` (n, d), `target` (n, d, h, w)."""
            n, d = source.shape
            raw = [[source[i] @ target[j].flatten(1) / math.sqrt(d) for j in range(n)] for i in range(n)]
            terms = []
            for i in range(n):
                s = [3 * (row / 3).tanh() for row in raw[i]]
                others = torch.stack([s[j].exp().sum() for j in range(n) if j != i]).sum()
                terms += [-(x.exp() / (x.exp() + others)).log() for x in s[i]]
            return mean(terms) + 0.1 * mean((x**2).mean() for row in raw for x in row)

        def loss(batch: Batch, progress: float) -> Tensor:
            r1, r5, r7 = [], [], []
            for x in batch.views:
                large = f[2](f[1](f[0](x)))
                small = f[4](f[3](large))
                assert (large.shape[2:], small.shape[2:]) == ((7, 7), (3, 3))
                r1.append(f[5](small).flatten(1))
                r5.append(self.head(coarse, small))
                r7.append(self.head(fine, large))
            places = torch.randint(9, (2, 6)).tolist()
            terms = []
            for a in (0, 1):
                local = stack_rows([r5[a][i, :, place // 3, place % 3] for i, place in enumerate(places[a])])
                b = 1 - a
                terms.append(scale(r1[a], r5[b]) + scale(r1[a], r7[b]) + scale(local, r5[b]))
            return mean(terms)

        assert_same_losses(model, first_batches("AMDIM", 3, rows=6), [f, coarse, fine], loss)

    def test_heads_start_near_the_identity(self) -> None:
        model, x = AMDIM(tiny(), maps=("4", "2"), size=16), torch.randn(64, 16, 3, 3)
        expected = nn.functional.batch_norm(x, None, None, training=True)
        difference = (model.heads[0](x) - expected).abs()
        assert 0.001 < difference.mean() < 0.05

    def test_hooks_are_removed(self) -> None:
        backbone = tiny()
        model = AMDIM(backbone, maps=("4", "2"), size=16)
        next(batches("AMDIM")).loss(model)
        assert not any(m._forward_hooks for m in backbone.modules())

    def test_errors(self) -> None:
        build = METHODS["AMDIM"].model
        asked = "AMDIM: maps must name modules of the backbone (0, 1, 2, 3, 4, 5), got ['7']"
        assert_refused(asked, build, tiny(), maps=("7", "2"))
        asked = "AMDIM: maps must name modules that output (n, c, h, w), got "
        assert_refused(asked + "'1' with (2, 16)", build, nn.Sequential(tiny(), nn.Flatten()), maps=("1", "0.2"))
        unused = tiny()
        unused[5].append = nn.Conv2d(16, 16, 1)
        assert_refused(asked + "'5.append' with nothing", build, unused, maps=("5.append", "2"))
        assert_refused("AMDIMLoss: clip must be above 0, got 0", build, tiny(), clip=0)
        assert_refused("AMDIMLoss: penalty must be at least 0, got -1", build, tiny(), penalty=-1)
        x = torch.rand(4, 3, 16, 16)
        assert_refused("AMDIM: views must be two of one shape, got 3", build(tiny()), [x, x, x])

    @pytest.mark.parametrize(
        ("size", "sides"),
        [
            (32, [30, 30, 14, 7, 5, 3, 1, 1]),
            (64, [62, 30, 14, 7, 5, 3, 1, 1]),
            (128, [64, 62, 30, 14, 7, 5, 3, 1, 1]),
        ],
    )
    def test_encoder(self, size: int, sides: list[int]) -> None:
        """The official code has one more layer of 7x7, a norm that is off by default."""
        encoder = amdim_encoder(size, width=2, dim=4, depth=2)
        x, seen, named = torch.rand(2, 3, size, size), [], {}
        for name, layer in encoder.named_children():
            x = layer(x)
            assert x.shape[2] == x.shape[3]
            seen.append(x.shape[2])
            named[name] = x.shape[2]
        assert seen == sides
        assert (named["local7"], named["local5"]) == (7, 5)
        assert x.shape == (2, 4, 1, 1)
        AMDIM(encoder, size=size)

    @pytest.mark.parametrize(
        ("size", "width", "dim", "depth", "millions"),
        [(32, 128, 1024, 3, 20.05), (64, 192, 1536, 3, 129.97), (128, 192, 1536, 8, 208.5)],
    )
    def test_as_many_parameters_as_the_official_code(
        self, size: int, width: int, dim: int, depth: int, millions: float
    ) -> None:
        with torch.device("meta"):
            model = AMDIM(amdim_encoder(size, width=width, dim=dim, depth=depth), size=size)
        assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, rel=1e-3)

    def test_encoder_starts_as_average_pooling(self) -> None:
        encoder = amdim_encoder(32, width=2, dim=4, depth=2)
        x = torch.rand(2, 4, 14, 14)
        expected = nn.functional.pad(nn.functional.avg_pool2d(x, 2, 2), (0, 0, 0, 0, 0, 4))
        torch.testing.assert_close(encoder.get_submodule("local7")(x), expected)

    def test_encoder_sees_parts_of_the_image(self) -> None:
        """No feature of 5x5 depends on the whole image."""
        encoder = amdim_encoder(64, width=8, dim=16, depth=2).eval()
        x = torch.rand(1, 3, 64, 64, requires_grad=True)
        y = x
        for name, layer in encoder.named_children():
            y = layer(y)
            if name == "local5":
                break
        (gradient,) = torch.autograd.grad(y[0, :, 0, 0].sum(), x)
        assert gradient[..., :32, :32].any()
        assert not gradient[..., 32:, :].any()
        assert not gradient[..., :, 32:].any()

    def test_encoder_errors(self) -> None:
        assert_refused("amdim_encoder: size must be one of 32, 64, 128, got 96", amdim_encoder, 96)
        for name in ("width", "dim", "depth"):
            assert_refused(f"amdim_encoder: {name} must be an integer >= 1, got 0", amdim_encoder, 32, **{name: 0})


class TestCPC:
    @staticmethod
    def context(network: nn.Module, grid: list[list[Tensor]]) -> list[list[Tensor]]:
        """Compute places `(n, d)`, each from its row and the one above, by five layers written place by place."""
        side = len(grid)
        for block in list(network.children())[:-1]:
            p = dict(block.named_parameters())

            def layer(name: str, x: Tensor, i: int = 0, j: int = 0, p: dict[str, nn.Parameter] = p) -> Tensor:
                return x @ p[f"{name}.weight"][:, :, i, j].T

            reduced = [[(layer("reduce", x) + p["reduce.bias"]).clamp(min=0) for x in row] for row in grid]
            across = [
                [
                    p["across.bias"]
                    + sum(layer("across", row[c + s], 0, s + 1) for s in (-1, 0, 1) if 0 <= c + s < side)
                    for c in range(side)
                ]
                for row in reduced
            ]
            following: list[list[Tensor]] = [[] for _ in range(side)]
            for r in range(side):
                for c in range(side):
                    y = p["down.bias"] + layer("down", across[r][c], 1, 0)
                    if r > 0:
                        y = y + layer("down", across[r - 1][c], 0, 0)
                    following[r].append(grid[r][c] + layer("expand", y.clamp(min=0)) + p["expand.bias"])
            grid = following
        return [[x.clamp(min=0) for x in row] for row in grid]

    @pytest.mark.parametrize(("offsets", "directions"), [((1, 2), 4), ((2,), 3), ((1,), 1)])
    def test_equals_steps_by_hand(self, offsets: tuple[int, ...], directions: int) -> None:
        """Every offset counts once; directions are quarter turns of the grid."""
        options: dict[str, Any] = {"offsets": offsets, "directions": directions}
        model = CPC(tiny(), patch=12, stride=6, grid=3, context=5, blocks=2, dim=4, **options).double()
        f, context, target, predictors = copy_modules(model.backbone, model.context, model.target, model.predictors)

        def linear(module: nn.Conv2d, x: Tensor) -> Tensor:
            assert module.bias is not None
            return x @ module.weight[:, :, 0, 0].T + module.bias

        def loss(batch: Batch, progress: float) -> Tensor:
            features = f(torch.cat(batch.views)).flatten(1).split(4)  # of each place
            grid = [[features[3 * r + c] for c in range(3)] for r in range(3)]
            sums = []
            for _ in range(directions):
                seen = self.context(context, grid)
                targets = {
                    (i, r, c): linear(target, grid[r][c])[i] for r in range(3) for c in range(3) for i in range(4)
                }
                for k in offsets:
                    terms = []
                    for r in range(3 - k):
                        for c in range(3):
                            predicted = 0.1 * linear(predictors[str(k)], seen[r][c])
                            for i in range(4):
                                logits = torch.stack([predicted[i] @ t for t in targets.values()])
                                right = list(targets).index((i, r + k, c))
                                terms.append(-logits.log_softmax(0)[right])
                    sums.append(mean(terms))
                grid = [[grid[c][2 - r] for c in range(3)] for r in range(3)]  # counterclockwise
            return mean(sums)

        assert_same_losses(model, first_batches("CPC v2", 3, rows=4), [f, context, target, predictors], loss)

    def test_context_does_not_depend_on_rows_below(self) -> None:
        model = METHODS["CPC v2"].model(tiny(), context=8, blocks=5, grid=7)
        x = torch.randn(2, 16, 7, 7)
        context = model.context(x)
        for row in range(6):
            other = x.clone()
            other[:, :, row + 1 :] = torch.randn(2, 16, 6 - row, 7)
            changed = model.context(other)
            assert torch.equal(changed[:, :, : row + 1], context[:, :, : row + 1])
            assert (changed[:, :, row + 1 :] != context[:, :, row + 1 :]).any(1).all()

    def test_every_offset_counts_once(self) -> None:
        seen: list[list[int]] = []
        model = METHODS["CPC v2"].model(tiny(), offsets=None, directions=2)
        model.loss.register_forward_pre_hook(lambda module, args: seen.append(sorted(args[0])))
        next(batches("CPC v2")).loss(model)
        assert seen == [[2], [2]]
        assert list(CPC(tiny(), patch=16, grid=7).predictors) == ["2", "3", "4", "5", "6"]

    @pytest.mark.parametrize(("height", "width", "places"), [(12, 12, 1), (24, 24, 9), (20, 29, 6), (17, 40, 5)])
    def test_embed_images_of_other_sizes(self, height: int, width: int, places: int) -> None:
        model, x = METHODS["CPC v2"].model(tiny()).eval(), torch.rand(2, 3, height, width)  # patches of 12, 6 apart
        patches = [
            x[:, :, top : top + 12, left : left + 12]
            for top in range(0, height - 11, 6)
            for left in range(0, width - 11, 6)
        ]
        assert len(patches) == places
        expected = torch.stack([model.backbone(patch)[:, :, 0, 0] for patch in patches]).mean(0)
        torch.testing.assert_close(model.embed(x), expected)

    def test_errors(self) -> None:
        build = METHODS["CPC v2"].model
        for offsets in ((), (0,), (3,), (1, 5)):
            message = f"CPC: offsets must be from 1 to 2 in a grid of 3 rows, got {offsets}"
            assert_refused(message, build, tiny(), offsets=offsets)
        assert_refused("CPC: offsets must be from 1 to 1 in a grid of 2 rows, got ()", build, tiny(), grid=2)
        for directions in (0, 5):
            message = f"CPC: directions must be one of 1, 2, 3, 4, got {directions}"
            assert_refused(message, build, tiny(), directions=directions)
        for name in ("patch", "stride", "context", "blocks", "dim"):
            assert_refused(f"CPC: {name} must be an integer >= 1, got 0", build, tiny(), **{name: 0})
        model = build(tiny())
        assert_refused("CPC: views must be 9, got 8", model, [torch.rand(2, 3, 12, 12)] * 8)
        message = "CPC: images must be at least as large as a patch of 12, got 11x30"
        assert_refused(message, model.embed, torch.rand(2, 3, 11, 30))


class TestLooC:
    def test_equals_steps_by_hand(self) -> None:
        """Positives are k_0 in space 0, and k_i in space i with the image's other keys as negatives; queues get k_0."""
        model = LooC(tiny(), groups=2, dim=8, queue=12, momentum=0.8, temperature=0.3).double()
        f, *heads = copy_modules(model.backbone, *model.heads)
        f_k, *heads_k = copy_modules(f, *heads)
        queues: list[list[Tensor]] = [[], [], []]

        def loss(batch: Batch, progress: float) -> Tensor:
            q, *k = batch.views
            query = f(q).flatten(1)
            features = [f_k(x).flatten(1) for x in k]
            terms = []
            for space in range(3):
                keys = [heads_k[space](x).detach() for x in features]
                for i, row in enumerate(heads[space](query)):
                    own = [keys[j][i] for j in range(3) if j != space] if space else []
                    terms.append(contrast(row, keys[space][i], [*queues[space], *own], 0.3))
                queues[space] = [*queues[space], *units(keys[0])][-12:]
            return mean(terms)

        def after(progress: float) -> None:
            for slow, fast in zip([f_k, *heads_k], [f, *heads], strict=True):
                average(slow, fast, 0.8)

        data = [replace(batch, views=batch.views[:4]) for batch in first_batches("LooC", 4)]
        assert_same_losses(model, data, [f, *heads], loss, after)

    def test_embed_spaces(self) -> None:
        model, x = METHODS["LooC"].model(tiny()).eval(), torch.rand(3, 3, 16, 16)
        spaces = model.embed_spaces(x)
        expected = [normalise_rows(head(model.embed(x))) for head in model.heads]
        torch.testing.assert_close(spaces, torch.cat(expected, dim=1))
        assert spaces.shape == (3, 4 * 8)

    def test_errors(self) -> None:
        build = METHODS["LooC"].model
        assert_refused("LooC: groups must be an integer >= 1, got 0", build, tiny(), groups=0)
        assert_refused("MemoryBank: size must be an integer >= 1, got 0", build, tiny(), queue=0)
        model, x = build(tiny()), torch.rand(4, 3, 16, 16)
        assert_refused("LooC: views must be 5, got 4", model, [x] * 4)
        asked = "LooC: views must be 5 of the same images, the first 5 of one shape, got 5: "
        assert_refused(asked, model, [x, x, x, x, x[..., 1:]])
