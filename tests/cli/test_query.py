"""``binq query``: formats, refusals, and a co-process that answers every line at once."""

from __future__ import annotations

import json
import os
import select
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import naive
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corpora import debris, gaussian, write_jsonl

import binq

Cli = Callable[..., Any]
VECTORS, QUERIES = gaussian(300, 48), gaussian(12, 48, seed=1)


def best(k: int) -> list[list[int]]:
    """Return the rows that a Hamming scan finds."""
    codes, probes = naive.pack(VECTORS > 0), naive.pack(QUERIES > 0)
    return [[row for _, row in naive.topk(codes, probe, k)] for probe in probes]


def test_jsonl_is_the_default_in_a_pipe(cli: Cli, index: Path, queries: Path) -> None:
    found = cli("query", index, queries, "--rescore", "none").lines
    assert [line["query"] for line in found] == list(range(12))
    assert [[hit["id"] for hit in line["hits"]] for line in found] == best(10)
    assert set(found[0]["hits"][0]) == {"rank", "id", "distance", "score"}
    assert [hit["rank"] for hit in found[0]["hits"]] == list(range(1, 11))
    assert all(hit["score"] == -hit["distance"] for hit in found[0]["hits"])


def test_rescored(cli: Cli, index: Path, queries: Path, corpus: Path) -> None:
    by_payload = cli("query", index, queries, "-k", 5, "--oversample", 60).lines
    by_file = cli(
        "query", index, queries, "-k", 5, "--oversample", 60, "--rescore-from", corpus
    ).lines
    for number, line in enumerate(by_payload):
        expected = naive.neighbours(QUERIES[number], VECTORS, 5, "cosine")
        assert [hit["id"] for hit in line["hits"]] == expected
        assert [hit["id"] for hit in by_file[number]["hits"]] == expected


def test_every_format(cli: Cli, index: Path, queries: Path, tmp_path: Path) -> None:
    flat = [row for line in best(3) for row in line]
    words = ["query", index, queries, "-k", 3, "--rescore", "none"]
    rows = [line.split("\t") for line in cli(*words, "--format", "tsv").out.splitlines()]
    assert [int(row[2]) for row in rows] == flat
    assert [row[1] for row in rows] == ["1", "2", "3"] * 12
    run_file = [line.split() for line in cli(*words, "--format", "trec").out.splitlines()]
    assert [int(row[2]) for row in run_file] == flat
    assert all(row[1] == "Q0" and row[5] == "binq" for row in run_file)
    (tmp_path / "stdout.parquet").write_bytes(cli(*words, "--format", "parquet").raw)
    assert pq.read_table(tmp_path / "stdout.parquet")["id"].to_pylist() == flat
    assert "distance" in cli(*words, "--format", "table").out
    for suffix in ("jsonl", "tsv", "trec", "parquet"):
        cli(*words, "-o", tmp_path / f"out.{suffix}")
        there = cli(*words, "--format", suffix).raw
        if suffix != "parquet":
            assert (tmp_path / f"out.{suffix}").read_bytes() == there
    cli(*words, "-o", tmp_path / "out.txt")
    assert "distance" in (tmp_path / "out.txt").read_text()
    cli(*words, "-o", "-", "--format", "tsv")
    assert not debris(tmp_path)


def test_radius(cli: Cli, index: Path, queries: Path) -> None:
    codes, probes = naive.pack(VECTORS > 0), naive.pack(QUERIES > 0)
    found = cli("query", index, queries, "--radius", 18).lines
    for number, line in enumerate(found):
        expected = naive.within(codes, probes[number], 18)
        assert [(hit["distance"], hit["id"]) for hit in line["hits"]] == expected
    few = cli("query", index, queries, "--radius", 18, "-k", 2).lines
    assert [line["hits"] for line in few] == [line["hits"][:2] for line in found]
    assert all(not line["hits"] for line in cli("query", index, queries, "--radius", 0).lines)


@pytest.mark.parametrize("k", [2**31, 2**63, 10**30])
def test_a_huge_k(cli: Cli, index: Path, queries: Path, k: int) -> None:
    assert all(len(line["hits"]) == 300 for line in cli("query", index, queries, "-k", k).lines)


