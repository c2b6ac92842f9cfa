"""What a small batch costs: Python calls, and plans. (`test_gpu.py` counts the launches of the GPU engine.)"""

import sys
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

from helpers.cases import noise

import lightly_aug
from lightly_aug import Color, MultiViewCollateFunction, Normalize, Shape, Texture, View
from lightly_aug.engines.plan import plan_passes

PACKAGE = str(Path(lightly_aug.__file__).parent)
IMAGES = [noise(40, 40, seed=i) for i in range(2)]


def collate() -> MultiViewCollateFunction:
    views = [View(Shape(32), Color(), Texture(), Normalize())] * 2
    return MultiViewCollateFunction(views, seed=0, engine="cpu", render="worker")


def test_a_batch_takes_few_python_calls() -> None:
    function, calls = collate(), Counter[str]()
    function(IMAGES)  # imports, compiles and plans

    def count(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(PACKAGE):
            calls[f"{frame.f_code.co_filename.removeprefix(PACKAGE)}: {frame.f_code.co_name}"] += 1

    previous = sys.getprofile()
    sys.setprofile(count)
    try:
        function(IMAGES)
    finally:
        sys.setprofile(previous)
    assert 50 < calls.total() <= 250, calls.most_common(20)


def test_a_view_is_planned_once() -> None:
    plan_passes.cache_clear()
    function = collate()
    function(IMAGES)
    planned = plan_passes.cache_info().misses
    assert planned == 1  # the two views are equal
    for _ in range(2):
        function(IMAGES)
    assert plan_passes.cache_info().misses == planned
    collate()(IMAGES)
    assert plan_passes.cache_info().misses == planned
