"""JSON over HTTP to an embedding endpoint: retries, time limits, and a key that stays secret.

``urllib`` from the standard library does it: batches are large and few, so that nothing is won by
a pool of connections, and proxies and certificates are taken from the system. Redirects are never
followed, since the key would go along to wherever they point.
"""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

from binq.encoders.keys import API_KEY_VARIABLE
from binq.encoders.limits import AnswerError, Limits, limited_opener, too_large
from binq.errors import BinqError, EnvironmentFailure, InputError
from binq.io.redaction import Redaction, proxy_secrets
from binq.types import OnWait

_TRANSIENT: Final = {408, 425, 429, 500, 502, 503, 504, 529}
# Of these, the ones that say that less is to be asked: no other request goes out meanwhile.
_BUSY: Final = {429, 503, 529}
_ATTEMPTS: Final = 7
# A server that says nothing for so long, so often, will not.
_SILENT_ATTEMPTS: Final = 3
_FIRST_WAIT: Final = 0.5
_LONGEST_WAIT: Final = 120.0
_ERROR_SECONDS: Final = 10.0
_REASON: Final = 200
_LOOKED_AT: Final = 1 << 16
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
        The HTTP status: 400, 413 or 422.
    """

    status = 0


class NotServedError(EnvironmentFailure):
    """The endpoint answers, and will not: another key, no such address, a redirect."""


class Transport:
    """Sends JSON to one host and returns the JSON that comes back; for any number of threads.

    Parameters
    ----------
    key : str, optional
        Sent as a bearer token; it stands in no message, whatever the server says.
    timeout : float
        Seconds to wait for the connection and for each piece of an answer.
    deadline : float
        Seconds that one request may take until its answer is whole.
    sleep : callable, optional
        Waits between attempts; takes seconds.
    max_answer : int
        Bytes of an answer beyond which it is refused.
    on_wait : callable, optional
        Told, from any thread, why a request is made again, in one line, and in how many seconds.

    Attributes
    ----------
    redact : Redaction
        Writes what the server says without the key.
    """

    def __init__(
        self,
        key: str | None = None,
        *,
        timeout: float = 120.0,
        deadline: float = 300.0,
        sleep: Callable[[float], None] = time.sleep,
        max_answer: int = 1 << 28,
        on_wait: OnWait | None = None,
    ) -> None:
        self._headers = {"Accept": "application/json", "User-Agent": "binq"}
        if key is not None:
            self._headers["Authorization"] = f"Bearer {key}"
        self.redact = Redaction([key or "", *proxy_secrets()])
        self._timeout = timeout
        self._deadline = deadline
        self._sleep = sleep
        self._max_answer = max_answer
        self._on_wait = on_wait
        self._opener = limited_opener()
        self._lock = threading.Lock()
        self._held_until = 0.0

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
        NotServedError
            If it wants another key or knows no such address.
        AnswerError
            If it answers with something other than JSON, or far too much of it.
        EnvironmentFailure
            If it cannot be reached, goes on failing, or takes too long.
        """
        return self._request(url, json.dumps(document, ensure_ascii=False).encode(), texts)

    def get(self, url: str) -> Any:
        """Return the JSON at an address; raises as `post` does."""
        return self._request(url, None, 1)

    def _request(self, url: str, body: bytes | None, texts: int) -> Any:
        silent = 0
        with self.redact.of_errors():
            for attempt in range(1, _ATTEMPTS + 1):
                last = attempt == _ATTEMPTS
                asked = None
                status = 0
                try:
                    return self._decoded(url, self._send(url, body, texts), texts)
                except BinqError:
                    # EnvironmentFailure is an OSError as well.
                    raise
                except urllib.error.HTTPError as error:
                    with error:
                        reason = self._reason(error)
                    status = error.code
                    if status not in _TRANSIENT or last:
                        raise _failure(url, status, reason, attempt) from None
                    asked = _retry_after(error.headers.get("Retry-After"))
                    if asked is not None and asked > _LONGEST_WAIT:
                        late = "more than a day" if asked > 86_400 else f"{asked:.0f} seconds"
                        raise EnvironmentFailure(
                            "the endpoint asks to come back later",
                            url,
                            got=f"{status}: {reason}, in {late}",
                        ) from None
                    reason = f"{status}: {reason}"
                except (OSError, http.client.HTTPException) as error:
                    # URLError is an OSError too, as are timeouts and connections that break off.
                    cause = getattr(error, "reason", error)
                    reason = self._line(str(cause)) or type(error).__name__
                    silent += isinstance(cause, TimeoutError)
                    if last or silent == _SILENT_ATTEMPTS:
                        # Without its cause, which repeats what the server said.
                        raise _unreachable(url, reason, slow=silent == _SILENT_ATTEMPTS) from None
                # Spread over half the interval, so that many clients do not return in step.
                wait = min(_LONGEST_WAIT, _FIRST_WAIT * 2 ** (attempt - 1))
                wait = max(wait * random.uniform(0.5, 1.0), asked or 0.0)
                if self._on_wait is not None:
                    self._on_wait(reason, wait)
                self._pause(wait, others=status in _BUSY)
        raise AssertionError("the last attempt returns or raises")

    def _pause(self, seconds: float, *, others: bool) -> None:
        """Sleep, and let other threads ask nothing meanwhile where that is what is wanted."""
        until = time.monotonic() + seconds
        with self._lock:
            if others:
                self._held_until = max(self._held_until, until)
        self._sleep(seconds)
        with self._lock:
            if self._held_until <= until:
                self._held_until = 0.0

    def _send(self, url: str, body: bytes | None, texts: int) -> bytes:
        if (held := self._held_until - time.monotonic()) > 0:
            self._sleep(held)
        most = min(self._max_answer, _ANSWER_BYTES + texts * _TEXT_BYTES)
        limits = Limits(url, self._timeout, self._deadline, most)
        headers = dict(self._headers)
        data = None
        if body is not None:
            headers |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
            data = limits.pieces(body)
        request = urllib.request.Request(url, data=data, headers=headers)
        vars(request)["limits"] = limits
        with self._opener.open(request, timeout=limits.left()) as answer:
            found: bytes = answer.read(most + 1)
            missing = answer.length
        if len(found) > most:
            raise too_large(url, f"at most {most:,} bytes")
        if missing:
            # A bounded read does not complain about an answer that breaks off.
            raise http.client.IncompleteRead(found, missing)
        return found

    def _decoded(self, url: str, data: bytes, texts: int) -> Any:
        # Each value takes up to thirty times its length, and stands behind one of these.
        values = sum(map(data.count, (b",", b"[", b"{")))
        most = min(_ANSWER_VALUES + texts * _TEXT_VALUES, _MOST_VALUES)
        if values > most:
            raise too_large(url, f"at most {most:,} values")
        try:
            return json.loads(data)
        except (ValueError, RecursionError):
            raise AnswerError(
                "the endpoint's answer is not JSON",
                url,
                # The key is looked for in more than is shown: a cut may leave half of it.
                got=ascii(self.redact(data[:_LOOKED_AT].decode("utf-8", "replace"))[:40]),
                next_step="check the address",
            ) from None

    def _reason(self, error: urllib.error.HTTPError) -> str:
        """Return what the endpoint says about an error, shortened to one line."""
        limits = getattr(error.fp, "limits", None)
        if limits is not None:
            limits.hurry(_ERROR_SECONDS)
        try:
            data = error.read(_LOOKED_AT)
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
        return self._line(text) or self._line(str(error.reason))

    def _line(self, text: str) -> str:
        return self.redact(" ".join(text.split()))[:_REASON]


