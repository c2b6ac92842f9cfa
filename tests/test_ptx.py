"""The interpreter of PTX: instructions against NumPy and torch, and what it refuses."""

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
import torch

from benchmarks.ptx import interpreter as ptx
from benchmarks.ptx.memory import AccessError, Array, Memory, Region

HEAD = """
.version 8.0
.target sm_80
.visible .entry kernel(
	.param .u64 .ptr .global .align 1 kernel_param_0,
	.param .u64 .ptr .global .align 1 kernel_param_1,
	.param .u32 kernel_param_2
)
.reqntid 64
{
	.reg .b32 	%r<9>;
	ld.param.b64 	%rd1, [kernel_param_0];
	ld.param.b64 	%rd2, [kernel_param_1];
	ld.param.b32 	%r1, [kernel_param_2];
	mov.u32 	%r2, %tid.x;
	mov.u32 	%r3, %ctaid.x;
	mad.lo.s32 	%r4, %r3, 64, %r2;
	mad.wide.s32 	%rd3, %r4, 4, %rd1;
	mad.wide.s32 	%rd4, %r4, 4, %rd2;
	ld.global.b32 	{ %r5 }, [ %rd3 + 0 ];
"""
STORE = "	st.global.b32 	[ %rd4 + 0 ], { %r6 };\n"
HALVES = "mov.b32 {%rs1, %rs2}, %r5; mov.b32 %r6, {%rs2, %rs1};"
BLOCKS = 3


def run(code: str, values: Array, number: int = 0, shared: int = 0, blocks: int = BLOCKS) -> tuple[Array, Counter[str]]:
    """Run code that computes %r6 from a value %r5 of each of 64 threads of each block, and the number %r1."""
    source = np.ascontiguousarray(values).view(np.uint8)
    result = np.zeros(blocks * 64 * 4, dtype=np.uint8)
    regions = [Region("the source", 4096, source), Region("the result", 65536, result)]
    parameters = {"kernel_param_0": 4096, "kernel_param_1": 65536, "kernel_param_2": number}
    kernel = ptx.parse(HEAD + code + "	ret;\n}\n")
    executed = ptx.run(kernel, (blocks, 1, 1), parameters, Memory(regions, shared))
    return result.view(np.uint32), kernel.count_names(executed)


def to_bf16(values: Array) -> Array:
    return torch.from_numpy(values).bfloat16().float().numpy()


