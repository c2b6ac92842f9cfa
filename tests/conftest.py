"""Hypothesis profiles, and a setting that Triton reads when it is imported."""

import os

import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # before anything imports Triton
from hypothesis import HealthCheck, settings

# HYPOTHESIS_PROFILE: "quick" while developing, "full" in CI; `helpers.cases.examples` follows it, too
for profile, max_examples in (("quick", 20), ("full", 50)):
    settings.register_profile(
        profile, deadline=None, max_examples=max_examples, suppress_health_check=[HealthCheck.too_slow]
    )
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))
