"""Run compiled kernels without a GPU: PTX, the assembly language that Triton compiles to, as NumPy.

Each basic block of a kernel becomes one Python function, whose registers are arrays `(blocks, threads)`, so that an
instruction runs in all threads of all blocks of a grid at once. An axis has length 1 where all of its values are equal.
Blocks that branch to different places part, and are joined where they meet again. Threads of one block never part:
Triton's kernels branch for a whole block, and anything else is an error here.

What this shows are addresses, masks, layouts, rounding, barriers that are missing, and what is executed. What it cannot
show: the last bits of `ex2.approx` and `div.full`, which are exact here; products and sums that the assembler fuses
later; and anything about time.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import NamedTuple

import numpy as np

from benchmarks.ptx.memory import Array, Memory
from benchmarks.ptx.translation import Instruction, Registers, translate

__all__ = ["Block", "Kernel", "mark_blocks", "parse", "run"]


class Block(NamedTuple):
    """A basic block.

    Attributes:
        run: Executes it: `(registers, memory)`; the registers are changed.
        counts: How many instructions of each name it has.
        jump: The last instruction, if it is a branch or the end.
        targets: The numbers of the blocks that it may go on in; the last one is behind it.
        live: The registers that are read in it, or behind it, before they are written.
    """

    run: Callable[[Registers, Memory], None]
    counts: Counter[str]
    jump: Instruction | None
    targets: tuple[int, ...]
    live: frozenset[str]


class Kernel(NamedTuple):
    """A kernel.

    Attributes:
        name: Its name.
        parameters: The names of its parameters.
        threads: The number of threads of a block.
        blocks: Its basic blocks.
        text: The module.
    """

    name: str
    parameters: tuple[str, ...]
    threads: int
    blocks: tuple[Block, ...]
    text: str

    def count_names(self, executed: Counter[int]) -> Counter[str]:
        """Return how many instructions of each name were executed, from how often each basic block was."""
        total = Counter[str]()
        for number, times in executed.items():
            for name, each in self.blocks[number].counts.items():
                total[name] += each * times
        return total


# --- execution --------------------------------------------------------------------------------------------------


def run(kernel: Kernel, grid: tuple[int, int, int], parameters: Mapping[str, int], memory: Memory) -> Counter[int]:
    """Run a grid.

    Args:
        kernel: The kernel.
        grid: The number of blocks along x, y and z.
        parameters: A value for each parameter: a whole number or an address.
        memory: What it may read and write.

    Returns:
        How often each basic block was executed, summed over all threads.
    """
    count = grid[0] * grid[1] * grid[2]
    numbers = np.arange(count, dtype=np.uint32)[:, None]
    special = {
        "%tid.x": np.arange(kernel.threads, dtype=np.uint32)[None, :],
        "%ctaid.x": numbers % grid[0],
        "%ctaid.y": numbers // grid[0] % grid[1],
        "%ctaid.z": numbers // grid[0] // grid[1],
        **{f"%nctaid.{axis}": np.array([[size]], dtype=np.uint32) for axis, size in zip("xyz", grid, strict=True)},
    }
    values = {name: np.array([[value]]).astype(np.uint64) for name, value in parameters.items()}
    memory.start(count, kernel.threads)
    groups: dict[int, list[tuple[Array, Registers]]] = (
        {0: [(np.arange(count), Registers(special | values))]} if count else {}
    )
    executed = Counter[int]()
    with np.errstate(all="ignore"):
        while groups:
            number = min(groups)  # blocks in front wait for those behind
            block = kernel.blocks[number]
            which, registers = _join(groups.pop(number), block.live)
            executed[number] += len(which)
            memory.which = which
            block.run(registers, memory)
            for target, part in _branch(block, registers, len(which)):
                if part is None:
                    groups.setdefault(target, []).append((which, registers))
                elif len(part):
                    groups.setdefault(target, []).append((which[part], _select(registers, part, kernel.blocks[target])))
    return Counter({number: times * kernel.threads for number, times in executed.items()})


def _branch(block: Block, registers: Registers, count: int) -> Iterator[tuple[int, Array | None]]:
    """Yield where blocks go on, and which: None for all."""
    jump = block.jump
    if jump is None or (jump.words[0] == "bra" and not jump.guard):
        yield block.targets[0], None
    elif jump.words[0] == "bra":
        taken = _uniform(registers[jump.guard.lstrip("~")], count) ^ jump.guard.startswith("~")
        for target, part in zip(block.targets, (taken, ~taken), strict=True):
            yield target, None if part.all() else np.flatnonzero(part)
    elif jump.words[0] == "brx":
        place = _uniform(registers[jump.operands[0]], count)
        for i, target in enumerate(block.targets):
            yield target, np.flatnonzero(place == i)
        assert (place < len(block.targets)).all(), "a jump to nowhere"


def _uniform(values: Array, count: int) -> Array:
    """Return the one value of each block."""
    assert (values == values[:, :1]).all(), "threads of a block part"
    return np.broadcast_to(values[:, 0], count)


def _select(registers: Registers, part: Array, target: Block) -> Registers:
    live = {name: registers[name] for name in target.live if name in registers}
    return Registers({name: value if len(value) == 1 else value[part] for name, value in live.items()})


def _join(groups: list[tuple[Array, Registers]], live: frozenset[str]) -> tuple[Array, Registers]:
    if len(groups) == 1:
        return groups[0]
    joined = Registers()
    for name in live:
        if not all(name in registers for _, registers in groups):
            continue  # one of two values that a later branch chooses between
        values = [registers[name] for _, registers in groups]
        if all(value is values[0] for value in values) and len(values[0]) == 1:
            joined[name] = values[0]
            continue
        width = max(value.shape[1] for value in values)
        sizes = [len(which) for which, _ in groups]
        values = [np.broadcast_to(value, (n, width)) for value, n in zip(values, sizes, strict=True)]
        joined[name] = np.concatenate(values)
    return np.concatenate([which for which, _ in groups]), joined


# --- from text to basic blocks ----------------------------------------------------------------------------------


@cache
def parse(text: str) -> Kernel:
    """Parse the one kernel of a PTX module."""
    head, statements, _ = _split(text)
    found = re.search(r"\.entry (\w+)", head)
    threads = re.search(r"\.reqntid (\d+)", head)
    assert found is not None
    assert threads is not None
    code = list[Instruction]()
    labels = dict[str, int]()
    tables = dict[str, list[str]]()
    for _, found_labels, statement in statements:
        for label in found_labels:
            labels[label] = len(code)
        if statement.startswith(".branchtargets"):
            tables[label] = re.findall(r"\$\w+", statement)
        elif _is_instruction(statement):
            code.append(_parse_instruction(statement))
    parameters = tuple(re.findall(r"\.param [^\n]*?(\w+)[,\n]", head))
    return Kernel(found[1], parameters, int(threads[1]), _cut(code, labels, tables), text)


def mark_blocks(kernel: Kernel) -> str:
    """Return the module with a line number for each instruction, which is the number of its basic block."""
    numbers = iter([n for n, block in enumerate(kernel.blocks) for _ in range(block.counts.total())])
    head, statements, tail = _split(kernel.text)
    head = re.sub(r"(\.address_size \d+\n)", r'\1.file 1 "blocks"\n', head)
    marked = [
        f"{before}\n.loc 1 {next(numbers)} 0\n{statement};" if _is_instruction(statement) else f"{before}{statement};"
        for before, _, statement in statements
    ]
    return head + "\n{\n" + "".join(marked) + tail.split(".section")[0]


def _split(text: str) -> tuple[str, list[tuple[str, list[str], str]], str]:
    """Split a module into its head, statements with what is before them and the labels in it, and its end."""
    text = re.sub(r"//.*|^\s*\.(?:loc|file)\b.*$", "", text, flags=re.MULTILINE)
    head, body = re.split(r"\n{\n", text, maxsplit=1)
    end = body.index("\n}")
    statements = []
    for part in body[:end].split(";")[:-1]:
        *labels, statement = re.split(r"(?:^|(?<=\s))([$\w]+):(?!:)\s*", re.sub(r"^[{}\s]+", "", part).strip())
        statements.append((part[: len(part.rstrip()) - len(statement)], [x for x in labels if x], statement))
    return head, statements, body[end:]


def _is_instruction(statement: str) -> bool:
    return bool(statement) and not statement.startswith((".reg", ".branchtargets"))


def _parse_instruction(statement: str) -> Instruction:
    matched = re.fullmatch(r"(?:@(!?)(%\w+)\s+)?([\w.:]+)\s*(.*)", statement.strip(), re.DOTALL)
    assert matched, statement
    negated, guard, name, rest = matched.groups()
    operands = re.findall(r"\{[^}]*\}|\[[^\]]*\]|[^,\s]+", rest)
    return Instruction(("~" if negated else "") + (guard or ""), tuple(name.split(".")), tuple(operands))


def _cut(code: list[Instruction], labels: dict[str, int], tables: dict[str, list[str]]) -> tuple[Block, ...]:
    """Cut a kernel into basic blocks."""

    def targets_of(instruction: Instruction, end: int) -> list[int]:
        match instruction.words[0]:
            case "bra":
                return [labels[instruction.operands[0]], *([end] if instruction.guard else [])]
            case "brx":
                return [labels[label] for label in tables[instruction.operands[1]]]
            case "ret":
                assert not instruction.guard, "some threads return"
                return []
        return [end]

    jumps = ("bra", "brx", "ret")
    ends = {i + 1 for i, instruction in enumerate(code) if instruction.words[0] in jumps}
    goals = {goal for i, x in enumerate(code) if x.words[0] in jumps for goal in targets_of(x, i + 1)}
    starts = sorted({0} | {i for i in ends | goals if i < len(code)})
    numbers = {start: number for number, start in enumerate(starts)}
    pieces = [code[start:end] for start, end in zip(starts, [*starts[1:], len(code)], strict=True)]
    targets = [
        tuple(numbers[goal] for goal in targets_of(piece[-1], start + len(piece)))
        for start, piece in zip(starts, pieces, strict=True)
    ]
    live = _find_live(pieces, targets)
    blocks = []
    for piece, goals_of, registers in zip(pieces, targets, live, strict=True):
        jump = piece[-1] if piece[-1].words[0] in jumps else None
        straight = piece[:-1] if jump else piece
        counts = Counter(instruction.name for instruction in piece)
        blocks.append(Block(translate(straight), counts, jump, goals_of, registers))
    return tuple(blocks)


def _find_live(pieces: list[list[Instruction]], targets: list[tuple[int, ...]]) -> list[frozenset[str]]:
    """Find the registers that are read in each block, or behind it, before they are written."""
    reads, writes = list[set[str]](), list[set[str]]()
    for piece in pieces:
        read, written = set[str](), set[str]()
        for instruction in piece:
            first, *others = instruction.operands or ("",)
            stores = instruction.words[0] in ("st", "stmatrix", "bra", "brx", "bar", "ret")
            read |= _names(*others, instruction.guard, first if stores else "") - written
            if not stores and instruction.guard:
                read |= _names(first) - written  # what it keeps where the guard is false
            elif not stores:
                written |= _names(first)
        reads.append(read)
        writes.append(written)
    live = [frozenset[str]()] * len(pieces)
    changed = True
    while changed:
        changed = False
        for i in reversed(range(len(pieces))):
            now = reads[i] | set[str]().union(*(live[goal] for goal in targets[i])) - writes[i]
            if now != live[i]:
                live[i], changed = frozenset(now), True
    return live


def _names(*operands: str) -> set[str]:
    return set(re.findall(r"%[\w.]+|\b\w+_param_\d+", " ".join(operands)))
