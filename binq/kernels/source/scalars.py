"""What numba lacks for numbers and pointers: intrinsics of one LLVM instruction each.

Imported only when kernels have to be compiled.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

jit: Any = njit(error_model="numpy", forceinline=True)
"""For the parts of a kernel."""

U8 = ir.IntType(8)
U16 = ir.IntType(16)
I32 = ir.IntType(32)
U64 = ir.IntType(64)


def address(builder: Any, pointer: Any, offset: Any, target: Any) -> Any:
    """The pointer `offset` bytes on, to a `target`."""
    base = builder.bitcast(pointer, U8.as_pointer())
    return builder.bitcast(builder.gep(base, [offset]), target.as_pointer())


@intrinsic
def popcount(typingctx, a):
    """The number of set bits of a uint64."""

    def emit(context, builder, sig, args):
        return builder.ctpop(args[0])

    return types.uint64(types.uint64), emit


@intrinsic
def prefetch(typingctx, pointer, offset):
    """Ask for the cache line at byte `offset`; it need not exist."""

    def emit(context, builder, sig, args):
        name = "llvm.prefetch.p0"
        pointer = U8.as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [pointer, I32, I32, I32])
        function = cgutils.get_or_insert_function(builder.module, kind, name)
        # To read, into the second level of cache, as data.
        builder.call(function, [address(builder, *args, U8), I32(0), I32(2), I32(1)])
        return context.get_dummy_value()

    return types.void(pointer, types.intp), emit


@intrinsic
def trailing_zeros(typingctx, a):
    """The index of the lowest set bit of a uint64 that is not zero."""

    def emit(context, builder, sig, args):
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.uint64(types.uint64), emit


@intrinsic
def float_bits(typingctx, a):
    """The bits of a float32 as a uint32."""

    def emit(context, builder, sig, args):
        return builder.bitcast(args[0], I32)

    return types.uint32(types.float32), emit


@intrinsic
def bits_float(typingctx, a):
    """The float32 that has the bits of a uint32."""

    def emit(context, builder, sig, args):
        return builder.bitcast(args[0], ir.FloatType())

    return types.float32(types.uint32), emit


@intrinsic
def int16s(typingctx, pointer, offset):
    """The memory at byte `offset` as signed 16-bit numbers."""

    def emit(context, builder, sig, args):
        return address(builder, *args, U16)

    return types.CPointer(types.int16)(pointer, types.intp), emit


@intrinsic
def copy_bytes(typingctx, target, to, source, start, count):
    """Copy `count` bytes from byte `start` of `source` to byte `to` of `target`."""

    def emit(context, builder, sig, args):
        target, to, source, start, count = args
        to, start = address(builder, target, to, U8), address(builder, source, start, U8)
        cgutils.raw_memcpy(builder, to, start, count, 1)
        return context.get_dummy_value()

    return types.void(target, types.intp, source, types.intp, types.intp), emit


@intrinsic
def uint32s(typingctx, pointer, offset):
    """The memory at byte `offset` as unsigned 32-bit numbers."""

    def emit(context, builder, sig, args):
        return address(builder, *args, I32)

    return types.CPointer(types.uint32)(pointer, types.intp), emit


@intrinsic
def offset_by(typingctx, pointer, offset, like):
    """The pointer `offset` bytes on, with the type of `like`."""

    def emit(context, builder, sig, args):
        base = builder.bitcast(args[0], U8.as_pointer())
        return builder.bitcast(builder.gep(base, [args[1]]), args[2].type)

    return like(pointer, types.intp, like), emit
