"""What an encoding run has done so far, in one SQLite file.

Each distinct text is encoded once and its row kept under a hash of the text, so that duplicates
cost nothing, and a run that was interrupted goes on where it stopped even if the input has been
reordered or has grown. Rows live on disk: memory does not grow with them.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from binq.errors import EnvironmentFailure, InputError
from binq.io.atomic import scratch_name
from binq.types import MAX_DIM

_VERSION: Final = "1"
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS facts (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS vectors (
    number INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, vector BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS rows (position INTEGER PRIMARY KEY, id TEXT, number INTEGER NOT NULL);
DELETE FROM rows;
"""
_AT_A_TIME: Final = 500
_WIDTHS: Final = range(1, MAX_DIM + 1)
_DTYPES: Final = ("<f4", "<f2", "|u1")

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Shape:
    """What a row of the output looks like: its dtype, its width, and its bits if it is a code."""

    dtype: np.dtype[Any]
    width: int
    bits: int | None


class Checkpoint:
    """The rows of a run and the vectors of its distinct texts.

    Parameters
    ----------
    path : path
        The SQLite file.
    facts : mapping of str to str
        What decides the vectors; a checkpoint of other facts is refused.
    temporary : bool
        Use a file without a name, in the directory of ``path``.

    Raises
    ------
    InputError
        If the file is no checkpoint, is damaged, or belongs to another model or prompt.
    EnvironmentFailure
        If another run is using it, or the disk fails.
    """

    def __init__(
        self, path: str | os.PathLike[str], facts: Mapping[str, str], *, temporary: bool = False
    ) -> None:
        self.path = os.fspath(path)
        with self._failures():
            if temporary:
                with scratch_name(self.path) as name:
                    self._database = _connect(name)
            else:
                self._database = self._open()
            try:
                if temporary:
                    # A rollback journal would need the name; there is nothing to roll back to.
                    self._database.execute("PRAGMA journal_mode=MEMORY")
                self._database.execute("PRAGMA locking_mode=EXCLUSIVE")
                self._database.execute(f"PRAGMA synchronous={'OFF' if temporary else 'NORMAL'}")
                self._database.execute("PRAGMA cache_size=-16384")
                self._database.execute("BEGIN EXCLUSIVE")
                self._settle(dict(facts))
                self._database.execute("COMMIT")
            except BaseException:
                self._database.close()
                raise

    @property
    def last(self) -> int:
        """The number of the newest vector; 0 where there is none."""
        return self._number("SELECT coalesce(max(number), 0) FROM vectors")

    def distinct(self, limit: int) -> tuple[int, int]:
        """Return how many vectors the rows use, and how many of those are numbered to ``limit``."""
        query = "SELECT count(DISTINCT number) FROM rows WHERE number <= ?"
        return self._number(query, 2**62), self._number(query, limit)

    def find(self, digests: Sequence[bytes]) -> dict[bytes, int]:
        """Return the numbers of the vectors that are there already, by the digest of the text."""
        found: dict[bytes, int] = {}
        with self._failures():
            for start in range(0, len(digests), _AT_A_TIME):
                part = digests[start : start + _AT_A_TIME]
                marks = ",".join("?" * len(part))
                query = f"SELECT digest, number FROM vectors WHERE digest IN ({marks})"
                found.update(self._database.execute(query, part).fetchall())
        return found

    def add_vectors(
        self, digests: Sequence[bytes], vectors: NDArray[Any], bits: int | None = None
    ) -> list[int]:
        """Keep the vectors of texts, durably, and return their numbers.

        Parameters
        ----------
        digests : sequence of bytes
        vectors : (n, width) array
            Of the one dtype and width that all vectors of the checkpoint have.
        bits : int, optional
            How many bits of a row count, if it is a code.
        """
        kind = json.dumps([vectors.dtype.str, int(vectors.shape[1]), bits])
        with self._failures(), self._transaction():
            known = self._fact("vectors")
            if known is None:
                self._database.execute("INSERT INTO facts VALUES ('vectors', ?)", (kind,))
            elif known != kind:
                raise InputError(
                    "the model changed the width of its output", self.path, known, kind
                )
            insert = "INSERT INTO vectors (digest, vector) VALUES (?, ?)"
            return [
                int(self._database.execute(insert, (digest, row.tobytes())).lastrowid or 0)
                for digest, row in zip(digests, vectors, strict=True)
            ]

    def add_rows(self, rows: Sequence[tuple[int, str | None, int]]) -> None:
        """Note rows of the output: position in the input, id, number of the vector."""
        with self._failures(), self._transaction():
            self._database.executemany("INSERT INTO rows VALUES (?, ?, ?)", rows)

    def shape(self) -> Shape | None:
        """Return what the vectors look like; None where there are none yet."""
        with self._failures():
            known = self._fact("vectors")
            if known is None:
                return None
            dtype, width, bits = self._decoded(known, list)
            if (
                dtype not in _DTYPES
                or width not in _WIDTHS
                or not (bits is None or bits in _WIDTHS)
            ):
                raise self._damaged("vectors of another kind")
            return Shape(np.dtype(dtype), width, bits)

    def read(
        self, block_bytes: int = 1 << 24
    ) -> Iterator[tuple[list[int], list[str | None], NDArray[Any]]]:
        """Yield positions, ids and vectors ((m, width)) of the rows, in order, in blocks."""
        shape = self.shape()
        if shape is None:
            return
        dtype, width = shape.dtype, shape.width
        count = max(1, block_bytes // (dtype.itemsize * width + 64))
        query = (
            "SELECT position, id, vector FROM rows JOIN vectors USING (number) ORDER BY position"
        )
        with self._failures():
            cursor = self._database.execute(query)
            while block := cursor.fetchmany(count):
                positions, ids, blobs = zip(*block, strict=True)
                data = b"".join(blobs)
                if len(data) != len(block) * width * dtype.itemsize:
                    raise self._damaged("vectors of another size")
                vectors = np.frombuffer(data, dtype).reshape(len(block), width)
                yield list(positions), list(ids), vectors

    def close(self, *, remove: bool) -> None:
        """Close the file, and remove it if its work is done."""
        with suppress(sqlite3.Error):
            self._database.close()
        if remove:
            for suffix in ("", "-journal"):
                with suppress(OSError):
                    os.unlink(self.path + suffix)

    def _open(self) -> sqlite3.Connection:
        """Open the file, which is no link: SQLite would follow one."""
        with suppress(FileExistsError):
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666))
        found = os.lstat(self.path)
        if not stat.S_ISREG(found.st_mode):
            raise self._damaged("a link, or something else that is no file")
        database = _connect(self.path)
        if not os.path.samestat(found, os.lstat(self.path)):
            database.close()
            raise self._damaged("another file than a moment ago")
        return database

    def _settle(self, facts: dict[str, str]) -> None:
        """Create the tables, or check that the ones that are there belong to this run."""
        tables = {row[0] for row in self._database.execute("SELECT name FROM sqlite_master")}
        if tables and "facts" not in tables:
            raise self._damaged("an SQLite file of something else")
        # executescript() would commit the transaction that guards this.
        for statement in filter(str.strip, _SCHEMA.split(";")):
            self._database.execute(statement)
        written = {"version": _VERSION} | facts
        kept = self._fact("facts")
        if kept is None:
            self._database.execute("INSERT INTO facts VALUES ('facts', ?)", (json.dumps(written),))
            return
        before = self._decoded(kept, dict)
        for key in sorted(written.keys() | before.keys()):
            if written.get(key) != before.get(key):
                raise InputError(
                    f"the interrupted run's checkpoint has another {key.removeprefix('binq.')}",
                    self.path,
                    str(written.get(key, "none")),
                    str(before.get(key, "none")),
                    "use the same options, or delete the checkpoint to start afresh",
                )

    def _number(self, query: str, *values: int) -> int:
        with self._failures():
            return int(self._database.execute(query, values).fetchone()[0])

    def _fact(self, key: str) -> str | None:
        row = self._database.execute("SELECT value FROM facts WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def _decoded(self, text: str, kind: type[_T]) -> _T:
        """Return the JSON that was noted: the file may have been written to by anybody."""
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, kind):
            raise self._damaged("notes that are none")
        return found

    def _damaged(self, reason: str) -> InputError:
        return InputError(
            "not a usable checkpoint",
            self.path,
            got=reason,
            next_step="delete it to start afresh",
        )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._database.execute("BEGIN")
        try:
            yield
        except BaseException:
            self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")

    @contextmanager
    def _failures(self) -> Iterator[None]:
        """Turn what SQLite raises into binq's exceptions."""
        try:
            yield
        except (InputError, EnvironmentFailure):
            raise
        except (sqlite3.OperationalError, OSError) as error:
            busy = "locked" in str(error)
            raise EnvironmentFailure(
                "the checkpoint is in use by another run"
                if busy
                else "cannot write the checkpoint",
                self.path,
                got="" if busy else str(error),
            ) from error
        except (sqlite3.Error, ValueError, TypeError) as error:
            raise self._damaged(str(error)) from error


