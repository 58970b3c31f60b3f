"""Eight 64-bit numbers in a register, for CPUs that count bits there. Imported only to compile."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.datamodel import PrimitiveModel, register_default
from numba.extending import intrinsic

from binq.kernels.source.registers import splat as repeat
from binq.kernels.source.scalars import I32, U64, address


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

    def binary(name: str) -> Any:
        def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return getattr(builder, name)(*args)

        @intrinsic
        def operation(typingctx, a, b):
            return vec(vec, vec), emit

        return operation

    @intrinsic
    def load(typingctx, pointer, offset):
        def emit(context, builder, sig, args):
            return builder.load(address(builder, *args, kind), align=64)

        return vec(pointer, types.intp), emit

    @intrinsic
    def store(typingctx, pointer, offset, value):
        def emit(context, builder, sig, args):
            builder.store(args[2], address(builder, args[0], args[1], kind), align=64)
            return context.get_dummy_value()

        return types.void(pointer, types.intp, vec), emit

    @intrinsic
    def rows(typingctx, pointer, offset, stride):
        # 8 words, `stride` bytes apart, side by side.
        def emit(context, builder, sig, args):
            pointer, offset, stride = args
            result = ir.Constant(kind, ir.Undefined)
            for lane in range(8):
                value = builder.load(address(builder, pointer, offset, U64), align=8)
                result = builder.insert_element(result, value, I32(lane))
                offset = builder.add(offset, stride)
            return result

        return vec(pointer, types.intp, types.intp), emit

    @intrinsic
    def broadcast(typingctx, pointer, offset):
        def emit(context, builder, sig, args):
            return repeat(builder, builder.load(address(builder, *args, U64), align=8), 8)

        return vec(pointer, types.intp), emit

    @intrinsic
    def splat(typingctx, value):
        def emit(context, builder, sig, args):
            return repeat(builder, args[0], 8)

        return vec(types.int64), emit

    @intrinsic
    def ones(typingctx, a):
        # The number of set bits of each. llvmlite declares no intrinsics over vectors by itself.
        def emit(context, builder, sig, args):
            function = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(kind, [kind]), "llvm.ctpop.v8i64"
            )
            return builder.call(function, args)

        return vec(vec), emit

    @intrinsic
    def below(typingctx, a, b):
        # One bit for every lane where a < b, signed.
        def emit(context, builder, sig, args):
            found = builder.icmp_signed("<", *args)
            return builder.zext(builder.bitcast(found, ir.IntType(8)), U64)

        return types.uint64(vec, vec), emit

    return SimpleNamespace(
        load=load,
        store=store,
        rows=rows,
        broadcast=broadcast,
        splat=splat,
        ones=ones,
        below=below,
        add=binary("add"),
        xor=binary("xor"),
    )
