"""The flat structure: every code is compared with every query, so that nothing is missed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from binq.binarizers import Binarizer, RowTerms, Weights
from binq.errors import InputError, UsageError
from binq.kernels import asymmetric, hamming
from binq.kernels.allowed import GATHER_SHARE
from binq.storage.reader import IndexFile
from binq.storage.sections import row_terms
from binq.structures.base import EVERYTHING, Candidates, Codes, Effort, Rows, Scope, Structure
from binq.structures.queries import Queries
from binq.types import Kind, Scoring


def refuse_wide(bits: int) -> None:
    """Refuse codes that are too wide for the asymmetric scan.

    Raises
    ------
    InputError
    """
    most = 64 * asymmetric.max_words()
    if bits > most:
        raise InputError(
            "codes are too wide for an asymmetric scan",
            "`scoring=asymmetric`",
            f"at most {most} bits",
            f"{bits}",
            "use `scoring=hamming`, or fewer `bits`",
        )


class Flat:
    """Codes in row order, searched exhaustively.

    Parameters
    ----------
    codes : (n, words) uint64
        Usually mapped from an index file.
    terms : RowTerms or callable, optional
        What asymmetric scores take besides the codes, or what restores it when first asked.
    """

    kind: ClassVar[Kind] = "flat"
    exact: ClassVar[bool] = True

    def __init__(
        self, codes: Codes, terms: RowTerms | Callable[[], RowTerms] | None = None
    ) -> None:
        self.codes = codes
        self._terms = RowTerms() if terms is None else terms

    @classmethod
    def restore(cls, file: IndexFile, binarizer: Binarizer | None) -> Flat:
        """Return the structure of an index file."""
        codes = file.array("codes", "uint64", (file.header.rows, file.header.words))
        return cls(codes, partial(row_terms, file, binarizer))

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def words(self) -> int:
        """The uint64 words of a code."""
        return int(self.codes.shape[1])

    @property
    def terms(self) -> RowTerms:
        """What asymmetric scores take besides the codes."""
        if not isinstance(self._terms, RowTerms):
            refuse_wide(64 * self.words)
            self._terms = self._terms()
        return self._terms

    def require_terms(self) -> None:
        """Refuse asymmetric scores where there is nothing for them; see ``Structure``."""
        _ = self.terms

    def keep_terms(self, terms: RowTerms) -> None:
        """Take the terms of the rows from here: they are the same, and part of a larger array."""
        self._terms = terms

    def part(self, rows: Rows) -> Flat:
        """Return some rows (m,) as a structure of their own, which copies them."""
        return Flat(self.codes[rows], lambda: self.terms.take(rows))

    def check(self, effort: Effort) -> None:
        """Refuse every effort: a flat index looks at all rows.

        Raises
        ------
        UsageError
        """
        for name, value in vars(effort).items():
            if value is not None:
                raise UsageError(
                    "a flat index looks at every row, whatever the effort",
                    f"`{name}`",
                    got=str(value),
                    next_step=f"leave out `{name}`",
                )

    def nearest(self, queries: Queries, m: int, scope: Scope = EVERYTHING) -> Candidates:
        """Return the min(m, allowed) rows nearest to every query; see ``Structure``."""
        listed = few_allowed(self, scope)
        if listed is not None:
            few = Scope(threads=scope.threads)
            return self.part(listed).nearest(queries, m, few).of(listed)
        found = hamming.topk(self.codes, queries.codes, m, scope.threads, allowed=_bitmap(scope))
        return Candidates.by_distance(*found)

    def best(self, queries: Queries, m: int, scope: Scope = EVERYTHING) -> Candidates:
        """Return the min(m, allowed) rows that score best; see ``Structure``.

        The scan rounds the weights to 4 bits.
        """
        listed = few_allowed(self, scope)
        if listed is not None:
            few = Scope(threads=scope.threads)
            return self.part(listed).best(queries, m, few).of(listed)
        return self.scored(queries.weights, m, scope.threads, allowed=_bitmap(scope))

    def scored(self, weights: Weights, m: int, threads: int, **which: Any) -> Candidates:
        """Scan by asymmetric score all codes, or as `asymmetric.topk` is told which by name."""
        terms = self.terms
        rows, scores = asymmetric.topk(
            self.codes,
            weights.values,
            weights.base,
            m,
            terms.factor,
            terms.addend,
            threads,
            **which,
        )
        return Candidates(rows, None, scores.astype(np.float64) + weights.offset[:, None])

    def compared(
        self,
        queries: Queries,
        m: int,  # noqa: ARG002
        scope: Scope = EVERYTHING,
        scoring: Scoring = "hamming",  # noqa: ARG002
    ) -> Rows:
        """Return how many rows a search is through with, (q,) int64; see ``Structure``."""
        listed = few_allowed(self, scope)
        return np.full(len(queries), len(self) if listed is None else len(listed))

    def describe(self) -> dict[str, Any]:
        """Return nothing: the header of the file says all."""
        return {}

    def within(
        self, queries: Codes, radius: int, scope: Scope = EVERYTHING
    ) -> tuple[Rows, Rows, NDArray[np.int32]]:
        """Return all allowed rows within ``radius``; see ``Structure``."""
        radii = np.full(len(queries), min(radius, 64 * self.words))
        return hamming.within(self.codes, queries, radii, scope.threads, allowed=_bitmap(scope))

    def count_within(
        self, queries: Codes, radii: NDArray[np.int64], scope: Scope = EVERYTHING
    ) -> Rows:
        """Return how many allowed rows lie within ``radii[i]`` of query i, as (q,) int64."""
        bitmap = _bitmap(scope)
        return hamming.count_within(self.codes, queries, radii, scope.threads, allowed=bitmap)

    def distances(self, queries: Codes, rows: Rows) -> NDArray[np.int32]:
        """Return the Hamming distances (q, m) of chosen rows (q, m)."""
        return hamming.distances(self.codes, queries, rows)

    def scores(self, weights: Weights, rows: Rows) -> NDArray[np.float64]:
        """Return the scores (q, m) of chosen rows (q, m), by whole weights."""
        terms = self.terms
        found = asymmetric.exact(
            self.codes, weights.values, weights.base, rows, terms.factor, terms.addend
        )
        return found.astype(np.float64) + weights.offset[:, None]

    def take(self, rows: Rows) -> Codes:
        """Return the codes (m, words) of rows (m,)."""
        return self.codes[rows]


def few_allowed(structure: Structure, scope: Scope) -> Rows | None:
    """Return the allowed rows where they are so few that a copy of their codes is scanned."""
    if scope.effort is not None:
        structure.check(scope.effort)
    if scope.allowed is None or scope.allowed.count >= GATHER_SHARE * len(structure):
        return None
    return scope.allowed.rows


def _bitmap(scope: Scope) -> Codes | None:
    return None if scope.allowed is None else scope.allowed.bitmap
