"""The page of a sweep stands alone, is well formed, and escapes what it shows."""

from __future__ import annotations

import importlib.util
import io
import sys
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import pytest
from corpora import gaussian, write_jsonl

import binq
from binq.errors import MissingExtraError, UsageError
from binq.evaluation.plot import check_plot
from binq.sweeping import report

_VOID = {"meta", "br"}


class _Balanced(HTMLParser):
    """Holds every start tag to its end tag, and collects text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        del attrs
        self.tags.append(tag)
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        del attrs
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> binq.Sweep:
    ids = [f"<script>alert({n})</script>&" for n in range(20)]
    place = tmp_path_factory.mktemp("report")
    queries = write_jsonl(place / "q.jsonl", gaussian(20, 16, seed=1), ids)
    corpus = gaussian(200, 16)
    corpus[:, 3] = 0.5  # a dead bit
    return binq.sweep(
        corpus, queries, methods=["sign", "lsh"], bits=[8, 16], with_peers=False, metric="ip"
    )


def test_page(found: binq.Sweep) -> None:
    page = report.html(found, ["binq build <a> & b"])
    reader = _Balanced()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    assert "script" not in reader.tags
    assert reader.tags.count("svg") == 3
    for outside in ("http", "src=", "href=", "@import", "url("):
        assert outside not in page
    text = " ".join(reader.text)
    assert "<script>alert(0)</script>&" in text or "<script>alert(1)</script>&" in text
    assert "binq build <a> & b" in text
    assert found.recommendation.verdict in text
    assert found.recommendation.sentence in text
    for row in found.rows:
        assert f"{row.recall.value:.4f}" in text
    assert "sign, 16 bits, 1 dead" in text
    for drawing in page.split("<svg")[1:]:
        ET.fromstring("<svg" + drawing.partition("</svg>")[0] + "</svg>")


def test_plot(found: binq.Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError):
        check_plot(Path("plot.jpg"))
    if importlib.util.find_spec("matplotlib") is not None:
        image = io.BytesIO()
        report.draw(found, image, ".png")
        assert image.getvalue().startswith(b"\x89PNG")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"binq\[plot\]"):
        check_plot(Path("plot.png"))
    with pytest.raises(MissingExtraError):
        report.draw(found, io.BytesIO(), ".png")
