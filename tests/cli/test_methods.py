"""Every method, scan and metric from build to eval; damage to what asymmetric scores need."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corpora import anisotropic

from binq.storage.reader import IndexFile
from binq.types import METHODS

Cli = Callable[..., Any]
pytestmark = pytest.mark.usefixtures("few_steps")
METRICS = ["cosine", "ip", "l2"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("methods")
    np.save(place / "c.npy", anisotropic(220, 16))
    np.save(place / "q.npy", anisotropic(8, 16, seed=1))
    return place


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("scoring", ["hamming", "asymmetric"])
@pytest.mark.parametrize("method", METHODS)
def test_build_query_eval(
    cli: Cli, place: Path, tmp_path: Path, method: str, scoring: str, metric: str
) -> None:
    index, kept = tmp_path / "i.binq", tmp_path / "b.npz"
    words = ["--metric", metric, "--scoring", scoring, "--rescore", "float32"]
    built = cli(
        *("build", place / "c.npy", "-o", index, "--method", method, *words),
        *("--save-binarizer", kept),
    )
    assert f"16 bits ({method}" in built.err
    for rescore in ("none", "codes", "float32", "auto"):
        lacking = rescore == "codes" and scoring == "hamming"
        refused = lacking and (metric != "cosine" or method == "rabitq")
        found = cli(
            *("query", index, place / "q.npy", "-k", 4, "--rescore", rescore),
            code=3 if refused else 0,
        )
        if refused:
            assert "--scoring asymmetric" in found.err
            continue
        for line in found.lines:
            assert len(line["hits"]) == 4
            for hit in line["hits"]:
                assert (hit["distance"] is None) == (scoring == "asymmetric")
                assert np.isfinite(hit["score"])
            scores = [hit["score"] for hit in line["hits"]]
            assert scores == sorted(scores, reverse=True)
        assert ('"distance": null' in found.out) == (scoring == "asymmetric")
    words = ["eval", index, place / "q.npy", "--truth", place / "c.npy", "-k", "5", "--json"]
    whole = cli(*words, "--oversample", 44).json
    assert whole["scoring"] == scoring
    assert whole["metrics"]["recall@5"]["value"] == 1
    scan = cli(*words, "--rescore", "none").json["metrics"]
    assert scan["recall@5"]["value"] > (0.15 if scoring == "asymmetric" else 0)
    assert ("recall_expected@5" in scan) == (scoring == "hamming")
    assert cli("info", index, "--verify", "--json").json["scoring"] == scoring
    # A binarizer of its own file gives the same index.
    again = tmp_path / "again.binq"
    cli(
        *("build", place / "c.npy", "-o", again, "--binarizer", kept),
        *("--metric", metric, "--scoring", scoring),
    )
    mine, other = IndexFile(index), IndexFile(again)
    for name in ("codes", "codes.factor", "codes.addend"):
        assert (name in mine.sections) == (name in other.sections)
        if name in mine.sections:
            part = mine.sections[name]
            assert np.array_equal(
                mine.array(name, part.dtype, part.shape), other.array(name, part.dtype, part.shape)
            )


def test_other_widths(cli: Cli, place: Path, tmp_path: Path) -> None:
    index, output = tmp_path / "i.binq", tmp_path / "o.npy"
    for method, bits in (("lsh", 5), ("lsh", 100), ("rotate", 40), ("itq", 9), ("learned", 100)):
        words = ["--method", method, "--bits", bits]
        cli("build", place / "c.npy", "-o", index, *words)
        assert cli("info", index, "--json").json["bits"] == bits
        assert len(cli("query", index, place / "q.npy", "-k", 3).lines) == 8
        cli("binarize", place / "c.npy", "-o", output, *words)
        assert np.load(output).shape == (220, -(-bits // 8))


def test_widths_that_a_method_cannot_give(cli: Cli, place: Path, tmp_path: Path) -> None:
    for method, bits in (("itq", 17), ("sign", 15), ("median", 8), ("rabitq", 32), ("lsh", 0)):
        words = [place / "c.npy", "--method", method, "--bits", bits]
        assert "--bits" in cli("build", *words, "-o", tmp_path / "i.binq", code=2).err
        assert "--bits" in cli("binarize", *words, "-o", tmp_path / "o.npy", code=2).err
        assert list(tmp_path.iterdir()) == []


def test_refusals(cli: Cli, place: Path, tmp_path: Path) -> None:
    index = tmp_path / "i.binq"
    cli("build", place / "c.npy", "-o", index, "--metric", "l2")
    found = cli("query", index, place / "q.npy", "--scoring", "asymmetric", code=3)
    assert "build it with --scoring asymmetric" in found.err
    cli("query", index, place / "q.npy", "--rescore", "codes", code=3)
    np.save(tmp_path / "p.npy", np.packbits(np.load(place / "q.npy") > 0, axis=1))
    for words in (["--scoring", "asymmetric"], ["--rescore", "codes"]):
        cli("query", index, tmp_path / "p.npy", "--packed", "ubinary", *words, code=2)
    cli("query", index, tmp_path / "p.npy", "--packed", "ubinary")


def damaged(path: Path, name: str, values: np.ndarray) -> None:
    """Overwrite the start of a section where it lies."""
    section = IndexFile(path).sections[name]
    with path.open("r+b") as file:
        file.seek(section.offset)
        file.write(values.astype(section.dtype).tobytes())


@pytest.mark.slow
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("metric", "name"),
    [*((metric, "codes.factor") for metric in METRICS), ("l2", "codes.addend")],
)
def test_damaged_terms_give_no_wild_answers(
    cli: Cli, place: Path, tmp_path: Path, metric: str, name: str
) -> None:
    index, words = tmp_path / "i.binq", ["--method", "rotate", "--scoring", "asymmetric"]
    for value in (np.nan, np.inf, -np.inf, 6e4, -6e4, 3e38):
        cli("build", place / "c.npy", "-o", index, "--metric", metric, *words)
        with np.errstate(over="ignore"):
            damaged(index, name, np.full(3, value))
        for rescore in ("none", "codes"):
            found = cli("query", index, place / "q.npy", "-k", 220, "--rescore", rescore)
            for line in found.lines:
                assert sorted(hit["id"] for hit in line["hits"]) == list(range(220))
                json.dumps(line, allow_nan=False)
        cli("info", index, "--verify", code=4)


def test_damaged_binarizers_are_named(cli: Cli, place: Path, tmp_path: Path) -> None:
    index = tmp_path / "i.binq"
    for name, value in itertools.product(("center", "decoder", "projection"), (np.nan, np.inf)):
        cli("build", place / "c.npy", "-o", index, "--method", "lsh")
        damaged(index, f"binarizer.{name}", np.array([value]))
        cli("query", index, place / "q.npy", code=4)
