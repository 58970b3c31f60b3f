"""A command as a process: interrupted while it loads, cramped, and without a reader."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from children import wait_for_handlers
from conftest import command, environment

from binq.cli import process
from binq.errors import EnvironmentFailure

INTERRUPTED = """
import os, runpy, sys
name, number, swallowed, *words = sys.argv[1:]

class Swallows:
    def __del__(self):
        os.kill(os.getpid(), int(number))
        for _ in range(1000):
            pass

class Finder:
    def find_spec(self, wanted, path=None, target=None):
        if wanted == name:
            sys.meta_path.remove(self)
            Swallows() if swallowed == "1" else os.kill(os.getpid(), int(number))

sys.meta_path.insert(0, Finder())
sys.argv = ["binq", *words]
runpy.run_module("binq", run_name="__main__", alter_sys=True)
"""

Cli = Callable[..., Any]


def done(words: list[str], **how: Any) -> subprocess.CompletedProcess[str]:
    how.setdefault("env", environment())
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=120, **how)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_while_it_loads(index: Path, queries: Path, number: int, code: int) -> None:
    """Whatever is being imported when the signal comes, and where Python passes over it."""
    words = ["query", str(index), str(queries)]
    modules = ["binq.cli.app", "typer", "binq.cli.query", "numpy", "xxhash", "llvmlite.binding"]
    for module in modules:
        for swallowed in "01":
            call = [sys.executable, "-c", INTERRUPTED, module, str(int(number)), swallowed, *words]
            found = done(call)
            assert (found.returncode, found.stderr) == (code, ""), module


@pytest.mark.slow
@pytest.mark.torture
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing tells what is handled")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_at_any_instant(
    start: Cli, index: Path, queries: Path, times: Callable[[int], int], number: int, code: int
) -> None:
    """From the moment on when binq is loaded, to the end."""
    begun = time.monotonic()
    with start("query", index, queries) as process:
        process.communicate()
    seconds, codes = time.monotonic() - begun, []
    for instant in np.linspace(0, 0.9 * seconds, times(50)).tolist():
        with start("query", index, queries) as process:
            wait_for_handlers(process.pid)
            time.sleep(instant)
            process.send_signal(number)
            error = process.communicate(timeout=60)[1]
        codes.append(process.returncode)
        assert process.returncode in (code, 0), error
        assert error == b""
    assert codes.count(code) > len(codes) / 2


def test_what_ignores_a_signal_goes_on(index: Path) -> None:
    """As ``nohup`` and a shell's ``&`` have it."""

    def ignore() -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    for module in ("typer", "numpy"):
        words = [module, str(int(signal.SIGINT)), "0", "info", str(index)]
        found = done([sys.executable, "-c", INTERRUPTED, *words], preexec_fn=ignore)
        assert found.returncode == 0, found.stderr


def test_handlers_are_as_before_behind_a_command() -> None:
    names = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in names], sys.unraisablehook
    with pytest.raises(process.Terminated), process.interruptible():
        signal.raise_signal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), process.interruptible():
        signal.raise_signal(signal.SIGINT)
    assert before == ([signal.getsignal(number) for number in names], sys.unraisablehook)


def test_help_into_a_closed_pipe(start: Cli) -> None:
    for words in (["--help"], ["query", "--help"], ["--version"]):
        reading, writing = os.pipe()
        os.close(reading)
        with start(*words, stdout=writing) as process:
            os.close(writing)
            assert process.wait(60) == 141, words
            assert process.stderr.read() == b""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the limits are others")
def test_cramped(index: Path, queries: Path) -> None:
    """Limits on memory and on open files: one line, or the answer."""
    for kind, amounts in (
        (resource.RLIMIT_AS, [mib << 20 for mib in (50, 100, 200, 300, 500, 1000)]),
        (resource.RLIMIT_NOFILE, [5, 6]),
    ):
        for amount in amounts:

            def limit(kind: int = kind, amount: int = amount) -> None:
                resource.setrlimit(kind, (amount, amount))

            found = done(command("query", index, queries), preexec_fn=limit)
            assert found.returncode == 5, (amount, found.stderr)
            assert found.stderr.startswith("binq: error: ")
            assert len(found.stderr.splitlines()) == 1


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the limit is another")
def test_as_much_memory_as_it_asks_for(index: Path, queries: Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))

    found = done(command("query", index, queries), preexec_fn=limit)
    assert found.returncode == 0, found.stderr


def test_blas_gets_the_threads_that_there_is_room_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")  # so that it is as before behind the test
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    file = tmp_path / "limits"

    def limited(limit: object) -> str:
        monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
        head = "Limit                     Soft Limit           Hard Limit           Units     "
        file.write_text(f"{head}\nMax address space         {limit!s:<20} unlimited bytes\n")
        process.require_memory(str(file))
        return os.environ.get("OPENBLAS_NUM_THREADS", "")

    amounts = ("unlimited", 1 << 30, (1 << 30) + (129 << 20), 1 << 50)
    assert [limited(amount) for amount in amounts] == ["", "1", "2", "8"]
    with pytest.raises(EnvironmentFailure, match="ulimit -v"):
        limited(1 << 20)
    process.require_memory(str(tmp_path / "none"))


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError("can't start new thread"), "no more threads"),
        (ImportError("long\n\nOriginal error was: no room\n"), "Original error was: no room;"),
        (ImportError(), "ImportError"),
        (OSError("no shared object"), "no shared object"),
    ],
)
def test_what_the_environment_lacks(
    cli: Cli, index: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("binq.index.describe.describe", broken)
    assert said in cli("info", index, code=5).err


def test_a_cpu_that_llvm_does_not_know(run: Cli, index: Path, queries: Path) -> None:
    found = run("query", index, queries, code=5, env={"NUMBA_CPU_NAME": "nonsense"})
    assert "NUMBA_CPU_NAME=nonsense" in found.err
