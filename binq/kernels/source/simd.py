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

from binq.kernels.source.registers import Register, VectorType, constants, interleave, splat
from binq.kernels.source.scalars import I32, U8, U16, U64, address, call, instruction, jit


def _arithmetic(r: Register) -> dict[str, Any]:
    """Operations on all lanes at once."""
    lanes, vec, bytes_type = r.lanes, r.vec, r.bytes_type
    words_type, numbers_type = r.words_type, r.numbers_type

    def binary(name: str, lane_type: Any) -> Any:
        @instruction(vec, vec, vec)
        def operation(builder, a, b):
            a, b = builder.bitcast(a, lane_type), builder.bitcast(b, lane_type)
            return builder.bitcast(getattr(builder, name)(a, b), bytes_type)

        return operation

    def shift(name: str) -> Any:
        @instruction(vec, vec, types.intp)
        def operation(builder, a, count):
            value = builder.bitcast(a, words_type)
            counts = splat(builder, builder.trunc(count, U16), lanes // 2)
            return builder.bitcast(getattr(builder, name)(value, counts), bytes_type)

        return operation

    @instruction(vec, vec)
    def set_bits(builder, a):
        # Of every byte. Where there is no instruction for it, LLVM looks half-bytes up, or adds.
        return call(builder, f"llvm.ctpop.v{lanes}i8", bytes_type, a)

    @instruction(vec, vec, vec)
    def least32(builder, a, b):
        # The smaller of every two signed 32-bit lanes.
        a, b = builder.bitcast(a, numbers_type), builder.bitcast(b, numbers_type)
        smaller = builder.select(builder.icmp_signed("<", a, b), a, b)
        return builder.bitcast(smaller, bytes_type)

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

    @instruction(vec, None, types.intp)
    def load(builder, pointer, offset):
        return builder.load(address(builder, pointer, offset, bytes_type), align=1)

    @instruction(types.void, None, types.intp, vec)
    def store(builder, pointer, offset, value):
        builder.store(value, address(builder, pointer, offset, bytes_type), align=1)

    @instruction(vec, None, types.intp)
    def table(builder, pointer, offset):
        # One 16-byte table, repeated in every 16 bytes of the register.
        part = ir.VectorType(U8, 16)
        value = builder.load(address(builder, pointer, offset, part), align=1)
        order = [lane % 16 for lane in range(lanes)]
        return builder.shuffle_vector(value, ir.Constant(part, ir.Undefined), constants(order))

    @instruction(vec, None, types.intp)
    def broadcast(builder, pointer, offset):
        # One 64-bit word, repeated.
        word = builder.load(address(builder, pointer, offset, U64), align=8)
        return builder.bitcast(splat(builder, word, lanes // 8), bytes_type)

    def repeated(lane: Any) -> Any:
        # One number in every lane.
        @instruction(vec, types.intp)
        def operation(builder, value):
            value = splat(builder, builder.trunc(value, lane), 8 * lanes // lane.width)
            return builder.bitcast(value, bytes_type)

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

    @instruction(types.uint64, vec)
    def total8(builder, a):
        # The sum of all bytes.
        wide = builder.zext(a, ir.VectorType(I32, lanes))
        return builder.zext(call(builder, f"llvm.vector.reduce.add.v{lanes}i32", I32, wide), U64)

    def interleaved(builder: Any, x: Any, y: Any, size: int) -> Any:
        # Sums of x and sums of y in turn.
        low = interleave(builder, x, y, lanes, size, high=False)
        high = interleave(builder, x, y, lanes, size, high=True)
        return builder.add(builder.bitcast(low, words_type), builder.bitcast(high, words_type))

    @instruction(VectorType(16), vec, vec, vec, vec)
    def totals(builder, a, b, c, d):
        # The sums of all bytes of four registers, side by side in 32-bit lanes of 16 bytes.
        low = splat(builder, U16(255), lanes // 2)
        eight = splat(builder, U16(8), lanes // 2)
        wide = []
        for register in (a, b, c, d):
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

    return {"total8": total8, "totals": totals}


def _comparisons(r: Register) -> dict[str, Any]:
    """Comparisons of 16-bit lanes, and of all at once."""
    lanes, vec, bytes_type, words_type = r.lanes, r.vec, r.bytes_type, r.words_type

    @instruction(vec, vec, vec)
    def greater16(builder, a, b):
        # All ones in the signed 16-bit lanes where a > b.
        a, b = builder.bitcast(a, words_type), builder.bitcast(b, words_type)
        found = builder.icmp_signed(">", a, b)
        return builder.bitcast(builder.sext(found, words_type), bytes_type)

    @instruction(types.boolean, vec)
    def nonzero(builder, a):
        whole = builder.bitcast(a, ir.IntType(8 * lanes))
        return builder.icmp_unsigned("!=", whole, ir.Constant(whole.type, 0))

    @instruction(types.uint64, vec)
    def mask16(builder, a):
        # One bit for every 16-bit lane that is negative.
        value = builder.bitcast(a, words_type)
        found = builder.icmp_signed("<", value, ir.Constant(words_type, None))
        return builder.zext(builder.bitcast(found, ir.IntType(lanes // 2)), U64)

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

        @instruction(vec, vec, vec)
        def operation(builder, a, b):
            a, b = builder.bitcast(a, words_type), builder.bitcast(b, words_type)
            return builder.bitcast(builder.shuffle_vector(a, b, constants(order)), bytes_type)

        return operation

    @instruction(vec, vec, vec)
    def shuffle(builder, table, index):
        # result[i] = table[16 * (i // 16) + index[i]]; every index is below 16.
        if shuffle_name is not None:
            return call(builder, shuffle_name, bytes_type, table, index)
        result = ir.Constant(bytes_type, ir.Undefined)
        for lane in range(lanes):
            place = builder.zext(builder.extract_element(index, I32(lane)), I32)
            place = builder.add(place, I32(16 * (lane // 16)))
            value = builder.extract_element(table, place)
            result = builder.insert_element(result, value, I32(lane))
        return result

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

        @instruction(types.UniTuple(vec, 8 * words), None, types.intp, types.intp, vec)
        def operation(builder, pointer, offset, pitch, flip):
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
            return cgutils.pack_array(builder, registers[: 8 * words])

        return operation

    return {"word_columns": byte_columns(1), "pair_columns": byte_columns(2)}


def _fours(load: Any, shuffle: Any, add8: Any, lanes: int) -> dict[str, Any]:
    """Operations on four registers at once."""

    @jit
    def load_four(pointer, at):
        return (
            load(pointer, at),
            load(pointer, at + lanes),
            load(pointer, at + 2 * lanes),
            load(pointer, at + 3 * lanes),
        )

    @jit
    def shuffle_four(table, a):
        return (
            shuffle(table, a[0]),
            shuffle(table, a[1]),
            shuffle(table, a[2]),
            shuffle(table, a[3]),
        )

    @jit
    def add_four(a, b):
        return add8(a[0], b[0]), add8(a[1], b[1]), add8(a[2], b[2]), add8(a[3], b[3])

    return {"load_four": load_four, "shuffle_four": shuffle_four, "add_four": add_four}


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
        numba intrinsics and functions; see the comments at each.
    """
    register = Register(
        lanes,
        VectorType(lanes),
        ir.VectorType(U8, lanes),
        ir.VectorType(U16, lanes // 2),
        ir.VectorType(I32, lanes // 4),
    )
    one = {
        **_arithmetic(register),
        **_memory(register),
        **_sums(register),
        **_comparisons(register),
        **_shuffles(register, shuffle_name),
        **_columns(register),
    }
    four = _fours(one["load"], one["shuffle"], one["add8"], lanes)
    return SimpleNamespace(lanes=lanes, **one, **four)
