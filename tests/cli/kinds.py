"""Indexes that look at a part of their rows, beside flat ones of the same rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

Cli = Callable[..., Any]
DIM = 40
EVERY = {"ivf": ("--nprobe", 10**6), "hnsw": ("--ef", 10**6)}
"""What has a search look at all rows."""


def built(
    cli: Cli, place: Path, kind: str, source: Path, *words: object, own: Any = ()
) -> list[Path]:
    """Build the same index flat and of a kind, which is told ``own``."""
    paths = [place / "flat.binq", place / f"{kind}.binq"]
    cli("build", source, "-o", paths[0], *words)
    cli("build", source, "-o", paths[1], "--kind", kind, *own, *words)
    assert cli("info", paths[1], "--verify", "--json").json["kind"] == kind
    return paths
