"""Train BYOL with Lightning. If you stop this program and run it again, it continues after the last whole epoch.

python examples/lightning_module.py
"""

from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader

from lightly_aug import BYOLCollateFunction, EpochSampler, Indexed
from lightly_aug.models import BYOL, SSLModel, resnet
from lightly_aug.photographs import photograph_patches

EPOCHS, BATCH, SIZE = 4, 32, 32


class SelfSupervised(LightningModule):
    """Any method of the library."""

    def __init__(self, method: SSLModel) -> None:
        super().__init__()
        self.method = method

    def training_step(self, batch: Any, _: int) -> torch.Tensor:
        views, labels = batch  # Lightning calls `Views.to`, so this is the list of rendered views
        loss: torch.Tensor = self.method(views, targets=labels, index=views.index)
        self.log("loss", loss, prog_bar=True)
        return loss

    def on_train_batch_end(self, *_: Any) -> None:
        self.method.after_step(self.global_step / self.trainer.estimated_stepping_batches)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW([p for p in self.parameters() if p.requires_grad])


def main(folder: Path = Path("runs/lightning"), epochs: int = EPOCHS, **options: Any) -> SelfSupervised:
    """Train, and keep a checkpoint of the last epoch in a folder."""
    dataset = Indexed(photograph_patches(SIZE * 2, train=30, test=0).train)
    sampler = EpochSampler(dataset, shuffle=True)  # counts epochs, so that a resumed run has the same views and order
    collate = BYOLCollateFunction(SIZE, seed=0)
    loader = DataLoader(dataset, BATCH, sampler=sampler, drop_last=True, collate_fn=collate)
    module = SelfSupervised(BYOL(resnet("resnet10")))
    saver = ModelCheckpoint(folder, save_last=True)
    trainer = Trainer(max_epochs=epochs, callbacks=[saver], logger=False, **options)
    last = folder / "last.ckpt"
    trainer.fit(module, loader, ckpt_path=last if last.exists() else None)
    return module


if __name__ == "__main__":
    main()
