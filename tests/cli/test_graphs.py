"""Indexes with a graph through the commands: every edge answers as a scan of all rows does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli.kinds import DIM, EVERY, built
from corpora import gaussian

Cli = Callable[..., Any]


@pytest.mark.slow
def test_corpora_that_are_hardly_a_graph(cli: Cli, asked: Path, tmp_path: Path) -> None:
    """No row, one, equal ones, fewer distinct ones than neighbours, and the extremes of m."""
    row = gaussian(1, DIM)
    corpora: list[tuple[np.ndarray, tuple[object, ...]]] = [
        (row[:0], ()),
        (row, ()),
        (np.tile(row, (70, 1)), ()),
        (gaussian(3, DIM)[np.arange(70) % 3], ("--m", 1)),
        (gaussian(60, DIM), ("--m", 128, "--ef-construction", 4096)),
        (gaussian(60, DIM), ("--m", 1, "--ef-construction", 1)),
    ]
    for vectors, graph in corpora:
        np.save(tmp_path / "v.npy", vectors)
        paths = built(cli, tmp_path, "hnsw", tmp_path / "v.npy", own=graph)
        told = cli("info", paths[1], "--json").json["graph"]
        assert told["unreachable"] == 0
        assert told["nodes"] == len(np.unique(vectors, axis=0))
        for k in (1, 7, 1000):
            flat = cli("query", paths[0], asked, "-k", k).out
            assert cli("query", paths[1], asked, "-k", k, *EVERY["hnsw"]).out == flat
            for effort in ((), ("--ef", 1), ("--target-recall", 0.5)):
                lines = cli("query", paths[1], asked, "-k", k, *effort).lines
                assert [len(line["hits"]) for line in lines] == [min(k, len(vectors))] * 5
        flat, hnsw = (cli("query", path, asked, "--radius", 17).out for path in paths)
        assert flat == hnsw


@pytest.mark.slow
def test_scans_and_rescoring_beside_flat(cli: Cli, asked: Path, tmp_path: Path) -> None:
    """Bits, floats, asymmetric scans and every way of sorting candidates: as a flat index does."""
    np.save(tmp_path / "v.npy", gaussian(400, DIM))
    bits = np.packbits(gaussian(400, DIM) > 0, axis=1)
    np.save(tmp_path / "b.npy", bits)
    packed = ("--packed", "ubinary")
    paths = built(cli, tmp_path, "hnsw", tmp_path / "b.npy", *packed)
    np.save(tmp_path / "qb.npy", bits[:5])
    flat = cli("query", paths[0], tmp_path / "qb.npy", *packed).out
    assert cli("query", paths[1], tmp_path / "qb.npy", *packed, "--ef", 400).out == flat
    for how in (
        ("--metric", "l2", "--scoring", "asymmetric"),
        ("--metric", "ip", "--method", "rabitq", "--rescore", "float16"),
        ("--method", "itq", "--bits", 32),
    ):
        paths = built(cli, tmp_path, "hnsw", tmp_path / "v.npy", *how)
        for words in (
            (),
            ("--rescore", "none"),
            ("--rescore-from", tmp_path / "v.npy"),
            ("-k", 90, "--rescore", "none"),
        ):
            flat = cli("query", paths[0], asked, *words).out
            assert cli("query", paths[1], asked, *words, *EVERY["hnsw"]).out == flat
            assert cli("query", paths[1], asked, *words).out == flat  # scanned: rows are few


def test_what_does_not_go_together(cli: Cli, asked: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", gaussian(100, DIM))
    paths = built(cli, tmp_path, "hnsw", tmp_path / "v.npy")
    cli("build", tmp_path / "v.npy", "-o", tmp_path / "ivf.binq", "--kind", "ivf")
    for path, option, said in (
        (paths[0], "--ef", "a flat index looks at every row, whatever the effort"),
        (tmp_path / "ivf.binq", "--ef", "an index of lists has no graph: --ef"),
        (paths[1], "--nprobe", "an index with a graph has no lists: --nprobe"),
    ):
        for command in (("query",), ("eval", "--truth", tmp_path / "v.npy")):
            refused = cli(*command, path, asked, option, 3, code=2)
            assert said in refused.err
    for words in (
        ("--ef", 3, "--radius", 3),
        ("--ef", 3, "--target-recall", 0.9),
        ("--ef", 3, "--nprobe", 3),
        ("--ef", 0),
        ("--ef", -1),
    ):
        cli("query", paths[1], asked, *words, code=2)
    kept = tmp_path / "x.binq"
    for words, said in (
        (("--m", 3), "an index of kind flat has no graph: --m; say --kind hnsw"),
        (("--ef-construction", 3, "--kind", "ivf"), "an index of kind ivf has no graph"),
        (("--nlist", 3, "--kind", "hnsw"), "an index of kind hnsw has no lists"),
        (("--check-queries", asked), "say --kind ivf or --kind hnsw"),
        (("--m", 0, "--kind", "hnsw"), "no such number: --m: expected 1 to 128, got 0"),
        (("--m", 129, "--kind", "hnsw"), "no such number: --m"),
        (("--ef-construction", 4097, "--kind", "hnsw"), "no such number: --ef-construction"),
        (("--method", "learned", "--kind", "hnsw"), "such as itq or ste, got learned"),
    ):
        refused = cli("build", tmp_path / "v.npy", "-o", kept, *words, code=2)
        assert said in refused.err
    fitted = tmp_path / "fitted.npz"
    learned = ("--method", "learned", "--save-binarizer", fitted)
    cli("binarize", tmp_path / "v.npy", "-o", tmp_path / "codes.npy", *learned)
    words = ("--binarizer", fitted, "--kind", "hnsw")
    assert "itq or ste" in cli("build", tmp_path / "v.npy", "-o", kept, *words, code=2).err
    assert not kept.exists()


@pytest.mark.slow
def test_curves_and_what_is_told(cli: Cli, tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.concatenate([gaussian(3000, 80), gaussian(20, 80)]))
    np.save(tmp_path / "q.npy", gaussian(60, 80, seed=1))
    source, asked, path = tmp_path / "v.npy", tmp_path / "q.npy", tmp_path / "i.binq"
    cli("build", source, "-o", path, "--kind", "hnsw", "--m", 6)
    found = cli("eval", path, asked, "-k", "10", "--ef", "10,40,3000", "--json").json
    curve = found["curve"]
    assert [point["ef"] for point in curve] == [10, 40, 3000]
    recalls = [point["metrics"]["recall_scan@10"]["value"] for point in curve]
    assert recalls == sorted(recalls)
    # Few neighbours, little effort, and directions that have nothing in common.
    assert 0.3 < recalls[0] < recalls[-1] == 1
    scanned = [point["scanned"] for point in curve]
    assert 0 < scanned[0] < scanned[1] < 1
    table = cli("eval", path, asked, "-k", "10", "--ef", "10,40").out
    assert "recall_scan" in table
    # However the table breaks its lines.
    told = " ".join(cli("info", path).out.replace("│", " ").split())
    for words in ("3,000 distinct codes", "of up to 12", "stood in for queries", "all reachable"):
        assert words in told
