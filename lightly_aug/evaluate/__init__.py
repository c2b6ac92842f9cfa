"""Extract features, write them to files, and measure them: k-nearest-neighbour and linear accuracy."""

from lightly_aug.evaluate._features import features
from lightly_aug.evaluate._knn import knn, knn_accuracy
from lightly_aug.evaluate._linear import linear_accuracy
from lightly_aug.evaluate._table import check_features_file, write_features

__all__ = ["check_features_file", "features", "knn", "knn_accuracy", "linear_accuracy", "write_features"]
