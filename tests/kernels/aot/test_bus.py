"""A mapped file that is cut short under a running scan."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import environment
from corpora import gaussian

import binq
from binq.kernels import asymmetric, hamming, pack
from binq.kernels.aot import bus
from binq.kernels.aot import compile as aot

CUT = """
import os, sys
from binq.storage.reader import IndexFile
file, after, *words = sys.argv[1:]
check = IndexFile.require_unchanged
checks = 0
def cut(self):
    global checks
    check(self)
    checks += 1
    if checks == int(after):
        os.truncate(file, 4096)
IndexFile.require_unchanged = cut
"""
AS_COMMAND = """
sys.argv[1:] = words
from binq.__main__ import run
run()
"""
AS_LIBRARY = """
import binq, numpy
binq.open(words[0]).search(numpy.load(words[1]))
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for family in (hamming.FAMILY, asymmetric.FAMILY, pack.FAMILY):
        aot.load(family)  # kept, so that the commands find them
    np.save(tmp_path / "c.npy", gaussian(20000, 64))
    np.save(tmp_path / "q.npy", gaussian(1030, 64, seed=1))
    binq.build(tmp_path / "c.npy", tmp_path / "i.binq", rescore="int8")
    return tmp_path


def _cut(
    place: Path, name: str, script: str, *words: str, after: int = 1
) -> subprocess.CompletedProcess[str]:
    """Run with a file that is cut short right behind the check before a scan."""
    call = [sys.executable, "-c", CUT + script, str(place / name), str(after), *words]
    return subprocess.run(
        call, capture_output=True, text=True, cwd=place, env=environment(), timeout=60, check=False
    )


@pytest.mark.slow
@pytest.mark.parametrize("threads", ["1", "4"])
@pytest.mark.parametrize("scan", [[], ["--scoring", "asymmetric"], ["--radius", "20"]])
def test_a_command_says_so_in_a_line(place: Path, scan: list[str], threads: str) -> None:
    words = ["query", "i.binq", "q.npy", "--threads", threads, *scan]
    found = _cut(place, "i.binq", AS_COMMAND, *words)
    assert found.returncode == 4, found.stderr
    assert found.stderr == f"binq: error: {binq.errors.index_changed('i.binq')}\n"


MANY_AT_ONCE = """
import os, sys, threading
import numpy as np
from binq.kernels import hamming
from binq.kernels.aot import bus
bus.last_words = lambda name: (b"said", 4)
query = np.zeros((1, 1), np.uint64)
hamming.topk(query, query, 1)
np.zeros(1 << 15, np.uint64).tofile(sys.argv[1])
codes = np.memmap(sys.argv[1], np.uint64, "r").reshape(-1, 1)
os.truncate(sys.argv[1], 0)
os.set_blocking(2, False)
filled = 0
while True:
    try:
        filled += os.write(2, b"." * 4096)
    except BlockingIOError:
        break
os.set_blocking(2, True)
print(filled, flush=True)
for _ in range(4):
    threading.Thread(target=hamming.topk, args=(codes, query, 1)).start()
"""


@pytest.mark.slow
def test_of_many_threads_one_speaks(place: Path) -> None:
    """Standard error is full, so that all threads fault while the first still writes."""
    call = [sys.executable, "-c", MANY_AT_ONCE, str(place / "codes")]
    with subprocess.Popen(
        call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        filled = int(child.stdout.readline())
        time.sleep(0.5)
        said = child.stderr.read()
    assert child.returncode == 4
    assert said == b"." * filled + b"said"


@pytest.mark.slow
def test_another_file_is_not_taken_for_the_index(place: Path) -> None:
    """It is mapped by the first batch of queries, and cut before the second."""
    words = ["query", "i.binq", "q.npy", "--rescore-from", "c.npy"]
    found = _cut(place, "c.npy", AS_COMMAND, *words, after=3)
    assert found.returncode == 3, found.stderr
    assert len(found.stderr.splitlines()) == 1
    assert "cut short" in found.stderr
    assert "i.binq" not in found.stderr


MAPPED = """
import os, sys, numpy
file, *words = sys.argv[1:]
mapped = numpy.memmap
def cut(path, *how):
    found = mapped(path, *how)
    os.truncate(path, 128)
    return found
numpy.memmap = cut
"""
OPENED = """
import os, sys
from binq.storage.reader import IndexFile
file, *words = sys.argv[1:]
array = IndexFile.array
def cut(self, *what):
    os.truncate(file, 4096)
    return array(self, *what)
IndexFile.array = cut
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cutting", "name", "words", "code"),
    [
        (OPENED, "i.binq", ["query", "i.binq", "q.npy"], 4),
        (OPENED, "i.binq", ["query", "i.binq", "q.npy", "--scoring", "asymmetric"], 4),
        (MAPPED, "q.npy", ["query", "i.binq", "q.npy"], 3),
        (MAPPED, "c.npy", ["build", "c.npy", "-o", "o.binq"], 3),
    ],
)
def test_before_any_kernel_is_loaded(
    place: Path, cutting: str, name: str, words: list[str], code: int
) -> None:
    call = [sys.executable, "-c", cutting + AS_COMMAND, str(place / name), *words]
    found = subprocess.run(
        call, capture_output=True, text=True, cwd=place, env=environment(), timeout=60, check=False
    )
    assert found.returncode == code, found.stderr
    assert len(found.stderr.splitlines()) == 1
    assert found.stderr.startswith("binq: error: ")
    assert ("i.binq" in found.stderr) == (name == "i.binq")


@pytest.mark.slow
def test_the_library_leaves_the_signal_alone(place: Path) -> None:
    found = _cut(place, "i.binq", AS_LIBRARY, "i.binq", "q.npy")
    assert found.returncode == -signal.SIGBUS


@pytest.mark.slow
def test_a_file_that_is_cut_before_it_is_mapped(place: Path) -> None:
    words = ["query", "i.binq", "q.npy", "--rescore-from", "c.npy"]
    found = _cut(place, "c.npy", AS_COMMAND, *words)
    assert found.returncode == 3, found.stderr
    assert "cut short since it was opened: c.npy" in found.stderr


def test_where_the_system_says_which_address() -> None:
    for triple, offset in (("x86_64-unknown-linux-gnu", 16), ("arm64-apple-darwin", 24)):
        assert f"i32 {offset}" in bus.assembly(triple, "")
