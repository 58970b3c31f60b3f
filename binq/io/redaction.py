"""Secrets stay out of messages, whatever servers are wont to make of them."""

from __future__ import annotations

import base64
import html
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final
from urllib.parse import quote, unquote, urlsplit
from urllib.request import getproxies

from binq.errors import BinqError

_HIDDEN: Final = "***"
# So many characters of a secret are a part that is hidden.
_PART: Final = 8
_BARE: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
_LOWER: Final = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz")


class Redaction:
    """Writes ``***`` in place of secrets, whatever servers are wont to make of them.

    Hidden are a secret, any longer part of it, and both in another case, percent-encoded, escaped
    for HTML or JSON, in hexadecimal, or in base64 with something before it, as in
    ``user:password``; and what other characters stand between, as where a line is broken.

    Parameters
    ----------
    secrets : iterable of str
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        self._parts: dict[int, set[str]] = defaultdict(set)
        self._bare: set[str] = set()
        words = []
        for secret in {secret for secret in secrets if secret}:
            if len(secret) < 4:
                # Inside of other words it says nothing, and would make nonsense of all messages.
                words.append(rf"(?<![a-z0-9]){re.escape(secret.translate(_LOWER))}(?![a-z0-9])")
                continue
            for form in map(str.lower, _forms(secret)):
                size = min(len(form), max(4, min(_PART, len(form) // 2)))
                self._parts[size] |= {form[i : i + size] for i in range(len(form) - size + 1)}
                bare = "".join(filter(_BARE.__contains__, form))
                self._bare |= {bare[i : i + _PART] for i in range(len(bare) - _PART + 1)}
        self._words = re.compile("|".join(words)) if words else None

    def __call__(self, text: str) -> str:
        """Return a text without the secrets."""
        lower = text.translate(_LOWER)  # of the same length, which lower() need not be
        hidden = bytearray(len(text))
        for size, parts in self._parts.items():
            for start in range(len(text) - size + 1):
                if lower[start : start + size] in parts:
                    hidden[start : start + size] = b"\1" * size
        places = [place for place, c in enumerate(lower) if c in _BARE] if self._bare else []
        bare = "".join(lower[place] for place in places)
        for start in range(len(bare) - _PART + 1):
            if bare[start : start + _PART] in self._bare:
                first, last = places[start], places[start + _PART - 1]
                hidden[first : last + 1] = b"\1" * (last + 1 - first)
        for found in self._words.finditer(lower) if self._words else ():
            hidden[found.start() : found.end()] = b"\1" * (found.end() - found.start())
        shown = "".join("\0" if covered else c for c, covered in zip(text, hidden, strict=True))
        return re.sub("\0+", _HIDDEN, shown) if any(hidden) else text

    @contextmanager
    def of_errors(self) -> Iterator[None]:
        """Write errors that are raised inside the block without secrets.

        What a server said stands in what was got, and there alone.
        """
        try:
            yield
        except BinqError as error:
            error.got = self(error.got)
            raise


def proxy_secrets() -> list[str]:
    """Return the passwords of proxies that the environment names."""
    found = []
    for proxy in getproxies().values():
        try:
            password = urlsplit(proxy).password
        except ValueError:
            continue
        if password:
            found += [password, unquote(password)]
    return found


def _forms(secret: str) -> Iterator[str]:
    data = secret.encode()
    yield secret
    yield quote(secret, safe="")
    yield "".join(f"%{byte:02x}" for byte in data)
    yield data.hex()
    yield html.escape(secret)
    yield "".join(f"&#{byte};" for byte in data)
    yield "".join(f"\\u{byte:04x}" for byte in data)
    for before in range(3):
        # Of the first and the last character only some bits are the secret's.
        coded = base64.b64encode(bytes(before) + data).rstrip(b"=")[(8 * before + 5) // 6 :]
        yield coded.decode()
        yield coded.decode().replace("+", "-").replace("/", "_")
