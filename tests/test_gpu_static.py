"""What the kernels of the GPU engine are compiled to, without a device."""

import json
import os
import subprocess
import sys

import pytest

from benchmarks.gpu_static import Compiled, find_tool

if find_tool() is None:
    pytest.skip("needs Triton for Linux with its CUDA tools", allow_module_level=True)

# in a process of its own, as kernels may be interpreted in this one
CODE = (
    "import json, sys; from benchmarks.gpu_static import compile_kernels;"
    "print(json.dumps(compile_kernels(90, **json.loads(sys.argv[1]))))"
)


@pytest.mark.parametrize(
    "variant",
    [
        {},
        {"pixels": "fp32", "view": "fp32", "move": "bicubic"},
        {"move": "rotate"},
        {"channels": 5, "view": "fp16"},
    ],
    ids=str,
)
def test_kernels_spill_nothing_and_compute_in_float32(variant: dict[str, str]) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    words = [sys.executable, "-c", CODE, json.dumps(variant)]
    ran = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    rows = [Compiled(*row) for row in json.loads(ran.stdout)]
    assert [row.kernel for row in rows] == ["weigh", "draw_tiles", "finish_rows", "blur_down"]
    doubles = {"weigh", "draw_tiles"} if variant.get("move") == "rotate" else {"weigh"}  # coordinates, weights
    for row in rows:
        assert row.spilt == 0, row
        assert row.registers <= 168, row  # three programs of 128 threads on a multiprocessor
        assert row.shared <= 48 * 1024, row
        assert row.doubles == 0 or row.kernel in doubles, row