def test_packed_queries(cli: Cli, index: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "q.npy", np.packbits(QUERIES > 0, axis=1))
    words = ["query", index, tmp_path / "q.npy"]
    found = cli(*words, "--packed", "ubinary").lines
    assert [[hit["id"] for hit in line["hits"]] for line in found] == best(10)
    assert "--packed" in cli(*words, code=3).err
    cli(*words, "--packed", "ubinary", "--rescore", "float32", code=2)
    cli(*words, "--packed", "ubinary", "--rescore-from", tmp_path / "q.npy", code=2)
    cli(*words, "--packed", "binary", code=3)
    np.save(tmp_path / "q.npy", np.zeros((2, 7), np.uint8))
    cli(*words, "--packed", "ubinary", code=3)


def test_exit_codes(cli: Cli, index: Path, queries: Path, tmp_path: Path) -> None:
    for words, code in [
        (["-k", 0], 2),
        (["-k", -1], 2),
        (["--radius", -1], 2),
        (["--radius", 9, "--oversample", 4], 2),
        (["--radius", 9, "--scoring", "asymmetric"], 2),
        (["--oversample", 0.5], 2),
        (["--rescore", "int4"], 2),
        (["--rescore", "int8"], 3),
        (["--rescore-from", tmp_path / "none.npy"], 3),
        (["--rescore-from", queries], 3),
        (["--column", "x"], 3),
        (["-o", tmp_path / "out.xyz"], 2),
        (["-o", tmp_path / "none" / "out.tsv"], 5),
        (["-o", tmp_path], 2),
    ]:
        assert cli("query", index, queries, *words, code=code).out == ""
    assert not debris(tmp_path)
    cli("query", tmp_path / "none", queries, code=4)
    cli("query", queries, queries, code=4)
    cli("query", index, tmp_path / "none.npy", code=3)
    np.save(tmp_path / "wide.npy", gaussian(2, 49))
    cli("query", index, tmp_path / "wide.npy", code=3)
    np.save(tmp_path / "zero.npy", np.zeros((2, 48), np.float32))
    assert "row 0" in cli("query", index, tmp_path / "zero.npy", code=3).err


def test_no_queries(cli: Cli, run: Cli, index: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "q.npy", np.empty((0, 48), np.float32))
    assert cli("query", index, tmp_path / "q.npy").out == ""
    assert run("query", index, "-", stdin=b"").out == ""


def test_ids_that_a_run_file_cannot_hold(cli: Cli, tmp_path: Path) -> None:
    corpus = write_jsonl(tmp_path / "c.jsonl", gaussian(3, 8), ["a b", "c\td", "e"])
    binq.build(corpus, tmp_path / "i.binq")
    assert (
        "white space" in cli("query", tmp_path / "i.binq", corpus, "--format", "trec", code=3).err
    )
    cli("query", tmp_path / "i.binq", corpus, "-o", tmp_path / "out.trec", code=3)
    assert not (tmp_path / "out.trec").exists()
    found = cli("query", tmp_path / "i.binq", corpus, "--format", "tsv").out
    assert "c\\td" in found


def answer(process: subprocess.Popen[bytes], lines: int, seconds: float = 60) -> list[Any]:
    """Read whole lines of answers; fail where they do not come while the input stays open."""
    data, deadline = b"", time.monotonic() + seconds
    assert process.stdout is not None
    while data.count(b"\n") < lines:
        ready, _, _ = select.select([process.stdout], [], [], max(0, deadline - time.monotonic()))
        if not ready:
            pytest.fail(f"no answer: {data!r}")
        part = os.read(process.stdout.fileno(), 1 << 20)
        assert part, process.stderr.read() if process.stderr else ""
        data += part
    return [json.loads(line) for line in data.splitlines()]


@pytest.mark.parametrize("words", [[], ["--rescore", "none"], ["--radius", "15"]])
def test_co_process(start: Cli, index: Path, words: list[str]) -> None:
    with start("query", index, "-", *words, stdin=subprocess.PIPE) as process:
        for number, query in enumerate(QUERIES.tolist()[:5]):
            line = json.dumps({"id": f"q{number}", "embedding": query}).encode()
            process.stdin.write(line[:40])  # a line in two halves is no line yet
            process.stdin.flush()
            process.stdin.write(line[40:] + b"\n")
            process.stdin.flush()
            [found] = answer(process, 1)
            assert found["query"] == f"q{number}"
        both = [json.dumps(query).encode() for query in QUERIES.tolist()[5:8]]
        process.stdin.write(
            b"".join(b'{"id": "x", "embedding": ' + query + b"}\n" for query in both) + b'{"id'
        )
        process.stdin.flush()
        assert len(answer(process, 3)) == 3  # all complete lines, whatever follows
        process.stdin.close()
        assert process.wait(60) == 3  # the last line was not whole
        assert "Traceback" not in process.stderr.read().decode()


