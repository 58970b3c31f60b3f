"""Files that are cut, emptied or written over while a command reads them."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from children import Server
from corpora import gaussian

import binq

pytestmark = [pytest.mark.slow, pytest.mark.torture]

QUERY = ("query", "i.binq", "q.npy", "-k", "3")
# The file that is changed, a command that reads it, and with what it may refuse.
READERS: list[tuple[str, tuple[str, ...], int]] = [
    ("i.binq", (*QUERY, "--rescore", "none"), 4),
    ("i.binq", QUERY, 4),
    ("i.binq", (*QUERY, "--scoring", "asymmetric", "--threads", "1"), 4),
    ("i.binq", (*QUERY, "--radius", "18"), 4),
    ("i.binq", (*QUERY, "--oversample", "auto"), 4),
    ("l.binq", ("query", "l.binq", *QUERY[2:], "--scoring", "asymmetric"), 4),
    ("l.binq", ("query", "l.binq", *QUERY[2:], "--nprobe", "9"), 4),
    ("i.binq", ("info", "i.binq", "--verify", "--json"), 4),
    ("l.binq", ("query", "l.binq", *QUERY[2:], "--filter-ids", "ids"), 4),
    ("v.npy", (*QUERY, "--rescore-from", "v.npy"), 3),
    ("v.npy", ("build", "v.npy", "-o", "o.binq", "-q"), 3),
    ("q.npy", (*QUERY, "--rescore", "none"), 3),
]


def change(path: Path, other: Path, way: str, draw: random.Random) -> None:
    size = path.stat().st_size
    if way == "cut":
        os.truncate(path, draw.randrange(size))
    elif way == "emptied":
        os.truncate(path, 0)
    else:
        shutil.copyfile(other, path)  # as cp does: emptied, and written again


def test_a_reader_answers_or_says_so(
    children: Server, tmp_path: Path, times: Callable[[int], int]
) -> None:
    """The answer is of the old file or of the new, or it ends with a line; never by a signal."""
    kept, new, live = (tmp_path / name for name in ("kept", "new", "live"))
    for number, place in enumerate((kept, new)):
        place.mkdir()
        np.save(place / "v.npy", gaussian(10_000, 64, seed=number))
        np.save(place / "q.npy", gaussian(1000 + number, 64, seed=9))
        binq.build(place / "v.npy", place / "i.binq", rescore="int8")
        binq.build(place / "v.npy", place / "l.binq", rescore="int8", kind="ivf")
        (place / "ids").write_text("".join(f"{row}\n" for row in range(0, 20_000, 3)))
    live.mkdir()
    draw, refused = random.Random(0), 0

    for changed, words, code in READERS:
        answers = []
        for other in (kept, new):
            for file in kept.iterdir():
                shutil.copyfile(file, live / file.name)
            shutil.copyfile(other / changed, live / changed)
            begun = time.monotonic()
            end = children.start("children:in_place", str(live), *words).wait()
            seconds = time.monotonic() - begun
            assert end.code == 0, end.err
            answers.append(end.out)
        for turn in range(times(20)):
            shutil.copyfile(kept / changed, live / changed)
            child = children.start("children:in_place", str(live), *words)
            time.sleep(draw.uniform(0, seconds))
            change(live / changed, new / changed, ("cut", "over", "emptied")[turn % 3], draw)
            end = child.wait()
            if end.code == 0:
                assert end.out in answers, words
                continue
            refused += 1
            codes = (code, 3) if words[0] == "query" else (code,)
            assert end.code in codes, (words, end)
            *warned, error = end.err.splitlines()
            assert error.startswith("binq: error: "), end
            assert all(line.startswith("binq: warning: ") for line in warned), end
    assert refused > times(20)
