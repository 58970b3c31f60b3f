"""Cached kernels: kept once, believed only when whole and one's own, never a reason to fail."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from binq.kernels import pack
from binq.kernels.aot import cache as cached
from binq.kernels.aot import compile as aot

FAMILY = pack.FAMILY
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def compiled() -> Any:
    return aot.compile_family(FAMILY, aot.host_target())


class Cache:
    """A cache directory, the number of compilations and what the user was told."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.compilations = 0
        self.notices: list[str] = []

    def use(self) -> aot.Library:
        """Load as a new process would."""
        aot._loaded.clear()
        aot._noticed.clear()
        self.notices.clear()
        return aot.load(FAMILY)

    def file(self) -> Path:
        (file,) = self.directory.glob("*.o")
        return file


@pytest.fixture
def cache(tmp_path: Path, compiled: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cache]:
    cache = Cache(tmp_path / "home" / "cache")

    def compile_family(*_: Any) -> Any:
        cache.compilations += 1
        return compiled

    monkeypatch.setenv("BINQ_CACHE_DIR", str(cache.directory))
    monkeypatch.setattr(aot, "compile_family", compile_family)
    monkeypatch.setattr(aot, "notice", cache.notices.append)
    yield cache
    aot._loaded.clear()


def _works(library: aot.Library) -> None:
    assert library.functions["pack"]


@pytest.mark.slow
def test_compiled_once(cache: Cache) -> None:
    _works(cache.use())
    assert "compiling" in cache.notices[0]
    assert len(cache.notices) == 1
    _works(cache.use())
    assert cache.compilations == 1
    assert cache.notices == []
    assert aot.ready(FAMILY)
    for place in (cache.directory, cache.directory.parent):
        assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert stat.S_IMODE(cache.file().stat().st_mode) == 0o600


def test_not_ready_compiles_nothing(cache: Cache) -> None:
    aot._loaded.clear()
    assert not aot.ready(FAMILY)
    assert cache.compilations == 0
    assert not cache.directory.exists()


