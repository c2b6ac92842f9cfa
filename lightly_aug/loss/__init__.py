"""Losses: a pure function and a thin module each.

All normalise their rows, compute in float32 or wider, and give two processes the value and gradient of one process on
the joined batch.
"""

from lightly_aug.loss.info_nce import InfoNCELoss, info_nce
from lightly_aug.loss.nt_xent import NTXentLoss, nt_xent

__all__ = ["InfoNCELoss", "NTXentLoss", "info_nce", "nt_xent"]
