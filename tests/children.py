"""Processes of their own for what may crash, hang or be killed, forked from one that is warm.

A fork has all of binq loaded, so that a command in a process of its own takes milliseconds. Run as
a program, this module is the process that forks.
"""

from __future__ import annotations

import faulthandler
import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any


def wait_for_handlers(pid: int) -> None:
    """Wait until a process that runs binq hears SIGTERM: before it does, nothing of binq runs."""
    mask = 1 << signal.SIGTERM - 1
    for _ in range(20_000):
        status = Path(f"/proc/{pid}/status").read_text()
        caught = status.partition("SigCgt:")[2].split()[:1]
        if not caught or int(caught[0], 16) & mask:
            return
        time.sleep(0.0005)
    raise AssertionError("signals were never heard")


# What files are written by.
_CALLS = {"write", "fsync", "fchmod", "link", "replace", "unlink"}


@dataclass(frozen=True)
class End:
    """How a child ended: its exit code (negative: a signal), its peak of memory in MiB."""

    code: int
    peak: float
    out: str
    err: str


class Child:
    """A process that runs one function, its stdout and stderr being files."""

    def __init__(self, server: Server, pid: int, streams: tuple[Path, Path]) -> None:
        self._server, self.pid, self._streams = server, pid, streams

    def send(self, number: int) -> None:
        """Send a signal; the child cannot be another process by then, since nobody has waited."""
        os.kill(self.pid, number)

    def wait(self, seconds: float = 60) -> End:
        """Wait for its end; a child that hangs is killed, and says where it was."""
        found = self._server.ask({"wait": self.pid, "seconds": seconds})
        if found is None:
            self.send(signal.SIGABRT)  # it shows its stack
            if self._server.ask({"wait": self.pid, "seconds": 5}) is None:
                self.send(signal.SIGKILL)
                self._server.ask({"wait": self.pid, "seconds": 60})
            raise AssertionError(f"hung for {seconds} s:\n{self._streams[1].read_text()}")
        out, err = (path.read_bytes().decode(errors="replace") for path in self._streams)
        return End(found["code"], found["peak"], out, err)


class Server:
    """Starts children; made by the fixture ``children``, which ends it."""

    def __init__(self, place: Path, environment: dict[str, str]) -> None:
        self._place, self._count = place, 0
        tests = str(Path(__file__).parent)
        path = os.pathsep.join([tests, *environment.get("PYTHONPATH", "").split(os.pathsep)])
        self.process = subprocess.Popen(
            [sys.executable, __file__], env=environment | {"PYTHONPATH": path}, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip

    def ask(self, request: dict[str, Any]) -> Any:
        """Send a request and return the answer."""
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps(request) + "\n")
        stdin.flush()
        return json.loads(stdout.readline())

    def start(self, function: str, *arguments: Any, **streams: Any) -> Child:
        """Run ``module:function`` with JSON arguments; ``stdin`` and ``stdout`` may be paths."""
        self._count += 1
        names = [str(self._place / f"{self._count}.{name}") for name in ("out", "err")]
        request = {
            "call": function,
            "arguments": arguments,
            "stdout": names[0],
            "stdin": "/dev/null",
        }
        request |= {"stderr": names[1]} | {name: str(path) for name, path in streams.items()}
        for name in names:
            Path(name).touch()
        return Child(self, self.ask(request), (Path(names[0]), Path(names[1])))

    def binq(self, *words: object, **streams: Any) -> Child:
        """Run a command."""
        return self.start("children:command", *map(str, words), **streams)


def command(*words: str) -> None:
    """Be the process of a command."""
    from binq.__main__ import run

    sys.argv = ["binq", *words]
    run()


def in_place(place: str, *words: str) -> None:
    """Run a command in a directory, whose outputs have the same bytes every time."""
    os.environ["SOURCE_DATE_EPOCH"] = "0"
    os.chdir(place)
    command(*words)


def killed_at(number: int, place: str, *words: str) -> None:
    """Run a command that is killed at so many calls of those by which files are written."""
    calls = 0

    def count(_frame: Any, event: str, what: Any) -> None:
        nonlocal calls
        if event == "c_call" and what.__name__ in _CALLS:
            calls += 1
            if calls == number:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(count)
    in_place(place, *words)


def cramped(size: int, place: str, *words: str) -> None:
    """Run a command that may make no file longer than so many bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    in_place(place, *words)


def _load() -> None:
    """Load what commands load; and nothing that starts a thread, which a fork would lose."""
    for name in (
        *(f"cli.{name}" for name in ("app", "binarize", "build", "encode", "evaluate", "formats")),
        *("building.binarize", "building.build", "encoders.fingerprints", "evaluation.evaluate"),
        *("index.stream", "kernels.scan", "text.encode", "vectors.jsonl"),
    ):
        importlib.import_module(f"binq.{name}")
    for name in ("concurrent.futures", "numpy.ma", "pyarrow.parquet", "rich.table"):
        importlib.import_module(name)
    importlib.import_module("threadpoolctl")


def _be_child(request: dict[str, Any]) -> None:
    """Run the function, and end with 0, or with 1 and a traceback."""
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        flags = os.O_WRONLY | os.O_CREAT
        for number, name in enumerate(("stdin", "stdout", "stderr")):
            descriptor = os.open(request[name], flags if number else os.O_RDONLY, 0o600)
            os.dup2(descriptor, number)
            os.close(descriptor)
            stream = os.fdopen(os.dup(number), "w" if number else "r", closefd=False)
            setattr(sys, name, stream)
        faulthandler.enable()
        module, function = request["call"].split(":")
        getattr(importlib.import_module(module), function)(*request["arguments"])
        sys.stdout.flush()
        code = 0
    except BaseException:
        import traceback

        os.write(2, traceback.format_exc().encode())
    os._exit(code)


def _ended(pid: int, seconds: float) -> dict[str, Any] | None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found, status, used = os.wait4(pid, os.WNOHANG)
        if found:
            return {"code": os.waitstatus_to_exitcode(status), "peak": used.ru_maxrss / 1024}
        time.sleep(0.001)
    return None


def main() -> None:
    """Answer requests until stdin ends; then no child goes on living."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _load()
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            answer: Any = _ended(request["wait"], request["seconds"])
        else:
            answer = os.fork()
            if answer == 0:
                _be_child(request)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
