"""What every structure over codes can do: find candidates, exactly or with an effort.

A structure knows codes, the terms of their rows, and which rows are allowed; it knows neither files
of vectors nor ids. Row numbers are those of the source, whatever order the structure keeps its
codes in. Everything is ordered by (score descending, row ascending).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from binq.binarizers import Weights
from binq.structures.queries import Queries
from binq.types import Kind, Scoring

if TYPE_CHECKING:
    from binq.structures.flat import Flat

Codes = NDArray[np.uint64]
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Effort:
    """How far a structure looks that does not look at every row.

    Attributes
    ----------
    target_recall : float or None
        The expected share of the exact scan's best candidates that it shall find.
    nprobe : int or None
        How many lists it looks into.
    ef : int or None
        How many of the best rows it goes on from.
    """

    target_recall: float | None = None
    nprobe: int | None = None
    ef: int | None = None

    @property
    def given(self) -> dict[str, float]:
        """What is given, by name."""
        return {name: value for name, value in vars(self).items() if value is not None}


class AllowedRows:
    """The rows that a search may return: those that are alive and that a filter lets through.

    Parameters
    ----------
    mask : (n,) bool
    """

    def __init__(self, mask: NDArray[np.bool_]) -> None:
        self.mask = mask

    @cached_property
    def rows(self) -> Rows:
        """The allowed rows, (count,) int64, ascending."""
        return np.flatnonzero(self.mask)

    @cached_property
    def count(self) -> int:
        """How many rows are allowed."""
        return int(np.count_nonzero(self.mask))

    @cached_property
    def bitmap(self) -> Codes:
        """Bit r % 64 of word r // 64 says whether row r is allowed; (ceil(n / 64),) uint64."""
        words = np.zeros(-(-len(self.mask) // 64), "<u8")
        packed = np.packbits(self.mask, bitorder="little")
        words.view(np.uint8)[: len(packed)] = packed
        return words.astype(np.uint64, copy=False)

    def contains(self, rows: Rows | NDArray[np.uint32]) -> NDArray[np.bool_]:
        """Return which of ``rows``, of any shape, are allowed."""
        return self.mask[rows]


@dataclass(frozen=True, eq=False)
class Scope:
    """What a search over a structure may return, and what it may take.

    Attributes
    ----------
    allowed : AllowedRows or None
        None for every row.
    effort : Effort or None
        How far to look; None for the structure's own default.
    threads : int
    exhaustive : bool
        Look at every row, whatever the effort.
    visits : (q, p) int32 or None
        The lists that each query looks into, -1 for none, where whoever asks has chosen them; then
        fewer rows than are allowed may be found, and -1 stands for the others.
    """

    allowed: AllowedRows | None = None
    effort: Effort | None = None
    threads: int = 1
    exhaustive: bool = False
    visits: NDArray[np.int32] | None = None


EVERYTHING: Final = Scope()


@dataclass(frozen=True, eq=False)
class Candidates:
    """What a structure finds, ordered by (score descending, row ascending).

    Attributes
    ----------
    rows : (q, m) int64
    distances : (q, m) int32 or None
        Hamming distances; None after an asymmetric scan.
    scores : (q, m) float64
        Minus the distance, or the estimate of the asymmetric scan.
    """

    rows: Rows
    distances: NDArray[np.int32] | None
    scores: NDArray[np.float64]

    @classmethod
    def by_distance(cls, rows: Rows, distances: NDArray[np.int32]) -> Candidates:
        """Return candidates whose score is minus their Hamming distance."""
        # Subtracted from 0.0: the score of distance 0 is not -0.0.
        scores: NDArray[np.float64] = np.float64(0.0) - distances
        return cls(rows, distances, scores)

    def of(self, rows: Rows) -> Candidates:
        """Return the same found in chosen rows (m,), by the numbers that those have themselves."""
        return Candidates(rows[self.rows], self.distances, self.scores)

    def at(self, positions: NDArray[np.intp]) -> Candidates:
        """Return those at positions (q, k)."""
        rows = np.take_along_axis(self.rows, positions, axis=1)
        scores = np.take_along_axis(self.scores, positions, axis=1)
        if self.distances is None:
            return Candidates(rows, None, scores)
        return Candidates(rows, np.take_along_axis(self.distances, positions, axis=1), scores)


class Structure(Protocol):
    """Codes, and a way to find the best of them.

    Attributes
    ----------
    kind : str
        Its name in the file.
    exact : bool
        Whether it looks at every row, so that nothing is missed.
    """

    kind: ClassVar[Kind]
    exact: ClassVar[bool]

    def __len__(self) -> int:
        """Return the number of rows, dead ones too."""

    @property
    def words(self) -> int:
        """The uint64 words of a code."""

    def require_terms(self) -> None:
        """Raise an ``InputError`` where there is nothing for asymmetric scores but the codes."""

    def check(self, effort: Effort) -> None:
        """Raise a ``UsageError`` if the structure takes no such effort."""

    def nearest(self, queries: Queries, m: int, scope: Scope = EVERYTHING) -> Candidates:
        """Return the min(m, allowed) rows nearest to every query by Hamming distance.

        Parameters
        ----------
        queries : Queries
        m : int
            At least 0.
        scope : Scope
            Default: every row, with the structure's own effort, on one thread.
        """

    def best(self, queries: Queries, m: int, scope: Scope = EVERYTHING) -> Candidates:
        """Return the min(m, allowed) rows that score best by the quantized weights of a query.

        Parameters
        ----------
        queries, m, scope
            As for :meth:`nearest`.

        Raises
        ------
        InputError
            If the structure has nothing for asymmetric scores.
        """

    def compared(
        self, queries: Queries, m: int, scope: Scope = EVERYTHING, scoring: Scoring = "hamming"
    ) -> Rows:
        """Return how many rows a search for m is through with, (q,) int64: what it costs.

        Parameters
        ----------
        queries, m, scope
            As for :meth:`nearest`.
        scoring : {"hamming", "asymmetric"}
            Whether :meth:`nearest` or :meth:`best` is asked about.
        """

    def describe(self) -> dict[str, Any]:
        """Return what is told of it beside what the header of its file says.

        Raises
        ------
        IndexFileError
            If the file is damaged.
        """

    def within(
        self, queries: Codes, radius: int, scope: Scope = EVERYTHING
    ) -> tuple[Rows, Rows, NDArray[np.int32]]:
        """Return all allowed rows within ``radius``: lims (q + 1,), flat rows and distances."""

    def count_within(
        self, queries: Codes, radii: NDArray[np.int64], scope: Scope = EVERYTHING
    ) -> Rows:
        """Return how many allowed rows lie within ``radii[i]`` of query i, as (q,) int64."""

    def distances(self, queries: Codes, rows: Rows) -> NDArray[np.int32]:
        """Return the Hamming distances (q, m) of chosen rows (q, m)."""

    def scores(self, weights: Weights, rows: Rows) -> NDArray[np.float64]:
        """Return the scores (q, m) of chosen rows (q, m), by whole weights.

        Raises
        ------
        InputError
            If the structure has nothing for asymmetric scores.
        """

    def take(self, rows: Rows) -> Codes:
        """Return the codes (m, words) of rows (m,)."""

    def part(self, rows: Rows) -> Flat:
        """Return some rows (m,) as a structure of their own, which copies them."""
