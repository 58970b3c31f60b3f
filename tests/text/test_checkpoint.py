from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest

from binq.errors import InputError
from binq.text.checkpoint import Checkpoint, Shape, digest_of, temporary_checkpoint


@contextmanager
def kept(path: Path) -> Iterator[Checkpoint]:
    checkpoint = Checkpoint(path, {"model": "m"})
    try:
        yield checkpoint
    finally:
        checkpoint.close(remove=False)


def test_blocks_are_read_in_order(tmp_path: Path) -> None:
    vectors = np.arange(40, dtype=np.float32).reshape(20, 2)
    with temporary_checkpoint(tmp_path / "out", {"model": "m"}) as checkpoint:
        assert list(checkpoint.read()) == []
        numbers = checkpoint.add_vectors([digest_of(str(i)) for i in range(20)], vectors)
        order = [(position, f"id {position}", numbers[-1 - position]) for position in range(20)]
        checkpoint.add_rows(order[::-1])
        blocks = list(checkpoint.read(block_bytes=3 * (8 + 64)))
        assert [len(positions) for positions, _, _ in blocks] == [3] * 6 + [2]
        assert [position for block in blocks for position in block[0]] == list(range(20))
        assert [row_id for block in blocks for row_id in block[1]] == [f"id {i}" for i in range(20)]
        assert np.array_equal(np.concatenate([block[2] for block in blocks]), vectors[::-1])
    assert list(tmp_path.iterdir()) == []


def test_notes_that_are_none(tmp_path: Path) -> None:
    """The file may have been written to by anybody."""
    path, deep = tmp_path / "c", "[" * 100_000
    with kept(path) as checkpoint:
        checkpoint.add_vectors([b"x" * 16], np.ones((1, 4), np.float32))
    whole = path.read_bytes()
    for key, value in (
        *(("facts", value) for value in ("1", "[]", deep)),
        *(("vectors", f'["{dtype}", 4, null]') for dtype in ("|O", "<U4", "<f8")),
        *(("vectors", value) for value in ("{}", "3", deep, '["<f4", -16, null]', '["<f4"]')),
        *(("vectors", f'["<f4", {value}, null]') for value in ("0", "1e400", "2147483648", "[]")),
    ):
        path.write_bytes(whole)
        with closing(sqlite3.connect(path)) as database:
            database.execute("UPDATE facts SET value = ? WHERE key = ?", (value, key))
            database.commit()
        with (
            pytest.raises(InputError, match="not a usable checkpoint"),
            kept(path) as checkpoint,
        ):
            checkpoint.shape()
    path.write_bytes(whole)
    with kept(path) as checkpoint:
        assert checkpoint.shape() == Shape(np.dtype("<f4"), 4, None)
