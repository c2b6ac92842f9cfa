"""Compile and count the GPU engine's kernels, without a device: `python -m benchmarks.gpu_static [--targets N …]`.

Prints registers, spilt bytes, shared memory, instructions and how many of them compute in float64, for each kernel and
compute capability, and fails if a kernel is over budget. The assembler and the disassembler come with Triton.

Then it executes the kernels in an interpreter, on views of images of 256×256, and prints how many machine instructions
a thread executes for each pixel of a view. From that follows a bound: the time that a batch of 256 images takes at
least, because a multiprocessor starts 128 instructions of threads a clock. A bound is not a time: kernels also wait for
memory, and for each other.
"""

import argparse
import re
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, NamedTuple

__all__ = ["TARGETS", "Compiled", "Count", "compile_kernels", "count_instructions", "find_excess", "find_tool", "main"]

TARGETS: Final = (80, 86, 89, 90, 100)

CARDS: Final = {
    "A100": (80, 108, 1.41),
    "RTX 3090": (86, 82, 1.695),
    "RTX 4090": (89, 128, 2.52),
    "H200": (90, 132, 1.98),
}
"""Compute capability, number of multiprocessors and highest clock, in GHz, of some cards."""


class Compiled(NamedTuple):
    """What one kernel needs on one target.

    Attributes:
        kernel: Its name.
        target: Compute capability, 90 for 9.0.
        registers: Registers of a thread.
        spilt: Bytes of a thread in local memory.
        shared: Bytes of shared memory of a program.
        instructions: Number of instructions.
        doubles: How many of them compute in or convert to and from float64.
    """

    kernel: str
    target: int
    registers: int
    spilt: int
    shared: int
    instructions: int
    doubles: int


class Count(NamedTuple):
    """What the kernels execute for the views of one workload on one target, summed over all threads.

    Attributes:
        workload: "simclr" or "dino", of `lightly_aug.bench.WORKLOADS`; "SimCLR" or "DINO", of the recipes, is bicubic.
        target: Compute capability, 90 for 9.0.
        images: The number of images.
        pixels: The number of pixels of all views.
        kernels: For each kernel the number of machine instructions of each name.
    """

    workload: str
    target: int
    images: int
    pixels: int
    kernels: dict[str, dict[str, float]]

    def per_pixel(self, kernel: str = "", *names: str) -> float:
        """Return how many instructions are executed for each pixel, by all kernels or one, of all names or some."""
        chosen = [counts for name, counts in self.kernels.items() if kernel in ("", name)]
        return sum(n for counts in chosen for name, n in counts.items() if name.startswith(names or "")) / self.pixels

    def bound(self, multiprocessors: int, clock: float) -> float:
        """Return the milliseconds that a batch of 256 images takes at least, at so many GHz."""
        executed = sum(sum(counts.values()) for counts in self.kernels.values()) / self.images * 256
        return executed / (128 * multiprocessors * clock * 1e6)


