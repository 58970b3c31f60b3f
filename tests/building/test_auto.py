"""``method auto``: the best on rows that nothing was fitted on, and the simplest among equals."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corpora import gaussian

import binq
from binq.binarizers import fit
from binq.building import auto
from binq.errors import InputError, UsageError


def stretched(rows: int, dim: int) -> np.ndarray:
    """Return clustered rows far from the origin, where signs say nothing."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((20, dim)) * np.geomspace(3, 0.1, dim)
    spread = rng.standard_normal((rows, dim)) * np.geomspace(1, 0.05, dim)
    return (centres[rng.integers(20, size=rows)] + spread + 8).astype(np.float32)


def test_candidates() -> None:
    assert auto.candidates("hamming", 32, 32) == ["sign", "median", "rotate", "itq"]
    assert auto.candidates("hamming", 64, 32) == ["rotate", "lsh", "ste"]
    assert auto.candidates("hamming", 16, 32) == ["rotate", "itq"]
    assert "learned" in auto.candidates("asymmetric", 64, 32)
    assert "rabitq" in auto.candidates("asymmetric", 32, 32)


def test_picks_what_is_better_and_fits_it_on_all_rows() -> None:
    rows = stretched(1500, 24)
    chosen = auto.choose(24, "l2", rows)
    assert chosen.method != "sign"
    assert chosen.chosen_by is not None
    assert "150 rows held out of 1,500, hamming scoring" in chosen.chosen_by
    assert chosen.sample == 1500
    same = fit(chosen.method, 24, "l2", rows)  # type: ignore[arg-type]
    for name, array in same.arrays().items():
        np.testing.assert_array_equal(chosen.arrays()[name], array)
    again = auto.choose(24, "l2", rows)
    assert again.chosen_by == chosen.chosen_by


def test_the_simplest_of_equals(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, 80)
    shares = {"sign": 0.5 + noise, "median": 0.4 + noise, "rotate": np.full(80, 0.5), "itq": 0.51}
    monkeypatch.setattr(
        auto, "_recall", lambda binarizer, *_: np.broadcast_to(shares[binarizer.method], 80)
    )
    chosen = auto.choose(32, "cosine", gaussian(800, 32))
    assert chosen.method == "sign"  # 0.01 less than itq, and 0.03 uncertain
    assert "sign, not to be told from itq, and simpler" in (chosen.chosen_by or "")
    shares["sign"] = shares["median"]
    assert auto.choose(32, "cosine", gaussian(800, 32)).method == "itq"


def test_nothing_that_asks_is_fitted_on(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.concatenate([gaussian(300, 16), gaussian(300, 16)])  # everything twice
    seen: list[np.ndarray] = []
    real = auto.fit

    def spy(method: Any, dim: Any, metric: Any, sample: Any, **rest: Any) -> Any:
        seen.append(sample)
        return real(method, dim, metric, sample, **rest)

    monkeypatch.setattr(auto, "fit", spy)
    asked: list[np.ndarray] = []
    true = auto.exact_neighbours
    monkeypatch.setattr(
        auto, "exact_neighbours", lambda q, *rest: (asked.append(q), true(q, *rest))[1]
    )
    auto.choose(16, "ip", rows)
    assert len(asked[0]) == 30
    probes = {row.tobytes() for row in asked[0]}
    for sample in seen[:-1]:
        assert not probes & {row.tobytes() for row in sample}
    assert len(seen[-1]) == 600


def test_few_rows() -> None:
    chosen = auto.choose(8, "cosine", gaussian(5, 8))
    assert chosen.method == "sign"
    assert "too few to choose by" in (chosen.chosen_by or "")
    assert auto.choose(8, "cosine", gaussian(5, 8), bits=12).method == "rotate"
    assert auto.choose(8, "cosine", np.ones((200, 8), np.float32)).method == "sign"
    with pytest.raises(InputError):
        auto.choose(8, "cosine", np.empty((0, 8), np.float32))


def test_build_and_binarize(cli: Callable[..., Any], tmp_path: Path, corpus: Path) -> None:
    path = tmp_path / "i.binq"
    said = cli("build", corpus, "-o", path, "--method", "auto", "--scoring", "asymmetric").err
    assert said.startswith("binq: auto: ")
    settings = cli("info", path, "--json").json["binarizer"]
    assert settings["chosen_by"] in said
    assert binq.open(path).binarizer.chosen_by == settings["chosen_by"]
    assert binq.open(path).file.header.scoring == "asymmetric"
    report = binq.build(corpus, path, method="auto")
    assert report.chosen_by is not None
    assert binq.open(path).file.header.scoring == "hamming"
    assert binq.build(corpus, path).chosen_by is None
    kept = tmp_path / "b.npz"
    said = cli(
        "binarize", corpus, "-o", tmp_path / "c.npy", "--method", "auto", "--save-binarizer", kept
    ).err
    assert "binq: auto: " in said
    assert binq.build(corpus, path, binarizer=kept).method in auto.candidates("hamming", 48, 48)
    assert json.loads(json.dumps(report.chosen_by)) == report.chosen_by
    codes = np.load(tmp_path / "c.npy")
    with pytest.raises(UsageError, match="cannot be fitted on bits"):
        binq.build(codes, path, packed="ubinary", method="auto")
    cli("build", tmp_path / "c.npy", "-o", path, "--packed", "ubinary", "--method", "auto", code=2)
