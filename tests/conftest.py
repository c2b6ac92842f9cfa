"""Hypothesis profiles, a setting that Triton reads when it is imported, and a fixture."""

import os
from collections.abc import Iterator

import pytest
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


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Compute with one thread, so that processes and sums of a test do not depend on the machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
