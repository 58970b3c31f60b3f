"""What a fit needs to know of a corpus: its dimension, a sample of rows, the range of values."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from binq.errors import InputError
from binq.similarity import comparable
from binq.types import Locate, Metric
from binq.vectors.prefetch import prefetched
from binq.vectors.source import Batch, VectorSource
from binq.vectors.spool import spool


@dataclass(frozen=True, eq=False)
class Sample:
    """Some rows of a source, and the range of all of them.

    Attributes
    ----------
    vectors : (m, dim) float32
        Rows drawn without replacement, in order.
    low, high : (dim,) float32
        Range of every dimension over all rows; zeros where there are no rows.
    locate : callable
        Names a row of the sample in messages, given its number within ``sample``.
    """

    vectors: NDArray[np.float32]
    low: NDArray[np.float32]
    high: NDArray[np.float32]
    locate: Locate


def read_sample(source: VectorSource, rows: int, size: int, seed: int, metric: Metric) -> Sample:
    """Read a source once: draw ``size`` rows, and measure the range of every dimension.

    Parameters
    ----------
    source : VectorSource
        Rewindable.
    rows : int
        How many it has.
    size, seed : int
    metric : {"cosine", "ip", "l2"}
        Under cosine rows are normalised first.

    Raises
    ------
    InputError
        If a row cannot be compared under the metric.
    """
    chosen = np.ones(rows, np.bool_)
    if size < rows:
        chosen[:] = False
        chosen[np.random.default_rng(seed).choice(rows, size, replace=False)] = True
    dim = source.dim or 0
    drawn = np.empty((int(chosen.sum()), dim), np.float32)
    low, high = np.full(dim, np.inf, np.float32), np.full(dim, -np.inf, np.float32)
    filled = 0
    for batch in source.batches():
        vectors = comparable(batch.vectors, metric, source.locator(batch.start))
        part = vectors[chosen[batch.start : batch.start + len(vectors)]]
        drawn[filled : filled + len(part)] = part
        filled += len(part)
        np.minimum(low, vectors.min(axis=0), out=low)
        np.maximum(high, vectors.max(axis=0), out=high)
    if not rows:
        low, high = np.zeros_like(low), np.zeros_like(high)
    numbers = np.flatnonzero(chosen)
    return Sample(drawn, low, high, lambda row: source.locate(int(numbers[row])))


def rewindable(source: VectorSource, directory: Path, stack: ExitStack) -> tuple[VectorSource, int]:
    """Return a source that can be read twice, and its row count; spooled if need be."""
    if not source.rewindable or source.rows is None:
        source = stack.enter_context(spool(source, directory))
    if source.rows is None:
        raise InputError("the number of rows is unknown", source.name)
    return source, source.rows


def started(source: VectorSource, stack: ExitStack) -> tuple[int, Iterator[Batch]]:
    """Read the first batch, so that the dim is known; return the dim, and all batches read ahead.

    Reading ahead ends when ``stack`` does.

    Raises
    ------
    InputError
        If there are no rows, and nothing that says how long they would be.
    """
    batches = stack.enter_context(closing(prefetched(source)))
    first = next(batches, None)
    if source.dim is None:
        raise InputError(
            "no vectors, and nothing that says their dimension",
            source.name,
            "at least one row",
            "none" if first is None else "rows of unknown length",
        )

    def everything() -> Iterator[Batch]:
        if first is not None:
            yield first
            yield from batches

    return source.dim, everything()
