"""Indexes of lists through the commands: every edge answers as a scan of all rows does."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cli.kinds import DIM, EVERY, built
from corpora import gaussian, write_jsonl

Cli = Callable[..., Any]


def agree(cli: Cli, paths: list[Path], queries: Path, *words: object) -> Any:
    """Require the same answers of both, all lists probed; return them."""
    flat = cli("query", paths[0], queries, *words).out
    assert cli("query", paths[1], queries, *words, *EVERY["ivf"]).out == flat
    return [json.loads(line) for line in flat.splitlines()]


@pytest.mark.slow
def test_corpora_that_fill_no_lists(cli: Cli, asked: Path, tmp_path: Path) -> None:
    """No row, one, equal ones, fewer distinct ones than lists, fewer rows than lists, one list."""
    row = gaussian(1, DIM)
    corpora: list[tuple[np.ndarray, tuple[object, ...]]] = [
        (row[:0], ()),
        (row[:0], ("--nlist", 50)),
        (row, ()),
        (np.tile(row, (70, 1)), ()),
        (gaussian(3, DIM)[np.arange(70) % 3], ("--nlist", 40)),
        (gaussian(60, DIM), ("--nlist", 65_536)),
        (gaussian(60, DIM), ("--nlist", 1)),
    ]
    for vectors, lists in corpora:
        np.save(tmp_path / "v.npy", vectors)
        paths = built(cli, tmp_path, "ivf", tmp_path / "v.npy", own=lists)
        for k in (1, 7, 1000):
            hits = agree(cli, paths, asked, "-k", k)
            assert [len(line["hits"]) for line in hits] == [min(k, len(vectors))] * 5
            for effort in ((), ("--nprobe", 1), ("--target-recall", 0.5)):
                lines = cli("query", paths[1], asked, "-k", k, *effort).lines
                assert [len(line["hits"]) for line in lines] == [min(k, len(vectors))] * 5
        flat, ivf = (cli("query", path, asked, "--radius", 17).out for path in paths)
        assert flat == ivf


def test_every_row_bad(cli: Cli, tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.full((20, DIM), np.nan, np.float32))
    path = tmp_path / "i.binq"
    asymmetric = ("--scoring", "asymmetric", "--metric", "l2")
    for how in ((), ("--rescore", "float16"), asymmetric):
        words = ("--kind", "ivf", "--on-error", "skip", *how)
        found = cli("build", tmp_path / "v.npy", "-o", path, *words, code=3)
        assert "no row can be used" in found.err
        assert not path.exists()


@pytest.mark.slow
def test_packed_and_truncated_queries(cli: Cli, asked: Path, tmp_path: Path) -> None:
    vectors, queries = gaussian(500, DIM), np.load(asked)
    np.save(tmp_path / "v.npy", vectors)
    np.save(tmp_path / "bits.npy", np.packbits(vectors > 0, axis=1))
    np.save(tmp_path / "qbits.npy", np.packbits(queries > 0, axis=1))
    bits = ("--packed", "ubinary")
    for how in ((), ("--method", "sign")):
        paths = built(cli, tmp_path, "ivf", tmp_path / "bits.npy", *bits, *how)
        packed = agree(cli, paths, tmp_path / "qbits.npy", *bits)
        some = cli("query", paths[1], tmp_path / "qbits.npy", *bits).lines
        assert [len(line["hits"]) for line in some] == [10] * 5
    assert agree(cli, paths, asked) == packed

    learned = ("--method", "learned", "--rescore", "float16")
    paths = built(cli, tmp_path, "ivf", tmp_path / "v.npy", *learned, "--truncate-dim", 24)
    refused = cli("query", paths[1], tmp_path / "qbits.npy", *bits, "--bits", 24, code=2)
    assert refused.err.count("\n") == 1
    np.save(tmp_path / "qbits.npy", np.packbits(queries[:, :24] > 0, axis=1))
    refused = cli("query", paths[1], tmp_path / "qbits.npy", *bits, code=2)
    assert refused.err.startswith("binq: error: codes of method learned")
    assert refused.err.count("\n") == 1
    np.save(tmp_path / "short.npy", queries[:, :24])
    for words in ((asked,), (tmp_path / "short.npy", "--rescore", "codes")):
        agree(cli, paths, *words)  # type: ignore[arg-type]
    agree(cli, paths, asked, "--rescore-from", tmp_path / "v.npy", "--oversample", 2)


def test_streams_of_queries(cli: Cli, tmp_path: Path) -> None:
    """A stream that breaks off, and what follows, is answered line by line as a flat index does."""
    vectors = gaussian(400, DIM)
    source = write_jsonl(tmp_path / "v.jsonl", vectors, [f"r{row}" for row in range(400)])
    paths = built(cli, tmp_path, "ivf", source, "--rescore", "float32")
    lines = [json.dumps(vector) for vector in gaussian(3, DIM, seed=5).tolist()]
    stream = f"{lines[0]}\n\n[1, 2]\n{lines[1]}\n{lines[2]}\n".encode()
    skip = ("--on-error", "skip")
    flat = cli("query", paths[0], "-", *skip, stdin=stream, code=3)
    ivf = cli("query", paths[1], "-", *skip, *EVERY["ivf"], stdin=stream, code=3)
    assert ivf.out == flat.out
    assert ivf.out.count("\n") == 5


def test_eval_leaves_a_query_out_of_its_own_answers(cli: Cli, tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "v.jsonl", gaussian(300, DIM), [f"r{n}" for n in range(300)])
    paths = built(cli, tmp_path, "ivf", source, "--rescore", "int8")
    words = (source, "--truth", source, "--exclude-self", "-k", "1,10", "--json")
    flat, ivf = (cli("eval", path, *words).json["metrics"] for path in paths)
    assert 0 < ivf["recall@10"]["value"] <= flat["recall@10"]["value"]
    all_of = cli("eval", paths[1], *words, *EVERY["ivf"]).json["metrics"]
    assert all_of["recall@10"] == flat["recall@10"]


def test_what_does_not_go_together(cli: Cli, asked: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", gaussian(100, DIM))
    paths = built(cli, tmp_path, "ivf", tmp_path / "v.npy")
    for effort in (("--nprobe", 3), ("--target-recall", 0.9)):
        refused = cli("query", paths[0], asked, *effort, code=2)
        assert refused.err.startswith("binq: error: a flat index looks at every row")
        cli("query", paths[1], asked, *effort, "--radius", 3, code=2)
    cli("query", paths[1], asked, "--nprobe", 3, "--target-recall", 0.9, code=2)
    for effort in (
        ("--nprobe", 0),
        ("--nprobe", -1),
        ("--target-recall", 0),
        ("--target-recall", 1),
    ):
        cli("query", paths[1], asked, *effort, code=2)
    for words in (("--nlist", 3), ("--check-queries", asked)):
        cli("build", tmp_path / "v.npy", "-o", tmp_path / "x.binq", *words, code=2)
    for count in (0, 65_537):
        words = ("--kind", "ivf", "--nlist", count)
        cli("build", tmp_path / "v.npy", "-o", tmp_path / "x.binq", *words, code=2)
    assert not (tmp_path / "x.binq").exists()


def test_check_queries_that_cannot_be_used(cli: Cli, tmp_path: Path) -> None:
    """None, of another width, bits where floats are wanted, and none in the half that is used."""
    vectors = gaussian(100, DIM)
    bits = np.packbits(vectors > 0, axis=1)
    one = gaussian(1, DIM)
    files = {"v": vectors, "b": bits, "wide": gaussian(9, DIM + 1), "none": gaussian(0, DIM)}
    files |= {"nan": np.full((9, DIM), np.nan, np.float32), "one": one, "few": gaussian(9, DIM)}
    for name, array in files.items():
        np.save(tmp_path / f"{name}.npy", array)
    column = pa.array([bytes(row) for row in bits], pa.binary(DIM // 8))
    pq.write_table(pa.table({"embedding": column}), tmp_path / "b.parquet")
    packed = ("--packed", "ubinary")
    for source, queries, words in (
        ("v.npy", "wide.npy", ()),
        ("v.npy", "none.npy", ()),
        ("v.npy", "nan.npy", ()),
        ("v.npy", "one.npy", ()),
        ("v.npy", "b.npy", ()),
        ("v.npy", "b.parquet", ()),
        ("v.npy", "b.parquet", ("--method", "learned")),
        ("v.npy", "b.parquet", ("--bits", 8, "--method", "lsh")),
        ("b.npy", "few.npy", packed),
    ):
        words = ("--kind", "ivf", "--check-queries", tmp_path / queries, *words)
        refused = cli("build", tmp_path / source, "-o", tmp_path / "i.binq", *words, code=3)
        assert refused.err.startswith("binq: error: ")
        assert queries in refused.err
        assert refused.err.count("\n") == 1
    assert not (tmp_path / "i.binq").exists()
    for queries, how in (("b.npy", ()), ("b.npy", ("--method", "sign"))):
        words = ("--kind", "ivf", "--check-queries", tmp_path / queries, *packed, *how)
        cli("build", tmp_path / "b.npy", "-o", tmp_path / "i.binq", *words)
        found = cli("info", tmp_path / "i.binq", "--json").json["calibration"]
        assert found["from"] == "queries"
