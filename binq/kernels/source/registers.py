"""Registers as numba sees them, and what LLVM does within one. Imported only to compile."""

from __future__ import annotations

from typing import Any, NamedTuple

from llvmlite import ir
from numba import types
from numba.core.datamodel import PrimitiveModel, register_default

from binq.kernels.source.scalars import I32, U8, U16, U64, address, instruction


class VectorType(types.Type):
    """A register of `lanes` bytes."""

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        super().__init__(name=f"Vector{lanes}")


@register_default(VectorType)
class _VectorModel(PrimitiveModel):
    def __init__(self, manager: Any, vector: VectorType) -> None:
        super().__init__(manager, vector, ir.VectorType(U8, vector.lanes))


def splat(builder: Any, scalar: Any, count: int) -> Any:
    """A vector of `count` copies."""
    vector = ir.VectorType(scalar.type, count)
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, I32(0))
    return builder.shuffle_vector(
        one, ir.Constant(vector, ir.Undefined), ir.Constant(ir.VectorType(I32, count), [0] * count)
    )


def constants(values: list[int]) -> Any:
    """A vector of 32-bit numbers."""
    return ir.Constant(ir.VectorType(I32, len(values)), values)


def interleave(builder: Any, a: Any, b: Any, lanes: int, size: int, high: bool) -> Any:
    """Elements of `size` bytes of a and b in turn, from the low or high half of every 16 bytes."""
    kind = ir.VectorType(ir.IntType(8 * size), lanes // size)
    order: list[int] = []
    for lane in range(0, lanes, 16):
        for element in range(8 // size):
            start = (lane + 8 * high) // size + element
            order += [start, lanes // size + start]
    return builder.shuffle_vector(
        builder.bitcast(a, kind), builder.bitcast(b, kind), constants(order)
    )


@instruction(types.uint64, None, types.intp, types.int64)
def near16(builder, pointer, offset, limit):
    """A bit for each of the 16 signed 32-bit numbers at byte `offset` that is at most a limit."""
    kind = ir.VectorType(I32, 16)
    values = builder.load(address(builder, pointer, offset, kind), align=16)
    limits = splat(builder, builder.trunc(limit, I32), 16)
    found = builder.icmp_signed("<=", values, limits)
    return builder.zext(builder.bitcast(found, U16), U64)


class Register(NamedTuple):
    """A register of `lanes` bytes: its numba type, and LLVM's, as bytes and as wider numbers."""

    lanes: int
    vec: VectorType
    bytes_type: Any
    words_type: Any
    numbers_type: Any
