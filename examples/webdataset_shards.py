"""Write photographs to tar files, the shards of WebDataset, and train Barlow Twins from them.

python examples/webdataset_shards.py
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import webdataset as wds
from torch.utils.data import DataLoader

from lightly_aug import BarlowTwinsCollateFunction
from lightly_aug.models import BarlowTwins, resnet
from lightly_aug.photographs import photograph_patches

EPOCHS, BATCH, SIZE, WORKERS = 4, 32, 32, 2


def write_shards(folder: Path, patches: int = 30, per_shard: int = 128) -> list[str]:
    """Write patches of photographs to shards, and return the paths of these."""
    with wds.ShardWriter(f"{folder}/%04d.tar", maxcount=per_shard, verbose=0) as sink:
        for i, (image, label) in enumerate(photograph_patches(SIZE * 2, train=patches, test=0).train):
            sink.write({"__key__": f"{i:06}", "jpg": image, "cls": label})
    return sorted(map(str, folder.glob("*.tar")))


def train(shards: list[str], epochs: int, workers: int) -> list[float]:
    """Train, and return the mean loss of each epoch."""
    dataset = wds.WebDataset(shards, shardshuffle=len(shards)).shuffle(100)  # not decoded: the collate function does
    collate = BarlowTwinsCollateFunction(SIZE, decode=2 * SIZE)
    loader = DataLoader(dataset, BATCH, num_workers=workers, drop_last=True, collate_fn=collate)
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else "cpu"
    model = BarlowTwins(resnet("resnet10"), dim=256).to(device)
    optimizer = torch.optim.AdamW(model.parameters())

    losses = []
    for epoch in range(epochs):
        steps = []
        for batch in loader:  # {"jpg": Views, "cls": [b"3", ...], "__key__": [...], ...}
            loss = model(batch["jpg"].to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            steps.append(loss.item())
        model.after_step((epoch + 1) / epochs)  # a stream has no length, so progress is known after an epoch
        losses.append(sum(steps) / len(steps))
        print(f"epoch {epoch + 1}/{epochs}: loss {losses[-1]:.3f}")
    return losses


def main(epochs: int = EPOCHS, workers: int = WORKERS) -> list[float]:
    """Write shards to a temporary folder, and train from them."""
    with TemporaryDirectory() as folder:
        return train(write_shards(Path(folder)), epochs, workers)


if __name__ == "__main__":
    main()
