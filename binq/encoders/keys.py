"""Keys and addresses of endpoints: where a key comes from, and which addresses can be asked."""

from __future__ import annotations

import os
from typing import Final
from urllib.parse import urlsplit

from binq.errors import InputError, UsageError
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
_MAX_KEY: Final = 1 << 12


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
        If it is not http or https, names no host, holds what no request line can, or carries a
        user name, a password or a query, which no message then repeats.
    """
    expected = "http://HOST[:PORT]/PATH"
    try:
        parts = urlsplit(url)
        fine = parts.scheme in ("http", "https") and bool(parts.hostname)
        (parts.hostname or "").encode("idna")
        _ = parts.port
    except ValueError:
        raise UsageError("not an address", "`model`", expected) from None
    carried = "password" if parts.username is not None or parts.password is not None else "query"
    if carried == "password" or parts.query:
        raise UsageError(
            f"the address carries a {carried}",
            "`model`",
            "an address without one",
            next_step=f"put a key into {API_KEY_VARIABLE} or a file",
        )
    if not fine or not url.isprintable() or " " in url:
        raise UsageError("not an address", "`model`", expected, url)
    if not parts.path.isascii():
        raise UsageError("not an address", "`model`", "a path in ASCII, percent-encoded", url)
