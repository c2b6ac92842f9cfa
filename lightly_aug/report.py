"""Files of what a classifier finds on test images, and the page that `lightly-aug evaluate` writes."""

import csv
import html
import json
import os
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from math import sqrt
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from lightly_aug.atomic import replace_file
from lightly_aug.evaluate import (
    Accuracy,
    Estimate,
    FewLabelCurve,
    LinearScores,
    accuracy,
    few_label_curve,
    knn_votes,
    linear_scores,
)
from lightly_aug.optional import extra
from lightly_aug.plot import confusion, embedding, label_curve, neighbours
from lightly_aug.status import count_of

__all__ = ["Measured", "measure_features", "spread_scores", "write_classification", "write_page"]

_MAP = 2000
"""Most test images of the map, since t-SNE takes seconds for each thousand."""


class Measured(NamedTuple):
    """What was measured on the features of a network.

    Attributes:
        knn: Votes of the nearest neighbours, `(M, C)`.
        linear: Scores of a linear classifier, `(M, C)`.
        curves: Accuracy by the number of labels, by classifier.
    """

    knn: Tensor
    linear: Tensor
    curves: dict[str, FewLabelCurve]


def measure_features(
    x: Tensor, y: Tensor, x_test: Tensor, y_test: Tensor, *, classes: int, k: int = 20, draws: int = 0, seed: int = 0
) -> Measured:
    """Classify the test images by their nearest neighbours, and by a linear classifier.

    Args:
        x: Features of the training images, `(N, d)`.
        y: Their labels, `(N,)`, 0 to `classes` - 1.
        x_test: Features of the test images, `(M, d)`.
        y_test: Their labels, `(M,)`.
        classes: Number of classes.
        k: Number of neighbours that vote; all N if there are fewer.
        draws: How often the images of each number of labels are drawn for the curves; without draws there are none.
        seed: Seed of these draws.
    """
    curves: dict[str, FewLabelCurve] = {}
    if draws:
        curves = {
            "kNN": few_label_curve(x, y, x_test, y_test, draws=draws, classifier="knn", k=k, seed=seed),
            "linear": few_label_curve(x, y, x_test, y_test, draws=draws, classifier="linear", seed=seed),
        }
    linear = spread_scores(linear_scores(x, y, x_test), classes)
    return Measured(knn_votes(x, y, x_test, classes=classes, k=min(k, len(x))), linear, curves)


def spread_scores(found: LinearScores, classes: int) -> Tensor:
    """Return scores `(n, classes)`; a class that no training image has is never predicted."""
    scores = found.scores.new_full((len(found.scores), classes), -np.inf)
    scores[:, found.classes] = found.scores
    return scores


def write_classification(
    out: Path,
    scores: Tensor,
    labels: Tensor,
    names: Sequence[str],
    classes: Sequence[str],
    *,
    title: str,
    settings: Mapping[str, Any],
) -> Accuracy:
    """Write what a classifier found, into three files of a folder.

    - `predictions.csv`: for each image its name, its class, the predicted class, and whether the two are equal.
    - `metrics.json`: the accuracies with their intervals, the number of images, and the settings.
    - `confusion.png`: the confusion matrix.

    Args:
        out: Folder to write to; it is made.
        scores: Scores of the n test images for C classes, `(n, C)`.
        labels: Their labels, `(n,)`, 0 to C - 1.
        names: Their names.
        classes: Names of the classes.
        title: Title of the picture.
        settings: What the result depends on; JSON.

    Returns:
        The accuracies.
    """
    found = accuracy(scores, labels)
    out.mkdir(parents=True, exist_ok=True)
    predicted = scores.argmax(1).tolist()
    with (
        replace_file(out / "predictions.csv") as new,
        new.open("w", newline="", encoding="utf-8") as opened,
    ):
        writer = csv.writer(opened)
        writer.writerow(["name", "class", "predicted", "right"])
        for name, label, guess in zip(names, labels.tolist(), predicted, strict=True):
            writer.writerow([name, classes[label], classes[guess], int(label == guess)])
    _write_json(out / "metrics.json", {**_plain(found), "images": len(labels), **settings})
    figure = confusion(found.confusion, classes, title=f"{title}, top-1 {found.top1:.1%}")
    figure.savefig(out / "confusion.png", dpi=110)
    return found


def _plain(found: Accuracy) -> dict[str, Any]:
    """Return accuracies as JSON holds them: for each its value, and the ends of its interval."""
    shares = {"top1": found.top1, "top5": found.top5, "balanced": found.balanced}
    return {name: share and share._asdict() for name, share in shares.items()}


