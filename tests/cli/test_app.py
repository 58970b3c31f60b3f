"""What holds for every command: the boundary, exit codes, streams, signals, a bare environment."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corpora import debris, gaussian

import binq

COMMANDS = ["binarize", "build", "query", "eval", "info"]
Cli = Callable[..., Any]


def test_version_and_help(cli: Cli) -> None:
    assert cli("--version").out == f"binq {binq.__version__}\n"
    assert all(name in cli("--help").out for name in COMMANDS)
    assert cli("-h").out == cli("--help").out


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command(cli: Cli, command: str) -> None:
    found = cli(command, "--help")
    assert found.out.startswith("Usage: binq")
    assert not found.err


def test_a_row_at_which_a_command_stops_says_what_the_command_can_do(
    cli: Cli, tmp_path: Path
) -> None:
    """No other option is named than the command has, and --on-error where it has that."""
    vectors = gaussian(20, 8)
    np.save(tmp_path / "v.npy", vectors)
    binq.build(vectors, tmp_path / "i.binq")
    vectors[3, 1] = np.nan
    np.save(tmp_path / "nan.npy", vectors)
    np.save(tmp_path / "zero.npy", np.zeros((1, 8), np.float32))
    (tmp_path / "t.jsonl").write_text('{"text": "a b"}\n[]\n')
    spots = {name: tmp_path / name for name in ("v.npy", "i.binq", "nan.npy", "zero.npy")}
    v, index, nan, zero = spots.values()
    skip, model = "mend that row, or use --on-error skip\n", ("--model", "simhash:64")
    another = "; mend that row, or choose another key with --%s, or use --on-error skip\n"
    lines = tmp_path / "v.jsonl"
    lines.write_text('{"id": 1, "v": [1, 2]}\n')
    for words, end in (
        (("build", nan, "-o", tmp_path / "o"), skip),
        (("query", index, nan), skip),
        (("encode", tmp_path / "t.jsonl", *model, "-o", tmp_path / "o.npy"), skip),
        (("binarize", nan, "-o", tmp_path / "o.npy"), "got nan\n"),
        (("eval", index, nan, "--truth", v), "got nan\n"),
        (("sweep", nan), "got nan\n"),
        (("build", lines, "-o", tmp_path / "o", "--column", "w"), another % "column"),
        (("build", lines, "-o", tmp_path / "o", "--id-column", "w"), another % "id-column"),
        (("query", index, zero), "; drop that row, or use --on-error skip\n"),
        (("eval", index, zero, "--truth", v), "; drop that row\n"),
        (("build", zero, "-o", tmp_path / "o"), "; drop that row, or use --metric ip or l2\n"),
    ):
        assert cli(*words, code=3).err.endswith(end), words


def test_no_arguments_print_help(cli: Cli) -> None:
    found = cli(code=2)
    assert not found.out
    assert "Usage" in found.err


@pytest.mark.parametrize(
    "words",
    [
        ["--nope"],
        ["nope"],
        *([command] for command in COMMANDS),
        *([command, "x", "--nope"] for command in COMMANDS),
        ["build", "x", "-o", "y", "--metric", "hamming"],
        ["build", "x", "-o", "y", "--kind", "disk"],
        ["build", "x", "-o", "y", "--scoring", "cosine"],
        ["build", "x", "-o", "y", "--threads", "two"],
        ["query", "x", "y", "-k", "1.5"],
        ["query", "x", "y", "--ef", "few"],
        ["eval", "x", "y", "-k", "1,x"],
        ["info", "x", "extra"],
    ],
    ids=" ".join,
)
def test_usage_errors(cli: Cli, words: list[str]) -> None:
    found = cli(*words, code=2)
    assert not found.out
    assert found.err.startswith("binq: error: ")
    assert len(found.err.splitlines()) == 1
    if len(words) == 1 and words[0] in COMMANDS:
        assert found.err.endswith(f"; see binq {words[0]} --help\n")


def test_a_bug_is_one_line(cli: Cli, index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr("binq.index.describe.describe", broken)
    found = cli("info", index, code=1)
    assert found.err == (
        "binq: error: a bug in binq: RuntimeError: two lines; "
        "set BINQ_DEBUG=1 to see where, and report it\n"
    )


def test_debug_shows_where(run: Cli, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "binq", "info", str(tmp_path / "none")],
        capture_output=True,
        text=True,
        env=os.environ | {"BINQ_DEBUG": "1"},
        check=False,
    )
    assert done.returncode == 4
    assert "Traceback" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("binq: error: no such index")
    assert "Traceback" not in run("info", tmp_path / "none", code=4).err


@pytest.mark.parametrize("error", [MemoryError(), OSError(5, "Input/output error")])
def test_the_environment(
    cli: Cli, index: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("binq.index.describe.describe", broken)
    cli("info", index, code=5)


def test_quiet_and_warnings(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text('{"id": "a", "embedding": [1, 2]}\n' * 2)
    loud = cli("build", path, "-o", tmp_path / "i.binq").err
    assert "binq: warning: 1 ids stand on more than one row" in loud
    assert "2 rows of 2 dims as 2 bits" in loud
    for words in (["-q", "build"], ["build", "-q"], ["--quiet", "build"]):
        assert cli(*words, path, "-o", tmp_path / "i.binq").err == ""
    assert cli("-q", "info", tmp_path / "none", code=4).err  # errors are still said


# The streaming commands, with more output than a pipe holds.
STREAMS = ["table", "jsonl", "tsv", "trec", "parquet"]


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    place = tmp_path_factory.mktemp("many")
    np.save(place / "q.npy", gaussian(2000, 16))
    binq.build(place / "q.npy", place / "i.binq")
    return place / "i.binq", place / "q.npy"


@pytest.mark.slow
@pytest.mark.torture
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("shape", STREAMS)
def test_closed_pipe(
    start: Cli,
    many: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    times: Callable[[int], int],
    shape: str,
    unbuffered: str,
) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    for turn in range(times(5)):
        with start("query", *many, "-k", 3, "--format", shape) as process:
            process.stdout.read(1 + 500 * turn)
            process.stdout.close()
            assert process.wait(60) == 141
            assert process.stderr.read() == b""


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
@pytest.mark.parametrize(
    "words",
    [
        *(["query", "--format", shape] for shape in STREAMS),
        ["info"],
        ["info", "--json"],
        ["--help"],
        ["--version"],
    ],
    ids=" ".join,
)
def test_full_stdout(start: Cli, many: tuple[Path, Path], words: list[str]) -> None:
    files = {"query": (*many, "-k", "2"), "info": many[:1]}.get(words[0], ())
    with open("/dev/full", "wb") as full, start(*words, *files, stdout=full) as process:
        error = process.communicate(timeout=60)[1].decode()
        assert process.returncode == 5, error
        assert len(error.splitlines()) == 1
        assert "no space left" in error


@pytest.mark.slow
@pytest.mark.parametrize(
    ("redirect", "words", "code"),
    [
        (">&-", "info {index}", 5),
        (">&-", "info {index} --json", 5),
        (">&-", "query {index} {queries}", 5),
        (">&-", "build {queries} -o {index}2 -q", 0),
        ("2>&-", "info {index}", 0),
        ("2>&-", "info none", 4),
        ("<&-", "query {index} -", 5),
        (">&- 2>&- <&-", "info none", 4),
    ],
)
def test_closed_streams(many: tuple[Path, Path], redirect: str, words: str, code: int) -> None:
    line = f"{sys.executable} -m binq {words} {redirect}".format(index=many[0], queries=many[1])
    done = subprocess.run(line, shell=True, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert len(done.stderr.splitlines()) <= 1


@pytest.mark.slow
@pytest.mark.torture
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("options", [[], ["--rescore", "int8"], ["--method", "median"]])
def test_signals_during_a_build(
    start: Cli, tmp_path: Path, number: int, code: int, options: list[str]
) -> None:
    """The input is a pipe that stays open, so that the build cannot end by itself."""
    target = tmp_path / "i.binq"
    target.write_bytes(b"\x89BINQ old")
    rows = "".join(f"{row}\n" for row in gaussian(50, 8).tolist()).encode()
    with start("build", "-", "-o", target, *options, stdin=subprocess.PIPE) as process:
        process.stdin.write(rows)
        process.stdin.flush()
        _wait_for_input(process)
        process.send_signal(number)
        assert process.wait(60) == code
        assert process.stderr.read() == b""
    assert target.read_bytes() == b"\x89BINQ old"
    assert os.listdir(tmp_path) == ["i.binq"]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_kill_during_a_build(start: Cli, tmp_path: Path, seed: int) -> None:
    target = tmp_path / "i.binq"
    target.write_bytes(b"\x89BINQ old")
    rows = "".join(f"{row}\n" for row in gaussian(50, 8).tolist()).encode()
    options = [[], ["--rescore", "float32"], ["--rescore", "int8"], ["--method", "mean"]][seed]
    with start("build", "-", "-o", target, *options, stdin=subprocess.PIPE) as process:
        process.stdin.write(rows)
        process.stdin.flush()
        _wait_for_input(process)
        process.kill()
        assert process.wait(60) == -9
    assert target.read_bytes() == b"\x89BINQ old"
    assert not debris(tmp_path)


def _wait_for_input(process: Any) -> None:
    """Wait until a thread sleeps in a read of the input, the output having been opened."""
    deadline = time.monotonic() + 60
    stat = Path(f"/proc/{process.pid}")
    while time.monotonic() < deadline:
        if not stat.exists():
            time.sleep(3)
            return
        calls = []
        for task in (stat / "task").iterdir():
            with contextlib.suppress(OSError):
                calls.append((task / "wchan").read_text())
        call = " ".join(calls)
        open_files = os.listdir(stat / "fd")
        if "pipe_read" in call or "poll" in call or ("pipe" in call and len(open_files) > 3):
            return
        time.sleep(0.05)
    pytest.fail("the build never waited for input")


@pytest.mark.slow
def test_a_bare_environment(index: Path, queries: Path, tmp_path: Path) -> None:
    """As under cron: no HOME, no terminal, hardly any PATH."""
    words = [sys.executable, "-m", "binq", "query", str(index), str(queries), "-k", "1"]
    site = [str(Path(binq.__file__).parents[1])]
    done = subprocess.run(
        words,
        capture_output=True,
        env={"PATH": "/bin", "PYTHONPATH": os.pathsep.join(site)},
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 12
    assert done.stderr == b""


@pytest.mark.slow
def test_no_colours_in_a_pipe(run: Cli, index: Path) -> None:
    for env in ({}, {"NO_COLOR": "1"}, {"TERM": "dumb"}):
        assert b"\x1b" not in run("info", index, env=env).raw
    assert b"\x1b" not in run("info", index, "--no-color").raw


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "env", "coloured"),
    [
        ([], {}, True),
        (["--no-color"], {}, False),
        ([], {"NO_COLOR": "1"}, False),
        ([], {"TERM": "dumb"}, False),
    ],
)
def test_colours_on_a_terminal(
    index: Path, words: list[str], env: dict[str, str], coloured: bool
) -> None:
    pty = pytest.importorskip("pty")
    leader, follower = pty.openpty()
    clean = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    process = subprocess.Popen(
        [sys.executable, "-m", "binq", "info", str(index), *words],
        stdout=follower,
        stderr=subprocess.PIPE,
        env=clean | {"TERM": "xterm-256color"} | env,
    )
    os.close(follower)
    data = b""
    try:
        while part := os.read(leader, 65536):
            data += part
    except OSError:
        pass  # how Linux says that the other side has closed
    os.close(leader)
    assert process.communicate(timeout=60)[1] == b""
    assert process.returncode == 0
    assert b"property" in data
    assert (b"\x1b[1m" in data) or not coloured  # the title is bold
    assert b"\x1b[3" not in data.replace(b"\x1b[3m", b"") or coloured


@pytest.mark.slow
def test_a_file_name_that_is_no_utf_8(run: Cli, index: Path, tmp_path: Path) -> None:
    odd = os.fsencode(tmp_path) + b"/\xff.binq"
    os.link(index, odd)
    assert "300" in run("info", os.fsdecode(odd)).out
    assert "udcff" in run("info", os.fsdecode(odd) + "none", code=4).err
