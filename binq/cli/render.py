"""The only place that prints: data to stdout, everything else to stderr."""

from __future__ import annotations

import io
import json
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from binq.cli import process
from binq.cli.spelling import option
from binq.errors import (
    BinqError,
    BinqWarning,
    InputError,
    Marked,
    escaped,
    index_changed,
    spelled,
)
from binq.types import DEFAULT_TARGET_RECALL

if TYPE_CHECKING:
    from rich.table import Table

_NOTE: Final = 40
VECTOR_LINES: Final = "one JSON array or object a line"

_quiet = False
_no_color = False


def remember(*, quiet: bool, no_color: bool) -> None:
    """Take ``--quiet`` and ``--no-color``; given anywhere on the command line, they hold."""
    global _quiet, _no_color
    _quiet = _quiet or quiet
    _no_color = _no_color or no_color or bool(os.environ.get("NO_COLOR"))


def configure(*, quiet: bool, no_color: bool) -> None:
    """Take the settings of a command, and let warnings and notices of the library be heard.

    Raises
    ------
    EnvironmentFailure
        If the process may use too little memory for any command.
    """
    from binq.kernels.aot import bus
    from binq.kernels.aot import compile as aot

    process.require_memory()
    remember(quiet=quiet, no_color=no_color)
    aot.notice = note
    bus.last_words = _last_words
    warnings.showwarning = _show_warning
    warnings.simplefilter("always", BinqWarning)


def line(text: str) -> None:
    """Print lines for people, on stdout."""
    shown = "\n".join(map(escaped, text.split("\n")))
    sys.stdout.buffer.write(encoded(shown + "\n"))


def note(text: str) -> None:
    """Tell the user something on stderr, unless quiet; of the library's, spell what it marks."""
    if not _quiet:
        said = spelled(text, option) if isinstance(text, Marked) else text
        _to_stderr(f"binq: {escaped(said)}")


def walked(candidates: int) -> str:
    """Return in words for up to how many candidates a search of a graph walks."""
    target = f"searches at --target-recall {DEFAULT_TARGET_RECALL}"
    if not candidates:
        return f"{target} scan all rows: of so few no walk through the graph is faster"
    return (
        f"{target} walk for up to {candidates:,} candidates; for more they scan all rows, "
        "which takes no longer"
    )


def error(text: str) -> None:
    """Print the one line of an error."""
    _to_stderr("binq: error: " + escaped(" ".join(text.splitlines())))


def awaiting(what: str, form: str, *sources: Any) -> None:
    """Say what is awaited where a source is standard input and that is a terminal.

    Parameters
    ----------
    what, form : str
        What is read from it, and how it is written.
    sources
        Names, or lists of them; ``-`` is standard input.
    """
    names = {name for each in sources for name in ([each] if isinstance(each, str) else each or ())}
    if "-" in names and sys.stdin is not None and sys.stdin.isatty():
        note(f"reading {what} from the terminal: {form}; end with Ctrl-D")


def _last_words(index: str | None) -> tuple[bytes, int]:
    """Return the line of an error, and the exit code, for when a mapped file is cut short."""
    if index is None:
        what = "a file was cut short while it was read, or its disk failed"
        cut: BinqError = InputError(what, next_step="replace files by a rename, not by cp")
    else:
        cut = index_changed(index)
    return encoded(f"binq: error: {escaped(cut.line(option))}\n"), cut.exit_code


def help_text(text: str) -> None:
    """Print the help that answers a call without arguments."""
    _to_stderr(text)