def test_co_process_that_sends_something_bad(start: Cli, index: Path) -> None:
    with start("query", index, "-", stdin=subprocess.PIPE) as process:
        process.stdin.write(json.dumps(QUERIES[0].tolist()).encode() + b"\n")
        process.stdin.flush()
        answer(process, 1)  # what was answered stands
        process.stdin.write(b"[1, 2]\n")
        process.stdin.flush()
        assert process.wait(60) == 3
        assert len(process.stderr.read().splitlines()) == 1


def test_co_process_lives_on(start: Cli, index: Path) -> None:
    """Every line is answered at once, whatever it is, and the next one is waited for."""
    good = json.dumps(QUERIES[0].tolist()).encode()
    lines = (
        b"[1, 2]",
        good,
        b"",
        b"\xff\xfe",
        good,
        b"{",
        b"null",
        b"[" + b"0," * 47 + b"0]",
        good,
    )
    with start("query", index, "-", "--on-error", "skip", stdin=subprocess.PIPE) as process:
        for number, line in enumerate(lines):
            process.stdin.write(line + b"\n")
            process.stdin.flush()
            [found] = answer(process, 1)
            assert found["query"] == number
            if line == good:
                assert len(found["hits"]) == 10
            elif line:
                assert found["error"]["code"] == 3
                assert found["error"]["line"] == number + 1
                assert f"line {number + 1}" in found["error"]["message"]
            else:
                assert found == {"query": number, "hits": []}
        process.stdin.close()
        assert process.wait(60) == 3
        assert b"5 of 9 queries could not be used" in process.stderr.read()


BAD = {
    "ragged": b"[1, 2]",
    "null": b'{"id": "n", "embedding": null}',
    "NaN": b'{"id": "n", "embedding": [NaN%s]}' % (b", 1" * 47),
    "infinite": b'{"id": "n", "embedding": [1e999%s]}' % (b", 1" * 47),
    "zero": b'{"id": "n", "embedding": [0%s]}' % (b", 0" * 47),
    "not JSON": b"[1, 2",
    "not UTF-8": b'{"id": "\xff", "embedding": []}',
}


@pytest.mark.slow
@pytest.mark.torture
@pytest.mark.parametrize("words", [[], ["--radius", "20"]])
def test_answers_stay(cli: Cli, index: Path, tmp_path: Path, words: list[str]) -> None:
    """What is before an unusable query is answered, and with skip what is behind it as well."""
    good = [
        json.dumps({"id": f"q{number}", "embedding": query}).encode()
        for number, query in enumerate(QUERIES.tolist())
    ]
    path = tmp_path / "q.jsonl"
    path.write_bytes(b"\n".join(good))
    whole = cli("query", index, path, *words).lines
    for what, bad in BAD.items():
        for place in (0, 5, 12):
            path.write_bytes(b"\n".join([*good[:place], bad, *good[place:]]) + b"\n")
            for source, stdin in ((path, None), ("-", path.read_bytes())):
                stopped = cli("query", index, source, *words, stdin=stdin, code=3)
                assert stopped.lines == whole[:place], what
                assert f"row {place} line {place + 1}" in stopped.err
                skipped = cli(
                    *("query", index, source, *words, "--on-error", "skip"), stdin=stdin, code=3
                ).lines
                assert skipped[:place] + skipped[place + 1 :] == whole
                assert skipped[place]["query"] == ("n" if b'"n"' in bad else place)
                assert skipped[place]["error"]["line"] == place + 1


@pytest.mark.parametrize("bad", [0, 6, 12])
def test_answers_stay_of_arrays(cli: Cli, index: Path, tmp_path: Path, bad: int) -> None:
    vectors = np.insert(QUERIES, bad, 0, axis=0)
    path = tmp_path / "q.npy"
    np.save(path, vectors)
    np.save(tmp_path / "good.npy", QUERIES)
    whole = [line["hits"] for line in cli("query", index, tmp_path / "good.npy").lines]
    for source, stdin in ((path, None), ("-", path.read_bytes())):
        stopped = cli("query", index, source, stdin=stdin, code=3)
        assert [line["hits"] for line in stopped.lines] == whole[:bad]
        assert f"row {bad}" in stopped.err
        lines = cli("query", index, source, "--on-error", "skip", stdin=stdin, code=3).lines
        assert [line["query"] for line in lines] == list(range(13))
        assert [line["hits"] for line in lines if "hits" in line] == whole
        assert lines[bad]["error"]["line"] == bad + 1


