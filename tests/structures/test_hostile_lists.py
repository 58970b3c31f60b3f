"""Lists that lie, in files whose checksums fit: refused in a line, or at most answered wrongly."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data.make_golden import ROWS, corpus
from forging import header_of, with_checksums, with_header

from binq.errors import BinqError
from binq.index.index import Index
from binq.structures import ivf

Changes = dict[str, list[Callable[[np.ndarray], np.ndarray]]]
"""Of sections by name, what to put in place of their numbers."""
DATA = Path(__file__).parents[1] / "data"
SEARCHES: list[dict[str, Any]] = [
    {},
    {"nprobe": 1},
    {"nprobe": 10**9},
    {"target_recall": 0.9999},
    {"filter_ids": ["doc-é-5", "doc-é-9", "doc-é-2"], "target_recall": 0.5},
    {"exclude_ids": ["doc-é-5"], "nprobe": 2},
    {"exclude_ids": ["doc-é-5"]},
    {"oversample": "auto"},
    {"rescore": "none"},
]


@pytest.fixture(autouse=True)
def few_are_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that a filter allows are looked for in lists."""
    monkeypatch.setattr(ivf, "FEW", 2)


def attacked(path: Path, data: bytes, searches: list[dict[str, Any]] = SEARCHES) -> list[str]:
    """Search in every way; return what was refused. What is answered is in range."""
    path.write_bytes(data)
    refused: list[BinqError] = []
    queries = corpus()[:3] + np.float32(0.25)

    def tried(search: Callable[[Index], Any]) -> None:
        try:
            with warnings.catch_warnings(action="ignore"):
                found = search(Index(path))
        except BinqError as error:
            refused.append(error)
        else:
            assert ((found.rows >= 0) & (found.rows < ROWS)).all()

    for settings in searches:
        tried(lambda index, how=settings: index.search(queries, 7, **how))  # type: ignore[misc]
    tried(lambda index: index.search(queries[:1], 7))
    tried(lambda index: index.search(queries, 10**6))
    tried(lambda index: index.radius_search(queries, 30))
    tried(lambda index: index.radius_search(queries, 30, exclude_ids=["doc-é-5"]))
    assert {error.exit_code for error in refused} <= {4}
    assert all(error.line().isprintable() for error in refused)
    return [error.line() for error in refused]


