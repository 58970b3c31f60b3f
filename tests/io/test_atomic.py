# ruff: noqa: PT012 (the block is what is tested: it fails while a file is being written)
"""Files appear whole or not at all: modes, links, odd targets, failures of every step."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Any, NoReturn

import pytest
from corpora import debris

from binq.errors import EnvironmentFailure, UsageError
from binq.io import atomic as publish
from binq.io.atomic import published


def write(path: Path | str, data: bytes = b"new") -> None:
    with published(path) as file:
        file.write(data)


@pytest.fixture(params=["unnamed", "named"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to hold a temporary file: without a name, and with a unique one."""
    if request.param == "named":
        monkeypatch.setattr(publish, "_O_TMPFILE", 0)
    return str(request.param)


def test_a_new_file_gets_the_umask(tmp_path: Path, way: str) -> None:
    before = os.umask(0o027)
    try:
        write(tmp_path / "f")
        assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == 0o640
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)
    assert (tmp_path / "f").read_bytes() == b"new"
    assert not debris(tmp_path), way


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o755, 0o222])
def test_a_replaced_file_keeps_its_mode(tmp_path: Path, way: str, mode: int) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"old")
    path.chmod(mode)
    write(path)
    assert stat.S_IMODE(path.stat().st_mode) == mode, way
    assert path.stat().st_size == 3


def test_a_symlink_stays_and_its_target_is_replaced(tmp_path: Path, way: str) -> None:
    (tmp_path / "far").mkdir()
    target, link = tmp_path / "far" / "target", tmp_path / "link"
    target.write_bytes(b"old")
    link.symlink_to(Path("far") / "target")
    write(link)
    assert link.is_symlink(), way
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


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_error_inside_leaves_the_old_file(
    tmp_path: Path, way: str, error: type[BaseException]
) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"old")
    with pytest.raises(error), published(path) as file:
        file.write(b"half of the new")
        raise error
    assert path.read_bytes() == b"old", way
    assert os.listdir(tmp_path) == ["f"]


class Failing:
    """Fails at the n-th call with an error of the system, and counts calls after that."""

    def __init__(self, real: Any, number: int, at: int = 1) -> None:
        self.real, self.number, self.at, self.calls = real, number, at, 0

    def __call__(self, *args: Any, **options: Any) -> Any:
        self.calls += 1
        if self.calls == self.at:
            raise OSError(self.number, os.strerror(self.number))
        return self.real(*args, **options)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
@pytest.mark.parametrize("step", ["fsync", "replace", "fchmod"])
def test_a_failing_step(
    tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch, step: str, number: int
) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"old")
    failing = Failing(getattr(os, step), number)
    monkeypatch.setattr(os, step, failing)
    with pytest.raises(EnvironmentFailure, match=os.strerror(number).lower()) as caught:
        write(path)
    assert caught.value.exit_code == 5
    assert path.read_bytes() == b"old", way
    assert os.listdir(tmp_path) == ["f"]
    assert failing.calls == 1  # a failed sync is never tried again


@pytest.mark.parametrize("target", ["old", "none"])
def test_no_space_for_the_data(
    tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    path = tmp_path / "f"
    if target == "old":
        path.write_bytes(b"old")
    real = os.fdopen

    def full(descriptor: int, mode: str) -> Any:
        file = real(descriptor, mode)

        class Full:
            def __getattr__(self, name: str) -> Any:
                return getattr(file, name)

            def write(self, _data: bytes) -> NoReturn:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        return Full()

    monkeypatch.setattr(publish.os, "fdopen", full)
    with pytest.raises(EnvironmentFailure, match="no space"):
        write(path)
    assert os.listdir(tmp_path) == (["f"] if target == "old" else []), way
    assert target == "none" or path.read_bytes() == b"old"


def test_a_directory_that_cannot_be_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some file systems cannot; others fail, which must be said although the file is there."""
    for number, fails in ((errno.EINVAL, False), (errno.EIO, True)):
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", Failing(os.fsync, number, at=2))
            if fails:
                with pytest.raises(EnvironmentFailure):
                    write(tmp_path / "f")
            else:
                write(tmp_path / "f")
        assert os.listdir(tmp_path) == ["f"]


def test_a_name_of_greatest_length(tmp_path: Path, way: str) -> None:
    write(tmp_path / ("n" * 255))
    assert os.listdir(tmp_path) == ["n" * 255], way
    with pytest.raises(EnvironmentFailure):
        write(tmp_path / ("n" * 256))


def test_odd_names(tmp_path: Path, way: str) -> None:
    for name in ("a b", "é", "new\nline", "\udcff", "-x", "'"):
        write(tmp_path / name)
        assert (tmp_path / name).read_bytes() == b"new", way
    assert len(os.listdir(tmp_path)) == 6


def test_no_descriptor_is_left(tmp_path: Path, way: str) -> None:
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    for _ in range(5):
        write(tmp_path / "f")
        with pytest.raises(ValueError, match="x"), published(tmp_path / "f"):
            raise ValueError("x")
    after = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    assert after == before, way
