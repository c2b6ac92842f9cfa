"""Train MoCo in two processes that share the work, as on two GPUs; stop it with Ctrl-C, run it again, and it continues.

python examples/several_processes.py
"""

from lightly_aug.distributed import rank
from lightly_aug.photographs import photograph_patches
from lightly_aug.train import pretrain

EPOCHS, BATCH, SIZE = 4, 64, 32


def main(folder: str = "runs/several", epochs: int = EPOCHS) -> None:
    """Train, and say how near the views of one image have come to each other."""
    images = photograph_patches(SIZE * 2, train=30, test=0).train
    result = pretrain(
        images,
        method="moco",
        backbone="resnet10",
        size=SIZE,
        epochs=epochs,
        batch_size=BATCH,  # 32 images in each process
        devices=2,  # on a machine with GPUs leave out these two lines: all GPUs are used
        accelerator="cpu",
        workers=0,
        out=folder,
        resume=True,
    )
    if rank() == 0:
        print(f"loss {result.metrics['loss']:.2f}, views found {result.metrics['pair_accuracy']:.0%}")


if __name__ == "__main__":  # Lightning runs this program once more for the second process
    main()
