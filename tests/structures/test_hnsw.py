"""A graph over codes: walked to its end it is the whole scan; equal codes are one node."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from corpora import codes_of
from hypothesis import given, settings
from hypothesis import strategies as st
from structures.beside_flat import rows_of, same_otherwise, same_search, weights_of

from binq.binarizers import RowTerms
from binq.building.graph import equal_codes
from binq.errors import UsageError
from binq.kernels.graph import Graph
from binq.kernels.graph_making import NONE, make
from binq.structures import hnsw as structures
from binq.structures.base import AllowedRows, Effort, Scope
from binq.structures.calibration import TARGETS, Calibration
from binq.structures.flat import Flat
from binq.structures.hnsw import Hnsw, StoredGraph
from binq.structures.pools import MAX_POOL, GraphCalibration
from binq.structures.queries import Queries
from binq.types import MAX_DIM


@pytest.fixture(autouse=True, scope="module")
def walks_are_tried() -> Iterator[None]:
    """Few rows are looked for in the graph, and no walk is given up."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(structures, "FEW", 3)
        patch.setattr(structures, "SCAN_SHARE", 2.0)
        yield


NOTHING_KNOWN = GraphCalibration(Calibration(0, stand_ins=True, gaps={}))


def linked(codes: np.ndarray, terms: RowTerms | None = None, m: int = 4) -> Hnsw:
    """Link codes into a graph."""
    order, starts = equal_codes(codes)
    graph, placed, _ = make(codes[order[starts[:-1]]], m, 20)
    spans = [np.arange(starts[node], starts[node + 1]) for node in placed]
    sizes = np.diff(starts)[placed]
    order = order[np.concatenate([np.empty(0, np.int64), *spans])]
    begins = np.concatenate([[0], np.cumsum(sizes)]).astype(np.uint32)
    equal = begins if len(placed) < len(codes) else None
    stored = StoredGraph(graph, order.astype(np.uint32), equal, NOTHING_KNOWN)
    return Hnsw(codes[order], stored, None if terms is None else terms.take(order))


def knowing(hnsw: Hnsw, gap: int, pool: int = MAX_POOL) -> Hnsw:
    """The same structure, calibrated to one gap and one pool."""
    gaps = Calibration(1, stand_ins=True, gaps={"hamming": {10: (gap,) * len(TARGETS)}})
    known = GraphCalibration(gaps, {10: (pool,) * len(TARGETS)})
    return Hnsw(hnsw.codes, replace(hnsw.stored, calibration=known), hnsw.terms)


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(0, 120),
    m=st.integers(1, 150),
    share=st.sampled_from([None, 1.0, 0.5, 0.1, 0.0]),
    spread=st.sampled_from([1, 2, 3, 64]),
    seed=st.integers(0, 5),
)
def test_a_whole_walk_is_the_whole_scan(
    n: int, m: int, share: float | None, spread: int, seed: int
) -> None:
    """Ties included: the same rows in the same order, whatever says that all are looked at."""
    rows = rows_of(n, share, spread, seed)
    hnsw = linked(rows.codes, rows.terms)
    # No walk is told to stop by a gap of nearly all bits.
    widely = knowing(hnsw, 127)
    for structure, effort, exhaustive in (
        (hnsw, None, True),
        (hnsw, Effort(ef=max(n, 1)), False),
        (hnsw, Effort(ef=10**6), False),
        (hnsw, None, False),
        (widely, None, False),
        (widely, Effort(target_recall=0.5), False),
    ):
        same_search(structure, rows, m, effort, exhaustive=exhaustive)
    same_otherwise(hnsw, rows, m)


def test_little_effort_finds_much_and_says_what_it_took() -> None:
    codes = np.concatenate([codes_of(3000, 2), codes_of(1, 2, seed=7).repeat(40, axis=0)])
    rng = np.random.default_rng(3)
    queries = codes[rng.integers(0, 3000, 40)] ^ np.uint64(0b1001)
    asked, hnsw, flat = Queries(codes=queries), linked(codes, m=8), Flat(codes)
    best = flat.nearest(asked, 10).distances
    assert best is not None
    before, shares = 0.0, []
    for effort in (1, 20, 80, 400):
        scope = Scope(effort=Effort(ef=effort))
        found = hnsw.nearest(asked, 10, scope)
        assert found.distances is not None
        assert np.array_equal(found.distances, flat.distances(queries, found.rows))
        assert all(len(set(rows)) == 10 for rows in found.rows.tolist())
        shares.append(float((found.distances <= best[:, -1:]).mean()))
        compared = hnsw.compared(asked, 10, scope).mean()
        assert before < compared < len(codes)
        before = compared
    assert shares[0] > 0.05
    assert shares == sorted(shares)
    assert shares[-1] > 0.5
    for scope, rows in (
        (Scope(exhaustive=True), 3040),
        (Scope(AllowedRows(np.arange(3040) < 3)), 3),
        (Scope(effort=Effort(ef=3040)), 3001),
    ):
        assert hnsw.compared(asked, 10, scope).tolist() == [rows] * 40


