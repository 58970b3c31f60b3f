"""Inverted lists: codes lie list by list, and a query looks into the lists that are near to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from binq.binarizers import Binarizer, RowTerms, Weights
from binq.bits import words_for
from binq.errors import UsageError
from binq.kernels import asymmetric, hamming
from binq.kernels.allowed import GATHER_SHARE
from binq.kernels.lists import Lists
from binq.kernels.near_lists import near_lists
from binq.storage.reader import IndexFile
from binq.storage.sections import row_terms
from binq.structures import coarse
from binq.structures.base import EVERYTHING, AllowedRows, Candidates, Codes, Effort, Rows, Scope
from binq.structures.calibration import Calibration
from binq.structures.filtered import filtered_visits
from binq.structures.flat import Flat
from binq.structures.queries import Queries
from binq.types import DEFAULT_TARGET_RECALL, Kind, Scoring

_Numbers = TypeVar("_Numbers", Rows, NDArray[np.uint32])
_Scan = Callable[[Queries, Lists | None], tuple[Rows, NDArray[Any]]]
FEW = 32_768
"""So many allowed rows, and fewer, are scanned outright.

As measured in docs/speed.md: for one query lists are faster from 2 % of a million rows on, for many
at once from 15 %; answers are the same however many there are.
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
    damaged: Callable[[str, object, object], Exception] = lambda *said: ValueError(*said)


