"""From options to the parts of a run: views, backbone, method, optimisation, loader."""

import math
import os
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler, IterableDataset

from lightly_aug.collate import BaseCollateFunction
from lightly_aug.indexed import EpochSampler
from lightly_aug.methods import METHODS, Task
from lightly_aug.models.backbones import is_vit
from lightly_aug.models.base import SSLModel
from lightly_aug.operations import Normalize
from lightly_aug.pretrain_options import PretrainOptions
from lightly_aug.support import SupportBatchSampler
from lightly_aug.train.data import Source, check_labels
from lightly_aug.train.optimization import Optimization, choose_optimization
from lightly_aug.weights import backbone_names, build_backbone

__all__ = [
    "build_model",
    "build_network",
    "build_optimization",
    "build_views",
    "check_loader",
    "count_batch",
    "count_devices",
    "count_steps",
    "find_normalize",
]


def build_views(source: Source, options: PretrainOptions) -> BaseCollateFunction:
    """Return the collate function of the method, or that of a loader.

    Raises:
        TypeError: The loader has another collate function.
    """
    if isinstance(source.data, DataLoader):
        if not isinstance(source.data.collate_fn, BaseCollateFunction):
            raise TypeError(
                "pretrain: the DataLoader must have a collate function of lightly_aug, got "
                f"{getattr(source.data.collate_fn, '__name__', source.data.collate_fn)}: write collate_fn=..."
            )
        return source.data.collate_fn
    decode = 2 * options.size if options.decode is None else options.decode or None
    render = "late" if _uses_accelerator(options) else "worker"
    return METHODS[options.method].views(
        options.size,
        seed=options.seed,
        render=render,
        decode=decode,
        image=options.image,
        max_pixels=options.max_pixels or None,
        on_error=options.on_error,
    )


def _uses_accelerator(options: PretrainOptions) -> bool:
    return options.accelerator != "cpu" and torch.accelerator.is_available()


def find_normalize(collate: BaseCollateFunction) -> Normalize | None:
    """Return the normalisation of the views, which is the same in all views of a method; None if there is none."""
    return next((operation for operation in collate.views[0].operations if isinstance(operation, Normalize)), None)


def count_batch(source: Source, options: PretrainOptions) -> int:
    """Return the images in a batch on all devices together: not more than there are."""
    if isinstance(source.data, DataLoader):
        own = source.data.batch_size
        return own * count_devices(options) * options.num_nodes if own else options.batch_size
    batch = min(options.batch_size, source.count) if source.count else options.batch_size
    world = count_devices(options) * options.num_nodes
    if batch % world and batch == options.batch_size:
        raise ValueError(
            f"pretrain: batch_size must be a multiple of the {world} devices, got {batch}: {batch - batch % world} is"
        )
    if batch < 2 * world:
        each = "" if world == 1 else f" for each of {world} devices"
        raise ValueError(f"pretrain: there must be two images or more{each}, got {batch}")
    return batch - batch % world


def count_devices(options: PretrainOptions) -> int:
    """Return the number of devices of a machine: those asked for, torchrun's, or all."""
    if str(options.devices).isdigit():
        return int(options.devices)
    if "LOCAL_WORLD_SIZE" in os.environ:  # torchrun
        return int(os.environ["LOCAL_WORLD_SIZE"])
    return max(1, torch.accelerator.device_count()) if _uses_accelerator(options) else 1


def build_network(options: PretrainOptions) -> tuple[nn.Module, dict[str, Any]]:
    """Return the backbone, and the arguments of `save_backbone` that name it."""
    if isinstance(options.backbone, nn.Module):
        return options.backbone, {"arch": None}
    name, arguments = str(options.backbone), dict[str, Any]()
    if name == "amdim_encoder":
        arguments = {"size": options.size, "width": 64, "dim": 512, "depth": 3}
    elif name in backbone_names():
        stem = "cifar" if options.size <= 32 else "imagenet"
        arguments = {"stem": stem, "norm": METHODS[options.method].norm}
    network = build_backbone(name, **arguments)
    return network, {"arch": name, "arguments": arguments}


def build_model(backbone: nn.Module, source: Source, options: PretrainOptions, *, batch: int, paper: bool) -> SSLModel:
    """Return the method around a backbone.

    Raises:
        ValueError: The backbone does not offer checkpointing, or the method needs labels and there are none.
    """
    method = METHODS[options.method]
    if method.labels:
        check_labels(source)
    images = source.count or (options.steps or 0) * batch
    maps = ("local5", "local7") if options.backbone == "amdim_encoder" else ("layer3", "layer2")
    task = Task(options.size, images, batch, classes=len(set(source.labels) - {-1}), maps=maps)
    model = (method.paper if paper else method.small)(backbone, task)
    if options.checkpointing:
        switch = getattr(backbone, "set_grad_checkpointing", getattr(backbone, "gradient_checkpointing_enable", None))
        if switch is None:
            raise ValueError(
                f"pretrain: checkpointing needs a backbone that offers it, as those of timm do, got "
                f"{type(backbone).__name__}"
            )
        switch()
    if options.channels_last:
        model.to(memory_format=torch.channels_last)
    if options.compile:
        model.compile()
    return model


def build_optimization(options: PretrainOptions, backbone: nn.Module, *, paper: bool) -> Optimization:
    """Return the optimisation of the recipe, with the options' changes."""
    chosen = choose_optimization(options.method, paper=paper, vit=is_vit(backbone))
    asked = {name: getattr(options, name) for name in ("optimizer", "lr", "weight_decay", "warmup")}
    changed = {name: value for name, value in asked.items() if value is not None}
    if "weight_decay" in changed:
        changed["final_weight_decay"] = None
    return replace(chosen, **changed)


def count_steps(loader: Any, source: Source, options: PretrainOptions, *, batch: int, ranks: int) -> int:
    """Return the optimiser steps of the run on a number of processes, which need not have found each other yet."""
    if options.steps:
        return options.steps
    try:
        batches = _count_batches(loader, ranks)
    except TypeError:
        raise ValueError(
            "pretrain: the length of the data is unknown, and schedules need it: give steps=..., the optimiser steps"
        ) from None
    if batches == 0:
        raise ValueError(f"pretrain: {source.count} images fill no batch of {batch}")
    return options.epochs * math.ceil(batches / options.accumulate)


def _count_batches(loader: DataLoader[Any], ranks: int) -> int:
    """Return the length of a loader on one of several processes."""
    sampler, batches = loader.sampler, loader.batch_sampler
    if isinstance(batches, SupportBatchSampler):
        return len(batches.others) // ranks // batches.free
    if isinstance(sampler, EpochSampler) and loader.batch_size:
        images = math.ceil(len(sampler.images) / ranks)
        size: int = loader.batch_size
        return images // size if loader.drop_last else math.ceil(images / size)
    return len(loader)


def check_loader(loader: Any, ranks: int) -> None:
    """Check that the loader of a user gives each of several processes its own images.

    Raises:
        ValueError: All would get the same ones.
    """
    own = isinstance(loader.sampler, DistributedSampler) or isinstance(loader.batch_sampler, SupportBatchSampler)
    if ranks > 1 and not own and not isinstance(loader.dataset, IterableDataset):
        raise ValueError(
            f"pretrain: the loader must give each of {ranks} processes its own images, got a "
            f"{type(loader.sampler).__name__}, which gives all of them the same: DataLoader(photos, "
            "sampler=EpochSampler(photos, shuffle=True), ...), with photos = Indexed(dataset)"
        )
