"""Rows in fixed batches over a few threads, with the same bytes at any number of threads.

BLAS rounds differently when it splits a product over threads, and when a product has other shapes.
So work is cut into batches whose size does not depend on the number of threads, each batch runs
BLAS on one thread, and results are combined in the order of the batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

BATCH = 512
"""Rows in a batch: a multiple of every BLAS micro-kernel's height, small enough for the cache."""

Result = TypeVar("Result")


@contextmanager
def serial_blas() -> Iterator[None]:
    """Hold BLAS to one thread of its own while the body runs.

    The limit is the process's: it also slows other threads' large products meanwhile.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"):
        yield


def map_batches(
    work: Callable[[int, int], Result], rows: int, threads: int, batch: int = BATCH
) -> Iterator[Result]:
    """Yield ``work(start, stop)`` for each batch of rows, in order of rows.

    Parameters
    ----------
    work : callable
        Called with the half-open range of rows; must release the GIL to gain from threads.
    rows, threads, batch : int
        Number of rows, of threads (at least 1) and of rows per batch.
    """
    ranges = [(start, min(start + batch, rows)) for start in range(0, rows, batch)]
    if threads <= 1 or len(ranges) <= 1:
        for start, stop in ranges:
            yield work(start, stop)
        return
    from concurrent.futures import ThreadPoolExecutor

    pool = ThreadPoolExecutor(threads)
    try:
        # A window of batches in flight keeps the memory of pending results bounded.
        pending = []
        for start, stop in ranges:
            pending.append(pool.submit(work, start, stop))
            if len(pending) >= 4 * threads:
                yield pending.pop(0).result()
        for future in pending:
            yield future.result()
    finally:
        # After an error, or Ctrl-C, only the batches that have begun are waited for.
        pool.shutdown(cancel_futures=True)
