"""Graphs that lie, in files whose checksums fit: refused in a line, or at most answered wrongly."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data.make_golden import GRAPHED, ROWS
from forging import header_of, with_header
from structures.test_hostile_lists import DATA, Changes, attacked, changed

from binq.structures import hnsw

SEARCHES: list[dict[str, Any]] = [
    {},
    {"ef": 1},
    {"ef": 3, "scoring": "asymmetric"},
    {"ef": 10**9},
    {"target_recall": 0.5},
    {"target_recall": 0.9999},
    {"filter_ids": ["doc-é-5", "doc-é-9", "doc-é-2"], "target_recall": 0.5},
    {"exclude_ids": ["doc-é-5"], "ef": 2},
    {"exclude_ids": ["doc-é-5"]},
    {"oversample": "auto"},
    {"rescore": "none", "ef": 2},
]


@pytest.fixture(autouse=True)
def walks_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few allowed rows are looked for in the graph, and walks are not given up."""
    monkeypatch.setattr(hnsw, "FEW", 2)
    monkeypatch.setattr(hnsw, "SCAN_SHARE", 2.0)


def with_gap(data: bytes, gap: int) -> bytes:
    """Return the file calibrated so that searches walk."""
    header = header_of(data)
    calibration = dict(header["calibration"])
    calibration["gaps"] = {"hamming": {"10": [gap] * len(calibration["targets"])}}
    return with_header(data, header | {"calibration": calibration})


def contents(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Other things in the sections of a graph."""
    rng = np.random.default_rng(0)
    changes: Changes = {
        "hnsw.neighbours": [
            lambda old: old * 0,
            lambda old: old * 0 + old.dtype.type(2**32 - 1),
            lambda old: old * 0 + old.dtype.type(2**31),
            lambda old: old * 0 + old.dtype.type(ROWS),
            lambda old: old[::-1],
            lambda old: old + old.dtype.type(1),
            lambda old: rng.integers(0, 2**32, old.shape),
            lambda old: rng.integers(0, 12, old.shape),
        ],
        "hnsw.entries": [
            lambda old: old * 0,
            lambda old: old * 0 + old.dtype.type(2**32 - 1),
            lambda old: old + old.dtype.type(ROWS),
        ],
        "hnsw.rows": [
            lambda old: old * 0,
            lambda old: old * 0 + old.dtype.type(ROWS),
            lambda old: old * 0 + old.dtype.type(2**32 - 1),
            lambda old: old[::-1],
            lambda old: old // 2,
        ],
        "hnsw.starts": [
            lambda old: old * 0,
            lambda old: old[::-1],
            lambda old: old + old.dtype.type(1),
            lambda old: np.roll(old, 1),
            lambda old: np.concatenate([old[:1], old[1:-1] * 0 + old[-1], old[-1:]]),
            lambda old: np.concatenate([old[:1], old[1:-1] * 0 - old.dtype.type(1), old[-1:]]),
        ],
    }
    return changed(data, changes)


@pytest.mark.parametrize("name", GRAPHED)
def test_sections_that_lie(name: str, tmp_path: Path) -> None:
    whole = (DATA / name).read_bytes()
    searches = SEARCHES
    if header_of(whole)["ids"] != "strings" or "distinct" in name:
        searches = [how for how in SEARCHES if "filter_ids" not in how and "exclude_ids" not in how]
    for data in (whole, with_gap(whole, 0), with_gap(whole, 9)):
        assert attacked(tmp_path / "i.binq", data, searches) == []
        answered = refused = 0
        for what, forged in contents(data):
            said = attacked(tmp_path / "i.binq", forged, searches)
            refused += len(said)
            answered += not said
            assert all("hnsw." in line for line in said), said
            assert what in ("hnsw.rows", "hnsw.starts") or not said, said
        assert answered > 10
        assert refused > 15


def test_calibrations_that_are_none(tmp_path: Path) -> None:
    """Where nothing is known of, all rows are scanned; else a line says what is wrong."""
    data = (DATA / "hnsw-1.3.binq").read_bytes()
    header = header_of(data)
    good, huge = header["calibration"], 10**4000
    count = len(good["targets"])
    pools: list[Any] = [[], [0] * (count - 1), [-1] * count, [0.5] * count, [huge] * count]
    pools += [[*range(count, 0, -1)], ["0"] * count, {"0": 0}]
    calibrations = [good | {"pools": {"10": row}} for row in pools]
    calibrations += [good | {"pools": whole} for whole in ([], None, 5, {str(huge): [0]}, {})]
    calibrations += [{}, good | {"gaps": {}}, good | {"gaps": None}, good | {"targets": [1]}]
    for calibration in calibrations:
        forged = with_header(data, header | {"calibration": calibration})
        said = attacked(tmp_path / "i.binq", forged, SEARCHES)
        assert all("calibration" in line or "JSON" in line for line in said), said
    for calibration in calibrations[: len(pools)]:
        forged = with_header(data, header | {"calibration": calibration})
        assert attacked(tmp_path / "i.binq", forged, SEARCHES)


def test_sections_of_other_shapes(tmp_path: Path) -> None:
    """Sections that are missing, of no node, of another width or dtype, or of another kind."""
    data = (DATA / "hnsw-1.3.binq").read_bytes()
    header = header_of(data)
    nodes, width = next(
        part["shape"] for part in header["sections"] if part["name"] == "hnsw.neighbours"
    )
    changes: list[dict[str, Any]] = [
        {"hnsw.neighbours": {"shape": [nodes * width], "length": 4 * nodes * width}},
        {"hnsw.neighbours": {"shape": [nodes - 1, width], "length": 4 * (nodes - 1) * width}},
        {"hnsw.neighbours": {"shape": [2**61, width]}},
        {"hnsw.neighbours": {"dtype": "float32"}},
        {"hnsw.neighbours": {"name": "hnsw.other"}},
        {"hnsw.entries": {"name": "hnsw.other"}},
        {"hnsw.rows": {"name": "hnsw.other"}},
        {"hnsw.rows": {"shape": [ROWS - 1], "length": 4 * (ROWS - 1)}},
        {"hnsw.rows": {"shape": [ROWS, 1]}},
        {"hnsw.starts": {"name": "hnsw.other"}},
        {"hnsw.starts": {"shape": [nodes], "length": 4 * nodes}},
        {"hnsw.starts": {"dtype": "float32"}},
    ]
    for change in changes:
        sections = [part | change.get(part["name"], {}) for part in header["sections"]]
        forged = with_header(data, header | {"sections": sections})
        assert len(attacked(tmp_path / "i.binq", forged, SEARCHES)) == len(SEARCHES) + 4, change
    for empty in ("hnsw.entries", "hnsw.neighbours"):
        none = {empty: {"shape": [0, width][: 1 + (empty == "hnsw.neighbours")], "length": 0}}
        sections = [part | none.get(part["name"], {}) for part in header["sections"]]
        attacked(tmp_path / "i.binq", with_header(data, header | {"sections": sections}), SEARCHES)
    for kind in ("flat", "ivf"):
        assert attacked(tmp_path / "i.binq", with_header(data, header | {"kind": kind}), SEARCHES)
    flat = (DATA / "flat-1.0.binq").read_bytes()
    forged = with_header(flat, header_of(flat) | {"kind": "hnsw"})
    assert attacked(tmp_path / "i.binq", forged, SEARCHES)
