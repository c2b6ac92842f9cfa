"""Self-supervised methods, one file each, and the parts that they share."""

from lightly_aug.models._amdim_encoder import amdim_encoder
from lightly_aug.models._pooled import pooled
from lightly_aug.models._vit import vit
from lightly_aug.models.amdim import AMDIM
from lightly_aug.models.backbones import feature_width, resnet
from lightly_aug.models.barlow_twins import BarlowTwins
from lightly_aug.models.base import SSLModel
from lightly_aug.models.byol import BYOL
from lightly_aug.models.cpc import CPC
from lightly_aug.models.dino import DINO
from lightly_aug.models.heads import mlp
from lightly_aug.models.looc import LooC
from lightly_aug.models.moco import MoCo
from lightly_aug.models.moco_v3 import MoCoV3
from lightly_aug.models.momentum import MomentumEncoder
from lightly_aug.models.nnclr import NNCLR
from lightly_aug.models.paws import PAWS
from lightly_aug.models.pirl import PIRL
from lightly_aug.models.simclr import SimCLR
from lightly_aug.models.simsiam import SimSiam
from lightly_aug.models.swav import SwaV

__all__ = [
    "AMDIM",
    "BYOL",
    "CPC",
    "DINO",
    "NNCLR",
    "PAWS",
    "PIRL",
    "BarlowTwins",
    "LooC",
    "MoCo",
    "MoCoV3",
    "MomentumEncoder",
    "SSLModel",
    "SimCLR",
    "SimSiam",
    "SwaV",
    "amdim_encoder",
    "feature_width",
    "mlp",
    "pooled",
    "resnet",
    "vit",
]
