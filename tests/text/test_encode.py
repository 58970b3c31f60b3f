from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from binq.encoders.base import FloatEncoder
from binq.encoders.fingerprints import FingerprintEncoder
from binq.errors import EnvironmentFailure, InputError, UsageError
from binq.text import encode as encoding
from binq.text.options import EncodeOptions, EncodeProgress, EncodeReport
from binq.text.source import TextSource
from binq.types import PRECISIONS, Precision, Role
from binq.vectors import open_vectors

DIM = 12


def vectors_of(texts: Sequence[str]) -> NDArray[np.float32]:
    rows = [np.random.default_rng(list(text.encode())).normal(size=DIM) for text in texts]
    return np.array(rows, np.float32).reshape(len(texts), DIM)


class Recorder(FloatEncoder):
    """Writes down what it is asked for, and can be told to fail."""

    def __init__(self, fail_after: int | None = None, limit: int | None = None, **options: Any):
        options.setdefault("normalize", False)
        super().__init__("recorder", "1", batch_size=4, **options)
        self.asked: list[list[str]] = []
        self.fail_after = fail_after
        self.limit = limit

    def overlong(self, texts: Sequence[str], role: Role = "document") -> NDArray[np.bool_]:
        del role
        return np.array([self.limit is not None and len(t) > self.limit for t in texts], bool)

    def _embed(self, texts: list[str], role: Role) -> NDArray[Any]:
        del role
        if self.fail_after is not None and len(self.asked) >= self.fail_after:
            raise EnvironmentFailure("the wire was cut")
        if texts:
            self.asked.append(texts)
        return vectors_of(texts)


def encode_texts(source: Any, encoder: Any, output: Path, **options: Any) -> EncodeReport:
    return encoding.encode_texts(source, encoder, output, EncodeOptions(**options))


def _file(tmp_path: Path, lines: Sequence[str]) -> Path:
    path = tmp_path / "texts.txt"
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def _rows(path: Path) -> tuple[list[Any], NDArray[Any]]:
    table = pq.read_table(path)
    column = table["embedding"].combine_chunks()
    width = column.type.list_size
    return table["id"].to_pylist(), column.flatten().to_numpy().reshape(-1, width)


def _debris(tmp_path: Path) -> set[str]:
    return {path.name for path in tmp_path.iterdir()} - {"texts.txt", "out.parquet"}


def test_rows_come_out_in_order_and_duplicates_cost_nothing(tmp_path: Path) -> None:
    texts = [f"{'x' * (i % 7)} text {i % 23}" for i in range(60)]
    encoder = Recorder()
    report = encode_texts(TextSource(_file(tmp_path, texts)), encoder, tmp_path / "out.parquet")
    ids, rows = _rows(tmp_path / "out.parquet")
    assert ids == list(range(60))
    np.testing.assert_array_equal(rows, vectors_of(texts))
    asked = [text for batch in encoder.asked for text in batch]
    assert sorted(asked) == sorted(set(texts))
    assert report.rows == 60
    assert report.encoded == len(set(texts))
    assert report.duplicates == 60 - len(set(texts))
    assert report.dim == DIM
    assert _debris(tmp_path) == set()


def test_batches_hold_texts_of_like_length(tmp_path: Path) -> None:
    texts = ["y" * n for n in (5, 90, 6, 91, 7, 92, 8, 93)]
    encoder = Recorder()
    encode_texts(TextSource(_file(tmp_path, texts)), encoder, tmp_path / "out.parquet")
    assert [len(text) for text in encoder.asked[0]] == [93, 92, 91, 90]
    assert [len(text) for text in encoder.asked[1]] == [8, 7, 6, 5]


def test_windows_are_stitched_together(tmp_path: Path) -> None:
    texts = [f"text number {i % 90}" for i in range(3000)]
    encoder = Recorder()
    encode_texts(TextSource(_file(tmp_path, texts)), encoder, tmp_path / "out.parquet")
    ids, rows = _rows(tmp_path / "out.parquet")
    assert ids == list(range(3000))
    np.testing.assert_array_equal(rows, vectors_of(texts))
    assert sum(map(len, encoder.asked)) == 90


