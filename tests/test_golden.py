"""Files of every format version open and answer the same, for ever."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import naive
import numpy as np

from binq.search import Index

SHA256 = "182b8812c80c77a37cbcbb62a4d549f2b2ea6744d645daa32c38dcac4096611b"
DATA = Path(__file__).parent / "data"
sys.path.insert(0, str(DATA))

from make_golden import DIM, ROWS, corpus, ids  # noqa: E402


def test_flat_1_0() -> None:
    path = DATA / "flat-1.0.binq"
    # The file itself must never change: a format that needs another gets a file of its own.
    assert hashlib.sha256(path.read_bytes()).hexdigest() == SHA256
    index = Index(path)
    header = index.file.header
    assert index.file.verify() == []
    assert (header.rows, header.dim, header.bits, header.words) == (ROWS, DIM, DIM, 2)
    assert (header.metric, header.rescore, header.ids) == ("l2", "float16", "strings")
    assert header.created == "1970-01-01T00:00:00Z"
    assert list(index.ids or []) == ids()

    vectors = corpus()
    means = vectors.astype(np.float64).mean(axis=0).astype(np.float32)
    codes = naive.pack(vectors > means)
    assert np.array_equal(index.codes.codes, codes)
    queries = vectors[:5] + np.float32(0.25)
    probes = naive.pack(queries > means)
    scan = index.search(queries, 10, rescore="none")
    fine = index.search(queries, 10, oversample=2)
    for number, query in enumerate(queries):
        expected = naive.topk(codes, probes[number], 20)
        found = zip(scan.distances[number].tolist(), scan.rows[number].tolist(), strict=True)
        assert list(found) == expected[:10]
        scores = naive.score(query, vectors, "l2")
        best = sorted((row for _, row in expected), key=lambda row: (-scores[row], row))[:10]
        assert fine.rows[number].tolist() == best
        assert fine.scores[number].tolist() == scores[best].tolist()  # exact: quarters all
