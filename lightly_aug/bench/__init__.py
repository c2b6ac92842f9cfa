"""Where the time of a loader goes, and images a second of this library and of others on the same work."""

from lightly_aug.bench._loader import loader
from lightly_aug.bench._times import LoaderTimes, Stage
from lightly_aug.bench.comparison import compare, run
from lightly_aug.bench.peers import albumentations_view, batch_transform, contenders, dali_view
from lightly_aug.bench.tables import describe_loading, write_report, write_times
from lightly_aug.bench.timing import Contender, Results, measure, time_loading
from lightly_aug.bench.workloads import MEAN, SIGMA, STD, WORKLOADS, ViewSpec, build_view

__all__ = [
    "MEAN",
    "SIGMA",
    "STD",
    "WORKLOADS",
    "Contender",
    "LoaderTimes",
    "Results",
    "Stage",
    "ViewSpec",
    "albumentations_view",
    "batch_transform",
    "build_view",
    "compare",
    "contenders",
    "dali_view",
    "describe_loading",
    "loader",
    "measure",
    "run",
    "time_loading",
    "write_report",
    "write_times",
]