def numbers(dtype: type) -> Array:
    """One number for each thread: special ones, and others."""
    rng = np.random.default_rng(0)
    if dtype is np.int32:
        return rng.integers(-(2**31), 2**31, BLOCKS * 64, dtype=np.int64).astype(np.int32)
    special = np.array([0.0, -0.0, 1.0, -1.0, np.nan, np.inf, -np.inf, 1e-42, -1e-42, 3e38, 0.5, 2.5])
    return np.concatenate([special, rng.normal(0, 3, BLOCKS * 64 - len(special))]).astype(np.float32)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("add.s32 %r6, %r5, %r1;", lambda x: x + np.int32(7)),
        ("mul.lo.s32 %r6, %r5, %r5;", lambda x: (x.astype(np.int64) ** 2).astype(np.int32)),
        ("div.s32 %r6, %r5, %r1;", lambda x: np.trunc(x.astype(float) / 7).astype(np.int32)),
        ("rem.s32 %r6, %r5, -7;", lambda x: np.array([int(np.fmod(int(v), 7)) for v in x], dtype=np.int32)),
        ("shr.s32 %r6, %r5, 5;", lambda x: x >> 5),
        ("shr.u32 %r6, %r5, 40;", lambda x: 0 * x),
        ("bfe.u32 %r6, %r5, 5, 2;", lambda x: x.view(np.uint32) // 32 % 4),
        ("max.s32 %r6, %r5, -3;", lambda x: np.maximum(x, -3)),
        ("min.relu.s32 %r6, %r5, 9;", lambda x: np.clip(x, 0, 9)),
        ("mul.wide.s32 %rd9, %r5, %r5; mov.b64 {_, %r6}, %rd9;", lambda x: (x.astype(np.int64) ** 2 >> 32)),
        ("setp.lt.s32 %p1, %r5, 0; selp.b32 %r6, 1, -1, %p1;", lambda x: np.where(x < 0, 1, -1)),
        ("mov.b32 %r6, 5; setp.gt.u32 %p1, %r5, 9; @!%p1 mov.b32 %r6, 6;", lambda x: np.where(x.view("u4") > 9, 5, 6)),
        ("prmt.b32 %r6, %r5, %r1, 0x5410U;", lambda x: x.view(np.uint32) % 65536 + 7 * 65536),
        (HALVES, lambda x: np.roll(x.view("u2").reshape(-1, 2), 1, 1).view("u4")[:, 0]),
        ("cvt.u16.u32 %rs1, %r5; cvt.u32.u16 %r6, %rs1;", lambda x: x.view(np.uint32) % 65536),
        ("cvt.s64.s32 %rd9, %r5; shr.s64 %rd9, %rd9, 35; cvt.u32.u64 %r6, %rd9;", lambda x: np.where(x < 0, -1, 0)),
        ("shfl.sync.bfly.b32 %r6, %r5, 16, 31, -1;", lambda x: x.reshape(-1, 2, 16)[:, ::-1].ravel()),
    ],
)  # fmt: skip
def test_whole_numbers(code: str, expected: Callable[[Array], Array]) -> None:
    values = numbers(np.int32)
    got, _ = run(code + STORE, values, 7)
    assert np.array_equal(got.view(np.int32), expected(values).astype(np.int64).astype(np.int32))


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("fma.rn.f32 %r6, %r5, %r5, 0fBF800000;", lambda x: (x.astype(np.float64) ** 2 - 1).astype(np.float32)),
        ("min.f32 %r6, %r5, 0f3F800000;", lambda x: np.fmin(x, 1)),
        ("max.NaN.f32 %r6, %r5, 0f00000000;", lambda x: np.maximum(x, 0)),
        ("max.f32 %r6, %r5, 0f3F800000, 0f40000000;", lambda x: np.fmax(x, 2)),
        ("setp.neu.f32 %p1, %r5, %r5; selp.f32 %r6, 0f3F800000, 0f00000000, %p1;", np.isnan),
        ("setp.ne.f32 %p1, %r5, %r5; selp.f32 %r6, 0f3F800000, 0f00000000, %p1;", lambda x: 0 * x.view("u4")),
        ("cvt.rmi.ftz.f32.f32 %r6, %r5;", lambda x: np.where(abs(x) < 1e-38, 0, np.floor(x))),
        ("cvt.rn.bf16.f32 %rs1, %r5; cvt.u32.u16 %r6, %rs1; shl.b32 %r6, %r6, 16;", to_bf16),
        ("cvt.rn.bf16x2.f32 %r6, %r5, 0f3F800000; and.b32 %r6, %r6, -65536;", to_bf16),
        ("mov.b64 %rd9, {%r5, %r5}; mul.f32x2 %rd9, %rd9, %rd9; mov.b64 {_, %r6}, %rd9;", lambda x: x * x),
        ("mul.f32 %r6, %r5, 0f00000001;", lambda x: x * np.float32(1e-45)),
    ],
)  # fmt: skip
def test_floats_with_denormals_and_nan(code: str, expected: Callable[[Array], Array]) -> None:
    values = numbers(np.float32)
    got, _ = run(code + STORE, values)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(got.view(np.float32), expected(values).astype(np.float32))


def test_conversions_to_whole_numbers_saturate() -> None:
    values = np.resize(np.array([np.nan, np.inf, -np.inf, 1.9, -1.9], dtype=np.float32), BLOCKS * 64)
    got, _ = run("cvt.rzi.s32.f32 %r6, %r5;" + STORE, values)
    assert got[:5].view(np.int32).tolist() == [0, 2**31 - 1, -(2**31), 1, -1]


LOOP = """
	mov.b32 	%r6, 0;
	setp.eq.s32 	%p1, %r3, 0;
	@%p1 bra 	$L__BB0_2;
	mov.b32 	%r7, 0;
$L__BB0_1:
	add.s32 	%r6, %r6, %r5;
	add.s32 	%r7, %r7, 1;
	setp.lt.s32 	%p2, %r7, %r3;
	@%p2 bra 	$L__BB0_1;
$L__BB0_2:
"""


