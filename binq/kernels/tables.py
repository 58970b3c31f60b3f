"""The look-up tables of queries for `source.hamming.scan_tables`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from binq.kernels.scan import aligned

Codes = npt.NDArray[np.uint64]
Rows = npt.NDArray[np.int64]


def sections(queries: Codes) -> tuple[Rows, Codes]:
    """Where `scan_tables` has to widen its 8-bit sums, and the mask for codes and queries.

    Parameters
    ----------
    queries : (q, words) uint64
        Not yet masked.

    Returns
    -------
    ends : (sections,) int64
        In groups of 16 bits; no query, masked, has more than 255 set bits in a section.
    mask : (words,) uint64
        With which no query has 16 set bits in a group.
    """
    parts = queries.astype("<u8", copy=False).view("<u2")
    mask = np.zeros(parts.shape[1], "<u2")
    for group in np.flatnonzero((parts == 0xFFFF).any(axis=0)).tolist():
        # The mask turns a query's part p into all ones where it equals ~p: take another one.
        taken = np.zeros(1 << 16, bool)
        taken[np.bitwise_not(parts[:, group])] = True
        mask[group] = np.flatnonzero(~taken)[0]
    weights = np.bitwise_count(parts ^ mask).astype(np.int64)
    ends = []
    total = np.zeros(len(queries), np.int64)
    for group in range(parts.shape[1]):
        total += weights[:, group]
        if total.max(initial=0) > 255:
            ends.append(group)
            total = weights[:, group].copy()
    ends.append(parts.shape[1])
    return np.array(ends, np.int64), mask.view("<u8").astype(np.uint64)


def looked_up(
    queries: Codes,
) -> tuple[Codes, npt.NDArray[np.uint8], npt.NDArray[np.int32], Rows]:
    """What a scan by look-up tables is given of its queries.

    Parameters
    ----------
    queries : (q, words) uint64

    Returns
    -------
    mask, tables, weights, ends
        See `sections` and `shared_bits`; weights are the set bits of each masked query, and of
        zeros that fill up the last pair.
    """
    ends, mask = sections(queries)
    masked = np.zeros((len(queries) + len(queries) % 2, queries.shape[1]), np.uint64)
    masked[: len(queries)] = queries ^ mask
    weights = np.bitwise_count(masked).sum(axis=1, dtype=np.int32)
    return mask, shared_bits(masked), weights, ends


_SHARED = np.bitwise_count(np.arange(16, dtype=np.uint8)[:, None] & np.arange(16, dtype=np.uint8))


def shared_bits(queries: Codes) -> npt.NDArray[np.uint8]:
    """The look-up tables of masked queries: (pairs, half-bytes, 16) uint8."""
    parts = queries.astype("<u8", copy=False).view(np.uint8)
    halves = np.empty((len(parts), parts.shape[1] * 2), np.uint8)
    halves[:, 0::2] = parts & 15
    halves[:, 1::2] = parts >> 4
    tables = aligned(halves.size * 8, np.uint8).reshape(len(halves) // 2, halves.shape[1], 16)
    np.left_shift(_SHARED[halves[1::2]], 4, out=tables)
    tables |= _SHARED[halves[0::2]]
    return tables
