"""The two protocols by which papers measure backbones with labels: linear probe and fine-tuning."""

from collections.abc import Sequence
from typing import Any, Final, Unpack

import torch
from torch import nn

from lightly_aug.classify.run import Recipe, Running, Start, TrainedClassifier, find_start, train_classifier
from lightly_aug.collate import BaseCollateFunction
from lightly_aug.weights import Backbone, build_backbone

__all__ = ["finetune", "linear_probe"]

_LRS: Final = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)


def linear_probe(
    backbone: Backbone | tuple[nn.Module, BaseCollateFunction],
    train: Any,
    test: Any,
    *,
    lrs: Sequence[float] = _LRS,
    holdout: float = 0.1,
    epochs: int = 100,
    batch_size: int = 256,
    scale: tuple[float, float] = (0.08, 1.0),
    augment: BaseCollateFunction | None = None,
    seed: int = 0,
    **running: Unpack[Running],
) -> TrainedClassifier:
    """Train a linear classifier on a frozen backbone, by the protocol of papers, and test it.

    The network stays in eval mode. Linear layers, whose weights start from a normal distribution of .01, are trained by
    SGD with momentum .9 and without weight decay on random crops and flips; the learning rate is lr x batch / 256, and
    falls to 0 along a cosine. The test images are cropped about the centre. This is the protocol of MoCo v1 and v2 (He,
    Chen et al. 2019, 2020, arXiv 1911.05722, 2003.04297, lr 30) and MoCo v3 (arXiv 2104.02057, lr .1, for ViTs 3),
    except that the first two divide the learning rate by 10 after 60 and 80 of 100 epochs.

    The best learning rate differs among backbones by orders of magnitude. So one layer for each of `lrs` is trained on
    the same features, and the one that is best on held-out training images is tested. The test images choose nothing.
    With one learning rate all training images are trained on. For example::

        backbone = Backbone.from_pretrained("runs/moco")
        result = linear_probe(backbone, "photos/train", "photos/test", out="runs/moco-linear")
        print(accuracy(result.scores, result.labels))  # of lightly_aug.evaluate, with intervals

    With `out`, the folder then holds `classifier.safetensors`, which `load_classifier` loads, `metrics.json`,
    `settings.json`, `logs/metrics.csv` and `checkpoints/`. Ctrl-C and SIGTERM finish the step and save. The same call
    goes on from there, also after a crash, and gives the same result as a run that nobody interrupted.

    Args:
        backbone: A `lightly_aug.weights.Backbone`, or a pair `(network, collate)`. The network outputs `(n, d)` or
            `(n, d, 1, 1)`, and is left as it is; `collate` makes its input, one square view of each image.
        train: Training images: a folder of class folders, or a dataset of (image, label) pairs, such as those of
            torchvision and `lightly_aug.photographs.LabelledImages`. Images with a label below 0 are left out.
        test: Test images, in the same form, whose classes occur in `train`.
        lrs: Learning rates at batches of 256 images, each above 0.
        holdout: Share of the training images of each class that chooses the learning rate, at least one image.
        epochs: Epochs, at least 1.
        batch_size: Images in an optimiser step, on all devices together; at most those that there are. The last batch
            of an epoch has the images that are left, so an epoch is a pass over all images.
        scale: Area of the random crop as a share of the image.
        augment: Makes the view that is trained on, in place of crop and flip; it must normalise as `collate` does.
        seed: Seed of the layers' weights, the order, the crops and the held-out images, 0 or more.
        **running: As in `lightly_aug.classify.run.Running`: `out`, `overwrite`, `workers`, `accelerator`, `devices`
            (by default 1), `precision`.

    Returns:
        Scores of the test images, the classifier, and metrics.

    Raises:
        TypeError: An argument is of the wrong type.
        ValueError: An argument is out of range, a class has only one image, or the folder holds another run.
        FloatingPointError: The training diverged.
        ModuleNotFoundError: Packages of the extra "train" are not installed.
    """
    recipe = Recipe(
        "linear_probe", tuple(lrs), network_lr=None, weight_decay=0.0, share=1.0, holdout=holdout, epochs=epochs,
        batch_size=batch_size, scale=scale, seed=seed,
    )  # fmt: skip
    return train_classifier(recipe, find_start("linear_probe", backbone), train, test, augment=augment, **running)