def test_as_many_rows_as_are_asked_for() -> None:
    """However little the effort is, and whichever rows are allowed; equal codes among them."""
    codes = codes_of(250, 1)[np.random.default_rng(0).integers(0, 250, 500)]
    queries = codes_of(4, 1, seed=1)
    hnsw, rng = linked(codes), np.random.default_rng(0)
    asked = Queries(codes=queries)
    for share in (1.0, 0.3, 0.05):
        allowed = AllowedRows(rng.random(500) < share)
        for m in (1, 40, 600):
            for effort in (Effort(ef=1), Effort(target_recall=0.5)):
                found = knowing(hnsw, 0).nearest(asked, m, Scope(allowed, effort))
                assert found.rows.shape == (4, min(m, allowed.count))
                assert allowed.contains(found.rows).all()
                assert all(len(set(rows)) == len(rows) for rows in found.rows.tolist())


def test_searches_in_turn_are_as_alone() -> None:
    """What is kept from search to search is that of another effort, number of rows or filter."""
    codes = codes_of(3000, 2, 3, 3)
    queries = Queries(codes=codes_of(4, 2, 4, 3))
    made = linked(codes)
    structure, random = knowing(made, 3), np.random.default_rng(0)
    filters = [None, *(AllowedRows(random.random(3000) < share) for share in (0.3, 0.3, 0.9))]
    efforts = [None, Effort(target_recall=0.5), Effort(ef=1), Effort(ef=50), Effort(ef=3000)]
    for _ in range(60):
        allowed = filters[random.integers(4)]
        scope = Scope(allowed, efforts[random.integers(5)], exhaustive=random.random() < 0.2)
        m = int(random.integers(1, 30))
        found, alone = (one.nearest(queries, m, scope) for one in (structure, knowing(made, 3)))
        assert np.array_equal(found.rows, alone.rows)
        assert np.array_equal(found.distances, alone.distances)
    # Equal codes are told apart without a table of all rows.
    structure = knowing(made, 3)
    assert len(made.stored.graph.neighbours) < 3000
    structure.nearest(queries, 10)
    assert "_positions" not in vars(structure)


def test_a_pool_is_scanned_by_weights() -> None:
    """Of so many of the nearest rows those that score best, by hand."""
    rng = np.random.default_rng(0)
    codes, queries = codes_of(500, 2), codes_of(5, 2, seed=1)
    terms = RowTerms(rng.random(500, np.float32) + 0.5, rng.random(500, np.float32))
    weights = weights_of(5, 128)
    asked = Queries(np.zeros((5, 128), np.float32), queries, weights=weights)
    flat, hnsw = Flat(codes, terms), linked(codes, terms)
    near = flat.nearest(asked, 60).rows
    for structure, effort in ((knowing(hnsw, 127, 60), None), (hnsw, Effort(ef=60))):
        found = structure.best(asked, 7, Scope(effort=effort))
        for number in range(5):
            one = asked.part(slice(number, number + 1))
            rows = np.isin(np.arange(500), near[number])
            best = flat.best(one, 7, Scope(AllowedRows(rows)))
            if effort is None:
                assert found.rows[number].tolist() == best.rows[0].tolist()
                assert np.array_equal(found.scores[number], best.scores[0])
    assert knowing(hnsw, 127, 1).best(asked, 7).rows.shape == (5, 7)


def test_beyond_an_edge_all_rows_are_looked_at() -> None:
    """Where the last candidate of a walk, or the last row of a pool, lies too far."""
    rng = np.random.default_rng(0)
    codes, queries = codes_of(2000, 2, spread=20), codes_of(30, 2, seed=1)
    queries[::2] = codes[:15] ^ np.uint64(1)
    terms = RowTerms(rng.random(2000, np.float32) + 0.5, rng.random(2000, np.float32))
    asked = Queries(np.zeros((30, 128), np.float32), queries, weights=weights_of(30, 128))
    flat, hnsw = Flat(codes, terms), linked(codes, terms)
    far, best = flat.nearest(asked, 10).distances, flat.best(asked, 10).scores
    assert far is not None
    walk, edge = knowing(hnsw, 0, 10), int(far[::2, -1].max())
    known = walk.stored.calibration
    row = {10: (edge,) * len(TARGETS)}
    gaps = replace(known.gaps, edges={"hamming": row})
    beyond = far[:, -1] > edge
    assert 0 < beyond.sum() < 30

    def with_edges(known: GraphCalibration) -> Hnsw:
        return Hnsw(hnsw.codes, replace(hnsw.stored, calibration=known), hnsw.terms)

    edged = with_edges(replace(known, gaps=gaps))
    found = edged.nearest(asked, 10).distances
    assert found is not None
    plain = walk.nearest(asked, 10).distances
    assert plain is not None
    assert (found[beyond] == far[beyond]).all()
    assert (found[~beyond] <= edge).any()
    scanned = edged.compared(asked, 10) - walk.compared(asked, 10)
    assert np.array_equal(scanned, 2000 * (plain[:, -1] > edge))
    assert (scanned[beyond] == 2000).all()
    pooled = with_edges(GraphCalibration(gaps, known.pools, row)).best(asked, 10).scores
    assert np.array_equal(pooled[beyond], best[beyond])
    assert not np.array_equal(walk.best(asked, 10).scores[beyond], best[beyond])


