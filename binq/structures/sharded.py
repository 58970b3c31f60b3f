"""Several structures as one: what shards find is merged before anything is rescored.

A row has the number that it would have in one file; what is exact within every shard is exact over
all of them, ties included.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, Final, cast

import numpy as np
from numpy.typing import NDArray

from binq.binarizers import Binarizer, RowTerms, Weights
from binq.kernels.blocks import run_blocks
from binq.kernels.parts import Parts, distinct
from binq.kernels.scan import MAX_ROWS
from binq.storage.directory import IndexDirectory
from binq.structures.base import (
    EVERYTHING,
    AllowedRows,
    Candidates,
    Codes,
    Effort,
    Rows,
    Scope,
    Structure,
)
from binq.structures.flat import Flat, few_allowed
from binq.structures.placed import Placed, joined
from binq.structures.queries import Queries
from binq.types import Kind, Scoring

# Word comparisons of all shards below which threads cost more than they save.
_BRIEF: Final = 1 << 21
# Candidates of all shards that are held at once.
_CANDIDATES: Final = 1 << 22
# And below which another process costs more than it saves.
_LARGE: Final = 1 << 24
# Rows whose codes are copied at a time to be scored.
_COPIED: Final = 1 << 18

Elsewhere = Callable[[Callable[..., Any], list[Scope]], list[Any]]


def answered(
    shard: Structure, queries: Queries, m: int, scoring: Scoring, scope: Scope
) -> Candidates:
    """Return what a shard finds: the work that is mapped over shards.

    All that it is given can be pickled but the shard itself, which :mod:`binq.index.elsewhere`
    opens where the work is done.
    """
    search = shard.nearest if scoring == "hamming" else shard.best
    return search(queries, m, scope)


def merged(found: Sequence[Candidates], firsts: Rows, count: int) -> Candidates:
    """Return the best of what shards found.

    Parameters
    ----------
    found : sequence of Candidates
        Of every shard, by its own row numbers; -1 for no row, which scores below all others.
    firsts : (shards,) int64
        The number of the first row of each.
    count : int
        How many are wanted, at most as many as are there.
    """
    scores = np.concatenate([part.scores for part in found], axis=1)
    rows = np.concatenate(
        [
            np.where(part.rows < 0, -1, part.rows + first)
            for part, first in zip(found, firsts.tolist(), strict=True)
        ],
        axis=1,
    )
    known = [part.distances for part in found if part.distances is not None]
    distances = np.concatenate(known, axis=1) if known else None
    # Stable: shards come in the order of their rows, and each in the order of what is wanted.
    order = np.argsort(-scores, axis=1, kind="stable")[:, :count]
    return Candidates(rows, distances, scores).at(order)


class Sharded:
    """Structures of one kind whose rows follow one another.

    Parameters
    ----------
    shards : sequence of Structure
        At least one.

    Attributes
    ----------
    whole : Structure or None
        All shards as one, where kernels can go over them in one call: then shards are searched by
        themselves in other processes only.
    elsewhere : callable or None
        Has work on all shards done by other processes: given the work, as of ``answered``, and the
        scope of every shard, it returns the results.
    """

    def __init__(self, shards: Sequence[Structure]) -> None:
        self.shards = list(shards)
        self.ends = np.cumsum([len(shard) for shard in self.shards])
        self.firsts = np.concatenate([[0], self.ends[:-1]])
        self._last: tuple[AllowedRows, list[AllowedRows]] | None = None
        self.elsewhere: Elsewhere | None = None
        self.whole: Structure | None = None

    def __len__(self) -> int:
        return int(self.ends[-1])

    @property
    def words(self) -> int:
        """The uint64 words of a code."""
        return self.shards[0].words

    def require_terms(self) -> None:
        """Refuse asymmetric scores where there is nothing for them; all shards are alike."""
        self.shards[0].require_terms()

    def check(self, effort: Effort) -> None:
        """Refuse an effort that the shards do not take."""
        self.shards[0].check(effort)

    def nearest(self, queries: Queries, m: int, scope: Scope = EVERYTHING) -> Candidates:
        """Return the min(m, allowed) rows nearest to every query; see ``Structure``."""
        return self._found(queries, m, scope, "hamming")

    def best(self, queries: Queries, m: int, scope: Scope = EVERYTHING) -> Candidates:
        """Return the min(m, allowed) rows that score best; see ``Structure``."""
        return self._found(queries, m, scope, "asymmetric")

    def compared(
        self, queries: Queries, m: int, scope: Scope = EVERYTHING, scoring: Scoring = "hamming"
    ) -> Rows:
        """Return how many rows a search is through with, (q,) int64; see ``Structure``."""
        counts = [
            shard.compared(queries, m, own, scoring)
            for shard, own in zip(self.shards, self._scopes(scope), strict=True)
        ]
        total: Rows = np.sum(counts, axis=0)
        return total

    def describe(self) -> dict[str, Any]:
        """Return what is told of it beside what the header says."""
        return {}

    def within(
        self, queries: Codes, radius: int, scope: Scope = EVERYTHING
    ) -> tuple[Rows, Rows, NDArray[np.int32]]:
        """Return all allowed rows within ``radius``; see ``Structure``."""
        if self.whole is not None and not self._is_sent(scope, len(queries)):
            return self.whole.within(queries, radius, scope)
        parts = self._of_each(scope, len(queries), partial(_within, queries=queries, radius=radius))
        asked = np.concatenate(
            [np.repeat(np.arange(len(queries)), np.diff(lims)) for lims, _, _ in parts]
        )
        rows = np.concatenate(
            [rows + first for (_, rows, _), first in zip(parts, self.firsts, strict=True)]
        )
        distances = np.concatenate([distances for _, _, distances in parts])
        order = np.lexsort((rows, distances, asked))
        lims = np.sum([lims for lims, _, _ in parts], axis=0)
        return lims, rows[order], distances[order]

    def count_within(
        self, queries: Codes, radii: NDArray[np.int64], scope: Scope = EVERYTHING
    ) -> Rows:
        """Return how many allowed rows lie within ``radii[i]`` of query i, as (q,) int64."""
        if self.whole is not None and not self._is_sent(scope, len(queries)):
            return self.whole.count_within(queries, radii, scope)
        counts = self._of_each(
            scope, len(queries), partial(_count_within, queries=queries, radii=radii)
        )
        total: Rows = np.sum(counts, axis=0)
        return total

    def distances(self, queries: Codes, rows: Rows) -> NDArray[np.int32]:
        """Return the Hamming distances (q, m) of chosen rows (q, m)."""
        found = np.empty(rows.shape, np.int32)
        for part in self._blocks(rows):
            chosen, places = distinct(rows[part])
            found[part] = self.part(chosen).distances(queries[part], places)
        return found

    def scores(self, weights: Weights, rows: Rows) -> NDArray[np.float64]:
        """Return the scores (q, m) of chosen rows (q, m), by whole weights."""
        found = np.empty(rows.shape, np.float64)
        for part in self._blocks(rows):
            chosen, places = distinct(rows[part])
            own = Weights(weights.values[part], weights.base[part], weights.offset[part])
            found[part] = self.part(chosen).scores(own, places)
        return found

    def take(self, rows: Rows) -> Codes:
        """Return the codes (m, words) of rows (m,)."""
        return self.part(rows).codes

    def part(self, rows: Rows) -> Flat:
        """Return some rows (m,) as a structure of their own, which copies them."""
        codes = np.empty((len(rows), self.words), np.uint64)
        pieces = [(places, self.shards[i].part(own)) for i, places, own in self._sorted_out(rows)]
        for places, piece in pieces:
            codes[places] = piece.codes

        def terms() -> RowTerms:
            found: dict[str, NDArray[np.float32]] = {}
            for places, piece in pieces:
                for name, values in vars(piece.terms).items():
                    if values is not None:
                        found.setdefault(name, np.empty(len(rows), np.float32))[places] = values
            return RowTerms(**found)

        return Flat(codes, terms)

    def _found(self, queries: Queries, m: int, scope: Scope, scoring: Scoring) -> Candidates:
        """Return the best rows of all shards."""
        if self.whole is not None and not self._is_sent(scope, len(queries)):
            return answered(self.whole, queries, m, scoring, scope)
        _ = queries.codes if scoring == "hamming" else queries.weights  # made here, once
        step = max(1, _CANDIDATES // max(1, min(m, len(self)) * len(self.shards)))
        if len(queries) <= step:
            return self._merged(queries, m, scope, scoring)
        found = []
        for at in range(0, len(queries), step):
            part = slice(at, at + step)
            visits = None if scope.visits is None else scope.visits[part]
            own = replace(scope, visits=visits)
            found.append(self._merged(queries.part(part), m, own, scoring))
        return joined(found)

    def _merged(self, queries: Queries, m: int, scope: Scope, scoring: Scoring) -> Candidates:
        """Return the best rows of all shards, for so many queries as are searched at a time."""
        asked = partial(answered, queries=queries, m=m, scoring=scoring)
        found = self._of_each(scope, len(queries), asked)
        allowed = len(self) if scope.allowed is None else scope.allowed.count
        return merged(found, self.firsts, min(m, allowed))

    def _of_each(self, scope: Scope, queries: int, work: Callable[..., Any]) -> list[Any]:
        """Return what ``work(shard, scope=...)`` returns for every shard, on some threads.

        It can be pickled, and is done elsewhere where that is said and there is enough of it.
        """
        if self.elsewhere is not None and self._is_sent(scope, queries):
            return self.elsewhere(work, self._scopes(scope))
        brief = self._pairs(scope, queries) * self.words < _BRIEF
        workers = 1 if brief else min(scope.threads, len(self.shards))
        inner = 1 if brief else -(-scope.threads // workers)
        scopes = self._scopes(replace(scope, threads=inner))
        found: list[Any] = [None] * len(self.shards)

        def run(_: int, number: int) -> None:
            found[number] = work(self.shards[number], scope=scopes[number])

        run_blocks(len(self.shards), workers, run)
        return found

    def _is_sent(self, scope: Scope, queries: int) -> bool:
        """Return whether a search is done by other processes: there are any, and it is large."""
        return self.elsewhere is not None and self._pairs(scope, queries) * self.words >= _LARGE

    def _pairs(self, scope: Scope, queries: int) -> int:
        """Return how many rows are compared, of all queries together."""
        listed = self._listed(scope)
        return (len(self) if listed is None else len(listed)) * queries

    def _listed(self, scope: Scope) -> Rows | None:  # noqa: ARG002
        """Return the allowed rows where they are so few that a copy of their codes is scanned."""
        return None

    def _scopes(self, scope: Scope) -> list[Scope]:
        """Return what of a scope concerns every shard; the allowed rows that were last are kept."""
        allowed = scope.allowed
        if allowed is None:
            return [scope] * len(self.shards)
        if self._last is None or self._last[0] is not allowed:
            cuts = zip(self.firsts, self.ends, strict=True)
            parts = [AllowedRows(allowed.mask[first:end]) for first, end in cuts]
            self._last = allowed, parts
        return [replace(scope, allowed=part) for part in self._last[1]]

    def _sorted_out(self, rows: Rows) -> list[tuple[int, Rows, Rows]]:
        """Return the shards that hold some of rows (m,), at which places, as their own numbers."""
        if not len(rows):
            return []
        shard_of = np.searchsorted(self.ends, rows, side="right")
        order = np.argsort(shard_of, kind="stable")
        there, starts = np.unique(shard_of[order], return_index=True)
        return [
            (int(number), places, rows[places] - self.firsts[number])
            # Of no rows there is one piece, and no shard.
            for number, places in zip(there, np.split(order, starts[1:]), strict=False)
        ]

    def _blocks(self, rows: Rows) -> list[slice]:
        step = max(1, _COPIED // max(1, rows.shape[1]))
        return [slice(first, first + step) for first in range(0, len(rows), step)]


class ShardedFlat(Sharded):
    """Flat structures as one: every code is compared with every query.

    Parameters
    ----------
    shards : sequence of Flat
        At least one.
    """

    kind: ClassVar[Kind] = "flat"
    exact: ClassVar[bool] = True

    def __init__(self, shards: Sequence[Flat]) -> None:
        super().__init__(shards)
        self._every = Flat(codes_of(shards), partial(terms_of, shards))
        self.whole = self._every if len(self) <= MAX_ROWS else None

    @classmethod
    def restore(cls, file: IndexDirectory, binarizer: Binarizer | None) -> ShardedFlat:
        """Return the structure of a directory of flat shards."""
        return cls([Flat.restore(shard, binarizer) for shard in file.shards])

    def compared(
        self,
        queries: Queries,
        m: int,
        scope: Scope = EVERYTHING,
        scoring: Scoring = "hamming",
    ) -> Rows:
        """Return how many rows a search is through with, (q,) int64; see ``Structure``."""
        return self._every.compared(queries, m, scope, scoring)

    def _listed(self, scope: Scope) -> Rows | None:
        return few_allowed(self, scope)


def codes_of(shards: Sequence[Flat | Placed]) -> Codes:
    """Return the codes of all shards as one.

    They are `Parts`: no array, but kernels take them as they take one, and structures ask of them
    only what both have.
    """
    return cast(Codes, Parts([shard.codes for shard in shards]))


def terms_of(shards: Sequence[Flat | Placed]) -> RowTerms:
    """Return the terms of the rows of all shards together, which from then on keep a part of them.

    Raises
    ------
    InputError
        If there are none.
    """
    joined: dict[str, NDArray[np.float32]] = {}
    for name in ("factor", "addend"):
        parts = [getattr(shard.terms, name) for shard in shards]
        if all(part is not None for part in parts):
            joined[name] = np.concatenate(parts)
    first = 0
    for shard in shards:
        own = slice(first, first + len(shard))
        first = own.stop
        shard.keep_terms(RowTerms(**{name: values[own] for name, values in joined.items()}))
    return RowTerms(**joined)


def _within(
    shard: Structure, queries: Codes, radius: int, scope: Scope
) -> tuple[Rows, Rows, NDArray[np.int32]]:
    return shard.within(queries, radius, scope)


def _count_within(shard: Structure, queries: Codes, radii: NDArray[np.int64], scope: Scope) -> Rows:
    return shard.count_within(queries, radii, scope)
