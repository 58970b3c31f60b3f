"""How many threads this process may use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from binq.errors import UsageError

_TOKENIZER_THREADS = "RAYON_NUM_THREADS"


def available() -> int:
    """Return the number of CPUs that affinity and cgroup allow, at least 1."""
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    return max(1, min(count, _cgroup_limit(count)))


def resolve(threads: int | None) -> int:
    """Return the number of threads to use: all that are allowed for None, never more.

    Raises
    ------
    UsageError
        If ``threads`` is below 1.
    """
    if threads is None:
        return available()
    if threads < 1:
        raise UsageError("too few threads", "`threads`", "at least 1", str(threads))
    return min(threads, available())


@contextmanager
def limited(threads: int | None) -> Iterator[int]:
    """Hold BLAS to that many threads inside the block, and yield the resolved number.

    Raises
    ------
    UsageError
        If ``threads`` is below 1.
    """
    count = resolve(threads)
    from threadpoolctl import threadpool_limits

    with threadpool_limits(count, user_api="blas"):
        yield count


@contextmanager
def limited_tokenizers(count: int) -> Iterator[None]:
    """Hold tokenizers that start inside the block to ``count`` threads.

    They ask the environment once, when they first have much to do.
    """
    before = os.environ.get(_TOKENIZER_THREADS)
    os.environ[_TOKENIZER_THREADS] = str(count)
    try:
        yield
    finally:
        if before is None:
            del os.environ[_TOKENIZER_THREADS]
        else:
            os.environ[_TOKENIZER_THREADS] = before


def _cgroup_limit(default: int) -> int:
    """Return the CPU quota of the control group, rounded up to whole CPUs."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return default if quota == "max" else -(-int(quota) // int(period))
    except (OSError, ValueError, ZeroDivisionError):
        pass
    try:
        base = Path("/sys/fs/cgroup/cpu")
        limit = int((base / "cpu.cfs_quota_us").read_text())
        return default if limit < 0 else -(-limit // int((base / "cpu.cfs_period_us").read_text()))
    except (OSError, ValueError, ZeroDivisionError):
        return default
