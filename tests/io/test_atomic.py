# ruff: noqa: PT012 (the block is what is tested: it fails while a file is being written)
"""Files appear whole or not at all: modes, links, odd targets, failures of every step."""

from __future__ import annotations

import errno
import os
import resource
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from conftest import environment
from corpora import debris

from binq.errors import EnvironmentFailure, UsageError
from binq.io.atomic import atomic_write, scratch_beside, scratch_name


@pytest.fixture(params=["unnamed", "named"])
def unnamed(request: pytest.FixtureRequest) -> bool:
    """Both ways to hold a temporary file: without a name, and with a unique one."""
    return bool(request.param == "unnamed")


def write(path: Path | str, unnamed: bool = True) -> None:
    with atomic_write(path, unnamed=unnamed) as file:
        file.write(b"new")


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_file_gets_the_umask(tmp_path: Path, unnamed: bool) -> None:
    before = os.umask(0o027)
    try:
        write(tmp_path / "f", unnamed)
        assert mode_of(tmp_path / "f") == 0o640
    finally:
        assert os.umask(before) == 0o027
    assert (tmp_path / "f").read_bytes() == b"new"
    assert not debris(tmp_path)


def test_the_umask_is_never_touched(
    tmp_path: Path, unnamed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the whole process's: a file that another thread makes meanwhile would get mode 666."""
    monkeypatch.setattr(os, "umask", lambda mask: pytest.fail(f"set to {mask:o}"))
    for _ in range(2):
        write(tmp_path / "f", unnamed)


def test_a_replaced_file_keeps_its_permissions_and_no_more(tmp_path: Path, unnamed: bool) -> None:
    path = tmp_path / "f"
    for mode in (0o600, 0o644, 0o755, 0o222, 0o4755, 0o2775, 0o7777):
        path.write_bytes(b"old")
        path.chmod(mode)
        with atomic_write(path, unnamed=unnamed) as file:
            assert stat.S_IMODE(os.fstat(file.fileno()).st_mode) == 0o600  # nobody else's yet
            file.write(b"new")
        assert mode_of(path) == mode & 0o777
        path.unlink()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_replaced_file_keeps_its_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"old")
    os.chown(path, 1234, 4321)
    path.chmod(0o4750)
    write(path)
    assert (path.stat().st_uid, path.stat().st_gid, mode_of(path)) == (1234, 4321, 0o750)
    # Where it cannot be kept, permissions that were meant for another owner mean nothing.
    monkeypatch.setattr(os, "fchown", Failing(os.fchown, errno.EPERM))
    write(path)
    write(tmp_path / "new")
    assert path.stat().st_uid == 0
    assert mode_of(path) == mode_of(tmp_path / "new")


def test_a_symlink_stays_and_its_target_is_replaced(tmp_path: Path, unnamed: bool) -> None:
    (tmp_path / "far").mkdir()
    target, link = tmp_path / "far" / "target", tmp_path / "link"
    target.write_bytes(b"old")
    link.symlink_to(Path("far") / "target")
    write(link, unnamed)
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    assert sorted(os.listdir(tmp_path / "far")) == ["target"]


