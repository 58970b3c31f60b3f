"""Power cuts while an index is replaced: in every state that a crash may leave, one is whole.

The calls by which files are written are recorded in this process. A state is a prefix of them, of
which any writes may be missing that were not synced by then, and any changes of names after the
last sync of the directory, from some on: file systems keep those in their order.
"""

from __future__ import annotations

import io
import itertools
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from corpora import gaussian

import binq
from binq.io import atomic
from binq.storage import publishing
from binq.storage.manifest import NAME

pytestmark = pytest.mark.torture

Call = tuple[Any, ...]
File = tuple[int, int]
MOST_WRITES = 12


@contextmanager
def recorded(patch: pytest.MonkeyPatch) -> Iterator[list[Call]]:
    """Record what is done to files: (what, file by its inode, ...)."""
    calls: list[Call] = []
    fsync, link, replace, write = os.fsync, os.link, os.replace, io.FileIO.write
    unlink, serials = os.unlink, dict[int, int]()

    def inode(file: int | str) -> File:
        number = os.stat(file).st_ino
        return number, serials.get(number, 0)

    def synced(descriptor: int) -> None:
        fsync(descriptor)
        calls.append(("sync", inode(descriptor)))

    def linked(source: str, name: str, **how: Any) -> None:
        link(source, name, **how)
        calls.append(("name", inode(name), str(name)))

    def replaced(name: str, target: Path) -> None:
        number = inode(name)
        replace(name, target)
        calls.append(("name", number, str(target)))

    def unlinked(name: str | Path) -> None:
        unlink(name)
        calls.append(("name", None, str(name)))

    class Written(atomic._OutputFile):
        def __init__(self, descriptor: int, output: Any) -> None:
            super().__init__(descriptor, output)
            number = os.stat(descriptor).st_ino  # maybe that of a file which is gone
            serials[number] = serials.get(number, 0) + 1

        def write(self, data: Any) -> int:
            at = self.tell()
            count = write(self, data)
            calls.append(("write", inode(self.fileno()), at, bytes(data)[:count]))
            return count

    with patch.context() as inside:
        for name, function in (
            ("fsync", synced),
            ("link", linked),
            ("replace", replaced),
            ("unlink", unlinked),
        ):
            inside.setattr(os, name, function)
        inside.setattr(atomic, "_OutputFile", Written)
        yield calls


@dataclass(frozen=True)
class State:
    """What a prefix of the calls leaves: what is there for certain, and what may be.

    A name leads to a file, or to None where it is gone.
    """

    names: dict[str, File | None]
    writes: list[Call]
    open_writes: list[Call]
    open_names: list[Call]

    @property
    def choices(self) -> int:
        return len(self.open_writes) + len(self.open_names)

    def drawn(self, there: Sequence[bool]) -> tuple[dict[str, File | None], list[Call]]:
        """Return names and writes, of the open calls those being done that are said."""
        split = len(self.open_writes)
        writes = [*self.writes, *itertools.compress(self.open_writes, there[:split])]
        # Of the names the first so many: file systems keep their order.
        made = self.open_names[: sum(there[split:])]
        return self.names | {name: file for _, file, name in made}, writes

    def content(self, target: Path, old: bytes, there: Sequence[bool]) -> bytes:
        """Return what stands in a file."""
        names, writes = self.drawn(there)
        file = names.get(str(target))
        return old if file is None else written(file, writes)

    def folder(self, place: Path, old: dict[str, bytes], there: Sequence[bool]) -> dict[str, bytes]:
        """Return what stands in the files of a directory."""
        names, writes = self.drawn(there)
        found = dict(old)
        for name, file in names.items():
            if os.path.dirname(name) != str(place):
                continue
            found.pop(os.path.basename(name), None)
            if file is not None:
                found[os.path.basename(name)] = written(file, writes)
        return found


def written(file: File, writes: list[Call]) -> bytes:
    """Return what writes make of a file."""
    data = bytearray()
    for _, _, at, part in (call for call in writes if call[1] == file):
        data.extend(bytes(max(0, at + len(part) - len(data))))
        data[at : at + len(part)] = part
    return bytes(data)


def states(calls: list[Call], directory: File) -> list[State]:
    """Return the states behind every prefix of the calls."""
    found = [State({}, [], [], [])]
    for call in calls:
        last = found[-1]
        names, writes = dict(last.names), list(last.writes)
        open_writes, open_names = list(last.open_writes), list(last.open_names)
        if call[0] == "write":
            open_writes.append(call)
        elif call[0] == "name":
            open_names.append(call)
        elif call[1] == directory:
            names |= {name: file for _, file, name in open_names}
            open_names = []
        else:
            writes += [each for each in open_writes if each[1] == call[1]]
            open_writes = [each for each in open_writes if each[1] != call[1]]
        found.append(State(names, writes, open_writes, open_names))
    return found


