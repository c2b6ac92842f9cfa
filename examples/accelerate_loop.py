"""Train MoCo v3 with Accelerate, on one device or, with `accelerate launch`, on several.

python examples/accelerate_loop.py
accelerate launch --multi_gpu examples/accelerate_loop.py
"""

import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader

from lightly_aug import EpochSampler, Indexed, MoCoCollateFunction
from lightly_aug.models import MoCoV3, resnet
from lightly_aug.photographs import photograph_patches

EPOCHS, BATCH, SIZE = 4, 32, 32


def main(epochs: int = EPOCHS) -> list[float]:
    """Train, and return the mean loss of each epoch on this process."""
    accelerator = Accelerator()
    dataset = Indexed(photograph_patches(SIZE * 2, train=30, test=0).train)
    sampler = EpochSampler(dataset, shuffle=True, num_replicas=1, rank=0)  # Accelerate divides the batches
    collate = MoCoCollateFunction(SIZE, version=3, seed=0)
    method = MoCoV3(resnet("resnet10"))
    optimizer = torch.optim.AdamW([p for p in method.parameters() if p.requires_grad])
    loader = DataLoader(dataset, BATCH, sampler=sampler, drop_last=True, collate_fn=collate)
    model, optimizer, loader = accelerator.prepare(method, optimizer, loader)

    steps, done, losses = epochs * len(loader), 0, []
    for epoch in range(epochs):
        total = 0.0
        for views, labels in loader:  # Accelerate calls `Views.to`, so this is the list of rendered views
            loss = model(views, targets=labels, index=views.index)
            optimizer.zero_grad()
            accelerator.backward(loss)
            optimizer.step()
            done += 1
            method.after_step(done / steps)  # of the method itself: `model` may be wrapped
            total += loss.item()
        losses.append(total / len(loader))
        accelerator.print(f"epoch {epoch + 1}/{epochs}: loss {losses[-1]:.3f}")
    return losses


if __name__ == "__main__":
    main()