def document(value: dict[str, Any]) -> None:
    """Print a JSON document."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    sys.stdout.buffer.write(encoded(text + "\n"))


def on_terminal() -> bool:
    """Return whether stdout is a terminal."""
    return sys.stdout.isatty()


@contextmanager
def sink(output: Path | None) -> Iterator[BinaryIO]:
    """Yield where bytes of data go: stdout, or a file that appears whole."""
    if output is None or str(output) == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
    else:
        from binq.io.atomic import atomic_write

        with atomic_write(output) as file:
            yield file


def table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    output: Path | None = None,
) -> None:
    """Print a table, the first column to the left and the others to the right."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown: Table = Table(title=Text(escaped(title)), title_justify="left", title_style="bold")
    for number, name in enumerate(columns):
        shown.add_column(Text(name), justify="right" if number else "left", overflow="fold")
    for row in rows:
        shown.add_row(*(Text(escaped(cell)) for cell in row))
    to_stdout = output is None or str(output) == "-"
    # Drawn first and written after: on a closed pipe rich would leave with a code of its own.
    text = io.StringIO()
    console = Console(
        file=text,
        force_terminal=True if to_stdout and on_terminal() else None,
        no_color=_no_color,
        highlight=False,
    )
    console.print(shown)
    with sink(output) as file:
        file.write(encoded(text.getvalue()))


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int | None], None]]:
    """Yield a callback (done, total) that draws a bar once the work has lasted a second."""
    with _bar(what, counted=True) as update:
        yield lambda done, total: update(done, total, "")


class TextProgress:
    """Draws how far texts have come; called with (texts, texts a second, fraction done)."""

    def __init__(self, update: Callable[..., None]) -> None:
        self._update = update
        self._done: tuple[float, float | None] = (0.0, None)

    def __call__(self, texts: int, rate: float, fraction: float | None) -> None:
        """Draw it."""
        # The number of texts is not known before the end, but how much of the files is read.
        self._done = (0.0, None) if fraction is None else (fraction, 1.0)
        self._update(*self._done, f"{texts:,} texts, {rate:,.0f}/s")

    def waiting(self, why: str, seconds: float) -> None:
        """Say at once, from any thread, why nothing moves."""
        told = escaped(f"waiting {max(1, round(seconds))} s: {why}")
        shown = told if len(told) <= _NOTE else f"{told[: _NOTE - 1]}…"
        self._update(*self._done, shown, at_once=True)


@contextmanager
def text_progress(what: str) -> Iterator[TextProgress]:
    """Yield what draws a bar likewise."""
    with _bar(what, counted=False) as update:
        yield TextProgress(update)


@contextmanager
def _bar(what: str, *, counted: bool) -> Iterator[Callable[..., None]]:
    """Yield a callback (done, total, note) that draws a bar, with counts or with share and note.

    With ``at_once`` it does not wait until the work has lasted a second.
    """
    if _quiet or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield lambda *_, **__: None
        return
    from threading import Timer

    from rich import progress as parts
    from rich.console import Console

    counts = [parts.MofNCompleteColumn()]
    share = [parts.TaskProgressColumn(), parts.TextColumn("{task.fields[note]}", markup=False)]
    bar = parts.Progress(
        parts.TextColumn(what),
        parts.BarColumn(40 if counted else 20),  # what stands beside it is longer
        *(counts if counted else share),
        parts.TimeElapsedColumn(),
        parts.TimeRemainingColumn(),
        console=Console(stderr=True, no_color=_no_color),
        transient=True,
    )
    # Shown by a timer: the first step may be the long one, and tells nothing before its end.
    task = bar.add_task(what, note="", total=None)
    timer = Timer(1, bar.start)
    timer.daemon = True

    def update(done: float, total: float | None, note: str, *, at_once: bool = False) -> None:
        bar.update(task, completed=done, total=total, note=note)
        if at_once:
            bar.start()

    timer.start()
    try:
        yield update
    finally:
        timer.cancel()
        timer.join()
        if bar.live.is_started:
            bar.stop()


def _show_warning(
    message: Warning | str, category: type[Warning], *_: object, **__: object
) -> None:
    if issubclass(category, BinqWarning) and not _quiet:
        text = str(message.args[0]) if isinstance(message, Warning) else message
        _to_stderr(f"binq: warning: {escaped(spelled(text, option))}")


def encoded(text: str) -> bytes:
    """Return UTF-8; a file name that is none is written with escapes."""
    return text.encode(errors="backslashreplace")


def _to_stderr(text: str) -> None:
    try:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()
    except OSError:
        pass  # there is nowhere left to say it
