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

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.core.datamodel import PrimitiveModel, register_default
from numba.extending import intrinsic

U8 = ir.IntType(8)
U16 = ir.IntType(16)
I32 = ir.IntType(32)
U64 = ir.IntType(64)


class VectorType(types.Type):  # type: ignore[misc]
    """A register of `lanes` bytes."""

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        super().__init__(name=f"Vector{lanes}")


@register_default(VectorType)
class _VectorModel(PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, vector: VectorType) -> None:
        super().__init__(manager, vector, ir.VectorType(U8, vector.lanes))


@intrinsic
def popcount(typingctx, a):  # type: ignore[no-untyped-def]
    """The number of set bits of a uint64."""

    def emit(context, builder, sig, args):  # type: ignore[no-untyped-def]
        return builder.ctpop(args[0])

    return types.uint64(types.uint64), emit


@intrinsic
def opaque(typingctx, a):  # type: ignore[no-untyped-def]
    """A uint64, of which LLVM knows nothing: it keeps a loop over scalars one."""

    def emit(context, builder, sig, args):  # type: ignore[no-untyped-def]
        function = ir.FunctionType(U64, [U64])
        return builder.asm(function, "", "=r,0", args, False)

    return types.uint64(types.uint64), emit


@intrinsic
def prefetch(typingctx, pointer, offset):  # type: ignore[no-untyped-def]
    """Ask for the cache line at byte `offset`; it need not exist."""

    def emit(context, builder, sig, args):  # type: ignore[no-untyped-def]
        name = "llvm.prefetch.p0"
        pointer = U8.as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [pointer, I32, I32, I32])
        function = cgutils.get_or_insert_function(builder.module, kind, name)
        # To read, into the second level of cache, as data.
        builder.call(function, [_address(builder, *args, U8), I32(0), I32(2), I32(1)])
        return context.get_dummy_value()

    return types.void(pointer, types.intp), emit


@intrinsic
def trailing_zeros(typingctx, a):  # type: ignore[no-untyped-def]
    """The index of the lowest set bit of a uint64 that is not zero."""

    def emit(context, builder, sig, args):  # type: ignore[no-untyped-def]
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.uint64(types.uint64), emit


@intrinsic
def float_bits(typingctx, a):  # type: ignore[no-untyped-def]
    """The bits of a float32 as a uint32."""

    def emit(context, builder, sig, args):  # type: ignore[no-untyped-def]
        return builder.bitcast(args[0], I32)

    return types.uint32(types.float32), emit


@intrinsic
def bits_float(typingctx, a):  # type: ignore[no-untyped-def]
    """The float32 that has the bits of a uint32."""

    def emit(context, builder, sig, args):  # type: ignore[no-untyped-def]
        return builder.bitcast(args[0], ir.FloatType())

    return types.float32(types.uint32), emit


@intrinsic
def int16s(typingctx, pointer, offset):  # type: ignore[no-untyped-def]
    """The memory at byte `offset` as signed 16-bit numbers."""

    def emit(context, builder, sig, args):  # type: ignore[no-untyped-def]
        return _address(builder, *args, U16)

    return types.CPointer(types.int16)(pointer, types.intp), emit


@intrinsic
def offset_by(typingctx, pointer, offset, like):  # type: ignore[no-untyped-def]
    """The pointer `offset` bytes on, with the type of `like`."""

    def emit(context, builder, sig, args):  # type: ignore[no-untyped-def]
        base = builder.bitcast(args[0], U8.as_pointer())
        return builder.bitcast(builder.gep(base, [args[1]]), args[2].type)

    return like(pointer, types.intp, like), emit


def _splat(builder: Any, scalar: Any, count: int) -> Any:
    vector = ir.VectorType(scalar.type, count)
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, I32(0))
    return builder.shuffle_vector(
        one, ir.Constant(vector, ir.Undefined), ir.Constant(ir.VectorType(I32, count), [0] * count)
    )


def _constants(values: list[int]) -> Any:
    return ir.Constant(ir.VectorType(I32, len(values)), values)


