"""Train SimCLR with stable-pretraining: its module, loss and online kNN, with the views of this library.

python examples/stable_pretraining_module.py
"""

from typing import Any

import lightning
import stable_pretraining as spt
from stable_pretraining.forward import simclr
from torch.utils.data import DataLoader
from torchmetrics.classification import MulticlassAccuracy

from lightly_aug import CenterCrop, Indexed, MultiViewCollateFunction, Resize, SimCLRCollateFunction, View
from lightly_aug.photographs import photograph_patches

EPOCHS, BATCH, SIZE = 4, 32, 32


def several_views(batch: dict[str, Any]) -> dict[str, Any]:
    """Give the views the form in which forward functions of stable-pretraining read them."""
    images, label = batch["image"], batch["label"]  # Lightning called `Views.to`: images is a list of tensors
    return {"views": [{"image": image, "label": label} for image in images]}


def one_view(batch: dict[str, Any]) -> dict[str, Any]:
    """Take the only view, for validation."""
    return {**batch, "image": batch["image"][0]}


def main(epochs: int = EPOCHS, patches: int = 30, **options: Any) -> float:
    """Train, and return the accuracy of the online kNN classifier."""
    data = photograph_patches(2 * SIZE, train=patches, test=patches // 3)
    train, test = (Indexed([{"image": x, "label": y} for x, y in part]) for part in (data.train, data.test))
    still = MultiViewCollateFunction([View(Resize(SIZE), CenterCrop(SIZE))])
    loaders = spt.data.DataModule(
        train=DataLoader(train, BATCH, shuffle=True, drop_last=True, collate_fn=SimCLRCollateFunction(SIZE)),
        val=DataLoader(test, BATCH, collate_fn=still),
        gpu_transform={"train": several_views, "val": one_view},  # called after the batch is on its device
    )
    module = spt.Module(
        forward=simclr,
        backbone=spt.backbone.from_timm("resnet10t", num_classes=0),
        projector=spt.backbone.MLP(512, [512, 128]),
        simclr_loss=spt.losses.NTXEntLoss(temperature=0.5),
        optim={"optimizer": {"type": "AdamW", "lr": 1e-3}},
    )
    classes, metrics = len(data.classes), {"accuracy": MulticlassAccuracy(len(data.classes), average="micro")}
    queue = {"queue_length": 1024, "input_dim": 512, "target_dim": 1, "num_classes": classes}
    knn = spt.callbacks.OnlineKNN("knn", "embedding", "label", metrics=metrics, k=20, **queue)
    trainer = lightning.Trainer(max_epochs=epochs, callbacks=[knn], logger=False, enable_checkpointing=False, **options)
    trainer.fit(module, loaders)
    return float(trainer.callback_metrics["eval/knn_accuracy"])


if __name__ == "__main__":
    print(f"kNN accuracy: {main():.0%}")
