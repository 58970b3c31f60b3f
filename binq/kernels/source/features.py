"""What a CPU can do, asked of LLVM: the kernels differ by it. Imported only to compile."""

from __future__ import annotations

from typing import Any

from llvmlite import binding

_PROBES = {
    "vpopcntq": """
declare <8 x i64> @llvm.ctpop.v8i64(<8 x i64>)
define void @probe(ptr %p) {
  %a = load <8 x i64>, ptr %p
  %b = call <8 x i64> @llvm.ctpop.v8i64(<8 x i64> %a)
  store <8 x i64> %b, ptr %p
  ret void
}""",
    "vpaddb": """
define void @probe(ptr %p) {
  %a = load <32 x i8>, ptr %p
  %b = add <32 x i8> %a, %a
  store <32 x i8> %b, ptr %p
  ret void
}""",
    "pshufb": """
define void @probe(ptr %p) {
  %a = load <16 x i8>, ptr %p
  %b = shufflevector <16 x i8> %a, <16 x i8> poison, <16 x i32> <i32 3, i32 1, i32 8, i32 14,
    i32 0, i32 7, i32 5, i32 2, i32 15, i32 13, i32 4, i32 6, i32 9, i32 12, i32 10, i32 11>
  store <16 x i8> %b, ptr %p
  ret void
}""",
}


def _emits(machine: Any, instruction: str, register: str) -> bool:
    """Whether the CPU of `machine` has the instruction: LLVM is asked to need it."""
    assembly = machine.emit_assembly(binding.parse_assembly(_PROBES[instruction]))
    return any(instruction in line and register in line for line in assembly.splitlines())


def counts_bits(machine: Any) -> bool:
    """Whether the CPU counts the bits of 512-bit registers in one instruction."""
    return machine.triple.startswith("x86_64") and _emits(machine, "vpopcntq", "zmm")


def byte_shuffle(machine: Any) -> tuple[int, str | None]:
    """The widest register (bytes) with a 16-entry byte look-up, and its LLVM intrinsic."""
    if machine.triple.startswith("x86_64"):
        if _emits(machine, "vpaddb", "ymm"):
            return 32, "llvm.x86.avx2.pshuf.b"
        if _emits(machine, "pshufb", "xmm"):
            return 16, "llvm.x86.ssse3.pshuf.b.128"
    if machine.triple.startswith(("aarch64", "arm64")):
        return 16, "llvm.aarch64.neon.tbl1.v16i8"
    return 16, None
