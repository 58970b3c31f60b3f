from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from binq.bits import unpack
from binq.errors import InputError, UsageError
from binq.types import LAYOUTS, Layout
from binq.vectors import Batch, open_vectors
from binq.vectors.source import VectorSource


def piped(text: str | bytes, **options: Any) -> VectorSource:
    data = text.encode() if isinstance(text, str) else text
    return open_vectors("-", stdin=io.BytesIO(data), **options)


def rows_of(source: VectorSource, max_rows: int | None = None) -> list[list[float]]:
    return [row for batch in source.batches(max_rows) for row in batch.vectors.tolist()]


def ids_of(source: VectorSource, max_rows: int | None = None) -> list[str | int]:
    return [row_id for batch in source.batches(max_rows) for row_id in batch.id_list or []]


def test_objects_with_ids(tmp_path: Path) -> None:
    path = tmp_path / "v.jsonl"
    path.write_text('{"id": "a", "embedding": [1, 2.5]}\n{"id": 7, "embedding": [-3e1, 0]}\n')
    with open_vectors(path) as source:
        assert (source.dim, source.rows, source.has_ids, source.rewindable) == (2, None, True, True)
        for _ in range(2):
            (batch,) = source.batches()
            assert batch.vectors.dtype == np.float32
            assert batch.vectors.tolist() == [[1, 2.5], [-30, 0]]
            assert batch.ids == ["a", 7]
        assert source.rows == 2
        assert source.take(np.array([1])).tolist() == [[-30, 0]]
        assert source.describe()[0]["rows"] == 2
        with pytest.raises(InputError, match="no such row"):
            source.take(np.array([2]))


def test_bare_arrays_blank_lines_windows_lines_and_a_byte_order_mark() -> None:
    source = piped(b"\xef\xbb\xbf[1, 2]\r\n\r\n  \n[3, 4]\n\n[5, 6]")
    assert (source.dim, source.rows, source.has_ids, source.rewindable) == (None, None, None, False)
    assert rows_of(source) == [[1, 2], [3, 4], [5, 6]]
    assert (source.dim, source.rows, source.has_ids) == (2, 3, False)
    assert [source.locate(row) for row in range(3)] == [
        "stdin row 0 line 1",
        "stdin row 1 line 4",
        "stdin row 2 line 6",
    ]
    with pytest.raises(InputError, match="only once"):
        rows_of(source)


@pytest.mark.parametrize("text", ["", "\n", " \n\n"])
def test_nothing(tmp_path: Path, text: str) -> None:
    source = piped(text)
    assert (rows_of(source), source.dim, source.rows, source.has_ids) == ([], None, 0, False)
    path = tmp_path / "v.jsonl"
    path.write_text(text)
    with open_vectors(path) as source:
        assert (rows_of(source), source.dim, source.rows, source.has_ids) == ([], None, 0, False)


def test_batches_are_full() -> None:
    text = "".join(f"[{i}]\n" for i in range(1000))
    source = piped(text)
    assert [(batch.start, len(batch.vectors)) for batch in source.batches(300)] == [
        (0, 300),
        (300, 300),
        (600, 300),
        (900, 100),
    ]


