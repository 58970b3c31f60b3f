"""The ground truth: the exact float32 neighbours of queries, computed once and kept."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import xxhash
from numpy.typing import NDArray

from binq.encoders import check_same_model
from binq.errors import InputError, renamed
from binq.index.index import Index
from binq.io.arrays import read_npz
from binq.io.atomic import atomic_write
from binq.search.rescore import warn_of_others
from binq.similarity import comparable, exact_neighbours
from binq.structures.base import AllowedRows
from binq.structures.queries import Queries
from binq.types import Vectors
from binq.vectors import VectorSource, open_vectors

# Rounding to another dtype changes few bits; other vectors change a third to a half of them.
_CHECKED_ROWS: Final = 64
_MOST_DIFFERENT: Final = 0.1


def true_neighbours(
    index: Index,
    queries: Queries,
    truth: Vectors,
    k: int,
    column: str | None,
    cache: str | os.PathLike[str] | None,
    force: bool,
    allowed: AllowedRows | None = None,
) -> NDArray[np.int64]:
    """Find the exact neighbours of queries, or take them from a cache.

    Parameters
    ----------
    index : Index
    queries : Queries
        Whole float vectors.
    truth : path, list of paths or array
        The vectors that the index was built from, row by row.
    k : int
    column : str or None
        Column of the truth's vectors, if there are several.
    cache : path or None
        An npz file: its neighbours are used if they are those of this truth and these queries, and
        at least k; else it is written.
    force : bool
        Take the truth although another model made it than the index.
    allowed : AllowedRows, optional
        The rows to be found; default all.

    Returns
    -------
    (q, min(k, allowed)) int64
        Rows of the index, best first.

    Raises
    ------
    InputError
        If the queries are bits or truncated, or if the truth is not what the index was built from.
    EnvironmentFailure
        If the cache cannot be written.

    Warns
    -----
    BinqWarning
        If its fingerprint is not that of what the index was built from.
    """
    if queries.vectors is None or queries.truncated:
        raise InputError(
            "exact neighbours need whole float queries",
            "queries",
            f"floats of dimension {index.dim}",
            "packed bits" if queries.vectors is None else "truncated vectors",
        )
    with renamed("column", "truth_column"), open_vectors(truth, column=column) as source:
        if not force:
            check_same_model(index.file.header.model, source.metadata, source.name)
        if source.packed or (source.dim is not None and source.dim != index.dim):
            raise InputError(
                "the truth does not fit the index",
                source.name,
                f"vectors of dimension {index.dim}",
                "packed bits" if source.packed else f"dimension {source.dim}",
            )
        n = index.file.header.rows
        most = n if allowed is None else allowed.count
        if cache is not None and source.rewindable:
            key = _key(index, queries.vectors, source, column, allowed)
            kept = _kept(cache, key, len(queries), n)
            if kept is not None and kept.shape[1] >= min(k, most):
                warn_of_others(source, index.file.header)
                return kept[:, :k]
        batches = _aligned(index, source, allowed)
        rows, _ = exact_neighbours(queries.vectors, batches, k, index.metric)
        warn_of_others(source, index.file.header)
        if allowed is not None:
            rows = allowed.rows[rows]
        if cache is not None:
            key = _key(index, queries.vectors, source, column, allowed)
            with atomic_write(cache) as file:
                np.savez(file, key=np.array(key), rows=rows)
    return rows


def _aligned(
    index: Index, source: VectorSource, allowed: AllowedRows | None
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield the truth's batches, checking that its rows are those of the index.

    Where not all rows are allowed, only those that are come, are counted and are checked.
    """
    rows, n, passed = 0, index.file.header.rows, 0
    for batch in source.read():
        rows = batch.start + len(batch)
        if rows > n:
            break
        for refusal in batch.refused:
            number = np.array([batch.start + refusal.offset])
            if refusal.error is not None and (allowed is None or allowed.contains(number).all()):
                raise refusal.error
        numbers, vectors = batch.start + batch.offsets, batch.vectors
        places = np.arange(len(numbers))
        if allowed is not None:
            places = np.flatnonzero(allowed.contains(numbers))
            numbers, vectors = numbers[places], vectors[places]
        ids = batch.id_list
        if ids is not None and index.ids is not None:
            for number, place in zip(numbers.tolist(), places.tolist(), strict=True):
                if str(index.ids[number]) != str(ids[place]):
                    raise InputError(
                        "the truth is not aligned with the index",
                        source.locate(number),
                        f"id {index.ids[number]!r}",
                        f"{ids[place]!r}",
                        "give the vectors the index was built from, in their order",
                    )
        vectors = comparable(vectors, index.metric, partial(_located, source, numbers))
        _check_codes(index, source, numbers, vectors)
        yield passed, vectors
        passed += len(vectors)
    if rows != n:
        raise InputError(
            "the truth has another number of rows than the index",
            source.name,
            f"{n} rows",
            f"{'more' if rows > n else rows}",
            "give the vectors the index was built from",
        )


def _check_codes(
    index: Index, source: VectorSource, numbers: NDArray[np.int64], vectors: NDArray[np.float32]
) -> None:
    """Refuse vectors whose codes are not those of the index, looking at a few of the batch.

    Raises
    ------
    InputError
        If more than a tenth of their bits differ.
    """
    if index.binarizer is None or not len(numbers):
        return
    few = np.linspace(0, len(numbers) - 1, min(len(numbers), _CHECKED_ROWS)).astype(np.int64)
    codes = index.binarizer.encode(vectors[few])
    differ = np.bitwise_count(codes ^ index.structure.take(numbers[few])).sum()
    share = float(differ) / (len(few) * index.bits)
    if share > _MOST_DIFFERENT:
        raise InputError(
            "the truth is not what the index was built from",
            f"{source.locate(int(numbers[0]))} and on",
            "vectors with the codes of the index",
            f"{share:.0%} of their bits differ",
            "give the vectors the index was built from, in their order",
        )


def _located(source: VectorSource, numbers: NDArray[np.int64], row: int) -> str:
    return source.locate(int(numbers[row]))


def _key(
    index: Index,
    vectors: NDArray[np.float32],
    source: VectorSource,
    column: str | None,
    allowed: AllowedRows | None,
) -> str:
    """Return what the neighbours depend on, as text; of a stream, once it is read."""
    facts = {
        "schema": "binq.truth/2",
        "metric": index.metric,
        "index": [index.file.header.rows, index.dim, index.file.header.sources],
        "queries": xxhash.xxh3_128_hexdigest(np.ascontiguousarray(vectors).data),
        # Without the counts of rows, which a file of lines says only once it is read.
        "truth": [entry["fingerprint"] for entry in source.describe()],
        "column": column,
        "allowed": None if allowed is None else xxhash.xxh3_128_hexdigest(allowed.bitmap.data),
    }
    return json.dumps(facts, sort_keys=True)


def _kept(
    cache: str | os.PathLike[str], key: str, queries: int, n: int
) -> NDArray[np.int64] | None:
    """Return the neighbours kept in ``cache``, or None where they are not of ``key``."""
    if not Path(cache).exists():
        return None
    try:
        kept = read_npz(cache)
        if str(kept["key"]) != key:
            return None
        rows = kept["rows"]
    except (ValueError, KeyError, OSError):
        return None
    fits = rows.dtype == np.int64 and rows.ndim == 2 and len(rows) == queries
    return rows if fits and ((rows >= 0) & (rows < n)).all() else None
