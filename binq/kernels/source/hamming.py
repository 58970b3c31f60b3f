"""Hamming distance kernels (source; imported only to be compiled).

Three scans over row-major codes, which differ in how they count bits and agree bit for bit in what
they find: `rows` row by row, for one query, which is bound by memory, or a few; `hamming_counts`
and `hamming_tables` for batches, by what the CPU can do.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from numba import cfunc, types

from binq.kernels.source import hamming_counts, hamming_tables, rows
from binq.kernels.source.features import Features

_I32 = types.CPointer(types.int32)
_I64 = types.CPointer(types.int64)
_U32 = types.CPointer(types.uint32)
_U64 = types.CPointer(types.uint64)
_INT = types.intp


def kernels(features: Features) -> tuple[dict[str, Any], dict[str, int]]:
    """The compiled functions of this family for a CPU, and their layout.

    Returns
    -------
    dict of str to numba CFunc
        ``scan_counts`` or ``scan_tables`` for batches, or neither: then `scan_rows` answers them.
    dict
        Of each scan S: ``S.group``, of how many queries its `members` come in groups; ``S.block``,
        of how many rows, but for the last, it is best called for a multiple; ``S.scratch``, the
        bytes of scratch it needs, and ``S.scratch_per_word`` of a code;
        ``S.max_words``.
    """
    lanes, shuffle_name = features.lanes, features.shuffle
    void = types.void
    compiled = partial(cfunc, error_model="numpy")
    span = (_U64, _INT, _INT, _I64, _INT, _U64, _INT, _U32, _INT)
    state = (_I64, _I32, _I64, _U64, _INT, _INT, _U64)
    scan_rows, scan_tasks, measure = rows.row_kernels(lanes)
    found = {
        "scan_rows": compiled(void(*span, _U64, *state))(scan_rows),
        "measure": compiled(void(_U64, _INT, _U64, _INT, _I64, _INT, _I32))(measure),
    }
    scans = {"scan_rows": (1, 1, rows.SCRATCH, 0, 1 << 24)}
    if features.counts:
        scan = hamming_counts.count_scan(scan_tasks)
        found["scan_counts"] = compiled(void(*span, _U64, *state))(scan)
        sizes = max(hamming_counts.SCRATCH, rows.SCRATCH), hamming_counts.SCRATCH_PER_WORD
        scans["scan_counts"] = (hamming_counts.GROUP, hamming_counts.BLOCK, *sizes, 1 << 24)
    elif shuffle_name is not None:
        tables = (_U64, _U64, _I32, _I64, _INT)
        scan = hamming_tables.table_scan(lanes, shuffle_name)
        found["scan_tables"] = compiled(void(*span, *tables, *state))(scan)
        sizes = hamming_tables.scratch_sizes(lanes)
        scans["scan_tables"] = (hamming_tables.GROUP, 4 * lanes, *sizes, hamming_tables.MAX_WORDS)
    names = ("group", "block", "scratch", "scratch_per_word", "max_words")
    layout = {
        f"{scan}.{name}": size
        for scan, sizes in scans.items()
        for name, size in zip(names, sizes, strict=True)
    }
    return found, layout | {"lanes": lanes, "shuffle": int(shuffle_name is not None)}
