"""Write the golden files: once, when a format was fixed. They are kept as they are, for ever.

Usage: python tests/data/make_golden.py DIRECTORY

The corpus needs no random numbers, so that the expected answers can be computed anywhere.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

ROWS, DIM = 40, 70


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


def main() -> None:
    """Build the files."""
    os.environ["SOURCE_DATE_EPOCH"] = "0"
    from binq import build

    with tempfile.TemporaryDirectory() as place:
        source = Path(place) / "corpus.jsonl"
        with source.open("w", encoding="utf-8") as file:
            for name, vector in zip(ids(), corpus().tolist(), strict=True):
                file.write(json.dumps({"id": name, "embedding": vector}) + "\n")
        for name, options in BUILDS.items():
            build(source, Path(sys.argv[1]) / name, threads=1, **options)


if __name__ == "__main__":
    main()
