"""Saying how many of the nearest rows hold those that score best: the pools of a graph.

As of walks (:mod:`binq.building.reaching`), rows that stand in for queries tell it, and groups that
are far from all rows say beyond which distance all rows are looked at instead.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from binq.building.reaching import Known, Reached
from binq.kernels import hamming
from binq.structures.base import AllowedRows, Scope
from binq.structures.calibration import COUNTS, TARGETS
from binq.structures.flat import Flat
from binq.structures.pools import MAX_POOL
from binq.structures.queries import Queries
from binq.types import MAX_DIM

Numbers = NDArray[np.int64]

# Of what is missing from a target, so much may be.
_SAFETY: Final = 0.65
# Pools are looked for among so many of the nearest rows.
_DEEPEST: Final = 40_000
# What a row of a pool costs, in rows of a scan: it is walked to, and its code copied.
_COST: Final = 10
# How many times as large as the rows want them pools may be, for the far groups.
_WIDER: Final = (1, 1.5, 2, 3, 4, 6, 8, 12, 16)


def pools(
    flat: Flat, groups: Sequence[Queries], allowed: AllowedRows | None, own: bool, threads: int
) -> tuple[Known, Known]:
    """Return how many of the nearest rows hold the candidates that score best, and edges.

    Parameters
    ----------
    flat : Flat
        Codes and terms of all rows.
    groups : sequence of Queries
        Queries, or rows that stand in for them; and some that are far from all rows, for which
        edges are set.
    allowed : AllowedRows or None
        Rows that are not dead; None for all.
    own : bool
        The first group are rows. These do not count, nor do any that equal them.
    threads : int
    """
    n = len(flat) if allowed is None else allowed.count
    counts = [count for count in COUNTS if count <= max(len(flat), COUNTS[0])]
    found: Known = dict.fromkeys(counts, (MAX_POOL,) * len(TARGETS))
    edges: Known = dict.fromkeys(counts, (MAX_DIM,) * len(TARGETS)) if own else {}
    # Larger pools take longer than a scan.
    deepest = min(_DEEPEST, n // _COST)
    counts = [count for count in counts if count <= deepest] if len(groups[0]) else []
    ranked = [
        _Ranked(
            flat, group, counts[-1], deepest, own and not place, Scope(allowed, threads=threads)
        )
        for place, group in enumerate(groups)
        if counts and len(group)
    ]
    for fewest, count in zip([0, *counts], counts, strict=False):
        stands = [group.of(fewest + 1, count) for group in ranked]
        pool, edge = [MAX_POOL] * len(TARGETS), [MAX_DIM] * len(TARGETS)
        for i, target in enumerate(TARGETS):
            # Half of what may be missing is missing there, and half is not found of it.
            share, cheapest = 1 - _SAFETY * (1 - target) / 2, n
            least = stands[0].holding(share)
            for size in [math.ceil(least * wider) for wider in _WIDER]:
                if _COST * size >= cheapest:
                    break
                reached = [stand.reached(size) for stand in stands]
                if not reached[0].enough(share):
                    continue
                outermost = max(group.farthest for group in reached)
                nearest = min([outermost, *[group.edge(share) for group in reached[1:]]])
                cost = _COST * size + round(n * reached[0].beyond(nearest))
                if cost < cheapest:
                    cheapest, pool[i], edge[i] = cost, size, nearest
            if i:
                pool[i], edge[i] = max(pool[i], pool[i - 1]), min(edge[i], edge[i - 1])
        found[count] = tuple(pool)
        if own:
            edges[count] = tuple(edge)
    return found, edges


class _Ranked:
    """Where the rows that score best stand among those that are nearest.

    Parameters
    ----------
    flat : Flat
    queries : Queries
    count : int
        How many of the best.
    depth : int
        How many of the nearest.
    own : bool
        The queries are rows, which do not count, nor do any that equal them.
    scope : Scope
    """

    def __init__(
        self, flat: Flat, queries: Queries, count: int, depth: int, own: bool, scope: Scope
    ) -> None:
        best = flat.best(queries, count + own, scope).rows
        near = flat.nearest(queries, depth, scope).distances
        assert near is not None
        away = hamming.distances(flat.codes, queries.codes, best)
        ranks = np.empty(best.shape, np.int64)
        for one, (sorted_near, far) in enumerate(zip(near, away, strict=True)):
            equal = int(np.searchsorted(sorted_near, 0, side="right")) if own else 0
            ranks[one] = np.searchsorted(sorted_near, far, side="right") - equal
            ranks[one][far >= sorted_near[-1]] = MAX_POOL
            if own:
                ranks[one][far == 0] = -1
                sorted_near[: len(sorted_near) - equal] = sorted_near[equal:].copy()
        order = np.argsort(ranks < 0, axis=1, kind="stable")
        self.near, self.ranks = near, np.take_along_axis(ranks, order, axis=1)

    def of(self, fewest: int, most: int) -> _Standing:
        """Return the same of so many candidates."""
        return _Standing(
            self.near, [np.sort(self.ranks[:, :end], axis=1) for end in (fewest, most)]
        )


class _Standing(NamedTuple):
    """Where the best rows, of the fewest and the most that are asked for, stand.

    Attributes
    ----------
    near : (q, r) int32
        The distances of the nearest, ascending.
    ranks : list of (q, m) int64
        How many rows are at least as near, ascending; first -1 for those that do not count.
    """

    near: NDArray[np.int32]
    ranks: list[Numbers]

    def holding(self, share: float) -> int:
        """Return how many of the nearest hold such a share of the best."""
        known = np.sort(self.ranks[1][self.ranks[1] >= 0])
        return int(known[max(0, math.ceil(share * len(known)) - 1)]) if len(known) else 0

    def reached(self, size: int) -> Reached:
        """Return what of the best is found among so many of the nearest."""
        shares, asked = [], len(self.near)
        for ranks in self.ranks:
            lines = np.arange(asked) * (2 * MAX_POOL)
            # Ranks of all queries, ascending.
            keys = (ranks + lines[:, None]).ravel()
            first = np.arange(asked) * ranks.shape[1]
            gone = np.searchsorted(keys, lines) - first
            held = np.searchsorted(keys, lines + size, side="right") - first - gone
            counted = ranks.shape[1] - gone
            shares.append(np.where(counted > 0, held / np.maximum(counted, 1), 1.0))
        away = self.near[:, min(max(size, 1), self.near.shape[1]) - 1].astype(np.int64)
        return Reached(np.array(shares), away, np.full(asked, size))
