"""For every code the nearest of some centroids (source; imported only to be compiled).

The scans keep the best codes of every query.  Here it is the other way round: a block of codes
is transposed once and stays in L1, all centroids run over it, and every code keeps the least key,
``(distance << 32) | centroid``, in a register lane: nothing is compared with a limit or appended.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numba import cfunc, types

from binq.kernels.source.columns import block_of, half_byte_columns
from binq.kernels.source.counts import counts
from binq.kernels.source.features import Features
from binq.kernels.source.hamming_tables import MAX_WORDS, shared_counts_of
from binq.kernels.source.scalars import int16s, offset_by, uint32s
from binq.kernels.source.simd import vectors

BLOCK = 128
# The keys of a block; then the transposed block and a copy of a partial one, per word.
COUNT_SCRATCH = 8 * BLOCK
COUNT_SCRATCH_PER_WORD = 2 * 8 * BLOCK

_I32 = types.CPointer(types.int32)
_I64 = types.CPointer(types.int64)
_U64 = types.CPointer(types.uint64)
_INT = types.intp


def by_counts() -> Any:
    """`nearest` for CPUs that count the bits of a register."""
    ops = counts()
    load, store, rows, broadcast = ops.load, ops.store, ops.rows, ops.broadcast
    splat, ones, add, xor, keyed, least = (
        ops.splat,
        ops.ones,
        ops.add,
        ops.xor,
        ops.keyed,
        ops.least,
    )

    def nearest(codes, words, first, last, centroids, count, keys, scratch):
        """Write the key of the nearest centroid of each code in ``[first, last)``.

        Parameters
        ----------
        codes : uint64*, (n, words)
        centroids : uint64*, (count, words)
            At least one; of several that are as near, the first is taken.
        keys : uint64*, (last - first,)
        scratch : uint64*, 64-byte aligned
        """
        picked = uint32s(scratch, 0)
        columns = COUNT_SCRATCH
        padded = offset_by(scratch, columns + BLOCK * words * 8, codes)
        start = first
        while start < last:
            source, at, have, following = block_of(
                codes, words, last, start, last, BLOCK, codes, 0, picked, padded
            )
            groups = (have + 7) // 8
            for group in range(groups):
                store(scratch, group * 64, splat(0x7FFFFFFFFFFFFFFF))
                for word in range(words):
                    column = rows(source, at + (group * 8 * words + word) * 8, words * 8)
                    store(scratch, columns + (group * words + word) * 64, column)
            for c0 in range(0, count, 4):
                # The last is measured more than once where centroids are no multiple of four.
                c1 = min(c0 + 1, count - 1)
                c2 = min(c0 + 2, count - 1)
                c3 = min(c0 + 3, count - 1)
                for group in range(groups):
                    own = columns + group * words * 64
                    s0 = splat(0)
                    s1 = s0
                    s2 = s0
                    s3 = s0
                    for word in range(0, words * 8, 8):
                        x = load(scratch, own + word * 8)
                        s0 = add(s0, ones(xor(x, broadcast(centroids, c0 * words * 8 + word))))
                        s1 = add(s1, ones(xor(x, broadcast(centroids, c1 * words * 8 + word))))
                        s2 = add(s2, ones(xor(x, broadcast(centroids, c2 * words * 8 + word))))
                        s3 = add(s3, ones(xor(x, broadcast(centroids, c3 * words * 8 + word))))
                    near = least(keyed(s0, splat(c0)), keyed(s1, splat(c1)))
                    far = least(keyed(s2, splat(c2)), keyed(s3, splat(c3)))
                    best = least(load(scratch, group * 64), least(near, far))
                    store(scratch, group * 64, best)
            for i in range(have):
                keys[start - first + i] = scratch[i]
            start = following

    return nearest


def table_scratch(lanes: int) -> tuple[int, int]:
    """Bytes of `scratch` for `by_tables`, and more of them per word of a code.

    Bit counts of the block, sums, the least so far and whose it is; half-bytes, a copy.
    """
    tile = 4 * lanes
    return 2 * tile + 4 * tile + 2 * tile + 2 * tile, 16 * tile + 8 * tile


def by_tables(lanes: int, shuffle_name: str | None) -> Any:
    """`nearest` by byte shuffles; see `hamming_tables` for what it is given.

    `weights` are the set bits of each centroid, fewer than 2**15 of them.
    """
    v = vectors(lanes, shuffle_name)
    load, store, add16, sub16 = v.load, v.store, v.add16, v.sub16
    both, differ, splat16, greater16 = v.both, v.differ, v.splat16, v.greater16
    transpose = half_byte_columns(v, counted=True)
    shared_counts = shared_counts_of(v)
    tile = 4 * lanes

    def nearest(
        codes, words, first, last, mask, tables, weights, ends, sections, count, keys, scratch
    ):
        """As `by_counts`; centroids are given by mask and tables."""
        sums = 2 * tile
        best = sums + 4 * tile
        whose = best + 2 * tile
        block = whose + 2 * tile
        padded = offset_by(scratch, block + 16 * words * tile, codes)
        picked = uint32s(scratch, 0)
        ones = int16s(scratch, 0)
        least = int16s(scratch, best)
        numbers = int16s(scratch, whose)
        start = first
        while start < last:
            source, at, have, following = block_of(
                codes, words, last, start, last, tile, codes, 0, picked, padded
            )
            transpose(source, at, words, mask, scratch, 0, block)
            for i in range(0, 2 * tile, lanes):
                store(scratch, best + i, splat16(0x7FFF))
                store(scratch, whose + i, splat16(0))
            for centroid in range(0, count, 2):
                # Nothing is fetched ahead.
                shared_counts(
                    tables, (centroid >> 1) * words * 256, scratch, block, sums, ends, sections,
                    codes, 0, 0, 0,
                )  # fmt: skip
                for half in range(2):
                    own = min(centroid + half, count - 1)
                    weight = splat16(np.intp(weights[centroid + half]))
                    if centroid + half >= count:
                        weight = splat16(0x7FFF)
                    number = splat16(own)
                    for i in range(8):
                        # Sums: of each group, of either centroid, even and odd codes.
                        at_sum = sums + ((i >> 1) * 4 + half * 2 + (i & 1)) * lanes
                        shared = load(scratch, at_sum)
                        away = sub16(weight, add16(shared, shared))
                        known = load(scratch, best + i * lanes)
                        nearer = greater16(known, away)
                        store(
                            scratch, best + i * lanes,
                            differ(known, both(differ(known, away), nearer)),
                        )  # fmt: skip
                        known = load(scratch, whose + i * lanes)
                        store(
                            scratch, whose + i * lanes,
                            differ(known, both(differ(known, number), nearer)),
                        )  # fmt: skip
            for i in range(have):
                # Of each group of `lanes` codes the even ones come first.
                group = i // lanes
                j = group * lanes + ((i % lanes) >> 1) + (i & 1) * (lanes >> 1)
                distance = np.uint64(np.int64(ones[j]) + np.int64(least[j]))
                number_of = np.uint64(np.int64(numbers[j]) & 0xFFFF)
                keys[start - first + i] = (distance << np.uint64(32)) | number_of
            start = following

    return nearest


def kernels(features: Features) -> tuple[dict[str, Any], dict[str, int]]:
    """The compiled function of this family for a CPU, and its layout.

    Returns
    -------
    dict of str to numba CFunc
        ``nearest_counts`` or ``nearest_tables``, or neither: then a scan finds the nearest.
    dict
        As of the scans in `hamming.kernels`.
    """
    lanes, shuffle_name = features.lanes, features.shuffle
    void, compiled = types.void, partial(cfunc, error_model="numpy")
    block, kept = (_U64, _INT, _INT, _INT), (_INT, _U64, _U64)
    if features.counts:
        name, held, source = "nearest_counts", (_U64,), by_counts()
        sizes = BLOCK, COUNT_SCRATCH, COUNT_SCRATCH_PER_WORD, 1 << 24
    elif shuffle_name is not None:
        name, held = "nearest_tables", (_U64, _U64, _I32, _I64, _INT)
        source = by_tables(lanes, shuffle_name)
        sizes = 4 * lanes, *table_scratch(lanes), MAX_WORDS
    else:
        return {}, {}
    told = zip(("block", "scratch", "scratch_per_word", "max_words"), sizes, strict=True)
    function = compiled(void(*block, *held, *kept))(source)
    return {name: function}, {f"{name}.{what}": size for what, size in told}