def finetune(
    backbone: Backbone | tuple[nn.Module, BaseCollateFunction],
    train: Any,
    test: Any,
    *,
    share: float = 1.0,
    lr: float | None = None,
    head_lr: float | None = None,
    weight_decay: float | None = None,
    from_scratch: bool = False,
    epochs: int = 20,
    batch_size: int = 256,
    scale: tuple[float, float] = (0.08, 1.0),
    augment: BaseCollateFunction | None = None,
    seed: int = 0,
    **running: Unpack[Running],
) -> TrainedClassifier:
    """Train a whole network with labels, from pre-trained weights, and test it.

    `share=0.01` and `share=0.1` are the semi-supervised protocol of papers. Network and linear layer are trained by SGD
    with momentum .9 on random crops and flips, with learning rates of their own, which are scaled by batch / 256 and
    fall to 0 along a cosine; BatchNorm statistics are those of the batch. The test images are cropped about the centre.

    The default learning rates, .01 for the network and .2 for the layer, epochs and weight decay are those of SwAV for
    10 % of ImageNet (Caron et al. 2020, arXiv 2006.09882, whose schedule has steps); for 1 % it uses .02 and 5, and
    Barlow Twins (Zbontar et al. 2021, arXiv 2103.03230) .002 and .5 with a cosine. Few labels need more epochs: a
    thousand images in batches of 256 make 4 steps an epoch.

    The gain from pre-training is the difference to the same network trained from random weights::

        backbone = Backbone.from_pretrained("runs/moco")
        tuned = finetune(backbone, train, test, share=0.1, epochs=50)
        scratch = finetune(backbone, train, test, share=0.1, epochs=200, from_scratch=True)
        gain = tuned.metrics["accuracy"] - scratch.metrics["accuracy"]

    Args:
        backbone: As in `linear_probe`.
        train: As in `linear_probe`.
        test: As in `linear_probe`.
        share: Share of the labels of each class to use, above 0 and at most 1, at least one image of each;
            `lightly_aug.evaluate.labelled_subset` chooses them by the seed.
        lr: Learning rate of the network at batches of 256 images, above 0; by default .01, from scratch .1.
        head_lr: That of the linear layer; by default .2, from scratch .1.
        weight_decay: Weight decay of all parameters, at least 0; by default 0, from scratch 1e-4.
        from_scratch: Build the network of the `Backbone` again, with random weights. For a network of one's own pass an
            untrained one in `backbone`, with these learning rates.
        epochs: Epochs, at least 1.
        batch_size: As in `linear_probe`; but if one image is left for the last batch, networks with BatchNorm leave it
            out, which then is another one in each epoch, and the run says so.
        scale: As in `linear_probe`.
        augment: As in `linear_probe`.
        seed: Seed of all that is random, 0 or more.
        **running: As in `linear_probe`, with the same files in `out`.

    Returns:
        Scores of the test images, the classifier, and metrics.

    Raises:
        TypeError: An argument is of the wrong type.
        ValueError: An argument is out of range, the folder holds another run, or `from_scratch` has no name to build a
            network by.
        FloatingPointError: The training diverged.
        ModuleNotFoundError: Packages of the extra "train" are not installed.
    """
    start = find_start("finetune", backbone)
    if from_scratch:
        start = _build_again(start, seed)
    default_lr, default_head_lr, default_decay = (0.1, 0.1, 1e-4) if from_scratch else (0.01, 0.2, 0.0)
    recipe = Recipe(
        "finetune", (default_head_lr if head_lr is None else head_lr,),
        network_lr=default_lr if lr is None else lr,
        weight_decay=default_decay if weight_decay is None else weight_decay,
        share=share, holdout=0.1, epochs=epochs, batch_size=batch_size, scale=scale, seed=seed,
    )  # fmt: skip
    return train_classifier(recipe, start, train, test, augment=augment, **running)


def _build_again(start: Start, seed: int) -> Start:
    """Return the same network with random weights."""
    if start.named is None:
        raise ValueError(
            "finetune: from_scratch needs a Backbone that has a name, to build it again: for another, pass an "
            "untrained network, finetune((network, collate), ..., lr=0.1, head_lr=0.1, weight_decay=1e-4)"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_backbone(start.named["name"], **start.named["arguments"])
    return start._replace(network=network)
