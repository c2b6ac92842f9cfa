"""Train SimCLR with a loop of plain PyTorch, on patches of photographs or on a folder of images.

python examples/plain_loop.py
python examples/plain_loop.py FOLDER
"""

import sys
from typing import Any

import torch
from torch.utils.data import DataLoader

from lightly_aug import Indexed, SimCLRCollateFunction
from lightly_aug.models import SimCLR, SSLModel, resnet
from lightly_aug.photographs import folder_images, photograph_patches

EPOCHS, BATCH, SIZE = 5, 32, 32


def train(model: SSLModel, loader: DataLoader[Any], epochs: int) -> list[float]:
    """Train any method of the library, and return the mean loss of each epoch."""
    device = next(model.parameters()).device
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
    steps, done, losses = epochs * len(loader), 0, []
    for epoch in range(epochs):
        total = torch.zeros((), device=device)
        for views, labels in loader:
            images = views.to(device)  # renders the views: a list of tensors (n, c, h, w)
            loss = model(images, targets=labels, index=views.index)  # PAWS uses targets, PIRL uses index
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            done += 1
            model.after_step(done / steps)  # for schedules, such as that of BYOL's momentum
            total += loss.detach()
        losses.append(float(total) / len(loader))
        print(f"epoch {epoch + 1}/{epochs}: loss {losses[-1]:.3f}")
    return losses


def main(folder: str | None = None, epochs: int = EPOCHS) -> list[float]:
    """Train on the images of a folder, or on patches of the photographs that scikit-image ships."""
    data = folder_images(folder) if folder else photograph_patches(2 * SIZE, train=30, test=0)
    collate = SimCLRCollateFunction(SIZE, decode=4 * SIZE)  # large JPEGs are shrunk while they are decoded
    loader = DataLoader(Indexed(data.train), BATCH, shuffle=True, drop_last=True, collate_fn=collate)
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else "cpu"
    model = SimCLR(resnet("resnet10"), temperature=0.5).to(device)
    return train(model, loader, epochs)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
