"""Classifiers on a pre-trained backbone, trained on Lightning: linear probe and fine-tuning."""

from lightly_aug.classify.protocols import finetune, linear_probe
from lightly_aug.classify.run import TrainedClassifier
from lightly_aug.classify.saved import SavedClassifier, load_classifier

__all__ = ["SavedClassifier", "TrainedClassifier", "finetune", "linear_probe", "load_classifier"]
