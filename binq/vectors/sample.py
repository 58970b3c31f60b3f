"""What a fit needs to know of a corpus: its dimension, a sample of rows, the range of values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from binq.errors import InputError
from binq.similarity import comparable
from binq.types import Locate, Metric
from binq.vectors.arrays import ArraysSource
from binq.vectors.batch import Batch
from binq.vectors.prefetch import prefetched
from binq.vectors.source import VectorSource
from binq.vectors.spool import spool

_MOST_BEFORE: Final = 1_000_000


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


def read_sample(
    source: VectorSource,
    rows: int,
    size: int,
    seed: int,
    metric: Metric,
    usable: Callable[[Batch], Batch] | None = None,
) -> Sample:
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
    usable : callable, optional
        Returns a batch with more of its rows refused. Refused rows are not looked at, so that the
        sample may be smaller.

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
    most = int(chosen.sum())
    drawn, numbers = np.empty((most, dim), np.float32), np.empty(most, np.int64)
    low, high = np.full(dim, np.inf, np.float32), np.full(dim, -np.inf, np.float32)
    filled = 0
    seen = False
    for batch in source.batches():
        held = batch if usable is None else usable(batch)
        if not len(held.vectors):
            continue
        seen = True
        vectors = comparable(held.vectors, metric, source.locating(held))
        mine = held.start + held.offsets
        wanted = chosen[mine]
        part = vectors[wanted]
        drawn[filled : filled + len(part)] = part
        numbers[filled : filled + len(part)] = mine[wanted]
        filled += len(part)
        np.minimum(low, vectors.min(axis=0), out=low)
        np.maximum(high, vectors.max(axis=0), out=high)
    if not seen:
        low, high = np.zeros_like(low), np.zeros_like(high)
    return Sample(drawn[:filled], low, high, lambda row: source.locate(int(numbers[row])))


def rewindable(source: VectorSource, directory: Path, stack: ExitStack) -> tuple[VectorSource, int]:
    """Return a source that can be read twice, and its row count; spooled if need be."""
    if isinstance(source, ArraysSource):
        source.count()
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
    known = source.dim is not None and source.has_ids is not None
    batches = stack.enter_context(closing(prefetched(source)))
    first = next(batches, None)
    if first is not None and not known:
        first = _with_those_before(first, batches)
    if source.dim is None:
        raise InputError(
            "no vectors, and nothing that says their dimension",
            source.name,
            "at least one row" if first is None else "a row that can be used",
            "none" if first is None else f"{len(first):,} that cannot",
        )

    def everything() -> Iterator[Batch]:
        if first is not None:
            yield first
            yield from batches

    return source.dim, everything()


def _with_those_before(first: Batch, batches: Iterator[Batch]) -> Batch:
    """Return the first batch that holds a vector, as one with those before, if there are any.

    What these cannot tell, such as whether rows have ids, it tells of them. A million rows are
    enough to wait for it.
    """
    refused = list(first.refused)
    start, last = first.start, first
    while not len(last.vectors) and len(refused) < _MOST_BEFORE:
        following = next(batches, None)
        if following is None:
            break
        last = following
        before = last.start - start
        refused += (replace(each, offset=each.offset + before) for each in last.refused)
    return replace(last, start=start, refused=tuple(refused))
