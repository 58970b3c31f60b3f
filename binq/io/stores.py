"""Object stores: what a URI names, and the file system of pyarrow that reaches it.

A URI is ``s3://BUCKET/KEY``, ``gs://BUCKET/KEY`` or ``file:///PATH``, percent-encoded, with options
of the store behind ``?``. Credentials come from the environment and the files of the store's own
library, never from a URI; what servers say is not repeated in messages but for its codes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

from binq.errors import EnvironmentFailure, InputError, MissingExtraError, UsageError
from binq.io.redaction import Redaction, proxy_secrets

FILES: Final = ".files/"
"""What the keys of an index's files begin with, behind that of the pointer to them."""
TIMEOUT_VARIABLE: Final = "BINQ_STORE_TIMEOUT"
_DEFAULT_TIMEOUT: Final = 60.0
_CONNECT_SECONDS: Final = 10.0
_ATTEMPTS: Final = 3
_SUPPORTED: Final = "s3://BUCKET/KEY, gs://BUCKET/KEY or file:///PATH"
_OPTIONS: Final = {
    "s3": ("endpoint_override", "scheme", "region", "anonymous"),
    "gs": ("endpoint_override", "scheme", "anonymous"),
    "file": (),
}
_LIKE_A_URI: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://|(s3[an]?|gs|gcs|file|https?):/")
# By the usual names of their libraries: should a server repeat one, it is not shown.
_SECRET_VARIABLES: Final = ("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN")
_CODES: Final = re.compile(
    r"AWS Error [A-Z_]+(?: \(HTTP status \d+\))? during \w+ operation(?:: curlCode: \d+, [\w ']+)?"
    r"|google::cloud::Status\([A-Z_]+"
)
_NO_FILE: Final = re.compile("is a directory|^Not a regular file")
_REFUSALS: Final = re.compile(
    "ACCESS_DENIED|PERMISSION_DENIED|UNAUTHENTICATED|status 40[13]"
    "|SIGNATURE|TOKEN|INVALID_(ACCESS|CLIENT)"
)


@dataclass(frozen=True)
class Location:
    """Where an object of a store stands.

    Attributes
    ----------
    scheme : {"s3", "gs", "file"}
    path : str
        Bucket and key, or the absolute path of a file; decoded.
    options : tuple of (str, str)
        Of the store.
    shown : str
        The URI without options: what messages call it.
    """

    scheme: str
    path: str
    options: tuple[tuple[str, str], ...]
    shown: str

    def sibling(self, suffix: str) -> Location:
        """Return the place of an object whose name is this one's with a suffix."""
        return Location(self.scheme, self.path + suffix, self.options, self.shown + suffix)

    def child(self, name: str) -> Location:
        """Return the place of an object under this prefix."""
        return self.sibling(name if self.path.endswith("/") else f"/{name}")

    def require_key(self) -> None:
        """Refuse a bucket or a prefix where an object is to be named.

        Raises
        ------
        UsageError
        """
        _, divided, key = self.path.partition("/")
        if not divided or not key or key.endswith("/"):
            raise UsageError("the URI names no object", self.shown, _SUPPORTED)

    def filesystem(self) -> Any:
        """Return the file system of pyarrow that reaches it.

        Raises
        ------
        MissingExtraError
            If pyarrow was built without support for such stores.
        EnvironmentFailure, InputError
            If it cannot be reached, or there is no such bucket.
        """
        bucket = self.path.partition("/")[0]
        try:
            with translated(self.shown):
                place = self.scheme, bucket, self.options, endpoint(self)
                return _filesystem(*place, _environment(), os.getpid())
        except ImportError as error:
            raise MissingExtraError(
                f"this pyarrow was built without support for {self.scheme}://",
                self.shown,
                next_step="install a pyarrow that has it, as its wheels for Linux and macOS do",
            ) from error


def is_uri(path: object) -> bool:
    """Return whether a path is the URI of an object in a store.

    What is there as a local path is one, whatever it looks like.

    Raises
    ------
    UsageError
        If it looks like a URI that is not supported, or is mistyped.
    """
    if not isinstance(path, (str, os.PathLike)):
        return False
    text = os.fspath(path)
    if not isinstance(text, str) or not (found := _LIKE_A_URI.match(text)):
        return False
    if found[1] in _OPTIONS:
        return True
    if os.path.lexists(text.partition("/")[0]):
        return False
    advice = ""
    if isinstance(path, os.PathLike):
        advice = "give a URI as a string: a Path makes one slash of two"
    elif found[0] in ("http://", "https://"):
        advice = "download it first, or pipe it into -"
    shown = f"{found[0]}…" if "@" in text or "?" in text else text
    raise UsageError("not a URI that binq reads", shown, _SUPPORTED, next_step=advice)


