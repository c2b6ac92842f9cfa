"""What the kernels of the GPU engine are compiled to, without a device."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from benchmarks.gpu_static import TARGETS, Compiled, find_excess, find_tool

if find_tool() is None:
    pytest.skip("needs Triton for Linux with its CUDA tools", allow_module_level=True)

# in a process of its own, as kernels may be interpreted in this one
CODE = (
    "import json, sys; from benchmarks.gpu_static import compile_kernels;"
    "print(json.dumps(compile_kernels(**json.loads(sys.argv[1]))))"
)


@pytest.mark.parametrize(
    "variant",
    [
        *({"target": target} for target in TARGETS),
        {"target": 90, "pixels": "fp32", "view": "fp32", "move": "bicubic"},
        {"target": 90, "move": "rotate"},
        {"target": 90, "channels": 5, "view": "fp16"},
    ],
    ids=str,
)
def test_kernels_spill_nothing_and_compute_in_float32(variant: dict[str, Any]) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    words = [sys.executable, "-c", CODE, json.dumps(variant)]
    ran = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    rows = [Compiled(*row) for row in json.loads(ran.stdout)]
    assert [row.kernel for row in rows] == ["weigh", "draw_tiles", "finish_rows", "blur_down"]
    assert not [(row, excess) for row in rows if (excess := find_excess(row, variant.get("move", "bilinear")))]
