"""Kernels of inverted lists: which are near, and one query from there to its hits (source).

Imported only to be compiled. The scans of lists are those of all rows, in families of their own.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from numba import cfunc, types

from binq.kernels.source import near_lists, one_query, rows
from binq.kernels.source.features import Features

_I32 = types.CPointer(types.int32)
_I64 = types.CPointer(types.int64)
_U64 = types.CPointer(types.uint64)
_INT = types.intp


def kernels(features: Features) -> tuple[dict[str, Any], dict[str, int]]:
    """The compiled functions of this family for a CPU, and their layout.

    Returns
    -------
    dict of str to numba CFunc
    dict
        ``near_lists.transposed``, whether centroids are taken transposed, and
        ``near_lists.together``, how many queries are compared with them at once; the bytes of
        scratch; of `one_query` the places of what it is given, and the size of its answer.
    """
    lanes, void = features.lanes, types.void
    compiled = partial(cfunc, error_model="numpy")
    scan_tasks = rows.row_kernels(lanes)[1]
    measuring = near_lists.measure_of(lanes, features.counts)
    near = near_lists.near_lists_of(measuring)
    sized = (_U64, _INT, _INT, _I64, _U64, *[_INT] * 5, _I32, _I64, _U64)
    allowing = (_U64, _INT, _INT, _I64, _I64, _U64, *[_INT] * 4, _I64, _INT, _I32, _I64, _U64)
    given = (types.CPointer(_U64), *[_INT] * 6)
    found = {
        "near_lists": compiled(void(*sized))(near.py_func),
        "near_allowed": compiled(void(*allowing))(near_lists.near_allowed_of(measuring)),
        "one_query": compiled(void(*given))(one_query.one_query_of(near, scan_tasks)),
    }
    layout = {f"one_query.{name}": place for place, name in enumerate(one_query.GIVEN)}
    layout |= {f"one_query.part.{name}": place for place, name in enumerate(one_query.PART)}
    layout["one_query.answer_size"] = one_query.ANSWER_SIZE
    layout["one_query.scan_scratch"] = rows.SCRATCH
    layout["near_lists.transposed"] = int(features.counts)
    for name in ("SCRATCH", "SCRATCH_PER_WORD", "SCRATCH_PER_LIST", "TOGETHER"):
        layout[f"near_lists.{name.lower()}"] = getattr(near_lists, name)
    return found, layout
