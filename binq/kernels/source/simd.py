"""Explicit SIMD vectors for numba kernels.

numba has no vector type, and LLVM does not find the shuffles that the kernels live on, so this
module adds both: one numba type for "a register of `lanes` bytes", and intrinsics that emit one
LLVM instruction each.  LLVM legalises the same code for AVX-512, AVX2, SSE and NEON.  Only the
byte shuffle has no portable instruction; where the CPU has none the kernel emits a slow, correct
sequence.

A vector is always held as bytes; an operation on 16-bit lanes reinterprets it, which costs
nothing.  Everything here is imported only when kernels have to be compiled.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from binq.kernels.source.registers import Register, VectorType, constants, interleave, splat
from binq.kernels.source.scalars import I32, U8, U16, U64, address


def _arithmetic(r: Register) -> dict[str, Any]:
    """Operations on all lanes at once."""
    lanes, vec, bytes_type, words_type, numbers_type = (
        r.lanes,
        r.vec,
        r.bytes_type,
        r.words_type,
        r.numbers_type,
    )

    def binary(name: str, lane_type: Any) -> Any:
        def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            a, b = (builder.bitcast(x, lane_type) for x in args)
            return builder.bitcast(getattr(builder, name)(a, b), bytes_type)

        @intrinsic
        def operation(typingctx, a, b):
            return vec(vec, vec), emit

        return operation

    def shift(name: str) -> Any:
        def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            value = builder.bitcast(args[0], words_type)
            count = splat(builder, builder.trunc(args[1], U16), lanes // 2)
            return builder.bitcast(getattr(builder, name)(value, count), bytes_type)

        @intrinsic
        def operation(typingctx, a, count):
            return vec(vec, types.intp), emit

        return operation

    @intrinsic
    def set_bits(typingctx, a):
        # Of every byte. Where there is no instruction for it, LLVM looks half-bytes up, or adds.
        def emit(context, builder, sig, args):
            function = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(bytes_type, [bytes_type]), f"llvm.ctpop.v{lanes}i8"
            )
            return builder.call(function, args)

        return vec(vec), emit

    @intrinsic
    def least32(typingctx, a, b):
        # The smaller of every two signed 32-bit lanes.
        def emit(context, builder, sig, args):
            a, b = (builder.bitcast(x, numbers_type) for x in args)
            smaller = builder.select(builder.icmp_signed("<", a, b), a, b)
            return builder.bitcast(smaller, bytes_type)

        return vec(vec, vec), emit

    return {
        "set_bits": set_bits,
        "least32": least32,
        "add8": binary("add", bytes_type),
        "sub8": binary("sub", bytes_type),
        "add16": binary("add", words_type),
        "add32": binary("add", numbers_type),
        "sub16": binary("sub", words_type),
        "both": binary("and_", bytes_type),
        "either": binary("or_", bytes_type),
        "differ": binary("xor", bytes_type),
        "left16": shift("shl"),
        "right16": shift("lshr"),
    }


def _memory(r: Register) -> dict[str, Any]:
    """What comes from memory, or from one number, and goes there."""
    lanes, vec, bytes_type = r.lanes, r.vec, r.bytes_type

    @intrinsic
    def load(typingctx, pointer, offset):
        def emit(context, builder, sig, args):
            return builder.load(address(builder, *args, bytes_type), align=1)

        return vec(pointer, types.intp), emit

    @intrinsic
    def store(typingctx, pointer, offset, value):
        def emit(context, builder, sig, args):
            target = address(builder, args[0], args[1], bytes_type)
            builder.store(args[2], target, align=1)
            return context.get_dummy_value()

        return types.void(pointer, types.intp, vec), emit

    @intrinsic
    def table(typingctx, pointer, offset):
        # One 16-byte table, repeated in every 16 bytes of the register.
        def emit(context, builder, sig, args):
            part = ir.VectorType(U8, 16)
            value = builder.load(address(builder, *args, part), align=1)
            order = [lane % 16 for lane in range(lanes)]
            return builder.shuffle_vector(value, ir.Constant(part, ir.Undefined), constants(order))

        return vec(pointer, types.intp), emit

    @intrinsic
    def broadcast(typingctx, pointer, offset):
        # One 64-bit word, repeated.
        def emit(context, builder, sig, args):
            word = builder.load(address(builder, *args, U64), align=8)
            return builder.bitcast(splat(builder, word, lanes // 8), bytes_type)

        return vec(pointer, types.intp), emit

    def repeated(lane: Any) -> Any:
        # One number in every lane.
        count = 8 * lanes // lane.width

        def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            value = splat(builder, builder.trunc(args[0], lane), count)
            return builder.bitcast(value, bytes_type)

        @intrinsic
        def operation(typingctx, value):
            return vec(types.intp), emit

        return operation

    return {
        "load": load,
        "store": store,
        "table": table,
        "broadcast": broadcast,
        "splat8": repeated(U8),
        "splat16": repeated(U16),
        "splat32": repeated(I32),
    }


def _sums(r: Register) -> dict[str, Any]:
    """Sums of all bytes."""
    lanes, vec, words_type = r.lanes, r.vec, r.words_type

    @intrinsic
    def total8(typingctx, a):
        # The sum of all bytes.
        def emit(context, builder, sig, args):
            wide = ir.VectorType(I32, lanes)
            function = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(I32, [wide]), f"llvm.vector.reduce.add.v{lanes}i32"
            )
            return builder.zext(builder.call(function, [builder.zext(args[0], wide)]), U64)

        return types.uint64(vec), emit

    @intrinsic
    def totals(typingctx, a, b, c, d):
        # The sums of all bytes of four registers, side by side in 32-bit lanes of 16 bytes.
        def interleaved(builder, x, y, size):
            # Sums of x and sums of y in turn.
            low = interleave(builder, x, y, lanes, size, high=False)
            high = interleave(builder, x, y, lanes, size, high=True)
            return builder.add(builder.bitcast(low, words_type), builder.bitcast(high, words_type))

        def emit(context, builder, sig, args):
            low = splat(builder, U16(255), lanes // 2)
            eight = splat(builder, U16(8), lanes // 2)
            wide = []
            for register in args:
                value = builder.bitcast(register, words_type)
                wide.append(builder.add(builder.and_(value, low), builder.lshr(value, eight)))
            result = interleaved(
                builder, interleaved(builder, *wide[:2], 2), interleaved(builder, *wide[2:], 2), 4
            )
            count = lanes // 2
            while count > 4:
                count //= 2
                first = builder.shuffle_vector(result, result, constants([*range(count)]))
                last = [*range(count, 2 * count)]
                result = builder.add(first, builder.shuffle_vector(result, result, constants(last)))
            sums = builder.zext(result, ir.VectorType(I32, 4))
            return builder.bitcast(sums, ir.VectorType(U8, 16))

        return VectorType(16)(vec, vec, vec, vec), emit

    return {"total8": total8, "totals": totals}


def _comparisons(r: Register) -> dict[str, Any]:
    """Comparisons of 16-bit lanes, and of all at once."""
    lanes, vec, bytes_type, words_type = r.lanes, r.vec, r.bytes_type, r.words_type

    @intrinsic
    def greater16(typingctx, a, b):
        # All ones in the signed 16-bit lanes where a > b.
        def emit(context, builder, sig, args):
            a, b = (builder.bitcast(x, words_type) for x in args)
            found = builder.icmp_signed(">", a, b)
            return builder.bitcast(builder.sext(found, words_type), bytes_type)

        return vec(vec, vec), emit

    @intrinsic
    def nonzero(typingctx, a):
        def emit(context, builder, sig, args):
            whole = builder.bitcast(args[0], ir.IntType(8 * lanes))
            return builder.icmp_unsigned("!=", whole, ir.Constant(whole.type, 0))

        return types.boolean(vec), emit

    @intrinsic
    def mask16(typingctx, a):
        # One bit for every 16-bit lane that is negative.
        def emit(context, builder, sig, args):
            value = builder.bitcast(args[0], words_type)
            zero = ir.Constant(words_type, None)
            found = builder.icmp_signed("<", value, zero)
            return builder.zext(builder.bitcast(found, ir.IntType(lanes // 2)), U64)

        return types.uint64(vec), emit

    return {"greater16": greater16, "nonzero": nonzero, "mask16": mask16}


def _shuffles(r: Register, shuffle_name: str | None) -> dict[str, Any]:
    """Look-ups, and lanes in another order."""
    lanes, vec, bytes_type, words_type = r.lanes, r.vec, r.bytes_type, r.words_type

    def zipped(high: bool) -> Any:
        # The low or high half of a0 b0 a1 b1 ..., 16 bits each.
        order: list[int] = []
        half = lanes // 4
        for word in range(half):
            order += [word + half * high, lanes // 2 + word + half * high]

        def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            a, b = (builder.bitcast(x, words_type) for x in args)
            return builder.bitcast(builder.shuffle_vector(a, b, constants(order)), bytes_type)

        @intrinsic
        def operation(typingctx, a, b):
            return vec(vec, vec), emit

        return operation

    @intrinsic
    def shuffle(typingctx, table, index):
        # result[i] = table[16 * (i // 16) + index[i]]; every index is below 16.
        def emit(context, builder, sig, args):
            if shuffle_name is not None:
                function = cgutils.get_or_insert_function(
                    builder.module,
                    ir.FunctionType(bytes_type, [bytes_type, bytes_type]),
                    shuffle_name,
                )
                return builder.call(function, args)
            result = ir.Constant(bytes_type, ir.Undefined)
            for lane in range(lanes):
                index = builder.zext(builder.extract_element(args[1], I32(lane)), I32)
                index = builder.add(index, I32(16 * (lane // 16)))
                value = builder.extract_element(args[0], index)
                result = builder.insert_element(result, value, I32(lane))
            return result

        return vec(vec, vec), emit

    return {"shuffle": shuffle, "zip_low": zipped(False), "zip_high": zipped(True)}


def _columns(r: Register) -> dict[str, Any]:
    """Transposition of codes."""
    lanes, vec, bytes_type = r.lanes, r.vec, r.bytes_type

    def byte_columns(words: int) -> Any:
        # Byte columns of `lanes` codes: register j gets byte j of every code, in their order, of
        # one word or two. The codes are `pitch` bytes apart; each is XORed with `flip` first.
        part = ir.VectorType(U8, 8 * words)

        def row(builder: Any, pointer: Any, offset: Any) -> Any:
            value = builder.load(address(builder, pointer, offset, part), align=8)
            if words == 2:
                return value
            return builder.shuffle_vector(value, ir.Constant(part, None), constants([*range(16)]))

        def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            pointer, offset, pitch, flip = args
            step = builder.mul(pitch, ir.Constant(pitch.type, 16))
            registers = []
            for _ in range(16):
                # Row j in the first 16 bytes, row j + 16 in the next.
                value = row(builder, pointer, offset)
                if lanes == 32:
                    other = row(builder, pointer, builder.add(offset, step))
                    value = builder.shuffle_vector(value, other, constants([*range(32)]))
                registers.append(builder.xor(value, flip))
                offset = builder.add(offset, pitch)
            # Four perfect shuffles of 16 registers of 16 bytes transpose them.
            for _ in range(4):
                registers = [
                    builder.bitcast(
                        interleave(builder, registers[i], registers[i + 8], lanes, 1, high),
                        bytes_type,
                    )
                    for i in range(8)
                    for high in (False, True)
                ]
            return context.make_tuple(builder, sig.return_type, registers[: 8 * words])

        @intrinsic
        def operation(typingctx, pointer, offset, pitch, flip):
            columns = types.UniTuple(vec, 8 * words)
            return columns(pointer, types.intp, types.intp, vec), emit

        return operation

    return {"word_columns": byte_columns(1), "pair_columns": byte_columns(2)}


def vectors(lanes: int, shuffle_name: str | None) -> SimpleNamespace:
    """The vector operations for registers of `lanes` bytes.

    Parameters
    ----------
    lanes : int
        Bytes per register: 16, 32 or 64.
    shuffle_name : str or None
        LLVM intrinsic that looks up 16-byte tables over `lanes` bytes; None for none.

    Returns
    -------
    SimpleNamespace
        numba intrinsics; see the comments at each.
    """
    register = Register(
        lanes,
        VectorType(lanes),
        ir.VectorType(U8, lanes),
        ir.VectorType(U16, lanes // 2),
        ir.VectorType(I32, lanes // 4),
    )
    return SimpleNamespace(
        lanes=lanes,
        **_arithmetic(register),
        **_memory(register),
        **_sums(register),
        **_comparisons(register),
        **_shuffles(register, shuffle_name),
        **_columns(register),
    )
