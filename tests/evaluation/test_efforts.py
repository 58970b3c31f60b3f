"""What an effort misses of a whole scan, and curves of efforts, against a plain oracle."""

from __future__ import annotations

import importlib.util
import io
import math
from pathlib import Path
from typing import Any

import naive
import numpy as np
import pytest
from corpora import gaussian

import binq
from binq.errors import UsageError
from binq.evaluation.evaluate import evaluate
from binq.evaluation.plot import draw_curve
from binq.evaluation.results import check_floors, parse_floors
from binq.structures import ivf

BITS = 24  # so few that distances tie


def whole_scan(
    vectors: np.ndarray, query: np.ndarray, k: int, rows: list[int], oversample: float | None
) -> list[tuple[float, int]]:
    """Return (score, row) of the best k of some rows, by signs, rescored by floats if wanted."""
    distances = [naive.hamming(*naive.pack(np.stack([vectors[row], query]) > 0)) for row in rows]
    near = sorted(zip(distances, rows, strict=True))
    if oversample is None:
        return [(-float(distance), row) for distance, row in near[:k]]
    scores = naive.score(query, vectors, "cosine")
    chosen = [row for _, row in near[: math.ceil(k * oversample)]]
    return sorted(((scores[row], row) for row in chosen), key=lambda hit: (-hit[0], hit[1]))[:k]


