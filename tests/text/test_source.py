from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from binq.errors import EnvironmentFailure, InputError, UsageError
from binq.text.source import TextSource, batched
from binq.types import TextFormat


def _read(path: Any, **options: Any) -> list[tuple[str | int | None, str]]:
    return [(text.id, text.text) for text in TextSource(path, **options)]


def _file(tmp_path: Path, name: str, content: str | bytes) -> Path:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_beir_jsonl_joins_title_and_text(tmp_path: Path) -> None:
    path = _file(
        tmp_path,
        "corpus.jsonl",
        '{"_id": "a", "title": "T", "text": "x y", "metadata": {}}\n'
        "\n"
        '{"_id": 7, "title": "", "text": "z"}\r\n'
        '{"_id": "c", "text": "no title"}',
    )
    assert _read(path) == [("a", "T x y"), (7, "z"), ("c", "no title")]
    assert [text.where for text in TextSource(path)][1] == f"{path}: line 3"


def test_id_goes_before_underscore_id_as_in_a_build(tmp_path: Path) -> None:
    lines = '{"_id": "a", "id": "b", "text": "x"}\n'
    assert _read(_file(tmp_path, "a.jsonl", lines)) == [("b", "x")]
    assert _read(_file(tmp_path, "a.csv", "_id,id,text\na,b,x\n")) == [("b", "x")]


def test_the_id_is_found_as_in_a_build(tmp_path: Path) -> None:
    header = "key,uri,uuid,doc_id,_id,id,text\n"
    for count in range(6):
        names = header.split(",")[count:]
        row = ",".join(f"{name} 1" for name in names[:-1])
        found = _read(_file(tmp_path, "a.csv", ",".join(names) + row + ",x\n"))
        assert found == [("id 1", "x")]
        assert _read(tmp_path / "a.csv", id_column="") == [(None, "x")]
    lines = '{"id": null, "_id": true, "uri": "u", "key": 1, "text": "x"}\n'
    assert _read(_file(tmp_path, "a.jsonl", lines)) == [("u", "x")]
    # The text is no id, even if it is called as one.
    assert _read(_file(tmp_path, "b.csv", "key,n\nx,1\n"), text_column="key") == [(None, "x")]
    path = tmp_path / "a.parquet"
    stored = pa.array([bytes(16), bytes(range(16))], pa.binary(16))
    texts = ["00000000-0000-0000-0000-000000000000", "00010203-0405-0607-0809-0a0b0c0d0e0f"]
    table = pa.table({"text": ["x", "y"], "id": [0.5, 1], "uuid": stored, "name": ["n", "m"]})
    for columns, index, ids in (
        (["text", "id", "uuid", "name"], None, texts),
        (["text", "id", "name"], "name", ["n", "m"]),
        (["text", "id", "name"], None, [None, None]),
    ):
        metadata = {"pandas": json.dumps({"index_columns": [index]})} if index else None
        pq.write_table(table.select(columns).replace_schema_metadata(metadata), path)
        source = TextSource(path)
        assert [text.id for text in source] == ids
        assert source.could_be_ids == (None if ids[0] else ["name"])


def test_a_title_may_first_come_in_a_later_row(tmp_path: Path) -> None:
    path = _file(tmp_path, "a.jsonl", '{"text": "x"}\n{"title": "T", "text": "y"}\n')
    assert _read(path) == [(None, "x"), (None, "T y")]


def test_named_columns_are_taken_as_they_are(tmp_path: Path) -> None:
    path = _file(tmp_path, "a.jsonl", '{"k": 1, "title": "T", "text": "x", "note": "n"}\n')
    assert _read(path, text_column="text", id_column="k") == [(1, "x")]
    assert _read(path, text_column="note,title") == [(None, "n T")]


@pytest.mark.parametrize(("suffix", "mark"), [(".csv", ","), (".tsv", "\t")])
def test_delimited_files(tmp_path: Path, suffix: str, mark: str) -> None:
    rows = ["id,text,other", '1,"a, ""quoted""\nline",x', "2,b,y", ""]
    content = "\n".join(row.replace(",", mark) if i != 1 else row for i, row in enumerate(rows))
    content = content.replace('1,"a', f'1{mark}"a').replace('",x', f'"{mark}x')
    path = _file(tmp_path, "a" + suffix, b"\xef\xbb\xbf" + content.encode())
    assert _read(path) == [("1", 'a, "quoted"\nline'), ("2", "b")]
    assert [text.where for text in TextSource(path)] == [f"{path}: line 2", f"{path}: line 4"]


def test_the_only_column_of_strings_is_the_text(tmp_path: Path) -> None:
    path = _file(tmp_path, "a.jsonl", '{"id": 3, "abstract": "x", "year": 1999}\n')
    assert _read(path) == [(3, "x")]


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())]
)
def test_parquet(tmp_path: Path, kind: pa.DataType) -> None:
    path = tmp_path / "a.parquet"
    texts = pa.array(["x", "y", "x"], pa.string()).cast(kind)
    table = pa.table({"id": [10, 11, 12], "text": texts, "n": [1.0, 2.0, 3.0]})
    pq.write_table(table, path, row_group_size=2)
    assert _read(path) == [(10, "x"), (11, "y"), (12, "x")]
    # The contents count and not the suffix.
    path.rename(tmp_path / "a.bin")
    assert len(_read(tmp_path / "a.bin")) == 3


def test_plain_lines_keep_blank_ones(tmp_path: Path) -> None:
    assert _read(_file(tmp_path, "a.txt", "one\n\n three \n")) == [
        (None, "one"),
        (None, ""),
        (None, " three "),
    ]
    assert _read(_file(tmp_path, "empty.txt", "")) == []