def _address(builder: Any, pointer: Any, offset: Any, target: Any) -> Any:
    base = builder.bitcast(pointer, U8.as_pointer())
    return builder.bitcast(builder.gep(base, [offset]), target.as_pointer())


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
    vec = VectorType(lanes)
    bytes_type = ir.VectorType(U8, lanes)
    words_type = ir.VectorType(U16, lanes // 2)
    none = ir.Constant(bytes_type, ir.Undefined)

    def binary(name: str, lane_type: Any) -> Any:
        def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            a, b = (builder.bitcast(x, lane_type) for x in args)
            return builder.bitcast(getattr(builder, name)(a, b), bytes_type)

        @intrinsic
        def operation(typingctx, a, b):  # type: ignore[no-untyped-def]
            return vec(vec, vec), emit

        return operation

    def shift(name: str) -> Any:
        def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            value = builder.bitcast(args[0], words_type)
            count = _splat(builder, builder.trunc(args[1], U16), lanes // 2)
            return builder.bitcast(getattr(builder, name)(value, count), bytes_type)

        @intrinsic
        def operation(typingctx, a, count):  # type: ignore[no-untyped-def]
            return vec(vec, types.intp), emit

        return operation

    def unpack(size: int, high: bool) -> Any:
        # Interleave elements of `size` bytes from the low or high half of every 16 bytes.
        order: list[int] = []
        for lane in range(0, lanes, 16):
            for element in range(8 // size):
                start = lane + (8 if high else 0) + element * size
                order += range(start, start + size)
                order += range(lanes + start, lanes + start + size)

        def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return builder.shuffle_vector(args[0], args[1], _constants(order))

        @intrinsic
        def operation(typingctx, a, b):  # type: ignore[no-untyped-def]
            return vec(vec, vec), emit

        return operation

    @intrinsic
    def load(typingctx, pointer, offset):  # type: ignore[no-untyped-def]
        def emit(context, builder, sig, args):  # type: ignore[no-untyped-def]
            return builder.load(_address(builder, *args, bytes_type), align=1)

        return vec(pointer, types.intp), emit

    @intrinsic
    def store(typingctx, pointer, offset, value):  # type: ignore[no-untyped-def]
        def emit(context, builder, sig, args):  # type: ignore[no-untyped-def]
            target = _address(builder, args[0], args[1], bytes_type)
            builder.store(args[2], target, align=1)
            return context.get_dummy_value()

        return types.void(pointer, types.intp, vec), emit

    @intrinsic
    def table(typingctx, pointer, offset):  # type: ignore[no-untyped-def]
        # One 16-byte table, repeated in every 16 bytes of the register.
        def emit(context, builder, sig, args):  # type: ignore[no-untyped-def]
            part = ir.VectorType(U8, 16)
            value = builder.load(_address(builder, *args, part), align=1)
            order = [lane % 16 for lane in range(lanes)]
            return builder.shuffle_vector(value, ir.Constant(part, ir.Undefined), _constants(order))

        return vec(pointer, types.intp), emit

    @intrinsic
    def broadcast(typingctx, pointer, offset):  # type: ignore[no-untyped-def]
        # One 64-bit word, repeated.
        def emit(context, builder, sig, args):  # type: ignore[no-untyped-def]
            word = builder.load(_address(builder, *args, U64), align=8)
            return builder.bitcast(_splat(builder, word, lanes // 8), bytes_type)

        return vec(pointer, types.intp), emit

    @intrinsic
    def set_bits(typingctx):  # type: ignore[no-untyped-def]
        # The look-up table of the number of set bits in a half-byte.
        def emit(context, builder, sig, args):  # type: ignore[no-untyped-def]
            return ir.Constant(bytes_type, [(lane % 16).bit_count() for lane in range(lanes)])

        return vec(), emit

    @intrinsic
    def splat8(typingctx, value):  # type: ignore[no-untyped-def]
        def emit(context, builder, sig, args):  # type: ignore[no-untyped-def]
            return _splat(builder, builder.trunc(args[0], U8), lanes)

        return vec(types.intp), emit

    @intrinsic
    def splat16(typingctx, value):  # type: ignore[no-untyped-def]
        def emit(context, builder, sig, args):  # type: ignore[no-untyped-def]
            value = _splat(builder, builder.trunc(args[0], U16), lanes // 2)
            return builder.bitcast(value, bytes_type)

        return vec(types.intp), emit

    @intrinsic
    def greater16(typingctx, a, b):  # type: ignore[no-untyped-def]
        # All ones in the signed 16-bit lanes where a > b.
        def emit(context, builder, sig, args):  # type: ignore[no-untyped-def]
            a, b = (builder.bitcast(x, words_type) for x in args)
            found = builder.icmp_signed(">", a, b)
            return builder.bitcast(builder.sext(found, words_type), bytes_type)

        return vec(vec, vec), emit

    @intrinsic
    def nonzero(typingctx, a):  # type: ignore[no-untyped-def]
        def emit(context, builder, sig, args):  # type: ignore[no-untyped-def]
            whole = builder.bitcast(args[0], ir.IntType(8 * lanes))
            return builder.icmp_unsigned("!=", whole, ir.Constant(whole.type, 0))

        return types.boolean(vec), emit

    @intrinsic
    def mask16(typingctx, a):  # type: ignore[no-untyped-def]
        # One bit for every 16-bit lane that is negative.
        def emit(context, builder, sig, args):  # type: ignore[no-untyped-def]
            value = builder.bitcast(args[0], words_type)
            zero = ir.Constant(words_type, None)
            found = builder.icmp_signed("<", value, zero)
            return builder.zext(builder.bitcast(found, ir.IntType(lanes // 2)), U64)

        return types.uint64(vec), emit

    def zipped(high: bool) -> Any:
        # The low or high half of a0 b0 a1 b1 ..., 16 bits each.
        order: list[int] = []
        half = lanes // 4
        for word in range(half):
            order += [word + half * high, lanes // 2 + word + half * high]

        def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            a, b = (builder.bitcast(x, words_type) for x in args)
            return builder.bitcast(builder.shuffle_vector(a, b, _constants(order)), bytes_type)

        @intrinsic
        def operation(typingctx, a, b):  # type: ignore[no-untyped-def]
            return vec(vec, vec), emit

        return operation

    @intrinsic
    def shuffle(typingctx, table, index):  # type: ignore[no-untyped-def]
        # result[i] = table[16 * (i // 16) + index[i]]; every index is below 16.
        def emit(context, builder, sig, args):  # type: ignore[no-untyped-def]
            if shuffle_name is not None:
                function = cgutils.get_or_insert_function(
                    builder.module,
                    ir.FunctionType(bytes_type, [bytes_type, bytes_type]),
                    shuffle_name,
                )
                return builder.call(function, args)
            result = none
            for lane in range(lanes):
                index = builder.zext(builder.extract_element(args[1], I32(lane)), I32)
                index = builder.add(index, I32(16 * (lane // 16)))
                value = builder.extract_element(args[0], index)
                result = builder.insert_element(result, value, I32(lane))
            return result

        return vec(vec, vec), emit

    @intrinsic
    def rows(typingctx, pointer, offset, stride):  # type: ignore[no-untyped-def]
        # lanes / 8 words of 64 bits, `stride` bytes apart, side by side.
        def emit(context, builder, sig, args):  # type: ignore[no-untyped-def]
            pointer, offset, stride = args
            kind = ir.VectorType(U64, lanes // 8)
            result = ir.Constant(kind, ir.Undefined)
            for lane in range(lanes // 8):
                value = builder.load(_address(builder, pointer, offset, U64), align=8)
                result = builder.insert_element(result, value, I32(lane))
                offset = builder.add(offset, stride)
            return builder.bitcast(result, bytes_type)

        return vec(pointer, types.intp, types.intp), emit

    return SimpleNamespace(
        vec=vec,
        lanes=lanes,
        load=load,
        store=store,
        table=table,
        broadcast=broadcast,
        set_bits=set_bits,
        splat8=splat8,
        splat16=splat16,
        rows=rows,
        shuffle=shuffle,
        greater16=greater16,
        nonzero=nonzero,
        add8=binary("add", bytes_type),
        sub8=binary("sub", bytes_type),
        add16=binary("add", words_type),
        sub16=binary("sub", words_type),
        both=binary("and_", bytes_type),
        either=binary("or_", bytes_type),
        differ=binary("xor", bytes_type),
        left16=shift("shl"),
        right16=shift("lshr"),
        mask16=mask16,
        zip_low=zipped(False),
        zip_high=zipped(True),
        **{
            f"unpack_{'high' if high else 'low'}{8 * size}": unpack(size, high)
            for size in (1, 2, 4, 8)
            for high in (False, True)
        },
    )


class CountsType(types.Type):  # type: ignore[misc]
    """Eight 64-bit numbers."""

    def __init__(self) -> None:
        super().__init__(name="Counts")


@register_default(CountsType)
class _CountsModel(PrimitiveModel):  # type: ignore[misc]
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
        def operation(typingctx, a, b):  # type: ignore[no-untyped-def]
            return vec(vec, vec), emit

        return operation

    @intrinsic
    def load(typingctx, pointer, offset):  # type: ignore[no-untyped-def]
        def emit(context, builder, sig, args):  # type: ignore[no-untyped-def]
            return builder.load(_address(builder, *args, kind), align=64)

        return vec(pointer, types.intp), emit

    @intrinsic
    def store(typingctx, pointer, offset, value):  # type: ignore[no-untyped-def]
        def emit(context, builder, sig, args):  # type: ignore[no-untyped-def]
            builder.store(args[2], _address(builder, args[0], args[1], kind), align=64)
            return context.get_dummy_value()

        return types.void(pointer, types.intp, vec), emit

    @intrinsic
    def rows(typingctx, pointer, offset, stride):  # type: ignore[no-untyped-def]
        # 8 words, `stride` bytes apart, side by side.
        def emit(context, builder, sig, args):  # type: ignore[no-untyped-def]
            pointer, offset, stride = args
            result = ir.Constant(kind, ir.Undefined)
            for lane in range(8):
                value = builder.load(_address(builder, pointer, offset, U64), align=8)
                result = builder.insert_element(result, value, I32(lane))
                offset = builder.add(offset, stride)
            return result

        return vec(pointer, types.intp, types.intp), emit

    @intrinsic
    def broadcast(typingctx, pointer, offset):  # type: ignore[no-untyped-def]
        def emit(context, builder, sig, args):  # type: ignore[no-untyped-def]
            return _splat(builder, builder.load(_address(builder, *args, U64), align=8), 8)

        return vec(pointer, types.intp), emit

    @intrinsic
    def splat(typingctx, value):  # type: ignore[no-untyped-def]
        def emit(context, builder, sig, args):  # type: ignore[no-untyped-def]
            return _splat(builder, args[0], 8)

        return vec(types.int64), emit

    @intrinsic
    def ones(typingctx, a):  # type: ignore[no-untyped-def]
        # The number of set bits of each. llvmlite declares no intrinsics over vectors by itself.
        def emit(context, builder, sig, args):  # type: ignore[no-untyped-def]
            function = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(kind, [kind]), "llvm.ctpop.v8i64"
            )
            return builder.call(function, args)

        return vec(vec), emit

    @intrinsic
    def below(typingctx, a, b):  # type: ignore[no-untyped-def]
        # One bit for every lane where a < b, signed.
        def emit(context, builder, sig, args):  # type: ignore[no-untyped-def]
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


def counts_scalars(machine: Any) -> bool:
    """Whether the bits of one 64-bit number are best counted outside of vector registers."""
    return bool(machine.triple.startswith("x86_64"))


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
