"""``binq query --text``: which model answers, what is refused, and a co-process of questions."""

from __future__ import annotations

import json
import os
import select
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from endpoints import FakeEndpoint

import binq
from binq.encoders import BUILT_IN
from binq.errors import InputError, UsageError

pytestmark = pytest.mark.slow

pytest.importorskip("model2vec")

Cli = Callable[..., Any]
SAMPLES = Path(__file__).parents[2] / "sample_data"
QUESTION = "My dough rips when I stretch it"


def _rows(name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (SAMPLES / name).read_text().splitlines()]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hold passages, questions and their indexes: floats, signs of floats, fingerprints."""
    place = tmp_path_factory.mktemp("text")
    passages = SAMPLES / "passages.jsonl"
    binq.encode(passages, place / "p.parquet")
    binq.encode(SAMPLES / "questions.jsonl", place / "q.parquet", role="query")
    binq.build(place / "p.parquet", place / "p.binq", rescore="int8")
    binq.encode(passages, place / "u.parquet", precision="ubinary")
    binq.build(place / "u.parquet", place / "u.binq")
    for method in ("simhash", "minhash"):
        binq.encode(passages, place / f"{method}.parquet", model=f"{method}:256")
        binq.build(place / f"{method}.parquet", place / f"{method}.binq")
    vectors = pq.read_table(place / "p.parquet")["embedding"].combine_chunks().flatten()
    np.save(place / "bare.npy", vectors.to_numpy().reshape(-1, 256))
    binq.build(place / "bare.npy", place / "bare.binq")
    return place


def test_the_record_travels_into_the_index(place: Path) -> None:
    model = binq.describe(place / "p.binq")["model"]
    assert model["binq.model"] == BUILT_IN
    assert len(model["binq.revision"]) == 32
    assert (model["binq.dim"], model["binq.normalized"]) == ("256", "true")
    assert model["binq.prompt.query"] == ""
    model = binq.describe(place / "simhash.binq")["model"]
    assert model["binq.model"] == "simhash:256"
    assert (model["binq.layout"], model["binq.bits"]) == ("ubinary", "256")


def test_text_finds_what_its_vector_finds(cli: Cli, place: Path) -> None:
    questions = _rows("questions.jsonl")[:3]
    words = [word for question in questions for word in ("--text", question["text"])]
    for index in ("p.binq", "u.binq"):
        by_text = cli("query", place / index, *words, "-k", 5).lines
        assert [line["query"] for line in by_text] == [0, 1, 2]
        assert [line["text"] for line in by_text] == [question["text"] for question in questions]
        if index == "p.binq":
            by_vector = cli("query", place / index, place / "q.parquet", "-k", 5).lines[:3]
        else:
            binq.encode(
                SAMPLES / "questions.jsonl", place / "qu.parquet", role="query", precision="ubinary"
            )
            by_vector = cli("query", place / index, place / "qu.parquet", "-k", 5).lines[:3]
        # A float may differ in its last digit with the batch it was computed in.
        for one, other in zip(by_text, by_vector, strict=True):
            assert [h["id"] for h in one["hits"]] == [h["id"] for h in other["hits"]]
            assert "text" not in other


def test_every_format_takes_text(cli: Cli, place: Path, tmp_path: Path) -> None:
    words = ["query", place / "p.binq", "--text", QUESTION, "-k", 1]
    assert cli(*words, "--format", "tsv").out.startswith("0\t1\tcook-01\t")
    assert cli(*words, "--format", "trec").out.startswith("0 Q0 cook-01 1 ")
    assert "cook-01" in cli(*words, "--format", "table").out
    cli(*words, "-o", tmp_path / "hits.parquet")
    assert pq.read_table(tmp_path / "hits.parquet")["id"].to_pylist() == ["cook-01"]


def test_stdin_asks_a_question_a_line(cli: Cli, place: Path) -> None:
    said = f"\n{QUESTION}\r\n   \nwhere do glaciers come from".encode()
    lines = cli("query", place / "p.binq", "--text", "-", "-k", 1, stdin=said).lines
    assert [line["query"] for line in lines] == [0, 1, 2, 3]
    assert [line.get("text") for line in lines] == [
        None,
        QUESTION,
        None,
        "where do glaciers come from",
    ]
    assert [len(line["hits"]) for line in lines] == [0, 1, 0, 1]
    assert cli("query", place / "p.binq", "--text", "-", stdin=b"").out == ""
    bad = cli("query", place / "p.binq", "--text", "-", "-k", 1, stdin=b"good\n\xff\n", code=3)
    assert "stdin line 2" in bad.err
    assert len(bad.lines) == 1
    words = ["query", place / "p.binq", "--text", "-", "-k", 1, "--on-error", "skip"]
    skipped = cli(*words, stdin=b"\xff\ngood\n\n", code=3).lines
    assert [line["query"] for line in skipped] == [0, 1, 2]
    assert skipped[0]["error"]["message"] == "question is not UTF-8: stdin line 1"
    assert [line["text"] for line in skipped[1:2]] == ["good"]
    assert skipped[2] == {"query": 2, "hits": []}


def test_a_co_process_answers_every_question_at_once(place: Path, start: Any) -> None:
    words = ["query", place / "p.binq", "--text", "-", "-k", 1]
    with start(*words, stdin=subprocess.PIPE) as process:
        for number in range(3):
            process.stdin.write(f"{QUESTION} {number}\n".encode())
            process.stdin.flush()
            limit = time.monotonic() + 60
            answer = b""
            while not answer.endswith(b"\n") and time.monotonic() < limit:
                if select.select([process.stdout], [], [], 1)[0]:
                    answer += os.read(process.stdout.fileno(), 1 << 16)
            line = json.loads(answer)
            assert (line["query"], line["text"]) == (number, f"{QUESTION} {number}")
        process.stdin.close()
        assert process.wait(30) == 0


@pytest.mark.parametrize("method", ["simhash", "minhash"])
def test_near_duplicates_within_a_radius(cli: Cli, place: Path, method: str) -> None:
    passage = _rows("passages.jsonl")[0]
    whole = f"{passage['title']} {passage['text']}"
    words = ["query", place / f"{method}.binq", "--radius", 60, "--text"]
    (line,) = cli(*words, whole.upper().replace(",", "")).lines
    assert [(hit["id"], hit["distance"]) for hit in line["hits"]] == [(passage["_id"], 0)]
    (line,) = cli(*words, whole.replace("half an hour", "thirty minutes")).lines
    assert [hit["id"] for hit in line["hits"]] == [passage["_id"]]
    assert 0 < line["hits"][0]["distance"] <= 60
    (line,) = cli(*words, "Nothing of the sort was ever written down anywhere.").lines
    assert line["hits"] == []


def test_a_model_that_has_to_be_named(cli: Cli, tmp_path: Path, endpoint: FakeEndpoint) -> None:
    docs, index = tmp_path / "d.parquet", tmp_path / "d.binq"
    (tmp_path / "d.txt").write_text("alpha\nbeta\ngamma\n")
    model = f"{endpoint.url}#m"
    cli("encode", tmp_path / "d.txt", "-o", docs, "--model", model)
    cli("build", docs, "-o", index, "--rescore", "float32")
    asked = len(endpoint.requests)
    refused = cli("query", index, "--text", "beta", code=3)
    assert "give --model with what stands for m here" in refused.err
    assert len(endpoint.requests) == asked
    (line,) = cli("query", index, "--text", "beta", "--model", model, "-k", 1).lines
    assert line["hits"][0]["id"] == 1
    assert line["hits"][0]["score"] == pytest.approx(1)
    endpoint.faults = [(500, {}, b"oops")]
    told = cli("query", index, "--text", "beta", "--model", model, "-k", 1).err
    assert told == "binq: warning: the endpoint is asked again in 1 s: 500: oops\n"
    other = ["query", index, "--text", "beta", "--model", f"{endpoint.url}#n", "-k", 1]
    assert "expected m, got n" in cli(*other, code=3).err
    assert cli(*other, "--force").lines[0]["hits"][0]["id"] == 1
    # Of another dimension: not even --force makes them comparable.
    wrong = ["query", index, "--text", "beta", "--model", BUILT_IN, "--force"]
    assert "another dimension" in cli(*wrong, code=3).err


def test_unknown_origin(cli: Cli, place: Path) -> None:
    refused = cli("query", place / "bare.binq", "--text", QUESTION, code=2)
    assert "name it with --model" in refused.err
    words = ["query", place / "bare.binq", "-k", 3]
    by_text = cli(*words, "--text", QUESTION, "--model", BUILT_IN).lines
    assert by_text[0]["hits"][0]["id"] == 0
    # Floats of unknown origin, and floats against an index of unknown origin, are accepted.
    cli("query", place / "p.binq", place / "bare.npy", "-k", 1)
    cli("query", place / "bare.binq", place / "q.parquet", "-k", 1)


def test_vectors_of_another_model_are_refused(cli: Cli, place: Path, tmp_path: Path) -> None:
    table = pq.read_table(place / "q.parquet")
    other = table.replace_schema_metadata({**table.schema.metadata, b"binq.model": b"theirs"})
    metadata = dict(other.schema.metadata) | {b"binq.revision": b"1"}
    pq.write_table(other.replace_schema_metadata(metadata), tmp_path / "q.parquet")
    qrels = ["--qrels", SAMPLES / "passages.qrels.tsv"]
    truth = ["--truth", place / "p.parquet"]
    for words in (
        ["query", place / "p.binq", tmp_path / "q.parquet"],
        ["eval", place / "p.binq", tmp_path / "q.parquet", *qrels],
        ["eval", place / "p.binq", tmp_path / "q.parquet", *truth],
    ):
        refused = cli(*words, code=3)
        assert f"expected {BUILT_IN}, got theirs" in refused.err
        cli(*words, "--force")
    table = pq.read_table(place / "p.parquet")
    pq.write_table(table.replace_schema_metadata(metadata), tmp_path / "p.parquet")
    words = ["eval", place / "p.binq", place / "q.parquet", "--truth", tmp_path / "p.parquet"]
    assert "p.parquet: expected" in cli(*words, code=3).err
    cli(*words, "--force")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "QUERIES or --text"),
        (["q.parquet", "--text", "x"], "QUERIES or --text"),
        (["--text", " "], "blank"),
        (["--text", "a \udcff b"], "not valid Unicode: --text"),
        (["--text", "x", "--prompt", "\udcff"], "not valid Unicode: --prompt"),
        (["--text", "x", "--column", "c"], "--column"),
        (["--text", "x", "--packed", "lsb"], "--packed"),
        (["q.parquet", "--model", BUILT_IN], "--model goes with --text"),
        (["--text", "x", "--device", "cuda"], "--device"),
        (["--text", "x", "--threads", "0"], "--threads"),
    ],
)
def test_usage(cli: Cli, place: Path, words: list[str], message: str) -> None:
    words = [str(place / word) if word.endswith(".parquet") else word for word in words]
    assert message in cli("query", place / "p.binq", *words, code=2).err


def test_a_record_never_makes_anything_be_loaded(
    cli: Cli, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = pq.read_table(place / "p.parquet")
    for name in ("org/model", str(tmp_path), "http://127.0.0.1:9/v1#m", "model2vec:org/m"):
        metadata = {b"binq.model": name.encode()}
        pq.write_table(table.replace_schema_metadata(metadata), tmp_path / "p.parquet")
        cli("build", tmp_path / "p.parquet", "-o", tmp_path / "p.binq")
        with monkeypatch.context() as patch:
            patch.setattr("binq.encoders.loading.load_encoder", None)
            refused = cli("query", tmp_path / "p.binq", "--text", "x", code=3)
        assert "has to be named" in refused.err


def test_the_library_says_the_same(place: Path) -> None:
    index = binq.open(place / "p.binq")
    ((ids, hits, texts),) = binq.query(index, text=[QUESTION], k=2)
    assert (ids, texts, hits[0].ids[0][0]) == ([0], [QUESTION], "cook-01")
    ((_, again, _),) = binq.query(index, text=QUESTION, k=2)
    np.testing.assert_array_equal(again[0].rows, hits[0].rows)
    with pytest.raises(UsageError):
        next(iter(binq.query(index)))
    with pytest.raises(InputError):
        next(iter(binq.query(index, text="x", model="simhash:256")))


def test_the_ladder_loses_nothing_that_counts(cli: Cli, place: Path) -> None:
    """nDCG@10 of codes with rescoring is that of the model's floats, within 0.01."""
    words = ["eval", place / "p.binq", place / "q.parquet", "-k", 10, "--json"]
    words += ["--qrels", SAMPLES / "passages.qrels.tsv"]
    ladder = cli(*words, "--oversample", 10).json["metrics"]["nDCG@10"]["value"]
    relevant: dict[str, dict[str, int]] = {}
    for line in (SAMPLES / "passages.qrels.tsv").read_text().splitlines()[1:]:
        query, passage, grade = line.split("\t")
        relevant.setdefault(query, {})[passage] = int(grade)
    docs, queries = (pq.read_table(place / name) for name in ("p.parquet", "q.parquet"))
    floats = [
        table["embedding"].combine_chunks().flatten().to_numpy().reshape(-1, 256)
        for table in (queries, docs)
    ]
    names = np.array(docs["id"].to_pylist())
    discounts = 1 / np.log2(np.arange(2, 12))
    values = []
    for query, scores in zip(queries["id"].to_pylist(), floats[0] @ floats[1].T, strict=True):
        grades = relevant[query]
        gains = [grades.get(name, 0) for name in names[np.argsort(-scores, kind="stable")[:10]]]
        best = sorted(grades.values(), reverse=True)[:10]
        values.append(np.dot(gains, discounts) / np.dot(best, discounts[: len(best)]))
    assert abs(ladder - np.mean(values)) < 0.01
    # The measure tells good from bad: bits alone are worse.
    bits = cli(*words, "--rescore", "none").json["metrics"]["nDCG@10"]["value"]
    assert 0.4 < bits < ladder - 0.02
