"""Parts of lines of JSON, read without what precedes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from binq.io.streams import parse_json
from binq.vectors import Batch, jsonl, open_vectors


def firsts(batch: Batch) -> list[float]:
    return [row[0] for row in batch.vectors.tolist()]


def test_rows_between_are_those_of_the_whole_and_others_are_not_parsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who reads a part of a long file, as tasks of a build do, does not parse what precedes it."""
    good = [f'{{"id": "d{row}", "embedding": [{row}, 1]}}' for row in range(40)]
    for row in (0, 7, 20, 39):
        good[row] = "{"  # the first that can be used says what all have in common
    text = "\n\n".join(good[:10]) + "\n \n" + "\r\n".join(good[10:])
    (tmp_path / "0.jsonl").write_bytes(b"\xef\xbb\xbf" + text.encode())
    (tmp_path / "1.jsonl").write_text("\n".join(good[:25]))
    parsed = []
    monkeypatch.setattr(jsonl, "parse_json", lambda line: parsed.append(line) or parse_json(line))
    for files, total in ((["0.jsonl"], 40), (["0.jsonl", "1.jsonl"], 65)):
        paths: Any = [str(tmp_path / name) for name in files]
        every = list(range(total))
        for first, end in ((0, 65), (0, 1), (3, 9), (19, 22), (30, 41), (38, 50), (60, 65)):
            with open_vectors(paths, on_error="skip") as source:
                parsed.clear()
                found = [
                    (batch.start + offset, value)
                    for batch in source.between(first, end)
                    for offset, value in [
                        *zip(
                            batch.offsets, [row[0] for row in batch.vectors.tolist()], strict=True
                        ),
                        *((refused.offset, None) for refused in batch.refused),
                    ]
                ]
                wanted = [row % 40 for row in every[first:end]]
                values = [None if good[row] == "{" else float(row) for row in wanted]
                assert [row for row, _ in sorted(found)] == every[first:end]
                assert [value for _, value in sorted(found)] == values
                assert len(parsed) <= 2 * (len(wanted) + len(files))
                last = min(40, end) - 1
                if first <= last:
                    line = 1 + 2 * last if last < 10 else 11 + last
                    assert source.locate(last).endswith(f"row {last} line {line}")
