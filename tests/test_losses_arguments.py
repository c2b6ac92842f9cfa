"""What losses share: published defaults, constants on the device of the inputs, refusals; DINO's deferred centre."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from lightly_aug.loss import (
    AMDIMLoss,
    BarlowTwinsLoss,
    DINOLoss,
    InfoNCELoss,
    NCELoss,
    NTXentLoss,
    PAWSLoss,
    SwaVLoss,
    amdim,
    barlow_twins,
    cpc,
    dino,
    info_nce,
    log_normalizer,
    nce,
    nt_xent,
    paws,
    sharpen,
    sinkhorn,
    snn,
    swav,
)


def rows(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


Z0, Z1, NEGATIVES = rows(4, 6), rows(4, 6, seed=1), rows(5, 6, seed=2)
SCORES = [rows(4, 5, seed=seed) for seed in range(3)]
SHARES = [score.softmax(1) for score in SCORES[:2]]
MAPS0, MAPS1 = ((rows(3, 4, seed=s), rows(3, 4, 2, 2, seed=s), rows(3, 4, 3, 3, seed=s)) for s in (0, 1))
PLACES = torch.tensor([[0, 3, 1], [2, 2, 0]])
SUPPORTS, LABELS = rows(7, 6, seed=3), torch.tensor([0, 1, 0, 2, 1, 2, 2])
ONE_HOT = torch.nn.functional.one_hot(LABELS, 3).float()
LOG_Z = torch.tensor(3.0)
PAWS_VIEWS = ([Z0, Z1, NEGATIVES[:4]], [Z1, Z0], SUPPORTS, SUPPORTS.flip(1))

# each function with tensors, and the defaults that its documentation promises
FUNCTIONS: dict[str, tuple[Callable[..., Tensor], tuple[Any, ...], dict[str, Any]]] = {
    "amdim": (amdim, (MAPS0, MAPS1, PLACES), {"clip": 20.0, "penalty": 5e-2}),
    "barlow_twins": (barlow_twins, (Z0, Z1), {"redundancy": 5.1e-3}),
    "cpc": (cpc, ({1: rows(3, 4, 3, 3, seed=5)}, MAPS1[2]), {}),
    "dino": (dino, (SCORES, SCORES[:2], SCORES[2][0]), {"teacher_temperature": 0.04, "temperature": 0.1}),
    "info_nce": (info_nce, (Z0, Z1), {"temperature": 0.1}),
    "info_nce with negatives": (info_nce, (Z0, Z1, NEGATIVES), {"temperature": 0.1}),
    "log_normalizer": (log_normalizer, (Z0, NEGATIVES, 50), {"temperature": 0.07}),
    "nce": (nce, (Z0, Z1, NEGATIVES, 50, LOG_Z), {"temperature": 0.07}),
    "nt_xent": (nt_xent, (Z0, Z1), {"temperature": 0.1}),
    "paws": (paws, (*PAWS_VIEWS, ONE_HOT), {"temperature": 0.1, "sharpening": 0.25}),
    "sharpen": (sharpen, (SHARES[0],), {"temperature": 0.25}),
    "sinkhorn": (sinkhorn, (SCORES[0],), {"epsilon": 0.05, "iterations": 3}),
    "snn": (snn, (Z0, SUPPORTS, ONE_HOT), {"temperature": 0.1}),
    "swav": (swav, (SCORES, SHARES), {"temperature": 0.1}),
}

MODULES = [
    (AMDIMLoss, (), "AMDIMLoss(clip=20.0, penalty=0.05)"),
    (BarlowTwinsLoss, (), "BarlowTwinsLoss(redundancy=0.0051)"),
    (DINOLoss, (5,), "DINOLoss(dim=5, temperature=0.1, momentum=0.9)"),
    (InfoNCELoss, (), "InfoNCELoss(temperature=0.1)"),
    (NCELoss, (50,), "NCELoss(images=50, temperature=0.07)"),
    (NTXentLoss, (), "NTXentLoss(temperature=0.1)"),
    (PAWSLoss, (3,), "PAWSLoss(classes=3, temperature=0.1, sharpening=0.25, smoothing=0.1)"),
    (SwaVLoss, (), "SwaVLoss(temperature=0.1, epsilon=0.05, iterations=3)"),
]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_defaults_are_those_that_are_documented(name: str) -> None:
    function, tensors, defaults = FUNCTIONS[name]
    assert torch.equal(function(*tensors), function(*tensors, **defaults))


@pytest.mark.parametrize(("kind", "arguments", "shown"), MODULES)
def test_defaults_of_modules_are_those_that_are_documented(kind: Any, arguments: tuple[Any, ...], shown: str) -> None:
    assert repr(kind(*arguments)) == shown


def test_the_default_temperature_of_the_teacher_is_that_of_the_function() -> None:
    loss = DINOLoss(5).eval()
    assert torch.equal(loss(SCORES, SCORES[:2]), loss(SCORES, SCORES[:2], 0.04))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_constants_are_made_on_the_device_of_the_inputs(name: str) -> None:
    """The default device is another one, whose tensors hold no values."""
    function, tensors, _ = FUNCTIONS[name]
    expected = function(*tensors)
    with torch.device("meta"):
        assert torch.equal(function(*tensors), expected)


def refused(call: Callable[[], object], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        call()


def test_maps_of_another_shape_in_both_views_are_refused() -> None:
    for place, shape in [(1, (3, 4, 4)), (2, (3, 4, 9)), (1, (3, 5, 2, 2)), (2, (2, 4, 3, 3))]:
        wrong = tuple(rows(*shape) if i == place else x for i, x in enumerate(MAPS0))
        refused(lambda wrong=wrong: amdim(wrong, wrong, PLACES), r"^amdim: maps must be \(n, d\), ")  # type: ignore[misc]


def test_one_of_two_arguments_that_is_no_matrix_is_refused() -> None:
    refused(lambda: snn(rows(4, 6, 2), SUPPORTS, ONE_HOT), "^snn: z and supports must be ")
    refused(lambda: snn(Z0, rows(7, 6, 2), ONE_HOT), "^snn: z and supports must be ")
    refused(lambda: log_normalizer(rows(4, 6, 2), NEGATIVES, 50), "^log_normalizer: negatives must be ")
    refused(lambda: nce(Z0, Z1, rows(5, 6, 2), 50, LOG_Z), "^nce: negatives must be ")


def test_labels_that_are_no_class_numbers_are_refused() -> None:
    for labels in (LABELS.int(), LABELS[:, None]):
        refused(lambda labels=labels: PAWSLoss(3)(*PAWS_VIEWS, labels), r"^PAWSLoss: labels must be \(m,\) torch.int64")  # type: ignore[misc]


def test_no_rows_are_refused_and_one_is_taken() -> None:
    empty = rows(0, 6)
    refused(lambda: paws([empty] * 3, [empty] * 2, *PAWS_VIEWS[2:], ONE_HOT), "^paws: anchors must all have one shape ")
    refused(lambda: swav([rows(0, 5)] * 3, [rows(0, 5)] * 2), "^swav: views and targets must all have one shape ")
    refused(lambda: cpc({1: rows(0, 4, 3, 3)}, rows(0, 4, 3, 3)), "^cpc: targets must be ")
    anchors, targets = ([view[:1] for view in views] for views in PAWS_VIEWS[:2])
    for loss in (
        paws(anchors, targets, *PAWS_VIEWS[2:], ONE_HOT),
        swav([score[:1] for score in SCORES], [share[:1] for share in SHARES]),
        cpc({1: rows(1, 1, 3, 1)}, rows(1, 1, 3, 1, seed=1)),
    ):
        assert loss.isfinite()


def test_what_must_come_together_is_said() -> None:
    valid = torch.ones(5, dtype=torch.bool)
    refused(
        lambda: info_nce(Z0, Z1, valid=valid), "^info_nce: negatives must be given with valid, got None: give both "
    )
    refused(
        lambda: SwaVLoss()(SCORES, valid=[valid] * 2), "^SwaVLoss: queued must be given with valid, got None: give "
    )
    refused(lambda: cpc({}, MAPS0[2]), "^cpc: predictions must have at least one offset, got none$")


def test_rows_of_two_precisions_are_computed_in_the_wider() -> None:
    z0, z1, negatives = Z0, Z1.double(), NEGATIVES.double()
    expected = info_nce(z0.double(), z1, negatives)
    assert info_nce(z0, z1, negatives).dtype == torch.float64
    torch.testing.assert_close(info_nce(z0, z1, negatives), expected, rtol=1e-6, atol=0)


def test_rows_are_sharpened_each_by_its_own_greatest_share() -> None:
    """The second row is so much smaller that its powers would be 0 beside those of the first."""
    p = torch.tensor([[0.5, 0.5], [1e-12, 3e-12]])
    expected = torch.tensor([[0.5, 0.5], [1 / 82, 81 / 82]])
    torch.testing.assert_close(sharpen(p), expected)


def test_the_last_class_may_have_no_supports() -> None:
    """Smoothing shares its part among the two classes that have some."""
    labels = LABELS.clamp(max=1)
    smooth = torch.full((7, 3), 0.05).index_fill(1, torch.tensor([2]), 0)
    smooth[torch.arange(7), labels] = 0.95
    torch.testing.assert_close(PAWSLoss(3)(*PAWS_VIEWS, labels), paws(*PAWS_VIEWS, smooth))


class TestDeferredCentre:
    def test_batches_since_the_last_update_count_as_one(self) -> None:
        loss = DINOLoss(5, momentum=0.7, defer=True)
        loss.center.copy_(rows(5))
        before = loss.center.clone()
        for teacher in (SCORES[:2], SCORES[1:]):
            loss(SCORES, teacher)
            assert torch.equal(loss.center, before)
        mean = torch.stack([torch.cat(teacher).mean(0) for teacher in (SCORES[:2], SCORES[1:])]).mean(0)
        for _ in range(2):  # the second time there is no batch to count
            loss.update()
            torch.testing.assert_close(loss.center, 0.7 * before + 0.3 * mean)

    def test_a_batch_that_is_not_finite_does_not_count(self) -> None:
        loss = DINOLoss(5, defer=True)
        with pytest.warns(UserWarning, match="^DINOLoss: left out 8 rows that are not finite"):
            loss(SCORES, [SCORES[0] * torch.inf, SCORES[1]])
        loss(SCORES, SCORES[:2])
        loss.update()
        torch.testing.assert_close(loss.center, 0.1 * torch.cat(SCORES[:2]).mean(0))

    def test_only_the_centre_is_saved(self) -> None:
        assert list(DINOLoss(5).state_dict()) == ["center"]
