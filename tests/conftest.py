"""How Hypothesis searches, and what has to be set before Triton is imported."""

import os

import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # Triton reads it when it is imported
from hypothesis import HealthCheck, settings

settings.register_profile("lightly_aug", deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("lightly_aug")