def locate(uri: str | os.PathLike[str]) -> Location:
    """Return what a URI names.

    Raises
    ------
    UsageError
        If it carries credentials or unknown options, which are not repeated, or names nothing.
    """
    whole = os.fspath(uri)
    scheme, _, rest = whole.partition("://")
    named, _, query = rest.partition("?")
    known = _OPTIONS[scheme]
    given = parse_qsl(query, keep_blank_values=True)
    path = unquote(named)
    bucket, _, key = path.partition("/")
    # A secret may have slashes.
    private = "@" in bucket or (":" in bucket and "@" in path)
    if private or any("@" in value for _, value in given):
        raise UsageError(
            "the URI carries credentials",
            f"{scheme}://***",
            "a URI without them",
            next_step="set them as the library of the store reads them, see docs/operations.md",
        )
    shown = f"{scheme}://{named}"
    unknown = [name for name, _ in given if name not in known]
    if unknown:
        expected = " or ".join(known) or "no options"
        raise UsageError("the URI has an option that is not known", shown, expected)
    if scheme == "file":
        fine = path.startswith("/") and len(path) > 1
    else:
        fine = bool(bucket) and ":" not in bucket and not key.startswith("/")
    if not fine or "\0" in path:
        raise UsageError("the URI names no object", shown, _SUPPORTED)
    return Location(scheme, path, tuple(given), shown)


def time_limit() -> float:
    """Return after how many seconds a request that has not ended has failed.

    Raises
    ------
    UsageError
        If ``BINQ_STORE_TIMEOUT`` is not a number above zero.
    """
    told = os.environ.get(TIMEOUT_VARIABLE, "")
    try:
        seconds = float(told) if told else _DEFAULT_TIMEOUT
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < 1e6:
        raise UsageError("not a time limit", TIMEOUT_VARIABLE, "seconds, above 0", repr(told))
    return seconds


def endpoint(location: Location) -> str:
    """Return the address of the store, where it is not the provider's own."""
    told = dict(location.options).get("endpoint_override", "")
    if location.scheme == "s3":
        for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"):
            told = told or os.environ.get(name, "")
    return told


@contextmanager
def translated(shown: str) -> Iterator[None]:
    """Turn what pyarrow says of a store into binq's exceptions.

    Of what a server said only its codes are shown.

    Raises
    ------
    InputError
        If there is no such object or bucket.
    EnvironmentFailure
        If the store refuses, fails or cannot be reached.
    """
    try:
        yield
    except (InputError, EnvironmentFailure, MissingExtraError, UsageError):
        raise
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise InputError("no such object", shown, next_step="check the URI") from None
    except (OSError, ValueError) as error:
        if _NO_FILE.search(str(error)):
            raise InputError("not an object", shown, next_step="check the URI") from None
        # The cause is not chained: a traceback would show what is hidden here.
        raise _failure(shown, error) from None


def _failure(shown: str, error: BaseException) -> EnvironmentFailure:
    text = str(error)
    codes = _CODES.search(text)
    if codes is None:
        secrets = [os.environ.get(name, "") for name in _SECRET_VARIABLES]
        first = (text.splitlines() or [type(error).__name__])[0][:300]
        got = Redaction([*secrets, *proxy_secrets()])(first)
    else:
        got = codes[0].removeprefix("google::cloud::Status(").replace("UNKNOWN (", "(")
    if _REFUSALS.search(got):
        step = "check the credentials that the library of the store reads, and what they may"
        return EnvironmentFailure("the store refuses access", shown, got=got, next_step=step)
    return EnvironmentFailure("the store failed", shown, got=got, next_step="try again later")


def _environment() -> tuple[str | None, ...]:
    """Return what decides on a file system beside a URI: tests and notebooks change it."""
    names = ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "GOOGLE_APPLICATION_CREDENTIALS")
    return tuple(map(os.environ.get, (*names, *_SECRET_VARIABLES, TIMEOUT_VARIABLE)))


@lru_cache(maxsize=16)
def _filesystem(
    scheme: str,
    bucket: str,
    options: tuple[tuple[str, str], ...],
    address: str,
    environment: tuple[str | None, ...],
    process: int,
) -> Any:
    """Return a file system, the same for as long as nothing that decides on it changes."""
    del environment, process
    told = dict(options)
    if scheme == "file":
        from pyarrow.fs import LocalFileSystem

        return LocalFileSystem()
    anonymous = told.pop("anonymous", "false").lower() in ("1", "true", "yes")
    if scheme == "gs":
        from datetime import timedelta

        from pyarrow.fs import GcsFileSystem

        return GcsFileSystem(
            anonymous=anonymous, retry_time_limit=timedelta(seconds=0.8 * time_limit()), **told
        )
    return _s3(bucket, told, address, anonymous)


def _s3(bucket: str, told: dict[str, str], address: str, anonymous: bool) -> Any:
    from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem, resolve_s3_region

    told.pop("endpoint_override", None)
    scheme, divided, host = address.rpartition("://")
    if divided:
        told.setdefault("scheme", scheme)
    if "@" in host:
        raise UsageError("the address of the store carries credentials", expected="one without")
    region = told.pop("region", "") or next(
        filter(None, map(os.environ.get, ("AWS_REGION", "AWS_DEFAULT_REGION"))), None
    )
    if region is None:
        # A store of one's own takes any.
        region = "us-east-1" if host else resolve_s3_region(bucket)
    return S3FileSystem(
        region=region,
        endpoint_override=host.rstrip("/") or None,
        anonymous=anonymous,
        # Parts that wait for a slow line would all be held in memory.
        background_writes=False,
        connect_timeout=min(_CONNECT_SECONDS, time_limit()),
        # As long as a byte comes now and then, this does not end: hence `transfers`.
        request_timeout=max(1.0, time_limit() / _ATTEMPTS),
        retry_strategy=AwsStandardS3RetryStrategy(max_attempts=_ATTEMPTS),
        **told,
    )
