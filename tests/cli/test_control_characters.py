"""Nothing that is printed for people carries a control character to the terminal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from corpora import gaussian, write_jsonl
from hypothesis import given
from hypothesis import strategies as st

import binq
from binq.errors import BinqError, escaped

NASTY = "a\x1b[31mb\x07\x9bc\x00\r\n\u202ed"


@given(st.text())
def test_every_message_is_one_printable_line(text: str) -> None:
    line = BinqError(text, text, text, text, text).line()
    assert line.isprintable()
    assert escaped(text).isprintable()


def test_tables_notes_and_errors(tmp_path: Path, cli: Callable[..., Any]) -> None:
    corpus = write_jsonl(tmp_path / "c.jsonl", gaussian(5, 8), [f"{NASTY}{n}" for n in range(5)])
    name = tmp_path / "x\x1b[2Jy.binq"
    np.save(tmp_path / "q.npy", gaussian(1, 8, seed=1))
    shown = [cli("build", corpus, "-o", name)]
    shown.append(cli("query", name, tmp_path / "q.npy", "--format", "table"))
    shown.append(cli("info", name))
    shown.append(cli("info", tmp_path / "no\x1bne.binq", code=4))
    shown.append(cli("query", name, tmp_path / "no\x1bne.npy", code=3))
    shown.append(cli("nope\x1b[1m", code=2))
    for result in shown:
        assert all(line.isprintable() for line in (result.out + result.err).split("\n"))


def test_a_record_of_tsv_is_one_line(tmp_path: Path, cli: Callable[..., Any]) -> None:
    corpus = write_jsonl(tmp_path / "c.jsonl", gaussian(5, 8), [f"a\rb\tc{n}" for n in range(5)])
    binq.build(corpus, tmp_path / "i.binq")
    np.save(tmp_path / "q.npy", gaussian(2, 8, seed=1))
    found = cli("query", tmp_path / "i.binq", tmp_path / "q.npy", "-k", 3, "--format", "tsv")
    assert len(found.out.splitlines()) == 6
    assert "a\\rb\\tc" in found.out
