"""The benchmark of the time that a batch takes beside its pixels."""

import pytest

from benchmarks.overhead import PARTS, measure_parts
from lightly_aug import MultiViewCollateFunction, Shape, View


def test_the_parts_of_a_call_are_timed_and_its_functions_left_as_they_were() -> None:
    before = [getattr(owner, name) for owner, name in PARTS.values()]
    times = measure_parts(MultiViewCollateFunction([View(Shape(64))] * 2, render="worker"), 2, rounds=1)
    assert [getattr(owner, name) for owner, name in PARTS.values()] == before
    assert list(times) == [*PARTS, "wrap", "host", "whole"]
    assert min(times.values()) > 0
    assert times["whole"] == pytest.approx(sum(times[part] for part in (*PARTS, "wrap")))
    assert times["host"] == pytest.approx(times["whole"] - times["pack"] - times["kernel"])
