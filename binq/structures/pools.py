"""How far a walk through a graph goes, as it was found out when the index was built.

A walk stops where what lies before it is farther, by a gap, than the candidates that it has: gaps
are kept as those of lists are. It goes by Hamming distance alone. For asymmetric scores it looks at
a *pool*: so many of the nearest rows as hold the candidates that score best.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from binq.structures.calibration import COUNTS, TARGETS, Calibration

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
    """

    gaps: Calibration
    pools: Mapping[int, tuple[int, ...]] = field(default_factory=dict)

    def pool(self, candidates: int, target: float) -> int:
        """Return how many of the nearest rows to look at for so many that score best."""
        if target > TARGETS[-1] or not self.pools:
            return MAX_POOL
        counts = sorted(self.pools)
        count = counts[min(bisect_left(counts, candidates), len(counts) - 1)]
        pool = self.pools[count][bisect_left(TARGETS, target)]
        return pool if candidates <= count else math.ceil(pool * candidates / count)

    def to_json(self) -> dict[str, Any]:
        """Return what the header of a file says of it."""
        document = self.gaps.to_json()
        if self.pools:
            document["pools"] = {str(count): list(row) for count, row in self.pools.items()}
        return document

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> GraphCalibration:
        """Read what :meth:`to_json` returned.

        Raises
        ------
        ValueError
            If it is something else.
        """
        gaps, pools = Calibration.from_json(document), document.get("pools", {})
        if not isinstance(pools, dict):
            raise ValueError("pools are no object")
        rows = {count: pools[str(count)] for count in COUNTS if pools.get(str(count)) is not None}
        for row in rows.values():
            if not isinstance(row, list) or len(row) != len(TARGETS):
                raise ValueError("pools are not one for each target")
            if not all(type(one) is int and 0 <= one <= MAX_POOL for one in row):
                raise ValueError("pools are no numbers of rows")
            if row != sorted(row):
                raise ValueError("pools do not ascend")
        return cls(gaps, {count: tuple(row) for count, row in rows.items()})
