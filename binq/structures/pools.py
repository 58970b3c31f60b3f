"""How far a walk through a graph goes, as it was found out when the index was built.

A walk stops where what lies before it is farther, by a gap, than the candidates that it has: gaps
are kept as those of lists are. Where the last of these candidates lies beyond an *edge*, farther
than for queries for which walks are known to find enough, all rows are looked at. A walk goes by
Hamming distance alone. For asymmetric scores it looks at a *pool*: so many of the nearest rows as
hold the candidates that score best.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from binq.structures.calibration import COUNTS, TARGETS, Calibration
from binq.types import DEFAULT_TARGET_RECALL, MAX_DIM

MAX_POOL: Final = 1 << 32
"""All rows, however many there are."""


@dataclass(frozen=True)
class GraphCalibration:
    """The gaps and pools of an index with a graph.

    Attributes
    ----------
    gaps : Calibration
        By Hamming distance; ``MAX_DIM`` where a scan of all codes takes no longer than a walk.
    pools : mapping
        For each number of candidates, a number of rows for each of ``TARGETS``, ascending;
        ``MAX_POOL`` for all. Empty where there are no asymmetric scores.
    pool_edges : mapping
        As many distances, where they are known: beyond which the last row of a pool does not lie.
    """

    gaps: Calibration
    pools: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    pool_edges: Mapping[int, tuple[int, ...]] = field(default_factory=dict)

    def walked(self, target: float = DEFAULT_TARGET_RECALL) -> int:
        """Return for up to how many candidates a search walks; for more it scans all rows."""
        walked = 0
        for count in sorted(self.gaps.gaps.get("hamming", {})):
            if self.gaps.reach_and_gap("hamming", count, target)[1] >= MAX_DIM:
                break
            walked = count
        return walked

    def pool(self, candidates: int, target: float) -> int:
        """Return how many of the nearest rows to look at for so many that score best."""
        if target > TARGETS[-1] or not self.pools:
            return MAX_POOL
        counts = sorted(self.pools)
        count = counts[min(bisect_left(counts, candidates), len(counts) - 1)]
        pool = self.pools[count][bisect_left(TARGETS, target)]
        return pool if candidates <= count else math.ceil(pool * candidates / count)

    def pool_edge(self, candidates: int, target: float) -> int:
        """Return how far the last row of a pool may lie before all rows are looked at instead."""
        if target > TARGETS[-1] or not self.pool_edges:
            return MAX_DIM
        counts = sorted(self.pool_edges)
        count = counts[min(bisect_left(counts, candidates), len(counts) - 1)]
        return self.pool_edges[count][bisect_left(TARGETS, target)]

    def to_json(self) -> dict[str, Any]:
        """Return what the header of a file says of it."""
        document = self.gaps.to_json()
        if self.pools:
            document["pools"] = {str(count): list(row) for count, row in self.pools.items()}
        if self.pool_edges:
            document["pool_edges"] = {str(count): list(r) for count, r in self.pool_edges.items()}
        return document

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> GraphCalibration:
        """Read what :meth:`to_json` returned.

        Raises
        ------
        ValueError
            If it is something else.
        """
        gaps = Calibration.from_json(document)
        pools = _read(document.get("pools", {}), MAX_POOL)
        if any(list(row) != sorted(row) for row in pools.values()):
            raise ValueError("pools do not ascend")
        return cls(gaps, pools, _read(document.get("pool_edges", {}), MAX_DIM))


def _read(known: object, most: int) -> dict[int, tuple[int, ...]]:
    """Return numbers, one for each target, of every number of candidates."""
    if not isinstance(known, dict):
        raise ValueError("pools or their edges are no object")
    rows = {count: known[str(count)] for count in COUNTS if known.get(str(count)) is not None}
    for row in rows.values():
        if not isinstance(row, list) or len(row) != len(TARGETS):
            raise ValueError("pools or their edges are not one for each target")
        if not all(type(one) is int and 0 <= one <= most for one in row):
            raise ValueError("pools or their edges are no such numbers")
    return {count: tuple(row) for count, row in rows.items()}
