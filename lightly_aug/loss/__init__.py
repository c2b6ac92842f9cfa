"""Losses, each a pure function and a thin module.

All are computed in float32 or wider. Several processes get the value and gradient of one process on the joined batch:
the mean over ranks of the returned values is the loss of all rows. Each loss says whether it normalises its rows.
"""

from lightly_aug.loss._amdim import AMDIMLoss, amdim
from lightly_aug.loss._barlow_twins import BarlowTwinsLoss, barlow_twins
from lightly_aug.loss._byol import BYOLLoss, byol
from lightly_aug.loss._cpc import CPCLoss, cpc
from lightly_aug.loss._dino import DINOLoss, dino
from lightly_aug.loss._info_nce import InfoNCELoss, info_nce
from lightly_aug.loss._negative_cosine import NegativeCosineLoss, negative_cosine
from lightly_aug.loss._nt_xent import NTXentLoss, nt_xent
from lightly_aug.loss._paws import PAWSLoss, paws, sharpen, snn
from lightly_aug.loss._pirl import NCELoss, log_normalizer, nce
from lightly_aug.loss._swav import SwaVLoss, sinkhorn, swav

__all__ = [
    "AMDIMLoss",
    "BYOLLoss",
    "BarlowTwinsLoss",
    "CPCLoss",
    "DINOLoss",
    "InfoNCELoss",
    "NCELoss",
    "NTXentLoss",
    "NegativeCosineLoss",
    "PAWSLoss",
    "SwaVLoss",
    "amdim",
    "barlow_twins",
    "byol",
    "cpc",
    "dino",
    "info_nce",
    "log_normalizer",
    "nce",
    "negative_cosine",
    "nt_xent",
    "paws",
    "sharpen",
    "sinkhorn",
    "snn",
    "swav",
]