def test_what_a_file_says_of_pools() -> None:
    known = knowing(linked(codes_of(50, 1)), 3, 20).stored.calibration
    known = replace(known, pool_edges={10: tuple(range(30, 30 - len(TARGETS), -1))})
    assert GraphCalibration.from_json(known.to_json()) == known
    assert [known.pool_edge(m, target) for m, target in ((1, 0.5), (99, 0.6))] == [30, 29]
    assert known.pool_edge(10, 1.0) == NOTHING_KNOWN.pool_edge(10, 0.9) == MAX_DIM
    assert (known.walked(), NOTHING_KNOWN.walked()) == (10, 0)
    for name in ("pools", "pool_edges"):
        for wrong in ([], {"10": [1]}, {"10": ["x"] * len(TARGETS)}, {"10": [-1] * len(TARGETS)}):
            with pytest.raises(ValueError, match="pools"):
                GraphCalibration.from_json(known.to_json() | {name: wrong})


def test_efforts_that_do_not_go_with_a_graph() -> None:
    with pytest.raises(UsageError, match="nprobe"):
        linked(codes_of(9, 1)).check(Effort(nprobe=3))
    linked(codes_of(9, 1)).check(Effort(ef=3))
    linked(codes_of(9, 1)).check(Effort(target_recall=0.5))


def test_what_is_told_of_a_graph() -> None:
    hnsw = linked(codes_of(300, 1, spread=4))
    told = hnsw.describe()["graph"]
    nodes = len(np.unique(codes_of(300, 1, spread=4)))
    assert told["nodes"] == nodes
    lines = hnsw.stored.graph.neighbours
    degrees = (lines != NONE).sum(axis=1)
    assert told["mean_degree"] == round(degrees.mean(), 2)
    assert (told["smallest_degree"], told["largest_degree"]) == (degrees.min(), degrees.max())
    assert told["unreachable"] == 0
    alone = Graph(np.full_like(lines, NONE), np.zeros(1, np.uint32))
    cut = Hnsw(hnsw.codes, replace(hnsw.stored, graph=alone))
    assert cut.describe()["graph"]["unreachable"] == nodes - 1
    none = linked(codes_of(0, 1)).describe()["graph"]
    assert (none["nodes"], none["unreachable"], none["mean_degree"]) == (0, 0, 0)


def test_graphs_of_a_damaged_file() -> None:
    """Starts and rows that are none are refused where they are met; rows twice are found twice."""
    rng = np.random.default_rng(0)
    codes = codes_of(60, 1)[rng.integers(0, 60, 200)]
    hnsw, asked = linked(codes), Queries(codes=codes_of(3, 1, seed=1))
    whole, scope = hnsw.stored, Scope(effort=Effort(ef=5))
    assert whole.starts is not None
    changes: list[Any] = [whole.starts + 1, whole.starts[::-1].copy(), whole.starts * 2]
    changes.append(np.maximum(whole.starts, whole.starts[3]))
    for starts in changes:
        with pytest.raises(ValueError, match="starts"):
            Hnsw(hnsw.codes, replace(whole, starts=starts)).nearest(asked, 3, scope)
    beyond = replace(whole, rows=np.full(200, 200, np.uint32))
    for ask in (
        lambda hnsw: hnsw.nearest(asked, 3, scope),
        lambda hnsw: hnsw.within(asked.codes, 64),
        lambda hnsw: hnsw.take(np.array([1])),
        lambda hnsw: hnsw.nearest(asked, 3, Scope(AllowedRows(np.ones(200, np.bool_)))),
    ):
        with pytest.raises(ValueError, match="rows"):
            ask(Hnsw(hnsw.codes, beyond))
    twice = Hnsw(hnsw.codes, replace(whole, rows=np.zeros(200, np.uint32)))
    for own in (scope, replace(scope, allowed=AllowedRows(np.arange(200) % 2 == 0))):
        assert (twice.nearest(asked, 3, own).rows == 0).all()
    for lines in (whole.graph.neighbours * 0, whole.graph.neighbours[::-1].copy()):
        graph = Graph(lines, whole.graph.entries)
        found = Hnsw(hnsw.codes, replace(whole, graph=graph)).nearest(asked, 200, scope)
        assert np.array_equal(found.rows, Flat(codes).nearest(asked, 200).rows)