def changed(data: bytes, changes: Changes) -> Iterator[tuple[str, bytes]]:
    """Yield the names of sections and the file with other things in them, which is checksummed."""
    for part in header_of(data)["sections"]:
        start, dtype, length = part["offset"], np.dtype(part["dtype"]), part["length"]
        old = np.frombuffer(data, dtype, length // dtype.itemsize, start)
        for change in changes.get(part["name"], []):
            new = np.asarray(change(old)).astype(dtype).tobytes()
            yield part["name"], with_checksums(data[:start] + new + data[start + length :])


def contents(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Other things in the sections of lists."""
    wide = np.uint64(2**64 - 1)
    changes: Changes = {
        "ivf.offsets": [
            lambda old: old[::-1],
            lambda old: old * 0,
            lambda old: old * 0 + old[-1],
            lambda old: old + np.uint64(1),
            lambda old: np.roll(old, 1),
            lambda old: np.concatenate([old[:1], old[1:-1] * 0 + wide, old[-1:]]),
            lambda old: np.concatenate([old[:1], old[1:-1] * 0 + np.uint64(2**63), old[-1:]]),
            lambda old: np.concatenate([old[:1], old[1:-1] * 0 + old[-1], old[-1:]]),
        ],
        "ivf.rows": [
            lambda old: old * 0,
            lambda old: old * 0 + old.dtype.type(ROWS),
            lambda old: old * 0 + old.dtype.type(2**32 - 1),
            lambda old: old[::-1],
            lambda old: old // 2,
        ],
        "ivf.centroids": [
            lambda old: old * 0,
            lambda old: old * 0 + wide,
            lambda old: old * 0 + old[0],
            lambda old: old[::-1],
        ],
    }
    return changed(data, changes)


@pytest.mark.parametrize("name", ["ivf-1.2.binq", "ivf-learned-1.2.binq"])
def test_sections_that_lie(name: str, tmp_path: Path) -> None:
    data = (DATA / name).read_bytes()
    assert attacked(tmp_path / "i.binq", data) == []
    answered = refused = 0
    for _, forged in contents(data):
        said = attacked(tmp_path / "i.binq", forged)
        refused += len(said)
        answered += not said
        assert all("ivf." in line for line in said), said
    assert answered > 5
    assert refused > 20


def calibrations(good: Any) -> Iterator[Any]:
    """Calibrations that are none."""
    yield from (None, {}, [], "no", 5, good | {"targets": None}, good | {"queries": 1e400})
    yield good | {"targets": good["targets"][::-1]}
    count = len(good["targets"])
    huge = 10**4000
    for row in ([], [0] * (count - 1), [0] * (count + 1), [-1] * count, [0.5] * count):
        yield good | {"gaps": {"hamming": {"10": row}}}
    for row in ([huge] * count, [2**63] * count, ["0"] * count, [True] * count, {"0": 0}, None):
        yield good | {"gaps": {"hamming": {"10": row}, "asymmetric": {"10": row}}}
    for gaps in (None, [], {}, {"hamming": []}, {"other": {}}, {"hamming": {str(huge): [0]}}):
        yield good | {"gaps": gaps}
        yield good | {"edges": gaps}
    for edge in (0, 1, 65_536, 65_537, -1, huge, True, None, 0.5):
        row = [edge] * count
        for edges in ({"10": row, "40": []}, {"10": row}, {"40": row, "10": None}):
            yield good | {"edges": {"hamming": edges, "asymmetric": edges}}


def test_calibrations_that_are_none(tmp_path: Path) -> None:
    """Without a gap that is known all lists are looked into; else a line says what is wrong."""
    data = (DATA / "ivf-1.2.binq").read_bytes()
    header = header_of(data)
    for calibration in calibrations(header["calibration"]):
        forged = with_header(data, header | {"calibration": calibration})
        said = attacked(tmp_path / "i.binq", forged)
        assert all("calibration" in line or "JSON" in line for line in said), said
    del header["calibration"]
    assert attacked(tmp_path / "i.binq", with_header(data, header))


def test_sections_of_other_shapes(tmp_path: Path) -> None:
    """Sections that are missing, of no list, of another width or dtype, or of a flat index."""
    data = (DATA / "ivf-1.2.binq").read_bytes()
    header = header_of(data)
    changes: list[dict[str, Any]] = [
        {"ivf.centroids": {"shape": [0, 2], "length": 0}},
        {"ivf.centroids": {"shape": [0, 2], "length": 0}, "ivf.offsets": {"shape": [1]}},
        {"ivf.centroids": {"shape": [12], "length": 96}},
        {"ivf.centroids": {"shape": [12, 1]}},
        {"ivf.centroids": {"shape": [2**61, 2]}},
        {"ivf.centroids": {"dtype": "int64"}},
        {"ivf.centroids": {"dtype": "float64"}},
        {"ivf.offsets": {"shape": [0], "length": 0}},
        {"ivf.offsets": {"shape": [2**40]}},
        {"ivf.offsets": {"dtype": "int64"}},
        {"ivf.rows": {"shape": [20], "dtype": "uint64"}},
        {"ivf.rows": {"shape": [20], "length": 80}},
        {"ivf.rows": {"shape": [ROWS, 1]}},
        {"ivf.rows": {"name": "ivf.other"}},
        {"ivf.centroids": {"name": "ivf.other"}},
        {"ivf.offsets": {"name": "ivf.other"}},
    ]
    for change in changes:
        sections = [part | change.get(part["name"], {}) for part in header["sections"]]
        said = attacked(tmp_path / "i.binq", with_header(data, header | {"sections": sections}))
        assert len(said) == len(SEARCHES) + 4, change
    assert attacked(tmp_path / "i.binq", with_header(data, header | {"kind": "flat"}))
    flat = (DATA / "flat-1.0.binq").read_bytes()
    assert attacked(tmp_path / "i.binq", with_header(flat, header_of(flat) | {"kind": "ivf"}))