def _unreachable(url: str, reason: str, *, slow: bool) -> EnvironmentFailure:
    if slow:
        what, step = "the endpoint does not answer in time", "use a smaller `batch_size`"
    else:
        what, step = "the endpoint cannot be reached", "check the address and whether it is running"
    return EnvironmentFailure(what, url, got=reason, next_step=step)


def _failure(url: str, status: int, reason: str, attempts: int) -> Exception:
    got = f"{status}: {reason}"
    if status in (400, 413, 422):
        refused = RefusedError("the endpoint refuses the texts", url, got=got)
        refused.status = status
        return refused
    if status in (401, 403):
        return NotServedError(
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
    return NotServedError("the endpoint does not serve this", url, got=got, next_step=step)


def _retry_after(value: str | None) -> float | None:
    """Return the seconds that a Retry-After header asks for (RFC 9110, section 10.2.3).

    None where it says nothing that can be understood.
    """
    if value is None:
        return None
    value = value.strip()
    try:
        seconds = float(value)
    except ValueError:
        try:
            moment = parsedate_to_datetime(value)
            if moment.tzinfo is None:
                moment = moment.replace(tzinfo=UTC)
            seconds = (moment - datetime.now(UTC)).total_seconds()
        except (ValueError, OverflowError, TypeError, IndexError):
            return None
    return max(0.0, seconds) if seconds == seconds else None