def test_ids_and_metadata_travel(tmp_path: Path) -> None:
    path = tmp_path / "texts.jsonl"
    path.write_text('{"_id": "a", "text": "x"}\n{"_id": "b", "text": "y"}\n')
    out = tmp_path / "out.parquet"
    encoder = Recorder(prompt="passage: ", truncate_dim=5, normalize=True)
    encode_texts(TextSource(path), encoder, out, role="query")
    assert _rows(out)[0] == ["a", "b"]
    metadata = {k.decode(): v.decode() for k, v in pq.read_schema(out).metadata.items()}
    assert {key: metadata[key] for key in metadata if key.startswith("binq.")} == {
        "binq.model": "recorder",
        "binq.revision": "1",
        "binq.role": "query",
        "binq.prompt": "passage: ",
        "binq.prompt.query": "passage: ",
        "binq.normalized": "true",
        "binq.truncate_dim": "5",
        "binq.dim": "5",
        "binq.precision": "float32",
    }
    kind = pq.read_schema(out).field("embedding").type
    assert str(kind.value_type) == "float"
    assert kind.list_size == 5


@pytest.mark.parametrize("precision", ["float16", "ubinary"])
def test_precisions(tmp_path: Path, precision: Precision) -> None:
    out = tmp_path / "out.parquet"
    texts = ["a", "b", "c"]
    report = encode_texts(TextSource(_file(tmp_path, texts)), Recorder(), out, precision=precision)
    rows = _rows(out)[1]
    wanted = vectors_of(texts)
    metadata = pq.read_schema(out).metadata
    if precision == "float16":
        np.testing.assert_array_equal(rows, wanted.astype(np.float16))
        assert report.dim == DIM
    else:
        # Twelve dims make two bytes, of which the last four bits count for nothing.
        np.testing.assert_array_equal(rows, np.packbits(wanted > 0, axis=1))
        assert report.bits == DIM
        assert metadata[b"binq.bits"] == b"12"
        assert metadata[b"binq.layout"] == b"ubinary"


