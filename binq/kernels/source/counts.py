"""Eight 64-bit numbers in a register, for CPUs that count bits there. Imported only to compile."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from llvmlite import ir
from numba import types
from numba.core.datamodel import PrimitiveModel, register_default

from binq.kernels.source import registers
from binq.kernels.source.scalars import I32, U64, address, call, instruction


class CountsType(types.Type):
    """Eight 64-bit numbers."""

    def __init__(self) -> None:
        super().__init__(name="Counts")


@register_default(CountsType)
class _CountsModel(PrimitiveModel):
    def __init__(self, manager: Any, counts: CountsType) -> None:
        super().__init__(manager, counts, ir.VectorType(U64, 8))


def counts() -> SimpleNamespace:
    """The operations on eight 64-bit numbers, for CPUs that count bits in registers.

    Returns
    -------
    SimpleNamespace
        numba intrinsics; see the comments at each.
    """
    vec = CountsType()
    kind = ir.VectorType(U64, 8)

    @instruction(vec, None, types.intp)
    def load(builder, pointer, offset):
        return builder.load(address(builder, pointer, offset, kind), align=64)

    @instruction(types.void, None, types.intp, vec)
    def store(builder, pointer, offset, value):
        builder.store(value, address(builder, pointer, offset, kind), align=64)

    @instruction(types.void, None, types.intp, vec)
    def store32(builder, pointer, offset, value):
        # As 32-bit numbers.
        narrow = ir.VectorType(I32, 8)
        target = address(builder, pointer, offset, narrow)
        builder.store(builder.trunc(value, narrow), target, align=32)

    @instruction(vec, None, types.intp, types.intp)
    def rows(builder, pointer, offset, stride):
        # 8 words, `stride` bytes apart, side by side.
        result = ir.Constant(kind, ir.Undefined)
        for lane in range(8):
            value = builder.load(address(builder, pointer, offset, U64), align=8)
            result = builder.insert_element(result, value, I32(lane))
            offset = builder.add(offset, stride)
        return result

    @instruction(vec, None, types.intp)
    def broadcast(builder, pointer, offset):
        word = builder.load(address(builder, pointer, offset, U64), align=8)
        return registers.splat(builder, word, 8)

    @instruction(vec, types.int64)
    def splat(builder, value):
        return registers.splat(builder, value, 8)

    @instruction(vec, vec)
    def ones(builder, a):
        # The number of set bits of each.
        return call(builder, "llvm.ctpop.v8i64", kind, a)

    @instruction(types.uint64, vec, vec)
    def below(builder, a, b):
        # One bit for every lane where a < b, signed.
        found = builder.icmp_signed("<", a, b)
        return builder.zext(builder.bitcast(found, ir.IntType(8)), U64)

    @instruction(vec, vec, vec)
    def add(builder, a, b):
        return builder.add(a, b)

    @instruction(vec, vec, vec)
    def xor(builder, a, b):
        return builder.xor(a, b)

    @instruction(vec, vec, vec)
    def keyed(builder, value, number):
        # (value << 32) | number
        by = ir.Constant(kind, [32] * 8)
        return builder.or_(builder.shl(value, by), number)

    @instruction(vec, vec, vec)
    def least(builder, a, b):
        # The smaller of every two, unsigned.
        return builder.select(builder.icmp_unsigned("<", a, b), a, b)

    return SimpleNamespace(
        load=load, store=store, store32=store32, rows=rows, broadcast=broadcast, splat=splat,
        ones=ones, below=below, add=add, xor=xor, keyed=keyed, least=least,
    )  # fmt: skip