def test_damaged_file_is_compiled_again(cache: Cache) -> None:
    cache.use()
    whole = cache.file().read_bytes()
    damages = [whole[:length] for length in (0, 1, 8, 40, 44, 60, len(whole) // 2, len(whole) - 1)]
    for place in (0, 8, 41, 50, len(whole) // 2, len(whole) - 1):
        flipped = bytearray(whole)
        flipped[place] ^= 1
        damages.append(bytes(flipped))
    damages.append(whole + b"x")
    for number, damaged in enumerate(damages, start=2):
        cache.file().write_bytes(damaged)
        _works(cache.use())
        assert cache.compilations == number
        assert cache.file().read_bytes() == whole


def test_object_of_another_cpu_is_not_used(cache: Cache, compiled: Any) -> None:
    cache.use()
    cache.file().write_bytes(cached.pack(compiled[0], "0" * 32, compiled[1], compiled[2]))
    cache.use()
    assert cache.compilations == 2


def test_others_may_not_write_to_the_directory(cache: Cache) -> None:
    cache.use()
    for mode in (0o770, 0o707, 0o777, 0o1777):
        cache.directory.chmod(mode)
        before = cache.compilations
        _works(cache.use())
        assert cache.compilations == before + 1
        assert any("others may write" in notice for notice in cache.notices)


def test_others_may_not_write_to_the_file(cache: Cache) -> None:
    cache.use()
    cache.file().chmod(0o666)
    _works(cache.use())
    assert cache.compilations == 2
    # It was replaced by one that only the user may write.
    assert stat.S_IMODE(cache.file().stat().st_mode) == 0o600


def test_planted_files(cache: Cache, tmp_path: Path) -> None:
    cache.use()
    good = cache.file()
    real = tmp_path / "real"
    good.rename(real)
    good.symlink_to(real)
    _works(cache.use())
    assert cache.compilations == 2
    assert not good.is_symlink()
    good.unlink()
    os.mkfifo(good)
    _works(cache.use())
    assert cache.compilations == 3


def test_another_users_file_or_directory(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.use()
    user = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    _works(cache.use())
    assert cache.compilations == 2
    assert any("another user" in notice for notice in cache.notices)


@pytest.mark.parametrize("call", ["replace", "open", "mkdir"])
def test_cannot_be_stored(cache: Cache, call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    error = {"replace": errno.ENOSPC, "open": errno.EROFS, "mkdir": errno.EACCES}[call]

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(error, os.strerror(error))

    if call == "mkdir":
        monkeypatch.setattr(Path, "mkdir", fail)
    else:
        cache.directory.mkdir(parents=True, mode=0o700)
        monkeypatch.setattr(os, call, fail)
    _works(cache.use())
    assert any(os.strerror(error) in notice for notice in cache.notices)
    assert all("\n" not in notice for notice in cache.notices)
    monkeypatch.undo()
    assert not cache.directory.exists() or list(cache.directory.iterdir()) == []


def test_full_disk(cache: Cache) -> None:
    resource = pytest.importorskip("resource")

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
        _works(cache.use())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert any("not kept" in notice for notice in cache.notices)
    assert list(cache.directory.iterdir()) == []


@pytest.fixture
def homeless(cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No cache but the one in the system's temporary directory, which is returned."""
    for name in ("BINQ_CACHE_DIR", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    temporary.chmod(0o1777)
    monkeypatch.setenv("TMPDIR", str(temporary))
    cache.directory = temporary / f"binq-{os.geteuid()}"
    return temporary


@pytest.mark.usefixtures("homeless")
def test_without_a_home_they_are_kept_in_a_private_directory(
    cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    for home in (None, blocked, "/proc"):
        if home is not None:
            monkeypatch.setenv("HOME", str(home))
        _works(cache.use())
        assert len(cache.notices) == 1
        assert "compiling" in cache.notices[0]
        assert stat.S_IMODE(cache.directory.stat().st_mode) == 0o700
        before = cache.compilations
        _works(cache.use())
        assert (cache.compilations, cache.notices) == (before, [])
        shutil.rmtree(cache.directory)


def test_an_unsafe_temporary_directory_is_one_line(cache: Cache, homeless: Path) -> None:
    def symlink() -> None:
        (homeless / "elsewhere").mkdir(mode=0o700)
        cache.directory.symlink_to(homeless / "elsewhere")

    def others_enter() -> None:
        cache.directory.mkdir()
        cache.directory.chmod(0o750)

    def others_rename() -> None:
        cache.directory.mkdir(mode=0o700)
        homeless.chmod(0o777)

    for prepare in (symlink, others_enter, cache.directory.touch, others_rename):
        prepare()
        for _ in range(2):
            before = cache.compilations
            _works(cache.use())
            assert cache.compilations == before + 1
            assert len(cache.notices) == 2
            assert str(cache.directory) in cache.notices[1]
            assert "BINQ_CACHE_DIR" in cache.notices[1]
        assert not list(homeless.glob("*/*"))
        if cache.directory.is_dir() and not cache.directory.is_symlink():
            cache.directory.rmdir()
        else:
            cache.directory.unlink()


@pytest.mark.usefixtures("homeless")
@pytest.mark.skipif(os.geteuid() != 0, reason="who is not root cannot write there anyway")
def test_nothing_is_made_in_the_home_of_another(
    cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As under sudo, where HOME is kept."""
    home = tmp_path / "home-of-another"
    home.mkdir()
    os.chown(home, 12345, 12345)
    monkeypatch.setenv("HOME", str(home))
    _works(cache.use())
    assert os.listdir(home) == []
    assert cache.file()


def test_many_at_once(cache: Cache) -> None:
    content = cached.pack(b"code" * 5000, "k", {}, {})
    cache.directory.mkdir(parents=True, mode=0o700)
    path = cache.directory / "family-k.o"
    seen: list[bytes | None] = []

    def work() -> None:
        for _ in range(50):
            cached.write(path, content)
            seen.append(cached.read(path))

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert set(seen) == {content}
    assert list(cache.directory.iterdir()) == [path]


def test_what_is_not_used_is_swept(cache: Cache, tmp_path: Path) -> None:
    cache.directory.mkdir(parents=True, mode=0o700)
    outside = tmp_path / "outside"
    outside.write_bytes(b"not ours to remove")

    def old(name: str, days: float = 31) -> Path:
        path = cache.directory / name
        path.write_bytes(b"")
        then = time.time() - days * 86400
        os.utime(path, (then, then))
        return path

    key = "0123456789abcdef" * 2
    gone = [old(f"pack-{key}.o"), old(f"hamming-{key}.o")]
    gone.append(old(f".pack-{key}.o.123.0123abcd.tmp", 1))
    kept = [old(name) for name in ("notes.o", "pack-1.o", ".a.tmp", f"pack-{key}.o.txt")]
    kept.append(old(f".pack-{key}.o.124.0123abcd.tmp", 0.001))
    link = cache.directory / f"shingles-{key}.o"
    link.symlink_to(outside)
    os.utime(link, (0, 0), follow_symlinks=False)
    # Used lately, but there are many newer ones.
    for number in range(20):
        old(f"descent-{number:032x}.o", number)
    cache.use()
    assert not [path for path in gone if path.exists()]
    assert all(path.exists() for path in (*kept, link, outside))
    left = sorted(path.name for path in cache.directory.glob("descent-*"))
    assert 0 < len(left) < 10
    assert left == [f"descent-{number:032x}.o" for number in range(len(left))]


@pytest.mark.torture
def test_strangers_in_the_cache_stay(
    cache: Cache, tmp_path: Path, times: Callable[[int], int]
) -> None:
    """Whatever is old there and not binq's own by name, kind and owner; through a link too."""
    draw = random.Random(0)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    cache.directory.parent.mkdir()
    cache.directory.symlink_to(elsewhere)
    key = "0123456789abcdef" * 2
    own = [f"pack-{key}.o", f".pack-{key}.o.123.0123abcd.tmp"]
    kept = set()
    for _ in range(times(2000)):
        name = list(draw.choice(own))
        for _ in range(draw.choice([1, 1, 2, 5])):
            at = draw.randrange(len(name))
            name[at : at + draw.randrange(2)] = draw.choice([*"aZ.-_ 0g~", "", "tmp", ".o"])
        path = elsewhere / ("".join(name) or "x")
        if path.name not in (".", "..") and not cached._NAME.fullmatch(path.name):
            path.write_bytes(b"somebody's")
            kept.add(path)
    for kind, make in enumerate((Path.mkdir, os.mkfifo, lambda path: path.symlink_to(tmp_path))):
        path = elsewhere / f"pack-{kind:032x}.o"
        make(path)
        kept.add(path)
    if os.geteuid() == 0:
        path = elsewhere / f"pack-{7:032x}.o"
        path.touch()
        os.chown(path, 12345, 12345)
        kept.add(path)
    gone = [elsewhere / name for name in own]
    for path in gone:
        path.touch()
    for path in elsewhere.iterdir():
        os.utime(path, (0, 0), follow_symlinks=False)
    _works(cache.use())
    assert cache.compilations == 1
    assert kept <= set(elsewhere.iterdir())
    assert not any(path.exists() for path in gone)
    assert cache.directory.is_symlink()


def test_an_object_that_is_used_stays(cache: Cache) -> None:
    cache.use()
    os.utime(cache.file(), (0, 0))
    cache.use()
    assert time.time() - cache.file().stat().st_mtime < 3600


_QUERY = """
import sys
import numpy as np
from binq.kernels import pack
from binq.kernels.aot import compile as aot
from binq.kernels.scan import Engine
engine = Engine(aot.load(pack.FAMILY))
codes = pack.pack(np.eye(3, dtype=np.float32), engine=engine).codes
print(codes[:, 0].tolist(), "numba" in sys.modules)
"""


def _start(directory: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "BINQ_CACHE_DIR": str(directory)}
    return subprocess.Popen(
        [sys.executable, "-c", _QUERY], env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True
    )


@pytest.mark.slow
def test_two_processes_compile_at_once_and_a_third_needs_no_numba(tmp_path: Path) -> None:
    both = [_start(tmp_path / "cache") for _ in range(2)]
    assert [process.communicate()[0] for process in both] == ["[1, 2, 4] True\n"] * 2
    third = _start(tmp_path / "cache")
    assert third.communicate()[0] == "[1, 2, 4] False\n"
    assert len(list((tmp_path / "cache").iterdir())) == 1
