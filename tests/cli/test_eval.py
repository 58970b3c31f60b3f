"""``binq eval``: documents, tables, floors, rows per query."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from corpora import gaussian, write_jsonl

Cli = Callable[..., Any]


@pytest.fixture
def words(index: Path, queries: Path, corpus: Path) -> list[object]:
    return ["eval", index, queries, "--truth", corpus]


def test_json(cli: Cli, words: list[object]) -> None:
    found = cli(*words, "-k", "1,10", "--json").json
    assert found["schema"] == "binq.eval/1"
    assert (found["n"], found["queries"], found["bits"]) == (300, 12, 48)
    assert (found["rescore"], found["oversample"], found["k"]) == ("float32", 4.0, [1, 10])
    assert set(found["metrics"]) == {
        f"{name}@{k}" for name in ("recall", "candidate_recall") for k in (1, 10)
    }
    assert set(found["metrics"]["recall@10"]) == {"value", "low", "high"}
    assert found["latency_ms"]["median"] > 0
    assert found["latency_ms"]["p95"] >= found["latency_ms"]["median"]
    plain = cli(*words, "--rescore", "none", "--json").json
    assert set(plain["metrics"]["recall_expected@10"]) == {"value", "std"}
    assert plain["k"] == [1, 10, 100]


def test_table(cli: Cli, words: list[object]) -> None:
    found = cli(*words)
    assert "recall@100" in found.out
    assert "300 rows, 12 queries, 48 bits (sign)" in found.out.replace("\n", " ")
    assert found.err == ""


def test_floors(cli: Cli, words: list[object]) -> None:
    whole = [*words, "-k", "1", "--oversample", "300"]
    cli(*whole, "--fail-under", "recall@1=1.0")
    found = cli(*whole, "--fail-under", "recall@1=1.5", "--json", code=6)
    assert found.json["metrics"]["recall@1"]["value"] == 1.0  # the answer is still given
    assert "recall@1 is too low: expected at least 1.5, got 1.0000" in found.err
    cli(*whole, "--fail-under", "recall@1=0.5", "--fail-under", "candidate_recall@1=2", code=6)
    cli(*whole, "--fail-under", "recall@10=0.5", code=2)
    cli(*whole, "--fail-under", "recall@1", code=2)
    cli(*whole, "--fail-under", "nDCG@1=0.5", code=2)
    # Before any work: nothing there is read.
    refused = cli(
        "eval", "no.binq", "no.npy", "--truth", "no", "--fail-under", "recal@10=1", code=2
    )
    assert "recal@10=1: expected one of recall, candidate_recall" in refused.err


def test_rows_per_query(cli: Cli, words: list[object], tmp_path: Path) -> None:
    cli(*words, "-k", 10, "--json", "--per-query", tmp_path / "rows.jsonl")
    cli(*words, "-k", 10, "--per-query", tmp_path / "rows.csv")
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert [row["query"] for row in rows] == list(range(12))
    mean = sum(row["recall@10"] for row in rows) / 12
    found = cli(*words, "-k", 10, "--json").json["metrics"]["recall@10"]
    assert found["value"] == pytest.approx(mean)
    with (tmp_path / "rows.csv").open(newline="") as file:
        again = [float(row["recall@10"]) for row in csv.DictReader(file)]
    assert again == [row["recall@10"] for row in rows]
    cli(*words, "--per-query", tmp_path / "rows.xlsx", code=2)


def test_cache(cli: Cli, words: list[object], tmp_path: Path) -> None:
    cache = tmp_path / "truth.npz"
    first = cli(*words, "--cache-truth", cache, "--json").json["metrics"]
    assert cache.exists()
    assert cli(*words, "--cache-truth", cache, "--json").json["metrics"] == first
    cli(*words, "--cache-truth", tmp_path / "none" / "truth.npz", code=5)
    refused = cli(*words, "--truth", tmp_path / "none", "--cache-truth", "-", code=2)
    assert "--cache-truth cannot go to stdout" in refused.err


def test_qrels(cli: Cli, tmp_path: Path) -> None:
    pytest.importorskip("ir_measures")
    vectors = gaussian(20, 16)
    corpus = write_jsonl(tmp_path / "c.jsonl", vectors, [f"d{n}" for n in range(20)])
    queries = write_jsonl(tmp_path / "q.jsonl", vectors[:2], ["a", "b"])
    cli("build", corpus, "-o", tmp_path / "i.binq")
    (tmp_path / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\na\td0\t1\nb\td1\t1\n")
    words = ["eval", tmp_path / "i.binq", queries, "--qrels", tmp_path / "qrels.tsv", "--json"]
    found = cli(*words, "-k", "10", "--fail-under", "nDCG@10=1").json["metrics"]
    assert set(found) == {"nDCG@10", "R@10", "RR@10", "AP@10"}
    assert found["RR@10"]["value"] == 1.0
    both = cli(*words, "--truth", corpus, "-k", "10").json["metrics"]
    assert {"recall@10", "nDCG@10"} <= set(both)
    cli("eval", tmp_path / "i.binq", queries, "--qrels", tmp_path / "none", code=3)


@pytest.fixture
def lists(cli: Cli, corpus: Path, tmp_path: Path) -> Path:
    path = tmp_path / "lists.binq"
    cli("build", corpus, "-o", path, "--kind", "ivf", "--nlist", 20)
    return path


def test_lists_need_no_truth(cli: Cli, lists: Path, queries: Path, tmp_path: Path) -> None:
    found = cli("eval", lists, queries, "-k", "1,10", "--nprobe", 2)
    words = " ".join(found.out.replace("\n", " ").split())
    assert "recall_scan@10" in words
    assert "recall_scan: the share of hits that are no worse than the last hit" in words
    assert "% of rows scanned" in words
    assert found.err == ""
    rows = tmp_path / "rows.jsonl"
    options = ("-k", 10, "--nprobe", 2, "--json", "--per-query", rows)
    found = cli("eval", lists, queries, *options, "--fail-under", "recall_scan@10=1", code=6)
    document = found.json
    assert (document["kind"], document["nprobe"], document["schema"]) == ("ivf", 2, "binq.eval/1")
    value = document["metrics"]["recall_scan@10"]["value"]
    told = [json.loads(line)["recall_scan@10"] for line in rows.read_text().splitlines()]
    assert value == pytest.approx(sum(told) / 12)
    assert 0 < value < 1
    assert f"recall_scan@10 is too low: expected at least 1.0, got {value:.4f}" in found.err
    assert cli("eval", lists, queries, "--json").json["target_recall"] == 0.95
    # Of a curve, what is read once serves every effort.
    truth = ("--truth", "-", "--nprobe", "1,20", "-k", "1,10", "--json")
    curve = cli("eval", lists, queries, *truth, stdin=(tmp_path / "corpus.npy").read_bytes()).json
    assert [(point["nprobe"], point["k"]) for point in curve["curve"]] == [
        (nprobe, k) for nprobe in (1, 20) for k in (1, 10)
    ]
    assert curve["curve"][3]["metrics"]["recall_scan@10"]["value"] == 1
    few = ("--filter-ids", "-", "--nprobe", "1,20", "-k", 1, "--json")
    assert cli("eval", lists, queries, *few, stdin=b"3\n4\n").json["allowed"] == 2


def test_a_curve(cli: Cli, lists: Path, queries: Path, corpus: Path, tmp_path: Path) -> None:
    words = ("eval", lists, queries, "--truth", corpus, "-k", "1,10")
    for option, values in (("--nprobe", "1,4,20"), ("--target-recall", "0.5,0.9")):
        found = cli(*words, option, values)
        assert found.err == ""
        name = option[2:].replace("-", " ")
        for word in (*values.split(","), name, "all rows", "recall_scan", "queries/s", "k = 10"):
            assert word in " ".join(found.out.split()), word
        assert max(map(len, found.out.splitlines())) <= 80
    if find_spec("matplotlib"):
        cli(*words, "--nprobe", "1,4", "--plot", tmp_path / "c.png")
        assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")


def test_what_goes_with_no_curve(cli: Cli, lists: Path, queries: Path, tmp_path: Path) -> None:
    words = ("eval", lists, queries, "-k", 10)
    several = (*words, "--nprobe", "1,2")
    rows, plot = tmp_path / "rows.jsonl", tmp_path / "c.png"
    for wrong, said in (
        ((*several, "--fail-under", "recall_scan@10=0.5"), "--fail-under goes with one value"),
        ((*several, "--per-query", rows), "--per-query goes with one value"),
        ((*words, "--nprobe", "2,2", "--plot", plot), "--plot goes with several values"),
        ((*words, "--nprobe", "1,x"), "not whole numbers: --nprobe"),
        ((*words, "--target-recall", "high"), "not numbers: --target-recall"),
        ((*words, "--target-recall", "0.5,1.5"), "out of range: --target-recall"),
        ((*several, "--target-recall", "0.9"), "both say how far to look"),
        ((*words, "--fail-under", "recall@10=1"), "give --truth"),
        (("query", lists, queries, "--nprobe", "1,2"), "--nprobe"),
        (("query", lists, queries, "--target-recall", "0.8,0.9"), "--target-recall"),
    ):
        refused = cli(*wrong, code=2)
        assert said in refused.err
        assert refused.out == ""
    assert not rows.exists()
    assert not plot.exists()


def test_exit_codes(cli: Cli, words: list[object], queries: Path, tmp_path: Path) -> None:
    cli(*words[:3], code=2)  # neither truth nor qrels
    cli(*words, "-k", "0", code=2)
    cli(*words, "-k", "", code=2)
    cli(*words, "-k", "1,,2", code=2)
    cli("eval", tmp_path / "none", *words[2:], code=4)
    scan = cli(*words, "--fail-under", "recall_scan@10=1", code=2).err
    assert "an index that scans every row has none" in scan
    cli(*words[:3], "--truth", queries, code=3)
    cli(*words[:3], "--truth", tmp_path / "none", code=3)
    cli(*words, "--exclude-self", "-k", 1)
    assert not (tmp_path / "truth.npz").exists()
