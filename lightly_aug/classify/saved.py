"""Files of trained classifiers."""

import os
from collections import OrderedDict
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch
from torch import nn

from lightly_aug.classify.data import Collates
from lightly_aug.collate import BaseCollateFunction
from lightly_aug.weights import Backbone, build_backbone, read_metadata, save_backbone, still_view

__all__ = ["CLASSIFIER", "SavedClassifier", "join", "load_classifier", "save_classifier"]

CLASSIFIER: Final = "classifier.safetensors"
"""Name of the file in the folder of a run."""


class SavedClassifier(NamedTuple):
    """A trained classifier and the images that it expects.

    Attributes:
        classifier: Maps images to scores `(n, classes)`, in eval mode, on the CPU; its parts are `network`, the
            backbone, and `head`, the linear layer.
        collate: Makes its input of images of any size.
        classes: Names of the classes.
        metadata: What was saved with it, as `lightly_aug.weights.read_metadata` returns it.
    """

    classifier: nn.Module
    collate: BaseCollateFunction
    classes: list[str]
    metadata: dict[str, Any]


def load_classifier(
    path: str | os.PathLike[str], *, network: nn.Module | None = None, collate: BaseCollateFunction | None = None
) -> SavedClassifier:
    """Load a classifier that `linear_probe` or `finetune` wrote.

    Args:
        path: The file, or the folder of the run, which holds `classifier.safetensors`.
        network: Backbone to load the weights into; by default it is built. Needed for a network that has no name.
        collate: Makes the input; by default that of the training. Needed where that did more than resize the shorter
            side to the size of the input, cut out the centre and normalise.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged or holds no classifier, `network` or `collate` is needed and not given, or the
            weights do not fit.
    """
    file = Path(path) / CLASSIFIER if Path(path).is_dir() else Path(path)
    notes = read_metadata(file)["notes"]
    if not {"classes", "width", "backbone", "view"} <= notes.keys():
        raise ValueError(f"load_classifier: {file} must be a file of linear_probe or finetune, got a backbone")
    if network is None and notes["backbone"] is None:
        raise ValueError(
            f"load_classifier: {file} holds a backbone without a name; build it as it was trained, and pass it: "
            "load_classifier(file, network=...)"
        )
    if collate is None and notes["view"] is not None:
        raise ValueError(
            f"load_classifier: {file} was tested on {notes['view']}: give the collate function that makes it, "
            "collate=..."
        )
    if network is None:
        with torch.random.fork_rng(devices=[]):  # the first weights are drawn, and then replaced
            network = build_backbone(notes["backbone"]["name"], **notes["backbone"]["arguments"])
    classifier = join(network, nn.Linear(notes["width"], len(notes["classes"])))
    saved = Backbone.from_pretrained(file, network=classifier)
    return SavedClassifier(classifier, collate or saved.collate, notes["classes"], saved.metadata)


def save_classifier(
    classifier: nn.Module, file: Path, *, collates: Collates, backbone: Any, notes: dict[str, Any]
) -> None:
    """Write a classifier as safetensors, with everything that `load_classifier` needs.

    Args:
        classifier: As `join` makes it.
        file: File to write.
        collates: The views that it was trained on and tested with.
        backbone: Name and arguments of its network, as in the metadata of a `Backbone`; None if it has no name.
        notes: More to remember; it must be JSON.
    """
    view = collates.still.views[0]
    width = classifier.get_submodule("head").in_features
    notes = notes | {
        "width": width,
        "backbone": backbone,
        "view": None if view == still_view(collates.size, collates.normalize) else repr(view),
    }
    save_backbone(
        classifier, file, arch=None, size=collates.size, normalize=collates.normalize, notes=notes,
        mode=collates.still.mode, background=collates.still.background,
    )  # fmt: skip


def join(network: nn.Module, head: nn.Module) -> nn.Sequential:
    """Return a classifier of images: the network, whose features are flattened, and the linear layer."""
    return nn.Sequential(OrderedDict(network=network, flatten=nn.Flatten(), head=head))
