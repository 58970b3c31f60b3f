"""Consecutive rows of a source: those that can be used, and those that are refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from binq.errors import InputError
from binq.vectors.ids import Ids
from binq.vectors.refusing import Refusal, refuse, sift


@dataclass(frozen=True)
class Batch:
    """Consecutive rows of a source.

    Attributes
    ----------
    start : int
        Row number of the first row in the whole source.
    vectors : (n, dim) float32 or (n, words) uint64, C-contiguous
        Finite floats, or the codes of a packed source. It may be a read-only view of a mapped
        file: treat it as immutable.
    ids : list of str or int, or (n,) int64 or uint64, or None
        One id per row, as it was given, or None where the source has none.
    refused : tuple of Refusal
        Rows that cannot be used, in order; they count as rows, and have no place in ``vectors``
        and ``ids``.

    ``len`` is the number of rows, refused ones too.
    """

    start: int
    vectors: NDArray[Any]
    ids: Ids | None
    refused: tuple[Refusal, ...] = ()

    def __len__(self) -> int:
        return len(self.vectors) + len(self.refused)

    @property
    def id_list(self) -> list[Any] | None:
        """The ids as a list of str and int."""
        return self.ids.tolist() if isinstance(self.ids, np.ndarray) else self.ids

    @property
    def offsets(self) -> NDArray[np.int64]:
        """Which rows of the batch the vectors are, (n,) int64."""
        return np.delete(np.arange(len(self)), [refusal.offset for refusal in self.refused])

    @property
    def wrong(self) -> Refusal | None:
        """The first row that cannot be used; blank lines are none."""
        return next((refusal for refusal in self.refused if refusal.error is not None), None)

    def before(self, offset: int) -> Batch:
        """Return what comes before a row, given by its number within the batch."""
        refused = tuple(refusal for refusal in self.refused if refusal.offset < offset)
        kept = offset - len(refused)
        ids = None if self.ids is None else self.ids[:kept]
        return Batch(self.start, self.vectors[:kept], ids, refused)

    def part(self, low: int, high: int) -> Batch:
        """Return some of its rows, by their numbers within the batch, as a batch."""
        first = low - sum(refusal.offset < low for refusal in self.refused)
        inside = [refusal for refusal in self.refused if low <= refusal.offset < high]
        kept = slice(first, first + high - low - len(inside))
        return Batch(
            self.start + low,
            self.vectors[kept],
            None if self.ids is None else self.ids[kept],
            tuple(replace(refusal, offset=refusal.offset - low) for refusal in inside),
        )

    def without(self, refused: dict[int, InputError]) -> Batch:
        """Return it with some of the rows that ``vectors`` holds, by their numbers there, refused.

        Their errors name places already, but no ids.
        """
        if not refused:
            return self
        offsets, ids = self.offsets, self.id_list
        more = [
            refuse(int(offsets[i]), None if ids is None else ids[i], error)
            for i, error in refused.items()
        ]
        kept = [i for i in range(len(self.vectors)) if i not in refused]
        known: Ids | None = None
        if self.ids is not None:
            # An array of integers stays one.
            array = isinstance(self.ids, np.ndarray)
            known = self.ids[np.array(kept, np.int64)] if array else [self.ids[i] for i in kept]
        return Batch(
            self.start,
            self.vectors[kept],
            known,
            tuple(sorted((*self.refused, *more), key=lambda refusal: refusal.offset)),
        )

    def pick(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Return the vectors of some rows of the source, all of them in this batch.

        Raises
        ------
        InputError
            If one of them is refused.
        """
        wanted = rows - self.start
        if not self.refused:
            return self.vectors[wanted]
        for refusal in self.refused:
            if refusal.error is not None and refusal.offset in wanted:
                raise refusal.error
        return self.vectors[np.searchsorted(self.offsets, wanted)]


def sifted(
    start: int,
    rows: int,
    decode: Callable[[int, int], NDArray[Any]],
    empty: NDArray[Any],
) -> Batch:
    """Return the rows of a batch without ids that can be decoded, and the others as refused.

    Parameters
    ----------
    start, rows : int
        The first of them in the whole source, and how many.
    decode : callable
        Returns a half-open range of them.
    empty : (0, dim) or (0, words)
        The vectors where none can be decoded.
    """
    parts, refused = sift(decode, rows)
    vectors = parts[0] if len(parts) == 1 else np.concatenate([empty, *parts])
    return Batch(start, vectors, None, tuple(refuse(i, None, e) for i, e in refused.items()))