def main() -> int:
    """Print tables; return 1 if a kernel is over budget."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_static", description=__doc__.splitlines()[0])
    parser.add_argument("--targets", type=int, nargs="+", default=TARGETS, help="compute capabilities, 90 for 9.0")
    parser.add_argument("--images", type=int, default=24, help="how many images to execute the kernels for; 0 for none")
    if find_tool() is None:
        print("python -m benchmarks.gpu_static needs Triton for Linux with its CUDA tools", file=sys.stderr)
        return 2
    chosen = parser.parse_args()
    targets = chosen.targets
    print(f"Triton {version('triton')}")
    print(" ".join(f"{name:>12}" for name in Compiled._fields))
    over = 0
    for target in targets:
        for row in compile_kernels(target):
            excess = find_excess(row)
            over += bool(excess)
            print(" ".join(f"{value:>12}" for value in row), excess, flush=True)
    print(f"{over} of {4 * len(targets)} kernels are over budget" if over else "all kernels are within budget")
    if chosen.images:
        _print_counts(targets, chosen.images)
    return int(over > 0)


def _print_counts(targets: Sequence[int], images: int) -> None:
    print(f"\nmachine instructions for each pixel of a view, of {images} images, and of them accesses to memory")
    counts = list[Count]()
    for target in targets:
        for count in count_instructions(target, images):
            each = [f"{name} {count.per_pixel(name):.1f}" for name in count.kernels]
            total, memory = count.per_pixel(), count.per_pixel("", "LDG", "STG", "LDS", "STS")
            print(f"{target:>4} {count.workload:>8} {total:>8.1f} {memory:>6.1f}   {', '.join(each)}", flush=True)
            counts.append(count)
    print("\nbound of a batch of 256 images, in ms: all instructions, at the highest clock")
    for card, (target, multiprocessors, clock) in CARDS.items():
        bounds = [
            f"{count.workload} {count.bound(multiprocessors, clock):.3f}" for count in counts if count.target == target
        ]
        if bounds:
            print(f"{card:>9}   {', '.join(bounds)}")


def count_instructions(
    target: int, images: int, workloads: Sequence[str] = ("simclr", "dino", "SimCLR", "DINO")
) -> list[Count]:
    """Execute the kernels for views of photographs of 256×256 in bf16, and count their machine instructions.

    From then on, this process has a driver of Triton that runs kernels in NumPy.

    Args:
        target: Compute capability, 90 for 9.0.
        images: The number of images.
        workloads: Which to count, see `Count`.
    """
    from benchmarks.ptx import driver, sass

    driver.install(target)
    import torch

    from lightly_aug import DINOCollateFunction, MultiViewCollateFunction, SimCLRCollateFunction
    from lightly_aug.bench import WORKLOADS, build_view
    from lightly_aug.photographs import photographs

    recipes = {"SimCLR": SimCLRCollateFunction, "DINO": DINOCollateFunction}
    counts = []
    for workload in workloads:
        options: dict[str, Any] = {"seed": 0, "render": "late", "engine": "gpu"}
        if workload in recipes:
            collate: Any = recipes[workload](**options)
        else:
            collate = MultiViewCollateFunction([build_view(spec) for spec in WORKLOADS[workload]], **options)
        driver.LAUNCHES.clear()
        pixels = sum(view[:, 0].numel() for view in collate(photographs(images)).to("cpu", torch.bfloat16))
        counts.append(Count(workload, target, images, pixels, sass.count_executed(driver.LAUNCHES, target)))
    return counts


def find_excess(row: Compiled, move: str = "bilinear") -> str:
    """Say what a kernel has too much of; nothing if it is within budget.

    Args:
        row: The kernel.
        move: The kind of move that it was compiled for.
    """
    doubles = {"weigh", "draw_tiles"} if move == "rotate" else {"weigh"}  # coordinates, weights
    found = [
        ("spills", row.spilt > 0),
        ("more than 168 registers", row.registers > 168),  # three programs of 128 threads on a multiprocessor
        ("more than 48 KiB of shared memory", row.shared > 48 * 1024),
        ("float64", row.doubles > 0 and row.kernel not in doubles),
    ]
    return ", ".join(name for name, is_so in found if is_so)


def find_tool() -> Path | None:
    """Find the disassembler that Triton brings, None if there is none."""
    from benchmarks.ptx import sass

    try:
        tool = sass.tool("cuobjdump")
    except ModuleNotFoundError:
        return None
    return tool if tool.exists() else None


def compile_kernels(
    target: int, *, pixels: str = "u8", view: str = "bf16", channels: int = 3, move: str = "bilinear"
) -> list[Compiled]:
    """Compile all kernels as the engine launches them.

    Args:
        target: Compute capability, 90 for 9.0.
        pixels: Triton's name of the dtype of the images, "u8" or "fp32".
        view: That of the views, "bf16", "fp16" or "fp32".
        channels: The number of channels.
        move: A kind of move, see `lightly_aug.engines.program.Move`.
    """
    from lightly_aug.engines import gpu, gpu_kernels

    integers = pixels == "u8"
    kind = {"MOVE": gpu_kernels.MOVES[move]}
    colours = {"C": channels, "LAST": False, "FINITE": integers}
    launches: list[tuple[Any, dict[str, Any]]] = [
        (gpu_kernels.weigh, {**kind, "ANTIALIAS": True, "INTEGERS": integers, **gpu._WEIGH}),
        (gpu_kernels.draw_tiles, {**kind, **colours, "WHOLE": True, **gpu._DRAW}),
        (gpu_kernels.finish_rows, {**colours, "ALIGN": 8, **gpu._FINISH}),
        (gpu_kernels.blur_down, {**colours, "ALIGN": 4, **gpu._BLUR}),
    ]
    pointers = {"pixels": pixels, "views": view, "waiting": "fp32" if view == "fp32" else "u16", "table": "i64"}
    pointers |= {"weights": "fp32", "taps": "i64", "sums": "fp32", "blurred": "fp32"}
    return [_compile(kernel, options, pointers, target) for kernel, options in launches]


def _compile(kernel: Any, options: dict[str, Any], pointers: dict[str, str], target: int) -> Compiled:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from benchmarks.ptx import sass
    from lightly_aug.engines import gpu

    how = {name: options.pop(name) for name in gpu._OPTIONS}
    names = list(kernel.arg_names)
    signature = {name: f"*{pointers[name]}" if name in pointers else "i32" for name in names}
    signature |= dict.fromkeys(options, "constexpr")
    # memory begins at a multiple of 16 bytes, and a pitch is a multiple of 32
    known = {parameter.name for parameter in kernel.params if not parameter.do_not_specialize}
    aligned = [name for name in names if name in pointers or name in {"pitch"} & known]
    attributes = {(names.index(name),): [["tt.divisibility", 16]] for name in aligned}
    constants = {(names.index(name),): value for name, value in options.items()}
    source = ASTSource(kernel, signature, constants, attributes)
    compiled = triton.compile(source, target=GPUTarget("cuda", target, 32), options=how)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        usage, code = (sass.run_tool("cuobjdump", option, file.name) for option in ("-res-usage", "-sass"))
    operations = re.findall(r"^\s+/\*[0-9a-f]{4,5}\*/\s+(?:@!?U?P\w+\s+)?([A-Z0-9_.]+)", code, re.MULTILINE)
    doubles = [name for name in operations if re.match(r"D(FMA|MUL|ADD|SETP|MNMX)|.*F64", name)]
    registers, spilt = (int(found) for found in re.findall(r"(?:REG|STACK):(\d+)", usage)[:2])
    return Compiled(
        kernel.fn.__name__, target, registers, spilt, compiled.metadata.shared, len(operations), len(doubles)
    )


if __name__ == "__main__":
    sys.exit(main())