def test_a_dangling_symlink_gets_its_target(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to("not yet there")
    write(link)
    assert link.is_symlink()
    assert (tmp_path / "not yet there").read_bytes() == b"new"


def test_a_dangling_symlink_into_nowhere(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "no" / "such")
    with pytest.raises(EnvironmentFailure, match="no such directory"):
        write(link)


def test_a_loop_of_symlinks(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(EnvironmentFailure):
        write(tmp_path / "a")


def test_targets_that_are_no_files(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFailure, match="directory"):
        write(tmp_path)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(EnvironmentFailure, match="not a file"):
        write(tmp_path / "fifo")
    assert stat.S_ISFIFO((tmp_path / "fifo").stat().st_mode)
    with pytest.raises(EnvironmentFailure, match="not a file"):
        write("/dev/null")
    with pytest.raises(EnvironmentFailure, match="no such directory"):
        write(tmp_path / "no" / "f")
    (tmp_path / "f").write_bytes(b"")
    with pytest.raises(EnvironmentFailure):
        write(tmp_path / "f" / "g")
    for name in ("f/", "new/"):
        with pytest.raises(EnvironmentFailure, match="got a directory"):
            write(f"{tmp_path}/{name}")
    assert not (tmp_path / "new").exists()
    with pytest.raises(UsageError, match="stdout"):
        write("-")


def test_a_read_only_file_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests may be allowed to write everywhere, so the answer is simulated."""
    path = tmp_path / "f"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(EnvironmentFailure, match="read-only"):
        write(path)
    assert path.read_bytes() == b"old"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_directory(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(EnvironmentFailure, match="permission"):
            write(tmp_path / "f")
    finally:
        tmp_path.chmod(0o755)


def test_an_error_inside_leaves_the_old_file(tmp_path: Path, unnamed: bool) -> None:
    """It is passed on as it is: what the system says of another file is no failure of this one."""
    path = tmp_path / "f"
    path.write_bytes(b"old")
    errors = [ValueError, KeyboardInterrupt, SystemExit, BrokenPipeError, FileNotFoundError]
    for error in errors:
        with pytest.raises(error) as caught, atomic_write(path, unnamed=unnamed) as file:
            file.write(b"half of the new")
            raise error(errno.ENOENT, "no such file", "the input")
        assert type(caught.value) is error
        assert path.read_bytes() == b"old"
        assert os.listdir(tmp_path) == ["f"]


def test_an_interrupt_as_the_file_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.link

    def link(*names: Any, **how: Any) -> None:
        real(*names, **how)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "link", link)
    with suppress(KeyboardInterrupt):
        write(tmp_path / "f")
    assert os.listdir(tmp_path) in ([], ["f"])


class Failing:
    """Fails at the n-th call with an error of the system, and counts calls after that."""

    def __init__(self, real: Any, number: int, at: int = 1) -> None:
        self.real, self.number, self.at, self.calls = real, number, at, 0

    def __call__(self, *args: Any, **options: Any) -> Any:
        self.calls += 1
        if self.calls == self.at:
            raise OSError(self.number, os.strerror(self.number))
        return self.real(*args, **options)


def test_a_failing_step(tmp_path: Path, unnamed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"old")
    for step in ("fsync", "replace", "fchmod"):
        for number in (errno.ENOSPC, errno.EIO, errno.EDQUOT):
            with monkeypatch.context() as patch:
                failing = Failing(getattr(os, step), number)
                patch.setattr(os, step, failing)
                with pytest.raises(EnvironmentFailure, match=os.strerror(number).lower()) as caught:
                    write(path, unnamed)
            assert caught.value.exit_code == 5
            assert str(caught.value).endswith("left as it was")
            assert path.read_bytes() == b"old"
            assert os.listdir(tmp_path) == ["f"]
            assert failing.calls == 1  # a failed sync is never tried again


@contextmanager
def files_at_most(size: int) -> Iterator[None]:
    """Let the system refuse to make any file longer than ``size``."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


def test_no_space_for_the_data(tmp_path: Path, unnamed: bool) -> None:
    """Whether the write itself fails, or what is left in the buffer when the block ends."""
    path = tmp_path / "f"
    for old in (None, b"old"):
        if old is not None:
            path.write_bytes(old)
        for size in (100_000, 10_000_000):
            with (
                files_at_most(50_000),
                pytest.raises(EnvironmentFailure, match="too large") as caught,
                atomic_write(path, unnamed=unnamed) as file,
            ):
                file.write(bytes(size))
            assert caught.value.where == str(path)
            assert os.listdir(tmp_path) == ([] if old is None else ["f"])
            assert old is None or path.read_bytes() == old


def test_no_space_beside_an_output_is_its_failure_too(tmp_path: Path) -> None:
    scratch = scratch_beside(tmp_path / "f")
    with files_at_most(50_000), pytest.raises(EnvironmentFailure, match="too large") as caught:
        scratch.write(bytes(1_000_000))
    assert caught.value.where == str(tmp_path / "f")
    with suppress(OSError):
        scratch.close()
    assert not os.listdir(tmp_path)


def test_a_directory_that_cannot_be_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some file systems cannot; others fail, which must be said although the file is there."""
    for number, fails in ((errno.EINVAL, False), (errno.EIO, True)):
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", Failing(os.fsync, number, at=2))
            if fails:
                with pytest.raises(EnvironmentFailure, match="the new file is there") as caught:
                    write(tmp_path / "f")
                assert str(caught.value).startswith("cannot sync the directory")
                assert (tmp_path / "f").read_bytes() == b"new"
            else:
                write(tmp_path / "f")
        assert os.listdir(tmp_path) == ["f"]


def test_a_failing_close_is_said(
    tmp_path: Path, unnamed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"old")
    real, synced = os.fsync, []

    def close_after(descriptor: int) -> None:
        """Sync, and take the descriptor away, so that the file's own close fails."""
        real(descriptor)
        synced.append(descriptor)
        os.close(descriptor)

    monkeypatch.setattr(os, "fsync", close_after)
    with pytest.raises(EnvironmentFailure, match="left as it was"):
        write(path, unnamed)
    assert len(synced) == 1
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["f"]


KILLED = """
import os, signal, sys
from binq.io.atomic import atomic_write
os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
with atomic_write(sys.argv[1], unnamed=sys.argv[2] == "True") as file:
    file.write(b"new")
"""


def test_what_a_killed_run_left_the_next_one_removes(tmp_path: Path, unnamed: bool) -> None:
    path, other = tmp_path / "f", tmp_path / "f.g"
    for target in (path, path, other):
        words = [sys.executable, "-c", KILLED, str(target), str(unnamed)]
        done = subprocess.run(words, check=False, env=environment())
        assert done.returncode == -signal.SIGKILL
    # That of `f` was removed by the second run for it.
    assert [name.rsplit(".", 2)[0] for name in sorted(debris(tmp_path))] == [".f", ".f.g"]
    kept = [f".f.{'0' * 15}.tmp", f".f.{'0' * 16}.tmp.x", f"f.{'0' * 16}.tmp", f".F.{'0' * 16}.tmp"]
    for name in kept:
        (tmp_path / name).write_bytes(b"somebody's")
    os.mkfifo(tmp_path / f".f.{'1' * 16}.tmp")
    (tmp_path / f".f.{'2' * 16}.tmp").symlink_to(other)
    odd = [f".f.{'1' * 16}.tmp", f".f.{'2' * 16}.tmp"]
    theirs = f".f.{'3' * 16}.tmp"
    if os.geteuid() == 0:
        (tmp_path / theirs).write_bytes(b"another user's")
        os.chown(tmp_path / theirs, 1234, 1234)
        odd.append(theirs)
    # Nor is what a run that lives holds: here one for the same file.
    with atomic_write(path, unnamed=unnamed) as file:
        file.write(b"first")
        held = set(debris(tmp_path))
        with scratch_name(path) as scratch:
            write(path, unnamed)
            assert os.path.basename(scratch) in debris(tmp_path)
        assert held == set(debris(tmp_path))
    assert path.read_bytes() == b"first"
    left = {name for name in os.listdir(tmp_path) if not name.startswith(".f.g.")}
    assert left == {"f", *kept, *odd}


def test_a_name_of_greatest_length(tmp_path: Path, unnamed: bool) -> None:
    write(tmp_path / ("n" * 255), unnamed)
    assert os.listdir(tmp_path) == ["n" * 255]
    with pytest.raises(EnvironmentFailure):
        write(tmp_path / ("n" * 256))
    write(tmp_path / ("é" * 127), unnamed)  # 254 bytes


def test_odd_names(tmp_path: Path, unnamed: bool) -> None:
    for name in ("a b", "é", "new\nline", "\udcff", "-x", "'"):
        write(tmp_path / name, unnamed)
        assert (tmp_path / name).read_bytes() == b"new"
    assert len(os.listdir(tmp_path)) == 6


def test_no_descriptor_is_left(tmp_path: Path, unnamed: bool) -> None:
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    for _ in range(5):
        write(tmp_path / "f", unnamed)
        with pytest.raises(ValueError, match="x"), atomic_write(tmp_path / "f", unnamed=unnamed):
            raise ValueError("x")
    after = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    assert after == before
