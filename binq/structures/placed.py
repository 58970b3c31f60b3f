"""Codes that lie in another order than their rows, and the scans that look at all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from binq.binarizers import RowTerms, Weights
from binq.kernels import hamming
from binq.kernels.allowed import GATHER_SHARE
from binq.kernels.lists import Lists
from binq.storage.directory import Stored
from binq.structures.base import EVERYTHING, AllowedRows, Candidates, Codes, Rows, Scope
from binq.structures.flat import Flat
from binq.structures.queries import Queries

_Numbers = TypeVar("_Numbers", Rows, NDArray[np.uint32])
Damaged = Callable[[str, object, object], Exception]
"""Given what is wrong, what was expected and what was found, returns the error to raise."""


class Placed:
    """Codes by *position*, and the row at every position.

    Parameters
    ----------
    codes : (n, words) uint64
        By position.
    rows : (n,) uint32
        The row at every position.
    section : str
        What messages call ``rows``.
    damaged : callable
        Makes the error to raise, see :data:`Damaged`.
    terms : RowTerms or callable, optional
        What asymmetric scores take besides the codes, by position, or what restores it.
    """

    def __init__(
        self,
        codes: Codes,
        rows: NDArray[np.uint32],
        section: str,
        damaged: Damaged,
        terms: RowTerms | Callable[[], RowTerms] | None = None,
    ) -> None:
        self.codes = codes
        # By position where this class does not translate.
        self._flat = Flat(codes, terms)
        self._rows, self._section, self._damaged = rows, section, damaged
        self._last: tuple[AllowedRows, AllowedRows] | None = None

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def words(self) -> int:
        """The uint64 words of a code."""
        return self._flat.words

    @property
    def terms(self) -> RowTerms:
        """What asymmetric scores take besides the codes, by position."""
        return self._flat.terms

    def require_terms(self) -> None:
        """Refuse asymmetric scores where there is nothing for them; see ``Structure``."""
        self._flat.require_terms()

    def within(
        self, queries: Codes, radius: int, scope: Scope = EVERYTHING
    ) -> tuple[Rows, Rows, NDArray[np.int32]]:
        """Return all allowed rows within ``radius``, whatever the effort; see ``Structure``."""
        radii = np.full(len(queries), min(radius, 64 * self.words))
        bitmap = self._bitmap(scope)
        found = hamming.within(
            self.codes, queries, radii, scope.threads, allowed=bitmap, numbers=self._numbers
        )
        self.checked(found[1])
        return found

    def count_within(
        self, queries: Codes, radii: NDArray[np.int64], scope: Scope = EVERYTHING
    ) -> Rows:
        """Return how many allowed rows lie within ``radii[i]`` of query i, as (q,) int64."""
        bitmap = self._bitmap(scope)
        return hamming.count_within(self.codes, queries, radii, scope.threads, allowed=bitmap)

    def distances(self, queries: Codes, rows: Rows) -> NDArray[np.int32]:
        """Return the Hamming distances (q, m) of chosen rows (q, m)."""
        return self._flat.distances(queries, self._at(rows))

    def scores(self, weights: Weights, rows: Rows) -> NDArray[np.float64]:
        """Return the scores (q, m) of chosen rows (q, m), by whole weights."""
        return self._flat.scores(weights, self._at(rows))

    def take(self, rows: Rows) -> Codes:
        """Return the codes (m, words) of rows (m,)."""
        return self.codes[self._at(rows)]

    def part(self, rows: Rows) -> Flat:
        """Return some rows (m,) as a structure of their own, which copies them."""
        return self._flat.part(self._at(rows))

    def _listed(self, scope: Scope, few: int) -> Rows | None:
        """Return the allowed rows where they are so few that a copy of their codes is scanned."""
        allowed = scope.allowed if scope.visits is None else None
        most = GATHER_SHARE * len(self) if scope.exhaustive else 0
        if allowed is None or allowed.count > max(few, most):
            return None
        return allowed.rows

    def _nearest(
        self, queries: Queries, m: int, scope: Scope, lists: Lists | None = None
    ) -> Candidates:
        """Scan all positions, or those that lists say, by Hamming distance."""
        rows, distances = hamming.topk(
            self.codes,
            queries.codes,
            m,
            scope.threads,
            allowed=self._bitmap(scope),
            numbers=self._numbers,
            lists=lists,
        )
        return Candidates.by_distance(self.checked(rows), distances)

    def _best(
        self, queries: Queries, m: int, scope: Scope, lists: Lists | None = None
    ) -> Candidates:
        """Scan all positions, or those that lists say, by asymmetric score."""
        found = self._flat.scored(
            queries.weights,
            m,
            scope.threads,
            allowed=self._bitmap(scope),
            numbers=self._numbers,
            lists=lists,
        )
        self.checked(found.rows)
        return found

    @property
    def _numbers(self) -> NDArray[np.uint32] | list[NDArray[np.uint32]]:
        """The row at every position, as scans take it."""
        return self._rows

    def keep_terms(self, terms: RowTerms) -> None:
        """Take the terms of the rows from here; see :meth:`Flat.keep_terms`."""
        self._flat.keep_terms(terms)

    @cached_property
    def _positions(self) -> NDArray[np.uint32]:
        """The position of every row, (n,); 0 for a row that a damaged file does not hold."""
        rows = self.checked(self._rows)
        positions = np.zeros(len(rows), np.uint32)
        positions[rows] = np.arange(len(rows), dtype=np.uint32)
        return positions

    def _at(self, rows: Rows) -> Rows:
        """Return the positions of rows, of any shape."""
        return self._positions[rows].astype(np.int64)

    def _allowed_positions(self, scope: Scope) -> AllowedRows | None:
        """Return which positions hold allowed rows; None for all. The last ones are kept."""
        allowed = scope.allowed
        if allowed is None:
            return None
        if self._last is None or self._last[0] is not allowed:
            self._last = allowed, AllowedRows(allowed.contains(self.checked(self._rows)))
        return self._last[1]

    def _bitmap(self, scope: Scope) -> Codes | None:
        allowed = self._allowed_positions(scope)
        return None if allowed is None else allowed.bitmap

    def checked(self, rows: _Numbers) -> _Numbers:
        """Return rows as they came out of the file, none of them beyond its end."""
        if rows.size and int(rows.max()) >= len(self):
            raise self._damaged(self._section, f"below {len(self)}", int(rows.max()))
        return rows


class _Calibrated(Protocol):
    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self: ...


_C = TypeVar("_C", bound=_Calibrated)


def stored_calibration(file: Stored, kind: type[_C]) -> _C:
    """Return how far searches of an index look.

    Raises
    ------
    IndexFileError
        If its header does not say, or something else.
    """
    try:
        return kind.from_json(file.header.calibration or {})
    except ValueError as error:
        raise file.corrupt("header calibration", "gaps of every scan", error) from error


def joined(parts: list[Candidates]) -> Candidates:
    """Join what was found for parts of queries, at least one part."""
    if len(parts) == 1:
        return parts[0]
    rows, scores = (np.concatenate([getattr(p, n) for p in parts]) for n in ("rows", "scores"))
    known: list[Any] = [part.distances for part in parts]
    return Candidates(rows, None if known[0] is None else np.concatenate(known), scores)
