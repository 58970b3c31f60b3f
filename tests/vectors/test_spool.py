from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from binq.bits import unpack
from binq.errors import EnvironmentFailure, InputError
from binq.vectors import VectorSource, open_vectors
from binq.vectors.spool import spool

IDS = ["a", "", "é€𝄞", "tab\there", "7", 7, -(1 << 70)]


def stream() -> VectorSource:
    import json

    lines = (json.dumps({"id": row_id, "v": [i, 0.5]}) for i, row_id in enumerate(IDS))
    return open_vectors("-", stdin=io.BytesIO("\n\n".join(lines).encode()))


def test_a_stream_becomes_readable_again(tmp_path: Path) -> None:
    with spool(stream(), tmp_path) as source:
        assert (source.rows, source.dim, source.has_ids, source.rewindable) == (7, 2, True, True)
        for _ in range(2):
            batches = list(source.batches(2))
            assert [batch.start for batch in batches] == [0, 2, 4, 6]
            vectors = np.concatenate([batch.vectors for batch in batches])
            assert vectors.tolist() == [[i, 0.5] for i in range(7)]
            assert [row_id for batch in batches for row_id in batch.ids or []] == IDS
        assert source.take(np.array([1, 4])).tolist() == [[1, 0.5], [4, 0.5]]
        assert source.locate(2) == "stdin row 2 line 5"
        assert source.describe()[0]["rows"] == 7
        assert len(source.describe()[0]["fingerprint"]) == 32
        assert list(tmp_path.iterdir()) == []


def test_rows_without_ids(tmp_path: Path) -> None:
    with spool(open_vectors("-", stdin=io.BytesIO(b"[1]\n[2]")), tmp_path) as source:
        (batch,) = source.batches()
        assert (batch.vectors.tolist(), batch.ids) == ([[1], [2]], None)
        assert source.has_ids is False


def test_packed_rows(tmp_path: Path) -> None:
    flags = np.random.default_rng(0).random((6, 70)) < 0.5
    buffer = io.BytesIO()
    np.save(buffer, np.packbits(flags, axis=1))
    buffer.seek(0)
    with spool(open_vectors("-", stdin=buffer, packed="ubinary", bits=70), tmp_path) as source:
        assert (source.packed, source.dim, source.layout) == (True, 70, "ubinary")
        codes = np.concatenate([batch.vectors for batch in source.batches(4)])
        assert codes.dtype == np.uint64
        assert np.array_equal(unpack(codes, 70), flags)
        with pytest.raises(InputError, match="no floats"):
            source.take(np.array([0]))


def test_nothing(tmp_path: Path) -> None:
    with spool(open_vectors("-", stdin=io.BytesIO(b"")), tmp_path) as source:
        assert (source.rows, source.dim, list(source.batches())) == (0, None, [])


def test_files_of_known_length_stay_as_they_are(tmp_path: Path) -> None:
    array = open_vectors(np.ones((2, 2)))
    assert spool(array, tmp_path) is array
    path = tmp_path / "v.jsonl"
    path.write_text("[1]\n")
    with spool(open_vectors(path), tmp_path) as source:
        assert source.rows == 1


def test_the_original_stays_open_for_whoever_opened_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = stream()
    monkeypatch.setattr(source, "close", lambda: pytest.fail("closed"))
    with spool(source, tmp_path) as copy:
        assert copy.rows == 7


def test_a_bad_row_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="row 1 line 2"):
        spool(open_vectors("-", stdin=io.BytesIO(b"[1]\nx")), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFailure, match="cannot copy stdin to disk"):
        spool(stream(), tmp_path / "missing")


def test_a_full_disk(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    signal = pytest.importorskip("signal")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    text = b"".join(b"[%d, 1, 2, 3]\n" % i for i in range(20_000))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, limits[1]))
    try:
        with pytest.raises(EnvironmentFailure, match="cannot copy stdin to disk"):
            spool(open_vectors("-", stdin=io.BytesIO(text)), tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert list(tmp_path.iterdir()) == []
