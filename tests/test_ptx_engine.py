"""The GPU engine as it is compiled, executed without a device: see `benchmarks.ptx`.

Everything runs in processes of its own, since kernels may be interpreted by Triton in this one.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.cases import examples

from benchmarks.gpu_static import find_tool

if find_tool() is None:
    pytest.skip("needs Triton for Linux with its CUDA tools", allow_module_level=True)

TESTS = Path(__file__).parent
CASES = examples(34, 334)
"""Of each of six settings; 2004 together, as CI tries."""


def start(*arguments: str, **variables: str) -> subprocess.Popen[str]:
    """Start Python in a process whose Triton compiles."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)]), **variables}
    environment.pop("TRITON_INTERPRET", None)
    command = [sys.executable, "-W", "error::RuntimeWarning", *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> Any:
    """Wait for a process, and return what its last line says."""
    out, err = process.communicate()
    assert process.returncode == 0, err
    return json.loads(out.splitlines()[-1])


@pytest.mark.parametrize(
    "settings", [("photographs", "channels last"), ("float32", "floats"), ("gray", "four channels")], ids=" and ".join
)
def test_random_views_are_those_of_the_reference(settings: tuple[str, str]) -> None:
    done = finish(start("-m", "helpers.gpu_cases", str(CASES), *settings))
    assert done["cases"] == 2 * CASES
    assert done["launches"] > 100
    assert done.get("not finite", 0) >= 7 * bool({"floats", "gray"} & set(settings))


COUNT = """
import json
from benchmarks.gpu_static import count_instructions
print(json.dumps([count.per_pixel() for count in count_instructions(90, 8, ("simclr", "DINO"))]))
"""


def test_machine_instructions_for_each_pixel_of_a_view() -> None:
    bilinear, bicubic = finish(start("-c", COUNT))
    assert 200 < bilinear <= 320  # 310 when it was set
    assert 200 < bicubic <= 370  # 360


MARKED = r"""
import json, re, tempfile
from collections import Counter
from pathlib import Path
from helpers.cases import noise
from benchmarks.ptx import driver, sass
driver.install(90)
from lightly_aug import SimCLRCollateFunction

SimCLRCollateFunction(size=32, seed=0, render="late", engine="gpu")([noise(40, 40, seed=i) for i in range(4)]).to("cpu")
same = {}
for launch in driver.LAUNCHES:
    with tempfile.TemporaryDirectory() as folder:
        source, binary = Path(folder, "kernel.ptx"), Path(folder, "kernel.cubin")
        source.write_text(launch.kernel.text)
        sass.run_tool("ptxas", "--gpu-name=sm_90a", source, "-o", binary)
        text = sass.run_tool("cuobjdump", "-sass", binary)
    plain = Counter(re.findall(r"^\s+/\*[0-9a-f]{4,5}\*/\s+(?:@!?U?P\w+\s+)?([A-Z]\w+)", text, re.MULTILINE))
    del plain["NOP"]
    blocks = sass._disassemble(launch.kernel.text, 90)
    stores = [any(name.startswith("st.global") for name in block.counts) for block in launch.kernel.blocks]
    same[launch.kernel.name] = plain == sum(blocks, Counter()) and stores == [block["STG"] > 0 for block in blocks]
print(json.dumps(same))
"""


def test_each_machine_instruction_is_of_one_block_and_marks_change_none() -> None:
    assert finish(start("-c", MARKED)) == dict.fromkeys(["weigh", "draw_tiles", "finish_rows", "blur_down"], True)


THREADS = """
import json, threading, torch
from benchmarks.ptx import driver
from helpers.cases import noise
driver.install(80)
from lightly_aug import ColorJitter, MultiViewCollateFunction, RandomGaussianBlur, RandomResizedCrop, View

view = View(RandomResizedCrop(8), ColorJitter(contrast=0.5), RandomGaussianBlur(p=0.5))
collate = MultiViewCollateFunction([view] * 2, seed=0, render="late", engine="gpu")
batches = [collate([noise(9, 9, seed=i + k) for i in range(4)]) for k in range(3)]
made = [None] * 3

def render(k):
    driver.CURRENT.device, driver.CURRENT.stream = k, 100 + k
    for _ in range(3):
        made[k] = batches[k].to("cpu")

threads = [threading.Thread(target=render, args=[k]) for k in range(3)]
for thread in threads: thread.start()
for thread in threads: thread.join()
where = [(launch.device, launch.stream) for launch in driver.LAUNCHES]
same = [torch.equal(x, y) for k in range(3) for x, y in zip(made[k], batches[k].to("cpu"), strict=True)]
print(json.dumps({"where": sorted(set(where)), "each": [where.count((k, 100 + k)) for k in range(3)], "same": same}))
"""


def test_threads_launch_on_their_own_devices_and_streams() -> None:
    done = finish(start("-c", THREADS))
    assert done["where"] == [[0, 100], [1, 101], [2, 102]]
    assert done["each"] == [12, 12, 12]
    assert done["same"] == [True] * 6


COMPILE = (
    "import json; from benchmarks.gpu_static import compile_kernels; print(json.dumps(compile_kernels(80, channels=1)))"
)


def test_processes_compile_at_once_into_one_empty_folder(tmp_path: Path) -> None:
    processes = [start("-c", COMPILE, TRITON_CACHE_DIR=str(tmp_path)) for _ in range(examples(2, 4))]
    first, *others = [finish(process) for process in processes]
    assert len(first) == 4
    assert all(other == first for other in others)
    assert len(list(tmp_path.rglob("*.cubin"))) == 4
    assert not [file for file in tmp_path.rglob("*") if "tmp" in file.name and file.is_file()]


AHEAD = """
import json, logging, torch
from benchmarks.ptx import driver
from helpers.cases import noise
driver.install(80)
from lightly_aug import MultiViewCollateFunction, RandomGaussianBlur, RandomResizedCrop, View
from lightly_aug.engines import gpu

class Impatient(gpu.Timer):
    def __init__(self, seconds, *arguments):
        super().__init__(seconds / 100, *arguments)

gpu.Timer, said = Impatient, []
gpu.logging.getLogger(gpu.__name__).addFilter(lambda record: said.append(record.getMessage()))
sizes = []
for p in (0.0, 1.0):  # without and with a blur
    view = View(RandomResizedCrop(8), RandomGaussianBlur(p=p))
    collate = MultiViewCollateFunction([view], seed=0, render="late", engine="gpu")
    collate([noise(9, 9)]).to("cpu")
    sizes.append([len(driver.LAUNCHES), sum(len(k.device_caches[80][0]) for k in (gpu.draw_tiles, gpu.blur_down))])
print(json.dumps({"sizes": sizes, "said": said}))
"""


def test_all_kernels_are_compiled_before_any_draw_needs_them(tmp_path: Path) -> None:
    done = finish(start("-c", AHEAD, TRITON_CACHE_DIR=str(tmp_path)))
    assert done["sizes"] == [[2, 2], [6, 2]]  # launches, compiled kernels
    assert done["said"] == ["compiling the GPU engine of lightly_aug: once on this machine, some seconds"]