class Ivf:
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
        self.lists = lists
        # In the order of the lists, and by position where this class does not translate.
        self._flat = Flat(codes, terms)
        self.codes = codes
        self._last: tuple[AllowedRows, Codes, Rows] | None = None

    @classmethod
    def restore(cls, file: IndexFile, binarizer: Binarizer | None) -> Ivf:
        """Return the structure of an index file.

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
        try:
            calibration = Calibration.from_json(header.calibration or {})
        except ValueError as error:
            raise file.corrupt("header calibration", "gaps of every scan", error) from error
        return cls(
            file.array("codes", "uint64", (*rows, header.words)),
            InvertedLists(
                file.array("ivf.centroids", "uint64", (lists, words_for(bits))),
                file.array("ivf.offsets", "uint64", (lists + 1,)).view(np.int64),
                file.array("ivf.rows", "uint32", rows),
                calibration,
                coarse,
                file.corrupt,
            ),
            partial(row_terms, file, binarizer),
        )

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def words(self) -> int:
        """The uint64 words of a code."""
        return self._flat.words

    @property
    def terms(self) -> RowTerms:
        """What asymmetric scores take besides the codes, list by list."""
        return self._flat.terms

    def check(self, effort: Effort) -> None:
        """Any number of lists, and any target, will do."""

    def nearest(self, queries: Queries, m: int, scope: Scope = EVERYTHING) -> Candidates:
        """Return the min(m, allowed) rows nearest to every query; see ``Structure``."""
        listed = self._listed(scope)
        if listed is not None:
            few = Scope(threads=scope.threads)
            return self._flat.part(self._at(listed)).nearest(queries, m, few).of(listed)
        scan = partial(self._scan_hamming, m=m, scope=scope)
        return Candidates.by_distance(*self._found(queries, m, scope, "hamming", scan))

    def best(self, queries: Queries, m: int, scope: Scope = EVERYTHING) -> Candidates:
        """Return the min(m, allowed) rows that score best; see ``Structure``.

        The scan rounds the weights to 4 bits.
        """
        listed = self._listed(scope)
        if listed is not None:
            few = Scope(threads=scope.threads)
            return self._flat.part(self._at(listed)).best(queries, m, few).of(listed)
        scan = partial(self._scan_asymmetric, m=m, scope=scope)
        rows, scores = self._found(queries, m, scope, "asymmetric", scan)
        offset = queries.weights.offset[:, None]
        return Candidates(rows, None, scores.astype(np.float64) + offset)

    def compared(
        self, queries: Queries, m: int, scope: Scope = EVERYTHING, scoring: Scoring = "hamming"
    ) -> Rows:
        """Return how many rows a search is through with, (q,) int64; see ``Structure``."""
        listed = self._listed(scope)
        if listed is not None or scope.exhaustive:
            return np.full(len(queries), len(self) if listed is None else len(listed))
        counts = np.zeros(len(queries), np.int64)
        for part in self._parts(queries):
            visits = self._visits(queries.part(part), m, scope, scoring)
            counts[part] = np.where(visits < 0, 0, self._sizes[visits]).sum(axis=1)
        return counts

    def describe(self) -> dict[str, Any]:
        """Return how many lists there are, how long, and how far searches look."""
        lengths = coarse.lengths(self._sizes)
        return {"lists": lengths, "calibration": self.lists.calibration.to_json()}

    def within(
        self, queries: Codes, radius: int, scope: Scope = EVERYTHING
    ) -> tuple[Rows, Rows, NDArray[np.int32]]:
        """Return all allowed rows within ``radius``, out of all lists; see ``Structure``."""
        radii = np.full(len(queries), min(radius, 64 * self.words))
        found = hamming.within(
            self.codes,
            queries,
            radii,
            scope.threads,
            allowed=self._allowed(scope)[0],
            numbers=self.lists.rows,
        )
        self._checked(found[1])
        return found

    def count_within(
        self, queries: Codes, radii: NDArray[np.int64], scope: Scope = EVERYTHING
    ) -> Rows:
        """Return how many allowed rows lie within ``radii[i]`` of query i, as (q,) int64."""
        allowed = self._allowed(scope)[0]
        return hamming.count_within(self.codes, queries, radii, scope.threads, allowed=allowed)

    def distances(self, queries: Codes, rows: Rows) -> NDArray[np.int32]:
        """Return the Hamming distances (q, m) of chosen rows (q, m)."""
        return self._flat.distances(queries, self._at(rows))

    def scores(self, weights: Weights, rows: Rows) -> NDArray[np.float64]:
        """Return the scores (q, m) of chosen rows (q, m), by whole weights."""
        return self._flat.scores(weights, self._at(rows))

    def take(self, rows: Rows) -> Codes:
        """Return the codes (m, words) of rows (m,)."""
        return self.codes[self._at(rows)]

    def _listed(self, scope: Scope) -> Rows | None:
        """Return the allowed rows where they are so few that a copy of their codes is scanned."""
        allowed = scope.allowed
        most = GATHER_SHARE * len(self) if scope.exhaustive else 0
        few = allowed is not None and allowed.count <= max(FEW, most)
        return allowed.rows if allowed is not None and few else None

    def _found(
        self, queries: Queries, m: int, scope: Scope, scoring: Scoring, scan: _Scan
    ) -> tuple[Rows, NDArray[Any]]:
        """Return the rows and values (q, min(m, allowed)) of a scan of lists."""
        if scope.exhaustive:
            rows, values = scan(queries, None)
            return self._checked(rows), values
        parts = self._parts(queries)
        if len(parts) <= 1:
            rows, values = self._of_lists(queries, m, scope, scoring, scan)
            return self._checked(rows), values
        found = [self._of_lists(queries.part(some), m, scope, scoring, scan) for some in parts]
        rows, values = (np.concatenate(part) for part in zip(*found, strict=True))
        return self._checked(rows), values

    def _of_lists(
        self, queries: Queries, m: int, scope: Scope, scoring: Scoring, scan: _Scan
    ) -> tuple[Rows, NDArray[Any]]:
        return scan(queries, Lists(self._offsets, self._visits(queries, m, scope, scoring)))

    def _parts(self, queries: Queries) -> list[slice]:
        """Return which queries are searched at a time, so that their visits take little memory."""
        step = max(1, _VISITS // max(1, len(self.lists.centroids)))
        return [slice(first, first + step) for first in range(0, len(queries), step)]

    def _visits(
        self, queries: Queries, m: int, scope: Scope, scoring: Scoring
    ) -> NDArray[np.int32]:
        """Return which lists each query looks into: (q, p) list numbers, -1 for none."""
        probes = queries.codes if self.lists.coarse is None else self.lists.coarse(queries)
        effort = scope.effort or Effort()
        enough, gap = m, 0
        if effort.nprobe is None:
            target = effort.target_recall or DEFAULT_TARGET_RECALL
            if scope.allowed is not None:
                lists, own = self.lists, self._allowed(scope)[1]
                known = lists.calibration, scoring, target
                return filtered_visits(
                    lists.centroids, self._sizes, own, probes, m, *known, scope.threads
                )
            enough, gap = self.lists.calibration.reach_and_gap(scoring, m, target)
        return near_lists(
            self.lists.centroids,
            self._allowed(scope)[1],
            probes,
            enough,
            gap=gap,
            lists=effort.nprobe,
            threads=scope.threads,
        )

    def _scan_hamming(
        self, queries: Queries, lists: Lists | None, m: int, scope: Scope
    ) -> tuple[Rows, NDArray[np.int32]]:
        return hamming.topk(
            self.codes,
            queries.codes,
            m,
            scope.threads,
            allowed=self._allowed(scope)[0],
            numbers=self.lists.rows,
            lists=lists,
        )

    def _scan_asymmetric(
        self, queries: Queries, lists: Lists | None, m: int, scope: Scope
    ) -> tuple[Rows, NDArray[np.float32]]:
        terms, weights = self.terms, queries.weights
        return asymmetric.topk(
            self.codes,
            weights.values,
            weights.base,
            m,
            terms.factor,
            terms.addend,
            scope.threads,
            allowed=self._allowed(scope)[0],
            numbers=self.lists.rows,
            lists=lists,
        )

    @cached_property
    def _offsets(self) -> Rows:
        """Where lists begin and end: checked, since they come out of a file."""
        offsets = self.lists.offsets
        if offsets[0] != 0 or offsets[-1] != len(self) or (offsets[1:] < offsets[:-1]).any():
            raise self.lists.damaged("ivf.offsets", f"ascending from 0 to {len(self)}", "others")
        return offsets

    @cached_property
    def _positions(self) -> NDArray[np.uint32]:
        """The position of every row, (n,); 0 for a row that a damaged file does not hold."""
        rows = self._checked(self.lists.rows)
        positions = np.zeros(len(rows), np.uint32)
        positions[rows] = np.arange(len(rows), dtype=np.uint32)
        return positions

    def _at(self, rows: Rows) -> Rows:
        """Return the positions of rows, of any shape."""
        return self._positions[rows].astype(np.int64)

    @cached_property
    def _sizes(self) -> Rows:
        return np.diff(self._offsets)

    def _allowed(self, scope: Scope) -> tuple[Codes | None, Rows]:
        """Return the bitmap of allowed positions, None for all, and how many each list holds."""
        allowed = scope.allowed
        if allowed is None:
            return None, self._sizes
        if self._last is None or self._last[0] is not allowed:
            mask = allowed.contains(self._checked(self.lists.rows))
            sizes = np.zeros(len(self._sizes), np.int64)
            filled = np.flatnonzero(self._sizes)
            if len(filled):
                sizes[filled] = np.add.reduceat(mask, self._offsets[filled], dtype=np.int64)
            self._last = allowed, AllowedRows(mask).bitmap, sizes
        return self._last[1:]

    def _checked(self, rows: _Numbers) -> _Numbers:
        """Return rows as they came out of the file, none of them beyond its end."""
        if rows.size and int(rows.max()) >= len(self):
            raise self.lists.damaged("ivf.rows", f"below {len(self)}", int(rows.max()))
        return rows


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
