"""Tasks on a Ray cluster: one of Ray's core tasks an item; the only module that imports ray.

The data are files that every machine sees, so an item says which file and rows, or holds a few
texts; nothing is kept in Ray's store but what tasks take and return. A task whose worker died is
done again by Ray; what a task of binq raises is raised here as it is, and not tried again.
"""

from __future__ import annotations

import io
import itertools
import os
import secrets
import socket
import sys
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from typing import Any, Final, Generic

from binq.engines.base import Argument, Item, Result
from binq.engines.perform import Answer, Context, Files, perform, seen
from binq.engines.quiet import clear, environment, own_folder, signals_kept, silenced
from binq.errors import (
    BinqWarning,
    EnvironmentFailure,
    InputError,
    UsageError,
    missing_extra,
)
from binq.threads import available
from binq.version import __version__

_RETRIES: Final = 3
_STORE_BYTES: Final = 1 << 30
# So many items a worker are under way: one is worked on while the next waits.
_AHEAD: Final = 2
_CONNECT: Final = 10.0
_DYING: Final = 0.3
_LOOK_AGAIN: Final = 5.0
_PATIENCE: Final = 20.0
_ADDRESS: Final = "RAY_ADDRESS"
# What Ray's own variables say otherwise holds.
_SETTINGS: Final = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_task_oom_retries": str(_RETRIES),
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


@contextmanager
def ray_engine(threads: int | None = None) -> Iterator[RayEngine]:
    """Yield the engine of the cluster that ``RAY_ADDRESS`` names, else of one on this machine.

    A cluster of its own is ended with the block, and leaves nothing behind; where the process has
    called ``ray.init`` itself, that is used and stays.

    Parameters
    ----------
    threads : int, optional
        How many threads, and CPUs of the cluster, a task takes; 1 by default.

    Raises
    ------
    MissingExtraError
        If ray is not installed.
    EnvironmentFailure
        If the cluster cannot be had.
    UsageError
        If ``threads`` is below 1.
    """
    if threads is not None and threads < 1:
        raise UsageError("too few threads", "`threads`", "at least 1", str(threads))
    with ExitStack() as stack:
        address = os.environ.get(_ADDRESS) or "local"
        settings = dict(_SETTINGS)
        if address == "local" and "ray" not in sys.modules and "RAY_AUTH_MODE" not in os.environ:
            # Nobody else is to speak to it; ray, which reads this when it is imported, would write
            # a token of its own to the user's home.
            settings |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        stack.enter_context(environment(settings))
        try:
            import ray
        except ImportError as error:
            raise missing_extra("ray", "ray", "`engine=ray`") from error
        if not ray.is_initialized():
            stack.enter_context(silenced("ray"))
            threads = stack.enter_context(_connected(ray, address, threads or 1))
        yield RayEngine(ray, threads or 1)


@contextmanager
def _connected(ray: Any, address: str, threads: int) -> Iterator[int]:
    """Connect to a cluster, or begin and end a local one; yield the threads of a task there."""
    settings: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
    folder = None
    with ExitStack() as stack:
        _check_reachable(address)
        if address == "local":
            folder = stack.enter_context(own_folder())
            count = available()
            threads = min(threads, count)
            settings |= {
                "num_cpus": count,
                "include_dashboard": False,
                "object_store_memory": _STORE_BYTES,
                "_temp_dir": folder,
            }
        with signals_kept():
            stack.enter_context(_disconnected(ray, folder))
            try:
                ray.init(address=address, **settings)
            except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
                where = "a local cluster" if address == "local" else f"{_ADDRESS}={address}"
                step = "" if address == "local" else "check the address, and Ray's version there"
                raise EnvironmentFailure(
                    "cannot use the Ray cluster", where, got=_first_line(error), next_step=step
                ) from error
        yield threads


def _check_reachable(address: str) -> None:
    """Refuse at once an address at which nothing listens: Ray would try for minutes.

    Raises
    ------
    EnvironmentFailure
    """
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdigit():
        return  # a name that Ray knows, or an address of another kind
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT).close()
    except (OSError, OverflowError) as error:
        raise EnvironmentFailure(
            "cannot reach the Ray cluster",
            f"{_ADDRESS}={address}",
            got=_first_line(error),
            next_step=f"start it (`ray start`), or unset {_ADDRESS} for one of its own",
        ) from error


@contextmanager
def _disconnected(ray: Any, folder: str | None) -> Iterator[None]:
    """Leave the cluster at the end of the block, without its last words on stdout."""
    try:
        yield
    except Exception:
        raise
    except BaseException:
        # An interrupt: whoever sent it does not wait for a cluster to end in peace.
        if folder is not None:
            clear(folder)
        raise
    finally:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            ray.shutdown()


