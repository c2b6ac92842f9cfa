"""Methods, each in one file, and the parts that they share."""

from lightly_aug.models.backbones import feature_width, resnet
from lightly_aug.models.base import SSLModel
from lightly_aug.models.heads import mlp
from lightly_aug.models.moco import MoCo
from lightly_aug.models.momentum import MomentumEncoder
from lightly_aug.models.simclr import SimCLR

__all__ = ["MoCo", "MomentumEncoder", "SSLModel", "SimCLR", "feature_width", "mlp", "resnet"]
