"""Laying codes in lists: what they hold, and that the searches of them keep what they promise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corpora import gaussian

import binq
from binq.errors import BinqWarning
from binq.index.index import Index

BAD = np.full((20, 16), np.nan, np.float32)


@pytest.mark.parametrize("method", ["sign", "learned", "rabitq"])
def test_dead_rows_are_in_no_way_of_lists(method: Any, tmp_path: Path) -> None:
    """All dead, or all but some: what is left is found, and lists are made for it."""
    vectors = gaussian(400, 16)
    kept = np.arange(3, 400, 40)
    vectors[np.setdiff1d(np.arange(400), kept)] = np.nan
    corpora = [(vectors, kept)] if method != "sign" else [(vectors, kept), (BAD, kept[:0])]
    for corpus, alive in corpora:
        path = tmp_path / "i.binq"
        with pytest.warns(BinqWarning, match="are dead"):
            binq.build(corpus, path, kind="ivf", method=method, on_error="skip", overwrite=True)
        index = Index(path)
        for settings in ({}, {"nprobe": 1}, {"target_recall": 0.5}):
            rows = index.search(gaussian(3, 16, seed=1), 20, **settings).rows
            assert np.sort(rows).tolist() == [alive.tolist()] * 3
        sections = index.file.sections
        assert sections["ivf.centroids"].shape[0] == max(1, len(alive))
