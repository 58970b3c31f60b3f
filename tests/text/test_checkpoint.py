from __future__ import annotations

from pathlib import Path

import numpy as np

from binq.text.checkpoint import digest_of, temporary_checkpoint


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
