"""What a run depends on: the peers that are installed, versions, the machine."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final, Literal, get_args

from binq.errors import missing_extra
from binq.version import __version__

Peer = Literal["faiss", "usearch", "numpy"]
PEERS: Final[tuple[Peer, ...]] = get_args(Peer)

_PACKAGES: Final = {"faiss": "faiss-cpu", "usearch": "usearch", "numpy": "numpy"}


def installed(peers: Sequence[str] | None) -> tuple[str, ...]:
    """Return the peers that can be had.

    Raises
    ------
    MissingExtraError
        If one that was asked for is not installed.
    """
    found: list[str] = []
    for peer in PEERS if peers is None else peers:
        try:
            version(_PACKAGES[peer])
        except PackageNotFoundError as error:
            if peers is not None:
                raise missing_extra(_PACKAGES[peer], "peers", f"`peers={peer}`") from error
        else:
            found.append(peer)
    return tuple(found)


def versions(peers: Sequence[str]) -> dict[str, str]:
    """Return the versions of binq, of Python, and of the packages that were timed."""
    names = dict.fromkeys(["numpy", "llvmlite", "pyarrow", *(_PACKAGES[peer] for peer in peers)])
    return {"binq": __version__, "python": platform.python_version()} | {
        name: version(name) for name in names
    }


def machine() -> dict[str, Any]:
    """Return the processor's name, how many there are, and the system."""
    model = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    except OSError:
        pass
    return {"cpu": model, "cpus": os.cpu_count(), "system": platform.platform()}