def contents(calls: list[Call], target: Path, old: bytes, draws: int) -> set[bytes]:
    """Return what the target holds in all states, or in so many drawn where writes are many."""
    return {
        state.content(target, old, there) for state, there in drawn(calls, target.parent, draws)
    }


def drawn(calls: list[Call], directory: Path, draws: int) -> Iterator[tuple[State, list[bool]]]:
    """Yield all states, and which of the open calls are done; many drawn, where writes are many."""
    every = states(calls, (os.stat(directory).st_ino, 0))
    if max(state.choices for state in every) <= MOST_WRITES:
        for state in every:
            for there in itertools.product([False, True], repeat=state.choices):
                yield state, list(there)
        return
    draw = random.Random(0)
    late = [state for state in every if state.open_names or state.names]
    for number in range(draws):
        state = draw.choice(late if number % 10 else every)
        share = draw.choice([0.1, 0.5, 0.9])
        yield state, [draw.random() < share for _ in range(state.choices)]


@pytest.mark.parametrize("unnamed", [True, False])
@pytest.mark.parametrize(("rows", "stored"), [(40, "none"), (40, "int8"), (2000, "float32")])
def test_every_state(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    times: Callable[[int], int],
    rows: int,
    stored: Any,
    unnamed: bool,
) -> None:
    if not unnamed:
        monkeypatch.setattr(atomic, "_O_TMPFILE", 0)
    if rows > 1000:  # as a large index is written, in many pieces
        copy = shutil.copyfileobj
        monkeypatch.setattr(atomic, "_BUFFER", 4096)
        monkeypatch.setattr(shutil, "copyfileobj", lambda source, to, _: copy(source, to, 4096))
    target = tmp_path / "i.binq"
    binq.build(gaussian(30, 16), target)
    old = target.read_bytes()
    with recorded(monkeypatch) as calls:
        binq.build(gaussian(rows, 16, seed=1), target, rescore=stored)
    new = target.read_bytes()
    assert {call[0] for call in calls} == {"write", "sync", "name"}
    assert (len(calls) > 2 * MOST_WRITES) == (rows > 1000)
    assert contents(calls, target, old, times(10_000)) == {old, new}


def test_a_missing_sync_would_be_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "i.binq"
    binq.build(gaussian(30, 16), target)
    old = target.read_bytes()
    with recorded(monkeypatch) as calls:
        binq.build(gaussian(40, 16, seed=1), target)
    hasty = [call for call in calls if call[0] != "sync"]
    assert len(contents(hasty, target, old, 1000)) > 2


def torn(files: dict[str, bytes], indexes: Sequence[dict[str, bytes]]) -> bool:
    """Return whether files of a directory are none of some indexes, whole."""
    for index in indexes:
        if files.get(NAME) == index.get(NAME):
            named = json.loads(index[NAME])["shards"] if NAME in index else []
            names = [f"{shard['uuid']}.binq" for shard in named]
            return any(files.get(name) != index[name] for name in names)
    return True


def inside(place: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in place.glob("*")}


@pytest.mark.parametrize("unnamed", [True, False])
@pytest.mark.parametrize("kind", ["flat", "ivf", "hnsw"])
def test_every_state_of_a_directory(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    times: Callable[[int], int],
    kind: Any,
    unnamed: bool,
) -> None:
    """Shards are there, whole, before a manifest names them, and go only when none does."""
    if not unnamed:
        monkeypatch.setattr(atomic, "_O_TMPFILE", 0)
    monkeypatch.setattr(publishing, "GRACE_SECONDS", -1.0)
    place, indexes = tmp_path / "i.d", list[dict[str, bytes]]()
    for seed in range(3):
        binq.build(gaussian(25, 16, seed), place, shard_rows=9, kind=kind, rescore="int8")
        indexes.append(inside(place))
        assert not torn(indexes[-1], indexes[-1:])
    # The third build removed the shards of the first.
    assert len(indexes[-1]) == 2 * 3 + 1
    with recorded(monkeypatch) as calls:
        binq.build(gaussian(25, 16, 3), place, shard_rows=9, kind=kind, rescore="int8")
    indexes.append(inside(place))
    assert {call[0] for call in calls} == {"write", "sync", "name"}
    assert any(call[:2] == ("name", None) for call in calls)
    seen = set()
    for state, there in drawn(calls, place, times(10_000)):
        files = state.folder(place, indexes[-2], there)
        assert not torn(files, indexes[-2:])
        seen.add(files[NAME] == indexes[-1][NAME])
    assert seen == {False, True}
    folder = os.stat(place).st_ino
    hasty = [call for call in calls if call[0] != "sync" or call[1][0] == folder]
    assert any(
        torn(state.folder(place, indexes[-2], there), indexes[-2:])
        for state, there in drawn(hasty, place, 2000)
    )
