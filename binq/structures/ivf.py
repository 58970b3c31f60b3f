"""Inverted lists: codes lie list by list, and a query looks into the lists that are near to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from binq.binarizers import Binarizer, RowTerms
from binq.bits import words_for
from binq.errors import UsageError
from binq.kernels.aot.compile import ready
from binq.kernels.lists import Lists
from binq.kernels.near_lists import FAMILY, Centroids, near_allowed, near_lists
from binq.kernels.one_query import OneQuery
from binq.storage.reader import IndexFile
from binq.storage.sections import row_terms
from binq.structures import coarse
from binq.structures.base import EVERYTHING, AllowedRows, Candidates, Codes, Effort, Rows, Scope
from binq.structures.calibration import Calibration
from binq.structures.placed import Damaged, Placed, joined, stored_calibration
from binq.structures.queries import Queries
from binq.types import DEFAULT_TARGET_RECALL, Kind, Scoring

_Far = tuple[int, int, int | None]
FEW = 32_768
"""So many allowed rows, and fewer, are scanned outright.

As measured in docs/speed.md: for one query lists are faster from 2 % of a million rows on, for many
at once from 5 %; answers are the same however many there are.
"""
# Visits of one call: of many queries to many lists, each 4 bytes.
_VISITS = 1 << 24


@dataclass(frozen=True, eq=False)
class InvertedLists:
    """What an index stores of its lists.

    Attributes
    ----------
    centroids : (l, words) uint64
    offsets : (l + 1,) int64
        List i holds the positions from ``offsets[i]`` to ``offsets[i + 1]``.
    rows : (n,) uint32
        The row at every position; ascending within a list.
    calibration : Calibration
    coarse : callable, optional
        Makes the codes (q, words) of queries that centroids are compared with; by default these
        are the queries' own codes.
    damaged : callable
        Given what is wrong, what was expected and what was found, returns the error to raise.
    """

    centroids: Codes
    offsets: Rows
    rows: NDArray[np.uint32]
    calibration: Calibration
    coarse: Callable[[Queries], Codes] | None = None
    damaged: Damaged = lambda *said: ValueError(*said)


class Ivf(Placed):
    """Codes in inverted lists.

    Parameters
    ----------
    codes : (n, words) uint64
        List by list.
    lists : InvertedLists
    terms : RowTerms or callable, optional
        What asymmetric scores take besides the codes, list by list, or what restores it.
    """

    kind: ClassVar[Kind] = "ivf"
    exact: ClassVar[bool] = False

    def __init__(
        self,
        codes: Codes,
        lists: InvertedLists,
        terms: RowTerms | Callable[[], RowTerms] | None = None,
    ) -> None:
        super().__init__(codes, lists.rows, "ivf.rows", lists.damaged, terms)
        self.lists = lists
        self._one_query: OneQuery | None = None
        self._last_sizes: tuple[AllowedRows, Rows] | None = None
        # Queries that come one by one ask the same again, which takes a fifth of their time.
        self._last_far: tuple[tuple[Effort, int, Scoring], _Far] | None = None

    @classmethod
    def restore(
        cls,
        file: IndexFile,
        binarizer: Binarizer | None,
        calibration: Calibration | None = None,
    ) -> Ivf:
        """Return the structure of an index file.

        Parameters
        ----------
        file : IndexFile
        binarizer : Binarizer or None
        calibration : Calibration, optional
            In place of the file's own: of a shard that is searched with others.

        Raises
        ------
        IndexFileError
            If a section is missing or of another shape, or the calibration is none.
        """
        header = file.header
        rows = (header.rows,)
        lists = file.sections["ivf.centroids"].shape[0] if "ivf.centroids" in file.sections else -1
        coarse = None
        bits = header.bits
        if binarizer is not None and not binarizer.spec.hamming:
            coarse, bits = partial(_signs, binarizer), binarizer.input_dim
        return cls(
            file.array("codes", "uint64", (*rows, header.words)),
            InvertedLists(
                file.array("ivf.centroids", "uint64", (lists, words_for(bits))),
                file.array("ivf.offsets", "uint64", (lists + 1,)).view(np.int64),
                file.array("ivf.rows", "uint32", rows),
                calibration or stored_calibration(file, Calibration),
                coarse,
                file.corrupt,
            ),
            partial(row_terms, file, binarizer),
        )

    def check(self, effort: Effort) -> None:
        """Refuse what a walk through a graph is told.

        Raises
        ------
        UsageError
        """
        if effort.ef is not None:
            raise UsageError(
                "an index of lists has no graph",
                "`ef`",
                got=str(effort.ef),
                next_step="say how far to look with `nprobe` or `target_recall`",
            )

    def nearest(self, queries: Queries, m: int, scope: Scope = EVERYTHING) -> Candidates:
        """Return the min(m, allowed) rows nearest to every query; see ``Structure``."""
        listed = self.listed(scope)
        if listed is not None:
            return self.part(listed).nearest(queries, m, Scope(threads=scope.threads)).of(listed)
        if scope.visits is not None:
            return self._nearest(queries, m, scope, self._looked_into(scope.visits))
        if scope.exhaustive:
            return self._nearest(queries, m, scope)
        if len(queries) == 1 and scope.allowed is None and self.lists.coarse is None:
            alone = self._alone(queries.codes, m, scope.effort or Effort())
            if alone is not None:
                return Candidates.by_distance(*alone)
        return joined(
            [
                self._nearest(some, m, scope, self._lists(some, m, scope, "hamming"))
                for some in self.parts(queries)
            ]
        )

    def best(self, queries: Queries, m: int, scope: Scope = EVERYTHING) -> Candidates:
        """Return the min(m, allowed) rows that score best; see ``Structure``.

        The scan rounds the weights to 4 bits.
        """
        listed = self.listed(scope)
        if listed is not None:
            return self.part(listed).best(queries, m, Scope(threads=scope.threads)).of(listed)
        if scope.visits is not None:
            return self._best(queries, m, scope, self._looked_into(scope.visits))
        if scope.exhaustive:
            return self._best(queries, m, scope)
        return joined(
            [
                self._best(some, m, scope, self._lists(some, m, scope, "asymmetric"))
                for some in self.parts(queries)
            ]
        )

    def compared(
        self, queries: Queries, m: int, scope: Scope = EVERYTHING, scoring: Scoring = "hamming"
    ) -> Rows:
        """Return how many rows a search is through with, (q,) int64; see ``Structure``."""
        listed = self.listed(scope)
        if listed is not None or scope.exhaustive:
            return np.full(len(queries), len(self) if listed is None else len(listed))
        visits = (self._lists(some, m, scope, scoring).visits for some in self.parts(queries))
        counts = [np.where(some < 0, 0, self.sizes[some]).sum(axis=1) for some in visits]
        return np.concatenate(counts)

    def describe(self) -> dict[str, Any]:
        """Return how many lists there are, how long, and how far searches look."""
        lengths = coarse.lengths(self.sizes)
        return {"lists": lengths, "calibration": self.lists.calibration.to_json()}

    def listed(self, scope: Scope) -> Rows | None:
        """Return the allowed rows where they are so few that a copy of their codes is scanned."""
        return self._listed(scope, FEW)

    def parts(self, queries: Queries) -> list[Queries]:
        """Return the queries that are searched at a time: visits of all would take much memory."""
        step = max(1, _VISITS // max(1, len(self.lists.centroids)))
        if len(queries) <= step:
            return [queries]
        return [queries.part(slice(at, at + step)) for at in range(0, len(queries), step)]

    def _lists(self, queries: Queries, m: int, scope: Scope, scoring: Scoring) -> Lists:
        """Return the lists that each query looks into."""
        return self._looked_into(self.visits(queries, m, scope, scoring))

    def _looked_into(self, visits: NDArray[np.int32]) -> Lists:
        """Return lists by their numbers, (q, p), as scans take them."""
        return Lists(self.offsets, visits)

    def visits(self, queries: Queries, m: int, scope: Scope, scoring: Scoring) -> NDArray[np.int32]:
        """Return which lists each query looks into: (q, p) list numbers, -1 for none."""
        probes = queries.codes if self.lists.coarse is None else self.lists.coarse(queries)
        effort = scope.effort or Effort()
        if effort.nprobe is None and scope.allowed is not None:
            target = effort.target_recall or DEFAULT_TARGET_RECALL
            known = self.lists.calibration.known(scoring, target)
            own = self.counted(scope)
            return near_allowed(
                self._centroids, self.sizes, own, probes, m, known, threads=scope.threads
            )
        enough, gap, edge = self._how_far(effort, m, scoring)
        return near_lists(
            self._centroids,
            self.counted(scope),
            probes,
            enough,
            gap=gap,
            edge=edge,
            lists=effort.nprobe,
            threads=scope.threads,
        )

    def _how_far(self, effort: Effort, m: int, scoring: Scoring) -> _Far:
        """Return how many rows lists are to hold, how much farther to look, and from where more."""
        asked, last = (effort, m, scoring), self._last_far
        if last is not None and last[0] == asked:
            return last[1]
        far: _Far = m, 0, None
        if effort.nprobe is None:
            target, known = effort.target_recall or DEFAULT_TARGET_RECALL, self.lists.calibration
            far = *known.reach_and_gap(scoring, m, target), known.edge(scoring, m, target)
        self._last_far = asked, far
        return far

    def _alone(self, query: Codes, m: int, effort: Effort) -> tuple[Rows, NDArray[np.int32]] | None:
        """Return what one query (1, words) finds, where that is a matter of one call."""
        library = ready(FAMILY)
        if library is None or not m:
            return None
        if self._one_query is None:
            lists = self._looked_into(np.empty((0, 0), np.int32))
            offsets = lists.parts or lists.offsets
            self._one_query = OneQuery(
                library, self.codes, self._numbers, self._centroids, offsets, self.sizes
            )
        enough, gap, edge = self._how_far(effort, m, "hamming")
        return self._one_query.topk(query, m, enough, gap=gap, edge=edge, lists=effort.nprobe)

    @cached_property
    def offsets(self) -> Rows:
        """Where lists begin and end: checked, since they come out of a file."""
        offsets = self.lists.offsets
        if offsets[0] != 0 or offsets[-1] != len(self) or (offsets[1:] < offsets[:-1]).any():
            raise self.lists.damaged("ivf.offsets", f"ascending from 0 to {len(self)}", "others")
        return offsets

    @cached_property
    def _centroids(self) -> Centroids:
        return Centroids(self.lists.centroids)

    @cached_property
    def sizes(self) -> Rows:
        """How many rows each list holds, (l,) int64."""
        return np.diff(self.offsets)

    def counted(self, scope: Scope) -> Rows:
        """Return how many allowed rows each list holds."""
        allowed = self._allowed_positions(scope)
        if allowed is None:
            return self.sizes
        if self._last_sizes is None or self._last_sizes[0] is not allowed:
            before = np.zeros(len(self) + 1, np.int64)
            np.cumsum(allowed.mask, out=before[1:])
            self._last_sizes = allowed, np.diff(before[self.offsets])
        return self._last_sizes[1]


def _signs(binarizer: Binarizer, queries: Queries) -> Codes:
    """Return the codes by which lists are found where those of the binarizer tell no distance.

    Raises
    ------
    UsageError
        If the queries are bits.
    """
    if queries.vectors is None:
        raise UsageError(
            f"codes of method {binarizer.method} are no help in finding lists",
            "`packed`",
            "float queries",
            "packed ones",
        )
    return binarizer.signs(queries.vectors, ready=queries.vectors)