class RayEngine:
    """A Ray cluster to which this process is connected.

    Parameters
    ----------
    ray : module
    threads : int
        See `Engine`.
    """

    def __init__(self, ray: Any, threads: int) -> None:
        self.threads = threads
        self._said: set[str] = set()
        self._ray = ray
        self._remote = ray.remote(name="binq", num_cpus=threads, max_retries=_RETRIES)(perform)
        self._slots = 0
        self._looked = float("-inf")

    def map(
        self,
        task: Callable[[Argument], Result],
        items: Iterable[Item[Argument]],
        *,
        limit: int | None = None,
        files: Sequence[str] = (),
        stop: threading.Event | None = None,
    ) -> Generator[_Outcome[Result], None, None]:
        """Yield what comes of every item, in their order; see `Engine.map`."""
        stop = stop or threading.Event()
        context = self._ray.put(Context(task, _seen_here(files)))
        held: deque[_Outcome[Result]] = deque()
        rest = iter(items)

        def fill() -> None:
            room = limit or _AHEAD * max(1, self.slots())
            for item in itertools.islice(rest, max(0, room - len(held))):
                files_there = _seen_here(item.files)
                reference = self._remote.remote(context, item.argument, files_there)
                held.append(_Outcome(self, reference, item.name))

        try:
            fill()
            while held:
                yield held[0]
                held.popleft()
                if not stop.is_set():
                    fill()
        finally:
            if held:
                stop.set()
            references = [outcome.reference for outcome in held]
            for reference in references:
                self._cancel(reference)
            if references:  # their workers are to be dead before anybody tidies up after them
                self._ray.wait(references, num_returns=len(references), timeout=_DYING)

    def slots(self) -> int:
        """Return how many tasks the cluster can work on at a time; 0 where none of its machines."""
        now = time.monotonic()
        if now - self._looked > _LOOK_AGAIN:
            self._looked = now
            counts = (
                node["Resources"].get("CPU", 0) for node in self._ray.nodes() if node["Alive"]
            )
            self._slots = sum(int(count) // self.threads for count in counts)
        return self._slots

    def say_if_waiting(self, seconds: float) -> None:
        """Warn, once, of a cluster on which no task can run for now."""
        if seconds > _PATIENCE and self.slots() == 0:
            self.say(
                BinqWarning(
                    f"no machine of the cluster has {self.threads} CPUs: waiting until one joins"
                )
            )

    def say(self, warning: Warning) -> None:
        """Warn of what no task has warned of before."""
        if str(warning) not in self._said:
            self._said.add(str(warning))
            warnings.warn(warning, stacklevel=3)

    def _cancel(self, reference: Any) -> None:
        """End a task that is under way, and its worker; one that is done stays done."""
        with suppress(self._ray.exceptions.RayError, ValueError, TypeError):
            self._ray.cancel(reference, force=True)

    def failure(self, error: Exception, name: str) -> Exception:
        """Return what to raise for an error of Ray's own."""
        kinds = self._ray.exceptions
        if isinstance(error, kinds.RayTaskError):
            reason = _last_line(error)
            return EnvironmentFailure(
                "a worker of the cluster cannot run the task",
                name,
                got=reason,
                next_step=f"install binq {__version__} with its extras on every machine",
            )
        if isinstance(error, kinds.OutOfMemoryError):
            what, step = "workers ran out of memory again and again", "use less at a time"
        elif isinstance(error, kinds.WorkerCrashedError):
            what, step = "workers died again and again", "see Ray's logs, and the memory there"
        else:
            what, step = "the cluster failed", "see Ray's logs"
        return EnvironmentFailure(what, name, got=_first_line(error), next_step=step)


class _Outcome(Generic[Result]):
    """What comes of an item on the cluster; see `Outcome`."""

    def __init__(self, engine: RayEngine, reference: Any, name: str) -> None:
        self.reference = reference
        self._engine = engine
        self._name = name
        self._future: Future[Answer] = reference.future()
        self._began = time.monotonic()

    def done(self) -> bool:
        """Return whether it is known."""
        return self._future.done()

    def result(self) -> Result:
        """Wait for the result, or raise what the task raised."""
        answer = self._answer()
        for warning in answer.warnings:
            self._engine.say(warning)
        if answer.error is not None:
            raise answer.error
        value: Result = answer.value
        return value

    def exception(self) -> BaseException | None:
        """Wait, and return what the task raised."""
        try:
            return self._answer().error
        except EnvironmentFailure as error:
            return error

    def _answer(self) -> Answer:
        while True:
            try:
                return self._future.result(timeout=_LOOK_AGAIN)
            except NotYet:
                self._engine.say_if_waiting(time.monotonic() - self._began)
            except Exception as error:
                raise self._engine.failure(error, self._name) from error


def _seen_here(paths: Sequence[str]) -> Files:
    try:
        return seen(paths)
    except OSError as error:
        raise InputError(
            "a file that the work needs is gone",
            str(error.filename),
            got=(error.strerror or str(error)).lower(),
            next_step="run it again",
        ) from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].strip()


def _last_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[-1].strip()
