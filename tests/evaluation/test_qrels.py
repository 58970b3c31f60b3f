"""Judgements in both formats, and measures by hand."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest

from binq.errors import InputError, MissingExtraError
from binq.evaluation.qrels import measure, read_qrels

WANTED = {"q1": {"a": 1, "b": 0}, "q 2": {"c": 2}}


def test_beir(tmp_path: Path) -> None:
    path = tmp_path / "q.tsv"
    path.write_text("query-id\tcorpus-id\tscore\nq1\ta\t1\nq1\tb\t0\n\nq 2\tc\t2\n")
    assert read_qrels(path) == WANTED
    path.write_text("q1\ta\t1\r\nq1\tb\t0\r\nq 2\tc\t2")
    assert read_qrels(path) == WANTED


def test_trec(tmp_path: Path) -> None:
    path = tmp_path / "q.txt"
    path.write_text("q1 0 a 1\nq1 Q0 b 0\nq2\t0\tc\t-1\n")
    assert read_qrels(path) == {"q1": {"a": 1, "b": 0}, "q2": {"c": -1}}


def test_ids_with_line_separators_of_unicode(tmp_path: Path) -> None:
    path = tmp_path / "q.tsv"
    path.write_text("q\u2028\x851\ta\x0b\t1\n", encoding="utf-8")
    assert read_qrels(path) == {"q\u2028\x851": {"a\x0b": 1}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no judgements"),
        ("query-id\tcorpus-id\tscore\n", "no judgements"),
        ("q1\ta\t1\nq1\ta\n", "line 2"),
        ("q1\ta\t1\nq1\tb\tx\n", "not a grade"),
        ("q1 0 a 1.5\n", "not a grade"),
        ("a b c d e\n", "line 1"),
    ],
)
def test_other_text(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "q.tsv"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_qrels(path)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no such file: .*; check the path"):
        read_qrels(tmp_path / "none")
    with pytest.raises(InputError, match="directory"):
        read_qrels(tmp_path)
    (tmp_path / "b").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="text"):
        read_qrels(tmp_path / "b")


def test_measures_by_hand() -> None:
    pytest.importorskip("ir_measures")
    qrels = {"q1": {"a": 1, "b": 1}, "q2": {"c": 1}, "unasked": {"d": 1}}
    rankings = {"q1": ["x", "a", "y", "b"], "q2": ["x", "y"], "unjudged": ["a"]}
    found = measure(qrels, rankings, 4)
    assert set(found) == {"nDCG@4", "R@4", "RR@4", "AP@4"}
    assert all(set(values) == {"q1", "q2"} for values in found.values())
    assert measure(qrels, rankings, 2)["R@2"] == {"q1": 0.5, "q2": 0.0}
    assert found["RR@4"]["q1"] == 0.5
    assert found["AP@4"]["q1"] == pytest.approx((1 / 2 + 2 / 4) / 2)
    ideal = 1 + 1 / math.log2(3)
    assert found["nDCG@4"]["q1"] == pytest.approx((1 / math.log2(3) + 1 / math.log2(5)) / ideal)


def test_a_repeated_id_counts_at_its_best_rank() -> None:
    pytest.importorskip("ir_measures")
    found = measure({"q": {"a": 1, "b": 1}}, {"q": ["x", "a", "a", "x", "b"]}, 3)
    assert found["R@3"]["q"] == 1.0  # x, a, b
    assert found["RR@3"]["q"] == 0.5


def test_no_judged_query() -> None:
    pytest.importorskip("ir_measures")
    with pytest.raises(InputError, match="no query has a judgement"):
        measure({"q": {"a": 1}}, {"other": ["a"]}, 1)


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ir_measures", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'binq\[ir\]'"):
        measure({"q": {"a": 1}}, {"q": ["a"]}, 1)


def test_a_byte_order_mark_and_repeated_judgements(tmp_path: Path) -> None:
    path = tmp_path / "qrels.tsv"
    path.write_bytes(b"\xef\xbb\xbfq1\td1\t2\nq1\td1\t2\nq2\td1\t0\n")
    assert read_qrels(path) == {"q1": {"d1": 2}, "q2": {"d1": 0}}


@pytest.mark.parametrize(
    ("lines", "match"),
    [
        ("q1\td1\t2\nq1\td1\t1\n", "contradict.*line 2.*grade 2"),
        (f"q1\td1\t{2**31}\n", "not a grade"),
        (f"q1 0 d1 {-(2**63)}\n", "not a grade"),
    ],
)
def test_judgements_that_mislead(tmp_path: Path, lines: str, match: str) -> None:
    (tmp_path / "qrels.tsv").write_text(lines)
    with pytest.raises(InputError, match=match):
        read_qrels(tmp_path / "qrels.tsv")
