"""Disturbed rows: what stands in for queries that are far from all rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corpora import DEGENERATE, gaussian

import binq
from binq.building.calibrating import disturbed
from binq.index.index import Index


def test_rows_are_disturbed_more_and_more() -> None:
    """Floats move by what two others differ in; values are at last those of any rows."""
    rows = gaussian(300, 40) * np.float32([1, 10, 0, 2] * 10) + 5
    groups = list(disturbed(rows))
    assert [group.shape for group in groups] == [(200, 40)] * 3
    moved = [np.abs(group - rows[:200]).mean() for group in groups]
    assert moved == sorted(moved)
    assert moved[0] > 0
    assert all((group[:, 2::4] == 5).all() for group in groups)
    assert all(np.isin(groups[2][:, i], rows[:, i]).all() for i in range(40))
    flags = rows > 5
    turned = [(group != flags[:200]).mean() for group in disturbed(flags)]
    assert 0 < turned[0] < 0.35 * 0.5 < min(turned[1:])
    assert not any(group[:, 2::4].any() for group in disturbed(flags))
    for count in (0, 1, 2):
        assert [len(group) for group in disturbed(rows[:count])] == [count] * 3
    assert all((group == rows[:1]).all() for group in disturbed(rows[:1]))


@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
def test_rows_that_are_hard_to_disturb(metric: Any, tmp_path: Path) -> None:
    """Sums of rows may be zero, or longer than a vector may be: these are left out."""
    axes = np.eye(3, dtype=np.float32)
    cases = {
        "sums that are zero": np.vstack([axes, -axes, axes + np.roll(axes, 1, axis=0)] * 20),
        "as long as may be": np.float32(2.0**61) * np.vstack([axes, -axes] * 20),
        **{name: rows for name, rows in DEGENERATE.items() if len(rows) < 100},
    }
    for rows in cases.values():
        binq.build(rows, tmp_path / "i.binq", kind="ivf", metric=metric)
        index = Index(tmp_path / "i.binq")
        assert index.search(rows[:2], 3).rows.shape == (min(2, len(rows)), min(3, len(rows)))
