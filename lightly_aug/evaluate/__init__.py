"""Extract features and measure them: k-nearest-neighbour and linear accuracy."""

from lightly_aug.evaluate._features import features
from lightly_aug.evaluate._knn import knn, knn_accuracy
from lightly_aug.evaluate._linear import linear_accuracy

__all__ = ["features", "knn", "knn_accuracy", "linear_accuracy"]
