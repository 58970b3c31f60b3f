from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from binq.encoders.base import FloatEncoder
from binq.encoders.fingerprints import FingerprintEncoder
from binq.errors import EnvironmentFailure, InputError, UsageError
from binq.text import encode as encoding
from binq.text.run import EncodeOptions, EncodeProgress, EncodeReport
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
