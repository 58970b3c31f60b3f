"""Corpora for tests, as arrays and as files; and what must not be left beside them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np


def gaussian(rows: int, dim: int, seed: int = 0) -> np.ndarray:
    """Return (rows, dim) float32 drawn from the normal distribution."""
    return np.random.default_rng(seed).standard_normal((rows, dim)).astype(np.float32)


def codes_of(rows: int, words: int, seed: int = 0, spread: int = 64) -> np.ndarray:
    """Return (rows, words) uint64 whose low ``spread`` bits are random; few bits make ties."""
    high = 1 << spread
    return np.random.default_rng(seed).integers(0, high, (rows, words), np.uint64, endpoint=False)


def write_jsonl(path: Path, vectors: np.ndarray, ids: list[str] | None = None) -> Path:
    """Write vectors as jsonl, with ids or as bare arrays."""
    rows = np.asarray(vectors).tolist()
    entries = (
        rows if ids is None else [{"id": i, "embedding": v} for i, v in zip(ids, rows, strict=True)]
    )
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return path


def write_parquet(path: Path, vectors: np.ndarray, ids: list[str] | None = None) -> Path:
    """Write vectors as a FixedSizeList column, with ids where there are any."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    flat = pa.array(np.ascontiguousarray(vectors).reshape(-1))
    columns = {"embedding": pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])}
    if ids is not None:
        columns["id"] = pa.array(ids, pa.string())
    pq.write_table(pa.table(columns), path)
    return path


def debris(directory: Path) -> list[str]:
    """Return temporary files that something left behind."""
    return [name for name in os.listdir(directory) if name.endswith(".tmp") or name[0] == "."]
