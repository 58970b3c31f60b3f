"""The batch scan for CPUs that count the bits of a register (source; imported to be compiled).

128 codes are transposed once to (group of 8, word, 8) and stay in L1; every query of the call runs
over them, 4 at a time, with 4 x 8 counts in registers: XOR, POPCNT, ADD per 512 bits.

For one query or two a block is not worth transposing: `rows` answers these.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from binq.kernels.source.columns import block_of, next_row, row_at
from binq.kernels.source.counts import counts
from binq.kernels.source.scalars import jit, offset_by, prefetch, trailing_zeros, uint32s
from binq.kernels.source.select import append, limit_of, lower_limit

BLOCK = 128
GROUP = 4
# Eight distances, and the rows of a block.
SCRATCH = 64 + 4 * BLOCK
# The transposed block, and a copy of it.
SCRATCH_PER_WORD = 2 * 8 * BLOCK


@jit
def few(tasks, task, members):
    # Whether a task is for one query or two.
    begin = tasks[4 * task + 2]
    return tasks[4 * task + 3] - begin <= GROUP and members[begin + 2] < 0


def count_scan(scan_tasks: Any) -> Any:
    """`scan_counts`; its parameters are those of `rows.scan_rows`.

    `members` come in groups of 4; of those that fill up a group, see `select.limit_of`.
    `scan_tasks` is that of `rows`.
    """
    ops = counts()
    load, store, rows, broadcast = ops.load, ops.store, ops.rows, ops.broadcast
    splat, ones, below, add, xor = ops.splat, ops.ones, ops.below, ops.add, ops.xor

    @jit
    def transpose(source, at, words, groups, scratch):
        for group in range(groups):
            for word in range(words):
                column = rows(source, at + (group * 8 * words + word) * 8, words * 8)
                store(scratch, SCRATCH + (group * words + word) * 64, column)

    @njit(error_model="numpy", inline="never")
    def report(
        hits, lane, have, row, filtered, picked, numbers, numbered, query, limits, found, keys,
        capacity, k, scratch,
    ):  # fmt: skip
        lower_limit(keys, found, limits, query, capacity, k, 8, numbered)
        while hits != np.uint64(0):
            hit = np.intp(trailing_zeros(hits))
            hits &= hits - np.uint64(1)
            if lane + hit < have:
                at = row_at(lane + hit, row, filtered, picked)
                append(keys, found, query, capacity, k, scratch[hit], at, numbers, numbered)

    def scan(
        codes, words, n, tasks, n_tasks, allowed, filtered, numbers, numbered, queries, members,
        limits, found, keys, capacity, k, scratch,
    ):  # fmt: skip
        picked = uint32s(scratch, 64)
        padded = offset_by(scratch, SCRATCH + BLOCK * words * 8, codes)
        following_few = np.intp(0)
        for task in range(n_tasks):
            if task < following_few:
                continue
            if few(tasks, task, members):
                following_few = task + 1
                while following_few < n_tasks and few(tasks, following_few, members):
                    following_few += 1
                scan_tasks(
                    codes, words, n, tasks, task, following_few, n_tasks, allowed, filtered,
                    numbers, numbered, queries, members, limits, found, keys, capacity, k, scratch,
                )  # fmt: skip
                continue
            start = tasks[4 * task]
            last = tasks[4 * task + 1]
            begin = tasks[4 * task + 2]
            end = tasks[4 * task + 3]
            # While one block is searched, the next one is fetched: some lines with every 8 codes
            # and four queries, never many at once. Where the next allowed rows are, is not known.
            ahead = (words * GROUP + end - begin - 1) // (end - begin) * 64
            whole = 0 if filtered else BLOCK * words * 8
            while start < last:
                source, at, have, following = block_of(
                    codes, words, n, start, last, BLOCK, allowed, filtered, picked, padded
                )
                fetch = next_row(tasks, task, n_tasks, following, last) * words * 8
                fetched = fetch + whole
                groups = (have + 7) // 8
                transpose(source, at, words, groups, scratch)
                for member in range(begin, end, GROUP):
                    m0 = members[member]
                    m1 = members[member + 1]
                    m2 = members[member + 2]
                    m3 = members[member + 3]
                    q0 = (m0 ^ (m0 >> 63)) * words * 8
                    q1 = (m1 ^ (m1 >> 63)) * words * 8
                    q2 = (m2 ^ (m2 >> 63)) * words * 8
                    q3 = (m3 ^ (m3 >> 63)) * words * 8
                    for group in range(groups):
                        for line in range(fetch, min(fetch + ahead, fetched), 64):
                            prefetch(codes, line)
                        fetch += ahead
                        at = SCRATCH + group * words * 64
                        s0 = splat(0)
                        s1 = s0
                        s2 = s0
                        s3 = s0
                        for word in range(0, words * 8, 8):
                            x = load(scratch, at + word * 8)
                            s0 = add(s0, ones(xor(x, broadcast(queries, q0 + word))))
                            s1 = add(s1, ones(xor(x, broadcast(queries, q1 + word))))
                            s2 = add(s2, ones(xor(x, broadcast(queries, q2 + word))))
                            s3 = add(s3, ones(xor(x, broadcast(queries, q3 + word))))
                        h0 = below(s0, splat(limit_of(limits, m0)))
                        h1 = below(s1, splat(limit_of(limits, m1)))
                        h2 = below(s2, splat(limit_of(limits, m2)))
                        h3 = below(s3, splat(limit_of(limits, m3)))
                        if (h0 | h1 | h2 | h3) != np.uint64(0):
                            for i in range(4):
                                hits = h0
                                sums = s0
                                if i == 1:
                                    hits = h1
                                    sums = s1
                                if i == 2:
                                    hits = h2
                                    sums = s2
                                if i == 3:
                                    hits = h3
                                    sums = s3
                                if hits != np.uint64(0):
                                    store(scratch, 0, sums)
                                    report(
                                        hits, group * 8, have, start, filtered, picked, numbers,
                                        numbered, members[member + i], limits, found, keys,
                                        capacity, k, scratch,
                                    )  # fmt: skip
                start = following

    return scan
