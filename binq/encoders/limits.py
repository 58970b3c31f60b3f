"""HTTP by ``urllib`` within limits that hold for a whole request, not for each step of it.

A timeout of a socket begins anew with every byte: one byte a minute, or headers or ``100 Continue``
without end, would keep it waiting for ever.
"""

from __future__ import annotations

import http.client
import io
import socket
import time
import urllib.request
from collections.abc import Iterator
from functools import partial
from typing import Any, Final

from binq.errors import EnvironmentFailure

_HEADER_BYTES: Final = 1 << 20
_PIECE: Final = 1 << 16


class AnswerError(EnvironmentFailure):
    """The endpoint's answer is not JSON, or far too much of it."""


class Limits:
    """How long one request may still take, and how much it may still bring.

    Parameters
    ----------
    url : str
        For messages.
    silence, whole : float
        Seconds for each step, and for all of them.
    most : int
        Bytes of the answer; what stands before it may take a mebibyte.
    """

    def __init__(self, url: str, silence: float, whole: float, most: int) -> None:
        self._url = url
        self._silence = silence
        self._whole = whole
        self._end = time.monotonic() + whole
        self._most = most
        self._room = most + _HEADER_BYTES

    def left(self) -> float:
        """Return how many seconds the next step may take."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"no whole answer within {self._whole:g} seconds")
        return min(self._silence, left)

    def silent(self) -> TimeoutError:
        """Return the error of a step that took longer than it may."""
        self.left()
        return TimeoutError(f"no answer within {self._silence:g} seconds")

    def hurry(self, seconds: float) -> None:
        """Allow no more than so many seconds from now on."""
        self._end = min(self._end, time.monotonic() + seconds)

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """Yield what is to be sent while there is time: a server may be slow to take it, too."""
        for start in range(0, len(data), _PIECE):
            self.left()
            yield data[start : start + _PIECE]

    def take(self, count: int) -> None:
        """Count bytes that have arrived, headers and all."""
        self._room -= count
        if self._room < 0:
            raise too_large(self._url, f"at most {self._most:,} bytes")


class _Received(io.RawIOBase):
    """What a socket receives, within limits; `read` of a response would wait for each piece."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, limits: Limits) -> None:
        self._raw, self._sock, self._limits = raw, sock, limits

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(self._limits.left())
        try:
            count = self._raw.readinto(buffer)
        except TimeoutError:
            raise self._limits.silent() from None
        self._limits.take(count or 0)
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: Any, *args: Any, limits: Limits, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self.fp = io.BufferedReader(_Received(self.fp.detach(), sock, limits))


class _Limited(urllib.request.AbstractHTTPHandler):
    """Gives each connection the limits of the request that it is made for."""

    def do_open(self, http_class: Any, req: Any, **options: Any) -> Any:
        def connection(*args: Any, **settings: Any) -> Any:
            made = http_class(*args, **settings)
            made.response_class = partial(_Response, limits=req.limits)
            return made

        answer = super().do_open(connection, req, **options)
        vars(answer)["limits"] = req.limits
        return answer


class _Http(_Limited, urllib.request.HTTPHandler):
    pass


class _Https(_Limited, urllib.request.HTTPSHandler):
    pass


def limited_opener() -> urllib.request.OpenerDirector:
    """Return what opens a request that bears its `Limits` as ``limits``; it goes where it is told.

    Redirects are not followed, and not looked at either.
    """
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        _Http(),
        _Https(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


def too_large(url: str, expected: str) -> AnswerError:
    """Return the error of an answer of more than it can be."""
    return AnswerError(
        "the endpoint's answer is too large", url, expected, next_step="use a smaller `batch_size`"
    )
