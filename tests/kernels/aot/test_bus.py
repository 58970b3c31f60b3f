"""A mapped file that is cut short under a running scan."""

from __future__ import annotations

import signal
import subprocess
import sys
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


@pytest.mark.slow
def test_another_file_is_not_taken_for_the_index(place: Path) -> None:
    """It is mapped by the first batch of queries, and cut before the second."""
    words = ["query", "i.binq", "q.npy", "--rescore-from", "c.npy"]
    found = _cut(place, "c.npy", AS_COMMAND, *words, after=3)
    assert found.returncode == 3, found.stderr
    assert len(found.stderr.splitlines()) == 1
    assert "cut short" in found.stderr
    assert "i.binq" not in found.stderr


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
