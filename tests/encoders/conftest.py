from __future__ import annotations

from collections.abc import Iterator

import pytest
from endpoints import FakeEndpoint


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BINQ_API_KEY", "OPENAI_API_KEY", "CO_API_KEY", "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def endpoint() -> Iterator[FakeEndpoint]:
    fake = FakeEndpoint()
    yield fake
    fake.close()


@pytest.fixture
def waits() -> list[float]:
    """Receives the seconds that a transport would have slept."""
    return []
