"""Small files that claim to be large: opened and built from in little memory, or refused."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from children import Server
from corpora import gaussian
from forging import header_of, with_header

import binq

pytestmark = [pytest.mark.slow, pytest.mark.torture]

MIB_MORE = 120
LARGE = [65_536, 65_537, 2**20, 2**31 - 1, 2**31, 2**40, 2**62, 2**63]


def npy(rows: int, dim: int, dtype: str = "<f4") -> bytes:
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': ({rows}, {dim}), }}"
    padded = header.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(padded)) + padded.encode()


def claims(place: Path) -> list[Path]:
    """Write files of vectors that have no rows, or say that they have many, of very many dims."""
    files: dict[str, bytes] = {}
    for number, large in enumerate(LARGE):
        files[f"{number}a.npy"] = npy(0, large)
        files[f"{number}b.npy"] = npy(large, 0)
        files[f"{number}c.npy"] = npy(large, large, "|u1")
        if large < 2**32:
            files[f"{number}.fbin"] = struct.pack("<II", 0, large)
            files[f"{number}r.fbin"] = struct.pack("<II", large, 4)
            files[f"{number}.u8bin"] = struct.pack("<II", 0, large)
            files[f"{number}.fvecs"] = struct.pack("<I", large)
            files[f"{number}.bvecs"] = struct.pack("<I", large)
    for name, data in files.items():
        (place / name).write_bytes(data)
    for large in (65_536, 2**31 - 1):
        column = pa.array([], pa.list_(pa.float32(), large))
        pq.write_table(pa.table({"embedding": column}), place / f"{large}.parquet")
        with pa.OSFile(str(place / f"{large}.arrow"), "wb") as sink:
            table = pa.table({"embedding": column})
            with pa.ipc.new_file(sink, table.schema) as writer:
                writer.write_table(table)
    return sorted(path for path in place.iterdir() if path.name[0].isdigit())


def forged(place: Path) -> list[Path]:
    """Write indexes without rows that claim to be of very many dims."""
    found = []
    binq.build(np.zeros((0, 8), np.float32), place / "none")
    data = (place / "none").read_bytes()
    header = header_of(data)
    for large in LARGE:
        for method in ("sign", "lsh", "itq", "rotate", "learned"):
            wide = {"dim": large, "bits": large, "words": -(-large // 64)}
            settings: Any = header["binarizer"] | {"dim": large, "bits": large, "method": method}
            sections = [part | {"shape": [0, wide["words"]]} for part in header["sections"]]
            path = place / f"{method}-{large}.binq"
            said = header | wide | {"binarizer": settings, "sections": sections}
            path.write_bytes(with_header(data, said))
            found.append(path)
    return found


def test_claims_take_no_memory(
    children: Server, tmp_path: Path, times: Callable[[int], int]
) -> None:
    np.save(tmp_path / "q.npy", gaussian(2, 8))
    queries, output = tmp_path / "q.npy", tmp_path / "o.binq"
    binq.build(gaussian(9, 8), tmp_path / "i.binq")
    least = children.binq("query", tmp_path / "i.binq", queries).wait().peak
    tried: list[tuple[object, ...]] = []
    for path in claims(tmp_path):
        for words in (
            ("build", path, "-o", output, "--rescore", "int8"),
            ("build", path, "-o", output, "--method", "lsh"),
            ("build", path, "-o", output, "--method", "itq"),
            ("binarize", path, "-o", tmp_path / "c.npy", "--packed", "none"),
            ("query", tmp_path / "i.binq", path),
            ("query", tmp_path / "i.binq", queries, "--rescore-from", path),
            ("eval", tmp_path / "i.binq", queries, "--truth", path),
        ):
            tried.append(words)
    for path in forged(tmp_path):
        tried += [("info", path), ("query", path, queries), ("build", path, "-o", output)]
    every = len(tried) // times(len(tried))
    for words in tried[::every]:
        end = children.binq(*words).wait(30)
        assert end.code in (0, 2, 3, 4), (words, end)
        assert end.peak < least + MIB_MORE, (words, end)
