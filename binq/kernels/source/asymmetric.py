"""Asymmetric scan kernels: real-valued queries against codes (source; imported to be compiled).

The score of a code b in {-1, +1}^d is ``(<w, b> + base) * mul + add``.  For the scan the weights
are small integers u with ``w ~ step * u``: `quantize` makes them, `asymmetric_scan` looks them up.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numba import cfunc, types

from binq.kernels.source import asymmetric_scan
from binq.kernels.source.features import Features
from binq.kernels.source.quantize import MAX_WORDS, quantize

_F32 = types.CPointer(types.float32)
_F64 = types.CPointer(types.float64)
_I32 = types.CPointer(types.int32)
_I64 = types.CPointer(types.int64)
_U8 = types.CPointer(types.uint8)
_U32 = types.CPointer(types.uint32)
_U64 = types.CPointer(types.uint64)
_INT = types.intp


def _measure(
    codes, words, bits, weights, bases, n_queries, rows, per_query, mul, add, factors, scores, sums
):
    """``scores[q, j]`` of query q and row ``rows[q, j]``, summed in float64 in a fixed order.

    `sums` has room for 64 numbers: one per bit of a word, so that additions run side by side.
    """
    for query in range(n_queries):
        start = query * bits
        for j in range(query * per_query, (query + 1) * per_query):
            row = rows[j]
            for bit in range(64):
                sums[bit] = 0.0
            whole = bits >> 6
            for word in range(whole):
                code = codes[row * words + word]
                at = start + word * 64
                for bit in range(64):
                    weight = np.float64(weights[at + bit])
                    one = (code >> np.uint64(bit)) & np.uint64(1)
                    sums[bit] += weight if one else -weight
            for bit in range(bits - whole * 64):
                weight = np.float64(weights[start + whole * 64 + bit])
                one = (codes[row * words + whole] >> np.uint64(bit)) & np.uint64(1)
                sums[bit] += weight if one else -weight
            half = 32
            while half:
                for bit in range(half):
                    sums[bit] += sums[half + bit]
                half >>= 1
            score = sums[0] + bases[query]
            if factors:
                score = score * mul[row] + add[row]
            scores[j] = np.float32(score)


def kernels(features: Features) -> tuple[dict[str, Any], dict[str, int]]:
    """The compiled functions of this family for a CPU, and their layout.

    The layout of the scans is that of `hamming.kernels`.
    """
    lanes, shuffle_name = features.lanes, features.shuffle
    compiled = partial(cfunc, error_model="numpy")
    void = types.void
    span = (_U64, _INT, _INT, _I64, _INT, _U64, _INT, _U32, _INT)
    queries = (_U64, _F32, _F32, _I32, _I64, _INT, _F32, _F32, _INT)
    state = (_I64, _F32, _I64, _U64, _INT, _INT, _U64)
    scan = void(*span, *queries, *state)
    fixed, per_word = asymmetric_scan.scratch_sizes(lanes)
    layout = {"measure.scratch": 64 * 8}
    for name, group in (("scan_one", 1), ("scan", asymmetric_scan.GROUP)):
        layout |= {f"{name}.group": group, f"{name}.block": 4 * lanes}
        layout |= {f"{name}.max_words": MAX_WORDS}
        layout |= {f"{name}.scratch": fixed, f"{name}.scratch_per_word": per_word}
    return {
        "scan_one": compiled(scan)(asymmetric_scan.one_scan(lanes, shuffle_name)),
        "scan": compiled(scan)(asymmetric_scan.batch_scan(lanes, shuffle_name)),
        "quantize": compiled(void(_F32, _INT, _INT, _INT, _F32, _F32, _U8, _F32, _I32, _I64))(
            quantize
        ),
        "measure": compiled(
            void(_U64, _INT, _INT, _F32, _F32, _INT, _I64, _INT, _F32, _F32, _INT, _F32, _F64)
        )(_measure),
    }, layout
