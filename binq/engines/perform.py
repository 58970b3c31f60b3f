"""What a worker in another process does: a task for an item, whose outcome it sends back whole."""

from __future__ import annotations

import os
import pickle
import platform
import stat
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from binq.errors import BinqError, BinqWarning, EnvironmentFailure, InputError
from binq.version import __version__

Files = list[tuple[str, int | None]]


@dataclass(frozen=True)
class Context:
    """What all items have in common.

    Attributes
    ----------
    task : callable
    files : list of (str, int or None)
        What a worker has to see for every item, see :func:`seen`.
    version : str
        Of binq.
    """

    task: Callable[[Any], Any]
    files: Files
    version: str = __version__


@dataclass(frozen=True)
class Answer:
    """What a worker sends back: a value, or what the task raised; and the warnings on the way."""

    value: Any = None
    error: Exception | None = None
    warnings: tuple[Warning, ...] = ()


def perform(context: Context, argument: Any, files: Files) -> Answer:
    """Be the task of an item, on a worker."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", BinqWarning)
        try:
            _check_worker(context.version, [*context.files, *files])
            answer = context.task(argument)
            error = None
        except Exception as raised:
            answer, error = None, _portable(raised)
    said = [each.message for each in caught if isinstance(each.message, BinqWarning)]
    return Answer(answer, error, tuple(said))


def _check_worker(version: str, files: Files) -> None:
    """Refuse a worker of another binq, or one that does not see the files.

    Raises
    ------
    EnvironmentFailure, InputError
    """
    if version != __version__:
        raise EnvironmentFailure(
            "a worker of the cluster has another binq",
            platform.node(),
            version,
            __version__,
            "install the same version on every machine",
        )
    for path, size in files:
        try:
            ((_, found),) = seen([path])
        except OSError as error:
            got = (error.strerror or str(error)).lower()
        else:
            if found == size:
                continue
            got = "another file of that name"
        raise InputError(
            "a worker of the cluster does not see the file",
            f"{path} on {platform.node()}",
            got=got,
            next_step="put it where every machine sees it under this path, or use `engine=local`",
        )


def seen(paths: Sequence[str]) -> Files:
    """Return files as this machine sees them: their paths and sizes; None for what is no file."""
    found = [(path, os.stat(path)) for path in paths]
    return [(path, at.st_size if stat.S_ISREG(at.st_mode) else None) for path, at in found]


def _portable(error: Exception) -> Exception:
    """Return an error that another process can read, with its traceback unless it is binq's."""
    if isinstance(error, BinqError):
        return error
    error.add_note("".join(traceback.format_exception(error)))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
