"""Train SimSiam on a dataset of Hugging Face Datasets.

python examples/huggingface_datasets.py
"""

import torch
from datasets import ClassLabel, Dataset, Features, Image
from torch.utils.data import DataLoader

from lightly_aug import Indexed, SimSiamCollateFunction
from lightly_aug.models import SimSiam, resnet
from lightly_aug.photographs import photograph_patches

EPOCHS, BATCH, SIZE = 4, 32, 32


def photograph_dataset(patches: int = 30) -> Dataset:
    """Put patches of photographs into a dataset, such as `datasets.load_dataset` returns."""
    data = photograph_patches(SIZE * 2, train=patches, test=0)
    images, labels = zip(*data.train, strict=True)
    features = Features({"image": Image(), "label": ClassLabel(names=data.classes)})
    return Dataset.from_dict({"image": list(images), "label": list(labels)}, features=features)


def main(epochs: int = EPOCHS) -> list[float]:
    """Train, and return the mean loss of each epoch."""
    dataset = photograph_dataset().cast_column("image", Image(decode=False))  # the collate function decodes
    collate = SimSiamCollateFunction(SIZE, decode=2 * SIZE)
    loader = DataLoader(Indexed(dataset), BATCH, shuffle=True, drop_last=True, collate_fn=collate)
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else "cpu"
    model = SimSiam(resnet("resnet10")).to(device)
    optimizer = torch.optim.AdamW(model.parameters())

    steps, done, losses = epochs * len(loader), 0, []
    for epoch in range(epochs):
        total = 0.0
        for batch in loader:  # as the dataset: {"image": Views, "label": Tensor}
            loss = model(batch["image"].to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            done += 1
            model.after_step(done / steps)
            total += loss.item()
        losses.append(total / len(loader))
        print(f"epoch {epoch + 1}/{epochs}: loss {losses[-1]:.3f}")
    return losses


if __name__ == "__main__":
    main()
