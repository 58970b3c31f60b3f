"""Which vector instructions a CPU has: the kernels differ by them. Imported only to compile.

LLVM is given a few lines of code for the CPU, and its assembly shows what it needed for them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from llvmlite import binding
from numba import types

_PROBE = """
declare <8 x i64> @llvm.ctpop.v8i64(<8 x i64>)
define void @probe(ptr %p) {{
  %a = load {kind}, ptr %p
  %b = {operation}
  store {kind} %b, ptr %p
  ret void
}}"""
_OPERATIONS = {
    "vpopcntq": ("<8 x i64>", "call <8 x i64> @llvm.ctpop.v8i64(<8 x i64> %a)"),
    "vpaddb": ("<32 x i8>", "add <32 x i8> %a, %a"),
    "pshufb": (
        "<16 x i8>",
        """shufflevector <16 x i8> %a, <16 x i8> poison, <16 x i32> <i32 3, i32 1, i32 8, i32 14,
    i32 0, i32 7, i32 5, i32 2, i32 15, i32 13, i32 4, i32 6, i32 9, i32 12, i32 10, i32 11>""",
    ),
}


def _emits(machine: Any, instruction: str, register: str) -> bool:
    """Whether LLVM uses the instruction on such registers for the CPU of `machine`."""
    kind, operation = _OPERATIONS[instruction]
    probe = binding.parse_assembly(_PROBE.format(kind=kind, operation=operation))
    assembly = machine.emit_assembly(probe)
    return any(instruction in line and register in line for line in assembly.splitlines())


class Features(NamedTuple):
    """What kernels ask of a CPU.

    Attributes
    ----------
    lanes : int
        Bytes of the widest register with a look-up in tables of 16 entries: 16 or 32.
    shuffle : str or None
        LLVM's intrinsic of that look-up; None for none.
    counts : bool
        Whether the bits of 512-bit registers are counted in one instruction.
    """

    lanes: int
    shuffle: str | None
    counts: bool


def of(machine: Any) -> Features:
    """The features of the CPU of an LLVM target machine."""
    if machine.triple.startswith("x86_64"):
        counts = _emits(machine, "vpopcntq", "zmm")
        if _emits(machine, "vpaddb", "ymm"):
            return Features(32, "llvm.x86.avx2.pshuf.b", counts)
        if _emits(machine, "pshufb", "xmm"):
            return Features(16, "llvm.x86.ssse3.pshuf.b.128", counts)
    if machine.triple.startswith(("aarch64", "arm64")):
        return Features(16, "llvm.aarch64.neon.tbl1.v16i8", False)
    return Features(16, None, False)


def kind_of(argument: Any) -> str:
    """How a kernel's argument is passed: as a pointer, an index or a float."""
    if isinstance(argument, types.CPointer):
        return "p"
    return {types.intp: "n", types.float32: "f"}[argument]