def test_standard_input() -> None:
    assert _read("-", stdin=io.BytesIO(b"a\nb")) == [(None, "a"), (None, "b")]
    line = json.dumps({"_id": "q", "text": "t"}).encode()
    assert _read("-", stdin=io.BytesIO(line)) == [("q", "t")]
    assert _read("-", stdin=io.BytesIO(b"text,id\nt,1\n"), kind="csv") == [("1", "t")]
    assert _read("-", stdin=io.BytesIO(b'{"not": "json"'), kind="lines") == [
        (None, '{"not": "json"')
    ]


def test_several_files_in_order_and_again(tmp_path: Path) -> None:
    paths = [_file(tmp_path, f"{i}.txt", f"{i}\n") for i in range(3)]
    source = TextSource(paths)
    assert [text.text for text in source] == ["0", "1", "2"]
    assert [text.text for text in source] == ["0", "1", "2"]
    assert source.fraction == 1.0


def test_the_fraction_grows(tmp_path: Path) -> None:
    path = _file(tmp_path, "a.txt", "line\n" * 100)
    source = TextSource(path)
    fractions = [source.fraction for _ in source]
    assert fractions == sorted(fractions)
    assert fractions[49] == pytest.approx(0.5, abs=0.02)
    assert TextSource("-").fraction is None


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"text": "x"}\n{"text": 3}\n', "line 2: expected a string, got int"),
        ("a.jsonl", '{"text": "x"}\n{"body": "y"}\n', "line 2: expected a string, got nothing"),
        ("a.jsonl", '{"text": null}\n', "line 1: expected a string, got null"),
        ("a.jsonl", '{"n": 1}\n', "no column holds text"),
        ("a.jsonl", '{"text": "x", "id": 1}\n{"text": "x", "id": true}\n', "got bool"),
        ("a.jsonl", '{"text": "x"\n', "not JSON.*line 1"),
        ("a.jsonl", "[1, 2]\n", "not an object.*line 1"),
        ("a.jsonl", '{"a": "x", "b": "y"}\n', "several columns.*a, b.*text_column"),
        ("a.jsonl", '{"text": "\\ud800"}\n', "surrogate"),
        ("a.jsonl", "[" * 100_000, "not JSON"),
        ("a.csv", "text,id\nx\n", "line 2: expected 2, got 1"),
        ("a.csv", "text,text\nx,y\n", "not unique"),
        ("a.csv", 'text\n"x\n', "not well-formed"),
        ("a.txt", b"ok\n\xff\xfe\n", "not UTF-8.*line 2"),
        ("a.txt", b"\x1f\x8b\x08rest", "compressed"),
        ("a.parquet", b"PAR1 and then nothing", "damaged"),
    ],
)
def test_bad_input_names_file_and_row(
    tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    path = _file(tmp_path, name, content)
    with pytest.raises(InputError, match=message) as caught:
        _read(path)
    assert name in str(caught.value)


def test_a_first_row_whose_text_is_none_is_what_is_wrong(tmp_path: Path) -> None:
    path = _file(tmp_path, "a.jsonl", '{"id": 1, "text": 3}\n{"id": 2, "text": "x"}\n')
    with pytest.raises(InputError, match=r"text is not a text.*line 1 \(id 1\): .*got int"):
        _read(path)
    assert [text.id for text in TextSource(path).read() if text.fault is None] == [2]


def test_parquet_rows_that_cannot_be_used(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"id": [1, 2], "text": ["x", None]}), path)
    with pytest.raises(InputError, match=r"row 1 \(id 2\): expected a string, got null"):
        _read(path)
    with pytest.raises(InputError, match="no such column"):
        _read(path, text_column="body")
    with pytest.raises(InputError, match="not a Parquet file"):
        _read(_file(tmp_path, "b.txt", "x"), kind="parquet")


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        _read(tmp_path / "none.jsonl")
    with pytest.raises((InputError, EnvironmentFailure), match="directory"):
        _read(tmp_path)


def test_ids_in_some_files_only(tmp_path: Path) -> None:
    paths = [
        _file(tmp_path, "a.jsonl", '{"id": "1", "text": "x"}\n'),
        _file(tmp_path, "b.jsonl", '{"text": "x"}\n'),
    ]
    with pytest.raises(InputError, match="some have none"):
        _read(paths)


def test_contradictions(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        TextSource([])
    with pytest.raises(UsageError):
        TextSource(["-", "a"])
    with pytest.raises(UsageError):
        TextSource("a", text_column="a,,b")
    wrong: Any = "xml"
    with pytest.raises(UsageError):
        TextSource("a", kind=wrong)
    lines: TextFormat = "lines"
    with pytest.raises(UsageError, match="no columns"):
        _read(_file(tmp_path, "a.txt", "x"), kind=lines, text_column="text")


def test_batches_are_bounded_by_rows_and_by_characters(tmp_path: Path) -> None:
    path = _file(tmp_path, "a.txt", "\n".join(["x" * 10] * 5 + ["y" * 100] * 2))
    assert [len(batch) for batch in batched(TextSource(path), 4, 1000)] == [4, 3]
    assert [len(batch) for batch in batched(TextSource(path), 4, 30)] == [3, 3, 1]


@pytest.mark.slow
def test_a_line_without_end_is_the_fault_of_its_row(tmp_path: Path) -> None:
    content = b'"one"\n"' + b"x" * (65 << 20) + b'"\n"two"\n'
    for name in ("a.txt", "a.jsonl"):
        found = list(TextSource(_file(tmp_path, name, content)).read())
        assert [text.fault is None for text in found] == [True, False, True]
        assert "too long" in str(found[1].fault)
        assert f"{name}: line 2" in str(found[1].fault)
    with pytest.raises(InputError, match=r"too long.*line 2"):
        list(TextSource(_file(tmp_path, "a.csv", content)).read())
