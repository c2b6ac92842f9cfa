"""Count the machine instructions that launches execute.

The assembler is told the basic block of each instruction of PTX as its line, and the disassembler says for each machine
instruction which line it is from. So the machine code of a basic block is executed as often as the interpreter executed
the block. A loop that the assembler unrolls has several copies of its body, of which one is counted.
"""

import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from benchmarks.ptx.driver import Launch
from benchmarks.ptx.interpreter import mark_blocks, parse

__all__ = ["count_executed", "run_tool", "tool"]


def count_executed(launches: Iterable[Launch], target: int) -> dict[str, dict[str, float]]:
    """Count by kernel and name, summed over all threads; a fraction where a loop is unrolled.

    Args:
        launches: What was launched, compiled for the target.
        target: Compute capability, 90 for 9.0.
    """
    total = dict[str, dict[str, float]]()
    for launch in launches:
        counts = total.setdefault(launch.kernel.name, {})
        blocks = _disassemble(launch.kernel.text, target)
        for number, times in launch.executed.items():
            block = launch.kernel.blocks[number]
            copies = _count_copies(block.counts, blocks[number]) if number in block.targets else 1
            for name, each in blocks[number].items():
                counts[name] = counts.get(name, 0.0) + each * times / copies
    return total


def tool(name: str) -> Path:
    """Return where a program is that Triton brings."""
    import triton

    return Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / name


def run_tool(name: str, *arguments: str | Path) -> str:
    """Run a program that Triton brings, and return what it prints."""
    return subprocess.run([tool(name), *arguments], capture_output=True, text=True, check=True).stdout


@cache
def _disassemble(module: str, target: int) -> tuple[Counter[str], ...]:
    """Count the machine instructions of each basic block."""
    kernel = parse(module)
    blocks = tuple(Counter[str]() for _ in kernel.blocks)
    with tempfile.TemporaryDirectory() as folder:
        source, binary = Path(folder, "kernel.ptx"), Path(folder, "kernel.cubin")
        source.write_text(mark_blocks(kernel))
        assembler = "ptxas-blackwell" if target >= 100 and tool("ptxas-blackwell").exists() else "ptxas"
        architecture = f"sm_{target}{'a' * (target >= 90)}"
        run_tool(assembler, "-lineinfo", f"--gpu-name={architecture}", source, "-o", binary)
        text = run_tool("nvdisasm", "-g", "-c", binary)
    number = 0
    for line in text.splitlines():
        if found := re.search(r'//## File ".*", line (\d+)', line):
            number = int(found[1])
        elif (found := re.match(r"\s+/\*[0-9a-f]{4,5}\*/\s+(?:@!?U?P\w+\s+)?([A-Z]\w+)", line)) and found[1] != "NOP":
            blocks[number][found[1]] += 1
    return blocks


def _count_copies(before: Counter[str], after: Counter[str]) -> int:
    """Count how often the assembler repeats a block: by its accesses to memory, which it keeps, or else by its sums."""
    for words, names in ((("ld.", "st."), ("LD", "ST")), (("fma.", "add.f32", "mul.f32"), ("FFMA", "FADD", "FMUL"))):
        one = sum(times for name, times in before.items() if name.startswith(words) and "param" not in name)
        all_copies = sum(times for name, times in after.items() if name.startswith(names) and name != "LDC")
        if one and all_copies:
            return max(1, round(all_copies / one))
    return 1
