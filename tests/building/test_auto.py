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
from binq.binarizers import Binarizer, fit
from binq.building import auto
from binq.building.choose import choose_binarizer
from binq.building.options import BinarizerOptions
from binq.errors import InputError, UsageError
from binq.vectors.sample import Sample


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
    assert auto.candidates("asymmetric", 64, 32) == ["rotate", "lsh", "learned"]
    assert auto.candidates("asymmetric", 32, 32) == [
        *("sign", "median", "rotate", "itq", "rabitq", "learned")
    ]
    assert auto.candidates("asymmetric", 64, 32, distance=True) == ["rotate", "lsh"]


def test_a_graph_gets_codes_that_carry_a_distance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lists get what is best; a graph, the best of those that it can be made of."""
    methods = {}
    monkeypatch.setattr(auto, "pick", lambda found, _: (list(found)[-1], "the last"))
    for kind in ("ivf", "hnsw"):
        settings: Any = {"kind": kind, "method": "auto", "scoring": "asymmetric"}
        methods[kind] = binq.build(stretched(400, 24), tmp_path / "i.binq", **settings).method
    assert methods == {"ivf": "learned", "hnsw": "rabitq"}


def choose(rows: np.ndarray, fit: Any = None, **settings: Any) -> Binarizer:
    options = BinarizerOptions(method="auto", **settings)
    sample = Sample(rows, rows[:1], rows[:1], str)
    if fit is None:
        return choose_binarizer(options, rows.shape[1], sample, 1)
    return auto.choose(options, rows.shape[1], sample, fit)


def test_picks_what_is_better_and_fits_it_on_all_rows() -> None:
    rows = stretched(1500, 24)
    chosen = choose(rows, metric="l2")
    assert chosen.method != "sign"
    assert chosen.chosen_by is not None
    assert "150 rows held out of 1,500, hamming scoring" in chosen.chosen_by
    assert chosen.sample == 1500
    same = fit(chosen.method, 24, "l2", rows)
    for name, array in same.arrays().items():
        np.testing.assert_array_equal(chosen.arrays()[name], array)
    assert choose(rows, metric="l2").chosen_by == chosen.chosen_by


def test_the_simplest_of_equals() -> None:
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, 80)
    groups = np.arange(80)
    shares: Any = {"sign": 0.5 + noise, "median": 0.4 + noise, "itq": np.full(80, 0.51)}
    # 0.01 less than itq, and 0.03 uncertain
    assert auto.pick(shares, groups) == ("sign", "not to be told from itq, and simpler")
    shares["sign"] = shares["median"]
    assert auto.pick(shares, groups) == ("itq", "the best")


def test_nothing_that_asks_is_fitted_on() -> None:
    rows = np.concatenate([gaussian(300, 16), gaussian(300, 16)])  # everything twice
    seen: list[np.ndarray] = []

    def spy(method: Any, sample: np.ndarray, *_: Any) -> Binarizer:
        seen.append(sample)
        return fit(method, 16, "ip", sample)

    choose(rows, spy, metric="ip")
    queries = auto.held_out(rows, 0)[1]
    assert len(queries) == 30
    probes = {row.tobytes() for row in queries}
    for sample in seen[:-1]:
        assert not probes & {row.tobytes() for row in sample}
    assert len(seen[-1]) == 600


def test_few_rows() -> None:
    chosen = choose(gaussian(5, 8))
    assert chosen.method == "sign"
    assert "too few to choose by" in (chosen.chosen_by or "")
    assert choose(gaussian(5, 8), bits=12).method == "rotate"
    assert choose(np.ones((200, 8), np.float32)).method == "sign"
    with pytest.raises(InputError):
        choose(np.empty((0, 8), np.float32))


def test_build_and_binarize(cli: Callable[..., Any], tmp_path: Path, corpus: Path) -> None:
    path = tmp_path / "i.binq"
    said = cli("build", corpus, "-o", path, "--method", "auto", "--scoring", "asymmetric").err
    assert "binq: auto: " in said
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
