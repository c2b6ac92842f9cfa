"""Training on Lightning: one call, its LightningModule, optimisers of the papers, callbacks and checkpoints."""

from lightly_aug.pretrain_options import PretrainOptions
from lightly_aug.train.checkpoints import AtomicCheckpointIO, StopSignals, find_checkpoint
from lightly_aug.train.evaluation import OnlineEvaluation, PairAccuracy, Pictures
from lightly_aug.train.lars import LARS
from lightly_aug.train.module import PretrainModule
from lightly_aug.train.optimization import PAPERS, SMALL, Optimization, choose_optimization
from lightly_aug.train.run import Pretrained, pretrain
from lightly_aug.train.watch import Collapse, RunBar, Throughput, effective_rank, spread

__all__ = [
    "LARS",
    "PAPERS",
    "SMALL",
    "AtomicCheckpointIO",
    "Collapse",
    "OnlineEvaluation",
    "Optimization",
    "PairAccuracy",
    "Pictures",
    "PretrainModule",
    "PretrainOptions",
    "Pretrained",
    "RunBar",
    "StopSignals",
    "Throughput",
    "choose_optimization",
    "effective_rank",
    "find_checkpoint",
    "pretrain",
    "spread",
]