def write_page(
    out: Path,
    *,
    title: str,
    facts: Sequence[str],
    measured: Mapping[str, Measured],
    x_test: Tensor,
    y_test: Tensor,
    images: Sequence[Any],
    names: Sequence[str],
    classes: Sequence[str],
    settings: Mapping[str, Any],
) -> str:
    """Write a page about a backbone: `report.html` with its pictures, `report.md`, PNG files and `metrics.json`.

    Args:
        out: Folder to write to; it is made.
        title: Heading of the page.
        facts: Sentences about the data and the backbone.
        measured: What was measured, by network; the first is the backbone, others are what it is compared with.
        x_test: Features of the n test images by the backbone, `(n, d)`.
        y_test: Their labels, `(n,)`.
        images: The test images, for the pictures.
        names: Their names.
        classes: Names of the classes.
        settings: What the result depends on; JSON.

    Returns:
        The table of accuracies, and what it shows, in Markdown.
    """
    out.mkdir(parents=True, exist_ok=True)
    found = {
        (name, kind): accuracy(scores, y_test)
        for name, each in measured.items()
        for kind, scores in (("kNN", each.knn), ("linear", each.linear))
    }
    own, *others = measured
    differences = {
        kind: _compare(getattr(measured[own], field), getattr(measured[others[0]], field), y_test)
        for kind, field in (("linear", "linear"), ("kNN", "knn"))
        if others
    }
    conclusion = _conclude(found, differences, [*measured], y_test)
    best = found[own, "linear"]
    table = _table(found, has_top5=best.top5 is not None)
    shown = slice(None, None, -(-len(x_test) // _MAP))
    figures = {
        "confusion": confusion(
            best.confusion, classes, title="linear classifier: images by true and predicted class"
        ),
        "map": embedding(
            x_test[shown], y_test[shown], classes,
            title="features of test images by t-SNE", images=images[shown],
        ),
        "neighbours": neighbours(
            images, x_test, names=[classes[label] for label in y_test.tolist()],
            captions=[Path(name).name for name in names],
            title="test images and their nearest neighbours, green if of the same class",
        ),
    }  # fmt: skip
    curves = {f"{kind}, {name}": curve for name, each in measured.items() for kind, curve in each.curves.items()}
    if curves:
        labels = next(iter(curves.values())).labels.tolist()
        accuracies = {name: curve.accuracy for name, curve in curves.items()}
        figures["labels"] = label_curve(labels, accuracies, chance=1 / len(classes), title="accuracy with few labels")
    for name, figure in figures.items():
        figure.savefig(out / f"{name}.png", dpi=110)
    wrong = _list_confusions(best.confusion, classes)
    parts = [
        f"# {title}", conclusion, *facts, "## Accuracy", table,
        "In brackets: the 95 % confidence interval, for other test images of this kind. It does not cover the seed of "
        "the training. `kNN` is a vote of the nearest training images, `linear` a logistic regression on standardised "
        "features; both see the features only. `balanced` is the mean over the classes. Differences are in points of "
        "top-1, with the interval for pairs of networks on the same images.",
    ]  # fmt: skip
    if curves:
        explained = "Lines are means over draws of the labelled images, bands are from the lowest to the highest."
        parts += ["## Few labels", "![accuracy by number of labels](labels.png)", explained]
    parts += ["## Confusions", *([wrong] if wrong else []), "![confusion matrix](confusion.png)"]
    parts += ["## Map", "![map of the features](map.png)", "## Nearest neighbours", "![neighbours](neighbours.png)"]
    parts += ["## How this was made", f"```json\n{json.dumps(dict(settings), indent=1, ensure_ascii=False)}\n```"]
    text = "\n\n".join(parts) + "\n"
    _write_text(out / "report.md", text)
    _write_text(out / "report.html", _to_html(text, title, out))
    record = {f"{kind}, {name}": _plain(each) for (name, kind), each in found.items()}
    lines = {name: {key: value.tolist() for key, value in curve._asdict().items()} for name, curve in curves.items()}
    values: dict[str, Any] = {
        "conclusion": conclusion, "accuracy": record, "few_labels": lines, "images": len(y_test), **settings,
        "difference": {kind: each._asdict() for kind, each in differences.items()},
    }  # fmt: skip
    _write_json(out / "metrics.json", values)
    return f"{table}\n\n{conclusion}"


def _compare(scores: Tensor, others: Tensor, labels: Tensor) -> Estimate:
    """Return the top-1 accuracy of scores minus that of others on the same images, with its 95 % interval.

    The interval is that of Newcombe (1998, Statistics in Medicine 17, 2635-2650, method 10) for paired shares: those of
    Wilson, narrowed by how often both are right on the same images.
    """
    right, other = (each.sort(dim=1, descending=True, stable=True).indices[:, 0] == labels for each in (scores, others))
    n, both, first, second = len(labels), right & other, right & ~other, other & ~right
    a, b, c = (int(each.sum()) for each in (both, first, second))
    d = n - a - b - c
    spread = sqrt((a + b) * (c + d) * (a + c) * (b + d))
    excess = a * d - b * c
    phi = (max(excess - n / 2, 0.0) if excess > 0 else excess) / spread if spread else 0.0
    (p, low, high), (q, least, most) = accuracy(scores, labels).top1, accuracy(others, labels).top1

    def reach(own: float, its: float) -> float:
        return sqrt(max(own**2 - 2 * phi * own * its + its**2, 0.0))

    return Estimate(p - q, p - q - reach(p - low, most - q), p - q + reach(high - p, q - least))


def _conclude(
    found: Mapping[tuple[str, str], Accuracy], differences: Mapping[str, Estimate], names: Sequence[str], labels: Tensor
) -> str:
    """Return one sentence about what the accuracies show, as far as their intervals allow it.

    Args:
        found: Accuracies, by network and classifier.
        differences: Those to the second network, by classifier; empty if there is only one.
        names: Names of the networks.
        labels: Labels of the test images.
    """
    images, guessed = count_of(len(labels), "test image"), float(labels.bincount().max()) / len(labels)
    clauses: dict[str, list[str]] = {}
    for kind, title in (("linear", "with the linear classifier"), ("kNN", "with nearest neighbours")):
        if kind in differences:
            value, low, high = (100 * each for each in differences[kind])
            own, other = names
            text = f"{value:+.1f} points ({low:.1f} to {high:.1f})"
            if low > 0 or high < 0:
                clause = f"the {own} backbone is {'better' if low > 0 else 'worse'} than the {other} one: "
            else:
                clause = f"{images} show no difference between the {own} and the {other} backbone: "
        else:
            top1 = found[names[0], kind].top1
            text, rival = f"{top1:.1%}", f"guessing the most frequent class, {100 * guessed:.1f} %: "
            better = top1.low > guessed
            clause = f"the backbone is better than {rival}" if better else f"{images} do not show more than {rival}"
        clauses.setdefault(clause, []).append(f"{text} {title}")
    sentence = "; ".join(clause + ", ".join(texts) for clause, texts in clauses.items())
    return f"{sentence[0].upper()}{sentence[1:]}."


def _table(found: Mapping[tuple[str, str], Accuracy], *, has_top5: bool) -> str:
    heads = ["top-1", *(["top-5"] if has_top5 else []), "balanced"]
    lines = [f"| | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for (name, kind), each in found.items():
        cells = [each.top1, *([each.top5] if has_top5 else []), each.balanced]
        lines.append(f"| {kind}, {name} | {' | '.join(format(cell, '.1%') for cell in cells)} |")
    return "\n".join(lines)


def _list_confusions(counts: Tensor, classes: Sequence[str], most: int = 5) -> str:
    """Return the most frequent errors as a list in Markdown."""
    wrong = counts.clone().fill_diagonal_(0)
    values, places = wrong.flatten().topk(min(most, wrong.numel()))
    pairs, names = zip(values.tolist(), places.tolist(), strict=True), [_escape(name) for name in classes]
    return "\n".join(
        f"- {count} of {int(counts[place // len(classes)].sum())} images of {names[place // len(classes)]} are taken "
        f"for {names[place % len(classes)]}"
        for count, place in pairs
        if count
    )


def _escape(name: str) -> str:
    r"""Return a name as Markdown shows it, without marks that it would read; those within words it does not.

    Example:
        >>> print(_escape("a_b"), _escape("*a*"), _escape("__a__"))
        a_b \*a\* \_\_a\_\_
    """
    return re.sub(r"[\\`*<&\[\]|~]|(?<![^\W_])_|_(?![^\W_])", r"\\\g<0>", name)


def _to_html(text: str, title: str, folder: Path) -> str:
    """Return Markdown as a page of its own, with its pictures in it."""
    with extra("demo"):
        from markdown_it import MarkdownIt
    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(text)

    def inline(match: "re.Match[str]") -> str:
        data = b64encode((folder / match[1]).read_bytes()).decode()
        return f'src="data:image/png;base64,{data}"'

    body = re.sub(r'src="(\w+\.png)"', inline, body)
    return (
        f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>{html.escape(title)}</title>\n'
        f"<style>{_STYLE}</style>\n<body>\n{body}</body>\n</html>\n"
    )


_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "img{max-width:100%}table{border-collapse:collapse}td,th{padding:.3rem .8rem;border-bottom:1px solid #ddd;"
    "text-align:left}code{background:#f4f4f4;font-size:.85em;overflow-wrap:anywhere}"
)


def _write_text(file: str | os.PathLike[str], text: str) -> None:
    with replace_file(file) as new:
        new.write_text(text, encoding="utf-8")


def _write_json(file: Path, values: Mapping[str, Any]) -> None:
    _write_text(file, json.dumps(values, indent=1, ensure_ascii=False) + "\n")
