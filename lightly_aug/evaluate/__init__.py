"""Extract features, write them to files, and measure them: k-nearest-neighbour and linear accuracy."""

from lightly_aug.evaluate._comparison import InvarianceComparison, compare_invariance
from lightly_aug.evaluate._estimate import Estimate
from lightly_aug.evaluate._extract import extract_features
from lightly_aug.evaluate._features import features
from lightly_aug.evaluate._few_labels import FewLabelCurve, few_label_curve, labelled_subset
from lightly_aug.evaluate._firing import Firing, firing_score
from lightly_aug.evaluate._invariance import Curve, Invariance, count_passes, measure_invariance
from lightly_aug.evaluate._invariance_score import InvarianceScore, invariance_score
from lightly_aug.evaluate._knn import Neighbours, knn, knn_accuracy, knn_votes, nearest
from lightly_aug.evaluate._linear import LinearScores, linear_accuracy, linear_scores
from lightly_aug.evaluate._read_out import ReadOut, read_out
from lightly_aug.evaluate._scores import Accuracy, accuracy
from lightly_aug.evaluate._strengths import CHANGES, Change
from lightly_aug.evaluate._table import FeatureTable, check_features_file, read_features, write_features
from lightly_aug.evaluate._use import Use, class_use

__all__ = [
    "CHANGES",
    "Accuracy",
    "Change",
    "Curve",
    "Estimate",
    "FeatureTable",
    "FewLabelCurve",
    "Firing",
    "Invariance",
    "InvarianceComparison",
    "InvarianceScore",
    "LinearScores",
    "Neighbours",
    "ReadOut",
    "Use",
    "accuracy",
    "check_features_file",
    "class_use",
    "compare_invariance",
    "count_passes",
    "extract_features",
    "features",
    "few_label_curve",
    "firing_score",
    "invariance_score",
    "knn",
    "knn_accuracy",
    "knn_votes",
    "labelled_subset",
    "linear_accuracy",
    "linear_scores",
    "measure_invariance",
    "nearest",
    "read_features",
    "read_out",
    "write_features",
]