class TestKeys:
    def test_the_only_list_of_numbers(self) -> None:
        assert rows_of(piped('{"_id": 1, "tags": ["x"], "v": [1], "n": 3}')) == [[1]]

    def test_several_are_listed(self) -> None:
        text = '{"a": [1], "b": [2]}'
        with pytest.raises(InputError, match="got a, b; choose one with column"):
            rows_of(piped(text))
        assert rows_of(piped(text, column="b")) == [[2]]

    def test_none(self) -> None:
        with pytest.raises(InputError, match=r"row 0 line 1.*got id, text"):
            rows_of(piped('{"id": 1, "text": "x"}'))

    def test_the_key_stays_the_same(self) -> None:
        with pytest.raises(InputError, match="row 1 line 2: expected key a, got b"):
            rows_of(piped('{"a": [1]}\n{"b": [2]}'))

    def test_a_named_key_has_to_be_there(self) -> None:
        with pytest.raises(InputError, match="expected key c"):
            rows_of(piped('{"a": [1]}', column="c"))
        with pytest.raises(InputError, match="bare array"):
            rows_of(piped("[1]", column="c"))
        with pytest.raises(InputError, match="no id"):
            rows_of(piped('{"a": [1]}', id_column="key"))

    def test_ids(self) -> None:
        assert ids_of(piped('{"_id": -1, "v": [1]}\n{"_id": "é\\n", "v": [1]}')) == [-1, "é\n"]
        assert ids_of(piped('{"id": 1, "key": 2, "v": [1]}', id_column="key")) == [2]

    def test_the_first_key_that_is_an_id_wins(self) -> None:
        for row, found in (
            ('{"key": 1, "uri": "u", "_id": 2, "id": 3, "v": [1]}', [3]),
            ('{"key": 1, "uri": "u", "_id": true, "id": null, "v": [1]}', ["u"]),
            ('{"key": 1, "uuid": "x", "doc_id": 18446744073709551615, "v": [1]}', [2**64 - 1]),
            ('{"key": [1], "uri": {}, "id": 1.5, "title": "t", "n": 1, "v": [1]}', []),
        ):
            source = piped(row, column="v")
            assert ids_of(source) == found
            assert source.could_be_ids == (None if found else ["title", "n"])
        assert ids_of(piped('{"id": 1, "v": [1]}', id_column="")) == []
        assert rows_of(piped('{"key": [1, 2]}')) == [[1, 2]]
        # Only id and _id are looked for in later rows.
        assert ids_of(piped('{"v": [1]}\n{"v": [1], "key": "k"}')) == []

    @pytest.mark.parametrize("value", ["null", "true", "1.5", "[1]", "{}", '"\\ud800"'])
    def test_ids_of_other_types(self, value: str) -> None:
        with pytest.raises(InputError, match=r"id .*row 0 line 1"):
            rows_of(piped(f'{{"id": {value}, "v": [1]}}', id_column="id"))

    @pytest.mark.parametrize(
        "lines",
        [
            '{"id": 1, "v": [1]}\n{"v": [1]}',
            '{"id": 1, "v": [1]}\n[1]',
            '{"v": [1]}\n{"id": 1, "v": [1]}',
            '[1]\n{"id": 1, "v": [1]}',
        ],
    )
    def test_every_row_has_one_or_none(self, lines: str) -> None:
        with pytest.raises(InputError, match=r"row has .* id.*row 1 line 2"):
            rows_of(piped(lines))


@pytest.mark.parametrize(
    "bad",
    [
        '["1", 2]',
        "[[1, 2]]",
        "[true, 2]",
        "[null, 2]",
        "[{}, 2]",
        "[1]",
        "[1, 2, 3]",
        "[]",
        "[NaN, 2]",
        "[1, Infinity]",
        "[1, 1e39]",
        "[1, 1e999]",
        "[1, 1" + "0" * 400 + "]",
        "[1, " + "1" * 5000 + "]",
        "[1, 2",
        "[1, 2] x",
        "3",
        '"text"',
        "null",
        "[" * 100_000,
        "{}",
        "x",
    ],
    ids=lambda bad: bad[:12],
)
def test_bad_rows_are_named_with_their_line(tmp_path: Path, bad: str) -> None:
    text = f"[1, 2]\n\n[3, 4]\n{bad}\n[5, 6]\n"
    got: list[Batch] = []
    with pytest.raises(InputError, match="row 2 line 4"):
        got.extend(piped(text).batches())
    path = tmp_path / "v.jsonl"
    path.write_text(text)
    with pytest.raises(InputError, match=r"v\.jsonl row 2 line 4"):
        rows_of(open_vectors(path))


def test_rows_before_a_bad_one_come_first() -> None:
    batches = piped("[1]\n[2]\nx\n").batches()
    assert next(batches).vectors.tolist() == [[1], [2]]
    with pytest.raises(InputError, match="row 2 line 3"):
        next(batches)


def test_not_utf8() -> None:
    with pytest.raises(InputError, match=r"not UTF-8.*row 1 line 2"):
        rows_of(piped(b'{"id": "a", "v": [1]}\n{"id": "\xff", "v": [1]}'))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_packed_bytes(layout: Layout) -> None:
    flags = np.random.default_rng(0).random((5, 13)) < 0.5
    stored = np.packbits(flags, axis=1, bitorder="little" if layout == "lsb" else "big")
    numbers = stored.astype(int) - (128 if layout == "binary" else 0)
    text = "".join(
        json.dumps({"id": str(i), "c": row.tolist()}) + "\n" for i, row in enumerate(numbers)
    )
    source = piped(text, packed=layout, bits=13)
    assert source.packed
    codes = np.concatenate([batch.vectors for batch in source.batches(2)])
    assert source.dim == 13
    assert np.array_equal(unpack(codes, 13), flags)


@pytest.mark.parametrize(
    ("layout", "row"),
    [("ubinary", "[256]"), ("ubinary", "[-1]"), ("lsb", "[1.0]"), ("binary", "[128]")],
)
def test_packed_bytes_out_of_range(layout: Layout, row: str) -> None:
    with pytest.raises(InputError, match="row 0 line 1"):
        rows_of(piped(row, packed=layout))


