"""``binq encode``: kinds of input, options, what is written, what is reported."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corpora import debris
from endpoints import DIM, FakeEndpoint, dripping, vector_of

from binq.encoders import BUILT_IN

pytestmark = pytest.mark.slow

pytest.importorskip("model2vec")

Cli = Callable[..., Any]
TEXTS = ["the first text", "a second one", "the first text", "something else"]


def _table(path: Path) -> tuple[list[Any], np.ndarray, dict[str, str]]:
    table = pq.read_table(path)
    metadata = {k.decode(): v.decode() for k, v in (table.schema.metadata or {}).items()}
    rows = table["embedding"].combine_chunks()
    width = rows.type.list_size
    return table["id"].to_pylist(), rows.flatten().to_numpy().reshape(-1, width), metadata


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    path = tmp_path / "docs.jsonl"
    rows = [{"_id": f"d{i}", "text": text} for i, text in enumerate(TEXTS)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_the_built_in_model(cli: Cli, docs: Path, tmp_path: Path) -> None:
    out = tmp_path / "docs.parquet"
    done = cli("encode", docs, "-o", out)
    assert done.out == ""
    assert done.err == f"binq: {out}: 4 texts as 256 dims (1 duplicates)\n"
    ids, rows, metadata = _table(out)
    assert ids == ["d0", "d1", "d2", "d3"]
    assert rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(rows[0], rows[2])
    assert metadata["binq.model"] == BUILT_IN
    assert metadata["binq.dim"] == "256"
    assert not debris(tmp_path)


@pytest.mark.slow
def test_every_kind_of_input_says_the_same(cli: Cli, docs: Path, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(
        "id,text\n" + "".join(f"d{i},{t}\n" for i, t in enumerate(TEXTS))
    )
    (tmp_path / "t.tsv").write_text(
        "key\tsaid\n" + "".join(f"d{i}\t{t}\n" for i, t in enumerate(TEXTS))
    )
    pq.write_table(
        pa.table({"id": [f"d{i}" for i in range(4)], "text": TEXTS}), tmp_path / "t.parquet"
    )
    plain = "".join(text + "\n" for text in TEXTS).encode()
    out = tmp_path / "out.parquet"
    cli("encode", docs, "-o", out)
    ids, rows, _ = _table(out)
    for words, stdin in (
        ([tmp_path / "t.csv"], None),
        ([tmp_path / "t.tsv", "--text-column", "said", "--id-column", "key"], None),
        ([tmp_path / "t.parquet"], None),
        (["-"], docs.read_bytes()),
        (["-", "--input-format", "csv"], (tmp_path / "t.csv").read_bytes()),
        (["-"], plain),
    ):
        cli("encode", *words, "-o", out, stdin=stdin)
        found_ids, found, _ = _table(out)
        np.testing.assert_array_equal(found, rows)
        assert found_ids == (list(range(4)) if stdin is plain else ids)


def test_options_shape_the_output(cli: Cli, docs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    cli("encode", docs, "-o", out)
    full = _table(out)[1]
    cli("encode", docs, "-o", out, "--precision", "ubinary", "--threads", 1)
    _, codes, metadata = _table(out)
    np.testing.assert_array_equal(codes, np.packbits(full > 0, axis=1))
    assert (metadata["binq.layout"], metadata["binq.bits"]) == ("ubinary", "256")
    cli(
        "encode", docs, "-o", out, "--precision", "float16", "--truncate-dim", 64, "--batch-size", 2
    )
    _, halves, metadata = _table(out)
    assert halves.dtype == np.float16
    cut = full[:, :64] / np.linalg.norm(full[:, :64], axis=1, keepdims=True)
    np.testing.assert_allclose(halves, cut, atol=1e-3)
    assert metadata["binq.truncate_dim"] == "64"
    cli("encode", docs, "-o", out, "--no-normalize", "--prompt", "ask: ", "--role", "query")
    _, raw, metadata = _table(out)
    assert not np.allclose(np.linalg.norm(raw, axis=1), 1)
    assert (metadata["binq.prompt"], metadata["binq.role"]) == ("ask: ", "query")
    assert metadata["binq.normalized"] == "false"


def test_blank_texts_are_reported(cli: Cli, tmp_path: Path) -> None:
    path, out = tmp_path / "t.txt", tmp_path / "out.parquet"
    path.write_text("one\n\n  \ntwo\n")
    done = cli("encode", path, "-o", out)
    why = "texts are blank, or hold no token that the model knows, and were left out"
    assert f"binq: warning: 2 {why}: {path}: line 2" in done.err
    assert _table(out)[0] == [0, 3]
    assert cli("-q", "encode", path, "-o", out).err == ""
    out.unlink()
    assert "line 2" in cli("encode", path, "-o", out, "--on-blank", "error", code=3).err
    assert not out.exists()


def test_a_model_behind_an_address(
    cli: Cli, docs: Path, tmp_path: Path, endpoint: FakeEndpoint
) -> None:
    out, key = tmp_path / "out.parquet", tmp_path / "key"
    key.write_text("secret\n")
    words = ["encode", docs, "-o", out, "--model", f"{endpoint.url}#m", "--no-normalize"]
    done = cli(*words, "--key-file", key, "--batch-size", 2)
    ids, rows, metadata = _table(out)
    np.testing.assert_allclose(rows, [vector_of(text) for text in TEXTS], rtol=1e-6)
    assert metadata["binq.model"] == "m"
    assert [len(asked["input"]) for asked in endpoint.requests] == [2, 1]
    assert endpoint.headers[-1]["Authorization"] == "Bearer secret"
    assert "secret" not in done.err
    cohere = ["encode", docs, "-o", out, "--model", f"{endpoint.root}/v2/embed#m"]
    cli(*cohere, "--precision", "ubinary")
    assert _table(out)[1].shape == (4, DIM // 8)
    assert ids == _table(out)[0]


def test_an_interrupted_run_goes_on(cli: Cli, tmp_path: Path, endpoint: FakeEndpoint) -> None:
    path, out = tmp_path / "t.txt", tmp_path / "out.parquet"
    path.write_text("".join(f"text {i}\n" for i in range(40)))
    words = [
        "encode",
        path,
        "-o",
        out,
        "--model",
        f"{endpoint.url}#m",
        "--batch-size",
        8,
        "--resume",
    ]
    cli(*words[:-1])
    before = _table(out)
    out.unlink()
    answered = []

    def break_off_after_three(answer: Any) -> Any:
        answered.append(answer)
        if len(answered) == 3:
            endpoint.faults.append((401, {}, {"error": {"message": "no longer"}}))
        return answer

    endpoint.reshape = break_off_after_three
    assert "refuses the key" in cli(*words, code=5).err
    assert not out.exists()
    assert (tmp_path / "out.parquet.checkpoint").exists()
    sent = len(endpoint.requests)
    done = cli(*words)
    assert "24 from the interrupted run" in done.err
    assert sum(len(request["input"]) for request in endpoint.requests[sent:]) == 16
    np.testing.assert_array_equal(_table(out)[1], before[1])
    assert not (tmp_path / "out.parquet.checkpoint").exists()


def test_requests_at_a_time_write_the_same(
    cli: Cli, tmp_path: Path, endpoint: FakeEndpoint
) -> None:
    path, written = tmp_path / "t.txt", []
    path.write_text("".join(f"text {i}\n" for i in range(200)))
    endpoint.no_base64 = True  # which every thread has to learn
    for concurrency in (1, 4):
        out = tmp_path / f"{concurrency}.parquet"
        words = ["--model", f"{endpoint.url}#m", "--batch-size", 8, "--concurrency", concurrency]
        cli("encode", path, "-o", out, *words)
        written.append(out.read_bytes())
    assert written[0] == written[1]


def test_a_text_that_the_endpoint_refuses(
    cli: Cli, docs: Path, tmp_path: Path, endpoint: FakeEndpoint
) -> None:
    out = tmp_path / "out.parquet"
    words = ["encode", docs, "-o", out, "--model", f"{endpoint.url}#m"]
    endpoint.refused = "a second one"
    told = cli(*words, code=3).err
    assert f"{docs}: line 2 (id d1)" in told
    assert "400: a second one is too long" in told
    assert not out.exists()
    told = cli(*words, "--on-error", "skip").err
    assert "warning: 1 rows cannot be used and were left out: " in told
    assert f"{docs}: line 2 (id d1): the endpoint refuses the texts (400: a second one" in told
    assert _table(out)[0] == ["d0", "d2", "d3"]


def test_a_busy_endpoint_is_a_line_that_says_how_to_go_on(
    cli: Cli, docs: Path, tmp_path: Path, endpoint: FakeEndpoint
) -> None:
    words = ["encode", docs, "-o", tmp_path / "out.parquet", "--model", f"{endpoint.url}#m"]
    for header, what in (
        ({"Retry-After": "9999"}, "in 9999 seconds; run it"),
        ({"Retry-After": "Fri, 31 Dec 9999 23:59:59 -2359"}, "in more than a day; run it"),
    ):
        endpoint.faults = [(429, header, {"error": "slow down"})]
        assert f"{what} with --resume" in cli(*words, code=5).err
        endpoint.faults = [(429, header, {"error": "slow down"})]
        assert f"{what} again with --resume" in cli(*words, "--resume", code=5).err
    endpoint.listing = {"data": 5}
    assert "#MODEL" in cli(*words[:-1], endpoint.url, code=5).err


def test_the_terminal_says_what_is_waited_for(
    start: Any, docs: Path, tmp_path: Path, endpoint: FakeEndpoint
) -> None:
    endpoint.faults = [(429, {"Retry-After": "1"}, {"error": "slow [/down]\x1b[31m"})]
    words = ["encode", docs, "-o", tmp_path / "out.parquet", "--model", f"{endpoint.url}#m"]
    ours, theirs = os.openpty()
    shown = b""
    with start(*words, stderr=theirs) as process:
        os.close(theirs)
        try:
            while piece := os.read(ours, 1 << 16):
                shown += piece
        except OSError:  # what Linux says when the other side is closed
            pass
        assert process.wait(30) == 0
    os.close(ours)
    assert b"waiting 1 s: 429: slow [/down]\\x1b[31m" in shown
    assert shown.rstrip().endswith(b"4 texts as 16 dims (1 duplicates)")


@pytest.mark.parametrize("concurrency", [1, 4])
def test_an_interrupt_does_not_wait_for_an_endpoint(
    start: Any, docs: Path, tmp_path: Path, endpoint: FakeEndpoint, concurrency: int
) -> None:
    out = tmp_path / "out.parquet"
    drip = dripping(b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n", b" ")
    endpoint.faults = [drip, (429, {"Retry-After": "60"}, b"")]
    words = ["encode", docs, "-o", out, "--model", f"{endpoint.url}#m", "--batch-size", 1]
    with start(*words, "--concurrency", concurrency) as process:
        for _ in range(1000):
            if len(endpoint.requests) >= min(concurrency, 2):
                break
            time.sleep(0.02)
        time.sleep(0.1)
        begun = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert time.monotonic() - begun < 1.5
        assert process.stderr.read() == b""
    assert not out.exists()
    assert not debris(tmp_path)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--concurrency", 2], 2, "--concurrency"),
        (["--model", "simhash:64", "--concurrency", 2], 2, "--concurrency"),
        (["--model", "http://127.0.0.1:9/v1#m", "--concurrency", 0], 2, "expected 1 to 32"),
        (["--model", "http://127.0.0.1:9/v1#m", "--concurrency", 33], 2, "expected 1 to 32"),
        (["--model", "http://u:p@127.0.0.1:9/v1#m", "--device", "cpu"], 2, "a password"),
        (["--on-error", "ignore"], 2, "--on-error"),
        (["--model", "simhash:7"], 2, "multiple of 8"),
        (["--model", "simhash:64", "--precision", "float32"], 2, "makes bits"),
        (["--model", "simhash:64", "--truncate-dim", 3], 2, "--truncate-dim"),
        (["--device", "cuda"], 2, "--device"),
        (["--batch-size", 0], 2, "--batch-size"),
        (["--threads", 0], 2, "--threads"),
        (["--truncate-dim", 0], 2, "--truncate-dim"),
        (["--precision", "int4"], 2, "--precision"),
        (["--truncate-dim", 9999], 3, "fewer dims"),
        (["--text-column", "nope"], 3, "nope"),
        (["--model", "http://127.0.0.1:9/v1#m", "--key-file", "/no/such/file"], 3, "/no/such/file"),
    ],
)
def test_refusals(
    cli: Cli, docs: Path, tmp_path: Path, words: list[Any], code: int, message: str
) -> None:
    assert message in cli("encode", docs, "-o", tmp_path / "out.parquet", *words, code=code).err
    assert not (tmp_path / "out.parquet").exists()


def test_missing_inputs_and_places(cli: Cli, docs: Path, tmp_path: Path) -> None:
    assert "no.jsonl" in cli("encode", tmp_path / "no.jsonl", "-o", tmp_path / "o.npy", code=3).err
    assert "no/such" in cli("encode", docs, "-o", tmp_path / "no/such/o.parquet", code=5).err


def test_a_text_without_a_known_token_is_left_out(tmp_path: Path, cli: Any) -> None:
    texts = tmp_path / "texts.jsonl"
    texts.write_text('{"_id": "a", "text": "hello"}\n{"_id": "b", "text": "\\ud83d\\udca9"}\n')
    output = tmp_path / "out.parquet"
    done = cli("encode", texts, "-o", output)
    assert "1 texts are blank, or hold no token" in done.err
    assert pq.read_table(output)["id"].to_pylist() == ["a"]
    cli("encode", texts, "-o", output, "--on-blank", "error", code=3)
