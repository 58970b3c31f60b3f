"""Fixtures: corpora, and the command line run inside this process or in one of its own."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from children import Server
from clusters import two_cpus
from corpora import gaussian, quick_ste
from endpoints import FakeEndpoint
from hypothesis import HealthCheck, settings
from stores import S3, running_s3

from binq.binarizers import TABLE

# Whatever started the tests may ignore Ctrl-C, which the commands that they run would inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)

REPOSITORY = Path(__file__).parents[1]

settings.register_profile(
    "suite", deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("suite")


@dataclass(frozen=True)
class Result:
    """What a command did."""

    code: int
    out: str
    err: str
    raw: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        """The JSON documents of a jsonl answer."""
        return [json.loads(line) for line in self.out.splitlines()]


def _checked(code: int, raw: bytes, err: bytes, wanted: int) -> Result:
    result = Result(code, raw.decode(errors="replace"), err.decode(errors="replace"), raw)
    assert code == wanted, f"exit code {code}, not {wanted}\n{result.err}\n{result.out[:2000]}"
    assert "Traceback" not in result.err
    if code in (3, 4, 5, 6):
        lines = [line for line in result.err.splitlines() if "warning:" not in line]
        assert len(lines) == 1, result.err
        assert lines[0].startswith("binq: error: ")
    return result


class _Piece(io.TextIOWrapper):
    """Text over bytes in memory, as a standard stream is text over a descriptor."""

    def __init__(self, data: bytes = b"") -> None:
        super().__init__(io.BytesIO(data), encoding="utf-8", errors="strict", newline="")


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run ``binq`` in this process, through its error boundary, and require an exit code."""
    from binq.cli import app, render

    def call(*words: object, code: int = 0, stdin: bytes | None = None) -> Result:
        out, err = _Piece(), _Piece()
        with monkeypatch.context() as patch, warnings.catch_warnings():
            patch.setattr(sys, "argv", ["binq", *map(str, words)])
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", err)
            patch.setattr(sys, "stdin", _Piece(stdin or b""))
            patch.setattr(render, "_quiet", False)
            patch.setattr(render, "_no_color", False)
            try:
                app.main()
            except SystemExit as left:
                exit_code = left.code
        return _checked(exit_code, out.buffer.getvalue(), err.buffer.getvalue(), code)

    return call


def command(*words: object) -> list[str]:
    """Return the command line that runs ``binq`` in a process of its own."""
    return [sys.executable, "-m", "binq", *map(str, words)]


def environment(**changes: str) -> dict[str, str]:
    """Return the environment of such a process."""
    return os.environ | {"PYTHONPATH": str(REPOSITORY), "COLUMNS": "100"} | changes


@pytest.fixture
def run() -> Callable[..., Result]:
    """Run ``binq`` in a process of its own, and require an exit code."""

    def call(
        *words: object, code: int = 0, stdin: bytes = b"", env: dict[str, str] | None = None
    ) -> Result:
        done = subprocess.run(
            command(*words),
            input=stdin,
            capture_output=True,
            env=environment(**(env or {})),
            timeout=120,
            check=False,
        )
        return _checked(done.returncode, done.stdout, done.stderr, code)

    return call


@pytest.fixture
def start() -> Callable[..., Any]:
    """Start ``binq`` as a process whose streams the test holds; it is ended with the test."""

    @contextmanager
    def call(*words: object, **streams: Any) -> Iterator[subprocess.Popen[bytes]]:
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | streams
        with subprocess.Popen(command(*words), env=environment(), **streams) as process:
            try:
                yield process
            finally:
                if process.poll() is None:
                    process.kill()

    return call


@pytest.fixture(scope="session")
def children(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Start children of a warm process; it and they are ended with the tests."""
    if sys.platform != "linux":
        pytest.skip("forks of what has loaded numpy, and what /proc tells of them, are for Linux")
    server = Server(tmp_path_factory.mktemp("children"), environment())
    yield server
    server.process.communicate(timeout=60)


@pytest.fixture(scope="session")
def cluster() -> Iterator[dict[str, str]]:
    """Variables that name a Ray cluster of two CPUs, for tests marked ``ray``."""
    with two_cpus(environment()) as named:
        yield named


@pytest.fixture(scope="session")
def times(pytestconfig: pytest.Config) -> Callable[[int], int]:
    """How often to try something: as often as said under ``-m torture``, else a tenth of it."""
    full = "torture" in pytestconfig.option.markexpr.replace("not torture", "")
    return lambda count: count if full else -(-count // 10)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real embeddings, kept beside the repository."""
    path = REPOSITORY.parent / "shared" / "data"
    if not (path / "docs.parquet").exists():
        pytest.skip(f"no real embeddings in {path}")
    return path


@dataclass(frozen=True)
class Real:
    """Real embeddings as float32, and where a slice of the queries lies."""

    docs: Path
    queries: Path
    vectors: np.ndarray
    ids: list[str]
    probes: np.ndarray
    probe_ids: list[str]


@pytest.fixture(scope="session")
def real(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Real:
    """All documents, and every 38th query."""
    import pyarrow.parquet as pq

    docs = pq.read_table(shared_data / "docs.parquet")
    table = pq.read_table(shared_data / "queries.parquet")
    queries = table.take(list(range(0, len(table), 38)))
    place = tmp_path_factory.mktemp("real") / "queries.parquet"
    pq.write_table(queries, place)

    def floats(rows: Any) -> np.ndarray:
        flat = rows["embedding"].combine_chunks().flatten().to_numpy()
        return flat.reshape(len(rows), -1).astype(np.float32)

    return Real(
        shared_data / "docs.parquet",
        place,
        floats(docs),
        docs["id"].to_pylist(),
        floats(queries),
        queries["id"].to_pylist(),
    )


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """300 vectors of 48 dims, as npy."""
    path = tmp_path / "corpus.npy"
    np.save(path, gaussian(300, 48))
    return path


@pytest.fixture
def queries(tmp_path: Path) -> Path:
    """12 queries for ``corpus``, as npy."""
    path = tmp_path / "queries.npy"
    np.save(path, gaussian(12, 48, seed=1))
    return path


@pytest.fixture
def index(corpus: Path, tmp_path: Path) -> Path:
    """A flat index of ``corpus`` with a float32 payload."""
    from binq import build

    path = tmp_path / "corpus.binq"
    build(corpus, path, rescore="float32")
    return path


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BINQ_API_KEY", "OPENAI_API_KEY", "CO_API_KEY", "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def endpoint() -> Iterator[FakeEndpoint]:
    fake = FakeEndpoint()
    yield fake
    fake.close()


@pytest.fixture(scope="session")
def _s3() -> Iterator[S3]:
    with running_s3() as server:
        yield server


@pytest.fixture
def s3(_s3: S3, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    """An S3 server on loopback with an empty bucket, which the environment names."""
    for name, value in _s3.environment.items():
        monkeypatch.setenv(name, value)
    yield _s3
    _s3.clear()


@pytest.fixture
def waits() -> list[float]:
    """Receives the seconds that a transport would have slept."""
    return []


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train ``ste`` in few steps, for tests of what is done with its codes."""
    monkeypatch.setitem(TABLE, "ste", quick_ste())
