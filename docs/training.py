"""Draw training.png for docs/training.md from a run of some minutes: `python docs/training.py [FOLDER OF THE RUN]`.

The run is kept in the folder, by default runs/training, and drawn without training again if it is there.
"""

import csv
import sys
from pathlib import Path
from typing import Any, Final

from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator, PercentFormatter
from torch.utils.data import DataLoader

from lightly_aug import MultiViewCollateFunction, Normalize
from lightly_aug.photographs import LabelledImages, photograph_patches
from lightly_aug.train import OnlineEvaluation, pretrain
from lightly_aug.weights import still_view

SIZE: Final = 48


def train(images: LabelledImages, out: Path) -> None:
    """Train MoCo on patches of photographs, and measure it on patches that share no pixel with them."""
    collate = MultiViewCollateFunction([still_view(SIZE, Normalize())])
    learnt, tested = (DataLoader(pairs, 256, collate_fn=collate) for pairs in (images.train, images.test))
    pretrain(
        images.train, method="moco", backbone="resnet10", size=SIZE, epochs=12, workers=0, accelerator="cpu", out=out,
        evaluate="none", callbacks=[OnlineEvaluation(learnt, tested)],
    )  # fmt: skip


def read_curve(file: Path) -> list[tuple[float, float]]:
    """Return the kNN accuracy after every epoch, from 0, the untrained network."""
    with file.open(newline="", encoding="utf-8") as lines:
        rows = [row for row in csv.DictReader(lines) if row["knn_accuracy"]]
    return [(float(row["epoch"]) + 1 if row["epoch"] else 0, float(row["knn_accuracy"])) for row in rows]


def draw(curve: list[tuple[float, float]], classes: int, file: Path) -> None:
    """Draw the curve."""
    epochs, accuracies = zip(*curve, strict=True)
    figure = Figure((6.4, 3.2), layout="constrained")
    axes: Any = figure.subplots()
    axes.plot(epochs, accuracies, marker="o", color="tab:blue")
    axes.axhline(accuracies[0], color="tab:gray", linestyle="--")
    axes.annotate(f"untrained network: {accuracies[0]:.0%}", (epochs[-1], accuracies[0]), (0, 4), ha="right",
                  textcoords="offset points", color="tab:gray")  # fmt: skip
    axes.annotate(f"{accuracies[-1]:.0%}", (epochs[-1], accuracies[-1]), (0, 6), ha="center",
                  textcoords="offset points", color="tab:blue")  # fmt: skip
    axes.set(xlabel="epoch", ylabel="kNN accuracy", title=f"MoCo v2, ResNet-10: patches of {classes} photographs")
    axes.yaxis.set_major_locator(MultipleLocator(0.05))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.margins(y=0.15)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=110, pil_kwargs={"optimize": True})


if __name__ == "__main__":
    out = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/training")
    images = photograph_patches(train=120)
    if not (out / "logs/metrics.csv").exists():
        train(images, out)
    draw(read_curve(out / "logs/metrics.csv"), len(images.classes), Path(__file__).with_name("training.png"))
