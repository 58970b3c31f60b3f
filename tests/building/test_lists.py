"""Laying codes in lists: what they hold, and that the searches of them keep what they promise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import promises
import pytest
from corpora import gaussian

import binq
from binq.index.index import Index
from binq.structures import ivf


@pytest.mark.parametrize("method", ["sign", "learned", "rabitq"])
def test_dead_rows_are_in_no_way_of_lists(method: Any, tmp_path: Path) -> None:
    """All dead but some: what is left is found, and lists are made for it."""
    index = promises.living_rows_are_found(tmp_path / "i.binq", "ivf", method, {"nprobe": 1})
    assert index.file.sections["ivf.centroids"].shape[0] == 10


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "metric"),
    [("sign", "cosine"), ("sign", "ip"), ("itq", "l2"), ("rabitq", "ip"), ("learned", "l2")],
)
def test_what_is_promised_of_queries_that_are_no_rows(
    method: Any, metric: Any, tmp_path: Path
) -> None:
    """Rows stood in for them; these lie about the same clusters, and between them."""
    promises.hold_for_others(tmp_path / "i.binq", "ivf", method, metric)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["sign", "learned", "packed"])
def test_what_is_promised_of_queries_far_from_all_rows(method: Any, tmp_path: Path) -> None:
    """Rows lie close about centres: without edges, 0.9 finds as little as 0.57 for others."""
    centres = gaussian(150, 128)
    rng = np.random.default_rng(0)

    def about(count: int, noise: float, seed: int) -> np.ndarray:
        return centres[rng.integers(150, size=count)] + noise * gaussian(count, 128, seed)

    corpus, packed = about(12_000, 0.7, 1), method == "packed"
    settings: Any = {"packed": "ubinary"} if packed else {"method": method}
    rows = np.packbits(corpus > 0, axis=1) if packed else corpus
    binq.build(rows, tmp_path / "i.binq", kind="ivf", **settings)
    index = Index(tmp_path / "i.binq")
    calibration = index.structure.describe()["calibration"]
    scoring = index.file.header.scoring
    assert set(calibration["edges"]) <= set(calibration["gaps"])
    for queries in (about(300, 1.5, 2), about(300, 2.5, 3), gaussian(300, 128, 4), corpus[:300]):
        asked = np.packbits(queries > 0, axis=1) if packed else queries
        prepared = index.prepare(asked, "ubinary" if packed else None)
        promises.hold(index, prepared, [scoring])
    # Where queries come with the build there is no need to guess.
    binq.build(rows, tmp_path / "i.binq", kind="ivf", check_queries=rows[:500], **settings)
    assert "edges" not in Index(tmp_path / "i.binq").structure.describe()["calibration"]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["sign", "learned"])
def test_filters_that_agree_and_filters_that_oppose(
    method: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Allowed are rows near the query, any, rows near another row, and rows far from the query."""
    monkeypatch.setattr(ivf, "FEW", 0)
    promises.hold_with_filters(tmp_path / "i.binq", "ivf", method, (0.5, 0.1, 0.01, 0.001))


@pytest.mark.slow
def test_real_queries(shared_data: Path, tmp_path: Path) -> None:
    """Headings are no passages: the promise that rows gave holds for them all the same."""
    promises.hold_for_real_queries(shared_data, tmp_path / "i.binq", "ivf", ("sign", "learned"))
