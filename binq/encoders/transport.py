"""JSON over HTTP to an embedding endpoint: retries, time limits, and a key that stays secret.

``urllib`` from the standard library does it: batches are large and few, so that nothing is won by
a pool of connections, and proxies and certificates are taken from the system. Redirects are never
followed, since the key would go along to wherever they point.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import urlsplit

from binq.errors import BinqError, EnvironmentFailure, InputError, UsageError
from binq.io.paths import opening

API_KEY_VARIABLE: Final = "BINQ_API_KEY"
# A provider's own variable is read for that provider alone: no key goes to a stranger.
_KEYS_OF_HOSTS: Final = {
    "api.openai.com": "OPENAI_API_KEY",
    "api.cohere.com": "CO_API_KEY",
    "api.cohere.ai": "CO_API_KEY",
    "api.jina.ai": "JINA_API_KEY",
    "api.mistral.ai": "MISTRAL_API_KEY",
    "api.mixedbread.com": "MXBAI_API_KEY",
    "api.voyageai.com": "VOYAGE_API_KEY",
}
_TRANSIENT: Final = {408, 425, 429, 500, 502, 503, 504, 529}
_ATTEMPTS: Final = 7
_FIRST_WAIT: Final = 0.5
_LONGEST_WAIT: Final = 120.0
_MAX_KEY: Final = 1 << 12
# An answer, and what each text adds: an embedding of 20,000 numbers, or 65,536 in base64.
_ANSWER_BYTES: Final = 4 << 20
_TEXT_BYTES: Final = 1 << 19
_ANSWER_VALUES: Final = 1 << 16
_TEXT_VALUES: Final = 1 << 15
_MOST_VALUES: Final = 1 << 24


class RefusedError(InputError):
    """The endpoint understood a request and will not serve it.

    Attributes
    ----------
    status : int
        The HTTP status.
    """

    def __init__(self, status: int, where: str, reason: str) -> None:
        super().__init__("the endpoint refuses the texts", where, got=f"{status}: {reason}")
        self.status = status


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


class Transport:
    """Sends JSON to one host and returns the JSON that comes back.

    Parameters
    ----------
    key : str, optional
        Sent as a bearer token; it stands in no message.
    timeout : float
        Seconds to wait for the connection and for each piece of an answer.
    sleep : callable, optional
        Waits between attempts; takes seconds.
    max_answer : int
        Bytes of an answer beyond which it is refused.
    """

    def __init__(
        self,
        key: str | None = None,
        *,
        timeout: float = 120.0,
        sleep: Callable[[float], None] = time.sleep,
        max_answer: int = 1 << 28,
    ) -> None:
        self._headers = {"Accept": "application/json", "User-Agent": "binq"}
        if key is not None:
            self._headers["Authorization"] = f"Bearer {key}"
        self._timeout = timeout
        self._sleep = sleep
        self._max_answer = max_answer
        self._opener = urllib.request.build_opener(_NoRedirects)

    def post(self, url: str, document: Mapping[str, Any], texts: int = 1) -> Any:
        """Send a document and return the answer, trying again after passing faults.

        Parameters
        ----------
        url : str
        document : dict
        texts : int
            How many embeddings are asked for: an answer that could hold many more is refused.

        Raises
        ------
        RefusedError
            If the endpoint finds fault with the request (400, 413, 422).
        EnvironmentFailure
            If it cannot be reached, wants another key, knows no such address, goes on failing, or
            answers with something other than JSON, or far too much of it.
        """
        return self._request(url, json.dumps(document, ensure_ascii=False).encode(), texts)

    def get(self, url: str) -> Any:
        """Return the JSON at an address; raises as `post` does."""
        return self._request(url, None, 1)

    def _request(self, url: str, body: bytes | None, texts: int) -> Any:
        for attempt in range(1, _ATTEMPTS + 1):
            last = attempt == _ATTEMPTS
            wait = None
            try:
                return _decoded(url, self._send(url, body, texts), texts)
            except BinqError:
                # EnvironmentFailure is an OSError as well.
                raise
            except urllib.error.HTTPError as error:
                with error:
                    reason = _reason(error)
                if error.code not in _TRANSIENT or last:
                    raise _failure(url, error.code, reason, attempt) from None
                wait = _retry_after(error.headers.get("Retry-After"))
                if wait is not None and wait > _LONGEST_WAIT:
                    raise EnvironmentFailure(
                        "the endpoint asks to come back later",
                        url,
                        got=f"{error.code}, in {wait:.0f} seconds",
                        next_step="run it again then",
                    ) from None
            except (OSError, http.client.HTTPException) as error:
                # URLError is an OSError too, as are timeouts and connections that break off.
                if last:
                    raise EnvironmentFailure(
                        "the endpoint cannot be reached",
                        url,
                        got=str(getattr(error, "reason", error)) or type(error).__name__,
                        next_step="check the address and whether it is running",
                    ) from error
            if wait is None:
                # Spread over half the interval, so that many clients do not return in step.
                wait = min(_LONGEST_WAIT, _FIRST_WAIT * 2 ** (attempt - 1))
                wait *= random.uniform(0.5, 1.0)
            self._sleep(wait)
        raise AssertionError("the last attempt returns or raises")

    def _send(self, url: str, body: bytes | None, texts: int) -> bytes:
        most = min(self._max_answer, _ANSWER_BYTES + texts * _TEXT_BYTES)
        headers = self._headers | ({"Content-Type": "application/json"} if body else {})
        request = urllib.request.Request(url, data=body, headers=headers)
        with self._opener.open(request, timeout=self._timeout) as answer:
            data: bytes = answer.read(most + 1)
            missing = answer.length
        if len(data) > most:
            raise _too_large(url, f"at most {most:,} bytes")
        if missing:
            # A bounded read does not complain about an answer that breaks off.
            raise http.client.IncompleteRead(data, missing)
        return data


def find_key(url: str, key_file: str | os.PathLike[str] | None = None) -> str | None:
    """Return the key for an endpoint, or None where there is none.

    It is read from ``key_file`` if given, else from ``BINQ_API_KEY``, else from the variable that
    the provider itself documents, for that provider's host.

    Raises
    ------
    InputError
        If the file does not exist, or what is found cannot be a key.
    EnvironmentFailure
        If the file may not be read.
    """
    if key_file is not None:
        where = os.fspath(key_file)
        with opening(where), open(where, "rb") as file:
            found = file.read(_MAX_KEY + 1).decode("utf-8", "replace")
    else:
        host = (urlsplit(url).hostname or "").lower()
        names = [API_KEY_VARIABLE, *([_KEYS_OF_HOSTS[host]] if host in _KEYS_OF_HOSTS else [])]
        where = next((name for name in names if os.environ.get(name, "").strip()), "")
        if not where:
            return None
        found = os.environ[where]
    key = found.strip()
    if not (key and key.isascii() and key.isprintable() and " " not in key) or len(key) > _MAX_KEY:
        raise InputError("not a key", where, "one line of printable ASCII without spaces")
    return key


def check_url(url: str) -> None:
    """Check that an address can be asked.

    Raises
    ------
    UsageError
        If it is not http or https, names no host, or carries a user name or password.
    """
    try:
        parts = urlsplit(url)
        fine = parts.scheme in ("http", "https") and bool(parts.hostname)
        _ = parts.port
    except ValueError:
        raise UsageError("not an address", "`model`", "http://HOST[:PORT]/PATH") from None
    if parts.username is not None or parts.password is not None:
        raise UsageError(
            "the address carries a password",
            "`model`",
            "an address without one",
            next_step=f"put the key into {API_KEY_VARIABLE} or a file",
        )
    if not fine or not url.isprintable() or " " in url:
        raise UsageError("not an address", "`model`", "http://HOST[:PORT]/PATH", url)


def _too_large(url: str, expected: str) -> EnvironmentFailure:
    return EnvironmentFailure(
        "the endpoint's answer is too large", url, expected, next_step="use a smaller `batch_size`"
    )


def _decoded(url: str, data: bytes, texts: int) -> Any:
    # Each value takes up to thirty times its length, and stands behind one of these.
    values = sum(map(data.count, (b",", b"[", b"{")))
    most = min(_ANSWER_VALUES + texts * _TEXT_VALUES, _MOST_VALUES)
    if values > most:
        raise _too_large(url, f"at most {most:,} values")
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise EnvironmentFailure(
            "the endpoint's answer is not JSON",
            url,
            got=ascii(data[:40].decode("utf-8", "replace")),
            next_step="check the address",
        ) from None


def _reason(error: urllib.error.HTTPError) -> str:
    """Return what the endpoint says about an error, shortened to one line."""
    try:
        data = error.read(1 << 16)
    except (OSError, http.client.HTTPException):
        data = b""
    text = data.decode("utf-8", "replace")
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        document = None
    while isinstance(document, dict):
        document = next(
            (document[key] for key in ("error", "message", "detail") if document.get(key)), None
        )
    if isinstance(document, str):
        text = document
    return " ".join(text.split())[:200] or str(error.reason)


def _failure(url: str, status: int, reason: str, attempts: int) -> Exception:
    if status in (400, 413, 422):
        return RefusedError(status, url, reason)
    got = f"{status}: {reason}"
    if status in (401, 403):
        return EnvironmentFailure(
            "the endpoint refuses the key",
            url,
            got=got,
            next_step=f"set {API_KEY_VARIABLE} or name a key file",
        )
    if status in _TRANSIENT:
        return EnvironmentFailure(f"the endpoint failed {attempts} times", url, got=got)
    step = "check address and model" if status in (404, 405) else ""
    if 300 <= status < 400:
        step = "give the address that it points to"
    return EnvironmentFailure("the endpoint does not serve this", url, got=got, next_step=step)


def _retry_after(value: str | None) -> float | None:
    """Return the seconds that a Retry-After header asks for (RFC 9110, section 10.2.3)."""
    if value is None:
        return None
    value = value.strip()
    try:
        seconds = float(value)
    except ValueError:
        try:
            moment = parsedate_to_datetime(value)
        except ValueError:
            return None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        seconds = (moment - datetime.now(UTC)).total_seconds()
    return max(0.0, seconds) if seconds == seconds else None
