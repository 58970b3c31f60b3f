"""``binq info``: what is inside, and whether it is whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

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
