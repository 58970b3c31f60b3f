"""What holds of every kind of index that looks at a part of its rows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from cli.kinds import DIM, EVERY, Cli, built
from corpora import gaussian


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_skipped_rows_and_filters(kind: str, cli: Cli, asked: Path, tmp_path: Path) -> None:
    """Dead rows, and filters that let nothing through, one row, all, and ids that are unknown."""
    rows = [
        {"id": f"r{row}", "embedding": ["x"] if row % 7 == 0 else vector}
        for row, vector in enumerate(gaussian(300, DIM).tolist())
    ]
    source = tmp_path / "v.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    paths = built(cli, tmp_path, kind, source, "--on-error", "skip", "--rescore", "int8")
    alive = [row["id"] for number, row in enumerate(rows) if number % 7]
    filters = {"none": ["r0", "unknown"], "one": ["r1"], "all": alive, "half": alive[::2]}
    for name, ids in filters.items():
        (tmp_path / name).write_text("".join(f"{text}\n" for text in ids))
        allowed = [text for text in ids if text in alive]
        for words in (("-k", 9), ("-k", 500), ("--radius", 18), ("-k", 3, "--oversample", "auto")):
            own = () if words[0] == "--radius" else EVERY[kind]
            filtered = (*words, "--filter-ids", tmp_path / name)
            flat = cli("query", paths[0], asked, *filtered)
            assert cli("query", paths[1], asked, *filtered, *own).out == flat.out
            if words[0] == "-k":
                few = cli("query", paths[1], asked, *filtered, "--target-recall", 0.5).lines
                for line in few:
                    assert len(line["hits"]) == min(words[1], len(allowed))
                    assert {hit["id"] for hit in line["hits"]} <= set(allowed)
        rest = cli("query", paths[1], asked, "-k", 500, "--exclude-ids", tmp_path / name).lines
        assert {len(line["hits"]) for line in rest} == {len(alive) - len(allowed)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "method"),
    [("ivf", "sign"), ("ivf", "learned"), ("hnsw", "sign"), ("hnsw", "rabitq")],
)
def test_the_same_bytes_at_any_number_of_threads(
    kind: str, method: str, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    vectors = gaussian(3000, DIM)
    vectors[1000:1900] = vectors[:900]
    np.save(tmp_path / "v.npy", vectors)
    written = set()
    for threads in (1, 2, 3):
        path = tmp_path / f"{threads}.binq"
        words = ("--kind", kind, "--method", method, "--threads", threads)
        cli("build", tmp_path / "v.npy", "-o", path, *words)
        written.add(path.read_bytes())
    assert len(written) == 1
