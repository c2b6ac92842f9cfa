"""Compile the GPU engine's kernels ahead of time, without a device: `python -m benchmarks.gpu_static [--targets N …]`.

Prints registers, spilt bytes, shared memory, instructions and how many of them compute in float64, for each kernel and
compute capability, and fails if a kernel is over budget. The assembler and the disassembler come with Triton.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, NamedTuple

__all__ = ["TARGETS", "Compiled", "compile_kernels", "find_excess", "find_tool", "main"]

TARGETS: Final = (80, 86, 89, 90, 100)


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


def main() -> int:
    """Print a table; return 1 if a kernel is over budget."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_static", description=__doc__.splitlines()[0])
    parser.add_argument("--targets", type=int, nargs="+", default=TARGETS, help="compute capabilities, 90 for 9.0")
    if find_tool() is None:
        print("python -m benchmarks.gpu_static needs Triton for Linux with its CUDA tools", file=sys.stderr)
        return 2
    targets = parser.parse_args().targets
    print(f"Triton {version('triton')}")
    print(" ".join(f"{name:>12}" for name in Compiled._fields))
    over = 0
    for target in targets:
        for row in compile_kernels(target):
            excess = find_excess(row)
            over += bool(excess)
            print(" ".join(f"{value:>12}" for value in row), excess, flush=True)
    print(f"{over} of {4 * len(targets)} kernels are over budget" if over else "all kernels are within budget")
    return int(over > 0)


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
    try:
        import triton
    except ModuleNotFoundError:
        return None
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
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
        usage, code = (_dump(option, file.name) for option in ("-res-usage", "-sass"))
    operations = re.findall(r"^\s+/\*[0-9a-f]{4,5}\*/\s+(?:@!?U?P\w+\s+)?([A-Z0-9_.]+)", code, re.MULTILINE)
    doubles = [name for name in operations if re.match(r"D(FMA|MUL|ADD|SETP|MNMX)|.*F64", name)]
    registers, spilt = (int(found) for found in re.findall(r"(?:REG|STACK):(\d+)", usage)[:2])
    return Compiled(
        kernel.fn.__name__, target, registers, spilt, compiled.metadata.shared, len(operations), len(doubles)
    )


def _dump(option: str, cubin: str) -> str:
    return subprocess.run([str(find_tool()), option, cubin], capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    sys.exit(main())
