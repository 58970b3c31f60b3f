"""The flat index passes on what the kernels find, and maps codes without reading them."""

from __future__ import annotations

from pathlib import Path

import naive
import numpy as np
from corpora import codes_of

from binq.storage.reader import IndexFile
from binq.structures.flat import FlatIndex


def test_nearest_within_count_and_distances() -> None:
    codes, queries = codes_of(60, 2, spread=4), codes_of(3, 2, seed=1, spread=4)
    flat = FlatIndex(codes)
    assert (len(flat), flat.words) == (60, 2)
    rows, distances = flat.nearest(queries, 7, 1)
    lims, near, _ = flat.within(queries, 3, 2)
    counts = flat.count_within(queries, np.array([1, 2, 3]), 1)
    for number, query in enumerate(queries):
        expected = naive.topk(codes, query, 7)
        assert list(zip(distances[number], rows[number], strict=True)) == expected
        inside = [row for _, row in naive.within(codes, query, 3)]
        assert near[lims[number] : lims[number + 1]].tolist() == inside
        assert counts[number] == len(naive.within(codes, query, number + 1))
        assert flat.distances(queries, rows)[number].tolist() == [d for d, _ in expected]


def test_from_file_is_a_view(index: Path) -> None:
    file = IndexFile(index)
    flat = FlatIndex.from_file(file)
    assert not flat.codes.flags.owndata
    assert not flat.codes.flags.writeable
    assert len(flat) == 300
