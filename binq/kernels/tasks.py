"""Cut what is to be scanned into tasks, and put tasks together to calls."""

from __future__ import annotations

import functools
import itertools

import numpy as np

from binq.kernels.allowed import Chosen
from binq.kernels.parts import edges_of, part_of
from binq.kernels.scan import (
    WORK_PER_BLOCK,
    WORK_WORTH_A_THREAD,
    Engine,
    Rows,
    Scan,
    Tasks,
    members_of,
)


def tasks_of(scan: Scan, chosen: Chosen, threads: int, engine: Engine) -> Tasks:
    """All queries over all chosen rows, in blocks."""
    # Where few rows are allowed, blocks are as much longer.
    per_block = scan.rows_per_block(chosen.count, threads) * chosen.n // max(1, chosen.count)
    size = engine.rows_per_block or max(1, per_block)
    group = scan.size("group")
    edges = edges_of(scan.codes)
    if chosen.spans is None and 0 < chosen.n <= size and len(edges) == 2:
        return _whole(chosen.n, scan.queries, group)
    members = members_of(scan.queries, group)
    spans = chosen.spans
    if spans is None:
        spans = np.array([edges[:-1], edges[1:]]).T
    elif len(edges) > 2:
        raise ValueError("spans of codes in several parts")
    table = np.zeros((len(spans), 4), np.int64)
    table[:, :2] = spans
    table[:, 3] = len(members)
    table = cut(table, size)
    return Tasks(table, members, calls_of(table, table[:, 1] - table[:, 0], size, edges))


def split(
    scan: Scan, table: Rows, members: Rows, threads: int, engine: Engine
) -> tuple[Rows, Rows, list[tuple[int, ...]]]:
    """Tasks over spans and members of any sizes, cut where they are long, as `Tasks` takes them."""
    rows, edges = table[:, 1] - table[:, 0], edges_of(scan.codes)
    if engine.rows_per_block:
        table, size = cut(table, engine.rows_per_block), engine.rows_per_block
        return table, members, calls_of(table, table[:, 1] - table[:, 0], size, edges)
    per_row = (table[:, 3] - table[:, 2]) * (scan.codes.shape[1] * scan.cost)
    work = rows * per_row
    most = min(WORK_PER_BLOCK, int(work.sum()) // (4 * max(1, threads)))
    most = max(most, WORK_WORTH_A_THREAD // scan.cost)
    if work.max(initial=0) > 2 * most:
        block = scan.size("block")
        table = cut(table, -(-most // per_row // block) * block)
        work = (table[:, 1] - table[:, 0]) * (table[:, 3] - table[:, 2])
        work *= scan.codes.shape[1] * scan.cost
    return table, members, calls_of(table, work, most, edges)


def cut(table: Rows, size: int | Rows) -> Rows:
    """Cut the spans of tasks, (t, 4), to at most `size` rows each."""
    pieces = -(-(table[:, 1] - table[:, 0]) // size)
    size = np.repeat(np.broadcast_to(size, len(table)), pieces)
    number = np.arange(len(size)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    table = np.repeat(table, pieces, axis=0)
    table[:, 0] += number * size
    table[:, 1] = np.minimum(table[:, 1], table[:, 0] + size)
    return table


@functools.lru_cache(16)
def _whole(n: int, queries: int, group: int) -> Tasks:
    """All queries over all of few codes, in one call; kept, as it is asked for again and again."""
    members = members_of(queries, group)
    return Tasks(np.array([[0, n, 0, len(members)]]), members, [(0, 1)])


def calls_of(table: Rows, work: Rows, size: int, edges: list[int]) -> list[tuple[int, ...]]:
    """Put tasks of so much work (t,) each together to calls of about `size`, each over one part.

    The tasks of one part of the codes, whose ``edges`` `parts` tells, stand together.
    """
    ends = np.cumsum(work)
    starts = np.diff((ends - work) // size, prepend=-1) != 0
    if len(edges) == 2:
        return list(itertools.pairwise([*np.flatnonzero(starts).tolist(), len(work)]))
    parts = part_of(edges, table[:, 0])
    starts |= np.diff(parts, prepend=-1) != 0
    firsts = np.flatnonzero(starts)
    spans = itertools.pairwise([*firsts.tolist(), len(work)])
    return [(*span, part) for span, part in zip(spans, parts[firsts].tolist(), strict=True)]
