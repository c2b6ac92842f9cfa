"""Weights of backbones: files with everything that is needed to use them as they were trained."""

from lightly_aug.weights._backbone import BACKBONE, read_metadata, save_backbone, still_view
from lightly_aug.weights._build import backbone_names, build_backbone
from lightly_aug.weights._export import export_state_dict
from lightly_aug.weights._official import LoadedCheckpoint, load_checkpoint
from lightly_aug.weights._onnx import export_onnx
from lightly_aug.weights._pretrained import Backbone
from lightly_aug.weights._report import CheckpointReport

__all__ = [
    "BACKBONE",
    "Backbone",
    "CheckpointReport",
    "LoadedCheckpoint",
    "backbone_names",
    "build_backbone",
    "export_onnx",
    "export_state_dict",
    "load_checkpoint",
    "read_metadata",
    "save_backbone",
    "still_view",
]
