"""Corpora for tests, as arrays and as files; and what must not be left beside them."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from binq.binarizers import TABLE
from binq.binarizers.methods import MethodSpec, ste


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


def anisotropic(rows: int, dim: int, seed: int = 0) -> np.ndarray:
    """Return (rows, dim) float32 whose variance falls off, turned and off the origin."""
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(np.random.default_rng(7).standard_normal((dim, dim)))[0]
    scales = 1.0 / np.arange(1, dim + 1) ** 0.7
    return ((rng.standard_normal((rows, dim)) * scales) @ turn + 0.3).astype(np.float32)


def clustered(rows: int, dim: int, clusters: int = 40, seed: int = 0) -> np.ndarray:
    """Return (rows, dim) float32 of unit length around centres that do not depend on the seed."""
    centers = 1.5 * anisotropic(clusters, dim, seed=11)
    rng = np.random.default_rng(seed)
    found = centers[rng.integers(clusters, size=rows)] + 0.5 * anisotropic(rows, dim, seed=seed)
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def latent(
    rows: int, dim: int, seed: int = 0, centres: int = 200, between: float = 0.0
) -> np.ndarray:
    """Return (rows, dim) float32 that are as hard to search as embeddings are.

    Clusters in 200 dims of scales (1 + i)^-0.5, projected; the clusters do not depend on the seed.
    ``between`` 0 and 1 rows lie about centres, in between between two of them.
    """
    fixed, rng = np.random.default_rng(12), np.random.default_rng(seed)
    scales = ((1.0 + np.arange(200)) ** -0.5).astype(np.float32)
    middles = fixed.standard_normal((centres, 200), np.float32) * scales
    projection = fixed.standard_normal((200, dim), np.float32)
    ours, others = (middles[rng.integers(centres, size=rows)] for _ in range(2))
    noise = rng.standard_normal((rows, 200), np.float32) * scales
    return (ours * (1 - between) + others * between + noise) @ projection


_EVEN = np.linspace(-1, 1, 20, dtype=np.float32)
DEGENERATE: dict[str, np.ndarray] = {
    "one row": np.full((1, 20), 0.5, np.float32),
    "two rows": np.eye(2, 20, dtype=np.float32) + np.float32(0.1),
    "equal rows": np.tile(_EVEN, (50, 1)),
    "fewer rows than bits": gaussian(9, 20),
    "constant columns": np.hstack([np.ones((200, 10), np.float32), gaussian(200, 10)]),
    "equal columns": np.repeat(gaussian(200, 10), 2, axis=1),
    "zero columns": np.hstack([np.zeros((60, 15), np.float32), gaussian(60, 5)]),
    "opposite rows": np.vstack([np.tile(_EVEN, (30, 1)), np.tile(-_EVEN, (30, 1))]),
    "tiny": np.float32(1e-18) * gaussian(80, 20),
    "large": np.float32(1e15) * gaussian(80, 20),
}
"""Rows of 20 dimensions that a fit finds hard."""


def quick_ste(steps: int = 20) -> MethodSpec:
    """Return ``ste`` in few steps: training takes as long for few rows as for many."""
    return replace(TABLE["ste"], fit=partial(ste.fit, steps=steps))