def _connect(path: str) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=0, isolation_level=None)


@contextmanager
def temporary_checkpoint(output: Path, facts: Mapping[str, str]) -> Iterator[Checkpoint]:
    """Yield a checkpoint that leaves nothing behind, whatever ends the process.

    Its file, beside the output, loses its name as soon as it is open.
    """
    checkpoint = Checkpoint(output, facts, temporary=True)
    try:
        yield checkpoint
    finally:
        checkpoint.close(remove=False)


@contextmanager
def kept_checkpoint(output: Path, facts: Mapping[str, str]) -> Iterator[Checkpoint]:
    """Yield the checkpoint beside ``output``: it outlives an interruption, and goes at the end."""
    checkpoint = Checkpoint(checkpoint_path(output), facts)
    try:
        yield checkpoint
    except BaseException:
        # A checkpoint that holds nothing is of no use to anybody.
        checkpoint.close(remove=not checkpoint.last)
        raise
    checkpoint.close(remove=True)


def checkpoint_path(output: str | os.PathLike[str]) -> Path:
    """Return where the checkpoint of an output lies: beside it, or beside what it links to."""
    target = Path(os.path.realpath(output))
    return target.with_name(f"{target.name}.checkpoint")


def digest_of(text: str) -> bytes:
    """Return 16 bytes that stand for a text; BLAKE2b, since texts may come from an adversary."""
    return hashlib.blake2b(text.encode(), digest_size=16).digest()
