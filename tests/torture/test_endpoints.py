"""Endpoints that answer anything, cut anywhere: vectors, or one clean line without the key."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from endpoints import FakeEndpoint, vector_of

from binq.encoders.endpoint import OpenAIEncoder
from binq.encoders.transport import Transport
from binq.errors import BinqError

KEY = "sk-Top/Secret+1234567890"
NONSENSE = [None, True, -1, 1e999, 2**70, "", "\x1b[2J\ud800", KEY, [], {}, [[]], {"": KEY}]
HEADERS = [
    "Content-Length: 7",
    "Content-Length: -1",
    "Transfer-Encoding: chunked",
    "Retry-After: x",
]


def raw(data: bytes) -> Callable[[Any], None]:
    def send(handler: Any) -> None:
        handler.wfile.write(data)
        handler.close_connection = True

    return send


def answer(draw: random.Random) -> bytes:
    """Return a good answer with something wrong with it: a value, a header, a byte, its end."""
    rows: list[Any] = [{"index": number, "embedding": vector_of("ab"[number])} for number in (0, 1)]
    document: Any = {"data": rows}
    if draw.random() < 0.6:
        spot = draw.choice([document, document, rows, rows[0], rows[1], rows[0]["embedding"]])
        keys = list(spot) if isinstance(spot, dict) else range(len(spot))
        spot[draw.choice(list(keys))] = draw.choice(NONSENSE)
    body = json.dumps(document).encode()
    status = draw.choice([200] * 8 + [201, 204, 206, 302, 400, 401, 413, 429, 500, 999])
    lines = [f"HTTP/1.1 {status} {KEY}", f"Content-Length: {len(body)}", "Connection: close"]
    if draw.random() < 0.2:
        lines[1:2] = draw.sample(HEADERS, draw.randrange(3))
    data = bytearray("\r\n".join([*lines, "", ""]).encode() + body)
    if draw.random() < 0.4:
        for _ in range(draw.choice([1, 1, 5])):
            data[draw.randrange(len(data))] = draw.randrange(256)
    if draw.random() < 0.4:
        del data[draw.randrange(len(data)) :]
    return bytes(data)


@pytest.mark.slow
@pytest.mark.torture
def test_any_answer(
    endpoint: FakeEndpoint,
    waits: list[float],
    monkeypatch: pytest.MonkeyPatch,
    times: Callable[[int], int],
) -> None:
    monkeypatch.setenv("BINQ_API_KEY", KEY)
    draw, good, told = random.Random(0), 0, []
    transport = Transport(
        KEY, sleep=waits.append, timeout=5, deadline=5, on_wait=lambda why, _: told.append(why)
    )
    encoder = OpenAIEncoder(f"{endpoint.url}#m", transport=transport)
    for _ in range(times(5000)):
        endpoint.faults = [raw(answer(draw)) for _ in range(draw.choice([1, 2, 7]))]
        try:
            rows = encoder.encode(["a", "b"])
        except BinqError as error:
            assert error.exit_code in (2, 3, 5), repr(error)  # noqa: PT017
            told.append(error.line())
            assert told[-1].isprintable()
        else:
            good += 1
            assert rows.shape[0] == 2
            assert np.isfinite(rows).all()
    assert good
    assert len(told) > times(5000) / 4
    assert not [line for line in told if KEY in line]
