"""Signals end a command within a second, also where Python is not asked for seconds."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_long_step_is_ended(
    start: Callable[..., Any], tmp_path: Path, number: int, code: int
) -> None:
    """Principal directions of 3,000 dims are one call of many seconds."""
    dim = 3000
    np.save(tmp_path / "x.npy", np.random.default_rng(0).standard_normal((300, dim), np.float32))
    target = tmp_path / "i.binq"
    target.write_bytes(b"old")
    words = ("build", tmp_path / "x.npy", "-o", target, "--method", "itq", "--overwrite")
    with start(*words) as process:
        time.sleep(4)
        assert process.poll() is None, process.stderr.read()
        begun = time.monotonic()
        process.send_signal(number)
        assert process.wait(60) == code
        assert time.monotonic() - begun < 1.5
        assert process.stderr.read() == b""
    assert target.read_bytes() == b"old"
    assert sorted(os.listdir(tmp_path)) == ["i.binq", "x.npy"]
