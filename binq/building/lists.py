"""Laying codes list by list, once all are written, and saying how far searches have to look."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
import xxhash
from numpy.typing import NDArray

from binq.binarizers import Binarizer, RowTerms
from binq.building.calibrating import Calibrator
from binq.errors import InputError
from binq.similarity import comparable
from binq.storage.writer import IndexWriter
from binq.structures import coarse
from binq.structures.base import AllowedRows
from binq.structures.calibration import Calibration
from binq.structures.flat import Flat
from binq.structures.queries import Queries, joined
from binq.types import Kind, Metric, Packed, Vectors
from binq.vectors import open_vectors

Codes = NDArray[np.uint64]
Numbers = NDArray[np.int64]

MAX_LISTS: Final = 65_536
"""Lists are numbered by 16 bits while codes are sorted."""

SIGNS: Final = "ivf.signs"
"""A section that is only spooled: the codes by which lists are found, where they are others."""

_BLOCK: Final = 65_536
_SAMPLE_BYTES: Final = 1 << 28
_STAND_INS: Final = 400
_CHECKED: Final = 2_000


def lists_for(rows: int) -> int:
    """Return how many lists serve so many rows: 4 sqrt(n), as measured in docs/speed.md."""
    return max(1, min(MAX_LISTS, round(4 * math.sqrt(rows))))


class StandIns:
    """Some rows that stand in for queries, drawn as they stream by: each as likely as any other.

    Attributes
    ----------
    rows : (s,) int64
        Their numbers.
    vectors : (s, dim) float32 or None
        As they came in; None of packed input.
    """

    def __init__(self, first: int = 0) -> None:
        # So drawn that it makes no difference in how many parts rows stream by.
        self._random = np.random.Generator(np.random.PCG64(0).advance(first))
        self._keys = np.empty(0)
        self.rows = np.empty(0, np.int64)
        self.vectors: NDArray[np.float32] | None = None

    def see(self, start: int, count: int, places: Numbers, vectors: NDArray[Any]) -> None:
        """Let some of ``count`` rows take part, by their places (m,), with their vectors (m, ...).

        ``start`` is the number of the first of all of them.
        """
        self._keep(self._random.random(count)[places], start + places, vectors)

    def join(self, other: StandIns) -> None:
        """Let those take part that others of the same source were drawn as."""
        vectors = np.empty((0, 0), np.uint64) if other.vectors is None else other.vectors
        self._keep(other._keys, other.rows, vectors)

    def queries(
        self, metric: Metric, binarizer: Binarizer | None, codes: Callable[[Numbers], Codes]
    ) -> Queries:
        """Return them as queries, of which codes are asked for where there are no vectors."""
        if self.vectors is None:
            return Queries(codes=codes(self.rows))
        return Queries(comparable(self.vectors, metric, str), binarizer=binarizer)

    def _keep(self, fresh_keys: NDArray[np.float64], rows: Numbers, vectors: NDArray[Any]) -> None:
        if not len(rows):
            return
        keys = np.concatenate([self._keys, fresh_keys])
        kept = np.sort(np.argsort(keys, kind="stable")[:_STAND_INS])
        old = len(self.rows)
        if vectors.dtype == np.float32:
            before = vectors[:0] if self.vectors is None else self.vectors
            fresh = vectors[kept[kept >= old] - old]
            self.vectors = np.concatenate([before[kept[kept < old]], fresh])
        self.rows = np.concatenate([self.rows, rows])[kept]
        self._keys = keys[kept]


def read_queries(
    queries: Vectors | None,
    metric: Metric,
    dim: int,
    binarizer: Binarizer | None,
    packed: Packed | None,
    of_bits: bool,
) -> Queries | None:
    """Read queries to calibrate with: that half of them which a check does not judge by.

    Parameters
    ----------
    queries, packed
        Where they are, if there are any, and what they are if of 8 bits.
    metric, dim, binarizer
        Of the index.
    of_bits : bool
        The index is built from bits.

    Raises
    ------
    InputError
        If there are none there, or they do not fit the index.
    """
    if queries is None:
        return None
    with open_vectors(queries, packed=packed) as source:
        if not (of_bits if source.packed else binarizer is not None):
            raise InputError(
                "the queries are none of this index",
                f"`check_queries`: {source.name}",
                *(("floats", "bits") if source.packed else ("bits", "floats")),
            )
        wanted = dim if source.packed or binarizer is None else binarizer.dim
        parts, seen = [], 0
        for batch in source.batches():
            names = batch.id_list or range(batch.start, batch.start + len(batch.vectors))
            chosen = np.array(
                [xxhash.xxh3_64_intdigest(str(name).encode()) % 2 == 0 for name in names], np.bool_
            )
            vectors = batch.vectors[chosen]
            seen += len(names)
            if source.dim != wanted:
                raise InputError(
                    "the queries have another dimension than the index",
                    source.name,
                    str(wanted),
                    str(source.dim),
                )
            if source.packed:
                parts.append(Queries(codes=vectors))
            else:
                ready = comparable(vectors, metric, source.locator(batch.start))
                parts.append(Queries(ready, binarizer=binarizer))
            if sum(map(len, parts)) >= _CHECKED:
                break
        if not sum(map(len, parts)):
            raise InputError(
                "there are no queries to calibrate with",
                source.name,
                "some in the half that is used (by a hash of the id)",
                f"none of {seen}",
            )
        return joined(parts).part(slice(0, _CHECKED))


class Rows:
    """Rows of several matrices, one below the other, taken by their numbers.

    Parameters
    ----------
    parts : sequence of (n, words) uint64
    """

    def __init__(self, parts: Sequence[Codes]) -> None:
        self._parts = parts
        self._ends = np.cumsum([len(part) for part in parts])
        self.shape = int(self._ends[-1]), parts[0].shape[1]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Numbers) -> Codes:
        """Return rows (m,), ascending."""
        cuts = np.searchsorted(rows, self._ends)
        found = [
            part[own - (end - len(part))]
            for part, end, own in zip(self._parts, self._ends, np.split(rows, cuts), strict=False)
        ]
        return np.concatenate(found)


@dataclass(frozen=True, eq=False)
class ListMaker:
    """Makes the lists of an index of which all codes and terms are written.

    Attributes
    ----------
    writer : IndexWriter
        Its codes are spooled; so is the section ``SIGNS`` where the method's codes carry no
        distance.
    binarizer : Binarizer or None
    metric : {"cosine", "ip", "l2"}
    lists : int or None
        How many; by default as :func:`lists_for` says.
    threads : int
    """

    kind: ClassVar[Kind] = "ivf"

    writer: IndexWriter
    binarizer: Binarizer | None
    metric: Metric
    lists: int | None
    threads: int

    def make(
        self, stand_ins: StandIns, queries: Queries | None, dead: NDArray[np.bool_]
    ) -> Calibration:
        """Put codes and terms in the order of lists, and write the lists.

        Parameters
        ----------
        stand_ins : StandIns
            Calibrated with where there are no ``queries``.
        queries : Queries or None
        dead : (n,) bool
            Rows that no search finds.

        Returns
        -------
        Calibration
        """
        writer, threads = self.writer, self.threads
        codes: Codes = writer.written("codes")
        signs = self.binarizer is not None and not self.binarizer.spec.hamming
        probes: Codes = writer.written(SIGNS) if signs else codes
        n = len(codes)
        wanted = lists_for(n) if self.lists is None else self.lists
        centroids = coarse.train(sample_of(probes, dead, wanted), wanted, threads)
        lists = np.empty(n, np.uint16)
        for first in range(0, n, _BLOCK):
            part = slice(first, first + _BLOCK)
            lists[part] = coarse.assign(probes[part], centroids, threads)
        sizes = np.bincount(lists, minlength=len(centroids))

        own = None
        if queries is None:
            own = stand_ins.rows
            queries = stand_ins.queries(self.metric, self.binarizer, codes.__getitem__)
        terms = {
            name: writer.written(f"codes.{name}").astype(np.float32)
            for name in ("factor", "addend")
            if writer.holds(f"codes.{name}")
        }
        alive, allowed = sizes, None
        if dead.any():
            alive = np.bincount(lists[~dead], minlength=len(centroids))
            allowed = AllowedRows(~dead)
        flat = Flat(codes, RowTerms(**terms)), "factor" in terms
        known = *flat, self.binarizer, self.metric, centroids, lists, alive, allowed
        calibration = Calibrator(*known, threads).calibration(queries, own)
        order = order_of(lists, sizes)
        writer.reorder(("codes", "codes.factor", "codes.addend"), order)
        if signs:
            writer.drop(SIGNS)
        writer.add("ivf.centroids", centroids)
        writer.add("ivf.offsets", np.concatenate([[0], np.cumsum(sizes)]).astype(np.uint64))
        writer.add("ivf.rows", order)
        return calibration


def order_of(lists: NDArray[np.uint16], sizes: Numbers) -> NDArray[np.uint32]:
    """Return the rows list by list, ascending in each: a stable sort that takes no more memory."""
    order = np.empty(len(lists), np.uint32)
    ends = np.cumsum(sizes) - sizes
    for first in range(0, len(lists), _BLOCK):
        part = lists[first : first + _BLOCK]
        sorted_part = np.argsort(part, kind="stable")
        own = part[sorted_part]
        counts = np.bincount(own, minlength=len(sizes))
        before = ends - (np.cumsum(counts) - counts)
        order[before[own] + np.arange(len(own))] = first + sorted_part
        ends += counts
    return order


def sample_of(codes: Codes | Rows, dead: NDArray[np.bool_], lists: int) -> Codes:
    """Return living codes to train so many lists with, in an order that says nothing of them."""
    random = np.random.default_rng(0)
    most = max(lists, min(coarse.SAMPLE_PER_LIST * lists, _SAMPLE_BYTES // (8 * codes.shape[1])))
    # Each row by itself, some too many, and as many as are wanted of these: all numbers of rows at
    # once would take 8 bytes a row.
    share = min(1.0, (most + 6 * math.sqrt(most)) / max(1, len(codes)))
    parts = [np.empty(0, np.int64)]
    for first in range(0, len(codes), _BLOCK):
        chosen = random.random(min(_BLOCK, len(codes) - first)) < share
        parts.append(first + np.flatnonzero(chosen & ~dead[first : first + _BLOCK]))
    drawn = np.concatenate(parts)
    places = random.permutation(len(drawn))
    sample = np.empty((min(most, len(drawn)), codes.shape[1]), np.uint64)
    for first in range(0, len(drawn), _BLOCK):
        part = places[first : first + _BLOCK]
        kept = part < most
        sample[part[kept]] = codes[drawn[first : first + _BLOCK][kept]]
    return sample
