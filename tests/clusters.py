"""Ray clusters for tests: one of two CPUs, and a killer of its workers."""

from __future__ import annotations

import importlib.util
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "6e" * 16, "RAY_USAGE_STATS_ENABLED": "0"}
# A cluster of two CPUs, for as long as its stdin is open.
HOLD = """
import ray, sys
held = ray.init(
    address="local", num_cpus=2, include_dashboard=False, log_to_driver=False,
    object_store_memory=1 << 28, _temp_dir=sys.argv[1],
)
print(held.address_info["gcs_address"], flush=True)
sys.stdin.read()
"""

needs_ray = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.filterwarnings("default"),
    pytest.mark.skipif(
        importlib.util.find_spec("ray") is None, reason="ray is not installed: make test-ray"
    ),
]


def on_ray(function: Any) -> Any:
    for mark in needs_ray:
        function = mark(function)
    return function


@contextmanager
def two_cpus(environment: dict[str, str]) -> Iterator[dict[str, str]]:
    """Yield variables that name a cluster; where it keeps its logs, and the process that is it."""
    with tempfile.TemporaryDirectory(prefix="binq-test-", dir="/tmp") as folder:
        held = subprocess.Popen(
            [sys.executable, "-c", HOLD, folder],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env=environment | TOKEN | {"BINQ_API_KEY": "a-key-of-the-workers"},
        )  # fmt: skip
        try:
            assert held.stdout is not None
            address = held.stdout.readline().strip()
            yield {"RAY_ADDRESS": address, "FOLDER": folder, "PID": str(held.pid)} | TOKEN
        finally:
            held.communicate(timeout=60)


def workers(driver: int) -> list[int]:
    """Return the processes that run tasks of binq on the local cluster that a process began."""

    def parent(pid: int) -> int:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])

    found = []
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        pid = int(each.parent.name)
        with suppress(OSError):
            if each.read_bytes().startswith(b"ray::binq") and parent(parent(pid)) == driver:
                found.append(pid)
    return found


@contextmanager
def killing(driver: int, most: int, seed: int = 0) -> Iterator[list[int]]:
    """Kill workers of a cluster while they are at a task, at random; yield those that were."""
    over, killed, rng = threading.Event(), [], random.Random(seed)

    def kill() -> None:
        while len(killed) < most and not over.wait(rng.uniform(0, 0.1)):
            for pid in workers(driver)[:1]:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)
                over.wait(0.4)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        over.set()
        thread.join()