def test_bits_without_packed_is_a_usage_error() -> None:
    with pytest.raises(UsageError):
        piped("[1]", bits=8)


class Writer:
    """The far end of a pipe that says what it writes only after it was asked."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()
        self.file = os.fdopen(self.reading, "rb")

    def write(self, text: str) -> None:
        os.write(self.writing, text.encode())

    def end(self) -> None:
        os.close(self.writing)


@pytest.fixture
def writer() -> Iterator[Writer]:
    writer = Writer()
    yield writer
    writer.file.close()


class TestInteractive:
    """A writer that waits for each answer would hang here if reading waited for more."""

    def test_each_line_is_answered_before_more_is_read(self, writer: Writer) -> None:
        writer.write("[1, 2]\n")
        source = open_vectors("-", stdin=writer.file)
        batches = source.batches()
        assert next(batches).vectors.tolist() == [[1, 2]]
        writer.write("[3, 4]\n[5, 6]\n[7,")
        assert next(batches).vectors.tolist() == [[3, 4], [5, 6]]
        writer.write(" 8]\n")
        batch = next(batches)
        assert (batch.start, batch.vectors.tolist()) == (3, [[7, 8]])
        writer.write("\n\n[9, 0]")
        writer.end()
        assert next(batches).vectors.tolist() == [[9, 0]]
        assert next(batches, None) is None
        assert source.rows == 5

    def test_a_writer_that_waits(self, writer: Writer) -> None:
        answered = threading.Semaphore(0)
        waited: list[bool] = []

        def ask() -> None:
            for i in range(20):
                for part in (f'{{"id": "q{i}",', f'"v": [{i}', "]}\n"):
                    writer.write(part)
                waited.append(answered.acquire(timeout=20))
            writer.end()

        asking = threading.Thread(target=ask)
        asking.start()
        got: list[str] = []
        with open_vectors("-", stdin=writer.file) as source:
            for batch in source.batches():
                got += batch.ids or []
                answered.release()
        asking.join()
        assert got == [f"q{i}" for i in range(20)]
        assert all(waited)

    def test_more_than_a_pipe_holds(self, writer: Writer) -> None:
        text = "".join(f"[{i}, 0.{'0' * 300}1]\n" for i in range(2000))

        def pour() -> None:
            sent = text.encode()
            while sent:
                sent = sent[os.write(writer.writing, sent) :]
            writer.end()

        pouring = threading.Thread(target=pour)
        pouring.start()
        rows = rows_of(open_vectors("-", stdin=writer.file))
        pouring.join()
        assert rows == [[i, 0] for i in range(2000)]

    def test_nonblocking_pipes(self, writer: Writer) -> None:
        os.set_blocking(writer.reading, False)

        def send() -> None:
            writer.write("[1]\n")
            writer.end()

        sending = threading.Timer(0.1, send)
        sending.start()
        assert rows_of(open_vectors("-", stdin=writer.file)) == [[1]]
        sending.join()

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs")
    def test_fifo(self, tmp_path: Path) -> None:
        path = tmp_path / "queries.jsonl"
        os.mkfifo(path)
        answered = threading.Semaphore(0)
        waited: list[bool] = []

        def ask() -> None:
            with path.open("w") as file:
                for i in range(3):
                    file.write(f"[{i}]\n")
                    file.flush()
                    waited.append(answered.acquire(timeout=20))

        asking = threading.Thread(target=ask)
        asking.start()
        with open_vectors(path) as source:
            assert not source.rewindable
            batches = 0
            for batch in source.batches():
                assert batch.vectors.tolist() == [[batches]]
                batches += 1
                answered.release()
        asking.join()
        assert batches == 3
        assert all(waited)


def test_a_co_process_answers_each_line() -> None:
    code = (
        "from binq.vectors import open_vectors\n"
        "for batch in open_vectors('-').batches():\n"
        "    print(batch.start, len(batch.vectors), flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for i in range(3):
            process.stdin.write(f"[{i}]\n")
            process.stdin.flush()
            assert process.stdout.readline() == f"{i} 1\n"
        process.stdin.close()
        assert process.stdout.read() == ""
    assert process.returncode == 0


def test_a_line_of_brackets_is_not_taken_apart(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"embedding": [1, 2], "x": [' + b"[]," * (1 << 20) + b"0]}\n")
    with pytest.raises(InputError, match="not JSON that can be read"):
        rows_of(open_vectors(str(path)))
