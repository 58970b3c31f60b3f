"""An engine whose tasks run on the cluster of the tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture
def ray_engine(cluster: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The engine of a Ray cluster of two CPUs, to which this process is connected."""
    from binq.engines import opened

    for name, value in cluster.items():
        monkeypatch.setenv(name, value)
    with opened("ray") as engine:
        yield engine