def test_fingerprints_are_written_as_codes(tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    encoder = FingerprintEncoder("minhash", 64)
    report = encode_texts(TextSource(_file(tmp_path, ["one text", "another"])), encoder, out)
    np.testing.assert_array_equal(_rows(out)[1], encoder.encode(["one text", "another"]))
    assert report.bits == 64
    assert pq.read_schema(out).metadata[b"binq.model"] == b"minhash:64"
    with pytest.raises(UsageError, match="makes bits"):
        encode_texts(TextSource(_file(tmp_path, ["x"])), encoder, out, precision="float16")


def test_float16_that_overflows_is_refused(tmp_path: Path) -> None:
    class Huge(Recorder):
        def _embed(self, texts: list[str], role: Role) -> NDArray[Any]:
            return 1e6 * np.ones_like(super()._embed(texts, role))

    with pytest.raises(InputError, match="does not fit float16"):
        encode_texts(
            TextSource(_file(tmp_path, ["x"])), Huge(), tmp_path / "o.npy", precision="float16"
        )


def test_an_interrupted_run_goes_on_and_encodes_nothing_twice(tmp_path: Path) -> None:
    texts = [f"text {i % 30}" for i in range(50)]
    source = _file(tmp_path, texts)
    out = tmp_path / "out.parquet"
    first = Recorder(fail_after=3)
    with pytest.raises(EnvironmentFailure, match="wire"):
        encode_texts(TextSource(source), first, out, resume=True)
    assert not out.exists()
    assert _debris(tmp_path) == {"out.parquet.checkpoint"}
    second = Recorder()
    report = encode_texts(TextSource(source), second, out, resume=True)
    np.testing.assert_array_equal(_rows(out)[1], vectors_of(texts))
    asked = [text for batch in first.asked + second.asked for text in batch]
    assert sorted(asked) == sorted(set(texts))
    assert (report.resumed, report.encoded, report.duplicates) == (12, 18, 20)
    assert _debris(tmp_path) == set()


def test_without_resume_an_interruption_leaves_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    source = _file(tmp_path, [f"text {i}" for i in range(30)])
    with pytest.raises(EnvironmentFailure):
        encode_texts(TextSource(source), Recorder(fail_after=2), out)
    assert {path.name for path in tmp_path.iterdir()} == {"texts.txt"}


def test_the_old_output_survives_a_failure(tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    out.write_bytes(b"old")
    with pytest.raises(EnvironmentFailure):
        encode_texts(TextSource(_file(tmp_path, ["x"])), Recorder(fail_after=0), out)
    assert out.read_bytes() == b"old"


@pytest.mark.slow
def test_killed_outright_a_run_still_goes_on(tmp_path: Path) -> None:
    texts = [f"text {i}" for i in range(40)]
    source, out = _file(tmp_path, texts), tmp_path / "out.parquet"
    program = f"""
import sys, time
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_encode import Recorder, encode_texts, TextSource
class Slow(Recorder):
    def _embed(self, texts, role):
        time.sleep(0.05)
        return super()._embed(texts, role)
encode_texts(TextSource({str(source)!r}), Slow(), {str(out)!r}, resume=True,
             progress=lambda p: print(p.encoded, flush=True))
"""
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    done = 0
    while done < 12:
        done = int(child.stdout.readline())
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    encoder = Recorder()
    report = encode_texts(TextSource(source), encoder, out, resume=True)
    np.testing.assert_array_equal(_rows(out)[1], vectors_of(texts))
    assert report.resumed >= done
    assert report.resumed + report.encoded == 40
    assert _debris(tmp_path) == set()


def test_a_checkpoint_of_other_options_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    source = _file(tmp_path, [f"text {i}" for i in range(30)])
    with pytest.raises(EnvironmentFailure):
        encode_texts(TextSource(source), Recorder(fail_after=2), out, resume=True)
    with pytest.raises(InputError, match=r"another prompt: .*delete the checkpoint"):
        encode_texts(TextSource(source), Recorder(prompt="p "), out, resume=True)
    with pytest.raises(InputError, match="another precision"):
        encode_texts(TextSource(source), Recorder(), out, resume=True, precision="float16")
    # The refusals left it as it was.
    assert encode_texts(TextSource(source), Recorder(), out, resume=True).resumed == 8


@pytest.mark.parametrize("content", [b"not a database at all" * 100, b""])
def test_a_checkpoint_that_is_none(tmp_path: Path, content: bytes) -> None:
    checkpoint = tmp_path / "out.parquet.checkpoint"
    checkpoint.write_bytes(content)
    source, out = TextSource(_file(tmp_path, ["x"])), tmp_path / "out.parquet"
    if content:
        with pytest.raises(InputError, match="not a usable checkpoint"):
            encode_texts(source, Recorder(), out, resume=True)
        assert checkpoint.read_bytes() == content
    else:
        encode_texts(source, Recorder(), out, resume=True)


def test_somebody_elses_database_is_left_alone(tmp_path: Path) -> None:
    checkpoint = tmp_path / "out.parquet.checkpoint"
    database = sqlite3.connect(checkpoint)
    database.execute("CREATE TABLE precious (x)")
    database.commit()
    database.close()
    before = checkpoint.read_bytes()
    with pytest.raises(InputError, match="something else"):
        encode_texts(
            TextSource(_file(tmp_path, ["x"])), Recorder(), tmp_path / "out.parquet", resume=True
        )
    assert checkpoint.read_bytes() == before


def test_the_checkpoint_never_follows_a_link(tmp_path: Path) -> None:
    out, aside = tmp_path / "out.parquet", tmp_path / "aside"
    source = _file(tmp_path, [f"text {i}" for i in range(9)])
    place, journal = Path(f"{out}.checkpoint"), Path(f"{out}.checkpoint-journal")
    for content in (None, b"", b"precious"):
        for link in (place, journal):
            aside.unlink(missing_ok=True)
            if content is not None:
                aside.write_bytes(content)
            link.symlink_to(aside)
            with pytest.raises((InputError, EnvironmentFailure)) as caught:
                encode_texts(TextSource(source), Recorder(fail_after=1), out, resume=True)
            assert "checkpoint" in str(caught.value) or link == journal
            assert aside.exists() == (content is not None)
            assert content is None or aside.read_bytes() == content
            assert link.is_symlink() or link == journal  # SQLite may remove one that is empty
            link.unlink(missing_ok=True)
            place.unlink(missing_ok=True)
    os.mkfifo(place)
    with pytest.raises(InputError, match="no file"):
        encode_texts(TextSource(source), Recorder(), out, resume=True)
    place.unlink()
    # Where the output is a link, it lies beside what that leads to.
    (tmp_path / "far").mkdir()
    out.symlink_to("far/away.parquet")
    with pytest.raises(EnvironmentFailure, match="wire"):
        encode_texts(TextSource(source), Recorder(fail_after=1), out, resume=True)
    assert [path.name for path in (tmp_path / "far").iterdir()] == ["away.parquet.checkpoint"]
    assert encode_texts(TextSource(source), Recorder(), out, resume=True).resumed == 4


def test_a_run_that_was_killed_as_it_began_leaves_nothing_to_the_next(tmp_path: Path) -> None:
    """Between the creation of its file without a name and the loss of that name."""
    out, source = tmp_path / "out.parquet", _file(tmp_path, ["a", "b"])
    program = f"""
import os, signal, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_encode import Recorder, encode_texts, TextSource
os.unlink = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
encode_texts(TextSource({str(source)!r}), Recorder(), {str(out)!r})
"""
    done = subprocess.run([sys.executable, "-c", program], check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(_debris(tmp_path)) == 1
    encode_texts(TextSource(source), Recorder(), out)
    assert _debris(tmp_path) == set()


def test_formats_by_suffix(tmp_path: Path) -> None:
    texts = [f"text {i}" for i in range(9)]
    path = tmp_path / "t.jsonl"
    path.write_text("".join(f'{{"id": "é {i}", "text": "{t}"}}\n' for i, t in enumerate(texts)))
    for precision in PRECISIONS:
        rows = vectors_of(texts)
        if precision == "ubinary":
            rows = np.packbits(rows > 0, axis=1)
        for source, ids in ((path, [f"é {i}" for i in range(9)]), (_file(tmp_path, texts), None)):
            for suffix in ("parquet", "npy", "jsonl", "NPY"):
                out = tmp_path / f"out.{suffix}"
                report = encode_texts(TextSource(source), Recorder(), out, precision=precision)
                assert (report.rows, report.bits or report.dim) == (9, DIM)
                packed = "ubinary" if precision == "ubinary" and suffix != "parquet" else None
                with open_vectors(out, packed=packed, bits=DIM if packed else None) as read:
                    found = list(read.batches())
                    assert read.packed == (precision == "ubinary")
                if suffix in ("npy", "NPY"):
                    stored = np.load(out)
                    assert stored.dtype == rows.dtype if packed else precision
                    np.testing.assert_array_equal(stored, rows.astype(stored.dtype))
                    assert found[0].ids is None
                else:
                    assert found[0].id_list == (ids or list(range(9)))
                if precision == "float32":
                    np.testing.assert_array_equal(found[0].vectors, rows)  # to the last bit
    line = json.loads((tmp_path / "out.jsonl").read_text().splitlines()[2])
    assert line == {"id": 2, "embedding": rows[2].tolist()}
    for name in ("out", "out.parq", "out.npz", "out.jsonl.gz", "out.csv"):
        with pytest.raises(UsageError, match="suffix of the output says no format"):
            encode_texts(TextSource(path), Recorder(), tmp_path / name)


def test_two_runs_do_not_share_a_checkpoint(tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    source = _file(tmp_path, ["a", "b"])

    class Nested(Recorder):
        def _embed(self, texts: list[str], role: Role) -> NDArray[Any]:
            with pytest.raises(EnvironmentFailure, match="another run"):
                encode_texts(TextSource(source), Recorder(), out, resume=True)
            return super()._embed(texts, role)

    assert encode_texts(TextSource(source), Nested(), out, resume=True).rows == 2


def test_blank_texts_are_left_out_and_reported(tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    source = _file(tmp_path, ["a", "", " \t", "b"])
    report = encode_texts(TextSource(source), Recorder(), out)
    # The ids stay row numbers of the input.
    assert _rows(out)[0] == [0, 3]
    assert report.blank == 2
    assert report.blank_rows == [f"{source}: line 2", f"{source}: line 3"]
    with pytest.raises(InputError, match=r"blank.*line 2"):
        encode_texts(TextSource(source), Recorder(), out, on_blank="error")


def test_overlong_texts_are_reported_or_refused(tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    source = _file(tmp_path, ["short", "much too long", "ok", "much too long"])
    report = encode_texts(TextSource(source), Recorder(limit=6), out)
    assert report.overlong == 2
    assert report.overlong_rows[0] == f"{source}: line 2"
    encoder = Recorder(limit=6)
    with pytest.raises(InputError, match=r"longer than the model reads.*line 2"):
        encode_texts(TextSource(source), encoder, out, on_truncate="error")
    assert encoder.asked == []


def test_no_texts_make_an_empty_table(tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    report = encode_texts(TextSource(_file(tmp_path, [])), Recorder(), out)
    assert report == EncodeReport(dim=DIM, seconds=report.seconds)
    assert pq.read_table(out).num_rows == 0
    assert pq.read_schema(out).field("embedding").type.list_size == DIM
    encode_texts(TextSource(_file(tmp_path, [])), Recorder(), out, precision="ubinary")
    assert pq.read_schema(out).field("embedding").type.list_size == 2


def test_progress_is_told(tmp_path: Path) -> None:
    seen: list[tuple[int, int, float | None]] = []

    def note(progress: EncodeProgress) -> None:
        seen.append((progress.rows, progress.encoded, progress.fraction))
        assert progress.rate >= 0

    source = _file(tmp_path, [f"t {i}" for i in range(20)])
    encode_texts(TextSource(source), Recorder(), tmp_path / "out.parquet", progress=note)
    assert [rows for rows, _, _ in seen] == sorted(rows for rows, _, _ in seen)
    assert seen[-1] == (20, 20, 1.0)


def test_faults_of_a_text_name_its_row(tmp_path: Path) -> None:
    class Broken(Recorder):
        def _embed(self, texts: list[str], role: Role) -> NDArray[Any]:
            return np.nan * super()._embed(texts, role)

    source = _file(tmp_path, ["x"])
    with pytest.raises(InputError, match=r"NaN.*texts\.txt: line 1"):
        encode_texts(TextSource(source), Broken(), tmp_path / "out.parquet")


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    source = _file(tmp_path, ["x"])
    folder = tmp_path / "folder.npy"
    folder.mkdir()
    for resume in (False, True):
        for place in (folder, tmp_path / "none" / "out.npy"):
            with pytest.raises(EnvironmentFailure):
                encode_texts(TextSource(source), Recorder(), place, resume=resume)
    assert {path.name for path in tmp_path.iterdir()} == {"texts.txt", "folder.npy"}


def test_options_that_do_not_go(tmp_path: Path) -> None:
    source = TextSource(_file(tmp_path, ["x"]))
    wrong: Any = "loud"
    with pytest.raises(UsageError):
        encode_texts(source, Recorder(), tmp_path / "o", role=wrong)
    with pytest.raises(UsageError):
        encode_texts(source, Recorder(), tmp_path / "o", precision=wrong)
    with pytest.raises(UsageError):
        encode_texts(source, Recorder(), tmp_path / "o", batch_size=0)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    # 60,000 distinct rows of 3 KiB are 180 MB, which a run must not hold.
    program = f"""
import resource, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import numpy as np
from test_encode import Recorder, encode_texts, TextSource
class Wide(Recorder):
    def _embed(self, texts, role):
        return np.ones((len(texts), 768), np.float32)
import io, pyarrow.parquet
lines = io.BytesIO(b"".join(b"text %d\\n" % i for i in range(60_000)))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
encode_texts(TextSource("-", stdin=lines), Wide(), {str(tmp_path / "out.parquet")!r},
             batch_size=1024)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    started = time.monotonic()
    grown = int(
        subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"ARROW_DEFAULT_MEMORY_POOL": "system"},
        ).stdout
    )
    assert grown < 170, (grown, time.monotonic() - started)


class Picky(Recorder):
    """Refuses texts with a bad word, as an endpoint does: the whole batch, whatever else it has."""

    def _embed(self, texts: list[str], role: Role) -> NDArray[Any]:
        rows = super()._embed(texts, role)
        if any("bad" in text for text in texts):
            raise InputError("the endpoint refuses the texts", "http://h/v1", got="400: too long")
        return rows


def _dirty(tmp_path: Path) -> tuple[Path, list[str], list[str]]:
    """Return jsonl of which some rows cannot be used, the good ids, and what is wrong."""
    rows = [f'{{"id": "d{i}", "text": "text {i}"}}'.encode() for i in range(20)]
    rows[0] = b'{"id": "d0", "text": '
    rows[3] = b'{"id": "d3", "text": null}'
    rows[5] = b'{"id": "d5", "text": "\xff"}'
    rows[7] = b'{"id": [7], "text": "text 7"}'
    rows[9] = b'{"id": "d9", "text": "a bad text"}'
    rows[11] = b"[1]"
    rows[13] = b'{"id": "d13", "text": "a bad text"}'
    path = tmp_path / "texts.jsonl"
    path.write_bytes(b"\n".join(rows) + b"\n")
    lost = {0, 3, 5, 7, 9, 11, 13}
    wrong = [
        "line 1: not JSON (Expecting value)",
        "line 4 (id d3): text is not a text (null)",
        "line 6: text is not UTF-8 (byte 0xff)",
        "line 8: id is not an id (list)",
        "line 10 (id d9): the endpoint refuses the texts (400: too long)",
        "line 12: not an object (list)",
        "line 14 (id d13): the endpoint refuses the texts (400: too long)",
    ]
    return path, [f"d{i}" for i in range(20) if i not in lost], wrong


def test_rows_that_cannot_be_used_are_left_out_or_end_the_run(tmp_path: Path) -> None:
    path, good, wrong = _dirty(tmp_path)
    out = tmp_path / "out.parquet"
    report = encode_texts(TextSource(path), Picky(), out, on_error="skip")
    ids, rows = _rows(out)
    assert ids == good
    np.testing.assert_array_equal(rows, vectors_of([f"text {name[1:]}" for name in good]))
    assert report.skipped == 7
    assert [row.partition(": ")[2] for row in report.skipped_rows] == wrong
    assert (report.rows, report.encoded, report.blank) == (13, 13, 0)
    # To stop is the default: it names row and id, and writes nothing.
    out.unlink()
    lines = path.read_bytes().splitlines(keepends=True)
    for number, what in ((0, "line 2: .*got"), (3, r"line 2 \(id d3\)"), (9, r"line 2 \(id d9\)")):
        path.write_bytes(lines[1] + lines[number] + lines[2])
        with pytest.raises(InputError, match=what):
            encode_texts(TextSource(path), Picky(), out)
        assert not out.exists()
        break_off = [entry.name for entry in tmp_path.iterdir()]
        assert break_off == ["texts.jsonl"]


def test_a_run_that_stopped_at_a_row_goes_on_without_it(tmp_path: Path) -> None:
    path, good, wrong = _dirty(tmp_path)
    path.write_bytes(path.read_bytes().partition(b"\n")[2])
    out = tmp_path / "out.parquet"
    with pytest.raises(InputError, match=r"line 3 \(id d3\)"):
        encode_texts(TextSource(path), Picky(), out, resume=True)
    encoder = Picky()
    report = encode_texts(TextSource(path), encoder, out, resume=True, on_error="skip")
    assert report.resumed == 2  # what preceded the row
    assert not {"text 1", "text 2"} & {text for batch in encoder.asked for text in batch}
    assert _rows(out)[0] == good
    assert report.skipped == len(wrong) - 1
    assert {entry.name for entry in tmp_path.iterdir()} == {"texts.jsonl", "out.parquet"}


def test_rows_of_every_kind_of_file_can_be_left_out(tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    table = b'id,text\na,x\nb\nc,"y\nz\xff"\nd,\xff\n"e",ok\n'
    (tmp_path / "t.csv").write_bytes(table)
    (tmp_path / "t.txt").write_bytes(b"one\n\xff\ntwo\n")
    rows = {"id": ["a", "b", "c"], "text": ["x", None, "y"]}
    pq.write_table(pa.table(rows), tmp_path / "t.parquet")
    for name, ids, skipped in (
        ("t.csv", ["a", "e"], ["line 3: row", "line 5: text is not UTF-8", "line 6: text"]),
        ("t.txt", [0, 2], ["line 2: text is not UTF-8"]),
        ("t.parquet", ["a", "c"], ["row 1 (id b): text is not a text"]),
    ):
        report = encode_texts(TextSource(tmp_path / name), Recorder(), out, on_error="skip")
        assert _rows(out)[0] == ids
        assert report.skipped == len(skipped)
        for told, wanted in zip(report.skipped_rows, skipped, strict=True):
            assert wanted in told
    # What follows an open quote, no one can tell; and a header is no row.
    for content in (b'id,text\na,"x\nb,y\n', b"id,text\xff\na,x\n", b"id,id\na,x\n"):
        (tmp_path / "t.csv").write_bytes(content)
        with pytest.raises(InputError):
            encode_texts(TextSource(tmp_path / "t.csv"), Recorder(), out, on_error="skip")


def test_what_options_make_an_error_can_be_left_out(tmp_path: Path) -> None:
    source, out = _file(tmp_path, ["a", "", "much too long", "b"]), tmp_path / "out.parquet"
    options: dict[str, Any] = {"on_error": "skip", "on_blank": "error", "on_truncate": "error"}
    report = encode_texts(TextSource(source), Recorder(limit=6), out, **options)
    assert _rows(out)[0] == [0, 3]
    assert (report.skipped, report.blank, report.overlong) == (2, 0, 0)
    assert "line 2: text is blank" in report.skipped_rows[0]
    assert "line 3: text is longer" in report.skipped_rows[1]
    with pytest.raises(UsageError, match="stop, skip"):
        encode_texts(TextSource(source), Recorder(), out, on_error="ignore")


def test_where_nothing_is_left_the_run_fails(tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    source = TextSource(_file(tmp_path, [f"bad {i}" for i in range(500)]))
    encoder = Picky()
    with pytest.raises(InputError, match="400: too long"):
        encode_texts(source, encoder, out, on_error="skip")
    # It is not asked a thousand times: a batch of which nothing is taken says enough.
    assert len(encoder.asked) < 10
    (tmp_path / "t.jsonl").write_text('{"txt": 1}\nnull\n')
    with pytest.raises(InputError, match="line 1"):
        encode_texts(TextSource(tmp_path / "t.jsonl"), Recorder(), out, on_error="skip")
    assert not out.exists()


class Parallel(Picky):
    """Answers in another order than it is asked."""

    def __init__(self, concurrency: int, **options: Any) -> None:
        super().__init__(**options)
        self.concurrency = concurrency
        self.now = self.most = 0
        self.lock = threading.Lock()

    def _embed(self, texts: list[str], role: Role) -> NDArray[Any]:
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(0.002 + 0.003 * (len(self.asked) % 3))
        try:
            return super()._embed(texts, role)
        finally:
            with self.lock:
                self.now -= 1


def test_batches_at_a_time_change_nothing_but_the_time(tmp_path: Path) -> None:
    texts = [f"{'x' * (i % 7)} text {i % 190}" for i in range(400)]
    texts[50] = texts[300] = "bad"
    texts[60] = "bad, too"
    source, found = _file(tmp_path, texts), []
    for concurrency in (1, 2, 8):
        encoder, out = Parallel(concurrency), tmp_path / "out.jsonl"
        report = encode_texts(TextSource(source), encoder, out, on_error="skip")
        assert 1 < encoder.most <= concurrency or concurrency == encoder.most == 1
        found.append((out.read_bytes(), report.skipped_rows, report.encoded, report.rows))
        assert report.skipped == 3
    assert all(each == found[0] for each in found)


def test_windows_that_are_under_way_share_texts(tmp_path: Path) -> None:
    # Windows of 1,024 rows: what stands at the end of one stands at the beginning of the next.
    texts = [f"text {i % 1010}" for i in range(3000)]
    texts[1020] = texts[1030] = texts[2050] = "bad"
    source, found = _file(tmp_path, texts), []
    for concurrency in (1, 8):
        encoder, out = Parallel(concurrency), tmp_path / "out.jsonl"
        report = encode_texts(TextSource(source), encoder, out, on_error="skip")
        assert (report.skipped, report.rows, report.encoded) == (3, 2997, 1010)
        assert report.skipped_rows[1].startswith(f"{source}: line 1031")
        found.append(out.read_bytes())
    assert found[0] == found[1]


def test_when_one_of_several_batches_fails_the_others_are_kept(tmp_path: Path) -> None:
    source, out = _file(tmp_path, [f"text {i}" for i in range(80)]), tmp_path / "out.parquet"
    done = threading.Event()

    class Breaking(Parallel):
        def _embed(self, texts: list[str], role: Role) -> NDArray[Any]:
            if "text 19" in texts:
                assert done.wait(5)
                raise EnvironmentFailure("the wire was cut", next_step="mend it")
            rows = super()._embed(texts, role)
            if len(self.asked) == 7:
                done.set()
            return rows

    with pytest.raises(EnvironmentFailure, match=r"mend it; run it again with resume: \d+ texts"):
        encode_texts(TextSource(source), Breaking(4), out, resume=True)
    second = Recorder()
    report = encode_texts(TextSource(source), second, out, resume=True)
    assert report.resumed >= 24  # of batches of four, and the one that failed stood among the first
    assert report.resumed + report.encoded == 80
    np.testing.assert_array_equal(_rows(out)[1], vectors_of([f"text {i}" for i in range(80)]))


def test_a_failure_says_how_to_go_on(tmp_path: Path) -> None:
    source, out = _file(tmp_path, [f"text {i}" for i in range(30)]), tmp_path / "out.parquet"
    with pytest.raises(EnvironmentFailure, match=r"cut; run it with resume, which keeps"):
        encode_texts(TextSource(source), Recorder(fail_after=2), out)
    with pytest.raises(
        EnvironmentFailure, match=r"cut; run it again with resume: 8 texts are done"
    ):
        encode_texts(TextSource(source), Recorder(fail_after=2), out, resume=True)
