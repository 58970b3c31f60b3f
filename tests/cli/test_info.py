"""``binq info``: what is inside, and whether it is whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from forging import header_of, with_checksums, with_header

Cli = Callable[..., Any]


def test_json(cli: Cli, index: Path) -> None:
    found = cli("info", index, "--json").json
    assert found["schema"] == "binq.info/1"
    assert found["format"] == "1.0"
    assert (found["rows"], found["dim"], found["bits"], found["words"]) == (300, 48, 48, 1)
    assert (found["metric"], found["rescore"], found["kind"]) == ("cosine", "float32", "flat")
    assert found["binarizer"]["method"] == "sign"
    assert found["bytes"] == index.stat().st_size
    assert [section["name"] for section in found["sections"]] == ["codes", "rescore.vectors"]
    assert "damaged" not in found
    assert cli("info", index, "--json", "--verify").json["damaged"] == []


def test_table(cli: Cli, index: Path) -> None:
    found = cli("info", index, "--verify").out
    for word in ("rows", "300", "rescore.vectors", "300 x 48", "sign", "damaged"):
        assert word in found


@pytest.mark.parametrize("json", [[], ["--json"]])
def test_damage(cli: Cli, index: Path, json: list[str]) -> None:
    data = bytearray(index.read_bytes())
    data[4096 + 100] ^= 1
    index.write_bytes(data)
    cli("info", index, *json)  # opening does not read the sections
    found = cli("info", index, "--verify", *json, code=4)
    assert "section codes at byte 4096" in found.err
    if json:
        assert found.json["damaged"] == [{"section": "codes", "offset": 4096, "length": 2400}]


def test_what_is_no_index(cli: Cli, corpus: Path, index: Path, tmp_path: Path) -> None:
    for path in (tmp_path / "none", corpus, tmp_path):
        assert cli("info", path, code=4).out == ""
    index.write_bytes(index.read_bytes()[:-1])
    assert "truncated" in cli("info", index, code=4).err


def test_lists(cli: Cli, corpus: Path, tmp_path: Path) -> None:
    path = tmp_path / "lists.binq"
    cli("build", corpus, "-o", path, "--kind", "ivf", "--nlist", 20)
    found = cli("info", path, "--json").json
    lists = found["lists"]
    assert lists["number"] == 20
    assert 0 <= lists["smallest"] <= lists["median"] <= lists["largest"] <= 300
    assert lists["imbalance"] >= 1
    assert found["calibration"]["from"] == "rows"
    gaps = found["calibration"]["gaps"]["hamming"]
    assert [len(row) for row in gaps.values()] == [len(found["calibration"]["targets"])] * len(gaps)
    shown = cli("info", path).out
    words = " ".join(shown.replace("│", " ").split())
    assert f"20: {lists['smallest']} to {lists['largest']} rows, median" in words
    assert "300 rows that stood in for queries" in words
    assert "gaps" not in shown
    at = found["calibration"]["targets"].index(0.95)
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in shown.splitlines()]
    table = {row[1]: row[3] for row in cells if len(row) == 5 and row[0] == "hamming"}
    assert table == {count: str(gaps[count][at]) for count in ("10", "40", "100")}
    cli("build", corpus, "-o", path, "--kind", "ivf", "--check-queries", corpus)
    count = cli("info", path, "--json").json["calibration"]["queries"]
    assert f"with {count} queries" in cli("info", path).out


def test_damaged_lists(cli: Cli, corpus: Path, tmp_path: Path) -> None:
    """A line, not a traceback; what --verify finds is listed first."""
    path = tmp_path / "lists.binq"
    cli("build", corpus, "-o", path, "--kind", "ivf", "--nlist", 20)
    data = bytearray(path.read_bytes())
    sections = {section["name"]: section for section in header_of(data)["sections"]}
    at = sections["ivf.offsets"]["offset"]
    data[at + 8 : at + 16] = b"\xff" * 8
    path.write_bytes(data)
    assert "ivf.offsets" in cli("info", path, code=4).err
    found = cli("info", path, "--verify", "--json", code=4)
    assert [damage["section"] for damage in found.json["damaged"]] == ["ivf.offsets"]
    path.write_bytes(with_checksums(bytes(data)))
    assert "ivf.offsets" in cli("info", path, "--verify", code=4).err
    # A header that says more of the calibration, or less, than is asked for.
    corpus_lists = tmp_path / "more.binq"
    cli("build", corpus, "-o", corpus_lists, "--kind", "ivf")
    whole = corpus_lists.read_bytes()
    known = header_of(whole)["calibration"]
    for told in (
        {name: value for name, value in known.items() if name != "from"},
        known | {"from": 7, "gaps": {"hamming": {}, "other": 3}},
    ):
        corpus_lists.write_bytes(with_header(whole, header_of(whole) | {"calibration": told}))
        assert "stood in for queries" in " ".join(
            cli("info", corpus_lists).out.replace("│", " ").split()
        )


def test_a_small_graph_says_that_it_scans(cli: Cli, corpus: Path, tmp_path: Path) -> None:
    """Of few rows no walk is faster than a scan: whoever builds a graph is told, and sees it."""
    path = tmp_path / "graph.binq"
    words = "scan all rows: of so few no walk"
    assert words in cli("build", corpus, "-o", path, "--kind", "hnsw").err
    assert words in " ".join(cli("info", path).out.replace("│", " ").split())
    assert cli("info", path, "--json").json["graph"]["walked"] == 0
    assert words not in cli("build", corpus, "-o", path, "--kind", "ivf").err
    assert words not in cli("build", corpus, "-o", path, "--kind", "hnsw", "-q").err


def test_for_how_many_candidates_a_graph_walks() -> None:
    from binq.cli.render import walked

    assert "walk for up to 1,000 candidates; for more they scan all rows" in walked(1000)
