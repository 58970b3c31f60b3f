"""Write the golden files: once, when a format was fixed. They are kept as they are, for ever.

Usage: python tests/data/make_golden.py DIRECTORY

The corpus needs no random numbers, so that the expected answers can be computed anywhere.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROWS, DIM = 40, 70
DEAD = [0, 7, 31, ROWS - 1]


def corpus() -> np.ndarray:
    """Return (40, 70) float32: small whole numbers from -5 to 5."""
    row, column = np.mgrid[:ROWS, :DIM]
    return ((row * row * 7 + column * row * 3 + column * column * 5) % 11 - 5).astype(np.float32)


def ids() -> list[str]:
    """Return the ids; one is empty, one holds what needs escaping."""
    return ["", "tab\tnew\nline", *(f"doc-é-{number}" for number in range(2, ROWS))]


BUILDS: dict[str, dict[str, Any]] = {
    "flat-1.0.binq": {"method": "mean", "metric": "l2", "rescore": "float16"},
    "asymmetric-1.0.binq": {
        "method": "learned",
        "metric": "ip",
        "bits": 100,
        "truncate_dim": 60,
        "seed": 3,
        "rescore": "int8",
    },
}


# Inverted lists, of 1.2.
LISTED: dict[str, dict[str, Any]] = {
    "ivf-1.2.binq": {"method": "mean", "metric": "l2", "rescore": "float16", "nlist": 6},
    "ivf-learned-1.2.binq": BUILDS["asymmetric-1.0.binq"] | {"nlist": 5},
    "ivf-dead-1.2.binq": {"method": "mean", "metric": "cosine", "nlist": 6},
}


# Graphs, of 1.3.
GRAPHED: dict[str, dict[str, Any]] = {
    "hnsw-1.3.binq": {"method": "mean", "metric": "l2", "scoring": "asymmetric", "m": 3},
    "hnsw-distinct-1.3.binq": {"method": "sign", "m": 2},
    "hnsw-dead-1.3.binq": {"method": "mean", "metric": "cosine", "m": 2, "ef_construction": 9},
}


# Directories of shards, their manifest being binq.shards/1: what two of the files hold, in parts.
SHARDED: dict[str, tuple[str, int]] = {
    "flat-shards-1": ("flat-1.0.binq", 16),
    "ivf-shards-1": ("ivf-1.2.binq", 25),
}


# What 1.0 cannot hold, put into the first of the files above.
GROWN: dict[str, dict[str, Any]] = {
    "typed-1.1.binq": {"ids": np.array([-(1 << 63), (1 << 53) + 1, *range(2, ROWS)])},
    "dead-1.1.binq": {"dead": [0, 7, 31, ROWS - 1]},
    "typed-dead-1.1.binq": {
        "ids": np.array([(1 << 64) - 1, *range(1, ROWS)], np.uint64),
        "dead": list(range(1, ROWS, 2)),
    },
}


def grow(
    source: Path, target: Path, ids: np.ndarray | None = None, dead: Sequence[int] = ()
) -> None:
    """Write an index again, with integers for ids, and some of its rows dead."""
    from binq.storage.ids import IdWriter
    from binq.storage.reader import IndexFile
    from binq.storage.sections import write_tombstones
    from binq.storage.writer import writing_index

    file = IndexFile(source)
    header = file.header
    with writing_index(target) as writer:
        for name, section in file.sections.items():
            if ids is None or not name.startswith("ids."):
                writer.add(name, file.array(name, section.dtype, section.shape))
        if ids is not None:
            stored = IdWriter(writer)
            stored.append(ids)
            header = dataclasses.replace(header, ids=stored.finish())
        write_tombstones(writer, np.isin(np.arange(header.rows), dead))
        writer.finish(header)


def write_corpus(path: Path, rows: int = ROWS) -> None:
    """Write the first rows, with their ids, as jsonl."""
    lines = [
        json.dumps({"id": name, "embedding": vector}) + "\n"
        for name, vector in zip(ids(), corpus().tolist(), strict=True)
    ]
    path.write_text("".join(lines[:rows]), encoding="utf-8")


def how_built(name: str) -> dict[str, Any]:
    """Return the settings of a file."""
    return BUILDS.get(name) or {"kind": name[:4].rstrip("-"), **(LISTED | GRAPHED)[name]}


def make(target: Path, *names: str) -> None:
    """Build files of 1.0, 1.2 or 1.3 in a directory."""
    from binq import build

    with tempfile.TemporaryDirectory() as place:
        source = Path(place) / "corpus.jsonl"
        for name in names:
            # Rows come again after eleven.
            write_corpus(source, 11 if "distinct" in name else ROWS)
            build(source, target / name, threads=1, **how_built(name))


def make_shards(target: Path, name: str) -> None:
    """Build a directory of shards of the corpus."""
    from binq import build

    one, rows = SHARDED[name]
    with tempfile.TemporaryDirectory() as place:
        source = Path(place) / "corpus.jsonl"
        write_corpus(source)
        build(source, target / name, threads=1, shard_rows=rows, **how_built(one))


def make_kinds(target: Path, kind: str, files: dict[str, dict[str, Any]]) -> None:
    """Build the files of 1.2 or 1.3: the last of them has integers for ids, and dead rows."""
    from binq import build

    *names, last = files
    make(target, *names)
    with tempfile.TemporaryDirectory() as place:
        source = Path(place) / "corpus.jsonl"
        with source.open("w", encoding="utf-8") as file:
            for number, vector in enumerate(corpus().tolist()):
                entry = {"id": 2**53 + number, "embedding": None if number in DEAD else vector}
                file.write(json.dumps(entry) + "\n")
        how = {"kind": kind, "on_error": "skip", **files[last]}
        build(source, target / last, threads=1, **how)


def main() -> None:
    """Build the files."""
    target = Path(sys.argv[1])
    os.environ["SOURCE_DATE_EPOCH"] = "0"
    make(target, *BUILDS)
    for name, options in GROWN.items():
        grow(target / "flat-1.0.binq", target / name, **options)
    make_kinds(target, "ivf", LISTED)
    make_kinds(target, "hnsw", GRAPHED)
    for name in SHARDED:
        make_shards(target, name)


if __name__ == "__main__":
    main()
