"""Nothing that is printed for people carries a control character to the terminal."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
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


ODD = [chr(number) for number in (*range(32), *range(127, 160), 0x2028, 0x202E, 0x2066, 0xFEFF)]


@pytest.mark.slow
@pytest.mark.torture
def test_anywhere(tmp_path: Path, cli: Callable[..., Any], times: Callable[[int], int]) -> None:
    """In ids, in names of files and columns, in texts, through every command."""
    draw = random.Random(0)

    def odd() -> str:
        return "".join(draw.choice([*ODD, "a", "\\"]) for _ in range(6))

    def name() -> str:
        return odd().translate({0: "n", ord("/"): "n"})

    np.save(tmp_path / "q.npy", gaussian(1, 8, seed=1))
    asked = tmp_path / "q.npy"
    for turn in range(times(100)):
        place = tmp_path / f"{turn}{name()}"
        place.mkdir()
        ids = [f"{odd()}{number}" for number in range(5)]
        corpus = write_jsonl(place / f"c{name()}.jsonl", gaussian(5, 8), ids)
        index, column = place / f"i{name()}.binq", odd()
        texts = place / f"t{name()}.jsonl"
        rows = ({column: f"{odd()} text", "id": one} for one in ids)
        texts.write_text("".join(json.dumps(row) + "\n" for row in rows))
        (place / "ids").write_text(f"x{name()}")
        shown = [
            cli("build", corpus, "-o", index),
            cli("query", index, asked, "--format", "table"),
            cli("query", index, asked, "--filter-ids", place / "ids", "--format", "table"),
            cli("info", index, "--verify"),
            cli("eval", index, asked, "--truth", corpus, "-k", 1),
            cli("eval", index, corpus, "--truth", corpus, "-k", 1, "--exclude-self"),
            cli("binarize", corpus, "-o", place / f"{name()}.npy"),
            cli("encode", texts, "--model", "simhash:64", "--text-column", column,
                "-o", place / f"{name()}.jsonl"),
            cli("build", corpus, "-o", index, "--id-column", column, code=3),
            cli("build", index, "-o", place / "o.binq", code=3),
            cli("query", corpus, asked, code=4),
            cli("query", index, asked, "--rescore-from", texts, code=3),
            cli("encode", texts, "--model", "simhash:64", "--text-column", f"x{odd()}",
                "-o", place / "o.jsonl", code=3),
            cli(odd(), code=2),
        ]  # fmt: skip
        for result in shown:
            assert all(line.isprintable() for line in (result.out + result.err).split("\n"))
        assert len(cli("query", index, asked, "-k", 3, "--format", "tsv").out.split("\n")) == 4
