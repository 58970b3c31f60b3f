"""What numba lacks for numbers and pointers: intrinsics of one LLVM instruction each.

Imported only when kernels have to be compiled.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
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


def instruction(result: Any, *arguments: Any) -> Callable[[Callable[..., Any]], Any]:
    """Make an intrinsic of a function that emits its code, ``emit(builder, *values)``.

    Parameters
    ----------
    result : numba type
    arguments : numba type or None
        None takes whatever comes, such as a pointer of any type.
    """

    def make(emit: Callable[..., Any]) -> Any:
        @wraps(emit)
        def typed(_: Any, *given: Any) -> Any:
            def lower(context: Any, builder: Any, _: Any, values: Any) -> Any:
                value = emit(builder, *values)
                return context.get_dummy_value() if result is types.void else value

            kinds = (kind or own for kind, own in zip(arguments, given, strict=True))
            return result(*kinds), lower

        return intrinsic(typed)

    return make


def address(builder: Any, pointer: Any, offset: Any, target: Any) -> Any:
    """The pointer `offset` bytes on, to a `target`."""
    base = builder.bitcast(pointer, U8.as_pointer())
    return builder.bitcast(builder.gep(base, [offset]), target.as_pointer())


def call(builder: Any, name: str, result: Any, *values: Any) -> Any:
    """Call an intrinsic of LLVM; llvmlite declares none over vectors by itself."""
    kind = ir.FunctionType(result, [value.type for value in values])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), values)


@instruction(types.uint64, types.uint64)
def popcount(builder, a):
    """The number of set bits of a uint64."""
    return builder.ctpop(a)


@instruction(types.void, None, types.intp)
def prefetch(builder, pointer, offset):
    """Ask for the cache line at byte `offset`; it need not exist."""
    line = address(builder, pointer, offset, U8)
    # To read, into the second level of cache, as data.
    call(builder, "llvm.prefetch.p0", ir.VoidType(), line, I32(0), I32(2), I32(1))


@instruction(types.uint64, types.uint64)
def trailing_zeros(builder, a):
    """The index of the lowest set bit of a uint64 that is not zero."""
    return builder.cttz(a, ir.Constant(ir.IntType(1), 1))


@instruction(types.uint32, types.float32)
def float_bits(builder, a):
    """The bits of a float32 as a uint32."""
    return builder.bitcast(a, I32)


@instruction(types.float32, types.uint32)
def bits_float(builder, a):
    """The float32 that has the bits of a uint32."""
    return builder.bitcast(a, ir.FloatType())


@instruction(types.CPointer(types.int16), None, types.intp)
def int16s(builder, pointer, offset):
    """The memory at byte `offset` as signed 16-bit numbers."""
    return address(builder, pointer, offset, U16)


@instruction(types.CPointer(types.int64), None, types.intp)
def int64s(builder, pointer, offset):
    """The memory at byte `offset` as signed 64-bit numbers."""
    return address(builder, pointer, offset, U64)


@instruction(types.CPointer(types.int32), None, types.intp)
def int32s(builder, pointer, offset):
    """The memory at byte `offset` as signed 32-bit numbers."""
    return address(builder, pointer, offset, I32)


@instruction(types.CPointer(types.uint32), None, types.intp)
def uint32s(builder, pointer, offset):
    """The memory at byte `offset` as unsigned 32-bit numbers."""
    return address(builder, pointer, offset, I32)


@instruction(types.void, None, types.intp, None, types.intp, types.intp)
def copy_bytes(builder, target, to, source, start, count):
    """Copy `count` bytes from byte `start` of `source` to byte `to` of `target`."""
    to, start = address(builder, target, to, U8), address(builder, source, start, U8)
    cgutils.raw_memcpy(builder, to, start, count, 1)


@intrinsic
def offset_by(typingctx, pointer, offset, like):
    """The pointer `offset` bytes on, with the type of `like`."""

    def emit(context, builder, sig, args):
        base = builder.bitcast(args[0], U8.as_pointer())
        return builder.bitcast(builder.gep(base, [args[1]]), args[2].type)

    return like(pointer, types.intp, like), emit
