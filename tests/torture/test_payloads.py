"""Forged sections with checksums that fit: whatever they hold, a search answers or refuses."""

from __future__ import annotations

import faulthandler
import itertools
import random
import resource
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from children import Server
from corpora import gaussian, quick_ste, write_jsonl
from forging import header_of, with_checksums

import binq
from binq.binarizers import TABLE
from binq.errors import BinqError
from binq.index.index import Index
from binq.structures import hnsw, ivf
from binq.types import METHODS, METRICS

GOLDEN = sorted((Path(__file__).parents[1] / "data").glob("*.binq"))
FLOATS = [np.nan, np.inf, -np.inf, 3e38, -3e38, 1e30, 1e-42, 0.0]
INTEGERS = [0, 1, -1, 127, 2**31 - 1, 2**31, 2**32, 2**53, 2**62, 2**63 - 1, 2**63, 2**64 - 1]
SEARCHES = [
    {"scoring": scoring, "rescore": rescore, "oversample": oversample}
    for scoring in ("hamming", "asymmetric")
    for rescore in ("none", "auto", "codes", "int8", "float16", "float32")
    for oversample in (4.0, "auto")
]
# Of lists, also how far to look, and for what.
EFFORTS: list[dict[str, Any]] = [
    {},
    {"nprobe": 1},
    {"nprobe": 30},
    {"target_recall": 0.5},
    {"target_recall": 0.9999},
    {"target_recall": 0.9, "filter_ids": list(range(0, 300, 2))},
    {"nprobe": 2, "exclude_ids": list(range(200))},
    {"filter_ids": [3, 5]},
]
MEMORY = 1 << 30
SECONDS = 20


def indexes(what: str, place: Path) -> list[bytes]:
    """Return whole indexes of a method in every metric and kind of stored vectors, or others."""
    if what == "golden":
        return [path.read_bytes() for path in GOLDEN]
    path, found = place / "whole.binq", []
    settings: Any
    if what == "packed":
        codes = np.packbits(gaussian(60, 70) > 0, axis=1)
        for how in ({}, {"method": "sign", "scoring": "asymmetric"}):
            binq.build(codes, path, packed="ubinary", bits=70, **how)  # type: ignore[arg-type]
            found.append(path.read_bytes())
        return found
    if what in ("ivf", "hnsw"):
        for method, scoring in (
            ("itq", "hamming"),
            ("rabitq", "asymmetric"),
            ("learned" if what == "ivf" else "sign", "asymmetric"),
        ):
            settings = {"method": method, "scoring": scoring, "rescore": "int8"}
            # Of few bits, so that codes repeat; of some more, so that they do not.
            binq.build(gaussian(300, 10 if method != "sign" else 70), path, kind=what, **settings)
            found.append(path.read_bytes())
        return found
    corpus = write_jsonl(place / "c.jsonl", gaussian(60, 10), [f"id {row}" for row in range(60)])
    method: Any = what
    if what == "lists":
        for method in ("sign", "itq", "rabitq", "learned"):
            lists: Any = {"kind": "ivf", "nlist": 6, "scoring": "asymmetric"}
            binq.build(corpus, path, method=method, metric="ip", rescore="int8", **lists)
            found.append(path.read_bytes())
        return found
    for metric, stored in itertools.product(METRICS, ("int8", "float16", "float32")):
        settings = {"metric": metric, "rescore": stored, "scoring": "asymmetric"}
        binq.build(corpus, path, method=method, **settings)
        found.append(path.read_bytes())
    return found


def forged(data: bytes, draw: random.Random) -> bytes:
    """Return the file with something else in one of its sections."""
    parts = [section for section in header_of(data)["sections"] if section["length"]]
    part = draw.choice(parts)
    start, length = part["offset"], part["length"]
    body = bytearray(data)
    dtype, way = np.dtype(part["dtype"]), draw.random()
    if way < 0.6:
        values = np.frombuffer(body, dtype, length // dtype.itemsize, start)
        step = draw.choice([1, 1, 2, 7, len(values)])
        with np.errstate(over="ignore"):
            if dtype.kind == "f":
                values[draw.randrange(len(values)) % step :: step] = draw.choice(FLOATS)
            else:
                value = draw.choice(INTEGERS) % (1 << 8 * dtype.itemsize)
                values.view(f"u{dtype.itemsize}")[draw.randrange(step) :: step] = value
    elif way < 0.9:
        for _ in range(draw.choice([1, 1, 3, 50])):
            body[start + draw.randrange(length)] ^= 1 << draw.randrange(8)
    else:
        other = draw.choice(parts)
        taken = data[other["offset"] : other["offset"] + min(length, other["length"])]
        body[start : start + len(taken)] = taken
    return with_checksums(bytes(body))


def attack(path: Path, settings: dict[str, Any]) -> bool:
    """Search in one way; whatever comes is in range, or refused. Return whether it came."""
    try:
        index = Index(path)
        assert index.file.verify() == []
        if index.binarizer is None:
            queries, settings = np.packbits(gaussian(4, index.bits) > 0, axis=1), {}
            settings["packed"] = "ubinary"
        else:
            queries = gaussian(4, index.dim, seed=5)
        hits = index.search(queries, 3, **settings)
        _ = hits.ids
        near = index.radius_search(queries, 2, packed=settings.get("packed"))
        _ = near.ids
    except BinqError as error:
        assert error.exit_code in (3, 4), repr(error)  # noqa: PT017
        assert error.line().isprintable()  # noqa: PT017
        return False
    assert np.isfinite(hits.scores).all(), (settings, hits.scores)
    rows = np.concatenate([hits.rows.ravel(), near.rows])
    assert ((rows >= 0) & (rows < index.file.header.rows)).all()
    return True


def forge(what: str, place: str, count: int) -> None:
    """Forge and search so many files; whoever takes too long or too much memory is ended."""
    warnings.simplefilter("ignore")  # of numbers that a lie makes infinite
    TABLE["ste"] = quick_ste()
    # More allowed rows than these are looked for in lists and graphs, however long it takes.
    ivf.FEW = hnsw.FEW = 4
    hnsw.SCAN_SHARE = 2.0
    wholes = indexes(what, Path(place))
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, resource.RLIM_INFINITY))
    draw = random.Random(what)
    path, answered = Path(place) / "forged.binq", 0
    for number in range(count):
        path.write_bytes(forged(wholes[number % len(wholes)], draw))
        faulthandler.dump_traceback_later(SECONDS, exit=True)
        effort = draw.choice(EFFORTS) if what in ("ivf", "hnsw") else {}
        if what == "hnsw" and "nprobe" in effort:
            effort = effort | {"ef": effort["nprobe"]}
            del effort["nprobe"]
        answered += attack(path, draw.choice(SEARCHES) | effort)
    faulthandler.cancel_dump_traceback_later()
    assert count / 10 < answered < count  # what is refused on opening tries no kernel


@pytest.mark.slow
@pytest.mark.torture
@pytest.mark.parametrize("what", [*METHODS, "packed", "golden", "ivf", "hnsw"])
def test_forged_sections(
    what: str, children: Server, tmp_path: Path, times: Callable[[int], int]
) -> None:
    child = children.start("torture.test_payloads:forge", what, str(tmp_path), times(2000))
    end = child.wait(900)
    assert end.code == 0, end.err[-3000:]
