"""Translate a basic block of PTX to a Python function that computes with NumPy.

Registers have the unsigned dtype of their width; each instruction looks at them as the type that it names.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from benchmarks.ptx.memory import Array, Memory

__all__ = ["Instruction", "Registers", "translate"]


class Registers(dict[str, Array]):
    """The registers of some blocks. One that is read before it is written, which must not matter, has all bits set."""

    def __missing__(self, register: str) -> Array:
        return ~np.zeros((1, 1), dtype=_width(register))


class Instruction(NamedTuple):
    """One instruction, such as `@!%p3 setp.lt.s32 %p4, %r1, 0`.

    Attributes:
        guard: The predicate that it is executed under, with "~" before it if negated; empty if it always is.
        words: The parts of its name: "setp", "lt", "s32".
        operands: Its operands.
    """

    guard: str
    words: tuple[str, ...]
    operands: tuple[str, ...]

    @property
    def name(self) -> str:
        """Its name."""
        return ".".join(self.words)


def translate(instructions: Sequence[Instruction]) -> Callable[[Registers, Memory], None]:
    """Translate instructions without jumps to a function of the registers, which it changes, and the memory."""
    constants = dict[str, Array]()
    lines = [line for instruction in instructions for line in _translate(instruction, constants)]
    code = "\n    ".join(["def block(r, m):", *lines, "return"])
    made: dict[str, Any] = _FUNCTIONS | constants
    exec(compile(code, "<ptx>", "exec"), made)
    function: Callable[[Registers, Memory], None] = made["block"]
    return function


# --- types and operands -----------------------------------------------------------------------------------------

_DTYPES: Final = {
    "pred": "?",
    **{f"{letter}{8 * size}": f"{'i' if letter == 's' else 'u'}{size}" for letter in "bus" for size in (1, 2, 4, 8)},
    "f16": "f2",
    "f32": "f4",
    "f64": "f8",
}  # fmt: skip
_REGISTERS: Final = {"p": "?", "rs": "u2", "r": "u4", "rd": "u8", "f": "u4", "fd": "u8", "h": "u2"}


def _width(register: str) -> str:
    """Return the dtype of a register."""
    if register.startswith(("%tid", "%ctaid", "%nctaid")):
        return "u4"
    matched = re.fullmatch(r"%([a-z]+)\d+", register)
    return _REGISTERS[matched[1]] if matched else "u8"  # parameters are kept in 64 bits


def _read(operand: str, dtype: str, constants: dict[str, Array]) -> str:
    """Return the expression of an operand seen as a dtype."""
    if operand.startswith("%") or "_param_" in operand:
        value, width = f"r[{operand!r}]", _width(operand)
        if width == dtype:
            return value
        if width[1:] != dtype[1:]:  # the lower part of a wider register
            value = f"{value}.astype('u{dtype[1:]}')"
        return value if dtype.startswith("u") and width[1:] != dtype[1:] else f"{value}.view('{dtype}')"
    if operand == "global_smem":
        operand = "0"
    if operand[:2] in ("0f", "0d"):
        bits, unsigned = int(operand[2:], 16), {"0f": "u4", "0d": "u8"}[operand[:2]]
        value_of = np.array([[bits]], dtype=unsigned).view(unsigned if dtype[0] in "ui" else dtype)
    else:
        whole = int(operand.rstrip("U"), 0)
        size = 1 if dtype == "?" else int(dtype[1:])
        value_of = np.array([[whole % 256**size]], dtype=f"u{size}")
        value_of = value_of.astype(bool) if dtype == "?" else value_of.view(dtype)
    name = f"c{len(constants)}"
    constants[name] = value_of
    return name


def _write(register: str, value: str, dtype: str, guard: str) -> str:
    """Return the statement that writes a value of a dtype to a register."""
    width = _width(register)
    if dtype != width:
        # shorter ones are extended by their sign
        value = f"({value}).view('{width}')" if dtype[1:] == width[1:] else f"({value}).astype('{width}')"
    if guard:
        value = f"where({guard}, {value}, r.get({register!r}, 0))"
    return f"r[{register!r}] = {value}"


# --- instructions -----------------------------------------------------------------------------------------------

_COMPARISONS: Final = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "neu": "!="}
_SIMPLE: Final = {
    "mov": "{0}", "add": "{0} + {1}", "sub": "{0} - {1}", "mul": "{0} * {1}", "mul.lo": "{0} * {1}", "neg": "-{0}",
    "abs": "abs({0})", "and": "{0} & {1}", "or": "{0} | {1}", "xor": "{0} ^ {1}", "not": "~{0}",
    "mad.lo": "{0} * {1} + {2}", "fma": "fma({0}, {1}, {2})",
    "div": "divide({0}, {1})", "rem": "fmod({0}, {1})",
    "min": "fmin({0}, {1})", "max": "fmax({0}, {1})",  # for floats, they ignore NaN
    "min.NaN": "minimum({0}, {1})", "max.NaN": "maximum({0}, {1})", "min.relu": "maximum(minimum({0}, {1}), 0)",
    "ex2.approx": "exp2({0})", "bfe": "{0} >> {1} & (1 << {2}) - 1", "sqrt.rn": "sqrt({0})", "rcp.rn": "1 / {0}",
}  # fmt: skip
_IGNORED: Final = {"rn", "full", "uni"}


def _translate(instruction: Instruction, constants: dict[str, Array]) -> list[str]:
    words, operands = instruction.words, instruction.operands
    guard = re.sub(r"(%\w+)", r"r['\1']", instruction.guard)

    def read(number: int, dtype: str) -> str:
        return _read(operands[number], dtype, constants)

    if instruction.name == "bar.sync":
        return ["m.wait()"]
    if words[0] in ("ld", "st"):
        return _translate_access(instruction, guard, constants)
    if words[0] in ("ldmatrix", "stmatrix"):
        return _translate_matrix(instruction, constants)
    if words[0] == "cvt":
        return [_translate_conversion(instruction, guard, constants)]
    if words[0] == "shfl":
        assert (*words, *operands[3:]) == ("shfl", "sync", "bfly", "b32", "31", "-1"), instruction
        return [_write(operands[0], f"exchange({read(1, 'u4')}, {operands[2]})", "u4", guard)]
    dtype = _DTYPES.get(words[-1], "")
    if words[0] == "redux":
        value = f"reduce_lanes({words[2]}imum, {read(1, dtype)}, {read(2, 'u4')})"
        return [_write(operands[0], value, dtype, guard)]
    if words[0] == "mov" and "{" in "".join(operands[:2]):
        return _translate_pair(operands, dtype, constants)
    if words[0] == "setp":
        assert len(words) == 3, instruction
        value = f"{read(1, dtype)} {_COMPARISONS[words[1]]} {read(2, dtype)}"
        if words[1] == "ne" and dtype[0] == "f":
            value = f"({value}) & ({read(1, dtype)} == {read(1, dtype)}) & ({read(2, dtype)} == {read(2, dtype)})"
        return [_write(operands[0], value, "?", guard)]
    if words[0] == "selp":
        return [_write(operands[0], f"where({read(3, '?')}, {read(1, dtype)}, {read(2, dtype)})", dtype, guard)]
    if words[0] in ("shl", "shr"):
        sign = {"shl": "<<", "shr": ">>"}[words[0]]
        return [_write(operands[0], f"{read(1, dtype)} {sign} {read(2, 'u4')}.astype('{dtype}')", dtype, guard)]
    if words[0] == "prmt":
        return [
            _write(operands[0], f"permute({read(1, 'u4')}, {read(2, 'u4')}, {operands[3].rstrip('U')})", "u4", guard)
        ]
    if words[1] == "wide":
        wide = f"{dtype[0]}{2 * int(dtype[1:])}"
        value = f"{read(1, dtype)}.astype('{wide}') * {read(2, dtype)}"
        value += f" + {read(3, wide)}" if words[0] == "mad" else ""
        return [_write(operands[0], value, wide, guard)]
    template = _find_template(words[:-1], len(operands) - 1)
    if words[-1] == "f32x2":  # two numbers in 64 bits
        halves = [[f"half({read(i, 'u8')}, {side})" for i in range(1, len(operands))] for side in (0, 1)]
        value = f"pair({template.format(*halves[0])}, {template.format(*halves[1])})"
        return [_write(operands[0], value, "u8", guard)]
    value = template.format(*(read(i, dtype) for i in range(1, len(operands))))
    return [_write(operands[0], value, dtype, guard)]


def _find_template(words: Sequence[str], inputs: int) -> str:
    """Find the expression of an instruction; one that is not known is an error."""
    template = _SIMPLE[".".join(word for word in words if word not in _IGNORED)]
    if inputs == 3 and words[0] in ("min", "max"):  # of Blackwell
        template = template.format(template, "{2}")
    assert template.count("{") == inputs, words
    return template


def _translate_access(instruction: Instruction, guard: str, constants: dict[str, Array]) -> list[str]:
    words, operands = instruction.words, instruction.operands
    dtype, space = _DTYPES[words[-1]], words[1].split("::")[0]
    if space == "param":
        name = operands[1].strip("[] ")
        return [_write(operands[0], _read(name, dtype, constants), dtype, guard)]
    place, values = operands if words[0] == "st" else operands[::-1]
    address = _read_address(place, "u4" if space == "shared" else "u8", constants)
    registers = re.findall(r"%\w+", values)
    unsigned = f"u{dtype[1:]}"
    if words[0] == "st":
        stored = ", ".join(_read(register, unsigned, constants) for register in registers)
        return [f"m.store('{space}', {address}, [{stored}], {guard or None})"]
    lines = [f"loaded = m.load('{space}', {address}, '{unsigned}', {len(registers)}, {guard or None})"]
    return lines + [_write(register, f"loaded[{i}]", unsigned, guard) for i, register in enumerate(registers)]


def _read_address(place: str, dtype: str, constants: dict[str, Array]) -> str:
    matched = re.fullmatch(r"\[\s*(%?\w+)\s*(?:\+\s*(\d+))?\s*\]", place)
    assert matched, place
    return _read(matched[1], dtype, constants) + (f" + {matched[2]}" if int(matched[2] or 0) else "")


def _translate_matrix(instruction: Instruction, constants: dict[str, Array]) -> list[str]:
    """Translate an access to matrices of 8 x 8 numbers of 16 bits, two neighbours of a row in each register."""
    words, operands = instruction.words, instruction.operands
    assert not instruction.guard, instruction
    assert words[-1] == "b16", instruction
    assert "trans" not in words, instruction
    place, values = operands if words[0] == "stmatrix" else operands[::-1]
    lines = [f"address = {_read_address(place, 'u4', constants)}"]
    for i, register in enumerate(re.findall(r"%\w+", values)):
        if words[0] == "stmatrix":
            lines.append(f"m.store('shared', rows(address, {i}), [{_read(register, 'u4', constants)}], None)")
        else:
            lines.append(_write(register, f"m.load('shared', rows(address, {i}), 'u4', 1, None)[0]", "u4", ""))
    return lines


def _translate_conversion(instruction: Instruction, guard: str, constants: dict[str, Array]) -> str:
    operands = instruction.operands
    *how, to, source = instruction.words[1:]
    if to in ("bf16x2", "f16x2"):
        high, low = (_read(operand, "f4", constants) for operand in operands[1:])
        half = "to_bf16" if to == "bf16x2" else "to_f16"
        return _write(operands[0], f"{half}({high}).astype('u4') << 16 | {half}({low})", "u4", guard)
    value = _read(operands[1], "u2" if source == "bf16" else _DTYPES[source], constants)
    if to in ("bf16", "f16") and source == "f32":
        return _write(operands[0], f"to_{to}({value})", "u2", guard)
    if source == "bf16":
        return _write(operands[0], f"{value}.astype('u4') << 16", "u4", guard)
    dtype = _DTYPES[to]
    if "ftz" in how:
        value = f"flush({value})"
    if "rmi" in how:
        value = f"floor({value})"
    if "rzi" in how:
        value = f"to_whole({value}, '{dtype}')"
    return _write(operands[0], f"({value}).astype('{dtype}')", dtype, guard)


def _translate_pair(operands: Sequence[str], dtype: str, constants: dict[str, Array]) -> list[str]:
    """Translate `mov` from or to two registers, the lower half first."""
    half = 8 * int(dtype[1:]) // 2
    narrow = f"u{half // 8}"
    if "{" in operands[0]:
        value = _read(operands[1], dtype, constants)
        low, high = (name.strip() for name in operands[0].strip("{}").split(","))
        parts = ((low, f"({value}).astype('{narrow}')"), (high, f"({value} >> {half}).astype('{narrow}')"))
        return [_write(name, part, narrow, "") for name, part in parts if name.startswith("%")]
    low, high = (_read(name.strip(), narrow, constants) for name in operands[1].strip("{}").split(","))
    return [_write(operands[0], f"{low}.astype('{dtype}') | {high}.astype('{dtype}') << {half}", dtype, "")]


# --- what NumPy has no function for -----------------------------------------------------------------------------


def _fma(a: Array, b: Array, c: Array) -> Array:
    """Multiply and add, rounded once, almost always: through the next wider type."""
    wide = np.float64 if a.dtype == np.float32 else np.longdouble
    return (a.astype(wide) * b + c).astype(a.dtype)


def _divide(a: Array, b: Array) -> Array:
    return a / b if a.dtype.kind == "f" else (a - np.fmod(a, b)) // b


def _exchange(x: Array, mask: int) -> Array:
    """Give every thread the number of another one of its 32."""
    if x.shape[1] == 1:
        return x
    lanes = np.arange(x.shape[1])
    return x[:, lanes ^ mask]


def _reduce_lanes(function: np.ufunc, x: Array, mask: Array) -> Array:
    """Give every thread the greatest or smallest number of those of its 32 that are in its mask."""
    if x.shape[1] == 1:
        return x
    assert (mask == mask[:1]).all(), "masks that differ between blocks"
    keys = np.arange(x.shape[1]) // 32 << 32 | np.broadcast_to(mask[0].astype(np.int64), x.shape[1])
    reduced = np.empty_like(x)
    for key in np.unique(keys):
        lanes = np.flatnonzero(keys == key)
        assert (lanes % 32 == np.flatnonzero(key >> np.arange(32) & 1)).all(), "threads outside of their own mask"
        reduced[:, lanes] = function.reduce(x[:, lanes], axis=1, keepdims=True)
    return reduced


def _rows(address: Array, matrix: int) -> Array:
    """Find the two numbers of each thread in a matrix; the threads from 8 times its number on know where rows begin."""
    lanes = np.arange(address.shape[1])
    return address[:, lanes // 32 * 32 + 8 * matrix + lanes % 32 // 4] + (lanes % 4 * 4).astype(np.uint32)


def _permute(a: Array, b: Array, selector: int) -> Array:
    both = a.astype(np.uint64) | b.astype(np.uint64) << 32
    result = np.zeros_like(both)
    for i in range(4):
        place = selector >> 4 * i & 15
        assert place < 8, "signs are not copied"
        result |= (both >> 8 * place & 255) << 8 * i
    return result.astype(np.uint32)


def _to_bf16(x: Array) -> Array:
    bits = x.view(np.uint32)
    rounded = bits + (0x7FFF + (bits >> 16 & 1)) >> 16
    return np.where(np.isnan(x), 0x7FFF, rounded).astype(np.uint16)


def _to_f16(x: Array) -> Array:
    return x.astype(np.float16).view(np.uint16)


def _to_whole(x: Array, dtype: str) -> Array:
    """Round towards zero, to the nearest number that there is; NaN becomes what it becomes on a device."""
    limits = np.iinfo(dtype)
    nan = 0 if x.dtype == np.float32 and limits.bits < 64 else limits.min
    clipped = np.clip(np.trunc(x.astype(np.longdouble)), limits.min, limits.max)
    return np.where(np.isnan(x), nan, clipped).astype(dtype)


def _flush(x: Array) -> Array:
    """Round denormal numbers to zero."""
    return np.where(abs(x) < np.finfo(np.float32).tiny, np.copysign(np.float32(0), x), x)


def _half(x: Array, side: int) -> Array:
    return (x >> 32 * side).astype(np.uint32).view(np.float32)


def _pair(low: Array, high: Array) -> Array:
    wide = (half.view(np.uint32).astype(np.uint64) for half in (low, high))
    return next(wide) | next(wide) << 32


_FUNCTIONS: Final[dict[str, Any]] = {
    function.__name__.lstrip("_"): function
    for function in (
        np.exp2, np.floor, np.fmax, np.fmin, np.fmod, np.maximum, np.minimum, np.sqrt, np.where,
        _divide, _exchange, _flush, _fma, _half, _pair, _permute, _reduce_lanes, _rows, _to_bf16, _to_f16, _to_whole,
    )
}  # fmt: skip