def test_blocks_that_part_meet_again_and_are_counted() -> None:
    values = np.arange(BLOCKS * 64, dtype=np.int32)
    got, executed = run(LOOP + STORE, values)
    assert np.array_equal(got.reshape(BLOCKS, 64), values.reshape(BLOCKS, 64) * np.arange(BLOCKS)[:, None])
    assert executed["st.global.b32"] == BLOCKS * 64
    assert executed["setp.lt.s32"] == (0 + 1 + 2) * 64


def test_a_table_of_jumps() -> None:
    code = """
$L_brx_0: .branchtargets
	$L__BB0_3,
	$L__BB0_4,
	$L__BB0_5;
	brx.idx 	%r3, $L_brx_0;
$L__BB0_3:
	mov.b32 	%r6, 30;
	bra.uni 	$L__BB0_6;
$L__BB0_4:
	mov.b32 	%r6, 40;
	bra.uni 	$L__BB0_6;
$L__BB0_5:
	mov.b32 	%r6, 50;
$L__BB0_6:
"""
    got, _ = run(code + STORE, np.zeros(BLOCKS * 64, dtype=np.int32))
    assert got[::64].tolist() == [30, 40, 50]


EXCHANGE = """
	shl.b32 	%r7, %r2, 2;
	st.shared::cta.b32 	[ %r7 + 0 ], %r5;
{barrier}
	xor.b32 	%r7, %r7, 252;
	ld.shared.b32 	%r6, [%r7];
"""


def test_shared_memory_is_that_of_a_block() -> None:
    values = numbers(np.int32)
    got, _ = run(EXCHANGE.replace("{barrier}", "bar.sync 0;") + STORE, values, shared=256)
    assert np.array_equal(got.view(np.int32).reshape(BLOCKS, 64), values.reshape(BLOCKS, 64)[:, ::-1])


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("ld.global.b32 { %r6 }, [ %rd3 + 4 ];", "4 bytes behind the end of the source"),
        ("sub.s64 %rd3, %rd3, 8; ld.global.b32 { %r6 }, [ %rd3 + 0 ];", "no argument has memory at"),
        ("ld.global.b32 { %r6 }, [ %rd3 + 2 ];", "not aligned|behind"),
        ("add.s64 %rd4, %rd4, 2; @!%p1 st.global.b32 [ %rd4 + 0 ], { %r5 };", "not aligned|behind"),
        ("ld.global.v2.b32 { %r6, %r7 }, [ %rd1 + 4 ];", "2 x 4 bytes in the source is not aligned"),
        ("st.global.b32 [ %rd2 + 0 ], { %r5 };", "a race for the result"),
        ("st.global.b32 [ %rd4 + 0 ], { %r5 }; ld.global.b32 { %r6 }, [ %rd2 + 0 ];", "a race for the result"),
        (EXCHANGE.replace("{barrier}", ""), "a race for shared memory"),
        ("ld.shared.b32 %r6, [256];", "byte 260 of 256 bytes of shared memory"),
    ],
)
def test_accesses_that_are_wrong(code: str, problem: str) -> None:
    setup = "setp.eq.s32 %p1, %r2, 65; mov.b32 %r6, 0;"
    first = "" if "st.global" not in code or "race" not in problem else "bar.sync 0;"
    with pytest.raises(AccessError, match=problem):
        run(setup + first + code + ("" if "st." in code else STORE), numbers(np.int32), shared=256)


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("setp.lt.s32 %p1, %r2, 3; @%p1 bra $L__BB0_1; mov.b32 %r6, 0;\n$L__BB0_1:\n", "threads of a block part"),
        ("sad.u32 %r6, %r5, %r5, 0;", "sad"),
        ("add.s32 %r6, %r5, %r5, %r5;", "add"),
    ],
)
def test_what_it_does_not_know_is_an_error(code: str, problem: str) -> None:
    with pytest.raises((AssertionError, KeyError), match=problem):
        run(code + STORE, numbers(np.int32))