@pytest.mark.parametrize("oversample", [None, 2.0])
@pytest.mark.parametrize("kept", [None, range(0, 200, 3)])
def test_recall_scan_against_the_oracle(
    tmp_path: Path,
    oversample: float | None,
    kept: range | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Hits may be others than the whole scan's, as long as none is worse than its last."""
    monkeypatch.setattr(ivf, "FEW", 0)  # allowed rows are looked for in lists, however few
    vectors, queries = gaussian(200, BITS), gaussian(12, BITS, seed=1)
    path = tmp_path / "i.binq"
    binq.build(vectors, path, kind="ivf", nlist=20, rescore="float32")
    settings: dict[str, Any] = {"rescore": "none"} if oversample is None else {"rescore": "float32"}
    settings |= {"oversample": oversample, "nprobe": 2}
    settings["filter_ids"] = None if kept is None else list(kept)
    rows, ks = list(kept or range(200)), [1, 5, 20, 500]
    found = evaluate(path, queries, k=ks, **settings)
    tied = 0
    for k in ks:
        hits = binq.open(path).search(queries, k, **settings)
        for number, query in enumerate(queries):
            best = whole_scan(vectors, query, k, rows, oversample)
            assert hits.rows.shape[1] == len(best) == min(k, len(rows))
            fine = hits.scores[number] >= best[-1][0] - 1e-6
            assert found.per_query[f"recall_scan@{k}"][number] == pytest.approx(fine.mean())
            same = np.isin(hits.rows[number], [row for _, row in best])
            assert not (same & ~fine).any()
            tied += int((fine & ~same).sum())
    assert tied > 0  # what costs nothing did occur
    assert 0 < found.metrics["recall_scan@5"]["value"] < 1
    assert found.metrics["recall_scan@500"]["value"] == 1
    assert set(found.metrics) == {f"recall_scan@{k}" for k in ks}


def test_ties_cost_nothing(tmp_path: Path) -> None:
    """By hand: two lists of five equal codes each, at distance 4 from the query."""
    codes = np.array([[0b11110000], [0b00001111]] * 5, np.uint8)
    query = np.array([[0b11000011]], np.uint8)
    path = tmp_path / "i.binq"
    binq.build(codes, path, kind="ivf", nlist=2, packed="ubinary")
    packed: dict[str, Any] = {"packed": "ubinary", "nprobe": 1}
    rows = binq.open(path).search(query, 5, **packed).rows[0].tolist()
    assert rows in ([0, 2, 4, 6, 8], [1, 3, 5, 7, 9])  # of all rows, 0 to 4 come first
    found = evaluate(path, query, k=[5, 6], **packed)
    assert found.metrics["recall_scan@5"]["value"] == 1
    assert found.facts["scanned"] == {"5": 0.5, "6": 1.0}  # six rows are not in one list


def test_a_query_itself_is_left_out(tmp_path: Path) -> None:
    """Else each would be its own best hit, which every list search finds."""
    vectors = gaussian(300, 32)
    binq.build(vectors, tmp_path / "i.binq", kind="ivf", nlist=30)
    settings: dict[str, Any] = {"k": [1], "nprobe": 1}
    found = evaluate(tmp_path / "i.binq", vectors, exclude_self=True, **settings)
    assert found.metrics["recall_scan@1"]["value"] < 0.9
    # A row may lie nearer to another list than to its own, but seldom.
    assert (
        evaluate(tmp_path / "i.binq", vectors, **settings).metrics["recall_scan@1"]["value"] > 0.9
    )


def test_a_curve_is_its_efforts_one_by_one(tmp_path: Path) -> None:
    vectors, queries = gaussian(400, 32), gaussian(20, 32, seed=1)
    flat, path = tmp_path / "flat.binq", tmp_path / "i.binq"
    binq.build(vectors, flat, rescore="int8")
    binq.build(vectors, path, kind="ivf", rescore="int8")
    ks = [1, 10]
    for name, efforts, oversample in (
        ("nprobe", [1, 4, 999], 1.5),
        ("target_recall", [0.5, 0.99], "auto"),
    ):
        options = {"truth": vectors, "oversample": oversample}
        found = evaluate(path, queries, k=ks, **{name: efforts}, **options)  # type: ignore[arg-type]
        document = found.to_json()
        told = [(point[name], point["k"]) for point in document["curve"]]
        assert told == [(effort, k) for effort in efforts for k in ks]
        for effort in efforts:
            alone = evaluate(path, queries, k=ks, **{name: effort}, **options)  # type: ignore[arg-type]
            assert alone.curve == alone.exhaustive == []
            assert "curve" not in alone.to_json()
            assert alone.facts[name] == effort
            points = [point for point in document["curve"] if point[name] == effort]
            assert {} | points[0]["metrics"] | points[1]["metrics"] == alone.metrics
            scanned = {str(point["k"]): point["scanned"] for point in points}
            assert scanned == alone.facts["scanned"]
            assert all(point["queries_per_second"] > 0 for point in points)
        assert found.metrics == alone.metrics  # of the last
        of_flat = evaluate(flat, queries, k=ks, **options).metrics  # type: ignore[arg-type]
        whole = {name: one for point in found.exhaustive for name, one in point.metrics.items()}
        assert whole == of_flat
        assert [point.scanned for point in found.exhaustive] == [1, 1]
        assert document["exhaustive"][1]["exhaustive"] is True
        recalls = [
            point.metrics["recall_scan@10"]["value"] for point in found.curve if point.k == 10
        ]
        assert recalls[0] <= recalls[-1]
        if name == "nprobe":
            assert recalls[0] < 1 == recalls[-1]
            assert [point.scanned for point in found.curve][-1] == 1
        if importlib.util.find_spec("matplotlib") is not None:
            image = io.BytesIO()
            draw_curve(found, image, ".svg")
            assert b"<svg" in image.getvalue()


def test_what_an_index_has_no_metric_for(tmp_path: Path) -> None:
    vectors = gaussian(60, 16)
    for kind in ("flat", "ivf"):
        binq.build(vectors, tmp_path / f"{kind}.binq", kind=kind)
    with pytest.raises(UsageError, match="nothing to judge by"):
        evaluate(tmp_path / "flat.binq", vectors)
    with pytest.raises(UsageError, match="nprobe: got 1"):
        evaluate(tmp_path / "flat.binq", vectors, truth=vectors, nprobe=[1, 2])
    found = {
        kind: {name.partition("@")[0] for name in evaluate(path, vectors, truth=vectors).metrics}
        for kind in ("flat", "ivf")
        for path in [tmp_path / f"{kind}.binq"]
    }
    judged = {"recall", "candidate_recall"}
    # Of an index of lists nobody knows how many rows tie at the cut without a look at all.
    assert found == {"flat": judged | {"recall_expected"}, "ivf": judged | {"recall_scan"}}
    with pytest.raises(UsageError, match="both say how far"):
        evaluate(tmp_path / "ivf.binq", vectors, nprobe=[1, 2], target_recall=[0.9])
    with pytest.raises(UsageError, match="nprobe: expected a whole number"):
        evaluate(tmp_path / "ivf.binq", vectors, nprobe=[1, 0])
    floors = parse_floors(["recall_scan@10=0.9"], [10], truth=False)
    check_floors(floors, exact=False)
    with pytest.raises(UsageError, match=r"recall_scan@10; an index that scans every row"):
        check_floors(floors, exact=True)
    with pytest.raises(UsageError, match=r"recall_expected@1; an index that scans some"):
        check_floors({"recall_expected@1": 0.5}, exact=False)
