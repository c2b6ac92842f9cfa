"""Files and pages of what a classifier finds on test images, compared with scikit-learn and read back."""

import csv
import json
import re
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from PIL import Image
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, balanced_accuracy_score  # type: ignore[import-untyped]

from lightly_aug.report import Measured, _compare, measure_features, write_classification, write_page

ODD = [
    "a long name, *starred* and [linked](x), of many words",
    "<b>|pipes|</b> $\\frac$ `code`",
    "__init__",
    "clock_motion",
]
"""Names that Markdown, HTML and Matplotlib would read."""


def draw_features(n: int, classes: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw features of n images of each class, some of them nearer to those of another class."""
    rng = torch.Generator().manual_seed(seed)
    labels = torch.arange(classes).repeat_interleave(n)
    return torch.randn(n * classes, 6, generator=rng) + 1.5 * torch.eye(classes, 6)[labels], labels


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, Figure]:
    """Figures by the name of the file that they were written to."""
    figures: dict[str, Figure] = {}
    save = Figure.savefig

    def keep(figure: Figure, file: Path, **options: Any) -> None:
        figures[Path(file).name] = figure
        save(figure, file, **options)

    monkeypatch.setattr(Figure, "savefig", keep)
    return figures


def check_inside(figure: Figure) -> None:
    """Fail if a text of the figure is cut off, or two titles overlap the axes."""
    figure.draw_without_rendering()
    box, page = figure.get_tightbbox(), figure.bbox_inches
    assert box is not None
    assert min(box.x0, box.y0) >= -0.02
    assert box.x1 <= page.x1 + 0.02
    assert box.y1 <= page.y1 + 0.02


def write_images(folder: Path, count: int) -> list[Path]:
    rng, files = np.random.default_rng(0), [folder / f"{i}$x$.png" for i in range(count)]
    for file in files:
        Image.fromarray(rng.integers(0, 256, (16, 20, 3), dtype=np.uint8)).save(file)
    return files


def write_odd_page(folder: Path, *, draws: int = 0) -> dict[str, Measured]:
    """Write a page about features of classes with odd names."""
    (x, y), (x_test, y_test) = draw_features(12, 4, 0), draw_features(5, 4, 1)
    measured = {
        "trained": measure_features(x, y, x_test, y_test, classes=4, k=5, draws=draws),
        "untrained": measure_features(x.abs(), y, x_test.abs(), y_test, classes=4, k=5, draws=draws),
    }
    files = write_images(folder, len(y_test))
    write_page(
        folder, title="A page & more", facts=["A fact."], measured=measured, x_test=x_test, y_test=y_test,
        images=files, names=[file.name for file in files], classes=ODD, settings={"k": 5, "run": "a<b"},
    )  # fmt: skip
    return measured


def test_files_of_a_classification_agree(tmp_path: Path) -> None:
    _, labels = draw_features(9, 7, 0)
    scores = torch.randn(len(labels), 7, generator=torch.Generator().manual_seed(2)) + torch.eye(7)[labels]
    names, classes = [f'{i}, or "it".png' for i in range(len(labels))], [*ODD, "é", "six", "seven"]
    write_classification(tmp_path, scores, labels, names, classes, title="x", settings={"k": 3})
    with (tmp_path / "predictions.csv").open(newline="", encoding="utf-8") as opened:
        rows = list(csv.DictReader(opened))
    assert [row["name"] for row in rows] == names
    truth, found = [row["class"] for row in rows], [row["predicted"] for row in rows]
    assert truth == [classes[i] for i in labels.tolist()]
    assert found == [classes[int(np.argmax(row))] for row in scores.double().numpy()]
    assert [row["right"] for row in rows] == [str(int(a == b)) for a, b in zip(truth, found, strict=True)]
    metrics = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["top1"]["value"] == pytest.approx(accuracy_score(truth, found))
    assert metrics["balanced"]["value"] == pytest.approx(balanced_accuracy_score(truth, found))
    five = [label in row.argsort()[-5:] for label, row in zip(labels.tolist(), scores.numpy(), strict=True)]
    assert metrics["top5"]["value"] == pytest.approx(np.mean(five))
    assert (metrics["images"], metrics["k"]) == (63, 3)


@pytest.mark.parametrize("classes", [2, 3, 4])
def test_no_text_of_a_confusion_matrix_is_cut_off(classes: int, tmp_path: Path, drawn: dict[str, Figure]) -> None:
    title = "vit_small_patch16_224 trained with moco-v3, linear classifier"
    labels = torch.arange(classes).repeat(3)
    write_classification(
        tmp_path, torch.eye(classes)[labels], labels, [*map(str, labels)], ODD[:classes], title=title, settings={}
    )
    check_inside(drawn["confusion.png"])
    axes = drawn["confusion.png"].axes[0]
    assert min(axes.get_position().size * drawn["confusion.png"].get_size_inches()) > 0.3 * classes


def test_pictures_of_a_page_show_odd_names_as_they_are(tmp_path: Path, drawn: dict[str, Figure]) -> None:
    write_odd_page(tmp_path, draws=2)
    assert sorted(drawn) == ["confusion.png", "labels.png", "map.png", "neighbours.png"]
    for name in ("confusion.png", "map.png"):
        check_inside(drawn[name])
    # a formula would have to be parsed, which \frac alone is not
    ticks = [text.get_text() for text in drawn["confusion.png"].axes[0].get_yticklabels()]
    assert ticks == ["a long nam…any words", "<b>|pipes|…c$ `code`", "__init__", "clock_motion"]


def test_names_in_a_page_are_text(tmp_path: Path) -> None:
    measured = write_odd_page(tmp_path)
    page, text = ((tmp_path / f"report.{kind}").read_text(encoding="utf-8") for kind in ("html", "md"))
    assert "http" not in re.sub(r'src="data:[^"]*"', "", page)
    assert "<title>A page &amp; more</title>" in page
    assert page.count('src="data:image/png;base64,') == page.count("<img ") == 3
    assert not {"<b>", "<a ", "<em>", "<strong>"} & set(re.findall(r"<[a-z]+[ >]", page))
    shown = unescape(re.sub("<[^>]*>", "", page))
    guesses, truth = measured["trained"].linear.argmax(1).tolist(), np.repeat(range(4), 5).tolist()
    errors = [(a, b) for a, b in zip(truth, guesses, strict=True) if a != b]
    assert {a for pair in errors for a in pair} == {0, 1, 2, 3}, "all names occur"
    for a, b in sorted(set(errors), key=errors.count)[-5:]:
        if sum(errors.count(pair) >= errors.count((a, b)) for pair in set(errors)) <= 5:
            assert f"{errors.count((a, b))} of 5 images of {ODD[a]} are taken for {ODD[b]}\n" in shown
    assert '"run": "a<b"' in shown
    assert "untrained" in text


def test_a_class_that_no_training_image_has_is_never_predicted() -> None:
    (x, y), (x_test, y_test) = draw_features(6, 3, 0), draw_features(4, 3, 1)
    kept = y != 1
    found = measure_features(x[kept], y[kept], x_test, y_test, classes=3, k=100)
    for scores in (found.knn, found.linear):
        assert scores.shape == (12, 3)
        assert 1 not in scores.argmax(1).tolist()
    assert found.curves == {}


# --- what the figures say ---------------------------------------------------------------------------------------


def answer(right: "list[int]") -> torch.Tensor:
    """Scores of two classes that are right on images of class 0 where `right` is 1."""
    return torch.eye(2)[1 - torch.tensor(right)]


def pair(both: int, first: int, second: int, neither: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    scores = answer([1] * both + [1] * first + [0] * second + [0] * neither)
    others = answer([1] * both + [0] * first + [1] * second + [0] * neither)
    return scores, others, torch.zeros(len(scores), dtype=torch.int64)


def newcombe(a: int, b: int, c: int, d: int) -> tuple[float, float, float]:
    """The interval by its definition, with limits of Wilson from SciPy."""
    n = a + b + c + d
    p, q = (a + b) / n, (a + c) / n
    (low, high), (least, most) = (binomtest(k, n).proportion_ci(method="wilson") for k in (a + b, a + c))
    product = (a + b) * (c + d) * (a + c) * (b + d)
    numerator = float(a * d - b * c)
    numerator = max(numerator - n / 2, 0) if numerator > 0 else numerator
    phi = numerator / product**0.5 if product else 0.0
    below = (p - low) ** 2 - 2 * phi * (p - low) * (most - q) + (most - q) ** 2
    above = (high - p) ** 2 - 2 * phi * (high - p) * (q - least) + (q - least) ** 2
    return p - q, p - q - max(below, 0) ** 0.5, p - q + max(above, 0) ** 0.5


def test_the_interval_of_a_difference_is_that_of_the_paper() -> None:
    """The example of Newcombe 1998, table II: 36, 12, 2 and 0 pairs."""
    assert _compare(*pair(36, 12, 2, 0)) == pytest.approx((0.2, 0.0569, 0.3404), abs=5e-5)


@given(counts=st.lists(st.integers(0, 30), min_size=4, max_size=4).filter(any))
def test_the_interval_of_a_difference(counts: list[int]) -> None:
    found, back = _compare(*pair(*counts)), _compare(*pair(counts[0], counts[2], counts[1], counts[3]))
    assert found == pytest.approx(newcombe(*counts), abs=1e-9)
    assert back == pytest.approx((-found.value, -found.high, -found.low), abs=1e-9)
    assert found.low <= found.value <= found.high


@pytest.mark.parametrize(
    ("linear", "knn", "said"),
    [
        (
            (30, 25, 1, 4),
            (20, 30, 2, 8),
            "^The trained backbone is better than the untrained one: [+]40.0 points .* classifier, [+]46.7 points ",
        ),
        (
            (30, 1, 25, 4),
            (20, 2, 30, 8),
            "^The trained backbone is worse than the untrained one: -40.0 points .* classifier, -46.7 points .*s.$",
        ),
        (
            (28, 2, 3, 7),
            (20, 5, 5, 10),
            "^40 test images show no difference between the trained and the untrained backbone: -2.5 .*, [+]0.0 ",
        ),
        (
            (30, 25, 1, 4),
            (20, 15, 15, 10),
            "better than the untrained one: [+]40.0 points .* with the linear classifier; 60 test images show no ",
        ),
    ],
)
def test_a_page_concludes_what_the_intervals_allow(
    linear: tuple[int, ...], knn: tuple[int, ...], said: str, tmp_path: Path
) -> None:
    (own, other, y), (near, far, _) = pair(*linear), pair(*knn)
    measured = {
        "trained": Measured(near, own, {}),
        "untrained": Measured(far, other, {}),
    }
    x = torch.randn(len(y), 4, generator=torch.Generator().manual_seed(0))
    images = write_images(tmp_path, len(y))
    shown = write_page(
        tmp_path, title="A page", facts=[], measured=measured, x_test=x, y_test=y, images=images,
        names=[file.name for file in images], classes=["a", "b"], settings={},
    )  # fmt: skip
    conclusion = shown.split("\n")[-1]
    assert re.search(said, conclusion)
    assert conclusion in (tmp_path / "report.md").read_text()
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["conclusion"] == conclusion
    assert metrics["difference"]["linear"]["value"] == pytest.approx(newcombe(*linear)[0])


@pytest.mark.parametrize(("right", "better"), [(19, True), (11, False)])
def test_a_backbone_alone_is_compared_with_guessing(right: int, better: bool, tmp_path: Path) -> None:
    y = torch.tensor([0] * 10 + [1] * 10)
    scores = torch.eye(2)[torch.where(torch.arange(20) < right, y, 1 - y)]
    images = write_images(tmp_path, 20)
    shown = write_page(
        tmp_path, title="A page", facts=[], measured={"trained": Measured(scores, scores, {})},
        x_test=torch.randn(20, 4), y_test=y, images=images, names=[file.name for file in images], classes=["a", "b"],
        settings={},
    )  # fmt: skip
    start = "The backbone is better than guessing" if better else "20 test images do not show more than guessing"
    assert f"\n{start} the most frequent class, 50.0 %: {right * 5}.0 % (" in shown
