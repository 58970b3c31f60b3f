"""Arrays that an object yields, again for each pass, as one source."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corpora import gaussian

import binq
from binq.errors import InputError, UsageError
from binq.vectors import open_vectors


class Passes:
    """Yields arrays, other ones with each pass if several lists of them are given."""

    def __init__(self, *passes: list[Any]) -> None:
        self.passes = passes
        self.begun = 0
        self.ended = 0

    def __iter__(self) -> Iterator[Any]:
        arrays = self.passes[min(self.begun, len(self.passes) - 1)]
        self.begun += 1
        try:
            yield from arrays
        finally:
            self.ended += 1


class Sized(Passes):
    shape = (200, 16)


ROWS = gaussian(200, 16)
PARTS = np.split(ROWS, [1, 1, 90])


def test_arrays_are_one_source() -> None:
    given = Passes(PARTS)
    with open_vectors(given) as source:
        assert (source.rows, source.dim, source.has_ids, source.rewindable) == (
            None,
            16,
            False,
            True,
        )
        for most in (None, 7):
            batches = list(source.batches(most))
            assert np.array_equal(np.concatenate([batch.vectors for batch in batches]), ROWS)
            assert [batch.start for batch in batches] == np.cumsum(
                [0, *(len(batch) for batch in batches[:-1])]
            ).tolist()
            assert source.rows == 200
        wanted = np.array([0, 1, 89, 90, 199])
        assert np.array_equal(source.take(wanted), ROWS[wanted])
        part = np.concatenate([batch.vectors for batch in source.between(50, 100)])
        assert np.array_equal(part, ROWS[50:100])
    assert given.begun == given.ended == 5


def test_builds_are_those_of_one_array(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    halves = [part.astype(np.float16) for part in PARTS]
    whole = np.concatenate(halves)
    ways: list[tuple[dict[str, Any], int]] = [
        ({}, 2),
        ({"method": "itq", "sample": 100}, 4),
        ({"rescore": "int8", "kind": "ivf", "nlist": 4}, 4),
    ]
    for settings, passes in ways:
        for kind in (Passes, Sized):
            given = kind(halves)
            assert binq.build(given, tmp_path / "i.binq", **settings).rows == 200
            binq.build(whole, tmp_path / "j.binq", **settings)
            # One to look at the first array, one to count rows unless they are known.
            assert given.begun == given.ended == passes - (kind is Sized and passes > 2)
            with binq.open(tmp_path / "i.binq") as one, binq.open(tmp_path / "j.binq") as other:
                assert np.array_equal(one.search(whole[:9]).rows, other.search(whole[:9]).rows)
                assert np.array_equal(one.search(whole[:9]).scores, other.search(whole[:9]).scores)
        evaluated = binq.evaluate(tmp_path / "i.binq", whole[:9], truth=Passes(halves), k=[1])
        assert evaluated.metrics["recall@1"]["value"] > 0.5


def test_packed_bits_come_in_arrays_too(tmp_path: Path) -> None:
    codes = np.packbits(ROWS > 0, axis=1)
    report = binq.build(Passes([codes[:9], codes[9:]]), tmp_path / "i.binq", packed="ubinary")
    assert (report.rows, report.bits) == (200, 16)


def test_what_changes_between_passes_is_refused(tmp_path: Path) -> None:
    cut = [*PARTS[:3], PARTS[3][:-1]]
    for given, got in (
        (Passes(PARTS, PARTS, cut), "expected 200, got 199"),
        (Passes(cut, cut, PARTS), "expected 199, got at least 200"),
        (Sized(cut), "expected 200, got 199"),
    ):
        with pytest.raises(InputError, match=f"changed between passes: arrays: {got}"):
            binq.build(given, tmp_path / "i.binq", method="mean")
    assert not list(tmp_path.iterdir())


def test_arrays_that_cannot_be_used(tmp_path: Path) -> None:
    bad = PARTS[3].copy()
    bad[4, 2] = np.nan
    for arrays, message in (
        (
            [*PARTS, ROWS[:, :9]],
            "disagree in dimension: arrays row 200: expected dim 16, got dim 9",
        ),
        (
            [*PARTS, ROWS[0]],
            r"not a 2-D array: arrays row 200: expected \(m, dim\) arrays, got 1-D",
        ),
        ([*PARTS, "row"], "not a 2-D array: arrays row 200: .* got str"),
        ([*PARTS, ROWS.astype("U")], "wrong type: arrays row 200"),
        ([*PARTS[:3], bad], "not a finite float32: arrays row 94 dim 2"),
    ):
        with pytest.raises(InputError, match=message):
            binq.build(Passes(arrays), tmp_path / "i.binq")
    with pytest.warns(binq.BinqWarning, match="arrays row 94 dim 2"):
        skipped = binq.build(Passes([*PARTS[:3], bad]), tmp_path / "i.binq", on_error="skip")
    assert (skipped.rows, skipped.skipped) == (199, 1)


def test_what_yields_arrays_only_once_is_refused(tmp_path: Path) -> None:
    for given in ((part for part in PARTS), iter(PARTS), io.StringIO()):
        with pytest.raises(UsageError, match=r"only once: expected .* iter\(\).*; give an object"):
            binq.build(given, tmp_path / "i.binq")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"cannot be taken from this.* got dict"):
        binq.build({"v": ROWS}, tmp_path / "i.binq")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="an array has no columns: arrays"):
        binq.build(Passes(PARTS), tmp_path / "i.binq", column="v")
