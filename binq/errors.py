"""The exception tree and the exit codes; standard library only.

::

    BinqError                     1  a bug in binq
    ├── UsageError                2  the call itself is wrong (also a ValueError)
    ├── InputError                3  input that cannot be used (also a ValueError)
    ├── IndexFileError            4  index missing, corrupt, truncated, unsupported
    ├── EnvironmentFailure        5  disk, permission, endpoint (also an OSError)
    ├── MissingExtraError         5  an optional dependency is not installed (also an ImportError)
    └── CheckFailed               6  a check that the user asked for did not hold

Every message is one line in four parts: what, where, expected and got, next step. It marks a
parameter of the library as `` `name` `` or `` `name=value` ``: the command line writes that as the
option that it is there, and ``str(error)`` as Python does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import Any, Final, Self

# User and password of a URI, of which one slash may be lost, and what stands behind `?`.
_PRIVATE: Final = re.compile(
    r"(?<![A-Za-z0-9])([A-Za-z][A-Za-z0-9+.-]+:/+)(?:[^\s/@]+@|[^\s/@:]*:[^\s@]*@)"
)
_OPTIONS: Final = re.compile(r"(?<![A-Za-z0-9])([A-Za-z][A-Za-z0-9+.-]+:/[^\s?]*\?)\S*[^\s:;,]")
_PARAMETER: Final = re.compile(r"`([a-z][a-z_]*)(?:=([^`]*))?`")

Spell = Callable[[str, str | None], str]
"""Writes a parameter, given its name, and its value where the message says one."""


def spelled(text: str, spell: Spell) -> str:
    """Return a message with every parameter that it marks written by ``spell``."""
    text = text.marked if isinstance(text, Marked) else text
    return _PARAMETER.sub(lambda found: spell(found[1], found[2]), text)


def in_python(name: str, value: str | None) -> str:
    """Write a parameter as Python does."""
    return name if value is None else f"{name}={value}"


def escaped(text: str) -> str:
    """Return a text whose control characters, which a terminal would obey, are written out."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


class Marked(str):
    """A text that marks parameters: as a string it writes them as Python does.

    Attributes
    ----------
    marked : str
        The text with its marks.
    """

    marked: str

    def __new__(cls, text: str) -> Self:
        """Take a text with its marks."""
        written = super().__new__(cls, spelled(text, in_python))
        written.marked = text
        return written


def without_credentials(text: str) -> str:
    """Return a text in which no URI has a user, a password or options.

    Wherever a path is expected a URI may have been given, and messages end up in logs.
    """
    return _OPTIONS.sub(r"\1***", _PRIVATE.sub(r"\1***@", text))


@contextmanager
def renamed(parameter: str, to: str) -> Iterator[None]:
    """Say of a parameter, in errors raised inside the block, what the caller calls it."""
    try:
        yield
    except BinqError as error:
        for part in ("what", "where", "expected", "got", "next_step"):
            text = getattr(error, part).replace(f"`{parameter}`", f"`{to}`")
            setattr(error, part, text)
        raise


class ExitCode(IntEnum):
    """What a binq process exits with."""

    DONE = 0
    BUG = 1
    USAGE = 2
    INPUT = 3
    INDEX = 4
    ENVIRONMENT = 5
    CHECK = 6
    SIGINT = 130
    CLOSED_PIPE = 141
    SIGTERM = 143


class BinqError(Exception):
    """Base of every error that binq raises on purpose.

    Parameters
    ----------
    what : str
        What is wrong.
    where : str
        The file, row, option or section it concerns.
    expected, got : str
        What was wanted and what was found instead.
    next_step : str
        What the user can do about it.
    """

    exit_code: ExitCode = ExitCode.BUG

    def __init__(
        self,
        what: str,
        where: str = "",
        expected: str = "",
        got: str = "",
        next_step: str = "",
    ) -> None:
        self.what = what
        self.where = where
        self.expected = expected
        self.got = got
        self.next_step = next_step
        super().__init__(what)

    def __reduce__(self) -> tuple[Any, ...]:
        parts = (self.what, self.where, self.expected, self.got, self.next_step)
        return type(self), parts

    def line(self, spell: Spell = in_python) -> str:
        """Return the message, its parameters written by ``spell``."""
        contrast = ", ".join(
            f"{label} {text}"
            for label, text in (("expected", self.expected), ("got", self.got))
            if text
        )
        line = ": ".join(part for part in (self.what, self.where, contrast) if part)
        if self.next_step:
            line += f"; {self.next_step}"
        line = spelled(without_credentials(line), spell)
        # A file name or an id may hold anything; the message stays one line whatever it holds.
        return escaped(line)

    def __str__(self) -> str:
        return self.line()


class UsageError(BinqError, ValueError):
    """The call itself is wrong: an option, an argument or a combination of them."""

    exit_code = ExitCode.USAGE


class InputError(BinqError, ValueError):
    """Input that cannot be used: missing, of a wrong type, ragged, null, NaN, mismatched."""

    exit_code = ExitCode.INPUT


class IndexFileError(BinqError):
    """An index that is missing, corrupt, truncated or of an unsupported version."""

    exit_code = ExitCode.INDEX


class EnvironmentFailure(BinqError, OSError):
    """The environment failed: disk full, permission, endpoint unreachable."""

    exit_code = ExitCode.ENVIRONMENT


class MissingExtraError(BinqError, ImportError):
    """An optional dependency is not installed."""

    exit_code = ExitCode.ENVIRONMENT


class CheckFailed(BinqError):
    """A check that the user asked for did not hold."""

    exit_code = ExitCode.CHECK


class BinqWarning(UserWarning):
    """Something that the user should know, and that stops nothing; marks parameters likewise."""

    def __str__(self) -> str:
        return spelled(super().__str__(), in_python)


def stopping(error: InputError) -> InputError:
    """Return what is wrong with one row, at which a run stops, with what would let it go on.

    Where the error says a next step that does not concern the row alone, that stands by itself.
    """
    step = error.next_step or "mend that row"
    if "that row" in step and "`on_error" not in step:
        error.next_step = f"{step}, or use `on_error=skip`"
    return error


def index_changed(path: str) -> IndexFileError:
    """Return the error of an index that was cut or written to while it was open."""
    return IndexFileError(
        "the index was changed in place while it was read",
        path,
        next_step="replace an index by a rename, as mv and binq do, not by cp",
    )


def missing_extra(package: str, extra: str, purpose: str) -> MissingExtraError:
    """Return the error that names the extra which brings ``package``."""
    return MissingExtraError(
        f"{purpose} needs the package {package}",
        next_step=f"install it with: pip install 'binq[{extra}]'",
    )