def test_skipped_queries_in_every_format(cli: Cli, index: Path, tmp_path: Path) -> None:
    path = tmp_path / "q.npy"
    np.save(path, np.insert(QUERIES, 3, np.nan, axis=0))
    numbers = [number for number in range(13) if number != 3]
    words = ["query", index, path, "-k", 1, "--on-error", "skip"]
    for shape in ("tsv", "trec"):
        done = cli(*words, "--format", shape, code=3)
        assert [int(line.split()[0]) for line in done.out.splitlines()] == numbers
        assert "1 of 13 queries could not be used: the first is" in done.err
    cli(*words, "-o", tmp_path / "h.parquet", code=3)  # it is whole, and there
    assert pq.read_table(tmp_path / "h.parquet")["query"].to_pylist() == numbers
    stopped = ["query", index, path, "-k", 1]
    table = cli(*stopped, "--format", "table", code=3).out
    assert len([line for line in table.splitlines() if line.startswith("│")]) == 3
    cut = cli(*stopped, "--format", "parquet", code=3).raw
    assert pq.read_table(pa.BufferReader(cut))["query"].to_pylist() == [0, 1, 2]
    for name in ("t.txt", "t.jsonl", "t.parquet"):
        cli(*stopped, "-o", tmp_path / name, code=3)
        assert not (tmp_path / name).exists()


def test_blank_lines_are_answered(cli: Cli, index: Path, tmp_path: Path) -> None:
    line = json.dumps(QUERIES[0].tolist())
    path = tmp_path / "q.jsonl"
    path.write_text(f"\n{line}\n \t\n{line}\n\n")
    found = cli("query", index, path).lines
    assert [entry["query"] for entry in found] == list(range(5))
    assert [len(entry["hits"]) for entry in found] == [0, 10, 0, 10, 0]
    assert cli("query", index, "-", stdin=path.read_bytes()).lines == found
    assert len(cli("query", index, path, "--format", "tsv").out.splitlines()) == 20


def test_a_terminal_is_told_what_is_awaited(start: Cli, index: Path) -> None:
    ours, theirs = os.openpty()
    with start("query", index, "-", stdin=theirs) as process:
        os.write(ours, b"\x04")  # one end is enough
        out, err = process.communicate(timeout=60)
    os.close(ours)
    os.close(theirs)
    assert (process.returncode, out) == (0, b"")
    assert err.decode() == (
        "binq: reading queries from the terminal: one JSON array or object a line; "
        "end with Ctrl-D\n"
    )


def test_queries_as_npy_from_a_pipe(run: Cli, index: Path, queries: Path) -> None:
    found = run("query", index, "-", "--rescore", "none", stdin=queries.read_bytes()).lines
    assert [[hit["id"] for hit in line["hits"]] for line in found] == best(10)


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs Linux's /proc")
def test_memory_of_a_large_index(start: Cli, tmp_path: Path) -> None:
    """200,000 codes of 768 bits are mapped, and not read into memory."""
    rng = np.random.default_rng(0)
    np.save(tmp_path / "c.npy", rng.integers(0, 256, (200_000, 96), np.uint8))
    binq.build(tmp_path / "c.npy", tmp_path / "i.binq", packed="ubinary", method="sign")
    np.save(tmp_path / "q.npy", gaussian(1000, 768))
    out = tmp_path / "out.jsonl"
    most = 0
    with start("query", tmp_path / "i.binq", tmp_path / "q.npy", "-o", out) as process:
        while process.poll() is None:
            try:
                status = Path(f"/proc/{process.pid}/status").read_text()
            except OSError:
                break
            found = [line.split()[1] for line in status.splitlines() if "RssAnon" in line]
            most = max(most, *map(int, found), 0)
            time.sleep(0.005)
        assert process.wait(60) == 0
    assert len(out.read_text().splitlines()) == 1000
    assert 10_000 < most < 250_000  # kB
