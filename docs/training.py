"""Draw training.png for docs/training.md from a run of some minutes: `python docs/training.py [FOLDER OF THE RUN]`.

The run is kept in the folder, by default runs/training, and drawn without training again if it is there.
"""

import sys
from pathlib import Path
from typing import Final

from torch.utils.data import DataLoader

from lightly_aug import MultiViewCollateFunction, Normalize
from lightly_aug.photographs import LabelledImages, photograph_patches
from lightly_aug.plot import training_curves
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


if __name__ == "__main__":
    out = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/training")
    images = photograph_patches(train=120)
    if not (out / "logs/metrics.csv").exists():
        train(images, out)
    title = f"MoCo v2, ResNet-10: patches of {len(images.classes)} photographs"
    figure = training_curves(out, title=title)
    figure.savefig(Path(__file__).with_name("training.png"), dpi=82, pil_kwargs={"optimize": True})
