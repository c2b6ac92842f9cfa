"""Weights of backbones: files with everything that is needed to use them as they were trained."""

from lightly_aug.weights._backbone import (
    BACKBONE,
    SavedBackbone,
    load_backbone,
    read_metadata,
    save_backbone,
    still_view,
)
from lightly_aug.weights._build import backbone_names, build_backbone

__all__ = [
    "BACKBONE",
    "SavedBackbone",
    "backbone_names",
    "build_backbone",
    "load_backbone",
    "read_metadata",
    "save_backbone",
    "still_view",
]
