"""Hits in every output format, read back by other means."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from binq.cli import formats as results
from binq.errors import InputError, UsageError
from binq.search.hits import Hits


class Names:
    """Ids as an index gives them."""

    def __init__(self, *names: str) -> None:
        self.names = names

    def __getitem__(self, row: int) -> str:
        return self.names[row]


def hits(*names: str, scores: list[float] | None = None) -> Hits:
    count = len(names)
    rows = np.arange(count, dtype=np.int64)[None]
    values = np.array([scores or [-float(n) for n in range(count)]])
    return Hits(rows, rows.astype(np.int32), values, Names(*names))  # type: ignore[arg-type]


def rows_only(count: int) -> Hits:
    rows = np.arange(count, dtype=np.int64)[None]
    return Hits(rows, rows.astype(np.int32), 0.0 - rows, None)


def text(answers: Any, shape: Any) -> str:
    sink = io.BytesIO()
    results.write(answers, shape, sink)
    return sink.getvalue().decode()


NASTY = "a\tb\nc\\d é\u2028"


def test_jsonl() -> None:
    found = text([(["q1", NASTY], [hits("x", NASTY), hits()]), ([7], [rows_only(1)])], "jsonl")
    assert [json.loads(line) for line in found.split("\n")[:-1]] == [
        {
            "query": "q1",
            "hits": [
                {"rank": 1, "id": "x", "distance": 0, "score": 0.0},
                {"rank": 2, "id": NASTY, "distance": 1, "score": -1.0},
            ],
        },
        {"query": NASTY, "hits": []},
        {"query": 7, "hits": [{"rank": 1, "id": 0, "distance": 0, "score": 0.0}]},
    ]


def test_jsonl_is_json_whatever_a_damaged_vectors_give() -> None:
    found = text([(["q"], [hits("x", "y", scores=[float("nan"), float("-inf")])])], "jsonl")
    entries = json.loads(found, parse_constant=pytest.fail)["hits"]
    assert [entry["score"] for entry in entries] == [None, None]


def test_tsv() -> None:
    found = text([([NASTY], [hits("x", NASTY, scores=[0.1 + 0.2, -1.0])])], "tsv")
    escaped = "a\\tb\\nc\\\\d é\u2028"
    assert found == f"{escaped}\t1\tx\t0.30000000000000004\n{escaped}\t2\t{escaped}\t-1.0\n"


def test_trec() -> None:
    found = text([(["q1"], [hits("x", "y", scores=[0.5, 0.25])]), ([3], [rows_only(1)])], "trec")
    assert found == "q1 Q0 x 1 0.5 binq\nq1 Q0 y 2 0.25 binq\n3 Q0 0 1 0.0 binq\n"


@pytest.mark.parametrize("name", ["a b", "a\tb", "a\n", "", "a\u00a0b", "\u2003"])
def test_trec_cannot_hold_white_space(name: str) -> None:
    for answers in ([(["q"], [hits(name)])], [([name], [hits("x")])]):
        with pytest.raises(InputError, match="white space"):
            text(answers, "trec")


@pytest.mark.parametrize("ids", [[["q1", "q2"], ["q3"]], [[0, 1], [2]]])
def test_parquet(ids: list[Any]) -> None:
    answers = [(ids[0], [hits("x", "y"), hits()]), (ids[1], [hits("z")])]
    sink = io.BytesIO()
    results.write(answers, "parquet", sink)
    table = pq.read_table(pa.BufferReader(sink.getvalue()))
    assert table.to_pydict() == {
        "query": [ids[0][0], ids[0][0], ids[1][0]],
        "rank": [1, 2, 1],
        "id": ["x", "y", "z"],
        "distance": [0, 1, 0],
        "score": [0.0, -1.0, 0.0],
    }


def test_nothing_in_every_format() -> None:
    for shape in ("jsonl", "tsv", "trec"):
        assert text([], shape) == ""
    sink = io.BytesIO()
    results.write([], "parquet", sink)
    table = pq.read_table(pa.BufferReader(sink.getvalue()))
    assert table.column_names == ["query", "rank", "id", "distance", "score"]
    assert len(table) == 0


def test_every_batch_is_flushed() -> None:
    class Sink(io.BytesIO):
        flushed = 0

        def flush(self) -> None:
            self.flushed += 1

    sink = Sink()

    def batches() -> Any:
        for number in range(3):
            assert sink.flushed == number
            yield [number], [rows_only(1)]

    results.write(batches(), "jsonl", sink)
    assert sink.flushed == 3


def test_table() -> None:
    rows = list(results.table_rows([(["q"], [hits("x", scores=[0.123456])])]))
    assert results.COLUMNS == ("query", "rank", "id", "distance", "score")
    assert rows == [("q", "1", "x", "0", "0.1235")]


@pytest.mark.parametrize(
    ("wanted", "output", "terminal", "shape"),
    [
        (None, None, True, "table"),
        (None, None, False, "jsonl"),
        (None, "-", False, "jsonl"),
        (None, "a.tsv", True, "tsv"),
        (None, "a.RUN", True, "trec"),
        (None, "a.parquet", True, "parquet"),
        (None, "a.ndjson", False, "jsonl"),
        ("tsv", "a.jsonl", False, "tsv"),
        ("tsv", "a.unknown", False, "tsv"),
        ("parquet", None, False, "parquet"),
    ],
)
def test_choice_of_format(wanted: Any, output: Any, terminal: bool, shape: str) -> None:
    assert results.choose_format(wanted, output, terminal) == shape


@pytest.mark.parametrize(
    ("wanted", "output", "terminal"),
    [(None, "a.xyz", False), (None, "a", True), ("parquet", None, True), ("parquet", "-", True)],
)
def test_no_format(wanted: Any, output: Any, terminal: bool) -> None:
    with pytest.raises(UsageError):
        results.choose_format(wanted, output, terminal)


RECORDS = [{"query": NASTY, "recall@1": 0.5}, {"query": "b", "recall@1": None}]


def test_records(tmp_path: Path) -> None:
    for suffix in ("jsonl", "tsv", "csv", "parquet"):
        results.record_writer(tmp_path / f"r.{suffix}")[0](RECORDS)
    lines = (tmp_path / "r.jsonl").read_text("utf-8").split("\n")
    assert [json.loads(line) for line in lines[:-1]] == RECORDS
    assert pq.read_table(tmp_path / "r.parquet").to_pylist() == RECORDS
    for suffix, delimiter in (("tsv", "\t"), ("csv", ",")):
        with (tmp_path / f"r.{suffix}").open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file, delimiter=delimiter))
        assert rows == [{"query": NASTY, "recall@1": "0.5"}, {"query": "b", "recall@1": ""}]
    with pytest.raises(UsageError):
        results.record_writer(tmp_path / "r.xlsx")


def test_interrupted_parquet_is_silent() -> None:
    """What complained when it was collected, behind the end of its file, fails the test."""

    def answers() -> Iterator[Any]:
        yield ["q"], [rows_only(2)]
        raise KeyboardInterrupt

    with suppress(KeyboardInterrupt), io.BytesIO() as sink:
        results.write(answers(), "parquet", sink)
